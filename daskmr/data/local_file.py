"""Read local files as they were listed; the job fails if a file changes while it runs.

Only an uncompressed file may grow, as logs do. It is read up to its listed size, without the last
line if that was incomplete.
"""

from __future__ import annotations

import os
from io import FileIO

from isal import isal_zlib

from daskmr.data.input_file import InputFile
from daskmr.data.readers.decompression import Part, is_compressed
from daskmr.errors import TaskFailed
from daskmr.files import is_on_network

__all__ = ["LocalFile", "is_as_listed"]

_BLOCK_BYTES = 1 << 16
_HEAD_BYTES = 16  # enough to identify a compressed file
_TIME_UNITS = (10**9, 10**6, 1000, 100, 1)  # time resolutions of file systems, in nanoseconds


class LocalFile(FileIO):
    """An input file, open for reading. Call `check` after reading it.

    If only a part of the file is to be read, it begins there. It ends there too, unless the data is
    compressed, where only the reader knows the end.

    - `file`, `path`: the file as listed, and its path.
    - `where`: a phrase for messages, such as " on the worker ...".
    - `elsewhere`: the file was listed on another machine, which may see another inode number and
      times of another precision.
    - `part`: the part to read, for the reader; ``None``: the entire file.
    - `grown`: the size of an uncompressed file that has grown since it was listed; set by `check`.
    Raises `TaskFailed` if the file is not the one that was listed.
    Raises `OSError` if it cannot be opened or read; its ``filename`` is the path.
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
        self._start, self._limit = file.part or (0, file.size)  # of what is read
        self._end = -1  # end of the last complete line; -1 before the first read
        self._position = self._start
        self.part: Part | None = None
        self._checksum = 0  # CRC of the bytes read from an uncompressed file
        try:
            self._opened = os.fstat(self.fileno())
            if not self._is_as_listed_or_grown():
                raise self._failure(self._opened)
            if file.part is not None:
                end = None if self._limit == file.size else self._limit
                self.part = Part(self._start, end, not self._is_compressed())
                self.seek(self._start)
        except BaseException:
            self.close()
            raise

    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most `size` bytes, and none beyond the listed size."""
        try:
            if self._end < 0:
                self._plain = not self._is_compressed()
                if not self._plain:
                    self._limit = self._listed.size
                self._end = self._last_line_end() if self._plain else self._limit
            left = self._end - self._position
            if left <= 0:  # read a last line without a newline, unless it has grown
                left = self._limit - self._position
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
        """Return how many bytes of what is to be read have been read."""
        return min(self._position - self._start, self._listed.bytes)

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
        # Some network file systems assign a new inode number after a file is closed.
        return is_on_network(self._path)

    def _is_compressed(self) -> bool:
        return is_compressed(os.pread(self.fileno(), _HEAD_BYTES, 0), self._path)

    def _last_line_end(self) -> int:
        """Return the end of the last complete line within what is to be read."""
        end, length = self._limit, 1
        while end > self._start:
            start = max(self._start, end - length)
            found = os.pread(self.fileno(), end - start, start).rfind(b"\n")
            if found >= 0:
                return start + found + 1
            end, length = start, _BLOCK_BYTES
        return self._start

    def _is_last_line_complete(self) -> bool:
        grown = os.fstat(self.fileno()).st_size > self._listed.size
        return not grown or os.pread(self.fileno(), 2, self._listed.size).startswith(
            (b"\n", b"\r\n")
        )

    def _begins_as_read(self) -> bool:
        """Check whether a grown file still begins with the data that was read."""
        if self._position < self._end:
            return False
        if self._position > self._end and not self._is_last_line_complete():
            return False  # the last line was read before it grew
        checksum, position = 0, self._start
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
            f"The input file {self._path} {change}. Nothing was written, because the result would mix "
            "two versions of the file. Run the job again when nothing modifies the file (uncompressed "
            "files may grow), or exclude it with the filter."
        )
        failure.file = listed.path
        return failure


def is_as_listed(file: InputFile, path: str) -> bool:
    """Check whether a local file is unchanged since it was listed; FileNotFoundError if it is gone."""
    found = os.stat(path)
    state = found.st_size, found.st_mtime_ns, found.st_ino
    return state == (file.size, file.mtime_ns, file.inode)


def _is_same_time(first: int, second: int) -> bool:
    """Check whether two times in nanoseconds are equal at the coarser of their precisions.

    >>> _is_same_time(1_700_000_000_123_456_789, 1_700_000_000_000_000_000)
    True
    >>> _is_same_time(1_700_000_000_123_456_789, 1_700_000_000_123_456_700)
    True
    >>> _is_same_time(1_700_000_000_123_456_789, 1_700_000_000_123_456_788)
    False
    """
    unit = next(unit for unit in _TIME_UNITS if first % unit == 0 or second % unit == 0)
    return first // unit == second // unit
