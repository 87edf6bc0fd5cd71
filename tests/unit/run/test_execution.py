"""The graph of a run: which tasks come first, and which files take too long."""

from __future__ import annotations

import json
import time
from operator import itemgetter
from typing import Any

import dask
import pytest
from dask.bag import Bag

from daskmr.errors import JobError
from daskmr.run.execution import FileTimeout, _prioritised
from daskmr.tasks.crashes import Mark


def emit(number: int) -> list[tuple[int, int]]:
    return [(bucket, number) for bucket in range(3)]


def add(total: Any, item: Any) -> Any:
    return (item[0] if isinstance(item, tuple) else 0, total)


@pytest.mark.parametrize("reduces", [False, True])
def test_each_partition_has_its_priority_and_all_other_tasks_one(reduces: bool) -> None:
    bag = Bag({("map-1", n): (emit, n) for n in range(20)}, "map-1", 20)
    if reduces:
        bag = bag.foldby(itemgetter(0), add, combine=max, split_every=8).map_partitions(list)
    priorities = {n: -7 * n for n in range(20)}
    result = _prioritised(bag, priorities, 1)
    (layer,) = result.dask.layers.values()
    priority = layer.annotations["priority"]
    graph = dict(result.dask)
    dependencies, _ = dask.core.get_deps(graph)
    leaves = {key for key, needed in dependencies.items() if not needed}
    assert sorted(key[1] for key in leaves) == list(range(20))
    assert {key: priority(key) for key in graph} == {
        key: priorities[key[1]] if key in leaves else 1 for key in graph
    }
    assert (len(graph) > 20) == reduces


def test_a_file_timeout_goes_by_the_clock_of_the_client(tmp_path, monkeypatch):
    """The clock of another host may be a day off, whatever its processes say of their time."""
    (tmp_path / "marks").mkdir()
    now = time.monotonic()
    monkeypatch.setattr("time.monotonic", lambda: now)
    place = {"path": "/data/a.gz", "host": "another", "file": "a.gz"}
    dead = Mark("map", 1, 7, now, process="dead", **place)
    alive = Mark("map", 1, 7, now - 86_400, process="alive", **place)
    watchdog = FileTimeout(str(tmp_path), 60.0)

    def look(*marks):
        for mark in marks:
            (tmp_path / "marks" / f"map-1.{mark.process}").write_text(json.dumps(mark._asdict()))
        watchdog.check()

    look(dead)
    now += 59
    look(alive)  # which takes up the task of the other, that died
    now += 2
    look(alive)
    now += 57
    look(alive._replace(place="line 7"))
    now += 2
    with pytest.raises(JobError, match=r"Mapping /data/a\.gz took longer than --file-timeout"):
        look(alive._replace(place="line 8"))
    look(alive._replace(path="/data/b.gz", since=now))
