"""Read JSON documents that list dimensions, such as filters and schemas, strictly.

Unknown and repeated keys are errors, because ignoring them would hide mistakes. Each error names
the file, the dimension and the correction.
"""

from __future__ import annotations

import difflib
import json
import os
from collections.abc import Mapping
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn

from daskmr.errors import InputError
from daskmr.normal_forms import hint

__all__ = ["fail", "field_name", "kind", "path_name", "read_dimensions", "refuse_unknown"]

COMMENT = ("_", "//")
"""Prefixes of keys that are comments, since JSON itself has no comments."""

_OUTER_KEYS = ("version", "dimensions")
_DIMENSION_KEYS = ("field_name", "allowed_values")  # both, so that a filter can be used as a schema
_KINDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((str,), "a text"),
    ((int, float, Decimal), "a number"),
    ((list, tuple), "a list"),
    ((Mapping,), "an object"),
)


def fail(where: str, mistake: str) -> NoReturn:
    """Raise InputError for a `mistake` in the file and dimension `where`."""
    raise InputError(f"{where}: {mistake}.") from None


def read_dimensions(source: Any, where: str, example: str) -> list[Any]:
    """Return the dimensions from a file, or from its content as a dict, and check the outer object.

    Errors start with `where` and show the `example`.
    """
    content = source if isinstance(source, Mapping) else _parse(_read(source, where), where)
    if not isinstance(content, Mapping):
        fail(where, f"the JSON is {kind(content)}, not an object; write one such as {example}")
    refuse_unknown(content, where, _OUTER_KEYS)
    version = content.get("version", 1)
    if isinstance(version, bool) or version != 1:
        fail(where, 'only version 1 is known; write "version": 1')
    if "dimensions" not in content:
        fail(where, f'"dimensions" is missing; write an object such as {example}')
    dimensions = content["dimensions"]
    if not isinstance(dimensions, (list, tuple)):
        fail(where, f'"dimensions" is {kind(dimensions)}, not a list; write {example}')
    return list(dimensions)


def refuse_unknown(
    content: Mapping[str, Any], where: str, known: tuple[str, ...] = _DIMENSION_KEYS
) -> None:
    """Fail for a key that is neither known nor a comment."""
    for key in content:
        if key in known or str(key).startswith(COMMENT):
            continue
        similar = difflib.get_close_matches(str(key), known, 1, 0.5)
        advice = f'write "{similar[0]}"' if similar else f"use {' and '.join(known)}"
        fail(where, f'"{key}" is not known; {advice}, or start a comment with "_"')


def field_name(dimension: Any, where: str, misplaced: tuple[str, ...] = ()) -> str:
    """Return the field name of a dimension; the caller reports `misplaced` keys."""
    if not isinstance(dimension, Mapping):
        fail(
            where,
            f"it is {kind(dimension)}, not an object; "
            'write one such as {"field_name": "reason", "allowed_values": "*"}',
        )
    if "field_name" not in dimension:
        refuse_unknown(dimension, where, (*_DIMENSION_KEYS, *misplaced))
        fail(where, '"field_name" is missing; write one such as "field_name": "reason"')
    name = dimension["field_name"]
    if not isinstance(name, str):
        fail(where, f'"field_name" is {kind(name)}, not a text; write the name in quotes')
    return name


def path_name(path: Any) -> str:
    """Return a path as text for messages, even if it is not a valid path."""
    return os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else repr(path)


def kind(value: Any) -> str:
    """Return the kind of a JSON value, for messages."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    for types, name in _KINDS:
        if isinstance(value, types):
            return name
    return f"a Python {type(value).__name__}"


def _read(path: Any, where: str) -> bytes:
    try:
        with open(os.fspath(path), "rb") as file:
            return file.read()
    except FileNotFoundError:
        advice = hint(path_name(path))
        raise InputError(f"{where}: there is no such file; check the path.{advice}") from None
    except (OSError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        fail(where, f"it cannot be read ({reason}); give the path of a readable JSON file")


def _parse(raw: bytes, where: str) -> Any:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        fail(where, f"it is not UTF-8 text (byte {error.start + 1}); save it as UTF-8")
    if not text.strip():
        fail(where, "the file is empty; omit the option, or write a JSON object")
    try:
        # Decimal distinguishes 24.10 from 24.1.
        return json.loads(
            text,
            parse_float=Decimal,
            parse_constant=_no_constant,
            object_pairs_hook=partial(_unique, where),
        )
    except json.JSONDecodeError as error:
        fail(
            where,
            f"it is not valid JSON at line {error.lineno}, column {error.colno}: {error.msg}; "
            "look for a missing or extra comma, quote or bracket there",
        )
    except (ValueError, ArithmeticError, RecursionError) as error:
        fail(where, f"it is not valid JSON: {error}; correct it")


def _unique(where: str, pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content and not key.startswith(COMMENT):
            name = next((v for k, v in pairs if k == "field_name"), None)
            of = f" of dimension {name!r}" if isinstance(name, str) and key != "field_name" else ""
            fail(
                where,
                f'"{key}" is repeated in one object{of}; remove all but one',
            )
        content[key] = value
    return content


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
