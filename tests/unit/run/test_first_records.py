"""The first records of the input, in this process."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from support.jobs import counting_job

from daskmr.config import load_config
from daskmr.data.inputs import find_inputs
from daskmr.data.layout import load_schema
from daskmr.data.readers.records import RecordFormat
from daskmr.run.first_records import first_records
from daskmr.run.trial import Trial, text_of


def test_records_are_read_in_order_with_their_numbers(tree: Callable[..., Path]) -> None:
    root = tree([["[1]", "", "[2]"], ["[3]"]])
    config = load_config()
    inputs = find_inputs(str(root), load_schema(), config, to_read=False)
    trial = Trial(counting_job(), RecordFormat("jsonl"))
    found = list(first_records(inputs, config, trial))
    assert [(number, text_of(record)) for _, _, number, record in found] == [
        (1, "[1]"),
        (3, "[2]"),
        (1, "[3]"),
    ]
    assert found[0][1].startswith(str(root))
