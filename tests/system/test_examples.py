"""Every example gives the answer that plain Python gives, and runs by the line in its docstring."""

from __future__ import annotations

import ast
import bz2
import csv
import gzip
import io
import json
import lzma
import re
import shlex
import shutil
import statistics
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from support.jobs import ROOT, daskmr

from daskmr import mapreduce
from daskmr.cli.sample.files import write_sample
from daskmr.data.layout import load_schema

EXAMPLES = ROOT / "examples"
# Examples that declare a layout and a format of records, whose answers tests/unit/examples checks: the
# kind of their data, and the header of their output.
OTHER_RECORDS = {
    "funnel": ("events", "number\tstep\tusers"),
    "nginx_errors": ("logs", "day\thour\thost\trequests\tfailed"),
    "rides_by_district": ("rides", "district\trides\tfare"),
    "rides_by_hour": ("rides", "key\trides\tfare"),
    "rides_to_parquet": ("rides", ""),
    "fares_by_zone": ("rides", ""),
    "words": ("", "word\tcount"),
    "word_frequencies": ("", "times\twords\tlongest"),
    "events_by_plan": ("events", ""),
}
CHAIN = {"rides_to_parquet", "fares_by_zone"}
JOIN = {"events_by_plan"}  # in tests/contract/test_joins.py
SCRIPTS = sorted({path.stem for path in EXAMPLES.glob("*.py")} - OTHER_RECORDS.keys())
FILTERS = sorted(path.name for path in (EXAMPLES / "filters").iterdir())
ON_THE_CLUSTER = ("extract_tsv", "histogram_per_channel")

OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".xz": lzma.open,
    ".lzma": lzma.open,
    ".bz2": bz2.open,
    ".log": io.FileIO,
}

# What a sample does not have: missing fields, characters to escape, a histogram of other buckets.
ODD_DOCUMENTS = (
    {},
    {"info": {}, "simpleMeasurements": {}, "histograms": {}, "slowSQL": {}},
    {"info": {"OS": "Плана 9\u2028", "locale": "a\tb\\c\r\nd"}, "histograms": {"GC_MS": []}},
    {"histograms": {"GC_MS": [1, 2, 3, 7, 0.5, 0.25, -1, -1]}},
    {"slowSQL": {"mainThread": {"VACUUM /* é */": [0, 0]}}},
    {"slowSQL": {"mainThread": {"VACUUM /* é */": [4, 10]}}},
    {"info": {"OS": "Linux"}, "simpleMeasurements": {"main": 1, "firstPaint": 2}},
    {"simpleMeasurements": {"main": 1, "firstPaint": 3, "sessionRestored": 4}},
)


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write some documents in several formats, odd ones, and one file a second time."""
    root = tmp_path_factory.mktemp("examples") / "sample"
    write_sample(root, 1_500_000, 0, ("gz", "xz", "lzma", "bz2", "log"), 0.03)
    odd = "".join(f"odd-{n}\t{json.dumps(doc)}\n" for n, doc in enumerate(ODD_DOCUMENTS)).encode()
    repeated = next(root.rglob("*.gz")).read_bytes()
    for directory, name, data in (
        ("saved_session/Firefox/nightly/28.0a1", "20131110030201.20131112.odd.log", odd),
        ("saved_session/Firefox/release/25.0", "20131025160258.20131130.odd.log", odd),
        ("idle_daily/Fennec/beta/26.0", "20131101150108.20131101.odd.log", odd),
        ("idle_daily/Firefox/release/9.0", "20111225150108.20131102.again.gz", repeated),
    ):
        folder = root / directory
        folder.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return root


@dataclass(frozen=True)
class Record:
    """A line with a tab; `document` is None where the JSON is broken."""

    place: tuple[str, ...]
    key: str
    document: Any

    @property
    def channel(self) -> str:
        return self.place[2]

    @property
    def day(self) -> str:
        return self.place[5]

    def get(self, *path: str, default: Any = None) -> Any:
        found = self.document
        for name in path:
            found = found.get(name, {})
        return default if found == {} else found


def records(root: Path, allowed: Callable[..., bool]) -> Iterator[Record]:
    """Read, with nothing but the standard library, what `allowed` lets through, in input order."""
    paths = {path.relative_to(root).as_posix(): path for path in root.rglob("*.*.*.*")}
    for name in sorted(filter(lambda name: not paths[name].is_dir(), paths), key=str.encode):
        *directories, file = name.split("/")
        place = (*directories, *file.split(".")[:2])
        if not allowed(*place):
            continue
        with OPENERS[paths[name].suffix](paths[name]) as stream:
            lines = stream.read().split(b"\n")
        assert lines.pop() == b""
        for line in lines:
            if b"\t" in line:
                key, value = line.split(b"\t", 1)
                yield Record(place, key.decode(), parse(value))


def parse(value: bytes) -> Any:
    try:
        return json.loads(value.decode())
    except ValueError:
        return None


def documents(found: Iterator[Record]) -> list[Record]:
    return [record for record in found if record.document is not None]


# The filters once more, as conditions.

ALLOWED: dict[str, Callable[..., bool]] = {
    "all.json": lambda *place: True,
    "saved_session.json": lambda reason, *rest: reason.startswith("saved"),
    "desktop.json": lambda reason, app, *rest: app != "Fennec",
    "nightly.json": lambda *place: place[:3] == ("saved_session", "Firefox", "nightly"),
    "prerelease.json": lambda *place: place[2] != "release" and int(place[5]) >= 20131101,
    "release_2013_11.json": lambda *place: (
        place[1:3] == ("Firefox", "release")
        and 20 <= float(place[3][:4]) < 30
        and place[5].startswith("201311")
    ),
}


# The answers, computed another way.


def record_count(found: Iterator[Record]) -> str:
    return f"records\t{len(list(found))}\n"


def os_distribution(found: Iterator[Record]) -> str:
    counts = Counter(r.get("info", "OS", default="unknown") for r in documents(found))
    return table(sorted(counts.items()))


def duplicate_submissions(found: Iterator[Record]) -> str:
    everything = list(found)
    counts = Counter(record.key for record in everything)
    days = {(record.key, record.day) for record in everything}
    return table(
        (key, count, sum(key == other for other, _ in days))
        for key, count in sorted(counts.items())
        if count > 1
    )


def histogram_per_channel(found: Iterator[Record]) -> str:
    groups: dict[tuple[str, int], list[list[int]]] = {}
    for record in documents(found):
        histogram = record.get("histograms", "GC_MS")
        if histogram:
            groups.setdefault((record.channel, len(histogram)), []).append(histogram)
    rows = []
    for (channel, length), histograms in sorted(groups.items()):
        sums = [sum(histogram[index] for histogram in histograms) for index in range(length - 4)]
        row = {"documents": len(histograms), "sum": sums[-1], "counts": sums[:-1]}
        rows.append((channel, json.dumps(row)))
    return table(rows)


def slow_queries(found: Iterator[Record]) -> str:
    durations: dict[str, list[float]] = {}
    for record in documents(found):
        for statement, (calls, total) in record.get("slowSQL", "mainThread", default={}).items():
            if calls > 0:
                durations.setdefault(statement, []).append(total / calls)
    return table(
        (statement, len(values), format(statistics.median_high(values), ".1f"))
        for statement, values in sorted(durations.items())
    )


def extract_tsv(found: Iterator[Record]) -> str:
    names = ["OS", "version", "arch", "cpucount", "memsize", "locale", "adapterDescription"]
    return table(
        (r.key, r.day, *(escape(str(r.get("info", name, default=""))) for name in names))
        for r in documents(found)
    )


def escape(text: str) -> str:
    return re.sub(r"[\t\r\n\\]", lambda found: repr(found[0])[1:-1], text)


def startup_csv(found: Iterator[Record]) -> str:
    names = ["main", "firstPaint", "sessionRestored"]
    groups: dict[tuple[str, str], list[list[int]]] = {}
    for record in documents(found):
        times = record.get("simpleMeasurements", default={})
        if set(names) <= set(times):
            key = (record.place[3], record.get("info", "OS", default="unknown"))
            groups.setdefault(key, []).append([times[name] for name in names])
    file = io.StringIO()
    writer = csv.writer(file)
    writer.writerow(["version", "os", "documents", *names])
    for key, rows in sorted(groups.items()):
        averages = [round(statistics.mean(column)) for column in zip(*rows, strict=True)]
        writer.writerow([*key, len(rows), *averages])
    return file.getvalue()


def documents_per_day(found: Iterator[Record]) -> str:
    counts = Counter((record.day, record.channel) for record in found)
    return table(((*key, count) for key, count in sorted(counts.items())), ";")


def table(rows: Any, separator: str = "\t") -> str:
    return "".join(separator.join(map(str, row)) + "\n" for row in rows)


ANSWERS = {
    function.__name__: function
    for function in (
        record_count,
        os_distribution,
        duplicate_submissions,
        histogram_per_channel,
        slow_queries,
        extract_tsv,
        startup_csv,
        documents_per_day,
    )
}


def run_line(script: str) -> list[str]:
    """Take the line that runs the example out of its docstring."""
    docstring = ast.get_docstring(ast.parse((EXAMPLES / f"{script}.py").read_text("utf-8")))
    lines = [line for line in (docstring or "").splitlines() if line.startswith("    daskmr run ")]
    assert len(lines) == 1
    return shlex.split(lines[0])


def filter_of(script: str) -> str:
    words = run_line(script)
    return Path(words[words.index("-f") + 1]).name


def expected(script: str, root: Path) -> bytes:
    return ANSWERS[script](records(root, ALLOWED[filter_of(script)])).encode()


def test_every_script_and_filter_is_tested() -> None:
    assert sorted(ANSWERS) == SCRIPTS
    assert sorted(ALLOWED) == FILTERS
    assert {filter_of(script) for script in SCRIPTS} == set(FILTERS)


@pytest.mark.parametrize("script", SCRIPTS)
def test_answer(script: str, sample: Path, tmp_path: Path) -> None:
    output = tmp_path / "output"
    mapreduce(
        EXAMPLES / f"{script}.py",
        data_dir=sample,
        input_filter=EXAMPLES / "filters" / filter_of(script),
        output=output,
        inline=True,
        work_dir=tmp_path / "work",
    )
    answer = expected(script, sample)
    assert answer.count(b"\n") >= (1 if script == "record_count" else 3)
    assert output.read_bytes() == answer


@pytest.mark.parametrize("script", SCRIPTS)
def test_line_in_docstring(script: str, sample: Path, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    (tmp_path / "sample").symlink_to(sample)
    words = run_line(script)
    assert words[:3] == ["daskmr", "run", f"examples/{script}.py"]
    where = [] if script in ON_THE_CLUSTER else ["--inline"]
    completed = daskmr(*words[1:], *where, cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    output = tmp_path / words[words.index("-o") + 1]
    assert output.read_bytes() == expected(script, sample)


def test_the_lines_from_csv_to_parquet_to_json(tmp_path: Path) -> None:
    """Each reads what the one before has written."""
    (tmp_path / "examples").symlink_to(EXAMPLES)
    write_sample(tmp_path / "rides", 300_000, 1, bad_lines=0.002, kind="rides")
    rides = [
        row
        for path in sorted((tmp_path / "rides").rglob("rides.csv"))
        for row in csv.DictReader(io.StringIO(path.read_text("utf-8"), newline=""))
        if None not in (*row, *row.values())  # bad lines have too few or too many fields
    ]
    for script in ("rides_to_parquet", "fares_by_zone"):
        completed = daskmr(*run_line(script)[1:], "--inline", cwd=tmp_path)
        assert completed.returncode == 0, completed.stderr
    table = pq.read_table(tmp_path / "rides.parquet")
    assert table.column("ride_id").to_pylist() == [int(row["ride_id"]) for row in rides]
    assert [str(kind) for kind in table.schema.types[1:6]] == [
        "timestamp[us]", "timestamp[us]", "string", "string", "double",
    ]  # fmt: skip
    assert table.column("comment").to_pylist() == [row["comment"] or None for row in rides]
    fares = defaultdict(list)
    for row in rides:
        fares[row["pickup_zone"]].append(float(row["fare"]))
    zones = [*map(json.loads, (tmp_path / "zones.jsonl").read_text("utf-8").splitlines())]
    assert [(z["zone"], z["rides"], z["median_fare"]) for z in zones] == [
        (zone, len(found), round(statistics.median(found), 2))
        for zone, found in sorted(fares.items())
    ]


@pytest.mark.parametrize("script", sorted(OTHER_RECORDS.keys() - CHAIN - JOIN))
def test_line_over_other_records(script: str, tmp_path: Path) -> None:
    (tmp_path / "examples").symlink_to(EXAMPLES)
    words, (kind, header) = run_line(script), OTHER_RECORDS[script]
    data = tmp_path / words[words.index("-d") + 1]
    if kind:
        write_sample(data, 200_000, 1, bad_lines=0.002, kind=kind)
    else:
        (data / "a" / "b").mkdir(parents=True)
        shutil.copy(EXAMPLES / "README.md", data / "a" / "b" / "readme.txt")
    completed = daskmr(*words[1:], "--inline", cwd=tmp_path)
    assert completed.returncode == 0, completed.stderr
    first, *rows = (tmp_path / words[words.index("-o") + 1]).read_text("utf-8").splitlines()
    assert first == header
    assert len(rows) > 3
    assert {row.count("\t") for row in rows} == {header.count("\t")}


@pytest.mark.parametrize("name", FILTERS)
def test_filter(name: str, sample: Path) -> None:
    schema = load_schema(EXAMPLES / "filters" / name)
    places = {record.place for record in records(sample, ALLOWED["all.json"])}
    allowed = {
        place
        for place in places
        if all(d.allows(value) for d, value in zip(schema.dimensions, place, strict=True))
    }
    assert allowed == {place for place in places if ALLOWED[name](*place)}
    assert allowed
    assert (allowed == places) == (name == "all.json")


def test_field_names_of_filters_are_those_of_the_layout() -> None:
    for name in FILTERS:
        schema = load_schema(EXAMPLES / "filters" / name)
        assert tuple(d.field_name for d in schema.dimensions) == schema.layout.field_names


def test_readme_lists_everything() -> None:
    text = (EXAMPLES / "README.md").read_text("utf-8")
    rows = re.findall(
        r"^\| \[(\w+)\.py\]\(\1\.py\) \|.*\| \[([\w.]+)\]\(filters/\2\) \|",
        text,
        re.MULTILINE,
    )
    assert sorted(rows) == [(script, filter_of(script)) for script in SCRIPTS]
    others = re.findall(r"^\| \[(\w+)\.py\]\(\1\.py\) \|", text, re.MULTILINE)
    assert sorted(others) == sorted({*SCRIPTS, *OTHER_RECORDS})
    listed = re.findall(
        r"^\| \[([\w.]+)\]\(filters/\1\) \|",
        text,
        re.MULTILINE,
    )
    assert sorted(listed) == FILTERS
