"""The three passes as the steps of one script."""

import clients
import sessions
import spread

from daskmr import Job

output_columns = spread.output_columns
steps = [
    Job(map=sessions.map, combine=sessions.combine, reduce=sessions.reduce),
    Job(map=clients.map, reduce=clients.reduce, sort_values=clients.sort_values),
    Job(map=spread.map, combine=spread.combine, reduce=spread.reduce),
]
