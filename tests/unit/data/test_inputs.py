"""The input of a job: a data dir, a store, or both; with a cache, without the network."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from support.layouts import DIMS, LAST, NAME, allow

from daskmr.config import Config, load_config
from daskmr.data.inputs import find_inputs
from daskmr.data.sampling import Choice
from daskmr.errors import InputError


def settings(tmp_path: Path, **changes: object) -> Config:
    return dataclasses.replace(load_config(), work_dir=str(tmp_path / "work"), **changes)


def put(root: Path, path: str, text: str = "k\t1\n") -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_nothing_to_read_from_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Give --data-dir .-d. or --bucket"):
        find_inputs(None, allow(), settings(tmp_path))


def test_a_data_dir_alone(tmp_path: Path) -> None:
    put(tmp_path / "data", LAST + NAME)
    inputs = find_inputs(tmp_path / "data", allow("idle"), settings(tmp_path))
    assert [file.dims[:4] for file in inputs.listing.files] == [DIMS]
    assert inputs.root == str(tmp_path / "data")
    assert inputs.remote is inputs.open_cache() is inputs.state() is None
    assert inputs.locate(LAST + NAME) == str(tmp_path / "data" / LAST / NAME)
    assert inputs.delete_copies([LAST + NAME]) == 0
    inputs.sweep()
    assert (tmp_path / "data" / LAST / NAME).exists()


def test_store_and_data_dir_together(tmp_path: Path) -> None:
    put(tmp_path / "data", LAST + NAME, "local\t1\n")
    put(tmp_path / "store", LAST + NAME, "elsewhere\t1\n")
    put(tmp_path / "store", LAST + "1.2.x.log")
    config = settings(tmp_path, bucket=f"file://{tmp_path}/store")
    inputs = find_inputs(tmp_path / "data", allow(), config)
    remote = {file.path: file.is_remote for file in inputs.listing.files}
    assert remote == {LAST + "1.2.x.log": True, LAST + NAME: False}
    assert inputs.locate(LAST + NAME) == str(tmp_path / "data" / LAST / NAME)
    state = inputs.state()
    assert state is not None
    assert [file.path for file in state.absent] == [LAST + "1.2.x.log"]
    chosen = find_inputs(tmp_path / "data", allow(), config, choice=Choice(only=(LAST + NAME,)))
    assert [file.path for file in chosen.listing.files] == [LAST + NAME]


def test_without_the_network_the_record_counts(tmp_path: Path) -> None:
    put(tmp_path / "store", LAST + NAME)
    config = settings(tmp_path, bucket=f"file://{tmp_path}/store")
    offline = dataclasses.replace(config, local_only=True)
    with pytest.raises(InputError, match="Nothing was ever fetched from"):
        find_inputs(None, allow(), offline)
    with pytest.raises(InputError, match="which --no-cache disables"):
        find_inputs(None, allow(), dataclasses.replace(offline, cache=False))
    find_inputs(None, allow(), config)
    with pytest.raises(InputError, match="Run once without --local-only"):
        find_inputs(None, allow(), offline)
    incomplete = dataclasses.replace(offline, allow_incomplete=True, allow_empty=True)
    inputs = find_inputs(None, allow(), incomplete)
    assert inputs.listing.files == ()
    assert inputs.notes


def test_without_a_cache_nothing_is_kept(tmp_path: Path) -> None:
    put(tmp_path / "store", LAST + NAME)
    config = settings(tmp_path, bucket=f"file://{tmp_path}/store", cache=False)
    inputs = find_inputs(None, allow(), config)
    assert inputs.remote is not None
    assert inputs.open_cache() is None
    assert inputs.locate(LAST + NAME) == f"{inputs.remote.source.url}/{LAST}{NAME}"
