"""The command ``daskmr inspect``, which shows how data is arranged, and how to read it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from daskmr.cli.console import (
    EPILOG,
    Paint,
    announced,
    ends_process,
    leave,
    listing_line,
    painter,
)
from daskmr.cli.new import check_new, write_files
from daskmr.cli.options import GroupedCommand, add_option, job_options
from daskmr.errors import InputError
from daskmr.files import free_name
from daskmr.stdio import say
from daskmr.text import counted, format_bytes, inspect_line, printable, shell_word, shorten, some

if TYPE_CHECKING:
    from daskmr.run.inspection.findings import Findings

__all__ = ["find", "inspect", "render"]

_TITLE = 12  # width of the titles
_WIDTH = 100  # characters of a record or of values
_VALUES = 5
_FIELDS = 30
_RECORDS = 3
_SKIPPED = 3
_STORE = ("endpoint_url", "region", "aws_profile", "anon", "requester_pays")


@click.command(
    cls=GroupedCommand,
    epilog=EPILOG,
    short_help="Show how data is arranged, and the command line that reads it.",
)
@click.argument("paths", nargs=-1, type=click.Path(), metavar="[PATH]...")
@add_option(
    "-d --data-dir", "PATH|URL", "The same as PATH; can be repeated.", multiple=True, group="Input"
)
@add_option(
    "-b --bucket", "BUCKET", "Bucket to look at: NAME, NAME/prefix, or a URL.", group="Input"
)
@add_option("--write script", "SCRIPT", "Write a job script for this data, which works unchanged.")
@add_option("--force", None, "Replace an existing script.")
@add_option("--json as_json", None, "Write one JSON object.")
@job_options(
    "Object store", hide=lambda option: option.name not in (*_STORE, "aws_key", "aws_secret_key")
)
@ends_process
def inspect(
    stdout: IO[bytes],
    paths: tuple[str, ...],
    script: str | None,
    force: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Look at a sample of the data at PATH, and show its layout, format, dimensions and fields.

    PATH is a directory, a file, a quoted glob, @LIST (one path a line), - (standard input) or the URL
    of a store. The last line is the command line that reads the data.
    """
    if script is not None:
        check_new(script, force)
    given = (*paths, *options.pop("data_dir"))
    with (
        announced("inspect lists a sample of the files, and reads the start of a few"),
        listing_line() as on_listing,
    ):
        found = find(given, options, on_listing)
    if script is not None:
        from daskmr.run.inspection.starter import starter_text

        write_files({script: starter_text(found, script)}, force)
    if as_json:
        import json

        lines = {"script": script, "command": command_line(found, script)}
        say(stdout, f"{json.dumps(found.as_dict() | lines, indent=2)}\n")
    else:
        say(stdout, f"{render(found, painter(stdout), script)}\n")
    if not found.is_readable:
        leave(InputError.exit_code)


def find(
    given: Sequence[str],
    options: dict[str, Any],
    on_listing: Callable[[int, int], object] | None = None,
) -> Findings:
    """Look at the input that is given.

    - `given`: values of ``-d``.
    - `options`: the options for the store, and for access to it.
    Raises `InputError` if nothing is given, or it cannot be read.
    """
    from daskmr.data.sources.given import parse_sources
    from daskmr.run.inspection.findings import find_out, sample_line

    sources, bucket = parse_sources(given), options.get("bucket")
    if not given and not bucket:
        is_there = os.path.isdir("data") and os.listdir("data")
        line = f"data, which is here:{inspect_line('data')}" if is_there else sample_line()
        raise InputError(
            f"There is nothing to look at. Name a directory, a file or a URL, or try {line}"
        )
    if sources.url is None and bucket is None:
        return find_out(sources, on_progress=on_listing)
    from daskmr.config import SETTINGS, load_config
    from daskmr.data.inputs import source_of
    from daskmr.store.credentials import given as credentials_given

    settings = {name: value for name, value in options.items() if name in SETTINGS}
    config = sources.settled(load_config(**settings))
    assert config.bucket is not None
    words = [] if bucket is None or bucket == sources.url else ["-b", bucket]
    for name in _STORE:
        value = options.get(name)
        if value is not None:
            words += [SETTINGS[name].options[-1], *([] if value is True else [str(value)])]
    keys = options.get("aws_key"), options.get("aws_secret_key")
    with credentials_given(*keys, config.aws_profile):
        return find_out(sources, source_of(config.bucket, config), words, on_listing)


def command_line(found: Findings, script: str | None) -> str | None:
    """Return the command line to go on with, which works as it is; ``None`` if nothing reads the data."""
    if not found.is_readable:
        return None
    if script is not None:
        return found.run_line(script)
    name = free_name("job", ".py")
    if found.given == ("-",):
        return found.inspect_line(name)
    return f"{found.inspect_line(name)} && {found.run_line(name)}"


# --- as text --------------------------------------------------------------------------------------


def render(found: Findings, paint: Paint, script: str | None = None) -> str:
    """Format findings for a terminal or a file."""
    lines: list[str] = []
    last = ""
    for title, text in _rows(found):
        shown = "" if title == last else title
        lines.append(f"{paint(f'{shown:{_TITLE}}', 'title')}{printable(text)}".rstrip())
        last = title
    for note in found.notes:
        lines.append(paint(f"{'note':{_TITLE}}{printable(note)}", "warning"))
    command = command_line(found, script)
    if script is not None:
        lines += ["", f"{printable(script)} written. Run it:"]
    elif command is not None:
        options = " ".join(map(shell_word, found.option_words)) or "none needed"
        lines += ["", f"{paint('options'.ljust(_TITLE), 'title')}{options}", ""]
        lines.append("To write a script for this data, and run it:")
    if command is not None:
        lines.append(f"  {command}")
    return "\n".join(lines).encode("utf-8", "backslashreplace").decode("utf-8")


_Rows = Iterator[tuple[str, str]]
"""Rows of a title and a text."""


def _rows(found: Findings) -> _Rows:
    least = "" if found.complete else "at least "
    where = " ".join((*found.given, *found.store))
    yield "input", f"{where}: {least}{counted(found.files, 'file')}, {format_bytes(found.bytes)}"
    yield from _layout(found) if found.is_readable else ()
    names = [f"{name or 'none'} ({n:,})" for name, n in found.compressions.items()]
    yield "compression", ", ".join(names)
    records = found.content.records
    looks = found.content.looks
    if records:
        looks = f"{'read in the script' if records == 'read' else records}: {looks}"
    if found.read < found.files:
        looks += f", {found.read:,} of {counted(found.files, 'file')}"
    yield "records", looks
    for each in found.dimensions:
        kind = f" ({each.type})" if each.type else ""
        count = counted(len(each.values), "value")
        yield "dimensions", f"{each.name}{kind}: {count}, {_values(each.values)}"
    yield from _fields(found)
    for line in found.content.lines[:_RECORDS]:
        yield "first", shorten_end(printable(line))


def _layout(found: Findings) -> _Rows:
    guess = found.guess
    if guess is None:
        yield "layout", "none needed: the files are named"
    elif guess.spec is None:
        yield "layout", f"the packaged one, {guess.layout.template}"
    elif guess.spec == "flat":
        yield "layout", "flat: files at any depth, without dimensions"
    else:
        yield "layout", guess.spec
    if guess is not None and guess.typed:
        yield "layout", f"to filter by dates and numbers: --layout {shell_word(guess.typed)}"
    if found.skipped:
        names = some(found.skipped, _SKIPPED)
        yield "layout", f"not in it: {counted(len(found.skipped), 'file')}, {names}"


def _values(values: dict[str, int]) -> str:
    shown = [f"{value or repr(value)} ({n:,})" for value, n in [*values.items()][:_VALUES]]
    if len(values) > _VALUES:
        last, count = [*values.items()][-1]
        shown[-1:] = ["...", f"{last} ({count:,})"]
    return shorten(", ".join(shown), 2 * _WIDTH)


def _fields(found: Findings) -> _Rows:
    title = "columns" if found.content.header else "fields"
    shown = found.fields[:_FIELDS]
    if not shown:
        return
    width = min(30, max(len(printable(each.name)) for each in shown))
    kinds = min(20, max(len(each.type) for each in shown))
    for each in shown:
        name = shorten(printable(each.name) or "''", width)
        kind = shorten(each.type or "empty", kinds)
        examples = ", ".join(value or "''" for value, _ in each.values.most_common(3))
        text = f"{name:{width}}  {kind:{kinds}}  {each.share:>6.1%}  {shorten_end(printable(examples), 50)}"
        yield title, text.rstrip()
    if len(found.fields) > len(shown):
        yield title, f"and {len(found.fields) - len(shown):,} more"


def shorten_end(text: str, length: int = _WIDTH) -> str:
    """Cut off the end of a long text."""
    return text if len(text) <= length else f"{text[: length - 1]}…"
