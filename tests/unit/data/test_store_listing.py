import asyncio
import hashlib
import os
import tempfile
import uuid
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.fake_store import FakeRecord, FakeStore
from support.jobs import ROOT
from support.layouts import (
    DIMS,
    LAST,
    LAYOUTS,
    NAME,
    allow,
    any_trees,
    filters,
    layout,
    numbered,
    told,
    trees,
)

from daskmr.data.layout import load_schema
from daskmr.data.listing import InputFile, list_files
from daskmr.data.offline_listing import list_recorded
from daskmr.data.readers.suffixes import EXTENSIONS
from daskmr.data.store_listing import _name_fault, list_store
from daskmr.errors import InputError
from daskmr.store.source import Entry, Page, StoreError
from daskmr.store.store import Store, parse_source

FILTERS = ROOT / "examples" / "filters"


def store_of(*keys, page=1000):
    return FakeStore(dict.fromkeys(keys, 3), page)


def paths(listing):
    return [file.path for file in listing.files]


# What is listed


def test_the_names_of_hive_come_from_a_directory_that_holds_a_file():
    keys = ["dt=1/", "dt=11/_SUCCESS", "dt=2/hour=1/", "dt=2/hour=2/x.log"]
    store = FakeStore(dict.fromkeys(keys, 0))
    listing = list_store(store, load_schema(layout="hive"))
    assert listing.layout.field_names == ("dt", "hour")
    assert told(listing) == [("dt=2/hour=2/x.log", 0, ("2", "2"))]


def test_a_name_of_known_values_that_reads_as_others_is_not_requested():
    keys = ["a_b_y/x.log", "a_y/x.log"]
    schema = load_schema(None, "{a}_{b}/{_}", ("a=a,a_b", "b=y"))
    listing = list_store(FakeStore(dict.fromkeys(keys, 1)), schema)
    assert [file.path for file in listing.files] == ["a_y/x.log"]


def test_file_with_all_that_the_store_tells():
    listing = list_store(store_of(LAST + NAME), allow())
    dims = (*DIMS, "20131029030201", "20131102")
    tag = f"tag of {LAST}{NAME}"
    assert listing.files == (InputFile(LAST + NAME, 3, dims, tag, 1e9),)
    assert listing.root == "s3://bucket"
    assert (listing.skipped, listing.skipped_count) == ((), 0)


def test_order_is_that_of_the_paths_as_bytes(tmp_path):
    keys = [f"{name}/1.1.gz" for name in ("a", "a-b", "a.b", "a0", "\xe9", "\ue000", "\U0001f600")]
    listed = paths(list_store(store_of(*keys), layout(tmp_path, 3, [])))
    assert listed == sorted(keys, key=os.fsencode)
    assert listed[0] == "a-b/1.1.gz"


def test_equal_dimensions_share_one_tuple():
    files = list_store(store_of(LAST + "1.2.a.gz", LAST + "1.2.b.gz", page=1), allow()).files
    assert files[0].dims is files[1].dims


def test_layout_without_directories(tmp_path):
    store = store_of("1.2.gz", "2.2.gz", "sub/1.2.gz")
    listing = list_store(store, layout(tmp_path, 2, ["1"]))
    assert paths(listing) == ["1.2.gz"]
    assert listing.skipped == ("sub/",)
    assert store.asked == [("", "")]


def build(root, tree):
    """Write a tree, and return what of it fits on a disk, where no file is a directory too."""
    for path, size in sorted(tree.items()):
        target = Path(root, path)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(b"x" * size)
        except (FileExistsError, NotADirectoryError, IsADirectoryError):
            continue
    return {path: size for path, size in tree.items() if Path(root, path).is_file()}


@settings(max_examples=50, deadline=None)
@given(trees, filters, st.sampled_from([1, 2, 3, 1000]))
def test_walk_of_a_store_equals_that_of_a_disk(tree, values, page):
    with tempfile.TemporaryDirectory() as root:
        schema = layout(root, 4, values)
        data = Path(root, "data")
        data.mkdir()
        store = FakeStore(build(data, tree), page)
        expected = list_files(data, schema)
        listing = list_store(store, schema)
    assert told(listing) == told(expected)
    assert set(listing.skipped) <= set(expected.skipped)
    if all(isinstance(value, dict) or value == "*" for value in values) and page > 1:
        assert listing.skipped == expected.skipped
        assert listing.skipped_count == expected.skipped_count
    for prefix, _ in store.asked:
        below = prefix.split("/")[:-1]
        assert len(below) <= 2
        assert all(map(lambda d, part: d.allows(part), schema.dimensions, below))
        assert not any(part.startswith(".") for part in below)
    if not listing.files:
        # what is there to explain it is the same, as far as the names of directories go
        assert bool(listing.explain_nothing())
        for mine, local in zip(listing.seen[:2], expected.seen[:2], strict=True):
            assert mine == local


@pytest.mark.slow
@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(tree=trees, values=filters)
def test_walk_of_a_bucket_equals_that_of_a_disk(bucket, tree, values):
    folder = uuid.uuid4().hex
    with tempfile.TemporaryDirectory() as root:
        schema = layout(root, 4, values)
        data = Path(root, "data")
        data.mkdir()
        fitting = build(data, tree)
        bucket.put({f"{folder}/{key}": b"x" * size for key, size in fitting.items()})
        expected = list_files(data, schema)
        with Store(parse_source(f"{bucket.name}/{folder}")) as store:
            listing = list_store(store, schema)
    assert told(listing) == told(expected)
    assert set(listing.skipped) <= set(expected.skipped)


@settings(max_examples=40, deadline=None)
@given(trees, filters)
def test_walk_of_a_folder_as_a_store_equals_that_of_a_disk(tree, values):
    with tempfile.TemporaryDirectory() as root:
        schema = layout(root, 4, values)
        data = Path(root, "data")
        data.mkdir()
        build(data, tree)
        expected = list_files(data, schema)
        with Store(parse_source(f"file://{data}")) as store:
            listing = list_store(store, schema)
    assert told(listing) == told(expected)
    assert all(file.etag and file.mtime for file in listing.files)
    assert listing.root == f"file://{data}"


# What is asked for

TREE = [
    f"{folder}/{NAME}"
    for folder in (
        "saved_session/Firefox/nightly/28.0a1",
        "saved_session/Firefox/beta/26.0",
        "saved_session/Firefox/release/25.0",
        "saved_session/Firefox/release/3.6",
        "saved_session/Thunderbird/nightly/28.0a1",
        "saved_session/Fennec/aurora/27.0a2",
        "idle_daily/Firefox/release/25.0",
        "idle_daily/Firefox/nightly/28.0a1",
        "idle_daily/Fennec/esr/24.1",
    )
] + ["README.md", ".hidden/x", "saved_session/Firefox/README.md"]


def folders(*deepest):
    """All prefixes on the way to some, from the root down."""
    found = {""}
    for path in deepest:
        parts = path.split("/")
        found |= {"/".join(parts[:depth]) + "/" for depth in range(1, len(parts) + 1)}
    return found


EVERYTHING = {path.rpartition("/")[0] for path in TREE if path.count("/") == 4}
ASKED = {
    "all.json": folders(*EVERYTHING),
    "saved_session.json": {
        "saved-session/",
        *folders(*(path for path in EVERYTHING if path.startswith("saved"))),
    }
    - {""},
    "desktop.json": folders(*(path for path in EVERYTHING if "Fennec" not in path))
    - {"saved_session/", "idle_daily/"}
    | {"idle_daily/Thunderbird/"},
    "nightly.json": {
        "saved-session/Firefox/nightly/",
        "saved_session/Firefox/nightly/",
        "saved_session/Firefox/nightly/28.0a1/",
    },
    "prerelease.json": folders(
        "saved_session/Firefox/nightly/28.0a1",
        "saved_session/Firefox/beta/26.0",
        "saved_session/Thunderbird/nightly/28.0a1",
        "saved_session/Fennec/aurora/27.0a2",
        "idle_daily/Firefox/nightly/28.0a1",
        "idle_daily/Fennec",
    ),
    "release_2013_11.json": {
        "saved-session/Firefox/release/",
        "saved_session/Firefox/release/",
        "saved_session/Firefox/release/25.0/",
        "idle-daily/Firefox/release/",
        "idle_daily/Firefox/release/",
        "idle_daily/Firefox/release/25.0/",
    },
}


def test_every_example_filter_is_counted():
    assert {path.name for path in FILTERS.iterdir()} == set(ASKED)


@pytest.mark.parametrize("name", sorted(ASKED))
def test_prefixes_asked_for_by_the_example_filters(name):
    store = store_of(*TREE)
    listing = list_store(store, load_schema(FILTERS / name))
    assert listing.files
    assert set(store.prefixes_asked()) == ASKED[name]
    assert store.requests == len(ASKED[name])


@pytest.mark.parametrize("below", ["", "/data/2013"])
@pytest.mark.parametrize("name", sorted(ASKED))
def test_prefixes_asked_for_by_the_example_filters_at_a_server(bucket, name, below):
    root = below[1:] and below[1:] + "/"
    beside = ["other/x", "data/x"] if root else []
    bucket.put(dict.fromkeys([*beside, *(root + key for key in TREE)], b"xyz"))
    schema = load_schema(FILTERS / name)
    with Store(parse_source(bucket.name + below)) as store:
        listing = list_store(store, schema)
    assert told(listing) == told(list_store(store_of(*TREE), schema))
    assert sorted(bucket.listed()) == sorted(root + prefix for prefix in ASKED[name])
    assert all(r.is_listing and r.query["delimiter"] == "/" for r in bucket.requests())
    assert {file.etag for file in listing.files} == {hashlib.md5(b"xyz").hexdigest()}


def test_few_known_values_are_named():
    store = store_of(LAST + NAME)
    list_store(store, allow("idle", ["Firefox", "Fennec"], "beta", ["24.0", "25.0"]))
    assert store.prefixes_asked() == [
        f"idle/{app}/beta/{version}/"
        for app in ("Fennec", "Firefox")
        for version in ("24.0", "25.0")
    ]


def test_many_known_values_are_discovered():
    store = store_of(LAST + NAME)
    many = [f"x{n}" for n in range(40)]
    listing = list_store(store, allow(["idle", *many], ["Firefox", *many]))
    assert paths(listing) == [LAST + NAME]
    assert len(store.prefixes_asked()) == 41 + 3
    assert "" not in store.prefixes_asked()
    store = store_of(LAST + NAME)
    list_store(store, allow(["idle", *(f"x{n}" for n in range(64))]))
    assert store.prefixes_asked() == sorted(folders(LAST[:-1]))


def test_one_known_value_is_named_however_many_prefixes_there_are():
    store = FakeStore({f"{n}/Firefox/beta/24.0/{NAME}": 1 for n in range(1100)}, 5000)
    listing = list_store(store, allow("*", "Firefox", "beta", "24.0"))
    assert len(listing.files) == 1100
    assert store.requests == 1101
    store = FakeStore({f"{n}/Firefox/beta/24.0/{NAME}": 1 for n in range(1100)}, 5000)
    list_store(store, allow("*", ["Firefox", "Fennec"], "beta", "24.0"))
    assert store.requests == 1 + 1100 + 1100


def test_names_that_nothing_can_have_are_not_asked_for():
    store = store_of(LAST + NAME)
    strange = ["a\0b", "a\nb", "x" * 256, "", ".", "..", ".h", "a/b", "/"]
    listing = list_store(store, allow(["idle", *strange], strange, strange, "*", "a/b"))
    assert listing.files == ()
    asked = {part for prefix in store.prefixes_asked() for part in prefix.split("/")}
    assert asked == {"", "idle", "a_b"}  # some are written so in the storage


def test_names_that_are_no_text_are_not_in_a_request():
    odd = os.fsdecode(b"\xff")
    store = store_of(f"{odd}/Firefox/beta/24.0/1.2.gz", LAST + NAME)
    listing = list_store(store, allow(["idle", odd, "\ud800"], "Firefox", "beta", "24.0", "2"))
    assert listing.files == ()
    assert store.asked[0] == ("", "")
    listing = list_store(store, allow([odd]))
    assert paths(listing) == [f"{odd}/Firefox/beta/24.0/1.2.gz"]


def test_many_prefixes_are_asked_for_at_once_but_not_too_many():
    store = FakeStore({f"{n}/Firefox/beta/24.0/{NAME}": 1 for n in range(50)})
    list_store(store, allow())
    assert store.most_at_once == 16


BUILDS = ("2013", "2014", "2014-x", "2015", "2016")


@pytest.mark.parametrize(
    ("builds", "asked", "requests"),
    [
        ("2013", ["", "2013."], 2),
        ("2016", ["", "2016."], 3),
        (["2013", "2016"], ["", "2013.", "2016."], 5),
        ({"min": "2015", "max": "20159"}, ["", "2015"], 3),
        ({"min": "2015"}, [""], 10),
        ("*", [""], 10),
    ],
)
def test_names_are_listed_by_their_start_where_that_is_less(builds, asked, requests):
    keys = numbered(20, *BUILDS)
    store = store_of(*keys, page=10)
    listing = list_store(store, allow(*DIMS, builds))
    expected = list_store(store_of(*keys), allow(*DIMS, builds))
    assert told(listing) == told(expected)
    assert len(listing.files) >= 20
    assert [start for _, start in store.asked] == asked
    assert store.requests == requests


def test_never_twice_the_requests_of_the_better_way():
    keys = numbered(10, *(f"{n:02}" for n in range(30)))
    for builds in (["00", "01"], ["28", "29"], ["03", "11", "20", "29"], ["a", "b", "c", "d"]):
        store = store_of(*keys, page=10)
        listing = list_store(store, allow("*", "*", "*", "*", builds))
        assert len(listing.files) == 10 * sum(build.isdigit() for build in builds)
        assert store.requests - 4 <= 2 * min(30, len(builds))


def test_names_are_listed_by_their_start_at_a_server(bucket):
    keys = numbered(750, *BUILDS)
    bucket.put(dict.fromkeys(keys, b"xyz"))
    schema = allow("*", "*", "*", "*", ["2014-x", "2016"])
    with Store(parse_source(bucket.name)) as store:
        listing = list_store(store, schema)
    assert told(listing) == told(list_store(store_of(*keys), schema))
    assert len(listing.files) == 750 + 750
    # two pages, of which the second ends after all of 2014-x and in 2014, and then 2016 alone
    assert bucket.listed()[4:] == [LAST, LAST, f"{LAST}2014_x.", f"{LAST}2016."]


class StartsFromTheFirst(FakeStore):
    """A server that doesn't know of StartAfter."""

    def entries(self, prefix, name_prefix="", start=""):
        return super().entries(prefix, name_prefix)


class InNoOrder(FakeStore):
    """A server that lists in any order, as S3 Express does."""

    ordered = False

    def entries(self, prefix, name_prefix="", start=""):
        found = super().entries(prefix, name_prefix)
        return sorted(found, key=lambda entry: (entry.name[::-1], entry.name))


@pytest.mark.parametrize("server", [StartsFromTheFirst, InNoOrder])
def test_servers_that_list_in_another_way_give_each_file_once(server):
    keys = dict.fromkeys(numbered(20, *BUILDS), 3)
    listing = list_store(server(keys, 10), allow(*DIMS, ["2013", "2014"]))
    assert paths(listing) == sorted(key for key in keys if "/2013." in key or "/2014." in key)


class Repeating(FakeStore):
    """A server that gives all common prefixes so far on each page again, as some do."""

    async def page_async(self, prefix, name_prefix="", *, start="", token=None):
        page = await super().page_async(prefix, name_prefix, start=start, token=token)
        before = self.entries(prefix, name_prefix, start)[: int(token or 0)]
        return Page([*(entry for entry in before if entry.is_dir), *page.entries], page.token)


class Overlapping(FakeStore):
    """A server whose pages begin with the last entry of the page before."""

    async def page_async(self, prefix, name_prefix="", *, start="", token=None):
        page = await super().page_async(prefix, name_prefix, start=start, token=token)
        before = self.entries(prefix, name_prefix, start)[: int(token or 0)]
        return Page([*before[-1:], *page.entries], page.token)


class Mixing(InNoOrder):
    """A server in no order that gives the first entry of a listing on every page."""

    async def page_async(self, prefix, name_prefix="", *, start="", token=None):
        page = await super().page_async(prefix, name_prefix, start=start, token=token)
        first = self.entries(prefix, name_prefix, start)[:1]
        return Page([*page.entries, *(first if token else [])], page.token)


@pytest.mark.parametrize("server", [Repeating, Overlapping, Mixing])
@pytest.mark.parametrize("values", [[], ["*", "*", "*", "*", ["2013", "2014"]], ["r1"]])
def test_what_a_server_lists_twice_counts_once(server, values):
    keys = [
        key
        for reason in range(7)
        for version in range(7)
        for key in numbered(5, "2013", "2014", below=f"r{reason}/Firefox/beta/{version}/")
    ]
    expected = list_store(store_of(*keys), allow(*values))
    listing = list_store(server(dict.fromkeys(keys, 3), 3), allow(*values))
    assert listing.files == expected.files
    assert listing.skipped_count == 0
    assert listing.repeated > 0
    assert expected.repeated == 0


@settings(max_examples=50, deadline=None)
@given(trees, filters, st.sampled_from([1, 2, 3]), st.sampled_from([Repeating, Overlapping]))
def test_walk_of_a_repeating_store_equals_that_of_another(tree, values, page, server):
    with tempfile.TemporaryDirectory() as root:
        schema = layout(root, 4, values)
        fitting = build(root, tree)
        expected = list_store(FakeStore(fitting, page), schema)
        listing = list_store(server(fitting, page), schema)
    assert replace(listing, repeated=0) == expected


def test_pages_that_go_backwards_end_the_walk():
    store = InNoOrder(dict.fromkeys(numbered(20, *BUILDS), 3), 10)
    store.ordered = True
    with pytest.raises(StoreError, match=f"s3://bucket/{LAST} cannot .* out of order"):
        list_store(store, allow(*DIMS))


class Circling(FakeStore):
    async def page_async(self, prefix, name_prefix="", *, start="", token=None):
        page = await super().page_async(prefix, name_prefix, start=start, token=token)
        return Page(page.entries, page.token or "0")


def test_a_listing_in_circles_ends_the_walk():
    with pytest.raises(StoreError, match="s3://bucket/ cannot be listed"):
        list_store(Circling({f"{n}/Firefox/beta/24.0/{NAME}": 1 for n in range(5)}, 2), allow())


# What does not fit


def test_what_does_not_fit_is_skipped_and_named():
    odd = ["README.md", ".git/x", "idle/x", LAST + "sub/1.2.gz", LAST + "1.2.parquet", LAST + "x"]
    listing = list_store(store_of(LAST + NAME, *odd), allow())
    assert paths(listing) == [LAST + NAME]
    assert listing.skipped == tuple(
        sorted(["README.md", ".git/", "idle/x", LAST + "sub/", LAST + "1.2.parquet", LAST + "x"])
    )


def test_folder_markers_count_as_nothing():
    markers = ["idle/", "idle/Firefox/", LAST, "empty/"]
    store = FakeStore({LAST + NAME: 3, **dict.fromkeys(markers, 0)})
    listing = list_store(store, allow())
    assert paths(listing) == [LAST + NAME]
    assert listing.skipped_count == 0
    store = FakeStore({LAST + NAME: 3, LAST: 5, "idle/": 5})
    assert list_store(store, allow()).skipped == (
        'idle/ (its key ends in "/", but it is not empty)',
        f'{LAST} (its key ends in "/", but it is not empty)',
    )


HOSTILE = {
    "../Firefox/beta/24.0/1.2.gz": "../",
    "./Firefox/beta/24.0/1.2.gz": "./",
    "idle/../../../1.2.gz": "idle/../",
    f"{LAST}../1.2.gz": f"{LAST}../",
    f"{LAST}..": f"{LAST}..",
    f"{LAST}...gz": f"{LAST}...gz",
    "/Firefox/beta/24.0/1.2.gz": '/ (an empty name between two "/")',
    "//beta/24.0/1.2.gz": '/ (an empty name between two "/")',
    "idle//beta/24.0/1.2.gz": 'idle// (an empty name between two "/")',
    f"{LAST}/1.2.gz": f'{LAST}/ (an empty name between two "/")',
    f"{LAST}1.2.\0.gz": f"{LAST}1.2.\\x00.gz (a NUL in its name)",
    "id\0le/Firefox/beta/24.0/1.2.gz": "id\\x00le/ (a NUL in its name)",
    f"{LAST}1.2.\n.gz": f"{LAST}1.2.\\n.gz (a newline in its name)",
    "id\nle/Firefox/beta/24.0/1.2.gz": "id\\nle/ (a newline in its name)",
    f"{LAST}1.2.gz/": f"{LAST}1.2.gz/",
    f"{LAST}1.2.{'x' * 249}.gz": f"{LAST}1.2.{'x' * 249}.gz "
    "(a name of 256 bytes, while file systems allow 255)",
    f"{LAST}1.2.{'é' * 125}.gz": f"{LAST}1.2.{'é' * 125}.gz "
    "(a name of 257 bytes, while file systems allow 255)",
    f"{'x' * 1024}": "x" * 1024 + " (a name of 1024 bytes, while file systems allow 255)",
    f"{LAST}1.2.\ud800.gz": f"{LAST}1.2.\\ud800.gz (its name is not text)",
}


@pytest.mark.parametrize("key", HOSTILE)
def test_hostile_keys_are_skipped_and_named(key):
    store = FakeStore({key: 3, LAST + NAME: 3})
    listing = list_store(store, allow())
    assert paths(listing) == [LAST + NAME]
    assert listing.skipped == (HOSTILE[key],)
    for prefix, _ in store.asked:
        assert prefix in folders(LAST[:-1])


def test_hostile_keys_together():
    store = FakeStore({LAST + NAME: 3, **dict.fromkeys(HOSTILE, 3)})
    listing = list_store(store, allow())
    assert paths(listing) == [LAST + NAME]
    assert set(listing.skipped) == set(HOSTILE.values())


def test_hostile_keys_at_a_server(bucket):
    keys = {key: said for key, said in HOSTILE.items() if "\ud800" not in key}
    bucket.put({LAST + NAME: b"xyz", "idle/": b"", **dict.fromkeys(keys, b"xyz")})
    with Store(parse_source(bucket.name)) as store:
        listing = list_store(store, allow())
    assert paths(listing) == [LAST + NAME]
    assert set(listing.skipped) == set(keys.values())
    assert set(bucket.listed()) == folders(LAST[:-1])


def test_names_that_are_only_unusual_are_listed():
    keys = [f"{LAST}1.2.{rest}.gz" for rest in ("a b", "\xe9", "x" * 248, "%2F", "a\\b", "-", "'")]
    keys.append(f"a b/\xe9\u20ac/{'x' * 255}/\U0001f600/1.2.gz")
    assert paths(list_store(store_of(*keys), allow())) == sorted(keys)


def test_names_that_are_only_unusual_at_a_server(bucket):
    rests = ("a b", "a+b", "\xe9", "x" * 248, "%2F", "a\\b", "-", "'", "&amp;", "?a=b", "#", "\t")
    keys = [f"{LAST}1.2.{rest}.gz" for rest in rests]
    keys.append("a b/\xe9\u20ac/?&#/\U0001f600/1.2.gz")
    bucket.put(dict.fromkeys(keys, b"xyz"))
    with Store(parse_source(bucket.name)) as store:
        assert paths(list_store(store, allow())) == sorted(keys)
        named = list_store(store, allow("a b", ["\xe9\u20ac"], "?&#", "\U0001f600"))
    assert paths(named) == [keys[-1]]


def test_names_that_differ_in_case_are_two():
    keys = [LAST + "1.2.A.gz", LAST + "1.2.a.gz"]
    assert paths(list_store(store_of(*keys), allow())) == keys


def test_mistake_is_none_for_any_name_a_file_can_have(tmp_path):
    for name in ("a", "x" * 255, "\xe9" * 127, "a\tb", "\x7f", os.fsdecode(b"\xff")):
        assert _name_fault(name) is None
        (tmp_path / name).touch()


# Why there is nothing


def explain(store, schema):
    listing = list_store(store, schema)
    assert listing.files == ()
    return listing.explain_nothing()


@pytest.mark.parametrize("position", range(1, 7))
def test_the_dimension_that_excluded_the_last(position):
    message = explain(
        store_of(*TREE), allow(*["*"] * (position - 1), ["x", "y-z"], *["z"] * (6 - position))
    )
    assert f"No file below s3://bucket matches the filter: dimension {position} (f" in message
    assert "allows 'x' or 'y-z'; existing there: '" in message
    assert "Correct the filter, or the bucket." in message


def test_values_that_exist_are_told_where_names_led_to_nothing():
    store = store_of(*TREE)
    message = explain(store, allow("saved-session", "Firefox", "nigtly", "28.0a1"))
    assert "dimension 3 (f2, in the layout appUpdateChannel) allows 'nigtly'" in message
    assert "existing there: 'beta', 'nightly', 'release'." in message
    assert set(store.prefixes_asked()) == {
        "",
        "saved_session/",
        "saved_session/Firefox/",
        "saved-session/Firefox/nigtly/28.0a1/",
        "saved_session/Firefox/nigtly/28.0a1/",
    }


def test_bucket_that_holds_nothing():
    for keys in ([], ["README.md"]):
        message = explain(store_of(*keys), allow("idle", "Firefox"))
        assert message.startswith("The bucket s3://bucket holds no file in the layout {reason}/")
        assert "Check the bucket and the layout." in message
    assert "Not in the layout: 1 ('README.md', because it is a file, where" in message


@pytest.mark.parametrize("others", [[], ["idle"]])
def test_a_value_in_another_normal_form_is_named_as_that(others):
    there, given_ = "cafe\u0301", "caf\xe9"
    keys = [f"{name}/Firefox/beta/24.0/{NAME}" for name in [there, *others, "x"]]
    listing = list_store(store_of(*keys), allow([given_, *others]))
    assert paths(listing) == [key for key in keys if key.startswith("idle")]
    (note,) = listing.explain_variants()
    assert f"{there!a} exists, the filter allows {given_!a}" in note
    if not others:
        assert "Unicode normal form" in listing.explain_nothing()


def test_a_build_in_another_normal_form_is_named_as_that():
    keys = numbered(20, "2013", "cafe\u0301")
    store = store_of(*keys, page=10)
    listing = list_store(store, allow(*DIMS, ["2013", "caf\xe9"]))
    assert len(listing.files) == 20
    assert len(listing.explain_variants()) == 1


# What it tells meanwhile


def test_progress_is_told_now_and_then(monkeypatch):
    told = []
    store = FakeStore({f"{n}/Firefox/beta/24.0/{NAME}": 1 for n in range(50)})
    clock = iter(range(10_000))
    monkeypatch.setattr(
        "daskmr.data.store_listing.time", SimpleNamespace(monotonic=lambda: next(clock) / 10)
    )
    list_store(store, allow(), on_progress=lambda *counts: told.append(counts))
    assert told[-1] == (201, 50)
    assert told == sorted(told)
    assert len(told) == 201 // 3 + 1


def test_all_that_was_listed_is_recorded():
    record = FakeRecord()
    keys = [*TREE, *numbered(3, "2014", below="saved_session/Firefox/nightly/28.0a1/")]
    list_store(store_of(*keys, page=2), load_schema(FILTERS / "nightly.json"), recorder=record)
    assert record.prefixes() == [
        (prefix, "")
        for prefix in (
            "saved-session/Firefox/nightly/",
            "saved_session/Firefox/nightly/",
            "saved_session/Firefox/nightly/28.0a1/",
        )
    ]
    assert record.entries("saved-session/Firefox/nightly/") == []
    assert record.entries("saved_session/Firefox/nightly/") == [Entry("28.0a1", True)]
    assert len(record.entries("saved_session/Firefox/nightly/28.0a1/")) == 4


@pytest.mark.parametrize(
    ("builds", "starts"), [(["2013", "2016"], ["2013.", "2016."]), ("a.b", []), ("*", [""])]
)
def test_what_was_listed_by_its_start_is_recorded_so(builds, starts):
    record = FakeRecord()
    list_store(store_of(*numbered(20, *BUILDS), page=10), allow(*DIMS, builds), recorder=record)
    assert [start for prefix, start in record.prefixes() if prefix == LAST] == starts
    for start in starts:
        names = [entry.name for entry in record.entries(LAST) if entry.name.startswith(start)]
        assert len(names) == (20 if start else 100)


# What goes wrong


class Failing(FakeStore):
    async def page_async(self, prefix, name_prefix="", *, start="", token=None):
        if prefix == "7/":
            raise StoreError("Access denied below 7/.")
        return await super().page_async(prefix, name_prefix, start=start, token=token)


def test_first_failure_ends_the_walk():
    record = FakeRecord()
    store = Failing({f"{n}/Firefox/beta/24.0/{NAME}": 1 for n in range(500)})
    with pytest.raises(StoreError, match="below 7/"):
        list_store(store, allow(), recorder=record)
    assert store.requests < 500
    assert ("7/", "") not in record.prefixes()


class Hanging(FakeStore):
    async def page_async(self, prefix, name_prefix="", *, start="", token=None):
        if prefix:
            await asyncio.Event().wait()
        return await super().page_async(prefix, name_prefix, start=start, token=token)

    def run(self, coroutine):
        return asyncio.run(asyncio.wait_for(coroutine, 0.01))


def test_nothing_goes_on_when_the_walk_is_cancelled():
    store = Hanging({f"{n}/Firefox/beta/24.0/{NAME}": 1 for n in range(50)})
    with pytest.raises(TimeoutError):
        list_store(store, allow())


def test_memory_is_flat_while_pages_pass():
    """What the filter excludes is not held: a page at most for each prefix asked at once."""
    alive = 0
    most = 0

    class Counted(list):
        def __init__(self, entries):
            nonlocal alive, most
            super().__init__(entries)
            alive += 1
            most = max(most, alive)

        def __del__(self):
            nonlocal alive
            alive -= 1

    class Paged(FakeStore):
        async def page_async(self, prefix, name_prefix="", *, start="", token=None):
            page = await super().page_async(prefix, name_prefix, start=start, token=token)
            return Page(Counted(page.entries), page.token)

    store = Paged(dict.fromkeys(numbered(200, "2013"), 1), 10)
    list_store(store, allow(*["*"] * 5, "nothing"))
    assert store.requests > 20
    assert most <= 2


# Layouts of all kinds


@settings(max_examples=150, deadline=None)
@given(any_trees, st.sampled_from(LAYOUTS), st.sampled_from([1, 2, 1000]))
def test_every_layout_is_listed_as_a_full_walk_filters(tree, case, page):
    template, where = case
    schema = load_schema(None, template, where)
    with tempfile.TemporaryDirectory() as root:
        fitting = build(root, tree)
        local = list_files(root, schema)
    # an independent walk: all paths, each by itself
    try:
        whole = schema.discovered_in(sorted(fitting))
    except InputError:  # no directory has the name of the filter
        whole = None
    if whole is None or (not whole.layout.fields and template == "hive"):
        expected = []
    else:
        expected = sorted(
            (path, size, dims)
            for path, size in fitting.items()
            if (dims := whole.layout.dims_of(path)) is not None
            and all(each.allows(value) for each, value in zip(whole.dimensions, dims, strict=True))
            and (not whole.layout.levels[-1].is_open or path.rpartition(".")[2] in EXTENSIONS)
        )
    assert told(local) == expected
    record, store = FakeRecord(), FakeStore(fitting, page)
    listing = list_store(store, schema, recorder=record)
    assert told(listing) == expected
    assert listing.explain_nothing()
    again, notes = list_recorded(record, "s3://bucket", schema)
    assert told(again) == expected
    assert notes == ()


def requests(keys, layout, *where, page=1000):
    store = store_of(*keys, page=page)
    listing = list_store(store, load_schema(None, layout, where))
    return store.asked, paths(listing)


LOGS = [
    f"logs/2024{month:02}{day:02}/{host}/{name}.log"
    for month in (1, 2)
    for day in range(1, 29)
    for host in ("web1", "web2")
    for name in ("access", "error")
]


def test_literal_levels_and_known_values_are_named_outright():
    asked, found = requests(LOGS, "logs/{day}/{host}/access.log", "day=20240103", "host=web1")
    assert asked == [("logs/20240103/web1/", "access.log")]
    assert found == ["logs/20240103/web1/access.log"]


def test_dates_are_named_in_both_forms():
    asked, found = requests(LOGS, "logs/{day:date}/{host}/{_}", "day=2024-01-03", "host=web1")
    assert asked == [("logs/2024-01-03/web1/", ""), ("logs/20240103/web1/", "")]
    assert len(found) == 2


def test_only_allowed_directories_are_listed():
    asked, found = requests(LOGS, "logs/{day:date}/{host}/{kind}.log", "day=20240103..20240104")
    assert sorted(asked) == [
        ("logs/", ""),
        ("logs/20240103/", ""),
        ("logs/20240103/web1/", ""),
        ("logs/20240103/web2/", ""),
        ("logs/20240104/", ""),
        ("logs/20240104/web1/", ""),
        ("logs/20240104/web2/", ""),
    ]
    assert len(found) == 8


def test_a_level_with_a_literal_start_lists_by_that_prefix():
    keys = [f"{n}/x.log" for n in range(50)] + ["app-1/log-u.gz", "app-2/log-u.gz", "app-2/a.gz"]
    asked, found = requests(keys, "app-{n:int}/log-{name}.gz")
    assert sorted(asked) == [("", "app-"), ("app-1/", "log-"), ("app-2/", "log-")]
    assert found == ["app-1/log-u.gz", "app-2/log-u.gz"]


def test_a_value_after_a_literal_start_is_found_by_both():
    keys = [f"log-{host}-{n:03}.gz" for host in ("web1", "web2", "web3") for n in range(50)]
    store = store_of(*keys, page=10)
    schema = load_schema(None, "log-{host}-{n}.gz", ("host=web2",))
    assert len(list_store(store, schema).files) == 50
    assert store.asked == [("", "log-"), ("", "log-web2-")]
    assert store.requests == 6


HIVE = [f"dt=2024-01-{day:02}/hour={hour}/part-0.gz" for day in range(1, 9) for hour in range(4)]


def test_hive_takes_one_request_a_level_to_discover_the_names():
    asked, found = requests(HIVE, "hive", "dt=2024-01-03", "hour=2")
    assert asked == [
        ("", ""),
        ("dt=2024-01-01/", ""),
        ("dt=2024-01-01/hour=0/", ""),
        ("dt=2024-01-03/hour=2/", ""),
        ("dt=2024_01_03/hour=2/", ""),  # as the storage of the old system writes it
    ]
    assert found == ["dt=2024-01-03/hour=2/part-0.gz"]


def test_values_that_may_be_encoded_are_listed():
    keys = ["city=S%C3%A3o/a.gz", "city=S\xe3o/a.gz", "city=x/a.gz"]
    asked, found = requests(keys, "hive", "city=S\xe3o")
    assert sorted(found) == sorted(keys[:2])
    assert ("", "") in asked


def test_empty_value_of_hive():
    keys = ["dt=__HIVE_DEFAULT_PARTITION__/a.gz", "dt=1/a.gz"]
    listing = list_store(store_of(*keys), load_schema(None, "hive", ("dt=//",)))
    assert [(file.path, file.dims) for file in listing.files] == [(keys[0], ("",))]


@pytest.mark.parametrize(
    "other", ["day=1/hour=2/a.gz", "dt=1/minute=2/a.gz", "dt=3/hour=2/x=1/a.gz"]
)
def test_hive_directories_with_other_names(other, tmp_path):
    keys = ["dt=1/hour=0/a.gz", other, "dt=2/_temporary/a.gz", "_delta_log/a.json"]
    with pytest.raises(InputError, match="do not have the same names") as caught:
        list_store(store_of(*keys), load_schema(None, "hive"))
    one, two = str(caught.value).split(" do not")[0].removeprefix("The directories ").split(" and ")
    folders = [key.rpartition("/")[0] for key in keys]
    assert all(
        any(folder.startswith(path.rstrip("/")) for folder in folders) for path in (one, two)
    )
    assert {one.split("/")[0], two.split("/")[0]} <= {"dt=1", "dt=3", "day=1"}
    build(tmp_path, dict.fromkeys(keys, 3))
    with pytest.raises(InputError, match="do not have the same names"):
        list_files(tmp_path, load_schema(None, "hive"))


def test_what_is_not_in_the_layout_has_a_reason():
    keys = ["1/a.log", "x/a.log", "1/a.txt", "1/b/c.log", "a.log", "1/.h.log"]
    listing = list_store(store_of(*keys), load_schema(None, "{n:int}/{host}.log"))
    assert paths(listing) == ["1/a.log"]
    assert dict(zip(listing.skipped, listing.reasons, strict=True)) == {
        "1/.h.log": "its name begins with a dot",
        "1/a.txt": "'a.txt' is not of the form {host}.log",
        "1/b/": "it is a directory, where the layout has files {host}.log",
        "a.log": "it is a file, where the layout has a directory {n:int}",
        "x/": "n 'x' is not an integer",
    }


def test_why_nothing_is_in_a_template():
    keys = ["data/dt=1/a.log"]
    listing = list_store(store_of(*keys), load_schema(None, "logs/day={day}/{_}"))
    assert "holds no file in the layout logs/day={day}/{_}" in listing.explain_nothing()
    assert "'data/'" in listing.explain_nothing()
    listing = list_store(store_of("dt=1/a.log"), load_schema(None, "day={day}/{_}"))
    assert "For directories name=value, use --layout hive." in listing.explain_nothing()
