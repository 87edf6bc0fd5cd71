"""The report of a run: one HTML file with its pictures, its counts, and where time was lost."""

from __future__ import annotations

import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daskmr._version import __version__
from daskmr.diagnostics.bottlenecks import Loss, find_losses
from daskmr.diagnostics.charts import draw_up
from daskmr.diagnostics.figures import draw
from daskmr.diagnostics.page import (
    PAGE,
    assemble,
    figures_html,
    listed,
    phases_html,
    section,
    table,
    text,
    tiles,
)
from daskmr.diagnostics.summary import summarise
from daskmr.errors import DaskMRError, InputError, JobError
from daskmr.files import AtomicFile, take_access
from daskmr.history import History
from daskmr.signals import on_hard_exit
from daskmr.text import HIDDEN, counted, format_bytes, format_seconds, masked, shell_word

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = ["ReportFile", "describe_command", "render_failure", "render_report", "write_report"]

_ADVICE = "Name another file with --report."
_NAMED = 20  # files of a kind that are named
_SECRET_OPTIONS = ("-k", "--aws-key", "-s", "--aws-secret-key")


def write_report(result: Result, path: str | os.PathLike[str], *, command: str = "") -> None:
    """Write a page about a job that has ended: pictures, counts, where time was lost.

    Parameters
    ----------
    result : Result
        Of ``mapreduce``. Its pictures hold more when the run was watched.
    path : path
        The file to write; it appears whole, or not at all.
    command : str, optional
        How the job was started.

    Raises
    ------
    InputError
        When there can be no such file.
    JobError
        When it cannot be written.
    """
    file = ReportFile(path, result.output)
    file.put(render_report(result, command=command))


class ReportFile:
    """Where a report goes: looked at before there is anything to write.

    Parameters
    ----------
    path : path
    *others : str or None
        Files that the job reads or writes, which a report may not replace.

    Raises
    ------
    InputError
        When there can be no such file.
    """

    def __init__(self, path: str | os.PathLike[str], *others: str | None) -> None:
        self.name = os.fspath(path)
        self._path = os.path.realpath(self.name)
        folder = os.path.dirname(self._path)
        if self.name == "-":
            raise InputError(f"A report is a file, and does not go to standard output. {_ADVICE}")
        if os.path.isdir(self._path):
            raise InputError(f"The report {self.name!r} is a directory. {_ADVICE}")
        if any(other and os.path.realpath(other) == self._path for other in others):
            raise InputError(f"The report {self.name!r} would replace a file of the job. {_ADVICE}")
        if os.path.lexists(self._path) and not _is_page(self._path):
            raise InputError(
                f"The report {self.name!r} would replace a file that is no report. {_ADVICE}"
            )
        if not os.path.isdir(folder):
            raise InputError(f"The report's directory {folder!r} does not exist. Make it first.")
        if not os.access(folder, os.W_OK):
            raise InputError(f"The report cannot be written to {folder!r}. {_ADVICE}")

    def put(self, page: str) -> None:
        """Write the page beside its place, then put it there in one step.

        Raises
        ------
        JobError
            When the disk is full or fails.
        """
        try:
            with AtomicFile(self._path) as file:
                forget = on_hard_exit(file.discard)
                try:
                    if os.path.exists(self._path):
                        take_access(file.file.fileno(), [os.stat(self._path)])
                    file.file.write(page.encode())
                    file.sync()
                    file.commit()
                finally:
                    forget()
        except OSError as error:
            failure = error
        else:
            return
        raise JobError(
            f"The report {self.name!r} cannot be written: {failure.strerror or failure}."
        )


def _is_page(path: str) -> bool:
    """Whether a file is empty, or a page as a report is: what else there is may be the input."""
    if not os.path.isfile(path):
        return False
    try:
        with open(path, "rb") as file:
            return PAGE.encode().startswith(file.read(len(PAGE)))
    except OSError:
        return False


# --- what it says -------------------------------------------------------------------------------


def render_report(result: Result, *, command: str = "") -> str:
    """Return the page about a job that has succeeded."""
    charts = draw_up(result.history, result.bad_reasons)
    pictures, script = figures_html(draw(charts), charts, keep_empty=False)
    name = _name_of(result)
    body = [
        _header(name, result.history, command, f"output {result.output}" if result.output else ""),
        tiles(_figures(result)),
        _time_section(result),
        _left_out(result),
        pictures,
        section("Counters", _counters(result)),
        f'<div class="columns">{section("Plan", _plan(result))}{_settings(result)}</div>',
        section("Summary", f"<pre>{_lines(summarise(result))}</pre>"),
    ]
    return assemble(f"{name} · daskmr", "\n".join(body), [script] if script else [])


def render_failure(error: DaskMRError, name: str, *, command: str = "") -> str:
    """Return the page about a job that has failed: why, and what was seen until then."""
    history = error.history if isinstance(error.history, History) else None
    charts = draw_up(history) if history is not None else {}
    pictures, script = figures_html(draw(charts), charts, keep_empty=False) if charts else ("", "")
    # Without the traceback: it shows lines of the script, and a report may go to others.
    body = [
        _header(f"{name}: failed", history, command, "nothing was written"),
        section("Why", f'<p class="failure">{text(str(error))}</p>'),
        pictures,
    ]
    return assemble(f"{name}: failed · daskmr", "\n".join(body), [script] if script else [])


def _lines(content: str) -> str:
    return "\n".join(text(line) for line in content.splitlines())


def _name_of(result: Result) -> str:
    return result.plan.job if result.plan is not None else "daskmr"


def _header(name: str, history: History | None, command: str, output: str) -> str:
    parts = [f"<h1>{text(name)}</h1>"]
    if history is not None and history.started:
        began = datetime.fromtimestamp(history.started, UTC)
        took = format_seconds(history.ended - history.started)
        parts.append(f"<p>{began:%d %B %Y, %H:%M:%S} UTC, took {text(took)}</p>")
    if output:
        parts.append(f"<p>{text(output)}</p>")
    if command:
        parts.append(f"<p><code>{text(command)}</code></p>")
    parts.append(f"<p>daskmr {text(__version__)}, Python {platform.python_version()}</p>")
    return f"<header>{''.join(parts)}</header>"


def _figures(result: Result) -> Iterator[tuple[str, str, str]]:
    """What is shown large."""
    mapping = result.timings.get("map", 0.0)
    speed = f"{format_bytes(result.bytes / mapping)}/s mapped" if mapping > 0 else ""
    yield "Time", format_seconds(result.timings["total"]), speed
    yield "Read", format_bytes(result.bytes), f"{counted(result.files, 'file')}, as stored"
    yield "Records", f"{result.records:,}", ""
    keys = counted(result.key_count, "key") if result.key_count else ""
    size = f"{format_bytes(result.output_bytes)}" if result.output_bytes else ""
    yield "Lines written", f"{result.lines:,}", ", ".join(filter(None, (keys, size)))
    share = f"{100 * result.bad_records / max(1, result.records):.3g}%"
    yield "Bad records", f"{result.bad_records:,}", share if result.bad_records else ""
    if result.fetched or result.cached:
        cached = f"{result.cached:,} of {result.cached + result.fetched:,} were in the cache"
        yield "Fetched", format_bytes(result.fetched_bytes), cached
    if result.spilled:
        yield "Spilled", format_bytes(result.spilled), "to disk, since removed"


def _time_section(result: Result) -> str:
    losses = find_losses(
        result.history, result.timings, combines=result.combines, values=result.values
    )
    told = "\n".join(map(_loss, losses))
    if told:
        words = f'<h2>Where time was lost</h2><ul class="losses">{told}</ul>'
    else:
        words = '<p class="well">Nothing stands out as lost time.</p>'
    return section("Where the time went", phases_html(result.timings), words)


def _loss(loss: Loss) -> str:
    seconds = f"about {format_seconds(loss.seconds)}" if loss.seconds >= 0.1 else ""
    return (
        f'<li><span class="seconds">{text(seconds)}</span><p><b>{text(loss.title.capitalize())}</b>: '
        f'{text(loss.text)}</p><p class="advice">{text(loss.advice)}</p></li>'
    )


def _left_out(result: Result) -> str:
    worst = sorted(result.bad_files.items(), key=lambda item: (-item[1], item[0]))
    kinds: list[tuple[str, Sequence[str], int]] = [
        ("Corrupt, left out whole", [why for _, why in result.corrupt], len(result.corrupt)),
        (
            "Killed their worker, left out whole",
            [why for _, why in result.poisoned],
            len(result.poisoned),
        ),
        ("Could not be fetched", [why for _, why in result.missing], len(result.missing)),
        ("Not in the layout, skipped", result.skipped, result.skipped_count),
        ("Notes", result.notes, len(result.notes)),
        (
            "Files with bad records",
            [f"{path}: {count:,}" for path, count in worst[:_NAMED]],
            len(worst),
        ),
    ]
    parts = [
        section(f"{title}: {count:,}" if title != "Notes" else title, _some(items, count))
        for title, items, count in kinds
        if count
    ]
    return "\n".join(parts)


def _some(items: Sequence[str], count: int) -> str:
    shown = [text(item) for item in items[:_NAMED]]
    if count > len(shown):
        shown.append(f"and {count - len(shown):,} more")
    return listed(shown)


def _counters(result: Result) -> str:
    rows = [
        (group, name, count)
        for group, counts in result.counters.items()
        for name, count in counts.items()
    ]
    return table(rows, ("group", "counter", "count"))


def _plan(result: Result) -> str:
    plan, tasks = result.plan, result.history.tasks
    rows: list[tuple[str, object]] = []
    if plan is not None:
        rows += [("files", plan.files), ("bytes", format_bytes(plan.bytes))]
        rows += [("partitions", plan.partitions)]
        mapped = [task.bytes for task in tasks if task.phase == "map"]
        if mapped:
            sizes = f"{format_bytes(min(mapped))} to {format_bytes(max(mapped))}"
            rows.append(("of which each has", sizes))
        if plan.buckets:
            rows.append(("buckets", plan.buckets))
    reducers = sum(task.phase == "reduce" for task in tasks)
    if reducers:
        rows.append(("reducers", reducers))
    rows.append(("workers", len({task.worker for task in tasks})))
    return table(rows)


def _settings(result: Result) -> str:
    rows = [
        (name.replace("_", "-"), _setting(value))
        for name, value in sorted(result.settings.items())
        if value is not None and value is not False
    ]
    return section("Settings", table(rows))


def _setting(value: Any) -> object:
    if isinstance(value, Mapping):
        return "…"
    if value is True:
        return "yes"
    if isinstance(value, float):
        return f"{value:g}"
    return value if isinstance(value, int) else masked(str(value))


# --- without secrets ----------------------------------------------------------------------------


def describe_command(arguments: Sequence[str], secrets: Sequence[str] = ()) -> str:
    """Write a command line without the credentials in it.

    Parameters
    ----------
    arguments : sequence of str
    secrets : sequence of str
        The credentials, as far as they are known: they are hidden wherever they are, as short options
        may stand behind one dash.

    Examples
    --------
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
                argument = HIDDEN.join(argument.split(secret))
            shown.append(shell_word(masked(argument)).replace(f"'{HIDDEN}'", HIDDEN))
        hidden = not hidden and not equals and _is_secret(argument)
    return " ".join(shown)


def _is_secret(name: str) -> bool:
    """Whether an option holds a secret; click takes the beginning of a long name, too."""
    if name.startswith("--a"):
        return any(option.startswith(name) for option in _SECRET_OPTIONS)
    return name in _SECRET_OPTIONS
