"""What stands beside an output is enough to run it again, and to see what has changed."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.jobs import DIRECTORY, file_name, write_tree
from support.jobs import daskmr_in as daskmr

from daskmr import mapreduce
from daskmr.errors import InputError
from daskmr.run.outputs.differences import differences
from daskmr.run.outputs.side_cars import is_meta
from daskmr.run.provenance import read_meta, repeat

SCRIPT = """
import helper
def map(key, dims, value, context):
    context.write(key, helper.number(value))
def reduce(key, values, context):
    context.write(key, sum(values))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1", "b\t2"], ["a\t3"]])
    (tmp_path / "job.py").write_text(SCRIPT)
    (tmp_path / "helper.py").write_text("number = int\n")
    dimension = {"field_name": "reason", "allowed_values": ["saved-session"]}
    (tmp_path / "filter.json").write_text(json.dumps({"dimensions": [dimension]}))
    return tmp_path


RUN = ("run", "job.py", "-d", "data", "-o", "out.txt", "--inline")


def test_a_run_again_is_the_same_from_anywhere(place: Path, tmp_path_factory: Any) -> None:
    daskmr(place, *RUN, "-f", "filter.json", "--max-bad-records", "2.5%")
    before, output = read_meta(str(place / "out.txt.meta.json")), (place / "out.txt").read_text()
    (place / "out.txt").unlink()
    (place / "filter.json").unlink()
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    done = daskmr(elsewhere, "run", "--from", str(place / "out.txt.meta.json"))
    assert (place / "out.txt").read_text() == output
    assert "note:" not in done.stderr
    after = read_meta(str(place / "out.txt.meta.json"))
    assert after["filter"]["dimensions"] == before["filter"]["dimensions"]
    assert before["options"]["max_bad_records"] == "2.5%"
    for name in ("script", "options", "input", "counts", "output", "layout", "versions"):
        assert after[name] == before[name], name


@pytest.mark.slow
def test_options_given_anew_count(place: Path) -> None:
    daskmr(place, *RUN, "--limit-files", "1")
    assert read_meta(str(place / "out.txt.meta.json"))["counts"]["files"] == 1
    again = ("run", "--from", "out.txt.meta.json", "-o")
    assert daskmr(place, *again, "same.txt").stdout == ""
    assert read_meta(str(place / "same.txt.meta.json"))["counts"]["files"] == 1
    daskmr(place, "run", "--from", "out.txt", "-o", "more.txt", "--sample", "1.0")
    assert (place / "more.txt").read_text() == "a\t4\nb\t2\n"
    done = daskmr(place, *again, "-", "--only", f"{DIRECTORY}/{file_name(1)}")
    assert done.stdout == "a\t3\n"


def test_what_differs_is_said(place: Path) -> None:
    daskmr(place, *RUN)
    (place / "job.py").write_text(SCRIPT.replace("sum", "max"))
    (place / "helper.py").write_text("def number(text): return int(text)\n")
    folder = place / "data" / DIRECTORY
    (folder / file_name(7)).write_bytes((folder / file_name(0)).read_bytes())
    (folder / file_name(1)).unlink()
    os.utime(folder / file_name(0), (1, 1))
    done = daskmr(place, "run", "--from", "out.txt.meta.json", "-o", "-")
    assert done.stdout == "a\t1\nb\t2\n"
    for text in (
        f"note: the script {place / 'job.py'} has changed since",
        "note: modules of the script have changed since the earlier run: helper.py",
        f"note: input that is new since the earlier run: {DIRECTORY}/{file_name(7)}",
        f"note: input that is gone since the earlier run: {DIRECTORY}/{file_name(1)}",
        f"note: input that has changed since the earlier run: {DIRECTORY}/{file_name(0)}",
    ):
        assert text in done.stderr


def test_mistakes(place: Path) -> None:
    missing = daskmr(place, "run", "-d", "data", code=2).stderr
    assert "Missing argument 'SCRIPT'. To write one for this data: daskmr inspect data" in missing
    for option in ("--sample=2", "--sample=x", "--limit-files=0", "--sample-by=key", "--only=x"):
        assert daskmr(place, *RUN, option, code=2).stderr
    assert not (place / "out.txt").exists()
    done = daskmr(place, "run", "--from", "absent", code=2)
    assert "absent cannot be read: No such file" in done.stderr
    daskmr(place, *RUN)
    (place / "job.py").unlink()
    assert "job.py" in daskmr(place, "run", "--from", "out.txt.meta.json", code=2).stderr


@pytest.mark.parametrize(
    "part", ["script", "filter", "input", "output", "options", "layout", "sample"]
)
def test_what_is_not_whole(place: Path, part: str) -> None:
    meta = meta_of(place)
    del meta[part]
    (place / "out.txt.meta.json").write_text(json.dumps(meta))
    with pytest.raises(InputError, match="is incomplete"):
        repeat(str(place / "out.txt.meta.json"), None, {}, [])


def test_no_secret_of_a_url_is_kept_and_none_is_given_again(place: Path) -> None:
    secret = "hunter2"
    options = {"endpoint_url": f"https://me:{secret}@host", "spill_dir": f"s3://a/b?sig={secret}"}
    meta = meta_of(place, **options)
    assert secret not in (place / "out.txt.meta.json").read_text()
    assert meta["options"]["endpoint_url"] == "https://***@host"
    given: dict[str, Any] = dict.fromkeys(options)
    _, again, _ = repeat(str(place / "out.txt.meta.json"), None, given, [])
    assert again["endpoint_url"] is None
    assert again["spill_dir"] is None


def meta_of(place: Path, job: Any = None, **options: Any) -> dict[str, Any]:
    result = mapreduce(
        job or place / "job.py", data_dir=place / "data", output=place / "out.txt", inline=True,
        work_dir=place / "work", **options,
    )  # fmt: skip
    assert result.meta_path is not None
    return read_meta(result.meta_path)


def test_what_is_told(place: Path) -> None:
    meta = meta_of(place, aws_key="AKSECRET", aws_secret_key="SECRETSECRET")
    text = (place / "out.txt.meta.json").read_text()
    assert "SECRET" not in text
    assert set(meta["script"]["modules"]) == {"helper.py"}
    assert meta["script"]["path"] == str(place / "job.py")
    assert [file["path"] for file in meta["input"]["list"]] == [
        f"{DIRECTORY}/{file_name(n)}" for n in (0, 1)
    ]
    assert set(meta["input"]["list"][0]) == {"path", "size", "mtime"}
    assert meta["counts"] == {
        "files": 2, "bytes": meta["input"]["bytes"], "records": 3, "values": 3, "keys": 2,
        "lines": 2, "fetched": 0, "fetched_bytes": 0, "spilled": 0,
    }  # fmt: skip
    assert set(meta["versions"]) == {"daskmr", "python", "dask", "distributed", "platform"}
    assert meta["times"]["started"] < meta["times"]["ended"]
    assert set(meta["times"]["seconds"]) >= {"list", "map", "reduce", "write", "total"}
    assert meta["sample"] is None
    assert "clusters" not in meta["options"]


def test_many_files_have_one_digest(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("daskmr.run.provenance._FILES", 1)
    before = meta_of(place)
    assert "list" not in before["input"]
    assert differences(before, meta_of(place)) == ()
    write_tree(place / "data", [["a\t1", "b\t2", "c\t3"]])
    (told,) = differences(before, meta_of(place))
    assert told.startswith("the input differs from the earlier run: now 2 files")


def test_functions_from_python_cannot_be_run_again(place: Path) -> None:
    from daskmr import Job

    meta_of(place, Job(map=lambda key, dims, value, context: None))
    with pytest.raises(InputError, match="from Python"):
        repeat(str(place / "out.txt.meta.json"), None, {}, ())


def test_where_it_runs_is_given_once(place: Path) -> None:
    meta_of(place)
    path = str(place / "out.txt.meta.json")
    given = {"scheduler": "tcp://127.0.0.1:8786"}
    _, options, _ = repeat(path, None, {**given, "inline": False}, ["scheduler"])
    assert not options["inline"]
    assert options["scheduler"] == given["scheduler"]
    assert "delete_data" not in options
    script, options, _ = repeat(path, "other.py", {"inline": False}, [])
    assert (script, options["inline"]) == ("other.py", True)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is not the provenance"),
        ("[]", "is not the provenance"),
        ('{"daskmr": 1}', "is not the provenance"),
        ('{"daskmr": {"meta": 99, "version": "9.9"}}', "was written by daskmr 9.9"),
    ],
)
def test_what_is_no_such_file(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "x.meta.json"
    path.write_text(text)
    assert not is_meta(str(path))
    for name in ("x", "x.meta.json"):
        with pytest.raises(InputError, match=rf"x\.meta\.json {message}"):
            read_meta(str(tmp_path / name))
