"""The text of the script; that it runs is tested with the findings."""

from __future__ import annotations

import pytest

from daskmr.data.inspection.contents import Content
from daskmr.data.inspection.fields import best_field, fields_of
from daskmr.data.inspection.names import Guess
from daskmr.run.inspection.findings import DimensionFound, Findings
from daskmr.run.inspection.starter import starter_text

RECORDS = [{"event": "ab"[n % 2], "n": n} for n in range(10)]


def findings(**values: object) -> Findings:
    content = Content("jsonl", "JSON lines", values=tuple(RECORDS))
    fields = tuple(fields_of(RECORDS))
    return Findings(
        given=("my data",), store=(), files=1, bytes=1, complete=True, guess=Guess(), skipped=(),
        compressions={}, content=content, read=1, fields=fields,
        category=best_field(fields, 10), **values,  # type: ignore[arg-type]
    )  # fmt: skip


def test_a_script_names_what_it_counts_and_how_it_is_run() -> None:
    text = starter_text(findings(), "jobs/my job.py")
    assert text.startswith('"""Count the records by event.\n')
    assert "daskmr run 'jobs/my job.py' -d 'my data' -o result.csv" in text
    lines = text.splitlines()
    declared = ['layout = "flat"', 'records = "jsonl"', 'output_columns = ("event", "count")']
    assert [line for line in lines if line in declared] == declared
    assert 'fields = ("event",)  # the value is a tuple of these' in lines
    assert "# The records also have: n (int)" in lines


@pytest.mark.parametrize(
    ("names", "written"),
    [
        (("day", "host"), "context.write((dims.host, event), 1)"),
        (("day", "web-host"), 'context.write((dims["web-host"], event), 1)'),
        (("day", "count"), 'context.write((dims["count"], event), 1)'),
        (("day",), "context.write((dims.day, event), 1)"),
        ((), "context.write(event, 1)"),
    ],
)
def test_the_dimension_that_has_several_values_counts(names: tuple[str, ...], written: str) -> None:
    values = {"a": 1, "b": 2}
    dimensions = tuple(
        DimensionFound(name, "", values if number else {"a": 3})
        for number, name in enumerate(names)
    )
    text = starter_text(findings(dimensions=dimensions), "job.py")
    assert f"    {written}\n" in text
    compile(text, "job.py", "exec")
