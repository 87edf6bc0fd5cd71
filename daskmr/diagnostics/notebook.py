"""The progress of a run in a notebook: a bar below the cell, which is removed at the end."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

from daskmr.diagnostics.collector import Watcher
from daskmr.diagnostics.log import View, describe_progress
from daskmr.diagnostics.pace import Pace, share
from daskmr.history import Look

__all__ = ["NotebookProgress", "progress_in_notebook"]

_AFTER_SECONDS = 1.0  # before a run is shown; small jobs have ended by then
_EVERY_SECONDS = 0.5  # between two updates, which the notebook keeps


class NotebookProgress(View):
    """Shows a run as a bar and a line, and what the script prints as output of the cell.

    - `display`: `IPython.display.display`, or the like.
    """

    def __init__(self, display: Any) -> None:
        super().__init__(sys.stdout)
        self._display = display
        self._handle: Any = None
        self._pace = Pace()
        self._next = time.monotonic() + _AFTER_SECONDS
        self._address = ""

    def dashboard(self, address: str) -> None:
        self._address = address

    def look(self, look: Look) -> None:
        self._pace.add(look)
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + _EVERY_SECONDS
        shown = _Html(render(look, self._pace, self._address))
        if self._handle is None:
            self._handle = self._display(shown, display_id=True)
        else:
            self._handle.update(shown)

    def end(self, result: Any) -> None:
        if self._handle is not None:
            self._handle.update(_Html(""))
            self._handle = None
        super().end(result)


class _Html:
    """What a notebook shows as HTML."""

    def __init__(self, text: str) -> None:
        self._text = text

    def _repr_html_(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return ""


def render(look: Look, pace: Pace, address: str) -> str:
    """Return the HTML of a bar and a line of figures; with `address`, a link to the dashboard."""
    progress = look.progress.get(look.phase)
    done = None if progress is None else share(progress)
    value = "" if done is None else f' value="{done:.3f}"'
    link = ""
    if address:
        link = f' <a href="{html.escape(address)}" target="_blank">dashboard</a>'
    text = html.escape(describe_progress(look, pace))
    return f'<progress max="1"{value} style="width: 20em"></progress> {text}{link}'


def progress_in_notebook() -> Watcher | None:
    """Return a watcher that shows a run in the notebook that this process serves, if it does."""
    ipython: Any = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    if shell is None or getattr(shell, "kernel", None) is None:
        return None
    from IPython.display import display  # type: ignore[import-not-found,unused-ignore]

    return NotebookProgress(display)
