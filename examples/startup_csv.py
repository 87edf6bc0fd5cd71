"""How long did each release take to start in November 2013, by operating system? For a spreadsheet.

    daskmr run examples/startup_csv.py -d sample -f examples/filters/release_2013_11.json -o startup.csv

CSV with a header: version, operating system, documents, then the average of each milestone below in
milliseconds after the start of the process. Documents that lack a milestone are skipped.
"""

from daskmr import pluck

MILESTONES = ("main", "firstPaint", "sessionRestored")

fields = pluck("info.OS", *(f"simpleMeasurements.{name}" for name in MILESTONES))


def setup_reduce(context):
    context.writecsv(["version", "os", "documents", *MILESTONES])


def map(key, dims, value, context):
    os, *times = fields(value)
    if None not in times:
        context.write((dims[3], os or "unknown"), (1, *times))


def combine(key, values, context):
    context.write(key, add(values))


def reduce(key, values, context):
    documents, *totals = add(values)
    context.writecsv([*key, documents, *(round(total / documents) for total in totals)])


def add(rows):
    return tuple(sum(column) for column in zip(*rows, strict=True))
