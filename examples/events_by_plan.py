"""What do the users of a web shop do, on each plan?

    daskmr run examples/events_by_plan.py -d users -d events -o plans.csv

Each row is an event with the plan of its user. It is a join of two inputs, which `context.source` tells
apart: a table of users, and the events of ``daskmr sample-data events --kind events``. These lines make
users on two plans; every third user of the events is not among them:

    mkdir users
    seq -f '{"user": "u%06g", "plan": "free"}' 0 3 99 > users/users.jsonl
    seq -f '{"user": "u%06g", "plan": "paid"}' 1 3 99 >> users/users.jsonl

Events of unknown users go to ``plans.csv.unknown``, and users without events to ``plans.csv.idle``. With
``--param left=yes``, events of unknown users are rows without a plan instead (a left join).
"""

from daskmr import param

layout = "flat"
records = "jsonl"
key = "user"
output_columns = ("user", "plan", "time", "event")

LEFT = param("left", False, help="keep the events of unknown users, without a plan")
USER, EVENT = 0, 1


def sort_values(value):
    """Put the user before the events, so that no event has to be held in memory."""
    return value[0]


def map(user, dims, value, context):
    if context.source == "users":
        context.write(user, (USER, value["plan"]))
    else:
        context.write(user, (EVENT, value["time"], value["event"]))


def reduce(user, values, context):
    plan = None
    for side, *row in values:
        if side == USER:
            if plan is not None:
                raise ValueError("there are two users of this name")
            [plan] = row
        elif plan is not None or LEFT:
            context.write(user, (plan, *row))
        else:
            context.write_to("unknown", user, row)
    if side == USER:
        context.write_to("idle", user, plan)
