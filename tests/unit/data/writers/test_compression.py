"""Compression of the output by its name."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from pathlib import Path
from typing import Any

import pytest
import zstandard

from daskmr.data.output import OutputFile
from daskmr.data.writers.encoding import encode


def write(target: Any, *texts: str, run_id: str = "id") -> OutputFile:
    file = OutputFile(os.fspath(target), run_id)
    for text in texts:
        file.write(text)
    file.close()
    return file


DECODERS = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": lambda data: zstandard.ZstdDecompressor().decompressobj().decompress(data),
}


@pytest.mark.parametrize("extension", [*DECODERS, ".GZ"])
def test_compressed_outputs_decode_and_do_not_depend_on_time_or_name(
    tmp_path: Path, extension: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts = [f"{n}\t\u00e9\udcff\n" * (n % 50) for n in range(300)]
    contents = []
    for name, now in (("one", 1e9), ("other", 1.5e9)):
        with monkeypatch.context() as patch:
            patch.setattr("time.time", lambda now=now: now)
            file = write(tmp_path / f"{name}{extension}", *texts)
            file.commit()
        contents.append((tmp_path / f"{name}{extension}").read_bytes())
        assert file.bytes == len(contents[-1]) < len(encode("".join(texts)))
    assert contents[0] == contents[1]
    assert DECODERS[extension.lower()](contents[0]) == encode("".join(texts))


@pytest.mark.parametrize("extension", DECODERS)
def test_an_empty_compressed_output_decodes_to_nothing(tmp_path: Path, extension: str) -> None:
    write(tmp_path / f"out{extension}").commit()
    assert DECODERS[extension]((tmp_path / f"out{extension}").read_bytes()) == b""


@pytest.mark.parametrize("name", ["out.txt", "gz", ".gz", "out.gz.txt"])
def test_other_names_are_not_compressed(tmp_path: Path, name: str) -> None:
    write(tmp_path / name, "text").commit()
    assert (tmp_path / name).read_bytes() == b"text"
