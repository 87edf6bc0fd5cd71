"""The files of a partition: which are opened, which are skipped, and which are refused."""

from __future__ import annotations

import gzip
import io
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from daskmr.data.listing import InputFile
from daskmr.data.partition import Partition
from daskmr.errors import TaskFailed
from daskmr.tasks.crashes import Marker
from daskmr.tasks.partition_files import PartitionFiles, source_name, time_limit
from daskmr.tasks.progress import Reporter

GOOD = gzip.compress(b"k\tv\n" * 1000)
CONTENTS = {"a.gz": GOOD, "b.gz": GOOD[:-20], "c.gz": GOOD, "d.gz": b"no gzip at all", "e.gz": GOOD}


@pytest.fixture
def partition(tmp_path: Path) -> Partition:
    (tmp_path / "marks").mkdir()
    for name, content in CONTENTS.items():
        (tmp_path / name).write_bytes(content)
    files = tuple(InputFile(name, len(content), ()) for name, content in CONTENTS.items())
    return Partition(0, files, sum(file.size for file in files))


@pytest.fixture
def marker(tmp_path: Path, partition: Partition) -> Iterator[Marker]:
    with Marker(str(tmp_path), "map", 0) as marker:
        yield marker


def opened(files: PartitionFiles, marker: Marker) -> list[tuple[str, Any]]:
    reporter = Reporter(None, "map", 0, files.counts)
    return [(file.path, source) for file, source in files.open(marker, reporter)]


def test_files_that_are_skipped_are_not_opened(
    tmp_path: Path, partition: Partition, marker: Marker
) -> None:
    files = PartitionFiles(partition, str(tmp_path), None, {"c.gz": "why", "z.gz": "why"}, "")
    assert files.poison == {"c.gz": "why"}, "those of other partitions are none of its business"
    files.corrupt["a.gz"] = files.missing["b.gz"] = "why"
    paths = [str(tmp_path / name) for name in ("d.gz", "e.gz")]
    assert opened(files, marker) == list(zip(("d.gz", "e.gz"), paths, strict=True))


def test_further_corrupt_files_are_found_in_one_pass(
    tmp_path: Path, partition: Partition, marker: Marker
) -> None:
    files = PartitionFiles(partition, str(tmp_path), None, {"d.gz": "poison"}, "")
    files.find_corrupt(partition.files[0], marker, None)
    assert list(files.corrupt) == ["b.gz"]
    (tmp_path / "e.gz").unlink()
    files.find_corrupt(partition.files[1], marker, None)
    assert list(files.corrupt) == ["b.gz"], "to map a file that is gone says so"


def test_a_copy_of_another_size_is_refused(tmp_path: Path, partition: Partition) -> None:
    files = PartitionFiles(partition, str(tmp_path), None, {}, " on worker 3")
    files.check_size(partition.files[0], str(tmp_path / "a.gz"))
    with pytest.raises(TaskFailed, match=r"a\.gz has 4 bytes on worker 3 and had [0-9]+ when it"):
        (tmp_path / "a.gz").write_bytes(b"less")
        files.check_size(partition.files[0], str(tmp_path / "a.gz"))


def test_a_local_file_is_not_a_damaged_copy(tmp_path: Path, partition: Partition) -> None:
    assert not PartitionFiles(partition, str(tmp_path), None, {}, "").distrust(partition.files[0])


def test_a_stream_is_named_by_its_address() -> None:
    stream = io.BytesIO(b"abc")
    stream.name = "s3://bucket/key"  # type: ignore[attr-defined]
    assert (source_name("a.gz"), source_name(stream)) == ("a.gz", "s3://bucket/key")


def test_a_file_that_takes_too_long_is_named() -> None:
    said = r"Mapping a\.gz took longer than --file-timeout allows"
    with pytest.raises(TaskFailed, match=said), time_limit(0.05, "a.gz"):
        time.sleep(10)
