"""The lines before a part are counted once, from the nearest offset that is known."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.blocks import BLOCKS, listed, split

from daskmr.data.input_file import InputFile
from daskmr.data.local_file import LocalFile
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.splits import line_numbers
from daskmr.data.splits.line_numbers import lines_before

LINES = b"".join(b"k%d\t%s\n" % (n, b"x" * (n % 23)) for n in range(400))


@pytest.fixture(autouse=True)
def nothing_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(line_numbers, "_known", {})


class Opener:
    def __init__(self, path: Path) -> None:
        self.path = path
        self.opened: list[tuple[int, int] | None] = []

    def __call__(self, file: InputFile) -> LocalFile:
        self.opened.append(file.part)
        return LocalFile(file, str(self.path))


@pytest.mark.parametrize("codec", BLOCKS)
def test_counts_from_what_is_known(tmp_path: Path, codec: str) -> None:
    path = tmp_path / f"f.{codec}"
    path.write_bytes(BLOCKS[codec](LINES, 300))
    parts, opener = split(path, 500), Opener(path)
    assert len(parts) > 5
    third, fifth = parts[2].part, parts[4].part
    assert third is not None
    assert fifth is not None
    found = [lines_before(parts[n], opener) for n in (2, 4, 4, 2, 0)]
    assert opener.opened == [(0, third[0]), (third[0], fifth[0])]
    if codec == "log":
        assert found[:2] == [LINES[: third[0]].count(b"\n"), LINES[: fifth[0]].count(b"\n")]
    assert 0 < found[0] < found[1] < 400
    assert found[2:] == [found[1], found[0], 0]
    assert lines_before(listed(path), opener) == 0


def test_only_a_few_files_are_known(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"{number}.log"
        path.write_bytes(LINES)
        lines_before(split(path, 500)[1], Opener(path))
    assert len(line_numbers._known) == 8


def test_damage_before_the_part(tmp_path: Path) -> None:
    path = tmp_path / "f.gz"
    data = bytearray(BLOCKS["gz"](LINES, 300))
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    last = split(path, 500)[-1]
    for _ in range(2):
        with pytest.raises(CorruptFileError, match=r"after \d,\d+ bytes"):
            lines_before(last, Opener(path))
