"""The contract of a job script: what its functions are given, what they may write, and the keys."""

from __future__ import annotations

import builtins
import collections
import dataclasses
import functools
import json
import math
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from support.jobs import DIRECTORY, ROOT, daskmr, file_name, write_tree

from daskmr import InputError, Job, JobError, mapreduce
from daskmr.errors import DaskMRError
from daskmr.job.keys import sort_key

DIMS = [*DIRECTORY.split("/"), "20131029030201", "20131102"]


@pytest.fixture
def run(tmp_path):
    """Run functions, or the text of a script, over lists of lines."""

    def run(job, files, **options):
        if isinstance(job, str):
            path = tmp_path / "job.py"
            path.write_text(textwrap.dedent(job))
            job = path
        options = {"inline": True, "work_dir": tmp_path / "work"} | options
        return mapreduce(job, data_dir=write_tree(tmp_path / "data", files), **options)

    return run


@pytest.fixture
def text_of(run, tmp_path):
    """Run a job and return the text of its output file."""

    def text_of(job, files, **options):
        run(job, files, output=tmp_path / "out.txt", **options)
        return (tmp_path / "out.txt").read_bytes().decode()

    return text_of


def pass_on(key, dims, value, context):
    context.write(key, value)


def collect(key, values, context):
    context.write(key, list(values))


def records(key, values):
    return [f"{key}\t{value}" for value in values]


# --- map ----------------------------------------------------------------------------------------


def test_map_is_given_text_dimensions_and_text(run):
    seen = []

    def map_(key, dims, value, context):
        seen.append((key, dims, value))
        assert (type(key), type(value)) == (str, str)
        assert isinstance(dims, list)  # it may have names, too
        assert set(map(type, dims)) == {str}

    run(Job(map=map_), [["k\tv", "\u00e9\t", "\tonly a value\twith a tab"]])
    assert seen == [
        ("k", DIMS, "v"),
        ("\u00e9", DIMS, ""),
        ("", DIMS, "only a value\twith a tab"),
    ]


def test_what_map_does_to_dims_does_not_reach_the_next_file(run):
    seen = []

    def map_(key, dims, value, context):
        seen.append(list(dims))
        dims.clear()
        dims.append("spoiled")

    # More files than partitions, so that some share one.
    run(Job(map=map_), [["k\tv"]] * 80)
    assert seen == [DIMS] * 80


def test_a_script_is_loaded_once_in_each_process(run, tmp_path):
    script = f"""
        import os
        with open({str(tmp_path / "loads")!r}, "a") as log:
            log.write(f"{{os.getpid()}}\\n")
        def map(key, dims, value, context):
            context.write(os.getpid(), 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    pids = {pid for pid, _ in run(script, [["k\t"]] * 8, inline=False, num_mappers=2)}
    loads = list(map(int, (tmp_path / "loads").read_text().split()))
    assert len(loads) == len(set(loads))
    assert pids <= set(loads)
    assert os.getpid() not in pids


def test_inline_runs_in_this_process(run):
    """So that a breakpoint in the script works."""
    script = """
        import os, threading
        def map(key, dims, value, context):
            context.write((os.getpid(), threading.current_thread().name), 1)
        def reduce(key, values, context):
            assert os.getpid() == key[0]
            context.write(key, sum(values))
    """
    assert list(run(script, [["k\t"]] * 3)) == [((os.getpid(), "MainThread"), 3)]


def test_without_map_nothing_is_done(tmp_path):
    script = tmp_path / "job.py"
    script.write_text("def mapper(key, dims, value, context): pass\n")
    output = tmp_path / "out.txt"
    output.write_text("old")
    done = daskmr("run", script, "-d", write_tree(tmp_path / "data", [["k\tv"]]), "-o", output)
    assert done.returncode == 2
    assert "does not define `map`" in done.stderr
    assert "`mapper`" in done.stderr
    assert output.read_text() == "old"


@pytest.mark.parametrize(
    ("line", "advice"),
    [("print key", "write `print(...)`"), ("try: pass\n    except E, e: pass", "`except X as e:`")],
)
def test_a_script_in_python_2_is_told_what_to_change(tmp_path, line, advice):
    script = tmp_path / "job.py"
    script.write_text(f"def map(key, dims, value, context):\n    {line}\n")
    done = daskmr("run", script, "-d", write_tree(tmp_path / "data", [["k\tv"]]), "--inline")
    assert done.returncode == 2
    assert f"{script}, line" in done.stderr
    assert "Python 2" in done.stderr
    assert advice in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("at_load", "in_map", "advice"),
    [
        ("x = unicode('a')", "pass", "write `str` for `unicode`"),
        ("from itertools import izip", "pass", "write `zip` for `izip`"),
        ("import string; x = string.maketrans('a', 'b')", "pass", "`str.maketrans`"),
        ("", "for k in {}.iteritems(): pass", "write `items()` for `iteritems`"),
        ("", "xrange(3)", "write `range` for `xrange`"),
        ("", "{}.has_key(key)", "write `key in d` for `has_key`"),
    ],
)
def test_an_error_of_python_2_says_what_to_write(run, at_load, in_map, advice):
    script = f"{at_load}\ndef map(key, dims, value, context):\n    {in_map}\n"
    with pytest.raises(DaskMRError) as caught:
        run(script, [["k\tv"]])
    assert "job.py, line" in str(caught.value)
    assert "This looks like Python 2: " in str(caught.value)
    assert advice in str(caught.value)


def test_reduce_and_combine_get_the_hint_too(run):
    def old(key, values, context):
        {}.iteritems()

    lines = [[f"k\t{n}" for n in range(60)]]
    for functions in ({"reduce": old}, {"combine": old, "reduce": collect}):
        with pytest.raises(JobError, match=r"failed for the key 'k'.*write `items\(\)`"):
            run(Job(map=pass_on, **functions), lines)


def test_a_function_that_looks_like_one_of_a_job_is_noted(run):
    script = """
        def map(key, dims, value, context):
            context.write(key, helper(value))
        def helper(value):
            return value
        def map_cleanup(context):
            context.write("lost", 1)
    """
    result = run(script, [["k\tv"]])
    assert [note for note in result.notes if "never called" in note] == [
        "`map_cleanup` is never called: a run calls only `map`, `combine`, `reduce`, `setup_reduce`, "
        "`setup_map`, `finish_map` and `finish_reduce` of a script"
    ]


@pytest.mark.parametrize("options", [pytest.param([], marks=pytest.mark.slow), ["--inline"]])
def test_a_script_that_looks_at_its_own_name_is_the_one_that_was_given(tmp_path, options):
    write_tree(tmp_path / "data", [["a\t1", "b\t22"]])
    (tmp_path / "passes.py").write_text(
        "import os, common\n"
        "PASS = os.path.basename(__file__)\n"
        "def map(key, dims, value, context):\n"
        "    context.write(key, {'count.py': 1, 'length.py': len(value)}[PASS])\n"
        "def reduce(key, values, context):\n"
        "    context.write(key, common.SIGN * sum(values))\n"
    )
    (tmp_path / "links").mkdir()
    for name in ("count.py", "length.py"):
        (tmp_path / "links" / name).symlink_to("../passes.py")
    (tmp_path / "common.py").write_text("SIGN = 1")
    output = tmp_path / "out.txt"
    run = ["run", "-d", "data", "-o", output, "-q", *options]
    assert daskmr(*run, "links/count.py", cwd=tmp_path).returncode == 0
    assert output.read_text() == "a\t1\nb\t1\n"
    assert daskmr(*run, "links/length.py", cwd=tmp_path).returncode == 0
    assert output.read_text() == "a\t1\nb\t2\n"
    meta = f"{output}.meta.json"
    assert json.loads(Path(meta).read_text())["script"]["path"] == f"{tmp_path}/links/length.py"
    (tmp_path / "links/common.py").write_text("SIGN = -1")  # which is nearer
    done = daskmr("run", "--from", meta, cwd=tmp_path)
    assert output.read_text() == "a\t-1\nb\t-2\n"
    assert "modules of the script have changed since the earlier run: common.py" in done.stderr


def test_a_reduce_of_pythons_own_is_not_called(run):
    job = """
        from functools import reduce

        def map(key, dims, value, context):
            context.write(key, value)
        """
    for inline in (True, False):
        result = run(job, [["b\t1", "a\t2"]], inline=inline)
        assert list(result) == [("b", "1"), ("a", "2")]
        [note] = result.notes
        assert note.startswith("`reduce` in the script is functools.reduce")


def test_a_map_of_pythons_own_is_an_error_before_any_work(tmp_path):
    (tmp_path / "job.py").write_text("from builtins import map, filter\n")
    write_tree(tmp_path / "data", [["a\t1"]])
    done = daskmr("run", "job.py", "-d", "data", "-o", "out.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert "the `map` in it is builtins.map, which it imports" in done.stderr
    assert not (tmp_path / "out.txt").exists()
    assert not (tmp_path / ".daskmr").exists()


@pytest.mark.parametrize("inline", [True, False])
def test_a_package_beside_the_script_reads_its_data(run, tmp_path, inline):
    package = tmp_path / "names"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import importlib.resources, json, pkgutil\n"
        "EARLY = json.loads(pkgutil.get_data(__name__, 'table.json'))\n"
        "def late(): return json.loads(importlib.resources.files(__name__).joinpath('table.json').read_text())"
    )
    (package / "table.json").write_text('{"k": "of k"}')
    (tmp_path / "the-helper.py").write_text("X = 'helper'")
    job = """
        import names
        helper = __import__("the-helper")

        def map(key, dims, value, context):
            context.write(names.EARLY[key], (names.late()[key], helper.X))

        def reduce(key, values, context):
            context.write(key, values[0])
        """
    assert dict(run(job, [["k\t1"]], inline=inline)) == {"of k": ("of k", "helper")}


def test_a_file_beside_the_script_that_gives_way_to_a_module_is_named(run, tmp_path):
    (tmp_path / "queue.py").write_text("LIMIT = 10")
    job = """
        import queue

        def map(key, dims, value, context):
            context.write(key, queue.LIMIT if value == "2" else 1)
        """
    [note] = run(job, [["a\t1"]]).notes
    assert note.startswith(
        "queue.py beside the script is not used: the module 'queue' is that of Py"
    )
    with pytest.raises(
        JobError, match=r"no attribute 'LIMIT'.* queue\.py beside the script is not"
    ):
        run(job, [["a\t1", "a\t2"]], inline=False)


def test_map_only_jobs_neither_group_nor_combine(run):
    def combine(key, values, context):
        raise AssertionError("not in a job without reduce")

    files = [records("b", range(60)), records("a", range(60))]
    expected = [("b", str(n)) for n in range(60)] + [("a", str(n)) for n in range(60)]
    assert list(run(Job(map=pass_on, combine=combine), files)) == expected


def test_the_map_context_says_where_writeline_belongs(run):
    job = Job(map=lambda key, dims, value, context: context.writeline(key), reduce=collect)
    with pytest.raises(JobError, match=r"writeline.*belongs in reduce"):
        run(job, [["k\tv"]])


# --- what is returned ---------------------------------------------------------------------------


def spell_pairs(key, values, context):
    context.write(key, sorted(values))


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (("a", 1), r"it returned \('a', 1\), .*call `context\.write\(key, value\)`"),
        ([("a", 1)], r"for key, value in pairs: context\.write\(key, value\)"),
        ((("a", 1), ("b", 2)), r"for key, value in pairs: context\.write\(key, value\)"),
        ({"a": 1}, r"for key, value in result\.items\(\): context\.write\(key, value\)"),
        (True, r"it returned True, .*`return` alone ends the call"),
        (False, r"`return` alone ends the call"),
        (0, r"it returned 0, .*context\.write\(key, result\)"),
        ("", r"it returned '', .*context\.write\(key, result\)"),
        (
            (n for n in "ab"),
            r"it returned a generator, which was never run.*Instead of `yield",
        ),
        (builtins.map(str, "ab"), r"it returned a map, which was never run"),
    ],
)
@pytest.mark.parametrize("reduce", [None, spell_pairs])
@pytest.mark.parametrize("writes", [False, True])
def test_what_map_returns_is_an_error_in_the_first_record(run, returned, told, reduce, writes):
    def map_(key, dims, value, context):
        if writes:
            context.write(key, value)
        return returned

    with pytest.raises(JobError, match=r"map failed at .*, line 1: it returned") as caught:
        run(Job(map=map_, reduce=reduce), [["a\t1", "b\t2"]])
    assert re.search(told, str(caught.value))
    assert str(caught.value).endswith(".")


def test_what_an_async_function_returns_is_an_error(run):
    async def later(key, dims, value, context):
        context.write(key, value)

    def map_(key, dims, value, context):
        return later(key, dims, value, context)

    with pytest.raises(JobError, match=r"it returned a coroutine, which was never run"):
        run(Job(map=map_), [["a\t1"]])


@pytest.mark.parametrize(
    "map_",
    [
        lambda key, dims, value, context: context.write(key, value),
        lambda key, dims, value, context: context.write(key, value) or None,
        functools.partial(lambda extra, key, dims, value, context: context.write(key, value), 1),
    ],
)
def test_a_map_that_returns_what_write_returns_is_fine(text_of, map_):
    assert text_of(Job(map=map_), [["a\t1"]]) == "a\t1\n"
    assert text_of(Job(map=map_, reduce=collect), [["a\t1"]]) == "a\t['1']\n"


def test_a_decorated_generator_is_an_error_where_it_runs(run):
    def decorated(function):
        def wrapper(*args):
            return function(*args)

        return wrapper

    @decorated
    def map_(key, dims, value, context):
        yield key, value

    with pytest.raises(JobError, match=r"line 1: it returned a generator"):
        run(Job(map=map_), [["a\t1"]])


def test_what_map_returns_is_an_error_in_a_sample_too(run):
    def map_(key, dims, value, context):
        return key, value

    with pytest.raises(JobError, match=r"it returned \('\d+', '1'\)"):
        run(Job(map=map_), [[f"{n}\t1" for n in range(100)]], sample=0.5, sample_by="key")


@pytest.mark.parametrize("spill_bytes", ["64MiB", 1])
def test_a_reduce_that_returns_and_writes_nothing_is_an_error(run, spill_bytes):
    def reduce(key, values, context):
        return len(values)

    with pytest.raises(
        JobError,
        match=r"reduce failed for the key 'a': it returned 2, .*context\.write\(key, result\)",
    ):
        run(Job(map=pass_on, reduce=reduce), [["a\t1", "a\t2"]], spill_bytes=spill_bytes)


def test_a_reduce_that_returns_a_generator_is_an_error(run):
    def reduce(key, values, context):
        return (context.write(key, value) for value in values)

    with pytest.raises(JobError, match=r"returned a generator, which was never run.*`yield"):
        run(Job(map=pass_on, reduce=reduce), [["a\t1"]])


@pytest.mark.parametrize("spill_bytes", ["64MiB", 1])
def test_a_reduce_that_writes_may_return_something(text_of, spill_bytes):
    def reduce(key, values, context):
        for value in values:
            context.write(key, value)
        return len(values)

    text = text_of(
        Job(map=pass_on, reduce=reduce), [[f"a\t{n}" for n in range(9)]], spill_bytes=spill_bytes
    )
    assert text == "".join(f"a\t{n}\n" for n in range(9))


def test_a_combine_that_returns_and_writes_nothing_is_an_error(run):
    def combine(key, values, context):
        return max(values)

    lines = [[f"a\t{n}" for n in range(200)]]
    with pytest.raises(JobError, match=r"combine failed for the key 'a': it returned .9.,"):
        run(Job(map=pass_on, combine=combine, reduce=collect), lines)


@pytest.mark.parametrize("reduce", [None, collect])
def test_a_header_that_is_returned_is_an_error(run, text_of, reduce):
    def returning(context):
        return "key\tvalue"

    def setting(context):
        context.field_separator = ","
        return True

    with pytest.raises(JobError, match=r"setup_reduce failed .*context\.writeline\(header\)"):
        run(Job(map=pass_on, reduce=reduce, setup_reduce=returning), [["a\t1"]])
    assert text_of(Job(map=pass_on, reduce=reduce, setup_reduce=setting), [["a\t1"]])[:2] == "a,"


# --- combine ------------------------------------------------------------------------------------


def adding(calls):
    def combine(key, values, context):
        calls.append(len(values))
        context.write(key, sum(map(int, values)))

    return combine


def test_combine_is_called_at_exactly_50_values(run):
    calls = []
    job = Job(map=pass_on, combine=adding(calls), reduce=collect)
    ((_, (total,)),) = run(job, [records("k", range(120))])
    assert total == sum(range(120))
    assert calls[:2] == [50, 50]  # the first combined value counts as one of the second 50
    assert all(count < 50 for count in calls[2:])


def test_combine_is_not_called_at_49_values(run):
    calls = []
    mapped = Job(map=pass_on, combine=adding(calls), reduce=collect)
    list(run(mapped, [records("a", range(49)) + records("b", [1])]))
    assert calls in ([], [49])  # 49: where the reducer reads them, and never for one value


def test_combine_size_follows_the_configuration(run):
    calls = []
    list(run(Job(pass_on, adding(calls), collect), [records("k", range(12))], combine_size=5))
    assert calls[:2] == [5, 5]


def test_combine_that_writes_nothing_is_asked_again_after_another_50(run):
    calls = []

    def combine(key, values, context):
        calls.append(len(values))

    ((_, values),) = run(Job(pass_on, combine, collect), [records("k", range(160))])
    assert values == [str(number) for number in range(160)]
    assert calls[:3] == [50, 100, 150]
    assert set(calls[3:]) <= {160}


def test_combine_that_writes_at_last_starts_anew(run):
    calls = []

    def combine(key, values, context):
        calls.append(len(values))
        if len(values) >= 100:
            context.write(key, "+".join(values))

    ((_, values),) = run(Job(pass_on, combine, collect), [records("k", range(160))])
    assert calls[:3] == [50, 100, 50]
    assert "+".join(values) == "+".join(map(str, range(160)))


@pytest.mark.parametrize("spill_bytes", ["64 MiB", "20 kB"])
def test_a_combined_value_stands_before_later_ones(run, spill_bytes):
    def combine(key, values, context):
        context.write(key, "+".join(values))

    def reduce(key, values, context):
        context.write(key, "+".join(values))

    files = [records("k", range(start, start + 170)) for start in range(0, 1700, 170)]
    result = run(Job(pass_on, combine, reduce), files, spill_bytes=spill_bytes)
    assert list(result) == [("k", "+".join(map(str, range(1700))))]


def test_combine_may_write_the_values_themselves(run):
    def flat(values):
        for value in values:
            yield from flat(value) if isinstance(value, list) else [value]

    def reduce(key, values, context):
        context.write(key, list(flat(values)))

    def combine(key, values, context):
        context.write(key, values)

    ((_, values),) = run(Job(pass_on, combine, reduce), [records("k", range(130))] * 2)
    assert values == [str(number) for number in range(130)] * 2


def test_combine_may_change_the_type(run):
    def combine(key, values, context):
        total = collections.Counter()
        for value in values:
            total.update(value if isinstance(value, collections.Counter) else [value])
        context.write(key, total)

    ((_, values),) = run(Job(pass_on, combine, collect), [records("k", ["a", "b"] * 60)])
    assert sum((v for v in values if isinstance(v, collections.Counter)), collections.Counter()) + (
        collections.Counter(v for v in values if isinstance(v, str))
    ) == {"a": 60, "b": 60}
    assert any(isinstance(value, collections.Counter) for value in values)


def test_what_combine_wrote_is_taken_as_it_is_then(run):
    def combine(key, values, context):
        row = [sum(value if isinstance(value, int) else sum(value) for value in values)]
        context.write(key, row)
        row.clear()

    job = Job(lambda key, dims, value, context: context.write(key, 1), combine, collect)
    ((_, values),) = run(job, [records("k", range(100))])
    assert sum(value if isinstance(value, int) else sum(value) for value in values) == 100


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("body", "mistake"),
    [
        ("context.write(key, 1); context.write(key, 2)", "wrote twice under the key 'the key'"),
        ("context.write('another', 1)", "given the key 'the key' and wrote under another"),
    ],
)
def test_combine_that_would_lose_values_is_an_error(run, tmp_path, inline, body, mistake):
    script = f"""
        def map(key, dims, value, context):
            context.write(key, 1)
        def combine(key, values, context):
            {body}
        def reduce(key, values, context):
            pass
    """
    output = tmp_path / "out.txt"
    with pytest.raises(JobError) as failure:
        run(script, [records("the key", range(60))], inline=inline, output=output)
    assert mistake in str(failure.value)
    assert "combine failed for the key 'the key'" in str(failure.value)
    assert not output.exists()


def test_combine_may_write_an_equal_key(run):
    def map_(key, dims, value, context):
        context.write((1, math.nan), 1)

    def combine(key, values, context):
        context.write((1.0, float("nan")), sum(values))

    def reduce(key, values, context):
        context.write(repr(key), sum(values))

    assert list(run(Job(map_, combine, reduce), [records("k", range(130))])) == [("(1, nan)", 130)]


# --- reduce -------------------------------------------------------------------------------------


ONE_BY_ONE = """
    def map(key, dims, value, context):
        for word in value.split():
            context.write(word, {one})
        context.write("a", 0.5)
        if value.endswith("bad"):
            raise ValueError
"""
AT_ONCE = """
    def map(key, dims, value, context):
        context.write_each(value.split(), {one})
        context.write("a", 0.5)
        if value.endswith("bad"):
            raise ValueError
"""
SUMS = """
    def combine(key, values, context):
        context.write(key, sum(values) * 0.9)

    def reduce(key, values, context):
        context.write(key, (len(values), sum(values)))
"""


@pytest.mark.parametrize("spill_bytes", [3000, 64 << 20])
@pytest.mark.parametrize("one", ["1", "0.1", "len(key) / 7"])
def test_write_each_is_a_loop_of_write(run, text_of, one, spill_bytes):
    """Also where `combine` is not exact, so that it must get the same values in the same order."""
    words = [
        f"{'abcdefghij'[n % 10]}{n % 3} a w{n % 41}" + " bad" * (n % 11 == 0) for n in range(900)
    ]
    files = [
        [f"{n % 5 * 'k'}\t{line}" for n, line in enumerate(words[:count])]
        for count in (900, 1, 300)
    ]
    texts = {
        text_of((script + SUMS).replace("{one}", one), files, spill_bytes=spill_bytes)
        for script in (ONE_BY_ONE, AT_ONCE)
    }
    (text,) = texts
    assert text.count("\n") == 30 + 1 + 41


@pytest.mark.parametrize("spill_bytes", ["64 MiB", "4 kB"])
def test_reduce_sees_a_sequence_in_input_order(run, spill_bytes):
    files = [[f"k\t{number},{line}" for line in range(50)] for number in range(40)]
    expected = [line.partition("\t")[2] for lines in files for line in lines]

    def reduce(key, values, context):
        assert len(values) == len(expected)
        assert (values[0], values[-1], values[777]) == (expected[0], expected[-1], expected[777])
        assert list(values[3:900:7]) == expected[3:900:7]
        assert list(values[::-1]) == expected[::-1]
        assert list(values) == list(values) == expected  # twice
        assert expected[1234] in values
        with pytest.raises(IndexError):
            values[len(values)]
        context.write(key, "seen")

    assert list(run(Job(pass_on, reduce=reduce), files, spill_bytes=spill_bytes)) == [("k", "seen")]


def test_input_order_does_not_depend_on_which_worker_is_quicker(run):
    script = """
        import time
        def map(key, dims, value, context):
            if value.startswith(("0,", "3,")):
                time.sleep(0.01)  # the first files end last
            context.write(key, value)
        def reduce(key, values, context):
            context.writeline(" ".join(values))
    """
    files = [[f"k\t{number},{line}" for line in range(20)] for number in range(6)]
    result = run(script, files, inline=False, num_mappers=2)
    assert list(result) == [" ".join(f"{n},{line}" for n in range(6) for line in range(20))]


def test_each_key_is_reduced_once(run):
    seen = []
    job = Job(pass_on, reduce=lambda key, values, context: seen.append(key))
    run(job, [[f"{number % 7}\t" for number in range(99)]] * 50, num_reducers=5)
    assert sorted(seen) == list("0123456")


# --- setup_reduce and what is written -----------------------------------------------------------


def test_defaults_of_write_writeline_and_writecsv(text_of):
    def reduce(key, values, context):
        context.write(key, None)
        context.write(("a", 1), 2.5)
        context.writeline("l\u00efne")
        context.writecsv(["a,b", 'say "x"', 1, None, "two\nlines"])
        context.writecsv(iter((1, 2)))
        context.writecsv(number for number in range(3))

    assert text_of(Job(pass_on, reduce=reduce), [["k\tv"]]) == (
        'k\tNone\n(\'a\', 1)\t2.5\nl\u00efne\n"a,b","say ""x""",1,,"two\nlines"\r\n1,2\r\n0,1,2\r\n'
    )


def test_separators_are_those_that_setup_reduce_sets(text_of):
    def setup_reduce(context):
        context.field_separator = " => "
        context.record_separator = ";\n"

    def reduce(key, values, context):
        context.write(key, len(values))
        context.writeline("line")
        context.writecsv([1, 2])

    files = [["a\t", "b\t", "a\t"]]
    for reducers in (1, 7):
        assert text_of(
            Job(pass_on, reduce=reduce, setup_reduce=setup_reduce), files, num_reducers=reducers
        ) == ("a => 2;\nline;\n1,2\r\nb => 1;\nline;\n1,2\r\n")


def test_separators_hold_in_map_only_jobs(text_of):
    def setup_reduce(context):
        context.field_separator, context.record_separator = "|", "!"

    job = Job(pass_on, setup_reduce=setup_reduce)
    assert text_of(job, [["a\t1"], ["b\t2"]]) == "a|1!b|2!"


def test_a_separator_that_is_not_text_is_an_error(run):
    def setup_reduce(context):
        context.field_separator = 7

    with pytest.raises(JobError, match=r"setup_reduce failed.*field_separator.*must be a str"):
        run(Job(pass_on, reduce=collect, setup_reduce=setup_reduce), [["k\tv"]])


HEADER = """
    def map(key, dims, value, context):
        context.write(key, value)
    def setup_reduce(context):
        context.writecsv(["key", "count"])
    def reduce(key, values, context):
        context.writecsv([key, len(values)])
"""


@pytest.mark.parametrize("inline", [True, False])
def test_a_header_appears_once_whatever_the_reducers(text_of, inline):
    files = [[f"{number:03}\t" for number in range(100)] for _ in range(4)]
    text = text_of(HEADER, files, inline=inline, num_mappers=2, num_reducers=7)
    assert text == "key,count\r\n" + "".join(f"{number:03},4\r\n" for number in range(100))


def test_a_header_appears_once_in_a_map_only_job(text_of):
    def setup_reduce(context):
        context.writeline("header")

    job = Job(pass_on, setup_reduce=setup_reduce)
    assert text_of(job, [["a\t1"], ["b\t2"], ["c\t3"]]) == "header\na\t1\nb\t2\nc\t3\n"


@pytest.mark.parametrize("reduce", [collect, None])
@pytest.mark.parametrize("files", [[[]], []])
def test_a_header_appears_when_there_is_nothing_to_reduce(text_of, tmp_path, reduce, files):
    (tmp_path / "data").mkdir()

    def setup_reduce(context):
        context.writeline("header")

    job = Job(pass_on, reduce=reduce, setup_reduce=setup_reduce)
    assert text_of(job, files, allow_empty=True, num_reducers=3) == "header\n"


def test_setup_reduce_is_called_once_a_reducer_and_before_its_first_reduce(run, tmp_path):
    script = """
        log = []
        def map(key, dims, value, context):
            context.write(key, value)
        def setup_reduce(context):
            log.append("setup")
        def reduce(key, values, context):
            log.append(key)
            context.write(key, list(log))
    """
    result = dict(run(script, [[f"{number}\t" for number in range(40)]], num_reducers=3))
    log = max(result.values(), key=len)
    assert log[0] == "setup"
    assert 1 <= log.count("setup") <= 3
    assert set(result) == {str(number) for number in range(40)} == set(log) - {"setup"}


def test_the_header_of_an_iterated_result_comes_first(run):
    assert list(run(HEADER, [["b\t", "a\t"]])) == ["key,count", "a,1", "b,1"]


# --- values -------------------------------------------------------------------------------------


@dataclasses.dataclass
class Row:
    cells: list[str]

    def clear(self):
        self.cells.clear()


@pytest.mark.parametrize(
    "make",
    [
        lambda: ["a", "b"],
        lambda: {"a": "b"},
        lambda: {"a", "b"},
        lambda: bytearray(b"ab"),
        lambda: [["a"], {"b": []}],
        lambda: collections.deque("ab"),
        lambda: collections.OrderedDict(a=1),
        lambda: Row(["a", "b"]),
    ],
    ids=["list", "dict", "set", "bytearray", "nested", "deque", "OrderedDict", "object"],
)
@pytest.mark.parametrize("reduce", [collect, None])
def test_a_value_is_taken_as_it_is_when_it_is_written(run, make, reduce):
    def map_(key, dims, value, context):
        row = make()
        context.write(key, row)
        row.clear()

    expected = [("k", [make()] if reduce else make())]
    assert list(run(Job(map_, reduce=reduce), [["k\t"]])) == expected


def test_what_is_mutable_inside_of_a_tuple_is_copied_too(run):
    def map_(key, dims, value, context):
        inner = ["a"]
        context.write(key, (1, inner))
        inner.append("b")

    assert list(run(Job(map_, reduce=collect), [["k\t"]])) == [("k", [(1, ["a"])])]


MERGE = """
    def merge(into, value):
        for name, item in value.items():
            if isinstance(item, dict):
                merge(into.setdefault(name, {}), item)
            else:
                into[name] = into.get(name, 0) + item

    def reduce(key, values, context):
        total = values[0]
        for value in values[1:]:
            merge(total, value)
        context.write(key, total)
"""


@pytest.mark.parametrize("spill_bytes", [1000, "64 MiB"])
@pytest.mark.parametrize("combine", ["combine = reduce", ""], ids=["combine", "no combine"])
def test_one_object_in_several_places_is_a_copy_in_each(run, spill_bytes, combine):
    """A `reduce` that merges in place would count it once a place, and once more each time."""
    script = f"""
    SHARED = {{"n": 1}}

    def map(key, dims, value, context):
        one = {{"n": int(value)}}
        context.write("within", {{"a": one, "b": one, "all": {{"a": one, "b": one}}}})
        context.write("across", {{"shared": SHARED, "again": SHARED}})
        context.write_each(["k1", "k2"], {{"one": one, "two": one}})
    {MERGE}
    {combine}
    """
    numbers = [*range(70), *range(70)]
    files = [[f"k\t{n}" for n in numbers[:100]], [f"k\t{n}" for n in numbers[100:]]]
    total, count = {"n": sum(numbers)}, {"n": len(numbers)}
    assert dict(run(script, files, spill_bytes=spill_bytes)) == {
        "across": {"shared": count, "again": count},
        "k1": {"one": total, "two": total},
        "k2": {"one": total, "two": total},
        "within": {"a": total, "b": total, "all": {"a": total, "b": total}},
    }


def test_a_value_that_holds_itself_is_an_error_and_names_the_record(run):
    def map_(key, dims, value, context):
        row = {"parent": None}
        row["child"] = {"parent": row}
        context.write(key, row)

    with pytest.raises(JobError, match=r"line 1: .* cannot be written, because it contains itself"):
        run(Job(map_, reduce=collect), [["k\t"]])


# --- contexts -----------------------------------------------------------------------------------


KEPT = {
    "the first context of map": """
        first = None
        def map(key, dims, value, context):
            global first
            first = first or context
            first.write(key, 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
        """,
    "its write": """
        write = None
        def map(key, dims, value, context):
            global write
            write = write or context.write
            write(key, 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
        """,
    "its write_each": """
        write_each = None
        def map(key, dims, value, context):
            global write_each
            write_each = write_each or context.write_each
            write_each([key, "other"], 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
        """,
    "its counter": """
        counter = None
        def map(key, dims, value, context):
            global counter
            counter = counter or context.counter
            counter("seen", "records")
            context.write(key, 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
        """,
    "the context of a map-only job, swallowing the error": """
        first = None
        def map(key, dims, value, context):
            global first
            first = first or context
            try:
                first.writeline(value)
            except Exception:
                pass
        """,
    "the first context of reduce": """
        first = None
        def map(key, dims, value, context):
            context.write(value, 1)
        def reduce(key, values, context):
            global first
            first = first or context
            first.writecsv([key, sum(values)])
        """,
    "the first context of combine": """
        first = None
        def map(key, dims, value, context):
            context.write("k", 1)
        def combine(key, values, context):
            global first
            if first is None:
                first = context
            else:
                first.write(key, sum(values))
        def reduce(key, values, context):
            context.write(key, sum(values))
        """,
}


@pytest.mark.parametrize("script", KEPT.values(), ids=KEPT)
def test_a_write_to_the_context_of_another_task_is_an_error(run, tmp_path, script):
    output = tmp_path / "out.txt"
    files = [[f"k{n}\tv{n}{m}" for n in range(60)] for m in range(3)]
    with pytest.raises(JobError) as failure:
        run(script, files, output=output, partition_bytes=1, num_reducers=3)
    assert "context" in str(failure.value)
    assert "job.py, line" in str(failure.value)
    assert "cannot count" in str(failure.value)
    assert not output.exists()


THREADED = """
    import threading, time

    def later(context, key, value):
        time.sleep(0.05)
        context.write(key, int(value))

    def map(key, dims, value, context):
        threading.Thread(target={target}, args={args}, daemon={daemon}).start()

    def reduce(key, values, context):
        context.write(key, sum(values))
"""


@pytest.mark.parametrize("daemon", [False, True])
@pytest.mark.parametrize(
    ("target", "args"),
    [("later", "(context, key, value)"), ("context.write", "(key, int(value))")],
)
def test_what_threads_write_while_their_task_is_open_counts(run, daemon, target, args):
    script = THREADED.format(daemon=daemon, target=target, args=args)
    files = [["k\t1", "k\t2"], ["k\t4"], ["k\t8"]]
    assert list(run(script, files, partition_bytes=1)) == [("k", 15)]


POOLED = """
    import queue, threading, time
    from concurrent.futures import ThreadPoolExecutor

    pool = ThreadPoolExecutor(2)
    waiting = queue.Queue()

    def later(context, key, value):
        time.sleep(0.05)
        context.write(key, value)

    def work():
        while True:
            later(*waiting.get())

    threading.Thread(target=work, daemon=True).start()

    def map(key, dims, value, context):
        {hand_over}
"""
REDUCED = """
    def reduce(key, values, context):
        context.write(key, sum(map_int(values)))

    def map_int(values):
        return [int(value) for value in values]
"""


@pytest.mark.parametrize("reduce", ["", REDUCED])
@pytest.mark.parametrize(
    "hand_over",
    ["pool.submit(later, context, key, value)", "waiting.put((context, key, value))"],
)
def test_what_is_handed_to_threads_of_an_earlier_task_counts(run, hand_over, reduce):
    """They were there before the task began, and have yet to come to what waits for them."""
    script = POOLED.format(hand_over=hand_over) + reduce
    files = [["k\t1", "k\t2", "k\t4"], ["k\t8", "k\t16"], ["k\t32"]]
    result = list(run(script, files, partition_bytes=1))
    assert sum(int(value) for _, value in result) == 63


def test_a_thread_without_the_context_is_not_waited_for(run, monkeypatch):
    monkeypatch.setattr("daskmr.tasks.user_calls._JOIN_SECONDS", 0.1)
    script = """
        import threading, time

        def map(key, dims, value, context):
            threading.Thread(target=wait, daemon=False).start()
            context.write(key, 1)

        def wait():
            time.sleep(0.5)

        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    assert list(run(script, [["k\t1"]])) == [("k", 1)]


def test_a_thread_that_does_not_end_is_an_error(run, tmp_path, monkeypatch):
    monkeypatch.setattr("daskmr.tasks.user_calls._JOIN_SECONDS", 0.1)
    script = """
        import threading, time

        def map(key, dims, value, context):
            threading.Thread(target=time.sleep, args=[1], name="asleep").start()
            threading.Thread(target=wait, args=[context], name="straggler", daemon=False).start()

        def wait(context):
            time.sleep(1)

        def reduce(key, values, context):
            pass
    """
    with pytest.raises(JobError, match=r"map gave its context to a thread .*straggler.* Join"):
        run(script, [["k\t1"]], output=tmp_path / "out.txt")
    assert not (tmp_path / "out.txt").exists()


def test_a_pool_of_threads_may_stay_for_the_next_records(run, monkeypatch):
    """Its threads wait for work, and are no reason to wait for them."""
    monkeypatch.setattr("daskmr.tasks.user_calls._JOIN_SECONDS", 0.1)
    script = """
        from concurrent.futures import ThreadPoolExecutor
        pool = ThreadPoolExecutor(2)

        def map(key, dims, value, context):
            context.write(key, sum(pool.map(int, value)))

        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    assert list(run(script, [["k\t123"], ["k\t4"]], partition_bytes=1)) == [("k", 10)]


ATTRIBUTES = ["keys", "groups", "written", "counters", "size", "place", "clear", "seen"]


@pytest.mark.parametrize("reduce", [True, False])
def test_a_context_takes_attributes_of_any_name_for_each_partition(run, reduce):
    script = f"""
        NAMES = {ATTRIBUTES!r}

        def map(key, dims, value, context):
            for name in NAMES:
                if not hasattr(context, name):
                    setattr(context, name, 0)
                setattr(context, name, getattr(context, name) + 1)
            context.write(key, {{getattr(context, name) for name in NAMES}}.pop())
        """
    if reduce:
        script += """
        def setup_reduce(context):
            context.size = 100

        def reduce(key, values, context):
            context.size += 1
            context.write(key, (list(values), context.size))
        """
    result = list(run(script, [["a\t", "b\t"], ["b\t"]], partition_bytes=1))
    mapped = [("a", 1), ("b", 2), ("b", 1)]
    if reduce:  # in which order the keys are reduced depends on their buckets
        assert [(key, values) for key, (values, _) in result] == [("a", [1]), ("b", [2, 1])]
        assert sorted(size for _, (_, size) in result) == [101, 102]
    else:
        assert result == mapped


def test_reduce_may_reuse_what_it_wrote(run):
    def reduce(key, values, context):
        row = [key]
        context.write(key, row)
        row.append("later")

    assert list(run(Job(pass_on, reduce=reduce), [["k\tv"]])) == [("k", ["k"])]


CLASSES = """
    import collections, dataclasses, enum

    @dataclasses.dataclass
    class Point:
        x: int

    class Colour(enum.Enum):
        RED = 1

    Pair = collections.namedtuple("Pair", "a b")

    def map(key, dims, value, context):
        context.write(key, (Point(int(value)), Colour.RED, Pair(1, {2})))

    def combine(key, values, context):
        total = sum(point.x for point, _, _ in values)
        context.write(key, (Point(total), Colour.RED, Pair(1, {2})))

    def reduce(key, values, context):
        assert all(colour is Colour.RED for _, colour, _ in values)
        assert all(isinstance(pair, Pair) for _, _, pair in values)
        context.write(key, sum(point.x for point, _, _ in values))
"""


@pytest.mark.parametrize("options", [{}, {"inline": False, "num_mappers": 2}])
def test_values_of_classes_that_the_script_defines(run, options):
    files = [[f"k\t{number}" for number in range(60)]] * 3
    assert list(run(CLASSES, files, **options)) == [("k", 3 * sum(range(60)))]


@pytest.mark.parametrize("inline", [True, False])
def test_a_result_of_classes_that_the_script_defines(run, inline):
    script = """
        class Point:
            def __init__(self, x):
                self.x = x
        def map(key, dims, value, context):
            context.write(key, Point(value))
        def reduce(key, values, context):
            context.write(key, values[0])
    """
    ((key, point),) = run(script, [["k\tv"]], inline=inline)
    assert (key, type(point).__name__, point.x) == ("k", "Point", "v")


@pytest.mark.parametrize(
    "value", ["(lambda: 1)", "__import__('threading').Lock()", "(i for i in 'ab')"]
)
@pytest.mark.parametrize("inline", [True, False])
def test_a_value_that_does_not_pickle_names_the_record(run, tmp_path, inline, value):
    script = f"""
        def map(key, dims, value, context):
            context.write(key, {value} if value == "bad" else value)
        def reduce(key, values, context):
            context.write(key, len(values))
    """
    with pytest.raises(JobError) as failure:
        run(script, [["k\tgood"], ["k\tgood", "k\tbad"]], inline=inline)
    message = str(failure.value)
    assert "cannot be pickled" in message
    assert f"{file_name(1)}, line 2" in message
    assert "job.py, line 3, in map" in message


# --- keys ---------------------------------------------------------------------------------------

KEYS = [
    None,
    -math.inf,
    -1,
    0,
    0.5,
    True,
    10**30,
    math.inf,
    math.nan,
    "",
    "1",
    "A",
    "a",
    "\u00e9",
    "\uffff",
    "\U0001f600",
    b"",
    b"1",
    b"\xff",
    (),
    (None,),
    (1,),
    (1, None),
    (1, "a", b"b", (2, (math.nan,))),
    (math.nan,),
    ("a",),
]


@pytest.mark.parametrize("spill_bytes", ["64 MiB", "1 kB"])
@pytest.mark.parametrize("num_reducers", [1, 7])
def test_all_types_of_keys_in_their_order(run, spill_bytes, num_reducers):
    """The list above is in the order that is promised, written down by hand."""

    def map_(key, dims, value, context):
        context.write(KEYS[int(key)], 1)

    numbers = range(len(KEYS))
    files = [[f"{number}\t" for number in numbers], [f"{number}\t" for number in reversed(numbers)]]
    job = Job(map_, reduce=lambda key, values, context: context.write(key, len(values)))
    result = list(run(job, files, spill_bytes=spill_bytes, num_reducers=num_reducers))
    assert [repr(key) for key, _ in result] == [repr(key) for key in KEYS]
    assert {count for _, count in result} == {2}


def test_the_list_of_keys_is_in_the_order_of_sort_key():
    assert list(map(repr, sorted(KEYS[::-1], key=sort_key))) == list(map(repr, KEYS))


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("{'b', 'a'}", "tuple(sorted(key))"),
        ("frozenset('ab')", "tuple(sorted(key))"),
        ("['a']", "tuple(key)"),
        ("{'a': 1}", "sorted(key.items())"),
        ("('a', ['b'])", "tuple(key)"),
        ("object", "str(key)"),
        ("1j", "str(key)"),
    ],
)
def test_a_key_of_another_type_names_the_record_and_the_remedy(run, key, advice):
    script = f"""
        def map(key, dims, value, context):
            context.write({key}, 1)
        def reduce(key, values, context):
            pass
    """
    with pytest.raises(JobError) as failure:
        run(script, [["k\tv"]])
    message = str(failure.value)
    assert "A key can be None, bool, int, float, str, bytes or a tuple of those, not" in message
    assert advice in message
    assert f"{file_name(0)}, line 1" in message


NUMPY = [
    ("np.int64(1)", 1), ("np.uint8(1)", 1), ("np.bool_(True)", 1), ("np.float64(1)", 1),
    ("np.float32(0.5)", 0.5), ("np.int64(10)", 10), ("np.int64(9)", 9), ("np.str_('a')", "a"),
    ("np.bytes_(b'a')", b"a"), ("(np.int64(1), (np.float64('nan'),))", (1, (math.nan,))),
    ("np.float64('nan')", math.nan),
]  # fmt: skip


def test_numpy_scalars_are_the_keys_that_they_are_equal_to(run):
    keys = [key for key, _ in NUMPY]
    script = f"""
        import numpy as np
        KEYS = [{", ".join(keys)}]
        PLAIN = [{", ".join(str(plain).replace("nan", "float('nan')") for _, plain in [(0, repr(p)) for _, p in NUMPY])}]

        def map(key, dims, value, context):
            for each in KEYS if value else PLAIN:
                context.write(each, 1)
            context.write_each(KEYS if value else PLAIN, 1)

        def combine(key, values, context):
            context.write(KEYS[PLAIN.index(key)] if key in PLAIN else key, sum(values))

        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    for lines in (["k\tx", "k\t"], ["k\t", "k\tx"]):
        result = list(run(script, [lines], combine_size=2, num_reducers=3))
        assert repr([key for key, _ in result]) == repr(
            [0.5, 1, 9, 10, math.nan, "a", b"a", (1, (math.nan,))]
        )
        assert [count for _, count in result] == [4, 16, 4, 4, 4, 4, 4, 4]


@pytest.mark.parametrize(
    ("key", "advice"),
    [
        ("numpy.datetime64(1, 'ns')", r"Write str\(key\)"),
        ("numpy.timedelta64(1, 'ns')", r"Write int\(key\) or float\(key\)"),
        ("decimal.Decimal(9)", r"Write int\(key\) or float\(key\)"),
        ("fractions.Fraction(1, 2)", r"Write int\(key\) or float\(key\)"),
        ("enum.IntEnum('E', 'A').A", r"Write int\(key\)"),
        ("enum.Enum('E', 'A').A", r"Write key.value"),
        ("numpy.array([1])", "Write"),
        ("[10 ** 5000]", r"Write tuple\(key\)"),
    ],
)
def test_a_number_is_not_advised_to_be_written_as_text(run, key, advice):
    script = f"""
        import decimal, enum, fractions, numpy
        def map(key, dims, value, context):
            context.write({key}, 1)
        def reduce(key, values, context):
            pass
    """
    with pytest.raises(JobError, match=advice):
        run(script, [["k\tv"]])


@pytest.mark.parametrize("spill_bytes", ["64 MiB", "1 kB"])
@pytest.mark.parametrize(
    "make",
    ["10 ** 5000 + n", "-(10 ** 5000) - n", "('x' * 100_000, n)", "(n,) * 20_000", "(10 ** 5000, n)",
     "b'y' * 500_000 + bytes([n])"],
)  # fmt: skip
def test_keys_of_any_size(run, make, spill_bytes):
    script = f"""
        def map(key, dims, value, context):
            n = int(value)
            context.write({make}, 1)

        def combine(key, values, context):
            context.write(key, sum(values))

        def reduce(key, values, context):
            context.write("n", sum(values))
    """
    files = [["k\t1", "k\t2"], ["k\t2", "k\t1", "k\t1"]]
    result = list(run(script, files, spill_bytes=spill_bytes, combine_size=2))
    assert sorted(result) == [("n", 2), ("n", 3)]


class Plain:
    """A class without a text of its own."""


@pytest.mark.parametrize("map_only", [True, False])
@pytest.mark.parametrize(
    ("make", "advice"),
    [
        (lambda: zip("a", "b", strict=True), r"Write list\(...\) of it"),
        (lambda: map(str, "ab"), r"Write list\(...\) of it"),
        (lambda: (n for n in "ab"), r"Write list\(...\) of it"),
        (lambda: "a".strip, r"call it, with \(\)"),
        (lambda: pass_on, r"call it, with \(\)"),
        (Plain, "give the class Plain a __str__"),
    ],
)
def test_what_prints_as_its_address_is_refused(run, tmp_path, make, advice, map_only):
    """The bytes of the output would be others in each run."""
    for call in (
        lambda context: context.write("k", make()),
        lambda context: context.write(make(), 1),
        lambda context: context.writeline(make()),
    ):
        if map_only:
            job = Job(lambda key, dims, value, context, call=call: call(context))
        else:
            job = Job(pass_on, reduce=lambda key, values, context, call=call: call(context))
        with pytest.raises(JobError, match=f"its address in memory.*{advice}"):
            run(job, [["k\t"]], output=tmp_path / "out.txt")


def test_what_has_a_text_is_written(text_of):
    def map_(key, dims, value, context):
        for each in ({"a": 1}.values(), {1: 2}, Path("p"), range(2), Row([]), ValueError("x")):
            context.write(key, each)

    assert text_of(Job(map_), [["k\t"]]).splitlines()[0] == "k\tdict_values([1])"


@pytest.mark.parametrize("map_only", [True, False])
def test_integers_of_any_size_are_written_out(text_of, map_only):
    def write(key, context):
        number = 10**5000
        context.write(number, [number])
        context.writeline(number)
        context.writecsv([number, 1])

    if map_only:
        job = Job(lambda key, dims, value, context: write(key, context))
    else:
        job = Job(pass_on, reduce=lambda key, values, context: write(key, context))
    digits = "1" + 5000 * "0"
    assert text_of(job, [["k\t"]]) == f"{digits}\t[{digits}]\n{digits}\n{digits},1\r\n"
    assert sys.get_int_max_str_digits() == 4300


@pytest.mark.parametrize("key", ["10 ** 5000", "('x' * 100_000, 10 ** 5000)", "((1,) * 9999, 2)"])
@pytest.mark.parametrize("where", ["reduce", "combine"])
def test_an_error_names_a_key_of_any_size_in_a_few_words(run, key, where):
    script = f"""
        def map(key, dims, value, context):
            context.write({key}, 1)

        def combine(key, values, context):
            context.write({"key" if where == "reduce" else "'other'"}, 1)

        def reduce(key, values, context):
            raise RuntimeError
    """
    with pytest.raises(JobError, match=f"{where} failed for the key .*") as failure:
        run(script, [["k\t1", "k\t2"]])
    assert len(str(failure.value)) < 1000


def test_tuples_in_tuples_beyond_50_are_refused(run):
    def map_(key, dims, value, context):
        deep = ()
        for _ in range(int(value)):
            deep = (deep,)
        context.write(deep, 1)

    def reduce(key, values, context):
        context.write("n", len(values))

    assert list(run(Job(map_, reduce=reduce), [["k\t49"]])) == [("n", 1)]
    for depth in (50, 100_000):
        with pytest.raises(JobError, match="more than 50 levels"):
            run(Job(map_, reduce=reduce), [[f"k\t{depth}"]])


EQUAL = [
    ["1", "1.0", "True"],
    ["0.0", "-0.0", "0", "False"],
    ["(1, (2.0,))", "(True, (2,))", "(1.0, (2.0,))"],
    ["float('nan')", "-float('nan')", "float('inf') - float('inf')"],
    ["(1, float('nan'))", "(1.0, float('nan'))"],
]


@pytest.mark.parametrize("options", [{}, {"num_reducers": 7}, {"spill_bytes": "100 B"}])
@pytest.mark.parametrize("keys", [*EQUAL, *(keys[::-1] for keys in EQUAL)], ids=" ".join)
@pytest.mark.parametrize("apart", [False, True], ids=["one file", "a file each"])
def test_equal_keys_are_one_and_the_first_is_printed(text_of, keys, apart, options):
    def map_(key, dims, value, context):
        context.write(eval(key), 1)

    lines = [f"{key}\t" for key in keys]
    files = [[line] for line in lines] if apart else [lines]
    job = Job(map_, reduce=lambda key, values, context: context.write(key, len(values)))
    assert text_of(job, files, **options) == f"{eval(keys[0])}\t{len(keys)}\n"


def test_text_bytes_and_numbers_are_three_keys(text_of):
    def map_(key, dims, value, context):
        for each in (key, key.encode(), int(key)):
            context.write(each, 1)

    job = Job(map_, reduce=lambda key, values, context: context.write(repr(key), len(values)))
    assert text_of(job, [["1\t"], ["1\t"]]) == "1\t2\n'1'\t2\nb'1'\t2\n"


def test_equal_keys_of_two_processes_meet(run, tmp_path):
    script = f"""
        import os, time
        KEYS = ["a", b"a", ("a", 1), ("a", (b"b", None)), "\\u00e9" * 30, 3, float("nan")]
        def map(key, dims, value, context):
            folder = {str(tmp_path)!r}
            open(os.path.join(folder, "here" + value), "w").close()
            other = os.path.join(folder, "here" + str(1 - int(value)))
            deadline = time.monotonic() + 20
            while not os.path.exists(other):  # so there are two processes, each with one file
                assert time.monotonic() < deadline
                time.sleep(0.01)
            for each in KEYS:
                context.write(each, os.getpid())
        def reduce(key, values, context):
            context.write(repr(key), list(values))
    """
    result = list(run(script, [["k\t0"], ["k\t1"]], inline=False, num_mappers=2, num_reducers=7))
    assert len(result) == 7
    for _, values in result:
        assert len(values) == len(set(values)) == 2


# --- a job of functions, two scripts, a client --------------------------------------------------


def test_functions_of_a_main_script_without_a_guard(tmp_path):
    data = write_tree(tmp_path / "data", [["b\t1", "a\t2"], ["b\t3"]])
    script = tmp_path / "notebook.py"
    script.write_text(
        textwrap.dedent(f"""
        import daskmr
        offset = 100
        def shifted(value):
            return int(value) + offset
        job = daskmr.Job(
            map=lambda key, dims, value, context: context.write(key, shifted(value)),
            combine=lambda key, values, context: context.write(key, sum(values)),
            reduce=lambda key, values, context: context.write(key, sum(values)),
        )
        print(list(daskmr.mapreduce(job, data_dir={str(data)!r}, num_mappers=2)))
        """)
    )
    assert_prints(script, "[('a', 102), ('b', 204)]\n")


def test_values_of_a_class_of_a_main_script(tmp_path):
    data = write_tree(tmp_path / "data", [["b\t1", "a\t2"], ["b\t3"]])
    script = tmp_path / "notebook.py"
    script.write_text(
        textwrap.dedent(f"""
        import dataclasses, daskmr
        @dataclasses.dataclass
        class Point:
            x: int
        def map(key, dims, value, context):
            context.write(key, Point(int(value)))
        def reduce(key, values, context):
            context.write(key, sum(point.x for point in values))
        job = daskmr.Job(map=map, reduce=reduce)
        print(list(daskmr.mapreduce(job, data_dir={str(data)!r}, num_mappers=2)))
        """)
    )
    assert_prints(script, "[('a', 2), ('b', 4)]\n")


def assert_prints(script, text):
    done = subprocess.run(
        [sys.executable, script],
        cwd=script.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr, done.returncode) == (text, "", 0)
    assert not (script.parent / ".daskmr").exists()


@pytest.mark.parametrize("inline", [True, False])
def test_two_scripts_of_one_name_with_siblings_of_one_name(tmp_path, inline):
    data = write_tree(tmp_path / "data", [["k\tv"]] * 2)
    scripts = []
    for word in ("one", "two"):
        folder = tmp_path / word
        folder.mkdir()
        (folder / "sibling.py").write_text(f"WORD = {word!r}\n")
        (folder / "job.py").write_text(
            "import sibling\n"
            "def map(key, dims, value, context): context.write(sibling.WORD, 1)\n"
            f"def reduce(key, values, context): context.write(key, {word!r})\n"
        )
        scripts.append(folder / "job.py")
    for _ in range(2):
        for script, word in zip(scripts, ("one", "two"), strict=True):
            result = mapreduce(script, data_dir=data, inline=inline, work_dir=tmp_path / "work")
            assert list(result) == [(word, word)]
    assert "sibling" not in sys.modules


@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_client_is_used_and_left_as_it_was(run):
    from distributed import Client, LocalCluster

    script = """
        import os
        def map(key, dims, value, context):
            context.write(os.getpid(), 1)
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    with (
        LocalCluster(
            n_workers=1, threads_per_worker=1, processes=False, dashboard_address="127.0.0.1:0"
        ) as cluster,
        Client(cluster) as client,
    ):
        for _ in range(2):
            result = run(script, [["k\t"]] * 5, inline=False, client=client)
            assert list(result) == [(os.getpid(), 5)]  # in the threads of that cluster
            assert client.status == "running"
            assert client.submit(sum, [1, 2]).result() == 3
        with pytest.raises(JobError, match="map failed"):
            run("def map(k, d, v, c): 1 / 0", [["k\t"]], inline=False, client=client)
        assert client.submit(sum, [1, 3]).result() == 4


# --- the Result ---------------------------------------------------------------------------------


def test_pairs_and_lines_of_a_result(run):
    def reduce(key, values, context):
        context.write(key, {"n": len(values)})
        context.writeline(f"line {key}")
        context.writecsv([key, "x,y"])

    assert list(run(Job(pass_on, reduce=reduce), [["b\t", "a\t", "b\t"]])) == [
        ("a", {"n": 1}),
        "line a",
        'a,"x,y"',
        ("b", {"n": 2}),
        "line b",
        'b,"x,y"',
    ]


def test_pairs_and_lines_of_a_map_only_result(run):
    def map_(key, dims, value, context):
        context.write(key, [value])
        context.writeline(value)

    assert list(run(Job(map_), [["b\t1"], ["a\t2"]])) == [("b", ["1"]), "1", ("a", ["2"]), "2"]


@pytest.mark.parametrize("reduce", [collect, None])
def test_a_large_result_outlives_the_name_it_never_had(run, reduce):
    """``for key, value in mapreduce(...)`` keeps nothing but the iterator."""
    files = [[f"{number:05}\t{'x' * 50}" for number in range(2000)]]
    keys = [key for key, _ in run(Job(pass_on, reduce=reduce), files, spill_bytes="20 kB")]
    assert keys == [f"{number:05}" for number in range(2000)]


def test_the_files_of_a_result_go_with_it(run, tmp_path):
    files = [[f"{number:05}\t{'x' * 50}" for number in range(2000)]]
    result = run(Job(pass_on, reduce=collect), files, spill_bytes="20 kB")
    assert len(list(result)) == 2000
    del result
    assert not (tmp_path / "work").exists()


def test_a_result_with_an_output_says_where_it_is(run, tmp_path):
    result = run(Job(pass_on, reduce=collect), [["k\tv"]], output=tmp_path / "out.txt")
    with pytest.raises(TypeError, match=r"out\.txt\. Read it there"):
        list(result)


def test_counts_and_timings_of_a_result(run, tmp_path):
    result = run(Job(pass_on, reduce=collect), [["a\t", "b\t", "bad"], ["a\t"]])
    folder = tmp_path / "data" / DIRECTORY
    assert (result.files, result.records, result.bad_records, result.key_count) == (2, 4, 1, 2)
    assert result.bytes == sum(path.stat().st_size for path in folder.iterdir())
    assert set(result.timings) == {"list", "start", "map", "merge", "reduce", "write", "total"}
    assert all(seconds >= 0 for seconds in result.timings.values())


@pytest.mark.parametrize("job", [7, None, b"\0", object()])
def test_what_is_no_job_is_an_error(tmp_path, job):
    with pytest.raises(InputError):
        mapreduce(job, data_dir=tmp_path)
