"""Write the report of a run: an HTML file with its pictures, its counts, and where time was lost."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daskmr._version import __version__
from daskmr.diagnostics.bottlenecks import find_losses
from daskmr.diagnostics.page import embed, render
from daskmr.diagnostics.pictures import draw_charts
from daskmr.diagnostics.plotting import COLOURS, Chart
from daskmr.diagnostics.report_file import ReportFile
from daskmr.diagnostics.summary import (
    bad_groups,
    bad_share,
    counter_rows,
    describe_steps,
    skipped_input,
    summarise,
    worst_files,
)
from daskmr.errors import DaskMRError
from daskmr.history import History
from daskmr.text import HIDDEN, format_bytes, format_seconds, masked, shell_word

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = ["describe_command", "render_failure", "render_report", "write_report"]

_NAMED = 20  # items shown of a list
_SECRET_OPTIONS = ("-k", "--aws-key", "-s", "--aws-secret-key")


def write_report(result: Result, path: str | os.PathLike[str], *, command: str = "") -> None:
    """Write an HTML report of a completed run: pictures, counts, and where time was lost.

    Parameters
    ----------
    result : Result
        The result of the run; pictures show more if the run was watched.
    path : path
        The file, which is written atomically.
    command : str, optional
        The command that started the job.

    Raises
    ------
    InputError
        If `path` cannot be a report.
    JobError
        If it cannot be written.
    """
    ReportFile(path, result.output).put(render_report(result, command=command))


def render_report(result: Result, *, command: str = "") -> str:
    """Render the report of a job that has succeeded."""
    history, timings = result.history, result.timings
    paths = [result.output, *(other.output for other in result.outputs.values())]
    return _render(
        result.plan.job if result.plan is not None else "daskmr",
        draw_charts(history, result.bad_reasons),
        command=command,
        header=[*_times(history), *(f"output {path}" for path in paths if path)],
        failure="",
        result=result,
        bad_share=bad_share(result),
        phases={name: max(0.0, took) for name, took in timings.items() if name != "total"},
        colours=COLOURS,
        losses=find_losses(history, timings, combines=result.combines, values=result.values),
        lists=_lists(result),
        named=_NAMED,
        counters=counter_rows(result),
        plan=list(_plan(result)),
        settings=_settings(result),
        summary=summarise(result).splitlines(),
    )


def render_failure(error: DaskMRError, name: str, *, command: str = "") -> str:
    """Render the report of a failed job: the reason, and pictures of the time until then."""
    history = error.history if isinstance(error.history, History) else None
    # Without the traceback, because it shows lines of the script, and a report may be passed on.
    return _render(
        f"{name}: failed",
        draw_charts(history) if history is not None else {},
        command=command,
        header=[*_times(history), "nothing was written"],
        failure=str(error),
    )


def _render(heading: str, charts: Mapping[str, Chart | None], **values: Any) -> str:
    sections, script = embed(charts, keep_empty=False)
    return render(
        "report.html",
        scripts=[script] if script else [],
        title=f"{heading} · daskmr",
        heading=heading,
        daskmr_version=__version__,
        python_version=platform.python_version(),
        pictures=sections,
        **values,
    )


def _times(history: History | None) -> Iterator[str]:
    if history is not None and history.started:
        began = datetime.fromtimestamp(history.started, UTC)
        took = format_seconds(history.ended - history.started)
        yield f"{began:%d %B %Y, %H:%M:%S} UTC, took {took}"


def _lists(result: Result) -> list[tuple[str, Sequence[str], int]]:
    """Return lists, each with its heading, its first items, and their total number."""
    bad = [f"{path}: {count:,}" for path, count in worst_files(result, _NAMED)]
    files, notes = len(result.bad_files), result.notes
    titled = ("Notes", notes, len(notes)), (f"Files with bad records: {files:,}", bad, files)
    steps = describe_steps(result)
    groups = [(f"Bad records: {head}", some, count) for head, some, count in bad_groups(result)]
    params = result.plan.params if result.plan is not None else ()
    of_job = [("Parameters", params, len(params)), ("Steps", steps, len(steps))]
    return [*of_job, *skipped_input(result), *titled, *groups]


def _plan(result: Result) -> Iterator[tuple[str, object]]:
    plan = result.plan  # that of the first step
    tasks = [task for task in result.history.tasks if task.step == 1]
    if plan is not None:
        yield "files", plan.files
        yield "bytes", format_bytes(plan.bytes)
        yield "partitions", plan.partitions
        mapped = [task.bytes for task in tasks if task.phase == "map"]
        if mapped:
            yield "partition size", f"{format_bytes(min(mapped))} to {format_bytes(max(mapped))}"
        if plan.buckets:
            yield "buckets", plan.buckets
    reducers = sum(task.phase == "reduce" for task in tasks)
    if reducers:
        yield "reducers", reducers
    yield "workers", len({task.worker for task in result.history.tasks})


def _settings(result: Result) -> list[tuple[str, object]]:
    return [
        (name.replace("_", "-"), _setting(value))
        for name, value in sorted(result.settings.items())
        if value is not None and value is not False
    ]


def _setting(value: object) -> object:
    if isinstance(value, Mapping):
        return "…"  # it may contain secrets
    if isinstance(value, float):
        return f"{value:g}"
    return "yes" if value is True else value if isinstance(value, int) else masked(str(value))


def describe_command(arguments: Sequence[str], secrets: Sequence[str] = ()) -> str:
    """Format a command line, with credentials hidden.

    `secrets` are known credentials, which are hidden everywhere, because several short options may
    share a dash.

    >>> describe_command(["daskmr", "run", "job.py", "-s", "secret", "--aws-key=key", "-kkey"])
    'daskmr run job.py -s *** --aws-key=*** -k***'
    >>> describe_command(["daskmr", "run", "job.py", "-qssecret"], ["secret"])
    "daskmr run job.py '-qs***'"
    """
    shown = []
    hidden = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hidden:
            shown.append(HIDDEN)
        elif equals and _is_secret(name):
            shown.append(f"{name}={HIDDEN}")
        elif argument[:2] in ("-k", "-s") and len(argument) > 2:
            shown.append(f"{argument[:2]}{HIDDEN}")
        else:
            for secret in filter(None, secrets):
                argument = argument.replace(secret, HIDDEN)
            shown.append(shell_word(masked(argument)).replace(f"'{HIDDEN}'", HIDDEN))
        hidden = not hidden and not equals and _is_secret(argument)
    return " ".join(shown)


def _is_secret(name: str) -> bool:
    """Check whether an option takes a secret; click also accepts abbreviated long options."""
    if name.startswith("--a"):
        return any(option.startswith(name) for option in _SECRET_OPTIONS)
    return name in _SECRET_OPTIONS
