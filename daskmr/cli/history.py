"""The command ``daskmr history``."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from typing import IO, TYPE_CHECKING, Any

import click

from daskmr.cli.completion import complete_files
from daskmr.cli.console import EPILOG, ends_process, painter
from daskmr.cli.options import add_option
from daskmr.errors import InputError
from daskmr.text import counted, printable, shell_path, shorten, some

if TYPE_CHECKING:
    from daskmr.diagnostics.past_runs import PastRun

__all__ = ["history"]

_SHOWN = 20
_ERROR = 110  # characters shown of a failure
_RIGHT = {"took", "files", "read", "reused", "records", "bad", "lines"}  # columns of figures


@click.command("history", epilog=EPILOG, short_help="Show the runs of a work dir.")
@click.argument("output", required=False, type=click.Path(), shell_complete=complete_files)
@add_option("-w --work-dir", "DIR", "The work dir of the runs.", show_default=".daskmr")
@add_option(
    "--limit",
    "N",
    "Show this many runs, the newest.",
    type=click.IntRange(min=1),
    show_default=f"{_SHOWN}; all with --json and --html",
)
@add_option("--json as_json", None, "Write all that is kept of the runs, as a JSON list.")
@add_option(
    "--html page",
    "FILE",
    "Write a page with curves of duration, records and bad records, and links to the reports.",
)
@add_option("-v --verbose", None, "Show full tracebacks.")
@ends_process
def history(
    stdout: IO[bytes],
    output: str | None,
    work_dir: str | None,
    limit: int | None,
    as_json: bool,
    page: str | None,
) -> None:
    """Show the runs of a work dir, or of one OUTPUT: when, how long, what they read and wrote.

    The newest comes first. The last column says what changed from the run before of the same output.
    """
    from daskmr.diagnostics.past_runs import past_runs

    folder = _work_dir_of(output, work_dir)
    entries, changes = _read(folder, output)
    count = len(entries) if limit is None and (as_json or page) else limit or _SHOWN
    shown = entries[:count]
    if page is not None:
        _write_page(page, folder, output, past_runs(shown, changes))
    if as_json:
        rows = [{**e, "changed": c} for e, c in zip(shown, changes, strict=False)]
        stdout.write(f"{json.dumps(rows, indent=1)}\n".encode())
    elif page is None:
        _show(stdout, past_runs(shown, changes))
        if len(entries) > len(shown):
            click.echo(f"{len(entries) - len(shown):,} older runs: --limit N shows more", err=True)
    stdout.flush()


def _work_dir_of(output: str | None, work_dir: str | None) -> str:
    """Return the work dir that is given, or else that of the run that wrote the output."""
    if work_dir is None and output is not None:
        from daskmr.data.output import beside

        try:
            with open(beside(output, ".meta.json"), "rb") as file:
                found = json.load(file)["options"]["work_dir"]
            if isinstance(found, str) and os.path.isdir(found):
                return os.path.relpath(found) if _is_here(found) else found
        except (OSError, ValueError, KeyError, TypeError):
            pass
    from daskmr.config import load_config

    return load_config(work_dir=work_dir).work_dir


def _is_here(path: str) -> bool:
    return path.startswith(os.path.join(os.getcwd(), ""))


def _read(work_dir: str, output: str | None) -> tuple[list[dict[str, Any]], list[tuple[str, ...]]]:
    """Read the runs, of one output if it is given, and what changed in each."""
    from daskmr.run.past.changes import changes_of_all
    from daskmr.run.past.entries import folder_of, read_entries

    found = list(read_entries(work_dir))
    entries = [entry for _, entry in found if entry is not None]
    if len(entries) < len(found):
        damaged = [os.path.basename(path) for path, entry in found if entry is None]
        folder = shell_path(folder_of(work_dir))
        click.echo(printable(f"not readable in {folder}: {some(damaged)}"), err=True)
    outputs = list(dict.fromkeys(entry["output"]["path"] for entry in entries))
    if not entries:
        raise InputError(
            f"No run is kept in {folder_of(work_dir)}. Each run with an output is, unless it has "
            "--no-meta; name the work dir of the runs with --work-dir."
        )
    if output is not None:
        path = output
        if output != "-" and "://" not in output:
            path = os.path.abspath(output)
        entries = [e for e in entries if e["output"]["path"].rstrip("/") == path.rstrip("/")]
    if not entries:
        kept = some([os.path.relpath(each) if _is_here(each) else each for each in outputs])
        raise InputError(
            f"No run in {folder_of(work_dir)} has written {output}. Those that are kept wrote {kept}."
        )
    return entries, changes_of_all(entries)


def _show(stdout: IO[bytes], runs: Sequence[PastRun]) -> None:
    """Write the runs as a table, each failure with its reason below."""
    from daskmr.diagnostics.past_runs import table_of

    paint = painter(stdout)
    head, rows = table_of(runs)
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]

    def line(cells: Sequence[str]) -> str:
        aligned = (
            cell.rjust(width) if name in _RIGHT else cell.ljust(width)
            for name, cell, width in zip(head, cells, widths, strict=True)
        )
        return "  ".join(aligned).rstrip()

    lines = [paint(line(head), "faint")]
    for run, cells in zip(runs, rows, strict=True):
        lines.append(line(cells))
        if run.error:
            lines.append(paint(f"  {shorten(run.error, _ERROR)}", "warning"))
    stdout.write("".join(f"{each}\n" for each in lines).encode())


def _write_page(path: str, work_dir: str, output: str | None, runs: Sequence[PastRun]) -> None:
    from daskmr.diagnostics.past_runs import render_history
    from daskmr.diagnostics.report_file import HISTORY, ReportFile

    file = ReportFile(path, kind=HISTORY)
    place = os.path.abspath(work_dir) if output is None else output
    file.put(render_history(runs, place, os.path.dirname(os.path.realpath(path))))
    click.echo(f"page     {printable(path)}: {counted(len(runs), 'run')}", err=True)
