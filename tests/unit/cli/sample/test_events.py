"""Events of a web shop: JSON lines in hive partitions, in which a session goes step by step."""

from __future__ import annotations

import gzip
import json
import re
from collections import Counter, defaultdict
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from daskmr.cli.sample.files import write_sample

FOLLOWING = {
    "visit": {"view"},
    "view": {"view", "cart"},
    "cart": {"view", "purchase"},
    "purchase": set(),
}


def lines(root: Path) -> dict[str, list[bytes]]:
    return {
        path.relative_to(root).as_posix(): gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
        for path in sorted(root.rglob("*.gz"))
    }


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[dict[str, Any]]]:
    root = tmp_path_factory.mktemp("events")
    write_sample(root, size=2_000_000, kind="events")
    return {name: list(map(json.loads, each)) for name, each in lines(root).items()}


def test_files_are_in_hive_partitions(events: dict[str, list[dict[str, Any]]]) -> None:
    form = re.compile(r"dt=(2026-10-\d\d)/hour=(\d\d)/events-\d\d\.jsonl\.gz")
    previous = ""
    for name, each in events.items():
        match = form.fullmatch(name)
        assert match
        for event in each:
            assert event["time"].startswith(f"{match[1]}T{match[2]}:")
            assert event["time"] >= previous
            previous = event["time"]
    assert len({name.split("/")[0] for name in events}) == 2
    assert len({name.split("/")[1] for name in events}) == 24
    assert any("events-01" in name for name in events)


def test_sessions_go_step_by_step(events: dict[str, list[dict[str, Any]]]) -> None:
    sessions = defaultdict(list)
    for each in events.values():
        for event in each:
            sessions[event["session"]].append(event)
    for session in sessions.values():
        steps = [event["event"] for event in session]
        assert steps[0] == "visit"
        assert all(after in FOLLOWING[before] for before, after in pairwise(steps))
        assert len({event["user"] for event in session}) == 1
    counts = Counter(event["event"] for each in sessions.values() for event in each)
    assert counts["view"] > counts["cart"] > counts["purchase"] > 50


def test_events_have_the_fields_of_their_kind(events: dict[str, list[dict[str, Any]]]) -> None:
    fields = {"time", "event", "user", "session", "device", "geo", "referrer"}
    more = {
        "visit": set(),
        "view": {"product"},
        "cart": {"product"},
        "purchase": {"order"},
    }
    for each in events.values():
        for event in each:
            assert set(event) == fields | more[event["event"]]


def test_some_users_come_often(events: dict[str, list[dict[str, Any]]]) -> None:
    users = Counter(event["user"] for each in events.values() for event in each)
    counts = [count for _, count in users.most_common()]
    assert counts[0] > 5 * counts[len(counts) // 2]


def is_bad(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return True
    return False


def test_bad_lines_are_not_json(tmp_path: Path) -> None:
    summary = write_sample(tmp_path, size=300_000, kind="events", bad_lines=0.2)
    found = [line for each in lines(tmp_path).values() for line in each]
    assert (len(found), sum(map(is_bad, found))) == (summary.records, summary.bad_lines)
