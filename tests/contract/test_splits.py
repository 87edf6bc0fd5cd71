"""Large files are split: the result is that of the whole file, whatever the format, and its counts too."""

from __future__ import annotations

import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.blocks import BLOCKS, small_parts, to_bgzf, to_parquet
from support.jobs import DIRECTORY

from daskmr import JobError, mapreduce
from daskmr.run.plan import make_plan
from daskmr.run.result import Result

STEM = "20131029030201.20131102.v2"
KEYED = b"".join(b"u%d\t%d\n" % (n % 7, n) for n in range(2000))
BAD = {150: b"no tab\n", 1200: b"u1\tbad\n", 1999: b"u2\tworse"}
WITH_BAD = b"".join(BAD.get(n, line) for n, line in enumerate(KEYED.splitlines(keepends=True)))

COUNT = """
def map(key, dims, value, context):
    context.write(key, int(value))

def reduce(key, values, context):
    context.write(key, (len(values), sum(values), list(values[:60])))
"""


class Place:
    def __init__(self, root: Path) -> None:
        self.root = root
        self.folder = root / "data" / DIRECTORY
        self.folder.mkdir(parents=True)

    def put(self, extension: str, data: bytes) -> Path:
        path = self.folder / f"{STEM}.{extension}"
        path.write_bytes(data)
        return path

    def run(self, script: str, *, least: int | None, **options: Any) -> tuple[Result, bytes, Any]:
        """Run a job: the result, its output, and the saved bad records."""
        (self.root / "job.py").write_text(script)
        out = self.root / "out"
        options = {"inline": True, "partition_bytes": 1, "combine_size": 10_000, **options}
        with small_parts(1 << 40 if least is None else least):
            result = mapreduce(
                self.root / "job.py", data_dir=self.root / "data", output=out, **options
            )
        bad = self.root / "out.bad.jsonl"
        saved = [*map(json.loads, bad.read_text().splitlines())] if bad.exists() else []
        return result, out.read_bytes(), saved

    def compare(self, script: str, least: int = 1000, **options: Any) -> Result:
        """Check that a run with split files gives all that a run with whole files gives."""
        whole = self.run(script, least=None, **options)
        split = self.run(script, least=least, **options)
        if "parquet" in script:  # where the bytes of a row depend on those around it
            for saved in (*whole[2], *split[2]):
                saved.pop("raw")
        assert split[1:] == whole[1:]
        for figure in ("files", "bytes", "records", "bad_reasons", "bad_files", "lines", "sample"):
            assert getattr(split[0], figure) == getattr(whole[0], figure), figure
        assert partitions(whole[0]) < partitions(split[0])
        return split[0]


def partitions(result: Result) -> int:
    return sum(task.phase == "map" for task in result.history.tasks)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.mark.parametrize("codec", BLOCKS)
def test_keyed_records(place: Place, codec: str) -> None:
    place.put(codec.rpartition(".")[2], BLOCKS[codec](WITH_BAD, 700))
    result = place.compare(COUNT)
    assert (result.files, result.records, result.bad_records) == (1, 2000, 3)
    saved = place.run(COUNT, least=1000)[2]
    assert [each["line"] for each in saved] == [151, 1201, 2000]


@pytest.mark.parametrize("codec", BLOCKS)
def test_json_lines_and_the_number_of_each(place: Place, codec: str) -> None:
    lines = [b'{"id": %d}\r\n' % n for n in range(1000)]
    lines[300:302] = [b"\n", b"{oops\n"]
    place.put(codec.rpartition(".")[2], BLOCKS[codec](b"".join(lines), 700))
    script = 'records, key = "jsonl", "id"\ndef map(key, dims, value, context):\n'
    script += "    context.write(context.path, (key, context.line))\n"
    place.compare(script)


TABLE = b"a,b\n\n" + b"".join(b"%d,x\n" % n if n != 700 else b"1,2,3\n" for n in range(1000))
ROWS = [{"a": n, "b": "x"} for n in range(1000)]


@pytest.mark.parametrize(
    ("records", "extension", "data"),
    [
        ("lines", "log", KEYED),
        ("csv", "csv", TABLE),
        ("tsv", "tsv", TABLE.replace(b",", b"\t")),
        ("parquet", "parquet", to_parquet(ROWS, 70)),
    ],
)
def test_other_records(place: Place, records: str, extension: str, data: bytes) -> None:
    place.put(extension, data)
    script = f"records = {records!r}\ndef map(key, dims, value, context):\n"
    script += "    if context.line % 400 == 3:\n        raise ValueError(context.line)\n"
    script += "    context.write(context.line, value)\n"
    script += "def reduce(key, values, context):\n    context.write(key, list(values))\n"
    result = place.compare(script)
    assert result.bad_records > 1


@pytest.mark.parametrize("reduces", [True, False])
def test_on_workers_and_with_a_sample_of_the_keys(place: Place, reduces: bool) -> None:
    place.put("gz", to_bgzf(WITH_BAD, 700))
    script = COUNT if reduces else COUNT.partition("def reduce")[0]
    inline = place.run(script, least=1000, sample=0.5, sample_by="key")[1:]
    place.compare(script, inline=False, num_mappers=2, sample=0.5, sample_by="key")
    assert place.run(script, least=1000, sample=0.5, sample_by="key")[1:] == inline


CRASH = COUNT.replace(
    "    context", "    if value == '1500':\n        raise KeyError(7)\n    context", 1
)


@pytest.mark.parametrize("codec", BLOCKS)
def test_a_crash_names_the_line_of_the_file(place: Place, codec: str) -> None:
    place.put(codec.rpartition(".")[2], BLOCKS[codec](WITH_BAD, 700))
    messages = []
    for least in (None, 1000):
        with pytest.raises(JobError, match="line 1501") as failure:
            place.run(CRASH, least=least)
        messages.append(str(failure.value))
    assert messages[0] == messages[1]


@pytest.mark.parametrize("codec", ["gz", "zst", "bz2"])
def test_a_damaged_block_fails_the_job(place: Place, codec: str) -> None:
    data = bytearray(BLOCKS[codec](KEYED, 700))
    data[len(data) // 2] ^= 0x55
    path = place.put(codec, bytes(data))
    messages = []
    for least in (None, 1000):
        with pytest.raises(JobError, match="is damaged: after") as failure:
            place.run(COUNT, least=least)
        messages.append(str(failure.value))
    assert messages[0] == messages[1]
    assert str(path) in messages[0]
    result, output, _ = place.run(COUNT, least=1000, skip_corrupt_files=True)
    assert (len(result.corrupt), result.records, output) == (1, 0, b"")


def test_plain_files_are_split_where_corrupt_ones_are_skipped(place: Place) -> None:
    place.put("log", WITH_BAD)
    place.compare(COUNT, skip_corrupt_files=True)


def test_files_are_whole_where_they_may_crash_workers(place: Place) -> None:
    place.put("log", KEYED)
    result, _, _ = place.run(COUNT, least=1000, skip_poison_files=True)
    assert partitions(result) == 1


def test_a_log_that_grows(place: Place) -> None:
    path = place.put("log", KEYED + b"u1\t9")
    script = f"import pathlib\nPATH = pathlib.Path({str(path)!r})\nDATA = PATH.read_bytes()\n"
    script += COUNT.replace(
        "    context",
        "    if value == '0':\n        PATH.write_bytes(DATA + b'99\\n')\n    context",
        1,
    )
    result, _, _ = place.run(script, least=1000)
    assert (result.files, result.records) == (1, 2000)
    (note,) = [note for note in result.notes if "grew" in note]
    assert note.startswith("1 file grew while the job ran")


def test_the_input_is_deleted_if_all_parts_were_saved(place: Place) -> None:
    path = place.put("log", WITH_BAD)
    result, _, _ = place.run(COUNT, least=1000, delete_data=True, bad_records_saved=6)
    assert (result.deleted, path.exists()) == (0, True)
    result, _, _ = place.run(COUNT, least=1000, delete_data=True)
    assert (result.deleted, path.exists()) == (1, False)


def test_limits_count_files(place: Place) -> None:
    place.put("log", KEYED)
    place.put("txt", KEYED)
    result = place.compare(COUNT, limit_files=1)
    assert result.files == 1


def test_a_plan_counts_parts_as_the_run_does(place: Place) -> None:
    place.put("log", KEYED)
    result, _, _ = place.run(COUNT, least=1000)
    with small_parts(1000):
        plan = make_plan(place.root / "job.py", data_dir=place.root / "data", partition_bytes=1)
    assert plan.files.files == 1
    assert plan.partitions.count == partitions(result) > 5
    assert plan.partitions.bytes_max < len(KEYED) / 4


def test_the_note_on_a_file_that_cannot_be_split(place: Place) -> None:
    place.put("gz", gzip.compress(os.urandom(20_000).hex().encode() + b"\tv\n"))
    script = COUNT.replace("int(value)", "1")
    result, _, _ = place.run(script, least=1000, inline=False, num_mappers=2)
    (note,) = [note for note in result.notes if "can only be read from its start" in note]
    assert "bgzip" in note
    assert not [note for note in place.run(script, least=1000)[0].notes if "start" in note]


@pytest.mark.parametrize(
    "combine", ["sum(values)", "values[0] + values[-1]"], ids=["exact", "by place"]
)
def test_the_cuts_are_the_same_whatever_runs_the_job(place: Place, combine: str) -> None:
    place.put("log", KEYED)
    script = COUNT + f"def combine(key, values, context):\n    context.write(key, {combine})\n"
    runs: list[dict[str, Any]] = [{}, {"inline": False, "num_mappers": 1}, {"num_reducers": 5}]
    runs += [{"inline": False, "num_mappers": 2, "num_reducers": 3}]
    outputs = {place.run(script, least=1000, combine_size=20, **each)[1] for each in runs}
    assert len(outputs) == 1


def test_lines_that_are_no_records_are_found_in_parts(place: Place) -> None:
    place.put("log", b"no tab\n" * 3000)
    with pytest.raises(JobError, match="None of the first 1,000 lines"):
        place.run(COUNT, least=1000)


def test_prints_name_the_line_of_the_file(place: Place) -> None:
    from daskmr.watching import Watcher

    class Prints(Watcher):
        def __init__(self) -> None:
            self.lines: list[int] = []

        def printed(self, printed: Any) -> None:
            self.lines.append(printed.line)

    place.put("log", KEYED)
    script = COUNT.replace(
        "    context", "    if value in ('30', '1700'):\n        print(value)\n    context", 1
    )
    prints = Prints()
    place.run(script, least=1000, watcher=prints)
    assert prints.lines == [31, 1701]
