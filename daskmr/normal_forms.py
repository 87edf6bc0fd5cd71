"""Names that look the same and are not: what differs only in its Unicode normal form."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Iterable, Iterator

__all__ = ["forms_of", "hint", "twin_of", "twin_path"]


def forms_of(text: str) -> Iterator[str]:
    r"""The composed and the decomposed form of a text, where it has two.

    >>> list(forms_of("\xe9")) == ["\xe9", "e\u0301"]
    True
    >>> list(forms_of("e"))
    []
    """
    composed, decomposed = (unicodedata.normalize(form, text) for form in ("NFC", "NFD"))
    if composed != decomposed:
        yield composed
        yield decomposed


def twin_of(text: str, others: Iterable[str]) -> str | None:
    r"""The first of `others` that differs from a text only in its normal form.

    >>> twin_of("\xe9", ["e", "\xe9", "e\u0301"]) == "e\u0301"
    True
    """
    if text.isascii():
        return None
    wanted = unicodedata.normalize("NFC", text)
    return next(
        (o for o in others if o != text and unicodedata.normalize("NFC", o) == wanted), None
    )


def twin_path(path: str) -> str | None:
    """The existing path that differs from one that does not exist only in its normal form."""
    if path.isascii() or os.path.exists(path):
        return None
    folder, name = os.path.split(path.rstrip("/"))
    if not name:
        return None
    place = folder if not folder or os.path.isdir(folder) else twin_path(folder)
    if place is None:
        return None
    try:
        names = os.listdir(place or ".")
    except OSError:  # it cannot be listed, so nothing is known of it
        return None
    found = name if name in names else twin_of(name, sorted(names))
    return None if found is None else os.path.join(place, found)


def hint(path: str) -> str:
    """A sentence on the path that is there in place of `path`; "" if there is none."""
    twin = twin_path(path)
    if twin is None:
        return ""
    return (
        f" There is {twin!r}, which differs only in its Unicode normal form ({twin!a}, where "
        f"{path!a} was given): let the shell complete the name, or copy it from a listing."
    )
