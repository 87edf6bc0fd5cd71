from __future__ import annotations

import json
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cloudpickle
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from daskmr.job.pluck import Fields, pluck

LIMIT = sys.get_int_max_str_digits()

# few names, so that paths meet documents
NAMES = ["a", "b", "ab", "a.b", "é", "\u2028"]
ODD_NAMES = ["", "0", "f0", "__class__", "n" * 40, 'a"', "a\\", "a\n", "\x7f", "\ud800", "\udc80"]
NUMBERS = [
    *("0", "-0", "0.0", "-0.0", "0e5", "1e05", "1e-400", "1E400", "-1e999", "5e-324", "8.5e22"),
    *("NaN", "Infinity", "-Infinity", "9007199254740993.0", "2.2250738585072011e-308"),
    *("1.7976931348623157e308", "1.7976931348623159e308", "123456789012345678901234567890.5"),
    *("18446744073709551615", "18446744073709551616", "-9223372036854775809", "9" * 40),
    *("9" * LIMIT, "-" + "9" * LIMIT, "9" * LIMIT + ".5", "9" * (LIMIT + 1) + "e1"),
]
TEXTS = [r'"\ud83d\ude00"', r'"\ud800"', r'"\udc00\ud800"', r'"\/\b"', '"\udc80"', '"\x7f"', '"é"']
MALFORMED = [
    *("01", "-01", "+1", "-", "1.", ".5", "1e", "1e+", "0x1", "1_0", "1\x0b", "\xa01", "\ufeff1"),
    *("nul", "None", "truee", "[1,]", "[,]", "[1 2]", "[}", "/**/1", "'a'", '"\t"', '"\x00"'),
    *("{,}", "{a:1}", "{1:2}", '{"a"}', '{"a":}', '{"a":1,}', '{"a":1 "b":2}', r'{"\x":1}'),
    *(r'"\x"', r'"\u12"', r'"\u+041"', r'"\U0041"', r'"\ud800\x"', '"abc', '"\\'),
    *("9" * (LIMIT + 1), "-" + "1" * 9999),
]


def walk(text: Any, paths: tuple[tuple[str, ...], ...], default: Any) -> tuple[Any, ...]:
    """What `pluck` must equal."""
    document = json.loads(text)
    found = []
    for path in paths:
        value = document
        for name in path:
            if not isinstance(value, dict) or name not in value:
                value = default
                break
            value = value[name]
        found.append(value)
    return tuple(found)


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What came of a call, so that equal outcomes have equal types, order, signs and NaN."""
    try:
        return repr(function(*arguments))
    except (ValueError, TypeError) as error:
        return type(error), str(error)
    except RecursionError as error:
        return type(error)


def escaped(text: str) -> str:
    """Write `text` in JSON, every character as an escape."""
    units = text.encode("utf-16-be", "surrogatepass").hex()
    return '"' + "".join(f"\\u{units[i : i + 4]}" for i in range(0, len(units), 4)) + '"'


def plain(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


names = st.sampled_from(NAMES) | st.sampled_from(NAMES + ODD_NAMES)
paths = st.lists(
    st.lists(names.filter(bool), min_size=1, max_size=3).map(tuple), min_size=1, max_size=4
).map(tuple)
defaults = st.sampled_from([None, None, 0, "x", [1], {}, {"a": {"b": 1}}])
spaces = st.sampled_from(["", "", "", " ", "\r\n\t"])
strings = st.builds(
    lambda text, write: write(text), names, st.sampled_from([plain, plain, escaped, json.dumps])
)
scalars = (
    st.sampled_from(["null", "true", "false", "1", '"x"'])
    | st.integers().map(str)
    | st.floats().map(json.dumps)
    | st.text(st.characters(codec=None)).map(plain)
    | st.sampled_from(NUMBERS + TEXTS)
)


def containers(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    member = st.builds(lambda a, name, b, value, c: a + name + b + ":" + value + c, spaces, strings,
                       spaces, inner, spaces)  # fmt: skip
    members = st.lists(member, max_size=5).map(lambda some: "{" + ",".join(some) + "}")
    return members | members | st.lists(inner, max_size=3).map(lambda some: f"[{','.join(some)}]")


documents = containers(st.recursive(scalars, containers, max_leaves=15))


@st.composite
def mutated(draw: st.DrawFn) -> str:
    """A document with a few characters taken out, put in or doubled."""
    text = draw(documents)
    for _ in range(draw(st.integers(1, 3))):
        start = draw(st.integers(0, len(text)))
        stop = draw(st.integers(start, min(start + 12, len(text))))
        inserted = draw(
            st.sampled_from(
                [*'{}[]",:\\0159eE+-.ntfu \x00\x1f\x7f\udc80\ud83d\ufeffé', "", "1e999"]
            )
            | st.just(text[start:stop] * 2)
            | scalars
        )
        text = text[:start] + inserted + text[stop:]
    return text


@settings(max_examples=100)
@given(documents, paths, defaults)
@example('{"a":{"b":1},"a":{}}', (("a", "b"),), None)
@example('{"a":5,"a":{"b":1}}', (("a", "b"),), None)
@example('{"a":{"b":1},"a":null}', (("a", "b"), ("a",)), 0)
@example('{"b":1}', (("a",), ("a", "b")), {"b": 2})
def test_the_values_are_those_of_json(
    text: str, paths: tuple[tuple[str, ...], ...], default: Any
) -> None:
    assert outcome(pluck(*paths, default=default), text) == outcome(walk, text, paths, default)


@settings(max_examples=100)
@given(mutated(), paths)
def test_what_json_refuses_is_refused_with_its_words(
    text: str, paths: tuple[tuple[str, ...], ...]
) -> None:
    assert outcome(pluck(*paths), text) == outcome(walk, text, paths, None)


@pytest.mark.parametrize("part", NUMBERS + TEXTS + MALFORMED, ids=lambda part: ascii(part)[:20])
def test_every_odd_part_wherever_it_stands(part: str) -> None:
    paths = (("a",), ("b", "a"))
    for text in (
        part,
        f'{{"a": {part}}}',
        f'{{"a": [{part}]}}',
        f'{{"b": {part}}}',
        f'{{"b": {{"a": 1, "b": {part}}}}}',
        f'{{"skipped": {part}, "a": 1}}',
        f'{{"skipped": [{{"x": {part}}}], "a": 1}}',
        f'{{"a": 1}} {part}',
    ):
        assert outcome(pluck(*paths), text) == outcome(walk, text, paths, None)


@pytest.mark.parametrize(
    "text", ["", " ", "null", "5", '"a"', "[1]", '[{"a": 1}]', "{}", "{", "\0"]
)
def test_whatever_stands_at_the_top(text: str) -> None:
    assert outcome(pluck("a", "a.b"), text) == outcome(walk, text, (("a",), ("a", "b")), None)


@pytest.mark.parametrize("limit", [640, 4300, 0])
def test_the_limit_on_the_digits_of_integers_is_that_of_json(limit: int) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        for digits in (639, 640, 641, 4299, 4300, 4301, 9000):
            for where in (
                '{"b": [%s], "a": 1}',
                '{"a": -%s}',
                '{"b": "%s", "a": 2}',
                '{"a": %s.5}',
            ):
                for padding in (0, 1, 77, 5000):
                    text = " " * padding + where % ("7" * digits) + " " * padding
                    assert outcome(pluck("a"), text) == outcome(walk, text, (("a",),), None)
    finally:
        sys.set_int_max_str_digits(before)


def test_depth_does_not_end_the_process() -> None:
    for depth in (100, 900):
        text = '{"a": %s, "b": %s, "c": 1}' % (("[" * depth + "]" * depth,) * 2)
        assert pluck("c", "a")(text) == walk(text, (("c",), ("a",)), None)
    for name in ("a", "b", "b.b"):
        for text in ('{"b": ' + "[" * 200_000, '{"b":' * 200_000, '{"b":' * 20_000 + "}" * 20_000):
            with pytest.raises((RecursionError, ValueError)):
                pluck(name)(text)


def test_a_path_of_many_names() -> None:
    names = tuple("abcde" * 10)
    text = "".join(f'{{"{name}":' for name in names) + "7" + "}" * len(names)
    assert pluck(names)(text) == (7,)


def test_containers_are_plain_and_fresh() -> None:
    fields = pluck("a", "a.b", "a")
    text = '{"a": {"b": [1, 36893488147419103232, {"c": 1.0}], "é": null}}'
    first, inner, again = fields(text)
    assert first is again
    assert first["b"] is inner
    assert repr(first) == "{'b': [1, 36893488147419103232, {'c': 1.0}], 'é': None}"
    inner.clear()
    assert fields(text)[1] == [1, 2**65, {"c": 1.0}]


def test_null_is_none_and_what_is_missing_is_the_default() -> None:
    default = ["mine"]
    fields = pluck("a", "a.b", "b.c", "d", default=default)
    assert fields('{"a": null, "b": [{"c": 1}]}') == (None, default, default, default)
    assert fields('{"a": null}')[3] is default


def test_what_is_not_text_is_left_to_json() -> None:
    class Text(str):
        pass

    for value in (
        b'{"a": 1}',
        bytearray(b'\xff\xfe{\x00"a'),
        b'{"a":"\xff"}',
        Text('{"a":1}'),
        5,
        None,
    ):
        assert outcome(pluck("a"), value) == outcome(walk, value, (("a",),), None)


@pytest.mark.parametrize(
    ("paths", "error"),
    [
        ((), ValueError),
        (("",), ValueError),
        (("a..b",), ValueError),
        (("a.",), ValueError),
        (((),), ValueError),
        ((("a", ""),), ValueError),
        ((5,), TypeError),
        ((b"a",), TypeError),
        ((None,), TypeError),
        (("a", ("b", 0)), TypeError),
        (({"a", "b"},), TypeError),
    ],
)
def test_paths_that_are_none(paths: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="path"):
        pluck(*paths)


def test_it_says_what_it_takes() -> None:
    fields = pluck("info.OS", ["a.b", "c"], ("d",), default=0)
    assert repr(fields) == "pluck('info.OS', ('a.b', 'c'), 'd', default=0)"
    assert fields.names == ("info.OS", "a.b.c", "d")
    assert fields.paths == (("info", "OS"), ("a.b", "c"), ("d",))
    assert isinstance(fields, Fields)


@pytest.mark.parametrize("shipper", [pickle, cloudpickle])
def test_it_travels(shipper: Any) -> None:
    fields = shipper.loads(shipper.dumps(pluck("a", "a.b", "c", default=[0])))
    assert fields('{"a": {"b": 1}}') == ({"b": 1}, 1, [0])
    assert repr(fields) == "pluck('a', 'a.b', 'c', default=[0])"


def test_a_function_that_holds_it_travels_to_a_fresh_process() -> None:
    fields = pluck("a.b")
    data = cloudpickle.dumps(lambda text: fields(text))
    code = (
        "import pickle, sys\n"
        "function = pickle.load(sys.stdin.buffer)\n"
        """print(function('{"a": {"b": 1}}'))"""
    )
    done = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, check=True)
    assert done.stdout.split() == [b"(1,)"]


def test_threads_share_it() -> None:
    fields = pluck("a.b", "c")
    texts = [
        f'{{"a": {{"b": {n}}}, "x": {"[1]" * (n % 97 == 0) or "{}"}, "c": "{n}"}}'
        for n in range(5000)
    ]
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(fields, texts)) == [(n, str(n)) for n in range(5000)]


@given(
    st.lists(
        st.sampled_from(
            [
                b'{"a": {"b": 1}}', b'{"a": 5, "b": [2]}', b'{"a": {"b": NaN}}', b"[]", b'{"b": "\xff"}',
                b'{"x": ' + b"1" * LIMIT + b"}", b'{"a": {"b": {"b": 3}}}',
            ]
        )
    )
)  # fmt: skip
def test_lines_together_and_one_at_a_time(lines: list[bytes]) -> None:
    for fields in (pluck("a.b", "b"), pluck("b", default=0), pluck("a.b", "a")):
        assert repr(fields.of_lines(lines)) == repr([*map(fields.of_bytes, lines)])
    with pytest.raises(ValueError, match="Exceeds the limit"):
        pluck("b").of_lines([*lines, b'{"x": ' + b"1" * (LIMIT + 1) + b"}"])
