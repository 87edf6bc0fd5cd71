"""Values that hold counts, made from figures by name."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from daskmr.counts import Counts

__all__ = ["with_counts"]

_Value = TypeVar("_Value")


def with_counts(make: Callable[..., _Value], *args: Any, **fields: Any) -> _Value:
    """Call `make` with the figures among `fields` as `counts`; `bad_records` is by reason, if not given."""
    bad = fields.pop("bad_records", 0)
    if bad and not fields.get("bad_reasons"):
        fields["bad_reasons"] = {"r": bad}
    figures = {name: fields.pop(name) for name in Counts._fields if name in fields}
    return make(*args, counts=Counts(**figures), **fields)
