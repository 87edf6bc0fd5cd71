"""Seconds and documents of each channel and hour, summed in memory before they are written."""

import json
from collections import Counter

from daskmr import param

MOST = param("most", 10, help="keys in memory at which they are written")


def setup_map(context):
    context.seconds, context.documents = Counter(), Counter()


def map(key, dims, value, context):
    document = json.loads(value)
    where = (dims[2], document["start"] // 3600 % 24)
    context.seconds[where] += document["seconds"]
    context.documents[where] += 1
    if len(context.seconds) >= MOST:
        flush(context)


def finish_map(context):
    flush(context)


def flush(context):
    for where, seconds in context.seconds.items():
        context.write(where, (seconds, context.documents[where]))
    context.counter("sums", "flushes")
    setup_map(context)


def setup_reduce(context):
    context.keys = context.total = 0


def reduce(key, values, context):
    seconds, documents = map_sum(values)
    context.keys += 1
    context.total += documents
    context.writecsv([*key, seconds, documents])


def map_sum(values):
    return [sum(column) for column in zip(*values, strict=True)]


def finish_reduce(context):
    context.writecsv(["all", context.keys, "", context.total])
