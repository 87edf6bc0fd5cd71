"""Names that look the same but differ in their Unicode normal form, and misspelt paths."""

from __future__ import annotations

import difflib
import os
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import islice

__all__ = ["describe_variant", "forms_of", "hint", "variant_of", "variant_path"]

_MOST = 10_000  # names that a misspelt one is compared with


def forms_of(text: str) -> Iterator[str]:
    r"""Yield the composed and the decomposed form of a text, if they differ.

    >>> list(forms_of("\xe9")) == ["\xe9", "e\u0301"]
    True
    """
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    if composed != decomposed:
        yield composed
        yield decomposed


def variant_of(text: str, others: Iterable[str]) -> str | None:
    r"""Return the first of `others` that differs from a text only in its normal form.

    >>> variant_of("\xe9", ["e", "\xe9", "e\u0301"]) == "e\u0301"
    True
    """
    if text.isascii():
        return None
    composed = unicodedata.normalize("NFC", text)
    return next(
        (o for o in others if o != text and unicodedata.normalize("NFC", o) == composed), None
    )


def variant_path(path: str) -> str | None:
    """Return the existing path that differs from a missing one only in its normal form."""
    if path.isascii() or os.path.exists(path):
        return None
    folder, name = os.path.split(path.rstrip("/"))
    if not name:
        return None
    place = folder if not folder or os.path.isdir(folder) else variant_path(folder)
    if place is None:
        return None
    with suppress(OSError):
        names = os.listdir(place or ".")
        found = name if name in names else variant_of(name, sorted(names))
        return None if found is None else os.path.join(place, found)
    return None


def describe_variant(found: str, given: str) -> str:
    """Describe the existing variant of a given name, as the beginning of a sentence."""
    return (
        f"There is {found!r}, which differs only in its Unicode normal form ({found!a}, where "
        f"{given!a} was given)"
    )


def hint(path: str) -> str:
    """Return a sentence about the existing path that is like a missing one; "" if there is none."""
    found = variant_path(path)
    if found is None:
        meant = _similar_path(path)
        return f" Did you mean {meant!r}?" if meant and not os.path.exists(path) else ""
    advice = "let the shell complete the name, or copy it from a listing"
    return f" {describe_variant(found, path)}: {advice}."


def _similar_path(path: str) -> str | None:
    """Return the existing path whose names are most like those of a path; ``None`` if none is."""
    if os.path.exists(path):
        return path
    folder, name = os.path.split(path.rstrip("/"))
    place = _similar_path(folder) if folder else ""
    if not name or place is None:
        return None
    if os.path.exists(same := os.path.join(place, name)):
        return same
    with suppress(OSError, ValueError):
        names = {each.casefold(): each for each in islice(os.listdir(place or "."), _MOST)}
        like = difflib.get_close_matches(name.casefold(), names, 1, 0.75)
        return os.path.join(place, names[like[0]]) if like else None
    return None
