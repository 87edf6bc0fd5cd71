"""A part of a file counts its own bytes; only the first one counts as the file."""

from __future__ import annotations

import pickle

from daskmr.data.input_file import InputFile


def test_parts_add_up_to_the_file() -> None:
    parts = [InputFile("a", 100, (), part=part) for part in ((0, 30), (30, 31), (31, 100))]
    assert [part.bytes for part in parts] == [30, 1, 69]
    assert [part.is_start for part in parts] == [True, False, False]
    assert (InputFile("a", 100, ()).bytes, InputFile("a", 100, ()).is_start) == (100, True)
    assert pickle.loads(pickle.dumps(parts)) == parts
