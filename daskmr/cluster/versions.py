"""Compare the versions of a cluster's processes with this one, before any work and in each task."""

from __future__ import annotations

import functools
import pickle
import platform
import re
from collections.abc import Callable, Iterable, Mapping
from importlib import import_module
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from daskmr._version import __version__
from daskmr.errors import InputError, TaskFailed
from daskmr.job.tracebacks import describe_exception
from daskmr.text import some

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Pinned", "Versions", "compare", "compare_cluster", "here", "judge"]

Versions = Mapping[str, str | None]

# The number of leading parts of a version that must be equal: for Python because of pickled code, for
# Dask because of its messages; for daskmr all, since its tasks hold values whose layout may change.
_PARTS = {"python": 2, "dask": 2, "distributed": 2, "cloudpickle": 1, "msgpack": 1, "daskmr": 99}
_NAMED = 3  # workers named in one note


@functools.cache
def here() -> Versions:
    """Return the versions of the packages in this process."""
    versions: dict[str, str | None] = {"python": platform.python_version(), "daskmr": __version__}
    for name in ("dask", "distributed", "cloudpickle"):
        versions[name] = import_module(name).__version__
    versions["msgpack"] = ".".join(map(str, import_module("msgpack").version))
    return versions


def compare(local: Versions, remote: Versions) -> tuple[list[str], list[str]]:
    """Return the packages whose versions are incompatible, and those that differ harmlessly.

    Packages that `remote` does not name are not compared; ``None`` means that a package is missing.

    Examples
    --------
    >>> local = {"python": "3.11.2", "dask": "2026.8.0", "daskmr": "0.1.0"}
    >>> compare(local, {"python": "3.11.9", "dask": "2026.8.0", "daskmr": None})
    (['daskmr'], ['python'])
    """
    breaking, differing = [], []
    for name, parts in _PARTS.items():
        if name not in local or name not in remote or local[name] == remote[name]:
            continue
        if _leading(local[name], parts) != _leading(remote[name], parts):
            breaking.append(name)
        else:
            differing.append(name)
    return breaking, differing


def _leading(version: str | None, parts: int) -> list[str] | None:
    return None if version is None else re.split(r"[.+]", version)[:parts]


def judge(local: Versions, others: Iterable[tuple[str, Versions]]) -> tuple[str, ...]:
    """Compare versions with those of `others`, and return notes on harmless differences.

    Raises `InputError` for the first process whose versions are incompatible.
    """
    notes: dict[tuple[str, str | None], list[str]] = {}
    for who, remote in others:
        breaking, differing = compare(local, remote)
        if breaking:
            raise InputError(_explain(who, breaking[0], local, remote))
        for name in differing:
            notes.setdefault((name, remote[name]), []).append(who)
    return tuple(
        f"{_called(name)} is {version} on {some(who, _NAMED)}, and {local[name]} here"
        for (name, version), who in notes.items()
    )


def compare_cluster(client: Client) -> tuple[str, ...]:
    """Compare this process with the scheduler and all workers, and return notes as `judge` does."""
    return judge(here(), _versions_of(client))


# Evaluated by a built-in, so that processes without daskmr can answer too.
_DASKMR_VERSION = "__import__('daskmr').__version__"


def _versions_of(client: Client) -> list[tuple[str, Versions]]:
    """Ask the scheduler and all workers for their versions; those that do not answer are skipped."""
    answers = client.get_versions()
    daskmr = client.run(eval, _DASKMR_VERSION, on_error="return")
    try:
        at_scheduler = client.run_on_scheduler(eval, _DASKMR_VERSION)
    except Exception as error:
        at_scheduler = error
    found = [("the scheduler", _read(answers["scheduler"], at_scheduler))]
    for address, answer in answers["workers"].items():
        if isinstance(answer, dict) and address in daskmr:
            found.append((f"the worker {address}", _read(answer, daskmr[address])))
    return found


def _read(answer: Mapping[str, Any], daskmr: Any) -> Versions:
    found = dict(answer["packages"])
    found["python"] = ".".join(found["python"].split(".")[:3])
    if isinstance(daskmr, str):
        found["daskmr"] = daskmr
    elif isinstance(daskmr, ImportError):
        found["daskmr"] = None
    else:  # it did not answer; the tasks compare again
        found.pop("daskmr", None)
    return found


def _explain(who: str, name: str, local: Versions, remote: Versions) -> str:
    if remote[name] is None:
        return (
            f"{_called(name)} is not installed on {who}. Install the version of this machine "
            f"({_called(name)} {local[name]}) there, in the environment that Dask runs in."
        )
    return (
        f"{_called(name)} is {remote[name]} on {who}, and {local[name]} on this machine: a job cannot "
        "run on both. Install the same version in both places."
    )


def _called(name: str) -> str:
    return "Python" if name == "python" else name


class Pinned:
    """A task's function that runs only where versions are compatible with the client's.

    It is sent as bytes, which are loaded only after the versions have been compared. So a worker
    that joins a running job is checked by its first task, and the scheduler, which deserializes the
    graph, runs none of the job's code.

    Examples
    --------
    >>> pickle.loads(pickle.dumps(Pinned(len)))("four")
    4
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self._function: Callable[..., Any] | None = function
        self._versions: Versions = {}  # known when it is sent: a job in this process needs none
        self._packed = b""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._function is None:
            self._function = _unpacked(self._versions, self._packed)
        return self._function(*args, **kwargs)

    def __dask_tokenize__(self) -> str:
        return uuid4().hex  # otherwise Dask would pack it, in a job in this process too

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        # No module of daskmr is named: a worker that cannot import one closes its connection.
        if not self._packed:
            self._versions, self._packed = here(), pickle.dumps(self._function, 5)
        return eval, (_RESTORE, {"versions": self._versions, "packed": self._packed})

    @classmethod
    def restored(cls, versions: Versions, packed: bytes) -> Pinned:
        """Return the function that another process has sent."""
        pinned = cls.__new__(cls)
        pinned._function, pinned._versions, pinned._packed = None, versions, packed
        return pinned


# Returns a `Pinned`; where daskmr has no such module, a function that fails with the reason.
_RESTORE = """(
    lambda find: __import__("daskmr.cluster.versions", fromlist=["Pinned"]).Pinned.restored(versions, packed)
    if find("daskmr")
    and find("daskmr.cluster")
    and find("daskmr.cluster").submodule_search_locations
    and find("daskmr.cluster.versions")
    else lambda *args, **kwargs: (_ for _ in ()).throw(
        RuntimeError(
            "A worker that joined while the job ran has no daskmr, or another version than the "
            + str(versions.get("daskmr"))
            + " where the job was started. Install the same version in both places."
        )
    )
)(__import__("importlib.util", fromlist=["util"]).find_spec)"""


def _unpacked(versions: Versions, packed: bytes) -> Callable[..., Any]:
    breaking, _ = compare(versions, here())
    if breaking:
        name = breaking[0]
        raise TaskFailed(
            f"{_called(name)} is {here()[name]} on {_this_worker()}, which joined while the job ran, "
            f"and {versions[name]} where the job was started. Nothing was written. Install the same "
            "version in both places."
        )
    try:
        function: Callable[..., Any] = pickle.loads(packed)
        return function
    except Exception as error:
        reason = describe_exception(error)
    raise TaskFailed(
        f"The job could not be loaded on {_this_worker()}: {reason}. Nothing was written. The worker "
        "needs the same daskmr and dependencies as the machine where the job was started."
    )


def _this_worker() -> str:
    from distributed import get_worker

    try:
        return f"the worker {get_worker().address}"
    except ValueError:  # this process is not a Dask worker
        return platform.node()
