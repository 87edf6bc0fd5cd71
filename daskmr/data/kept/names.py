"""The names of kept results: digests of everything that a result depends on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from operator import attrgetter
from typing import Any

from daskmr.data.input_file import InputFile, SourceNames

__all__ = ["FORMAT", "name_of", "shared_digest"]

FORMAT = 1
"""Raised whenever a task's results change their form or content."""

_identity = attrgetter("path", "size", "dims", "etag", "mtime", "mtime_ns", "inode", "part")


def shared_digest(parts: Mapping[str, Any]) -> str:
    """Return a digest of what the partitions of a run have in common.

    - `parts`: the job's digest, its settings, the digest of its environment, and versions; all plain.

    >>> shared_digest({"job": "a", "buckets": 8}) == shared_digest({"buckets": 8, "job": "a"})
    True
    """
    text = json.dumps({"format": FORMAT, **parts}, sort_keys=True)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def name_of(shared: str, files: Sequence[InputFile], sources: SourceNames, is_first: bool) -> str:
    """Return the name of the result of a partition.

    - `shared`: the digest of what all partitions share.
    - `sources`: as in `MapTask`; scripts see them.
    - `is_first`: whether it begins the input, where more is checked.
    """
    rows = [[*_identity(file), sources.of(file)] for file in files]
    text = json.dumps([shared, is_first, rows])
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
