"""Tests of `daskmr.normal_forms`."""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.normal_forms import forms_of, hint, variant_of, variant_path

COMPOSED = "caf\xe9"
DECOMPOSED = "cafe\u0301"
TEXT = st.text(st.sampled_from("ae\xe9\u0301\u212b\xc5\uac00\u1100\u1161"), max_size=6)


@given(TEXT)
def test_forms_are_equal_after_normalisation(text: str) -> None:
    forms = list(forms_of(text))
    assert len(forms) in (0, 2)
    assert {unicodedata.normalize("NFC", form) for form in forms} <= {
        unicodedata.normalize("NFC", text)
    }


@given(TEXT, st.lists(TEXT))
def test_a_twin_is_another_text_that_is_the_same_after_normalisation(
    text: str, others: list[str]
) -> None:
    twin = variant_of(text, others)
    same = [
        o for o in others if unicodedata.normalize("NFD", o) == unicodedata.normalize("NFD", text)
    ]
    assert twin == next((other for other in same if other != text), None)


@pytest.mark.parametrize(("there", "given"), [(COMPOSED, DECOMPOSED), (DECOMPOSED, COMPOSED)])
def test_a_path_is_there_in_another_form(
    tmp_path: Path, there: str, given: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / there / "below" / there).mkdir(parents=True)
    expected = f"{tmp_path}/{there}/below/{there}"
    assert variant_path(f"{tmp_path}/{given}/below/{given}") == expected
    assert variant_path(f"{tmp_path}/{there}/below/{given}/") == expected
    assert variant_path(f"{tmp_path}/{given}/below/{there}") == expected
    assert variant_path(f"{tmp_path}/{given}/elsewhere/{given}") is None
    assert variant_path(expected) is None
    monkeypatch.chdir(tmp_path)
    assert variant_path(given) == there
    assert ascii(there) in hint(given)
    assert hint(there) == hint("logs") == hint("/") == hint("") == ""
    assert os.listdir(tmp_path) == [there]


def test_a_misspelt_path_names_the_one_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "events" / "2024").mkdir(parents=True)
    (tmp_path / "events" / "Filter.json").touch()
    monkeypatch.chdir(tmp_path)
    assert hint("event") == hint("evnets/") == " Did you mean 'events'?"
    assert hint("event/2024/") == " Did you mean 'events/2024'?"
    assert hint("events/filter.json") == " Did you mean 'events/Filter.json'?"
    assert hint(f"{tmp_path}/event") == f" Did you mean '{tmp_path}/events'?"
    assert hint("events") == hint("logs") == hint("events/Filter.json/x") == ""
