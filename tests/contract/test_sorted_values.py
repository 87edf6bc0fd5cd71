"""The contract of sorted values: `reduce` gets the values of each key in the order of `sort_values`."""

from __future__ import annotations

import math
from collections import defaultdict

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.jobs import daskmr, write_tree
from support.runs import small_limits

from daskmr import InputError, Job, JobError, mapreduce
from daskmr.job.keys import sort_key
from daskmr.job.loading import load_job

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.integers(min_value=1 << 60)
    | st.floats()
    | st.text(max_size=3)
    | st.binary(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.tuples(inner, inner),
    max_leaves=5,
)
BUDGETS = st.sampled_from(["100 B", "1 kB", "5 kB", "256 MB"])


def pairs_of(values):
    """Pairs with few keys, in some cases with more values than fit in memory."""
    pair = st.tuples(st.sampled_from("ab"), values)
    return st.lists(pair, max_size=5) | st.lists(pair, min_size=40, max_size=60)


def emit(key, dims, value, context):
    context.write(key, value)


def keep(key, values, context):
    context.write(key, repr(list(values)))


def as_tuple(value):
    """Make a key of a value, whose order is known."""
    return tuple(map(as_tuple, value)) if isinstance(value, list | tuple) else value


def plain(value):
    return sort_key(as_tuple(value))


def read_back(stream, dims):
    """Read values that no text could hold."""
    import pickle

    yield from pickle.loads(stream.read())


def data_of(tmp_path_factory, pairs, files=3):
    import pickle

    folder = tmp_path_factory.mktemp("data")
    for number in range(files):
        (folder / f"{number}.log").write_bytes(pickle.dumps(pairs[number::files]))
    return folder, [pair for number in range(files) for pair in pairs[number::files]]


def run(job, data, **options):
    return mapreduce(job, data_dir=data, layout="flat", inline=True, **options)


# --- equal to plain Python ------------------------------------------------------------------------


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pairs_of(VALUES),
    BUDGETS,
    st.sampled_from([1, 4]),
)
def test_values_are_in_order(tmp_path_factory, pairs, spill_bytes, reducers):
    data, pairs = data_of(tmp_path_factory, pairs)
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)
    job = Job(emit, reduce=keep, read=read_back, sort_values=True)
    with small_limits():
        found = run(job, data, spill_bytes=spill_bytes, num_reducers=reducers).to_dict()
    assert found == {key: repr(sorted(groups[key], key=plain)) for key in groups}


@settings(max_examples=25, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pairs_of(st.integers(-50, 50)),
    BUDGETS,
    st.sampled_from([1, 4]),
    st.sampled_from([2, 50]),
)
def test_equal_values_stay_in_input_order(
    tmp_path_factory, pairs, spill_bytes, reducers, combine_size
):
    """Neither a `combine` that writes nothing, nor spilling, changes the order of equal values."""
    data, pairs = data_of(tmp_path_factory, pairs)
    groups = defaultdict(list)
    for key, value in pairs:
        groups[key].append(value)

    def combine(key, values, context):
        pass

    for each in (None, combine):
        job = Job(emit, each, keep, read=read_back, sort_values=lambda value: value % 5)
        options = {"spill_bytes": spill_bytes, "combine_size": combine_size}
        with small_limits():
            found = run(job, data, num_reducers=reducers, **options).to_dict()
        assert found == {key: repr(sorted(groups[key], key=lambda v: v % 5)) for key in groups}


@settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    pairs_of(st.integers(-50, 50)),
    BUDGETS,
    st.sampled_from([1, 4]),
)
def test_what_combine_gives_is_sorted(tmp_path_factory, pairs, spill_bytes, reducers):
    data, pairs = data_of(tmp_path_factory, pairs)
    totals = defaultdict(int)
    for key, value in pairs:
        totals[key] += value

    def combine(key, values, context):
        if len(values) % 2:
            context.write(key, sum(values))

    def reduce(key, values, context):
        assert list(values) == sorted(values)
        context.write(key, sum(values))

    job = Job(emit, combine, reduce, read=read_back, sort_values=True)
    with small_limits():
        options = {"spill_bytes": spill_bytes, "num_reducers": reducers, "combine_size": 3}
        assert run(job, data, **options).to_dict() == dict(totals)


def test_the_order_is_that_of_keys(tmp_path_factory):
    values = [(2,), b"b", "b", 2.5, True, None, math.nan, [1, "x"], (1, None), "a", -1, 1]
    data, _ = data_of(tmp_path_factory, [("k", value) for value in values], files=1)
    (pair,) = run(Job(emit, reduce=keep, read=read_back, sort_values=True), data)
    assert pair == (
        "k",
        "[None, -1, True, 1, 2.5, nan, 'a', 'b', b'b', (1, None), [1, 'x'], (2,)]",
    )


# --- in a script ----------------------------------------------------------------------------------

SCRIPT = """
def map(key, dims, value, context):
    user, _, time = value.partition(" ")
    context.write(key, {"user": user, "time": int(time or 0)})

def reduce(key, values, context):
    context.write(key, " ".join(value["user"] for value in values))
"""
ORDERS = {
    "lambda": 'sort_values = lambda value: value["time"]\n',
    "def": 'def sort_values(value):\n    return value["time"]\n',
    "itemgetter": "from operator import itemgetter\nsort_values = itemgetter('time')\n",
}
LINES = [["k\tb 3", "j\tx 1", "k\tc 2"], ["k\ta 1", "k\td 2", "j\ty 0"]]


@pytest.mark.parametrize("order", ORDERS)
def test_a_script_has_a_key_function(tmp_path, order):
    (tmp_path / "job.py").write_text(ORDERS[order] + SCRIPT)
    data = write_tree(tmp_path / "data", LINES)
    result = mapreduce(tmp_path / "job.py", data_dir=data, inline=True)
    assert result.to_dict() == {"j": "y x", "k": "a c d b"}


def test_workers_sort(tmp_path):
    """A function given in Python travels to the workers, like a script."""
    (tmp_path / "job.py").write_text(ORDERS["lambda"] + SCRIPT)
    script = load_job(tmp_path / "job.py")
    data = write_tree(tmp_path / "data", LINES)
    order = "time"
    inline = {"sort_values": lambda value: value[order], "map": script.map, "reduce": script.reduce}
    for job, options in ((script, {}), (None, inline)):
        result = mapreduce(job, data_dir=data, num_mappers=1, work_dir=tmp_path / "w", **options)
        assert result.to_dict() == {"j": "y x", "k": "a c d b"}


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("def sort_values(values): return 1", "`def sort_values(values)`, neither True nor a"),
        ("def sort_values(values, key): return 1", "`def sort_values(values, key)`, neither True"),
        ("sort_values = ['time']", "`['time']`, neither True nor a function"),
        ("sort_values = False", ""),
        ("sort_values = None", ""),
    ],
)
def test_other_uses_of_the_name(tmp_path, text, note):
    """A script may use the name for another purpose; a note says that values are not sorted."""
    (tmp_path / "job.py").write_text(f"{text}\n{SCRIPT}")
    job = load_job(tmp_path / "job.py")
    assert job.sort_values is None
    assert note in "".join(job.notes)
    assert len(job.notes) == bool(note)


def test_without_reduce_a_note_says_so(tmp_path):
    (tmp_path / "job.py").write_text("sort_values = True\n" + SCRIPT.partition("def reduce")[0])
    assert "`sort_values` has no effect: without reduce" in load_job(tmp_path / "job.py").notes[0]


@pytest.mark.parametrize("order", ["time", 1, lambda one, two: 0, lambda: 0])
def test_a_job_refuses_what_cannot_sort(order):
    with pytest.raises(InputError, match=r"`sort_values` is .*, neither True nor a function"):
        Job(emit, reduce=keep, sort_values=order)


def test_the_order_is_part_of_the_job():
    one, other = (Job(emit, reduce=keep, sort_values=order) for order in (True, None))
    assert one.digest != other.digest


# --- what cannot be sorted ------------------------------------------------------------------------


@pytest.mark.parametrize("spill_bytes", ["1 kB", "256 MB"])
def test_values_that_cannot_be_compared_are_named(tmp_path_factory, spill_bytes):
    pairs = [("k", {"n": n}) for n in range(2)]
    pairs += [("j", 1 + n * 1j) for n in range(100)]
    data, _ = data_of(tmp_path_factory, pairs, files=1)
    for key, one in (("k", r"{'n': 1} and {'n': 0}"), ("j", r"\(1\+\d+j\) and \(1\+\d+j\)")):
        job = Job(
            lambda k, dims, value, context, key=key: context.write(k, value) if k == key else None,
            reduce=keep,
            read=read_back,
            sort_values=True,
        )
        expected = rf"sort_values failed for the key '{key}': {one} cannot be compared .*TypeError"
        with small_limits(), pytest.raises(JobError, match=expected):
            run(job, data, spill_bytes=spill_bytes)


def test_values_of_two_pages_that_cannot_be_compared_are_named(tmp_path_factory):
    """Each page can be sorted, but they cannot be merged."""
    from datetime import date, datetime

    days = [date(2024, 1, 1 + n % 28) for n in range(300)]
    times = [datetime(2024, 1, 1, n % 24) for n in range(300)]
    data, _ = data_of(tmp_path_factory, [("k", value) for value in [*days, *times]], files=1)
    job = Job(emit, reduce=keep, read=read_back, sort_values=True)
    expected = (
        r"for the key 'k': datetime\.\w+\(2024.*\) and datetime\.\w+\(2024.* cannot be compared"
    )
    with small_limits(), pytest.raises(JobError, match=expected):
        run(job, data, spill_bytes="1 kB")


@pytest.mark.parametrize("spill_bytes", ["1 kB", "256 MB"])
def test_a_failing_key_function_names_the_value(tmp_path_factory, spill_bytes):
    pairs = [("k", {"time": n, "pad": "x" * 50}) for n in range(100)] + [("k", {"tim": 1})]
    data, _ = data_of(tmp_path_factory, pairs, files=1)
    job = Job(emit, reduce=keep, read=read_back, sort_values=lambda value: value["time"])
    expected = r"sort_values failed for the value {'tim': 1} of the key 'k': KeyError: 'time'"
    with small_limits(), pytest.raises(JobError, match=expected):
        run(job, data, spill_bytes=spill_bytes)


def test_nothing_remains_on_disk(tmp_path, tmp_path_factory):
    """Pages are removed when the next key begins, so that only one key's are on disk."""
    data, _ = data_of(tmp_path_factory, [(f"k{n % 3}", "x" * 50) for n in range(900)], files=1)
    sizes = []

    def reduce(key, values, context):
        folder = next((tmp_path / "work").glob("*/segments"))
        sizes.append((len(values), len([*folder.iterdir()])))

    job = Job(emit, reduce=reduce, read=read_back, sort_values=True)
    with small_limits():
        run(job, data, spill_bytes="1 kB", work_dir=tmp_path / "work", num_reducers=1)
    assert [count for count, _ in sizes] == [300] * 3
    assert len({files for _, files in sizes}) == 1


# --- daskmr check ---------------------------------------------------------------------------------


def test_check_shows_the_order(tmp_path):
    (tmp_path / "job.py").write_text(ORDERS["lambda"] + SCRIPT)
    write_tree(tmp_path / "data", LINES)
    done = daskmr("check", "job.py", "-d", "data", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("sorted ")]
    assert line.split(maxsplit=1)[1].startswith("'k': {'user': 'a', 'time': 1}, {'user': 'c',")
    assert "k    a c d b" in done.stdout
