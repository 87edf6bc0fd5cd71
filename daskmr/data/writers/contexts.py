"""The context that writes to the output, in the format of the run."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

from daskmr.data.writers import format_called
from daskmr.job.contexts import ItemContext, PairContext, TextContext
from daskmr.job.row_context import RowContext

__all__ = ["OutputKind", "WritingContext", "packed", "report_of"]

WritingContext = TextContext | ItemContext | RowContext


@dataclass(frozen=True, slots=True)
class OutputKind:
    """The form in which tasks return the output."""

    items: bool = False  # pairs rather than text, because the result is iterated over
    format: str = "text"  # name of the output format
    columns: tuple[str, ...] | None = None  # names of its columns, if the script gives any
    step: str = ""  # the step whose pairs are the next one's input, such as ``"step 1 of 2"``
    alone: str = ""  # why there are no outputs beside it, if there are none

    def context(self) -> WritingContext:
        """Create a context."""
        if self.step:
            return PairContext(self.step)
        context = self._context(self.columns)
        context.create = self.alone or partial(self._context, None)
        return context

    def _context(self, columns: tuple[str, ...] | None) -> WritingContext:
        if self.items:
            return ItemContext()
        rows = format_called(self.format).rows
        return TextContext() if rows is None else RowContext(rows(columns))


def packed(context: WritingContext, written: list[Any]) -> tuple[Any, int]:
    """Return what a part keeps of entries that a context has collected, and its estimated size."""
    if isinstance(context, TextContext):
        text = "".join(written)
        return text, len(text)
    size, context.size = context.size, 0
    return context.rows.pack(written) if isinstance(context, RowContext) else written[:], size


def report_of(context: WritingContext) -> Any:
    """Return what the client must know of the rows since the last call; ``None`` of others."""
    return context.rows.report() if isinstance(context, RowContext) else None
