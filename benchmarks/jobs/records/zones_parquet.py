"""How many passengers start in each zone? Parquet, a dict for each ride."""

records = "parquet"


def map(key, dims, value, context):
    context.write(value["pickup_zone"], value["passengers"])


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
