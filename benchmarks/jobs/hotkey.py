"""A sum for each key, where one key has four out of five values. No combine."""


def map(key, dims, value, context):
    context.write("hot" if int(value[:9]) % 5 else key, value)


def reduce(key, values, context):
    total = 0
    for value in values:
        total += int(value[:9])
    context.write(key, total)
