"""The progress of a run in a notebook."""

from __future__ import annotations

import sys
import traceback
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from daskmr.counts import Counts
from daskmr.diagnostics import notebook
from daskmr.diagnostics.notebook import NotebookProgress, progress_in_notebook
from daskmr.errors import JobError
from daskmr.history import Look, Progress
from daskmr.tasks.progress import Printed

HALF = Progress(files=1, files_total=2, bytes=5, bytes_total=10)
LOOK = Look(0.0, "map", {"map": HALF}, Counts(records=7))


class Display:
    """Stands for `IPython.display.display`."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    def __call__(self, shown: Any, display_id: bool) -> Display:
        assert display_id
        self.update(shown)
        return self

    def update(self, shown: Any) -> None:
        self.shown.append(shown._repr_html_())


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Display:
    monkeypatch.setattr(notebook, "_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(notebook, "_EVERY_SECONDS", 0.0)
    return Display()


def test_a_bar_that_is_removed_at_the_end(display: Display) -> None:
    shown = NotebookProgress(display)
    shown.look(LOOK)
    shown.dashboard("http://127.0.0.1:8787/status?a=<b>")
    shown.look(LOOK)
    shown.end(None)
    first, second, last = display.shown
    assert 'value="0.500"' in first
    assert "1 of 2 files" in first
    assert 'href="http://127.0.0.1:8787/status?a=&lt;b&gt;"' in second
    assert last == ""


def test_a_short_run_shows_nothing() -> None:
    display = Display()
    shown = NotebookProgress(display)
    shown.look(LOOK)
    shown.end(None)
    assert display.shown == []


def test_printed_lines_are_output_of_the_cell(
    display: Display, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = dict.fromkeys(Printed._fields, "")
    line = Printed(
        **{**fields, "text": "hello", "function": "map", "left_out": 0, "script_line": 1}
    )  # type: ignore[arg-type]
    NotebookProgress(display).printed(line)
    assert "hello" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        (None, type(None)),
        (SimpleNamespace(), type(None)),
        (SimpleNamespace(kernel=object()), NotebookProgress),
    ],
)
def test_only_a_notebook_gets_one(
    monkeypatch: pytest.MonkeyPatch, shell: Any, expected: type
) -> None:
    ipython, display = ModuleType("IPython"), ModuleType("IPython.display")
    ipython.get_ipython = lambda: shell  # type: ignore[attr-defined]
    display.display = Display()  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", display)
    assert type(progress_in_notebook()) is expected
    monkeypatch.delitem(sys.modules, "IPython")
    assert progress_in_notebook() is None


def test_errors_show_the_frames_of_the_user_alone() -> None:
    from daskmr import mapreduce

    try:
        mapreduce(42)
    except Exception as caught:
        error: Any = caught
    lines = "\n".join(error._render_traceback_())
    assert __file__ in lines
    assert "pipeline.py" not in lines
    assert "InputError: A job is the path of a script" in lines
    failed: Any = JobError("map failed.", "  File job.py, line 1\nValueError: no")
    assert failed._render_traceback_() == [
        "JobError: map failed.", "  File job.py, line 1", "ValueError: no",
    ]  # fmt: skip


def test_python_shows_the_frames_of_the_user_and_the_record(tmp_path: Path) -> None:
    from daskmr import mapreduce

    (tmp_path / "a.jsonl").write_text('{"type": 1}\n')

    def count(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(value["typ"], 1)

    with pytest.raises(JobError) as failed:
        mapreduce(map=count, data_dir=tmp_path, layout="flat", records="jsonl", inline=True)
    shown = "".join(traceback.format_exception(failed.value))
    assert 'context.write(value["typ"], 1)' in shown
    assert shown.endswith("""The record: '{"type": 1}'\n""")
    assert shown.count("The record: ") == 1
