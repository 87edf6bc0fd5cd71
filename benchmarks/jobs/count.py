"""How many records are there? One key."""


def map(key, dims, value, context):
    context.write("records", 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
