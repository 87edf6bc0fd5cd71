"""The median value of each key. No combine: every value reaches reduce."""


def map(key, dims, value, context):
    context.write(key, value)


def reduce(key, values, context):
    context.write(key, sorted(values)[len(values) // 2][:9])
