"""How many documents arrived each day on each prerelease channel?

    daskmr run examples/documents_per_day.py -d sample -f examples/filters/prerelease.json -o days.txt

A line: day, channel, documents, separated by semicolons. All that the question needs are the
dimensions (reason, application, channel, version, build, day), which come from the path of the file.
The JSON is not parsed, so this is several times faster than a job that looks into the documents.
"""

SEPARATOR = ";"


def setup_reduce(context):
    context.field_separator = SEPARATOR


def map(key, dims, value, context):
    context.write((dims[5], dims[2]), 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(SEPARATOR.join(key), sum(values))
