"""Seven everyday kinds of data, each with a question that one command line answers.

No file is written first: the script is on the command line (``-c``). The answers are computed from what the
tests wrote, before it was in a file.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import shlex
import subprocess
import sys
import tarfile
from collections import Counter, defaultdict
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

DAYS = ("2024/01/02", "2024/01/03", "2024/02/01")
HOSTS = ("web1", "web2")


def shell(place: Path, line: str, code: int = 0) -> str:
    """Run a command line as a user types it; return its output, or its error."""
    path = f"{os.path.dirname(sys.executable)}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=place,
        env={**os.environ, "PATH": path},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return done.stdout if code == 0 else done.stderr


def put(path: Path, data: str | bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = data.encode() if isinstance(data, str) else data
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def table(rows: Iterable[Any]) -> str:
    return "".join("\t".join(map(str, row)) + "\n" for row in rows)


def count(expression: str) -> str:
    """Return the option with a script that counts the values of an expression."""
    return "-c " + shlex.quote(
        f"def map(key, dims, value, context): context.write({expression}, 1)\n"
        "def reduce(key, values, context): context.write(key, sum(values))"
    )


# --- access logs by day and host ------------------------------------------------------------------


def requests() -> list[tuple[str, str, int, str]]:
    """Return the day, the host, the status and the line of some requests."""
    found = []
    for number in range(600):
        day, host = DAYS[number % 3], HOSTS[number * number % 7 % 2]
        status = (200, 200, 304, 404, 500, 503)[number * 5 % 17 % 6]
        when = f"{day[8:]}/Jan/{day[:4]}:{number % 24:02}:00:00 +0000"
        line = f'10.0.0.{number % 9} - - [{when}] "GET /{number} HTTP/1.1" {status} 12 "-" "curl"'
        found.append((day, host, status, line))
    return found


@pytest.fixture
def logs(tmp_path: Path) -> Path:
    files = defaultdict(list)
    for day, host, _, line in requests():
        files[f"{day}/{host}/access.log.gz"].append(line)
    for name, lines in files.items():
        put(tmp_path / "logs" / name, "".join(f"{line}\n" for line in lines))
    return tmp_path


def test_nginx_logs(logs: Path) -> None:
    line = (
        "daskmr run -d logs --layout '{year}/{month}/{day}/{host}/access.log.gz' --records lines "
    )
    script = count("(dims.host, value.split('\" ')[1][:3])")
    found = shell(logs, f"{line} --where month=01 -o errors.csv {script} && cat errors.csv")
    counts = Counter((host, str(status)) for day, host, status, _ in requests() if day[5:7] == "01")
    rows = list(csv.reader(io.StringIO(found)))
    assert rows[0] == ["key", "key_2", "value"]
    assert rows[1:] == [[*key, str(count)] for key, count in sorted(counts.items())]


# --- JSON lines in hive partitions ----------------------------------------------------------------


def events() -> list[dict[str, Any]]:
    return [
        {
            "dt": f"2024-01-0{number % 3 + 2}",
            "hour": f"{number % 24:02}",
            "user": {"id": number * 7 % 11, "name": "zoë"},
            "event": ("view", "cart", "buy")[number % 7 % 3],
        }
        for number in range(500)
    ]


@pytest.mark.parametrize(
    "layout", ["hive", pytest.param("dt={dt:date}/hour={hour:int}/{_}", marks=pytest.mark.slow)]
)
def test_json_lines_in_hive_partitions(tmp_path: Path, layout: str) -> None:
    files = defaultdict(list)
    for event in events():
        name = f"dt={event['dt']}/hour={event['hour']}/part-0.jsonl.gz"
        files[name].append(json.dumps({k: event[k] for k in ("user", "event")}))
    for name, lines in files.items():
        put(tmp_path / "events" / name, "\n".join(lines))
    script = count("value['event']")
    found = shell(
        tmp_path,
        f"daskmr run -d events --layout '{layout}' --records jsonl --where dt=2024-01-03.. {script}",
    )
    counts = Counter(event["event"] for event in events() if event["dt"] >= "2024-01-03")
    assert found == table(sorted(counts.items()))


# --- a flat folder of JSON lines ------------------------------------------------------------------


@pytest.mark.slow
def test_a_folder_of_json_lines(tmp_path: Path) -> None:
    for number in range(3):
        lines = map(json.dumps, events()[number::3])
        put(tmp_path / "dump" / f"{number}.jsonl", "".join(f"{line}\n" for line in lines))
    line = f"daskmr run -d dump --layout flat --records jsonl --key user.id {count('key')}"
    counts = Counter(event["user"]["id"] for event in events())
    assert shell(tmp_path, line) == table(sorted(counts.items()))
    assert shell(tmp_path, line.replace("-d dump --layout flat", "-d 'dump/*.jsonl'")) == table(
        sorted(counts.items())
    )


# --- CSV ------------------------------------------------------------------------------------------


def rides() -> list[dict[str, Any]]:
    zones = ("Airport", "Old Town, East", 'Theatre "Orpheum"', "Harbour\nPier 3")
    return [
        {"zone": zones[number * number % 4 - number % 2], "km": number % 13 / 2, "no": number}
        for number in range(300)
    ]


def test_csv_with_quoted_newlines(tmp_path: Path) -> None:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, ["no", "zone", "km"])
    writer.writeheader()
    writer.writerows(rides())
    put(tmp_path / "rides.csv", text.getvalue())
    script = (
        "output_columns = ('zone', 'km')\n"
        "def map(key, dims, value, context): context.write(value['zone'], float(value['km']))\n"
        "def reduce(key, values, context): context.write(key, sum(values))"
    )
    line = f"daskmr run -d rides.csv --records csv -o km.csv -c {shlex.quote(script)}"
    shell(tmp_path, line)
    totals: Counter[str] = Counter()
    for ride in rides():
        totals[ride["zone"]] += ride["km"]
    with (tmp_path / "km.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert found == [{"zone": zone, "km": str(km)} for zone, km in sorted(totals.items())]


# --- Parquet --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_parquet(tmp_path: Path) -> None:
    (tmp_path / "rides").mkdir()
    for number in range(2):
        rows = pa.Table.from_pylist(rides()[number::2])
        pq.write_table(rows, tmp_path / "rides" / f"{number}.parquet", row_group_size=40)
    script = (
        "fields = 'zone', 'km'\n"
        "def map(key, dims, value, context): context.write(*value)\n"
        "def reduce(key, values, context): context.write(key, {'longest': max(values)})"
    )
    line = "daskmr run -d rides --layout flat --records parquet -o longest.jsonl"
    shell(tmp_path, f"{line} -c {shlex.quote(script)}")
    longest: dict[str, float] = {}
    for ride in rides():
        longest[ride["zone"]] = max(ride["km"], longest.get(ride["zone"], 0.0))
    found = [*map(json.loads, (tmp_path / "longest.jsonl").read_text().splitlines())]
    assert found == [{"key": zone, "longest": km} for zone, km in sorted(longest.items())]


# --- a tar ----------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_tar(logs: Path) -> None:
    """It is refused, with what to do; or its content is piped."""
    with tarfile.open(logs / "logs.tar", "w") as archive:
        archive.add(logs / "logs", "logs")
    script = count("value.split()[0]")
    said = shell(logs, f"daskmr run -d logs.tar --records lines {script}", code=1)
    assert "tar" in said
    assert "tar -x" in said
    for _, host, *_ in requests():
        put(logs / "plain" / f"{host}.log", "")
    lines = [line for *_, line in requests()]
    put(logs / "plain" / "web1.log", "".join(f"{line}\n" for line in lines))
    shell(logs, "tar -cf plain.tar plain")
    found = shell(logs, f"tar -xOf plain.tar | daskmr run -d - --records lines {script}")
    assert found == table(sorted(Counter(line.split()[0] for line in lines).items()))


# --- a log with some tabs -------------------------------------------------------------------------


@pytest.mark.slow
def test_a_log_with_some_tabs(tmp_path: Path) -> None:
    levels = ("INFO", "WARN", "ERROR")
    lines = [
        f"{levels[n * n % 5 % 3]} took {n} ms{chr(9) + 'retry' if n % 9 == 0 else ''}"
        for n in range(400)
    ]
    put(tmp_path / "app.log", "".join(f"{line}\n" for line in lines))
    found = shell(
        tmp_path, f"daskmr run -d app.log --records lines {count('value.split()[0]')} 2> said"
    )
    assert found == table(sorted(Counter(line.split()[0] for line in lines).items()))
    # As records of key, tab and value, most lines are bad, so there is no output.
    said = shell(tmp_path, f"daskmr run -d app.log {count('key')}", code=1)
    assert "no tab in the line" in said
