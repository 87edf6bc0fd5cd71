"""A job over two files, for the tests of the commands."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.jobs import write_tree

JOB = """
print("loaded")
def map(key, dims, value, context):
    context.write(key, int(value))
def combine(key, values, context):
    context.write(key, sum(values) / len(values))
reduce = combine
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1", "a\t2", "a\t6"], ["b\t3"]])
    (tmp_path / "job.py").write_text(JOB)
    (tmp_path / "none.json").write_text(
        '{"dimensions": [{"field_name": "reason", "allowed_values": "other"}]}'
    )
    return tmp_path
