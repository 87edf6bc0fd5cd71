"""The dry run: its figures; and a plan is what the run then does, and makes nothing itself."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.docs import first_cells, read
from support.jobs import counting_job, file_name, write_tree
from support.store_server import Bucket

from daskmr import InputError, Job, NothingMatchedError, mapreduce
from daskmr.cli.plan import render
from daskmr.data.layout import load_schema
from daskmr.data.listing import InputFile, Listing, Selection
from daskmr.data.partition import plan_partitions
from daskmr.data.sampling import Choice
from daskmr.run.plan import (
    Amount,
    Balance,
    Plan,
    amount_of,
    as_json,
    balance,
    count_requests,
    figures,
    make_plan,
    unmatched,
)

VALUES = st.sampled_from("abcdefghij")
FILES = st.lists(st.tuples(VALUES, VALUES, st.integers(0, 10**6)), max_size=60)
LINES = [[f"k{n}\t{m}" for m in range(n + 1)] for n in range(40)]


def listing_of(rows: list[tuple[str, str, int]]) -> Listing:
    selection = Selection(load_schema())
    for number, (first, second, size) in enumerate(rows):
        dims = (first, second, "c", "d", "e", "f")
        selection.files.append(InputFile(f"{number:04}.gz", size, dims))
    return selection.listing("/data")


@given(FILES)
def test_figures_sum_up_to_the_whole(rows: list[tuple[str, str, int]]) -> None:
    listing = listing_of(rows)
    whole = amount_of(listing.files)
    for dimension in figures(listing):
        named = len(dimension.values)
        assert named + (dimension.others.files > 0) <= max(6, dimension.distinct)
        files = sum(share.files for share in dimension.values) + dimension.others.files
        size = sum(share.bytes for share in dimension.values) + dimension.others.bytes
        assert Amount(files, size) == whole
        assert [s.bytes for s in dimension.values] == sorted(
            (s.bytes for s in dimension.values), reverse=True
        )
    assert figures(listing)[0].distinct == len(Counter(first for first, _, _ in rows))


def test_one_value_more_is_named_rather_than_summed_up() -> None:
    (first, *_) = figures(listing_of([(letter, "x", 5) for letter in "abcdef"]))
    assert [share.value for share in first.values] == list("abcdef")
    assert first.others == Amount()
    assert (first.first, first.last, first.distinct) == ("a", "f", 6)


@given(st.lists(st.integers(0, 10**8), min_size=1, max_size=100))
def test_balance(sizes: list[int]) -> None:
    plan = plan_partitions([InputFile(f"{n}.gz", size, ()) for n, size in enumerate(sizes)])
    cut = balance(plan)
    assert cut.count == len(plan)
    assert cut.bytes_min <= cut.bytes_median <= cut.bytes_max <= sum(sizes)
    assert cut.largest_file_bytes == max(sizes)


def test_the_plan_of_nothing() -> None:
    assert balance([]) == Balance(0, 0, 0, 0, "", 0)
    assert figures(listing_of([]))[0].values == ()


def test_unmatched_values_are_those_without_a_file() -> None:
    allowed = ["saved-session", "idle-daily", "nothing-like-it"]
    schema = load_schema({"dimensions": [{"field_name": "why", "allowed_values": allowed}]})
    selection = Selection(schema)
    for value in ("saved_session", "idle_daily2", "other"):
        selection.pick(0, value)
    selection.files.append(InputFile("x", 1, ("saved_session", *"bcdef")))
    found = unmatched(schema, selection.listing("/data"))
    assert [(one.dimension, one.position, one.value, one.similar) for one in found] == [
        ("why", 1, "idle-daily", ("idle_daily2",)),
        ("why", 1, "nothing-like-it", ()),
    ]
    assert found[1].existing == ("idle_daily2", "other", "saved_session")


def test_ranges_and_regexes_name_no_values() -> None:
    for allowed in ("*", {"min": "a"}, {"regex": "x"}):
        schema = load_schema({"dimensions": [{"field_name": "a", "allowed_values": allowed}]})
        assert unmatched(schema, Selection(schema).listing("/data")) == ()


def test_only_s3_is_asked_for_sizes_of_parts() -> None:
    files = [InputFile("a", 1, (), f"{'0' * 32}-7"), InputFile("b", 1, (), "0" * 32)]
    assert count_requests(1, files, True).head == 1
    assert count_requests(1, files, False).head == 0


def test_json_has_the_documented_keys() -> None:
    none = Amount()
    plan = Plan(
        *("job.py", "-", None, None, None, none, 0, none, none, none, 0, (), ()),
        balance([]),
        None,
        None,
    )
    text = read("docs/before-a-run.md").split("### As JSON")[1]
    assert sorted(as_json(plan)) == sorted(first_cells(text))
    assert json.loads(json.dumps(as_json(plan)))["estimate"] is None


# --- plans ----------------------------------------------------------------------------------------


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
    assert plan.partitions.count == 40
    assert plan.partitions.largest_file_bytes == max(sizes)
    assert (plan.workers, plan.requests, plan.bucket) == (3, None, None)
    assert plan.estimate is not None
    assert plan.estimate.records == sum(map(len, LINES))
    assert [d.distinct for d in plan.dimensions] == [1, 1, 1, 1, 1, 1]
    assert plan.warnings == plan.unmatched == ()
    text = plain(plan)
    assert "input       40 files" in text
    assert "from mapping all of it" in text
    assert "per worker while mapping" in text
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
    assert "none: skipped (--no-estimate)" in plain(plan)
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


def test_names_of_the_layout_decide_in_any_order(tree: Callable[..., Path], in_tmp: Path) -> None:
    options = {"data_dir": tree(LINES), "estimating": False}
    plan = make_plan(counting_job(), input_filter=one("appName", "Firefox"), **options)
    assert plan.files == make_plan(counting_job(), where=["appName=Firefox"], **options).files
    assert {share.value for share in plan.dimensions[1].values} == {"Firefox"}


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
        ("old.txt", "old.txt exists, and would be replaced"),
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
