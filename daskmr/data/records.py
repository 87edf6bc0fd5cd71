"""From a file to lines of text: open, decompress by content, split on newlines, decode.

What a file holds decides how it is read, not only its name. A file that is damaged, cut off or
followed by something else raises `CorruptFileError`: the end of the lines is the end of the data.
One that is whole and yet cannot be read as lines fails the job by `TaskFailed`: left out as damaged,
it would be lost in silence.
"""

from __future__ import annotations

import bz2
import codecs
import lzma
import math
import os
import shlex
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from typing import BinaryIO, Protocol, TypeAlias

import zstandard
from isal import igzip_lib

from daskmr import memory
from daskmr.data.sniffing import (
    HEAD_BYTES,
    LZMA_FORM,
    Form,
    form_of,
    is_bz2,
    is_lzma,
    is_zstd,
    recode_command,
    unpack_command,
)
from daskmr.errors import TaskFailed

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
_ZSTD_MAX_WINDOW = 1 << 31  # the largest that zstd makes
# What a decoder keeps of the data takes memory as it fills. Up to this much fits into any worker:
# `xz -9` asks for half of it, and `zstd -d` by itself reads no more.
_USUAL_WINDOW = 1 << 27
_SPARE_BYTES = 1 << 25  # left of a worker's memory when a window is found too large for it
_WINDOW_HEADER_BYTES = 64
_SNIFF_BYTES = 14
_GZIP_HEADER_BYTES = 1 << 13  # more than most have
_LONGEST_GZIP_HEADER = 1 << 25
_GZIP_EXTRA, _GZIP_NAME, _GZIP_COMMENT = 4, 8, 16
_GZIP_FIELDS = _GZIP_EXTRA | _GZIP_NAME | _GZIP_COMMENT | 2
_BOM = codecs.BOM_UTF8
_LZMA2 = 0x21  # the filter's number in xz

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
    surrogates (see `raw_bytes`). A ``\r`` before the ``\n`` stays. A byte order mark is left out at
    the start of the file, and at the start of each further stream (as `cat a.gz b.gz` makes them)
    that begins a line.

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
    TaskFailed
        When the data begins as an archive, a second compression, UTF-16 and the like do; and as
        `read_chunks` raises it.

    Examples
    --------
    >>> import io
    >>> list(read_lines(io.BytesIO(b"a\t1\n\nb\t2\r\nc")))
    [(['a\t1', '', 'b\t2\r'], True), (['c'], False)]
    """
    line = _OpenLine(max_record_bytes, max_text_bytes)
    for chunk in _chunks(source, chunk_bytes, read_bytes, opened, as_text=True):
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
    TaskFailed
        For data that is whole, and takes more memory than this worker has, or a dictionary, to be
        decompressed.
    OSError
        When the file cannot be opened or read; its ``filename`` is the path.

    Examples
    --------
    >>> import bz2, io
    >>> b"".join(read_chunks(io.BytesIO(bz2.compress(b"spam ") + bz2.compress(b"and eggs"))))
    b'spam and eggs'
    """
    return _chunks(source, chunk_bytes, read_bytes, opened, as_text=False)


def _chunks(
    source: Source,
    chunk_bytes: int,
    read_bytes: int,
    opened: Callable[[BinaryIO], object] | None,
    *,
    as_text: bool,
) -> Iterator[bytes]:
    if isinstance(source, (str, os.PathLike)):
        path = os.fspath(source)
        try:
            with open(path, "rb", buffering=0) as file:
                if opened is not None:
                    opened(file)
                yield from _read_stream(file, path, chunk_bytes, read_bytes, as_text)
        except OSError as error:
            error.filename = path  # a failing read does not say where
            raise
    else:
        name = str(getattr(source, "name", "the input"))
        yield from _read_stream(source, name, chunk_bytes, read_bytes, as_text)


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

    `padding` is the unit in which zero bytes may follow a stream; 0 is not at all. `window` tells
    from the first bytes of a stream how much of its data the decoder keeps. `has_fields` says that
    the header has no fixed size.
    """

    name: str
    begins: Callable[[bytes], bool]
    decoder: Callable[[], _Decoder]
    padding: int = 0
    window: Callable[[bytes], int] | None = None
    has_fields: bool = False


class _ZstdDecoder:
    """A zstd frame, with the limit on output that `zstandard` lacks."""

    def __init__(self) -> None:
        decompressor = zstandard.ZstdDecompressor(max_window_size=_ZSTD_MAX_WINDOW)
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
    except zstandard.ZstdError:  # the decoder says what is wrong
        return 0


def _lzma_window(head: bytes) -> int:
    return int.from_bytes(head[1:5], "little")


def _xz_window(head: bytes) -> int:
    """The dictionary of the first block, whose header follows the 12 bytes of that of the stream."""
    if len(head) < _WINDOW_HEADER_BYTES or not head[12]:  # there is no block, or a tiny one
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
    except StopIteration:  # more filters than this looks at
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
    window=_lzma_window,
)
_CODECS = (
    _Codec(
        "gzip",
        lambda head: head.startswith(b"\x1f\x8b"),
        lambda: igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP),  # checks the trailer too
        padding=1,
        has_fields=True,
    ),
    _Codec(
        "xz",
        lambda head: head.startswith(b"\xfd7zXZ\0"),
        lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ),
        padding=4,
        window=_xz_window,
    ),
    _Codec("bzip2", is_bz2, bz2.BZ2Decompressor),
    _Codec("zstd", is_zstd, _ZstdDecoder, window=_zstd_window),
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
    stream: _Readable, path: str, chunk_bytes: int, read_bytes: int, as_text: bool
) -> Iterator[bytes]:
    raw = _Input(stream, read_bytes)
    head = raw.peek(HEAD_BYTES)
    if not head:
        return
    codec = _sniff(head, path)
    if codec is None:
        streams = iter([iter(raw.read, b"")])
    else:
        streams = _decompress(raw, codec, chunk_bytes, path)
    chunks: Iterator[bytes] = chain.from_iterable(streams)
    if as_text:
        chunks = _text_chunks(streams, path, codec.name if codec else "")
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
    form = form_of(head)
    if _LZMA.begins(head) and form in (None, LZMA_FORM):
        return _LZMA
    if form is not None:
        raise _other_form(form, path, "")
    raise CorruptFileError(
        path, 0, "it does not look like gzip, xz, lzma, bzip2 or zstd, as its name says"
    )


def is_compressed(head: bytes, path: str) -> bool:
    """Tell whether a file that begins with `head` is read as compressed data.

    >>> is_compressed(b"k\tv", "a.log"), is_compressed(b"k\tv", "a.gz")
    (False, True)
    """
    named_so = path.lower().endswith(COMPRESSED_EXTENSIONS)
    return named_so or any(codec.begins(head) for codec in _CODECS)


def _decompress(
    raw: _Input, codec: _Codec, chunk_bytes: int, path: str
) -> Iterator[Iterator[bytes]]:
    """Every stream of the file (gzip says member, zstd says frame), one after the other."""
    while True:
        yield _decompress_one(raw, codec, chunk_bytes, path)
        zeros = raw.skip_zeros() if codec.padding else 0
        head = raw.peek(_SNIFF_BYTES)
        if (zeros and zeros % codec.padding) or (head and not codec.begins(head)):
            raise _Fault(f"the {codec.name} data is followed by something else")
        if not head:
            return


def _decompress_one(raw: _Input, codec: _Codec, chunk_bytes: int, path: str) -> Iterator[bytes]:
    decoder = codec.decoder()
    head = raw.peek(_WINDOW_HEADER_BYTES)
    window = codec.window(head) if codec.window is not None else 0
    if codec.has_fields:
        _peek_gzip_header(raw)
    data_bytes = 0
    while not decoder.eof:
        data = raw.read() if decoder.needs_input else b""
        if decoder.needs_input and not data:
            raise _Fault(f"the file ends in the middle of its {codec.name} data")
        try:
            chunk = decoder.decompress(data, chunk_bytes)
        except _DECODER_ERRORS as error:
            raise _explain_fault(codec.name, error, path, head) from None
        if chunk:
            data_bytes += len(chunk)
            yield chunk
            if window > _USUAL_WINDOW:
                _check_room(codec.name, window, data_bytes, path)
    raw.unread(decoder.unused_data)


def _peek_gzip_header(raw: _Input) -> None:
    """Have all of a header ahead; isal loses its place when several fields come in pieces."""
    flags = raw.peek(4)[3:]
    if not flags or not flags[0] & _GZIP_FIELDS:
        return
    size = _GZIP_HEADER_BYTES
    while len(head := raw.peek(size)) == size and not _holds_gzip_header(head, flags[0]):
        if size >= _LONGEST_GZIP_HEADER:
            raise _Fault(f"the header of its gzip data has more than {size:,} bytes")
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
    return end + 2 <= len(head)  # with its checksum


# --- what is whole, and yet cannot be read -------------------------------------------------------


def _text_chunks(streams: Iterator[Iterator[bytes]], path: str, codec: str) -> Iterator[bytes]:
    """Leave out byte order marks, and refuse what begins as no text does."""
    last, data_bytes = b"\n", 0
    for stream in streams:
        begins_line = last.endswith(b"\n")
        head = _gather(stream, HEAD_BYTES if begins_line else 1)
        if not head:
            continue
        if begins_line:
            form = form_of(head)
            if form is not None:
                raise _other_form(form, path, codec, data_bytes)
            while head.startswith(_BOM):
                head = head[len(_BOM) :]
        for chunk in chain([head] if head else [], stream):
            last = chunk
            data_bytes += len(chunk)
            yield chunk


def _gather(chunks: Iterator[bytes], size: int) -> bytes:
    """Take chunks until there are `size` bytes, or no more."""
    head = b""
    for chunk in chunks:
        head += chunk
        if len(head) >= size:
            break
    return head


def _other_form(form: Form, path: str, codec: str, data_bytes: int = 0) -> TaskFailed:
    if data_bytes:  # another command would be needed for each of the streams
        return TaskFailed(
            f"The input file {path} holds several streams of {codec} data. After {data_bytes:,} bytes "
            f"of lines there is {form.name}. Nothing was written. Replace it with the files that it "
            "was put together from, each as text in UTF-8, compressed once at most."
        )
    command = unpack_command(form, path, codec)
    decompressed = f", decompressed from {codec}," if codec else ""
    if form.extract:
        advice = "Unpack it, and put the files that it holds where the layout wants them"
    elif form.recode:
        advice = "Replace it with " + (
            "the file that this makes" if command else "text in UTF-8, compressed once at most"
        )
    else:
        advice = "Write its content as such lines, or take it out of the input"
    return TaskFailed(
        f"The input file {path}{decompressed} is {form.name}, not lines of key, tab, value. "
        f"Nothing was written. {advice}{_last_line(command)}"
    )


def _explain_fault(codec: str, error: Exception, path: str, head: bytes) -> Exception:
    """Tell what is damaged from what is not, and yet cannot be decompressed here."""
    reason = str(error)
    if "not enough memory" in reason:
        return MemoryError(reason)
    if "Dictionary mismatch" in reason:
        number = zstandard.get_frame_parameters(head).dict_id
        return _refused(
            path,
            f"was compressed with the zstd dictionary {number}, without which it cannot be "
            "decompressed. Replace it with the file that this makes, given the dictionary",
            f"zstd -dc -D DICTIONARY < {shlex.quote(path)} | zstd > "
            f"{shlex.quote(os.path.basename(path) + '.new')}",
        )
    if "too much memory" in reason:
        reason = f"its window is larger than {_ZSTD_MAX_WINDOW >> 30} GiB, the largest there is"
    unsupported = "nsupported options" in reason or "not supported by decoder" in reason
    if unsupported and codec == "lzma":  # no version of xz has more of this old format
        return _refused(
            path,
            "has lzma data with settings that liblzma does not know, as lc + lp above 4. Unpack it with "
            "the program that made it, or 7-Zip, and put what it holds in its place",
            "",
        )
    if unsupported:
        return _refused(
            path,
            f"has {codec} data whose header asks for filters or settings that the liblzma of this "
            "machine does not know. Replace it with the file that this makes with a newer xz",
            recode_command(path, codec),
        )
    return _Fault(f"the {codec} data is not valid ({reason})")


def _check_room(codec: str, window: int, data_bytes: int, path: str) -> None:
    """Refuse a window that is filling the memory of a worker, before its process is ended for it."""
    room = memory.room()
    if room is None or room > _SPARE_BYTES or data_bytes < _USUAL_WINDOW or data_bytes > window:
        return
    wanted = math.ceil((window + memory.resident() - data_bytes + _USUAL_WINDOW) / 9e7) * 10**8
    raise _refused(
        path,
        f"is not damaged, but needs more memory than a worker may take: its {codec} data has a window of "
        f"{memory.describe_size(window)}, and the limit is "
        f"{memory.describe_size(memory.limit() or 0)}. Raise --memory-limit to "
        f"{memory.describe_size(wanted)} or more, with fewer --num-mappers if the machine has no "
        "more; or replace it with the file that this makes, whose window has the usual size",
        recode_command(path, codec),
    )


def _refused(path: str, what: str, command: str) -> TaskFailed:
    line = _last_line("" if "://" in path else command)
    return TaskFailed(f"The input file {path} {what}{line}")


def _last_line(command: str) -> str:
    return f":\n{command}" if command else "."
