"""Batches of records, and their keys."""

from __future__ import annotations

from daskmr.data.readers.records import BadRecord, RecordFormat, Records, with_keys


def test_keys_of_fields_replace_bad_values() -> None:
    records = Records(
        [1, 2, 3], [], [{"a": 1}, {}, BadRecord(b"z", "bad")], [b"x", b"y", b"z"].__getitem__
    )
    found = with_keys(records, "a", "f")
    assert next(iter(found.keys)) == 1
    assert found.values == [{"a": 1}, BadRecord(b"y", "no field a"), BadRecord(b"z", "bad")]


def test_a_format_is_recorded_as_json() -> None:
    form = RecordFormat("csv", "a", ("a", "b"), (("b",),))
    assert form.as_dict() == {"name": "csv", "key": "a", "columns": ["a", "b"], "fields": [["b"]]}
    assert RecordFormat().is_keyed
