"""What stands beside an output is of the same run as the output, at every moment."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from support.jobs import write_tree
from support.store_server import Bucket

from daskmr import Job, mapreduce
from daskmr.errors import InputError, JobError
from daskmr.run.outputs.side_cars import SideCars, side_car_paths
from daskmr.run.provenance import read_meta
from daskmr.run.result import Result


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, int(value))


def total(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values))


def run(folder: Path, data: str = "data", **options: Any) -> Result:
    return mapreduce(
        Job(map=emit, reduce=total),
        data_dir=folder / data,
        output=options.pop("output", folder / "out.txt"),
        inline=True,
        work_dir=options.pop("work_dir", folder / "work"),
        **options,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1", "b\t2", "a\tfirst"]])
    write_tree(tmp_path / "other", [["a\t5", "b\tsecond"]])
    write_tree(tmp_path / "good", [["a\t7"]])
    return tmp_path


def sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("name", ["out.txt", "out.gz", "out.bz2", "out.xz", "out.zst"])
def test_the_digest_is_that_of_the_file(folder: Path, name: str) -> None:
    result = run(folder, output=folder / name)
    meta = read_meta(f"{folder / name}.meta.json")
    assert meta["output"] == {
        "path": str(folder / name),
        "format": "text",
        "lines": 2,
        "bytes": (folder / name).stat().st_size,
        "sha256": sha256(folder / name),
    }
    assert (result.meta_path, result.sha256) == (
        f"{folder / name}.meta.json",
        sha256(folder / name),
    )


def test_what_is_stale_goes(folder: Path) -> None:
    run(folder)
    assert {"out.txt", "out.txt.bad.jsonl", "out.txt.meta.json"} <= set(os.listdir(folder))
    run(folder, "good", meta=False)
    assert [name for name in os.listdir(folder) if name.startswith("out")] == ["out.txt"]


def test_what_holds_data_of_the_output_is_as_private(folder: Path) -> None:
    output = folder / "out.txt"
    output.touch(0o600)
    run(folder)
    names = ["out.txt", "out.txt.bad.jsonl", "out.txt.meta.json"]
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in names] == [0o600] * 3
    output.chmod(0o644)  # what stands beside it keeps its own
    run(folder)
    assert [stat.S_IMODE((folder / name).stat().st_mode) for name in names] == [0o644, 0o600, 0o600]


def test_two_runs_to_one_output(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The second begins and ends while the first is about to put its own in place."""
    put_in_place, runs = SideCars.commit, []

    def overtaken(self: SideCars) -> None:
        if not runs:
            runs.append("first")
            run(folder, "other", work_dir=folder / "other-work")
            assert (folder / "out.txt").read_text() == "a\t5\n"
        put_in_place(self)

    monkeypatch.setattr(SideCars, "commit", overtaken)
    result = run(folder)
    assert (folder / "out.txt").read_text() == "a\t1\nb\t2\n"
    assert read_meta(str(folder / "out.txt.meta.json"))["output"]["sha256"] == result.sha256
    assert [record["line"] for record in map(json.loads, bad_lines(folder))] == [3]
    assert sorted(p.name for p in folder.iterdir() if p.is_file()) == [
        "out.txt",
        "out.txt.bad.jsonl",
        "out.txt.meta.json",
    ]


def bad_lines(folder: Path) -> list[str]:
    return (folder / "out.txt.bad.jsonl").read_text().splitlines()


def test_runs_that_end_together_leave_what_belongs_together(folder: Path) -> None:
    def job(name: str) -> subprocess.Popen[bytes]:
        script = folder / f"{name}.py"
        script.write_text(
            "def map(key, dims, value, context):\n"
            "    context.write(key, int(value))\n"
            "def reduce(key, values, context):\n"
            f"    context.write({name!r}, sum(values))\n"
        )
        options = ("-d", folder / "data", "-o", folder / "out.txt", "-w", folder / f"{name}-work")
        command = [sys.executable, "-m", "daskmr", "run", script, *options, "--inline", "-q"]
        return subprocess.Popen(list(map(str, command)))

    for process in [job(name) for name in ("one", "two", "three")]:
        assert process.wait(60) == 0
    meta = read_meta(str(folder / "out.txt.meta.json"))
    assert meta["output"]["sha256"] == sha256(folder / "out.txt")
    assert len(bad_lines(folder)) == 1


@pytest.mark.parametrize("suffix", [".bad.jsonl", ".meta.json"])
def test_what_cannot_be_put_beside_the_output_does_not_deny_the_output(
    folder: Path, monkeypatch: pytest.MonkeyPatch, suffix: str
) -> None:
    (folder / "out.txt").write_text("old")
    replace = os.replace

    def refuse(source: str, target: str) -> None:
        if target.endswith(suffix):
            raise OSError(errno.EIO, "Input/output error")
        replace(source, target)

    monkeypatch.setattr("os.replace", refuse)
    with pytest.raises(
        JobError, match=r"the output .*out\.txt of this run is in place\."
    ) as caught:
        run(folder)
    assert "replaced no output" not in str(caught.value)
    assert suffix in str(caught.value)
    assert (folder / "out.txt").read_text() == "a\t1\nb\t2\n"


def test_a_job_that_fails_leaves_all_as_it_was(folder: Path) -> None:
    run(folder)
    before = {path.name: path.read_bytes() for path in folder.glob("out*")}
    with pytest.raises(JobError):
        run(folder, "other", max_bad_records=0)
    assert {path.name: path.read_bytes() for path in folder.glob("out*")} == before


def test_a_file_that_is_not_daskmrs_is_left_alone(folder: Path) -> None:
    own = folder / "out.txt.meta.json"
    own.write_text('{"mine": true}')
    with pytest.raises(InputError, match=r"daskmr did not write it.*--no-meta"):
        run(folder)
    assert not (folder / "out.txt").exists()
    run(folder, meta=False)
    assert own.read_text() == '{"mine": true}'


def test_each_name_has_its_own_beside_it() -> None:
    odd, cut = os.fsdecode(b"o\xff.txt"), "é" * 127
    assert side_car_paths(odd) == (f"{odd}.bad.jsonl", f"{odd}.meta.json")
    assert side_car_paths(f"a/{cut}") == (f"a/{'é' * 122}.bad.jsonl", f"a/{'é' * 122}.meta.json")


def test_there_is_nothing_beside_a_stream_or_a_result_in_memory(folder: Path) -> None:
    with open(folder / "stdout", "wb") as stdout:
        assert run(folder, output="-", stdout=stdout).meta_path is None
    assert run(folder, output="/dev/null").meta_path is None
    assert run(folder, output=None).meta_path is None
    assert not list(folder.glob("**/*.meta.json"))


@pytest.mark.parametrize("suffix", [".meta.json", ".bad.jsonl"])
def test_what_the_job_needs_is_not_replaced_by_what_stands_beside(
    folder: Path, suffix: str
) -> None:
    filter_path = folder / f"out.txt{suffix}"
    filter_path.write_text('{"version": 1, "dimensions": []}')
    with pytest.raises(
        InputError, match=r"beside the output would replace a file that the job needs"
    ):
        run(folder, input_filter=filter_path)
    name = "20131029030201.20131102.x"
    place = next((folder / "data").glob("*/*/*/*"))
    (place / f"{name}{suffix}").write_text("a\t1\n")
    with pytest.raises(
        InputError, match=r"would replace one of the input files|daskmr did not write it"
    ):
        run(folder, output=place / name, delete_data=True)
    assert (place / f"{name}{suffix}").read_text() == "a\t1\n"


def test_a_directory_where_bad_records_go_is_found_before_any_work(folder: Path) -> None:
    (folder / "out.txt.bad.jsonl").mkdir()
    with pytest.raises(InputError, match="is a directory, but bad records are saved there"):
        run(folder, data="good")
    assert not (folder / "out.txt").exists()


def die_at(folder: Path, number: int) -> None:
    """Have this process killed when it is about to open, rename or remove its file `number`."""
    left = [number]

    def look(event: str, arguments: Any) -> None:
        if event in ("open", "os.rename", "os.remove") and str(folder) in str(arguments[0]):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sys.addaudithook(look)


def state(folder: Path) -> tuple[str, str, str]:
    """Tell which run the output is of, and what stands beside it."""
    runs = {"a\t1\nb\t2\n": "first", "a\t5\n": "second"}
    output = runs[(folder / "out.txt").read_text()]
    bad, meta = folder / "out.txt.bad.jsonl", folder / "out.txt.meta.json"
    saved = told = ""
    if bad.exists():
        saved = "first" if b"YQlmaXJzdA==" in bad.read_bytes() else "second"
    if meta.exists():
        same = json.loads(meta.read_text())["output"]["sha256"] == sha256(folder / "out.txt")
        told = output if same else "another"
    return output, saved, told


def test_no_moment_leaves_a_wrong_pair(folder: Path) -> None:
    run(folder)
    assert state(folder) == ("first", "first", "first")
    before = {path.name: path.read_bytes() for path in folder.glob("out*")}
    seen = []
    for number in range(1, 200):
        for name, data in before.items():
            (folder / name).write_bytes(data)
        child = os.fork()
        if not child:
            die_at(folder, number)
            run(folder, "other")
            os._exit(0)
        _, status = os.waitpid(child, 0)
        seen.append(state(folder))
        if os.WIFEXITED(status):
            assert os.WEXITSTATUS(status) == 0
            break
    else:
        raise AssertionError("it was killed each time")
    assert seen[0] == ("first", "first", "first")
    assert seen[-1] == ("second", "second", "second")
    assert len(set(seen)) > 4, "this test has seen too few moments"
    for output, saved, told in seen:
        assert saved in ("", output)
        assert told in ("", output)


# --- an object ------------------------------------------------------------------------------------


@pytest.mark.slow
def test_an_object_beside_an_object(folder: Path, bucket: Bucket) -> None:
    output = f"s3://{bucket.name}/out/counts.txt"
    result = run(folder, output=output)
    assert result.meta_path == f"{output}.meta.json"
    stored = bucket.objects()
    meta = json.loads(stored["out/counts.txt.meta.json"])
    assert meta["output"]["sha256"] == hashlib.sha256(stored["out/counts.txt"]).hexdigest()
    assert meta["output"]["path"] == output
    run(folder, output=output, meta=False)
    assert list(bucket.objects()) == ["out/counts.txt"]


def test_an_object_that_is_not_daskmrs_is_left_alone(folder: Path, bucket: Bucket) -> None:
    bucket.put({"counts.txt.meta.json": b"mine"})
    result = run(folder, output=f"s3://{bucket.name}/counts.txt")
    assert bucket.objects()["counts.txt.meta.json"] == b"mine"
    assert any("was not written by daskmr" in note for note in result.notes)
    assert result.meta_path is None
