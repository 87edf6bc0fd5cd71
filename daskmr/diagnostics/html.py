"""Write the report of a run: an HTML file with its pictures, its counts, and where time was lost."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daskmr._version import __version__
from daskmr.diagnostics.bottlenecks import find_losses
from daskmr.diagnostics.page import PREFIX, embed, render
from daskmr.diagnostics.pictures import draw_charts
from daskmr.diagnostics.plotting import COLOURS, Chart
from daskmr.diagnostics.summary import (
    bad_groups,
    bad_share,
    counter_rows,
    describe_steps,
    skipped_input,
    summarise,
    worst_files,
)
from daskmr.errors import DaskMRError, InputError, JobError
from daskmr.files import AtomicFile, take_access
from daskmr.history import History
from daskmr.signals import on_hard_exit
from daskmr.text import format_bytes, format_seconds, masked

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = ["ReportFile", "render_failure", "render_report", "write_report"]

_ADVICE = "Name another file with --report."
_NAMED = 20  # items shown of a list


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


class ReportFile:
    """The file of a report, checked before the run.

    Raises `InputError` if `path` cannot be a report. It must not replace any of the `others`, which
    are files of the job.
    """

    def __init__(self, path: str | os.PathLike[str], *others: str | None) -> None:
        self.name = os.fspath(path)
        self._path = os.path.realpath(self.name)
        folder = os.path.dirname(self._path)
        if self.name == "-":
            raise InputError(f"A report cannot be written to standard output. {_ADVICE}")
        problem = ""
        if os.path.isdir(self._path):
            problem = "is a directory"
        elif any(other and os.path.realpath(other) == self._path for other in others):
            problem = "would replace a file of the job"
        elif os.path.lexists(self._path) and not _is_page(self._path):
            problem = "would replace a file that is not a report"
        if problem:
            raise InputError(f"The report {self.name!r} {problem}. {_ADVICE}")
        if not os.path.isdir(folder):
            raise InputError(f"The report's directory {folder!r} does not exist. Create it first.")
        if not os.access(folder, os.W_OK):
            raise InputError(f"The report cannot be written to {folder!r}. {_ADVICE}")

    def put(self, page: str, written: Iterable[str | None] = ()) -> None:
        """Write the page atomically.

        - `written`: outputs of the run, whose names were not known before.
        Raises `JobError` if the disk is full or fails, or if it would replace one of those.
        """
        if any(path and os.path.realpath(path) == self._path for path in written):
            raise JobError(
                f"The report {self.name!r} was not written, because the job has written an output to it. {_ADVICE}"
            )
        try:
            with AtomicFile(self._path) as file, ExitStack() as stack:
                stack.callback(on_hard_exit(file.discard))
                if os.path.exists(self._path):
                    take_access(file.file.fileno(), [os.stat(self._path)])
                file.file.write(page.encode())
                file.sync()
                file.commit()
            return
        except OSError as error:
            reason = error.strerror or error
        raise JobError(f"The report {self.name!r} cannot be written: {reason}.")


def _is_page(path: str) -> bool:
    """Check whether a file is empty or an HTML page; anything else may be input, and must be kept."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return PREFIX.startswith(file.read(len(PREFIX)))
    except OSError:
        return False


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
