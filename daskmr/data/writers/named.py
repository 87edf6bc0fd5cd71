"""The parts of the outputs that a script writes with ``context.write_to``, beside the main one."""

from __future__ import annotations

from functools import partial
from typing import Any

from daskmr.data.parts import Part, PartWriter
from daskmr.data.spill_dir import SpillStore
from daskmr.data.writers.contexts import WritingContext, packed, report_of
from daskmr.data.writers.separated import OR_NAME_THEM
from daskmr.errors import TaskFailed
from daskmr.job.contexts import NAMED, ItemContext, NamedOutputError

__all__ = ["NamedParts", "of_named"]

_SHARE = 16  # of the memory of the main part that each may take
_SMALLEST = 4096  # bytes
_BLOCK_BYTES = 1 << 20
_BATCH = 1024  # entries that a context collects before they go to the part
_COST = 100  # bytes that an entry takes in addition to its characters


class NamedParts:
    """Collector of what is written to named outputs for a bucket, or a partition of a map-only job.

    It has no work for scripts that do not call ``context.write_to``.

    - `context`: the context of the task, after `setup_reduce`.
    - `folder`, `in_memory`, `indexed`: those of the main `PartWriter`.
    - `call`: has the key that is reduced as `key`; ``None`` in a map-only job.
    """

    def __init__(
        self,
        context: WritingContext,
        folder: str | SpillStore,
        in_memory: int,
        indexed: bool = False,
        call: Any = None,
    ) -> None:
        self._context, self._call = context, call
        share = max(_SMALLEST, in_memory // _SHARE)
        self._open = partial(PartWriter, folder, share, indexed=indexed)
        self._most = min(_BLOCK_BYTES, share // 2)
        self._pieces: dict[str, _Piece] = {}
        context.on_named = self._before

    def _before(self, name: str, other: Any) -> None:
        """Prepare a write: take the entries of the previous key, or note where the record begins."""
        piece = self._piece(name, other)
        piece.count()
        if self._call is not None:
            if piece.key is not self._call.key or piece.is_full:
                piece.take()
                piece.key = self._call.key
        elif self._context.mark_named():
            self._context.hurry.append(NAMED)

    def _piece(self, name: str, other: Any) -> _Piece:
        piece = self._pieces.get(name)
        if piece is None:
            part, is_keyed = self._open(other.header), self._call is not None
            piece = self._pieces[name] = _Piece(name, other, part, self._most, is_keyed)
        return piece

    def keep(self) -> bool:
        """Keep what the current record has written; return whether it is time to `flush`."""
        self._context.keep_named()
        return any(piece.is_full for piece in self._pieces.values())

    def flush(self) -> None:
        """Move what was kept to the parts."""
        self._context.keep_named()
        for piece in self._pieces.values():
            piece.take()

    def finish(self) -> tuple[tuple[str, Part], ...]:
        """Return the part of each name that has any output, or a header."""
        self._context.on_named = _refuse
        pieces = [(n, self._piece(n, each)) for n, each in sorted(self._context.named.items())]
        parts = [(name, piece.finish()) for name, piece in pieces]
        return tuple((name, part) for name, part in parts if part.lines or part.header)

    def discard(self) -> None:
        """Remove what was spilled."""
        for piece in self._pieces.values():
            piece.part.discard()


def of_named(name: str, message: str) -> str:
    """Return the message of a failure in an output that the script names.

    >>> of_named("errors", "Two rows differ.")
    "The output 'errors' of context.write_to: two rows differ."
    """
    message, advice, _ = message.partition(OR_NAME_THEM)
    ending = ", with None for what is missing." if advice else ""
    return f"The output {name!r} of context.write_to: {message[:1].lower()}{message[1:]}{ending}"


def _refuse(name: str, other: Any) -> None:
    raise NamedOutputError(
        f"context.write_to({name!r}, ...) was called after the last key was reduced, or the last record "
        "mapped. Call it while reduce or map runs."
    )


class _Piece:
    """A named output: its context, its part, and the block of the part that is collected."""

    def __init__(
        self, name: str, context: WritingContext, part: PartWriter, most: int, keyed: bool
    ) -> None:
        self.part = part
        self._name = name
        self.key: Any = None  # the key for which the entries of the context were written
        self._context, self._most, self._keyed = context, most, keyed
        self._text = 0  # characters of the entries, if they are text
        self._keys: list[Any] = []
        self._outputs: list[Any] = []
        self._size = self._lines = 0

    def count(self) -> None:
        """Count the characters of the last entry."""
        written = self._context.written
        if written and self._context.is_text:
            self._text += len(written[-1])

    @property
    def is_full(self) -> bool:
        """Whether the context holds enough entries to take them."""
        context = self._context
        size = self._text if context.is_text else context.size  # type: ignore[union-attr]
        return len(context.written) >= _BATCH or size > self._most

    def take(self) -> None:
        """Take the entries of the context; those of one key may be taken in several steps."""
        context = self._context
        written, count = context.written, len(context.written)
        if not count:
            return
        try:
            output, size = packed(context, written)
        except TaskFailed as error:
            error.message = of_named(self._name, error.message)
            raise
        written.clear()
        context.hurry.clear()
        self._text = 0
        if self._keyed:
            self._keys.append(self.key)
            self._outputs.append(output)
        elif isinstance(context, ItemContext):
            self._outputs += output
        else:
            self._outputs.append(output)
        self._lines += count
        self._size += size + _COST * count
        if self._size > self._most:
            self._end()

    def _end(self) -> None:
        self.part.add(self._keys if self._keyed else None, self._outputs, self._lines)
        self._keys, self._outputs, self._size, self._lines = [], [], 0, 0

    def finish(self) -> Part:
        self.count()
        self.take()
        self._end()
        return self.part.finish(report_of(self._context))
