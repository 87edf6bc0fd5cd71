"""From a file to lines of text: open, decompress by content, split on newlines, decode.

What a file holds decides how it is read, not only its name. A file that is damaged, cut off or
followed by something else raises `CorruptFileError`: the end of the lines is the end of the data.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol, TypeAlias

import zstandard
from isal import igzip_lib

__all__ = [
    "CorruptFileError",
    "LineBatch",
    "OversizedLine",
    "is_compressed",
    "raw_bytes",
    "read_chunks",
    "read_lines",
]

COMPRESSED_EXTENSIONS = (".gz", ".lzma", ".xz", ".bz2", ".zst")
# Small enough for the caches, and for malloc to reuse: from 128 KiB on, every chunk may be fresh
# pages from the system, which costs more than the splitting.
CHUNK_BYTES = 1 << 16
READ_BYTES = 1 << 16
MAX_RECORD_BYTES = 1 << 30

# A zstd block of 4 bytes can stand for 128 KiB, and its decoder takes no limit on what it gives
# back: so small a slice yields 4 MiB at most.
_ZSTD_SLICE_BYTES = 128
# `xz -9` needs 65 MiB; a header that asks for more than this is damaged or hostile.
_LZMA_MEMORY_BYTES = 1 << 30
_SNIFF_BYTES = 10
# isal loses its place when a gzip header of several fields reaches it in pieces, and then takes
# the file for damaged; this holds any header with names and comments of a sensible length.
_GZIP_HEADER_BYTES = 1 << 13

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO"
LineBatch: TypeAlias = tuple[list[str], bool]


class CorruptFileError(Exception):
    """A file whose data could not be read whole.

    Parameters
    ----------
    path : str
        The file.
    data_bytes : int
        Bytes of data (uncompressed) that were read before the fault; what is wrong lies behind them.
    reason : str
        What is wrong, as the end of a sentence.

    Examples
    --------
    >>> print(CorruptFileError("a.gz", 1200, "the file ends too early"))
    The input file a.gz is damaged: after 1,200 bytes of data, the file ends too early.
    """

    def __init__(self, path: str, data_bytes: int, reason: str) -> None:
        super().__init__(path, data_bytes, reason)
        self.path = path
        self.data_bytes = data_bytes
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"The input file {self.path} is damaged: "
            f"after {self.data_bytes:,} bytes of data, {self.reason}."
        )


class OversizedLine(str):
    """Stands in a batch for a line that was too long to hold; its bytes are gone.

    It is an empty text, so it has no tab and whoever looks for one needs no further test on the
    lines that do.

    Attributes
    ----------
    length : int
        Bytes of the line, without its newline.
    text_bytes : int
        Bytes that its text would have taken, where that was the reason; `length` otherwise.

    Examples
    --------
    >>> line = OversizedLine(5000)
    >>> line, line.length
    ('', 5000)
    """

    __slots__ = ("length", "text_bytes")
    length: int
    text_bytes: int

    def __new__(cls, length: int, text_bytes: int | None = None) -> OversizedLine:
        line = super().__new__(cls)
        line.length = length
        line.text_bytes = length if text_bytes is None else text_bytes
        return line

    def __getnewargs__(self) -> tuple[int, int]:  # type: ignore[override]
        return (self.length, self.text_bytes)


def raw_bytes(line: str) -> bytes:
    r"""The bytes that `line` was decoded from.

    Examples
    --------
    >>> raw_bytes("caf\xe9 \udcff")
    b'caf\xc3\xa9 \xff'
    """
    return line.encode("utf-8", "surrogateescape")


def read_lines(
    source: Source,
    max_record_bytes: int = MAX_RECORD_BYTES,
    *,
    max_text_bytes: int | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    read_bytes: int = READ_BYTES,
    opened: Callable[[BinaryIO], object] | None = None,
) -> Iterator[LineBatch]:
    r"""Read the lines of a file in batches.

    Lines end at ``\n`` only; the last one needs none. Bytes that are not UTF-8 become lone
    surrogates (see `raw_bytes`). A ``\r`` before the ``\n`` stays.

    Parameters
    ----------
    source : path or binary file
        Compressed or plain.
    max_record_bytes : int
        A line with more bytes than this, its newline not counted, is not held: its place is taken
        by an `OversizedLine`.
    max_text_bytes : int, optional
        The same for a line whose text takes more memory than this: one emoji makes all of it take
        four bytes a character.
    chunk_bytes, read_bytes, opened
        As for `read_chunks`.

    Yields
    ------
    lines : list of str
        One or more lines, without their newlines.
    has_cr : bool
        Whether there is a ``\r`` anywhere in them, so that some may have one to strip.

    Raises
    ------
    CorruptFileError
        When the data cannot be read whole; the lines before the fault may have been given.

    Examples
    --------
    >>> import io
    >>> list(read_lines(io.BytesIO(b"a\t1\n\nb\t2\r\nc")))
    [(['a\t1', '', 'b\t2\r'], True), (['c'], False)]
    """
    line = _OpenLine(max_record_bytes, max_text_bytes)
    for chunk in read_chunks(source, chunk_bytes=chunk_bytes, read_bytes=read_bytes, opened=opened):
        end = chunk.rfind(b"\n")
        if end >= 0:
            lines = _decode(chunk, max_record_bytes)
            lines[0] = line.close(chunk[: chunk.index(b"\n")])
            lines.pop()  # what the chunk did not end
            yield lines, b"\r" in chunk or lines[0].endswith("\r")
        line.extend(chunk[end + 1 :])
    if line.length:
        last = line.close(b"")
        yield [last], last.endswith("\r")


class _OpenLine:
    """The line that a chunk did not end: its bytes, or only its length once that is too much."""

    def __init__(self, limit: int, text_limit: int | None) -> None:
        self._limit = limit
        self._text_limit = text_limit
        self._data = bytearray()  # grows in place: of a large line, there is no second copy
        self.length = 0

    def extend(self, piece: bytes) -> None:
        self._data += piece
        self.length += len(piece)
        if self.length > self._limit:
            self._data.clear()

    def close(self, piece: bytes) -> str:
        """The line that ends with `piece`; the next one begins."""
        self.extend(piece)
        length, self.length = self.length, 0
        if length > self._limit:
            return OversizedLine(length)
        if self._text_limit is not None and 4 * length > self._text_limit:
            text_bytes = _text_bytes(self._data)
            if text_bytes > self._text_limit:
                self._data.clear()
                return OversizedLine(length, text_bytes)
        text = _text(self._data)
        self._data.clear()
        return text


def _text_bytes(data: bytearray) -> int:
    """Bytes that the text of a long line takes, which its widest character decides."""
    decode = codecs.getincrementaldecoder("utf-8")("surrogateescape").decode
    length, width = 0, 1
    for start in range(0, len(data), CHUNK_BYTES):
        piece = decode(bytes(data[start : start + CHUNK_BYTES]))
        length += len(piece)
        if not piece.isascii():
            highest = max(piece)
            width = max(width, 1 if highest < "\u0100" else 2 if highest < "\U00010000" else 4)
    return length * width


def _text(line: bytes | bytearray) -> str:
    return line.decode("utf-8", "surrogateescape")


def _decode(chunk: bytes, limit: int) -> list[str]:
    if len(chunk) > limit:
        lines = chunk.split(b"\n")
        return [OversizedLine(len(line)) if len(line) > limit else _text(line) for line in lines]
    if chunk.isascii():
        return chunk.decode("ascii").split("\n")
    # Line by line, since one emoji makes all of a text take four bytes a character.
    return [line.decode("utf-8", "surrogateescape") for line in chunk.split(b"\n")]


def read_chunks(
    source: Source,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    read_bytes: int = READ_BYTES,
    opened: Callable[[BinaryIO], object] | None = None,
) -> Iterator[bytes]:
    """Read the data of a file, decompressed, in chunks.

    The first bytes tell gzip, xz, bzip2 and zstd, whatever the name; the old lzma format, which
    has no mark of its own, is looked for under a compressed name only. Without a known mark, a
    file with a compressed name is corrupt and any other is read as it is. Streams that follow one
    another are read as one. No bytes at all are no data.

    Parameters
    ----------
    source : path or binary file
        A file is read from where it stands, and left open; its ``name`` counts as its path.
    chunk_bytes : int
        Size that a chunk has at most (for zstd: 4 MiB more).
    read_bytes : int
        Bytes that are read from the file at a time.
    opened : callable, optional
        Given the file once it is open, so that somebody can see how far it has been read.

    Yields
    ------
    bytes
        Never empty.

    Raises
    ------
    CorruptFileError
        For data that is cut off, fails its checksum, is followed by anything else than the zero
        bytes that gzip and xz allow, or is not in the form that its name says.
    OSError
        When the file cannot be opened or read; its ``filename`` is the path.

    Examples
    --------
    >>> import bz2, io
    >>> b"".join(read_chunks(io.BytesIO(bz2.compress(b"spam ") + bz2.compress(b"and eggs"))))
    b'spam and eggs'
    """
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            with open(path, "rb", buffering=0) as file:
                if opened is not None:
                    opened(file)
                yield from _read_stream(file, path, chunk_bytes, read_bytes)
        except OSError as error:
            error.filename = path  # a failing read does not say where
            raise
    else:
        name = str(getattr(source, "name", "the input"))
        yield from _read_stream(source, name, chunk_bytes, read_bytes)


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes | None: ...


class _Decoder(Protocol):
    """What the decoders of all codecs look like; modelled on `lzma.LZMADecompressor`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int, /) -> bytes: ...


@dataclass(frozen=True, slots=True)
class _Codec:
    """A form of compression.

    `padding` is the unit in which zero bytes may follow a stream; 0 is not at all. `header` is
    how many bytes the decoder should see at once to begin with, if there are so many.
    """

    name: str
    begins: Callable[[bytes], bool]
    decoder: Callable[[], _Decoder]
    padding: int = 0
    header: int = 0


class _ZstdDecoder:
    """A zstd frame, with the limit on output that `zstandard` lacks."""

    def __init__(self) -> None:
        self._frame = zstandard.ZstdDecompressor().decompressobj()
        self._input = b""
        self._position = 0

    @property
    def eof(self) -> bool:
        return self._frame.eof

    @property
    def needs_input(self) -> bool:
        return self._position >= len(self._input)

    @property
    def unused_data(self) -> bytes:
        return self._frame.unused_data + self._input[self._position :]

    def decompress(self, data: bytes, max_length: int, /) -> bytes:
        if data:
            self._input, self._position = data, 0
        pieces = []
        while max_length > 0 and not self.eof and not self.needs_input:
            end = self._position + _ZSTD_SLICE_BYTES
            piece = self._frame.decompress(self._input[self._position : end])
            self._position = end
            pieces.append(piece)
            max_length -= len(piece)
        return b"".join(pieces)


def _is_bz2(head: bytes) -> bool:
    block_or_end = (b"\x31\x41\x59\x26\x53\x59", b"\x17\x72\x45\x38\x50\x90")
    return head.startswith(b"BZh") and head[3:4] in b"123456789" and head[4:10] in block_or_end


def _is_zstd(head: bytes) -> bool:
    skippable = head[1:4] == b"\x2a\x4d\x18" and head[0] & 0xF0 == 0x50
    return skippable or head.startswith(b"\x28\xb5\x2f\xfd")


_LZMA = _Codec(
    "lzma",
    lambda head: head.startswith(b"\x5d\0\0"),
    lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE, memlimit=_LZMA_MEMORY_BYTES),
)
_CODECS = (
    _Codec(
        "gzip",
        lambda head: head.startswith(b"\x1f\x8b"),
        lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),  # checks the trailer too
        padding=1,
        header=_GZIP_HEADER_BYTES,
    ),
    _Codec(
        "xz",
        lambda head: head.startswith(b"\xfd7zXZ\0"),
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_LZMA_MEMORY_BYTES),
        padding=4,
    ),
    _Codec("bzip2", _is_bz2, bz2.BZ2Decompressor),
    _Codec("zstd", _is_zstd, _ZstdDecoder),
)
# bz2 raises OSError; only calls of decoders, which do no I/O, are guarded with these.
_DECODER_ERRORS: tuple[type[Exception], ...] = (
    igzip_lib.error,  # type: ignore[assignment]  # its stub takes the class for an instance
    lzma.LZMAError,
    zstandard.ZstdError,
    OSError,
    ValueError,
    EOFError,
)


class _Input:
    """The raw side of a file: blocks of bytes, some of which can be looked at or put back."""

    def __init__(self, stream: _Readable, size: int) -> None:
        self._stream = stream
        self._size = size
        self._ahead = b""
        self._ended = False

    def _read(self) -> bytes:
        if self._ended:  # of a small file, the end is looked at several times
            return b""
        data = self._stream.read(self._size) or b""
        self._ended = not data
        return data

    def read(self) -> bytes:
        ahead, self._ahead = self._ahead, b""
        return ahead or self._read()

    def unread(self, data: bytes) -> None:
        self._ahead = data + self._ahead

    def peek(self, size: int) -> bytes:
        while len(self._ahead) < size and (more := self._read()):
            self._ahead += more
        return self._ahead[:size]

    def skip_zeros(self) -> int:
        """Pass over zero bytes; how many there were."""
        count = 0
        while data := self.read():
            rest = data.lstrip(b"\0")
            count += len(data) - len(rest)
            if rest:
                self.unread(rest)
                break
        return count


def _read_stream(
    stream: _Readable, path: str, chunk_bytes: int, read_bytes: int
) -> Iterator[bytes]:
    raw = _Input(stream, read_bytes)
    head = raw.peek(_SNIFF_BYTES)
    if not head:
        return
    codec = _sniff(head, path)
    chunks = _decompress(raw, codec, chunk_bytes) if codec else iter(raw.read, b"")
    data_bytes = 0
    try:
        for chunk in chunks:
            data_bytes += len(chunk)
            yield chunk
    except _Fault as fault:
        raise CorruptFileError(path, data_bytes, str(fault)) from None


class _Fault(Exception):
    """The reason of a `CorruptFileError`, where the path is not known."""


def _sniff(head: bytes, path: str) -> _Codec | None:
    """Tell the codec of a file that begins with `head`; ``None`` is no compression."""
    for codec in _CODECS:
        if codec.begins(head):
            return codec
    if not path.lower().endswith(COMPRESSED_EXTENSIONS):
        return None
    if _LZMA.begins(head):
        return _LZMA
    raise CorruptFileError(
        path, 0, "it does not look like gzip, xz, lzma, bzip2 or zstd, as its name says"
    )


def is_compressed(head: bytes, path: str) -> bool:
    """Tell whether a file that begins with `head` is read as compressed data.

    >>> is_compressed(b"k\tv", "a.log"), is_compressed(b"k\tv", "a.gz")
    (False, True)
    """
    try:
        return _sniff(head, path) is not None
    except CorruptFileError:
        return True


def _decompress(raw: _Input, codec: _Codec, chunk_bytes: int) -> Iterator[bytes]:
    """Every stream of the file (gzip says member, zstd says frame), one after the other."""
    while True:
        yield from _decompress_one(raw, codec, chunk_bytes)
        zeros = raw.skip_zeros() if codec.padding else 0
        head = raw.peek(_SNIFF_BYTES)
        if (zeros and zeros % codec.padding) or (head and not codec.begins(head)):
            raise _Fault(f"the {codec.name} data is followed by something else")
        if not head:
            return


def _decompress_one(raw: _Input, codec: _Codec, chunk_bytes: int) -> Iterator[bytes]:
    decoder = codec.decoder()
    raw.peek(codec.header)
    while not decoder.eof:
        data = raw.read() if decoder.needs_input else b""
        if decoder.needs_input and not data:
            raise _Fault(f"the file ends in the middle of its {codec.name} data")
        try:
            chunk = decoder.decompress(data, chunk_bytes)
        except _DECODER_ERRORS as error:
            raise _Fault(f"the {codec.name} data is not valid ({error})") from None
        if chunk:
            yield chunk
    raw.unread(decoder.unused_data)
