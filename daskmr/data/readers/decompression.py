"""Open a file, identify its compression by content, and decompress it in chunks."""

from __future__ import annotations

import bz2
import lzma
import os
import re
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any, BinaryIO, NamedTuple, TypeAlias

import zstandard
from isal import igzip_lib

from daskmr.data.readers.faults import (
    ZSTD_MAX_WINDOW,
    CorruptFileError,
    StreamFault,
    check_window,
    explain_decoder_error,
    refuse_form,
)
from daskmr.data.readers.sniffing import (
    BGZF,
    BZIP2,
    HEAD_BYTES,
    LZMA_FORM,
    XZ,
    ZSTD,
    form_of,
    is_lzma,
)
from daskmr.data.readers.suffixes import compression_of
from daskmr.errors import TaskFailed

__all__ = [
    "CHUNK_BYTES", "READ_BYTES", "Part", "Source", "Streams", "codec_of", "is_compressed",
    "read_chunks",
]  # fmt: skip

# Small enough for the CPU caches, and for malloc to reuse: from 128 KiB on, malloc may request new
# pages from the system for each chunk, which costs more than splitting the chunk.
CHUNK_BYTES = 1 << 16
READ_BYTES = 1 << 16

# A zstd block of 4 bytes can encode 128 KiB, and the decoder cannot limit its output: a slice of
# this size yields at most 4 MiB.
_ZSTD_SLICE_BYTES = 128
_WINDOW_HEADER_BYTES = 64
_SNIFF_BYTES = 14
_GZIP_HEADER_BYTES = 1 << 13  # larger than most headers
_LONGEST_GZIP_HEADER = 1 << 25
_GZIP_EXTRA, _GZIP_NAME, _GZIP_COMMENT = 4, 8, 16
_GZIP_FIELDS = _GZIP_EXTRA | _GZIP_NAME | _GZIP_COMMENT | 2
_LZMA2 = 0x21  # the ID of the filter in xz

Source: TypeAlias = "str | os.PathLike[str] | BinaryIO"
Streams: TypeAlias = Iterator[Iterator[bytes]]
Join: TypeAlias = Callable[[Streams, str, str, bool], Iterator[bytes]]


class Part(NamedTuple):
    """The part of a file to read, as the attribute ``part`` of an open file.

    Its lines are those that begin after the first line end from `start` on, up to the first line end
    from `end` on. In compressed data, `start` and `end` are where streams begin, and the lines ends
    are those of the data from there on. Plain data is cut at line ends, so that the file itself holds
    exactly these lines.
    """

    start: int  # in bytes as stored; 0: the first line counts too
    end: int | None  # ``None``: to the end of the file
    is_plain: bool  # not compressed


def _joined(streams: Streams, path: str, codec: str, continues: bool) -> Iterator[bytes]:
    return chain.from_iterable(streams)


def read_chunks(
    source: Source,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    read_bytes: int = READ_BYTES,
    opened: Callable[[BinaryIO], object] | None = None,
    join: Join = _joined,
) -> Iterator[bytes]:
    """Read and decompress the data of a file, in non-empty chunks.

    The first bytes identify gzip, xz, bzip2 and zstd, regardless of the name; the old lzma format,
    which has no magic number, requires a name with the suffix of a compression. If no compression is
    identified, a file with such a suffix is corrupt, and any other file is read as it is. Consecutive
    streams are read as one. An empty file holds no data.

    - `source`: a path, or an open file, which is read from its current position and not closed; its
      ``name`` is used as its path. If it has a `Part` as ``part``, only the lines of that are read.
    - `chunk_bytes`: maximum size of a chunk (for zstd: plus 4 MiB).
    - `read_bytes`: number of bytes to read from the file at a time.
    - `opened`: called with the file once it is open, to observe the progress.
    - `join`: joins the streams, which may be concatenated files, into one; those of formats that
      consist of blocks (BGZF, bzip2, zstd) are one already. Also called with the path, the codec ("": none), and whether
      the first of them continues a line.
    Raises `CorruptFileError` for data that is truncated, fails its checksum, is followed by anything
    but the zero bytes that gzip and xz allow, or is not in the format that its name indicates.
    Raises `TaskFailed` for intact data that needs a dictionary, or more memory than this worker has,
    to be decompressed.
    Raises `OSError` if the file cannot be opened or read; its ``filename`` is the path.

    >>> import bz2, io
    >>> b"".join(read_chunks(io.BytesIO(bz2.compress(b"spam ") + bz2.compress(b"and eggs"))))
    b'spam and eggs'
    """
    if not isinstance(source, (str, os.PathLike)):
        path = str(getattr(source, "name", "the input"))
        yield from _read_file(source, path, chunk_bytes, read_bytes, join)
        return
    path = os.fspath(source)
    try:
        with open(path, "rb", buffering=0) as file:
            if opened is not None:
                opened(file)
            yield from _read_file(file, path, chunk_bytes, read_bytes, join)
    except OSError as error:
        error.filename = path  # a failing read does not set it
        raise


def _read_file(
    stream: BinaryIO, path: str, chunk_bytes: int, read_bytes: int, join: Join
) -> Iterator[bytes]:
    part: Part | None = getattr(stream, "part", None)
    start, end = (part.start, part.end) if part is not None else (0, None)
    raw = _Input(stream, read_bytes, start, end)
    head = raw.peek(HEAD_BYTES)
    if not head:
        return
    codec = None if part is not None and part.is_plain else _identify(head, path)
    if codec is None:
        chunks = join(iter([iter(raw.read, b"")]), path, "", start > 0)
    else:
        streams = _decompress(raw, codec, chunk_bytes, path)
        if codec.name in ("bzip2", "zstd") or re.match(BGZF, head, re.DOTALL):
            blocks = chain.from_iterable(streams)
            streams = iter([blocks if part is None else _lines_of_part(blocks, raw)])
        chunks = join(streams, path, codec.name, start > 0)
    data_bytes = 0
    try:
        for chunk in chunks:
            data_bytes += len(chunk)
            yield chunk
    except (StreamFault, TaskFailed) as failure:
        if start and codec is not None:  # read the entire file, to say how far it is good
            deque(read_chunks(path, join=join), maxlen=0)
        if isinstance(failure, TaskFailed):
            raise
        raise CorruptFileError(path, data_bytes, str(failure)) from None


def _lines_of_part(chunks: Iterator[bytes], raw: _Input) -> Iterator[bytes]:
    """Yield the lines of a `Part` of compressed data."""
    is_before = raw.start > 0
    for chunk in chunks:
        if is_before:
            end = chunk.find(b"\n") + 1
            if not end:
                continue
            if raw.is_beyond:  # a line from before the part ends after it
                return
            chunk, is_before = chunk[end:], False
        if raw.is_beyond:
            end = chunk.find(b"\n") + 1
            yield chunk[: end or None]
            if end:
                return
        elif chunk:
            yield chunk


@dataclass(frozen=True, slots=True)
class _Codec:
    """A compression format."""

    name: str
    begins: Callable[[bytes], object]
    decoder: Callable[[], Any]  # like `lzma.LZMADecompressor`
    padding: int = 0  # zero bytes may follow a stream in multiples of this; 0: none may
    window: Callable[[bytes], int] = lambda head: 0  # returns the window size, from the first bytes
    has_fields: bool = False  # whether the header has a variable size


class _ZstdDecoder:
    """A decoder like `lzma.LZMADecompressor`; it limits the output, which `zstandard` does not."""

    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=ZSTD_MAX_WINDOW)
        self._frame = decompressor.decompressobj()
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


def _zstd_window(head: bytes) -> int:
    try:
        return zstandard.get_frame_parameters(head).window_size
    except zstandard.ZstdError:  # the decoder will report the error
        return 0


def _xz_window(head: bytes) -> int:
    """Return the dictionary size of the first block; its header follows the 12-byte stream header."""
    if len(head) < _WINDOW_HEADER_BYTES or not head[12]:  # no block, or a tiny one
        return 0
    flags = head[13]
    fields = iter(head[14:])
    try:
        for _ in range((flags >> 6 & 1) + (flags >> 7)):
            _xz_number(fields)
        for _ in range((flags & 3) + 1):
            name, size = _xz_number(fields), _xz_number(fields)
            properties = [next(fields) for _ in range(size)]
            if name == _LZMA2 and properties:
                bits = properties[0]
                return (2 | bits & 1) << (bits // 2 + 11)
    except StopIteration:  # the header is longer than `head`
        pass
    return 0


def _xz_number(fields: Iterator[int]) -> int:
    number = shift = 0
    while True:
        byte = next(fields)
        number |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return number


_LZMA = _Codec(
    "lzma",
    is_lzma,
    lambda: lzma.LZMADecompressor(lzma.FORMAT_ALONE),
    window=lambda head: int.from_bytes(head[1:5], "little"),
)
_CODECS = (
    _Codec(
        "gzip",
        re.compile(rb"\x1f\x8b").match,
        lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),  # checks the trailer too
        padding=1,
        has_fields=True,
    ),
    _Codec(
        "xz",
        re.compile(XZ).match,
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
        padding=4,
        window=_xz_window,
    ),
    _Codec("bzip2", re.compile(BZIP2).match, bz2.BZ2Decompressor),
    _Codec("zstd", re.compile(ZSTD).match, _ZstdDecoder, window=_zstd_window),
)
# bz2 raises OSError; these are only caught around calls of decoders, which do no I/O.
_DECODER_ERRORS: tuple[type[Exception], ...] = (
    igzip_lib.error,  # type: ignore[assignment]  # its stub declares an instance instead of a class
    lzma.LZMAError,
    zstandard.ZstdError,
    OSError,
    ValueError,
    EOFError,
)


class _Input:
    """The raw bytes of a file, read in blocks that can be peeked at or put back."""

    def __init__(self, stream: BinaryIO, size: int, start: int = 0, end: int | None = None) -> None:
        self._stream = stream
        self._size = size
        self._ahead = b""
        self._ended = False
        self.start = start
        self.is_beyond = False  # the current stream begins at the end of the part
        self._end = end
        self._position = start  # of the end of `_ahead`

    def _read(self) -> bytes:
        if self._ended:  # avoid repeated reads at the end of a small file
            return b""
        data = self._stream.read(self._size) or b""
        self._ended = not data
        self._position += len(data)
        return data

    def begin_stream(self) -> None:
        """Find out whether the part ends here."""
        if self._end is not None and not self.is_beyond:
            left = self._end - (self._position - len(self._ahead))
            if left < 0:
                raise StreamFault(f"no stream begins at byte {self._end:,}, where it was cut")
            self.is_beyond = not left

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
        count = 0
        while data := self.read():
            rest = data.lstrip(b"\0")
            count += len(data) - len(rest)
            if rest:
                self.unread(rest)
                break
        return count


def _identify(head: bytes, path: str) -> _Codec | None:
    """Return the codec of a file that starts with `head`; ``None``: not compressed."""
    for codec in _CODECS:
        if codec.begins(head):
            return codec
    if compression_of(path) is None:
        return None
    form = form_of(head)
    if _LZMA.begins(head) and form in (None, LZMA_FORM):
        return _LZMA
    if form is not None:
        raise refuse_form(form, path, "")
    reason = "it does not look like gzip, xz, lzma, bzip2 or zstd, as its name says"
    if not re.search(rb"[\0-\x08\x0e-\x1f]", head):
        base = os.path.splitext(os.path.basename(path))[0]
        reason += f", but like text, which is read if it is renamed to {base}"
    raise CorruptFileError(path, 0, reason)


def codec_of(head: bytes) -> str:
    r"""Return the compression that the first bytes of a file identify; "" for none.

    >>> codec_of(b"\x1f\x8b\x08"), codec_of(b"k\tv")
    ('gzip', '')
    """
    return next((codec.name for codec in _CODECS if codec.begins(head)), "")


def is_compressed(head: bytes, path: str) -> bool:
    """Check whether a file that starts with `head` is read as compressed data.

    >>> is_compressed(b"k\tv", "a.log"), is_compressed(b"k\tv", "a.gz")
    (False, True)
    """
    return compression_of(path) is not None or codec_of(head) != ""


def _decompress(raw: _Input, codec: _Codec, chunk_bytes: int, path: str) -> Streams:
    """Yield each stream of the file (called a member in gzip, and a frame in zstd)."""
    while True:
        raw.begin_stream()
        yield _decompress_one(raw, codec, chunk_bytes, path)
        zeros = raw.skip_zeros() if codec.padding else 0
        head = raw.peek(_SNIFF_BYTES)
        if (zeros and zeros % codec.padding) or (head and not codec.begins(head)):
            raise StreamFault(f"the {codec.name} data is followed by something else")
        if not head:
            return


def _decompress_one(raw: _Input, codec: _Codec, chunk_bytes: int, path: str) -> Iterator[bytes]:
    decoder = codec.decoder()
    head = raw.peek(_WINDOW_HEADER_BYTES)
    window = codec.window(head)
    if codec.has_fields:
        _peek_gzip_header(raw)
    data_bytes = 0
    while not decoder.eof:
        data = raw.read() if decoder.needs_input else b""
        if decoder.needs_input and not data:
            raise StreamFault(f"the file ends in the middle of its {codec.name} data")
        try:
            chunk = decoder.decompress(data, chunk_bytes)
        except _DECODER_ERRORS as error:
            raise explain_decoder_error(codec.name, error, path, head) from None
        if chunk:
            data_bytes += len(chunk)
            yield chunk
            check_window(codec.name, window, data_bytes, path)
    raw.unread(decoder.unused_data)


def _peek_gzip_header(raw: _Input) -> None:
    """Buffer the entire header: isal fails if several fields are split between reads."""
    flags = raw.peek(4)[3:]
    if not flags or not flags[0] & _GZIP_FIELDS:
        return
    size = _GZIP_HEADER_BYTES
    while len(head := raw.peek(size)) == size and not _holds_gzip_header(head, flags[0]):
        if size >= _LONGEST_GZIP_HEADER:
            raise StreamFault(f"the header of its gzip data has more than {size:,} bytes")
        size *= 4


def _holds_gzip_header(head: bytes, flags: int) -> bool:
    end = 10
    if flags & _GZIP_EXTRA:
        end += 2 + int.from_bytes(head[10:12], "little")
    for flag in (_GZIP_NAME, _GZIP_COMMENT):
        if flags & flag:
            end = head.find(b"\0", end) + 1
            if not end:
                return False
    return end + 2 <= len(head)  # including its checksum
