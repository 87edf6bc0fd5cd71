"""Write and read bad-records files: JSON lines, with the raw bytes in base64."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from daskmr.data.output import OutputFile
from daskmr.errors import InputError

__all__ = ["BAD_SUFFIX", "SavedRecord", "read_bad_records", "write_bad_records"]

BAD_BEGINS = b'{"file": '
BAD_SUFFIX = ".bad.jsonl"  # appended to the name of the output


@dataclass(frozen=True, slots=True)
class SavedRecord:
    """A record that `map` rejected.

    `file` is relative to the data dir, and `line` starts at 1. The report counts bad records by
    `reason`. `detail` is the exception from `map`, truncated. `raw` is the line without its newline,
    or the bytes of another record. `header` holds the columns of its file, if there are any, and
    `source` the value of ``--data-dir`` that it is from, if there are several.
    """

    file: str
    line: int
    reason: str
    detail: str
    raw: bytes
    header: tuple[str, ...] = ()
    source: str = ""


def write_bad_records(
    path: str, run_id: str, records: Sequence[SavedRecord], like: os.stat_result | None = None
) -> OutputFile:
    """Write a bad-records file; the caller commits it.

    Each line has ``file``, ``line``, ``reason``, ``exception`` and ``raw`` (the bytes in base64),
    ``columns`` if the file has a header, and ``source`` if there are several.
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
                **({"columns": record.header} if record.header else {}),
                **({"source": record.source} if record.source else {}),
            }
            file.write(json.dumps(line) + "\n")
        file.close()
    except BaseException:
        file.discard()
        raise
    return file


def read_bad_records(path: str) -> Iterator[SavedRecord]:
    """Read a bad-records file; raise InputError if it is missing or malformed."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):  # noqa: B007 - for the error below
                content = json.loads(line)
                get: Callable[[str], Any] = content.__getitem__
                yield SavedRecord(
                    get("file"), int(get("line")), get("reason"), get("exception"),
                    base64.b64decode(get("raw"), validate=True), tuple(content.get("columns", ())),
                    content.get("source", ""),
                )  # fmt: skip
    except OSError as error:
        raise InputError(f"{os.fspath(path)} cannot be read: {error.strerror}.") from None
    except UnicodeDecodeError:
        raise InputError(f"{path} is not text, so it is not a bad-records file.") from None
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}, line {number}: this is not a bad record. Give a file that a run saved as "
            f"OUTPUT{BAD_SUFFIX}."
        ) from None
