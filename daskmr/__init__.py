"""MapReduce for Python people, on Dask."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from daskmr._version import __version__
from daskmr.errors import DaskMRError, InputError, JobError, NothingMatchedError

if TYPE_CHECKING:
    from daskmr.job import Job
    from daskmr.mapreduce import Result, mapreduce

__all__ = [
    "DaskMRError",
    "InputError",
    "Job",
    "JobError",
    "NothingMatchedError",
    "Result",
    "__version__",
    "mapreduce",
]


def __getattr__(name: str) -> Any:
    """Import what is heavy when it is first asked for: ``--help`` must not wait for Dask."""
    import importlib

    modules = {"Job": "job", "Result": "mapreduce", "mapreduce": "mapreduce"}
    if name not in modules:
        raise AttributeError(f"module 'daskmr' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"daskmr.{modules[name]}"), name)
    globals()[name] = value  # a function has its module's name: the module must not stay here
    return value
