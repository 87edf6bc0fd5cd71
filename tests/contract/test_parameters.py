"""Parameters and passed variables: the same values in every process, wherever a job runs."""

from __future__ import annotations

import json
import os
import pickle
import secrets
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from hashlib import sha256
from pathlib import Path
from typing import Any

import cloudpickle
import psutil
import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import daskmr

import daskmr.run.mapreduce as runs
from daskmr import InputError, mapreduce

cloudpickle.register_pickle_by_value(sys.modules[__name__])  # for functions on the scheduler

SCRIPT = """
import datetime
from daskmr import param
from limits import LEAST

DAY = param("day", type=datetime.date, help="the day that is counted")
TAGS = param("tags", ["all"], help="added to each key")

def map(key, dims, value, context):
    context.write(key, int(value))

def reduce(key, values, context):
    if sum(values) >= LEAST:
        context.write(f"{key} {DAY:%j} {'+'.join(TAGS)}", sum(values))
"""
LIMITS = """
from daskmr import param
LEAST = param("least", 5, help="the sum from which on a key counts")
"""
OUTPUT = "a 031 x+y\t8\nb 031 x+y\t12\n"
GIVEN = {"day": "2024-01-31", "tags": ["x", "y"], "least": 8}
WORDS = ["--param", "day=2024-01-31", "--param", "tags=x,y", "--param", "least=8"]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a script, a module beside it, and data in two files."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "scripts" / "job.py").write_text(SCRIPT)
    (tmp_path / "scripts" / "limits.py").write_text(LIMITS)
    (tmp_path / "data").mkdir()
    for number in range(2):
        lines = [f"{key}\t{n + number}\n" for n, key in enumerate("abcabc")]
        (tmp_path / "data" / f"{number}.tsv").write_text("".join(lines).replace("c\t", "c\t-"))
    return tmp_path


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    with Client(dask_cluster.address, set_as_default=False) as client:
        yield client


def run(place: Path, *words: str, code: int = 0, env: dict[str, str] | None = None) -> str:
    """Run the command, and return the output or the error."""
    done = daskmr(
        *("run", "scripts/job.py", "-d", "data", "--layout", "flat", "-o", "out.txt", *words),
        cwd=place,
        env=env,
    )
    assert done.returncode == code, done.stderr
    return (place / "out.txt").read_text() if code == 0 else done.stderr


def hide_scripts(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the folder of the script disappear once the script is loaded."""
    check = runs.check_spill_dir

    def hide(request: Any) -> None:
        (place / "scripts").rename(place / "gone")
        check(request)

    monkeypatch.setattr(runs, "check_spill_dir", hide)


# --- where a job runs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [["--inline"], ["-m", "2"], pytest.param(["-m", "2", "-r", "3"], marks=pytest.mark.slow)],
)
def test_on_this_machine(place: Path, where: list[str]) -> None:
    assert run(place, *WORDS, *where) == OUTPUT


def test_on_a_cluster_that_does_not_see_the_script(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    hide_scripts(place, monkeypatch)
    mapreduce(
        place / "scripts" / "job.py",
        params=GIVEN,
        data_dir=place / "data",
        layout="flat",
        client=client,
        output=place / "out.txt",
        work_dir=str(place / "work"),
    )
    assert (place / "out.txt").read_text() == OUTPUT


def test_two_jobs_with_other_values_in_one_process(place: Path, client: Client) -> None:
    """One after the other and at the same time; workers keep the modules of both."""

    def output(least: int, **where: Any) -> list[str]:
        result = mapreduce(
            place / "scripts" / "job.py",
            params={**GIVEN, "least": least},
            data_dir=place / "data",
            layout="flat",
            **where,
        )
        return [key for key, _ in result]

    both = ["a 031 x+y", "b 031 x+y"]
    for where in ({"inline": True}, {"client": client}):
        assert [output(n, **where) for n in (9, 8, 9)] == [both[1:], both, both[1:]]
    with ThreadPoolExecutor() as pool:
        found = [*pool.map(lambda n: output(n, client=client), (8, 9, 8, 9))]
    assert found == [both, both[1:]] * 2


def test_a_default_that_differs_on_a_worker(place: Path, client: Client) -> None:
    """It is that of the client, in all processes."""
    (place / "scripts" / "job.py").write_text(
        "import os\nfrom daskmr import param\nPID = param('pid', os.getpid())\n"
        "def map(key, dims, value, context): context.write(PID, 1)\n"
        "def reduce(key, values, context): context.write(key, sum(values))\n"
    )
    result = mapreduce(
        place / "scripts" / "job.py", data_dir=place / "data", layout="flat", client=client
    )
    assert result.to_dict() == {os.getpid(): 12}


# --- the command line -----------------------------------------------------------------------------


@pytest.mark.parametrize("params", [{}, {"tags": ["x"], "limits": {"a": [1]}}])
def test_a_list_or_dict_that_the_script_changes(
    place: Path, client: Client, params: dict[str, Any]
) -> None:
    """All processes begin with the value that was given, and it stays what it was."""
    (place / "scripts" / "job.py").write_text(
        "from daskmr import param\n"
        "TAGS, LIMITS = param('tags', ['x']), param('limits', {'a': [1]})\n"
        "TAGS.append('more')\nLIMITS['a'].append(2)\n"
        "def map(key, dims, value, context): context.write((*TAGS, *LIMITS['a']), 1)\n"
        "def reduce(key, values, context): context.write(str(key), str((TAGS, LIMITS)))\n"
    )
    options = {"data_dir": place / "data", "layout": "flat", "params": params}
    for where in ({"inline": True}, {"client": client}):
        output = place / "out.txt"
        mapreduce(place / "scripts" / "job.py", output=output, **where, **options)
        text = "('x', 'more', 1, 2)\t(['x', 'more'], {'a': [1, 2]})\n"
        assert output.read_text() == text
        meta = json.loads((place / "out.txt.meta.json").read_text())
        assert meta["params"] == {"tags": ["x"], "limits": {"a": [1]}}
    assert params in ({}, {"tags": ["x"], "limits": {"a": [1]}})


def test_a_file_of_parameters(place: Path) -> None:
    (place / "p.toml").write_text('day = 2024-01-31\ntags = ["x", "y"]\nleast = 99\n')
    assert run(place, "--params", "p.toml", "--param", "least=8", "--inline") == OUTPUT
    text = (place / "p.toml").read_text()
    words = ["run", "scripts/job.py", "-d", "data", "--params", "p.toml", "--layout", "flat"]
    done = daskmr(*words, "-o", "p.toml", "--inline", cwd=place)
    assert "The output 'p.toml' would replace a file that the job needs" in done.stderr
    done = daskmr(*words, "-o", "out.txt", "--report", "p.toml", "--inline", cwd=place)
    assert "The report 'p.toml' would replace a file of the job" in done.stderr
    assert (place / "p.toml").read_text() == text


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ([], "needs a value for its parameter day (the day that is counted): a date"),
        (["--param", "day=x"], "The parameter day cannot be 'x': it takes a date"),
        (["--param", "day=2024-01-31", "--param", "Least=1"], "Did you mean least?"),
        (["--param", "day"], "--param 'day' is not NAME=VALUE"),
        (["--params", "none.yaml"], "none.yaml cannot be read"),
    ],
)
def test_mistakes_are_found_before_any_work(place: Path, words: list[str], why: str) -> None:
    for command in ("run", "check", "plan"):
        done = daskmr(
            command, "scripts/job.py", "-d", "data", "--layout", "flat", *words, cwd=place
        )
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr
        assert "Traceback" not in done.stderr


def test_what_an_error_says_works(place: Path) -> None:
    said = run(place, code=2)
    word = said.split("Give it with ")[1].split()[1]
    assert word == "day=VALUE"
    assert run(place, "--param", word.replace("VALUE", "2024-01-31")) == OUTPUT.replace(
        "x+y", "all"
    )


def test_help_shows_those_of_the_script(place: Path) -> None:
    for command in ("run", "check", "plan"):
        done = daskmr(command, "scripts/job.py", "--help", cwd=place)
        assert done.returncode == 0
        own = done.stdout.split("Parameters of scripts/job.py (--param NAME=VALUE):\n")[1]
        rows = [" ".join(line.split()) for line in own.splitlines()]
        assert rows[:3] == [
            "day DATE the day that is counted [required]",
            "tags LIST added to each key [default: all]",
            "least INT the sum from which on a key counts [default: 5]",
        ]
    for words in (["--help"], ["none.py", "--help"]):
        done = daskmr("run", *words, cwd=place)
        assert (done.returncode, "Parameters of" in done.stdout) == (0, False)


def test_check_shows_and_uses_them(place: Path) -> None:
    words = ("check", "scripts/job.py", "-d", "data", "--layout", "flat", *WORDS[:4])
    done = daskmr(*words, cwd=place)
    assert done.returncode == 0, done.stderr
    shown = [line[12:] for line in done.stdout.splitlines()]
    assert shown[1:4] == ["least = 5 (default)", "day = 2024-01-31", "tags = ['x', 'y']"]
    assert "a 031 x+y" in done.stdout


def test_plan_maps_with_them(place: Path) -> None:
    words = ("plan", "scripts/job.py", "-d", "data", "--layout", "flat", *WORDS)
    done = daskmr(*words, cwd=place)
    assert done.returncode == 0, done.stderr
    lines = [" ".join(line.split()) for line in done.stdout.splitlines()]
    assert lines[lines.index("params least = 8") :][:3] == [
        "params least = 8", "day = 2024-01-31", "tags = ['x', 'y']",
    ]  # fmt: skip


def test_from_repeats_them_and_replay_uses_them(place: Path) -> None:
    (place / "data" / "2.tsv").write_text("a\tx\n")
    first = run(place, *WORDS)
    meta = json.loads((place / "out.txt.meta.json").read_text())
    assert meta["params"] == {"least": 8, "day": "2024-01-31", "tags": ["x", "y"]}
    again = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    assert again.returncode == 0, again.stderr
    assert (place / "out.txt").read_text() == first
    assert "parameter" not in again.stderr
    other = daskmr(
        "run", "--from", "out.txt.meta.json", "--param", "least=9", "--inline", cwd=place
    )
    assert "the parameter least differs from the earlier run: now 9, then 8" in other.stderr
    assert (place / "out.txt").read_text() == OUTPUT.splitlines(keepends=True)[1]
    # A parameter that the script has lost is noted; one that it needs is that of the run.
    (place / "scripts" / "limits.py").write_text("LEAST = 8\n")
    lost = daskmr("run", "--from", "out.txt.meta.json", "--inline", cwd=place)
    assert (place / "out.txt").read_text() == OUTPUT, lost.stderr
    assert "the parameter least differs from the earlier run: now not set, then 9" in lost.stderr
    done = daskmr("replay", "out.txt.bad.jsonl", cwd=place)
    assert done.returncode == 1
    assert "1 of 1 records do not pass" in done.stderr
    wrong = daskmr("replay", "out.txt.bad.jsonl", "--param", "day=x", cwd=place)
    assert "The parameter day cannot be 'x'" in wrong.stderr


def test_from_python(place: Path) -> None:
    options: dict[str, Any] = {"data_dir": place / "data", "layout": "flat", "inline": True}
    given = {**GIVEN, "day": date(2024, 1, 31)}
    result = mapreduce(place / "scripts" / "job.py", params=given, **options)
    assert "".join(f"{key}\t{value}\n" for key, value in result) == OUTPUT
    with pytest.raises(InputError, match="The parameter day has no effect on functions"):
        mapreduce(map=lambda key, dims, value, context: None, params={"day": 1}, **options)


# --- passed variables -----------------------------------------------------------------------------

NAME = "DASKMR_TEST_TOKEN"
READS = """
import hashlib, os, pathlib, time
AT_IMPORT = os.environ["DASKMR_TEST_TOKEN"]
def map(key, dims, value, context):
    folder = pathlib.Path({folder!r})
    (folder / "waiting").touch()
    while not (folder / "go").exists():
        time.sleep(0.01)
    assert AT_IMPORT == os.environ["DASKMR_TEST_TOKEN"]
    context.write(hashlib.sha256(AT_IMPORT.encode()).hexdigest(), 1)
def reduce(key, values, context):
    assert AT_IMPORT == os.environ["DASKMR_TEST_TOKEN"]
    context.write(key, sum(values))
"""


def graph_of(dask_scheduler: Any) -> bytes:
    """Return all that the scheduler knows of its tasks and clients."""
    tasks = [(key, task.run_spec) for key, task in dask_scheduler.tasks.items()]
    return pickle.dumps(tasks) + repr((tasks, dask_scheduler.identity())).encode()


def variable() -> str | None:
    import os  # by value, the module would come with this process's environment

    return os.environ.get(NAME)


def holds(folder: Path, value: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and value in path.read_bytes()]


@pytest.mark.parametrize(
    "where",
    [
        "inline",
        pytest.param("local", marks=pytest.mark.slow),
        pytest.param("elsewhere", marks=pytest.mark.slow),
    ],
)
def test_a_secret_is_nowhere_but_in_the_script(
    place: Path, dask_cluster: DaskCluster, client: Client, where: str
) -> None:
    secret = secrets.token_hex(16)
    (place / "scripts" / "job.py").write_text(READS.format(folder=str(place)))
    words = ["--pass-env", NAME, "--report", "report.html", "--log-format", "json"]
    there = ["--scheduler", dask_cluster.address, "--work-dir", str(place / "work")]
    words += {"inline": ["--inline"], "local": ["-m", "2"], "elsewhere": there}[where]
    with ThreadPoolExecutor() as pool:
        running = pool.submit(
            daskmr,
            *("run", "scripts/job.py", "-d", "data", "--layout", "flat", "-o", "out.txt", *words),
            cwd=place,
            env={NAME: secret},
        )
        try:
            while not (place / "waiting").exists() and not running.done():
                time.sleep(0.05)
            processes = [
                " ".join(p.info["cmdline"] or ()) for p in psutil.process_iter(["cmdline"])
            ]
            graph = client.run_on_scheduler(graph_of)
            during = holds(place, secret.encode())
        finally:
            (place / "go").touch()
        done = running.result(60)
    assert done.returncode == 0, done.stderr
    assert (place / "out.txt").read_text() == f"{sha256(secret.encode()).hexdigest()}\t12\n"
    assert secret not in "\n".join([done.stdout, done.stderr, *processes])
    assert secret.encode() not in graph
    assert (where == "elsewhere") == (b"daskmr" in graph)
    assert (
        during == holds(place, secret.encode()) == holds(dask_cluster.folder, secret.encode()) == []
    )
    assert json.loads((place / "out.txt.meta.json").read_text())["pass_env"] == [NAME]
    assert {*client.run(variable).values()} == {None}


@pytest.mark.parametrize("where", ["local", "elsewhere"])
def test_another_value_in_the_next_run(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Also in a variable that the script reads while it is loaded."""
    (place / "scripts" / "job.py").write_text(READS.format(folder=str(place)))
    (place / "go").touch()
    for value in ("one", "two"):
        monkeypatch.setenv(NAME, value)
        result = mapreduce(
            place / "scripts" / "job.py",
            pass_env=[NAME],
            data_dir=place / "data",
            layout="flat",
            client=client if where == "elsewhere" else None,
        )
        assert result.to_dict() == {sha256(value.encode()).hexdigest(): 12}


def test_a_variable_that_is_not_set(place: Path) -> None:
    for command in ("run", "plan"):
        done = daskmr(
            *(command, "scripts/job.py", "-d", "data", "--layout", "flat", *WORDS),
            *("--pass-env", "DASKMR_TEST_NONE"),
            cwd=place,
        )
        assert done.returncode == 2
        assert "The environment variable DASKMR_TEST_NONE (--pass-env) is not set." in done.stderr
    said = run(place, "--pass-env", "A=s3cret", *WORDS, code=2)
    assert "--pass-env takes only the name" in said
    assert "s3cret" not in said


def test_a_default_that_is_no_text_is_described(place: Path) -> None:
    script = place / "scripts" / "job.py"
    script.write_text(
        "from datetime import timedelta\nfrom daskmr import param\nKEPT = param('kept', timedelta(7))\n"
        "def map(key, dims, value, context): context.write(key, KEPT)\n"
    )
    run(place, "--inline")
    meta = json.loads((place / "out.txt.meta.json").read_text())
    assert (meta["params"], meta["defaults"]) == ({}, {"kept": "datetime.timedelta(days=7)"})
    assert "kept differs" not in daskmr("run", "--from", "out.txt", "--inline", cwd=place).stderr
    script.write_text(script.read_text().replace("7", "1"))
    done = daskmr("run", "--from", "out.txt", "--inline", cwd=place)
    assert (
        "kept differs from the earlier run: now 'datetime.timedelta(days=1)', then" in done.stderr
    )


def test_from_repeats_the_names(place: Path) -> None:
    (place / "scripts" / "job.py").write_text(READS.format(folder=str(place)))
    (place / "go").touch()
    run(place, "--pass-env", NAME, "--inline", env={NAME: "one"})
    done = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    assert done.returncode == 2
    assert f"{NAME} (--pass-env) is not set" in done.stderr
