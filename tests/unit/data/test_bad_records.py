"""Bad records in their file."""

from __future__ import annotations

import base64
import json
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from daskmr.data.bad_records import SavedRecord, write_bad_records
from daskmr.errors import JobError


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_bad_records_are_lines_of_json(tmp_path: Path) -> None:
    records = [
        SavedRecord("a/b.gz", 7, "ValueError", "ValueError: no \ud800 \u00e9", b"k\tv\xff\x00\n\r"),
        SavedRecord("odd\udcff", 1, "no tab in the line", "", b""),
    ]
    file = write_bad_records(str(tmp_path / "out.bad.jsonl"), "id", records)
    assert os.listdir(tmp_path) == [".out.bad.jsonl.id.tmp"], "ready, and not in place"
    file.commit()
    data = (tmp_path / "out.bad.jsonl").read_bytes()
    assert data.isascii()
    lines = [json.loads(line) for line in data.decode().splitlines()]
    for line, record in zip(lines, records, strict=True):
        assert base64.b64decode(line.pop("raw")) == record.raw
        assert line == {
            "file": record.file,
            "line": record.line,
            "reason": record.reason,
            "exception": record.detail,
        }


def test_bad_records_that_do_not_fit_leave_nothing(tmp_path: Path) -> None:
    records = [SavedRecord("f", n, "r", "", os.urandom(5000)) for n in range(50)]
    with full_disk(10_000), pytest.raises(JobError, match="Make room"):
        write_bad_records(str(tmp_path / "bad"), "id", records)
    assert os.listdir(tmp_path) == []
