"""The contract of records: each format in a whole run, and what becomes of bad records."""

from __future__ import annotations

import gzip
import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import DIRECTORY, daskmr

from daskmr import InputError, JobError, mapreduce
from daskmr.run.provenance import read_meta

STEM = "20131029030201.20131102.v2"
REDUCE = """
def reduce(key, values, context):
    context.write(key, sum(values))
"""


def parquet_of(rows: list[dict[str, Any]]) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows), sink)
    return sink.getvalue()


ROWS = [{"id": f"u{n % 3}", "n": str(n)} for n in range(30)] + [{"id": "u0", "n": "bad"}]
FILES = {
    "jsonl": ("jsonl", "".join(json.dumps(row) + "\n" for row in ROWS).encode()),
    "csv": ("csv", b"id,n\n" + "".join(f"{r['id']},{r['n']}\n" for r in ROWS).encode()),
    "tsv": ("tsv", b"id\tn\n" + "".join(f"{r['id']}\t{r['n']}\n" for r in ROWS).encode()),
    "parquet": ("parquet", parquet_of(ROWS)),
}
TOTALS = "".join(f"u{k}\t{sum(n for n in range(30) if n % 3 == k)}\n" for k in range(3))


def place(root: Path, extension: str, data: bytes, script: str) -> Path:
    folder = root / "data" / DIRECTORY
    folder.mkdir(parents=True)
    (folder / f"{STEM}.{extension}").write_bytes(data)
    (root / "job.py").write_text(script)
    return root


def run(root: Path, *options: str, code: int = 0) -> str:
    done = daskmr("run", "job.py", "-d", "data", "-o", "out", *options, cwd=root)
    assert done.returncode == code, done.stderr
    return done.stderr


@pytest.mark.parametrize("form", FILES)
def test_each_format(tmp_path: Path, form: str) -> None:
    """In a run, its repetition, a replay, a check and a plan."""
    script = (
        'key = "id"\ndef map(key, dims, value, context):\n    context.write(key, int(value["n"]))\n'
    )
    root = place(tmp_path, *FILES[form], script + REDUCE)
    run(root, "--inline", "--records", form)
    assert (root / "out").read_text() == TOTALS
    meta = read_meta(str(root / "out.meta.json"))
    assert meta["records"] == {"name": form, "key": "id", "columns": None, "fields": None}
    (saved,) = map(json.loads, (root / "out.bad.jsonl").read_text().splitlines())
    first = 2 if form in ("csv", "tsv") else 1
    assert (saved["line"], saved["reason"]) == (30 + first, "ValueError")
    replayed = daskmr("replay", "out.bad.jsonl", cwd=root)
    assert "still bad: ValueError: invalid literal" in replayed.stdout
    (root / "job.py").write_text(script.replace("int(", "len(") + REDUCE)
    assert "passes now" in daskmr("replay", "out.bad.jsonl", cwd=root).stdout
    (root / "job.py").write_text(script + REDUCE)
    again = daskmr("run", "--from", "out.meta.json", "-o", "again", "--inline", cwd=root)
    assert (again.returncode, "note" in again.stderr) == (0, False)
    assert (root / "again").read_text() == TOTALS
    checked = daskmr("check", "job.py", "-d", "data", "--records", form, cwd=root)
    assert "31 records gave 30 pairs under 3 keys" in checked.stdout
    planned = daskmr("plan", "job.py", "-d", "data", "--records", form, cwd=root)
    assert "31; map writes 30 pairs" in planned.stdout


def test_workers_read_as_one_process_does(tmp_path: Path) -> None:
    script = 'records = "jsonl"\nfields = ("id", "n")\ndef map(key, dims, value, context):\n'
    script += "    context.write(value[0], int(value[1]))\n"
    root = place(tmp_path, *FILES["jsonl"], script + REDUCE)
    run(root, "-m", "2")
    assert (root / "out").read_text() == TOTALS


def test_the_place_of_a_record(tmp_path: Path) -> None:
    script = 'records = "csv"\ndef map(key, dims, value, context):\n'
    script += "    context.write(value['a'], (context.path == key, context.line))\n"
    root = place(tmp_path, "csv", b'a\nx\n"y\n"\nz\n', script)
    run(root, "--inline")
    assert (root / "out").read_text() == "x\t(True, 2)\ny\n\t(True, 3)\nz\t(True, 5)\n"


def test_the_place_of_a_keyed_record_unless_the_script_uses_the_name(tmp_path: Path) -> None:
    script = "def map(key, dims, value, context):\n    context.write(key, context.line)\n"
    script += "    context.path = 7\n    context.write(key, context.path)\n"
    root = place(tmp_path, "log", b"a\t\nb\t\n", script)
    run(root, "--inline")
    assert (root / "out").read_text() == "a\t1\na\t7\nb\t2\nb\t7\n"


def test_there_is_no_place_in_reduce(tmp_path: Path) -> None:
    script = "def map(key, dims, value, context):\n    context.write(key, 1)\n"
    script += "def reduce(key, values, context):\n    context.write(key, context.line)\n"
    root = place(tmp_path, "log", b"a\t\n", script)
    assert "exists only in map" in run(root, "--inline", code=1)


READ = """
from daskmr import BadRecord

def read(stream, dims):
    while block := stream.read(4):
        if len(block) == 4:
            yield dims[0], int.from_bytes(block, "big")
        else:
            yield BadRecord(block, "too short")

def map(key, dims, value, context):
    context.write(key, value)
"""


def test_read_of_the_script(tmp_path: Path) -> None:
    data = b"".join(n.to_bytes(4, "big") for n in range(5000)) + b"xyz"
    root = place(tmp_path, "gz", gzip.compress(data), READ + REDUCE)
    said = run(root, "-m", "2")
    assert (root / "out").read_text() == f"saved_session\t{sum(range(5000))}\n"
    assert "1 x too short" in said
    replayed = daskmr("replay", "out.bad.jsonl", cwd=root)
    assert replayed.returncode == 1
    assert "record 5001" in replayed.stdout or "line 5001" in replayed.stdout


def test_read_that_fails_names_its_line(tmp_path: Path) -> None:
    script = "def read(stream, dims):\n    yield 'a', 1\n    raise OSError('boom')\n"
    root = place(tmp_path, "log", b"x", script + "def map(key, dims, value, context): pass\n")
    said = run(root, "--inline", code=1)
    assert "read failed at" in said
    assert "job.py, line 3" in said


def test_key_needs_a_format(tmp_path: Path) -> None:
    root = place(tmp_path, "log", b"x", "def map(key, dims, value, context): pass\n")
    assert "--records jsonl --key id" in run(root, "--inline", "--key", "id", code=2)


def test_keyed_input_without_tabs_names_the_format(tmp_path: Path) -> None:
    root = place(tmp_path, *FILES["jsonl"], "def map(key, dims, value, context): pass\n")
    assert "pass --records jsonl" in run(root, "--inline", code=1)


def test_a_parquet_file_among_lines_names_the_format(tmp_path: Path) -> None:
    root = place(tmp_path, "log", parquet_of(ROWS), "def map(key, dims, value, context): pass\n")
    assert "--records parquet" in run(root, "--inline", code=1)


def test_a_damaged_parquet_file_is_skipped_as_a_whole(tmp_path: Path) -> None:
    script = 'records = "parquet"\ndef map(key, dims, value, context):\n    context.write(value["id"], 1)\n'
    root = place(tmp_path, "parquet", FILES["parquet"][1], script + REDUCE)
    damaged = root / "data" / DIRECTORY / f"{STEM}b.parquet"
    damaged.write_bytes(FILES["parquet"][1][:-20])
    assert "is damaged" in run(root, "--inline", code=1)
    run(root, "--inline", "--skip-corrupt-files")
    assert (root / "out").read_text() == "u0\t11\nu1\t10\nu2\t10\n"


def test_a_line_of_100_mb_is_cut(tmp_path: Path) -> None:
    script = (
        'records = "jsonl"\ndef map(key, dims, value, context):\n    context.write(key, value)\n'
    )
    data = gzip.compress(b"1\n[" + b"0," * 50_000_000 + b"0]\n2\n", 1)
    root = place(tmp_path, "gz", data, script + REDUCE)
    job, options = str(root / "job.py"), {"data_dir": root / "data", "inline": True}
    result = mapreduce(job, max_record_bytes="1 MiB", work_dir=str(root / "w"), **options)
    assert [value for _, value in result] == [3]
    assert result.bad_reasons == {"longer than max-record-bytes": 1}


def test_sampling_by_key_takes_whole_keys(tmp_path: Path) -> None:
    rows = b"".join(b'{"id": %d}\n' % (n % 100) for n in range(1000))
    script = 'records = "jsonl"\nkey = "id"\ndef map(key, dims, value, context):\n    context.write(key, 1)\n'
    root = place(tmp_path, "jsonl", rows, script + REDUCE)
    run(root, "--inline", "--sample", "0.3", "--sample-by", "key")
    counts = [line.split("\t")[1] for line in (root / "out").read_text().splitlines()]
    assert 10 < len(counts) < 60
    assert set(counts) == {"10"}


def test_a_name_that_the_header_lacks_is_explained(tmp_path: Path) -> None:
    script = 'def map(key, dims, value, context):\n    context.write(value["city"], 1)\n'
    root = place(tmp_path, "csv", b"0,Oslo\n1,Rome\n", script)
    with pytest.raises(JobError) as caught:
        mapreduce(
            str(root / "job.py"), data_dir=root / "data", records="csv",
            inline=True, work_dir=str(root / "w"),
        )  # fmt: skip
    assert "The columns are '0', 'Oslo'. If the file has no header" in caught.value.details


def test_a_failure_shows_a_row_of_parquet_as_map_gets_it(tmp_path: Path) -> None:
    script = 'def map(key, dims, value, context):\n    context.write(value["ido"], 1)\n'
    root = place(tmp_path, *FILES["parquet"], script)
    with pytest.raises(JobError) as caught:
        mapreduce(
            str(root / "job.py"), data_dir=root / "data", records="parquet",
            inline=True, work_dir=str(root / "w"),
        )  # fmt: skip
    assert "Did you mean 'id'?" in caught.value.details
    assert caught.value.record.startswith("{'id': ")


def test_from_python(tmp_path: Path) -> None:
    root = place(tmp_path, *FILES["csv"], "def map(key, dims, value, context): pass\n")
    with pytest.raises(InputError, match="no record format 'jsn'") as refused:
        mapreduce(str(root / "job.py"), data_dir=root / "data", records="jsn")
    assert str(refused.value).endswith(f"which one fits:\ndaskmr inspect {root / 'data'}")
    with pytest.raises(JobError, match="has no column 'x'"):
        mapreduce(
            str(root / "job.py"), data_dir=root / "data", records="csv", key="x",
            inline=True, work_dir=str(root / "w"),
        )  # fmt: skip


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--records", "parquet", "--layout", "{_}.jsonl"], "is not Parquet, but JSON lines."),
        (["--records", "csv", "--layout", "flat"], "has no header"),
        (["--records", "jsonl", "--layout", "flat", "--key", "user"], "as with --key user.id"),
        (["--layout", "flat"], "The input looks like JSON lines."),
    ],
)
def test_a_wrong_format_ends_in_inspect_of_all_data(
    options: list[str], said: str, tmp_path: Path
) -> None:
    (tmp_path / "my data").mkdir()
    for name in ("a.jsonl", "b.jsonl"):
        (tmp_path / "my data" / name).write_text('{"type": "a", "user": {"id": 1}}\n' * 3)
    code = "def map(key, dims, value, context): context.write(key, 1)"
    given = ("-c", code, "-d", "my data", *options, "-o", "-", "--inline")
    done = daskmr("run", *given, cwd=tmp_path)
    assert done.returncode == 1
    assert said in done.stderr
    assert "--skip-corrupt-files" not in done.stderr
    assert done.stderr.endswith("\ndaskmr inspect 'my data'\n")


def test_comments_above_the_header_are_recognised(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("# by me\nid,station\n1,a\n")
    code = 'def map(key, dims, value, context): context.write(value["station"], 1)'
    given = ("-c", code, "-d", "a.csv", "-o", "-", "--inline", "--records")
    assert "begin with #: --records 'csv:#'" in daskmr("run", *given, "csv", cwd=tmp_path).stderr
    assert daskmr("run", *given, "csv:#", "-q", cwd=tmp_path).stdout == "a\t1\n"
