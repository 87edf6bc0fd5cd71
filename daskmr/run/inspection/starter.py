"""Write a script that counts something useful in the input that was found."""

from __future__ import annotations

import keyword
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from daskmr.data.inspection.fields import FieldFigures
from daskmr.data.readers.sniffing import ACCESS_LOG
from daskmr.errors import InputError
from daskmr.job.declared import distinct_names
from daskmr.run.inspection.findings import DimensionFound, Findings
from daskmr.text import printable

__all__ = ["starter_text"]

_FIELDS_NAMED = 12
_WIDTH = 96
_LEVELS = re.compile(r"\b(DEBUG|INFO|NOTICE|WARN|WARNING|ERROR|CRITICAL|FATAL)\b")

_READ = '''

def read(stream, dims):
    """Yield the key and the value of each record of a file, of which `stream` holds the bytes."""
    data = stream.read()
    try:
        document = json.loads(data) if data.strip() else []
    except ValueError as error:
        yield BadRecord(data, "not JSON", str(error))
        return
    for number, item in enumerate(document if isinstance(document, list) else [document]):
        yield number, item
'''

_COUNT = '''

def combine(key, values, context):
    """Adds some values of a key early, so that less data is transferred."""
    context.write(key, sum(values))


def reduce(key, values, context):
    """Called once for each key, in key order, with all of its values."""
    context.write(key, sum(values))
'''


_IF_OBJECT = (
    "if not isinstance(value, dict):",
    '    raise ValueError("not an object")  # a bad record',
)


@dataclass(frozen=True, slots=True)
class _Counting:
    """The counting of a script: the names of the parts of the key, and the lines that compute them."""

    names: tuple[str, ...]
    parts: tuple[str, ...]
    lines: tuple[str, ...] = ()
    imports: tuple[str, ...] = ()
    top: tuple[str, ...] = ()
    each: str = ""  # the variable of a loop, or ""


def starter_text(found: Findings, script: str) -> str:
    """Return a script for an input.

    - `script`: its path, for the command lines in it.
    Raises `InputError` if no format reads the input.
    """
    if not found.is_readable:
        problem = found.content.problem or f"it is {found.content.looks}"
        raise InputError(f"No script can be written for {' '.join(found.given)}: {problem}")
    counting = _with_dimension(found, _counting(found))
    is_read = found.records == "read"
    imports = [*(["import json"] if is_read else []), *counting.imports]
    imports += ["", "from daskmr import BadRecord"] if is_read else []
    sections = [_docstring(found, script, counting)]
    sections += [
        "\n".join(lines) for lines in (imports, _declarations(found, counting), counting.top)
    ]
    text = "\n\n".join(filter(None, sections)) + "\n"
    return text + (_READ if is_read else "") + _map(found, counting) + _COUNT


def _docstring(found: Findings, script: str, counting: _Counting) -> str:
    what = " and ".join(counting.names)
    lines = [*map(_plain, found.lines_to_try(script))]
    lines[-1] += " -o result.csv"
    return (
        f'"""Count the {_noun(found)} by {_plain(what)}.\n\n'
        f"Written by daskmr inspect, for {found.content.looks}.\n\n"
        f"Try it:    {f'{chr(10)}           '.join(lines)}\n"
        '"""'
    )


def _plain(text: str) -> str:
    return printable(text).replace("\\", "\\\\").replace('"', "'")


def _noun(found: Findings) -> str:
    return "lines" if found.records == "lines" else "rows" if found.content.header else "records"


def _declarations(found: Findings, counting: _Counting) -> Iterator[str]:
    if found.layout is not None:
        yield f"layout = {_quoted(found.layout)}"
    if found.records not in ("", "read"):
        yield f"records = {_quoted(found.records)}"
    if found.content.columns:
        names = ", ".join(map(_quoted, found.content.columns))
        yield f"input_columns = ({names},)  # {found.content.why}: give them better names"
    if _plucks(found) and found.category is not None:
        yield f"fields = ({_path(found.category)},)  # the value is a tuple of these"
    names = ", ".join(map(_quoted, distinct_names((*counting.names, "count"))))
    yield f"output_columns = ({names})"
    others = [each for each in found.fields if each is not found.category]
    if others:
        yield from _comment(_noun(found), others)


def _comment(noun: str, fields: list[FieldFigures]) -> Iterator[str]:
    more = len(fields) - _FIELDS_NAMED
    named = [f"{printable(each.name) or repr('')} ({each.type})" for each in fields[:_FIELDS_NAMED]]
    line = f"# The {noun} also have:"
    for each in [*named, *([f"and {more} more"] if more > 0 else [])]:
        if len(line) + len(each) > _WIDTH:
            yield line.rstrip()
            line = "#"
        line += f" {each},"
    yield line.rstrip(",")


def _plucks(found: Findings) -> bool:
    return found.records == "jsonl" or bool(found.content.header)


def _path(field: FieldFigures) -> str:
    if any("." in name for name in field.path):
        return f"({', '.join(map(_quoted, field.path))},)"
    return _quoted(field.name)


def _counting(found: Findings) -> _Counting:
    """Choose the field to count by."""
    category = found.category
    if category is not None:
        name = _variable(category.path[-1])
        counting = _Counting((category.name,), (name,), (f"({name},) = value",))
        if _plucks(found):
            return counting
        if found.records == "read":
            steps = category.path[:-1]
            above = (
                "(" * len(steps) + "value" + "".join(f".get({_quoted(s)}) or {{}})" for s in steps)
            )
            line = f"{name} = {above}.get({_quoted(category.path[-1])})"
            return replace(counting, lines=(*_IF_OBJECT, line))
        return replace(
            counting,
            lines=(f"({name},) = fields(value)",),
            imports=("from daskmr import pluck",),
            top=(
                "# Reads a few fields of a JSON document, faster than json.loads.",
                f"fields = pluck({_path(category)})",
            ),
        )
    if found.fields and found.records:
        return _Counting(("field",), ("name",), _IF_OBJECT, each="name")
    lines = [line for line in found.content.lines if line.strip()]
    if found.records == "lines" and lines and all(re.match(ACCESS_LOG, line) for line in lines):
        return _Counting(
            ("status",),
            ("match[2]",),
            (
                "match = LINE.search(value)",
                "if match is None:",
                '    raise ValueError("not a line of an access log")  # a bad record',
            ),
            ("import re",),
            ('LINE = re.compile(r\'"([^"]*)" (\\d{3}) \')',),
        )
    if found.records == "lines" and lines and all(map(_LEVELS.search, lines)):
        return _Counting(
            ("level",),
            ('match[1] if match else "none"',),
            ("match = LEVEL.search(value)",),
            ("import re",),
            (f'LEVEL = re.compile(r"{_LEVELS.pattern}")',),
        )
    return _Counting((), ())


def _with_dimension(found: Findings, counting: _Counting) -> _Counting:
    dimension = _best_dimension(found.dimensions)
    date = [each.name for each in found.dimensions if each.name in ("year", "month", "day")]
    if dimension is not None and dimension.name in date[:-1] + date[1:]:
        name, part = date[-1], 'f"' + "-".join(f"{{dims.{each}}}" for each in date) + '"'
    elif dimension is not None:
        name, part = dimension.name, _access(dimension.name)
    elif counting.parts:
        return counting
    else:
        name, part = "file", "context.path"
    return replace(counting, names=(name, *counting.names), parts=(part, *counting.parts))


def _best_dimension(dimensions: tuple[DimensionFound, ...]) -> DimensionFound | None:
    """Return a dimension with several values: preferably few, else the first."""
    several = [each for each in dimensions if len(each.values) > 1]
    return next((each for each in several if len(each.values) <= 366), None) or next(
        iter(several or dimensions), None
    )


def _map(found: Findings, counting: _Counting) -> str:
    names = [each.name for each in found.dimensions]
    dims = f"the dimensions of its file: {', '.join(names)}" if names else "empty"
    key = {
        "": "the text before the first tab",
        "read": "as read yields it",
    }.get(found.records, "the path of its file")
    value = "the fields above, as a tuple" if _plucks(found) and found.category else ""
    value = value or {
        "": "the text after the first tab",
        "lines": "the line, as text",
        "jsonl": "what json.loads gives for the line",
        "read": "as read yields it",
    }.get(found.records, "a dict with the names of the columns")
    written = counting.parts[0] if len(counting.parts) == 1 else f"({', '.join(counting.parts)})"
    write = [f"context.write({written}, 1)"]
    if counting.each:
        write = [f"for {counting.each} in value:", f"    {write[0]}"]
    lines = "\n".join(f"    {line}" for line in (*counting.lines, *write))
    return f'''

def map(key, dims, value, context):
    """Called for every record; a ValueError makes it a bad record.

    key      {key}
    dims     {_plain(dims)}
    value    {value}
    """
{lines}
'''


def _access(name: str) -> str:
    plain = re.fullmatch(r"[a-zA-Z]\w*", name) and not keyword.iskeyword(name)
    return f"dims.{name}" if plain and not hasattr(list, name) else f"dims[{_quoted(name)}]"


def _variable(name: str) -> str:
    """Return a name for a variable.

    >>> _variable("Event-Type"), _variable("class"), _variable("value")
    ('event_type', 'class_', 'value_')
    """
    plain = re.sub(r"\W+", "_", name.lower()).strip("_") or "field"
    plain = f"f{plain}" if plain[0].isdigit() else plain
    taken = {"key", "dims", "value", "context", "fields", "map", "reduce", "combine", "sum", "str"}
    return f"{plain}_" if keyword.iskeyword(plain) or plain in taken else plain


def _quoted(text: str) -> str:
    """Return a literal, in double quotes if it holds no quote.

    >>> print(_quoted("a b"), _quoted('say "x"'))
    "a b" 'say "x"'
    """
    literal = repr(text)
    return f'"{literal[1:-1]}"' if "'" not in text and '"' not in text else literal
