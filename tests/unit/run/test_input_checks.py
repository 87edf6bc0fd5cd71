"""Input that is no records fails before any work, and files that grew are compared here."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.jobs import write_tree

from daskmr.config import load_config
from daskmr.data.inputs import Inputs, find_inputs
from daskmr.data.layout import load_schema
from daskmr.errors import JobError
from daskmr.run.input_checks import check_grown, check_opening, describe_grown
from daskmr.tasks.tally import Tally


def inputs_of(folder: Path, files: list[list[str]]) -> Inputs:
    data = write_tree(folder / "data", files)
    return find_inputs(data, load_schema(None), load_config(work_dir=str(folder / "work")))


def test_input_without_any_tab_is_named(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, [[], ['{"a": 1}'] * 3])
    with pytest.raises(JobError, match="JSON"):
        check_opening(inputs, load_config())
    check_opening(inputs, load_config(max_bad_records="100%"))
    check_opening(inputs, load_config(skip_corrupt_files=True))


@pytest.mark.parametrize("files", [[["a\t1"]], [["none"] * 9, ["none", "a\t1"]], []])
def test_one_tab_is_enough(tmp_path: Path, files: list[list[str]]) -> None:
    check_opening(inputs_of(tmp_path, files), load_config())


def test_a_damaged_file_is_left_to_its_task(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, [["none"], ["none"]])
    Path(inputs.locate(inputs.listing.files[0].path)).write_bytes(b"\x1f\x8b\x08 damaged")
    check_opening(inputs, load_config())


def test_a_file_that_grew_on_a_worker_alone_is_another_file(tmp_path: Path) -> None:
    inputs = inputs_of(tmp_path, [["a\t1"]])
    (file,) = inputs.listing.files
    check_grown(inputs, Tally(grown=((file.path, file.size),)))
    with pytest.raises(JobError, match="for the worker that read it") as caught:
        check_grown(inputs, Tally(grown=((file.path, file.size + 1),)))
    assert caught.value.file == file.path


def test_files_that_grew_are_one_note() -> None:
    assert describe_grown(Tally()) == ()
    (note,) = describe_grown(Tally(grown=tuple((f"f{n}", 1) for n in range(5))))
    assert note.startswith("5 files grew while the job ran")
    assert note.endswith("f0, f1, f2 and 2 more")
