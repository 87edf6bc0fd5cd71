"""Which SQL statements are slow on the main thread of desktop applications, and how slow is each?

    daskmr run examples/slow_queries.py -d sample -f examples/filters/desktop.json -o slow.tsv

A line: statement, documents that report it, median duration in milliseconds. A document has the
calls and their milliseconds in total for each statement, so the median is that of averages.

A median needs all values at once. That is why there is no ``combine``, and why ``reduce`` sorts.
"""

import json


def map(key, dims, value, context):
    statements = json.loads(value).get("slowSQL", {}).get("mainThread", {})
    for statement, (calls, milliseconds) in statements.items():
        if calls:
            context.write(statement, milliseconds / calls)


def reduce(key, values, context):
    median = sorted(values)[len(values) // 2]
    context.write(key, f"{len(values)}\t{median:.1f}")
