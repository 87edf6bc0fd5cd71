"""What was listed is kept, whole and by its latest state."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_store import FakeRecord, FakeStore

from daskmr.data.cache import listing_record as module
from daskmr.data.cache.listing_record import ListingRecord, ListingRecorder
from daskmr.data.cache.manifest import Manifest
from daskmr.data.layout import load_schema
from daskmr.data.offline_listing import list_recorded
from daskmr.data.store_listing import list_store
from daskmr.store.source import Entry


@pytest.fixture
def manifest(tmp_path: Path) -> Iterator[Manifest]:
    manifest = Manifest(str(tmp_path / "cache.sqlite"))
    yield manifest
    manifest.close()


def record(manifest: Manifest, prefix: str, names: str, *entries: Entry) -> None:
    recording = ListingRecorder(manifest)
    recording.entries_listed(prefix, entries)
    recording.prefix_listed(prefix, names)


def test_entries_come_back_as_they_were(manifest: Manifest) -> None:
    entries = [
        Entry("", False, 0, "tag", 1e9),
        Entry("a", True),
        Entry("b.2013.gz", False, 1 << 50, "0" * 32, 1234567890.123456),
        Entry("both", False, 3, None, None),
        Entry("both", True),
        Entry("é\udcff\n\0", False, 3, "é-5", 1.0),
    ]
    record(manifest, "idle/", "", *entries[3:], *entries[:3])
    recorded = ListingRecord(manifest)
    assert recorded.entries("idle/") == entries
    assert recorded.entries("other/") == []
    assert recorded.prefixes() == [("idle/", "")]


def test_an_empty_prefix_was_listed_all_the_same(manifest: Manifest) -> None:
    assert ListingRecord(manifest).checked() is None
    ListingRecorder(manifest).prefix_listed("gone/", "")
    assert ListingRecord(manifest).prefixes() == [("gone/", "")]
    assert ListingRecord(manifest).entries("gone/") == []
    checked = ListingRecord(manifest).checked()
    assert checked is not None
    assert checked > 1e9


def test_only_what_was_listed_to_the_end_counts(manifest: Manifest) -> None:
    recording = ListingRecorder(manifest)
    recording.entries_listed("idle/", [Entry("a", True)])
    assert ListingRecord(manifest).prefixes() == []
    assert ListingRecord(manifest).entries("idle/") == []


def test_a_later_listing_replaces_what_it_is_about(manifest: Manifest) -> None:
    old, new = Entry("1.a", False, 1, "old"), Entry("1.a", False, 2, "new")
    two, three = Entry("2.a", False, 1, "t"), Entry("3.a", False, 1, "t")
    gone = Entry("1.gone", False, 1, "t")
    recorded = ListingRecord(manifest)
    record(manifest, "p/", "", old, gone, two)
    record(manifest, "q/", "", old)
    record(manifest, "p/", "1.", new, three)  # what does not begin with "1." was seen in part
    assert recorded.entries("p/") == [new, two]
    assert recorded.prefixes() == [("p/", ""), ("p/", "1."), ("q/", "")]
    record(manifest, "p/", "1.", old)
    assert recorded.entries("p/") == [old, two]
    assert len(recorded.prefixes()) == 3
    record(manifest, "p/", "", three)
    assert recorded.entries("p/") == [three]
    assert recorded.prefixes() == [("p/", ""), ("q/", "")]
    assert recorded.entries("q/") == [old]


def test_a_prefix_listed_by_several_starts(manifest: Manifest) -> None:
    recording = ListingRecorder(manifest)
    one, two, three = (Entry(f"{n}.x", False, n, "t") for n in (1, 2, 3))
    recording.entries_listed("p/", [one, two])
    recording.entries_listed("p/", [two, three])
    recording.prefix_listed("p/", "1.")
    recording.prefix_listed("p/", "3.")
    assert ListingRecord(manifest).entries("p/") == [one, three]
    assert ListingRecord(manifest).prefixes() == [("p/", "1."), ("p/", "3.")]


def test_many_entries_are_packed_in_pages(
    manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_PAGE", 50)
    entries = [Entry(f"{n:05}", False, n, "t") for n in range(333)]
    recording = ListingRecorder(manifest)
    for start in range(0, 333, 10):
        recording.entries_listed("p/", entries[start : start + 10])
    recording.prefix_listed("p/", "")
    assert ListingRecord(manifest).entries("p/") == entries
    assert manifest.read("SELECT COUNT(*) FROM pages") == [(7,)]
    record(manifest, "p/", "")
    assert manifest.read("SELECT COUNT(*) FROM pages") == [(0,)]


names = st.text("ab.", min_size=1, max_size=3)
listings = st.lists(st.tuples(st.text("ab.", max_size=2), st.lists(names)), max_size=5)


@settings(max_examples=50, deadline=None)  # each example makes a database on the disk
@given(listings)
def test_the_latest_listing_of_each_name_counts(
    tmp_path_factory: pytest.TempPathFactory, listings: list[tuple[str, list[str]]]
) -> None:
    manifest = Manifest(str(tmp_path_factory.mktemp("x") / "cache.sqlite"))
    known: dict[str, Entry] = {}
    for number, (start, found) in enumerate(listings):
        entries = [Entry(name, False, number, "t") for name in found]
        record(manifest, "p/", start, *entries)
        known = {name: entry for name, entry in known.items() if not name.startswith(start)}
        known.update((e.name, e) for e in entries if e.name.startswith(start))
    assert ListingRecord(manifest).entries("p/") == [known[name] for name in sorted(known)]
    manifest.close()


def test_a_walk_is_repeated_from_the_record(manifest: Manifest) -> None:
    keys = [
        f"{reason}/Firefox/{channel}/24.0/{build}.20131102.{n}.log.gz"
        for reason in ("idle", "saved_session")
        for channel in ("beta", "nightly")
        for build in ("2012", "2013")
        for n in range(30)
    ]
    store = FakeStore({key: number for number, key in enumerate(keys)}, page=7)
    for allowed in ("*", "idle", ["idle", "none"], {"min": "a"}):
        for build in ("*", "2013"):
            values = {0: allowed, 4: build}
            schema = load_schema(
                {
                    "dimensions": [
                        {"field_name": str(n), "allowed_values": values.get(n, "*")}
                        for n in range(6)
                    ]
                }
            )
            recording, fake = ListingRecorder(manifest), FakeRecord()
            walked = list_store(store, schema, recorder=recording)
            list_store(store, schema, recorder=fake)
            assert (
                list_recorded(ListingRecord(manifest), walked.root, schema)[0].files == walked.files
            )
            assert walked.files == list_recorded(fake, walked.root, schema)[0].files
