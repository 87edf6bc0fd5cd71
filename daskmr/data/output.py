"""The output of a run: written to a temporary file, which replaces the target atomically."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import stat
import sys
from collections.abc import Callable
from itertools import chain
from typing import IO, TYPE_CHECKING, Any

from daskmr.data.writers.compression import compressor_for
from daskmr.data.writers.encoding import encode, encode_for_terminal
from daskmr.errors import InputError, JobError
from daskmr.files import AtomicFile, take_access
from daskmr.normal_forms import hint
from daskmr.text import mask_credentials
from daskmr.workdir import NOTHING_REPLACED, disk_error

if TYPE_CHECKING:
    from daskmr.store.source import Entry, Source
    from daskmr.store.store import Store

__all__ = ["OutputFile", "StoreOutput", "beside", "is_stream", "open_output", "refuse_one_slash"]


_STDOUT = ("/dev/stdout", "/dev/fd/1", "/proc/self/fd/1")


def _resolve(target: str) -> str:
    """Resolve links to a regular file, which is going to be replaced; do not resolve a stream."""
    if target == "-":
        return target
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(target).st_mode):
            return os.path.abspath(target)
    return os.path.realpath(target)


class _Hashing:
    """A file that computes the digest of the data written to it."""

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
    """A temporary file next to the target, which `commit` replaces.

    - `target`: path of the output; ``"-"`` is standard output. Links are followed; a pipe or
      ``/dev/null`` is written to directly.
    - `run_id`: makes the temporary name unique.
    - `stdout`: a binary stream for ``"-"``.
    - `hashed`: compute the digest of a file while writing it.
    - `like`: status of a file whose group and permissions to copy; the result never grants more
      than the replaced file does.
    - `access`: status of the temporary file, once it is closed.
    - `state`: a sentence about the output for messages about failed writes.
    - `compressed_as`: a name whose suffix selects the compression, in place of `target`.
    Raises `InputError` if the folder is missing or not writable, or the target is a folder.
    """

    def __init__(
        self,
        target: str,
        run_id: str,
        stdout: IO[bytes] | None = None,
        *,
        hashed: bool = False,
        like: os.stat_result | None = None,
        compressed_as: str | None = None,
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
        self._encode = encode
        if target == "-":
            self._file = stdout or sys.stdout.buffer
            if self._file.isatty():
                self._encode = encode_for_terminal
        else:
            self._file = self._open(run_id)
        self._hashing = _Hashing(self._file) if hashed and self.temporary is not None else None
        self._raw: Any = self._hashing or self._file
        self._compressor = compressor_for(compressed_as or target, self._raw)

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
            raise InputError(
                f"The output {self.name!r} is a directory. {advice} A name that ends in / is that of "
                "a directory of parts, which is replaced as a whole."
            )
        if not os.path.isdir(folder):
            raise InputError(
                f"The output's directory {folder!r} does not exist. Create it first.{hint(folder)}"
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
        """Copy the current group and permissions of the file to be replaced."""
        patterns = [] if self._like is None else [self._like]
        with contextlib.suppress(OSError):
            patterns.append(os.stat(self.path))
        take_access(file.fileno(), patterns)

    def write(self, text: str) -> None:
        """Append `text`; raise JobError, with the free space, if the disk is full or fails."""
        self.write_bytes(self._encode(text))

    def write_bytes(self, data: bytes) -> None:
        """Append `data`; see `write`."""
        try:
            (self._compressor or self._raw).write(data)
        except OSError as error:
            raise self._failure(error) from None

    def _failure(self, error: OSError) -> JobError:
        if self.name == "-" and error.errno in (errno.EPIPE, errno.EBADF):
            return JobError("Standard output was closed before the entire result was written.")
        return disk_error(error, self.temporary or self.path, "the output", self.state)

    def close(self) -> None:
        """Flush everything to disk; the target remains unchanged until `commit`."""
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
            elif self.name != "-":  # a temporary file stays open, to keep its lock, until `commit`
                self._file.close()
        except OSError as error:
            raise self._failure(error) from None

    @property
    def is_terminal(self) -> bool:
        """Whether it is a terminal, which a binary format would garble."""
        return self.temporary is None and self._file.isatty()

    @property
    def sha256(self) -> str | None:
        """The digest of a file, if it is `hashed`."""
        return None if self._hashing is None else self._hashing.hexdigest()

    @property
    def temporary(self) -> str | None:
        """The path of the temporary file; ``None`` for a stream."""
        return None if self._atomic is None else self._atomic.temporary

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, so that sidecar files can be written next to it."""
        return self.temporary is not None

    @property
    def has_companions(self) -> bool:
        """Whether its provenance can be written next to it."""
        return self.is_file

    def named(self, name: str, run_id: str) -> OutputFile:
        """Open another output beside this one, which is closed, with the same access and compression."""
        return OutputFile(
            beside(self.name, f".{name}"),
            run_id,
            hashed=self._hashing is not None,
            like=self.access,
            compressed_as=self.name,
        )

    def publish(self) -> None:
        """Upload it if its target is in a store; this may take long and can be interrupted."""

    def commit(self) -> None:
        if self._atomic is None:
            return
        try:
            self._atomic.commit()
        except OSError as error:
            raise disk_error(error, self.path, "the output", self.state) from None
        self._atomic = None

    def discard(self) -> None:
        if self._compressor is not None:
            with contextlib.suppress(OSError, ValueError):
                self._compressor.close()
        if self._atomic is not None:
            self._atomic.discard()
            self._atomic = None
        if self.name != "-":
            with contextlib.suppress(OSError):
                self._file.close()


class StoreOutput(OutputFile):
    """An output that is written to `folder` and, when complete, uploaded to `url` in `source`.

    See `OutputFile` for the other parameters. Raises InputError if the bucket does not exist or
    denies access.
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
        compressed_as: str | None = None,
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
            compressed_as=compressed_as,
        )
        self.name = url

    def _store(self) -> Store:
        from daskmr.store.store import Store

        return Store(self.source, self._retries)

    @property
    def is_file(self) -> bool:
        """False: sidecar files are objects too."""
        return False

    @property
    def has_companions(self) -> bool:
        """True: its provenance is another object."""
        return True

    def named(self, name: str, run_id: str) -> OutputFile:
        return StoreOutput(
            beside(self.name, f".{name}"),
            self.source,
            os.path.dirname(self.path),
            run_id,
            self._retries,
            hashed=self._hashing is not None,
            compressed_as=self.name,
        )

    def publish(self) -> None:
        """Upload it; the object appears atomically."""
        assert self.temporary is not None
        with self._store() as store:
            store.write_object(self.key, self.temporary)

    def commit(self) -> None:
        self.discard()

    def begins_beside(self, suffix: str, length: int) -> bytes | None:
        """Read the first `length` bytes of the object named like this one plus `suffix`, if any."""
        entry = self._entry_beside(suffix)
        if entry is None:
            return None
        with self._store() as store:
            length = min(length, entry.size)
            return store.read(entry.name, 0, length) if length else b""

    def size_beside(self, suffix: str) -> int | None:
        """Return the size of the object named like this one plus `suffix`, if any."""
        entry = self._entry_beside(suffix)
        return None if entry is None else entry.size

    def _entry_beside(self, suffix: str) -> Entry | None:
        name = self.key + suffix
        with self._store() as store:
            entries = chain.from_iterable(store.list("", name))
            return next((e for e in entries if e.name == name and not e.is_dir), None)

    def remove_beside(self, suffix: str) -> None:
        with self._store() as store:
            store.delete([self.key + suffix])

    def put_beside(self, suffix: str, local: str) -> None:
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

    `reach` returns the source of a URL; see `OutputFile` and `StoreOutput` for the other
    parameters.
    """
    refuse_one_slash(target)
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
        raise InputError(
            f"The output {mask_credentials(target)!r} cannot be used: {error}"
        ) from None


def is_stream(target: str) -> bool:
    """Check whether an output is standard output, a pipe or a device, so that no file is beside it.

    `/dev/null` is none, because it takes everything.
    """
    if target == "-" or target in _STDOUT:
        return True
    is_name = "://" in target or target.endswith("/") or target == os.devnull
    is_kept = os.path.isfile(target) or os.path.isdir(target)
    return not is_name and os.path.exists(target) and not is_kept


def refuse_one_slash(target: str) -> None:
    """Raise InputError for a URL that has lost a slash."""
    if re.match(r"[A-Za-z][A-Za-z0-9+.-]+:/(?!/)", target) and not os.path.exists(
        os.path.dirname(target.rstrip("/"))
    ):
        raise InputError(
            f"The output {target!r} is neither a URL nor in an existing directory. A URL has two "
            f"slashes: {target.replace(':/', '://', 1)}"
        )


def beside(path: str, suffix: str) -> str:
    """Return `path` with a suffix; the name is truncated if it is too long for a file system.

    What belongs to an output directory is in it, under a name that readers of data skip.

    >>> beside("out/counts.txt", ".bad.jsonl"), beside("out/", ".bad.jsonl")
    ('out/counts.txt.bad.jsonl', 'out/_bad.jsonl')
    """
    folder, name = os.path.split(path)
    if not name:
        return os.path.join(folder, "_" + suffix[1:])
    while len(os.fsencode(name)) > 255 - len(os.fsencode(suffix)):
        name = name[:-1]
    return os.path.join(folder, name + suffix)
