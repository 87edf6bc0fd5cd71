"""The command ``daskmr run``."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from daskmr.cli.console import EPILOG, SAVED_INPUT, exit_codes, leave
from daskmr.cli.lock import held
from daskmr.cli.options import GroupedCommand, Script, job_options, repeated
from daskmr.errors import JobError
from daskmr.stdio import standard_output
from daskmr.text import describe_command, printable, shell_path, shell_word

if TYPE_CHECKING:
    from daskmr.diagnostics.log import View
    from daskmr.run.result import Result

__all__ = ["run"]

_GC_THRESHOLD = 200_000  # new objects between two garbage collections


@click.command(cls=GroupedCommand, epilog=EPILOG, short_help="Run a job script.")
@click.argument("script", type=click.Path(), required=False, metavar="SCRIPT...")
@job_options()
@click.pass_context
def run(
    context: click.Context,
    /,
    script: Script | None,
    verbose: bool,
    log_format: str,
    lock: str | None,
    lock_wait: str | None,
    **options: Any,
) -> None:
    """Run the job SCRIPT over the files in --data-dir or --bucket that --input-filter allows.

    SCRIPT defines map(key, dims, value, context), and optionally reduce(key, values, context),
    combine(key, values, context) and the hooks setup_map(context), finish_map(context),
    setup_reduce(context) and finish_reduce(context); or steps = [Job(...), ...]. With several scripts,
    each maps the pairs that the one before has written. `daskmr new` writes a script to start from.
    """
    import gc

    from daskmr.cluster.forkserver import prewarm
    from daskmr.signals import kill_children, signals

    gc.disable()  # imports create no garbage, and collecting it takes a tenth of a second

    as_json = log_format == "json"
    rerun = partial(_rerun_command, context)
    with (
        standard_output() as stdout,
        exit_codes(verbose, rerun, as_json),
        signals(),
        held(lock, lock_wait, _command(options), quiet=options["quiet"] or as_json),
    ):
        script, options = repeated(context, script, options)
        # As early as possible, so that the forkserver imports while this process does.
        prewarm(processes=_starts_workers(options))
        run_one = partial(_run, script, stdout, as_json=as_json)
        days, code = options.pop("for_each_day"), 0
        if days is None:
            run_one(ended=_summarise, **options)
        else:
            from daskmr.cli.each_day import run_each_day

            code = run_each_day(run_one, days, options, verbose=verbose, as_json=as_json)
        kill_children()  # the forkserver, and processes that a script has started
        leave(code)  # inside the block, because the result is complete and signals no longer matter


def _starts_workers(options: dict[str, Any]) -> bool:
    """Guess whether workers will be started on this machine, without importing Dask."""
    variables = ("DASK_SCHEDULER_ADDRESS", "DASK_DASKMR__SCHEDULER", "DASK_DASKMR__CLUSTER")
    elsewhere = options["inline"] or options["scheduler"] or options["cluster"]
    elsewhere = elsewhere or options["if_changed"] or options["for_each_day"]  # may start none
    return not (elsewhere or any(os.environ.get(name) for name in variables))


def _run(
    script: Script,
    stdout: IO[bytes],
    *,
    output: str,
    quiet: bool,
    as_json: bool,
    ended: Callable[[View, Result, str | None], object],
    **options: Any,
) -> None:
    """Run a job, and call `ended` with the view that shows it, its result and the path of its profile."""
    import gc

    from daskmr.data.dimensions.dates import fill, parse_date
    from daskmr.diagnostics.log import choose, notes_to

    day, given = parse_date(options["date"]), output
    output, path = fill(given, day, "--output"), fill(options.pop("report"), day, "--report")
    options["date"] = day

    # Before the rest is imported, since it shows that the run is starting.
    streamed, inline = stdout if output == "-" else None, options["inline"]
    show = choose(sys.stderr, quiet=quiet, as_json=as_json, inline=inline, output=streamed)
    show.start()

    import dask.config

    # Read when distributed is imported. Its logs of ending workers are for its developers, and this
    # command reports a lost scheduler itself.
    quiet_logs = {"distributed": "critical", "distributed.client": "critical"}
    dask.config.set(logging=dask.config.get("logging", {}) | quiet_logs)

    from daskmr.run.mapreduce import mapreduce

    gc.freeze()
    gc.set_threshold(_GC_THRESHOLD)  # starting a cluster imports more modules
    gc.enable()

    command = _command(options)
    read = (options["input_filter"], options["schema"], options["layout"])
    scripts = script if isinstance(script, list) else [script]
    inputs = (*scripts, *(source for source in read if isinstance(source, str)))
    inputs += (*options["files"].values(), getattr(options["params"], "path", ""))
    with (
        notes_to(show),
        _ending(show),
        _reporting(path, inputs, output, quiet, command) as report,
    ):
        result = mapreduce(script, output=given, stdout=stdout, watcher=show, **options)
        stdout.flush()
        if not result.up_to_date:
            report(result)
    is_profiled = options["profile"] and not result.up_to_date
    ended(show, result, _write_profile(result, output) if is_profiled else None)


def _summarise(show: View, result: Result, profile: str | None) -> None:
    show.summary(result, profile)


def _command(options: dict[str, Any]) -> str:
    """Return the command line of this process, without credentials."""
    program = os.path.basename(sys.argv[0])
    words = ["daskmr" if program == "__main__.py" else program, *sys.argv[1:]]
    secrets = (options["aws_key"], options["aws_secret_key"])
    return describe_command(words, [secret for secret in secrets if secret])


@contextmanager
def _ending(show: View) -> Iterator[None]:
    """Remove the display of a run that fails, also before it is watched."""
    try:
        yield
    except BaseException:
        show.end(None)
        raise


# --- the report and the profile -------------------------------------------------------------------


@contextmanager
def _reporting(
    path: str | None,
    inputs: tuple[str, ...],
    output: str,
    quiet: bool,
    command: str,
) -> Iterator[Callable[[Result], None]]:
    """Yield a function that writes the report of a result to `path`; also report a failed job.

    - `inputs`: files that the job reads, which the report must not replace; the first one is the
      script.
    - `command`: the command line, to show in the report.
    """
    if path is None:
        yield lambda result: None
        return
    from daskmr.diagnostics.html import ReportFile, render_failure, render_report
    from daskmr.job.loading import Code
    from daskmr.run.outputs.side_cars import side_car_paths

    beside = (*side_car_paths(output), _profile_path(output)) if output != "-" else ()
    file = ReportFile(path, output, *beside, *(i for i in inputs if not isinstance(i, Code)))

    def put(page: str, written: Iterable[str | None] = ()) -> None:
        with suppress(OSError):
            try:
                file.put(page, written)
            except JobError as error:  # not a failure of the run, because the output is in place
                click.echo(f"daskmr: {error}", err=True)
            else:
                if not quiet:
                    click.echo(f"report   {printable(file.name)}", err=True)

    try:
        yield lambda result: put(
            render_report(result, command=command),
            (each.output for each in result.outputs.values()),
        )
    except JobError as error:
        name = "code" if isinstance(inputs[0], Code) else Path(inputs[0]).stem
        put(render_failure(error, name, command=command))
        raise


def _write_profile(result: Result, output: str) -> str:
    import marshal

    path = _profile_path(output if os.path.isfile(output) or os.path.isdir(output) else "-")
    try:
        with open(path, "wb") as file:
            marshal.dump(result.profile, file)
    except OSError as error:  # not a failure of the run, because the output is in place
        return f"cannot be written to {path}: {error.strerror}"
    return path


def _profile_path(output: str) -> str:
    from daskmr.data.output import beside

    return beside("daskmr" if output == "-" else output, ".pstats")


# --- running a file again -------------------------------------------------------------------------


def _uses(script: Any, text: str) -> bool:
    try:
        return text in Path(script or "").read_text("utf-8", "replace")
    except (OSError, TypeError, ValueError):
        return False


def _rerun_command(context: click.Context, file: str) -> str:
    """Return the command line that runs one file again without workers, quoted for a shell.

    Its result goes to standard output, or nowhere if a terminal cannot show it, so that it does not
    replace any file. It contains no credentials.
    """
    from daskmr.config import load_config
    from daskmr.data.writers import choose_format

    words = context.command_path.split()
    for parameter in context.command.params:
        name = parameter.name or ""
        source, value = context.get_parameter_source(name), context.params.get(name)
        if source is not ParameterSource.COMMANDLINE or not getattr(parameter, "rerun", True):
            continue
        if isinstance(parameter, click.Argument):
            words += map(shell_path, value if isinstance(value, list) else [str(value)])
        elif isinstance(parameter, click.Option) and parameter.is_flag:
            words.append(parameter.opts[-1])
        else:
            for each in value if isinstance(value, tuple) else (value,):
                if each == "-":  # it can be read only once
                    each, file = SAVED_INPUT, ""
                words += [parameter.opts[-1], shell_word(str(each))]
    given = context.params["output_format"]
    settings = load_config(output_format=given)
    output_format = choose_format(context.params["output"], settings.output_format)
    if given or output_format.name != "text":
        words += ["--output-format", output_format.name]
    nowhere = output_format.is_binary or _uses(context.params.get("script"), "write_to(")
    words += ["--inline", "-o", "/dev/null" if nowhere else "-"]
    if file:
        words += ["--only", shell_word(file)]
    return " ".join(words)
