"""MapReduce for Python people, on Dask."""

from __future__ import annotations

from daskmr._version import __version__
from daskmr.errors import DaskMRError, InputError, JobError, NothingMatchedError

# Not imported: `python -m daskmr` would still find modules in the working directory.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from daskmr.data.readers.records import BadRecord
    from daskmr.diagnostics.html import write_report
    from daskmr.job.job import Job
    from daskmr.job.params.declared import param
    from daskmr.job.pluck import pluck
    from daskmr.job.shipped.file import file
    from daskmr.run.mapreduce import mapreduce
    from daskmr.run.result import Result

__all__ = [
    "BadRecord", "DaskMRError", "InputError", "Job", "JobError", "NothingMatchedError", "Result", "__version__",
    "file", "mapreduce", "param", "pluck", "write_report",
]  # fmt: skip


def __dir__() -> list[str]:
    return sorted(__all__)


def __getattr__(name: str) -> Any:
    """Import large modules only when needed, so that ``--help`` does not wait for Dask."""
    import importlib

    modules = {
        "BadRecord": "data.readers.records",
        "Job": "job.job",
        "Result": "run.result",
        "file": "job.shipped.file",
        "mapreduce": "run.mapreduce",
        "param": "job.params.declared",
        "pluck": "job.pluck",
        "write_report": "diagnostics.html",
    }
    if name not in modules:
        raise AttributeError(f"module 'daskmr' has no attribute {name!r}")
    return getattr(importlib.import_module(f"daskmr.{modules[name]}"), name)
