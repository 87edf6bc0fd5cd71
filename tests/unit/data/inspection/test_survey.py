"""A sample of the input, in each form of -d."""

from __future__ import annotations

import io
import json
import os
import sys
from pathlib import Path

import pytest
from support.store_server import Bucket

from daskmr import InputError
from daskmr.data.inspection.contents import look
from daskmr.data.inspection.survey import Survey, surveyed
from daskmr.data.sources.given import parse_sources
from daskmr.store.source import parse_source


def listed(*given: object) -> Survey:
    with surveyed(parse_sources([os.fspath(each) for each in given])) as survey:  # type: ignore[call-overload]
        return survey


def paths(survey: Survey) -> list[str]:
    return [file.path for file in survey.files]


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in ("a/x.log", "b/c/y.log", "z.log", ".hidden", "_SUCCESS", "out.meta.json"):
        (tmp_path / "data" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "data" / path).write_text("text\n")
    (tmp_path / "list").write_text("data/z.log\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "data"


def test_a_folder(data: Path) -> None:
    survey = listed(data)
    assert paths(survey) == ["a/x.log", "b/c/y.log", "z.log"]
    assert (survey.complete, survey.named, survey.ignored) == (True, False, 3)
    assert survey.files[0].size == 5


def test_an_earlier_output_is_no_part_of_the_sample(data: Path) -> None:
    content = {
        "input": {"data_dir": f"{data}"},
        "output": {"path": f"{data}/b/c/y.log", "bytes": 5},
    }
    (data / "b/c/y.log.meta.json").write_text(json.dumps(content))
    survey = listed("./data")
    assert (paths(survey), survey.ignored) == (["a/x.log", "z.log"], 5)


def test_files_lists_globs_and_several(data: Path) -> None:
    assert (paths(listed("data/z.log")), listed("data/z.log").named) == (["z.log"], True)
    assert (paths(listed("@list")), listed("@list").named) == (["z.log"], True)
    assert paths(listed("data/**/*.log")) == ["a/x.log", "b/c/y.log", "z.log"]
    assert paths(listed("data/a", "data/b")) == ["c/y.log", "x.log"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("none", "does not exist"),
        ("data/*.gz", "matches no file"),
        ("@data/none", "cannot be read"),
    ],
)
def test_what_is_not_there(data: Path, given: str, message: str) -> None:
    with pytest.raises(Exception, match=message):
        listed(given)


def test_a_loop_of_links_ends(data: Path) -> None:
    (data / "a" / "loop").symlink_to(data)
    (data / "nowhere").symlink_to("none")
    survey = listed(data)
    assert not survey.complete
    assert {path.rpartition("/")[2] for path in paths(survey)} == {"x.log", "y.log", "z.log"}


def test_a_directory_that_cannot_be_read(data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scandir = os.scandir

    def refuse(path: str) -> object:
        if path.endswith("/a/"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    survey = listed(data)
    assert survey.unreadable == {f"{data}/a/": "Permission denied"}
    assert not survey.complete
    assert paths(survey) == ["b/c/y.log", "z.log"]


def test_many_files_are_sampled_from_all_directories(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(30):
        (data / "many" / f"{number:02}").mkdir(parents=True)
        for file in range(70):
            (data / "many" / f"{number:02}" / f"{file}.log").touch()
    monkeypatch.setattr("daskmr.data.inspection.survey._MOST_FILES", 100)
    monkeypatch.setattr("daskmr.data.inspection.survey._MOST_DIRECTORIES", 10)
    survey = listed(data / "many")
    assert not survey.complete
    assert len(survey.files) == 10 * 50
    assert {path[:2] for path in paths(survey)} >= {"00", "29"}


def test_standard_input_is_sampled(monkeypatch: pytest.MonkeyPatch) -> None:
    stdin = io.TextIOWrapper(io.BytesIO(b'{"a": 1}\n'))
    monkeypatch.setattr(sys, "stdin", stdin)
    with surveyed(parse_sources(["-"])) as survey:
        assert look(survey.open(survey.files[0]), "stdin").values == ({"a": 1},)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(InputError, match="was empty"), surveyed(parse_sources(["-"])):
        pass


def test_a_store_is_listed_level_by_level_and_read_in_parts(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("daskmr.data.inspection.survey._PROGRESS_SECONDS", -1)
    large = b'{"a": 1}\n' * 500_000
    bucket.put({"d/2024/a.jsonl": large, "d/2025/b.jsonl": b"{}\n", "d/.x": b"", "other/c": b"1"})
    seen: list[tuple[int, int]] = []
    sources, source = parse_sources([]), parse_source(f"{bucket.name}/d")
    with surveyed(sources, source, on_progress=lambda *each: seen.append(each)) as survey:
        assert paths(survey) == ["2024/a.jsonl", "2025/b.jsonl"]
        assert (survey.complete, survey.ignored) == (True, 1)
        assert seen[-1] == (3, 2)
        content = look(survey.open(survey.files[0]), "a.jsonl", 1 << 16)
    assert content.records == "jsonl"
    assert bucket.count("GET", "d/2024/a.jsonl") == 1
    assert bucket.count("GET", "d/2025/b.jsonl") == 0
    assert not [path for path in bucket.listed() if path.startswith("other")]


def test_an_object_is_no_folder(bucket: Bucket) -> None:
    bucket.put({"d/a.csv": b"1,2\n"})
    source = parse_source(f"s3://{bucket.name}/d/a.csv")
    with (
        pytest.raises(InputError, match=f"inspect s3://{bucket.name}/d$"),
        surveyed(parse_sources([]), source),
    ):
        pass


def test_a_slow_listing_ends_with_directories_from_everywhere(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        (data / "many" / f"{number:02}").mkdir(parents=True)
        (data / "many" / f"{number:02}" / "a.log").touch()
    monkeypatch.setattr("daskmr.data.inspection.survey._SECONDS", -1)
    survey = listed(data / "many")
    assert not survey.complete
    assert len(survey.files) == 8
    assert paths(survey)[0] < "15" < "25" < paths(survey)[-1]
