"""The commands that look after caches."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from support.object_store import SOURCE, ObjectStore

from daskmr.cli.cache import commands
from daskmr.data.cache.cache import Cache
from daskmr.errors import InputError, JobError
from daskmr.store.source import Source

OBJECTS = {
    f"{reason}/Firefox/beta/24.0/2013.{date}.log.gz": b"x" * 1000 * size
    for reason, date, size in (
        ("idle", "1101", 1),
        ("idle", "1102", 2),
        ("saved_session", "1101", 3),
    )
}

Run = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """The commands, over a work dir with a cache of two sources."""
    for source in (SOURCE, Source("s3", "other/place")):
        with Cache.of(str(tmp_path), source) as cache, ObjectStore(OBJECTS) as store:
            for file in store.files()[: None if source == SOURCE else 1]:
                cache.fetch(store, file)
            cache.recording().prefix_listed("idle/", "")

    def run(*arguments: str) -> Result:
        return CliRunner().invoke(commands, [*arguments, "-w", str(tmp_path)])

    return run


def files(tmp_path: Path) -> int:
    return sum(path.suffix == ".gz" for path in tmp_path.rglob("*"))


def said(result: Result) -> str:
    assert result.exception is None, result.exception
    return re.sub(r"\d{4}-\d\d-\d\d \d\d:\d\d", "DATE", result.output)


def test_ls_by_source_and_dimension(run: Run, tmp_path: Path) -> None:
    other = next(path.stem for path in tmp_path.glob("*other*.sqlite"))
    assert said(run("ls")) == (
        f"s3://bucket  {tmp_path}/cache\n"
        "  3 files, 6.0 kB; last listed DATE\n"
        "  reason         files    size  first fetched     last fetched      last used\n"
        "  idle               2  3.0 kB  DATE  DATE  DATE\n"
        "  saved_session      1  3.0 kB  DATE  DATE  DATE\n"
        f"s3://other/place  {tmp_path}/{other}\n"
        "  1 files, 1.0 kB; last listed DATE\n"
        "  reason  files    size  first fetched     last fetched      last used\n"
        "  idle        1  1.0 kB  DATE  DATE  DATE\n"
    )


def test_ls_by_several_dimensions_in_another_order(run: Run) -> None:
    arguments = ("ls", "-b", "bucket", "--by", "submission_date", "--by", "reason")
    rows = said(run(*arguments, "--sort", "size")).splitlines()[2:]
    assert [row.split()[:4] for row in rows] == [
        ["submission_date", "reason", "files", "size"],
        ["1101", "saved_session", "1", "3.0"],
        ["1102", "idle", "1", "2.0"],
        ["1101", "idle", "1", "1.0"],
    ]
    for sort in ("used", "fetched", "value"):
        assert len(said(run(*arguments, "--sort", sort)).splitlines()) == 6


def test_ls_of_a_filter(run: Run, tmp_path: Path) -> None:
    filter_ = tmp_path / "filter.json"
    filter_.write_text('{"dimensions": [{"field_name": "reason", "allowed_values": "idle"}]}')
    assert "  2 files, 3.0 kB" in said(run("ls", "-b", "s3://bucket", "-f", str(filter_)))


def test_ls_of_what_is_not_in_the_layout(run: Run, tmp_path: Path) -> None:
    with Cache.of(str(tmp_path), SOURCE) as cache, ObjectStore({"odd\x1b": b"x"}) as store:
        cache.fetch(store, store.file("odd\x1b"))
    assert "(not in the layout)" in said(run("ls", "--by", "reason", "--by", "appName"))


def test_an_unknown_dimension(run: Run) -> None:
    result = run("ls", "--by", "nothing")
    assert result.exit_code == 2
    assert "'nothing' is not one of reason, appName" in result.output


def test_no_cache(tmp_path: Path, run: Run) -> None:
    missing = str(tmp_path / "missing")
    for command in ("ls", "verify"):
        result = CliRunner().invoke(commands, [command, "-w", missing])
        assert said(result) == f"There is no cache in {missing}\n"
    assert said(run("ls", "-b", "none")) == f"There is no cache of s3://none in {tmp_path}\n"
    assert not os.path.exists(missing)


def test_verify(run: Run, tmp_path: Path) -> None:
    assert said(run("verify")) == "4 files are unchanged since they were fetched\n"
    path = tmp_path / "cache" / min(OBJECTS)
    times = os.stat(path).st_mtime_ns
    path.write_bytes(b"y" * 1000)
    os.utime(path, ns=(times, times))
    assert said(run("verify", "--quick")) == "4 files are unchanged since they were fetched\n"
    result = run("verify")
    assert result.output == f"{path} is damaged: its bytes have changed\n"
    assert isinstance(result.exception, JobError)
    assert str(result.exception).startswith("1 problems were found in 4 files.")


def test_prune(run: Run, tmp_path: Path) -> None:
    assert said(run("prune", "--older-than", "30 days")) == (
        "s3://bucket: 0 files removed, 0 B\ns3://other/place: 0 files removed, 0 B\n"
    )
    arguments = ("prune", "-b", "bucket", "--down-to", "3 kB")
    assert said(run(*arguments, "--dry-run")) == "s3://bucket: 2 files would be removed, 3.0 kB\n"
    assert files(tmp_path) == 4
    assert said(run(*arguments)) == "s3://bucket: 2 files removed, 3.0 kB\n"
    assert files(tmp_path) == 2
    filter_ = tmp_path / "filter.json"
    filter_.write_text('{"dimensions": [{"field_name": "reason", "allowed_values": "idle"}]}')
    said(run("prune", "-f", str(filter_)))
    assert files(tmp_path) == 1
    said(run("prune", "--down-to", "0"))
    assert files(tmp_path) == 0


def test_prune_names_what_stays(run: Run, tmp_path: Path) -> None:
    (tmp_path / "cache" / min(OBJECTS)).write_bytes(b"mine")
    with Cache.of(str(tmp_path), SOURCE) as cache:
        staged = cache.staging.claim(max(OBJECTS))
        assert staged is not None
        assert said(run("prune", "-b", "bucket", "--older-than", "0s")) == (
            "s3://bucket: 1 files removed, 2.0 kB\n"
            "  1 files kept because they are being fetched\n"
            "  1 files kept because they differ from what was fetched:\n"
            f"    {min(OBJECTS)}\n"
        )
        staged.release()


def test_prune_sweeps_what_dead_processes_left(run: Run, tmp_path: Path) -> None:
    left = tmp_path / "cache-partial" / ("0" * 40)
    left.write_text("half")
    run("prune", "--older-than", "1 day")
    assert not left.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "Give --older-than"),
        (("--older-than", "soon"), "--older-than 'soon' is not a time"),
        (("--down-to", "much"), "--down-to 'much' is not a size"),
        (("--down-to", "0", "-f", "/no/such"), "there is no such file"),
    ],
)
def test_prune_says_what_it_does_not_understand(
    arguments: tuple[str, ...], message: str, run: Run, tmp_path: Path
) -> None:
    result = run("prune", *arguments)
    assert isinstance(result.exception, InputError)
    assert message in str(result.exception)
    assert files(tmp_path) == 4


def test_dates_are_local() -> None:
    from daskmr.cli.cache import _date

    assert _date(time.mktime((2013, 11, 2, 3, 4, 5, 0, 0, -1))) == "2013-11-02 03:04"
