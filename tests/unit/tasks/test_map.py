"""One partition through `map`: what comes back, what is counted, and what a failure leaves."""

from __future__ import annotations

import gc
import gzip
import os
import pickle
import pstats
import resource
import signal
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from daskmr.data.listing import InputFile
from daskmr.data.partition import Partition
from daskmr.data.parts import Part, read_blocks
from daskmr.data.segments import Extent
from daskmr.data.spill_dir import Scratch
from daskmr.data.writers.contexts import OutputKind
from daskmr.errors import TaskFailed
from daskmr.job.job import Job
from daskmr.job.keys import bucket_of
from daskmr.tasks.crashes import read_marks
from daskmr.tasks.fold import Spilling
from daskmr.tasks.map import TALLY, MapTask, map_packed, map_partition
from daskmr.tasks.runs import Run, read_groups
from daskmr.tasks.tally import Tally

LARGE = 1 << 26


def emit(key: Any, dims: Any, value: Any, context: Any) -> None:
    context.write(key, value)


def reduce(key: Any, values: Any, context: Any) -> None:
    raise AssertionError("a mapper does not reduce")


class Place:
    """A data dir and a run's folder."""

    def __init__(self, root: Path) -> None:
        self.root, self.data, self.run_dir = root, root / "data", root / "run"
        self.data.mkdir(parents=True)
        for name in ("marks", "live", "segments", "parts"):
            (self.run_dir / name).mkdir(parents=True)

    def put(self, name: str, content: bytes | list[str], size: int | None = None) -> InputFile:
        if isinstance(content, list):
            content = gzip.compress("".join(f"{line}\n" for line in content).encode(), 1)
        (self.data / name).write_bytes(content)
        return InputFile(name, len(content) if size is None else size, ("one", "two"))

    def task(self, map_: Any = emit, *, map_only: bool = False, **changes: Any) -> MapTask:
        functions = {"combine": changes.pop("combine", None)}
        functions["setup_reduce"] = changes.pop("setup_reduce", None)
        job = Job(map=map_, reduce=None if map_only else reduce, **functions)
        budget, buckets = changes.pop("budget", LARGE), changes.pop("buckets", 1)
        fields: dict[str, Any] = {
            "job": job,
            "root": str(self.data),
            "remote": None,
            "scratch": Scratch(str(self.run_dir)),
            "spilling": Spilling(str(self.run_dir / "segments"), budget, buckets, 1),
            "combine_size": 50,
            "kind": OutputKind(),
            "skip_corrupt": False,
            "max_bad": None,
            "save_limit": 1 << 20,
            "profile": False,
            "max_record_bytes": 1 << 20,
            "part_bytes": 1 << 20,
            "file_timeout": None,
        }
        return MapTask(**{**fields, **changes})

    def map(
        self, *files: InputFile, index: int = 0, task: MapTask | None = None, **options: Any
    ) -> tuple[list[Any], Tally]:
        partition = Partition(index, files, sum(file.size for file in files))
        results = map_partition(partition, task=task or self.task(**options))
        numbers = [number for number, _ in results]
        assert numbers == [*range(len(results) - 1), TALLY]
        *contents, tally = (content for _, content in results)
        assert isinstance(tally, Tally)
        return contents, tally

    def groups(self, run: Run) -> dict[Any, list[Any]]:
        segments = str(self.run_dir / "segments")
        return {k: list(v) for k, v in read_groups(run, None, LARGE, segments)}

    def left(self) -> list[str]:
        """Name the segments that lie in the run's folder."""
        return [
            str(path) for name in ("segments", "parts") for path in (self.run_dir / name).iterdir()
        ]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def text_of(part: Part) -> str:
    return "".join(text for _, written in read_blocks(part, direct=True) for text in written)


CORRUPT = gzip.compress(b"".join(b"k%d\tcorrupt\n" % n for n in range(5000)))[:-20]


# --- what comes back -------------------------------------------------------------------------


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.lists(st.tuples(st.sampled_from("abcdef"), st.integers(0, 9)), max_size=20), max_size=4
    ),
    st.sampled_from([1, 5]),
    st.sampled_from([1, 1000, LARGE]),
    st.sampled_from([0, 1, 16]),
)
def test_a_run_for_every_bucket(
    tmp_path_factory: Any, files: Any, buckets: int, budget: int, batch: int
) -> None:
    place = Place(tmp_path_factory.mktemp("place"))
    stored = [
        place.put(f"{n}.gz", [f"{key}\t{value}" for key, value in lines])
        for n, lines in enumerate(files)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("daskmr.tasks.fold._BATCH", batch)
        runs, tally = place.map(*stored, buckets=buckets, budget=budget)
    assert len(runs) == buckets
    expected: dict[str, list[str]] = {}
    for key, value in (pair for lines in files for pair in lines):
        expected.setdefault(key, []).append(str(value))
    got: dict[str, list[str]] = {}
    for bucket, run in enumerate(runs):
        groups = place.groups(run)
        assert all(bucket_of(key, buckets) == bucket for key in groups)
        got.update(groups)
    assert got == expected
    assert (tally.records, tally.files) == (sum(map(len, files)), len(files))
    assert tally.bytes == sum(file.size for file in stored)
    assert (tally.spilled > 0) == bool(place.left())
    if budget != 1000:
        assert (tally.spilled > 0) == (budget == 1 and bool(expected))


def test_a_partition_without_files(place: Place) -> None:
    runs, tally = place.map(buckets=3)
    assert runs == [Run((b"",))] * 3
    assert (tally.files, tally.records, tally.bytes, tally.bad_records) == (0, 0, 0, 0)


def test_a_pickled_partition_is_mapped_alike(place: Place) -> None:
    file = place.put("a.gz", ["k\tv"])
    packed = pickle.dumps(Partition(0, (file,), 1))
    (_, run), (number, tally) = map_packed(packed, task=place.task())
    assert number == TALLY
    assert place.groups(run) == {"k": ["v"]}
    assert tally.total().records == 1


def test_every_file_has_its_own_dims(place: Place) -> None:
    def spoil(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, list(dims))
        dims.append(value)

    files = [place.put(name, ["k\tv", "k\tw"]) for name in ("a.gz", "b.gz")]
    (run,), _ = place.map(*files, map_=spoil)
    assert place.groups(run) == {"k": [["one", "two"], ["one", "two", "v"]] * 2}


def test_combine_is_used_while_mapping(place: Place) -> None:
    def total(key: Any, values: Any, context: Any) -> None:
        context.write(key, sum(values))

    def one(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, 1)

    (run,), _ = place.map(place.put("a.gz", ["k\t"] * 1000), map_=one, combine=total)
    (values,) = place.groups(run).values()
    assert len(values) < 50
    assert sum(values) == 1000


def test_map_only_gives_one_part_with_the_text(place: Place) -> None:
    def header(context: Any) -> None:
        context.field_separator = "|"
        context.write("key", "value")

    files = [place.put(f"{n}.gz", [f"{n}\t{m}" for m in range(5)]) for n in range(3)]
    for part_bytes, kind in ((1 << 20, tuple), (1, Extent)):
        (part,), tally = place.map(
            *files, map_only=True, setup_reduce=header, part_bytes=part_bytes
        )
        assert part.header == ("key|value\n",)
        assert text_of(part) == "".join(f"{n}|{m}\n" for n in range(3) for m in range(5))
        assert part.lines == tally.records == 15
        assert isinstance(part.frames, kind)


def test_map_only_gives_items_when_it_is_iterated_over(place: Place) -> None:
    (part,), _ = place.map(
        place.put("a.gz", ["k\tv", "k\tw"]), map_only=True, kind=OutputKind(items=True)
    )
    assert [written for _, written in read_blocks(part, True)] == [[("k", "v"), ("k", "w")]]


def test_a_profile_can_be_read(place: Place, tmp_path: Path) -> None:
    file = place.put("a.gz", ["k\tv"] * 7)
    assert place.map(file)[1].profile is None
    _, tally = place.map(file, profile=True)
    assert tally.profile is not None
    calls = {function[2]: counts[1] for function, counts in tally.profile.items()}
    assert calls["emit"] == 7
    stats = pstats.Stats()
    stats.stats = pickle.loads(pickle.dumps(tally.profile))  # type: ignore[attr-defined]
    stats.get_stats_profile()


def test_mapping_has_a_span(place: Place) -> None:
    before = time.time()
    _, tally = place.map(place.put("a.gz", ["k\tv"]))
    assert tally.mapping is not None
    assert before <= tally.mapping.start <= tally.mapping.end <= time.time()


def test_garbage_collection_is_as_it_was(place: Place) -> None:
    seen = []

    def look(key: Any, dims: Any, value: Any, context: Any) -> None:
        seen.append(gc.get_threshold()[0])
        if value == "fail":
            raise KeyError

    before = gc.get_threshold()
    place.map(place.put("a.gz", ["k\t"]), map_=look)
    with pytest.raises(TaskFailed):
        place.map(place.put("b.gz", ["k\tfail"]), map_=look)
    assert gc.get_threshold() == before
    assert min(seen) > before[0]


# --- marks -----------------------------------------------------------------------------------


def test_a_mark_says_what_is_read_by_whom_and_since_when(place: Place) -> None:
    seen = []

    def look(key: Any, dims: Any, value: Any, context: Any) -> None:
        seen.extend(read_marks(str(place.run_dir)))

    names = ["a much longer name.gz", "b.gz", os.fsdecode(b"odd \xff.gz")]
    before = time.time()
    place.map(*(place.put(name, ["k\t"]) for name in names), index=7, map_=look)
    assert [mark.path for mark in seen] == [str(place.data / name) for name in names]
    assert {(mark.phase, mark.number, mark.pid) for mark in seen} == {("map", 7, os.getpid())}
    assert all(before - 1 <= mark.since <= time.time() + 1 for mark in seen)
    assert read_marks(str(place.run_dir)) == [], "when it is done"


def test_no_mark_stays_where_a_mapper_failed(place: Place) -> None:
    file = place.put("a.gz", ["no tab", "k\t"])
    with pytest.raises(TaskFailed):
        place.map(file, map_=lambda key, dims, value, context: 1 / 0)
    assert read_marks(str(place.run_dir)) == []


@pytest.mark.parametrize("map_only", [False, True])
def test_what_waits_to_be_folded_is_bounded_by_its_size_too(place: Place, map_only: bool) -> None:
    """A map that makes much of little would fill the memory before anybody looks."""
    waiting: list[int] = []

    def enlarge(key: Any, dims: Any, value: Any, context: Any) -> None:
        writer = context.counter.__self__
        waiting.append(len(writer.written if map_only else writer.keys))
        context.write(key, value * 400_000)

    file = place.put("a.gz", [f"{n}\tx" for n in range(300)])
    place.map(file, map_=enlarge, map_only=map_only, budget=64 << 20)
    assert waiting
    assert max(waiting) <= 20


# --- files that are not as they were ---------------------------------------------------------


def test_many_corrupt_files_take_no_pass_each(place: Place) -> None:
    mapped: list[str] = []

    def note(key: Any, dims: Any, value: Any, context: Any) -> None:
        mapped.append(value)

    files = [place.put(f"{n:02}.gz", CORRUPT if n % 4 == 1 else [f"k\t{n}"]) for n in range(40)]
    _, tally = place.map(*files, map_=note, skip_corrupt=True)
    assert [path for path, _ in tally.corrupt] == [f"{n:02}.gz" for n in range(1, 40, 4)]
    good = [value for value in mapped if value != "corrupt"]
    assert len(good) == 1 + 30, "what stands before the first of them, and then all"


@pytest.mark.parametrize("difference", [-1, 1, 1000])
@pytest.mark.parametrize("skip", [False, True])
def test_a_file_that_changed_since_it_was_listed(place: Place, difference: int, skip: bool) -> None:
    size = (place.data / place.put("a.gz", ["k\tv"]).path).stat().st_size
    file = InputFile("a.gz", size + difference, ())
    with pytest.raises(TaskFailed, match=f"has {size} bytes and had .* it changed") as caught:
        place.map(file, skip_corrupt=skip)
    assert str(place.data / "a.gz") in caught.value.message


def test_a_file_that_is_gone(place: Place) -> None:
    with pytest.raises(TaskFailed, match=r"gone\.gz cannot be read: No such file"):
        place.map(InputFile("gone.gz", 5, ()))


def test_an_os_error_of_the_users_map_is_the_users(place: Place) -> None:
    def reads(key: Any, dims: Any, value: Any, context: Any) -> None:
        open("/nowhere/at-all")  # noqa: SIM115

    with pytest.raises(TaskFailed, match=r"map failed at .*a\.gz, line 2: FileNotFoundError"):
        place.map(place.put("a.gz", ["bad", "k\t"]), map_=reads)


def test_a_corrupt_file_fails_and_leaves_no_segments(place: Place) -> None:
    files = [place.put("a.gz", ["k\tv"] * 100), place.put("b.gz", CORRUPT)]
    for options in ({"budget": 1}, {"map_only": True, "part_bytes": 1}):
        with pytest.raises(TaskFailed, match=r"b\.gz is damaged.*--skip-corrupt-files"):
            place.map(*files, **options)
        assert place.left() == []


@pytest.mark.parametrize("budget", [1, 20_000, LARGE])
@pytest.mark.parametrize("map_only", [False, True])
def test_a_corrupt_file_is_left_out_whole(place: Place, budget: int, map_only: bool) -> None:
    def dotted(key: Any, dims: Any, value: Any, context: Any) -> None:
        if value == "bad":
            raise ValueError("bad")
        context.write(key, value)

    plain = ["x\tv", "no tab", "x\tbad", "y\tw"]
    files = [
        *(place.put("a.gz", plain), place.put("b.gz", CORRUPT)),
        *(place.put("c.gz", plain), place.put("d.gz", b"no gzip"), place.put("e.gz", ["z\t1"])),
    ]
    options = {"budget": budget, "map_only": map_only, "part_bytes": min(budget, 1 << 20)}
    (content,), tally = place.map(*files, map_=dotted, skip_corrupt=True, **options)
    segments = place.left()
    (expected,), without = place.map(files[0], files[2], files[4], map_=dotted, **options)
    if map_only:
        assert text_of(content) == text_of(expected) == "x\tv\ny\tw\nx\tv\ny\tw\nz\t1\n"
    else:
        assert (
            place.groups(content)
            == place.groups(expected)
            == {
                "x": ["v", "v"],
                "y": ["w", "w"],
                "z": ["1"],
            }
        )
    assert [path for path, _ in tally.corrupt] == ["b.gz", "d.gz"]
    assert all(path in why for path, why in tally.corrupt)
    for name in ("files", "bytes", "records", "bad_reasons", "bad_files", "saved", "unsaved_files"):
        assert getattr(tally, name) == getattr(without, name)
    assert tally.files == 3
    assert len(segments) == int(
        isinstance(content.frames if map_only else content.chunks[0], Extent)
    ), "attempts that were given up left theirs"


def test_setup_is_called_for_each_attempt_and_its_header_stands_once(place: Place) -> None:
    def header(context: Any) -> None:
        context.writeline("header")

    files = [place.put("a.gz", ["k\tv"]), place.put("b.gz", CORRUPT)]
    (part,), _ = place.map(*files, map_only=True, setup_reduce=header, skip_corrupt=True)
    assert part.header == ("header\n",)
    assert text_of(part) == "k\tv\n"


@pytest.mark.parametrize("error", [KeyError("x"), SystemExit(0), MemoryError(), RecursionError()])
@pytest.mark.parametrize("options", [{"budget": 1}, {"map_only": True, "part_bytes": 1}])
def test_a_failure_leaves_no_segments(place: Place, error: BaseException, options: Any) -> None:
    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, value)
        if value == "last":
            assert place.left(), "there was something to leave"
            raise error

    files = [place.put("a.gz", ["k\tv"] * 3000), place.put("b.gz", ["bad", "k\tlast"])]
    with pytest.raises(TaskFailed, match=f"map failed at .*b.gz, line 2: {type(error).__name__}"):
        place.map(*files, map_=map_, **options)
    assert place.left() == []


def test_a_failure_in_setup(place: Place) -> None:
    def setup(context: Any) -> None:
        context.field_separator = None

    with pytest.raises(TaskFailed, match="setup_reduce failed before the first key: TypeError"):
        place.map(map_only=True, setup_reduce=setup)


def test_a_failure_in_combine_names_the_key(place: Place) -> None:
    def combine(key: Any, values: Any, context: Any) -> None:
        raise ValueError("no such luck")

    file = place.put("a.gz", ["key\tv"] * 50)
    with pytest.raises(TaskFailed, match="combine failed for the key 'key': ValueError: no such"):
        place.map(file, combine=combine)


@contextmanager
def full_disk(free: int) -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (free, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "options", [{"budget": 1000}, {"map_only": True, "part_bytes": 1000}], ids=["reduce", "map"]
)
def test_a_full_disk_is_told_and_leaves_nothing(place: Place, options: Any) -> None:
    lines = [f"{n}\t{os.urandom(60).hex()}" for n in range(2000)]
    file = place.put("a.gz", lines)
    with full_disk(5000), pytest.raises(TaskFailed) as caught:
        place.map(file, **options)
    assert caught.value.message.startswith("Writing what did not fit in memory failed")
    assert "Make room" in caught.value.message
    assert place.left() == []


# --- bad records -----------------------------------------------------------------------------


def test_bad_records_are_counted_and_saved_with_their_lines(place: Place) -> None:
    def half(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, "counts")
        if value:
            context.write(key, int(value))

    file = place.put("a.txt", b"a\t1\nno tab\n\nb\tx\xff\r\n\xffc\t\nd\t2" + b"2" * 100)
    (run,), tally = place.map(file, map_=half, max_record_bytes=50)
    assert place.groups(run) == {"a": ["counts", 1], "\udcffc": ["counts"]}
    assert tally.records == 6
    assert tally.bad_reasons == {
        "no tab in the line": 2,
        "ValueError": 1,
        "longer than max-record-bytes": 1,
    }
    assert tally.bad_files == {"a.txt": 4}
    saved = [(record.line, record.reason, record.raw) for record in tally.saved]
    assert saved == [
        (2, "no tab in the line", b"no tab"),
        (3, "no tab in the line", b""),
        (4, "ValueError", b"b\tx\xff\r"),
    ]
    assert "invalid literal for int()" in tally.saved[2].detail
    assert tally.unsaved_files == {"a.txt"}, "the long one is not there any more"


def test_saving_stops_at_the_limit(place: Place) -> None:
    files = [place.put("a.txt", b"12345\n" * 3), place.put("b.txt", b"1\n")]
    for limit, saved, unsaved in [
        (16, 4, set()),
        (15, 3, {"b.txt"}),
        (14, 2, {"a.txt", "b.txt"}),
        (0, 0, {"a.txt", "b.txt"}),
    ]:
        _, tally = place.map(*files, save_limit=limit)
        assert (len(tally.saved), tally.unsaved_files) == (saved, unsaved)
        assert tally.bad_records == 4


def test_more_bad_records_than_allowed_stop_the_mapper(place: Place) -> None:
    calls: Counter[str] = Counter()

    def count(key: Any, dims: Any, value: Any, context: Any) -> None:
        calls[key] += 1

    file = place.put("a.txt", b"bad\nbad\nk\tv\n" * 5)
    _, tally = place.map(file, map_=count, max_bad=10)
    assert tally.bad_records == 10
    calls.clear()
    with pytest.raises(
        TaskFailed,
        match=r"more bad records than --max-bad-records allows \(3\).*a\.txt, line 5.*'bad'",
    ):
        place.map(file, map_=count, max_bad=3)
    assert calls == {"k": 1}


def test_a_bad_record_takes_back_its_writes_alone(place: Place) -> None:
    """Also where a batch was folded just before, and where one call writes more than a batch."""

    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        for _ in range(int(value.rstrip("!"))):
            context.write(key, 1)
        if value.endswith("!"):
            raise ValueError

    lines = ["a\t700", "b\t700!", "c\t700", "d\t5000!", "a\t1", "b\t1", "e\t1025", "f\t1!", "g\t1"]
    (run,), tally = place.map(place.put("a.gz", lines), map_=map_)
    assert {key: len(values) for key, values in place.groups(run).items()} == {
        "a": 701,
        "c": 700,
        "b": 1,
        "e": 1025,
        "g": 1,
    }
    assert tally.bad_reasons == {"ValueError": 3}


# --- time ------------------------------------------------------------------------------------


def test_a_file_that_takes_too_long_is_interrupted(place: Place) -> None:
    def slow(key: Any, dims: Any, value: Any, context: Any) -> None:
        time.sleep(float(value))

    quick, file = place.put("a.gz", ["k\t0"]), place.put("b.gz", ["k\t0", "k\t5"])
    handler = signal.getsignal(signal.SIGALRM)
    started = time.monotonic()
    with pytest.raises(TaskFailed, match=r"b\.gz took longer than --file-timeout allows \(0\.1 s"):
        place.map(quick, file, map_=slow, file_timeout=0.1)
    assert time.monotonic() - started < 2
    assert signal.getsignal(signal.SIGALRM) is handler
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_time_is_that_of_one_file(place: Place) -> None:
    def slow(key: Any, dims: Any, value: Any, context: Any) -> None:
        time.sleep(0.1)

    files = [place.put(f"{n}.gz", ["k\t"]) for n in range(4)]
    _, tally = place.map(*files, map_=slow, file_timeout=0.3)
    assert tally.files == 4
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_a_map_that_catches_everything_is_interrupted_too(place: Place) -> None:
    def stubborn(key: Any, dims: Any, value: Any, context: Any) -> None:
        try:
            time.sleep(0.1)
        except Exception:
            context.write(key, "the rest of the job goes on")

    file = place.put("a.gz", ["k\t"] * 6)
    with pytest.raises(TaskFailed, match="took longer than --file-timeout"):
        place.map(file, map_=stubborn, file_timeout=0.15)


def test_no_alarm_outside_of_the_main_thread(place: Place) -> None:
    file = place.put("a.gz", ["k\tv"])
    results: list[Any] = []
    thread = threading.Thread(
        target=lambda: results.append(place.map(file, file_timeout=100)[1].records)
    )
    thread.start()
    thread.join()
    assert results == [1]


@pytest.mark.parametrize("error", [KeyboardInterrupt])
def test_ctrl_c_stops_and_leaves_no_segments(place: Place, error: Any) -> None:
    def map_(key: Any, dims: Any, value: Any, context: Any) -> None:
        context.write(key, value)
        if value == "stop":
            raise error

    files = [place.put("a.gz", ["k\tv"] * 3000), place.put("b.gz", ["k\tstop"])]
    with pytest.raises(error):
        place.map(*files, map_=map_, budget=1)
    assert place.left() == []
