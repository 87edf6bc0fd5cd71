"""The display of a run on a terminal: a few lines at the bottom that are redrawn in place.

Printed lines go above them, and they are removed at the end. Unlike `rich.live`, the display never
hides the cursor, so a killed process leaves a usable terminal, and it survives a change of the
terminal's width.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from daskmr.diagnostics.pace import Pace, share
from daskmr.diagnostics.run_state import RunOutline
from daskmr.history import Look, Progress, WorkerLook
from daskmr.stdio import divert
from daskmr.text import counted, format_bytes, format_clock, printable

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

__all__ = ["Display", "Region", "compose"]

_AFTER_SECONDS = 1.5  # before a run is shown; small jobs have ended by then
_START_SECONDS = 0.7  # before a start is shown, and between two updates
_WIDEST = 120
_MOST_WORKERS = 8
_NAME = 9  # columns
_BAR = 24
_MEMORY_BAR = 10
_STATUS = 7
_WIDE = 100  # columns from which on more details are shown
_REASONS = 5  # for bad records, the most frequent
_FULL, _HIGH = 0.8, 0.6  # shares of a memory limit


class Region:
    """Lines at the bottom of a terminal that are redrawn in place; `size` returns columns and lines."""

    def __init__(self, stream: TextIO, size: Callable[[], tuple[int, int]]) -> None:
        self._stream = stream
        self._size = size
        self._drawn: list[int] = []  # cells of each line on the screen

    def draw(self, lines: Sequence[tuple[str, int]], above: str = "") -> None:
        """Replace the lines on the screen by `lines`, each with its width in cells.

        The complete lines of `above` are written above them, and stay there.
        """
        columns = max(1, self._size()[0])
        # Move the cursor up, including lines that have wrapped because the terminal got narrower.
        up = sum(max(1, -(-cells // columns)) for cells in self._drawn)
        text = [*above.splitlines(), *(line for line, _ in lines)]
        self._drawn = [cells for _, cells in lines]
        start, end = f"\r\x1b[{up}A" if up else "\r", "\x1b[J"
        drawn = "".join(f"{line}\x1b[K\n" for line in text)
        self._stream.write(start + drawn + end)  # a single write avoids flicker
        self._stream.flush()


class Display:
    """Shows the state of a run on a terminal, once it has taken `after` seconds."""

    def __init__(self, stream: TextIO, after: float = _AFTER_SECONDS) -> None:
        self._stream = stream
        self._region = Region(stream, self._size)
        self._after = after
        self._lock = threading.RLock()
        self._started = time.monotonic()
        self._outline: RunOutline | None = None
        self._pace = Pace()
        self._look: Look | None = None
        self._address = ""
        self._console: Console | None = None  # while something is shown
        self._restore: Callable[[], None] | None = None
        self._ended = False
        self._started_up = threading.Event()

    def start(self) -> None:
        """Show that the run is starting, until the first snapshot of it."""
        threading.Thread(target=self._show_start, name="daskmr-start", daemon=True).start()

    def begin(self, outline: RunOutline) -> None:
        """Set the outline of the run."""
        self._outline = outline

    def dashboard(self, address: str) -> None:
        """Set the address of the dashboard."""
        self._address = address

    def look(self, look: Look) -> None:
        """Show a snapshot."""
        self._started_up.set()
        with self._lock:
            self._look = look
            self._pace.add(look)
            if not self._ended and time.monotonic() - self._started > self._after:
                self._show()

    def write(self, text: str) -> None:
        """Write complete lines above the display."""
        with self._lock:
            if self._console is None:
                self._stream.write(text)
                self._stream.flush()
            else:
                self._region.draw(self._lines(), text)

    def flush(self) -> None:
        """Do nothing, because `write` flushes."""

    def end(self) -> None:
        """Remove the display permanently."""
        self._started_up.set()
        with self._lock:
            self._ended = True
            self._hide()

    def _hide(self) -> None:
        if self._console is not None:
            self._region.draw([])
            self._console = None
        if self._restore is not None:
            self._restore()
            self._restore = None

    def _show_start(self) -> None:
        while not self._started_up.wait(_START_SECONDS):
            with self._lock, suppress(OSError):  # the terminal may be gone
                if "pdb" in sys.modules:  # its prompt may be waiting while the script is loaded
                    self._hide()
                    return
                if not self._started_up.is_set():
                    self._show()

    def _show(self) -> None:
        if self._console is None:
            from rich.console import Console

            self._console = Console(
                file=self._stream, legacy_windows=False, highlight=False, emoji=False, markup=False
            )
            names = [n for n in ("stdout", "stderr") if _are_one(getattr(sys, n), self._stream)]
            self._restore = divert(names, self.write)
        self._region.draw(self._lines())

    def _lines(self) -> list[tuple[str, int]]:
        """Render the last snapshot to fit the terminal."""
        columns, height = self._size()
        width = max(20, min(columns - 1, _WIDEST))
        elapsed = time.monotonic() - self._started
        if self._look is None:
            page = _Page(width, _takes_unicode(self._stream))
            return [self._render(page.listing(Progress(), elapsed), width)]
        rows = compose(
            self._look,
            self._outline,
            self._pace,
            elapsed,
            self._address,
            width,
            max(3, height - 2),
            unicode=_takes_unicode(self._stream),
        )
        return [self._render(row, width) for row in rows]

    def _render(self, row: Text, width: int) -> tuple[str, int]:
        assert self._console is not None
        row.truncate(width)
        with self._console.capture() as capture:
            self._console.print(row, width=width + 1, no_wrap=True, overflow="crop", end="")
        return capture.get(), row.cell_len

    def _size(self) -> tuple[int, int]:
        try:
            columns, lines = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return 80, 24
        return columns or 80, lines or 24


def _are_one(stream: Any, terminal: TextIO) -> bool:
    try:
        return os.path.sameopenfile(stream.fileno(), terminal.fileno())
    except (AttributeError, OSError, ValueError):
        return False


def _takes_unicode(stream: TextIO) -> bool:
    try:
        return bool("━╸…".encode(getattr(stream, "encoding", None) or "ascii"))
    except (LookupError, UnicodeError):
        return False


# --- composing ----------------------------------------------------------------------------------


def compose(
    look: Look,
    outline: RunOutline | None,
    pace: Pace,
    elapsed: float,
    dashboard: str,
    width: int,
    height: int,
    unicode: bool = True,
) -> list[Text]:
    """Compose the lines that show a run: at most `height` lines of `width` columns.

    Times are in seconds; `dashboard` is an address or ``""``. Without `unicode`, lines are ASCII.
    """
    page = _Page(width, unicode)
    if outline is None:
        return [page.listing(look.progress.get("list", Progress()), elapsed)]
    rows = [page.row("step", "bold").append(outline.step)] if outline.step else []
    # The last look may be at the step before, which has other phases.
    rows += [page.phase(name, look, outline) for name in outline.phases if name in look.progress]
    rows += [page.speed(look, pace, elapsed), page.bad(look), *page.moved(look)]
    last = [page.row("dashboard", "dim").append(dashboard, "underline")] if dashboard else []
    room = min(_MOST_WORKERS, height - len(rows) - len(last))
    return [*rows, *page.workers(look.workers, room), *last][:height]


class _Page:
    """Formats lines of the same width."""

    def __init__(self, width: int, unicode: bool) -> None:
        self._width = width
        self._unicode = unicode
        self._dots = "…" if unicode else "..."
        self._bar = max(8, min(_BAR, width - 57))

    def row(self, name: str, style: str = "") -> Text:
        """Start a line with its name."""
        from rich.text import Text

        return Text(" ").append(f"{name:<{_NAME}} ", style)

    def listing(self, listed: Progress, elapsed: float) -> Text:
        if not listed.files and not listed.tasks:  # the run may be waiting for a cluster
            return self.row("start").append(format_clock(elapsed), "dim")
        where = f" in {listed.tasks:,} prefixes" if listed.tasks else ""
        row = self.row("list").append(f"{counted(listed.files, 'file')}{where}")
        return row.append(f"   {format_clock(elapsed)}", "dim")

    def phase(self, name: str, look: Look, outline: RunOutline) -> Text:
        progress = look.progress[name]
        done = share(progress) or 0.0
        now = name == look.phase
        row = self.row(name, "bold" if now else "" if done else "dim")
        row.append_text(self._gauge(done, self._bar, "cyan" if done < 1 else "green"))
        row.append(f" {100 * done:3.0f} %  " if done or now else "        ", "" if now else "dim")
        return row.append(_amounts(name, progress, outline), "" if now else "dim")

    def speed(self, look: Look, pace: Pace, elapsed: float) -> Text:
        """Format times and speed in columns of fixed width."""
        left = "" if pace.left is None else f"{look.phase} ETA {format_clock(pace.left)}"
        row = self.row("time").append(f"{format_clock(elapsed):<8}{left:<17}")
        if look.phase == "map" and pace.records is not None and pace.bytes is not None:
            row.append(f"{pace.records:>11,.0f} records/s", "bold")  # of pairs there are no bytes
            row.append(f" {format_bytes(pace.bytes):>9}/s" if pace.bytes else f"{'':12}", "bold")
        if self._width >= _WIDE:
            row.append(f"{look.records:>15,} records", "dim")
        return row

    def bad(self, look: Look) -> Text:
        if not look.bad_records:
            return self.row("bad", "dim").append("none so far", "dim")
        percent = 100 * look.bad_records / max(1, look.records)
        first = islice(look.bad_reasons.items(), _REASONS)
        reasons = ", ".join(f"{n:,} x {printable(reason)}" for reason, n in first)
        row = self.row("bad").append(counted(look.bad_records, "record"), "yellow")
        return row.append(f" ({percent:.2g} %): {reasons}")

    def moved(self, look: Look) -> list[Text]:
        moved = [("fetched", look.fetched_bytes), ("spilled", look.spilled)]
        text = "   ".join(f"{format_bytes(n)} {how}" for how, n in moved if n)
        return [self.row("data").append(text)] if text else []

    def workers(self, workers: Sequence[WorkerLook], room: int) -> list[Text]:
        if len(workers) <= room:
            return list(map(self._worker, workers))
        shown = max(0, room - 1)
        return [*map(self._worker, workers[:shown]), self._others(workers[shown:])]

    def _worker(self, worker: WorkerLook) -> Text:
        used = worker.memory / worker.limit if worker.limit else 0.0
        name = f"worker {worker.name}" if len(worker.name) < 3 else worker.name
        if len(name) > _NAME:  # such as an address, of which the end is distinctive
            name = self._dots + name[len(self._dots) - _NAME :]
        color = "red" if used > _FULL else "yellow" if used > _HIGH else "green"
        row = self.row(name).append_text(self._gauge(used, _MEMORY_BAR, color))
        row.append(f" {format_bytes(worker.memory):>8}")
        if self._width >= _WIDE:
            limit = f"of {format_bytes(worker.limit)}" if worker.limit else ""
            row.append(f" {limit:<12}", "dim")
        row.append("  ")
        if worker.status != "running":
            row.append(f"{worker.status:<{_STATUS}}", "yellow")
        else:
            row.append(f"{worker.phase or 'idle':<{_STATUS}}", "" if worker.phase else "dim")
        return row.append(_fit(worker.file, self._width - row.cell_len, self._dots), "dim")

    def _others(self, workers: Sequence[WorkerLook]) -> Text:
        busy = sum(1 for worker in workers if worker.phase)
        paused = sum(1 for worker in workers if worker.status != "running")
        text = f"and {len(workers):,} more workers: {busy:,} at work"
        text += f", {paused:,} not running" if paused else ""
        return self.row("").append(text, "dim")

    def _gauge(self, done: float, cells: int, color: str) -> Text:
        """Draw a bar with a resolution of half a cell."""
        from rich.text import Text

        full, half, empty = ("━", "╸", "─") if self._unicode else ("#", "", ".")
        halves = int(min(1.0, done) * cells * 2)
        bar = full * (halves // 2) + (half if halves % 2 else "")
        if self._unicode:
            return Text(bar, color).append(empty * (cells - len(bar)), "bright_black")
        return Text(f"{bar:{empty}<{cells}}")


_NOUNS = {"map": "partition", "merge": "merge", "reduce": "bucket", "write": "key"}


def _amounts(name: str, progress: Progress, outline: RunOutline) -> str:
    """Format how much of a phase is done in columns of fixed width."""
    if name == "list":
        return f"{counted(progress.files, 'file')}, {format_bytes(progress.bytes)}"
    if progress.files_total:
        files = _of(progress.files, progress.files_total, "file")
        return f"{files}, {_bytes_of(progress.bytes, progress.bytes_total)}"
    if not progress.tasks_total:
        return ""
    noun = _NOUNS[name] if name != "write" or "reduce" in outline.phases else "part"
    return _of(progress.tasks, progress.tasks_total, noun)


def _of(done: int, total: int, noun: str) -> str:
    return f"{done:>{len(f'{total:,}')},} of {counted(total, noun)}"


def _bytes_of(done: int, total: int) -> str:
    """Format two sizes in the unit of the total.

    >>> _bytes_of(1_234_567, 89_900_000)
    ' 1.2 of 89.9 MB'
    """
    of, unit = format_bytes(total).split()
    exponent = ("B", "kB", "MB", "GB", "TB").index(unit)
    return f"{done / 1000**exponent:>{len(of)}.{min(1, exponent)}f} of {of} {unit}"


def _fit(text: str, cells: int, dots: str) -> str:
    """Cut the middle out of a long text, because both ends of a path matter."""
    from rich.cells import cell_len, set_cell_size

    text = printable(text)
    if cell_len(text) <= cells:
        return text
    if cells <= len(dots) + 2:
        return set_cell_size(text, max(0, cells))
    tail = (cells - len(dots)) // 3
    head = set_cell_size(text, cells - len(dots) - tail)
    return head + dots + set_cell_size(text[::-1], tail)[::-1]
