"""The job of os.py over JSON lines, of which only one field is read."""

records = "jsonl"
fields = ("info.OS",)


def map(key, dims, value, context):
    context.write(value[0], 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
