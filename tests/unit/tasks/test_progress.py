"""What tasks say of how far they are: seldom, once for each task that is done, and never in vain."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path

import pytest

from daskmr.counts import Counts
from daskmr.data.spill_dir import Scratch, SpillStore
from daskmr.tasks import progress
from daskmr.tasks.progress import (
    FOLDER,
    Printed,
    Report,
    Reporter,
    listening,
    publish,
    read_news,
    report_merge,
)


@pytest.fixture
def run_dir(tmp_path: Path) -> str:
    (tmp_path / "run-1" / FOLDER).mkdir(parents=True)
    return str(tmp_path / "run-1")


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(progress.time, "monotonic", clock)
    monkeypatch.setattr(progress, "_process", progress._Process())
    return clock


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def reports(run_dir: str) -> list[Report]:
    return [said for news in read_news(run_dir, {}) for said in news.said if type(said) is Report]


def test_a_task_says_when_it_is_done(run_dir: str) -> None:
    counts = Counts(2, 300, 40, {"no tab in the line": 1}, 1, 200, 50)
    with Reporter(run_dir, "map", 7, lambda: counts):
        pass
    (report,) = reports(run_dir)
    assert (report.phase, report.number, report.done, report.worker) == ("map", 7, True, "inline")
    assert report.counts == counts
    assert report.memory > 0
    assert report.start <= report.at


def test_a_task_that_fails_is_not_done(run_dir: str) -> None:
    with pytest.raises(ValueError, match="x"), Reporter(run_dir, "map", 7, Counts):
        raise ValueError("x")
    assert reports(run_dir) == []


def test_where_a_task_is_replaces_what_it_said_before(run_dir: str, clock: Clock) -> None:
    counts = Counts(files=1, bytes=100, records=10)
    reporter = Reporter(run_dir, "map", 7, lambda: counts)
    for number, file in enumerate(["a" * 200, "b"]):
        clock.now += 1
        reporter.begin(file)
        clock.now += 1
        reporter.step(5 + number)
    (report,) = reports(run_dir)
    assert (report.file, report.counts.records, report.done) == ("b", 16, False)


def test_it_is_said_a_few_times_a_second_at_most(run_dir: str, clock: Clock) -> None:
    said = []
    with listening(said.append):
        reporter = Reporter(run_dir, "map", 7, Counts)
        for number in range(1000):
            clock.now += 0.001
            reporter.step(number)
    assert len(said) == 3


def test_a_task_that_begins_right_after_another_says_so(run_dir: str, clock: Clock) -> None:
    """Its first records may take long, and its process would seem to be idle."""
    with Reporter(run_dir, "reduce", 1, Counts):
        clock.now += 1
    Reporter(run_dir, "map", 7, Counts).begin("the pairs of step 1")
    done, begun = sorted(reports(run_dir), key=lambda report: not report.done)
    assert (done.phase, done.done) == ("reduce", True)
    assert (begun.phase, begun.file) == ("map", "the pairs of step 1")


def test_bytes_of_a_file_count_while_it_is_read(run_dir: str, clock: Clock) -> None:
    reporter = Reporter(run_dir, "map", 7, lambda: Counts(bytes=100))
    stream = io.BytesIO(b"x" * 50)
    reporter.begin("a")
    reporter.opened(stream)
    stream.read(30)
    clock.now += 1
    reporter.step(3)
    assert reports(run_dir)[0].counts.bytes == 130
    stream.close()
    clock.now += 1
    reporter.step(4)
    assert reports(run_dir)[0].counts.bytes == 100


def test_nothing_is_said_when_nobody_watches(run_dir: str, clock: Clock) -> None:
    with Reporter(None, "map", 7, Counts) as reporter:
        clock.now += 1
        reporter.begin("a")
        reporter.step(1)
    assert os.listdir(os.path.join(run_dir, FOLDER)) == []


def test_merges_are_counted_by_run(
    tmp_path: Path, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first, second = (Scratch(f"/client/run-{n}", SpillStore(n, None, 0)) for n in "12")
    for number in range(5):
        clock.now += 1
        report_merge(first, number)
    assert reports(str(tmp_path / "daskmr-1"))[0].merges == 5
    with Reporter("/host/daskmr-1", "map", 7, Counts) as reporter:
        assert reporter._report().merges == 5
    report_merge(second, 0)
    clock.now += 1
    report_merge(second, 0)
    assert reports(str(tmp_path / "daskmr-2"))[0].merges == 2


def test_a_folder_that_is_not_there_fails_nothing(tmp_path: Path) -> None:
    publish(str(tmp_path / "gone"), Printed("x"))
    assert read_news(str(tmp_path / "gone"), {}) == []


def test_what_was_read_is_not_read_again(run_dir: str) -> None:
    publish(run_dir, Printed("first"))
    (news,) = read_news(run_dir, {})
    assert (news.start, news.said) == (0, (Printed("first"),))
    assert read_news(run_dir, {news.name: news.end}) == []
    publish(run_dir, Printed("second \udcff"))
    (more,) = read_news(run_dir, {news.name: news.end})
    assert (more.start, more.said) == (news.end, (Printed("second \udcff"),))


def test_halves_of_lines_wait_for_the_rest(run_dir: str) -> None:
    publish(run_dir, Printed("first"))
    (path,) = Path(run_dir, FOLDER).iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + whole[:10])
    (news,) = read_news(run_dir, {})
    assert (len(news.said), news.end) == (1, len(whole))


def test_what_is_no_news_is_passed_over(run_dir: str) -> None:
    publish(run_dir, Printed("first"))
    (path,) = Path(run_dir, FOLDER).iterdir()
    path.write_bytes(b"{half\n" + path.read_bytes())
    assert [said for news in read_news(run_dir, {}) for said in news.said] == [Printed("first")]
    (Path(run_dir) / FOLDER / "x.now").write_bytes(json.dumps([]).encode()[:1] + b"\n")
    assert len([said for news in read_news(run_dir, {}) for said in news.said]) == 1
