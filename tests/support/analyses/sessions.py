"""Pass 1: put the fragments of each session together, and drop those that came twice."""

import json
from itertools import chain
from typing import NamedTuple

from daskmr import param

SHORTEST = param("shortest", 60, help="seconds from which on a session counts")


class Session(NamedTuple):
    start: int
    seconds: int
    crashes: int


def map(key, dims, value, context):
    document = json.loads(value)
    fragment = (document["start"], document["seconds"], document["crashes"])
    context.write((document["client"], document["session"]), (fragment,))


def combine(key, values, context):
    context.write(key, tuple(sorted(set(chain.from_iterable(values)))))


def reduce(key, values, context):
    fragments = sorted(set(chain.from_iterable(values)))
    session = Session(
        fragments[0][0], sum(each[1] for each in fragments), sum(each[2] for each in fragments)
    )
    if session.seconds >= SHORTEST:
        context.write(key[0], session)
    else:
        context.counter("sessions", "too short")
