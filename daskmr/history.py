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

    - `phase`: ``"map"`` or ``"reduce"``.
    - `number`: the partition, or the first bucket of the reducer.
    - `worker`: which process ran it: its name on the cluster, or ``"inline"``.
    - `start`, `end`: seconds of the epoch, by the clock of the worker.
    - `counts`: what it did; each figure is an attribute of the task, too.
    - `memory`: bytes that its process held at most, as far as was seen.
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

    - `key`: its ``repr``, shortened.
    - `values`: how many values `map` wrote under it; estimated, where `exact` is false.
    - `bytes`: what they take, roughly.
    - `exact`: whether each value was counted.
    """

    key: str
    values: int
    bytes: int
    exact: bool = False


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a phase is.

    - `tasks`, `tasks_total`: tasks done, of all.
    - `files`, `files_total`, `bytes`, `bytes_total`: files, and their size as stored, done of all;
      zero where a phase has none.
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
    - `memory`: bytes that its process holds.
    - `limit`: bytes beyond which it is killed; 0 where there is no limit.
    - `status`: Dask's word for it: ``"running"``, ``"paused"``, ...
    - `phase`: of the task that it runs; ``""`` when it runs none.
    - `file`: the file that it maps, relative to the data dir, or ``""``.
    - `spilled`: bytes that the tasks it has run have written to segments so far.
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

    - `at`: seconds of the epoch.
    - `phase`: the one of `PHASES` that most of the work is in.
    - `progress`: by phase.
    - `counts`: what was mapped so far; each figure is an attribute of the look, too.
    - `workers`: those that are there.
    """

    at: float
    phase: str
    progress: Mapping[str, Progress] = field(default_factory=dict)
    counts: Counts = field(default=NO_COUNTS, hash=False)
    workers: tuple[WorkerLook, ...] = ()


@dataclass(frozen=True, slots=True)
class History:
    """All of a run.

    - `started`, `ended`: seconds of the epoch.
    - `tasks`: those that gave results, mapping first.
    - `looks`: in the order in which they were taken; thinned out when there are many.
    - `hot_keys`: the hottest first.
    """

    started: float
    ended: float
    tasks: tuple[TaskSpan, ...] = ()
    looks: tuple[Look, ...] = ()
    hot_keys: tuple[HotKey, ...] = ()
