"""Analyses of several passes, dates and totals: in each place where a job runs, as plain Python does.

The scripts are in tests/support/analyses.
"""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import signal
import subprocess
import sys
from bisect import bisect
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from support.dask_cluster import DaskCluster, can_hide
from support.jobs import daskmr
from support.pages import Page
from support.pings import BROKEN, LAST_DAY, Document, documents, write_documents
from support.processes import SessionProcess, wait_until

SCRIPTS = Path(__file__).parents[1] / "support" / "analyses"
CHAIN = ("sessions.py", "clients.py", "spread.py")
WEEK = ("--where", "submission_date=-6d..today", "--date", LAST_DAY.isoformat())
DAILY = ("daily.py", *WEEK, "--params", "daily.yaml", "--param", f"day={LAST_DAY}")
FLUSHED = ("flushed.py", "-r", "1")


class Place:
    """The machine of the user: the scripts, and all that a run writes.

    The data is elsewhere, as on a disk that workers share.
    """

    def __init__(self, folder: Path, shared: Path) -> None:
        self.folder, self.shared = folder, shared
        self.data = write_documents(shared / "data")
        shutil.copytree(SCRIPTS, folder, ignore=lambda *_: ["__pycache__"])
        (folder / "daily.yaml").write_text("channels: [nightly, aurora]\nday: 2001-01-01\n")

    def run(self, *words: str, code: int = 0) -> str:
        """Run the command, and return what it says."""
        done = daskmr("run", *words, "-d", str(self.data), cwd=self.folder)
        assert done.returncode == code, done.stderr
        return done.stderr

    def interrupt(self, marker: Path, *words: str) -> str:
        """Run the command until there is a file, press Ctrl-C, and return the last line that it says."""
        command = [sys.executable, "-m", "daskmr", "run", *words, "-d", str(self.data)]
        running = SessionProcess(command, cwd=self.folder, stderr=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: marker.exists() or running.popen.poll() is not None, 60)
            running.popen.send_signal(signal.SIGINT)
            said = running.popen.communicate(timeout=60)[1]
            assert running.popen.returncode == 130, said
            wait_until(lambda: not running.left(), 20)
        finally:
            running.kill()
        return str(said.splitlines()[-1])

    def meta(self, output: str) -> Any:
        return json.loads((self.folder / f"{output}.meta.json").read_text())

    def outputs(self, output: str) -> dict[str, bytes]:
        """Return the outputs of a run by what their names add to `output`, as its record has them."""
        recorded = self.meta(output)["output"]
        found = {"": recorded, **{f".{name}": of for name, of in recorded.get("named", {}).items()}}
        contents = {name: (self.folder / f"{output}{name}").read_bytes() for name in found}
        for name, content in contents.items():
            assert found[name]["sha256"] == sha256(content).hexdigest()
            assert found[name]["bytes"] == len(content)
        sides = {".meta.json", ".bad.jsonl"}
        written = {path.name[len(output) :] for path in self.folder.glob(f"{output}*")}
        assert written - sides == found.keys()
        return contents


# --- plain Python ---------------------------------------------------------------------------------


def as_csv(*rows: Sequence[Any]) -> bytes:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def sessions_of(shortest: int) -> dict[str, list[tuple[int, int, int]]]:
    """The start, seconds and crashes of each session, by client."""
    fragments = defaultdict(set)
    for each in documents():
        fragments[each.client, each.session].add((each.start, each.seconds, each.crashes))
    sessions = defaultdict(list)
    for (client, _), found in sorted(fragments.items()):
        session = (min(found)[0], sum(f[1] for f in found), sum(f[2] for f in found))
        if session[1] >= shortest:
            sessions[client].append(session)
    return sessions


def figures_of(shortest: int, pause: int) -> dict[str, dict[str, float]]:
    """The figures of each client."""
    found = {}
    for client, sessions in sorted(sessions_of(shortest).items()):
        visits, end = 0, float("-inf")
        for start, seconds, _ in sorted(sessions):
            visits += start >= end + pause
            end = max(end, start + seconds)
        hours = sum(session[1] for session in sessions) / 3600
        crashes = sum(session[2] for session in sessions)
        found[client] = {
            "sessions": len(sessions), "visits": visits, "hours": hours, "crashes": crashes,
        }  # fmt: skip
    return found


def spread_of(figures: dict[str, dict[str, float]], bounds: Sequence[int]) -> bytes:
    """How many clients have a figure from each bound on."""
    counts: Counter[tuple[str, int]] = Counter()
    for of_client in figures.values():
        for name, value in of_client.items():
            counts[name, bounds[bisect(bounds, value) - 1]] += 1
    return as_csv(("figure", "from", "clients"), *((*k, n) for k, n in sorted(counts.items())))


def days_of(channels: Sequence[str], longest: int) -> dict[str, bytes]:
    found: dict[tuple[str, int], list[Document]] = defaultdict(list)
    for each in documents():
        if each.channel in channels and each.day >= LAST_DAY - timedelta(6):
            found[each.channel, (LAST_DAY - each.day).days].append(each)
    summary: list[Any] = [("channel", "days_before", "documents", "clients", "hours", "median")]
    firsts: list[Any] = [("key", "key_2", "client", "seconds")]
    crashes: list[Any] = [("key", "key_2", "client", "n")]
    for key, group in sorted(found.items()):
        group.sort(key=lambda each: (-each.seconds, each.client, each.start))
        hours = sum(each.seconds for each in group) / 3600
        clients = len({each.client for each in group})
        summary.append((*key, len(group), clients, hours, group[len(group) // 2].seconds))
        firsts += [(*key, each.client, each.seconds) for each in group[:longest]]
        crashes += [(*key, each.client, each.crashes) for each in group if each.crashes]
    return {"": as_csv(*summary), ".longest": as_csv(*firsts), ".crashes": as_csv(*crashes)}


def sums() -> bytes:
    found: dict[tuple[str, int], list[int]] = defaultdict(lambda: [0, 0])
    for each in documents():
        total = found[each.channel, each.start // 3600 % 24]
        total[0] += each.seconds
        total[1] += 1
    rows = [(*key, *total) for key, total in sorted(found.items())]
    return as_csv(*rows, ("all", len(rows), "", len(documents())))


# --- in each place --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("user") / "home", tmp_path_factory.mktemp("shared"))


@pytest.fixture(scope="module")
def elsewhere(place: Place, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[str, ...]]:
    """The options of a cluster that sees nothing of the machine of the user but the data."""
    cluster = DaskCluster(tmp_path_factory.mktemp("cluster"), unseen=place.folder)
    if can_hide():
        with Client(cluster.address, set_as_default=False) as client:
            seen = client.run(os.listdir, str(place.folder))
            seen["scheduler"] = client.run_on_scheduler(os.listdir, str(place.folder))
        assert [*seen.values()] == [[]] * 3
    spill = place.shared / "spill"
    yield ("--scheduler", cluster.address, "--spill-dir", str(spill))
    cluster.stop()
    assert not list(spill.rglob("*"))


@pytest.fixture(
    params=[
        "inline",
        pytest.param("local", marks=pytest.mark.slow),
        pytest.param("elsewhere", marks=pytest.mark.slow),
    ]
)
def where(request: pytest.FixtureRequest) -> tuple[str, ...]:
    """Options that say where a job runs."""
    if request.param == "elsewhere":
        found: tuple[str, ...] = request.getfixturevalue("elsewhere")
        return found
    return ("-m", "2") if request.param == "local" else ("--inline",)


GIVEN = ("--param", "shortest=100", "--param", "bounds=0,1,3,10,30")
STEPS = [
    {"name": "sessions", "functions": ["map", "combine", "reduce"]},
    {"name": "clients", "functions": ["map", "reduce", "sort_values"]},
    {"name": "spread", "functions": ["map", "combine", "reduce"]},
]


@pytest.mark.parametrize("reducers", [(), ("-r", "3")])
@pytest.mark.parametrize("scripts", [CHAIN, ("chained.py",)])
def test_three_passes(
    place: Place, where: tuple[str, ...], scripts: tuple[str, ...], reducers: tuple[str, ...]
) -> None:
    said = place.run(*scripts, *GIVEN, *where, *reducers, "-o", "chain.csv", "--keep-steps", "kept")
    figures = figures_of(100, 1800)
    assert place.outputs("chain.csv") == {"": spread_of(figures, [0, 1, 3, 10, 30])}
    header = ("key", *figures["client-00"])
    rows = [(client, *of_client.values()) for client, of_client in figures.items()]
    assert (place.folder / "kept" / "2-clients.csv").read_bytes() == as_csv(header, *rows)

    meta = place.meta("chain.csv")
    assert [{k: step[k] for k in ("name", "functions")} for step in meta["steps"]] == STEPS
    sessions = sum(map(len, sessions_of(100).values()))
    written = [sessions, len(figures), meta["output"]["lines"]]
    assert [step["written"] for step in meta["counts"]["steps"]] == written
    assert meta["bad_records"]["count"] == BROKEN
    assert f"step 2 clients  {sessions:,} pairs gave {len(figures)} pairs" in said
    params = {"shortest": 100, "pause": 1800, "bounds": [0, 1, 3, 10, 30]}
    if scripts == CHAIN:
        own = [meta["params"], *(step["params"] for step in meta["steps"][1:])]
        assert own == [{name: value} for name, value in params.items()]
    else:
        assert meta["params"] == params


def test_a_daily_summary(place: Place, where: tuple[str, ...]) -> None:
    place.run(*DAILY, *where, "-o", "daily.csv", "--report", "daily.html")
    shown = " ".join(Page((place.folder / "daily.html").read_text()).words)
    assert "Parameters day = 2013-11-09 channels = ['nightly', 'aurora'] longest = 2 (default)" in (
        " ".join(shown.split())
    )
    assert place.outputs("daily.csv") == days_of(["nightly", "aurora"], 2)
    meta = place.meta("daily.csv")
    given = {"day": "2013-11-09", "channels": ["nightly", "aurora"], "longest": 2}
    assert meta["params"] == given
    assert (meta["where"], meta["date"]) == (["submission_date=-6d..today"], "2013-11-09")
    assert set(meta["output"]["named"]) == {"longest", "crashes"}
    place.run("--from", "daily.csv", *where, "-o", "again.csv", "--param", "longest=1")
    assert place.outputs("again.csv") == days_of(["nightly", "aurora"], 1)


def test_a_daily_summary_in_parts(place: Place, where: tuple[str, ...]) -> None:
    """The workers write them, so they are where all see them."""
    folder = place.shared / "daily.csv"
    for longest in (2, 1):  # the second run replaces what the first one has written
        given = ("--param", f"longest={longest}", "-r", "2")
        place.run(*DAILY, *given, *where, "-o", f"{folder}/")
        found = {
            suffix: b"".join(part.read_bytes() for part in sorted(folder.glob(f"{name}part-*")))
            for suffix, name in (("", ""), (".longest", "longest/"), (".crashes", "crashes/"))
        }
        assert found == days_of(["nightly", "aurora"], longest)
    meta = json.loads((folder / "_meta.json").read_text())
    assert meta["params"] == {
        "day": "2013-11-09", "channels": ["nightly", "aurora"], "longest": 1,
    }  # fmt: skip
    assert len(meta["bad_records"]["files"]) == 4


def test_sums_that_are_flushed_at_the_end_of_a_partition(
    place: Place, where: tuple[str, ...]
) -> None:
    place.run(*FLUSHED, *where, "-o", "flushed.csv")
    assert place.outputs("flushed.csv") == {"": sums()}
    place.run("flushed.py", "-r", "3", *where, "-o", "flushed.csv", "--param", "most=1")
    lines = place.outputs("flushed.csv")[""].splitlines(keepends=True)
    assert b"".join(lines[:-3]) == b"".join(sums().splitlines(keepends=True)[:-1])
    endings = [line.split(b",") for line in lines[-3:]]
    assert [each[0] for each in endings] == [b"all"] * 3
    assert sum(int(each[3]) for each in endings) == len(documents())


SLOW = """
import pathlib, time
from daskmr import param

MARKER = param("marker", type=str)

def map(client, dims, session, context):
    pathlib.Path(MARKER).touch()
    time.sleep(0.02)
    context.write(client, session)
"""


@pytest.mark.slow
def test_an_interruption_in_the_second_pass(place: Place, where: tuple[str, ...]) -> None:
    (place.folder / "slow.py").write_text(SLOW)
    before = sorted(path.name for path in place.folder.iterdir())
    marker = place.shared / "marker"
    options = ("--param", f"marker={marker}", "--keep-steps", "stopped", "-o", "none.csv", *where)
    said = place.interrupt(marker, "sessions.py", "slow.py", *options)
    assert said == "daskmr: Interrupted; nothing was written but stopped/1-sessions.csv."
    marker.unlink()
    rows = [(c, *session) for c, found in sessions_of(60).items() for session in found]
    kept = (place.folder / "stopped" / "1-sessions.csv").read_bytes()
    assert sorted(kept.splitlines()[1:]) == sorted(as_csv(*rows).splitlines())
    shutil.rmtree(place.folder / "stopped")
    assert sorted(path.name for path in place.folder.iterdir()) == before


KILLED = """
import os, pathlib, signal
from clients import map as map_session, reduce, sort_values
from daskmr import param

MARKER = param("marker", type=str)

def map(client, dims, session, context):
    if not os.path.exists(MARKER):
        pathlib.Path(MARKER).touch()
        os.kill(os.getpid(), signal.SIGKILL)
    map_session(client, dims, session, context)
"""


@pytest.mark.slow
@pytest.mark.parametrize("where", ["local", "elsewhere"], indirect=True)
def test_a_worker_that_is_killed_in_the_second_pass(place: Place, where: tuple[str, ...]) -> None:
    (place.folder / "killed.py").write_text(KILLED)
    marker = place.shared / "killed"
    scripts = ("sessions.py", "killed.py", "spread.py")
    place.run(*scripts, *GIVEN, "--param", f"marker={marker}", *where, "-o", "killed.csv")
    assert place.outputs("killed.csv") == {"": spread_of(figures_of(100, 1800), [0, 1, 3, 10, 30])}
    marker.unlink()
