"""How long did each release take to start in November 2013, by operating system? For a spreadsheet.

    daskmr run examples/startup_csv.py -d sample -f examples/filters/release_2013_11.json -o startup.csv

CSV with a header: version, operating system, documents, then the average of each milestone below in
milliseconds after the start of the process. Documents that have not reached them all are left out.
"""

import json

MILESTONES = ("main", "firstPaint", "sessionRestored")


def setup_reduce(context):
    context.writecsv(["version", "os", "documents", *MILESTONES])


def map(key, dims, value, context):
    document = json.loads(value)
    measured = document.get("simpleMeasurements", {})
    times = [measured.get(milestone) for milestone in MILESTONES]
    if None not in times:
        system = document.get("info", {}).get("OS", "unknown")
        context.write((dims[3], system), (1, *times))


def combine(key, values, context):
    context.write(key, add(values))


def reduce(key, values, context):
    documents, *totals = add(values)
    context.writecsv([*key, documents, *(round(total / documents) for total in totals)])


def add(rows):
    return tuple(sum(column) for column in zip(*rows, strict=True))
