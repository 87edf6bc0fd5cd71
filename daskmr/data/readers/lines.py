r"""Read lines of text: split the bytes at ``\n``, and decode each line."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterator
from io import BytesIO
from itertools import chain
from typing import BinaryIO, TypeAlias

from daskmr.data.readers.decompression import CHUNK_BYTES, READ_BYTES, Source, read_chunks
from daskmr.data.readers.faults import refuse_form
from daskmr.data.readers.records import OversizedLine
from daskmr.data.readers.sniffing import HEAD_BYTES, form_of

__all__ = ["LineBatch", "read_lines", "read_raw_lines"]

LineBatch: TypeAlias = tuple[list[str], bool]

_MAX_RECORD_BYTES = 1 << 30
_START = 80  # bytes kept of a line that is too long


def read_lines(
    source: Source,
    max_record_bytes: int = _MAX_RECORD_BYTES,
    *,
    max_text_bytes: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    read_bytes: int = READ_BYTES,
    opened: Callable[[BinaryIO], object] | None = None,
) -> Iterator[LineBatch]:
    r"""Read a file in batches: a list of lines, and whether any of them contains a ``\r``.

    Lines end only at ``\n``, which the last line need not have. Bytes that are not UTF-8 become lone
    surrogates (see `records.raw_bytes`). A ``\r`` before the ``\n`` is kept. A byte order mark is dropped at
    the start of the file, and of each further file in it (as after ``cat a.gz b.gz``) that starts a line.

    - `source`, `chunk_bytes`, `read_bytes`, `opened`: as for `decompression.read_chunks`.
    - `max_record_bytes`: a line with more bytes, not counting its newline, is replaced with an
      `OversizedLine`.
    - `max_text_bytes`: the same limit for the memory of a line's text: a single emoji makes the
      text take four bytes per character.
    Raises `CorruptFileError`: after yielding the lines before the fault.
    Raises `TaskFailed` for archives, a second compression, UTF-16 and the like; see `read_chunks`.

    >>> import io
    >>> list(read_lines(io.BytesIO(b"a\t1\n\nb\t2\r\nc")))
    [(['a\t1', '', 'b\t2\r'], True), (['c'], False)]
    """
    line = _OpenLine(max_record_bytes, max_text_bytes)
    for chunk in read_chunks(
        source, chunk_bytes=chunk_bytes, read_bytes=read_bytes, opened=opened, join=_text_chunks
    ):
        end = chunk.rfind(b"\n")
        if end >= 0:
            lines = _decode(chunk, max_record_bytes)
            lines[0] = line.close(chunk[: chunk.index(b"\n")])
            lines.pop()  # the chunk ends within this line
            yield lines, b"\r" in chunk or lines[0].endswith("\r")
        line.extend(chunk[end + 1 :])
    if line.length:
        last = line.close(b"")
        yield [last], last.endswith("\r")


def read_raw_lines(
    source: Source,
    max_record_bytes: int = _MAX_RECORD_BYTES,
    *,
    opened: Callable[[BinaryIO], object] | None = None,
) -> Iterator[list[bytes | OversizedLine]]:
    r"""Read a file in batches of lines that are not decoded, otherwise like `read_lines`.

    A line may still end with its ``\n``, since long lines are found three times as fast this way.

    >>> import io
    >>> list(read_raw_lines(io.BytesIO(b'{"a": 1}\n\n[]')))
    [[b'{"a": 1}', b'\n'], [b'[]']]
    """
    line = _OpenLine(max_record_bytes, None)
    for chunk in read_chunks(source, opened=opened, join=_text_chunks):
        end = chunk.rfind(b"\n")
        if end >= 0:
            found = [*BytesIO(chunk)]
            if end + 1 < len(chunk):
                found.pop()  # the chunk ends within this line
            lines: list[bytes | OversizedLine] = [*found]
            if len(chunk) > max_record_bytes:
                sizes = [len(each.removesuffix(b"\n")) for each in found]
                lines = [
                    OversizedLine(size) if size > max_record_bytes else each
                    for each, size in zip(found, sizes, strict=True)
                ]
            lines[0] = line.close_raw(chunk[: chunk.index(b"\n")])
            yield lines
        line.extend(chunk[end + 1 :])
    if line.length:
        yield [line.close_raw(b"")]


def _decode(chunk: bytes, limit: int) -> list[str]:
    if len(chunk) > limit:
        lines = chunk.split(b"\n")
        return [
            OversizedLine(len(line), None, line.count(b'"'), line[:_START])
            if len(line) > limit
            else _text(line)
            for line in lines
        ]
    if chunk.isascii():
        return chunk.decode("ascii").split("\n")
    # Decode line by line, because one emoji makes an entire text take four bytes per character.
    return [line.decode("utf-8", "surrogateescape") for line in chunk.split(b"\n")]


def _text(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "surrogateescape")


class _OpenLine:
    """The line that continues in the next chunk: its bytes, or only its length above the limit."""

    def __init__(self, limit: int, text_limit: int | None) -> None:
        self._limit = limit
        self._text_limit = text_limit
        self._data = bytearray()  # grows in place, without a second copy of a large line
        self.length = 0
        self._quotes = 0  # in what was dropped
        self._start = b""

    def extend(self, piece: bytes) -> None:
        self._data += piece
        self._start += piece[: _START - len(self._start)]
        self.length += len(piece)
        if self.length > self._limit:
            self._quotes += self._data.count(b'"')
            self._data.clear()

    def close(self, piece: bytes) -> str:
        """Return the line, which ends with `piece`, and start the next one."""
        self.extend(piece)
        length, self.length = self.length, 0
        try:
            if length > self._limit:
                return OversizedLine(length, None, self._quotes, self._start)
            if self._text_limit is not None and 4 * length > self._text_limit:
                text_bytes = _text_bytes(self._data)
                if text_bytes > self._text_limit:
                    return OversizedLine(length, text_bytes, self._data.count(b'"'), self._start)
            return _text(self._data)
        finally:
            self._quotes, self._start = 0, b""
            self._data.clear()

    def close_raw(self, piece: bytes) -> bytes | OversizedLine:
        """Return the bytes of the line, which ends with `piece`, and start the next one."""
        if not self.length and len(piece) <= self._limit:
            return piece
        self.extend(piece)
        length, self.length = self.length, 0
        try:
            return OversizedLine(length) if length > self._limit else bytes(self._data)
        finally:
            self._data.clear()


def _text_bytes(data: bytearray) -> int:
    """Return the memory that the text of a long line takes, which depends on its widest character."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    length, width = 0, 1
    for start in range(0, len(data), CHUNK_BYTES):
        piece = decode(bytes(data[start : start + CHUNK_BYTES]))
        length += len(piece)
        if not piece.isascii():
            highest = max(piece)
            width = max(width, 1 if highest < "\u0100" else 2 if highest < "\U00010000" else 4)
    return length * width


def _text_chunks(
    streams: Iterator[Iterator[bytes]], path: str, codec: str, continues: bool
) -> Iterator[bytes]:
    """Drop byte order marks, and raise `TaskFailed` for streams that are not text."""
    last, data_bytes = b"" if continues else b"\n", 0
    for stream in streams:
        begins_line = last.endswith(b"\n")
        head = _gather(stream, HEAD_BYTES if begins_line else 1)
        if not head:
            continue
        if begins_line:
            form = form_of(head)
            if form is not None:
                raise refuse_form(form, path, codec, data_bytes)
            while head.startswith(codecs.BOM_UTF8):
                head = head.removeprefix(codecs.BOM_UTF8)
        for chunk in chain([head] if head else [], stream):
            last = chunk
            data_bytes += len(chunk)
            yield chunk


def _gather(chunks: Iterator[bytes], size: int) -> bytes:
    """Take chunks until there are `size` bytes, or no more chunks."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= size:
            break
    return head
