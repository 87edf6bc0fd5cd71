"""Show the runs of a history: as rows of a table, and as a page with curves by run."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

from daskmr._version import __version__
from daskmr.text import counted, format_bytes, format_seconds, printable

__all__ = ["PastRun", "past_runs", "render_history", "table_of"]

_DIGEST = 8  # characters shown of a digest
# The palette of Okabe and Ito, in tones that can be seen on white and on black.
_COLOURS = ("#0080c6", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#a0a0a0")
_FAILED = "#d55e00"
_HEIGHT = 170  # pixels
_LABELS = 8  # dates on an axis
_GREY = "#8c8c8c"


@dataclass(frozen=True, slots=True)
class PastRun:
    """A run of the history, with what the table and the page show of it.

    - `bad`: the share of bad records in percent; ``None`` if that is not known.
    - `report`: the absolute path of its report, if that is still the one of this run.
    """

    when: str
    outcome: str
    seconds: float
    counts: Mapping[str, Any]
    bad: float | None
    output: str
    lines: int | None
    digest: str
    changed: str
    error: str
    report: str | None


def past_runs(
    entries: Sequence[Mapping[str, Any]], changes: Sequence[Sequence[str]]
) -> list[PastRun]:
    """Convert the entries of a history, the newest first, and what changed in each."""
    reports: set[str] = set()
    return [_run_of(entry, what, reports) for entry, what in zip(entries, changes, strict=False)]


def _run_of(entry: Mapping[str, Any], changed: Sequence[str], reports: set[str]) -> PastRun:
    counts, output = entry.get("counts", {}), entry["output"]
    records, bad = counts.get("records", 0), entry.get("bad_records", {}).get("count", 0)
    report = entry.get("report")
    # A later run has replaced the report of an earlier one.
    is_there = report is not None and report not in reports and os.path.isfile(report)
    reports.add(report or "")
    return PastRun(
        when=datetime.fromisoformat(entry["started"]).strftime("%Y-%m-%d %H:%M"),
        outcome=entry["outcome"],
        seconds=entry["seconds"],
        counts=counts,
        bad=min(100.0, 100 * bad / max(1, records)) if counts else None,
        output=output["path"],
        lines=output.get("lines"),
        digest=(output.get("sha256") or "")[:_DIGEST],
        changed="; ".join(changed),
        error=(entry.get("error") or "").replace("\n", " "),
        report=report if is_there else None,
    )


def table_of(runs: Sequence[PastRun]) -> tuple[list[str], list[list[str]]]:
    """Return the names of the columns, and the cells of each run; times are in UTC."""
    folder = os.path.commonpath([r.output for r in runs if r.output.startswith("/")] or ["/"])
    columns = {
        "when (UTC)": [run.when for run in runs],
        "took": [format_seconds(run.seconds) for run in runs],
        "outcome": [run.outcome for run in runs],
        "files": [_figure(run, "files") for run in runs],
        "read": [
            format_bytes(run.counts["bytes"]) if "bytes" in run.counts else "" for run in runs
        ],
        "reused": [_figure(run, "reused") for run in runs],
        "records": [_figure(run, "records") for run in runs],
        "bad": ["" if run.bad is None else f"{run.bad:.3g}%" for run in runs],
        "lines": ["" if run.lines is None else f"{run.lines:,}" for run in runs],
        "sha256": [run.digest for run in runs],
        "output": [_name_of(run.output, folder) for run in runs],
        "changed": [run.changed for run in runs],
    }
    if not any(run.counts.get("reused") for run in runs):
        del columns["reused"]
    if len({run.output for run in runs}) < 2:
        del columns["output"]
    rows = [list(map(printable, row)) for row in zip(*columns.values(), strict=True)]
    return list(columns), rows


def _figure(run: PastRun, name: str) -> str:
    return f"{run.counts[name]:,}" if name in run.counts else ""


def _name_of(output: str, folder: str) -> str:
    """Return the path of an output below the folder of all of them."""
    if not output.startswith("/"):
        return output
    folder = os.path.dirname(folder) if output.rstrip("/") == folder else folder
    return os.path.relpath(output, folder) + "/" * output.endswith("/")


# --- the page -------------------------------------------------------------------------------------


def render_history(runs: Sequence[PastRun], place: str, folder: str) -> str:
    """Render a page of runs, the newest first.

    - `place`: the work dir, or the output.
    - `folder`: that of the page, to which the links to reports are relative.
    """
    from daskmr.diagnostics.page import draw, render

    head, rows = table_of(runs)
    pictures = {name: figure for name, _, figure in _figures(runs)}
    script, places = draw(pictures) if pictures else ("", {})
    done = [run for run in runs if run.outcome == "done"]
    links = [_link(run.report, folder) for run in runs]
    return render(
        "history.html",
        scripts=[script] if script else [],
        title=f"Runs of {place} · daskmr",
        heading=f"Runs of {place}",
        daskmr_version=__version__,
        span=f"{counted(len(runs), 'run')}, from {runs[-1].when} to {runs[0].when} UTC",
        runs=len(runs),
        unfinished=len(runs) - len(done),
        last=done[0] if done else None,
        figures=[(name, unit, places[name]) for name, unit, _ in _figures(runs) if name in places],
        head=head,
        rows=list(zip(rows, (run.error for run in runs), links, strict=True)),
        right={"took", "files", "read", "reused", "records", "bad", "lines"},
    )


def _link(report: str | None, folder: str) -> str:
    return "" if report is None else quote(os.path.relpath(report, folder))


def _figures(runs: Sequence[PastRun]) -> list[tuple[str, str, Any]]:
    """Return the curves that have at least one point: name, unit and figure."""
    ordered = list(enumerate(runs[::-1], 1))
    curves = {
        ("Duration", "seconds"): {n: run.seconds for n, run in ordered},
        ("Records", ""): {
            n: run.counts["records"] for n, run in ordered if "records" in run.counts
        },
        ("Bad records", "%"): {n: run.bad for n, run in ordered if run.bad is not None},
    }
    return [
        (name, unit, _curve(dict(ordered), values, name))
        for (name, unit), values in curves.items()
        if values
    ]


def _curve(runs: Mapping[int, PastRun], values: Mapping[int, float], name: str) -> Any:
    """Draw values by run, with a line for each output; runs that did not succeed are crosses."""
    from daskmr.diagnostics.plotting import add_hover, columns_of, new_figure

    made = new_figure(_HEIGHT)
    made.name = name
    made.x_range.update(start=0.5, end=len(runs) + 0.5)
    made.y_range.update(start=0.0, end=max(values.values()) * 1.08 or 1.0)
    step = max(1, -(-len(runs) // _LABELS))
    made.xaxis[0].ticker = ticks = list(range(1, len(runs) + 1, step))
    made.xaxis[0].major_label_overrides = {n: runs[n].when for n in ticks}
    made.ygrid.update(grid_line_color=_GREY, grid_line_alpha=0.3)
    outputs = list(dict.fromkeys(run.output for run in runs.values()))
    names = "x y when took output"
    for number, output in enumerate(outputs):
        colour = _COLOURS[number % len(_COLOURS)]
        for has_succeeded in (True, False):
            rows = [
                (n, y, runs[n].when, format_seconds(runs[n].seconds), _label(output))
                for n, y in values.items()
                if runs[n].output == output and (runs[n].outcome == "done") is has_succeeded
            ]
            if not rows:
                continue
            source = _source(columns_of(names, rows))
            marks = {"source": source, "size": 6 if has_succeeded else 9}
            if has_succeeded:
                legend = {"legend_label": _label(output)} if len(outputs) > 1 else {}
                made.line("x", "y", source=source, line_color=colour, line_width=2, **legend)
                dots = made.scatter("x", "y", color=colour, **marks)
            else:
                dots = made.scatter("x", "y", color=_FAILED, marker="x", line_width=2, **marks)
            rest = (("took", "@took"), ("output", "@output"))
            add_hover(made, dots, ("run", "@when"), (name, "@y{0,0.[000]}"), *rest)
    if made.legend:
        made.add_layout(made.legend[0], "above")
        made.legend.label_text_color = _GREY
    return made


def _source(columns: Any) -> Any:
    from bokeh.models import ColumnDataSource

    return ColumnDataSource(columns)


def _label(output: str) -> str:
    # Bokeh would interpret these as a formula, and load MathJax from the network.
    name = os.path.basename(output.rstrip("/")) or output
    return printable(name).replace("$$", "$ $").replace("\\", "∖")
