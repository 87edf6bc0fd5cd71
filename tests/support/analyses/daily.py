"""The summary of a day and those before it, with the longest sessions and the crashes beside it."""

import json
from datetime import date

from daskmr import param

DAY = param("day", type=date, help="the last day of the summary")
CHANNELS = param("channels", ["nightly", "beta"], help="channels that are summarised")
LONGEST = param("longest", 2, help="how many sessions of a day are listed")

output_columns = ("channel", "days_before")


def sort_values(value):
    return -value["seconds"], value["client"], value["start"]


def map(key, dims, value, context):
    if dims.appUpdateChannel not in CHANNELS:
        context.counter("documents", "of other channels")
        return
    day = date.fromisoformat(dims.submission_date)
    context.write((dims.appUpdateChannel, (DAY - day).days), json.loads(value))


def reduce(key, values, context):
    middle = values[len(values) // 2]
    summary = {
        "documents": len(values),
        "clients": len({value["client"] for value in values}),
        "hours": sum(value["seconds"] for value in values) / 3600,
        "median": middle["seconds"],
    }
    context.write(key, summary)
    for value in values[:LONGEST]:
        context.write_to("longest", key, {"client": value["client"], "seconds": value["seconds"]})
    for value in values:
        if value["crashes"]:
            context.write_to("crashes", key, {"client": value["client"], "n": value["crashes"]})
