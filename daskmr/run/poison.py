"""Going on without the files that kill their worker.

Each partition is mapped by a task that the client holds by itself, so that one which fails can be
put again, under another name, while the results of the others stay where they are. Of a task whose
processes died, the marks that these have left tell the file: it is left out when it has killed two
of them. Where there are no marks, the files are mapped one by one to see.
"""

from __future__ import annotations

import itertools
import pickle
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from daskmr.cluster.session import Session, WorkerDied
from daskmr.data.partition import Partition
from daskmr.errors import JobError
from daskmr.tasks.crashes import Mark
from daskmr.tasks.deaths import deaths_by_file

__all__ = ["Detour"]

_DEATHS = 2  # of a file, after which it is left out
_TRIES = 2  # of a partition, with nothing learnt, before its files are mapped one by one
_MOST_TRIES = 5  # of a partition, when that has shown nothing either
_DIED = "{}: the worker process died each time that it was mapped"


class Detour:
    """The mapping of a plan, around the files that kill their worker.

    Parameters
    ----------
    session : Session
        With a client.
    plan : sequence of Partition
    mapper : callable
        Maps a packed partition, without the files of a second argument.
    name : str
        Unique to the run; begins the names of tasks.
    look : callable
        Gives the marks of processes that died, once the mapping of a partition has failed.
    """

    def __init__(
        self,
        session: Session,
        plan: Sequence[Partition],
        mapper: Callable[..., Any],
        name: str,
        look: Callable[[int], Iterable[Mark]],
    ) -> None:
        self._session = session
        self._plan = plan
        self._mapper = mapper
        self._name = name
        self._look = look
        self._numbers = itertools.count()
        self._left_out: list[dict[str, str]] = [{} for _ in plan]
        self._tries: Counter[int] = Counter()  # of a partition, since anything was learnt
        self._marks: dict[tuple[int, str], Mark] = {}
        self._known: dict[int, int] = {}  # marks that were known when a partition last failed
        self._futures: dict[int, Any] = {}
        self._submit(range(len(plan)))

    def bag(self) -> Any:
        """Map all partitions, and give their results as a Bag, one element a partition.

        Raises
        ------
        JobError
            When a task fails otherwise, or dies with nothing to be learnt from it.
        """
        from dask.bag import Bag

        while failed := self._session.wait_for(self._futures.values()):
            for index in [i for i, future in self._futures.items() if future in failed]:
                failure = self._session.failure_of(self._futures[index])
                self._learn(index, failure)
                self._submit([index])
        name = self._new_name()
        graph = {(name, index): future for index, future in sorted(self._futures.items())}
        return Bag(graph, name, len(graph))

    def take_up(self, failure: JobError) -> bool:
        """Map a partition again that was lost after it was mapped, and then failed.

        Returns
        -------
        bool
            Whether `failure` is of that kind.
        """
        index = self._index_of(failure)
        if index is None:
            return False
        self._learn(index, failure)
        self._submit([index])
        return True

    def _index_of(self, failure: JobError) -> int | None:
        if failure.files:
            found = (p.index for p in self._plan for f in p.files if f.path in failure.files)
            return next(found, None)
        if isinstance(failure, WorkerDied):
            keys = {future.key: index for index, future in self._futures.items()}
            return keys.get(failure.key)
        return None

    def _new_name(self) -> str:
        return f"{self._name}-{next(self._numbers)}"

    def _submit(self, indices: Iterable[int]) -> None:
        name = self._new_name()
        tasks = {
            (name, index): (self._mapper, pickle.dumps(self._plan[index], 5), self._left_out[index])
            for index in indices
        }
        for (_, index), future in self._session.submit(tasks).items():
            self._futures[index] = future

    def _learn(self, index: int, failure: JobError) -> None:
        """See which files to leave out, or raise `failure`."""
        if failure.files:
            memory = str(failure) if not str(failure).startswith("A worker process died") else ""
            for path in failure.files:
                self._left_out[index][path] = memory or _DIED.format(path)
            return
        if not isinstance(failure, WorkerDied):
            raise failure
        before = len(self._left_out[index])
        self._look_at_marks(index)
        if len(self._left_out[index]) > before or len(self._marks) > self._known.get(index, 0):
            self._known[index] = len(self._marks)
            self._tries[index] = 0
            return  # if it was not this task that killed its worker, it is another that will be found
        self._tries[index] += 1
        if self._tries[index] <= _TRIES:
            return
        for path in self._map_one_by_one(self._plan[index]):
            self._left_out[index][path] = _DIED.format(path)
            self._tries[index] = 0
        if self._tries[index] > _MOST_TRIES:
            raise failure

    def _look_at_marks(self, failed: int) -> None:
        """Leave out what marks show to have killed two processes, in any partition."""
        for mark in self._look(failed):
            if mark.phase == "map":
                self._marks[mark.number, mark.process] = mark
        by_partition: defaultdict[int, list[Mark]] = defaultdict(list)
        for mark in self._marks.values():
            by_partition[mark.number].append(mark)
        for index, marks in by_partition.items():
            for path, count in deaths_by_file(marks).items():
                if count >= _DEATHS:
                    self._left_out[index].setdefault(path, _DIED.format(path))

    def _map_one_by_one(self, partition: Partition) -> list[str]:
        """Find the files that kill their worker when they are mapped alone."""
        name = self._new_name()
        files = [
            file for file in partition.files if file.path not in self._left_out[partition.index]
        ]
        tasks = {
            (name, number): (
                partial(_probe, self._mapper),
                pickle.dumps(Partition(partition.index, (file,), partition.bytes), 5),
            )
            for number, file in enumerate(files)
        }
        futures = self._session.submit(tasks)
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
