"""The command `inspect`, as a user calls it: the line that it prints works when it is pasted."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import daskmr
from support.store_server import Bucket

ACCESS = "".join(
    f'10.0.0.{n} - - [30/Jan/2024:10:00:0{n} +0000] "GET / HTTP/1.1" {404 if n % 3 else 200} 1\n'
    for n in range(9)
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    for day in ("2024-01-30", "2024-01-31"):
        for host in ("web1", "web2"):
            (tmp_path / "my logs" / day / host).mkdir(parents=True)
            (tmp_path / "my logs" / day / host / "access.log").write_text(ACCESS)
    return tmp_path


def pasted(line: str, place: Path, stdin: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a line in a shell, where `daskmr` is this one."""
    (place / "bin").mkdir(exist_ok=True)
    command = place / "bin" / "daskmr"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m daskmr "$@"\n')
    command.chmod(0o755)
    return subprocess.run(
        ["bash", "-c", line],
        cwd=place,
        env={**os.environ, "PATH": f"{place / 'bin'}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        input=stdin,
    )


def test_the_line_works_when_it_is_pasted(place: Path) -> None:
    done = daskmr("inspect", "my logs", cwd=place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[:6] == [
        f"input       my logs: 4 files, {4 * len(ACCESS) / 1000:.1f} kB",
        "layout      {day:date}/{host}/access.log",
        "compression none (4)",
        "records     lines: the access log of a web server",
        "dimensions  day (date): 2 values, 2024-01-30 (2), 2024-01-31 (2)",
        "            host: 2 values, web1 (2), web2 (2)",
    ]
    *_, options, _, _, line = done.stdout.splitlines()
    assert options == "options     --layout '{day:date}/{host}/access.log' --records lines"
    assert line == "  daskmr inspect 'my logs' --write job.py && daskmr run job.py -d 'my logs'"
    done = pasted(f"{line} --inline -q", place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "('2024-01-30', '200')\t6\n('2024-01-30', '404')\t12\n('2024-01-31', '200')\t6\n('2024-01-31', '404')\t12\n"
    )
    # A script that exists is not replaced; the line then names another one.
    assert "--write job2.py" in daskmr("inspect", "my logs", cwd=place).stdout
    before = (place / "job.py").read_text()
    done = daskmr("inspect", "my logs", "--write", "job.py", cwd=place)
    assert (done.returncode, (place / "job.py").read_text()) == (2, before)
    assert "job.py already exists" in done.stderr
    done = daskmr("inspect", "my logs", "--write", "job.py", "--force", cwd=place)
    assert done.stdout.endswith("job.py written. Run it:\n  daskmr run job.py -d 'my logs'\n")


def test_json(place: Path) -> None:
    done = daskmr("inspect", "-d", "my logs", "--json", cwd=place)
    found = json.loads(done.stdout)
    assert found["layout"] == "{day:date}/{host}/access.log"
    assert found["records"] == "lines"
    assert found["command"].startswith("daskmr inspect 'my logs' --write job.py && ")
    assert found["options"][:2] == ["-d", "my logs"]


def test_standard_input(place: Path) -> None:
    done = pasted("cat 'my logs'/*/*/access.log | daskmr inspect -", place)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1].strip()
    assert line == "COMMAND | daskmr inspect - --write job.py"
    done = pasted(line.replace("COMMAND", "cat 'my logs'/*/*/access.log"), place)
    line = done.stdout.splitlines()[-1].strip()
    assert line == "COMMAND | daskmr run job.py -d -"
    line = line.replace("COMMAND", "cat 'my logs'/*/*/access.log")
    assert pasted(f"{line} --inline -q", place).stdout == "200\t12\n404\t24\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "a URL, or try sample data:\ndaskmr sample-data data && daskmr inspect data\n"),
        (["none"], "none does not exist"),
        (["my logs", "--write", "job.txt"], "must end in .py"),
        (["s3://key:secret@bucket"], "holds credentials"),
        (["s3://a", "s3://b"], "2 stores are given"),
        (["s3://a/*.log"], "has wildcards"),
        (["/dev/null"], "neither a file nor a directory"),
    ],
)
def test_mistakes(place: Path, arguments: list[str], said: str) -> None:
    done = daskmr("inspect", *arguments, cwd=place)
    assert done.returncode == 2
    assert said in done.stderr
    assert "secret" not in done.stderr


def test_the_data_that_is_here_is_advised(place: Path) -> None:
    (place / "data").mkdir()
    said = pasted("daskmr inspect", place).stderr
    assert said.endswith("daskmr sample-data data2 && daskmr inspect data2\n")
    (place / "data/a.jsonl").write_text("{}\n")
    said = pasted("daskmr inspect", place).stderr
    assert said.endswith("try data, which is here:\ndaskmr inspect data\n")


def test_dask_is_not_imported(place: Path) -> None:
    code = (
        "import sys; sys.argv[1:] = ['inspect', 'my logs']\n"
        "import os; leave = os._exit\n"
        "os._exit = lambda code: leave(code or 10 * ('dask' in sys.modules))\n"
        "from daskmr.__main__ import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=place, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_control_characters_are_escaped(place: Path) -> None:
    (place / "odd").mkdir()
    (place / "odd" / "a\x1b[31m.log").write_text("\x1b[31mred\x07 and more of it\n" * 3)
    done = daskmr("inspect", "odd", cwd=place)
    assert done.returncode == 0
    assert "\x1b" not in done.stdout
    assert r"\x1b[31mred\x07" in done.stdout


@pytest.mark.slow
def test_a_bucket_with_options(bucket: Bucket, place: Path) -> None:
    bucket.put({f"logs/2024-01-3{n}/access.log": ACCESS.encode() for n in range(2)})
    environment = {"AWS_ENDPOINT_URL": "http://127.0.0.1:9"}
    arguments = ("-b", f"{bucket.name}/logs", "--endpoint-url", bucket.server.url)
    done = daskmr("inspect", *arguments, cwd=place, env=environment)
    assert done.returncode == 0, done.stderr
    line = done.stdout.splitlines()[-1].strip()
    given = f"-b {bucket.name}/logs --endpoint-url {bucket.server.url}"
    assert line == f"daskmr inspect {given} --write job.py && daskmr run job.py {given}"
    done = pasted(f"{line} --inline -q", place)
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(
        "('2024-01-30', '200')\t3\n('2024-01-30', '404')\t6\n('2024-01-31', '200')\t3\n('2024-01-31', '404')\t6\n"
    )
