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
from daskmr.cli.options import GroupedCommand, Script, job_options, repeated
from daskmr.errors import DaskMRError, JobError
from daskmr.stdio import standard_output
from daskmr.text import printable, shell_path, shell_word

if TYPE_CHECKING:
    from daskmr.diagnostics.log import View
    from daskmr.run.past.summary_file import Summary
    from daskmr.run.result import Result

__all__ = ["run"]

_GC_THRESHOLD = 200_000  # new objects between two garbage collections


class _RunCommand(GroupedCommand):
    """The command, with a summary of its mistakes, too."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; if that fails, write the summary if there is an option for it."""
        words = [*args]
        try:
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            parser = self.make_parser(ctx)
            parser.ignore_unknown_options = True
            with suppress(click.UsageError, DaskMRError):
                given = parser.parse_args(words)[0]
                secrets = (given.get("aws_key"), given.get("aws_secret_key"))
                path, script = given.get("summary_json"), given.get("script")
                with _summarised(path, script, given.get("output") or "-", secrets):
                    raise error
            raise


@click.command(cls=_RunCommand, epilog=EPILOG, short_help="Run a job script.")
@click.argument("script", type=click.Path(), required=False, metavar="SCRIPT...")
@job_options()
@click.pass_context
def run(
    context: click.Context, /, script: Script | None, verbose: bool, log_format: str, **options: Any
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
    with standard_output() as stdout, exit_codes(verbose, rerun, as_json), signals():
        path, secrets = options.pop("summary_json"), (options["aws_key"], options["aws_secret_key"])
        with _summarised(path, script, options["output"], secrets) as summary:
            script, options = repeated(context, script, options)
            # As early as possible, so that the forkserver imports while this process does.
            prewarm(processes=_starts_workers(options))
            _run(script, stdout, summary, as_json=as_json, **options)
        kill_children()  # the forkserver, and processes that a script has started
        leave(0)  # inside the block, because the result is complete and signals no longer matter


def _starts_workers(options: dict[str, Any]) -> bool:
    """Guess whether workers will be started on this machine, without importing Dask."""
    variables = ("DASK_SCHEDULER_ADDRESS", "DASK_DASKMR__SCHEDULER", "DASK_DASKMR__CLUSTER")
    elsewhere = options["inline"] or options["scheduler"] or options["cluster"]
    return not (elsewhere or any(os.environ.get(name) for name in variables))


def _run(
    script: Script,
    stdout: IO[bytes],
    summary: Summary | None,
    *,
    output: str,
    quiet: bool,
    as_json: bool,
    **options: Any,
) -> None:
    import gc

    from daskmr.diagnostics.log import choose, notes_to

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

    path, secrets = options.pop("report"), (options["aws_key"], options["aws_secret_key"])
    files = _files_of_job(script, output, options)
    if summary is not None:
        summary.scripts, summary.output = _paths_of(script), output
        summary.protect(*files, path)
    with (
        notes_to(show),
        _ending(show),
        _reporting(path, files, _name_of(script), quiet, secrets) as report,
    ):
        how = {"output": output, "report": path, "stdout": stdout, "watcher": show}
        result = mapreduce(script, **how, **options)
        stdout.flush()
        report(result)
    if summary is not None:
        summary.succeeded(result)
    profile = _write_profile(result, output) if options["profile"] else None
    show.summary(result, profile)


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
    files: tuple[str, ...],
    name: str,
    quiet: bool,
    secrets: tuple[str | None, ...],
) -> Iterator[Callable[[Result], None]]:
    """Yield a function that writes the report of a result to `path`; also report a failed job.

    - `files`: files of the job, which the report must not replace.
    - `name`: the name of the job.
    - `secrets`: values that the report must not show.
    """
    if path is None:
        yield lambda result: None
        return
    from daskmr.diagnostics.html import describe_command, render_failure, render_report
    from daskmr.diagnostics.report_file import ReportFile

    file = ReportFile(path, *files)
    program = os.path.basename(sys.argv[0])
    words = ["daskmr" if program == "__main__.py" else program, *sys.argv[1:]]
    command = describe_command(words, [secret for secret in secrets if secret])

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
        put(render_failure(error, name, command=command))
        raise


@contextmanager
def _summarised(
    path: str | None, script: Script | None, output: str, secrets: tuple[str | None, ...]
) -> Iterator[Summary | None]:
    """Write the summary to `path` at the end of the block; if that fails, say so."""
    if path is None:
        yield None
        return
    from daskmr.run.past.summary_file import Summary, summarised

    summary = Summary(path, () if script is None else _paths_of(script), output, secrets)
    with summarised(summary):
        yield summary
    if summary.problem:  # not a failure of the run
        with suppress(OSError):
            click.echo(f"daskmr: {summary.problem}", err=True)


def _files_of_job(script: Script, output: str, options: dict[str, Any]) -> tuple[str, ...]:
    """Return the files that the job reads or writes, which no report may replace."""
    from daskmr.run.outputs.side_cars import side_car_paths

    read = (options["input_filter"], options["schema"], options["layout"])
    files = (*_paths_of(script), *(source for source in read if isinstance(source, str)))
    files += (*options["files"].values(), getattr(options["params"], "path", ""))
    beside = (*side_car_paths(output), _profile_path(output)) if output != "-" else ()
    return (output, *beside, *files)


def _paths_of(script: Script) -> tuple[str, ...]:
    """Return the paths of the scripts; none for `Code`."""
    from daskmr.job.loading import Code

    scripts = script if isinstance(script, list) else [script]
    return tuple(each for each in scripts if not isinstance(each, Code))


def _name_of(script: Script) -> str:
    return next((Path(path).stem for path in _paths_of(script)), "code")


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
