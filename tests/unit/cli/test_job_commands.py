"""The commands that come before a run, as a user calls them; misspelt ones; completion."""

from __future__ import annotations

import gzip
import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from support.jobs import DIRECTORY, daskmr, file_name, write_tree

from daskmr.cli.entry import main

JOB = """
print("loaded")
def map(key, dims, value, context):
    context.write(key, int(value))
def combine(key, values, context):
    context.write(key, sum(values) / len(values))
reduce = combine
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1", "a\t2", "a\t6"], ["b\t3"]])
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "none.json").write_text(
        '{"dimensions": [{"field_name": "reason", "allowed_values": "other"}]}'
    )
    return tmp_path


def test_json_is_all_that_standard_output_gets(place: Path) -> None:
    done = daskmr("plan", "job.py", "-d", "data", "--json", "-m", "2", "-X", "-p", "-q", cwd=place)
    assert done.returncode == 0
    content = json.loads(done.stdout)
    assert content["files"]["files"] == 2
    assert content["estimate"]["records"] == 4
    assert content["workers"] == 2
    assert done.stderr == "loaded\n"
    assert sorted(path.name for path in place.iterdir()) == ["data", "job.py", "none.json"]


def test_a_plan_for_people_goes_to_standard_output(place: Path) -> None:
    done = daskmr("plan", "job.py", "-d", "data", "--no-estimate", cwd=place)
    assert done.stdout.startswith("plan        job.py over data\n")
    assert "\x1b" not in done.stdout
    assert done.stderr == "loaded\n"


@pytest.mark.parametrize("arguments", ["check job.py -d data", "replay bad --script job.py"])
def test_standard_output_that_cannot_be_written(place: Path, arguments: str) -> None:
    bad = {
        "file": f"{DIRECTORY}/{file_name(0)}",
        "line": 1,
        "reason": "",
        "exception": "",
        "raw": "",
    }
    (place / "bad").write_text(json.dumps(bad))
    command = f"{sys.executable} -m daskmr {arguments} > /dev/full"
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.endswith("Standard output cannot be written: No space left on device.\n")


def test_nothing_matches(place: Path) -> None:
    for command in ("plan", "check"):
        done = daskmr(command, "job.py", "-d", "data", "-f", "none.json", cwd=place)
        assert done.returncode == 3
        assert "dimension 1 (reason) allows 'other'" in done.stderr


def test_check_warns_and_exits_with_0(place: Path) -> None:
    done = daskmr("check", "job.py", "-d", "data", cwd=place)
    assert done.returncode == 0
    assert "\nwarning     combine changes the result" in done.stdout
    assert "line 2     'a': 2\n" in done.stdout


@pytest.mark.parametrize(
    ("script", "code", "said"),
    [
        ("def map(key, dims, value, context): value[99]", 1, "IndexError"),
        ('def map(key, dims, value, context):\n    print "x"', 2, "Python 2"),
        ("def mapp(key, dims, value, context): pass", 2, "does not define `map`"),
        ("def map(key, value): pass", 2, "cannot be called with 4 positional arguments"),
    ],
)
def test_check_of_a_script_with_mistakes(place: Path, script: str, code: int, said: str) -> None:
    (place / "job.py").write_text(script)
    done = daskmr("check", "job.py", "-d", "data", cwd=place)
    assert (done.returncode, said in done.stderr) == (code, True), done.stderr
    assert "daskmr/" not in done.stderr


def test_check_stops_at_breakpoints(place: Path) -> None:
    (place / "job.py").write_text(
        JOB.replace("context.write(key, int(value))", "breakpoint()\n    key = value")
    )
    done = subprocess.run(
        [sys.executable, "-m", "daskmr", "check", "job.py", "-d", "data"],
        cwd=place,
        input="print('value', value)\nq\n",
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert "value 1" in done.stderr
    assert "The debugger was left" in done.stderr


def test_breakpoint_in_a_worker_hints_at_inline(place: Path) -> None:
    (place / "job.py").write_text("def map(key, dims, value, context): breakpoint(); value = 1")
    done = daskmr("run", "job.py", "-d", "data", "-m", "1", cwd=place)
    assert done.returncode == 1
    assert "run the job with --inline to stop at breakpoint()" in done.stderr


def test_new_refuses_to_replace(place: Path) -> None:
    done = daskmr("new", "job.py", "--filter", "all.json", cwd=place)
    assert done.returncode == 2
    assert "--force" in done.stderr
    assert (place / "job.py").read_text() == JOB
    assert not (place / "all.json").exists()
    assert daskmr("new", "job.py", "--force", cwd=place).returncode == 0
    assert (place / "job.py").read_text() != JOB
    assert daskmr("new", "job", cwd=place).returncode == 2


@pytest.mark.parametrize(("variable", "coloured"), [("", True), ("1", False)])
def test_colours_are_for_terminals_and_obey_no_color(
    place: Path, variable: str, coloured: bool
) -> None:
    control, terminal = pty.openpty()
    command = [sys.executable, "-m", "daskmr", "plan", "job.py", "-d", "data", "--no-estimate"]
    environment = {**os.environ, "NO_COLOR": variable, "TERM": "xterm"}
    with subprocess.Popen(command, cwd=place, env=environment, stdout=terminal) as process:
        os.close(terminal)
        shown = b""
        try:
            while data := os.read(control, 1 << 16):
                shown += data
        except OSError:
            pass  # Linux says so when the other end is closed
        os.close(control)
        assert process.wait(60) == 0
    assert (b"\x1b[" in shown) is coloured


# --- misspelt -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("plann", "No such command 'plann'. Did you mean 'plan'?"),
        ("job.py -d data", "Did you mean `mapreduce run job.py`?"),
        ("cache verfy", "No such command 'verfy'. Did you mean 'verify'?"),
        ("zzz", "No such command 'zzz'.\n"),
        ("run --data-dr x", "--data-dir"),
        ("plan --data-dr x", "--data-dir"),
        ("check --data-dr x", "--data-dir"),
    ],
)
def test_misspelt_commands_and_options(arguments: str, said: str) -> None:
    done = CliRunner().invoke(main, arguments.split())
    assert done.exit_code == 2
    assert said in done.output


def test_plan_takes_all_options_of_run() -> None:
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in ("run", "plan")}
    options = {
        name: {opt for parameter in command.params for opt in parameter.opts}
        for name, command in commands.items()
        if command is not None
    }
    assert options["run"] <= options["plan"]


# --- completion ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("daskmr pl", "plain,plan\n"),
        ("daskmr run job.py -d da", "dir,da\n"),
        ("daskmr run job.py -f fi", "file,fi\n"),
        ("daskmr plan job.py --work-dir x", "dir,x\n"),
        ("daskmr run job.py --cluster sl", "plain,slurm\n"),
        ("daskmr run job.py --cluster ./m", "file,./m\n"),
        ("daskmr check jo", "file,jo\n"),
        ("daskmr run --from o", "file,o\n"),
        ("daskmr run job.py --report r", "file,r\n"),
        ("daskmr replay out.bad.jsonl --script j", "file,j\n"),
        ("daskmr cache ls --schema s", "file,s\n"),
        ("daskmr plan job.py --quie", ""),
    ],
)
def test_completion(words: str, offered: str) -> None:
    variables = {
        "_DASKMR_COMPLETE": "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(words.count(" ")),
    }
    done = CliRunner().invoke(main, [], prog_name="daskmr", env=variables)
    assert done.output.lstrip("\n") == offered


def test_a_plan_of_a_run_that_was(place: Path) -> None:
    options = ["-d", "data", "-o", "out", "--inline", "--limit-files", "1"]
    assert daskmr("run", "job.py", *options, cwd=place).returncode == 0
    done = daskmr("plan", "--from", "out.meta.json", "--json", "--no-estimate", cwd=place)
    content = json.loads(done.stdout)
    assert content["files"]["files"] == 1
    assert content["script"] == str(place / "job.py")
    assert content["workers"] == 1
    assert daskmr("plan", "-d", "data", cwd=place).returncode == 2


def test_check_of_one_file(place: Path) -> None:
    (path,) = [p for p in place.rglob("*.gz") if b"b\t3" in gzip.decompress(p.read_bytes())]
    only = str(path.relative_to(place / "data"))
    done = daskmr("check", "job.py", "-d", "data", "--only", only, cwd=place)
    assert done.returncode == 0
    assert "'b'" in done.stdout
    assert "'a'" not in done.stdout
