"""The command ``daskmr replay``."""

from __future__ import annotations

import sys
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import IO, Any

import click

from daskmr.cli.console import EPILOG, announced, ends_process
from daskmr.cli.options import GroupedCommand, add_option, job_options, with_params
from daskmr.config import one_layout
from daskmr.errors import JobError
from daskmr.stdio import say
from daskmr.text import printable

__all__ = ["replay"]

_EXAMPLES = 3  # records of each outcome


@click.command(cls=GroupedCommand, epilog=EPILOG, short_help="Map the bad records of a run again.")
@click.argument("file", type=click.Path())
@add_option("--script", "SCRIPT", "The job script.", show_default="that of the run")
@add_option(
    "--layout",
    "TEMPLATE",
    "Layout: a template, `hive`, `flat`, or a JSON file.",
    show_default="that of the run",
)
@add_option("--schema", "FILE", "JSON file of the layout.")
@job_options("Script", hide=lambda option: option.name == "pass_env")
@add_option("--pdb debug", None, "Stop in the debugger at the first failure.")
@ends_process
def replay(
    stdout: IO[bytes],
    file: str,
    script: str | None,
    layout: str | None,
    schema: str | None,
    debug: bool,
    **options: Any,
) -> None:
    """Pass the bad records in FILE through the script's map again, in this process.

    FILE is an OUTPUT.bad.jsonl. Print how many records pass now, and how many do not for the same
    reason, with three examples each; exit with 1 if any does not pass. By default, the script is the one named in OUTPUT.meta.json in the same directory.
    """
    from daskmr.tasks.guard import in_thread

    options = with_params(options)
    own = options["params"], options["files"], options["py_files"]
    with announced("replay loads the script and maps the records") as ticker:

        def show(text: str) -> None:
            with ticker.cleared():
                say(stdout, printable(text) + "\n")

        total = in_thread(
            lambda: _replay(file, script, one_layout(layout, schema), own, debug, show)
        )
    click.echo(f"all {total:,} records pass now", file=sys.stderr)


def _replay(
    path: str,
    script: str | None,
    layout: str | None,
    own: tuple[Any, ...],
    debug: bool,
    show: Callable[[str], None],
) -> int:
    from daskmr.run.replay import open_replay

    opened = open_replay(path, script, layout, *own)
    passed, counts, examples = 0, Counter[str](), defaultdict[str, list[str]](list)
    for outcome in opened.run():
        passed += outcome.passes
        text = f"{outcome.record.file}, line {outcome.record.line}: {outcome.text}"
        if debug and outcome.traceback is not None:
            import pdb

            show(text)
            pdb.post_mortem(outcome.traceback)
            raise JobError("Stopped at the first record that failed.")
        counts[outcome.group] += 1
        if len(examples[outcome.group]) < _EXAMPLES:
            examples[outcome.group].append(text)
    for group, count in counts.most_common():
        show(f"{count:,} x {group}")
        for text in examples[group]:
            show(f"  {text}")
    total = len(opened.records)
    if passed < total:
        raise JobError(f"{total - passed:,} of {total:,} records do not pass.")
    return total
