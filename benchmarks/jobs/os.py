"""How many documents come from each operating system? JSON, few keys."""

import json


def map(key, dims, value, context):
    context.write(json.loads(value)["info"]["OS"], 1)


def combine(key, values, context):
    context.write(key, sum(values))


def reduce(key, values, context):
    context.write(key, sum(values))
