"""The command line: options, exit codes, and nothing heavy before it is needed."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any, NoReturn

import click

from daskmr._version import __version__
from daskmr.cache_commands import cache
from daskmr.errors import DaskMRError, Interrupted, JobError
from daskmr.options import GroupedCommand, job_options

__all__ = ["main"]

_EPILOG = (
    "Exit codes: 0 done, 1 the job failed, 2 bad usage or input, 3 the filter matched nothing, "
    "130, 143, 129 interrupted."
)

_GC_THRESHOLD = 200_000  # objects that are made before the next look for garbage


# Named as `dask` lists it: it goes by this name, not by that of the entry point.
@click.group("mapreduce", context_settings={"help_option_names": ["-h", "--help"]}, epilog=_EPILOG)
@click.version_option(__version__, prog_name="daskmr")
def main() -> None:
    """MapReduce for Python people, on Dask."""


@main.group("cache", commands=cache.commands, help=cache.help)
@click.pass_context
def guarded_cache(context: click.Context) -> None:
    from daskmr.interruption import signals

    context.with_resource(_exit_codes(verbose=False))
    context.with_resource(signals())


@main.command(cls=GroupedCommand, epilog=_EPILOG)
@click.argument("script", type=click.Path())
@job_options()
def run(
    script: str,
    output: str,
    inline: bool,
    verbose: bool,
    quiet: bool,
    log_format: str,
    **options: Any,
) -> None:
    """Run the job SCRIPT over the files in --data-dir or --bucket that --input-filter allows.

    SCRIPT defines map(key, dims, value, context) and, as it needs, reduce(key, values, context),
    combine(key, values, context) and setup_reduce(context).
    """
    import gc

    from daskmr.forkserver import prewarm
    from daskmr.interruption import kill_children, signals

    gc.disable()  # imports make no garbage, and a tenth of a second of looking for it

    as_json = log_format == "json"
    with _standard_output() as stdout, _exit_codes(verbose, as_json), signals():
        prewarm(
            processes=_on_this_machine(inline, options)
        )  # first, so that it imports while this process does
        _run(script, output, inline, quiet, as_json, stdout, options)
        kill_children()  # the server of workers, and what a script has started
        _leave(0)  # still here, where a signal no longer counts


def _on_this_machine(inline: bool, options: dict[str, Any]) -> bool:
    """Tell whether workers will be started here, as far as that can be told before Dask is there."""
    variables = ("DASK_SCHEDULER_ADDRESS", "DASK_DASKMR__SCHEDULER", "DASK_DASKMR__CLUSTER")
    elsewhere = inline or options["scheduler"] or options["cluster"]
    return not (elsewhere or any(os.environ.get(name) for name in variables))


def _run(
    script: str,
    output: str,
    inline: bool,
    quiet: bool,
    as_json: bool,
    stdout: IO[bytes],
    options: dict[str, Any],
) -> None:
    import gc

    import dask.config

    # Read when distributed is imported: what it says while workers end is for its developers.
    # A lost scheduler is told once, and by this command.
    quiet_logs = {"distributed": "critical", "distributed.client": "critical"}
    dask.config.set(logging=dask.config.get("logging", {}) | quiet_logs)

    from daskmr.pipeline import mapreduce
    from daskmr.showing import choose, notes_to

    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)  # more is imported when a cluster is started
    gc.enable()

    streamed = stdout if output == "-" else None
    show = choose(sys.stderr, quiet=quiet, as_json=as_json, inline=inline, output=streamed)
    told = options.pop("report"), script, output, options["input_filter"], quiet
    with _reporting(*told) as report, notes_to(show):
        result = mapreduce(
            script, output=output, inline=inline, stdout=stdout, watcher=show, **options
        )
        stdout.flush()
        if report is not None:
            report.tell(result)
    profile = _write_profile(result, output) if options["profile"] else None
    show.summary(result, profile)


class _Reporting:
    """Writes the report; what hinders it is told, as the output is in place."""

    def __init__(self, file: Any, quiet: bool) -> None:
        from daskmr.htmlreport import describe_command

        self._file = file
        self._quiet = quiet
        name = os.path.basename(sys.argv[0])
        self._command = describe_command(
            ["daskmr" if name == "__main__.py" else name, *sys.argv[1:]]
        )

    def tell(self, result: Any) -> None:
        from daskmr.htmlreport import render_report

        self._put(render_report(result, command=self._command))

    def tell_of_failure(self, error: DaskMRError, script: str) -> None:
        from daskmr.htmlreport import render_failure

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
                    click.echo(f"report   {self._file.name}", err=True)


@contextmanager
def _reporting(
    path: str | None, script: str, output: str, input_filter: str | None, quiet: bool
) -> Iterator[_Reporting | None]:
    """Open the report, where one is wanted; a job that fails is reported too."""
    if path is None:
        yield None
        return
    from daskmr.htmlreport import ReportFile

    reporting = _Reporting(ReportFile(path, script, output, input_filter), quiet)
    try:
        yield reporting
    except JobError as error:
        reporting.tell_of_failure(error, script)
        raise


def _write_profile(result: Any, output: str) -> str:
    import marshal

    from daskmr.output import beside

    streamed = output == "-" or not os.path.isfile(output)
    path = beside("daskmr" if streamed else output, ".pstats")
    try:
        with open(path, "wb") as file:
            marshal.dump(result.profile, file)
    except OSError as error:  # the output is in place; this is not worth a failure
        return f"cannot be written to {path}: {error.strerror}"
    return path


@main.command("sample-data", epilog=_EPILOG)
@click.argument("directory", type=click.Path())
@click.option("--size", default="20MB", show_default=True, help="Bytes to write, uncompressed.")
@click.option("--seed", default=0, show_default=True, help="Another seed gives other documents.")
@click.option(
    "--ext",
    default="gz",
    show_default=True,
    help="Formats of the files in turn, of gz, xz, lzma, bz2, zst, log.",
)
@click.option("--bad-lines", default=0.0, show_default=True, help="Share of lines that are bad.")
def sample_data(directory: str, size: str, seed: int, ext: str, bad_lines: float) -> None:
    """Write made-up telemetry documents to DIRECTORY, in the layout.

    The same seed gives the same documents on every machine.
    """
    from daskmr.interruption import signals

    with _exit_codes(verbose=False), signals():
        from dask.utils import parse_bytes

        from daskmr.report import format_bytes
        from daskmr.sample import write_sample

        try:
            count = int(parse_bytes(size))
        except ValueError:
            raise click.BadParameter(f'{size!r} is not a size such as "20MB".') from None
        summary = write_sample(directory, count, seed, tuple(ext.split(",")), bad_lines)
        click.echo(
            f"{summary.records:,} documents in {summary.files:,} files below {directory}: "
            f"{format_bytes(summary.bytes)}, {format_bytes(summary.compressed_bytes)} on disk",
            err=True,
        )


@contextmanager
def _standard_output() -> Iterator[IO[bytes]]:
    """Keep standard output for the result: what a script prints goes to standard error.

    At the level of descriptors, so that it holds in worker processes and C code too.
    """
    if sys.stderr is None:  # closed too; what would be said is said to nobody
        nobody = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nobody, 2)
        sys.stderr = open(2, "w", encoding="utf-8", closefd=False)  # noqa: SIM115
    try:
        kept = os.dup(1)
    except OSError:  # closed, as some supervisors do; a result for it has nowhere to go
        os.dup2(2, 1)  # first: the number 1 must not be given to another file
        kept = os.open(os.devnull, os.O_RDONLY)
    os.set_inheritable(kept, False)
    os.dup2(2, 1)
    if sys.stdout is None:
        sys.stdout = sys.stderr
    with os.fdopen(kept, "wb") as stdout:
        yield stdout


@contextmanager
def _exit_codes(verbose: bool, as_json: bool = False) -> Iterator[None]:
    """End the process with the documented code and one clear paragraph."""
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
        _fail(str(error), details, error.exit_code, as_json)
    except Interrupted as error:
        _fail("Interrupted; nothing was written.", "", error.exit_code, as_json)
    except KeyboardInterrupt:
        _fail("Interrupted; nothing was written.", "", 130, as_json)
    except BrokenPipeError:
        _fail("Standard output was closed before the result was written whole.", "", 1, as_json)


def _fail(message: str, details: str, code: int, as_json: bool = False) -> NoReturn:
    from daskmr.interruption import kill_children

    kill_children()  # those that a script started in this process, too
    text = f"daskmr: {message}\n" if not details else f"{details.rstrip()}\n\ndaskmr: {message}\n"
    if as_json:
        from daskmr.showing import json_error

        text = f"{json_error(message, details, code)}\n"
    with suppress(OSError):
        sys.stderr.write(text.encode("utf-8", "backslashreplace").decode("utf-8"))
    _leave(code)


def _leave(code: int) -> NoReturn:
    """Exit at once: threads that a script started must not hold the process up."""
    from daskmr.interruption import clean_up

    clean_up()
    for stream in (sys.stdout, sys.stderr):
        with suppress(OSError, ValueError):
            stream.flush()
    os._exit(code)
