"""The base of output directories: what a run asks of them, and what a worker needs to write a part."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING

from daskmr.data.output import OutputFile

if TYPE_CHECKING:
    import os

    from daskmr.data.spill_dir import SpillStore
    from daskmr.store.source import Source

__all__ = ["Output", "OutputDirectory", "WrittenPart"]


@dataclass(frozen=True, slots=True)
class WrittenPart:
    """A file of an output directory."""

    name: str
    bytes: int
    sha256: str | None  # computed if the provenance is written


class OutputDirectory:
    """A directory of parts, which are staged elsewhere until `commit`.

    - `name`: the output as it was given; it ends in "/".
    - `path`: its absolute path, or its URL.
    - `place`: where workers put the parts.
    - `suffix`: the suffix of the parts.
    - `like`: status of an earlier part, whose group and permissions to copy.
    - `access`: the same, for side-cars.
    - `parts`: the parts, in order; `named`: those of the outputs of ``context.write_to``, in
      subdirectories of their names.
    - `meta`: a local file with the provenance.
    - `there`: names of the files of the earlier directory.
    - `source`: the store that it is in; ``None`` for a file system.
    - `is_file`: whether it is on a file system, so that bad records can be saved in it.
    """

    place: str | SpillStore
    source: Source | None = None
    like: os.stat_result | None = None
    meta: str | None = None
    parts: tuple[WrittenPart, ...] = ()
    named: Mapping[str, tuple[WrittenPart, ...]] = {}  # never changed in place
    there: tuple[str, ...] = ()
    sha256: str | None = None
    is_file = True
    is_terminal = False
    has_companions = True

    def __init__(self, name: str, path: str, suffix: str) -> None:
        self.name, self.path, self.suffix = name, path, suffix

    @property
    def all_parts(self) -> list[WrittenPart]:
        """The parts of all outputs."""
        return [*self.parts, *chain.from_iterable(self.named.values())]

    @property
    def access(self) -> os.stat_result | None:
        return self.like

    @property
    def bytes(self) -> int:
        return sum(part.bytes for part in self.parts)

    def publish(self) -> None:
        """Complete the directory with what marks it as complete; in a store, put it in place."""
        raise NotImplementedError

    def commit(self) -> None:
        """Put the directory in place."""
        raise NotImplementedError

    def discard(self) -> None:
        """Remove what was not put in place; idempotent."""
        raise NotImplementedError


Output = OutputFile | OutputDirectory
"""The output of a run."""
