"""Local files, read as they were listed: a file that changes while the job runs fails it.

Only a plain file may grow, as a log does. It is read up to the size that was listed, without a
last line that was not complete there.
"""

from __future__ import annotations

import os
from io import FileIO

from isal import isal_zlib

from daskmr.data.listing import InputFile
from daskmr.data.readers.decompression import is_compressed
from daskmr.errors import TaskFailed
from daskmr.files import is_on_network

__all__ = ["LocalFile", "is_as_listed"]

_BLOCK_BYTES = 1 << 16
_HEAD_BYTES = 16  # more than identify a compressed file
_TIME_UNITS = (10**9, 10**6, 1000, 100, 1)  # nanoseconds to which file systems round times


class LocalFile(FileIO):
    """An input file, open for reading. Call `check` after reading it.

    - `file`, `path`: the file as listed, and where it is.
    - `where`: follows the size in messages, as " on the worker ...".
    - `elsewhere`: another machine has listed it, which may see another inode number, and a time of
      another precision.
    - `grown`: size of a plain file that has grown since it was listed; set by `check`.
    Raises `TaskFailed` when it is not the file that was listed.
    Raises `OSError` when it cannot be opened, or read; its ``filename`` is the path.
    """

    def __init__(
        self, file: InputFile, path: str, where: str = "", *, elsewhere: bool = False
    ) -> None:
        super().__init__(path, "rb")
        self.grown: int | None = None
        self._listed = file
        self._path = path
        self._where = where
        self._elsewhere = elsewhere
        self._plain = False
        self._end = -1  # of the last complete line; -1 until something is read
        self._position = 0
        self._checksum = 0  # of what was read of a plain file
        try:
            self._opened = os.fstat(self.fileno())
            if not self._is_as_listed_or_grown():
                raise self._failure(self._opened)
        except BaseException:
            self.close()
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes, and none beyond the size that was listed."""
        try:
            if self._end < 0:
                self._plain = not self._is_compressed()
                self._end = self._last_line_end() if self._plain else self._listed.size
            left = self._end - self._position
            if left <= 0:  # a last line without a newline may be read unless it grew
                left = self._listed.size - self._position
                if left > 0 and not self._is_last_line_complete():
                    left = 0
            data = super().read(left if size is None or size < 0 else min(size, left)) or b""
        except OSError as error:
            error.filename = self._path
            raise
        self._position += len(data)
        if self._plain:
            self._checksum = isal_zlib.crc32(data, self._checksum)
        return data

    def tell(self) -> int:
        """Return how many bytes have been read."""
        return self._position

    def check(self) -> None:
        """Raise `TaskFailed` if the file has changed since it was listed, other than by growing."""
        try:
            found = os.stat(self._path)
        except FileNotFoundError:
            raise self._failure(None) from None
        opened, grown = self._opened, found.st_size > self._listed.size
        state = found.st_size, found.st_mtime_ns
        if not os.path.samestat(found, opened) or (
            state != (opened.st_size, opened.st_mtime_ns)
            and not (self._plain and grown and self._begins_as_read())
        ):
            raise self._failure(found)
        if grown:
            self.grown = found.st_size

    def _is_as_listed_or_grown(self) -> bool:
        listed, found = self._listed, self._opened
        if not self._has_listed_inode(found):
            return False
        if found.st_size != listed.size:
            return found.st_size > listed.size and not self._is_compressed()
        return listed.mtime_ns in (None, found.st_mtime_ns) or (
            self._elsewhere and _is_same_time(listed.mtime_ns, found.st_mtime_ns)
        )

    def _has_listed_inode(self, found: os.stat_result) -> bool:
        if self._elsewhere or self._listed.inode in (None, found.st_ino):
            return True
        # Some of those forget the number of a file that is not open, and assign another.
        return is_on_network(self._path)

    def _is_compressed(self) -> bool:
        return is_compressed(os.pread(self.fileno(), _HEAD_BYTES, 0), self._path)

    def _last_line_end(self) -> int:
        """Return where the last complete line ends within the size that was listed."""
        end, length = self._listed.size, 1
        while end > 0:
            start = max(0, end - length)
            found = os.pread(self.fileno(), end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end, length = start, _BLOCK_BYTES
        return 0

    def _is_last_line_complete(self) -> bool:
        grown = os.fstat(self.fileno()).st_size > self._listed.size
        return not grown or os.pread(self.fileno(), 2, self._listed.size).startswith(
            (b"\n", b"\r\n")
        )

    def _begins_as_read(self) -> bool:
        """Check whether a file that has grown still begins with the data that was read."""
        if self._position < self._end:
            return False
        if self._position > self._end and not self._is_last_line_complete():
            return False  # it was not known to grow when its last line was read
        checksum = position = 0
        while position < self._position:
            length = min(_BLOCK_BYTES, self._position - position)
            block = os.pread(self.fileno(), length, position)
            if not block:
                return False
            checksum = isal_zlib.crc32(block, checksum)
            position += len(block)
        return checksum == self._checksum

    def _failure(self, found: os.stat_result | None) -> TaskFailed:
        listed = self._listed
        if found is None:
            change = f"was removed{self._where} while the job ran"
        elif found.st_size != listed.size:
            change = (
                f"has {found.st_size:,} bytes{self._where} and had {listed.size:,} when it was "
                "listed: it changed while the job ran"
            )
        elif not self._has_listed_inode(found):
            change = f"was replaced by another one{self._where} while the job ran"
        else:
            change = f"was written{self._where} after it was listed: it changed while the job ran"
        failure = TaskFailed(
            f"The input file {self._path} {change}. Nothing was written, since the result would mix two "
            "states of it. Run the job again when nothing changes the file (only one that is not "
            "compressed may grow meanwhile), or leave it out with the filter."
        )
        failure.file = listed.path
        return failure


def is_as_listed(file: InputFile, path: str) -> bool:
    """Check whether a local file still has its size, time and inode; FileNotFoundError if it is gone."""
    found = os.stat(path)
    state = found.st_size, found.st_mtime_ns, found.st_ino
    return state == (file.size, file.mtime_ns, file.inode)


def _is_same_time(first: int, second: int) -> bool:
    """Check whether two times in nanoseconds are equal, rounded to the coarser precision.

    >>> _is_same_time(1_700_000_000_123_456_789, 1_700_000_000_000_000_000)
    True
    >>> _is_same_time(1_700_000_000_123_456_789, 1_700_000_000_123_456_700)
    True
    >>> _is_same_time(1_700_000_000_123_456_789, 1_700_000_000_123_456_788)
    False
    """
    unit = next(unit for unit in _TIME_UNITS if first % unit == 0 or second % unit == 0)
    return first // unit == second // unit
