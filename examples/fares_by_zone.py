"""What do taxi rides from each zone cost, and how far do they go?

    daskmr run examples/fares_by_zone.py -d rides.parquet -o zones.jsonl

Each line is an object with the zone, the rides that begin there, their median fare, and the longest of them.

The data is what rides_to_parquet.py writes. Any number of Parquet files at any depth may be read: the
names below are the same as ``--layout flat --records parquet`` on the command line. Of the file, only the
columns in ``fields`` are read, and the value is a tuple of them. The ending of the output makes it JSON lines.

A median needs all values at once, so there is no ``combine``.
"""

from statistics import median

layout = "flat"
records = "parquet"
fields = ("pickup_zone", "fare", "km")
output_columns = ("zone",)


def map(key, dims, value, context):
    zone, fare, km = value
    context.write(zone, (fare, km))


def reduce(key, values, context):
    fares, distances = zip(*values, strict=True)
    figures = {
        "rides": len(fares),
        "median_fare": round(median(fares), 2),
        "longest": max(distances),
    }
    context.write(key, figures)
