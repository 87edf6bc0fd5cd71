"""Access any fsspec file system, with the same checks as for S3 if the file system supports them."""

from __future__ import annotations

import asyncio
import base64
import errno
import os
import re
import shutil
import socket
import ssl
import threading
from collections.abc import AsyncIterator
from concurrent.futures import Future
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from functools import cached_property
from typing import Any

import fsspec

from daskmr.files import AtomicFile
from daskmr.normal_forms import hint
from daskmr.store.download import Expected, Transfer
from daskmr.store.retry import RetryPolicy
from daskmr.store.source import (
    ChangedObject,
    Entry,
    MissingObject,
    Page,
    Source,
    StoreError,
    TransientError,
    join,
    missing_package,
)
from daskmr.text import printable

__all__ = ["Filesystem"]

_READ_BYTES = 1 << 20
_REMEDY = "Check the address and the network: fetched files are kept."
_ABSENT = (404, 410)  # HTTP statuses
_CALLER_ERRORS = (
    ArithmeticError, AssertionError, AttributeError, LookupError, NameError, RuntimeError, TypeError,
    ValueError,
)  # fmt: skip
_UNREACHABLE = frozenset({errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EADDRNOTAVAIL})


class Filesystem:
    """The backend for a folder of an fsspec file system; runs its blocking calls in threads."""

    ordered = True  # there is only one page, which is sorted here

    def __init__(self, source: Source) -> None:
        self.source = source
        self._url = source.url_of

    @cached_property
    def _fs(self) -> Any:
        return fsspec.filesystem(
            self.source.protocol,
            skip_instance_cache=True,
            use_listings_cache=False,
            **dict(self.source.options),
        )

    async def _call(self, path: str, function: Any, *arguments: Any) -> Any:
        """Call a blocking function in another thread; `path` is for messages."""
        try:
            return await _in_thread(function, *arguments)
        except ImportError as error:  # creating the file system may import packages
            source = self.source
            raise StoreError(missing_package(source.protocol, source.url, error)) from None
        except Exception as error:
            raise _explain(error, self._url(path)) from None

    def _full(self, path: str) -> str:
        return join(self.source.root, path)

    async def warm_up(self) -> None:
        """Do nothing: there is nothing to set up."""

    async def close(self) -> None:
        """Do nothing: no connection stays open."""

    async def check(self) -> None:
        await self._call("", self._check)

    def _check(self) -> None:
        try:
            info = self._fs.info(self.source.root)
        except FileNotFoundError as error:
            if not _is_absence(error):
                raise
            advice = hint(self.source.root) if self.source.protocol == "file" else ""
            raise MissingObject(
                f"{self.source.url} does not exist: check the address.{advice}"
            ) from None
        if info["type"] != "directory":
            raise StoreError(f"{self.source.url} is not a folder; give the folder of the files.")

    async def page(
        self, prefix: str, name_prefix: str = "", start: str = "", token: str | None = None
    ) -> Page:
        entries = await self._call(prefix, self._entries, prefix)
        return Page([e for e in entries if e.name.startswith(name_prefix) and e.name > start], None)

    def _entries(self, prefix: str) -> list[Entry]:
        folder = self._full(prefix).rstrip("/")
        try:
            found = self._fs.ls(folder, detail=True, refresh=True)
        except (FileNotFoundError, NotADirectoryError) as error:
            if not _is_absence(error):
                raise
            return []
        entries = (self._entry(info, folder) for info in found)
        return sorted((e for e in entries if e is not None), key=lambda e: os.fsencode(e.name))

    def _entry(self, info: dict[str, Any], folder: str) -> Entry | None:
        path = info["name"].rstrip("/")
        if info.get("islink"):
            with suppress(FileNotFoundError):  # a dangling link is neither a file nor a directory
                info = self._fs.info(path)
        name = "" if path == folder else path.rpartition("/")[2]
        if info["type"] == "directory":
            return Entry(name, True)
        if info["type"] != "file" or info["size"] is None:
            return None  # a device or a socket, or a web page of unknown size
        return Entry(name, False, info["size"], _version(info), _mtime(info))

    @asynccontextmanager
    async def transfer(
        self, path: str, etag: str | None, size: int, offset: int, exact: bool
    ) -> AsyncIterator[Transfer]:
        """Open an object and read it from the start; `offset` is always 0."""
        info = await self._call(path, self._fs.info, self._full(path))
        self._check_version(path, info, etag, size)
        file = await self._call(path, self._fs.open, self._full(path), "rb")
        try:
            yield Transfer(self._pieces(path, etag, size, file), Expected(size, _md5(info)))
        finally:
            await self._call(path, file.close)

    async def _pieces(
        self, path: str, etag: str | None, size: int, file: Any
    ) -> AsyncIterator[bytes]:
        while data := await self._call(path, file.read, _READ_BYTES):
            yield data
        info = await self._call(path, self._fs.info, self._full(path))
        self._check_version(path, info, etag, size)

    def _check_version(self, path: str, info: dict[str, Any], etag: str | None, size: int) -> None:
        if info["type"] != "file":
            raise MissingObject(f"{self._url(path)} is no longer a file. List it again.")
        if info["size"] != size or (etag is not None and _version(info) != etag):
            raise ChangedObject(
                f"{self._url(path)} changed after it was listed. Run the job again when nothing "
                "writes there."
            )

    async def read(self, path: str, offset: int, length: int) -> bytes:
        full, end = self._full(path), offset + length
        call = self._call(path, lambda: self._fs.cat_file(full, start=offset, end=end))
        data: bytes = await call
        if len(data) != length:
            raise TransientError(f"{len(data)} bytes arrived instead of {length}")
        return data

    async def delete(self, paths: list[str]) -> None:
        for path in paths:
            await self._call(path, self._delete, path)

    def _delete(self, path: str) -> None:
        with suppress(FileNotFoundError):
            self._fs.rm_file(self._full(path))

    async def write(self, path: str, local: str, retry: RetryPolicy) -> None:
        what = f"{self._url(path)} cannot be written"
        await retry(lambda: self._call(path, self._write, path, local), what)

    async def copy(self, path: str, target: str, size: int, retry: RetryPolicy) -> None:
        what, full = (
            f"{self._url(target)} cannot be written",
            (self._full(path), self._full(target)),
        )
        await retry(lambda: self._call(path, self._copy, *full), what)

    def _copy(self, path: str, target: str) -> None:
        try:
            self._fs.cp_file(path, target)
        except NotImplementedError:  # as of FTP
            with self._fs.open(path, "rb") as source, self._fs.open(target, "wb") as to:
                shutil.copyfileobj(source, to, _READ_BYTES)

    def _write(self, path: str, local: str) -> None:
        full = self._full(path)
        if "/" in path:  # the source exists, but folders below it may not
            self._fs.makedirs(full.rpartition("/")[0], exist_ok=True)
        if self.source.protocol == "file":
            # At its end, fsspec's transaction may copy the file to another disk.
            with AtomicFile(full, sweep_dead=False) as file, open(local, "rb") as source:
                shutil.copyfileobj(source, file.file)
                file.sync()
                file.commit()
        else:
            with self._fs.transaction, open(local, "rb") as source, self._fs.open(full, "wb") as to:
                while data := source.read(_READ_BYTES):
                    to.write(data)
        written, size = self._fs.info(full)["size"], os.path.getsize(local)
        if written != size:
            raise TransientError(f"{written} of {size} bytes arrived")


async def _in_thread(function: Any, *arguments: Any) -> Any:
    """Call a blocking function in a daemon thread.

    A file system may wait forever for a host that never answers; this must not block the exit.
    """
    future: Future[Any] = Future()
    future.set_running_or_notify_cancel()  # from now on it cannot be cancelled, only abandoned

    def work() -> None:
        try:
            result = function(*arguments)
        except BaseException as error:
            future.set_exception(error)
        else:
            future.set_result(result)

    threading.Thread(target=work, name="daskmr file system", daemon=True).start()
    return await asyncio.wrap_future(future)


def _md5(info: dict[str, Any]) -> str | None:
    """Return the MD5 as hex digits, if the store has one; Google and Azure return it in base64."""
    settings = info.get("content_settings") or {}
    encoded = info.get("md5Hash") or settings.get("content_md5")
    if not encoded:
        return None
    return (encoded if isinstance(encoded, bytes | bytearray) else base64.b64decode(encoded)).hex()


def _version(info: dict[str, Any]) -> str | None:
    """Return a value that changes with the object: its MD5, its ETag, or its modification time."""
    tag = _md5(info) or info.get("ETag") or info.get("etag")
    if tag:
        return str(tag).removeprefix("W/").strip('"')
    mtime = _mtime(info)
    return None if mtime is None else f"mtime-{mtime!r}-{info.get('ino', 0)}"


def _mtime(info: dict[str, Any]) -> float | None:
    for name in ("mtime", "LastModified", "last_modified", "updated", "modified", "created"):
        value = info.get(name)
        if isinstance(value, str):
            value = datetime.fromisoformat(value)
        if isinstance(value, datetime):
            return value.timestamp()
        if isinstance(value, int | float):
            return float(value)
    return None


def _unreachable(error: BaseException) -> BaseException | None:
    """Return the underlying error if the host is unknown or refuses connections."""
    # Libraries wrap the socket's error, or pass it as an argument.
    chain = [error]
    for one in chain:  # which grows in the loop
        if isinstance(one, ConnectionRefusedError | socket.gaierror | ssl.SSLCertVerificationError):
            return one
        if isinstance(one, OSError) and one.errno in _UNREACHABLE:
            return one
        causes = [one.__cause__, one.__context__, *one.args, getattr(one, "reason", None)]
        chain += [c for c in causes if isinstance(c, BaseException) and c not in chain]
    return None


def _is_absence(error: OSError) -> bool:
    """Check that a file is missing; the HTTP file system reports any failed request like this."""
    return _unreachable(error) is None and _status(error) in (None, *_ABSENT)


def _status(error: BaseException) -> int | None:
    """Return the HTTP status that caused an error, if any."""
    status = getattr(error.__cause__, "status", None)
    return status if isinstance(status, int) else None


def _explain(error: Exception, url: str) -> TransientError | StoreError:
    if isinstance(error, TransientError | StoreError):
        return error
    detail = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
    text = f"{type(error).__name__}: {printable(detail)}"
    if (cause := _unreachable(error)) is not None:
        return TransientError(
            f"its host cannot be reached ({printable(str(cause))})",
            "Check the host and the port in the address, and the network.",
            likely_to_last=True,
        )
    if isinstance(error, FileNotFoundError) and not _is_absence(error):
        return TransientError(f"the server answered {_status(error)}", _REMEDY, disconnected=True)
    if isinstance(error, FileNotFoundError):
        return MissingObject(
            f"{url} does not exist. Check the address; or, if it was listed before, skip such "
            "objects with --skip-missing."
        )
    if isinstance(error, PermissionError):
        return StoreError(f"Access to {url} was denied ({detail}). Check the credentials.")
    if re.search("lib(hdfs|jvm)", detail):  # which hdfs:// loads
        return StoreError(
            f"{url} cannot be read, because libhdfs could not be loaded. On every machine, install Java "
            "and Hadoop, and set JAVA_HOME, HADOOP_HOME, and CLASSPATH to the output of `hadoop "
            "classpath --glob`; or give the address as webhdfs://HOST:PORT/PATH, which needs neither."
        )
    # Exceptions of cloud libraries are not OSErrors, and some are transient; caller errors never are.
    if isinstance(error, _CALLER_ERRORS) and not isinstance(error, OSError | EOFError):
        return StoreError(
            f"{url} cannot be used: {text}. Check the address against fsspec's documentation of "
            "its protocol."
        )
    return TransientError(text, _REMEDY, disconnected=True)
