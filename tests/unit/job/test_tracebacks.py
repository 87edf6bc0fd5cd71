"""Tracebacks show the user's code, and never raise."""

from __future__ import annotations

import linecache
import os
import time
import traceback

import pytest
from support.scripts import MAP, WRITE, failure_of

from daskmr.job.job import Job
from daskmr.job.loading import load_job
from daskmr.job.tracebacks import describe_exception, format_user_traceback, user_location


def test_traceback_starts_at_the_users_first_frame_and_keeps_libraries(tree):
    path = tree("import json\n" + MAP + "    parse(value)\ndef parse(v):\n    json.loads(v)\n")
    job = load_job(path)
    exc = failure_of(job, "{")
    text = format_user_traceback(job, exc)
    lines = text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1:3] == [f'  File "{path}", line 3, in map', "    parse(value)"]
    assert "json/decoder.py" in text
    assert __file__ not in text
    assert lines[-1].startswith("json.decoder.JSONDecodeError: Expecting")
    assert user_location(job, exc) == "job.py, line 5, in parse"
    assert user_location(job, ValueError()) is None
    assert format_user_traceback(job, ValueError("bare")) == "ValueError: bare\n"


def test_traceback_shows_the_lines_that_ran_though_the_file_was_edited(tree):
    path = tree(MAP + "    raise ValueError(value)\n")
    job = load_job(path)
    path.write_text("# edited\n" * 9)
    assert "    raise ValueError(value)\n" in format_user_traceback(job, failure_of(job))
    linecache.clearcache()


def test_traceback_leaves_out_our_own_frames(tree):
    job = load_job(tree(MAP + "    import daskmr.config as c\n    c.load_config(nonsense=1)\n"))
    text = format_user_traceback(job, failure_of(job))
    assert text.count("  File ") == 1
    assert "InputError: Unknown option" in text


def test_traceback_leaves_out_libraries_that_we_call(tree):
    lines = ["    from daskmr.job.json_text import to_json", "    to_json([Row()])"]
    script = MAP + "\n".join(
        [
            *lines,
            "class Row:",
            "    __module__, dtype = 'numpy', type('', (), {'kind': 'i'})",
            "    tolist = lambda s: 1 / 0",
        ]
    )
    job = load_job(tree(script + "\n"))
    text = format_user_traceback(job, failure_of(job))
    assert "json/encoder.py" not in text
    assert text.count("  File ") == 2  # of `map`, and of `tolist`, which that calls back


def test_chained_exceptions(tree):
    text = """
class Bad(Exception): pass
def map(key, dims, value, context):
    try:
        try:
            1 / 0
        except ZeroDivisionError:
            {}['x']
    except KeyError as exc:
        if value == "none": raise Bad("no more") from None
        raise Bad("in all") from exc
"""
    job = load_job(tree(text))
    shown = format_user_traceback(job, failure_of(job))
    parts = [
        "ZeroDivisionError: division",
        "During handling",
        "KeyError: 'x'",
        "direct cause",
        "Bad: in all",
    ]
    assert sorted(parts, key=shown.index) == parts
    assert shown.endswith("\nBad: in all\n")
    assert "KeyError" not in format_user_traceback(job, failure_of(job, "none"))
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert format_user_traceback(job, first).count("ValueError") == 2


def test_long_chains_groups_notes_and_syntax_errors(tree):
    job = load_job(tree(WRITE))
    last = None
    for number in range(100):
        exc = ValueError(number)
        exc.__context__, last = last, exc
    assert format_user_traceback(job, last).count("ValueError") == 10
    group = ExceptionGroup("many", [ValueError(n) for n in range(9)])
    assert format_user_traceback(job, group).splitlines()[1:] == [
        f"  | ValueError: {n}" for n in range(3)
    ]
    noted = ValueError("x")
    noted.add_note("in row 3")
    assert format_user_traceback(job, noted) == "ValueError: x\nin row 3\n"
    with pytest.raises(SyntaxError) as caught:
        compile("x = = 1", "made up", "exec")
    assert "    x = = 1\n        ^\n" in format_user_traceback(job, caught.value)


def test_recursion(tree):
    job = load_job(tree(MAP + "    map(key, dims, value, context)\n"))
    text = format_user_traceback(job, failure_of(job))
    assert "[Previous line repeated" in text
    assert len(text) < 1000
    mutual = load_job(tree("def a():\n    b()\ndef b():\n    a()\n" + MAP + "    a()\n", "two"))
    text = format_user_traceback(mutual, failure_of(mutual))
    assert 7_000 < len(text) <= 8_000
    assert text.startswith("Traceback")
    assert "RecursionError" in text[-200:]


class Unspeakable(Exception):
    def __init__(self, outcome):
        self.outcome, self.asked = outcome, 0

    def __str__(self):
        self.asked += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize("outcome", [ValueError(), SystemExit(1), RecursionError(), 7])
def test_exceptions_without_a_text(outcome):
    job, exc = Job(lambda *args: None), Unspeakable(outcome)
    assert describe_exception(exc).startswith(
        "Unspeakable: (its text cannot be shown: __str__ raised "
    )
    assert "<exception str() failed>" in format_user_traceback(job, exc)


def test_exceptions_with_a_huge_text():
    job, exc = Job(lambda *args: None), Unspeakable("begin" + "x" * 100_000_000 + "end")
    start = time.perf_counter()
    assert len(describe_exception(exc)) <= 300
    text = format_user_traceback(job, exc)
    assert time.perf_counter() - start < 1
    assert exc.asked == 2
    assert 1_900 < len(text) < 2_200
    assert "begin" in text
    assert text.endswith("end\n")


def test_descriptions_are_one_printable_line():
    assert (
        describe_exception(ValueError("a\n\tb\x1b[31m\ud800 é"))
        == "ValueError: a b\\x1b[31m\\ud800 é"
    )
    assert describe_exception(StopIteration()) == "StopIteration"
    assert describe_exception(KeyError("x")) == "KeyError: 'x'"
    text = describe_exception(ValueError("\ud800" * 5000))
    assert len(text) <= 300
    assert text.encode()


def test_ordinary_tracebacks_show_shipped_lines_too(tree):
    job = load_job(tree(MAP + "    raise ValueError(value)\n"))
    os.unlink(job.path)
    linecache.clearcache()
    exc = failure_of(job)
    assert "    raise ValueError(value)\n" in "".join(traceback.format_exception(exc))
