"""The history of a run as plain values: its tasks, snapshots of its state, its hottest keys.

Tasks and counts come with the results, so they are exact. Snapshots (`Look`) are taken now and then
during the run. The live display, the dashboard's page and the report are all based on these.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from daskmr.counts import NO_COUNTS, Counted, Counts

__all__ = [
    "PHASES", "History", "HotKey", "Look", "Progress", "StepFigures", "TaskSpan", "WorkerLook",
]  # fmt: skip

PHASES = ("list", "fetch", "map", "merge", "reduce", "write")
"""The phases of a run, in order; displays omit those that a job does not have."""


@dataclass(frozen=True, slots=True)
class TaskSpan(Counted):
    """One task with a result: a mapped partition, or a reducer.

    - `phase`: ``"map"`` or ``"reduce"``.
    - `number`: the partition, or the first bucket of the reducer.
    - `worker`: the name on the cluster of the process that ran it, or ``"inline"``.
    - `start`, `end`: seconds since the epoch, by the clock of the worker.
    - `counts`: the counts of the task; each figure is also an attribute of the task.
    - `memory`: most bytes that its process was seen to use.
    - `step`: the number of the step of the job that it is a task of.
    """

    phase: str
    number: int
    worker: str
    start: float
    end: float
    counts: Counts = field(default=NO_COUNTS, hash=False)
    memory: int = 0
    step: int = 1


class StepFigures(NamedTuple):
    """The figures of one step of a job.

    - `name`: that of its script or function; ``""`` if there is none.
    - `records`: number of records, or in a later step of pairs, that its `map` was called for.
    - `bad_records`: number of those that were bad.
    - `keys`: number of keys that it reduced; 0 without a `reduce`.
    - `written`: number of pairs, or for the last step of lines, that it wrote.
    - `spilled`: bytes written to segments.
    - `seconds`: its duration.
    - `kept`: the output that it was written to by ``--keep-steps``, or ``""``.
    """

    name: str
    records: int
    bad_records: int
    keys: int
    written: int
    spilled: int
    seconds: float
    kept: str = ""


@dataclass(frozen=True, slots=True)
class HotKey:
    """A key with many values.

    - `key`: its ``repr``, shortened.
    - `values`: number of values that `map` wrote under it; an estimate if `exact` is false.
    - `bytes`: their approximate size.
    - `exact`: each value was counted.
    """

    key: str
    values: int
    bytes: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """The progress of a phase.

    - `tasks`, `tasks_total`: number of tasks done, and of all tasks.
    - `files`, `files_total`, `bytes`, `bytes_total`: files, and their size as stored, done and in
      all; zero if a phase has none.
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

    - `name`: as in `TaskSpan.worker`.
    - `memory`: bytes of memory that its process uses.
    - `limit`: bytes beyond which it is killed; 0 if there is no limit.
    - `status`: its status in Dask: ``"running"``, ``"paused"``, ...
    - `phase`: the phase of its current task; ``""`` without one.
    - `file`: the file that it maps, relative to the data dir, or ``""``.
    - `spilled`: bytes that its tasks have written to segments so far.
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

    - `at`: the moment, in seconds since the epoch.
    - `phase`: the phase of most of the work, one of `PHASES`.
    - `progress`: the progress of each phase.
    - `counts`: counts of the mapped files so far; each figure is also an attribute of the look.
    - `workers`: the present workers.
    """

    at: float
    phase: str
    progress: Mapping[str, Progress] = field(default_factory=dict)
    counts: Counts = field(default=NO_COUNTS, hash=False)
    workers: tuple[WorkerLook, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """The complete history of a run.

    - `started`, `ended`: seconds since the epoch.
    - `tasks`: the tasks with results, those of map first.
    - `looks`: snapshots in order of time; thinned out if there are many.
    - `hot_keys`: the hottest keys, the hottest first.
    - `step`: the number of the last step of the job that has begun.
    """

    started: float
    ended: float
    tasks: tuple[TaskSpan, ...] = ()
    looks: tuple[Look, ...] = ()
    hot_keys: tuple[HotKey, ...] = ()
    step: int = 1
