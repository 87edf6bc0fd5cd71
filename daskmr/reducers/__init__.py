"""Ready-made reducers: ``reduce = total`` and ``combine = total.combine``.

Each gives the same result however its values were grouped by `combine`, to the last byte.
"""

from __future__ import annotations

from daskmr.reducers.base import Reducer
from daskmr.reducers.different import distinct
from daskmr.reducers.order import maximum, minimum, top
from daskmr.reducers.spread import collect, histogram, quantiles
from daskmr.reducers.sums import count, mean, total

__all__ = [
    "Reducer", "collect", "count", "distinct", "histogram", "maximum", "mean", "minimum", "quantiles",
    "top", "total",
]  # fmt: skip
