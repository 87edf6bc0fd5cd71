"""Parameters are found in the text of a script, which is not run."""

from __future__ import annotations

import ast

import pytest

from daskmr.job.params.calls import declarations_in, syntax_tree, uses_of


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from daskmr import param\nparam('a')", ("a", "TEXT", None, "")),
        ("from daskmr import param as p\np('a', 5, help='x ' 'y')", ("a", "INT", "5", "x y")),
        ("import daskmr\ndaskmr.param('a', type=int)", ("a", "INT", None, "")),
        ("import daskmr as d\nX = d.param('a', -0.5)", ("a", "FLOAT", "-0.5", "")),
        ("from daskmr import *\nparam('a', default=True)", ("a", "BOOL", "true", "")),
        ("from daskmr import param\nparam(name='a', default=now())", ("a", "VALUE", "now()", "")),
        (
            "from daskmr import param\nparam('a', datetime.date(2024, 1, 31))",
            ("a", "DATE", "2024-01-31", ""),
        ),
        ("from daskmr import param\nparam('a', date(x))", ("a", "VALUE", "date(x)", "")),
        ("from daskmr import param\nparam('a', Colour.RED)", ("a", "VALUE", "RED", "")),
        (
            "from daskmr import param\nparam('a', type=datetime.date)",
            ("a", "DATE", None, ""),
        ),
        ("from daskmr import param\nparam('a', type=list[int])", ("a", "LIST", None, "")),
        ("from daskmr import param\nparam('a', type=lambda t: t)", ("a", "VALUE", None, "")),
        ("from daskmr import param\nparam('a', None)", ("a", "TEXT", "None", "")),
    ],
)
def test_the_forms_of_a_call(text: str, found: tuple[str, ...]) -> None:
    assert declarations_in({"job.py": text}) == [found]


@pytest.mark.parametrize(
    "text",
    [
        "from pytest import param\nparam('a')",
        "param('a')",
        "from daskmr import param\nparam(name)",
        "from daskmr import param\nparam()",
        "from daskmr import param\nparam(5)",
        "not Python",
    ],
)
def test_other_calls_are_none(text: str) -> None:
    assert declarations_in({"job.py": text}) == []


def test_all_files_count_and_the_first_call_of_a_name() -> None:
    texts = {
        "helper.py": "from daskmr import param\nparam('b', 1)",
        "job.py": "from daskmr import param\nparam('a')\nparam('b')",
    }
    assert [(each.name, each.default) for each in declarations_in(texts)] == [
        ("b", "1"),
        ("a", None),
    ]


@pytest.mark.parametrize(
    ("text", "uses"),
    [
        ("from daskmr import file\nfile('a')", ["file('a')", "file"]),
        ("import daskmr as d\nget = d.file", ["d.file"]),
        ("from daskmr import param\nfile = 'daskmr.file'\nopen(file)", []),
        ("file(", []),
    ],
)
def test_other_functions_of_the_package(text: str, uses: list[str]) -> None:
    assert [ast.unparse(node) for node in uses_of({"job.py": text}, "file")] == uses


def test_parsing_while_another_thread_does(monkeypatch: pytest.MonkeyPatch) -> None:
    """As one that formats a traceback does."""
    parse, failures = ast.parse, [SystemError("AST constructor recursion depth mismatch")]

    def parse_or_fail(*arguments: str) -> ast.Module:
        if failures:
            raise failures.pop()
        return parse(*arguments)

    monkeypatch.setattr(ast, "parse", parse_or_fail)
    assert ast.unparse(syntax_tree("x = 1")) == "x = 1"
