"""``daskmr replay``: what it prints, and its exit code."""

from __future__ import annotations

import sys
from typing import IO

import click

from daskmr.errors import JobError
from daskmr.stdio import say
from daskmr.text import printable

__all__ = ["replay"]


def replay(path: str, script: str | None, schema: str | None, debug: bool, out: IO[bytes]) -> None:
    """Print what becomes of each record of `path`; with `debug`, stop at the first that fails.

    Raises
    ------
    JobError
        When not all of them pass.
    """
    from daskmr.tasks.guard import in_thread

    in_thread(lambda: _replay(path, script, schema, debug, out))


def _replay(path: str, script: str | None, schema: str | None, debug: bool, out: IO[bytes]) -> None:
    from daskmr.run.replay import open_replay

    replay = open_replay(path, script, schema)
    passed = 0
    for outcome in replay.run():
        passed += outcome.passes
        place = f"{outcome.record.file}, line {outcome.record.line}"
        say(out, printable(f"{place}: {outcome.text}") + "\n")
        if debug and outcome.traceback is not None:
            import pdb

            pdb.post_mortem(outcome.traceback)
            raise JobError("Stopped at the first record that fails.")
    total = len(replay.records)
    if passed < total:
        raise JobError(f"{total - passed:,} of {total:,} records do not pass.")
    click.echo(f"all {total:,} records pass now", file=sys.stderr)
