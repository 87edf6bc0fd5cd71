"""Parameters, passed variables and ready-made reducers in jobs of several steps."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import daskmr

import daskmr.run.mapreduce as runs
from daskmr import InputError, Job, mapreduce
from daskmr.reducers import collect, count, mean, top, total

SHAPES = """
from daskmr import param
UNIT = param("unit", "cm", help="of lengths")

class Length:
    def __init__(self, number):
        self.number = number

    def __str__(self):
        return f"{self.number} {UNIT}"
"""
FIRST = """
from daskmr import param
from shapes import Length
least = param("least", 2, help="letters of a word")

def map(key, dims, value, context):
    for word in value.split():
        if len(word) >= least:
            context.write(word, 1)

def reduce(key, values, context):
    context.write(key, Length(len(key)))
"""
SECOND = """
from daskmr import param
LEAST = param("least", 1.5)
SUFFIX = param("suffix")

class Seen:
    def __init__(self, text):
        self.text = text + SUFFIX

    def __str__(self):
        return self.text

def map(key, dims, value, context):
    if value.number >= LEAST:
        context.write(value.number, str(value))

def reduce(key, values, context):
    context.write(key, Seen(f"{len(values)} * {values[0]} ({LEAST})"))
"""
THIRD = """
def map(key, dims, value, context):
    context.write(key, (type(value).__name__, value.text))
"""
NAMES = ("first.py", "second.py", "third.py")
WORDS = ["--param", "suffix=!", "--param", "unit=mm"]
OUTPUT = [(n, ("Seen", f"{many} * {n} mm (1.5)!")) for n, many in ((2, 4), (3, 2), (4, 1), (8, 1))]
TEXT = "".join(f"{key}\t{value}\n" for key, value in OUTPUT)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "scripts").mkdir()
    for name, text in zip(("shapes.py", *NAMES), (SHAPES, FIRST, SECOND, THIRD), strict=True):
        (tmp_path / "scripts" / name).write_text(text)
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a.log").write_text("1\tto be or not to be\n2\tthat is the question\n")
    return tmp_path


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    with Client(dask_cluster.address, set_as_default=False) as client:
        yield client


def command(place: Path, *words: str, code: int = 0) -> tuple[str, str]:
    scripts = [str(Path("scripts") / word) if word.endswith(".py") else word for word in words]
    done = daskmr(*scripts, cwd=place)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def run(place: Path, *words: str, code: int = 0) -> tuple[str, str]:
    return command(
        place, "run", *words, *("-d", "data", "--layout", "flat", "-o", "out.txt"), code=code
    )


@pytest.mark.parametrize("where", [["--inline"], pytest.param(["-m", "2"], marks=pytest.mark.slow)])
def test_each_script_declares_its_own(place: Path, where: list[str]) -> None:
    run(place, *NAMES, *WORDS, *where)
    assert (place / "out.txt").read_text() == TEXT
    meta = json.loads((place / "out.txt.meta.json").read_text())
    assert meta["params"] == {"least": 2, "unit": "mm"}
    assert [step.get("params") for step in meta["steps"]] == [
        None, {"least": 1.5, "suffix": "!"}, {},
    ]  # fmt: skip
    again = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    assert again.returncode == 0, again.stderr
    assert "parameter" not in again.stderr
    assert (place / "out.txt").read_text() == TEXT
    other = daskmr("run", "--from", "out.txt.meta.json", "--param", "least=3", cwd=place)
    assert "the parameter least differs from the earlier run: now 3, then 2" in other.stderr
    assert "the parameter least differs from the earlier run: now 3.0, then 1.5" in other.stderr
    assert (place / "out.txt").read_text().startswith("3\t('Seen', '2 * 3 mm (3.0)!')\n")


def test_on_a_cluster_that_does_not_see_the_scripts(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = runs.check_spill_dir

    def hide(request: Any) -> None:
        (place / "scripts").rename(place / "gone")
        check(request)

    monkeypatch.setattr(runs, "check_spill_dir", hide)
    result = mapreduce(
        [place / "scripts" / name for name in NAMES],
        params={"suffix": "!", "unit": "mm"},
        data_dir=place / "data",
        layout="flat",
        client=client,
        work_dir=str(place / "work"),
        keep_steps=str(place / "kept"),
    )
    assert [*result] == OUTPUT
    assert [path.name for path in sorted((place / "kept").iterdir())] == [
        "1-first.txt", "2-second.txt",
    ]  # fmt: skip


@pytest.mark.parametrize("command_name", ["run", "check", "plan"])
def test_mistakes_are_found_once(place: Path, command_name: str) -> None:
    given = (*NAMES, "-d", "data", "--layout", "flat")
    _, said = command(place, command_name, *given, *WORDS, "--param", "sufix=x", code=2)
    names = "The scripts first.py, second.py, third.py have no parameter sufix."
    assert said.count("sufix.") == 1
    assert f"{names} Did you mean suffix?" in said
    _, said = command(place, command_name, *given, code=2)
    assert "The script second.py needs a value for its parameter suffix: text." in said
    assert said.rstrip().endswith("Give it with --param suffix=VALUE")


def test_help_has_a_section_for_each_script(place: Path) -> None:
    shown, _ = command(place, "run", *NAMES, "--help")
    first, second = (shown.index(f"Parameters of scripts/{name}") for name in NAMES[:2])
    assert "unit TEXT" in shown[first:second]
    assert "least INT" in shown[first:second]
    assert "least FLOAT" in shown[second:]
    assert "[required]" in shown[second:]
    assert "third.py (--param" not in shown


def test_check_and_plan_use_them(place: Path) -> None:
    given = (*NAMES, *WORDS, "-d", "data", "--layout", "flat")
    shown, _ = command(place, "check", *given)
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    for line in (
        "params unit = mm",
        "least = 2 (default)",
        "least = 1.5 (default) in second.py",
        "suffix = ! in second.py",
        "map pair 1 2 ('Seen', '4 * 2 mm (1.5)!')",
    ):
        assert any(found.endswith(line) for found in lines), (line, shown)
    assert "step 3 of 3 (third): map" in command(place, "plan", *given)[0]


def test_plan_of_a_first_step_that_only_maps(place: Path) -> None:
    shown, _ = command(place, "plan", "third.py", "third.py", "-d", "data", "--layout", "flat")
    lines = [" ".join(line.split()) for line in shown.splitlines()]
    assert "reducers none: step 1 has no reduce, so map writes the pairs for step 2" in lines


def test_replay_loads_all_scripts_with_their_parameters(place: Path) -> None:
    text = "from daskmr import param\nN = param('n', {})\ndef map(key, dims, value, context):\n"
    (place / "scripts" / "a.py").write_text(text.format(1) + "    if N < 5: raise ValueError\n")
    (place / "scripts" / "b.py").write_text(text.format("''") + "    context.write(key, value)\n")
    run(place, "a.py", "b.py", "--max-bad-records", "100%")
    done = daskmr("replay", "out.txt.bad.jsonl", cwd=place)
    assert (done.returncode, "2 of 2 records do not pass" in done.stderr) == (1, True)
    done = daskmr("replay", "out.txt.bad.jsonl", "--param", "n=7", cwd=place)
    assert (done.returncode, "all 2 records pass now" in done.stderr) == (0, True)


@pytest.mark.slow
def test_one_script_several_times(place: Path) -> None:
    (place / "scripts" / "again.py").write_text(
        "from daskmr import param\nBY = param('by', 2)\n"
        "def map(key, dims, value, context):\n    context.write(key, value * BY)\n"
    )
    (place / "scripts" / "init.py").write_text(
        "def map(key, dims, value, context):\n    context.write(key, 1)\n"
    )
    run(place, "init.py", "again.py", "again.py", "again.py", "--param", "by=3")
    assert (place / "out.txt").read_text() == "1\t27\n2\t27\n"
    (place / "out.txt").unlink()
    done = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    assert (place / "out.txt").read_text() == "1\t27\n2\t27\n", done.stderr


def test_a_parameter_of_several_types_is_repeated(place: Path) -> None:
    text = "from daskmr import param\nN = param('n', {})\ndef map(key, dims, value, context):\n"
    text += "    context.write(key, (value, N))\n"
    for name, default in (("a.py", "0"), ("b.py", "''"), ("c.py", "[0.5]")):
        (place / "scripts" / name).write_text(text.format(default))
    run(place, "a.py", "b.py", "c.py", "--param", "n=5")
    first = (place / "out.txt").read_text()
    assert first.startswith("1\t((('to be or not to be', 5), '5'), [5.0])\n")
    done = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    assert done.returncode == 0, done.stderr
    assert (place / "out.txt").read_text() == first


def test_a_glob_of_scripts_after_the_input_is_no_list_of_steps(place: Path) -> None:
    _, said = command(place, "run", "first.py", "-d", "second.py", "third.py", code=2)
    assert "If the shell has expanded a glob, repeat -d: " in said


# --- steps in a script, and functions ---------------------------------------------------------------

LISTED = """
from daskmr import Job, param
from daskmr.reducers import mean, top, total
LEAST = param("least", 2)

def words(key, dims, value, context):
    for word in value.split():
        if len(word) >= param("least"):
            context.write(word, 1)

def by_length(key, dims, value, context):
    context.write(len(key), (value, key))

def best(key, dims, value, context):
    context.write(LEAST, value[0] / 2)

steps = [
    Job(map=words, combine=total.combine, reduce=total),
    Job(map=by_length, combine=top(1).combine, reduce=top(1)),
    Job(map=best, combine=mean.combine, reduce=mean),
]
"""


@pytest.mark.parametrize(
    "where",
    [
        "inline",
        pytest.param("local", marks=pytest.mark.slow),
        pytest.param("elsewhere", marks=pytest.mark.slow),
    ],
)
def test_steps_in_a_script_with_parameters_and_reducers(
    place: Path, dask_cluster: DaskCluster, where: str
) -> None:
    (place / "scripts" / "listed.py").write_text(LISTED)
    there = ["--scheduler", dask_cluster.address, "--work-dir", str(place / "work")]
    words = {"inline": ["--inline"], "local": ["-m", "2"], "elsewhere": there}[where]
    run(place, "listed.py", "--param", "least=3", *words)
    assert (place / "out.txt").read_text() == "3\t0.5\n"
    run(place, "listed.py", *words)
    assert (place / "out.txt").read_text() == "2\t0.625\n"
    assert "params" not in json.loads((place / "out.txt.meta.json").read_text())["steps"][1]


def test_functions_beside_scripts(place: Path) -> None:
    """Functions take no parameters, and remain what they are in this process."""
    seen: list[Any] = []

    def looked(key: Any, dims: Any, value: Any, context: Any) -> None:
        seen.append(value.number)
        context.write(value.number % 2, value.number)

    options: dict[str, Any] = {"data_dir": place / "data", "layout": "flat", "inline": True}
    job = Job(map=looked, combine=count.combine, reduce=count)
    given = [place / "scripts" / "first.py", job]
    assert [*mapreduce(given, params={"least": 3}, **options)] == [(0, 2), (1, 2)]
    assert sorted(seen) == [3, 3, 4, 8]
    with pytest.raises(InputError, match=r"The script first.py has no parameter lest\. Did"):
        mapreduce(given, params={"lest": 3}, **options)
    with pytest.raises(InputError, match="The parameter least has no effect on functions"):
        mapreduce([job, job], params={"least": 3}, **options)


def test_reducers_between_steps(place: Path) -> None:
    """What a reducer writes in a step is what it writes in an output: a list, tuples, exact sums."""

    def by_length(key: Any, dims: Any, value: Any, context: Any) -> None:
        for word in value.split():
            context.write(len(word), (len(word) / 10, word))

    def same(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, value)

    def sums(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write("all", value[0])

    options: dict[str, Any] = {"data_dir": place / "data", "layout": "flat", "inline": True}
    gathered = Job(map=by_length, reduce=collect)
    assert [*mapreduce([gathered, Job(map=same)], **options)][1:] == [
        (3, [(0.3, "not"), (0.3, "the")]), (4, [(0.4, "that")]), (8, [(0.8, "question")]),
    ]  # fmt: skip
    for by in (total, mean):
        first = Job(map=by_length, combine=top(3).combine, reduce=top(3))
        second = Job(map=sums, combine=by.combine, reduce=by)
        found = mapreduce([first, second], combine_size=1, **options).to_dict()
        assert found == {"all": 2.4 if by is total else 2.4 / 7}


# --- passed variables -------------------------------------------------------------------------------

NAME = "DASKMR_TEST_TOKEN"
MAKES = """
import os
AT_IMPORT = os.environ["DASKMR_TEST_TOKEN"]

class Made:
    token = os.environ["DASKMR_TEST_TOKEN"]

    def __str__(self):
        return "Made"

def map(key, dims, value, context):
    context.write(key, Made())
"""
TAKES = """
import os
AT_IMPORT = os.environ["DASKMR_TEST_TOKEN"]

def map(key, dims, value, context):
    assert value.token == AT_IMPORT == os.environ["DASKMR_TEST_TOKEN"]
    context.write(len(AT_IMPORT), value)

def reduce(key, values, context):
    assert values[0].token == os.environ["DASKMR_TEST_TOKEN"]
    context.write(key, len(values))
"""


@pytest.mark.parametrize(
    "where",
    [
        "inline",
        pytest.param("local", marks=pytest.mark.slow),
        pytest.param("elsewhere", marks=pytest.mark.slow),
    ],
)
def test_variables_are_passed_to_each_step(
    place: Path, client: Client, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    """Also to the module of an earlier script, which a later step imports for its classes."""
    (place / "scripts" / "first.py").write_text(MAKES)
    (place / "scripts" / "second.py").write_text(TAKES)
    for value in ("one", "three"):
        monkeypatch.setenv(NAME, value)
        result = mapreduce(
            [place / "scripts" / "first.py", place / "scripts" / "second.py"],
            pass_env=[NAME],
            data_dir=place / "data",
            layout="flat",
            inline=where == "inline",
            client=client if where == "elsewhere" else None,
            work_dir=str(place / "work"),
            keep_steps=str(place / "kept"),
        )
        assert result.to_dict() == {len(value): 2}
        assert "Made" in (place / "kept" / "1-first.txt").read_text()
