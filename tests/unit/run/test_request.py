"""What a run is asked for is loaded and checked before any work."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.jobs import counting_job

from daskmr.data.sampling import Choice
from daskmr.errors import InputError
from daskmr.run.request import Request, check_request, refuse_network

SCRIPT = "def map(key, dims, value, context): context.write(key, value)\n"


def request(options: dict[str, Any] | None = None, **given: Any) -> Request:
    return check_request(counting_job(), options or {}, choice=Choice(), **given)


def test_paths_become_text(tmp_path: Path) -> None:
    (tmp_path / "filter.json").write_text('{"dimensions": []}')
    checked = request(
        data_dir=tmp_path, output=tmp_path / "out", input_filter=tmp_path / "filter.json"
    )
    assert checked.sources.given == (str(tmp_path),)
    assert checked.output == str(tmp_path / "out")
    assert checked.filter_path == str(tmp_path / "filter.json")
    assert request(input_filter={"dimensions": []}).filter_path is None


def test_a_run_is_local_unless_it_is_told_of_a_cluster() -> None:
    class Client:
        scheduler_info = None

    assert request().is_local
    assert request(inline=True).is_local
    assert not request(client=Client()).is_local
    assert not request({"scheduler": "tcp://127.0.0.1:1"}).is_local


@pytest.mark.parametrize(
    ("options", "given", "message"),
    [
        ({}, {"client": 7}, "client must be a distributed.Client, not 7"),
        ({}, {"data_dir": 7}, "data_dir must be a path or a list of paths, not 7"),
        ({}, {"delete_data": True}, "delete_data needs an output"),
        ({"num_reducers": 1001}, {}, "1,001 reducers are too many"),
        ({"memory_limit": "200MB"}, {}, "too small for spill-bytes"),
        ({"scheduler": "tcp://h:1"}, {"has_credentials": True}, "without exposing them there"),
        (
            {"local_only": True},
            {"output": "s3://bucket/out"},
            "does not use the network, but the output",
        ),
    ],
)
def test_mistakes(options: dict[str, Any], given: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        request(options, **given)


@pytest.mark.parametrize("suffix", ["", ".bad.jsonl", ".meta.json"])
def test_an_output_never_replaces_the_script(tmp_path: Path, suffix: str) -> None:
    script = tmp_path / f"job.py{suffix}"
    script.write_text(SCRIPT)
    with pytest.raises(InputError, match="would replace a file that the job needs"):
        check_request(script, {}, choice=Choice(), output=tmp_path / "job.py")
    assert script.read_text() == SCRIPT


def test_places_that_need_no_network() -> None:
    for url in ("out.txt", "file:///out", "memory://x"):
        refuse_network("output", url)
    with pytest.raises(InputError, match=r"'s3://\*\*\*@bucket/x' is in a store"):
        refuse_network("output", "s3://key:secret@bucket/x")
