"""Places where a script from Python 2 says nothing are found."""

from __future__ import annotations

import ast
import textwrap
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from daskmr.job import porting
from daskmr.job.porting import find_python2


def found(body: str, head: str = "") -> list[tuple[int, str]]:
    """What is found in the body of a `map`, by line from its first one."""
    text = f"{head}\ndef map(key, dims, value, context):\n{textwrap.indent(body, '    ')}"
    before = head.count("\n") + 3
    return [(line - before, text) for line, text in find_python2(ast.parse(text))]


OLD = {
    "for k, v in d.iteritems(): pass": "items()",
    "if d.has_key(1): pass": "key in d",
    "x = string.maketrans('a', 'b')": "str.maketrans",
    "x = unicode(value)": "`str`",
    "x = isinstance(value, basestring)": "`str`",
    "for i in xrange(3): pass": "`range`",
    "x = sorted(d, cmp=compare)": "cmp_to_key",
    "d.sort(cmp=compare)": "cmp_to_key",
    "x = value.translate(None, ',')": "str.maketrans",
    "d.sort(lambda a, b: a - b)": "cmp_to_key",
    "d.keys().sort()": "sorted(...)",
    "x = d.keys()[0]": "list(...)",
    "x = d.values() + [1]": "list(...)",
    "x = len(filter(None, d))": "list(...)",
    "x = zip(d, d)[0]": "list(...)",
    "if filter(None, d): pass": "always true",
    "context.write(key, d.keys())": "prints differently",
    "context.write(key, '%s' % d.items())": "prints differently",
    "print >>f, value": "file=f",
    "print": "print()",
    "context.write(key.encode('utf-8'), 1)": "leave it out",
    "context.write(key, u'%s' % key.encode('utf-8'))": "leave it out",
    "context.write((key, value.encode('utf-8')), 1)": "leave it out",
    "x = value.decode('utf-8')": "leave `.decode(...)` out",
    "context.write(hash(key), 1)": "zlib.crc32",
    "x = value.decode('base64')": "codecs.decode(text.encode(), 'base64')",
    "context.write(key.encode('hex'), 1)": "codecs.encode(text.encode(), 'hex')",
    "x = string.atof(value)": "`float`",
    "x = string.join(dims, ',')": "separator.join(words)",
    "x = max(d.get('a'), d.get('b'))": "`key`",
    "x = 7 / 2": "`//`",
    "x = len(value) / dims": "`//`",
    "x /= 2": "`//`",
    "x = zlib.crc32(key) % 100": "negative",
    "x = round(2.5)": "integer",
    "random.seed(1)": "same seed",
    "if d.get('a') > 3: pass": "None",
    "x = sorted(r.get('a') for r in d)": "`key`",
}


@pytest.mark.parametrize("line", OLD)
def test_what_ports_in_silence_is_found(line: str) -> None:
    ((number, text),) = found(f"pass\n{line}", "import string, zlib, random")
    assert number == 1
    assert OLD[line] in text


NEW = [
    "for k, v in d.items(): pass",
    "x = sorted(d, key=len)",
    "d.sort(key=len)",
    "x = sorted(d.keys())[0]",
    "x = list(d.keys())[0]",
    "for a, b in zip(d, d): pass",
    "context.write(key, list(d.keys()))",
    "context.write(hashlib.md5(key.encode()).hexdigest(), 1)",
    "context.write(base64.b64encode(key.encode()).decode(), 1)",
    "f.write(value.encode())",
    "x = 7 // 2",
    "x = 7 / 2.0",
    "x = float(len(value)) / len(dims)",
    "x = int(len(value) / 2)",
    "total = 1.5\nx = total / 2",
    "x = six.iteritems_of(d)",
    "print(value)",
    "x = value.encode()",
    "if d.get('a') is not None and d.get('a') > 3: pass",
    "if d.get('a', 0) > 3: pass",
    "x = zlib.crc32(key) & 0xffffffff",
    "x = round(2.5, 1)",
    "x = codecs.encode(key.encode(), 'hex').decode()",
    "x = max(d.get('a', 0), d.get('b', 0))",
    "if d.get('a') is not None: x = max(d.get('a'), 1)",
    "x = error.message",
]


@pytest.mark.parametrize("line", NEW)
def test_what_is_right_is_not_found(line: str) -> None:
    assert found(line, "import hashlib, base64, six, zlib") == []


@pytest.mark.parametrize(
    "head",
    [
        "from __future__ import division",
        "from daskmr import pluck",
        "NAME = f'{1}'",
        "def f(x: int): pass",
        "a, *b = 1, 2",
        "from pathlib import Path",
    ],
)
def test_a_script_of_python_3_means_its_division(head: str) -> None:
    assert found("x = len(value) / len(dims)\ny = round(x)", head) == []
    assert found("x = d.iteritems()", head), "that means nothing in Python 3"


@pytest.mark.parametrize(
    "head",
    [
        "try: unicode\nexcept NameError: unicode = str",
        "def unicode(x): return x",
        "from old import unicode",
        "from old import *",
    ],
)
def test_a_name_that_the_script_defines_is_its_own(head: str) -> None:
    assert found("x = unicode(value)", head) == []


def test_a_handler_that_hides_everything() -> None:
    (first,) = found("try:\n    x = 1\nexcept:\n    return")
    assert first[0] == 2
    assert "except ValueError:" in first[1]
    assert found("try:\n    x = 1\nexcept:\n    f()\n    raise") == []
    assert found("try:\n    x = 1\nexcept ValueError:\n    return") == []
    assert found("try:\n    x = 1\nexcept BaseException:\n    return")


def test_the_message_of_an_exception() -> None:
    ((number, text),) = found("try:\n    x = 1\nexcept ValueError as e:\n    f(e.message)")
    assert (number, "`str(e)`" in text) == (3, True)


def test_what_a_loop_has_used_up() -> None:
    ((number, text),) = found("xs = filter(None, d)\nfor x in xs: pass\nfor x in xs: pass")
    assert number == 2
    assert "`xs` (made by `filter(None, d)`) is empty after its first use" in text
    assert found("xs = list(filter(None, d))\nfor x in xs: pass\nfor x in xs: pass") == []
    ((number, text),) = found("ks = d.keys()\nks.sort()")
    assert (number, "sorted(...)" in text) == (1, True)


PARSED = "import json\nfrom daskmr import pluck\nfields = pluck('a')"


@pytest.mark.parametrize(
    ("body", "lines"),
    [
        ("context.write('all', 1)\nx = json.loads(value)", [0]),
        ("context.counter('a', 'all')\nx = int(value)", [0]),
        ("context.counter('a', 'all')\nx = fields(value)", [0]),
        ("if value:\n    context.counter('a', 'b')\nx = json.loads(value)", [1]),
        ("if dims:\n    context.write('all', 1)\nelse:\n    pass\nfor x in json.loads(value): pass", [1]),
        ("x = json.loads(value)\ncontext.write('all', 1)", []),
        ("context.write(json.loads(value)['a'], 1)", []),
        ("if not value:\n    context.counter('a', 'b')\n    return\nx = json.loads(value)", []),
        ("context.write('all', 1)\ntry:\n    x = json.loads(value)\nexcept ValueError:\n    return", []),
        ("context.write('all', 1)\ntry:\n    x = json.loads(value)\nexcept KeyError:\n    return", [0]),
        ("f.write('all')\nx = json.loads(value)", []),
    ],
)  # fmt: skip
def test_counting_before_parsing(body: str, lines: list[int]) -> None:
    places = found(body, PARSED)
    assert [number for number, _ in places] == lines
    assert all("does not count when line" in text for _, text in places)


def test_bytes_that_reduce_makes_text_of_are_fine() -> None:
    text = """
        def map(key, dims, value, context):
            context.write(key, value.encode("utf-8"))

        def reduce(key, values, context):
            context.write(key, b"".join(values).decode("utf-8"))
    """
    assert find_python2(ast.parse(textwrap.dedent(text))) == []


def test_bytes_in_a_variable_are_found_where_they_are_written() -> None:
    body = "out = key.encode('utf-8')\ncontext.write(out, 1)"
    assert [number for number, _ in found(body)] == [1]
    made = "out = '%s,%s' % (dims[2], key.encode('utf-8'))\ncontext.write(out, 1)"
    assert [number for number, _ in found(made)] == [1]
    assert found(body.replace("\n", "\nif dims: out = key\n")) == []


def test_bytes_that_a_function_returns_are_found_where_they_are_written() -> None:
    head = "def clean(text): return text.encode('utf-8')"
    assert [number for number, _ in found("out = clean(key)\ncontext.write(out, 1)", head)] == [1]
    assert [number for number, _ in found("context.write((clean(key), 2), 1)", head)] == [0]


def test_counting_and_parsing_in_functions_of_the_script() -> None:
    head = """import json
def session(cx, name): count(cx, name)
def count(cx, name): cx.write(name, 1)
def part(text): return json.loads(text)
def careful(text):
    try: return json.loads(text)
    except ValueError: return None"""
    assert [number for number, _ in found("session(context, key)\nx = part(value)", head)] == [0]
    assert found("x = part(value)\nsession(context, key)", head) == []
    assert found("session(context, key)\nx = careful(value)", head) == []


@pytest.mark.parametrize(
    ("line", "now"),
    [
        ("x = list(map(int, dims))", "a comprehension"),
        ("x = reduce(lambda a, b: a + b, dims)", "functools.reduce"),
        ("x = reduce(operator.add, dims, 0)", "functools.reduce"),
        ("reduce(key, [value], context)", ""),
        ("map(key, dims, value, context)", ""),
    ],
)
def test_the_builtins_that_a_job_hides(line: str, now: str) -> None:
    places = found(line, "import operator\ndef reduce(key, values, context): pass")
    assert [number for number, text in places if now in text] == [0] * bool(now)


def test_the_type_of_values_is_not_asked_for() -> None:
    text = "def reduce(k, values, c):\n    c.write(k, {} is list)"
    (finding,) = find_python2(ast.parse(text.format("type(values)")))
    assert "isinstance(values, list)" in finding.text
    assert find_python2(ast.parse(text.format("type(k)"))) == []


PIECES = st.sampled_from(
    ["x", "x.keys()", "zip(x, x)", "f(x)", "x[0]", "x / 2", "-x", "(x, y)", "lambda: x", "x.get(1)"]
)


@settings(deadline=None)
@given(st.lists(PIECES, min_size=1, max_size=5), st.sampled_from(["+", "%", ",", "and", "<", ">>"]))
def test_any_syntax_is_read(pieces: list[str], joint: str) -> None:
    """Wherever an expression stands: as a default, a decorator, a target, in a class."""
    joined = f"({joint.join(f'({piece})' for piece in pieces)})"
    text = f"""
class A(object):
    a = {joined}
    def f(self, y={joined}):
        with {joined} as z, open(x) as w: yield {joined}
        del x[{joined}]
        return {joined}
for x.a[{joined}] in {joined}:
    while {joined}: break
    else: assert {joined}
def map(key, dims, value, context):
    context.write({joined})
    match {joined}:
        case [a, *_]: x = {joined}
async def g(): return [x async for x in y if {joined}]
"""
    findings: list[Any] = find_python2(ast.parse(text))
    assert findings == sorted(findings)


@pytest.mark.parametrize("table", ["_RULES", "_AMBIGUOUS", "_OF_SCRIPT"])
def test_names_in_capitals_are_predicates(table: str) -> None:
    templates = " | ".join(getattr(porting, table)).split(" | ")
    nodes = [node for template in templates for node in ast.walk(ast.parse(template))]
    names = {node.id for node in nodes if isinstance(node, ast.Name) and node.id.isupper()}
    assert names
    assert all(hasattr(porting._Module, name.lower()) for name in names)
