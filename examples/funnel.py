"""How many users of a web shop visit it, view a product, put one in the cart, and purchase?

    daskmr run examples/funnel.py -d events -o funnel.tsv

Each row has the number of a step, its name, and the users who got there.

The data is from ``daskmr sample-data events --kind events``: JSON lines in hive partitions, as
``dt=2026-10-05/hour=13/events-00.jsonl.gz``. The three names below are the same as ``--layout hive``,
``--records jsonl`` and ``--key user`` on the command line. The value is the parsed JSON, and the
key is its field ``user``.

A user is counted once a step, so ``combine`` keeps each name once. That is what makes the lists short.
"""

layout = "hive"
records = "jsonl"
key = "user"
columns = ("number", "step", "users")  # of the output

STEPS = ("visit", "view", "cart", "purchase")


def map(key, dims, value, context):
    step = STEPS.index(value["event"])  # another event is a ValueError, so a bad record
    context.write((step + 1, value["event"]), [key])


def combine(key, values, context):
    context.write(key, sorted(users_of(values)))


def reduce(key, values, context):
    context.write(key, len(users_of(values)))


def users_of(lists):
    return set().union(*lists)
