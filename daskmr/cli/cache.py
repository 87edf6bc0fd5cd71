"""The commands ``daskmr cache ls``, ``verify`` and ``prune``."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial, reduce
from typing import TYPE_CHECKING, Any, TypeVar

import click

from daskmr.cli.console import EPILOG, exit_codes
from daskmr.cli.options import CommandGroup, add_option
from daskmr.config import one_layout
from daskmr.errors import InputError, JobError
from daskmr.text import format_bytes, printable

if TYPE_CHECKING:
    from daskmr.data.cache.cache import Cache
    from daskmr.data.cache.upkeep import Group

__all__ = ["cache", "commands"]

_F = TypeVar("_F", bound=Callable[..., Any])

_KEPT = 10  # kept files listed
_ORDERS: dict[str, Callable[[Group], float]] = {
    "value": lambda group: 0.0,  # the existing order
    "size": lambda group: -group.bytes,
    "fetched": lambda group: group.oldest,
    "used": lambda group: group.used,
}
_COMMON = (
    add_option("-b --bucket", "NAME", "Only the cache of this source."),
    add_option(
        "-w --work-dir", "DIR", "The work dir that the caches are in.", show_default=".daskmr"
    ),
)
_SELECTING = (
    add_option("--layout", "TEMPLATE", "Layout: a template, `hive`, `flat`, or a JSON file."),
    add_option("--schema", "FILE", "JSON file of the layout."),
    add_option("-f --input-filter", "FILE", "Only what this filter allows."),
    add_option("--where", "NAME=SPEC", "Only these values; can be repeated.", multiple=True),
    add_option("--date", "DATE", "Date that `today` refers to.", show_default="today, UTC"),
)


def _with(*options: Callable[[_F], _F]) -> Callable[[_F], _F]:
    return lambda command: reduce(lambda decorated, option: option(decorated), options, command)


commands = CommandGroup("cache")
"""The subcommands, without the context that ends the process when one of them fails."""


@click.group("cache", cls=CommandGroup, commands=commands.commands, epilog=EPILOG)
@click.pass_context
def cache(context: click.Context) -> None:
    """List, verify and remove the local copies of remote files."""
    from daskmr.signals import signals

    context.with_resource(exit_codes())
    context.with_resource(signals())


@commands.command()
@_with(*_COMMON, *_SELECTING)
@add_option(
    "--by",
    "FIELD",
    "Dimension to group by; may be repeated.",
    multiple=True,
    show_default="the first of the layout",
)
@add_option(
    "--sort",
    None,
    "Order of rows.",
    type=click.Choice(list(_ORDERS)),
    default="value",
    show_default=True,
)
def ls(
    work_dir: str | None,
    bucket: str | None,
    input_filter: str | None,
    where: tuple[str, ...],
    date: str | None,
    layout: str | None,
    schema: str | None,
    by: tuple[str, ...],
    sort: str,
) -> None:
    """List the cached files by source and dimension, with size and age."""
    from daskmr.data.cache.upkeep import group_by, select
    from daskmr.data.dimensions.dates import parse_date
    from daskmr.data.layout import load_schema

    work_dir, layout = _configured(work_dir, one_layout(layout, schema))
    schema_given = load_schema(input_filter, layout, where, parse_date(date))
    for one in _caches(work_dir, bucket):
        copies = [copy for copy in one.manifest.copies() if not copy.pending]
        filtered = schema_given.discovered_in(copy.path for copy in copies)
        names = filtered.layout.field_names
        for name in by:
            if name not in names:
                raise click.BadParameter(
                    f"{name!r} is not one of {', '.join(names)}.", param_hint="--by"
                )
        fields = by or names[:1]
        positions = tuple(map(names.index, fields))
        chosen = select(copies, filtered) if input_filter or where else copies
        groups = group_by(chosen, filtered, positions)
        files, size = sum(g.files for g in groups), sum(g.bytes for g in groups)
        checked = one.recorded().checked()
        listed = f"; last listed {_date(checked)}" if checked is not None else ""
        _say(f"{one.url}  {one.root}")
        _say(f"  {files:,} files, {format_bytes(size)}{listed}")
        if groups:
            _print_table(fields, sorted(groups, key=_ORDERS[sort]))


def _print_table(fields: tuple[str, ...], groups: list[Group]) -> None:
    rows = [[*fields, "files", "size", "first fetched", "last fetched", "last used"]]
    for group in groups:
        values = group.values or ("(not in the layout)", *[""] * (len(fields) - 1))
        dates = map(_date, (group.oldest, group.newest, group.used))
        rows.append([*values, f"{group.files:,}", format_bytes(group.bytes), *dates])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [
            cell.rjust(width) if len(fields) <= place < len(fields) + 2 else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        _say(f"  {'  '.join(cells)}".rstrip())


@commands.command(short_help="Check every file against the manifest.")
@_with(*_COMMON)
@add_option("--quick", None, "Compare sizes and times only; read no file.")
def verify(work_dir: str | None, bucket: str | None, quick: bool) -> None:
    """Check the size, time and digest of every file against the manifest.

    Damaged files are no longer used; the next run fetches them again.
    """
    from daskmr.data.cache.upkeep import verify as check

    problems = files = 0
    found = _caches(_configured(work_dir, None)[0], bucket)
    for one in found:
        count = one.manifest.count()[0]
        hidden = not sys.stderr.isatty()
        with click.progressbar(length=count, label=one.url, file=sys.stderr, hidden=hidden) as bar:
            for problem in check(one, deep=not quick, on_progress=partial(bar.update, 1)):
                _say(f"{one.root}/{problem.path} {problem.description}")
                problems += 1
        files += count
    if problems:
        raise JobError(
            f"{problems:,} problems were found in {files:,} files. Runs do not use the damaged files, "
            "but fetch them again. Remove files that the cache did not fetch yourself."
        )
    if found:
        _say(f"{files:,} files are unchanged since they were fetched")


@commands.command()
@_with(*_COMMON, *_SELECTING)
@add_option("--older-than", "TIME", 'Only files fetched longer ago than this, such as "30 days".')
@add_option(
    "--down-to",
    "SIZE",
    'Only until the cache is no larger than this, such as "10 GB"; least recently used first.',
)
@add_option("--dry-run", None, "Remove nothing; show what would be removed.")
def prune(
    work_dir: str | None,
    bucket: str | None,
    input_filter: str | None,
    where: tuple[str, ...],
    date: str | None,
    layout: str | None,
    schema: str | None,
    older_than: str | None,
    down_to: str | None,
    dry_run: bool,
) -> None:
    """Remove local copies that meet all the given conditions.

    Files that the cache did not fetch, or that have changed since, are never removed.
    """
    from dask.utils import parse_bytes, parse_timedelta

    from daskmr.data.cache.upkeep import prune as remove
    from daskmr.data.dimensions.dates import parse_date
    from daskmr.data.layout import load_schema

    if input_filter is None and not where and older_than is None and down_to is None:
        raise InputError(
            "Give --older-than, --input-filter, --where or --down-to (--down-to 0 removes everything)."
        )
    age = _parsed(parse_timedelta, "--older-than", older_than, 'time such as "30 days"')
    before = None if age is None else time.time() - age
    most = _parsed(parse_bytes, "--down-to", down_to, 'size such as "10 GB"')
    work_dir, layout = _configured(work_dir, one_layout(layout, schema))
    given = load_schema(input_filter, layout, where, parse_date(date))
    for one in _caches(work_dir, bucket):
        one.sweep()
        filtered = None
        if input_filter is not None or where:
            filtered = given.discovered_in(copy.path for copy in one.manifest.copies())
        removed = remove(one, fetched_before=before, schema=filtered, down_to=most, dry_run=dry_run)
        would = "would be removed" if dry_run else "removed"
        _say(f"{one.url}: {removed.files:,} files {would}, {format_bytes(removed.bytes)}")
        if removed.busy:
            _say(f"  {removed.busy:,} files kept because they are being fetched")
        if removed.kept:
            _say(f"  {len(removed.kept):,} files kept because they differ from what was fetched:")
            for path in removed.kept[:_KEPT]:
                _say(f"    {path}")


def _configured(work_dir: str | None, layout: str | None) -> tuple[str, str | None]:
    from daskmr.config import load_config

    config = load_config(work_dir=work_dir)
    return config.work_dir, layout or config.layout or config.schema


def _caches(work_dir: str, bucket: str | None) -> list[Cache]:
    from daskmr.data.cache.cache import caches
    from daskmr.store.store import parse_source

    found = caches(work_dir)
    if bucket is not None:
        url = parse_source(bucket).url
        found = [one for one in found if one.url == url]
    if not found:
        of = "" if bucket is None else f" of {url}"
        _say(f"There is no cache{of} in {work_dir}")
    return found


def _parsed(parse: Callable[[str], Any], option: str, text: str | None, form: str) -> Any:
    try:
        return None if text is None else parse(text)
    except (KeyError, TypeError, ValueError):
        raise InputError(f"{option} {text!r} is not a {form}.") from None


def _date(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))


def _say(text: str) -> None:
    try:
        click.echo(printable(text))
    except BrokenPipeError:
        raise
    except OSError as error:
        raise JobError(f"Standard output cannot be written: {error.strerror}.") from None
