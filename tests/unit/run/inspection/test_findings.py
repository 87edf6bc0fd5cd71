"""What is found out about everyday kinds of data, and that the script for it runs at once."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.store_server import Bucket

from daskmr import InputError, mapreduce
from daskmr.data.sources.given import parse_sources
from daskmr.run.check import check_script
from daskmr.run.inspection.findings import Findings, find_out
from daskmr.run.inspection.starter import starter_text
from daskmr.store.source import parse_source

Files = Mapping[str, str | bytes]

DAYS = ("2024-01-30", "2024-01-31")
ACCESS = "".join(
    f'10.0.0.{n} - - [30/Jan/2024:10:00:{n:02} +0000] "GET /{n} HTTP/1.1" {404 if n % 3 else 200} 1\n'
    for n in range(9)
)
EVENTS = "".join(f'{{"id": "u{n}", "event": "{"ab"[n % 2]}", "n": {n}}}\n' for n in range(8))
ROWS = "".join(f"{n},{'Rome' if n % 2 else 'Oslo'},{n / 2}\n" for n in range(8))
HEADER = "id,city,amount\n"


def parquet(path: Path) -> None:
    pa = pytest.importorskip("pyarrow")
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.table({"id": [*range(8)], "city": ["Rome", "Oslo"] * 4}), path)


def write(root: Path, files: Files) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = content.encode() if isinstance(content, str) else content
        path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)


KINDS: dict[str, tuple[Files, str | None, str, list[str]]] = {
    "access logs by day and host": (
        {f"{day}/{host}/access.log.gz": ACCESS for day in DAYS for host in ("web1", "web2")},
        "{day:date}/{host}/access.log.gz",
        "lines",
        ["('2024-01-30', '200')\t6", "('2024-01-30', '404')\t12", "('2024-01-31', '200')\t6", "('2024-01-31', '404')\t12"],
    ),
    "JSON lines in hive folders": (
        {f"dt={day}/part-0.jsonl": EVENTS for day in DAYS},
        "hive",
        "jsonl",
        ["('2024-01-30', 'a')\t4", "('2024-01-30', 'b')\t4", "('2024-01-31', 'a')\t4", "('2024-01-31', 'b')\t4"],
    ),
    "a flat folder of JSON lines": (
        {"a.jsonl": EVENTS, "b.jsonl": EVENTS}, "flat", "jsonl", ["a\t8", "b\t8"]
    ),
    "CSV": ({"a.csv": HEADER + ROWS}, "flat", "csv", ["Oslo\t4", "Rome\t4"]),
    "CSV beside a text": (
        {"a.csv": HEADER + ROWS, "README.txt": "About these.\n"}, "{_}.csv", "csv",
        ["Oslo\t4", "Rome\t4"],
    ),
    "CSV without a header": ({"a.csv": ROWS}, "flat", "csv", ["Oslo\t4", "Rome\t4"]),
    "CSV with semicolons": (
        {"a.csv": (HEADER + ROWS).replace(",", ";")}, "flat", "csv:;", ["Oslo\t4", "Rome\t4"]
    ),
    "a JSON document": (
        {"a.json": json.dumps([{"kind": "xy"[n % 2]} for n in range(8)], indent=1)}, "flat", "",
        ["x\t4", "y\t4"],
    ),
    "Parquet": ({"x.parquet": b""}, "flat", "parquet", ["Oslo\t4", "Rome\t4"]),
    "a log with some tabs": (
        {"app.log": "10:00 INFO x\ty\n10:00 ERROR\n10:01 ERROR\n10:02 ERROR\n" * 2},
        "flat", "lines", ["ERROR\t6", "INFO\t2"],
    ),
    "key, tab and value": ({"a.txt": "k\tv\nl\tw\n"}, "flat", "", ["a.txt\t2"]),
    "the packaged layout": (
        {"idle/Firefox/beta/28.0/20131029030201.20131102.x.log.gz": 'k\t{"os": "a"}\nl\t{"os": "b"}\n'},
        None, "", ["('idle', 'a')\t1", "('idle', 'b')\t1"],
    ),
    "text at any depth": ({"a/x.txt": "one\ntwo\n", "b/c/y.txt": "a\n"}, "flat", "lines",
                          ["a/x.txt\t2", "b/c/y.txt\t1"]),
    "an unknown extension": (
        {f"{day}/app.out": ACCESS for day in DAYS}, "{day:date}/app.out", "lines",
        ["('2024-01-30', '200')\t3", "('2024-01-30', '404')\t6", "('2024-01-31', '200')\t3", "('2024-01-31', '404')\t6"],
    ),
    "extensions that no layout lists": (
        {"app.log": ACCESS, "app.log.1": ACCESS}, None, "lines", ["200\t6", "404\t12"]
    ),
}  # fmt: skip


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def found(*given: str) -> Findings:
    return find_out(parse_sources([*given]))


def run(findings: Findings, place: Path, **options: object) -> list[str]:
    """Run the script that is written for some findings, and return the lines of its output."""
    (place / "job.py").write_text(starter_text(findings, "job.py"))
    output = place / "out.txt"
    result = mapreduce(
        place / "job.py", output=output, inline=True, work_dir=place / "work", **options
    )
    assert result.bad_records == 0
    return output.read_text().splitlines()


@pytest.mark.parametrize("kind", KINDS)
def test_kinds_of_data(kind: str, place: Path) -> None:
    files, layout, records, output = KINDS[kind]
    write(place / "data", files)
    if kind == "Parquet":
        parquet(place / "data" / "x.parquet")
    findings = found("data")
    assert (findings.layout, findings.records.replace("read", "")) == (layout, records)
    assert findings.complete
    lines = run(findings, place, data_dir=list(findings.given))
    assert lines == output if output else len(lines) == 2
    said: list[str] = []
    check_script(place / "job.py", lambda *each: said.append(str(each)), data_dir=[*findings.given])
    assert "warning" not in str(said)


def test_a_script_of_ones_own_needs_the_options(place: Path) -> None:
    write(place / "data", KINDS["access logs by day and host"][0])
    findings = found("data")
    assert findings.option_words == (
        "--layout", "{day:date}/{host}/access.log.gz", "--records", "lines"
    )  # fmt: skip
    assert findings.run_line("my.py") == "daskmr run my.py -d data"
    assert findings.inspect_line("my.py") == "daskmr inspect data --write my.py"


def test_dimensions_and_fields(place: Path) -> None:
    write(place / "data", KINDS["JSON lines in hive folders"][0])
    findings = found("data")
    (day,) = findings.dimensions
    assert (day.name, day.values) == ("dt", {"2024-01-30": 1, "2024-01-31": 1})
    assert [each.name for each in findings.fields] == ["id", "event", "n"]
    assert findings.compressions == {"": 2}
    assert findings.guess is not None
    assert findings.guess.typed == "dt={dt:date}/{_}"
    as_dict = findings.as_dict()
    assert json.loads(json.dumps(as_dict)) == as_dict
    assert as_dict["options"] == ["-d", "data", "--layout", "hive", "--records", "jsonl"]


@pytest.mark.parametrize(
    ("given", "layout", "output"),
    [
        (["data/2024-01-30/web1/access.log.gz"], None, ["200\t3", "404\t6"]),
        (["@list"], None, ["200\t3", "404\t6"]),
        (["data/*/web2/*.gz"], "{day:date}/{host}/access.log.gz", None),
        (["data/2024-01-30", "data/2024-01-31"], "{host}/access.log.gz", None),
    ],
)
def test_forms_of_the_input(
    given: list[str], layout: str | None, output: list[str] | None, place: Path
) -> None:
    write(place / "data", KINDS["access logs by day and host"][0])
    (place / "list").write_text("data/2024-01-30/web1/access.log.gz\n")
    findings = found(*given)
    assert (findings.layout, findings.records) == (layout, "lines")
    lines = run(findings, place, data_dir=given)
    assert lines == output if output else len(lines) == 4


def test_only_named_files_of_the_format_are_read(place: Path) -> None:
    write(place, {"a.jsonl": EVENTS, "b.jsonl": EVENTS, "c.csv": HEADER + ROWS})
    findings = found("a.jsonl", "b.jsonl", "c.csv")
    assert findings.run_line("job.py") == "daskmr run job.py -d a.jsonl -d b.jsonl"
    assert findings.notes == ("1 of 3 files (c.csv): CSV with a header",)


def test_columns_that_differ_are_noted(place: Path) -> None:
    files = {
        f"{name}.csv": f"{head}\n1,x\n2,y\n"
        for name, head in zip("abc", ("i,i", "i,j", "i,i"), strict=True)
    }
    write(place / "data", files)
    assert found("data").notes[0] == "b.csv: its columns differ"


def test_odd_names_survive_the_script(place: Path) -> None:
    document = {'a "b" \\': 1, "class": "x", "map": {"k.v": 'quo"te'}, 'odd"""name': None}
    other = {**document, "class": "y"}
    files = {
        f"it's {{{n}}}/dt={n}/x.jsonl": f"{json.dumps(document)}\n{json.dumps(other)}\n"
        for n in "ab"
    }
    write(place / "my data", files)
    findings = found("my data")
    assert run(findings, place, data_dir="my data") == [
        str((f"it's {{{n}}}", each)) + "\t1" for n in "ab" for each in "xy"
    ]
    assert "-d 'my data'" in (place / "job.py").read_text()


@pytest.mark.parametrize(
    ("files", "looks"),
    [
        ({"a.log": b"PK\x03\x04" + bytes(600)}, "a zip archive"),
        ({"a.log": bytes(range(256)) * 10}, "binary data"),
        ({"a.log": b""}, "no data"),
    ],
)
def test_data_that_nothing_reads(files: Files, looks: str, place: Path) -> None:
    write(place / "data", files)
    findings = found("data")
    assert (findings.content.looks, findings.is_readable) == (looks, False)
    with pytest.raises(InputError, match="No script can be written for data"):
        starter_text(findings, "job.py")


def test_an_empty_folder(place: Path) -> None:
    (place / "data").mkdir()
    with pytest.raises(InputError, match="There is no file in data"):
        found("data")
    write(place / "data", {".hidden": "x", "_SUCCESS": ""})
    with pytest.raises(InputError, match="except for 2 files, hidden or written by daskmr"):
        found("data")


def test_damaged_and_other_files_are_noted(place: Path) -> None:
    write(
        place / "data",
        {"a.log.gz": ACCESS * 100, "b.txt": ACCESS, "c.zip": b"PK\x03\x04" + bytes(600)},
    )
    path = place / "data" / "a.log.gz"
    path.write_bytes(path.read_bytes()[:-9])
    findings = found("data")
    assert findings.records == "lines"
    assert findings.notes[0].startswith("a.log.gz: it is damaged")
    assert findings.notes[-1].startswith("1 of 3 files (c.zip): it is a zip archive. Ex")
    assert findings.run_line("job.py") == "daskmr run job.py -d data --skip-corrupt-files"
    assert findings.skipped == ("c.zip",)


ERRORS = "2026/11/01 10:00:00 [error] 1#1: open() failed\n" * 9


@pytest.mark.parametrize(
    ("access", "error", "given"),
    [
        ("day=1/access.log", "day=1/error.log", ("data",)),
        ("2024-01-30/access.log.gz", "2024-01-30/error.log.gz", ("data",)),
        ("2024-01-30/access-7.log", "2024-01-30/error-7.log", ("data",)),
        ("access.log.1", "error.log.1", ("data/**/access*",)),
        ("a/b/access.log-1", "error.log-2", ("data/**/access*",)),
    ],
)
def test_logs_of_two_kinds(access: str, error: str, given: tuple[str, ...], place: Path) -> None:
    more = access.replace("day=1", "day=2").replace("-30/", "-31/").replace("a/b/", "")
    write(place / "data", {access: ACCESS, more: ACCESS, error: ERRORS})
    findings = found("data")
    assert (findings.content.looks, findings.given) == ("the access log of a web server", given)
    note = f"1 of {findings.files} files ({error}): a log whose lines begin with the time"
    assert note in findings.notes
    run(findings, place, data_dir=[*findings.given], max_bad_records=0)


def test_a_bucket(bucket: Bucket, place: Path) -> None:
    bucket.put({f"logs/{day}/web1/access.log.gz": gzip.compress(ACCESS.encode()) for day in DAYS})
    url = f"s3://{bucket.name}/logs"
    findings = find_out(parse_sources([url]), parse_source(url))
    assert (findings.layout, findings.records) == ("{day:date}/{host}/access.log.gz", "lines")
    assert findings.run_line("job.py") == f"daskmr run job.py -d {url}"
    assert run(findings, place, data_dir=url)[0] == "('2024-01-30', '200')\t3"
    bucket.put({f"pq/dt={day}/x.parquet": b"" for day in DAYS})
    parquet(place / "x.parquet")
    data = (place / "x.parquet").read_bytes()
    bucket.put({f"pq/dt={day}/x.parquet": data for day in DAYS})
    url = f"s3://{bucket.name}/pq"
    findings = find_out(parse_sources([url]), parse_source(url))
    assert (findings.layout, findings.records) == ("hive", "parquet")
    assert [each.name for each in findings.fields] == ["id", "city"]
    assert not os.path.exists(".daskmr")


def test_files_in_a_store_that_no_layout_lists(bucket: Bucket, place: Path) -> None:
    bucket.put({"a/x": ACCESS.encode(), "b/c/y": ACCESS.encode()})
    findings = find_out(parse_sources([]), parse_source(bucket.name), ["-b", bucket.name])
    assert not findings.is_readable
    assert "no layout lists these files" in findings.notes[0]
    bucket.put({"a/x.log": ACCESS.encode() * 2})
    findings = find_out(parse_sources([]), parse_source(bucket.name), ["-b", bucket.name])
    assert findings.is_readable
