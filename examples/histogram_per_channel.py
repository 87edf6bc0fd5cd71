"""What is the sum of one histogram over all documents, on each channel?

    daskmr run examples/histogram_per_channel.py -d sample -f examples/filters/saved_session.json -o gc.txt

Each line has the channel, and JSON with the number of documents, the sum of the measured values and the
count of each bucket.

In a document a histogram is an array: the counts of its buckets, then five numbers about the measured
values: their sum; the sum of their logarithms and the sum of the squares of those; the low and the high
32 bits of the sum of their squares. A number that a kind of histogram does not record is -1. The counts
and the first sum are added element by element. The other four are dropped, because neither -1 nor half
of a number can be added.
"""

import json

PROBE = "GC_MS"


def map(key, dims, value, context):
    histogram = json.loads(value).get("histograms", {}).get(PROBE)
    if histogram:
        # The length is part of the key, because histograms with different buckets cannot be added.
        context.write((dims[2], len(histogram)), [1, *histogram[:-4]])


def combine(key, values, context):
    context.write(key, add(values))


def reduce(key, values, context):
    channel, _ = key
    documents, *counts, total = add(values)
    row = {"documents": documents, "sum": total, "counts": counts}
    context.write(channel, json.dumps(row))


def add(arrays):
    return [sum(column) for column in zip(*arrays, strict=True)]
