"""The destination of the output of `map`: a fold if the job has a `reduce`, otherwise a part."""

from __future__ import annotations

from typing import Any

from daskmr.data.parts import Part, PartWriter
from daskmr.data.spill_dir import SpillStore
from daskmr.data.writers.contexts import OutputKind, WritingContext, packed, report_of
from daskmr.data.writers.named import NamedParts
from daskmr.history import HotKey
from daskmr.job.contexts import ItemContext
from daskmr.job.job import Job
from daskmr.job.map_context import MapContext
from daskmr.tasks.fold import Fold, Spilling
from daskmr.tasks.frames import estimate_size
from daskmr.tasks.user_calls import ContextReferences, combiner_of, set_up

__all__ = ["FoldedOutput", "MapOutput", "PartOutput"]

_BATCH = 1024  # lines that are collected before they go to the part
_BATCH_CHARACTERS = 4 << 20  # maximum characters of those lines
_FIRST_BATCH = 16  # lines to collect before their length is known


class MapOutput:
    """Collector of the pairs or lines that `map` writes."""

    context: MapContext | WritingContext  # what `map` writes to
    references: ContextReferences  # the script's references to the context
    pending: list[Any]  # output that was not taken yet
    hurry: list[Any]  # not empty if it must be taken without delay
    batch: int  # maximum length of `pending`
    hot_keys: tuple[HotKey, ...] = ()
    spilled = 0  # bytes written to segments
    values = 0  # number of values to reduce

    def take_back(self, mark: int) -> None:
        """Undo the writes since `pending` had the length `mark`, and the counts of this record."""
        self.context.counted.clear()
        del self.pending[mark:]

    def hasten(self) -> None:
        """Do the work that must not wait, after a record."""
        raise NotImplementedError

    def flush(self) -> None:
        """Take the pending output."""
        raise NotImplementedError

    def finish(self) -> list[tuple[int, Any]]:
        """Return the output by bucket."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove what was spilled."""


class FoldedOutput(MapOutput):
    """Collector of the pairs of a job with `reduce`, in a Fold."""

    def __init__(self, job: Job, spilling: Spilling, combine_size: int) -> None:
        self.context: MapContext = MapContext()
        self.references = ContextReferences(self.context)
        self.pending: list[Any] = self.context.keys
        self.take_back = self.context.take_back  # type: ignore[method-assign]
        self.hurry = self.context.hurry
        self._fold = Fold(self.context.groups, spilling, combiner_of(job), combine_size)
        self.batch = self._fold.batch

    @property
    def spilled(self) -> int:  # type: ignore[override]
        return self._fold.spilled

    @property
    def values(self) -> int:  # type: ignore[override]
        return self._fold.values

    def hasten(self) -> None:
        context, hurry = self.context, self.hurry
        context.commit()
        if None in hurry:
            self._settle()
            return
        if context.counted:
            context.keep_counts()
        hurry.clear()

    def flush(self) -> None:
        self.context.commit()
        # The more keys of `write_each` are deferred, the cheaper each is.
        if self.pending or self.context.is_full:
            self._settle()
        else:
            self.context.keep_counts()
            self.hurry.clear()

    def _settle(self) -> None:
        context = self.context
        context.keep_counts()
        context.place()
        self._fold.settle(self.pending, context.large)
        context.clear()
        self.hurry.clear()
        self.batch, context.most_later = self._fold.batch, self._fold.room

    def finish(self) -> list[tuple[int, Any]]:
        self._settle()
        runs = self._fold.finish()
        self.hot_keys = self._fold.hot_keys
        return list(enumerate(runs))

    def discard(self) -> None:
        self._fold.discard()


class PartOutput(MapOutput):
    """Collector of the lines of a job without `reduce`, in a Part."""

    def __init__(
        self,
        job: Job,
        folder: str | SpillStore,
        part_bytes: int,
        kind: OutputKind,
        indexed: bool = False,
    ) -> None:
        self.context: WritingContext = kind.context()
        self.references = ContextReferences(self.context)
        header = set_up(job, self.context)
        self.pending: list[Any] = self.context.written
        self.hurry = self.context.hurry
        self._part = PartWriter(folder, part_bytes, header, indexed, bool(kind.step))
        self.batch = _FIRST_BATCH
        self.context.keep_counts()  # those of `setup_reduce`, which no bad record undoes
        self.hurry.clear()
        self._named = NamedParts(self.context, folder, part_bytes, indexed)

    def take_back(self, mark: int) -> None:
        super().take_back(mark)
        self.context.undo_named()

    def hasten(self) -> None:
        if self._named.keep() or None in self.hurry:
            self.flush()
        else:
            self.context.keep_counts()
            self.hurry.clear()

    def flush(self) -> None:
        self.context.keep_counts()
        self._named.flush()
        pending = self.pending
        if pending:
            count = len(pending)  # a thread of the script may add more in the meantime
            written, characters = self._take(pending[:count])
            self._part.add(None, written, count, (characters,))
            self.batch = max(1, min(_BATCH, _BATCH_CHARACTERS * count // characters))
            del pending[:count]
        self.hurry.clear()

    def _take(self, pending: list[Any]) -> tuple[list[Any], int]:
        """Return a block of the part, and its estimated characters, at least 1."""
        output, size = packed(self.context, pending)
        if isinstance(self.context, ItemContext):
            return output, sum(map(estimate_size, output))
        return [output], max(1, size)

    def finish(self) -> list[tuple[int, Part]]:
        return [(0, self._part.finish(report_of(self.context), self._named.finish()))]

    def discard(self) -> None:
        self._part.discard()
        self._named.discard()
