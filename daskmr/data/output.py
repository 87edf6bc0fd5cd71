"""The one output: parts merged in key order, encoded, compressed, and put in place whole or not at all."""

from __future__ import annotations

import base64
import bz2
import codecs
import contextlib
import errno
import hashlib
import json
import lzma
import os
import re
import stat
import sys
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, Protocol

from daskmr.data.bad_records import BadRecord
from daskmr.data.parts import Block, Part, comparable, read_blocks
from daskmr.errors import InputError, JobError
from daskmr.files import AtomicFile, take_access
from daskmr.normal_forms import hint
from daskmr.text import mask_credentials
from daskmr.workdir import NOTHING_REPLACED, disk_error

if TYPE_CHECKING:
    from daskmr.store.source import Source
    from daskmr.store.store import Store

__all__ = [
    "OutputFile",
    "StoreOutput",
    "beside",
    "encode",
    "merge_parts",
    "open_output",
    "write_bad_records",
]

_SURROGATES = "daskmr.surrogates"


def _restore_surrogates(error: UnicodeError) -> tuple[bytes, int]:
    """Encode what UTF-8 does not: a byte that was kept by surrogateescape, a lone surrogate."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    data = bytearray()
    for character in error.object[error.start : error.end]:
        code = ord(character)
        if 0xDC80 <= code <= 0xDCFF:
            data.append(code - 0xDC00)
        else:
            data += character.encode("utf-8", "surrogatepass")
    return bytes(data), error.end


codecs.register_error(_SURROGATES, _restore_surrogates)


def encode(text: str) -> bytes:
    r"""Encode as UTF-8; bytes that were not UTF-8 in the input come out as they were.

    >>> encode("\udcff\u00e9")
    b'\xff\xc3\xa9'
    >>> encode("\ud800")
    b'\xed\xa0\x80'
    """
    return text.encode("utf-8", _SURROGATES)


def merge_parts(parts: Sequence[Part]) -> Iterator[list[Any]]:
    """Give what all `parts` wrote, in key order (map-only: in the order of the parts), in batches.

    Parameters
    ----------
    parts : sequence of Part
        Each sorted by key; no key is in two of them.
    """
    if len(parts) == 1 or not any(part.kinds for part in parts):
        for part in parts:
            for _, written in read_blocks(part, direct=True):
                yield written
        return
    direct = comparable(list(parts))
    yield from _merge_sorted([read_blocks(part, direct) for part in parts])


def _merge_sorted(streams: Iterable[Iterator[Block]]) -> Iterator[list[Any]]:
    """Merge streams of sorted blocks by what is certain: all up to the smallest last key in sight.

    Sorting a few sorted pieces at once is far quicker than comparing the heads of all streams for
    each key, since `list.sort` finds and merges the pieces in C.
    """
    cursors = [cursor for cursor in map(_Cursor, streams) if cursor.keys]
    while cursors:
        bound = min(cursor.keys[-1] for cursor in cursors)
        pieces = [piece for cursor in cursors if (piece := cursor.take(bound))[0]]
        if len(pieces) == 1:
            yield pieces[0][1]
        else:
            pairs = [pair for keys, written in pieces for pair in zip(keys, written, strict=True)]
            pairs.sort(key=itemgetter(0))
            yield [written for _, written in pairs]
        cursors = [cursor for cursor in cursors if cursor.keys]


class _Cursor:
    """Where one stream of blocks stands."""

    def __init__(self, blocks: Iterator[Block]) -> None:
        self._blocks = blocks
        self.keys: list[Any] = []
        self._written: list[Any] = []
        self._taken = 0
        self._next()

    def _next(self) -> None:
        keys, self._written = next(self._blocks, ([], []))
        self.keys = keys or []
        self._taken = 0

    def take(self, bound: Any) -> tuple[list[Any], list[Any]]:
        """Take the keys up to `bound` that are left of the block, with what they wrote."""
        keys, written, start = self.keys, self._written, self._taken
        if keys[-1] <= bound:
            self._next()
            return (keys[start:], written[start:]) if start else (keys, written)
        end = self._taken = bisect_right(keys, bound, start)
        return keys[start:end], written[start:end]


_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def _resolve(target: str) -> str:
    """Follow links to a file that can be replaced; what is a stream keeps the name it has."""
    if target == "-":
        return target
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(target).st_mode):
            return os.path.abspath(target)
    return os.path.realpath(target)


class _Compressor(Protocol):
    """The part of a file that writing needs."""

    def write(self, data: bytes, /) -> Any: ...
    def close(self) -> Any: ...


def _compressor(name: str, raw: Any) -> _Compressor | None:
    """Wrap `raw` as the ending of `name` says; nothing in the stream depends on the time or name."""
    ending = os.path.splitext(name)[1].lower()
    if ending == ".gz":
        from isal import igzip

        file: _Compressor = igzip.IGzipFile(  # type: ignore[no-untyped-call]
            filename="", mode="wb", fileobj=raw, mtime=0
        )
        return file
    if ending == ".bz2":
        return bz2.BZ2File(raw, "wb")
    if ending == ".xz":
        return lzma.LZMAFile(raw, "wb")
    if ending == ".zst":
        import zstandard

        return zstandard.ZstdCompressor(level=3, write_checksum=True).stream_writer(
            raw, closefd=False
        )
    return None


class _Hashing:
    """A file that knows the digest of what was written to it."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._digest = hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._file.write(data)

    def hexdigest(self) -> str:
        return self._digest.hexdigest()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


class OutputFile:
    """The output: a temporary file beside the target that replaces it at the very end.

    Parameters
    ----------
    target : str
        Path of the output; ``"-"`` is standard output. A link is followed; what is not a regular
        file (a pipe, ``/dev/null``) is written straight.
    run_id : str
        Makes the temporary name unique.
    stdout : file, optional
        Where ``"-"`` goes, binary.
    hashed : bool
        Compute the digest of a file as it is written.
    like : os.stat_result, optional
        Of a file whose group and permissions this one gets. Those of the file that it replaces
        count as well: what may not be read there may not be read here.

    Attributes
    ----------
    access : os.stat_result or None
        Of the temporary file, once it is closed.
    state : str
        What is to be said of the output when writing fails.

    Raises
    ------
    InputError
        When the folder is missing or cannot be written, or the target is a folder.
    """

    def __init__(
        self,
        target: str,
        run_id: str,
        stdout: IO[bytes] | None = None,
        *,
        hashed: bool = False,
        like: os.stat_result | None = None,
    ) -> None:
        if target in _STDOUT:
            target = "-"
        self.name = target
        self.path = _resolve(target)
        self._atomic: AtomicFile | None = None
        self.bytes = 0
        self.access: os.stat_result | None = None
        self.state = NOTHING_REPLACED
        self._like = like
        self._escape = False
        if target == "-":
            self._file = stdout or sys.stdout.buffer
            self._escape = self._file.isatty()
        else:
            self._file = self._open(run_id)
        self._hashing = _Hashing(self._file) if hashed and self.temporary is not None else None
        self._raw: Any = self._hashing or self._file
        self._compressor = _compressor(target, self._raw)

    def _open(self, run_id: str) -> IO[bytes]:
        folder = os.path.dirname(self.path)
        advice = "Name another one with --output."
        try:
            before = os.stat(self.path)
        except (FileNotFoundError, NotADirectoryError):
            before = None
        except OSError as error:
            raise InputError(f"The output {self.name!r}: {error.strerror}. {advice}") from None
        if before is not None and stat.S_ISDIR(before.st_mode):
            raise InputError(f"The output {self.name!r} is a directory. {advice}")
        if not os.path.isdir(folder):
            raise InputError(
                f"The output's directory {folder!r} does not exist. Make it first.{hint(folder)}"
            )
        try:
            if before is not None and not stat.S_ISREG(before.st_mode):
                return open(self.path, "wb")
            mode = 0o666 if before is None is self._like else 0o600
            self._atomic = AtomicFile(self.path, run_id, mode)
        except OSError as error:
            raise InputError(
                f"The output cannot be written to {folder!r} ({error.strerror}). {advice}"
            ) from None
        self._take_access(self._atomic.file)
        return self._atomic.file

    def _take_access(self, file: IO[bytes]) -> None:
        """Have the group and permissions of what is replaced, as they are now."""
        patterns = [] if self._like is None else [self._like]
        with contextlib.suppress(OSError):
            patterns.append(os.stat(self.path))
        take_access(file.fileno(), patterns)

    def write(self, text: str) -> None:
        """Append `text`.

        Raises
        ------
        JobError
            When the disk is full or fails, with the path and the free space.
        """
        data = encode(text)
        if self._escape:  # a lone surrogate would garble a terminal
            data = text.encode("utf-8", "backslashreplace")
        try:
            (self._compressor or self._raw).write(data)
        except OSError as error:
            failure = error
        else:
            return
        raise self._failure(failure)

    def _failure(self, error: OSError) -> JobError:
        if self.name == "-" and error.errno in (errno.EPIPE, errno.EBADF):
            return JobError("Standard output was closed before the result was written whole.")
        return disk_error(error, self.temporary or self.path, "the output", self.state)

    def close(self) -> None:
        """Bring all that was written to the disk; nothing is in place yet."""
        try:
            if self._compressor is not None:
                self._compressor.close()
                self._compressor = None
            self._file.flush()
            if self._atomic is not None:
                self._atomic.sync()
                self._take_access(self._file)
                self.access = os.fstat(self._file.fileno())
                self.bytes = self.access.st_size
            elif self.name != "-":  # else it stays open, and so locked, until it is in its place
                self._file.close()
        except OSError as error:
            failure = error
        else:
            return
        raise self._failure(failure)

    @property
    def sha256(self) -> str | None:
        """Digest of what was written, in hex, where it was asked for."""
        return None if self._hashing is None else self._hashing.hexdigest()

    @property
    def temporary(self) -> str | None:
        """Where it is until it is committed; ``None`` for a stream."""
        return None if self._atomic is None else self._atomic.temporary

    @property
    def is_file(self) -> bool:
        """Whether it is a file, beside which there may be others."""
        return self.temporary is not None

    @property
    def has_companions(self) -> bool:
        """Whether something may say beside it where it is from."""
        return self.is_file

    def publish(self) -> None:
        """Bring it to where it is put in place, which may take long and be interrupted."""

    def commit(self) -> None:
        """Put the output in place of an earlier one, in one step."""
        if self._atomic is None:
            return
        try:
            self._atomic.commit()
        except OSError as error:
            failure = error
        else:
            self._atomic = None
            return
        raise disk_error(failure, self.path, "the output", self.state)

    def discard(self) -> None:
        """Remove what was written, where it was not committed."""
        if self.name != "-":
            with contextlib.suppress(OSError, ValueError):
                if self._compressor is not None:
                    self._compressor.close()
        if self._atomic is not None:
            self._atomic.discard()
            self._atomic = None
        if self.name != "-":
            with contextlib.suppress(OSError):
                self._file.close()


class StoreOutput(OutputFile):
    """An output that becomes one object of a store, once it is complete.

    Parameters
    ----------
    url : str
        Of the object, as fsspec knows it.
    source : Source
        The bucket or folder that it will be in.
    folder : str
        Where it is kept until then.
    run_id : str
        Makes the temporary name unique.
    retries : int
        How often a request is tried again.

    Attributes
    ----------
    source, key : Source, str
        Where it will be.

    Raises
    ------
    InputError
        When there is no such bucket, or it refuses.
    """

    def __init__(
        self,
        url: str,
        source: Source,
        folder: str,
        run_id: str,
        retries: int,
        *,
        hashed: bool = False,
    ) -> None:
        self.source = source
        self._retries = retries
        self.key = url.rpartition("/")[2]
        with self._store() as store:
            store.check()
        super().__init__(
            os.path.join(folder, "output" + os.path.splitext(self.key)[1].lower()),
            run_id,
            hashed=hashed,
        )
        self.name = url

    def _store(self) -> Store:
        from daskmr.store.store import Store

        return Store(self.source, self._retries)

    @property
    def is_file(self) -> bool:
        """There is no file beside it."""
        return False

    @property
    def has_companions(self) -> bool:
        """Another object may stand beside it."""
        return True

    def publish(self) -> None:
        """Upload it; the object appears whole or not at all."""
        assert self.temporary is not None
        with self._store() as store:
            store.write_object(self.key, self.temporary)

    def commit(self) -> None:
        """Remove what is left here."""
        self.discard()

    def begins_beside(self, suffix: str, length: int) -> bytes | None:
        """Read the beginning of the object whose name is this one's and `suffix`, if it is there."""
        name = self.key + suffix
        with self._store() as store:
            for entries in store.list("", name):
                for entry in entries:
                    if entry.name == name and not entry.is_dir:
                        length = min(length, entry.size)
                        return store.read(name, 0, length) if length else b""
        return None

    def remove_beside(self, suffix: str) -> None:
        """Remove the object whose name is this one's and `suffix`."""
        with self._store() as store:
            store.delete([self.key + suffix])

    def put_beside(self, suffix: str, local: str) -> None:
        """Upload a file to that name."""
        with self._store() as store:
            store.write_object(self.key + suffix, local)


def open_output(
    target: str,
    run_id: str,
    stdout: IO[bytes] | None,
    folder: str,
    reach: Callable[[str], Source],
    retries: int,
    *,
    hashed: bool = False,
) -> OutputFile:
    """Open an output by its name: a path, ``"-"``, or the URL of an object.

    Parameters
    ----------
    target : str
    run_id, stdout
        As for `OutputFile`.
    folder : str
        Where what becomes an object is kept until it is complete.
    reach : callable
        Gives the source of a URL.
    retries : int
        How often a request is tried again.
    hashed : bool
        Compute the digest of a file, or of an object, as it is written.
    """
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)", target) and not os.path.exists(
        os.path.dirname(target)
    ):
        raise InputError(
            f"The output {target!r} is neither a URL nor in a directory that is there. A URL has two "
            f"slashes: {target.replace(':/', '://', 1)}"
        )
    if "://" not in target:
        return OutputFile(target, run_id, stdout, hashed=hashed)
    place, _, key = target.rpartition("/")
    if not key or place.endswith("/"):
        raise InputError(
            f"The output {mask_credentials(target)!r} names no object. Give one, as s3://BUCKET/result.txt."
        )
    try:
        return StoreOutput(target, reach(place), folder, run_id, retries, hashed=hashed)
    except InputError as error:
        reason = str(error)
    raise InputError(f"The output {mask_credentials(target)!r} cannot be used: {reason}")


def beside(path: str, suffix: str) -> str:
    """Name a file beside `path`, `path` and `suffix` in short where that is too long a name.

    >>> beside("out/counts.txt", ".bad.jsonl")
    'out/counts.txt.bad.jsonl'
    """
    folder, name = os.path.split(path)
    while len(os.fsencode(name)) > 255 - len(os.fsencode(suffix)):
        name = name[:-1]
    return os.path.join(folder, name + suffix)


def write_bad_records(
    path: str, run_id: str, records: Sequence[BadRecord], like: os.stat_result | None = None
) -> OutputFile:
    """Write bad records as JSON lines, ready to be committed.

    Each line holds ``file``, ``line``, ``reason``, ``exception`` and ``raw`` (the bytes, in base64).
    """
    file = OutputFile(path, run_id, like=like)
    try:
        for record in records:
            line = {
                "file": record.file,
                "line": record.line,
                "reason": record.reason,
                "exception": record.detail,
                "raw": base64.b64encode(record.raw).decode("ascii"),
            }
            file.write(json.dumps(line) + "\n")
        file.close()
    except BaseException:
        file.discard()
        raise
    return file
