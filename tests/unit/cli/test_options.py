"""Options of the commands, and misspelt ones."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from daskmr.cli.entry import main


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


@pytest.mark.parametrize("command", ["run", "plan", "check"])
def test_an_input_that_is_no_option_is_shown_as_one(command: str) -> None:
    done = CliRunner().invoke(main, [command, "job.py", "my data", "-v"])
    assert done.exit_code == 2
    expected = f"The input is an option: mapreduce {command} job.py -d 'my data' -v\n"
    assert done.output.endswith(expected)


GLOB = "If the shell has expanded a glob, "


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("-d d/1.csv d/2.csv d/3.csv -c X", GLOB + "quote it: CMD -d 'd/*.csv' -c X"),
        ("-d d/1.csv d/2.csv d/3.csv job.py", GLOB + "quote it: CMD -d 'd/*.csv' job.py"),
        ("job.py -r 2 -d d/1.csv d/2.csv d/3.csv", GLOB + "quote it: CMD job.py -r 2 -d 'd/*.csv'"),
        ("job.py d/1.csv d/2.csv d/3.csv -r 2", "The input is an option: CMD job.py -d 'd/*.csv' -r 2"),
        ("job.py -d d/1.csv d/2.csv", GLOB + "repeat -d: CMD job.py -d d/1.csv -d d/2.csv"),
        ("job.py --data-dir=d/1.csv d/2.csv", GLOB + "repeat -d: CMD job.py --data-dir=d/1.csv -d d/2.csv"),
        ("-d d/1.csv d/2.csv -c X", GLOB + "repeat -d: CMD -d d/1.csv -d d/2.csv -c X"),
        ("job.py -d d/1.py d/2.py", GLOB + "repeat -d: CMD job.py -d d/1.py -d d/2.py"),
        ("job.py d -k K -s SECRET", "The input is an option: CMD job.py -d d -k K -s '***'"),
    ],
)  # fmt: skip
def test_an_expanded_glob_is_shown_quoted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: str, said: str
) -> None:
    (tmp_path / "d").mkdir()
    for name in ("1.csv", "2.csv", "3.csv", "other.txt"):
        (tmp_path / "d" / name).touch()
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, ["run", *arguments.split()])
    assert done.exit_code == 2
    assert done.output.endswith(f"{said.replace('CMD', 'mapreduce run')}\n")


def test_plan_takes_all_options_of_run() -> None:
    context = click.Context(main)
    commands = {name: main.get_command(context, name) for name in ("run", "plan")}
    options = {
        name: {opt for parameter in command.params for opt in parameter.opts}
        for name, command in commands.items()
        if command is not None
    }
    assert options["run"] <= options["plan"]


def test_a_path_in_place_of_a_command_leads_to_inspect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my logs").mkdir()
    done = CliRunner().invoke(main, ["my logs"])
    assert done.exit_code == 2
    assert "Did you mean `mapreduce inspect 'my logs'`?" in done.output
