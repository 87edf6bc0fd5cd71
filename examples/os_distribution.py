"""How many documents come from each operating system?

    daskmr run examples/os_distribution.py -d sample -f examples/filters/saved_session.json -o os.txt

Each line has operating system and documents.

There is no ``try`` around ``json.loads``, here or in any other example: broken JSON raises
ValueError, and a record for which ``map`` raises ValueError is a bad record. It is skipped, and
the summary says how many there were, in which files and why.
"""

import json

from daskmr.reducers import total


def map(key, dims, value, context):
    info = json.loads(value).get("info", {})
    context.write(info.get("OS", "unknown"), 1)


reduce = total
combine = total.combine
