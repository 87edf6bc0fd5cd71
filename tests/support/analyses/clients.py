"""Pass 2: the figures of each client, from its sessions in the order in which they began."""

from daskmr import param

PAUSE = param("pause", 1800, help="seconds without a session that end a visit")

sort_values = True


def map(client, dims, session, context):
    assert dims == []
    context.write(client, session)


def reduce(client, sessions, context):
    visits = 0
    end = float("-inf")
    for session in sessions:
        visits += session.start - end >= PAUSE
        end = max(end, session.start + session.seconds)
    figures = {
        "sessions": len(sessions),
        "visits": visits,
        "hours": sum(session.seconds for session in sessions) / 3600,
        "crashes": sum(session.crashes for session in sessions),
    }
    context.write(client, figures)
