"""The contract of records and input files: what is read, what is bad, and what fails the job."""

from __future__ import annotations

import base64
import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import tarfile
import textwrap

import pytest
import zstandard
from support.jobs import DIRECTORY, counting_job, daskmr, file_name, write_tree

from daskmr import InputError, Job, JobError, NothingMatchedError, mapreduce
from daskmr.diagnostics.summary import summarise

IDENTITY = """
    def map(key, dims, value, context):
        context.write(key, value)
    def reduce(key, values, context):
        for value in values:
            context.write(key, value)
"""


class Place:
    """A folder with data, scripts and outputs."""

    def __init__(self, root):
        self.root, self.data, self.output = root, root / "data", root / "out.txt"
        self.folder = self.data / DIRECTORY
        self.folder.mkdir(parents=True)

    def put(self, name, data):
        path = self.folder / name
        path.write_bytes(data)
        return path

    def lines(self, files):
        write_tree(self.data, files)

    def script(self, text):
        path = self.root / "job.py"
        path.write_text(textwrap.dedent(text))
        return path

    def run(self, job=None, **options):
        if isinstance(job, str):
            job = self.script(job)
        options = {"inline": True, "work_dir": self.root / "work"} | options
        return mapreduce(job or counting_job(), data_dir=self.data, **options)

    def command(self, text, *arguments):
        return daskmr(
            *("run", self.script(text), "-d", self.data, "-o", self.output, "--inline"),
            *("-w", self.root / "work", *arguments),
        )

    def bad(self):
        path = self.root / "out.txt.bad.jsonl"
        records = [json.loads(line) for line in path.read_text().splitlines()]
        for record in records:
            record["raw"] = base64.b64decode(record["raw"])
        return records


@pytest.fixture
def place(tmp_path):
    return Place(tmp_path)


def pass_on(key, dims, value, context):
    context.write(key, value)


# --- lines --------------------------------------------------------------------------------------


def test_only_newlines_end_a_line(place):
    odd = "\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
    text = f"k{odd}\tv{odd}w\na\rb\tc\rd\r\r\n\t\nlast\tone"
    place.put(file_name(0), gzip.compress(text.encode()))
    assert list(place.run(Job(pass_on))) == [
        (f"k{odd}", f"v{odd}w"),
        ("a\rb", "c\rd"),
        ("", ""),
        ("last", "one"),
    ]


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n", b"\r\r\n", b"\r"])
def test_trailing_returns_and_newlines_are_stripped(place, end):
    place.put(file_name(0), gzip.compress(b"k\tv\r\nk2\t" + end))
    assert list(place.run(Job(pass_on))) == [("k", "v"), ("k2", "")]


def test_the_first_tab_splits(place):
    place.lines([["k\tv\tw\t", "\t\tv"]])
    assert list(place.run(Job(pass_on))) == [("k", "v\tw\t"), ("", "\tv")]


def test_a_carriage_return_at_the_end_of_a_chunk_is_stripped(place):
    lines = [b"k\t" + b"x" * number + b"\r\n" for number in range(65_500, 65_560)]
    place.put("a.b.txt", b"".join(lines))
    values = [value for _, value in place.run(Job(pass_on))]
    assert values == ["x" * number for number in range(65_500, 65_560)]


def test_bytes_that_are_not_utf8_come_out_as_they_were(place):
    raw = bytes(byte for byte in range(1, 256) if byte not in b"\t\n\r")
    place.put(file_name(0), gzip.compress(b"k" + raw + b"\t" + raw + b"\n\xffkey\t\xfe\n"))
    for reduce in (None, lambda key, values, context: context.write(key, values[0])):
        place.run(Job(pass_on, reduce=reduce), output=place.output)
        lines = [b"k" + raw + b"\t" + raw + b"\n", b"\xffkey\t\xfe\n"]
        assert sorted(place.output.read_bytes().splitlines(keepends=True)) == sorted(
            b"".join(lines).splitlines(keepends=True)
        )


def test_lone_surrogates_of_json_are_written(place):
    def map_(key, dims, value, context):
        context.write(json.loads(value), json.loads(value))

    def reduce(key, values, context):
        context.write(key, values[0])
        context.writeline(key)
        context.writecsv([key])

    place.lines([[r'k	"\ud800"', r'k	"a\udfffz"', r'k	"\ud83d\ude00"']])
    for options in ({"num_reducers": 1}, {"num_reducers": 7}):
        place.run(Job(map_, reduce=reduce), output=place.output, **options)
        texts = [b"a\xed\xbf\xbfz", b"\xed\xa0\x80", "\U0001f600".encode()]
        expected = b"".join(b"%b\t%b\n%b\n%b\r\n" % (t, t, t, t) for t in texts)
        assert place.output.read_bytes() == expected


def test_lone_surrogates_go_through_worker_processes(place):
    script = """
        import json
        def map(key, dims, value, context):
            context.write(json.loads(value), value)
        def reduce(key, values, context):
            context.write(key, len(values))
    """
    place.lines([[r'k	"\ud800"', 'k\t"\udcff"'], [r'k	"\ud800"']])
    place.run(script, output=place.output, inline=False, num_mappers=2, num_reducers=3)
    assert place.output.read_bytes() == b"\xed\xa0\x80\t2\n\xff\t1\n"


# --- bad records --------------------------------------------------------------------------------


@pytest.mark.parametrize("reduce", [None, lambda key, values, context: context.write(key, 1)])
def test_a_line_without_a_tab_is_a_bad_record(place, reduce):
    place.put("1.2.log", b"a\t1\n\nno tab\r\n\r\nb\t2\n\xff")
    result = place.run(Job(pass_on, reduce=reduce), output=place.output, max_bad_records=4)
    assert (result.records, result.bad_records) == (6, 4)
    assert result.bad_reasons == {"no tab in the line": 4}
    assert result.bad_files == {f"{DIRECTORY}/1.2.log": 4}
    assert [(r["line"], r["raw"]) for r in place.bad()] == [
        (2, b""),
        (3, b"no tab\r"),
        (4, b"\r"),
        (6, b"\xff"),
    ]


@pytest.mark.parametrize("combine", [None, lambda key, values, context: None])
@pytest.mark.parametrize("reduce", [None, lambda key, values, context: context.write(key, 1)])
def test_a_value_error_in_map_discards_what_that_call_wrote(place, reduce, combine):
    def map_(key, dims, value, context):
        context.write(f"{key} before", value)
        context.write(f"{key} before", [value])
        number = int(value)
        context.write(f"{key} after", number)

    place.lines([["a\t1", "b\tx", "c\t3"], ["b\ty"]])
    result = place.run(Job(map_, combine, reduce), output=place.output)
    text = place.output.read_text()
    assert "b " not in text
    for key in ("a before", "a after", "c before", "c after"):
        assert key in text
    assert result.bad_reasons == {"ValueError": 2}


def test_very_many_writes_of_a_bad_record_are_discarded(place):
    def map_(key, dims, value, context):
        for number in range(30_000):  # more than are folded at a time
            context.write(key, number)
        int(value)

    place.lines([["a\t1", "b\tx", "c\t3"]])
    assert dict(place.run(job_of(map_))) == {"a": 30_000, "c": 30_000}


def job_of(map_):
    return Job(map_, reduce=lambda key, values, context: context.write(key, len(values)))


def test_json_and_unicode_errors_are_bad_records_by_their_names(place):
    def map_(key, dims, value, context):
        if key == "json":
            json.loads(value)
        elif key == "unicode":
            value.encode("ascii")
        else:
            raise ValueError

    lines = ["json\t{", "json\t[", "unicode\t\u00e9", "else\t", 'json\t{"fine": 1}', "untabbed"]
    place.lines([lines, lines])
    result = place.run(job_of(map_), output=place.output, max_bad_records="90%")
    reasons = {"JSONDecodeError": 4, "UnicodeEncodeError": 2, "ValueError": 2}
    assert result.bad_reasons == reasons | {"no tab in the line": 2}
    assert next(iter(result.bad_reasons)) == "JSONDecodeError"  # the most frequent first
    assert result.bad_files == {f"{DIRECTORY}/{file_name(n)}": 5 for n in range(2)}


def test_bad_records_are_saved_with_file_line_reason_and_bytes(place):
    def map_(key, dims, value, context):
        int(value)

    place.put("1.2.a.log", b"k\t1\nk\tx\xff\tz\n")
    place.put("1.2.b.log", b"k\t2\nno tab\n")
    place.run(job_of(map_), output=place.output)
    first, second = place.bad()
    detail = first.pop("exception")
    assert "invalid literal for int()" in detail
    assert first == {
        "file": f"{DIRECTORY}/1.2.a.log",
        "line": 2,
        "reason": "ValueError",
        "raw": b"k\tx\xff\tz",
    }
    assert (second["file"], second["line"]) == (f"{DIRECTORY}/1.2.b.log", 2)
    assert (second["reason"], second["raw"]) == ("no tab in the line", b"no tab")


def test_the_summary_counts_bad_records_by_file_and_reason(place):
    place.lines([["a\t1", "bad"], ["worse", "b\tx", "a\t1"]])
    done = place.command("def map(k, d, v, c): c.write(k, int(v))", "--max-bad-records", "60%")
    assert done.returncode == 0
    assert place.output.read_text() == "a\t1\na\t1\n"
    summary = [line.strip() for line in done.stderr.splitlines()]
    for line in (
        "bad records: 3 (60%)",
        "2 x no tab in the line",
        "1 x ValueError",
        f"2 in {DIRECTORY}/{file_name(1)}",
        f"1 in {DIRECTORY}/{file_name(0)}",
        f"all saved in {place.output}.bad.jsonl",
    ):
        assert line in summary


def test_bad_records_are_the_same_on_workers(place):
    place.lines([[f"{line}\tx" if line % 3 else "bad" for line in range(40)] for _ in range(50)])
    saved, counts = [], []
    for options in ({}, {"inline": False, "num_mappers": 2, "num_reducers": 3}):
        options["bad_records_saved"] = "1 kB"
        result = place.run(IDENTITY, output=place.output, **options)
        saved.append((place.root / "out.txt.bad.jsonl").read_bytes())
        counts.append((result.records, result.bad_records, result.bad_files, result.bad_reasons))
    assert counts[0] == counts[1]
    assert counts[0][:2] == (50 * 40, 50 * 14)
    assert saved[0] == saved[1]
    assert saved[0].count(b"\n") == 1000 // len("bad")


def test_the_count_is_whole_when_not_all_are_saved(place):
    place.lines([["bad"] * 100 + ["a\t1"]])
    result = place.run(output=place.output, bad_records_saved="30 B", max_bad_records="100%")
    assert result.bad_records == 100
    assert len(place.bad()) == 10
    assert "10 of them saved in" in summarise(result)


def test_stale_bad_records_are_removed(place):
    place.lines([["bad", "a\t1"]])
    place.run(output=place.output)
    assert len(place.bad()) == 1
    place.lines([["a\t1"]])
    result = place.run(output=place.output)
    assert result.bad_records_path is None
    left = sorted(p.name for p in place.root.iterdir())
    assert left == ["data", "out.txt", "out.txt.meta.json"]


def test_bad_records_of_a_job_without_an_output_are_in_the_result(place):
    place.lines([["bad", "a\t1"]])
    (record,) = place.run().saved_bad_records
    assert (record.file, record.line) == (f"{DIRECTORY}/{file_name(0)}", 1)
    assert (record.reason, record.raw) == ("no tab in the line", b"bad")


BAD_29 = [["bad"] * 29 + ["a\t1"] * 31, ["a\t1"] * 40]


@pytest.mark.parametrize("limit", [None, 29, "29", 1000, "29%", "29.0 %", "30%", "100%"])
def test_bad_records_up_to_the_limit_are_allowed(place, limit):
    place.lines(BAD_29)
    assert list(place.run(max_bad_records=limit)) == [("a", 71)]


@pytest.mark.parametrize("limit", [0, "0", 28, "28", "0%", "28%", "28.9%"])
def test_more_bad_records_than_the_limit_fail_the_job(place, limit):
    place.lines(BAD_29)
    place.output.write_text("old")
    with pytest.raises(JobError) as failure:
        place.run(max_bad_records=limit, output=place.output)
    message = str(failure.value)
    assert "--max-bad-records" in message
    assert f"{file_name(0)}, line " in message
    assert "no tab in the line" in message
    assert place.output.read_text() == "old"
    assert sorted(p.name for p in place.root.iterdir()) == ["data", "out.txt"]


@pytest.mark.parametrize("limit", [4, "9%"])
def test_bad_records_of_all_files_count_together(place, limit):
    place.lines([["bad"] + ["a\t1"] * 9 for _ in range(5)])
    with pytest.raises(JobError, match=r"5 of 50 records are bad"):
        place.run(max_bad_records=limit)


def test_exit_code_of_too_many_bad_records(place):
    place.lines([["a\t1", "bad"]])
    done = place.command(IDENTITY, "--max-bad-records", "0")
    assert done.returncode == 1
    assert f"{file_name(0)}, line 2" in done.stderr
    assert not place.output.exists()


def more_than_half(bad, good):
    return [[f"k{n}\tbad {n}" for n in range(bad)], ["a\t1"] * (good - 1), ["a\t1"]]


NUMBERS = "def map(k, d, v, c): c.write(k, int(v))"


@pytest.mark.parametrize("inline", [True, False])
def test_a_job_that_leaves_out_more_than_half_fails(place, inline):
    place.output.write_text("old")
    options = {"output": place.output, "inline": inline, "num_mappers": 2}
    place.lines(more_than_half(50, 50))
    result = place.run(NUMBERS, **options)
    assert (result.records, result.bad_records) == (100, 50)
    place.output.write_text("old")
    place.lines(more_than_half(51, 50))
    with pytest.raises(JobError) as failure:
        place.run(NUMBERS, **options)
    message = str(failure.value)
    assert "51 of 101 records are bad (51 x ValueError)" in message
    assert "--max-bad-records allows 50 (50% of them)" in message
    for number in range(3):
        record = f"invalid literal for int() with base 10: 'bad {number}'"
        assert f"{file_name(0)}, line {number + 1}: ValueError: {record}" in message
    assert "'bad 3'" not in message
    assert message.endswith("--max-bad-records 100%")
    assert place.output.read_text() == "old"
    assert list(place.run(NUMBERS, max_bad_records="100%", inline=inline)) == [("a", 1)] * 50


def test_a_failure_shows_each_reason_though_one_comes_first(place):
    place.lines([["no tab"] * 5 + ["k\tx"] * 9 + ["k\t1"], ["k\ty\udcff" * 5000] * 9])
    with pytest.raises(JobError) as failure:
        place.run(NUMBERS, bad_records_saved="1 B")
    message = str(failure.value)
    assert "23 of 24 records are bad (18 x ValueError, 5 x no tab in the line)" in message
    shown = [line.split(": ")[0] for line in message.splitlines()[1:-1]]
    assert [line.rpartition(", ")[2] for line in shown] == ["line 6", "line 1", "line 7"]


def test_a_quiet_run_tells_that_all_is_bad(place):
    place.lines([["k\tx"], ["k\ty"]])
    done = place.command(NUMBERS, "-q")
    assert done.returncode == 1
    assert "2 of 2 records are bad" in done.stderr
    assert not place.output.exists()


# --- input that is no records -------------------------------------------------------------------


def jsonl(count, start=0):
    return [f'{{"n": {number}}}' for number in range(start, start + count)]


def test_input_without_tabs_fails_and_says_what_it_looks_like(place):
    path = place.put("1.2.log", "\n".join(["", *jsonl(20)]).encode())
    place.output.write_text("old")
    done = place.command(IDENTITY, "-q")
    assert done.returncode == 1
    assert "None of the 21 lines of the input holds a tab" in done.stderr
    assert "The input looks like JSON lines." in done.stderr
    assert f"The first, in {path}: '{{\"n\": 0}}'." in done.stderr
    assert "pass --records jsonl" in done.stderr
    assert done.stderr.rstrip().endswith(f"\ndaskmr inspect {place.data}")
    assert place.output.read_text() == "old"
    done = place.command(IDENTITY, "--max-bad-records", "100%")
    assert (done.returncode, place.output.read_text()) == (0, "")


@pytest.mark.parametrize("map_only", [True, False])
@pytest.mark.parametrize(("before", "fails"), [(999, False), (1000, True), (1001, True)])
def test_the_first_1000_lines_decide_however_they_are_cut(place, before, fails, map_only):
    """Over files, empty ones among them, and partitions: whatever comes later."""
    job = Job(pass_on, reduce=None if map_only else lambda key, values, context: None)
    good = [f"k\t{n}" for n in range(2000)]
    lines = jsonl(before)
    for files in (
        [lines + good],
        [lines[:400], [], lines[400:], good],
        [[line] for line in lines[:60]] + [[], lines[60:990], lines[990:] + good, jsonl(1)],
    ):
        shutil.rmtree(place.data)
        place.lines(files)
        for options in ({}, {"partition_bytes": 1}, {"skip_corrupt_files": True}):
            if not fails:
                assert place.run(job, **options).bad_records >= before
                continue
            with pytest.raises(
                JobError, match="None of the first 1,000 lines of the input"
            ) as failure:
                place.run(job, **options)
            assert file_name(0) in str(failure.value)
    shutil.rmtree(place.data)
    place.lines([good, jsonl(2000)])
    assert place.run(job, partition_bytes=1).bad_records == 2000


def test_the_first_1000_lines_decide_on_workers_too(place):
    place.lines([jsonl(50), jsonl(949), ["k\t1"] * 5000, jsonl(2000)])
    options = {"inline": False, "num_mappers": 2, "output": place.output}
    assert place.run(IDENTITY, **options).bad_records == 2999
    place.lines([jsonl(50), jsonl(950), ["k\t1"] * 5000])
    with pytest.raises(JobError, match="None of the first 1,000 lines"):
        place.run(IDENTITY, **options)


def test_input_without_tabs_fails_at_once(place):
    """Not after the rest of it was read."""
    mapped = []
    place.lines([[*jsonl(1000), "k\t1"], *[["k\t1"]] * 100])
    with pytest.raises(JobError, match="None of the first 1,000 lines"):
        place.run(Job(lambda *arguments: mapped.append(1)), sample=0.5, sample_by="key")
    assert mapped == []


@pytest.mark.parametrize("files", [[], [[]], [[], []]])
def test_input_without_lines_lacks_no_tabs(place, files):
    place.lines(files)
    if not files:
        place.put("1.2.log", b"")
    assert list(place.run()) == []


def test_what_is_left_out_as_corrupt_does_not_count_as_the_beginning(place):
    bad = "\n".join(jsonl(40_000)).encode()
    place.put("a.d.gz", gzip.compress(bad)[:-9])
    place.put("b.d.log", b"k\t1\n")
    assert list(place.run(skip_corrupt_files=True)) == [("k", 1)]


@pytest.mark.parametrize("limit", ["-1", "101%", "-1%", "many", "nan%", "1.5"])
def test_a_limit_that_is_none(place, limit):
    place.lines([["a\t1"]])
    with pytest.raises(InputError, match="max-bad-records"):
        place.run(max_bad_records=limit)


def test_a_line_that_is_too_long_is_a_bad_record(place):
    place.lines([["a\t" + "x" * 200_000, "b\t1"]])
    result = place.run(output=place.output, max_record_bytes="100 kB")
    assert place.output.read_text() == "b\t1\n"
    assert result.bad_reasons == {"longer than max-record-bytes": 1}


# --- what fails the job -------------------------------------------------------------------------


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize(
    ("statement", "described"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("{}[key]", "KeyError: 'k'"),
        ("sys.exit(0)", "SystemExit: 0"),
        ("sys.exit()", "SystemExit"),
        ("raise StopIteration", "StopIteration"),
        ("raise OSError(2, 'gone', 'elsewhere')", "FileNotFoundError"),
        ("open('/no/such/file')", "FileNotFoundError"),
    ],
)
def test_what_else_map_raises_fails_the_job(place, inline, statement, described):
    place.lines([["k\tfine"], ["k\tfine", "k\tfine", "k\tbad"]])
    place.output.write_text("old")
    script = f"""
        import sys
        def helper(key):
            {statement}
        def map(key, dims, value, context):
            context.write(key, value)
            if value == "bad":
                helper(key)
        def reduce(key, values, context):
            context.write(key, len(values))
    """
    with pytest.raises(JobError) as failure:
        place.run(script, output=place.output, inline=inline)
    message = str(failure.value)
    assert described in message
    assert f"map failed at {place.folder / file_name(1)}, line 3" in message
    assert "job.py, line 4, in helper" in message
    assert statement in failure.value.details  # the script's own line
    assert "daskmr/" not in failure.value.details
    assert place.output.read_text() == "old"
    assert sorted(p.name for p in place.root.iterdir()) == ["data", "job.py", "out.txt"]


def test_a_keyboard_interrupt_of_the_scripts_own_is_a_failure_on_workers(place):
    place.lines([["k\t1"]])
    with pytest.raises(JobError, match=r"map failed at .*line 1: KeyboardInterrupt"):
        place.run("def map(k, d, v, c): raise KeyboardInterrupt", inline=False)


def test_sys_exit_in_map_is_no_success(place):
    place.lines([["k\t1"]])
    place.output.write_text("old")
    done = place.command("import sys\ndef map(k, d, v, c): sys.exit(0)")
    assert done.returncode == 1
    assert f"{file_name(0)}, line 1: SystemExit: 0 (job.py, line 2, in map)" in done.stderr
    assert "Return from map" in done.stderr
    assert place.output.read_text() == "old"


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("statement", ["1 / 0", "int('x')", "sys.exit(0)", "raise StopIteration"])
@pytest.mark.parametrize("function", ["combine", "reduce"])
def test_what_combine_and_reduce_raise_names_the_key(place, inline, statement, function):
    place.lines([["fine\t1"] * 60, ["the key\t1"] * 60])
    bodies = {"combine": "pass", "reduce": "pass"} | {function: statement}
    script = f"""
        import sys
        def map(key, dims, value, context):
            context.write(("a", key), 1)
        def combine(key, values, context):
            if key[1] == "the key":
                {bodies["combine"]}
        def reduce(key, values, context):
            if key[1] == "the key":
                {bodies["reduce"]}
    """
    place.output.write_text("old")
    with pytest.raises(JobError) as failure:
        place.run(script, output=place.output, inline=inline)
    message = str(failure.value)
    assert f"{function} failed for the key ('a', 'the key')" in message
    assert f"in {function})" in message
    assert statement in failure.value.details
    assert place.output.read_text() == "old"


@pytest.mark.parametrize("reduce", ["def reduce(key, values, context): pass", ""])
@pytest.mark.parametrize("statement", ["1 / 0", "int('x')", "sys.exit(0)"])
def test_what_setup_reduce_raises_fails_the_job(place, statement, reduce):
    place.lines([["k\t1"]])
    script = f"""
        import sys
        def map(key, dims, value, context):
            context.write(key, 1)
        def setup_reduce(context):
            {statement}
        {reduce}
    """
    with pytest.raises(JobError, match=r"setup_reduce failed .*in setup_reduce\)"):
        place.run(script, output=place.output)
    assert not place.output.exists()


def test_exit_code_of_a_failing_reduce(place):
    place.lines([["the key\t1"]])
    done = place.command("def map(k, d, v, c): c.write(k, v)\ndef reduce(k, v, c): int(k)")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):\n")
    assert "reduce failed for the key 'the key': ValueError" in done.stderr
    assert f'File "{place.root}/job.py", line 2, in reduce' in done.stderr
    assert "daskmr/" not in done.stderr


# --- files --------------------------------------------------------------------------------------


def test_what_is_not_in_the_layout_is_skipped_counted_and_named(place):
    place.lines([["a\t1"]])
    (place.data / "README.md").write_text("a\t1\n")
    (place.data / "empty").mkdir()
    place.put(".hidden.2.gz", b"")
    place.put("1.2.exe", b"a\t1\n")
    place.put("1.gz", gzip.compress(b"a\t1\n"))
    (place.folder / "deeper").mkdir()
    (place.folder / "deeper" / file_name(0)).write_bytes(gzip.compress(b"a\t1\n"))
    done = place.command(IDENTITY)
    assert (done.returncode, place.output.read_text()) == (0, "a\t1\n")
    _, _, rest = done.stderr.partition("not in the layout, skipped: ")
    named = [line.strip() for line in rest.splitlines()]
    assert named[0] == "6 paths"
    names = ["1.2.exe", "1.gz", "deeper/", ".hidden.2.gz"]
    expected = {"README.md", "empty/", *(f"{DIRECTORY}/{name}" for name in names)}
    assert {line.partition(": ")[0] for line in named[1:7]} == expected


TEXT = b"".join(b"k%d\tv\n" % number for number in range(50_000))


def to_lzma(data):
    return lzma.compress(data, lzma.FORMAT_ALONE)


FORMS = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "lzma": to_lzma,
    "bz2": bz2.compress,
    "zst": zstandard.compress,
    "log": bytes,
    "txt": bytes,
    "json": bytes,
    "jsonl": bytes,
    "tsv": bytes,
}


def test_all_forms_are_read_and_what_is_inside_decides(place):
    for number, (extension, form) in enumerate(FORMS.items()):
        place.put(f"{number}.d.{extension}", form(b"k\t1\n"))
    place.put("x.d.lzma", lzma.compress(b"k\t1\n"))
    place.put("x.d.xz", to_lzma(b"k\t1\n"))
    place.put("x.d.gz", bz2.compress(b"k\t1\n"))
    place.put("x.d.log", gzip.compress(b"k\t1\n"))
    place.put("y.d.gz", gzip.compress(b"k\t1\n") + gzip.compress(b"k\t1\nk\t1"))
    place.put("z.d.gz", b"")
    place.put("z.d.xz", lzma.compress(b""))
    result = place.run(output=place.output)
    assert place.output.read_text() == f"k\t{len(FORMS) + 4 + 3}\n"
    assert (result.files, result.bad_records) == (len(FORMS) + 7, 0)


def damage(form):
    return form(TEXT)[:-9] if form is not to_lzma else form(TEXT)[:-2000]


@pytest.mark.parametrize("extension", ["gz", "xz", "lzma", "bz2", "zst"])
def test_a_truncated_file_fails_the_job_and_says_how_far_it_got(place, extension):
    path = place.put(f"b.d.{extension}", damage(FORMS[extension]))
    place.put("a.d.log", b"k\t1\n")
    place.output.write_text("old")
    with pytest.raises(JobError) as failure:
        place.run(output=place.output)
    message = str(failure.value)
    assert f"{path} is damaged: after " in message
    assert "bytes of data" in message
    assert "--skip-corrupt-files" in message
    assert place.output.read_text() == "old"


@pytest.mark.parametrize("content", [b"not gzip at all", gzip.compress(TEXT) + b"garbage"])
def test_a_file_that_is_not_what_its_name_says_fails_the_job(place, content):
    path = place.put("b.d.gz", content)
    with pytest.raises(JobError, match=f"{path} is damaged"):
        place.run(output=place.output)
    assert not place.output.exists()


def test_exit_code_of_a_truncated_file(place):
    path = place.put("b.d.gz", damage(gzip.compress))
    place.output.write_text("old")
    done = place.command(IDENTITY)
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert "Traceback" not in done.stderr
    assert place.output.read_text() == "old"


def counts(place, output):
    return dict(line.split("\t") for line in output.read_text().splitlines())


@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("map_only", [False, True])
@pytest.mark.parametrize("spill_bytes", ["64 MiB", "50 kB"])
def test_a_corrupt_file_is_left_out_whole(place, inline, map_only, spill_bytes):
    """Though its first records were mapped, and shared a partition with others."""
    place.lines([[f"good{number}\tv"] for number in range(70)])
    corrupt = [place.put(f"20131029030201.{n}.b.gz", damage(gzip.compress)) for n in (0, 20131103)]
    script = """
        def map(key, dims, value, context):
            context.write(key, 1)
        def setup_reduce(context):
            context.writeline("header\\t0")
    """
    if not map_only:
        script += """
        def combine(key, values, context):
            context.write(key, sum(values))
        def reduce(key, values, context):
            context.write(key, sum(values))
        """
    options = {"inline": inline, "num_mappers": 2, "spill_bytes": spill_bytes}
    result = place.run(script, output=place.output, skip_corrupt_files=True, **options)
    expected = {"header": "0"} | {f"good{number}": "1" for number in range(70)}
    assert counts(place, place.output) == expected
    assert len(place.output.read_text().splitlines()) == 71
    assert (result.files, result.records, result.bad_records) == (70, 70, 0)
    assert [path for path, _ in result.corrupt] == [
        os.path.relpath(path, place.data) for path in corrupt
    ]
    assert not (place.root / "work").exists()


def test_bad_records_of_a_file_that_is_left_out_do_not_count(place):
    bad = b"".join(b"bad %d\n" % number for number in range(50_000))
    place.put("a.d.gz", gzip.compress(bad)[:-9])
    place.put("b.d.log", b"k\t1\n")
    result = place.run(skip_corrupt_files=True, output=place.output)
    assert (result.records, result.bad_records, result.saved_bad_records) == (1, 0, ())
    strict = place.run(skip_corrupt_files=True, max_bad_records=0)
    assert list(strict) == [("k", 1)]


def test_a_byte_order_mark_is_no_part_of_a_key(place):
    text = b"\xef\xbb\xbfk\t\xef\xbb\xbf\n\nk\t2\n"
    place.put("a.d.log", text)
    place.put("b.d.gz", gzip.compress(text) + gzip.compress(text))
    place.put("c.d.xz", lzma.compress(b"\xef\xbb\xbf\n"))
    place.put("d.d.txt", b"\xef\xbb\xbf")
    result = place.run(Job(pass_on), output=place.output)
    assert place.output.read_bytes() == b"k\t\xef\xbb\xbf\nk\t2\n" * 3
    assert (result.records, result.bad_records) == (10, 4)
    assert {record["raw"] for record in place.bad()} == {b""}


def archive():
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        entry = tarfile.TarInfo("a.log")
        entry.size = len(TEXT)
        tar.addfile(entry, io.BytesIO(TEXT))
    return data.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("b.d.log", TEXT.decode().encode("utf-16"), "is text in UTF-16,"),
        ("b.d.gz", gzip.compress(gzip.compress(TEXT)), "decompressed from gzip, is gzip data,"),
        ("b.d.gz", gzip.compress(archive()), "decompressed from gzip, is a tar archive,"),
        ("b.d.xz", archive(), "is a tar archive,"),
    ],
)
def test_what_is_no_text_fails_the_job_and_says_what_it_is(place, name, content, told):
    path = place.put(name, content)
    place.put("a.d.log", b"k\t1\n")
    place.output.write_text("old")
    done = place.command(IDENTITY, "--skip-corrupt-files", "--max-bad-records", "100%")
    assert done.returncode == 1
    assert str(path) in done.stderr
    assert told in done.stderr
    assert place.output.read_text() == "old"


@pytest.mark.slow
def test_a_window_too_large_for_a_worker_is_no_damage(place, monkeypatch):
    """It is not left out as corrupt files are, which would lose the data in silence."""
    settings = zstandard.ZstdCompressionParameters(window_log=24)
    writer = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    path = place.put("a.d.zst", writer.compress(TEXT * 20) + writer.flush())
    assert dict(place.run(skip_corrupt_files=True))["k1"] == 20
    monkeypatch.setattr("daskmr.data.readers.faults._USUAL_WINDOW", 1 << 20)
    monkeypatch.setattr("daskmr.memory.room", lambda: 1 << 20)
    monkeypatch.setattr("daskmr.memory.limit", lambda: 1 << 30)
    with pytest.raises(JobError, match=f"{path} is not damaged.*Raise --memory-limit"):
        place.run(skip_corrupt_files=True, output=place.output)
    assert not place.output.exists()


def test_files_left_out_are_counted_and_named(place):
    path = place.put("a.d.gz", damage(gzip.compress))
    place.put("b.d.log", b"k\t1\n")
    done = place.command(IDENTITY, "--skip-corrupt-files")
    assert (done.returncode, place.output.read_text()) == (0, "k\t1\n")
    assert "corrupt, skipped: 1 file\n" in done.stderr
    assert f"{path} is damaged: after " in done.stderr


def run_changing_the_other(place, change):
    """Whichever of two files is mapped first, the other one is changed meanwhile."""
    paths = [place.put(f"{name}.d.log", b"k\t1\n") for name in "ab"]
    changed = []

    def map_(key, dims, value, context):
        if not changed:
            changed.append(paths[1 - paths.index(place.folder / f"{dims[4]}.d.log")])
            change(changed[0])

    with pytest.raises(JobError) as failure:
        place.run(job_of(map_), skip_corrupt_files=True, output=place.output)
    assert str(changed[0]) in str(failure.value)
    assert not place.output.exists()
    return str(failure.value)


def test_a_file_that_changes_while_the_job_runs_fails_it(place):
    message = run_changing_the_other(place, lambda path: path.write_bytes(b"k\t"))
    assert "has 2 bytes and had 4 when it was listed" in message


def test_a_file_that_is_rewritten_or_replaced_while_the_job_runs_fails_it(place):
    def replace(path):
        other = path.with_suffix(".new")
        other.write_bytes(b"k\t2\n")
        other.rename(path)

    for change in (replace, lambda path: path.write_bytes(b"k\t2\n")):
        message = run_changing_the_other(place, change)
        assert "Run the job again when nothing modifies the file" in message


def test_a_compressed_file_that_grows_is_no_corrupt_one(place):
    """It may be cut off since it is still written: to leave it out would lose what is coming."""
    data = gzip.compress(b"k\t1\n")
    path = place.put("a.d.gz", data)

    def map_(key, dims, value, context):
        if dims[4] == "a" and path.stat().st_size == len(data):
            path.write_bytes(data + data[:12])

    place.put("b.d.log", b"k\t1\n")
    with pytest.raises(JobError, match=f"{path} has .* it changed while the job ran"):
        place.run(job_of(map_), skip_corrupt_files=True, output=place.output)
    assert not place.output.exists()


@pytest.mark.parametrize("inline", [True, False])
def test_a_log_that_grows_is_read_up_to_what_was_listed(place, inline):
    """Its last line was half written when it was listed, so it is no record yet."""
    lines = b"".join(b"k\t%d\n" % number for number in range(1000))
    path = place.put("a.d.log", lines + b"half a rec")
    script = f"""
        def map(key, dims, value, context):
            if value == "1":
                with open({str(path)!r}, "a") as log:
                    log.write("ord\\t3\\nnew\\t4\\n")
            context.write(key, value)
    """
    options = {"inline": inline, "num_mappers": 1, "delete_data": True, "max_bad_records": 0}
    result = place.run(script, output=place.output, **options)
    assert place.output.read_bytes() == lines
    assert (result.records, result.bad_records, result.bytes) == (1000, 0, len(lines) + 10)
    summary = summarise(result)
    name = f"{DIRECTORY}/a.d.log"
    assert "note: 1 file grew while the job ran, like a log that is still being written" in summary
    assert f"1 input file not deleted, changed since listed: {name}" in summary
    assert (result.deleted, path.read_bytes()[-7:]) == (0, b"\nnew\t4\n")


def test_what_is_written_to_a_file_after_it_was_read_is_not_deleted(place):
    paths = [place.put(f"{name}.d.log", b"k\t1\n") for name in "abcd"]

    def reduce(key, values, context):
        context.write(key, sum(values))
        with paths[0].open("a") as log:
            log.write("k\t2\n")
        os.utime(paths[1])
        paths[2].unlink()

    job = Job(counting_job().map, reduce=reduce)
    result = place.run(job, output=place.output, delete_data=True)
    assert place.output.read_text() == "k\t4\n"
    assert [path.exists() for path in paths] == [True, True, False, False]
    assert paths[0].read_text() == "k\t1\nk\t2\n"
    assert result.deleted == 1
    assert "2 input files not deleted, changed since listed" in summarise(result)


def test_a_copy_in_a_data_dir_that_is_read_through_links(place, tmp_path):
    """What a link leads to counts, and not the link itself."""
    real = tmp_path / "elsewhere.log"
    real.write_bytes(b"k\t1\n")
    link = place.folder / "a.d.log"
    link.symlink_to(real)
    assert list(place.run()) == [("k", 1)]

    def map_(key, dims, value, context):
        link.unlink()
        other = tmp_path / "other.log"
        other.write_bytes(b"k\t1\n")
        link.symlink_to(other)

    with pytest.raises(JobError, match=r"was (replaced|written)"):
        place.run(job_of(map_), output=place.output)


def test_a_file_that_goes_away_while_the_job_runs_fails_it(place):
    message = run_changing_the_other(place, lambda path: path.unlink())
    assert "cannot be read: No such file or directory" in message


# --- paths --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["with space", "\u65e5\u672c \u00e9", "100%", "a'b\"c", "back\\s"])
def test_paths_with_spaces_and_unicode(tmp_path, name):
    root = tmp_path / name
    write_tree(root / "data", [["k\t1"]], f"{name}/{name}/c/d")
    (root / "job.py").write_text(textwrap.dedent(IDENTITY))
    output = root / f"{name} out.txt"
    options = {"work_dir": root / "work", "inline": True}
    mapreduce(root / "job.py", data_dir=root / "data", output=output, **options)
    assert output.read_text() == "k\t1\n"
    left = ["data", "job.py", output.name, f"{output.name}.meta.json"]
    assert sorted(path.name for path in root.iterdir()) == sorted(left)


def test_a_name_that_is_not_utf8(place):
    name = os.fsdecode(b"\xff.2.log")
    place.put(name, b"k\t1\nbad\n")
    done = place.command(IDENTITY)
    assert (done.returncode, place.output.read_text()) == (0, "k\t1\n")
    assert "Traceback" not in done.stderr
    assert os.fsencode(place.bad()[0]["file"]).endswith(b"\xff.2.log")


def test_relative_paths_and_trailing_slashes_through_the_command(tmp_path):
    write_tree(tmp_path / "data", [["k\t1"]])
    (tmp_path / "job.py").write_text(textwrap.dedent(IDENTITY))
    arguments = ("run", "./job.py", "-d", "../" + tmp_path.name + "/data///", "-o", "out.txt")
    done = daskmr(*arguments, "-m", "1", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out.txt").read_text() == "k\t1\n"
    left = ["data", "job.py", "out.txt", "out.txt.meta.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == left


def test_links_are_followed_and_no_file_is_read_twice(place, tmp_path):
    place.lines([["k\t1"]])
    outside = tmp_path / "outside.log"
    outside.write_bytes(b"k\t1\n")
    (place.folder / "1.2.a.log").symlink_to(outside)
    (place.folder / "1.2.b.log").symlink_to(outside)
    (place.folder / "1.2.c.gz").symlink_to(place.folder / file_name(0))
    (place.data / "again").symlink_to(place.data / "saved_session")
    (place.folder / "loop").symlink_to(place.data)
    (tmp_path / "link").symlink_to(place.data)
    options = {"inline": True, "work_dir": tmp_path / "work"}
    result = mapreduce(counting_job(), data_dir=tmp_path / "link", **options)
    assert list(result) == [("k", 2)]
    assert result.files == 2


# --- data dir and filter ------------------------------------------------------------------------


def write_filter(path, *allowed):
    dimensions = [{"field_name": f"d{n}", "allowed_values": each} for n, each in enumerate(allowed)]
    path.write_text(json.dumps({"version": 1, "dimensions": dimensions}))
    return path


def test_the_filter_decides_what_is_read(place, tmp_path):
    place.lines([["k\t1"]])
    write_tree(place.data, [["k\t1"], ["k\t1"]], "idle/Firefox/beta/24.0")
    chosen = write_filter(tmp_path / "filter.json", "*", "*", ["nightly", "release"])
    done = place.command("def map(k, d, v, c): c.writeline(d[2])", "-f", chosen)
    assert (done.returncode, place.output.read_text()) == (0, "nightly\n")
    assert list(place.run(input_filter=chosen)) == [("k", 1)]
    saved = write_filter(tmp_path / "filter.json", ["saved-session"])
    assert list(place.run(input_filter=saved)) == [("k", 1)]


def test_nothing_matches(place, tmp_path):
    place.lines([["k\t1"]])
    write_tree(place.data, [["k\t1"]], "idle/Firefox/beta/24.0")
    place.output.write_text("old")
    chosen = write_filter(tmp_path / "filter.json", "*", "*", ["release"])
    done = place.command(IDENTITY, "-f", chosen)
    assert done.returncode == 3
    assert "dimension 3 (d2" in done.stderr
    assert "existing there: 'beta', 'nightly'" in done.stderr
    assert place.output.read_text() == "old"
    assert sorted(p.name for p in place.root.iterdir()) == [
        "data",
        "filter.json",
        "job.py",
        "out.txt",
    ]


def test_nothing_matches_and_there_was_no_output(place, tmp_path):
    place.lines([["k\t1"]])
    chosen = write_filter(tmp_path / "filter.json", "no such reason")
    with pytest.raises(NothingMatchedError) as failure:
        place.run(input_filter=chosen, output=place.output)
    assert failure.value.exit_code == 3
    assert not place.output.exists()


@pytest.mark.parametrize("inline", [True, False])
def test_allow_empty_writes_an_empty_output(place, tmp_path, inline):
    place.lines([["k\t1"]])
    place.output.write_text("old")
    chosen = write_filter(tmp_path / "filter.json", "no such reason")
    options = {"allow_empty": True, "inline": inline}
    result = place.run(input_filter=chosen, output=place.output, **options)
    assert place.output.read_bytes() == b""
    assert (result.files, result.records, result.lines) == (0, 0, 0)
    assert list(place.run(input_filter=chosen, **options)) == []


def test_exit_code_of_allow_empty(place, tmp_path):
    chosen = write_filter(tmp_path / "filter.json", "no such reason")
    done = place.command(IDENTITY, "-f", chosen, "--allow-empty", "-r", "7")
    assert done.returncode == 0
    assert place.output.read_bytes() == b""


def test_an_empty_data_dir_holds_nothing(tmp_path):
    (tmp_path / "data").mkdir()
    (tmp_path / "job.py").write_text(textwrap.dedent(IDENTITY))
    done = daskmr("run", tmp_path / "job.py", "-d", tmp_path / "data", "--inline", cwd=tmp_path)
    assert done.returncode == 2
    assert f"{tmp_path / 'data'} holds no file in the layout" in done.stderr


def test_paths_that_exist_in_another_normal_form_are_named(place):
    there, given = "cafe\u0301", "caf\xe9"
    place.lines([["k\t1"]])
    script = place.script(IDENTITY)
    (place.root / f"{there}.json").write_text('{"dimensions": []}')
    (place.root / f"{there}.py").write_text("")
    (place.root / there).mkdir()
    data = place.root / "data"
    for arguments in (
        [script, "-d", place.root / given],
        [script, "-d", data, "-f", f"{given}.json"],
        [script, "-d", data, "--schema", f"{given}.json"],
        [script, "-d", data, "-o", f"{given}/out"],
        [f"{given}.py", "-d", data],
    ):
        done = daskmr("run", *arguments, "--inline", cwd=place.root)
        assert done.returncode == 2
        assert "differs only in its Unicode normal form" in done.stderr
        assert ascii(there)[1:-1] in done.stderr


def test_a_run_notes_what_its_filter_left_out_by_its_normal_form(place, tmp_path):
    there, given = "cafe\u0301", "caf\xe9"
    place.lines([["k\t1"]])
    write_tree(place.data, [["k\t2"]], f"{there}/Firefox/nightly/28.0a1")
    reason = DIRECTORY.partition("/")[0]
    chosen = write_filter(tmp_path / "filter.json", [reason, given])
    (note,) = place.run(input_filter=chosen).notes
    assert f"{there!a} exists, the filter allows {given!a}" in note
    both = write_filter(tmp_path / "filter.json", [reason, given, there])
    assert place.run(input_filter=both).notes == ()


@pytest.mark.parametrize(
    ("name", "mistake"),
    [("missing", "missing does not exist"), ("out.txt", "would replace one of the input files")],
)
def test_a_data_dir_that_is_none(place, name, mistake):
    place.output.write_text("old")
    script = place.script(IDENTITY)
    done = daskmr("run", script, "-d", place.root / name, "-o", place.output, cwd=place.root)
    assert done.returncode == 2
    assert mistake in done.stderr
    assert place.output.read_text() == "old"
    assert sorted(p.name for p in place.root.iterdir()) == ["data", "job.py", "out.txt"]


@pytest.mark.parametrize(
    ("content", "mistake"),
    [
        (b"", "filter.json"),
        (b"\xff\xfe{}", "filter.json"),
        (b'{"version": 1', "filter.json"),
        (
            json.dumps(
                {"version": 1, "dimensions": [{"field_name": "x", "allowed_values": "*"}] * 7}
            ).encode(),
            "7",
        ),
        (
            b'{"version": 1, "dimensions": [{"field_name": "x", "allowed_values": {"min": []}}]}',
            "min",
        ),
    ],
)
def test_a_mistake_in_the_filter_is_found_before_any_work(place, content, mistake):
    place.lines([["k\t1"]])
    chosen = place.root / "filter.json"
    chosen.write_bytes(content)
    with pytest.raises(InputError) as failure:
        place.run("def map(k, d, v, c): 1 / 0", input_filter=chosen, output=place.output)
    assert str(chosen) in str(failure.value)
    assert mistake in str(failure.value)
    assert not place.output.exists()


def test_exit_code_of_a_filter_that_is_a_directory(place):
    place.lines([["k\t1"]])
    done = place.command(IDENTITY, "-f", place.root)
    assert done.returncode == 2
    assert str(place.root) in done.stderr
    assert "Traceback" not in done.stderr
