"""Hot keys are found in a sample, add up over partitions, and say when they are exact."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from support.jobs import write_tree

from daskmr import Job, mapreduce
from daskmr.history import HotKey
from daskmr.job.keys import name_key
from daskmr.tasks.hot_keys import _STRIDE, KeySample, count_keys, merge_hot_keys, with_counted


def emit(key: str, dims: list[str], value: str, context: Any) -> None:
    context.write(key, value)


def count(key: Any, values: Any, context: Any) -> None:
    context.write(key, len(values))


def total(key: Any, values: Any, context: Any) -> None:
    context.write(key, sum(values))


def emit_many(key: str, dims: list[str], value: str, context: Any) -> None:
    for number in range(int(value)):
        context.write(("tail", number), 1)
        context.write("hot", 1)


def test_a_sample_is_of_every_127th_pair_whatever_the_batches() -> None:
    keys = random.Random(1).choices(range(50), k=20_000)
    whole, cut = KeySample(), KeySample()
    whole.take(keys, 30.0)
    at, rng = 0, random.Random(2)
    while at < len(keys):
        size = rng.choice([1, 2, 60, _STRIDE - 1, _STRIDE, _STRIDE + 1, 500])
        cut.take(keys[at : at + size], 30.0)
        at += size
    expected = Counter(keys[::_STRIDE])
    for sample in (whole, cut):
        told = {hot.key: hot.values for hot in sample.hottest(8.0)}
        assert told == {repr(k): _STRIDE * n for k, n in expected.most_common(16)}


def test_a_sample_of_many_keys_keeps_the_hot_one_and_little_memory() -> None:
    sample = KeySample()
    for start in range(0, 2_000_000, 1000):
        keys: list[Any] = list(range(start, start + 1000))
        keys[::10] = ["hot"] * 100
        sample.take(keys, 30.0)
    first = sample.hottest(8.0)[0]
    assert first.key == "'hot'"
    assert not first.exact
    assert 150_000 < first.values < 250_000
    assert len(sample._hits) <= 4096 + 1000

    long = KeySample()
    for number in range(200):
        long.take([f"{number:0100000}"] * _STRIDE, 100_000.0)
        assert sum(map(len, [*long._hits, *long._drawn])) < 6_000_000, "keys are held on to"


def test_a_key_with_few_large_values_is_told_of() -> None:
    sample = KeySample()
    sample.take(list(range(1, 6100)), 30.0)
    for _ in range(3):
        sample.take_large("heavy", 5_000_000)
    heaviest = max(sample.hottest(8.0), key=lambda hot: hot.bytes)
    assert (heaviest.key, heaviest.bytes) == ("'heavy'", 15_000_000)


def test_names_are_short_and_tell_long_keys_apart() -> None:
    first, second = "http://host/" + "a" * 5000 + "/1", "http://host/" + "a" * 5000 + "/2"
    assert name_key(first) != name_key(second)
    for key in (first, b"\xff" * 10_000, ("x" * 10_000,), tuple(range(10_000)), 10**500):
        assert len(name_key(key)) <= 130


def test_few_keys_are_counted_exactly_and_many_are_not() -> None:
    few = count_keys({"a": [1, 2], "b": [3]}, 10.0, {"b": 1000})
    assert few == (HotKey("'a'", 2, 20, True), HotKey("'b'", 1, 1010, True))
    some = count_keys({n: [0] * n for n in range(1, 100)}, 10.0, {})
    assert some is not None
    assert some[0].values == 99
    assert not any(hot.exact for hot in some)
    assert count_keys({n: [0] for n in range(2000)}, 10.0, {}) is None


def test_what_is_added_stays_exact_only_while_all_keys_are_told_of() -> None:
    exact, other = (HotKey("a", 1, 8, True),), (HotKey("b", 5, 40, True),)
    assert [(h.key, h.exact) for h in merge_hot_keys(exact, other)] == [("b", True), ("a", True)]
    assert merge_hot_keys(exact, ()) == exact == merge_hot_keys((), exact)
    guessed = (HotKey("a", 3, 24),)
    assert merge_hot_keys(exact, guessed) == (HotKey("a", 4, 32),)
    many = tuple(HotKey(str(n), n, n, True) for n in range(100))
    merged = merge_hot_keys(many, exact)
    assert 48 <= len(merged) <= 64
    assert merged[0].values == 99
    assert not any(h.exact for h in merged)


def test_what_a_reducer_has_counted_takes_the_place_of_an_estimate() -> None:
    estimated = (HotKey("a", 61, 500), HotKey("b", 122, 9))
    counted = [HotKey("a", 200, 90, True)]
    assert with_counted(estimated, counted) == (HotKey("a", 200, 500, True), HotKey("b", 122, 9))


def test_a_result_tells_of_its_tasks_and_hot_keys(tmp_path: Any) -> None:
    write_tree(tmp_path / "data", [["a\tx"] * 30 + ["b\ty"] * 10] * 3)
    result = mapreduce(Job(map=emit, reduce=count), data_dir=tmp_path / "data", inline=True)
    assert dict(result) == {"a": 90, "b": 30}
    history = result.history
    assert [(h.key, h.values, h.exact) for h in history.hot_keys] == [
        ("'a'", 90, True),
        ("'b'", 30, True),
    ]
    assert [(t.phase, t.number, t.worker) for t in history.tasks] == [
        ("map", 0, "inline"),
        ("map", 1, "inline"),
        ("map", 2, "inline"),
        ("reduce", 0, "inline"),
    ]
    mapped = [task for task in history.tasks if task.phase == "map"]
    assert sum(task.records for task in mapped) == result.records == 120
    assert sum(task.bytes for task in mapped) == result.bytes
    assert sum(task.files for task in mapped) == result.files == 3
    assert history.tasks[-1].records == result.key_count == 2
    assert all(task.memory > 0 and task.waited == 0 for task in history.tasks)
    assert all(history.started <= t.start <= t.end <= history.ended for t in history.tasks)


def test_a_map_only_result_tells_of_its_tasks(tmp_path: Any) -> None:
    write_tree(tmp_path / "data", [["a\tx"], ["b\ty"]])
    result = mapreduce(Job(map=emit), data_dir=tmp_path / "data", inline=True)
    assert [task.phase for task in result.history.tasks] == ["map", "map"]
    assert result.history.hot_keys == ()


def test_a_group_that_is_too_large_for_memory_is_counted_exactly(tmp_path: Any) -> None:
    write_tree(tmp_path / "data", [["hot\t" + "x" * 50] * 3000 + ["b\ty"]] * 2)
    job = Job(map=emit, reduce=count)
    result = mapreduce(job, data_dir=tmp_path / "data", inline=True, spill_bytes=20_000)
    assert result.spilled
    assert sum(task.spilled for task in result.history.tasks) == result.spilled
    first = result.history.hot_keys[0]
    assert (first.key, first.values, first.exact) == ("'hot'", 6000, True)


def test_with_a_combiner_the_values_that_map_wrote_are_estimated(tmp_path: Any) -> None:
    write_tree(tmp_path / "data", [["a\t1000"] * 30])
    job = Job(map=emit_many, combine=total, reduce=total)
    result = mapreduce(job, data_dir=tmp_path / "data", inline=True)
    first = result.history.hot_keys[0]
    assert first.key == "'hot'"
    assert not first.exact
    assert 27_000 < first.values < 33_000
