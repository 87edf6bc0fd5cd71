"""The values of ``--data-dir`` are checked before anything is read."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from daskmr.config import load_config
from daskmr.data.sources import given
from daskmr.data.sources.given import Sources, parse_sources, read_stdin, spool, spooled
from daskmr.errors import InputError, JobError


class Stdin(io.TextIOWrapper):
    def __init__(self, data: bytes = b"", terminal: bool = False) -> None:
        super().__init__(io.BytesIO(data))
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


def test_forms_of_the_value(tmp_path: Path) -> None:
    assert parse_sources(None) == parse_sources([]) == Sources()
    assert parse_sources(tmp_path) == parse_sources([str(tmp_path)]) == Sources((str(tmp_path),))
    assert parse_sources(("a", Path("b"), "s3://c/d")).local == ("a", "b")
    assert parse_sources(["a", "s3://c/d"]).url == "s3://c/d"
    assert Sources().plain is None
    assert Sources(("@a", "@-", "b")).lists == ("a",)


def test_only_a_single_folder_is_a_data_dir(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text("k\t1\n")
    folder, file = str(tmp_path), str(tmp_path / "a.log")
    assert Sources((folder, "s3://b")).folder == folder
    assert Sources(("absent",)).folder == "absent"  # listing it explains what is wrong
    for values in [(file,), (folder, folder), ("@list",), ("-",), (f"{folder}/*",), ("s3://b",)]:
        assert Sources(values).folder is None


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (7, "must be a path or a list of paths, not 7"),
        ([7], "holds 7"),
        (0, "not 0"),
        ("", "is empty"),
        ("@", "names no list"),
        (["-", "@-"], "Standard input is either"),
        (["-", "a"], "Standard input is read alone"),
        (["s3://a", "s3://b"], "2 stores are given"),
        ("s3://a/2024-*/b", "Give the prefix before them, s3://a/, and"),
        (os.devnull, "is neither a file nor a directory"),
    ],
)
def test_mistakes(value: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        parse_sources(value)


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIA:se/cret@b/x",
        "s3://AKIA:secret@b",
        "S3A://AKIA:se/cret@b",
        "ftp://me:secret@h/x",
        "s3://b?sig=secret",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_shown(url: str) -> None:
    with pytest.raises(InputError, match="holds credentials") as caught:
        parse_sources(url)
    assert "secret" not in str(caught.value)
    assert "cret@" not in str(caught.value)


def test_a_terminal_is_no_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", Stdin(terminal=True))
    for value in ("-", "@-"):
        with pytest.raises(InputError, match=rf"-d {value} reads .* Pipe it, with .* \| before"):
            parse_sources(value)
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(InputError, match="terminal or closed"):
        parse_sources("-")


def test_a_url_is_the_bucket() -> None:
    config = load_config()
    assert Sources(("a",)).settled(config) is config
    settled = Sources(("a", "s3://b/c")).settled(config)
    assert settled.bucket == "s3://b/c"
    assert Sources(("s3://b/c",)).settled(settled) is settled
    with pytest.raises(InputError, match="Two stores are given"):
        Sources(("s3://d",)).settled(settled)


def test_what_is_recorded_means_the_same_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "x[1]"
    odd.mkdir()
    monkeypatch.chdir(odd)
    recorded = Sources(("a", "*.log", "@b", "-", "@-", "s3://c")).recorded()
    assert recorded == [f"{odd}/a", f"{tmp_path}/x[[]1]/*.log", f"@{odd}/b", "-", "@-", "s3://c"]
    assert Sources(("a",)).recorded() == f"{odd}/a"
    assert Sources().recorded() is None


def test_standard_input_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(given, "_CHUNK", 3)
    monkeypatch.setattr(sys, "stdin", Stdin(b"k\t\xff1\n"))
    path = spool(str(tmp_path / "run" / "stdin"))
    assert path == str(tmp_path / "run" / "stdin" / "stdin")
    assert Path(path).read_bytes() == b"k\t\xff1\n"
    monkeypatch.setattr(sys, "stdin", Stdin(b"x"))
    with spooled(Sources(("-",))) as file:
        assert file is not None
        assert Path(file).read_bytes() == b"x"
    assert not Path(file).exists()
    with spooled(Sources(("a",))) as none:
        assert none is None


def test_standard_input_that_cannot_be_copied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("text"))
    with pytest.raises(InputError, match="cannot be read as bytes"):
        list(read_stdin())
    broken = Stdin(b"x")
    broken.close()
    monkeypatch.setattr(sys, "stdin", Stdin(b"x"))
    (tmp_path / "taken").write_text("")
    with pytest.raises(JobError, match="Writing the data from standard input failed"):
        spool(str(tmp_path / "taken" / "stdin"))
