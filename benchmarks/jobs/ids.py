"""How many records does each id have? As many keys as records."""


def map(key, dims, value, context):
    context.write(key, 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
