"""The end of a run: too many bad records, and which input files may be deleted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.jobs import counting_job, write_tree

from daskmr.config import load_config
from daskmr.counts import Counts
from daskmr.data.inputs import Inputs, find_inputs
from daskmr.data.sampling import EVERYTHING, Choice
from daskmr.errors import JobError
from daskmr.run.outputs.commit import check_bad_records, delete_input
from daskmr.run.request import Request, check_request
from daskmr.tasks.tally import Tally


@pytest.mark.parametrize(
    ("limit", "bad", "passes"),
    [(2, 2, True), (2, 3, False), (0, 1, False), ("50%", 5, True), ("50%", 6, False)],
)
def test_the_limit_of_bad_records(limit: Any, bad: int, passes: bool) -> None:
    reasons = {"KeyError": 1, "ValueError": bad - 1} if bad > 1 else {"x": 1}
    tally = Tally(Counts(records=10, bad_reasons=reasons))
    config = load_config(max_bad_records=limit)
    if passes:
        check_bad_records(tally, config)
        return
    with pytest.raises(JobError, match=f"^{bad} of 10 records are bad .*--max-bad-records allows"):
        check_bad_records(tally, config)


@pytest.mark.parametrize(
    ("reason", "is_foreign"),
    [
        ("no field idd", True),
        ("the field user is not a scalar", True),
        ("not JSON", True),
        ("no tab in the line", True),
        ("IndexError", False),
    ],
)
def test_records_that_may_be_of_another_format(reason: str, is_foreign: bool) -> None:
    tally = Tally(Counts(records=9, bad_reasons={reason: 8, "KeyError": 1}))
    with pytest.raises(JobError) as failure:
        check_bad_records(tally, load_config())
    assert failure.value.is_foreign is is_foreign


def test_no_limit() -> None:
    check_bad_records(
        Tally(Counts(records=9, bad_reasons={"x": 9})), load_config(max_bad_records="100%")
    )


@pytest.fixture
def inputs(tmp_path: Path) -> Inputs:
    request = request_of(tmp_path, delete_data=False)
    data = write_tree(tmp_path / "data", [["a\t1"]] * 5)
    return find_inputs(data, request.schema, request.config)


def request_of(folder: Path, delete_data: bool = True, choice: Choice = EVERYTHING) -> Request:
    return check_request(
        counting_job(),
        {"work_dir": str(folder / "work")},
        choice=choice,
        output=folder / "out",
        delete_data=delete_data,
    )


def test_only_files_that_were_mapped_and_are_unchanged_are_deleted(
    tmp_path: Path, inputs: Inputs
) -> None:
    corrupt, poisoned, unsaved, changed, good = (file.path for file in inputs.listing.files)
    Path(inputs.locate(changed)).write_bytes(b"other")
    tally = Tally(
        corrupt=((corrupt, "damaged"),),
        poisoned=((poisoned, "died"),),
        unsaved_files=frozenset([unsaved]),
    )
    count, notes = delete_input(request_of(tmp_path), inputs, tally, None)
    assert count == 1
    assert [
        p for p in (corrupt, poisoned, unsaved, changed, good) if Path(inputs.locate(p)).exists()
    ] == [
        corrupt,
        poisoned,
        unsaved,
        changed,
    ]
    (note,) = notes
    assert note == f"1 input file not deleted, changed since listed: {changed}"


@pytest.mark.parametrize(
    "request_", [{"delete_data": False}, {"choice": Choice(share=0.5, by="key")}]
)
def test_nothing_is_deleted_unasked_or_of_a_sample_of_keys(
    tmp_path: Path, inputs: Inputs, request_: dict[str, Any]
) -> None:
    assert delete_input(request_of(tmp_path, **request_), inputs, Tally(), None) == (0, ())
    assert all(Path(inputs.locate(file.path)).exists() for file in inputs.listing.files)
