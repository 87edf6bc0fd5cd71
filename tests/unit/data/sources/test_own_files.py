"""What daskmr wrote itself is recognised by its name."""

from __future__ import annotations

import pytest

from daskmr.data.bad_records import BAD_SUFFIX
from daskmr.data.sources.own_files import why_own
from daskmr.run.outputs.side_cars import META_SUFFIX


@pytest.mark.parametrize("name", [f"a{META_SUFFIX}", f"a.gz{BAD_SUFFIX}", "out.txt.pstats"])
def test_side_cars(name: str) -> None:
    assert why_own(name) == "it was written by daskmr"


@pytest.mark.parametrize("name", ["_SUCCESS", "_temporary", "_"])
def test_names_that_begin_with_an_underscore(name: str) -> None:
    assert why_own(name) == "its name begins with _"


@pytest.mark.parametrize("name", ["_day=01", "a_b.log", "meta.json", "x.jsonl", "bad.jsonl.gz"])
def test_other_names(name: str) -> None:
    assert why_own(name) == ""
