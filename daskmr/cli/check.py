"""The command ``daskmr check``."""

from __future__ import annotations

from typing import IO, Any

import click

from daskmr.cli.console import EPILOG, announced, ends_process, listing_line, painter
from daskmr.cli.options import (
    GroupedCommand,
    Script,
    add_option,
    job_options,
    script_of,
    with_params,
)
from daskmr.config import SETTINGS
from daskmr.stdio import say

__all__ = ["check"]

_TITLE = 12  # width of the titles
# Options without effect: the command reads only the first records, and does not fill the cache.
_HIDDEN = {"limit_files", "sample", "sample_by", "seed", "earlier", "cache_max"}
_HIDDEN |= {"skip_corrupt_files", "skip_poison_files", "skip_missing"}


@click.command(cls=GroupedCommand, epilog=EPILOG, short_help="Try a job script on a few records.")
@click.argument("script", type=click.Path(), required=False, metavar="SCRIPT...")
@job_options(
    "Input",
    "Script",
    "Bad records and files",
    "Object store",
    hide=lambda option: option.name in _HIDDEN,
)
@add_option(
    "-n --limit-records",
    "RECORDS",
    "Number of records to map.",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
)
@add_option("-v --verbose", None, "Show the complete traceback of a failure.")
@click.pass_context
@ends_process
def check(
    stdout: IO[bytes],
    context: click.Context,
    script: Script | None,
    code: str | None,
    **options: Any,
) -> None:
    """Try the job SCRIPT on a few records, in this process, and show what it does.

    The script is loaded, and its functions are checked. With --data-dir or --bucket, the first
    records of the input are mapped, and the results are combined and reduced.
    """
    paint = painter(stdout)

    def show(title: str, text: str) -> None:
        head = f"{f'{title} ':{_TITLE}}"
        is_warning = title == "warning"
        line = paint(f"{head}{text}", "warning") if is_warning else f"{paint(head, 'title')}{text}"
        with ticker.cleared():
            say(stdout, f"{line.rstrip()}\n")

    names = {"data_dir", "input_filter", "where", "date", "limit_records", "only"}
    names |= {"aws_key", "aws_secret_key", "params", "files", "py_files"}
    options = with_params(options)
    given = {name: options[name] for name in options.keys() & (names | SETTINGS.keys())}
    does = "check loads the script, lists the input and maps its first records"
    with announced(does) as ticker, listing_line() as on_listing:
        from daskmr.run.check import check_script

        check_script(script_of(context, script, code), show, on_listing=on_listing, **given)
