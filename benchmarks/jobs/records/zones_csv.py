"""How many passengers start in each zone? CSV, a dict for each ride."""

records = "csv"


def map(key, dims, value, context):
    context.write(value["pickup_zone"], int(value["passengers"]))


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
