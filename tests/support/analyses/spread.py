"""Pass 3: how the figures are spread over the clients."""

from bisect import bisect

from daskmr import param
from daskmr.reducers import total

BOUNDS = param("bounds", [0, 1, 2, 5, 10, 20, 50], help="lower ends of the buckets")

output_columns = ("figure", "from", "clients")
reduce, combine = total, total.combine


def map(client, dims, figures, context):
    for name, value in figures.items():
        context.write((name, BOUNDS[bisect(BOUNDS, value) - 1]), 1)
