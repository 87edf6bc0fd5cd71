"""A plan is what the run then does, and makes nothing itself."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.jobs import counting_job, file_name, write_tree
from support.store_server import Bucket

from daskmr import InputError, Job, NothingMatchedError, mapreduce
from daskmr.cli.plan import render
from daskmr.data.sampling import Choice
from daskmr.run.plan import Amount, Plan
from daskmr.run.planner import make_plan

LINES = [[f"k{n}\t{m}" for m in range(n + 1)] for n in range(40)]


def plain(plan: Plan) -> str:
    return render(plan, lambda text, style: text)


def everything_below(root: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in root.rglob("*")}


def one(field: str, allowed: Any) -> dict[str, Any]:
    names = ("reason", "appName", "appUpdateChannel")
    return {
        "dimensions": [
            {"field_name": name, "allowed_values": allowed if name == field else "*"}
            for name in names
        ]
    }


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_plan_of_local_files(tree: Callable[..., Path], in_tmp: Path) -> None:
    root = tree(LINES)
    (root / "README.md").write_text("not in the layout")
    before = everything_below(in_tmp)
    plan = make_plan(counting_job(), data_dir=root, num_mappers=3, output="out.txt")
    assert everything_below(in_tmp) == before
    sizes = [path.stat().st_size for path in root.rglob("*.gz")]
    assert plan.files == plan.local == Amount(40, sum(sizes))
    assert plan.cached == plan.to_fetch == Amount()
    assert plan.skipped == 1
    assert plan.partitions.count == 32
    assert plan.partitions.largest_file_bytes == max(sizes)
    assert (plan.workers, plan.requests, plan.bucket) == (3, None, None)
    assert plan.estimate is not None
    assert plan.estimate.records == sum(map(len, LINES))
    assert [d.distinct for d in plan.dimensions] == [1, 1, 1, 1, 1, 1]
    assert plan.warnings == plan.unmatched == ()
    text = plain(plan)
    assert "input       40 files" in text
    assert "from mapping all of it" in text
    assert "some " in text
    result = mapreduce(counting_job(), data_dir=root, inline=True, work_dir=in_tmp / "w")
    assert (result.files, result.bytes, result.records) == (*_pair(plan.files), 820)


def _pair(amount: Amount) -> tuple[int, int]:
    return amount.files, amount.bytes


def test_without_an_estimate_nothing_is_mapped(tree: Callable[..., Path], in_tmp: Path) -> None:
    mapped: list[str] = []
    job = Job(map=lambda key, dims, value, context: mapped.append(key))
    plan = make_plan(job, data_dir=tree(LINES), estimating=False)
    assert mapped == []
    assert plan.sample is plan.estimate is plan.reducing is None
    assert "none: left out (--no-estimate)" in plain(plan)
    assert "the job has no reduce" in plain(plan)


def test_a_script_that_fails_is_a_warning(tree: Callable[..., Path], in_tmp: Path) -> None:
    (in_tmp / "job.py").write_text(
        "def map(key, dims, value, context): raise KeyError(key)\ndef reducer(k, v, c): pass"
    )
    plan = make_plan("job.py", data_dir=tree(LINES))
    assert plan.estimate is None
    assert plan.warnings[0].startswith("the run would fail: map failed at ")
    assert plan.warnings[1] == "`reducer` is never called. Should it be named `reduce`?"
    assert plain(plan).endswith("named `reduce`?")


def test_too_many_bad_records_are_a_warning(tree: Callable[..., Path], in_tmp: Path) -> None:
    root = tree([["a\t1", "b", "c"]])
    told = "2 of its 3 records are bad, more than --max-bad-records allows"
    assert told in make_plan(counting_job(), data_dir=root).warnings[0]
    assert make_plan(counting_job(), data_dir=root, max_bad_records="100%").warnings == ()


def test_values_that_match_nothing(tree: Callable[..., Path], in_tmp: Path) -> None:
    root = tree(LINES)
    write_tree(root, [["a\t1"]], "idle_daily/Firefox/beta/24.0")
    plan = make_plan(
        counting_job(), data_dir=root, input_filter=one("reason", ["saved-session", "idle-dayly"])
    )
    assert plan.files.files == 40
    assert "no file has 'idle-dayly'; did you mean 'idle_daily'?" in plain(plan)


def test_dimensions_in_another_order_are_a_warning(tree: Callable[..., Path], in_tmp: Path) -> None:
    swapped = {"dimensions": [{"field_name": "appName", "allowed_values": "*"}]}
    plan = make_plan(counting_job(), data_dir=tree(LINES), input_filter=swapped)
    assert "dimension 1 of the filter is called appName, and in the layout reason" in plain(plan)


def test_nothing_matches(tree: Callable[..., Path], in_tmp: Path) -> None:
    root = tree(LINES)
    with pytest.raises(NothingMatchedError, match="'other'"):
        make_plan(counting_job(), data_dir=root, input_filter=one("reason", "other"))
    plan = make_plan(
        counting_job(), data_dir=root, input_filter=one("reason", "other"), allow_empty=True
    )
    assert plan.files == Amount()
    assert "the output would be empty" in plain(plan)


@pytest.mark.parametrize(
    "options",
    [
        {"num_reducers": 100_000},
        {"memory_limit": "10MB"},
        {"scheduler": "tcp://127.0.0.1:1", "cluster": "slurm"},
        {"cluster": "no-such-cluster"},
        {"combine_size": 0},
    ],
    ids=str,
)
def test_what_a_run_refuses(options: Any, tree: Callable[..., Path], in_tmp: Path) -> None:
    with pytest.raises(InputError):
        make_plan(counting_job(), data_dir=tree(LINES), **options)


def test_on_a_cluster_the_number_of_workers_is_not_known(
    tree: Callable[..., Path], in_tmp: Path
) -> None:
    plan = make_plan(counting_job(), data_dir=tree(LINES), scheduler="tcp://127.0.0.1:1")
    assert plan.workers is None
    assert plan.estimate is not None
    assert plan.estimate.map_seconds is None
    assert "of one worker's time" in plain(plan)


@pytest.mark.parametrize(
    ("output", "said"),
    [
        ("old.txt", "old.txt is there, and would be replaced"),
        ("data", "it is a directory"),
        ("no/out.txt", "there is no directory"),
    ],
)
def test_the_output_is_looked_at(
    output: str, said: str, tree: Callable[..., Path], in_tmp: Path
) -> None:
    (in_tmp / "old.txt").write_text("as it was")
    plan = make_plan(counting_job(), data_dir=tree(LINES), output=output, estimating=False)
    assert said in plain(plan)
    assert (in_tmp / "old.txt").read_text() == "as it was"


def test_what_a_run_would_refuse_to_replace_is_refused(
    tree: Callable[..., Path], in_tmp: Path
) -> None:
    root = tree(LINES)
    link = next(path for path in root.rglob("*") if path.is_file())
    link.rename(in_tmp / "elsewhere")
    link.symlink_to(in_tmp / "elsewhere")
    (in_tmp / "filter.json").write_text('{"dimensions": []}')
    (in_tmp / "out.txt.meta.json").write_text("mine")
    for output in ("elsewhere", "filter.json", "out.txt"):
        options: dict[str, Any] = {
            "data_dir": root,
            "input_filter": "filter.json",
            "output": output,
        }
        messages = []
        for refuses in (partial(make_plan, estimating=False), partial(mapreduce, inline=True)):
            with pytest.raises(InputError) as caught:
                refuses(counting_job(), **options)
            messages.append(str(caught.value))
        assert messages[0] == messages[1]
    assert not (in_tmp / "out.txt").exists()


def test_names_in_any_encoding(tree: Callable[..., Path], in_tmp: Path) -> None:
    root = tree([])
    folder = os.fsencode(root) + b"/caf\xe9/Firefox/beta/24.0"
    os.makedirs(folder)
    Path(os.fsdecode(folder), file_name(0, "log")).write_text("a\t1\n")
    text = plain(make_plan(counting_job(), data_dir=root))
    assert r"caf\udce9" in text
    text.encode()


# --- a bucket -----------------------------------------------------------------------------------


@pytest.fixture
def filled(bucket: Bucket, tmp_path: Path) -> Bucket:
    root = write_tree(tmp_path / "made", LINES)
    bucket.put({str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.gz")})
    bucket.server.clear_requests()
    return bucket


def test_a_plan_of_a_bucket_fetches_nothing(filled: Bucket, in_tmp: Path) -> None:
    options = {"bucket": filled.name, "work_dir": str(in_tmp / "w")}
    plan = make_plan(counting_job(), **options)
    assert filled.count("GET", "saved_session") == filled.count("HEAD") == 0
    assert plan.to_fetch == plan.files
    assert plan.requests is not None
    assert plan.requests.get == 40
    assert plan.requests.listing == len(filled.listed())
    assert plan.disks[0].fetched == plan.files.bytes
    assert "none: none of the files is on this machine yet" in plain(plan)
    assert not list((in_tmp / "w").rglob("*.gz"))

    some = one("appUpdateChannel", "nightly")
    mapreduce(counting_job(), inline=True, input_filter=some, **options)
    fetched = filled.count("GET", "saved_session")
    assert fetched == plan.requests.get
    after = make_plan(counting_job(), **options)
    assert (after.cached, after.to_fetch) == (plan.files, Amount())
    assert after.estimate is not None
    assert after.estimate.records == 820
    assert filled.count("GET", "saved_session") == fetched


def test_what_was_listed_is_recorded(filled: Bucket, in_tmp: Path) -> None:
    options: Any = {"bucket": filled.name, "work_dir": str(in_tmp / "w")}
    make_plan(counting_job(), **options)
    filled.server.clear_requests()
    plan = make_plan(
        counting_job(), local_only=True, allow_incomplete=True, allow_empty=True, **options
    )
    assert filled.listed() == []
    assert plan.requests is None
    assert any("not in the cache" in note for note in plan.notes)


def test_too_little_room_is_a_warning(filled: Bucket, in_tmp: Path) -> None:
    plan = make_plan(counting_job(), bucket=filled.name, work_dir=str(in_tmp / "w"), cache_max=1000)
    assert "--cache-max" in plan.warnings[0]


def test_without_a_cache_all_is_fetched(filled: Bucket, in_tmp: Path) -> None:
    plan = make_plan(counting_job(), bucket=filled.name, cache=False)
    assert plan.to_fetch == plan.files
    assert plan.disks[0].fetched == 0
    assert not (in_tmp / ".daskmr").exists()


def test_a_plan_of_a_part(tree: Callable[..., Path], in_tmp: Path) -> None:
    root = tree(LINES)
    choice = Choice(limit_files=3)
    wanted = one("reason", ["saved-session", "idle-daily"])
    plan = make_plan(counting_job(), data_dir=root, input_filter=wanted, choice=choice)
    result = mapreduce(
        counting_job(), data_dir=root, inline=True, work_dir=in_tmp / "w", limit_files=3
    )
    assert (plan.files.files, plan.files.bytes) == (3, result.bytes)
    assert plan.unmatched == (), "what the rest holds is not known"
    assert "a sample: 3 files" in plain(plan)
