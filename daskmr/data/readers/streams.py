"""Records that a function ``read(stream, dims)`` yields: that of a script, or of a plug-in."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from sys import getsizeof
from typing import Any, BinaryIO

from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import (
    TOO_LONG,
    BadRecord,
    OversizedLine,
    Reader,
    Reading,
    RecordFormat,
    Records,
)
from daskmr.errors import TaskFailed

__all__ = ["StreamReader"]

Read = Callable[[BinaryIO, Any], Iterable[Any]]

_BATCH = 1000  # records of a batch
_BATCH_BYTES = 1 << 16


class StreamReader(Reader):
    """The reader that calls a function ``read(stream, dims)``, which yields keys and values.

    - `name`: of the format.
    - `read`: the function; its attribute ``extensions``, if any, names those of its files.
    """

    unit = "record"

    def __init__(self, name: str, read: Read) -> None:
        self.name = name
        self.extensions = tuple(getattr(read, "extensions", ()))
        self._read = read

    def read(self, source: str | BinaryIO, form: RecordFormat, file: Reading) -> Iterator[Records]:
        raw = _Stream(source, file)
        keys: list[Any] = []
        values: list[Any] = []
        first, size = 1, 0
        with raw, io.BufferedReader(raw, 1 << 16) as stream:
            for found in self._read(stream, file.dims):
                key, value = self._pair(found, first + len(values))
                if isinstance(value, BadRecord) and len(value.raw) > file.max_record_bytes:
                    value = BadRecord(OversizedLine(len(value.raw)), TOO_LONG)
                keys.append(key)
                values.append(value)
                size += getsizeof(value)
                if len(values) == _BATCH or size > _BATCH_BYTES:
                    yield _records(keys, values, first, size)
                    first, size, keys, values = first + len(values), 0, [], []
            raw.check()  # the function may have caught the exception
        if values:
            yield _records(keys, values, first, size)

    def _pair(self, found: Any, number: int) -> tuple[Any, Any]:
        if isinstance(found, BadRecord):
            if not isinstance(found.raw, bytes) or not isinstance(found.reason, str):
                raise TypeError(
                    "BadRecord takes bytes and a reason in `read`: BadRecord(raw, reason)"
                )
            return None, BadRecord(found.raw, found.reason, found.detail)  # also of a subclass
        if not isinstance(found, tuple) or len(found) != 2:
            raise TypeError(
                f"`read` yielded {found!r:.80} as record {number}, not a pair (key, value), nor a "
                "BadRecord(raw, reason)"
            )
        return found

    def reread(
        self, raw: bytes, form: RecordFormat, file: Reading, header: tuple[str, ...]
    ) -> Records:
        with suppress(ValueError, TypeError):
            key, value = json.loads(raw)
            return _records([key], [value], 1, len(raw))
        bad = BadRecord(raw, "not saved as JSON", "its key or value is of a type that JSON lacks")
        return _records([None], [bad], 1, len(raw))


def _records(keys: list[Any], values: list[Any], first: int, size: int) -> Records:
    def raw(index: int) -> bytes | OversizedLine:
        value = values[index]
        if isinstance(value, BadRecord):
            return value.raw  # type: ignore[no-any-return]
        pair = [keys[index], value]
        with suppress(ValueError, TypeError, RecursionError):
            text = json.dumps(pair)
            if json.loads(text) == pair:
                return text.encode()
        return repr(pair)[:_BATCH_BYTES].encode("utf-8", "surrogatepass")

    return Records(range(first, first + len(values)), keys, values, raw, size)


class _Stream(io.RawIOBase):
    """The decompressed bytes of a file, read as they are asked for."""

    def __init__(self, source: str | BinaryIO, file: Reading) -> None:
        super().__init__()
        self.name = source if isinstance(source, str) else source.name
        self._chunks = read_chunks(source, opened=file.opened)
        self._left = memoryview(b"")
        self._fault: Exception | None = None

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left:
            try:
                self._left = memoryview(next(self._chunks, b""))
            except (CorruptFileError, TaskFailed, OSError) as error:
                self._fault = error
                raise
        count = min(len(buffer), len(self._left))
        buffer[:count] = self._left[:count]
        self._left = self._left[count:]
        return count

    def check(self) -> None:
        """Raise the exception of a failed read again."""
        if self._fault is not None:
            raise self._fault

    def close(self) -> None:
        if not self.closed:
            self._chunks.close()  # type: ignore[attr-defined]
        super().close()
