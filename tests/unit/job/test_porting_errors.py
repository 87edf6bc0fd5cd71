"""Errors that Python 2 did not raise come with advice."""

from __future__ import annotations

import pytest

from daskmr.job.porting_errors import advice_for

# Each is run as Python 3 runs it, and the advice names what to write.
ERRORS = {
    "{}.iteritems()": "items()",
    "{}.has_key(1)": "key in d",
    "{}.keys().sort()": "sorted(...)",
    "{1: 2}.values()[0]": "list(...)",
    "{}.items() + [1]": "list(...)",
    "len(filter(None, [1]))": "list(...)",
    "zip([1], [2])[0]": "list(...)",
    "range(3).append(1)": "list(...)",
    "iter([1]).next()": "next(it)",
    "unicode('a')": "`str`",
    "isinstance(1, long)": "`int`",
    "xrange(3)": "`range`",
    "raw_input()": "`input`",
    "'a'.decode('utf-8')": "leave `.decode(...)` out",
    "b'a'.encode('utf-8')": ".decode()",
    "b'a' + 'b'": ".encode()",
    "'a' + b'b'": ".encode()",
    "__import__('hashlib').md5('a')": ".encode()",
    "__import__('string').maketrans('a', 'b')": "str.maketrans",
    "__import__('string').join(['a'], '')": "separator.join",
    "__import__('sys').maxint": "sys.maxsize",
    "__import__('itertools').izip([1], [2])": "`zip`",
    "__import__('urllib').quote('a')": "urllib.parse.quote",
    "sorted([1, None])": "a `key`",
    "max([1, 'a'])": "a `key`",
    "sorted([1], cmp=None)": "cmp_to_key",
    "[1].sort(lambda a, b: 0)": "cmp_to_key",
    "(lambda i: [1, 2, 3][i])(3 / 2)": "`//`",
    "range(3 / 2)": "`//`",
    "print >>None, 1": "file=f",
    "__import__('string').atoi('1')": "`int`",
    "__import__('string').splitfields('a b')": "text.split",
    "'a'.encode('hex')": "codecs.encode(text.encode(), 'hex')",
    "'a'.encode('zlib')": "codecs.encode(",
    "'61'.decode('hex')": "codecs.decode(text.encode(), ",
    "ValueError('a').message": "`str(error)`",
    "'a,b'.translate(None, ',')": "str.maketrans",
}


def error_of(text: str) -> Exception:
    try:
        exec(text, {})
    except Exception as error:
        return error
    raise AssertionError(f"{text} raises nothing")


@pytest.mark.parametrize("text", ERRORS)
def test_errors_that_python_2_did_not_raise_are_explained(text: str) -> None:
    advice = advice_for(error_of(text))
    assert advice.startswith(" ")
    assert advice.endswith(".")
    assert ERRORS[text] in advice


@pytest.mark.parametrize(
    ("text", "now"),
    [
        ("from itertools import izip", "`zip`"),
        ("from string import maketrans", "str.maketrans"),
        ("from collections import Mapping", "collections.abc.Mapping"),
        ("from types import ListType", "`list`"),
        ("d = {1: 2}\nfor key in d: d[key + 1] = 1", "list(d)"),
        ("raise 'text'", "raise ValueError(message)"),
    ],
)
def test_statements_are_explained_too(text: str, now: str) -> None:
    assert now in advice_for(error_of(text))


class Awkward(TypeError):
    def __str__(self) -> str:
        raise SystemExit("no text")


@pytest.mark.parametrize(
    "error",
    [
        KeyError("iteritems"),
        AttributeError("no name"),
        AttributeError("odd", name=["x"], obj=3),  # type: ignore[call-overload]
        NameError("x"),
        ImportError("x"),
        Awkward(),
        TypeError("unhashable type: 'list'"),
        ValueError("could not convert string to float: 'x'"),
        MemoryError(),
        SystemExit(2),
    ],
)
def test_of_other_errors_nothing_is_said(error: BaseException) -> None:
    assert advice_for(error) == ""


def test_calling_the_job_s_own_map_is_explained() -> None:
    error = error_of("def map(key, dims, value, context): pass\nmap(int, [1])")
    assert "write a comprehension" in advice_for(error)


def test_text_that_is_taken_for_a_document() -> None:
    assert "`json.loads(value)` parses it" in advice_for(error_of("value = 'text'; value['name']"))
