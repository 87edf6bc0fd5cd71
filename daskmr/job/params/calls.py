"""The code of a script, parsed without running it: its calls of functions of ``daskmr``."""

from __future__ import annotations

import ast
import threading
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import date
from typing import Any, NamedTuple

__all__ = ["Declaration", "declarations_in", "syntax_tree", "uses_of"]

_PARSING = threading.Lock()


def syntax_tree(text: str, path: str = "<unknown>") -> ast.Module:
    """Parse Python code.

    One thread does so at a time, because several may get a SystemError from Python 3.11 and 3.12
    (https://github.com/python/cpython/issues/106905). One that formats a traceback parses, too.
    """
    with _PARSING:
        try:
            return ast.parse(text, path)
        except SystemError:
            return ast.parse(text, path)


class Declaration(NamedTuple):
    """A call of `param` in the text of a script."""

    name: str
    type: str  # the name of its type, in capitals
    default: str | None  # as it is written; ``None`` without one
    help: str


def declarations_in(texts: Mapping[str, str]) -> list[Declaration]:
    """Find the parameters that a script and its modules declare by name.

    - `texts`: source text by file name; a file that cannot be parsed is skipped.

    >>> declarations_in({"job.py": "from daskmr import param\\nday = param('day', type=date)"})
    [Declaration(name='day', type='DATE', default=None, help='')]
    """
    found: dict[str, Declaration] = {}
    for use in uses_of(texts, "param"):
        declaration = _declaration(use) if isinstance(use, ast.Call) else None
        if declaration is not None:
            found.setdefault(declaration.name, declaration)
    return [*found.values()]


def uses_of(texts: Mapping[str, str], function: str) -> Iterator[ast.expr]:
    """Yield calls of a function of ``daskmr``, and its names, in a script and its modules."""
    for text in texts.values():
        try:
            nodes = [*ast.walk(syntax_tree(text))] if function in text else []
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        names = {name for node in nodes for name in _imported(node, function)}
        for node in nodes:
            named = node.func if isinstance(node, ast.Call) else node
            is_name = bool(names) and isinstance(named, ast.Name | ast.Attribute)
            if is_name and ast.unparse(named) in names:
                yield node  # type: ignore[misc]  # an expression, like its name


def _imported(node: ast.AST, function: str) -> Iterator[str]:
    """Yield the names by which a module may call a function of ``daskmr`` after an import."""
    if isinstance(node, ast.ImportFrom) and node.module == "daskmr":
        for alias in node.names:
            if alias.name in (function, "*"):
                yield alias.asname or function
    elif isinstance(node, ast.Import):
        for alias in node.names:
            if alias.name == "daskmr":
                yield f"{alias.asname or alias.name}.{function}"


def _declaration(call: ast.Call) -> Declaration | None:
    words = {word.arg: word.value for word in call.keywords}
    words |= dict(zip(("name", "default"), call.args, strict=False))
    name, default, kind, help = (words.get(n) for n in ("name", "default", "type", "help"))
    if not isinstance(name, ast.Constant) or not isinstance(name.value, str):
        return None
    text = None if default is None else _text_of(default)
    return Declaration(name.value, _type_name(kind, default), text, _literal(help) or "")


def _text_of(default: ast.expr) -> str:
    """Return a default as it would be given on the command line, if that is simple, or else in Python."""
    value = _literal(default)
    if isinstance(default, ast.Attribute) and ast.unparse(default.value)[:1].isupper():
        return default.attr  # a member of an enumeration
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list | tuple) and all(isinstance(each, str | int) for each in value):
        value = ",".join(map(str, value))
    return value if isinstance(value, str) and value else _date_of(default) or ast.unparse(default)


def _date_of(node: ast.expr | None) -> str:
    """Return the date of ``date(2024, 1, 31)``; ``""`` of anything else."""
    if isinstance(node, ast.Call) and ast.unparse(node.func) in ("date", "datetime.date"):
        with suppress(ValueError, TypeError):
            return date(*map(ast.literal_eval, node.args)).isoformat()
    return ""


def _literal(node: ast.expr | None) -> Any:
    try:
        return None if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
        return None


def _type_name(kind: ast.expr | None, default: ast.expr | None) -> str:
    if isinstance(kind, ast.Subscript):  # list[int]
        kind = kind.value
    if kind is not None:
        name = ast.unparse(kind).rpartition(".")[2]
        name = name if name.isidentifier() else "value"
    elif default is None or ast.unparse(default) == "None":
        name = "str"
    else:
        value = _literal(default)
        name = "value" if value is None else type(value).__name__
        name = "date" if _date_of(default) else name
    return "TEXT" if name == "str" else name.upper()
