"""A line for each document. No reduce."""

import json


def map(key, dims, value, context):
    info = json.loads(value)["info"]
    context.write(key, info["OS"] + " " + info["appVersion"])
