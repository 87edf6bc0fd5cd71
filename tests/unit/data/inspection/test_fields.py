"""The types and shares of fields, and which of them is worth counting."""

from __future__ import annotations

from daskmr.data.inspection.fields import best_field, fields_of


def test_types_and_shares() -> None:
    records = [
        {"id": 1, "user": {"name": "ann", "tags": []}, "deep": {"a": {"b": {"c": 1}}}},
        {"id": "x", "user": None},
        "no object",
        {"id": None},
    ]
    fields = {each.name: each for each in fields_of(records)}
    assert list(fields) == ["id", "user.name", "user.tags", "deep.a.b", "user"]
    assert fields["id"].share == 0.75
    assert fields["id"].type == "int or str or None"
    assert not fields["user.tags"].is_scalar
    assert fields["deep.a.b"].type == "dict"


def test_types_of_text() -> None:
    rows = [{"n": "1", "t": "2024-01-31", "e": ""}, {"n": "", "t": "2024-02-01", "e": ""}]
    n, t, e = fields_of(rows, as_text=True)
    assert (n.type, n.share) == ("int", 0.5)
    assert (t.type, t.share) == ("date", 1)
    assert (e.type, e.share) == ("", 0)


def test_the_field_that_is_worth_counting() -> None:
    records = [{"id": f"u{n}", "n": n, "x": "yz"[n % 2], "status": n % 3} for n in range(30)]
    fields = fields_of(records)
    best = best_field(fields, len(records))
    assert best is not None
    assert best.name == "status"
    other = best_field([each for each in fields if each.name != "status"], len(records))
    assert other is not None
    assert other.name == "x"
    assert best_field(fields[:1], len(records)) is None
    assert best_field([], 0) is None
    records = [{"x": "ab"[n % 2]} for n in range(8)] + [{"x": {"deep": 1}}]
    assert best_field(fields_of(records), 9) is None  # sometimes an object


def test_a_field_of_all_records_goes_first() -> None:
    records = [{"x": "ab"[n % 2], "status": "cd"[n % 2]} for n in range(30)]
    del records[3]["status"]
    fields = fields_of(records)
    best = best_field(fields, len(records))
    assert best is not None
    assert best.name == "x"
    assert best_field(fields[1:], len(records)) is fields[1]
    assert best_field(fields[1:], len(records), as_columns=True) is None
