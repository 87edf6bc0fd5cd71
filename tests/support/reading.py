"""What tests of stores share: bytes, and whole listings and objects."""

from __future__ import annotations

import hashlib
import random
from typing import Any

from daskmr.store.store import Entry, InMemory, Store
from support.store_server import Request

MULTIPART = 52 << 20
"""Bytes of an object that s3fs would not fetch in one piece."""

TWO_PARTS = 20 << 20
"""Bytes of an object that is uploaded in two parts, and too large for a stream to hold whole."""


def noise(size: int, seed: int = 0) -> bytes:
    return random.Random(seed).randbytes(size)


def is_object(request: Request) -> bool:
    return request.method == "GET" and bool(request.key)


def entries_of(store: Store, prefix: str, **options: Any) -> list[Entry]:
    return [entry for page in store.list(prefix, **options) for entry in page]


def entry_of(store: Store, path: str) -> Entry:
    folder, slash, name = path.rpartition("/")
    (entry,) = (e for e in entries_of(store, folder + slash) if e.name == name and not e.is_dir)
    return entry


def fetched(store: Store, path: str, entry: Entry) -> bytes:
    file = InMemory(path)
    md5 = store.fetch(path, entry.etag, entry.size, file)
    assert md5 == hashlib.md5(file.getvalue()).hexdigest()
    return file.getvalue()
