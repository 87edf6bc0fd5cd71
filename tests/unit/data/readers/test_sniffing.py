"""What a file holds, by its first bytes and by its first lines."""

from __future__ import annotations

import bz2
import gzip
import io
import lzma
import pickle
import shutil
import sqlite3
import subprocess
import tarfile
import zipfile

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from daskmr.data.readers.sniffing import (
    HEAD_BYTES,
    describe_lines,
    form_of,
    recode_command,
    unpack_command,
)

TEXT = "k\t1\n\u65e5\u672c\t\u4e09 {}\n" * 300


def tar(form, names=("a.log",)):
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as archive:
        for name in names:
            entry = tarfile.TarInfo(name)
            entry.size = len(TEXT.encode())
            archive.addfile(entry, io.BytesIO(TEXT.encode()))
    return file.getvalue()


def zipped():
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.log", TEXT)
    return file.getvalue()


def database():
    connection = sqlite3.connect(":memory:")
    connection.execute("create table t (a)")
    return connection.serialize()


@pytest.mark.parametrize("form", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_tar_archives(form):
    head = tar(form, ["caf\xe9/" + "x" * 80])[:HEAD_BYTES]
    assert form_of(head).name == "a tar archive"
    old = bytearray(
        tar(form)[:HEAD_BYTES]
    )  # the first tar wrote no mark, and a checksum all the same
    total = sum(old) - sum(old[148:156]) + 8 * 32 - sum(old[257:265])
    old[257:265], old[148:156] = bytes(8), b"%06o\0 " % total
    assert form_of(bytes(old)).name == "a tar archive"
    old[0] ^= 1
    assert form_of(bytes(old)) is None


CJK = "\u6f22\u5b57\t\u4fa1\u5024\u4e00\n" * 50


@pytest.mark.parametrize(
    ("data", "name"),
    [
        (gzip.compress(b""), "gzip data"),
        (lzma.compress(b"a"), "xz data"),
        (lzma.compress(b"a", lzma.FORMAT_ALONE), "lzma data"),
        (bz2.compress(b""), "bzip2 data"),
        (zstandard.compress(b"a"), "zstd data"),
        (zipped(), "a zip archive"),
        (b"PK\5\6" + bytes(18), "a zip archive"),
        (database(), "an SQLite database"),
        *((pickle.dumps({"a": [1]}, protocol), "a pickle") for protocol in (2, 3, 4, 5)),
        (b"PAR1\x15\x04\x15", "a Parquet file"),
        (b"7z\xbc\xaf\x27\x1c\0\4", "a 7z archive"),
        (b"\x7fELF\2\1\1\0", "a program (ELF)"),
        *((TEXT.encode(f"utf-{n}"), f"text in UTF-{n}") for n in (16, 32)),
        *(
            (text.encode(f"utf-{n}-{end}"), f"text in UTF-{n}{end.upper()}")
            for n in (16, 32)
            for end in ("le", "be")
            for text in (TEXT, "a\t1", "a\t1\n" * 50, '"\u0416": 3\t[]', '{"n": 1, "text": "abc"}')
        ),
        ("\ufeff".encode("utf-16-be"), "text in UTF-16"),
        *((CJK.encode(f"utf-16-{end}"), f"text in UTF-16{end.upper()}") for end in ("le", "be")),
        (("\ufeff" + CJK).encode("utf-16-le"), "text in UTF-16"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",  # the bytes hold the time
)  # fmt: skip
def test_other_forms(data, name):
    form = form_of(data[:HEAD_BYTES])
    assert form is not None
    assert form.name == name


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfekey\tvalue\n",
        b"\xff\xfekey\tvalue\0x\n" * 20,
        b"\xfe\xffk\t\0\0\n" * 20,
        b"PK\t1\n",
        b"PAR1\t1\n",
        b"7z\t1",
        b"BZh91\tx",
        b"SQLite format 3\t",
        b"Rar!\tx",
        b"%PDF-1.4\t1",
        b"\x1f\x8b",
        b"\x80\t1",
        bytes(600),
        b"k\0\t1\n" * 200,
        b"\x01\x02\0\0\t\0\0\0\n" * 9,
        bytes(range(256)),
        b"k\t1\n" + b"a\0" * 50,
        b"k\ta\0b\0c\0d\0\nk2\te\0f\0g\0\n",
        b"a\0b\0",
        "\u65e5\u672c\t\u4e09\n".encode() * 50,
        "\u65e5\u672c\t\u4e09\n".encode("shift_jis") * 50,
        TEXT.encode("utf-8-sig"),
    ],
)
def test_what_may_be_text_in_whatever_bytes(data):
    assert form_of(data[:HEAD_BYTES]) is None


@given(st.lists(st.text(st.characters(exclude_characters="\0", codec="utf-8")), min_size=1))
def test_no_text_is_taken_for_anything_else(words):
    """Text of characters that are no marks by themselves, that is."""
    text = "k" + "\t".join(words)
    assert form_of(text.encode()[:HEAD_BYTES]) is None


@given(st.binary(min_size=1))
def test_no_bytes_after_a_key_matter_without_nul(value):
    assert form_of(b"k\t" + value.replace(b"\0", b"")) is None


@pytest.mark.parametrize("codec", ["", "gzip", "xz", "lzma", "bzip2", "zstd"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-32-be"])
def test_the_line_that_recodes_works(tmp_path, codec, encoding):
    tools = recode_command("x", codec, "iconv")
    if not all(shutil.which(step.split()[0]) for step in tools.split(" | ")):
        pytest.fail(f"this needs {tools}")
    path = tmp_path / "a file.log"
    path.write_bytes(TEXT.encode(encoding))
    if codec:
        pack = recode_command("x", codec).split(" | ")[1].split(" >")[0]
        data = subprocess.run(pack, shell=True, input=path.read_bytes(), stdout=subprocess.PIPE)
        path.write_bytes(data.stdout)
    command = unpack_command(form_of(TEXT.encode(encoding)[:HEAD_BYTES]), str(path), codec)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    made = tmp_path / "a file.log.new"
    if codec:
        unpack = recode_command("x", codec).split(" <")[0]
        text = subprocess.run(unpack, shell=True, input=made.read_bytes(), stdout=subprocess.PIPE)
        assert text.stdout.decode() == TEXT
    else:
        assert made.read_text() == TEXT


@pytest.mark.parametrize("compress", [None, gzip.compress])
def test_the_line_that_unpacks_works(tmp_path, compress):
    data = tar(tarfile.PAX_FORMAT)
    path = tmp_path / "it's a.log"
    path.write_bytes(compress(data) if compress else data)
    command = unpack_command(form_of(data[:HEAD_BYTES]), str(path), "gzip" if compress else "")
    subprocess.run(command, shell=True, check=True, cwd=tmp_path)
    assert (tmp_path / "it's a.log.d" / "a.log").read_text() == TEXT


def test_there_is_no_line_for_what_is_far_away():
    assert unpack_command(form_of(zipped()), "s3://bucket/a.log", "") == ""
    assert unpack_command(form_of(database()), "a.log", "") == ""
    zip_in_gzip = unpack_command(form_of(zipped()), "in/a.gz", "gzip")
    assert zip_in_gzip == "gzip -dc < in/a.gz > a.gz.zip && unzip a.gz.zip -d a.gz.d"


@pytest.mark.parametrize(
    ("lines", "described"),
    [
        (['{"n": 1}', "", '{"n": [2]}\r'], "JSON lines"),
        (['[1, "a"]'], "JSON lines"),
        (['{"text": "' + "x" * 5000], "JSON lines"),
        (["{", '  "n": 1', "}"], "a JSON document over several lines"),
        (["[", '{"n": 1},', '{"n": 2}', "]"], "a JSON document over several lines"),
        (["a,b", '"x, y",2'], "CSV"),
        (["a;b,c", "x;y"], "CSV with semicolons"),
        (["a|b", "x|y"], "columns separated by |"),
        (
            ['127.0.0.1 - - [10/Oct/2000:13:55:36 -0700] "GET /a,b HTTP/1.0" 200 2326', ""],
            "the access log of a web server",
        ),
        (
            ['::1 - frank [10/Oct/2000:13:55:36 -0700] "-" 408 - "-" "Mozilla/5.0 (X11)"'],
            "the access log of a web server",
        ),
        (["2024-01-02 03:04:05,678 INFO a", "2024-01-02T03:04:05Z b"], "a log whose lines begin with the time"),
        (["Jan  2 03:04:05 host sshd: a", "Feb 12 03:04:05 host b"], "a log whose lines begin with the time"),
        (["<?xml version='1.0'?>", "<a>"], "XML or HTML"),
        (["k1    1", "k2    2"], "columns separated by spaces"),
        (["", " ", "\r"], "empty lines"),
        ([], "empty lines"),
        (["one", "two words", "x"], "text without tabs"),
        (["a\0\x01"], "binary data"),
        (["[" * 100_000], "text without tabs"),
    ],
)  # fmt: skip
def test_what_lines_look_like(lines, described):
    assert describe_lines(lines) == described
