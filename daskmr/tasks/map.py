"""Map a partition: pass its records to the user's `map`, and collect what it emits."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskmr import clock
from daskmr.data.partition import Partition
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.sampling import KeyFilter
from daskmr.data.spill_dir import Scratch
from daskmr.job.job import Job
from daskmr.store.source import StoreError
from daskmr.tasks.attempt import TALLY, Attempt, DamagedCopy
from daskmr.tasks.crashes import Marker
from daskmr.tasks.deaths import activated
from daskmr.tasks.fold import Spilling
from daskmr.tasks.guard import guarded
from daskmr.tasks.partition_files import PartitionFiles
from daskmr.tasks.prints import printing
from daskmr.tasks.tally import Tallies
from daskmr.worker import describe_worker

if TYPE_CHECKING:
    from daskmr.data.inputs import Remote

__all__ = ["TALLY", "MapTask", "map_packed", "map_partition"]

NOTHING: Mapping[str, str] = {}
_GC_THRESHOLD = 100_000  # new containers between collections: a fold makes millions that stay


@dataclass(frozen=True, slots=True)
class MapTask:
    """The arguments that all mappers share."""

    job: Job  # the user's functions
    root: str  # the data dir
    remote: Remote | None  # how to fetch what a store has listed
    scratch: Scratch  # where to write
    spilling: Spilling  # budget and buckets
    combine_size: int  # see ``daskmr.combine-size``
    items: bool  # a map-only job gives pairs rather than text, as the result is iterated over
    skip_corrupt: bool  # skip corrupt files
    max_bad: int | None  # bad records beyond which the job fails
    save_limit: int  # raw bytes of bad records that are saved
    profile: bool  # collect a profile
    max_record_bytes: int  # length beyond which a line is a bad record
    part_bytes: int  # bytes of a map-only job's output that travel in memory, a partition
    file_timeout: float | None  # seconds that one file may take
    on_cluster: bool = False  # workers are on other machines, so errors with a file name the worker
    skip_poison: bool = False  # name a file that has killed two processes, for a job that skips it
    keys: KeyFilter | None = None  # which records are mapped; ``None`` is all
    watched: bool = False  # progress is reported
    needs_tabs: bool = False  # fail at once where the input begins with lines that are no records
    origin: clock.Origin = field(default_factory=clock.origin)  # where the time of the run begins


@guarded("map")
def map_partition(
    partition: Partition, *, task: MapTask, poison: Mapping[str, str] = NOTHING
) -> list[tuple[int, Any]]:
    """Map a partition.

    - `poison`: files to be skipped, and why.
    Returns a Run for each bucket (for a map-only job one Part, as bucket 0), and the Tally.
    """
    clock.adopt(task.origin)
    run_dir = task.scratch.folder()
    where = f" on {describe_worker()}" if task.on_cluster else ""
    files = PartitionFiles(partition, task.root, task.remote, poison, where)
    with (
        printing(run_dir if task.watched else None, task.job),
        activated(task.job, run_dir, partition.index),
        _few_collections(),
    ):
        while True:
            attempt = Attempt(files, task, run_dir)
            try:
                return attempt.run()
            except BaseException as error:
                attempt.discard()
                if isinstance(error, CorruptFileError):
                    files.corrupt[attempt.file.path] = str(error)
                    with Marker(run_dir, "map", partition.index) as marker:
                        files.find_corrupt(attempt.file, marker, task.file_timeout)
                elif isinstance(error, StoreError) and task.remote and task.remote.skip_missing:
                    files.missing[attempt.file.path] = str(error)
                elif not isinstance(error, DamagedCopy):  # which is fetched again
                    raise


def map_packed(
    packed: bytes, poison: Mapping[str, str] = NOTHING, *, task: MapTask
) -> list[tuple[int, Any]]:
    """Map a pickled partition: in the graph, a million files are a few thousand byte strings."""
    *results, (bucket, tally) = map_partition(pickle.loads(packed), task=task, poison=poison)
    return [*results, (bucket, Tallies.of(tally))]


@contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage less often, as a fold makes millions of lists that stay."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _GC_THRESHOLD), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
