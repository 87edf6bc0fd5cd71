"""The format that is recognised from the start of a file."""

from __future__ import annotations

import bz2
import gzip
import io
import json
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from daskmr.data.inspection.contents import Content, look

ACCESS = '10.0.0.1 - - [30/Jan/2024:10:00:00 +0000] "GET / HTTP/1.1" 200 10\n'
ROWS = "id,city,amount\n1,Rome,0.5\n2,Oslo,1.5\n"


def seen(tmp_path: Path, data: str | bytes, name: str = "a.log") -> Content:
    path = tmp_path / name
    path.write_bytes(data.encode() if isinstance(data, str) else data)
    return look(str(path), name)


@pytest.mark.parametrize(
    ("data", "name", "records", "looks"),
    [
        ("k\tv\nl\tw\tx\n", "a.log", "keyed", "lines of key, tab and value"),
        ('k\t{"a": 1}\n', "a.log", "keyed", "lines of key, tab and value, the value in JSON"),
        ('{"a": 1}\n{"a": 2}\n', "a.log", "jsonl", "JSON lines"),
        ("[1]\n[2]\n", "a.log", "jsonl", "JSON lines"),
        (ROWS, "a.csv", "csv", "CSV with a header"),
        (ROWS, "a.txt", "csv", "CSV with a header"),
        ("1,Rome,0.5\n2,Oslo,1.5\n", "a.csv", "csv", "CSV without a header"),
        ("name,city\nann,Rome\nbob,Oslo\n", "a.csv", "csv", "CSV with a header"),
        ("ann,Rome\nbob,Oslo\nann,Oslo\n", "a.csv", "csv", "CSV without a header"),
        ('a,b\n1,"x\ny"\n', "a.csv", "csv", "CSV with a header"),
        ("name\tsize\na\t1\nb\t2\n", "a.txt", "tsv", "TSV with a header"),
        ("a\tb\tc\nd\te\tf\n", "a.txt", "tsv", "TSV with a header"),
        (ACCESS * 3, "a.log", "lines", "the access log of a web server"),
        (
            "2024-01-30 10:00:00,123 INFO a\n2024-01-30 10:00:00,124 INFO b\n", "a.log",
            "lines", "a log whose lines begin with the time",
        ),
        ("a b\nc\td\ne\nf\n", "a.log", "lines", "lines, of which 1 of 4 hold a tab"),
        ("a;b\n1;2\n3;4\n", "a.csv", "csv:;", "CSV (semicolons) with a header"),
        ('[\n {"a": 1},\n {"a": 2}\n]\n', "a.json", "read", "a JSON document"),
        ('[{"a": 1}]\n', "a.json", "read", "a JSON document"),
        ('{"a": 1}\n', "a.json", "jsonl", "JSON lines"),
        ('{"a": 1\n' + '{"a": 1}\n' * 30, "a.json", "jsonl", "JSON lines"),
        ('{\n"a": 1}{}\n', "a.json", "", "a JSON document"),
        ("1;7,5\n2;8,5\n", "a.csv", "csv:;", "CSV (semicolons) without a header"),
        ("sep=|\na|b\n1|2\n", "a.txt", "csv:|", "CSV (|) with a header"),
        (",a\n0,x\n1,y\n", "a.csv", "csv", "CSV with a header"),
        ("a,,x\nb,7,y\n", "a.csv", "csv", "CSV without a header"),
        ("id,id\n0,1\n", "a.csv", "csv", "CSV with a header"),
        ("#id,a\n0,1\n", "a.csv", "csv", "CSV with a header"),
        ("# x\n# y\nid,a\n0,1\n", "a.csv", "csv:#", "CSV (comments) with a header"),
        ("# x\n# y\nid\ta\n0\t1\n", "a.tsv", "tsv:#", "TSV (comments) with a header"),
        ("# x\n# y\nid;a\n0;1\n", "a.csv", "csv:;#", "CSV (semicolons, comments) with a header"),
        ("\ufeffk\tv\n", "a.log", "keyed", "lines of key, tab and value"),
        ("\n\n", "a.log", "lines", "empty lines"),
        (b"", "a.log", "", "no data"),
        (bytes(range(1, 256)) * 20, "a.log", "", "binary data"),
        ("k\tv\n".encode("utf-16"), "a.log", "", "text in UTF-16"),
        (b"PK\x03\x04" + bytes(600), "a.log", "", "a zip archive"),
    ],
)  # fmt: skip
def test_formats(tmp_path: Path, data: Any, name: str, records: str, looks: str) -> None:
    content = seen(tmp_path, data, name)
    assert (content.records, content.looks) == (records, looks)


def test_values_are_those_that_map_gets(tmp_path: Path) -> None:
    assert seen(tmp_path, ROWS).values[0] == {"id": "1", "city": "Rome", "amount": "0.5"}
    assert seen(tmp_path, ROWS).lines[0] == "1,Rome,0.5"
    assert seen(tmp_path, "1,a,2\n3,b,4\n").columns == ("column1", "column2", "column3")
    assert seen(tmp_path, '{"a": [1]}\n').values == ({"a": [1]},)
    assert seen(tmp_path, "[\n1,\n2]\n").values == (1, 2)


def test_a_few_bad_lines_do_not_matter(tmp_path: Path) -> None:
    lines = ['{"a": 1}\n'] * 99 + ["oops\n"]
    assert seen(tmp_path, "".join(lines)).records == "jsonl"


@pytest.mark.parametrize(
    ("pack", "name"), [(gzip.compress, "gzip"), (bz2.compress, "bzip2"), (bytes, "")]
)
def test_compression_is_found_by_content(tmp_path: Path, pack: Any, name: str) -> None:
    content = seen(tmp_path, pack(b"k\tv\n"))
    assert (content.compression, content.records) == (name, "keyed")


def test_only_the_start_is_read_and_its_last_line_is_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    path.write_text('{"n": 12345}\n' * 1000)
    content = look(str(path), "a.log", limit=100)
    assert content.records == "jsonl"
    assert {json.dumps(value) for value in content.values} == {'{"n": 12345}'}


def test_a_damaged_file_shows_what_can_be_read(tmp_path: Path) -> None:
    content = seen(tmp_path, gzip.compress((ACCESS * 500).encode())[:-8])
    assert content.records == "lines"
    assert content.problem.startswith("it is damaged: after ")
    assert seen(tmp_path, b"text", "a.gz").problem


def test_an_archive_has_the_command_that_extracts_it(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        archive.add(__file__, "test.py")
    content = seen(tmp_path, buffer.getvalue(), "a.log.gz")
    assert content.records == ""
    assert "tar -xf a.log.gz -C a.log.gz.d" in content.problem


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    assert look(str(tmp_path / "none"), "none").problem.startswith(
        "it cannot be read: No such file"
    )


TITLED = ROWS + "3,Bonn,2.5\n" * 20


@pytest.mark.parametrize(
    ("title", "name", "command"),
    [
        ("Sales 2026\n", "a.csv", "tail -n +2 < a.csv > a.csv.new"),
        ("Sales 2026\nof us\n\n", "a.txt", "tail -n +4 < a.txt > a.txt.new"),
    ],
)
def test_a_title_above_the_header(title: str, name: str, command: str, tmp_path: Path) -> None:
    content = seen(tmp_path, title + TITLED, name)
    assert (content.records, content.looks) == ("lines", "CSV with a header, below a title")
    assert content.problem.startswith("drop the first ")
    assert content.problem.endswith(f" above the header ('Sales 2026'): {command}")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, timeout=60)
    assert (tmp_path / f"{name}.new").read_text() == TITLED


def test_a_title_alone_is_no_header(tmp_path: Path) -> None:
    assert seen(tmp_path, "Sales 2026\n1,2\n3,4\n5\n", "a.csv").records == "lines"
    assert seen(tmp_path, "name\nann\nbob\n", "a.csv").records == "csv"


def test_parquet(tmp_path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path = tmp_path / "x.parquet"
    pq.write_table(pa.table({"id": [1, 2], "city": ["Rome", None]}), path)
    content = look(str(path), "x.parquet")
    assert (content.records, content.header) == ("parquet", ("id", "city"))
    assert content.values == ({"id": 1, "city": "Rome"}, {"id": 2, "city": None})
    with path.open("rb") as stream:
        assert look(stream, "x.parquet").values == content.values
    path.write_bytes(path.read_bytes()[:40])
    assert look(str(path), "x.parquet").problem.startswith("it cannot be read: ")
