"""The benchmarks: daskmr's jobs and the hand-written ones agree, and the command runs to its end."""

from __future__ import annotations

import importlib
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.jobs import ROOT

from daskmr import mapreduce

BENCHMARKS = ROOT / "benchmarks"
JOBS = sorted(path.stem for path in (BENCHMARKS / "jobs").glob("*.py"))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("bench")


@pytest.fixture
def bench(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give the modules of the benchmarks, which are no part of the package."""
    monkeypatch.syspath_prepend(ROOT)
    import benchmarks.__main__
    import benchmarks.data
    import benchmarks.measure
    import benchmarks.workloads

    return benchmarks


def run(command: list[str | Path]) -> subprocess.CompletedProcess[str]:
    # The command comes from the folder it is run in, daskmr from wherever the tests have it.
    return subprocess.run(
        [sys.executable, *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize("name", JOBS)
def test_job_equals_the_floor(name: str, bench: Any, root: Path, tmp_path: Path) -> None:
    workload = bench.workloads.WORKLOADS[name]
    data = bench.data.make(root, workload.data, 150_000)
    floor = bench.workloads.contender("floor", name, data, tmp_path, "")
    job = BENCHMARKS / "jobs" / f"{name}.py"
    mapreduce(
        job, data_dir=data, output=tmp_path / "daskmr", inline=True, work_dir=tmp_path / "work"
    )
    completed = run(list(floor.command[1:]))
    assert completed.returncode == 0, completed.stderr
    assert floor.output.read_bytes() == (tmp_path / "daskmr").read_bytes() != b""


@pytest.mark.slow
def test_command(root: Path, tmp_path: Path) -> None:
    docs = tmp_path / "benchmarks.md"
    options = ["--size", "150kB", "--rounds", "1", "--only", "median", "--rivals", "floor"]
    command = ["-m", "benchmarks", *options, "--data-dir", root, "--write-docs", docs]
    completed = run(command)
    assert completed.returncode == 0, completed.stderr
    for text in ("start-up", "daskmr / it", "each worker under 1.25 x its limit"):
        assert text in completed.stdout
    written = docs.read_text("utf-8")
    assert completed.stdout.splitlines()[-1] in written
    assert "another output" not in written
    assert not list(root.glob("daskmr-bench-*"))


def test_data_is_made_once_and_the_same(bench: Any, tmp_path: Path) -> None:
    first, again = (bench.data.make(tmp_path / name, "texts", 100_000) for name in "ab")
    files = sorted(first.rglob("*.gz"))
    assert [path.read_bytes() for path in files] == [
        path.read_bytes() for path in sorted(again.rglob("*.gz"))
    ]
    before = files[0].stat().st_mtime_ns
    assert bench.data.make(tmp_path / "a", "texts", 100_000) == first
    assert files[0].stat().st_mtime_ns == before


def test_another_output_does_not_count(bench: Any, tmp_path: Path) -> None:
    main = importlib.import_module("benchmarks.__main__")
    folder = tmp_path / "folder"
    folder.mkdir()
    (tmp_path / "file").write_text("a\t1\nb\t2\nb\t2\n")
    (folder / "part-0").write_text("b\t2\nb\t2")
    (folder / "part-1").write_text("a\t1\n")
    (folder / "_SUCCESS").write_text("")
    same, parts = main._digest(tmp_path / "file"), main._digest(folder)
    (tmp_path / "file").write_text("a\t1\nb\t2\n")
    other = main._digest(tmp_path / "file")
    assert same == parts != other
    none = bench.measure.Peak()
    found = {
        who: main.First("", none, digest, 30.0)
        for who, digest in (("daskmr", same), ("start", ""), ("floor", parts), ("duckdb", other))
    }
    failures = {who: first.failure for who, first in main._compared(found).items()}
    assert failures == {"daskmr": "", "start": "", "floor": "", "duckdb": "another output"}


def test_what_fails_is_said(bench: Any, tmp_path: Path) -> None:
    def failure(code: str, limit: float = 30.0) -> str:
        return bench.measure.run([sys.executable, "-c", code], tmp_path, limit).failure

    assert failure("pass") == ""
    assert failure("import sys; sys.exit(3)") == "failed (exit 3)"
    assert failure("raise MemoryError") == "out of memory"
    assert failure("import time; time.sleep(60)", 1.0) == "over 1 s"


def test_memory_of_all_processes_is_seen(bench: Any, tmp_path: Path) -> None:
    hold = "import time; data = b'x' * 50_000_000; time.sleep(1)"
    code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {hold!r}])"
    outcome, peak = bench.measure.run_measured([sys.executable, "-c", code], tmp_path, 30.0)
    assert outcome.failure == ""
    assert peak.client < 50_000_000 < peak.worker < 100_000_000
    assert peak.together >= 50_000_000


def test_bounds(bench: Any) -> None:
    seconds = {"daskmr": 3.0, "start": 1.0, "floor": 2.0, "pyspark": 9.0}
    tried = {*seconds, "mrjob"}  # mrjob did not make it
    peak = bench.measure.Peak(10**9, 450, 450)

    def met(name: str, size: int, limit: int = 0) -> dict[str, bool | None]:
        found = bench.workloads.verdicts(name, size, seconds, tried, peak, limit)
        return {verdict.text: verdict.met for verdict in found}

    assert met("os", 300_000_000) == {
        "start + 0.3 s + 1.15 x floor": True,  # 3.6
        "1.2 x floor": None,
        "faster than PySpark": True,
        "faster than mrjob": True,
    }
    assert met("os", 1_500_000_000)["1.2 x floor"] is False  # 2.4
    assert met("os_pluck", 300_000_000)["start + 0.3 x floor"] is False  # 1.6
    assert set(met("ids", 2_000_000).values()) == {None}
    memory = met("median", 300_000_000, 400)
    assert memory["each worker under 1.25 x its limit"] is True
    assert memory["the client under a worker's limit"] is False


@pytest.mark.parametrize("options", [["--only", "sum"], ["--rivals", "x"], ["--size", "big"]])
def test_wrong_options(options: list[str | Path]) -> None:
    completed = run(["-m", "benchmarks", *options])
    assert completed.returncode == 2
    assert options[1] in completed.stderr


@pytest.mark.parametrize("number", range(5))
def test_jobs_over_other_records_equal_the_others(
    number: int, bench: Any, root: Path, tmp_path: Path
) -> None:
    from benchmarks import records

    case = records.CASES[number]
    data, other_data = (
        records.data_of(root, kind, 150_000) for kind in (case.data, case.other_data)
    )
    layout = None if case.job.startswith("os") else "flat"
    run_job = partial(mapreduce, layout=layout, inline=True, work_dir=tmp_path / "work")
    job = BENCHMARKS / "jobs" / "records" / f"{case.job}.py"
    run_job(job, data_dir=data, output=tmp_path / "daskmr")
    if case.other == "os":
        run_job(BENCHMARKS / "jobs" / "os.py", data_dir=other_data, output=tmp_path / "other")
    else:
        script = BENCHMARKS / "rivals" / "zones.py"
        completed = run([script, case.other, other_data, tmp_path / "other"])
        assert completed.returncode == 0, completed.stderr
    assert (tmp_path / "other").read_bytes() == (tmp_path / "daskmr").read_bytes() != b""
