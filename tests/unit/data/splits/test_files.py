"""The parts of a file are the file, in every format; what is not split, and the note on it."""

from __future__ import annotations

import gzip
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from support.blocks import (
    BLOCKS,
    listed,
    read,
    small_parts,
    split,
    to_bgzf,
    to_frames,
    to_parquet,
)
from support.compressed import CODECS

from daskmr.data.input_file import InputFile
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.records import KEYED, RecordFormat
from daskmr.data.readers.registry import reader_of
from daskmr.data.splits.files import Splitting, split_files
from daskmr.errors import TaskFailed

LINES = RecordFormat("lines")
JSONL = RecordFormat("jsonl")
CSV = RecordFormat("csv")
TSV = RecordFormat("tsv")
BOM = b"\xef\xbb\xbf"

NASTY = [
    *(
        b"a",
        b"\n",
        b"\n\n",
        b"\r\n",
        b"\r",
        b"\t",
        b",",
        b'"',
        b'\n"',
        BOM,
        b"xyz" * 9,
        b"\n" + BOM,
    ),
    *(b"\n{}\n", b"\xff\xfe", b"PK\x03\x04", b"\n\x1f\x8b\x08", b"\xe9", "\u00e9".encode()),
]

TEXTS = {
    "odd lengths": b"".join(b"k%d\t%s\n" % (n, b"x" * (n * n % 37)) for n in range(300)),
    "no final newline": b"a\tb\n" * 100 + b"c\td",
    "carriage returns": b"a\t1\r\nb\t2\r\n\r\n" * 40,
    "empty lines": b"\n" * 500,
    "a long line over several cuts": b"a\t1\n" + b"x" * 900 + b"\tv\n" + b"b\t2\n" * 50,
    "no newline at all": b"x" * 900,
    "marks at line starts": (BOM + b"k\tv\n") * 100,
    "a mark at the start": BOM + BOM + b"k\tv\n" * 100,
    "lines like other formats": b"".join(
        head + b"...\tv\n" for head in (b"\x1f\x8b\x08", b"PK\x03\x04", b"BZh91AY&SY", b"Obj\x01")
    ).join([b"k\tv\n"] * 20),
    "bytes that are not UTF-8": b"\xff\xfe\x00\tv\n\xe9\t\x80\n" * 60,
    "JSON": b"".join(b'{"id": %d}\n' % n for n in range(200)) + b"{oops\n\n[1]\n",
}


def put(path: Path, data: bytes) -> Path:
    path.write_bytes(data)
    return path


def outcome(file: InputFile, path: Path, form: RecordFormat, **limits: Any) -> Any:
    """Return the records, or the error as text."""
    try:
        return read(file, path, form, **limits)
    except (CorruptFileError, TaskFailed) as error:
        return str(error)


def check(path: Path, form: RecordFormat, least: int, **limits: Any) -> int:
    """Check that a file reads alike in parts and as a whole; return the number of parts."""
    reader = reader_of(form)
    parts = split(path, least, "lines" if reader is None else reader.splits)
    assert sum(part.bytes for part in parts) == path.stat().st_size
    assert [part.is_start for part in parts] == [True] + [False] * (len(parts) - 1)
    if len(parts) > 1:
        edges = [edge for part in parts for edge in part.part or ()]
        assert edges == sorted(edges)
        assert edges[1:-1:2] == edges[2:-1:2]
    whole = outcome(listed(path), path, form, **limits)
    found = [outcome(part, path, form, **limits) for part in parts]
    if isinstance(whole, list):
        assert [record for records in found for record in records] == whole
    else:
        assert whole in found
    return len(parts)


@pytest.mark.parametrize("form", [KEYED, LINES, JSONL], ids=lambda form: form.name)
@pytest.mark.parametrize("codec", BLOCKS)
@pytest.mark.parametrize("text", TEXTS)
def test_the_parts_are_the_file(tmp_path: Path, text: str, codec: str, form: RecordFormat) -> None:
    path = tmp_path / f"f.{codec}"
    for size in (13, 300):
        put(path, BLOCKS[codec](TEXTS[text], size))
        counts = [check(path, form, least) for least in (100, 500)]
    if text == "odd lengths":
        assert min(counts) > 2


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(st.sampled_from(NASTY), max_size=60),
    st.sampled_from(sorted(BLOCKS)),
    st.sampled_from([KEYED, LINES, JSONL, CSV, TSV]),
    st.integers(1, 40),
    st.integers(1, 60),
    st.sampled_from([10, 1 << 30]),
)
@example([b"a\n"] * 40, "gz", KEYED, 2, 1, 10)  # each block ends with its line
@example([b"\n", BOM] * 20, "zst", KEYED, 4, 1, 10)
@example([b"k\tv\n" * 200, BOM, b"k\tv\n"], "gz", KEYED, 800, 1, 1000)
@example([b"\n"] * 3 + [b"a\n"] * 9, "log", CSV, 1, 1, 10)  # the header is not in the first part
@example([b"k\tv\n" * 200, b"PK\x03\x04"], "bz2", LINES, 800, 1, 1000)
def test_any_lines(
    tmp_path: Path,
    pieces: list[bytes],
    codec: str,
    form: RecordFormat,
    size: int,
    least: int,
    limit: int,
) -> None:
    """However a file is compressed, and in blocks or parts of any size, its records are the same."""
    data = b"".join(pieces)
    path = put(tmp_path / f"f.{codec}", BLOCKS[codec](data, size))
    check(path, form, least, max_record_bytes=limit)
    plain = put(tmp_path / "plain.log", data)
    expected = outcome(listed(plain), plain, form, max_record_bytes=limit)
    found = outcome(listed(path), path, form, max_record_bytes=limit)
    assert type(found) is type(expected)  # an error says how to repair a file of this compression
    if isinstance(found, list):
        assert repr(found) == repr(expected).replace("plain.log", path.name)


@pytest.mark.parametrize("form", [CSV, TSV, RecordFormat("csv", columns=("a", "b"))], ids=str)
@pytest.mark.parametrize("start", [b"", b"\n\r\n", BOM])
def test_tables(tmp_path: Path, form: RecordFormat, start: bytes) -> None:
    separator = b"\t" if form.name == "tsv" else b","
    rows = [separator.join([b"%d" % n, b"y" * (n % 7)]) for n in range(300)]
    rows[70:71], rows[150] = [b"", b""], b"1%s2%s3" % (separator, separator)
    data = start + b"\n".join([separator.join([b"a", b"b"]), *rows])
    assert check(put(tmp_path / "f.csv", data), form, 100) > 5


@pytest.mark.parametrize(
    ("name", "start", "count"),
    [
        ("csv:#", b"# no, header\n" * 5, 6),
        ("csv:#", b"# no, header\n" * 500, 1),
        ("csv:;", b"sep=;\n" + b"\n" * 20, 6),
        ("csv:;", b"\xef\xbb\xbfsep=;\r\n" + b"\r\n" * 2000, 1),
        ("csv:;#", b"sep=;\n" + b"#\n" * 2000, 1),
    ],
)
@pytest.mark.parametrize("columns", [None, ("a", "b")])
def test_a_table_is_split_only_after_its_header(
    tmp_path: Path, name: str, start: bytes, count: int, columns: tuple[str, str] | None
) -> None:
    """Comments, blank lines and the mark of Excel may be before it."""
    separator = b";" if ";" in name else b","
    data = start + (b"a,b\n" + b"10,20\n" * 200).replace(b",", separator)
    path = put(tmp_path / "f.csv", data)
    form = RecordFormat(name, columns=columns)
    assert min(check(path, form, 200), 6) == count
    assert len(read(listed(path), path, form)) == 200
    if count == 1:
        assert "no header ends within its first MiB" in note_of(path, kind="unquoted lines")


def test_a_header_that_cannot_be_one_fails_alike(tmp_path: Path) -> None:
    path = put(tmp_path / "f.csv", b"a,a\n" + b"1,2\n" * 200)
    found = {outcome(part, path, CSV) for part in split(path, 100, "unquoted lines")}
    assert found == {outcome(listed(path), path, CSV)}
    assert "names a column twice" in found.pop()


def test_a_table_is_split_up_to_its_first_quote(tmp_path: Path) -> None:
    data = b"a,b\n" + b"1,2\n" * 300 + b'"x\ny",2\n' * 300
    parts = split(put(tmp_path / "f.csv", data), 100, "unquoted lines")
    assert len(parts) > 5
    assert max(part.part[0] for part in parts if part.part) <= data.index(b'"')
    assert check(tmp_path / "f.csv", CSV, 100) == len(parts)
    assert (
        len(split(put(tmp_path / "g.csv", b'"a",b\n' + b"1,2\n" * 300), 100, "unquoted lines")) == 1
    )


@pytest.mark.parametrize(
    "form", [RecordFormat("parquet"), RecordFormat("parquet", key="n")], ids=str
)
def test_row_groups(tmp_path: Path, form: RecordFormat) -> None:
    rows = [{"n": n, "s": "x" * (n % 11)} for n in range(1000)]
    path = put(tmp_path / "f.parquet", to_parquet(rows, 90))
    assert check(path, form, 1) == 12
    assert 1 < check(path, form, 4000) < 12
    assert check(put(tmp_path / "g.parquet", to_parquet(rows, 1000)), form, 1) == 1
    assert check(put(tmp_path / "h.parquet", b"PAR1" + b"x" * 5000), form, 1) == 1


def test_long_lines_keep_their_number(tmp_path: Path) -> None:
    data = (b"k\tv\n" * 20 + b"x" * 300 + b"\n") * 20
    assert check(put(tmp_path / "f.log", data), KEYED, 100, max_record_bytes=200) > 10


@pytest.mark.parametrize("codec", ["gz", "zst", "bz2"])
def test_a_damaged_block_fails_as_in_the_whole_file(tmp_path: Path, codec: str) -> None:
    data = BLOCKS[codec](TEXTS["odd lengths"], 200)
    for at in (len(data) // 3, len(data) * 2 // 3, len(data) - 40):
        bad = bytearray(data)
        bad[at] ^= 0x55
        path = put(tmp_path / f"f.{codec}", bytes(bad))
        whole = outcome(listed(path), path, KEYED)
        found = [outcome(part, path, KEYED) for part in split(path, 500)]
        assert whole in found
        assert "is damaged: after" in whole


def test_a_cut_where_no_block_begins_fails(tmp_path: Path) -> None:
    path = put(tmp_path / "f.gz", to_bgzf(TEXTS["odd lengths"], 200))
    part = replace(listed(path), part=(0, split(path, 500)[0].bytes + 1))
    with pytest.raises(CorruptFileError, match=r"no stream begins at byte \d+, where it was cut"):
        read(part, path)


def test_a_log_that_grows_is_read_to_its_listed_end(tmp_path: Path) -> None:
    path = put(tmp_path / "f.log", b"k\tv\n" * 300 + b"k\tinc")
    whole, parts = listed(path), split(path, 100)
    with path.open("ab") as file:
        file.write(b"omplete\nk\tv\n" * 50)
    found = [one for part in parts for one in read(part, path)]
    assert (len(parts) > 5, found) == (True, read(whole, path))
    assert found[-1] == (300, "k\tv")


def test_a_file_that_is_changed_between_its_parts_fails(tmp_path: Path) -> None:
    path = put(tmp_path / "f.log", b"k\tv\n" * 300)
    first, *_, last = split(path, 100)
    read(first, path)
    path.write_bytes(b"K\tv\n" * 300)
    os.utime(path, ns=(1, 1))
    with pytest.raises(TaskFailed, match="changed while the job ran"):
        read(last, path)


def test_the_cuts_depend_on_the_file_alone(tmp_path: Path) -> None:
    path = put(tmp_path / "f.gz", to_bgzf(TEXTS["odd lengths"], 100))
    how = Splitting(str(tmp_path), "lines", 1)
    with small_parts(300):
        found = [split_files([listed(path)], how, workers)[0] for workers in (1, 2, 64)]
    assert found[0] == found[1] == found[2]


def test_small_and_remote_files_are_not_opened() -> None:
    files = [InputFile(f"no/such/{n}.log", n, ()) for n in range(100)]
    files.append(InputFile("no/such.log", 1 << 40, (), "etag", 1.0))
    how = Splitting("/nowhere")
    assert split_files(files, how) == (files, ())
    files.append(InputFile("no/such/file.log", 1 << 30, ()))  # the task that maps it reports it
    assert split_files(files, how) == (files, ())


def test_a_file_below_twice_a_part_stays_whole(tmp_path: Path) -> None:
    path = put(tmp_path / "f.log", b"k\tv\n" * 50)
    assert [len(split(path, least)) for least in (100, 101)] == [2, 1]


def note_of(path: Path, workers: int = 4, **how: Any) -> str:
    with small_parts(100):
        splitting = Splitting(str(path.parent), how.pop("kind", "lines"), 1, **how)
        files, notes = split_files([listed(path)], splitting, workers)
    assert len(files) == 1
    return " ".join(notes)


@pytest.mark.parametrize("codec", ["gz", "xz", "lzma", "bz2", "zst"])
def test_the_note_on_a_single_stream(tmp_path: Path, codec: str) -> None:
    data = os.urandom(2000).hex().encode() + b"\n"
    path = put(tmp_path / f"big file.log.{codec}", CODECS[codec](data))
    note = note_of(path)
    assert "is read by one worker, for which others may wait, because such " in note
    assert "data can only be read from its start. To have it split, store it as plain text" in note
    assert "| bgzip > 'big file.log.gz.new'" in note
    assert note_of(path, workers=1) == ""


def test_the_notes_on_other_whole_files(tmp_path: Path) -> None:
    gz = put(tmp_path / "f.gz", to_bgzf(os.urandom(2000).hex().encode(), 100))
    assert "--skip-corrupt-files" in note_of(gz, only_plain=True)
    assert "compressed records of this format" in note_of(gz, kind="unquoted lines")
    csv = put(tmp_path / "f.csv", b'"a",b\n' + b"1,2\n" * 300)
    assert "fields in quotes may hold newlines" in note_of(csv, kind="unquoted lines")
    assert "records of this format are not split" in note_of(csv, kind="")
    rows = [{"s": os.urandom(50).hex()} for _ in range(100)]
    parquet = put(tmp_path / "f.parquet", to_parquet(rows, 1000))
    assert "a single row group" in note_of(parquet, kind="row groups")
    with small_parts(100):
        remote = InputFile("a.log", 10_000, (), "etag", 1.0)
        (note,) = split_files([remote], Splitting("/nowhere", "lines", 1), 2)[1]
    assert "objects in a store are not split" in note


def test_no_note_where_no_worker_waits(tmp_path: Path) -> None:
    paths = [put(tmp_path / f"{n}.gz", gzip.compress(os.urandom(2000))) for n in range(8)]
    with small_parts(100):
        assert split_files([*map(listed, paths)], Splitting(str(tmp_path), "lines", 1), 4)[1] == ()


def test_plain_files_are_split_where_corrupt_ones_are_skipped(tmp_path: Path) -> None:
    path = put(tmp_path / "f.log", b"k\tv\n" * 300)
    with small_parts(100):
        files, _ = split_files([listed(path)], Splitting(str(tmp_path), "lines", 1, True))
    assert len(files) > 5


def test_text_in_another_encoding_is_one_error(tmp_path: Path) -> None:
    text = "k\tv\n" * 300
    assert len(split(put(tmp_path / "f.log", text.encode("utf-16")), 100)) == 1
    assert len(split(put(tmp_path / "f.gz", to_bgzf(text.encode("utf-16"), 100)), 100)) == 1


def test_frames_that_are_too_large_to_find_end_the_splitting(tmp_path: Path) -> None:
    start = to_frames(TEXTS["odd lengths"], 100)
    rest = CODECS["zst"](os.urandom(len(start)).hex().encode() + b"\tv\n")
    path = put(tmp_path / "f.zst", start + rest)
    parts = split(path, 1000)
    assert len(parts) > 3
    assert check(path, KEYED, 1000) == len(parts)
