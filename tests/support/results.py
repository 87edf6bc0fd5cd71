"""Results of runs that never were."""

from __future__ import annotations

from typing import Any

from daskmr import Result
from support.counts import with_counts
from support.histories import made_up


def result(**changes: Any) -> Result:
    fields: dict[str, Any] = {
        "output": "out.txt",
        "files": 1234,
        "bytes": 5_600_000,
        "records": 200_000,
        "bad_reasons": {},
        "bad_files": {},
        "saved_bad_records": (),
        "bad_records_path": None,
        "skipped": (),
        "skipped_count": 0,
        "corrupt": (),
        "key_count": 3000,
        "lines": 3001,
        "output_bytes": 45_000,
        "spilled": 0,
        "timings": {"list": 0.1, "map": 2.25, "total": 3.04},
    }
    return with_counts(Result, **{**fields, **changes})


def result_with_history(nasty: bool = False, **changes: Any) -> Result:
    history = made_up(nasty=nasty)
    fields = {"history": history, "timings": {"map": 18.0, "total": 20.0}, **changes}
    return result(**fields)
