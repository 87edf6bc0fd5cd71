"""How often does each word occur? Many pairs a record."""


def map(key, dims, value, context):
    context.write_each(value.split(), 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
