"""The job of os.py over JSON lines, which daskmr parses."""

records = "jsonl"


def map(key, dims, value, context):
    context.write(value["info"]["OS"], 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
