"""Map a partition: pass its records to the user's `map`, and collect its output."""

from __future__ import annotations

import gc
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from daskmr import clock
from daskmr.data.dims import Dims
from daskmr.data.input_file import UNNAMED, InputFile, SourceNames
from daskmr.data.partition import Partition
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import KEYED, RecordFormat
from daskmr.data.sampling import KeyFilter
from daskmr.data.spill_dir import Scratch
from daskmr.data.writers.contexts import OutputKind
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
_GC_THRESHOLD = 100_000  # new containers between collections of garbage; see `_few_collections`


@dataclass(frozen=True, slots=True)
class MapTask:
    """The arguments that all mappers share."""

    job: Job  # the user's functions
    root: str  # the data dir
    remote: Remote | None  # how to fetch the files that a store has listed
    scratch: Scratch  # destination of temporary files
    spilling: Spilling  # budget and buckets
    combine_size: int  # see ``daskmr.combine-size``
    kind: OutputKind  # the form of the output of a map-only job
    skip_corrupt: bool  # skip corrupt files
    max_bad: int | None  # maximum number of bad records before the job fails
    save_limit: int  # maximum raw bytes of bad records to save
    profile: bool  # collect a profile
    max_record_bytes: int  # longer lines are bad records
    part_bytes: int  # maximum bytes of a map-only job's output per partition that travel in memory
    file_timeout: float | None  # maximum seconds for one file
    on_cluster: bool = False  # workers are on other machines, so errors of files name the worker
    skip_poison: bool = False  # name a file that has crashed two workers, so that the job skips it
    keys: KeyFilter | None = None  # the records to map; ``None`` means all
    watched: bool = False  # progress is reported
    needs_tabs: bool = False  # fail at once if the input begins with lines that are not records
    records: RecordFormat = KEYED  # the format of the records
    dim_names: tuple[str, ...] = ()  # names of the dimensions
    indexed: bool = False  # workers write the output of a map-only job, from segments
    skipped: tuple[type[Exception], ...] = (ValueError,)  # exceptions that make a record bad
    sources: SourceNames = UNNAMED
    origin: clock.Origin = field(default_factory=clock.origin)  # the clock of the run

    def dims_of(self, file: InputFile) -> Dims:
        """Return the dimensions of a file as `map` gets them."""
        return Dims(file.dims, self.dim_names)


@guarded("map")
def map_partition(
    partition: Partition, *, task: MapTask, poison: Mapping[str, str] = NOTHING
) -> list[tuple[int, Any]]:
    """Map a partition.

    - `poison`: files to skip, and why.
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
    """Map a pickled partition, which keeps a graph of a million files at a few thousand objects."""
    *results, (bucket, tally) = map_partition(pickle.loads(packed), task=task, poison=poison)
    return [*results, (bucket, Tallies.of(tally))]


@contextmanager
def _few_collections() -> Iterator[None]:
    """Collect garbage less often, because a fold creates millions of lists that stay alive."""
    before = gc.get_threshold()
    gc.set_threshold(max(before[0], _GC_THRESHOLD), *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)
