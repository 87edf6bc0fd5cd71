"""The history of a run as plain values: its tasks, snapshots of its state, its hottest keys.

Tasks and counts come with the results, so they are exact; snapshots (`Look`) are taken now and then
while it runs. The live display, the dashboard's page and the report are all drawn from these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from daskmr.counts import NO_COUNTS, Counted, Counts

__all__ = ["PHASES", "History", "HotKey", "Look", "Progress", "TaskSpan", "WorkerLook"]

PHASES = ("list", "fetch", "map", "merge", "reduce", "write")
"""The phases of a run, in order; those that a job does not have are left out of what is shown."""


@dataclass(frozen=True, slots=True)
class TaskSpan(Counted):
    """One task that gave a result: a partition that was mapped, or a reducer.

    Attributes
    ----------
    phase : str
        ``"map"`` or ``"reduce"``.
    number : int
        The partition, or the first bucket of the reducer.
    worker : str
        Which process ran it: its name on the cluster, or ``"inline"``.
    start, end : float
        Seconds of the epoch, by the clock of the worker.
    counts : Counts
        What it did; each figure is an attribute of the task, too.
    memory : int
        Bytes that its process held at most, as far as was seen.
    """

    phase: str
    number: int
    worker: str
    start: float
    end: float
    counts: Counts = field(default=NO_COUNTS, hash=False)
    memory: int = 0


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key that many values were written under.

    Attributes
    ----------
    key : str
        Its ``repr``, shortened.
    values : int
        How many values `map` wrote under it; estimated, where `exact` is false.
    bytes : int
        What they take, roughly.
    exact : bool
        Whether each value was counted.
    """

    key: str
    values: int
    bytes: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is.

    Attributes
    ----------
    tasks, tasks_total : int
        Tasks done, of all.
    files, files_total, bytes, bytes_total : int
        Files, and their size as stored, done of all; zero where a phase has none.
    """

    tasks: int = 0
    tasks_total: int = 0
    files: int = 0
    files_total: int = 0
    bytes: int = 0
    bytes_total: int = 0


@dataclass(frozen=True, slots=True)
class WorkerLook:
    """A worker at one moment.

    Attributes
    ----------
    name : str
        As in `TaskSpan.worker`.
    memory : int
        Bytes that its process holds.
    limit : int
        Bytes beyond which it is killed; 0 where there is no limit.
    status : str
        Dask's word for it: ``"running"``, ``"paused"``, ...
    phase : str
        Of the task that it runs; ``""`` when it runs none.
    file : str
        The file that it maps, relative to the data dir, or ``""``.
    spilled : int
        Bytes that the tasks it has run have written to segments so far.
    """

    name: str
    memory: int = 0
    limit: int = 0
    status: str = "running"
    phase: str = ""
    file: str = ""
    spilled: int = 0


@dataclass(frozen=True, slots=True)
class Look(Counted):
    """The state of a run at one moment, as far as the client knows.

    Attributes
    ----------
    at : float
        Seconds of the epoch.
    phase : str
        The one of `PHASES` that most of the work is in.
    progress : Mapping[str, Progress]
        By phase.
    counts : Counts
        What was mapped so far; each figure is an attribute of the look, too.
    workers : tuple of WorkerLook
        Those that are there.
    """

    at: float
    phase: str
    progress: Mapping[str, Progress] = field(default_factory=dict)
    counts: Counts = field(default=NO_COUNTS, hash=False)
    workers: tuple[WorkerLook, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """All of a run.

    Attributes
    ----------
    started, ended : float
        Seconds of the epoch.
    tasks : tuple of TaskSpan
        Those that gave results, mapping first.
    looks : tuple of Look
        In the order in which they were taken; thinned out when there are many.
    hot_keys : tuple of HotKey
        The hottest first.
    """

    started: float
    ended: float
    tasks: tuple[TaskSpan, ...] = ()
    looks: tuple[Look, ...] = ()
    hot_keys: tuple[HotKey, ...] = ()
