"""The command ``daskmr new``, which writes a working, commented job script and filter."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from typing import IO

import click

from daskmr.cli.console import EPILOG, announced, ends_process
from daskmr.cli.options import GroupedCommand, add_option
from daskmr.config import one_layout
from daskmr.errors import InputError
from daskmr.stdio import say
from daskmr.text import printable, shell_path, shell_word

__all__ = ["check_new", "filter_text", "new", "script_text", "write_files"]

_SCRIPT = '''\
"""Count the documents of each OS and app version.

Try it:    daskmr sample-data data
           daskmr check {name} -d data
           daskmr run {name} -d data -o result.txt
"""

from daskmr import pluck

# Reads a few fields of a JSON document, five to ten times as fast as json.loads. Missing fields are
# None. For the complete document, call json.loads(value) in map.
fields = pluck("info.OS", "info.appVersion")


def map(key, dims, value, context):
    """Called for every record; a ValueError (such as a JSON error) makes it a bad record.

    key      the record's key, as text
    dims     the dimensions of its file, as a list in the order of the layout
    value    the record's value, as text
    """
    # {dims}
    system, version = fields(value)
    if system is None:
        context.counter("documents", "without OS")  # shown in the summary
        return
    # The key can be text, a number, None, or a tuple of these; the value, anything that pickles.
    context.write((system, version or "unknown"), 1)


def combine(key, values, context):
    """Optional: combines some values of a key into one early, so that less data is transferred.

    It writes one value of the kind that map writes under the same key, because it may be called
    again with its own results among the values. Omit it if values cannot be combined (a median).
    """
    context.write(key, sum(values))


def setup_reduce(context):
    """Optional: called before the first key, to write the header of the output."""
    context.field_separator = "\\t"
    context.writeline("OS\\tversion\\tdocuments")


def reduce(key, values, context):
    """Called once for each key, in key order, with all of its values.

    context.write(key, value)    "key TAB value"
    context.writeline(text)      a line
    context.writecsv(values)     a row of CSV

    Without reduce, the lines that map writes are the output.
    """
    system, version = key
    context.write(f"{system}\\t{version}", sum(values))


# Hooks, which are optional too. What they set on the context, its functions find there:
#
# def setup_map(context):        before the first record of a partition, which is a part of the input
#     context.seen = set()
#
# def finish_map(context):       after its last record; may write as map does
#     context.counter("documents", "different keys", len(context.seen))
#
# def finish_reduce(context):    after the last key of a reducer; may write as reduce does, at the end
#
# To have a record counted and saved as bad, with a reason: raise daskmr.BadRecord("no OS")
#
# Also optional:
#
# LEAST = daskmr.param("least", 5)          a parameter, which --param least=10 sets
# files = ["lookup.tsv"]                    sent to the workers; daskmr.file("lookup.tsv") is its path there
# reduce = total                            ready-made: from daskmr.reducers import total
# sort_values = True                        reduce gets the values of each key in order
# context.write_to("rare", key, value)      in reduce: writes to another output, OUTPUT.rare
# steps = [daskmr.Job(map=..., reduce=...), daskmr.Job(map=..., reduce=...)]
#     in place of the functions; the map of each step gets the pairs that the step before wrote
'''

_FILTER_HINT = (
    'Allowed values are "*" for anything, a text, a list of texts, {"min": ..., "max": ...} or '
    '{"regex": ...}. The dimensions are in the order of the layout. Keys that start with _ are '
    "comments."
)


@click.command(cls=GroupedCommand, epilog=EPILOG, short_help="Write a job script to start from.")
@click.argument("script", type=click.Path())
@add_option(
    "-d --data-dir",
    "PATH|URL",
    "Look at this data, as inspect does, and write what fits; can be repeated.",
    multiple=True,
)
@add_option("--filter filter_path", "FILE", "Also write a filter, which allows everything.")
@add_option("--layout", "TEMPLATE", "Layout: a template, `hive`, `flat`, or a JSON file.")
@add_option("--schema", "FILE", "JSON file of the layout.")
@add_option("--force", None, "Replace existing files.")
@ends_process
def new(
    stdout: IO[bytes],
    script: str,
    data_dir: tuple[str, ...],
    filter_path: str | None,
    layout: str | None,
    schema: str | None,
    force: bool,
) -> None:
    """Write a job SCRIPT to start from, which works unchanged and has comments on what to change."""
    check_new(script, force)
    if filter_path is not None and os.path.realpath(filter_path) == os.path.realpath(script):
        raise click.BadParameter("it is also the name of the script.", param_hint="--filter")
    layout = one_layout(layout, schema)
    more = [] if filter_path is None else ["-f", filter_path]
    if data_dir:
        if layout is not None:
            raise click.UsageError("--data-dir finds the layout: omit --layout.")
        text, names, lines = _fitting(script, data_dir, more)
    else:
        text, names, lines = _commented(script, layout, more)
    texts = {script: text}
    if filter_path is not None:
        texts[filter_path] = filter_text(names)
    write_files(texts, force)
    tries = "".join(f"  {line}\n" for line in lines)
    say(stdout, f"{printable(' and '.join(texts))} written. Try it:\n\n{tries}")


_Written = tuple[str, Sequence[str], list[str]]
"""A script, the names of its dimensions, and the command lines that try it."""


def _fitting(script: str, data_dir: Sequence[str], more: Sequence[str]) -> _Written:
    """Return a script for some data; `more` are options for it."""
    from daskmr.cli.inspect import find
    from daskmr.run.inspection.starter import starter_text

    with announced("new looks at a sample of the data"):
        found = find(data_dir, {})
    names = [each.name for each in found.dimensions]
    return starter_text(found, script), names, found.lines_to_try(script, *more)


def _commented(script: str, layout: str | None, more: Sequence[str]) -> _Written:
    """Return a script for sample data."""
    from daskmr.config import load_config
    from daskmr.data.layout import load_layout

    config = load_config()
    names = load_layout(layout or config.layout or config.schema).field_names
    words = ["-d", "data", *([] if layout is None else ["--layout", layout]), *more]
    given = f"{shell_path(script)} {' '.join(map(shell_word, words))}"
    sample = ["daskmr sample-data data"] if layout is None else []
    lines = [*sample, f"daskmr check {given}", f"daskmr run {given}"]
    return script_text(script, names), names, lines


def script_text(path: str, field_names: Sequence[str]) -> str:
    """Return a script that counts, with comments on all functions that a script can define.

    >>> compile(script_text("jobs/mine.py", ["day", "region"]), "mine.py", "exec").co_name
    '<module>'
    """
    dims = f"{', '.join(field_names)} = dims" if field_names else 'dims["name"] is a dimension'
    if len(field_names) == 1:
        dims = f"[{field_names[0]}] = dims"
    name = shell_path(os.path.basename(path)).replace("\\", "\\\\").replace('"', '\\"')
    return _SCRIPT.replace("{dims}", dims).replace("{name}", name)


def filter_text(field_names: Sequence[str]) -> str:
    """Return a filter that allows everything, with a line for each dimension of the layout.

    >>> print(filter_text(["day", "region"]).splitlines()[4].strip())
    {"field_name": "day", "allowed_values": "*"},
    """
    rows = [json.dumps({"field_name": name, "allowed_values": "*"}) for name in field_names]
    lines = ",\n    ".join(rows)
    hint = json.dumps(_FILTER_HINT)
    return f'{{\n  "version": 1,\n  "_comment": {hint},\n  "dimensions": [\n    {lines}\n  ]\n}}\n'


def check_new(script: str, force: bool) -> None:
    """Raise an error for a script that cannot be written, before anything is looked at."""
    if not script.endswith(".py"):
        raise click.BadParameter(f"{script!r} must end in .py.", param_hint="SCRIPT")
    _check_missing([script], force)


def _check_missing(paths: Iterable[str], force: bool) -> None:
    for path in paths:
        if os.path.lexists(path) and not force:
            raise InputError(
                f"{path} already exists, and was not changed. Name another file, or replace it "
                "with --force."
            )


def write_files(texts: dict[str, str], force: bool) -> None:
    """Write the texts of new files, given by path: all of them or none.

    Raises `InputError` if a file exists, unless `force` is true, or cannot be written.
    """
    _check_missing(texts, force)
    with ExitStack() as made:
        for path, text in texts.items():
            try:
                with open(path, "w" if force else "x", encoding="utf-8") as file:
                    if not force:
                        made.callback(os.unlink, path)
                    file.write(text)
            except OSError as error:
                raise InputError(
                    f"{path} cannot be written: {error.strerror}. Name another file."
                ) from None
        made.pop_all()
