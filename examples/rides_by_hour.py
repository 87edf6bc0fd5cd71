"""How many taxi rides begin in each hour of the day, and what do they cost?

    daskmr run examples/rides_by_hour.py -d rides -o rides.tsv

Each row has the hour, the rides, and their average fare. The names in a dict are those of its columns.

The data is from ``daskmr sample-data rides --kind rides``: CSV with a header, as ``2025/01/rides.csv``. The two
names below are the same as ``--layout '{year:int}/{month:int}/rides.csv' --records csv`` on the command
line. The value has the fields of a row by the names in the header, as text, also where a field has commas or
line ends. To read only some months, add ``--where year=2025 --where month=6..8``.

Fares are added in cents: sums of integers are exact, so the result does not depend on their order.
"""

layout = "{year:int}/{month:int}/rides.csv"
records = "csv"


def map(key, dims, value, context):
    hour = int(value["pickup"][11:13])
    context.write(hour, (1, round(100 * float(value["fare"]))))


def combine(key, values, context):
    context.write(key, add(values))


def reduce(key, values, context):
    rides, cents = add(values)
    context.write(f"{key:02}", {"rides": rides, "fare": round(cents / rides / 100, 2)})


def add(rows):
    return tuple(sum(column) for column in zip(*rows, strict=True))
