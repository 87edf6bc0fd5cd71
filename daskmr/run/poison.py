"""Skip poison files, which crash their worker.

The client submits each partition as a separate task, so that a failed one can be submitted again
under another name while the results of the others are kept. The marks of the processes that died
name the file, which is skipped once it has crashed two of them. If there are no marks, the files of
the partition are mapped one by one to find it.
"""

from __future__ import annotations

import itertools
import pickle
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from daskmr.cluster.session import Session, WorkerDied
from daskmr.data.partition import Partition
from daskmr.errors import JobError
from daskmr.tasks.crashes import Mark

__all__ = ["Detour"]

_DEATHS = 2  # a file is skipped after it has crashed this many processes
_TRIES = 2  # tries of a partition without a new mark before its files are mapped one by one
_MOST_TRIES = 5  # tries of a partition before the job fails if that finds nothing either
_DIED = "{}: the worker process died each time that it was mapped"


class Detour:
    """The mapping of a plan that skips poison files.

    - `mapper`: maps a packed partition, except for the files that its second argument names.
    - `name`: a prefix of the names of tasks, unique to the run.
    - `marks_of_the_dead`: returns the marks of processes that died, given the failed partition.
    """

    def __init__(
        self,
        session: Session,
        plan: Sequence[Partition],
        mapper: Callable[..., Any],
        name: str,
        marks_of_the_dead: Callable[[int], Iterable[Mark]],
    ) -> None:
        self._session, self._plan, self._mapper = session, plan, mapper
        self._marks_of_the_dead = marks_of_the_dead
        self._name = name
        self._numbers = itertools.count()
        self._skipped: list[dict[str, str]] = [{} for _ in plan]
        self._tries: Counter[int] = Counter()  # by partition, since its last new mark
        self._marks: dict[tuple[int, str], Mark] = {}
        self._known: dict[int, int] = {}  # number of marks when a partition last failed
        self._futures: dict[int, Any] = {}
        self._submit(range(len(plan)))

    def bag(self) -> Any:
        """Map all partitions, and return their results as a Bag with one element per partition.

        Raises `JobError` if a task fails for another reason, or its worker dies for an unknown
        reason.
        """
        from dask.bag import Bag

        while failed := self._session.wait_for(self._futures.values()):
            for index in [i for i, future in self._futures.items() if future in failed]:
                self._learn(index, self._session.failure_of(self._futures[index]))
                self._submit([index])
        name = self._new_name()
        graph = {(name, index): future for index, future in sorted(self._futures.items())}
        return Bag(graph, name, len(graph))

    def take_up(self, failure: JobError) -> bool:
        """Map a partition again if its result was lost and recomputing it failed.

        Returns whether that was the cause of `failure`.
        """
        index = None
        if failure.files:
            found = (p.index for p in self._plan for f in p.files if f.path in failure.files)
            index = next(found, None)
        elif isinstance(failure, WorkerDied):
            index = {f.key: index for index, f in self._futures.items()}.get(failure.key)
        if index is not None:
            self._learn(index, failure)
            self._submit([index])
        return index is not None

    def _new_name(self) -> str:
        return f"{self._name}-{next(self._numbers)}"

    def _submit(self, indices: Iterable[int]) -> None:
        name = self._new_name()
        tasks = {
            (name, index): (self._mapper, pickle.dumps(self._plan[index], 5), self._skipped[index])
            for index in indices
        }
        self._futures |= {index: f for (_, index), f in self._session.submit(tasks).items()}

    def _learn(self, index: int, failure: JobError) -> None:
        """Find the files to skip, or raise `failure`."""
        if failure.files:
            for path in failure.files:
                self._skipped[index][path] = failure.skip_reason or _DIED.format(path)
            return
        if not isinstance(failure, WorkerDied):
            raise failure
        before = len(self._skipped[index])
        self._read_marks(index)
        if len(self._skipped[index]) > before or len(self._marks) > self._known.get(index, 0):
            self._known[index] = len(self._marks)
            self._tries[index] = 0
            return  # if another task crashed the worker, that one will be found
        self._tries[index] += 1
        if self._tries[index] <= _TRIES:
            return
        for path in self._map_one_by_one(self._plan[index]):
            self._skipped[index][path] = _DIED.format(path)
            self._tries[index] = 0
        if self._tries[index] > _MOST_TRIES:
            raise failure

    def _read_marks(self, failed: int) -> None:
        """Skip the files of any partition that have crashed two processes according to the marks."""
        for mark in self._marks_of_the_dead(failed):
            if mark.phase == "map":
                self._marks[mark.number, mark.process] = mark
        deaths = Counter((mark.number, mark.file) for mark in self._marks.values() if mark.file)
        for (index, path), count in deaths.items():
            if count >= _DEATHS:
                self._skipped[index].setdefault(path, _DIED.format(path))

    def _map_one_by_one(self, partition: Partition) -> list[str]:
        """Return the files that crash their worker when they are mapped alone."""
        name, probe, skipped = self._new_name(), partial(_probe, self._mapper), self._skipped
        files = [file for file in partition.files if file.path not in skipped[partition.index]]
        alone = [Partition(partition.index, (file,), partition.bytes) for file in files]
        futures = self._session.submit(
            {(name, number): (probe, pickle.dumps(one, 5)) for number, one in enumerate(alone)}
        )
        killers = []
        while failed := self._session.wait_for(futures.values()):
            for key in [key for key, future in futures.items() if future in failed]:
                failure = self._session.failure_of(futures.pop(key))
                if not isinstance(failure, WorkerDied) and not failure.files:
                    raise failure
                killers.append(files[key[1]].path)
        return killers


def _probe(mapper: Callable[..., Any], packed: bytes) -> None:
    mapper(packed)
