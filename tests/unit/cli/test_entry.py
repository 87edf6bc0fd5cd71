"""The command at its edges: early signals, closed streams, outputs that must not be replaced."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from support.jobs import ROOT, daskmr, write_tree

from daskmr import InputError, mapreduce

JOB = """
def map(key, dims, value, context):
    context.write(key, 1)

def reduce(key, values, context):
    context.write(key, sum(values))
"""


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write_tree(tmp_path / "data", [["a\t1", "b\t2"], ["a\t3"]])
    (tmp_path / "job.py").write_text(JOB)
    return tmp_path


@pytest.mark.parametrize(
    ("option", "url", "said"),
    [
        ("--bucket", "ftp://127.0.0.1:1/x", "its host cannot be reached"),
        ("--output", "ftp://127.0.0.1:1/x/y", "its host cannot be reached"),
        ("--output", "gs://name/x", "needs a package that is not installed (gcsfs)"),
        ("--output", "s3:/name/x", "A URL has two slashes: s3://name/x"),
        ("--spill-dir", "ftp://127.0.0.1:1/x", "its host cannot be reached"),
    ],
)
def test_a_store_that_cannot_be_had_is_told_at_once(
    place: Path, option: str, url: str, said: str
) -> None:
    began = time.monotonic()
    where = [] if option == "--bucket" else ["-d", "data"]
    if option == "--spill-dir":  # which is for clusters
        where += ["--scheduler", "tcp://127.0.0.1:1"]
    done = daskmr("run", "job.py", *where, option, url, cwd=place)
    assert done.returncode == 2
    assert time.monotonic() - began < 20
    assert said in done.stderr
    assert url in done.stderr
    assert done.stderr.count("\n") == 1
    assert sorted(path.name for path in place.iterdir()) == ["data", "job.py"]


@pytest.mark.parametrize(
    "options",
    [
        ["--bucket"],
        ["--local-only", "--output"],
        ["--scheduler", "tcp://127.0.0.1:1", "--spill-dir"],
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(place: Path, options: list[str]) -> None:
    done = daskmr("run", "job.py", "-d", "data", *options, "s3://KEY:s3cret@b/x", cwd=place)
    assert done.returncode == 2
    assert "s3://***@b/x" in done.stderr
    assert "s3cret" not in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.parametrize("delay", [0.06, 0.1, 0.15])
def test_a_signal_while_the_command_starts(place: Path, number: int, delay: float) -> None:
    command = [sys.executable, "-m", "daskmr", "run", "job.py", "-d", "data", "-o", "out"]
    with subprocess.Popen(command, cwd=place, stderr=subprocess.PIPE, text=True) as process:
        while b"\0-m\0daskmr" not in Path(f"/proc/{process.pid}/cmdline").read_bytes():
            time.sleep(0.001)
        caught = _wait_for_handler(process.pid, number)
        time.sleep(delay - 0.05)
        process.send_signal(number)
        _, error = process.communicate(timeout=20)
    assert caught
    if process.returncode:
        assert process.returncode == 128 + number
        assert error == "daskmr: Interrupted; nothing was written.\n"


def _wait_for_handler(pid: int, number: int) -> bool:
    """Wait until the process has a handler for the signal: before that, Python has the say."""
    for _ in range(5000):
        status = Path(f"/proc/{pid}/status").read_text()
        mask = int(status.split("SigCgt:")[1].split()[0], 16)
        if mask >> (signal.SIGTERM - 1) & 1:
            return True
        time.sleep(0.001)
    return False


@pytest.mark.parametrize(
    ("redirection", "options"),
    [
        ("2>&-", "-q"),
        ("2>/dev/full", ""),
        ("2>&- >&-", "--inline"),
        pytest.param("2>&-", "", marks=pytest.mark.slow),
        pytest.param("2>&-", "--inline", marks=pytest.mark.slow),
        pytest.param("2>/dev/full", "-q", marks=pytest.mark.slow),
        pytest.param("2>/dev/full", "--inline", marks=pytest.mark.slow),
        pytest.param("2>&- >&-", "", marks=pytest.mark.slow),
        pytest.param("2>&- >&-", "-q", marks=pytest.mark.slow),
    ],
)
def test_standard_error_that_cannot_be_written_does_not_fail_a_job(
    place: Path, redirection: str, options: str
) -> None:
    command = f"{sys.executable} -m daskmr run job.py -d data -o out {options} {redirection}"
    assert subprocess.run(["bash", "-c", command], cwd=place, check=False).returncode == 0
    assert (place / "out").read_text() == "a\t2\nb\t1\n"


@pytest.mark.parametrize("output", ["job.py", "filter.json", "schema.json", "input"])
def test_an_output_that_the_job_needs_is_refused(place: Path, output: str) -> None:
    (place / "filter.json").write_text('{"version": 1, "dimensions": []}')
    schema = ROOT / "conf" / "schema.json"
    (place / "schema.json").write_text(schema.read_text())
    if output == "input":
        output = str(next((place / "data").rglob("*.gz")).relative_to(place))
    before = (place / output).read_bytes()
    arguments = ["job.py", "-d", "data", "-f", "filter.json", "--schema", "schema.json", "-X"]
    done = daskmr("run", *arguments, "-o", output, "--inline", cwd=place)
    assert done.returncode == 2
    assert "would replace " in done.stderr
    assert (place / output).read_bytes() == before
    assert len(list((place / "data").rglob("*.gz"))) == 2


def test_a_closed_pipe_is_told_as_that(place: Path) -> None:
    write_tree(place / "data", [[f"{n:06}\t" for n in range(40_000)]])
    command = f"{sys.executable} -m daskmr run job.py -d data --inline -q | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr == (
        "daskmr: Standard output was closed before the entire result was written.\n"
    )


@pytest.mark.parametrize("output", ["/dev/stdout", ">(cat)"])
def test_streams_by_name(place: Path, output: str) -> None:
    command = f"{sys.executable} -m daskmr run job.py -d data --inline -q -o {output}; sleep 0.2"
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("a\t2\nb\t1\n", "")


def test_a_child_that_the_script_forks_does_not_run_the_job(place: Path) -> None:
    (place / "job.py").write_text("import os\nos.fork()\n" + JOB)
    done = daskmr("run", "job.py", "-d", "data", "--inline", cwd=place)
    assert (done.returncode, done.stdout) == (0, "a\t2\nb\t1\n")


def test_os_exit_inline_is_a_failure(place: Path) -> None:
    (place / "job.py").write_text(JOB.replace("context.write(key, 1)", "__import__('os')._exit(0)"))
    done = daskmr("run", "job.py", "-d", "data", "--inline", "-o", "out", cwd=place)
    assert done.returncode == 1
    assert "os._exit(0) was called" in done.stderr
    assert not (place / "out").exists()


def test_too_few_open_files_are_named(place: Path) -> None:
    command = f"ulimit -n 60; exec {sys.executable} -m daskmr run job.py -d data"
    done = subprocess.run(
        ["bash", "-c", command], cwd=place, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "ulimit -n" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.slow
def test_a_temporary_directory_of_a_long_name(place: Path) -> None:
    """It has no room for the path of a socket, which a forkserver needs."""
    scratch = place / ("long" * 25)
    scratch.mkdir()
    command = [sys.executable, "-m", "daskmr", "run", "job.py", "-d", "data"]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    done = subprocess.run(
        command, cwd=place, env=environment, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, "a\t2\nb\t1\n"), done.stderr
    assert done.stderr.count("No forkserver") == 1
    assert not list(scratch.iterdir())


@pytest.mark.slow
@pytest.mark.parametrize("inline", [True, False])
@pytest.mark.parametrize("where", ["load", "map", "reduce"])
def test_a_script_that_changes_the_working_directory(place: Path, inline: bool, where: str) -> None:
    """The paths of the command line mean what they meant, and those of the script what it says."""
    (place / "conf").mkdir()
    (place / "conf" / "filter.json").write_text('{"version": 1, "dimensions": []}')
    (place / "elsewhere").mkdir()
    (place / "elsewhere" / "factor").write_text("10")
    change = f"os.chdir({str(place / 'elsewhere')!r})"
    (place / "job.py").write_text(
        "import os\n"
        f"{change if where == 'load' else ''}\n"
        "def map(key, dims, value, context):\n"
        f"    {change if where == 'map' else 'pass'}\n"
        "    context.write(key, int(value))\n"
        "def reduce(key, values, context):\n"
        f"    {change if where == 'reduce' else 'pass'}\n"
        "    factor = 1\n"
        f"    if {where in ('load', 'reduce')}:\n"
        "        factor = int(open('factor').read())\n"
        "    context.write(key, factor * sum(values))\n"
    )
    write_tree(place / "data", [["a\t1", "b\t2", "a\t3"], ["c\tbad"]])
    options = ["-d", "data", "-o", "out.txt", "-f", "conf/filter.json", "-w", "work", "-p"]
    options += ["--report", "report.html", "-m", "1", *(["--inline"] if inline else [])]
    before = {path.name for path in place.iterdir()}
    done = daskmr("run", "job.py", *options, cwd=place)
    assert done.returncode == 0, done.stderr
    factor = 1 if where == "map" else 10
    assert (place / "out.txt").read_text() == f"a\t{4 * factor}\nb\t{2 * factor}\n"
    beside = {f"out.txt{suffix}" for suffix in (".bad.jsonl", ".meta.json", ".pstats")}
    made = {path.name for path in place.iterdir()} - before
    assert made == {"out.txt", "report.html", *beside}
    assert os.listdir(place / "elsewhere") == ["factor"]


@pytest.mark.parametrize("command", ["plan", "check"])
def test_a_script_that_changes_the_working_directory_before_a_run(
    place: Path, command: str
) -> None:
    (place / "job.py").write_text("import os\nos.chdir('/')\n" + JOB)
    (place / "filter.json").write_text('{"version": 1, "dimensions": []}')
    done = daskmr(command, "job.py", "-d", "data", "-f", "filter.json", cwd=place)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_what_a_killed_command_leaves_is_removed_by_the_next(
    place: Path, short_folder: Path
) -> None:
    scratch = short_folder
    slow = JOB.replace("context.write(key, 1)", "__import__('time').sleep(60)")
    (place / "slow.py").write_text(slow)
    environment = {**os.environ, "TMPDIR": str(scratch)}
    command = [sys.executable, "-m", "daskmr", "run"]
    with subprocess.Popen(
        [*command, "slow.py", "-d", "data"], cwd=place, env=environment
    ) as killed:
        until = time.monotonic() + 60
        while not list(place.glob(".daskmr/run-*/marks/*")):
            assert time.monotonic() < until
            time.sleep(0.02)
        other = [*command, "job.py", "-d", "data", "-w", "other"]
        subprocess.run(other, cwd=place, env=environment, check=True, capture_output=True)
        assert len(list(scratch.iterdir())) == 1, "that of the one that lives"
        killed.kill()
    assert len(list(scratch.iterdir())) == 1
    command = [*command, "job.py", "-d", "data"]
    subprocess.run(command, cwd=place, env=environment, check=True, capture_output=True)
    assert not list(scratch.iterdir())
    assert not list((place / ".daskmr").iterdir())


@pytest.mark.parametrize("seconds", [0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2])
def test_a_signal_during_the_start_leaves_nothing(
    place: Path, short_folder: Path, seconds: float
) -> None:
    scratch = short_folder
    command = [sys.executable, "-m", "daskmr", "run", "job.py", "-d", "data", "-o", "out"]
    environment = {**os.environ, "TMPDIR": str(scratch)}
    with subprocess.Popen(
        command, cwd=place, env=environment, stderr=subprocess.PIPE, start_new_session=True
    ) as started:
        time.sleep(seconds)
        started.terminate()
        _, told = started.communicate(timeout=30)
    assert started.returncode in (0, 143, -signal.SIGTERM), told
    assert (place / "out").exists() == (started.returncode == 0)
    assert not list(scratch.iterdir())
    until = time.monotonic() + 30
    while (left := _of_session(started.pid)) and time.monotonic() < until:
        time.sleep(0.02)
    assert not left


def _of_session(number: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(ProcessLookupError):
            if os.getsid(process.pid) == number:
                found.append(process)
    return found


def test_no_process_is_left_when_the_command_returns(place: Path) -> None:
    command = [sys.executable, "-m", "daskmr", "run", "job.py", "-d", "data", "-q"]
    with subprocess.Popen(
        command, cwd=place, stdout=subprocess.DEVNULL, start_new_session=True
    ) as process:
        assert process.wait(30) == 0
        left = []
        for other in psutil.process_iter(["cmdline"]):
            try:
                alive = other.status() != psutil.STATUS_ZOMBIE
                words = " ".join(other.info["cmdline"] or ())
                # One that is just ending has no words any more.
                if (
                    alive
                    and words
                    and os.getsid(other.pid) == process.pid
                    and "tracker" not in words
                ):
                    left.append(words)
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
    assert not left


def test_a_signal_handler_in_the_script_is_explained_on_a_cluster(place: Path) -> None:
    handler = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\n"
    (place / "job.py").write_text(handler + JOB)
    done = daskmr("run", "job.py", "-d", "data", "-o", "out", cwd=place)
    assert done.returncode == 1
    assert "Signal handlers can only be set in the main thread" in done.stderr
    assert "--inline" in done.stderr


def test_too_many_reducers_are_refused(place: Path) -> None:
    done = daskmr("run", "job.py", "-d", "data", "-r", "100000", cwd=place)
    assert done.returncode == 2
    assert "100,000 reducers are too many" in done.stderr


def test_an_interruption_by_the_script_itself_is_a_failure(place: Path) -> None:
    (place / "job.py").write_text(JOB.replace("sum(values)", "exec('raise KeyboardInterrupt')"))
    done = daskmr("run", "job.py", "-d", "data", "--inline", cwd=place)
    assert done.returncode == 1
    assert re.search(r"reduce failed for the key '.': KeyboardInterrupt", done.stderr)


def test_a_link_that_may_not_be_resolved_is_named(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    link = next((place / "data").rglob("*.gz")).with_name("20131029030201.20131102.link.gz")
    link.symlink_to("elsewhere")
    real = os.path.realpath

    def refuse(path: str) -> str:
        if os.fspath(path) == str(link):
            raise PermissionError(13, "Permission denied", path)
        return real(path)

    monkeypatch.setattr("os.path.realpath", refuse)
    link.unlink()
    link.symlink_to(next((place / "data").rglob("*.gz")))
    with pytest.raises(InputError, match=r"link\.gz cannot be read: Permission denied"):
        mapreduce(place / "job.py", data_dir=place / "data", inline=True, work_dir=place / "work")


@pytest.mark.parametrize(
    ("wrong", "name"), [({"data_dir": 7}, "data_dir"), ({"client": "x"}, "client")]
)
def test_wrong_arguments_of_the_interface_are_named(
    place: Path, wrong: dict[str, Any], name: str
) -> None:
    arguments = {"data_dir": place / "data", "work_dir": place / "work", **wrong}
    with pytest.raises(InputError, match=f"{name} must be"):
        mapreduce(place / "job.py", **arguments)


@pytest.mark.slow
def test_a_death_on_a_client_with_threads_names_a_file_that_was_read(place: Path) -> None:
    script = JOB.replace("context.write(key, 1)", "__import__('os')._exit(1)")
    (place / "job.py").write_text(script)
    write_tree(place / "data", [["a\t1"]] * 12)
    options = {"n_workers": 1, "threads_per_worker": 2, "dashboard_address": "127.0.0.1:0"}
    code = (
        "import distributed, daskmr\n"
        "if __name__ == '__main__':\n"
        f"    with distributed.LocalCluster(silence_logs=50, **{options!r}) as cluster:\n"
        "        with distributed.Client(cluster) as client:\n"
        "            try:\n"
        "                daskmr.mapreduce('job.py', data_dir='data', client=client)\n"
        "            except daskmr.JobError as error:\n"
        "                print(error)\n"
    )
    (place / "main.py").write_text(code)
    done = subprocess.run(
        [sys.executable, "main.py"],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "A worker process died each time it mapped" in done.stdout, done.stderr
    assert "v2.log" in done.stdout
