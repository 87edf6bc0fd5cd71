"""The example of a join gives the rows that plain Python gives: inner, left, and those without a partner."""

from __future__ import annotations

import csv
import gzip
import io
import json
import shlex
import subprocess
from collections import defaultdict
from pathlib import Path

import pytest
from support.jobs import ROOT, daskmr
from support.runs import small_limits

from daskmr import JobError, mapreduce
from daskmr.cli.sample.files import write_sample

SCRIPT = ROOT / "examples" / "events_by_plan.py"
LINES = [line.strip() for line in SCRIPT.read_text("utf-8").splitlines()]
(RUN_LINE,) = [shlex.split(line) for line in LINES if line.startswith("daskmr run")]
USER_LINES = [line for line in LINES if line.startswith(("mkdir ", "seq "))]
Rows = list[list[str]]


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write events, and the users that the lines in the docstring of the example make."""
    folder = tmp_path_factory.mktemp("shop")
    write_sample(folder / "events", 200_000, 2, kind="events")
    (folder / "users").mkdir()
    users = []
    for first, plan in ((0, "free"), (1, "paid")):
        users += [{"user": f"u{n:06}", "plan": plan} for n in range(first, 100, 3)]
    text = "".join(json.dumps(user) + "\n" for user in users)
    (folder / "users" / "users.jsonl").write_text(text)
    return folder


def expected(shop: Path, left: bool) -> dict[str, Rows]:
    """Join with dictionaries: the rows of the main output, and of the others."""
    lines = (shop / "users" / "users.jsonl").read_text("utf-8").splitlines()
    plans = {row["user"]: row["plan"] for row in map(json.loads, lines)}
    events = defaultdict(list)
    for path in sorted((shop / "events").rglob("*.gz")):
        for row in map(json.loads, gzip.decompress(path.read_bytes()).splitlines()):
            events[row["user"]].append((row["time"], row["event"]))
    rows: dict[str, Rows] = {"": [], "unknown": [], "idle": []}
    for user in sorted(events.keys() | plans.keys()):
        for event in events[user]:
            if left or user in plans:
                rows[""].append([user, plans.get(user, ""), *event])
            else:
                rows["unknown"].append([user, *event])
        if not events[user]:
            rows["idle"].append([user, plans[user]])
    return {name: found for name, found in rows.items() if found}


def rows_of(path: Path) -> Rows:
    return list(csv.reader(io.StringIO(path.read_text("utf-8"), newline="")))[1:]


def outputs(main: Path) -> dict[str, Rows]:
    names = ("", "unknown", "idle")
    paths = {name: main.with_name(main.name + (name and f".{name}")) for name in names}
    return {name: rows_of(path) for name, path in paths.items() if path.exists()}


@pytest.mark.parametrize("left", [False, True], ids=["inner", "left"])
@pytest.mark.parametrize("spill_bytes", ["500 B", pytest.param("256 MB", marks=pytest.mark.slow)])
def test_rows(shop: Path, tmp_path: Path, left: bool, spill_bytes: str) -> None:
    """They are the same for any number of reducers, also if the values of a user do not fit in memory."""
    rows = expected(shop, left)
    assert min(map(len, rows.values())) > 2
    assert ("unknown" in rows) != left
    written = set()
    for reducers in (1, 3):
        output = tmp_path / f"{reducers}.csv"
        with small_limits(), pytest.MonkeyPatch.context() as patch:
            patch.chdir(shop)
            mapreduce(
                SCRIPT, data_dir=["users", "events"], output=output, inline=True, params={"left": left},
                work_dir=tmp_path / "work", num_reducers=reducers, spill_bytes=spill_bytes,
            )  # fmt: skip
        assert outputs(output) == rows
        written.add(output.read_bytes())
    assert len(written) == 1


def test_two_users_of_one_name_fail(shop: Path, tmp_path: Path) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users" / "users.jsonl").write_text('{"user": "a", "plan": "free"}\n' * 2)
    done = daskmr("run", str(SCRIPT), "-d", "users", "-o", "o.csv", "--inline", cwd=tmp_path)
    assert done.returncode == JobError.exit_code
    assert "there are two users of this name" in done.stderr
    assert "'a'" in done.stderr


def test_lines_in_docstring(shop: Path, tmp_path: Path) -> None:
    """They make the users, and join them on the local cluster."""
    (tmp_path / "examples").symlink_to(ROOT / "examples")
    (tmp_path / "events").symlink_to(shop / "events")
    assert len(USER_LINES) == 3
    subprocess.run(["sh", "-euc", "\n".join(USER_LINES)], cwd=tmp_path, check=True, timeout=30)
    done = daskmr(*RUN_LINE[1:], cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert outputs(tmp_path / "plans.csv") == expected(shop, left=False)
