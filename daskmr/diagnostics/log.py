"""Write to standard error for a user at a terminal, for a log, or for a program.

`choose` returns the appropriate `View`. It watches the run, and shows the summary at the end.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, TextIO

from daskmr.diagnostics.collector import Watcher
from daskmr.diagnostics.pace import Pace, share
from daskmr.diagnostics.run_state import RunOutline
from daskmr.diagnostics.summary import summarise
from daskmr.diagnostics.terminal import Display
from daskmr.history import Look, Progress
from daskmr.stdio import Ticker, divert
from daskmr.tasks.prints import Rate
from daskmr.tasks.progress import Printed
from daskmr.text import counted, format_bytes, format_clock, printable

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = [
    "InlineTerminal",
    "JsonLog",
    "Terminal",
    "TextLog",
    "View",
    "choose",
    "json_error",
    "notes_to",
]

_FIRST_SECONDS = 5.0  # before the first line on progress
_PAUSES = (5.0, 5.0, 10.0, 10.0, 20.0)  # seconds to the next lines
_LAST_PAUSE = 30.0
_JSON_SECONDS = 5.0
_BURST = 200  # printed lines shown without a limit on their rate
_LINES_PER_SECOND = 20.0
_LONG_NAME = 40  # longest file name before a printed line on a terminal, in characters
# Characters that move the cursor, end a line or change the text direction, and lone surrogates.
_UNSAFE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Fields of a result that are too large, or useless to a program.
_NOT_SUMMARISED = (
    "saved_bad_records", "profile", "history", "described", "_parts", "_job", "_named", "_of",
)  # fmt: skip


class View(Watcher):
    """Shows the output that the script prints and, unless it is `quiet`, the summary."""

    def __init__(self, stream: TextIO | Display, quiet: bool = False) -> None:
        self._stream = stream
        self._quiet = quiet
        self._rate = Rate(_BURST, _LINES_PER_SECOND)
        self._left_out = 0
        self._loading: set[tuple[str, int, str]] = set()

    def start(self) -> None:
        """Show on a terminal that the command is starting; called before the first event."""

    def printed(self, line: Printed) -> None:
        """Show a line that the script printed, unless there are too many."""
        self._left_out += line.left_out
        if not line.text and not line.script and line.left_out:
            return
        if not line.function:  # printed while loading the script, which each worker does
            key = line.script, line.script_line, line.text
            if key in self._loading:
                return
            self._loading.add(key)
        if self._rate.allows():
            self.show_printed(line)
        else:
            self._left_out += 1

    def show_printed(self, line: Printed) -> None:
        """Show one printed line."""
        place = _describe_place(line)
        self.write(f"[{place}] {_safe(line.text)}" if place else _safe(line.text))

    def end(self, result: Any) -> None:
        if self._left_out:
            self.show_left_out(self._left_out)
            self._left_out = 0

    def show_left_out(self, count: int) -> None:
        """Show the number of printed lines that were skipped."""
        self.write(f"daskmr: skipped {count:,} more lines that the script printed too fast.")

    def summary(self, result: Result, profile: str | None) -> None:
        """Show the summary, and the path of the profile if there is one."""
        if not self._quiet:
            self.write(summarise(result, profile or ""))
        elif profile is not None:
            self.write(f"profile  {profile}")

    def write(self, text: str) -> None:
        """Write text and a newline."""
        with contextlib.suppress(OSError):  # the reader may be gone
            self._stream.write(f"{text}\n")
            self._stream.flush()


class TextLog(View):
    """Shows progress in a line from time to time."""

    def __init__(self, stream: TextIO | Display) -> None:
        super().__init__(stream)
        self._pace = Pace()
        self._started = time.monotonic()
        self._next = _FIRST_SECONDS
        self._address = ""
        self._pauses = iter(_PAUSES)
        self._step = ""

    def begin(self, plan: RunOutline) -> None:
        self._step = f"{plan.step}: " if plan.step else ""

    def look(self, look: Look) -> None:
        self._pace.add(look)
        elapsed = time.monotonic() - self._started
        listed = look.progress.get("list", Progress())
        has_begun = look.phase != "list" or listed.files or listed.tasks
        if elapsed < self._next or not has_begun:
            return
        self._next = elapsed + next(self._pauses, _LAST_PAUSE)
        if self._address:
            self.write(f"daskmr: the dashboard is at {self._address}")
            self._address = ""
        self.write(
            f"daskmr: {format_clock(elapsed)} {self._step}{describe_progress(look, self._pace)}"
        )

    def dashboard(self, address: str) -> None:
        self._address = address  # shown with the next line


class InlineTerminal(View):
    """Shows the listing in place, then a line in place, unless a debugger uses the terminal.

    It is removed before the output is written if that goes to the same, `shared` terminal.
    """

    def __init__(self, stream: TextIO, shared: bool = False) -> None:
        self._display = Display(stream)
        super().__init__(self._display)
        self._shared = shared
        self._pace, self._look, self._begun = Pace(), "", False
        self._step = ""
        first = "daskmr: running in this process"
        self._ticker = Ticker(self._display.write, first, self._describe)

    def start(self) -> None:
        self._ticker.start()

    def write(self, text: str) -> None:
        with self._ticker.cleared():
            super().write(text)

    def begin(self, plan: RunOutline) -> None:
        super().begin(plan)
        self._begun, self._step = True, f"{plan.step}: " if plan.step else ""
        self._display.end()

    def look(self, look: Look) -> None:
        if self._begun:
            self._pace.add(look)
            self._look = f"{self._step}{describe_progress(look, self._pace)}"
        else:
            self._display.look(look)

    def phase(self, name: str) -> None:
        if name == "write" and self._shared:
            self._ticker.stop()

    def end(self, result: Any) -> None:
        self._ticker.stop()
        self._display.end()
        super().end(result)

    def _describe(self) -> str | None:
        return self._look if self._begun else None


class Terminal(View):
    """Shows a run in a few lines that are updated in place.

    They are removed before the output is written if that goes to the same, `shared` terminal.
    """

    def __init__(self, stream: TextIO, shared: bool = False) -> None:
        self._display = Display(stream)
        super().__init__(self._display)
        self._shared = shared

    def start(self) -> None:
        self._display.start()

    def begin(self, plan: RunOutline) -> None:
        self._display.begin(plan)

    def look(self, look: Look) -> None:
        self._display.look(look)

    def dashboard(self, address: str) -> None:
        self._display.dashboard(address)

    def phase(self, name: str) -> None:
        if name == "write" and self._shared:
            self._display.end()

    def show_printed(self, line: Printed) -> None:
        place = _describe_place(line, _LONG_NAME)
        dim, plain = ("", "") if "NO_COLOR" in os.environ else ("\x1b[2m", "\x1b[22m")
        marked = f"{dim}[{place}]{plain} " if place else ""
        self.write(f"{marked}{_safe(line.text)}")

    def end(self, result: Any) -> None:
        self._display.end()
        super().end(result)


class JsonLog(View):
    """Writes the events of a run for a program, one JSON object per line."""

    def __init__(self, stream: TextIO, quiet: bool = False) -> None:
        super().__init__(stream, quiet)
        self._pace = Pace()
        self._next = time.monotonic() + _JSON_SECONDS

    def phase(self, name: str) -> None:
        self._put("phase", phase=name)

    def begin(self, plan: RunOutline) -> None:
        self._put("plan", **dataclasses.asdict(plan))

    def look(self, look: Look) -> None:
        pace = self._pace
        pace.add(look)
        if time.monotonic() >= self._next:
            self._next = time.monotonic() + _JSON_SECONDS
            fields = dataclasses.asdict(look)
            del fields["counts"]
            self._put(
                "progress",
                **fields,
                **look.counts.as_dict(),
                records_per_second=pace.records,
                bytes_per_second=pace.bytes,
                seconds_left=pace.left,
            )

    def dashboard(self, address: str) -> None:
        self._put("dashboard", address=address)

    def show_printed(self, line: Printed) -> None:
        fields = line._asdict()
        del fields["left_out"]
        self._put("print", always=True, time=fields.pop("at"), **fields)

    def show_left_out(self, count: int) -> None:
        self._put("left out", always=True, lines=count)

    def note(self, text: str) -> None:
        """Write text that other code wrote to standard error."""
        for line in text.splitlines():
            self._put("note", always=True, text=line)

    def summary(self, result: Result, profile: str | None) -> None:
        names = [field.name for field in dataclasses.fields(result)]
        fields = {name: getattr(result, name) for name in names if name not in _NOT_SUMMARISED}
        fields["steps"] = [step._asdict() for step in result.steps]
        others = result.outputs.items()
        if others:
            fields["outputs"] = {n: {"output": o.output, "lines": o.lines} for n, o in others}
        self._put("summary", **fields, **result.counts.as_dict(), profile=profile)

    def _put(self, event: str, *, always: bool = False, **fields: Any) -> None:
        if always or not self._quiet:
            self.write(_json_line(event, **fields))


def choose(
    stream: TextIO, *, quiet: bool, as_json: bool, inline: bool, output: TextIO | Any
) -> View:
    """Return the view that shows a run on `stream`, which is standard error.

    `output` is standard output if the result goes there, else ``None``.
    """
    if as_json:
        return JsonLog(stream, quiet)
    if quiet:
        return View(stream, quiet)
    if not stream.isatty() or os.environ.get("TERM", "dumb") in ("dumb", "unknown"):
        return TextLog(stream)
    shared = output is not None and output.isatty()
    if inline:
        return InlineTerminal(stream, shared)
    return Terminal(stream, shared)


@contextlib.contextmanager
def notes_to(view: View) -> Iterator[None]:
    """For a JSON log, convert all text that this process prints into notes."""
    if not isinstance(view, JsonLog):
        yield
        return
    restore = divert(("stdout", "stderr"), view.note)
    try:
        yield
    finally:
        restore()


def json_error(message: str, details: str, code: int) -> str:
    """Return the JSON event for a command that has failed."""
    return _json_line("error", message=message, details=details, exit_code=code)


def _json_line(event: str, **fields: Any) -> str:
    return json.dumps({"event": event, "time": time.time(), **fields}, default=str)


def describe_progress(look: Look, pace: Pace) -> str:
    """Describe the progress of a run in one line.

    >>> from daskmr.counts import Counts
    >>> from daskmr.history import Progress
    >>> done = Progress(files=3, files_total=12, bytes=1_500_000, bytes_total=6_000_000)
    >>> describe_progress(Look(0.0, "map", {"map": done}, Counts(records=900)), Pace())
    'map 25 %, 3 of 12 files, 1.5 MB of 6.0 MB, 900 records'
    """
    parts = [look.phase]
    progress = look.progress.get(look.phase)
    if progress is not None and (progress.bytes_total or progress.tasks_total):
        parts[0] += f" {100 * (share(progress) or 0):.0f} %"
        if progress.bytes_total:
            parts.append(f"{progress.files:,} of {counted(progress.files_total, 'file')}")
            parts.append(f"{format_bytes(progress.bytes)} of {format_bytes(progress.bytes_total)}")
    elif progress is not None:
        parts.append(counted(progress.files, "file"))
    figures = [
        (look.records, counted(look.records, "record")),
        (pace.records, f"{pace.records or 0:,.0f} records/s"),
        (pace.bytes, f"{format_bytes(pace.bytes or 0)}/s"),
        (pace.left is not None, f"ETA {format_clock(pace.left or 0)}"),
        (look.bad_records, counted(look.bad_records, "bad record")),
        (look.spilled, f"{format_bytes(look.spilled)} spilled"),
    ]
    return ", ".join([*parts, *(text for known, text in figures if known)])


def _describe_place(line: Printed, longest: int | None = None) -> str:
    """Describe the origin of a printed line: the record or key, and the line of the script."""
    file = line.file
    if longest is not None and len(file) > longest:
        file = f"…{file[-longest:]}"
    about = f"{file}:{line.line}" if file else f"{line.function} {line.key}".strip()
    script = f"{line.script}:{line.script_line}" if line.script else ""
    return _safe(" ".join(part for part in (about, script) if part))


def _safe(text: str) -> str:
    """Escape characters that would disturb a terminal."""
    return _UNSAFE.sub(lambda found: printable(found[0]), text)
