"""Files are described, streamed and unpacked as they are, or not at all."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.errors import InputError, JobError
from daskmr.job.shipped import contents
from daskmr.job.shipped.contents import (
    Entry,
    Sent,
    Unpacker,
    check_unchanged,
    describe,
    entries_of,
    stream,
)


def unpack(sent: list[Sent], folder: Path, cut: int = 1000) -> None:
    """Unpack files from a stream that arrives in pieces of `cut` bytes."""
    unpacker = Unpacker(entries_of(sent), str(folder))
    content = b"".join(stream(sent))
    for start in range(0, len(content), cut):
        unpacker.feed(content[start : start + cut])
    unpacker.finish(sent)


def tree_of(folder: Path) -> dict[str, object]:
    """The files and directories below a folder, with the content of files."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
    }


def make_tree(folder: Path) -> Path:
    (folder / "b" / "deep").mkdir(parents=True)
    (folder / "b" / "none").mkdir()
    (folder / "b" / "deep" / "file").write_bytes(os.urandom(3000))
    (folder / "a\n\u00e4").write_bytes(b"")
    (folder / "tool").write_bytes(b"run")
    (folder / "tool").chmod(0o755)
    return folder


def test_a_file(tmp_path: Path) -> None:
    path = tmp_path / "x.tsv"
    path.write_bytes(b"text")
    sent = describe("y.tsv", str(path))
    assert (sent.digest, sent.size, sent.files) == (sha256(b"text").hexdigest(), 4, None)
    assert sent.shown == f"y.tsv: {path} (4 B)"
    unpack([sent], tmp_path / "new")
    copy = tmp_path / "new" / sent.place
    assert (copy.name, copy.read_bytes()) == ("y.tsv", b"text")
    assert copy.stat().st_mode & 0o333 == 0


@pytest.mark.parametrize("cut", [1, 1000, 1 << 20])
def test_a_directory(tmp_path: Path, cut: int) -> None:
    root = make_tree(tmp_path / "root")
    sent = describe("root", str(root))
    assert (sent.size, sent.files) == (3003, 3)
    unpack([sent], tmp_path / "new", cut)
    copy = tmp_path / "new" / sent.place
    assert tree_of(copy) == tree_of(root)
    assert os.access(copy / "tool", os.X_OK)
    assert not (copy / "a\n\u00e4").stat().st_mode & 0o111


def test_an_empty_directory(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    sent = describe("empty", str(tmp_path / "empty"))
    unpack([sent], tmp_path / "new")
    assert list((tmp_path / "new" / sent.place).iterdir()) == []


def test_equal_content_is_sent_once(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).write_bytes(b"x" * 5000)
    root, twin = make_tree(tmp_path / "root"), tmp_path / "twin"
    twin.symlink_to(root)
    (tmp_path / "program").write_bytes(b"x" * 5000)
    (tmp_path / "program").chmod(0o755)
    paths = [tmp_path / "one", tmp_path / "two", root, twin, tmp_path / "program"]
    sent = [describe(path.name, str(path)) for path in paths]
    assert sum(map(len, stream(sent))) == 5000 + 3003 + 5000
    unpack(sent, tmp_path / "new")
    for one in sent:
        copy, original = tmp_path / "new" / one.place, Path(one.path)
        assert os.access(copy, os.X_OK) == os.access(original, os.X_OK)
        if original.is_file():
            assert copy.read_bytes() == original.read_bytes()
        else:
            assert tree_of(copy) == tree_of(original)


def test_a_digest_is_that_of_names_and_contents(tmp_path: Path) -> None:
    def digest(**files: str) -> str:
        folder = tmp_path / os.urandom(4).hex()
        folder.mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        return describe("x", str(folder)).digest

    assert digest(a="1", b="2") == digest(b="2", a="1")
    different = [digest(a="1", b="2"), digest(a="2", b="1"), digest(a="1", c="2"), digest(a="12")]
    assert len({*different}) == 4


def test_links_are_followed_unless_they_lead_nowhere_or_up(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    (root / "link").symlink_to("b/deep")
    (root / "again").symlink_to("link/file")
    unpack([sent := describe("root", str(root))], tmp_path / "new")
    copy = tmp_path / "new" / sent.place
    assert (copy / "link" / "file").read_bytes() == (copy / "again").read_bytes()
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    (root / "b" / "up").symlink_to(root)
    with pytest.raises(InputError, match=r"/b/up, .* is a link to a directory that it is in"):
        describe("root", str(root))
    (root / "b" / "up").unlink()
    (root / "b" / "broken").symlink_to("gone")
    with pytest.raises(InputError, match=r"/b/broken, .* is a link to gone, which does not exist"):
        describe("root", str(root))


def test_what_is_neither_a_file_nor_a_directory(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(InputError, match="pipe, to be sent as x, is neither a file nor"):
            describe("x", str(path))
    with pytest.raises(InputError, match="cannot be read"):
        describe("x", str(tmp_path / "gone"))


def test_a_change(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    sent = describe("root", str(root))
    check_unchanged(sent)
    os.utime(root / "tool")
    check_unchanged(sent)  # its content is the same
    (root / "b" / "new").touch()
    with pytest.raises(JobError, match=r"has changed since the run began\. Nothing was written"):
        check_unchanged(sent)
    (root / "b" / "new").unlink()
    check_unchanged(sent)
    status = (root / "tool").stat()
    (root / "tool").write_bytes(b"RUN")
    os.utime(root / "tool", ns=(status.st_atime_ns, status.st_mtime_ns))
    with pytest.raises(JobError, match="has changed"):
        check_unchanged(sent)
    with pytest.raises(JobError, match="has changed"):
        list(stream([sent]))
    (root / "tool").unlink()
    with pytest.raises(JobError, match="has changed"):
        list(stream([sent]))


def test_a_change_is_found_before_the_last_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(contents, "CHUNK", 10)
    path = tmp_path / "x"
    path.write_bytes(b"0" * 30)
    sent = describe("x", str(path))
    assert [*map(len, stream([sent]))] == [10, 10, 10]
    path.write_bytes(b"0" * 29 + b"1")
    chunks = []
    with pytest.raises(JobError, match="has changed"):
        chunks.extend(stream([sent]))
    assert len(chunks) <= 2


def test_a_change_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"0")
    digest = contents.hashlib.file_digest

    def slow(file: object, name: str) -> object:
        path.write_bytes(b"12")
        return digest(file, name)

    monkeypatch.setattr(contents.hashlib, "file_digest", slow)
    with pytest.raises(InputError, match="has changed while it was read"):
        describe("x", str(path))


@given(st.data())
def test_a_damaged_stream_is_refused(data: st.DataObject) -> None:
    import tempfile

    texts = data.draw(st.lists(st.binary(max_size=20), min_size=1, max_size=4))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        sent = []
        for number, text in enumerate(texts):
            (folder / str(number)).write_bytes(text)
            sent.append(describe(str(number), str(folder / str(number))))
        whole = b"".join(stream(sent))
        bad = data.draw(st.binary(max_size=80).filter(lambda b: b != whole))
        unpacker = Unpacker(entries_of(sent), str(folder / "new"))
        with pytest.raises(JobError, match="arrived damaged"):
            unpacker.feed(bad)
            unpacker.finish(sent)
        unpacker.close()


def test_a_file_that_exists_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "x").touch()
    with pytest.raises(FileExistsError):
        Unpacker([Entry("x", 1, "", False)], str(tmp_path))
