"""Trying a script: what is said of it, and what is warned of."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.jobs import ROOT, write_tree
from support.store_server import Bucket

from daskmr import InputError, Job, JobError, NothingMatchedError
from daskmr.cli.new import script_text
from daskmr.job.check import likely_misspelt
from daskmr.run.check import alike, check_script

EXAMPLES = ROOT / "examples"
LINES = ["a\t1", "a\t2", "b\t3", "a\t6", "no tab", "b\tx"]


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, int(value))


def total(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values))


def mean(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values) / len(values))


class Said(list[tuple[str, str]]):
    """What was said, with the title of the lines before where a line has none."""

    def __call__(self, title: str, text: str) -> None:
        self.append((title or self[-1][0], text))

    def under(self, title: str) -> list[str]:
        return [text for each, text in self if each == title]


def check(script: Any, root: Path, **options: Any) -> Said:
    said = Said()
    count = check_script(script, said, data_dir=root, **options)
    assert count == len(said.under("warning"))
    return said


def test_a_job_without_mistakes(tree: Callable[..., Path]) -> None:
    said = check(Job(map=emit, combine=total, reduce=total), tree([LINES]))
    assert said.under("map") == [
        f"line {n}     {pair}"
        for n, pair in [(1, "'a': 1"), (2, "'a': 2"), (3, "'b': 3"), (4, "'a': 6")]
    ]
    assert said.under("records") == ["6 records gave 4 pairs under 2 keys"]
    assert said.under("bad")[:2] == ["1 x no tab in the line", "1 x ValueError"]
    assert "line 5 of " in said.under("bad")[2]
    assert "'no tab'" in said.under("bad")[2]
    assert said.under("combine")[0] == "'a': 3 values become 9"
    assert said.under("output") == ["a    9", "b    3"]
    assert said.under("warning") == []


HANDLER = "signal.signal(signal.SIGALRM, signal.SIG_DFL)"


@pytest.mark.parametrize(
    ("script", "error"),
    [
        (f"import signal\n{HANDLER}\ndef map(key, dims, value, context):\n    pass", InputError),
        (f"import signal\ndef map(key, dims, value, context):\n    {HANDLER}", JobError),
    ],
)
def test_what_works_in_the_main_thread_alone_is_found_before_a_run(
    tree: Callable[..., Path], tmp_path: Path, script: str, error: type[Exception]
) -> None:
    (tmp_path / "job.py").write_text(script)
    with pytest.raises(error, match="run with --inline"):
        check(tmp_path / "job.py", tree([LINES]))


def test_a_connection_that_belongs_to_a_thread_is_used_in_it(
    tree: Callable[..., Path], tmp_path: Path
) -> None:
    (tmp_path / "job.py").write_text(
        "import sqlite3\ntable = sqlite3.connect(':memory:')\n"
        "def map(key, dims, value, context):\n"
        "    context.write(key, table.execute('select 7').fetchone()[0])\n"
        "    table.close()\n"
    )
    said = check(tmp_path / "job.py", tree([LINES[:1]]))
    assert said.under("records") == ["1 record gave 1 line"]


def test_a_map_that_leaves_the_program_is_found(tree: Callable[..., Path]) -> None:
    def leave(key: str, dims: list[str], value: str, context: Any) -> None:
        os._exit(0)

    with pytest.raises(JobError, match=r"os\._exit\(0\) was called"):
        check(Job(map=leave), tree([LINES]))


def test_the_number_of_records_is_kept(tree: Callable[..., Path]) -> None:
    root = tree([LINES[:2], [], LINES[2:]])
    said = check(Job(map=emit, reduce=total), root, limit_records=3)
    assert said.under("records") == ["3 records gave 3 pairs under 2 keys"]
    assert len(said.under("input")) == 2, "of a file without records nothing is said"


def test_what_is_passed_over_is_warned_of(tmp_path: Path, tree: Callable[..., Path]) -> None:
    script = tmp_path / "job.py"
    script.write_text(
        "from functools import reduce\nimport csv\n"
        "def map(key, dims, value, context): context.write(key, 1)\n"
    )
    (tmp_path / "csv.py").touch()
    passed_over, unused = check(script, tree([LINES])).under("warning")
    assert passed_over.startswith("`reduce` in the script is functools.reduce, not a function of")
    assert unused.startswith("csv.py beside the script is not used")


def test_a_combine_that_changes_the_result_is_warned_of(tree: Callable[..., Path]) -> None:
    said = check(Job(map=emit, combine=mean, reduce=mean), tree([LINES]))
    (warning,) = said.under("warning")
    assert warning.startswith("combine changes the result: for the key 'a', reduce gives")


def test_a_combine_that_is_exact_but_for_rounding_is_not(tree: Callable[..., Path]) -> None:
    def divide(key: str, dims: list[str], value: str, context: Any) -> None:
        context.write("k", int(value) / 10)

    root = tree([[f"k\t{n}" for n in range(40)]])
    assert check(Job(map=divide, combine=total, reduce=total), root).under("warning") == []


def test_a_combine_that_writes_nothing_is_right(tree: Callable[..., Path]) -> None:
    job = Job(map=emit, combine=lambda key, values, context: None, reduce=total)
    said = check(job, tree([LINES]))
    assert said.under("warning") == []
    assert said.under("combine")[0] == "'a': 3 values become 1, 2, 6"


@pytest.mark.parametrize(
    ("combine", "message"),
    [
        (lambda k, v, c: (c.write(k, 1), c.write(k, 2)), "combine wrote twice under the key 'a'"),
        (lambda k, v, c: c.write("other", 1), "wrote under another, 'other'"),
    ],
)
def test_a_combine_that_breaks_the_contract_fails(
    combine: Any, message: str, tree: Callable[..., Path]
) -> None:
    with pytest.raises(JobError, match=message):
        check(Job(map=emit, combine=combine, reduce=total), tree([LINES]))


def test_a_map_that_fails_shows_the_record(tree: Callable[..., Path]) -> None:
    def fail(key: str, dims: list[str], value: str, context: Any) -> None:
        raise KeyError(value)

    with pytest.raises(JobError, match=r"line 1: KeyError: '1' .*\nThe record: 'a\\t1'") as caught:
        check(Job(map=fail), tree([LINES]))
    assert "Traceback" in caught.value.details
    assert "daskmr" not in caught.value.details.replace(__file__, "")


@pytest.mark.parametrize("function", ["reduce", "setup_reduce"])
def test_the_others_are_tried_too(function: str, tree: Callable[..., Path]) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("so it is")

    wrong = {"reduce": lambda k, v, c: fail(), "setup_reduce": lambda c: fail()}[function]
    functions: dict[str, Any] = {"map": emit, "reduce": total, function: wrong}
    with pytest.raises(JobError, match=f"{function} failed .*so it is"):
        check(Job(**functions), tree([LINES]))


def test_a_map_only_job(tree: Callable[..., Path]) -> None:
    def setup(context: Any) -> None:
        context.field_separator = ";"
        context.writeline("head")

    said = check(Job(map=emit, setup_reduce=setup), tree([LINES[:1]]))
    assert said.under("map") == ["line 1     a;1"]
    assert said.under("header") == [r"'head\n'"]


def test_steps_that_only_map(tree: Callable[..., Path], tmp_path: Path) -> None:
    text = "from daskmr import Job\ndef map(key, dims, value, context): context.write(key, value)\n"
    (tmp_path / "job.py").write_text(f"{text}steps = [Job(map=map), Job(map=map)]\n")
    said = check(tmp_path / "job.py", tree([LINES[:1]]))
    assert said.under("warning") == []
    assert said.under("map") == ["line 1     'a': '1'", "pair 1     a    1"]


def test_steps_that_are_no_jobs_are_warned_of(tree: Callable[..., Path], tmp_path: Path) -> None:
    text = "def map(key, dims, value, context): context.write(key, value)\n"
    for steps in ("[]", "[map]", "[dict(map=map)]"):
        (tmp_path / "job.py").write_text(f"{text}steps = {steps}\n")
        (warning,) = check(tmp_path / "job.py", tree([LINES[:1]])).under("warning")
        assert "holds no Job, so the job has one step" in warning


@pytest.mark.parametrize(
    ("job", "lines", "warning"),
    [
        (Job(map=emit, reduce=total), [], "the input has no records"),
        (Job(map=emit, reduce=total), ["x"], "all of these records are bad"),
        (
            Job(map=emit, reduce=total),
            ["a,b", "c,d"],
            "no line has a tab: they look like CSV. A run would fail immediately; to "
            "read them as such, pass --records csv",
        ),
        (
            Job(map=lambda k, d, v, c: c.write(k, int(v))),
            ["a\tx", "a\t1", "b"],
            "2 of 3 records are bad: with this proportion, a run would fail unless --max-bad-records allows it",
        ),
        (Job(map=lambda k, d, v, c: None), ["a\t1"], "map wrote nothing for any of them"),
        (Job(map=emit, reduce=lambda k, v, c: None), ["a\t1"], "reduce wrote nothing"),
        (
            Job(map=emit, combine=total),
            ["a\t1"],
            "combine is never called, because there is no reduce. Name each function: "
            "Job(map=..., reduce=...)",
        ),
    ],
)
def test_what_is_odd_is_warned_of(
    job: Job, lines: list[str], warning: str, tree: Callable[..., Path]
) -> None:
    assert warning in check(job, tree([lines])).under("warning")


def test_files_that_cannot_be_read(tree: Callable[..., Path]) -> None:
    root = tree([LINES])
    (path,) = root.rglob("*.gz")
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(JobError, match=r"is damaged.*A run fails there"):
        check(Job(map=emit), root)
    path.unlink()
    path.symlink_to("/proc/self/mem")
    with pytest.raises(JobError, match=r"cannot be read: "):
        check(Job(map=emit), root)


def test_nothing_matches(tree: Callable[..., Path]) -> None:
    allowed = {"dimensions": [{"field_name": "reason", "allowed_values": "other"}]}
    with pytest.raises(NothingMatchedError, match="'other'"):
        check(Job(map=emit), tree([LINES]), input_filter=allowed)


def test_names_that_are_nearly_right() -> None:
    text = "def map(): pass\ndef Combine(): pass\ndef reduces(): pass\ndef step(): pass\n"
    assert likely_misspelt(text, "x") == {"Combine": "combine", "reduces": "reduce"}
    text += "def reduce(): pass"
    assert likely_misspelt(text, "x") == {"Combine": "combine", "reduces": ""}


def test_a_bucket_is_read_and_not_kept(
    bucket: Bucket, tree: Callable[..., Path], tmp_path: Path
) -> None:
    root = tree([LINES, ["z\t1"]])
    bucket.put({str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.gz")})
    said = Said()
    job = Job(map=emit, reduce=total)
    check_script(job, said, bucket=bucket.name, work_dir=str(tmp_path / "w"), limit_records=2)
    assert said.under("records") == ["2 records gave 2 pairs under 1 key"]
    assert not list((tmp_path / "w").rglob("*.gz"))
    assert bucket.count("GET", "saved_session") == 1


def test_a_large_object_is_read_as_far_as_it_is_needed(
    bucket: Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskmr.store.store._BUFFERED_BYTES", 1000)
    root = write_tree(tmp_path, [[f"k\t{n}" for n in range(300_000)]])
    (path,) = root.rglob("*.gz")
    bucket.put({str(path.relative_to(root)): path.read_bytes()})
    said = Said()
    check_script(Job(map=emit, reduce=total), said, bucket=bucket.name, cache=False)
    assert said.under("output") == ["k    4950"]


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        (float("nan"), float("nan"), True),
        ([1, (2.0,)], [1, (2.0 + 1e-12,)], True),
        ({"a": 0.1 + 0.2}, {"a": 0.3}, True),
        ([1], [1, 2], False),
        ("a", "b", False),
        ({"a": 1}, {"b": 1}, False),
    ],
)
def test_alike(one: Any, other: Any, same: bool) -> None:
    assert alike(one, other) is same


def test_what_the_script_counts_is_shown(tree: Callable[..., Path]) -> None:
    def counting(key: str, dims: list[str], value: str, context: Any) -> None:
        context.counter("records", key)
        context.write(key, int(value))

    said = check(Job(map=counting, reduce=total), tree([LINES]))
    assert said.under("counter") == ["records: a 3", "records: b 1"]


# --- values on disk -----------------------------------------------------------------------------


def sorting_in_place(key: Any, values: Any, context: Any) -> None:
    values.sort()
    context.write(key, values[0])


def dumping(key: Any, values: Any, context: Any) -> None:
    context.write(key, json.dumps(values))


def asking_the_type(key: Any, values: Any, context: Any) -> None:
    context.write(key, len(values) if type(values) is list else 1)


def concatenating(key: Any, values: Any, context: Any) -> None:
    context.write(key, json.dumps([0] + values))  # noqa: RUF005


@pytest.mark.parametrize(
    ("reduce", "told"),
    [
        (sorting_in_place, r"a run will fail: reduce failed for the key 'a'.*sorted\(values\)"),
        (dumping, r"a run will fail: .*not JSON serializable.* requires `list\(values\)`"),
        (
            concatenating,
            r"a run will fail: .*can only concatenate list.* requires `list\(values\)`",
        ),
        (asking_the_type, r"the result differs: for the key 'a', reduce gives \[\('a', 1\)\]"),
    ],
)
def test_a_reduce_that_fails_over_values_on_disk_is_warned_of(
    tree: Callable[..., Path], reduce: Any, told: str
) -> None:
    said = check(Job(map=emit, reduce=reduce), tree([LINES]))
    (warning,) = said.under("warning")
    assert re.search(told, warning)
    assert len(said.under("output")) == 2, "over the few values there are it works"


def test_a_combine_that_fails_over_values_on_disk_is_warned_of(tree: Callable[..., Path]) -> None:
    def combine(key: Any, values: Any, context: Any) -> None:
        values.append(0)
        context.write(key, sum(values))

    said = check(Job(map=emit, combine=combine, reduce=total), tree([LINES]))
    (warning,) = said.under("warning")
    assert "combine failed for the key 'a'" in warning


def test_a_reduce_that_gives_another_result_each_time_is_not(tree: Callable[..., Path]) -> None:
    calls: list[int] = []

    def counting(key: Any, values: Any, context: Any) -> None:
        calls.append(1)
        context.write(key, len(calls))

    assert not check(Job(map=emit, reduce=counting), tree([LINES])).under("warning")


# --- from Python 2 ------------------------------------------------------------------------------


def test_what_comes_from_python_2_is_told_with_its_place(tmp_path: Path) -> None:
    (tmp_path / "helper.py").write_text("def pairs(d):\n    return d.iteritems()\n")
    script = tmp_path / "job.py"
    script.write_text(
        "import helper\n"
        "def map(key, dims, value, context):\n    context.write(key.encode('utf-8'), 1)\n"
        "def reduce(key, values, context):\n    context.write(key, sum(values) / len(values))\n"
        "def map_cleanup(context):\n    pass\n"
    )
    said = Said()
    assert check_script(script, said) == 4
    places = [text.split(" ")[0] for text in said.under("warning")]
    assert places == ["`map_cleanup`", "helper.py:2:", "job.py:3:", "job.py:5:"]


def test_a_script_that_fails_while_it_is_loaded_is_looked_through_first(tmp_path: Path) -> None:
    script = tmp_path / "job.py"
    script.write_text("x = unicode('a')\ndef map(k, d, v, c):\n    c.write(k, d.iteritems())\n")
    said = Said()
    with pytest.raises(InputError, match=r"line 1: .*write `str` for `unicode`"):
        check_script(script, said)
    assert [text.split(" ")[0] for text in said.under("warning")] == ["job.py:1:", "job.py:3:"]
    script.write_text("print 'x'\n")
    with pytest.raises(InputError, match="This looks like Python 2"):
        check_script(script, Said())


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda p: p.stem)
def test_the_examples_are_not_warned_of(path: Path) -> None:
    assert check_script(path, Said()) == 0


def test_a_script_to_begin_with_is_not_warned_of(tmp_path: Path) -> None:
    path = tmp_path / "mine.py"
    path.write_text(script_text(str(path), ["day"]))
    assert check_script(path, Said()) == 0


@pytest.mark.parametrize(
    ("name", "rest", "found"),
    [
        ("map_finished", "", False),
        ("mapcleanup", "", True),
        ("output", "", True),
        ("mapp", "", True),
        ("map_finish", "", True),
        ("setup_map", "", False),
        ("finish_reduce", "", False),
        ("mapper_final", "", True),
        ("reducer_init", "", True),
        ("before_map", "", True),
        ("finish_mapping_file", "", False),
        ("setup", "", True),
        ("combiner", "", True),
        ("output", "output(1)\n", False),
        ("reducer", "reduce = reducer\n", False),
        ("mapping_of", "", False),
        ("endpoint", "", False),
        ("setup", "handlers = {'setup': setup}\n", False),
    ],
)
def test_functions_that_look_like_those_of_a_job(name: str, rest: str, found: bool) -> None:
    text = f"def map(k, d, v, c): pass\ndef {name}(c): pass\n{rest}"
    assert (name in likely_misspelt(text, "x")) is found
