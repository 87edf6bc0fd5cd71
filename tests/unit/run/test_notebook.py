"""A result in a notebook, and in an interactive session."""

from __future__ import annotations

from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from support.results import result

from daskmr import Job, mapreduce


class Cells(HTMLParser):
    """The texts of an HTML table's cells, row by row."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.feed(html)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.open.append(tag)
        if tag in ("tr", "caption"):
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data
        else:
            self.rows[-1].append(data)


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, value)


def run(tree: Callable[..., Path], reduce: Any, lines: list[str], **options: Any) -> Any:
    root = tree([lines])
    job = Job(map=emit, reduce=reduce)
    return mapreduce(job, data_dir=root, inline=True, work_dir=root.parent / "w", **options)


def first(key: Any, values: Any, context: Any) -> None:
    context.write(key, values[0])


def test_figures_of_an_output_file() -> None:
    rows = Cells(result()._repr_html_()).rows
    assert ["read", "200,000 records in 1,234 files, 5.6 MB as stored"] in rows
    assert ["wrote", "3,001 lines for 3,000 keys to out.txt, 45.0 kB"] in rows
    assert ["time", "3.0 s (list 0.1, map 2.2)"] in rows
    assert ["bad records", "0"] in rows


def test_what_was_left_out() -> None:
    odd = result(
        bad_records=7,
        bad_reasons={"<script>": 4, "ValueError": 3},
        bad_records_path="out.bad.jsonl",
        corrupt=(("a", "why"),),
        missing=(("b", "why"), ("c", "why")),
        skipped_count=3,
        notes=("a & b",),
        spilled=1500,
        fetched=2,
        fetched_bytes=10,
    )
    html = odd._repr_html_()
    assert "<script>" not in html
    rows = Cells(html).rows
    for row in (
        *(["", "4 x <script>"], ["", "saved in out.bad.jsonl"], ["corrupt, skipped", "1 file"]),
        *(["missing, skipped", "2 files"], ["note", "a & b"], ["spilled", "1.5 kB"]),
        *(["not in the layout", "3 paths"], ["fetched", "2 objects, 10 B"]),
    ):
        assert row in rows


def test_the_first_rows_are_shown_and_all_can_be_had(tree: Callable[..., Path]) -> None:
    done = run(tree, first, [f"<b>{n:02}\t\udcff{'x' * 200}" for n in range(30)])
    rows = Cells(done._repr_html_()).rows
    assert ["the first 10 of 30"] in rows
    assert ["key", "value"] in rows
    assert rows[-1][0] == "<b>09"
    assert len(rows[-1][1]) < 100
    assert len(list(done)) == 30
    done._repr_html_().encode()


def test_keys_and_values_of_other_types(tree: Callable[..., Path]) -> None:
    def reduce(key: str, values: Any, context: Any) -> None:
        context.write((key, 1), {"n": 2.5})
        context.writeline("a line")

    rows = Cells(run(tree, reduce, ["k\tv"])._repr_html_()).rows
    assert rows[-2:] == [["(('k', 1), {'n': 2.5})"], ["a line"]]


def test_a_result_without_rows(tree: Callable[..., Path]) -> None:
    done = run(tree, lambda key, values, context: None, ["k\tv"])
    assert done._repr_html_().count("<table>") == 1


def test_as_text(tree: Callable[..., Path]) -> None:
    assert repr(result()) == (
        "<Result: 200,000 records in 1,234 files, 0 bad records; 3,001 lines to out.txt; 3.0 s>"
    )
    many = result(bad_files={f"file {n}": 1 for n in range(10_000)}, output=None)
    assert "in memory" in repr(many)
    assert len(repr(many)) < 200
