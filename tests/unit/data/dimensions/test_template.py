"""Templates of paths: what they match, and their mistakes."""

from __future__ import annotations

import datetime
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.dimensions.template import (
    Field,
    TemplateError,
    hive_level,
    level_of,
    parse_template,
)


@pytest.mark.parametrize(
    ("template", "name", "values"),
    [
        ("{host}", "web1", ("web1",)),
        ("{host}", ".hidden", None),
        (".{host}", ".hidden", ("hidden",)),
        ("{host}.log", "web1.log", ("web1",)),
        ("{host}.log", ".log", None),
        ("{host}.log", "a.log.log", None),
        ("{a}.{b}.{_}", "1.2.x.gz", ("1", "2")),
        ("{a}.{b}.{_}", "1.2.", None),
        ("{a}--{b}", "x-y--z-w", ("x-y", "z-w")),
        ("{a}--{b}", "x----y", ("x", "--y")),
        ("v{{1}}-{n}", "v{1}-7", ("7",)),
        ("log-{_}", "log-x", ()),
        ("log-{_}", "log-", None),
        ("access.log", "access.log", ()),
        ("access.log", "accessXlog", None),
        ("{x...}", "a/b/c.txt", ("a/b/c.txt",)),
        ("log-{x...}", "log-a/b", ("a/b",)),
        ("{_...}", "a/.git/c.txt", None),
        ("{_...}", "a/c.txt", ()),
        ("{host}", "two\nlines", ("two\nlines",)),
        ("dt={dt}", "dt=a%20b", ("a b",)),
        ("dt={dt}", "dt=__HIVE_DEFAULT_PARTITION__", ("",)),
        ("dt={dt}.{x}", "dt=a%20b.c", ("a%20b", "c")),
    ],
)
def test_match(template, name, values):
    [level] = parse_template(template)
    assert level.match(name) == values
    assert bool(level.why_not(name)) == (values is None)


@pytest.mark.parametrize(
    ("template", "mistake"),
    [
        ("", "it is empty"),
        ("/a", 'begins or ends with "/"'),
        ("a/", 'begins or ends with "/"'),
        ("{a}//{b}", 'has "//"'),
        ("../{a}", "'..' is one of its parts"),
        ("{a}/./{b}", "'.' is one of its parts"),
        ("{a}{b}", "{a} and {b} are adjacent; put text between them, as in {a}-{b} or {a}/{b}"),
        ("{a}/{a}", "the name 'a' occurs twice"),
        ("{a}-{a}", "the name 'a' occurs twice"),
        ("{a:string}", "the type of {a:string} is not known; {a} is meant, perhaps; write {name}"),
        ("{a:Integer}", "{a:int} is meant, perhaps"),
        ("{a:float}", "the type of {a:float} is not known; write {name}, {name:int}"),
        ("{a:%Q}", "is not known"),
        ("{a:%Y%m%d%H%z}", "without a zone"),
        ("{a:%Y/%m}", "contains /"),
        ("{a...:int}", "cannot have a type"),
        ("{_:int}", "cannot have a type"),
        ("{a", "'{' is not a field"),
        ("a}", "'}' is not a field"),
        ("{}", "'{}' is not a field"),
        ("{1a}", "'{1a}' is not a field"),
        ("{a b}", "is not a field"),
        ("{a...}/b", "spans levels, so it must come last"),
        ("{a...}x", "has text after a field that spans levels"),
        ("{a...}-{b...}", "two fields that span levels"),
        ("a\0b", "a NUL"),
    ],
)
def test_mistake(template, mistake):
    with pytest.raises(TemplateError) as caught:
        parse_template(template)
    assert mistake in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "good", "bad"),
    [
        ("int", ["7", "007", "-3", "+4"], ["", "7.0", "1_000", " 7", "\u0663", "x"]),
        ("date", ["20240131", "2024-01-31"], ["2024-131", "20240230", "2024-1-1", "today", ""]),
        ("%Y%m%d%H", ["2024013107"], ["2024", "202401319x", "20241231", "202412319"]),
    ],
)
def test_types(kind, good, bad):
    level = level_of(Field("v", kind))
    assert [level.mistake([value]) for value in good] == [None] * len(good)
    assert all(level.mistake([value]) for value in bad)


def test_values_compare_as_their_type():
    assert Field("n", "int").parse("10") > Field("n", "int").parse("9")
    day = datetime.date(2024, 1, 31)
    assert Field("d", "date").parse("20240131") == Field("d", "date").parse("2024-01-31") == day


def test_reasons():
    [level] = parse_template("{day:date}.log")
    assert level.why_not(".x.log") == "its name begins with a dot"
    assert level.why_not("20240230.log") == "day '20240230' is not a date"


def test_only_an_open_end_needs_a_known_extension():
    ends = ["{a}", "{_}", "{a...}", "x.{_}", "{a:int}", "{a}.log", "access.log"]
    assert [parse_template(end)[-1].is_open for end in ends] == [True] * 4 + [False] * 3


def test_levels_are_pickled():
    level = hive_level("dt")
    assert level.match("dt=1") == ("1",)
    assert pickle.loads(pickle.dumps(level)) == level


@given(st.text(min_size=1, max_size=6), st.text(min_size=1, max_size=6))
def test_values_come_back(first, second):
    [level] = parse_template("{a}-{b}")
    values = level.match(f"{first}-{second}")
    fits = not set("-/") & set(first) and "/" not in second and first[0] != "."
    assert values == ((first, second) if fits else values)
    if fits:
        assert values is not None
