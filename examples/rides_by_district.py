"""How many taxi rides begin in each district of the city, and what do they cost?

    daskmr run examples/rides_by_district.py -d rides -o districts.tsv

Each row has a district, its rides, and their average fare.

The data is from ``daskmr sample-data rides --kind rides``, which names zones, but not the districts that they are
in. zones.csv, beside this script, does. Each worker reads that table once, and then looks up each ride in it: a join
without a shuffle. Such tables may have gigabytes, as long as each worker has room for one.
"""

import csv

from daskmr import file

layout = "{year:int}/{month:int}/rides.csv"
records = "csv"
output_columns = ("district", "rides", "fare")
files = ["zones.csv"]  # sent to all workers

with open(file("zones.csv"), newline="", encoding="utf-8") as rows:
    DISTRICTS = {row["zone"]: row["district"] for row in csv.DictReader(rows)}


def map(key, dims, value, context):
    district = DISTRICTS.get(value["pickup_zone"], "(unknown)")
    context.write(district, (1, round(100 * float(value["fare"]))))


def combine(key, values, context):
    context.write(key, add(values))


def reduce(key, values, context):
    rides, cents = add(values)
    context.write(key, (rides, round(cents / rides / 100, 2)))


def add(rows):
    return tuple(sum(column) for column in zip(*rows, strict=True))
