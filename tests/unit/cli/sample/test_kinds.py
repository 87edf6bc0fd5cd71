"""Every kind of sample data: the same bytes for a seed, of the size, with bad records where asked."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest

from daskmr.cli.sample import KINDS
from daskmr.cli.sample.files import load_kind, write_sample
from daskmr.errors import InputError

DIGESTS = {
    "documents": "2005576289b193ce7ef271f13986f0fd13e02a4101a7d7a3c74a3aecfc073821",
    "logs": "c825d4c4822450939124a99f5d580e5761b8879977514b13bd9e513fd3f428d4",
    "events": "fb853fc37ba508d86813760b356106970ba5719e2c5a228eb325278b57437407",
    "rides": "0d2e48de4e953e6be6619a946f153b136474dd4a3b414b23145326c22d4174d7",
}


def contents(root: Path) -> dict[str, bytes]:
    """The plain bytes of each file, by its path without the extension of the compression."""
    found = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        data = path.read_bytes()
        name = path.relative_to(root).as_posix()
        found[name.removesuffix(".gz")] = gzip.decompress(data) if name.endswith(".gz") else data
    return found


def digest(root: Path) -> str:
    whole = hashlib.sha256()
    for name, data in contents(root).items():
        whole.update(f"{name} {len(data)}\n".encode() + data)
    return whole.hexdigest()


@pytest.mark.parametrize("kind", KINDS)
def test_the_bytes_of_a_seed_are_pinned(kind: str, tmp_path: Path) -> None:
    write_sample(tmp_path, size=150_000, seed=7, bad_lines=0.1, kind=kind)
    assert digest(tmp_path) == DIGESTS[kind]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [1, 50_000, 1_234_567])
def test_the_size_is_met_from_above(kind: str, size: int, tmp_path: Path) -> None:
    written: list[int] = []
    summary = write_sample(tmp_path, size=size, kind=kind, progress=written.append)
    files = contents(tmp_path)
    assert (summary.files, summary.bytes) == (len(files), sum(map(len, files.values())))
    assert size <= summary.bytes <= size + 8_000
    assert all(data.endswith(b"\n") for data in files.values())
    assert written == sorted(written)
    assert written[-1] == summary.bytes
    assert summary.bad_lines == 0


@pytest.mark.parametrize("kind", KINDS)
def test_bad_lines_are_about_their_share(kind: str, tmp_path: Path) -> None:
    summary = write_sample(tmp_path, size=500_000, kind=kind, bad_lines=0.5)
    assert 0.35 < summary.bad_lines / summary.records < 0.65


@pytest.mark.parametrize("kind", KINDS)
def test_the_files_do_not_depend_on_their_compression(kind: str, tmp_path: Path) -> None:
    plain = load_kind(kind).plain[0]
    write_sample(tmp_path / "a", size=100_000, kind=kind, extensions=["gz"])
    write_sample(tmp_path / "b", size=100_000, kind=kind, extensions=[plain])
    assert not list((tmp_path / "b").rglob("*.gz"))
    assert {path.suffix for path in (tmp_path / "b").rglob("*.*")} >= {f".{plain}"}
    names = {name.removesuffix(f".{plain}") for name in contents(tmp_path / "b")}
    assert {name.removesuffix(f".{plain}") for name in contents(tmp_path / "a")} == names
    assert list(contents(tmp_path / "a").values()) == list(contents(tmp_path / "b").values())


@pytest.mark.parametrize(
    ("kind", "extension"), [("logs", "jsonl"), ("events", "csv"), ("rides", "log")]
)
def test_an_extension_of_another_kind_is_an_error(
    kind: str, extension: str, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=f"A sample of {kind} cannot be .*'{extension}'"):
        write_sample(tmp_path / "data", kind=kind, extensions=[extension])
    assert not (tmp_path / "data").exists()
