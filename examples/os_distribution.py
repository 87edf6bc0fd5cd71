"""Which operating systems do the documents come from, and how many from each?

    daskmr run examples/os_distribution.py -d sample -f examples/filters/saved_session.json -o os.tsv

A line: operating system, documents.

There is no ``try`` around ``json.loads``, here or in any other example: broken JSON raises
ValueError, and a record for which ``map`` raises ValueError is a bad record. It is left out, and
the summary says how many there were, in which files and why.
"""

import json


def map(key, dims, value, context):
    info = json.loads(value).get("info", {})
    context.write(info.get("OS", "unknown"), 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
