"""The commands ``daskmr plan``, ``check`` and ``new``, which come before a run."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import IO, TYPE_CHECKING, Any

import click

from daskmr.cli.again import repeated
from daskmr.cli.completion import complete_files
from daskmr.cli.options import GroupedCommand, job_options, option_of
from daskmr.stdio import say
from daskmr.text import printable, shell_path, shell_word

if TYPE_CHECKING:
    from daskmr.cli.plan_text import Paint

__all__ = ["ListingLine", "check", "new", "plan"]

_TITLE = 12  # columns that the titles take
_STYLES: dict[str, dict[str, Any]] = {
    "title": {"bold": True},
    "faint": {"fg": "blue"},
    "warning": {"fg": "yellow"},
}
_RUN_ONLY = (  # they change nothing that a plan tells
    "dashboard",
    "delete_data",
    "file_timeout",
    "log_format",
    "max_bad_records",
    "meta",
    "profile",
    "quiet",
    "report",
    "skip_corrupt_files",
    "skip_missing",
    "skip_poison_files",
)

_SAMPLE = ("limit_files", "sample", "sample_by", "seed", "earlier")  # a check reads one file

OnListing = Callable[[int, int], object]


def _choice(options: dict[str, Any]) -> Any:
    from daskmr.data.sampling import Choice

    names = ("only", "limit_files", "sample", "seed", "sample_by")
    only, *rest = (options[name] for name in names)
    return Choice(tuple(only), *rest)


# --- plan ---------------------------------------------------------------------------------------


@click.command(cls=GroupedCommand, short_help="Say what a run would do, without doing it.")
@click.argument("script", type=click.Path(), required=False, metavar="SCRIPT")
@job_options(hidden=_RUN_ONLY)
@option_of("What is shown", "--json", "as_json", is_flag=True, help="Write one JSON object.")
@option_of(
    "What is shown",
    "--estimate/--no-estimate",
    default=True,
    show_default=True,
    help="Map a small sample for a few seconds, to estimate time and memory.",
)
def plan(
    stdout: IO[bytes],
    on_listing: OnListing | None,
    script: str | None,
    as_json: bool,
    estimate: bool,
    **options: Any,
) -> None:
    """Say what a run of the job SCRIPT would do: it fetches nothing, and writes no output.

    It takes the options of run, and says what would be read, what is in the cache and what would be
    fetched, how the work is cut, and which values of the filter match nothing.
    """
    import json

    from daskmr.cli.plan_text import render
    from daskmr.run.plan import as_json as convert
    from daskmr.run.planner import make_plan

    script, options = repeated(click.get_current_context(), script, options)
    names = ("data_dir", "input_filter", "output", "inline", "aws_key", "aws_secret_key")
    made = make_plan(
        script,
        **{name: options[name] for name in names},
        estimating=estimate,
        choice=_choice(options),
        on_listing=on_listing,
        **_settings(options),
    )
    text = json.dumps(convert(made), indent=2) if as_json else render(made, _paint(stdout))
    say(stdout, f"{text}\n")
    if made.sample is not None and made.sample.details and not as_json:
        click.echo(f"\n{made.sample.details.rstrip()}", err=True)


def _settings(options: dict[str, Any]) -> dict[str, Any]:
    """Those of the options that are settings."""
    from daskmr.config import Config

    return {name: options[name] for name in options if name in Config.__dataclass_fields__}


# --- check --------------------------------------------------------------------------------------


@click.command(cls=GroupedCommand, short_help="Try a job script over a few records.")
@click.argument("script", type=click.Path())
@job_options("Input", "A bucket", hidden=(*_SAMPLE, "cache_max", "skip_missing"))
@click.option(
    "-n",
    "--records",
    metavar="RECORDS",
    type=click.IntRange(min=1),
    default=100,
    show_default=True,
    help="How many records to map.",
)
@click.option("-v", "--verbose", is_flag=True, help="Show the whole traceback of a failure.")
def check(
    stdout: IO[bytes],
    on_listing: OnListing | None,
    script: str,
    data_dir: str | None,
    input_filter: str | None,
    records: int,
    **options: Any,
) -> None:
    """Try the job SCRIPT over a few records, in this process, and show what it does.

    It is loaded, and its functions are looked at. With --data-dir or --bucket, the first records of
    the input are mapped, and what they give is combined and reduced.
    """
    from daskmr.run.check import check_script

    paint = _paint(stdout)

    def tell(title: str, text: str) -> None:
        style = "warning" if title == "warning" else "title"
        line = f"{title:{_TITLE}}{text}".rstrip()
        shown = (
            line if style == "warning" else f"{paint(f'{title:{_TITLE}}', style)}{text}".rstrip()
        )
        say(stdout, f"{paint(line, style) if style == 'warning' else shown}\n")

    check_script(
        script,
        tell,
        data_dir=data_dir,
        input_filter=input_filter,
        records=records,
        only=options["only"],
        aws_key=options["aws_key"],
        aws_secret_key=options["aws_secret_key"],
        on_listing=on_listing,
        **_settings(options),
    )


# --- new ----------------------------------------------------------------------------------------


@click.command(cls=GroupedCommand, short_help="Write a job script to begin with.")
@click.argument("script", type=click.Path())
@click.option(
    "--filter",
    "filter_path",
    metavar="FILE",
    shell_complete=complete_files,
    help="Write a filter too, which allows everything.",
)
@click.option(
    "--schema", metavar="FILE", shell_complete=complete_files, help="JSON schema of the layout."
)
@click.option("--force", is_flag=True, help="Replace what is there.")
def new(
    stdout: IO[bytes],
    on_listing: OnListing | None,
    script: str,
    filter_path: str | None,
    schema: str | None,
    force: bool,
) -> None:
    """Write a job SCRIPT to begin with: it works as it stands, and says what may be changed."""
    from daskmr.cli.starter import filter_text, script_text, write_files
    from daskmr.config import load_config
    from daskmr.data.layout import load_layout

    if not script.endswith(".py"):
        raise click.BadParameter(f"{script!r} must end in .py.", param_hint="SCRIPT")
    names = load_layout(load_config(schema=schema).schema).field_names
    texts = {script: script_text(script, names)}
    if filter_path is not None:
        if os.path.realpath(filter_path) == os.path.realpath(script):
            raise click.BadParameter("it is the script's name too.", param_hint="--filter")
        texts[filter_path] = filter_text(names)
    write_files(texts, force)
    given = f" -f {shell_word(filter_path)}" if filter_path is not None else ""
    say(
        stdout,
        f"{printable(' and '.join(texts))} written. Try it:\n\n"
        "  daskmr sample-data data\n"
        f"  daskmr check {shell_path(script)} -d data{given}\n"
        f"  daskmr run {shell_path(script)} -d data{given}\n",
    )


# --- what is shown ------------------------------------------------------------------------------


def _paint(stdout: IO[bytes]) -> Paint:
    """Colours on a terminal, unless NO_COLOR is set to something (https://no-color.org)."""
    plain = os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    if plain or not stdout.isatty():
        return lambda text, style: text
    return lambda text, style: click.style(text, **_STYLES[style])


class ListingLine:
    """Shows how far a listing is, on a line of the terminal that what comes next replaces."""

    def __init__(self) -> None:
        self._shown = False

    def __call__(self, prefixes: int, files: int) -> None:
        self._show(f"listing: {files:,} files in {prefixes:,} prefixes")
        self._shown = True

    def clear(self) -> None:
        if self._shown:
            self._show("")

    def _show(self, text: str) -> None:
        with suppress(OSError):  # nobody may be there to be told
            sys.stderr.write(f"\r{text}\x1b[K")
            sys.stderr.flush()
