"""What `daskmr inspect` prints runs as it is printed, over everyday and nasty data, and counts all of it.

Each kind of data is made here with its counts, computed from what was written before it was in a file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
import subprocess
import tarfile
import zipfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import daskmr

CITIES = ("Oslo", "Rome", "Köln")
ROWS = [(str(n), CITIES[n * n % 7 % 3], f"{n / 2}") for n in range(60)]
BY_CITY = {(city,): count for city, count in Counter(city for _, city, _ in ROWS).items()}
DAYS = ("2026-10-05", "2026-10-06")
LEVELS = ("INFO", "WARN", "ERROR")

Counts = dict[tuple[str, ...], int]
Made = tuple[dict[str, str | bytes], Counts]
KINDS: dict[str, Callable[[], Made]] = {}


def kind(make: Callable[[], Made]) -> Callable[[], Made]:
    KINDS[make.__name__] = make
    return make


def text(rows: Iterable[Iterable[str]], separator: str = ",", head: str = "id,city,km") -> str:
    lines = [*([head.replace(",", separator)] if head else []), *map(separator.join, rows)]
    return "".join(f"{line}\n" for line in lines)


def documents() -> list[dict[str, Any]]:
    return [{"id": int(number), "city": city} for number, city, _ in ROWS]


def doubled(counts: Counts, *above: str) -> Counts:
    return {(day, *above, *key): n for day in DAYS for key, n in counts.items()}


# --- everyday data --------------------------------------------------------------------------------


@kind
def access_logs_by_day_and_host() -> Made:
    lines = [
        f'10.0.0.{n} - - [05/Oct/2026:10:00:00 +0000] "GET /{n} HTTP/1.1" {(200, 404, 500)[n % 3]} 1'
        for n in range(30)
    ]
    data = gzip.compress("\n".join(lines).encode())
    files = {f"{day}/{host}/access.log.gz": data for day in DAYS for host in ("web1", "web2")}
    return files, {(day, status): 20 for day in DAYS for status in ("200", "404", "500")}


@kind
def json_lines_in_hive_folders() -> Made:
    lines = "\n".join(map(json.dumps, documents()))
    return {f"dt={day}/part-0.jsonl": lines for day in DAYS}, doubled(BY_CITY)


@kind
def a_flat_folder_of_json_lines() -> Made:
    return {f"{n}.jsonl": "\n".join(map(json.dumps, documents()[n::3])) for n in range(3)}, BY_CITY


@kind
def csv_with_a_header() -> Made:
    return {"a.csv": text(ROWS)}, BY_CITY


@kind
def parquet() -> Made:
    stream = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(documents()), stream)
    return {"a.parquet": stream.getvalue()}, BY_CITY


@kind
def a_log_with_some_tabs() -> Made:
    lines = [f"{LEVELS[n % 3]} took {n} ms{chr(9) if n % 9 == 0 else ''}" for n in range(60)]
    return {"app.log": "\n".join(lines)}, {(level,): 20 for level in LEVELS}


@kind
def key_tab_value() -> Made:
    lines = "".join(f"{each['id']}\t{json.dumps(each)}\n" for each in documents())
    return {"a.txt": lines}, BY_CITY


# --- tables that no two tools write alike ---------------------------------------------------------


@kind
def semicolons() -> Made:
    return {"a.csv": text(ROWS, ";")}, BY_CITY


@kind
def pipes() -> Made:
    return {"a.txt": text(ROWS, "|")}, BY_CITY


@kind
def semicolons_and_decimal_commas_without_a_header() -> Made:
    rows = [(number, city, km.replace(".", ",")) for number, city, km in ROWS]
    return {"a.csv": text(rows, ";", "")}, BY_CITY


@kind
def excel() -> Made:
    return {"a.csv": "sep=;\r\n" + text(ROWS, ";").replace("\n", "\r\n")}, BY_CITY


@kind
def an_index_without_a_name() -> Made:
    return {"a.csv": text(ROWS, head=",city,km")}, BY_CITY


@kind
def a_name_twice() -> Made:
    return {"a.csv": text(ROWS, head="id,city,id"), "b.csv": text(ROWS[:3], head="id,city,id")}, {
        (city,): sum(row[1] == city for row in (*ROWS, *ROWS[:3])) for city in CITIES
    }


@kind
def comments() -> Made:
    notes = '# made by hand, "so\n#\n'
    return {"a.csv": notes + text(ROWS) + "# the end\n"}, BY_CITY


@kind
def comments_and_tabs() -> Made:
    return {"a.tsv": "# made by hand\n# twice\n" + text(ROWS, "\t")}, BY_CITY


@kind
def columns_that_some_files_lack() -> Made:
    rows = [(number, city) for number, city, _ in ROWS]
    other = {"b.csv": text(rows, head="id,city")}
    return {"a.csv": text(rows * 20, head="id,country"), **other}, {
        ("city",): 60, ("country",): 1200, ("id",): 1260,
    }  # fmt: skip


@kind
def windows_1252() -> Made:
    return {"a.csv": text(ROWS).encode("cp1252")}, {
        (key.encode("cp1252").decode("utf-8", "surrogateescape"),): n
        for (key,), n in BY_CITY.items()
    }


# --- JSON -----------------------------------------------------------------------------------------


@kind
def an_array_in_a_line() -> Made:
    return {"a.json": json.dumps(documents())}, BY_CITY


@kind
def a_large_array() -> Made:
    found = documents() * 300
    counts = {key: 300 * n for key, n in BY_CITY.items()}
    return {"a.json": json.dumps(found), "b.json": json.dumps(found, indent=1)}, {
        key: 2 * n for key, n in counts.items()
    }


@kind
def documents_of_which_one_is_empty() -> Made:
    files: dict[str, str | bytes] = {
        f"{each['id']}.json": json.dumps(each, indent=1) for each in documents()
    }
    return {**files, "none.json": ""}, BY_CITY


@kind
def a_key_that_some_records_lack() -> Made:
    found = documents()
    for each in found[::50]:
        del each["id"]
    return {"a.jsonl": "\n".join(map(json.dumps, found))}, BY_CITY


@kind
def a_telling_field_that_some_records_lack() -> Made:
    found = [{**each, "status": "ok" if n % 2 else "no"} for n, each in enumerate(documents())]
    del found[7]["status"]
    return {"a.jsonl": "\n".join(map(json.dumps, found))}, BY_CITY


# --- layouts --------------------------------------------------------------------------------------


@kind
def hours_by_date() -> Made:
    lines = "\n".join(map(json.dumps, documents()))
    names = [f"{day.replace('-', '/')}/{hour}.jsonl" for day in DAYS for hour in ("07", "08")]
    counts = {key: 2 * n for key, n in doubled(BY_CITY).items()}
    return dict.fromkeys(names, lines), counts


@kind
def a_mixed_folder() -> Made:
    lines = "\n".join(map(json.dumps, documents()))
    files: dict[str, str | bytes] = {
        f"in/{day}/{name}.jsonl": lines for day in DAYS for name in ("x", "50", "60")
    }
    counts = {key: 3 * n for key, n in doubled(BY_CITY).items()}
    other = {"in/2026-10-05/x.csv": text(ROWS), "app.log": "a line\nand more\n"}
    return files | other, counts


@kind
def a_mixed_folder_at_any_depth() -> Made:
    files: dict[str, str | bytes] = {
        f"{'in/' * n}{n}.jsonl": "\n".join(map(json.dumps, documents()[n::5])) for n in range(5)
    }
    return {**files, "x.csv": text(ROWS), "app.log": "a line\nand more\n"}, BY_CITY


@kind
def mixed_hive_folders() -> Made:
    files, counts = json_lines_in_hive_folders()
    return {**files, "dt=2026-10-05/x.csv": text(ROWS)}, counts


@kind
def a_damaged_file() -> Made:
    data = gzip.compress("\n".join(map(json.dumps, documents())).encode())
    return {"a.jsonl.gz": data, "b.jsonl.gz": data[:-9]}, BY_CITY


def put(root: Path, files: dict[str, str | bytes]) -> None:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)


def pasted(line: str, place: Path, *more: str) -> Iterator[str]:
    """Run the commands of a line that inspect printed; yield what each writes."""
    for command in line.strip().split(" && "):
        done = daskmr(*shlex.split(command)[1:], *more, cwd=place)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        yield done.stdout


# Of the kinds that are much like another one, the quick suite leaves out these.
ALIKE = {
    "a_large_array",
    "a_mixed_folder_at_any_depth", "a_name_twice", "an_array_in_a_line", "comments_and_tabs", "excel",
    "mixed_hive_folders", "pipes", "semicolons_and_decimal_commas_without_a_header", "windows_1252",
    "documents_of_which_one_is_empty", "hours_by_date",
}  # fmt: skip


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=pytest.mark.slow) if name in ALIKE else name for name in KINDS],
)
def test_the_last_line_counts_everything(name: str, tmp_path: Path) -> None:
    files, counts = KINDS[name]()
    put(tmp_path / "my data", files)
    done = daskmr("inspect", "my data", "--write", "job.py", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1]
    [_] = pasted(line, tmp_path, "--inline", "-q", "-o", "out.csv")
    with (tmp_path / "out.csv").open(newline="", errors="surrogateescape") as file:
        head, *rows = csv.reader(file)
    assert {tuple(row[:-1]): int(row[-1]) for row in rows} == counts
    assert (len(head), head[-1]) == (len(rows[0]), "count")
    assert not [*tmp_path.glob("*.bad.jsonl")]
    # new writes the same script, and its lines run, too.
    done = daskmr("new", "job2.py", "-d", "my data", "--filter", "all.json", cwd=tmp_path)
    *_, run = lines = done.stdout.split("Try it:\n\n")[1].splitlines()
    for check in lines[:-1]:
        [_] = pasted(check, tmp_path)
    [_] = pasted(run, tmp_path, "--inline", "-q", "-o", "out2.csv")
    assert (tmp_path / "out2.csv").read_bytes() == (tmp_path / "out.csv").read_bytes()
    assert len(lines) == (1 if name == "a_damaged_file" else 2)
    # Without --write, the last line writes the same script first.
    text = (tmp_path / "job.py").read_text()
    (tmp_path / "job.py").unlink()
    shown = daskmr("inspect", "my data", cwd=tmp_path).stdout.splitlines()
    write, _, run = shown[-1].partition(" && ")
    [_] = pasted(write, tmp_path)
    assert (run.strip(), (tmp_path / "job.py").read_text()) == (line.strip(), text)


def test_bad_rows_and_documents_are_counted_and_reading_goes_on(tmp_path: Path) -> None:
    rows = ["id;city", *(f"{n};Oslo" for n in range(200)), '200;"x', "201", "202;a;b"]
    put(tmp_path / "rows", {"a.csv": "\n".join([*rows, *(f"{n};Rome" for n in range(300))])})
    good = json.dumps(documents()[0], indent=1)
    put(
        tmp_path / "texts",
        {"1.json": good, "2.json": good, "3.json": '{\n"id": 1,', "4.json": "[3]"},
    )
    for data, records, bad in (("rows", 503, 3), ("texts", 4, 2)):
        line = daskmr("inspect", data, cwd=tmp_path).stdout.splitlines()[-1]
        [*_] = pasted(line.partition(" && ")[0], tmp_path)
        [_] = pasted(line.partition(" && ")[2], tmp_path, "--inline", "-q", "-o", f"{data}.csv")
        meta = json.loads((tmp_path / f"{data}.csv.meta.json").read_text())
        assert (meta["counts"]["records"], meta["bad_records"]["count"]) == (records, bad)


def test_the_bad_records_of_a_run_without_output_are_mapped_again_as_printed(
    tmp_path: Path,
) -> None:
    put(tmp_path / "rows", {"a.csv": text(ROWS, ";") + "1;2\n"})
    daskmr("inspect", "rows", "--write", "job.py", cwd=tmp_path)
    done = daskmr("run", "job.py", "-d", "rows", "--inline", cwd=tmp_path)
    [line] = [line for line in done.stderr.splitlines() if "daskmr replay" in line]
    done = daskmr(*shlex.split(line.partition("daskmr ")[2]), cwd=tmp_path)
    assert done.returncode == 1
    assert "still wrong number of fields" in done.stdout


def archives() -> dict[str, str | bytes]:
    tar, packed = io.BytesIO(), io.BytesIO()
    with tarfile.open(fileobj=tar, mode="w") as archive:
        archive.add(__file__, "x.py")
    with zipfile.ZipFile(packed, "w") as files:
        files.writestr("x.csv", text(ROWS))
    return {"a.tar": tar.getvalue(), "a.zip": packed.getvalue()}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"a.tar": archives()["a.tar"]}, "Extract it: mkdir a.tar.d && tar -xf d/a.tar -C a.tar.d"),
        ({"a.zip": archives()["a.zip"]}, "Extract it: unzip d/a.zip -d a.zip.d"),
        ({"a.csv": text(ROWS).encode("utf-16")}, "iconv -f UTF-16 -t UTF-8 < d/a.csv > a.csv.new"),
        ({"a.json": '{\n"id": 1\n}\n{\n"id": 2\n}\n'}, "jq -c . d/a.json > d/a.jsonl"),
        ({"a.log": bytes(range(256)) * 9}, "it is binary data"),
    ],
)
def test_what_nothing_reads_has_the_command_that_converts_it(
    files: dict[str, str | bytes], said: str, tmp_path: Path
) -> None:
    put(tmp_path / "d", files)
    done = daskmr("inspect", "d", cwd=tmp_path)
    assert done.returncode == 2
    *_, last = done.stdout.splitlines()
    assert said in last
    assert last.startswith("note ")
    assert "layout" not in done.stdout
    done = daskmr("new", "job.py", "-d", "d", cwd=tmp_path)
    assert done.returncode == 2
    assert not done.stderr.rstrip().endswith(".")
    assert said in done.stderr


def test_the_command_that_extracts_an_archive_runs(tmp_path: Path) -> None:
    put(tmp_path / "d", {"a.tar": archives()["a.tar"]})
    *_, last = daskmr("inspect", "d", cwd=tmp_path).stdout.splitlines()
    extract, _, look = last.partition("Extract it: ")[2].rpartition(" && ")
    subprocess.run(extract, shell=True, cwd=tmp_path, timeout=60, check=True)
    assert look == "daskmr inspect a.tar.d"
    assert "text without tabs" in next(pasted(look, tmp_path))


def test_the_encoding_has_the_command_that_converts_it(tmp_path: Path) -> None:
    put(tmp_path / "d", {"a.csv": text(ROWS).encode("cp1252")})
    done = daskmr("inspect", "d", cwd=tmp_path)
    assert "Convert it: iconv -f WINDOWS-1252 -t UTF-8 < d/a.csv > a.csv.new\n" in done.stdout


def test_the_damaged_file_is_named(tmp_path: Path) -> None:
    lines = "".join(f"{n}\n" for n in range(99))
    put(tmp_path / "d", {"a.log": gzip.compress(lines.encode()), "b.log.gz": lines})
    done = daskmr("inspect", "d", cwd=tmp_path)
    assert "b.log.gz: " in done.stdout
    assert "a.log: " not in done.stdout


def test_a_mixed_folder_has_shares(tmp_path: Path) -> None:
    put(tmp_path / "d", a_mixed_folder()[0] | archives())
    said = daskmr("inspect", "d", cwd=tmp_path).stdout
    assert "records     jsonl: JSON lines, 6 of 10 files\n" in said
    assert "note        1 of 10 files (in/2026-10-05/x.csv): CSV with a header\n" in said
    assert (
        "1 of 10 files (a.zip): it is a zip archive. Extract it: unzip d/a.zip -d a.zip.d && "
        in said
    )
