"""The command line: options, exit codes, and nothing heavy before it is needed."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial, wraps
from typing import IO, Any, NoReturn

import click

from daskmr._version import __version__
from daskmr.cli.again import command_again, repeated
from daskmr.cli.completion import complete_files
from daskmr.cli.options import CommandGroup, GroupedCommand, job_options
from daskmr.errors import DaskMRError, Interrupted, JobError
from daskmr.stdio import standard_output
from daskmr.text import printable

__all__ = ["main"]

_EPILOG = (
    "Exit codes: 0 done, 1 the job failed, 2 bad usage or input, 3 the filter matched nothing, "
    "130, 143, 129 interrupted."
)

_LINES = 24  # of a traceback, so that a failure fits on a screen
_GC_THRESHOLD = 200_000  # objects that are made before the next look for garbage


class _Commands(CommandGroup):
    """The commands; those that `run` does without are imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all of them."""
        return sorted({*super().list_commands(ctx), *_LATE})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Find one by its name."""
        if cmd_name not in self.commands and cmd_name in _LATE:
            self.add_command(_LATE[cmd_name](cmd_name))
        return super().get_command(ctx, cmd_name)


def _job_command(name: str) -> click.Command:
    from daskmr.cli import job_commands

    command: click.Command = getattr(job_commands, name)
    return _guarded(command)


def _cache_command(name: str) -> click.Command:
    from daskmr.cli.cache import cache

    @click.pass_context
    def guarded(context: click.Context) -> None:
        from daskmr.signals import signals

        context.with_resource(_exit_codes(verbose=False))
        context.with_resource(signals())

    return CommandGroup(name, commands=cache.commands, help=cache.help, callback=guarded)


_LATE: dict[str, Callable[[str], click.Command]] = {
    "cache": _cache_command,
    "check": _job_command,
    "new": _job_command,
    "plan": _job_command,
}


# Named as `dask` lists it: it goes by this name, not by that of the entry point.
@click.group(
    "mapreduce",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=_EPILOG,
)
@click.version_option(__version__, prog_name="daskmr")
def main() -> None:
    """MapReduce for Python people, on Dask."""


@main.command(cls=GroupedCommand, epilog=_EPILOG, short_help="Run a job script.")
@click.argument("script", type=click.Path(), required=False, metavar="SCRIPT")
@job_options()
@click.pass_context
def run(
    context: click.Context, /, script: str | None, verbose: bool, log_format: str, **options: Any
) -> None:
    """Run the job SCRIPT over the files in --data-dir or --bucket that --input-filter allows.

    SCRIPT defines map(key, dims, value, context) and, as it needs, reduce(key, values, context),
    combine(key, values, context) and setup_reduce(context).
    """
    import gc

    from daskmr.cluster.forkserver import prewarm
    from daskmr.signals import kill_children, signals

    gc.disable()  # imports make no garbage, and a tenth of a second of looking for it

    as_json = log_format == "json"
    again = partial(command_again, context)
    with standard_output() as stdout, _exit_codes(verbose, again, as_json), signals():
        script, options = repeated(context, script, options)
        prewarm(
            processes=_on_this_machine(options)
        )  # first, so that it imports while this process does
        _run(script, stdout, as_json=as_json, **options)
        kill_children()  # the server of workers, and what a script has started
        _leave(0)  # still here, where a signal no longer counts


def _on_this_machine(options: dict[str, Any]) -> bool:
    """Tell whether workers will be started here, as far as that can be told before Dask is there."""
    variables = ("DASK_SCHEDULER_ADDRESS", "DASK_DASKMR__SCHEDULER", "DASK_DASKMR__CLUSTER")
    elsewhere = options["inline"] or options["scheduler"] or options["cluster"]
    return not (elsewhere or any(os.environ.get(name) for name in variables))


def _run(
    script: str, stdout: IO[bytes], *, output: str, quiet: bool, as_json: bool, **options: Any
) -> None:
    import gc

    import dask.config

    # Read when distributed is imported: what it says while workers end is for its developers.
    # A lost scheduler is told once, and by this command.
    quiet_logs = {"distributed": "critical", "distributed.client": "critical"}
    dask.config.set(logging=dask.config.get("logging", {}) | quiet_logs)

    from daskmr.diagnostics.log import choose, notes_to
    from daskmr.run.pipeline import mapreduce

    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)  # more is imported when a cluster is started
    gc.enable()

    streamed = stdout if output == "-" else None
    inline = options["inline"]
    show = choose(sys.stderr, quiet=quiet, as_json=as_json, inline=inline, output=streamed)
    sources = (options["input_filter"], options["schema"])
    read = (source for source in sources if isinstance(source, str))
    secrets = [options[name] for name in ("aws_key", "aws_secret_key") if options[name]]
    told = options.pop("report"), script, output, quiet, secrets, *read
    with notes_to(show), _reporting(*told) as report:
        result = mapreduce(script, output=output, stdout=stdout, watcher=show, **options)
        stdout.flush()
        if report is not None:
            report.tell(result)
    profile = _write_profile(result, output) if options["profile"] else None
    show.summary(result, profile)


class _Reporting:
    """Writes the report; what hinders it is told, as the output is in place."""

    def __init__(self, file: Any, quiet: bool, secrets: list[str]) -> None:
        from daskmr.diagnostics.html import describe_command

        self._file = file
        self._quiet = quiet
        name = os.path.basename(sys.argv[0])
        self._command = describe_command(
            ["daskmr" if name == "__main__.py" else name, *sys.argv[1:]], secrets
        )

    def tell(self, result: Any) -> None:
        from daskmr.diagnostics.html import render_report

        self._put(render_report(result, command=self._command))

    def tell_of_failure(self, error: DaskMRError, script: str) -> None:
        from daskmr.diagnostics.html import render_failure

        name = os.path.splitext(os.path.basename(script))[0]
        self._put(render_failure(error, name, command=self._command))

    def _put(self, page: str) -> None:
        with suppress(OSError):
            try:
                self._file.put(page)
            except JobError as error:
                click.echo(f"daskmr: {error}", err=True)
            else:
                if not self._quiet:
                    click.echo(f"report   {printable(self._file.name)}", err=True)


@contextmanager
def _reporting(
    path: str | None,
    script: str,
    output: str,
    quiet: bool,
    secrets: list[str],
    *others: str | None,
) -> Iterator[_Reporting | None]:
    """Open the report, where one is wanted; a job that fails is reported too."""
    if path is None:
        yield None
        return
    from daskmr.diagnostics.html import ReportFile
    from daskmr.run.side_cars import side_car_paths

    beside = (*side_car_paths(output), _profile_path(output)) if output != "-" else ()
    reporting = _Reporting(ReportFile(path, script, output, *beside, *others), quiet, secrets)
    try:
        yield reporting
    except JobError as error:
        reporting.tell_of_failure(error, script)
        raise


def _write_profile(result: Any, output: str) -> str:
    import marshal

    path = _profile_path(output if os.path.isfile(output) else "-")
    try:
        with open(path, "wb") as file:
            marshal.dump(result.profile, file)
    except OSError as error:  # the output is in place; this is not worth a failure
        return f"cannot be written to {path}: {error.strerror}"
    return path


def _profile_path(output: str) -> str:
    from daskmr.data.output import beside

    return beside("daskmr" if output == "-" else output, ".pstats")


@main.command(epilog=_EPILOG, short_help="Map the bad records of a run again.")
@click.argument("file", type=click.Path())
@click.option(
    "--script",
    metavar="SCRIPT",
    shell_complete=complete_files,
    help="The job script.  [default: that of the run]",
)
@click.option(
    "--schema",
    metavar="FILE",
    shell_complete=complete_files,
    help="Schema of the layout.  [default: that of the run]",
)
@click.option("--pdb", "debug", is_flag=True, help="Stop in the debugger at the first that fails.")
def replay(file: str, script: str | None, schema: str | None, debug: bool) -> None:
    """Run the bad records in FILE through the script's map again, in this process.

    FILE is an OUTPUT.bad.jsonl. Says of each record whether it passes now, and exits with 1 if one
    does not. OUTPUT.meta.json, beside it, tells which script it was.
    """
    from daskmr.cli.replay import replay as print_outcomes
    from daskmr.signals import signals

    with standard_output() as stdout, _exit_codes(verbose=False), signals():
        print_outcomes(file, script, schema, debug, stdout)
        _leave(0)


@main.command("sample-data", epilog=_EPILOG, short_help="Write made-up data to try things with.")
@click.argument("directory", type=click.Path())
@click.option(
    "--size",
    default="20MB",
    metavar="SIZE",
    show_default=True,
    help="Bytes to write, uncompressed.",
)
@click.option(
    "--seed", default=0, metavar="N", show_default=True, help="Another seed gives other documents."
)
@click.option(
    "--ext",
    default="gz",
    metavar="FORMATS",
    show_default=True,
    help="Formats of the files in turn, of gz, xz, lzma, bz2, zst, log.",
)
@click.option(
    "--bad-lines",
    default=0.0,
    metavar="SHARE",
    show_default=True,
    help="Share of lines that are bad.",
)
def sample_data(directory: str, size: str, seed: int, ext: str, bad_lines: float) -> None:
    """Write made-up telemetry documents to DIRECTORY, in the layout.

    The same seed gives the same documents on every machine.
    """
    from daskmr.signals import signals

    with _exit_codes(verbose=False), signals():
        from dask.utils import parse_bytes

        from daskmr.cli.sample_data import write_sample
        from daskmr.text import format_bytes

        try:
            count = int(parse_bytes(size))
        except ValueError:
            raise click.BadParameter(f'{size!r} is not a size such as "20MB".') from None
        summary = write_sample(directory, count, seed, tuple(ext.split(",")), bad_lines)
        click.echo(
            f"{summary.records:,} documents in {summary.files:,} files below {printable(directory)}: "
            f"{format_bytes(summary.bytes)}, {format_bytes(summary.compressed_bytes)} on disk",
            err=True,
        )


def _guarded(command: click.Command) -> click.Command:
    """Have a command that works on a job end as `run` does, and keep standard output for it."""
    work = command.callback
    assert work is not None

    @wraps(work)
    def guarded(**options: Any) -> None:
        from daskmr.cli.job_commands import ListingLine
        from daskmr.signals import kill_children, signals

        verbose = options.pop("verbose", False)
        with standard_output() as stdout, _exit_codes(verbose), signals():
            line = ListingLine() if sys.stderr.isatty() else None
            try:
                work(stdout, line, **options)
            finally:
                if line is not None:
                    line.clear()
            kill_children()  # that the script has started
            _leave(0)

    command.callback, command.epilog = guarded, _EPILOG
    return command


@contextmanager
def _exit_codes(
    verbose: bool, again: Callable[[str], str] | None = None, as_json: bool = False
) -> Iterator[None]:
    """End the process with the documented code and one clear paragraph.

    `again` gives the command that runs one file again.
    """
    try:
        yield
    except DaskMRError as error:
        details = error.details
        if verbose:
            import traceback

            if as_json:
                details = f"{details}\n{traceback.format_exc()}".lstrip()
            else:
                traceback.print_exc()
        elif not as_json:
            details = _on_a_screen(details)
        hints = _hints(error, again) if isinstance(error, JobError) and again is not None else ""
        _fail(f"{error}{hints}", details, error.exit_code, as_json)
    except Interrupted as error:
        _fail("Interrupted; nothing was written.", "", error.exit_code, as_json)
    except KeyboardInterrupt:
        _fail("Interrupted; nothing was written.", "", 130, as_json)
    except BrokenPipeError:
        _fail("Standard output was closed before the result was written whole.", "", 1, as_json)


def _hints(error: JobError, again: Callable[[str], str]) -> str:
    """Show the record that a job failed at, and how to run its file alone."""
    lines = [f"The record: {error.record}"] if error.record else []
    if error.file or error.details:
        what = "that file alone" if error.file else "it without workers"
        lines += [f"To run {what}, where breakpoint() works:", f"  {again(error.file)}"]
    return "".join(f"\n{line}" for line in lines)


def _on_a_screen(details: str) -> str:
    """Leave lines out of the middle of a long traceback."""
    lines = details.splitlines()
    if len(lines) <= _LINES:
        return details
    head, tail = lines[: _LINES // 3], lines[-2 * _LINES // 3 :]
    left_out = len(lines) - len(head) - len(tail)
    return "\n".join([*head, f"  ... ({left_out:,} lines left out; --verbose shows them)", *tail])


def _fail(message: str, details: str, code: int, as_json: bool = False) -> NoReturn:
    from daskmr.signals import kill_children

    kill_children()  # those that a script started in this process, too
    text = f"daskmr: {message}\n" if not details else f"{details.rstrip()}\n\ndaskmr: {message}\n"
    if as_json:
        from daskmr.diagnostics.log import json_error

        text = f"{json_error(message, details, code)}\n"
    with suppress(OSError):
        sys.stderr.write(re.sub(r"[^\n\t]+", lambda part: printable(part[0]), text))
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit at once: threads that a script started must not hold the process up."""
    from daskmr.signals import clean_up

    clean_up()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
