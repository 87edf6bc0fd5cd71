"""What does one histogram look like on each channel, all documents taken together?

    daskmr run examples/histogram_per_channel.py -d sample -f examples/filters/saved_session.json -o gc.tsv

A line: channel, and JSON with the number of documents, the sum of the values measured and the
count of each bucket.

In a document a histogram is an array: the counts of its buckets, then five numbers about the values
measured. These are their sum; the sum of their logarithms and that of the squares of those; the low
and the high 32 bits of the sum of their squares. What a kind of histogram does not keep is -1. The
counts and the first sum may be added up element by element; of the other four, -1 and half a number
may not, so they are cut off.
"""

import json

PROBE = "GC_MS"


def map(key, dims, value, context):
    histogram = json.loads(value).get("histograms", {}).get(PROBE)
    if histogram:
        # The length is part of the key: with other buckets it is another histogram.
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
