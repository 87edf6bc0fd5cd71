"""The figures of a plan."""

from __future__ import annotations

import json
from collections import Counter

from hypothesis import given
from hypothesis import strategies as st
from support.docs import first_cells, read

from daskmr.data.layout import load_schema
from daskmr.data.listing import Gathering, InputFile, Listing
from daskmr.data.partition import plan_partitions
from daskmr.run.plan import (
    Amount,
    Balance,
    Plan,
    amount_of,
    as_json,
    balance,
    count_requests,
    figures,
    reducing,
    unmatched,
)

VALUES = st.sampled_from("abcdefghij")
FILES = st.lists(st.tuples(VALUES, VALUES, st.integers(0, 10**6)), max_size=60)


def listing_of(rows: list[tuple[str, str, int]]) -> Listing:
    gathering = Gathering(load_schema())
    for number, (first, second, size) in enumerate(rows):
        dims = (first, second, "c", "d", "e", "f")
        gathering.files.append(InputFile(f"{number:04}.gz", size, dims))
    return gathering.listing("/data")


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
    assert reducing([], None, 2).buckets == 1


def test_unmatched_values_are_those_without_a_file() -> None:
    allowed = ["saved-session", "idle-daily", "nothing-like-it"]
    schema = load_schema({"dimensions": [{"field_name": "why", "allowed_values": allowed}]})
    gathering = Gathering(schema)
    for value in ("saved_session", "idle_daily2", "other"):
        gathering.pick(0, value)
    gathering.files.append(InputFile("x", 1, ("saved_session", *"bcdef")))
    found = unmatched(schema, gathering.listing("/data"))
    assert [(one.dimension, one.position, one.value, one.similar) for one in found] == [
        ("why", 1, "idle-daily", ("idle_daily2",)),
        ("why", 1, "nothing-like-it", ()),
    ]
    assert found[1].existing == ("idle_daily2", "other", "saved_session")


def test_ranges_and_regexes_name_no_values() -> None:
    for allowed in ("*", {"min": "a"}, {"regex": "x"}):
        schema = load_schema({"dimensions": [{"field_name": "a", "allowed_values": allowed}]})
        assert unmatched(schema, Gathering(schema).listing("/data")) == ()


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
