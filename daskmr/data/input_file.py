"""A file of the input, or a part of a large one."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

__all__ = ["UNNAMED", "InputFile", "SourceNames"]


@dataclass(frozen=True, slots=True)
class InputFile:
    """A file or an object, as it was listed; or a part of it, if a task reads only that."""

    path: str  # relative to the data dir, separated by "/"; invalid UTF-8 is surrogate-escaped
    size: int  # of the entire file in bytes, as stored
    dims: tuple[str, ...]  # the values of its dimensions, in layout order
    etag: str | None = None  # of an object in a store, without quotes
    mtime: float | None = None  # of an object in a store, in Unix seconds
    mtime_ns: int | None = None  # of a local file, to detect changes
    inode: int | None = None  # of a local file, to detect changes
    # Where the part begins and ends, in bytes as stored; ``None``: the entire file. See `splits`.
    part: tuple[int, int] | None = None

    # The value of ``--data-dir`` that it is from, without a "/" at its end, if there are several.
    source: str = field(default="", compare=False)

    @property
    def is_remote(self) -> bool:
        return self.etag is not None or self.mtime is not None

    @property
    def bytes(self) -> int:
        """The size of what is read, as stored.

        >>> InputFile("a.log", 100, ()).bytes, InputFile("a.log", 100, (), part=(60, 100)).bytes
        (100, 40)
        """
        return self.size if self.part is None else self.part[1] - self.part[0]

    @property
    def is_start(self) -> bool:
        """Whether it is an entire file, or the first part of one, which counts as the file."""
        return self.part is None or not self.part[0]


class SourceNames(NamedTuple):
    """The values of ``--data-dir`` that files are from which do not name one, without a "/" at the end.

    - `local`, `remote`: those of local files, and of the objects of a store.
    """

    local: str = ""
    remote: str = ""

    def of(self, file: InputFile) -> str:
        """Return the value of ``--data-dir`` that a file is from."""
        return file.source or (self.remote if file.is_remote else self.local)


UNNAMED = SourceNames()
