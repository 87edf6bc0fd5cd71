"""Which documents were submitted more than once, how often, and on how many different days?

    daskmr run examples/duplicate_submissions.py -d sample -f examples/filters/all.json -o twice.txt

Each line has document id, submissions and days. The key of a record is the id of its document, so the
documents themselves are not parsed. Nearly every record has a different key, so this is the job that
moves the most data between map and reduce.
"""


def map(key, dims, value, context):
    context.write(key, dims[5])  # the day it was submitted


def reduce(key, values, context):
    if len(values) > 1:
        context.write(key, f"{len(values)}\t{len(set(values))}")
