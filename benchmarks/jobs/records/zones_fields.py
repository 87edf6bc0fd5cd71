"""How many passengers start in each zone? Parquet, of which only two columns are read."""

records = "parquet"
fields = ("pickup_zone", "passengers")


def map(key, dims, value, context):
    zone, passengers = value
    context.write(zone, passengers)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
