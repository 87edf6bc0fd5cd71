"""The contract of several outputs: `context.write_to` writes `OUTPUT.name`, together with the main one."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet
from support.jobs import daskmr, write_tree
from support.runs import small_limits

from daskmr import InputError, Job, JobError, mapreduce
from daskmr.data import parts
from daskmr.data.output import OutputFile, StoreOutput
from daskmr.data.output_directory import slices
from daskmr.data.writers import named
from daskmr.job.contexts import is_output_name
from daskmr.job.keys import sort_key
from daskmr.tasks import reduce as reducing

LINES = [["a\tx", "b\tbad1", "a\tbad0"], ["c\tx", "b\tq", "a\tbad9"]]
MAIN, ERRORS, FIRSTS = "a\t3\nb\t2\nc\t1\n", "a\tbad0\na\tbad9\nb\tbad1\n", "a\tx\nb\tbad1\nc\tx\n"


def emit(key, dims, value, context):
    context.write(key, value)


def split(key, values, context):
    context.write(key, len(values))
    for value in values:
        if "bad" in value:
            context.write_to("errors", key, value)
    context.write_to("firsts", key, values[0])


def sift(key, dims, value, context):
    context.write_to("errors" if "bad" in value else "good", key, value)
    context.write_to("all", key, value)
    if value == "bad9":
        raise ValueError(value)


SCRIPT = """
def map(key, dims, value, context):
    context.write(key, value)

def reduce(key, values, context):
    context.write(key, len(values))
    for value in values:
        if "bad" in value:
            context.write_to("errors", key, value)
    context.write_to("firsts", key, values[0])
"""
JOB = Job(emit, reduce=split)


@pytest.fixture
def run(tmp_path):
    data = write_tree(tmp_path / "data", LINES)

    def run(job=JOB, output=None, **options):
        options = {"inline": True, "work_dir": tmp_path / "work", "data_dir": data} | options
        if output is not None and "://" not in output and output[0] != "-":
            output = f"{tmp_path}/{output}"
        return mapreduce(job, output=output, **options)

    return run


def names(folder, prefix="out"):
    return sorted(name for name in os.listdir(folder) if prefix in name)


# --- equal to plain Python ------------------------------------------------------------------------

KEYS = st.sampled_from(["a", "b", "\u00e9", "k" * 300]) | st.integers(0, 30).map("k{:03}".format)
NAMES = ("even", "odd", "third")


def number(key, dims, value, context):
    context.write(key, int(value))


def combined(key, values, context):
    context.write(key, sum(values))


def spread(key, values, context):
    """Write several lines of a key to several outputs, in turn."""
    context.write(key, sum(values))
    for n in range(sum(values) % 40):
        context.write_to(NAMES[n % 2], key, n)
        if n % 3 == 0:
            context.write_to("third", (key, n), [n])


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.tuples(KEYS, st.integers(0, 60)), max_size=80),
    st.sampled_from([1, 3, 8]),
    st.sampled_from(["1 kB", "256 MB"]),
    st.sampled_from([None, combined]),
)
def test_outputs_equal_plain_python(tmp_path_factory, pairs, reducers, spill_bytes, combine):
    folder = tmp_path_factory.mktemp("data")
    data = write_tree(folder, [[f"{key}\t{value}" for key, value in pairs]])
    totals, expected = defaultdict(int), {name: [] for name in NAMES}
    for key, value in pairs:
        totals[key] += value
    for key in sorted(totals):
        for n in range(totals[key] % 40):
            expected[NAMES[n % 2]].append((key, n))
            if n % 3 == 0:
                expected["third"].append(((key, n), [n]))
    expected = {name: rows for name, rows in expected.items() if rows}
    options = {"num_reducers": reducers, "spill_bytes": spill_bytes, "inline": True}
    job = Job(number, combine, spread)
    with small_limits(), pytest.MonkeyPatch.context() as patch:
        patch.setattr(named, "_BATCH", 4)
        patch.setattr(named, "_SMALLEST", 200)
        patch.setattr(reducing, "_BLOCK_BYTES", 300)
        result = mapreduce(job, data_dir=data, **options)
        assert {name: list(rows) for name, rows in result.outputs.items()} == expected
        assert {name: rows.lines for name, rows in result.outputs.items()} == {
            name: len(rows) for name, rows in expected.items()
        }
        mapreduce(job, data_dir=data, output=folder / "out", **options)
    for name, rows in expected.items():
        text = "".join(f"{key}\t{value}\n" for key, value in rows)
        assert (folder / f"out.{name}").read_text() == text
    assert list(result) == sorted(totals.items(), key=lambda pair: sort_key(pair[0]))


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.lists(st.tuples(KEYS, st.integers(0, 60)), max_size=40), min_size=1, max_size=4),
    st.sampled_from(["1 kB", "256 MB"]),
    st.sampled_from([1, 1024]),
)
def test_map_only_outputs_equal_plain_python(tmp_path_factory, files, spill_bytes, batch):
    """They are in input order, without what bad records wrote."""
    folder = tmp_path_factory.mktemp("data")
    data = write_tree(folder, [[f"{k}\t{v}" for k, v in pairs] for pairs in files])

    def map(key, dims, value, context):
        count = int(value)
        if count % 4:
            context.write(key, value)
        for n in range(count % 7):
            context.write_to(NAMES[n % 2], key, count)
        if count % 5 == 0:
            raise ValueError("bad")

    good = [(k, v) for pairs in files for k, v in pairs if v % 5]
    expected = {
        name: [(k, v) for k, v in good for n in range(v % 7) if n % 2 == rest]
        for rest, name in enumerate(NAMES[:2])
    }
    options = {"spill_bytes": spill_bytes, "inline": True, "max_bad_records": "100%"}
    options |= {"data_dir": data, "partition_bytes": 100}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(named, "_BATCH", batch)
        patch.setattr(named, "_SMALLEST", 200)
        result = mapreduce(Job(map), **options)
        mapreduce(Job(map), output=folder / "out", **options)
    found = {name: list(rows) for name, rows in result.outputs.items()}
    assert found == {name: rows for name, rows in expected.items() if rows}
    for name, rows in found.items():
        assert (folder / f"out.{name}").read_text() == "".join(f"{k}\t{v}\n" for k, v in rows)
    assert list(result) == [(k, str(v)) for k, v in good if v % 4]


# --- files ----------------------------------------------------------------------------------------


def test_each_name_is_a_file_beside_the_output(run, tmp_path):
    result = run(output="out.txt")
    assert names(tmp_path) == ["out.txt", "out.txt.errors", "out.txt.firsts", "out.txt.meta.json"]
    assert (tmp_path / "out.txt").read_text() == MAIN
    assert (tmp_path / "out.txt.errors").read_text() == ERRORS
    assert (tmp_path / "out.txt.firsts").read_text() == FIRSTS
    errors = result.outputs["errors"]
    assert errors.output == f"{tmp_path}/out.txt.errors"
    assert (errors.lines, errors.output_bytes) == (3, len(ERRORS))
    with pytest.raises(TypeError, match=r"wrote its result to .*out.txt.errors"):
        list(errors)


def test_the_format_is_that_of_the_output(run, tmp_path):
    job = Job(emit, reduce=split, columns=("key", "count"))
    run(job, "out.csv")
    assert (tmp_path / "out.csv").read_text().splitlines()[:2] == ["key,count", "a,3"]
    lines = (tmp_path / "out.csv.errors").read_text().splitlines()
    assert lines == [
        "key,value",
        "a,bad0",
        "a,bad9",
        "b,bad1",
    ]  # the columns are those of the output
    run(job, "out.jsonl")
    assert (tmp_path / "out.jsonl.firsts").read_text().startswith('{"key":"a","value":"x"}\n')
    run(job, "out.parquet")
    table = parquet.read_table(tmp_path / "out.parquet.errors")
    assert table.to_pydict() == {"key": ["a", "a", "b"], "value": ["bad0", "bad9", "bad1"]}


def test_they_are_compressed_alike(run, tmp_path):
    run(output="out.txt.gz")
    assert gzip.decompress((tmp_path / "out.txt.gz.errors").read_bytes()).decode() == ERRORS


def test_access_is_that_of_the_output(run, tmp_path):
    (tmp_path / "out").write_text("")
    (tmp_path / "out").chmod(0o600)
    run(output="out")
    assert (tmp_path / "out.errors").stat().st_mode & 0o777 == 0o600


def test_setup_reduce_writes_headers_and_sets_separators(run, tmp_path):
    def setup(context):
        context.field_separator = ","
        context.writeline("KEY,COUNT")
        context.write_to("errors", "KEY", "ERROR")

    job = Job(emit, reduce=split, setup_reduce=setup)
    result = run(job, "out", num_reducers=3)
    assert (tmp_path / "out.errors").read_text() == "KEY,ERROR\n" + ERRORS.replace("\t", ",")
    assert (tmp_path / "out.firsts").read_text() == FIRSTS.replace("\t", ",")
    assert result.outputs["errors"].lines == 3


def ends(context):
    context.write_to("firsts", "~end", 1)
    context.write_to("ends", "~end", 2)
    context.write("~end", 0)


@pytest.mark.parametrize("reducers", [1, 3])
def test_the_end_of_a_reducer_writes_after_all_keys(run, tmp_path, reducers):
    job = Job(emit, reduce=split, finish_reduce=ends)
    run(job, "out.txt", num_reducers=reducers)
    assert (tmp_path / "out.txt").read_text() == MAIN + "~end\t0\n" * reducers
    assert (tmp_path / "out.txt.firsts").read_text() == FIRSTS + "~end\t1\n" * reducers
    assert (tmp_path / "out.txt.ends").read_text() == "~end\t2\n" * reducers
    assert (tmp_path / "out.txt.errors").read_text() == ERRORS
    run(job, "dir/", num_reducers=reducers, output_format="jsonl")
    parts = sorted((tmp_path / "dir/ends").glob("part-*"))
    rows = [json.loads(line) for part in parts for line in part.read_text().splitlines()]
    assert rows == [{"key": "~end", "value": 2}] * reducers
    result = run(job, num_reducers=reducers)
    assert [*result.outputs["firsts"]][-reducers:] == [("~end", 1)] * reducers
    assert [*result.outputs["ends"]] == [("~end", 2)] * reducers


def test_the_end_of_a_reducer_may_write_to_other_outputs_alone(run, tmp_path):
    def header(context):
        context.write_to("ends", "key", "value")

    def end(context):
        for n in range(5000):
            context.write_to("ends", n, "x" * 100)

    job = Job(
        emit, reduce=lambda key, values, context: None, setup_reduce=header, finish_reduce=end
    )
    run(job, "out.txt", num_reducers=2, spill_bytes="20 kB")
    assert (tmp_path / "out.txt").read_text() == ""
    lines = (tmp_path / "out.txt.ends").read_text().splitlines()
    assert lines == ["key\tvalue", *(f"{n}\t{'x' * 100}" for n in [*range(5000)] * 2)]


def test_a_failed_end_of_a_reducer_leaves_no_output(run, tmp_path):
    def end(context):
        context.write_to("ends", 1, 2)
        raise KeyError("end")

    with pytest.raises(JobError, match="finish_reduce failed after the last key: KeyError: 'end'"):
        run(Job(emit, reduce=split, finish_reduce=end), "out.txt")
    assert names(tmp_path) == []
    assert not (tmp_path / "work").exists()


def test_hooks_of_a_partition_write_before_and_after_its_records(run, tmp_path):
    job = Job(
        sift,
        setup_map=lambda context: context.write_to("all", "begin", 0),
        finish_map=lambda context: context.write_to("all", "end", 1),
    )
    run(job, "out.txt")
    first, second = "a\tx\nb\tbad1\na\tbad0\n", "c\tx\nb\tq\n"
    wanted = "".join(f"begin\t0\n{records}end\t1\n" for records in (first, second))
    assert (tmp_path / "out.txt.all").read_text() == wanted


def test_map_only_undoes_bad_records(run, tmp_path):
    result = run(Job(sift), "out", max_bad_records=1)
    assert result.bad_records == 1
    assert (tmp_path / "out").read_text() == ""
    assert (tmp_path / "out.errors").read_text() == "b\tbad1\na\tbad0\n"
    assert (tmp_path / "out.good").read_text() == "a\tx\nc\tx\nb\tq\n"


def test_threads_may_write(run):
    def reduce(key, values, context):
        def write(number):
            for n in range(200):
                context.write_to(f"n{number}", key, n)

        threads = [threading.Thread(target=write, args=(n % 2,)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    outputs = run(Job(emit, reduce=reduce)).outputs
    assert {name: rows.lines for name, rows in outputs.items()} == {"n0": 1200, "n1": 1200}


# --- all or none ----------------------------------------------------------------------------------


def test_a_failed_job_leaves_all_as_they_were(run, tmp_path):
    run(output="out")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}

    def fails(key, values, context):
        context.write_to("errors", key, 1)
        context.write_to("new", key, 1)
        if key == "c":
            raise RuntimeError

    with pytest.raises(JobError):
        run(Job(emit, reduce=fails), "out", num_reducers=2)
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("failing", ["out", "out.errors", "out.firsts"])
def test_a_file_that_cannot_be_placed_leaves_none(run, tmp_path, monkeypatch, failing):
    def other(key, values, context):
        context.write_to("extra", key, 1)
        split(key, values[:1], context)

    run(Job(emit, reduce=other), "out")
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path)}
    commit = OutputFile.commit

    def refuse(self):
        if self.name == f"{tmp_path}/{failing}":
            raise JobError("no")
        commit(self)

    monkeypatch.setattr(OutputFile, "commit", refuse)
    with pytest.raises(JobError, match="no"):
        run(output="out")
    del before["out.meta.json"]  # removed first, so that it never describes another output
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path)} == before


@pytest.mark.parametrize("has_links", [True, False])
def test_a_killed_commit_loses_no_earlier_output(run, tmp_path, monkeypatch, has_links):
    """Also of names so long that they have the same beginning, in more bytes than characters."""
    long = "é" * 122
    run(output=long)
    before = {name: (tmp_path / name).read_bytes() for name in names(tmp_path, "é")}
    del before[f"{long}.meta.json"]
    if not has_links:
        monkeypatch.setattr(os, "link", lambda *args: os.stat("/nowhere"))
    commit, seen = OutputFile.commit, []

    def killed(self):
        seen.append([name for name in before if has_links and not (tmp_path / name).exists()])
        if self.name == f"{tmp_path}/{long}":
            raise JobError("killed")
        commit(self)

    monkeypatch.setattr(OutputFile, "commit", killed)
    with pytest.raises(JobError, match="killed"):
        run(Job(emit, reduce=lambda *args: split(*args) or args[2].write_to("new", 1, 1)), long)
    assert seen == [[], [], [], []]
    assert {name: (tmp_path / name).read_bytes() for name in names(tmp_path, "é")} == before


def test_what_a_killed_commit_leaves_is_removed(run, tmp_path):
    (tmp_path / ".out.1.0123456789ab.old").write_text("x")
    (tmp_path / ".out.2.other.0123456789ab.old").write_text("x")
    run(output="out")
    left = [name for name in os.listdir(tmp_path) if name.endswith(".old")]
    assert left == [".out.2.other.0123456789ab.old"]


def test_earlier_outputs_of_other_names_are_removed(run, tmp_path):
    run(output="out")
    (tmp_path / "out.mine").write_text("x")
    run(Job(emit, reduce=lambda k, vs, c: c.write_to("firsts", k, vs[0])), "out")
    assert names(tmp_path) == ["out", "out.firsts", "out.meta.json", "out.mine"]
    (tmp_path / "out.firsts").write_text("changed since")
    run(Job(emit), "out", meta=False)
    assert names(tmp_path) == ["out", "out.firsts", "out.mine"]


def test_what_a_job_needs_is_not_replaced(tmp_path):
    text = SCRIPT.replace('"errors"', '"py"')
    (tmp_path / "out.py").write_text(text)
    write_tree(tmp_path / "data", LINES)
    done = daskmr("run", "out.py", "-d", "data", "-o", "out", "--inline", cwd=tmp_path)
    assert done.returncode == 1
    assert "context.write_to('py', ...) writes out.py. The output 'out.py' would" in done.stderr
    assert (tmp_path / "out.py").read_text() == text
    assert not (tmp_path / "out").exists()
    (tmp_path / "out.1").write_text("a\tbad\n")
    (tmp_path / "job.py").write_text(SCRIPT.replace('"errors"', '"1"'))
    with pytest.raises(JobError, match="would replace one of the input files"):
        mapreduce(
            tmp_path / "job.py", data_dir=tmp_path / "out.1", output=tmp_path / "out", inline=True
        )
    (tmp_path / "out.firsts").mkdir()
    with pytest.raises(JobError, match=r"out.firsts. The output .* is a directory"):
        mapreduce(JOB, data_dir=tmp_path / "data", output=tmp_path / "out", inline=True)


# --- mistakes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    ["", "a.b", "../a", "-a", "_a", "part-1", "pstats", "GZ", "x" * 65, "\u00e9", 1, None, []],
)
def test_names_are_checked(run, name):
    assert not (isinstance(name, str) and is_output_name(name))
    with pytest.raises(JobError, match=r"write_to cannot name an output"):
        run(Job(emit, reduce=lambda k, vs, c: c.write_to(name, k, 1)))


def test_there_are_not_too_many_names(run):
    def reduce(key, values, context):
        for n in range(101):
            context.write_to(f"n{n}", key, 1)

    with pytest.raises(JobError, match=r"more than 100 names; the last one is 'n100'"):
        run(Job(emit, reduce=reduce))


def test_a_map_before_reduce_has_no_outputs(run):
    with pytest.raises(
        JobError, match=r"context.write_to writes to the output, so it belongs in reduce"
    ):
        run(Job(sift, reduce=split))


def test_standard_output_has_none_beside_it(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    write_tree(tmp_path / "data", LINES)
    done = daskmr("run", "job.py", "-d", "data", "--inline", "-o", "-", cwd=tmp_path)
    assert done.returncode == 2
    assert "the output is standard output. Name a file: -o result.txt" in done.stderr
    (tmp_path / "other.py").write_text(
        SCRIPT.replace("context.write_to", "getattr(context, 'write_to')")
    )
    done = daskmr("run", "other.py", "-d", "data", "--inline", "-o", "-", cwd=tmp_path)
    assert done.returncode == 1
    assert "the output is standard output. Name a file: -o result.txt" in done.stderr
    assert done.stdout == ""
    (tmp_path / "fails.py").write_text(SCRIPT.replace("values[0]", "values[9]"))
    done = daskmr("run", "fails.py", "-d", "data", "--inline", "-o", "out", cwd=tmp_path)
    assert "--inline -o /dev/null" in done.stderr  # a command that works
    done = daskmr("run", "job.py", "-d", "data", "--inline", "-o", "/dev/null", cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_a_directory_is_not_called_a_stream(tmp_path):
    write_tree(tmp_path / "data", LINES)
    (tmp_path / "job.py").write_text(SCRIPT)
    done = daskmr("run", "job.py", "-d", "data", "-o", ".", "--inline", cwd=tmp_path)
    assert (done.returncode, "The output '.' is a directory" in done.stderr) == (2, True)


def test_a_write_after_the_call_is_refused(run):
    kept = []

    def reduce(key, values, context):
        kept.append(context)

    run(Job(emit, reduce=reduce), num_reducers=1)
    with pytest.raises(RuntimeError, match="has ended"):
        kept[0].write_to("errors", 1, 1)


# --- in Python ------------------------------------------------------------------------------------


def test_results_in_memory(run):
    outputs = run().outputs  # the folder lives as long as any of them
    assert list(outputs) == ["errors", "firsts"]
    assert outputs["firsts"].to_dict() == {"a": "x", "b": "bad1", "c": "x"}
    assert list(outputs["errors"].to_pandas().columns) == ["key", "value"]
    assert outputs["errors"][-1] == ("b", "bad1")
    assert len(outputs["errors"]) == 3
    assert outputs["errors"].outputs == {}


def test_workers_write_several_outputs(run, tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    result = run(tmp_path / "job.py", "out", inline=False, num_mappers=2)
    assert (tmp_path / "out.errors").read_text() == ERRORS
    assert result.outputs["firsts"].lines == 3
    assert run(tmp_path / "job.py", inline=False, num_mappers=1).outputs["errors"].lines == 3


# --- a directory ----------------------------------------------------------------------------------


def test_a_directory_has_a_subdirectory_for_each(run, tmp_path):
    result = run(output="out/")
    assert names(tmp_path / "out", "") == [
        "_SUCCESS",
        "_meta.json",
        "errors",
        "firsts",
        "part-00000.txt",
    ]
    assert names(tmp_path / "out" / "errors", "") == ["_SUCCESS", "part-00000.txt"]
    assert (tmp_path / "out" / "errors" / "part-00000.txt").read_text() == ERRORS
    assert (tmp_path / "out" / "part-00000.txt").read_text() == MAIN
    errors = result.outputs["errors"]
    assert (errors.output, errors.output_parts) == (f"{tmp_path}/out/errors/", 1)
    run(Job(emit, reduce=lambda k, vs, c: c.write_to("firsts", k, vs[0])), "out/")
    assert "errors" not in os.listdir(tmp_path / "out")
    (tmp_path / "out" / "firsts" / "notes.txt").write_text("x")
    with pytest.raises(InputError, match=r"it holds firsts/, which"):
        run(output="out/")


@pytest.mark.parametrize("job", [Job(number, reduce=spread), Job(sift)])
def test_its_parts_are_the_single_file(tmp_path, monkeypatch, job):
    monkeypatch.setattr(slices, "_FILE_BYTES", 200)
    monkeypatch.setattr(parts, "_INDEXED_BYTES", 100)
    monkeypatch.setattr(named, "_BATCH", 4)
    monkeypatch.setattr(named, "_BLOCK_BYTES", 200)
    lines = [[f"k{n:03}\t{n}" for n in range(start, 100, 3)] for start in range(3)]
    data = write_tree(tmp_path / "data", lines)
    options = {"data_dir": data, "inline": True, "num_reducers": 3}
    mapreduce(job, output=tmp_path / "out", **options)
    for number_of, folder in ((2, "one/"), (1, "two/")):
        result = mapreduce(
            job, output=f"{tmp_path}/{folder}", **options | {"num_reducers": number_of}
        )
        for name, other in result.outputs.items():
            files = sorted((tmp_path / folder / name).glob("part-*"))
            assert len(files) == other.output_parts > 1
            text = b"".join(file.read_bytes() for file in files)
            assert text == (tmp_path / f"out.{name}").read_bytes()


def test_an_output_in_it_that_is_the_input_is_not_replaced(run, tmp_path):
    run(output="out/")
    data = f"{tmp_path}/out/errors/part-*"
    with pytest.raises(InputError, match="would replace one of the input files"):
        run(output="out/", data_dir=data)
    assert run(data_dir=data).files == 1


def test_other_directories_are_not_replaced(run, tmp_path):
    (tmp_path / "out" / "photos").mkdir(parents=True)
    (tmp_path / "out" / "photos" / "1.jpg").write_text("x")
    with pytest.raises(InputError, match=r"it holds photos/, which"):
        run(output="out/")


# --- in a store -----------------------------------------------------------------------------------


@pytest.mark.slow
def test_objects_in_a_bucket(run, bucket):
    run(output=f"s3://{bucket.name}/out.csv.gz")
    stored = bucket.objects()
    assert {*stored} == {f"out.csv.gz{end}" for end in ("", ".errors", ".firsts", ".meta.json")}
    assert gzip.decompress(stored["out.csv.gz.errors"]).splitlines()[1:] == [
        b"a,bad0",
        b"a,bad9",
        b"b,bad1",
    ]
    bucket.server.clear_requests()
    run(
        Job(emit, reduce=lambda k, vs, c: c.write_to("new", k, 1)), f"s3://{bucket.name}/out.csv.gz"
    )
    assert {*bucket.objects()} == {"out.csv.gz", "out.csv.gz.new", "out.csv.gz.meta.json"}
    puts = [r.key for r in bucket.server.requests(bucket.name) if r.method == "PUT"]
    assert puts == ["out.csv.gz.new", "out.csv.gz", "out.csv.gz.meta.json"]


def test_a_directory_in_a_bucket(run, bucket):
    for job in (JOB, Job(emit, reduce=lambda k, vs, c: c.write_to("firsts", k, 1))):
        run(job, f"s3://{bucket.name}/out/")
        marks = {"_SUCCESS", "part-00000.txt"}
        expected = {"out/_meta.json", *(f"out/{name}" for name in marks)}
        for name in ("errors", "firsts") if job is JOB else ("firsts",):
            expected |= {f"out/{name}/{each}" for each in marks}
        assert {*bucket.objects()} == expected
    assert bucket.objects()["out/firsts/part-00000.txt"] == b"a\t1\nb\t1\nc\t1\n"


@pytest.mark.slow
def test_workers_write_directories_in_a_bucket(run, tmp_path, bucket):
    (tmp_path / "job.py").write_text(SCRIPT)
    run(tmp_path / "job.py", f"s3://{bucket.name}/out.gz/", inline=False, num_mappers=1)
    stored = bucket.objects()
    assert len(stored) == 7
    assert gzip.decompress(stored["out.gz/errors/part-00000.txt.gz"]).decode() == ERRORS


def test_a_failed_upload_leaves_no_new_objects(run, bucket, monkeypatch):
    publish = StoreOutput.publish

    def fail(self):
        if self.name.endswith("/out"):
            raise KeyboardInterrupt
        publish(self)

    monkeypatch.setattr(StoreOutput, "publish", fail)
    with pytest.raises(KeyboardInterrupt):
        run(output=f"s3://{bucket.name}/out")
    assert not bucket.objects()


@pytest.mark.slow
def test_a_failed_upload_is_an_error(run, bucket, monkeypatch):
    """The main object comes last, so what is there is of the earlier run."""
    run(output=f"s3://{bucket.name}/out")
    before = bucket.objects()

    def fail(self):
        raise JobError("no")

    monkeypatch.setattr(StoreOutput, "publish", fail)
    with pytest.raises(JobError, match="no"):
        run(Job(emit, reduce=lambda k, vs, c: c.write_to("new", k, 1)), f"s3://{bucket.name}/out")
    del before["out.meta.json"]
    assert bucket.objects() == before


# --- what is said of them -------------------------------------------------------------------------


def test_summary_meta_and_repetition(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    write_tree(tmp_path / "data", LINES)
    done = daskmr("run", "job.py", "-d", "data", "-o", "out", "--inline", cwd=tmp_path)
    assert "\n         3 lines to out.errors, 21 B\n" in done.stderr
    meta = json.loads((tmp_path / "out.meta.json").read_text())
    errors = meta["output"]["named"]["errors"]
    assert {n: errors[n] for n in ("path", "lines", "bytes")} == {
        "path": f"{tmp_path}/out.errors",
        "lines": 3,
        "bytes": 21,
    }
    assert len(errors["sha256"]) == 64
    (tmp_path / "out.errors").unlink()
    done = daskmr("run", "--from", "out.meta.json", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.errors").read_text() == ERRORS
    options = ("-d", "data", "-o", "out", "--inline", "--log-format", "json")
    done = daskmr("run", "job.py", *options, cwd=tmp_path)
    events = map(json.loads, done.stderr.splitlines())
    (summary,) = [event for event in events if event["event"] == "summary"]
    assert summary["outputs"]["errors"] == {"output": "out.errors", "lines": 3}
    assert not any(name.startswith("_") for name in summary)


def test_an_existing_cluster(run, tmp_path, dask_cluster):
    """Its workers get the script as text; values are sorted, and outputs named, as elsewhere."""
    order = "sort_values = lambda value: value[::-1]\n"
    (tmp_path / "job.py").write_text(order + SCRIPT)
    for output in ("here", "there"):
        place = {"inline": True} if output == "here" else {"scheduler": dask_cluster.address}
        run(tmp_path / "job.py", output, **{"inline": False} | place)
        run(tmp_path / "job.py", f"{output}.d/", **{"inline": False} | place)
    for name in ("", ".errors", ".firsts", ".d/errors/part-00000.txt"):
        assert (tmp_path / f"here{name}").read_bytes() == (tmp_path / f"there{name}").read_bytes()
    assert (tmp_path / "there.firsts").read_text() == "a\tbad0\nb\tbad1\nc\tx\n"


@pytest.mark.parametrize("source", [".", "*.log*", "out.log.errors"])
def test_outputs_are_no_input_of_the_same_job(tmp_path, source):
    (tmp_path / "a.log").write_text("a\tbad1\n")
    options = {"layout": "flat", "inline": True, "data_dir": f"{tmp_path}/{source}"}
    mapreduce(JOB, output=tmp_path / "out.log", **options | {"data_dir": tmp_path})
    try:
        result = mapreduce(JOB, **options)
    except InputError:  # no input is left
        assert source == "out.log.errors"
    else:
        assert source == "out.log.errors" or result.files == 1


def test_a_directory_is_no_input_of_the_same_job(tmp_path):
    (tmp_path / "a.log").write_text("a\tbad1\n")
    options = {"layout": "flat", "inline": True, "data_dir": tmp_path}
    for _ in range(2):
        result = mapreduce(JOB, output=f"{tmp_path}/out.log/", **options)
        assert result.files == 1


def test_deleted_data_is_not_an_output(run, tmp_path):
    result = run(output="out", delete_data=True)
    assert result.deleted == 2
    assert (tmp_path / "out.errors").read_text() == ERRORS


def test_check_shows_each(tmp_path):
    (tmp_path / "job.py").write_text(SCRIPT)
    write_tree(tmp_path / "data", LINES)
    done = daskmr("check", "job.py", "-d", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "write_to    errors  a    bad0\n            errors  a    bad9" in done.stdout
    (tmp_path / "job.py").write_text(
        "def map(key, dims, value, context):\n    context.write_to('all', key, value)\n"
    )
    done = daskmr("check", "job.py", "-d", "data", cwd=tmp_path)
    assert "write_to    all  a    x" in done.stdout
    assert "warning" not in done.stdout


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize("is_caught", [False, True])
def test_rows_that_differ_in_one_of_them(tmp_path, suffix, is_caught):
    """Whichever task writes them, the message names the output, and gives advice that is for it."""
    row = "{'b': 1, 'a': 2} if key % 2 else {'a': 'x'}"
    lines = [f"{number}\tx" for number in range(40)]
    text = "def map(key, dims, value, context): context.write(int(key), 1)\n"
    text += "def reduce(key, values, context):\n    context.write(key, 1)\n"
    write = f"context.write_to('o', key, {row})"
    text += f"    try: {write}\n    except Exception: pass\n" if is_caught else f"    {write}\n"
    (tmp_path / "job.py").write_text(text)
    for reducers in (1, 7):
        with pytest.raises(JobError) as failed:
            mapreduce(
                tmp_path / "job.py", data_dir=write_tree(tmp_path / "data", [lines]), inline=True,
                output=tmp_path / f"out.{suffix}", num_reducers=reducers, work_dir=tmp_path / "w",
            )  # fmt: skip
        said = str(failed.value)
        assert said.startswith("The output 'o' of context.write_to: t")
        assert "output_columns" not in said
        assert "TaskFailed" not in said
        assert not [*tmp_path.glob("out*")]
