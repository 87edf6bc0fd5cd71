"""How many documents arrived each day on each prerelease channel?

    daskmr run examples/documents_per_day.py -d sample -f examples/filters/prerelease.json -o days.txt

Each line has day, channel and documents, separated by semicolons. The job needs only the dimensions
(reason, application, channel, version, build, day), which come from the path of the file. It does not
parse the JSON, so it is several times faster than a job that reads the documents.
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
