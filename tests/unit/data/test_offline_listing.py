import json
import tempfile

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_store import FakeRecord, FakeStore
from support.layouts import DIMS, LAST, NAME, allow, filters, layout, numbered, told, trees

from daskmr.data.cache.listing_record import ListingRecord, ListingRecorder
from daskmr.data.cache.manifest import Manifest
from daskmr.data.layout import load_schema
from daskmr.data.offline_listing import list_recorded
from daskmr.data.store_listing import list_store
from daskmr.errors import InputError
from daskmr.store.source import Entry
from daskmr.store.store import Store, parse_source


def record_of(keys, *schemas, page=1000):
    """What walks with some filters record."""
    record = FakeRecord()
    for schema in schemas:
        list_store(FakeStore(dict.fromkeys(keys, 3), page), schema, recorder=record)
    return record


def replay(record, schema, allow_incomplete=False):
    return list_recorded(record, "s3://bucket", schema, allow_incomplete)


def missing(record, schema):
    """What the error says to be missing; the same as going on without notes."""
    with pytest.raises(InputError) as caught:
        replay(record, schema)
    notes = replay(record, schema, allow_incomplete=True)[1]
    text = "; ".join(notes)
    assert str(caught.value) == (
        f"The recorded listing of s3://bucket is incomplete for this filter: {text}. Run once "
        "without --local-only, narrow the filter, or use --allow-incomplete to continue without them."
    )
    return text


KEYS = [
    f"{reason}/{app}/{channel}/24.0/{NAME}"
    for reason in ("idle_daily", "saved_session")
    for app in ("Firefox", "Fennec")
    for channel in ("nightly", "beta")
]


@pytest.mark.parametrize(
    "values",
    [
        (),
        ("saved-session",),
        ("saved-session", "Firefox", "nightly"),
        (["saved-session", "idle-daily"], "*", {"regex": "n.*"}),
        ("*", {"min": "Fi"}, ["beta", "aurora"], "24.0"),
        ("none",),
    ],
)
def test_same_filter_needs_nothing_more(values):
    schema = allow(*values)
    listing, notes = replay(record_of(KEYS, schema), schema)
    assert listing == list_store(FakeStore(dict.fromkeys(KEYS, 3)), schema)
    assert notes == ()


def test_narrower_filter_needs_nothing_more():
    record = record_of(KEYS, allow(["saved-session", "idle-daily"], "*", ["nightly", "beta"]))
    for values in [
        ("saved-session", "*", "beta"),
        ("idle_daily", "Firefox", ["nightly", "beta"], "*", "2013"),
        (["idle-daily", "saved-session"], ["Firefox", "no such"], "beta", "24.0", {"min": 2013}),
    ]:
        schema = allow(*values)
        listing, notes = replay(record, schema)
        assert told(listing) == told(list_store(FakeStore(dict.fromkeys(KEYS, 3)), schema))
        assert notes == ()


def test_what_two_walks_have_listed_counts_together():
    record = record_of(KEYS, allow("saved-session", "*", "beta"), allow("idle-daily", "*", "beta"))
    listing, _ = replay(record, allow(["idle-daily", "saved-session"], "Firefox", "beta"))
    assert len(listing.files) == 2


# What was never listed


DATES = ["20140228", "20140301", "20140302", "20140303"]


@pytest.fixture
def by_date(tmp_path):
    """Makes schemas of a layout whose directories are submission_date and channel."""
    names = ("submission_date", "channel", "buildID", "version")
    path = tmp_path / "dates.json"
    path.write_text(json.dumps({"dimensions": [{"field_name": name} for name in names]}))

    def make(*values):
        dimensions = [
            {"field_name": name, "allowed_values": value}
            for name, value in zip(names, values, strict=False)
        ]
        return load_schema({"dimensions": dimensions}, path)

    return make


DATED = [f"{date}/{channel}/1.2.gz" for date in DATES for channel in ("beta", "nightly")]


@pytest.mark.parametrize(
    ("listed", "asked", "said"),
    [
        (
            [{"min": "20140301"}],
            [{"min": "20140201"}],
            "submission_date below 20140301 was never listed",
        ),
        (
            [{"max": "20140301"}],
            [{"min": "20140201"}],
            "submission_date above 20140301 was never listed",
        ),
        (
            [{"min": "20140301", "max": "20140301"}],
            [{"min": "2014"}],
            "submission_date below 20140301 was never listed; "
            "submission_date above 20140301 was never listed",
        ),
        (
            [{"regex": "20140228|20140303"}],
            [{"min": "2014"}],
            "submission_date 20140301 or 20140302 was never listed",
        ),
        (["20140301"], ["20140302"], "submission_date 20140302 was never listed"),
        (["20140301"], ["*"], "submission_date other than 20140301 was never listed"),
        (
            [["20140301", "20140302"]],
            [{"min": "2014"}],
            "submission_date other than 20140301 or 20140302 was never listed",
        ),
        (["*", "nightly"], ["*", "beta"], "channel beta was never listed"),
        (["*", {"regex": "n.*"}], ["*", "*"], "channel beta was never listed"),
        (["*", "nightly"], ["*", "*"], "channel other than nightly was never listed"),
        (
            ["20140301", "nightly"],
            ["20140302", "nightly"],
            "submission_date 20140302 was never listed",
        ),
        (
            ["20140301", "nightly"],
            ["20140301", ["nightly", "pre-beta", "a b"]],
            "channel 'a b' or pre-beta was never listed",
        ),
    ],
)
def test_what_was_never_listed_is_told_by_dimension(by_date, listed, asked, said):
    record = record_of(DATED, by_date(*listed))
    assert missing(record, by_date(*asked)).partition(" below '")[0] == said


def test_what_is_known_not_to_be_there_is_not_missing(by_date):
    record = record_of(DATED, by_date("*", {"regex": "n.*"}))
    listing, notes = replay(record, by_date(["20140301", "20150101"], "my-beta"))
    assert (listing.files, notes) == ((), ())
    assert "existing there: 'beta', 'nightly'" in listing.explain_nothing()


def test_where_it_was_not_listed_is_told_where_it_was_elsewhere(by_date):
    record = record_of(
        DATED, by_date("20140301", "*"), by_date(["20140302", "20140303"], "nightly")
    )
    assert missing(record, by_date({"min": "20140301"}, "beta")) == (
        "submission_date other than 20140301, 20140302, 20140303 was never listed; "
        "channel beta was never listed below '20140302/' and 1 more"
    )


def test_nothing_was_ever_listed():
    assert missing(FakeRecord(), allow()) == "nothing was ever listed"
    listing, _ = replay(FakeRecord(), allow(), allow_incomplete=True)
    assert listing.files == ()
    assert "holds no file" in listing.explain_nothing()


def test_names_that_were_listed_by_their_start():
    builds = ("2013", "2014", "2015", "2016")
    keys = numbered(20, *builds)
    record = record_of(keys, allow(*DIMS, ["2014", "2016"]), page=10)
    listing, notes = replay(record, allow(*DIMS, "2014"))
    assert (len(listing.files), notes) == (20, ())
    where = f" below '{LAST}'"
    name = "f4"
    assert missing(record, allow(*DIMS, ["2014", "2015", "a-b"])) == (
        f"{name} 2015 or a-b was never listed{where}"
    )
    assert missing(record, allow(*DIMS, {"min": 2014})) == (
        f"{name} other than 2014 or 2016 was never listed{where}"
    )
    assert missing(record, allow(*DIMS)) == (
        f"appBuildID other than 2014 or 2016 was never listed{where}"
    )
    listing, _ = replay(record, allow(*DIMS, {"min": 2014}), allow_incomplete=True)
    assert len([file for file in listing.files if file.dims[4] in ("2014", "2016")]) == 40


def test_range_of_names_that_was_listed_by_its_start():
    keys = numbered(20, "20131101", "20131102", "20131201", "20131202")
    record = record_of(keys, allow(*DIMS, {"min": 20131201, "max": 20131231}), page=10)
    listing, notes = replay(record, allow(*DIMS, ["20131202", "20131203"]))
    assert (len(listing.files), notes) == (20, ())
    assert missing(record, allow(*DIMS, {"min": 20131101, "max": 20131231})) == (
        f"f4 other than 201312... was never listed below '{LAST}'"
    )


def test_start_of_names_says_nothing_of_directories(tmp_path):
    record = FakeRecord()
    record.entries_listed("", [Entry("a", True)])
    record.prefix_listed("", "a.")
    assert missing(record, layout(tmp_path, 3, [])) == "nothing was ever listed"


def test_many_values_are_not_all_told(by_date):
    many = [f"201501{day:02}" for day in range(1, 31)]
    text = missing(record_of(DATED, by_date("20140301")), by_date(many))
    shown = ", ".join(many[:10])
    assert text == f"submission_date {shown}, ... (30 values) was never listed"


def test_many_gaps_are_not_all_told():
    record = FakeRecord()
    for n in range(30):
        record.prefix_listed(f"{n}/{n}/", "")
    record.entries_listed("", [Entry(str(n), True) for n in range(30)])
    record.prefix_listed("", "")
    text = missing(record, allow())
    assert text.count("other than") == 20
    assert text.endswith("; and 10 more of this kind")
    assert "f4" not in text


# For any tree, and any filters


@settings(max_examples=40, deadline=None)
@given(trees, st.lists(filters, max_size=3), st.sampled_from([1, 2, 1000]))
def test_record_that_a_cache_keeps_gives_the_same(tree, before, page):
    with tempfile.TemporaryDirectory() as root:
        kept, manifest = FakeRecord(), Manifest(f"{root}/cache.sqlite")
        for earlier in before:
            schema = layout(root, 4, earlier)
            list_store(FakeStore(tree, page), schema, recorder=kept)
            list_store(FakeStore(tree, page), schema, recorder=ListingRecorder(manifest))
        recorded = ListingRecord(manifest)
        for values in [*before, []]:
            schema = layout(root, 4, values)
            listing, notes = replay(recorded, schema, allow_incomplete=True)
            expected, same_notes = replay(kept, schema, allow_incomplete=True)
            assert notes == same_notes
            if not notes:
                assert listing == expected
        manifest.close()


def test_record_of_a_bucket_needs_no_request(bucket, tmp_path):
    bucket.put(dict.fromkeys([*KEYS, "README.md", "idle_daily/x"], b"xyz"))
    manifest = Manifest(str(tmp_path / "cache.sqlite"))
    schema = allow(["idle-daily", "saved-session"], "Firefox")
    with Store(parse_source(bucket.name)) as store:
        listed = list_store(store, schema, recorder=ListingRecorder(manifest))
    bucket.server.clear_requests()
    listing, notes = list_recorded(ListingRecord(manifest), listed.root, schema)
    assert (listing, notes) == (listed, ())
    assert len(listing.files) == 4
    assert bucket.requests() == []
    manifest.close()


@settings(max_examples=50, deadline=None)
@given(trees, st.lists(filters, max_size=3), filters, st.sampled_from([1, 2, 1000]))
def test_replay_equals_the_walk_or_says_that_it_can_not(tree, before, values, page):
    with tempfile.TemporaryDirectory() as root:
        schema = layout(root, 4, values)
        record = FakeRecord()
        for earlier in before:
            list_store(FakeStore(tree, page), layout(root, 4, earlier), recorder=record)
        expected = told(list_store(FakeStore(tree, page), schema))
        listing, notes = replay(record, schema, allow_incomplete=True)
        if notes:
            with pytest.raises(InputError):
                replay(record, schema)
            assert set(told(listing)) <= set(expected)
        else:
            assert told(listing) == told(replay(record, schema)[0]) == expected
        # what an earlier walk has found is found
        for earlier in before:
            found = told(list_store(FakeStore(tree, page), layout(root, 4, earlier)))
            assert set(found) & set(expected) <= set(told(listing))
        list_store(FakeStore(tree, page), schema, recorder=record)
        assert told(replay(record, schema)[0]) == expected
