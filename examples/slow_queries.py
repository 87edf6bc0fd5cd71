"""Which SQL statements are slow on the main thread of desktop applications, and how slow is each?

    daskmr run examples/slow_queries.py -d sample -f examples/filters/desktop.json -o slow.txt

Each line has statement, documents that report it, and median duration in milliseconds. A document has
the number of calls and their total milliseconds for each statement, so this is a median of averages.

A median needs all values at once. So there is no ``combine``, and ``reduce`` sorts the values.
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
