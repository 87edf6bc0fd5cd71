"""The job of os.py, reading only the one field that it needs."""

from daskmr import pluck

fields = pluck("info.OS")


def map(key, dims, value, context):
    (system,) = fields(value)
    context.write(system, 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
