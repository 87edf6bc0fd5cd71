"""The contract of the output: the same bytes however it is made, and whole or not at all."""

from __future__ import annotations

import bz2
import contextlib
import functools
import gc
import gzip
import io
import json
import lzma
import os
import pstats
import random
import resource
import stat
import subprocess
import sys
import textwrap
from operator import add

import pytest
import zstandard
from support.jobs import DIRECTORY, counting_job, daskmr, file_name, write_tree

from daskmr import InputError, Job, JobError, mapreduce

IDENTITY = """
    def map(key, dims, value, context):
        context.write(key, value)
    def reduce(key, values, context):
        for value in values:
            context.write(key, value)
"""


def write_script(folder, text):
    path = folder / "job.py"
    path.write_text(textwrap.dedent(text))
    return path


@pytest.fixture
def run(tmp_path):
    """Run a job over the data of the test, with the output in ``out.txt``."""

    def run(job=None, **options):
        if isinstance(job, str):
            job = write_script(tmp_path, job)
        options = {
            "data_dir": tmp_path / "data",
            "inline": True,
            "work_dir": tmp_path / "work",
            "output": tmp_path / "out.txt",
        } | options
        return mapreduce(job or counting_job(), **options)

    return run


@pytest.fixture
def data(tmp_path):
    """Two small files; three records, two keys."""
    return write_tree(tmp_path / "data", [["b\t1", "a\t2"], ["b\t3"]])


def names(folder):
    return sorted(path.name for path in folder.iterdir())


# --- the same bytes -----------------------------------------------------------------------------

SUMS = """
    def map(key, dims, value, context):
        number = float(value)
        context.write(key, number)
        context.write((key[:1], len(key)), number / 3)
    def reduce(key, values, context):
        total = 0.0
        for value in values:
            total += value
        context.write(key, repr(total))
"""
COMBINE = """
    def combine(key, values, context):
        total = 0.0
        for value in values:
            total += value
        context.write(key, total)
"""


@pytest.fixture(scope="module")
def floats(tmp_path_factory):
    """Some 10,000 records in 40 files of very different sizes."""
    random_ = random.Random(7)

    def lines(count):
        for _ in range(count):
            key = random_.randrange(20) if random_.random() < 0.8 else random_.randrange(5000)
            yield f"key{key}\t{random_.uniform(-1, 1) * 10 ** random_.randrange(20)!r}"

    root = tmp_path_factory.mktemp("floats")
    return write_tree(root / "data", [list(lines(25 + 12 * number)) for number in range(40)])


PLACES = {
    "-m 1 -r 1": {"inline": False, "num_mappers": 1, "num_reducers": 1},
    "-m 2 -r 1": {"inline": False, "num_mappers": 2, "num_reducers": 1},
    "-m 2 -r 7": {"inline": False, "num_mappers": 2, "num_reducers": 7},
    "--inline": {"inline": True},
    "--inline -r 7": {"inline": True, "num_reducers": 7},
}


@pytest.mark.parametrize("combine", ["", COMBINE], ids=["no combine", "combine"])
@pytest.mark.parametrize("spill_bytes", [pytest.param("64 MiB", marks=pytest.mark.slow), "30 kB"])
def test_float_sums_are_the_same_bytes_wherever_they_are_made(run, floats, combine, spill_bytes):
    outputs = {}
    for place, options in PLACES.items():
        if place == "-m 1 -r 1" and spill_bytes != "64 MiB":
            continue
        result = run(SUMS + combine, data_dir=floats, spill_bytes=spill_bytes, **options)
        with open(result.output, "rb") as file:
            outputs[place] = file.read()
    assert result.records == sum(25 + 12 * number for number in range(40))
    assert len(set(outputs.values())) == 1
    assert outputs["--inline"].count(b"\n") > 1000
    assert (result.spilled > 0) == (spill_bytes == "30 kB")


def test_these_sums_do_depend_on_their_order(floats):
    """Otherwise the test above could not fail."""
    paths = sorted((floats / DIRECTORY).iterdir())
    lines = [line for path in paths for line in gzip.decompress(path.read_bytes()).splitlines()]
    numbers = [float(line.split(b"\t")[1]) for line in lines if line.startswith(b"key1\t")]
    # One after the other: from Python 3.12 on, `sum` makes up for what is rounded off.
    assert functools.reduce(add, numbers) != functools.reduce(add, numbers[::-1])


PLANS = [
    {},
    {"partition_bytes": 1000},
    {"partition_bytes": "1 GB"},
    {"spill_bytes": 1000},
    {"spill_bytes": "60 kB", "num_reducers": 3},
    {"combine_size": 2},
    {"combine_size": 100_000},
]


@pytest.mark.slow
def test_without_combine_plan_settings_do_not_matter(run, floats, tmp_path):
    outputs = set()
    for options in PLANS:
        run(SUMS, data_dir=floats, **options)
        outputs.add((tmp_path / "out.txt").read_bytes())
    assert len(outputs) == 1


def test_with_an_exact_combine_plan_settings_do_not_matter(run, floats, tmp_path):
    exact = """
        def map(key, dims, value, context):
            context.write(key, len(value))
        def combine(key, values, context):
            context.write(key, sum(values))
        def reduce(key, values, context):
            context.write(key, sum(values))
    """
    outputs = set()
    for options in PLANS:
        run(exact, data_dir=floats, **options)
        outputs.add((tmp_path / "out.txt").read_bytes())
    assert len(outputs) == 1


def test_map_only_output_is_in_input_order(run, floats, tmp_path):
    script = "def map(key, dims, value, context): context.write(key, value)"
    paths = sorted((floats / DIRECTORY).iterdir())
    expected = b"".join(gzip.decompress(path.read_bytes()) for path in paths)
    for options in (*PLACES.values(), *PLANS):
        if options.get("num_mappers") != 1:
            run(script, data_dir=floats, **options)
            assert (tmp_path / "out.txt").read_bytes() == expected


def test_output_is_sorted_by_the_key_that_reduce_received(run, tmp_path):
    def reduce(key, values, context):
        context.write(-int(key), "z")
        context.writeline("then a")

    write_tree(tmp_path / "data", [["1\t", "3\t"], ["2\t", "10\t"]])
    run(Job(lambda k, d, v, c: c.write(k, v), reduce=reduce), num_reducers=7)
    expected = "".join(f"-{key}\tz\nthen a\n" for key in ("1", "10", "2", "3"))
    assert (tmp_path / "out.txt").read_text() == expected


def test_the_command_writes_the_same(run, data, tmp_path):
    script = write_script(tmp_path, IDENTITY)
    run(IDENTITY)
    expected = (tmp_path / "out.txt").read_bytes()
    assert expected == b"a\t2\nb\t1\nb\t3\n"
    for options in (["-m", "2", "-r", "7"], ["--inline"]):
        output = tmp_path / "other.txt"
        done = daskmr("run", script, "-d", data, "-o", output, "-w", tmp_path / "work", *options)
        assert (done.returncode, done.stdout) == (0, "")
        assert output.read_bytes() == expected
        assert "wrote    3 lines for 2 keys" in done.stderr
    written = ["other.txt", "other.txt.meta.json", "out.txt", "out.txt.meta.json"]
    assert names(tmp_path) == ["data", "job.py", *written]


# --- where it goes ------------------------------------------------------------------------------

DECODERS = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
    ".GZ": gzip.decompress,
}


@pytest.mark.parametrize("ending", DECODERS)
def test_the_ending_of_the_name_says_how_it_is_compressed(run, tmp_path, ending):
    lines = [f"{number:05}\t" + "\u00e9" * 30 for number in range(20_000)]
    write_tree(tmp_path / "data", [lines])
    job = Job(lambda k, d, v, c: c.write(k, v), reduce=lambda k, v, c: c.write(k, v[0]))
    output = tmp_path / f"out{ending}"
    written = []
    for _ in range(2):
        result = run(job, output=output)
        written.append(output.read_bytes())
    assert DECODERS[ending](written[0]).decode() == "".join(f"{line}\n" for line in lines)
    assert written[0] == written[1]  # no time or name in it
    assert result.output_bytes == len(written[0]) < 500_000


@pytest.mark.parametrize("ending", DECODERS)
def test_an_empty_output_is_compressed_too(run, tmp_path, ending):
    (tmp_path / "data").mkdir()
    output = tmp_path / f"out{ending}"
    run(output=output, allow_empty=True)
    assert output.stat().st_size > 0
    assert DECODERS[ending](output.read_bytes()) == b""


@pytest.mark.parametrize("options", [["--inline"], ["-m", "2"]])
def test_standard_output_gets_the_result_and_nothing_else(data, tmp_path, options):
    script = write_script(
        tmp_path,
        r"""
        import os, sys
        print("import")
        def map(key, dims, value, context):
            print("map")
            sys.stdout.write("map")
            os.write(1, b"descriptor\n")
            os.system("echo shell")
            context.write(key, value)
        def setup_reduce(context):
            print("setup")
        def reduce(key, values, context):
            print("reduce")
            context.write(key, len(values))
        """,
    )
    done = daskmr("run", script, "-d", data, "-o", "-", *options, cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("a\t1\nb\t2\n", 0)
    for word in ("import", "map", "descriptor", "shell", "setup", "reduce", "standard output"):
        assert word in done.stderr
    assert names(tmp_path) == ["data", "job.py"]


def test_standard_output_is_the_default_and_quiet_says_nothing(data, tmp_path):
    script = write_script(tmp_path, IDENTITY)
    done = daskmr("run", script, "-d", data, "--inline", "-q", cwd=tmp_path)
    assert (done.stdout, done.stderr, done.returncode) == ("a\t2\nb\t1\nb\t3\n", "", 0)


def test_bad_records_of_standard_output_lie_in_the_work_dir(tmp_path):
    data = write_tree(tmp_path / "data", [["a\t1", "bad"]])
    script = write_script(tmp_path, IDENTITY)
    done = daskmr("run", script, "-d", data, "--inline", "-w", "work", cwd=tmp_path)
    assert (done.stdout, done.returncode) == ("a\t1\n", 0)
    assert "work/job.bad.jsonl" in done.stderr
    (line,) = (tmp_path / "work" / "job.bad.jsonl").read_text().splitlines()
    assert json.loads(line)["line"] == 2


def test_a_reader_that_goes_away_is_an_error_without_a_traceback(tmp_path):
    data = write_tree(tmp_path / "data", [[f"{n}\t{'x' * 100}" for n in range(5000)]])
    script = write_script(tmp_path, IDENTITY)
    command = [sys.executable, "-m", "daskmr", "run", script, "-d", data, "--inline"]
    with subprocess.Popen(
        command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        process.stdout.readline()
        process.stdout.close()
        error = process.stderr.read()
        assert process.wait(30) == 1
    assert error.startswith("daskmr: ")
    assert "Traceback" not in error
    assert names(tmp_path) == ["data", "job.py"]


@pytest.mark.parametrize("output", ["-", "out.txt"])
def test_a_closed_standard_output(data, tmp_path, output):
    """As some supervisors start programs; with an output file nobody needs it."""
    script = write_script(tmp_path, IDENTITY)
    arguments = ["run", script, "-d", data, "--inline", "-o", output]
    done = subprocess.run(
        [sys.executable, "-m", "daskmr", *arguments],
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        preexec_fn=lambda: os.close(1),
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == (0 if output == "out.txt" else 1)
    if output == "out.txt":
        assert (tmp_path / output).read_text() == "a\t2\nb\t1\nb\t3\n"


def test_a_link_is_followed(run, data, tmp_path):
    (tmp_path / "there").mkdir()
    target, link = tmp_path / "there" / "target.txt", tmp_path / "out.txt"
    link.symlink_to(target)
    for _ in range(2):  # first it leads nowhere
        run()
        assert link.is_symlink()
        assert target.read_text() == "a\t1\nb\t2\n"
        assert names(tmp_path / "there") == ["target.txt"]
        target.write_text("old")


def test_dev_null(run, data, tmp_path):
    run(output="/dev/null")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)
    assert names(tmp_path) == ["data"]


def test_a_named_pipe(run, data, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with subprocess.Popen(["cat", tmp_path / "pipe"], stdout=subprocess.PIPE) as reader:
        run(output=tmp_path / "pipe")
        assert reader.communicate(timeout=20)[0] == b"a\t1\nb\t2\n"
    assert stat.S_ISFIFO(os.stat(tmp_path / "pipe").st_mode)


@pytest.mark.parametrize(
    "name",
    ["\u65e5" * 80 + ".txt", "x" * 250, "with space.txt"],
    ids=["unicode", "long", "space"],
)
def test_long_and_odd_names(run, data, tmp_path, name):
    run(output=tmp_path / name)
    assert (tmp_path / name).read_text() == "a\t1\nb\t2\n"
    left = names(tmp_path)
    assert {"data", name} <= set(left)
    assert len(left) == 3
    assert sum(file.endswith(".meta.json") for file in left) == 1


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="there is no other device")
def test_an_output_on_another_device_than_the_work_dir(run, data, tmp_path):
    output = f"/dev/shm/{os.getpid()}.daskmr.txt"
    try:
        run(output=output)
        with open(output) as file:
            assert file.read() == "a\t1\nb\t2\n"
    finally:
        os.unlink(output)


def test_permissions_follow_the_umask(run, data, tmp_path):
    before = os.umask(0o027)
    try:
        run()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "out.txt").stat().st_mode) == 0o640


# --- whole or not at all ------------------------------------------------------------------------

NO_WORK = "def map(key, dims, value, context): raise SystemError('map was called')"


@pytest.mark.parametrize(
    ("output", "mistake"),
    [
        ("missing/out.txt", "missing' does not exist"),
        ("data", "is a directory"),
        ("", "holds data/, job.py"),
        ("job.py/out.txt", "does not exist"),
    ],
)
def test_an_output_that_cannot_be_is_found_before_any_work(run, data, tmp_path, output, mistake):
    with pytest.raises(InputError, match=mistake):
        run(NO_WORK, output=f"{tmp_path}/{output}")
    assert names(tmp_path) == ["data", "job.py"]


def test_exit_code_of_an_output_that_cannot_be(data, tmp_path):
    script = write_script(tmp_path, NO_WORK)
    done = daskmr("run", script, "-d", data, "--inline", "-o", "missing/out.txt", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path}/missing' does not exist" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_folder_that_cannot_be_written_is_found_before_any_work(run, data, monkeypatch):
    def refuse(path, mode="r", *args, **kwargs):
        if "x" in mode or "w" in mode:
            raise PermissionError(13, "Permission denied", path)
        return open(path, mode, *args, **kwargs)

    monkeypatch.setattr("daskmr.files.open", refuse, raising=False)  # root may write anywhere
    with pytest.raises(InputError, match=r"cannot be written .*Permission denied.*--output"):
        run(NO_WORK)


def test_a_folder_of_the_system_cannot_be_written(run, data):
    with pytest.raises(InputError, match="cannot be written to '/proc'"):
        run(NO_WORK, output="/proc/daskmr.txt")


@pytest.mark.parametrize("work_dir", ["job.py", "job.py/below", "/proc/daskmr"])
def test_a_work_dir_that_cannot_be_is_found_before_any_work(run, data, tmp_path, work_dir):
    with pytest.raises(InputError, match=r"work dir .*cannot be used.*--work-dir"):
        run(NO_WORK, work_dir=tmp_path / work_dir)
    assert names(tmp_path) == ["data", "job.py"]


def test_the_work_dir_is_created_and_removed(run, data, tmp_path):
    seen = []
    work = tmp_path / "a" / "b"
    run(Job(lambda k, d, v, c: seen.append(work.is_dir())), work_dir=work)
    assert seen == [True] * 3
    assert names(tmp_path) == ["data", "out.txt", "out.txt.meta.json"]


def test_a_work_dir_that_was_there_stays(run, data, tmp_path):
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "mine").touch()
    run()
    assert names(tmp_path / "work") == ["mine"]


def test_the_old_output_stands_until_the_new_one_is_whole(run, data, tmp_path):
    output = tmp_path / "out.txt"
    output.write_text("old")
    seen = []

    def reduce(key, values, context):
        seen.append(output.read_text())
        context.write(key, len(values))

    run(Job(lambda k, d, v, c: c.write(k, v), reduce=reduce))
    assert seen == ["old", "old"]
    assert output.read_text() == "a\t1\nb\t2\n"


def limit_file_size():
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))


@pytest.mark.parametrize(
    ("ending", "map_only"),
    [("txt", False), ("txt", True), ("gz", False), ("bz2", False), ("xz", False), ("zst", False)],
)
def test_a_disk_that_is_full_while_writing(tmp_path, ending, map_only):
    """A limit on the size of files stands for it: a write fails half way just so."""
    random_ = random.Random(1)
    lines = [f"{n:05}\t{random_.randbytes(300).hex()}" for n in range(1500)]
    data = write_tree(tmp_path / "data", [lines])
    text = textwrap.dedent(IDENTITY)
    script = write_script(tmp_path, text.partition("def reduce")[0] if map_only else text)
    output = tmp_path / f"out.{ending}"
    output.write_text("old")
    done = subprocess.run(
        [sys.executable, "-m", "daskmr", "run", script, "-d", data, "-o", output, "--inline", "-q"],
        cwd=tmp_path,
        preexec_fn=limit_file_size,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("daskmr: Writing ")
    assert "File too large" in done.stderr
    assert "bytes are free there" in done.stderr
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert output.read_text() == "old"
    assert names(tmp_path) == ["data", "job.py", output.name]


def test_a_disk_that_is_full_for_workers(tmp_path):
    """They spill more than there is room for."""
    data = write_tree(
        tmp_path / "data", [[f"{n}{f}\t{os.urandom(200).hex()}" for n in range(2000)] for f in "ab"]
    )
    script = write_script(tmp_path, IDENTITY)
    (tmp_path / "out.txt").write_text("old")
    done = subprocess.run(
        [sys.executable, "-m", "daskmr", "run", script, "-d", data, "-o", "out.txt", "-m2", "-q"],
        cwd=tmp_path,
        env={**os.environ, "DASK_DASKMR__SPILL_BYTES": "100 kB"},
        preexec_fn=limit_file_size,
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("daskmr: Writing what did not fit in memory failed: File too")
    assert (tmp_path / "out.txt").read_text() == "old"
    assert names(tmp_path) == ["data", "job.py", "out.txt"]


def test_a_full_device(run, data):
    with pytest.raises(JobError, match="No space left on device"):
        run(output="/dev/full")
    gc.collect()  # a file that was left open would be an error of this test, not of the next


@pytest.mark.parametrize("ending", ["", ".gz", ".bz2", ".xz", ".zst"])
def test_a_failure_at_the_very_end_leaves_the_old_output(run, data, tmp_path, monkeypatch, ending):
    output = tmp_path / f"out{ending}"
    output.write_text("old")

    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(JobError, match="Input/output error"):
        run(output=output)
    assert output.read_text() == "old"
    assert names(tmp_path) == sorted(["data", output.name])


# --- -X, -p, -m ---------------------------------------------------------------------------------


def left(data):
    return sorted(path.name for path in data.rglob("*") if path.is_file())


def test_delete_data_deletes_what_was_mapped_whole(run, tmp_path):
    lines = [["a\t1"], ["bad", "a\t1"], ["worse " * 10, "a\t1"], ["a\t1"]]
    data = write_tree(tmp_path / "data", lines)
    corrupt = data / DIRECTORY / "1.2.log.gz"
    corrupt.write_bytes(gzip.compress(os.urandom(9999))[:-9])
    (data / "README.md").touch()
    write_tree(data, [["a\t1"]], "idle/Firefox/beta/24.0")
    chosen = tmp_path / "filter.json"
    dimension = {"field_name": "reason", "allowed_values": "saved_session"}
    chosen.write_text(json.dumps({"version": 1, "dimensions": [dimension]}))
    result = run(
        delete_data=True,
        skip_corrupt_files=True,
        bad_records_saved="20 B",  # for one of the two
        input_filter=chosen,
    )
    assert (tmp_path / "out.txt").read_text() == "a\t4\n"
    assert result.deleted == 3
    assert left(data) == ["1.2.log.gz", file_name(0), file_name(2), "README.md"]


@pytest.mark.parametrize("options", [["--inline"], ["-m", "2"]])
def test_delete_data_through_the_command(data, tmp_path, options):
    script = write_script(tmp_path, IDENTITY)
    output = tmp_path / "out.txt"
    done = daskmr("run", script, "-d", data, "-o", output, "-X", *options, cwd=tmp_path)
    assert (done.returncode, output.read_text()) == (0, "a\t2\nb\t1\nb\t3\n")
    assert "deleted  2 input files" in done.stderr
    assert left(data) == []


@pytest.mark.parametrize(
    "job",
    [
        "def map(k, d, v, c): 1 / 0",
        "def map(k, d, v, c): c.write(k, v)\ndef reduce(k, v, c): 1 / 0",
    ],
)
def test_delete_data_deletes_nothing_when_the_job_fails(run, data, job):
    with pytest.raises(JobError):
        run(job, delete_data=True)
    assert len(left(data)) == 2


def test_delete_data_deletes_nothing_when_the_output_cannot_be_committed(run, data, monkeypatch):
    def fail(*args):
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(JobError, match="Input/output error"):
        run(delete_data=True)
    assert len(left(data)) == 2


def test_an_input_file_that_may_not_be_deleted_is_a_note(run, data, monkeypatch):
    unlink = os.unlink

    def refuse(path, **options):
        if str(path).endswith(file_name(1)):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, **options)

    monkeypatch.setattr("os.unlink", refuse)
    result = run(delete_data=True)
    assert (result.deleted, len(left(data))) == (1, 1)
    assert "1 input file not deleted, the system refused: " in result.notes[-1]
    assert "(Operation not permitted)" in result.notes[-1]


@pytest.mark.parametrize("lines", [["a\t1"], ["a\t1", "bad"]])
def test_delete_data_needs_an_output_that_is_committed(run, tmp_path, lines):
    """A result in memory is gone with the process; the data must not go with it."""
    data = write_tree(tmp_path / "data", [lines])
    with contextlib.suppress(InputError):  # to refuse is as good
        run(delete_data=True, output=None)
    assert len(left(data)) == 1


def test_an_output_that_is_an_input_file_is_not_deleted(run, data):
    output = data / DIRECTORY / file_name(0)
    before = output.read_bytes()
    with contextlib.suppress(InputError):  # to refuse is as good
        run(delete_data=True, output=output)
    content = output.read_bytes()
    assert content == before or gzip.decompress(content) == b"a\t1\nb\t2\n"


@pytest.mark.parametrize("options", [["--inline"], ["-m", "2", "-r", "3"]])
def test_profile_is_merged_over_all_tasks(tmp_path, options):
    data = write_tree(tmp_path / "data", [[f"{n % 9}\t1" for n in range(100)] for _ in range(7)])
    script = write_script(tmp_path, IDENTITY)
    output = tmp_path / "out.txt"
    done = daskmr("run", script, "-d", data, "-o", output, "-p", *options, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert f"{output}.pstats" in done.stderr
    stats = pstats.Stats(f"{output}.pstats", stream=io.StringIO())
    calls = {
        name: entry[1] for (file, _, name), entry in stats.stats.items() if file == str(script)
    }
    assert calls == {"map": 700, "reduce": 9}
    stats.sort_stats("cumulative").print_stats()


def test_profile_of_a_map_only_job_through_the_api(run, data, tmp_path):
    result = run("def map(k, d, v, c): c.write(k, v)", profile=True)
    script = str(tmp_path / "job.py")
    calls = {name: e[1] for (file, _, name), e in result.profile.items() if file == script}
    assert calls == {"map": 3}
    assert run(profile=False).profile is None


@pytest.mark.parametrize("number", ["0", "-1", "10000", "two"])
def test_a_number_of_mappers_that_makes_no_sense(data, tmp_path, number):
    script = write_script(tmp_path, NO_WORK)
    output = tmp_path / "out.txt"
    output.write_text("old")
    done = daskmr("run", script, "-d", data, "-o", output, "-m", number, cwd=tmp_path)
    assert done.returncode == 2
    assert "mappers" in done.stderr
    assert number in done.stderr
    assert "Traceback" not in done.stderr
    assert output.read_text() == "old"
    assert names(tmp_path) == ["data", "job.py", "out.txt"]


@pytest.mark.parametrize("option", ["num_mappers", "num_reducers", "combine_size"])
@pytest.mark.parametrize("value", [0, -1, "many", 1.5])
def test_a_setting_that_makes_no_sense(run, data, option, value):
    with pytest.raises(InputError, match=option.replace("_", "-")):
        run(NO_WORK, **{option: value})


def test_an_unknown_option_is_an_error(run, data):
    with pytest.raises(InputError, match="num_mapper"):
        run(NO_WORK, num_mapper=2)
