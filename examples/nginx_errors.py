"""How many requests failed in each hour, on each host?

    daskmr run examples/nginx_errors.py -d logs -o errors.tsv

Each row has the day, the hour, the host, the requests, and those that failed with a status of 500 or
more. Hours without a failure are left out.

The data is from ``daskmr sample-data logs --kind logs``: access logs of nginx in the combined format, as
``day/host/access.log.gz``. The two names below say so; for files that are arranged otherwise, ``--layout``
and ``--records`` on the command line go before them. A line in another format raises ValueError, so
it is a bad record, which is skipped and counted.
"""

import re

layout = "{day:date}/{host}/access.log.gz"
records = "lines"
columns = ("day", "hour", "host", "requests", "failed")  # of the output

LINE = re.compile(
    r'\S+ \S+ \S+ \[[^:\]]+:(?P<hour>\d\d):[^\]]+\] "[^"]*" (?P<status>\d{3}) \S+ "[^"]*" "[^"]*"$'
)


def map(key, dims, value, context):
    found = LINE.match(value)
    if not found:
        raise ValueError("not in the combined format")
    failed = found["status"] >= "500"
    context.write((dims.day, found["hour"], dims.host), (1, int(failed)))


def combine(key, values, context):
    context.write(key, add(values))


def reduce(key, values, context):
    requests, failed = add(values)
    if failed:
        context.write(key, (requests, failed))


def add(rows):
    return tuple(sum(column) for column in zip(*rows, strict=True))
