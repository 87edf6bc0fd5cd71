"""Recognise the format of a file from its first bytes or its first lines."""

from __future__ import annotations

import codecs
import csv
import json
import os
import re
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from daskmr.data.readers.suffixes import COMPRESSIONS

__all__ = [
    "ACCESS_LOG",
    "ACCESS_LOG_NAME",
    "BGZF",
    "BZIP2",
    "HEAD_BYTES",
    "LINE_CHARACTERS",
    "LZMA_FORM",
    "PARQUET",
    "SEPARATED",
    "XZ",
    "ZSTD",
    "Form",
    "describe_lines",
    "form_of",
    "format_of",
    "is_lzma",
    "recode_command",
    "unpack_command",
]  # fmt: skip

PARQUET = "a Parquet file"
HEAD_BYTES = 512  # enough to identify a format: the size of a tar header
LINE_CHARACTERS = 2000  # characters of a line that are enough to identify its format
_TAR_CHECKSUM = slice(148, 156)
_ENOUGH = 16  # characters that can be recognised as UTF-16 even without a tab or newline
_LARGEST_LZMA = 1 << 38  # bytes; if the header gives a larger size, the data is not lzma


@dataclass(frozen=True, slots=True)
class Form:
    """A format of data other than lines of UTF-8; `name` is a noun phrase for messages.

    `recode` is a command that converts it to text, from standard input to standard output, if any.
    `extract` is a command that extracts its files, from ``{file}`` into ``{folder}``; it requires
    that the name of the file ends in `suffix`.
    """

    name: str
    recode: str = ""
    extract: str = ""
    suffix: str = ""


# Patterns of the first bytes of compressed data
# A member of gzip of at most 64 KiB, with its own size in the extra field; bgzip writes no other fields.
BGZF = rb"\x1f\x8b\x08\x04.{6}\x06\x00BC\x02\x00(..)"
XZ = rb"\xfd7zXZ\x00"
BZIP2 = rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"
ZSTD = rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"  # a frame, or a skippable frame


def is_lzma(head: bytes) -> bool:
    """Check whether `head` may be the start of the old lzma format, which has no magic number.

    Its header has a byte of properties, the size of the dictionary and the size of the data; the
    first byte after the header is always 0.
    """
    if len(head) < 14 or head[0] >= 9 * 5 * 5 or head[13] or not any(head[1:5]):
        return False
    size = head[5:13]
    return size == b"\xff" * 8 or int.from_bytes(size, "little") < _LARGEST_LZMA


def _is_usual_lzma(head: bytes) -> bool:
    """Check for lzma with a usual dictionary size, for files whose name does not indicate lzma."""
    dictionary = int.from_bytes(head[1:5], "little")
    bits = f"{dictionary:b}".rstrip("0")
    return is_lzma(head) and dictionary >= 4096 and bits in ("1", "11")


def _is_tar(head: bytes) -> bool:
    if len(head) < HEAD_BYTES:
        return False
    field = head[_TAR_CHECKSUM].strip(b" \0")
    if not field or field.strip(b"01234567"):
        return False
    # The field itself counts as eight spaces.
    return int(field, 8) == sum(head[:HEAD_BYTES]) - sum(head[_TAR_CHECKSUM]) + 8 * ord(" ")


def _compressed(name: str) -> Form:
    return Form(f"{name} data", COMPRESSIONS[name].unpack)


LZMA_FORM = _compressed("lzma")
_TAR = Form("a tar archive", extract="tar -xf {file} -C {folder}")
_ZIP = Form("a zip archive", extract="unzip {file} -d {folder}", suffix=".zip")
_7Z = Form("a 7z archive", extract="7z x {file} -o{folder}", suffix=".7z")
_RAR = Form("a rar archive", extract="unrar x {file} {folder}/", suffix=".rar")
# Each mark contains a byte that cannot be at that position in text, so that no key matches.
_MARKS = {
    rb"\x1f\x8b\x08": _compressed("gzip"),
    XZ: _compressed("xz"),
    BZIP2: _compressed("bzip2"),
    ZSTD: _compressed("zstd"),
    rb"\x04\x22\x4d\x18": Form("lz4 data", "lz4 -dc"),
    rb"LZIP\x01": Form("lzip data", "lzip -dc"),
    rb"\x89LZO\x00\r\n\x1a\n": Form("lzop data", "lzop -dc"),
    rb"\xff\x06\x00\x00sNaPpY": Form("snappy data", "snzip -dc"),
    rb"\x1f\x9d[\x89-\x90]": Form("data of compress (.Z)", "gzip -dc"),
    rb"PK(?:\x03\x04|\x05\x06|\x07\x08)": _ZIP,
    rb"7z\xbc\xaf\x27\x1c": _7Z,
    rb"Rar!\x1a\x07": _RAR,
    rb"PAR1\x15": Form(PARQUET),
    rb"Obj\x01": Form("an Avro file"),
    rb"ARROW1\x00\x00": Form("an Arrow file"),
    rb"SEQ[\x04-\x06]": Form("a Hadoop sequence file"),
    rb"SQLite format 3\x00": Form("an SQLite database"),
    rb"\x89HDF\r\n\x1a\n": Form("an HDF5 file"),
    rb"\x93NUMPY": Form("a NumPy array"),
    rb"\x80(?:[\x02\x03]|[\x04\x05]\x95)": Form("a pickle"),
    rb"\x7fELF": Form("a program (ELF)"),
}
_MARK = b"|".join(b"(%b)" % mark for mark in _MARKS)
# Compiling the marks takes longer than starting to read a file, so check the first byte before.
_FIRST_BYTES = b"\x04\x1f\x28\x7f\x80\x89\x93\xfd\xff7ABLORS" + bytes(range(0x50, 0x60))
_MARKED = tuple(_MARKS.values())


def form_of(head: bytes) -> Form | None:
    r"""Return the form of data that is not text, from all of it or its first `HEAD_BYTES`.

    ``None``: it may be text, even if it is not valid UTF-8.

    >>> form_of(b"PK\x03\x04...").name, form_of("k\t1\n".encode("utf-16")).name
    ('a zip archive', 'text in UTF-16')
    >>> form_of(b"\xff\xfekey\tvalue\n") is None
    True
    """
    mark = re.match(_MARK, head, re.DOTALL) if head[:1] in _FIRST_BYTES else None
    if mark is not None:
        return _MARKED[mark.lastindex - 1]  # type: ignore[operator]  # it has matched by one
    if b"\0" not in head:
        is_mark = head in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
        return _text("UTF-16") if is_mark else None
    if _is_tar(head):
        return _TAR
    if _is_usual_lzma(head):
        return LZMA_FORM
    encoding = _encoding(head)
    return _text(encoding) if encoding else None


def _text(encoding: str) -> Form:
    return Form(f"text in {encoding}", f"iconv -f {encoding} -t UTF-8")


def _encoding(head: bytes) -> str:
    """Return the encoding of text that has NUL bytes; "" if it is not text."""
    if head.startswith((codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)):
        return "UTF-32"
    if head.startswith(codecs.BOM_UTF16_LE) and _ends_are_wide(head[2::2], head[3::2]):
        return "UTF-16"
    if head.startswith(codecs.BOM_UTF16_BE) and _ends_are_wide(head[3::2], head[2::2]):
        return "UTF-16"
    for width, order, name in (
        (4, 1, "UTF-32LE"),
        (4, -1, "UTF-32BE"),
        (2, 1, "UTF-16LE"),
        (2, -1, "UTF-16BE"),
    ):
        whole = head[: len(head) // width * width]
        if len(whole) >= 2 * width and _is_wide(*(whole[n::width] for n in range(width)[::order])):
            return name
    return ""


def _is_wide(low: bytes, high: bytes, *higher: bytes) -> bool:
    """Check for UTF-16 or UTF-32, given all lowest bytes, all second-lowest bytes, and so on."""
    if higher:  # most characters have 0 in the third byte, and assigned ones have at most 3
        return not any(higher[-1]) and max(higher[0]) <= 3 and b"\0" not in low
    if 4 * low.count(0) > len(low):  # few characters have 0 in the lowest byte
        return False
    latin = len(low) >= _ENOUGH and 5 * high.count(0) >= 2 * len(high)
    return _ends_are_wide(low, high, without_any=latin)


def _ends_are_wide(low: bytes, high: bytes, *, without_any: bool = True) -> bool:
    """Check whether tabs and newlines are next to a NUL, as in UTF-16 but not in UTF-8.

    `without_any` is the result if there are no tabs or newlines.
    """
    wide = sum(one in b"\t\n" and not other for one, other in zip(low, high, strict=False))
    alone = sum(low.count(end) + high.count(end) for end in b"\t\n") - wide
    return wide > alone or (not alone and without_any)


def recode_command(path: str, codec: str, command: str = "") -> str:
    """Return the shell command that recodes a file with `command`, keeping its compression `codec`.

    >>> recode_command("in/a.gz", "gzip", "iconv -f UTF-16 -t UTF-8")
    'gzip -dc < in/a.gz | iconv -f UTF-16 -t UTF-8 | gzip > a.gz.new'
    """
    tools = COMPRESSIONS.get(codec)
    unpack, pack = (tools.unpack, tools.pack) if tools else ("", "")
    first, *rest = filter(None, (unpack, command, pack))
    steps = " | ".join([f"{first} < {shlex.quote(path)}", *rest])
    return f"{steps} > {shlex.quote(os.path.basename(path) + '.new')}"


def unpack_command(form: Form, path: str, codec: str) -> str:
    """Return the shell command that extracts or recodes a file; "" if there is none.

    >>> unpack_command(form_of(b"PK\\3\\4"), "a.log", "")
    'unzip a.log -d a.log.d'
    """
    if "://" in path or not (form.recode or form.extract):
        return ""
    if form.recode:
        return recode_command(path, codec, form.recode)
    name = os.path.basename(path)
    folder, file, before = shlex.quote(f"{name}.d"), shlex.quote(path), ""
    if form.suffix and codec:
        file = shlex.quote(name + form.suffix)
        before = f"{COMPRESSIONS[codec].unpack} < {shlex.quote(path)} > {file} && "
    elif not form.suffix:
        before = f"mkdir {folder} && "
    return before + form.extract.format(file=file, folder=folder)


ACCESS_LOG = r'\S+ \S+ .+ \[[^\]]+\] "[^"]*" \d{3} (\d+|-)'
ACCESS_LOG_NAME = "the access log of a web server"
_TIME = r"[\[<(]*(\d{4}[-/]\d\d[-/]\d\d|[A-Z][a-z]{2} [ \d]\d \d\d:|\d{10,13}[. ])"
_EMPTY, _BINARY = "empty lines", "binary data"
SEPARATED = {  # the format of each; of two that give as many columns, the first counts
    "CSV with semicolons": ("csv:;", ";"),
    "columns separated by |": ("csv:|", "|"),
    "CSV": ("csv", ","),
}


def describe_lines(lines: Sequence[str]) -> str:
    """Describe the format of lines without a tab, from the first few lines.

    >>> describe_lines(['{"n": 1}', '{"n": 2}'])
    'JSON lines'
    >>> describe_lines(["name,size", "a,1", '"b, or c",2'])
    'CSV'
    >>> describe_lines(["hello"])
    'text without tabs'
    """
    lines = [line.strip() for line in lines if line.strip()]
    if not lines:
        return _EMPTY
    if any("\0" in line or "\ufffd" in line for line in lines):
        return _BINARY
    if all(map(_is_json, lines)):
        return "JSON lines"
    if lines[0] in ("{", "[", "[{") or lines[0].startswith('{"'):
        return "a JSON document over several lines"
    if lines[0].startswith(("<?xml", "<!DOCTYPE", "<html")):
        return "XML or HTML"
    if all(re.match(ACCESS_LOG, line) for line in lines):
        return ACCESS_LOG_NAME
    if all(re.match(_TIME, line) for line in lines):
        return "a log whose lines begin with the time"
    columns = {name: _columns(lines, separator) for name, (_, separator) in SEPARATED.items()}
    if columns[most := max(columns, key=columns.__getitem__)]:
        return most
    widths = {len(line.split()) for line in lines}
    if len(lines) > 1 and len(widths) == 1 and widths != {1}:
        return "columns separated by spaces"
    return "text without tabs"


def format_of(looks: str) -> str:
    """Return the record format that reads what `describe_lines` has described; "" if none does.

    >>> format_of("CSV with semicolons"), format_of("text without tabs"), format_of("binary data")
    ('csv:;', 'lines', '')
    """
    if looks in (_BINARY, _EMPTY):
        return ""
    return "jsonl" if looks == "JSON lines" else SEPARATED.get(looks, ("lines",))[0]


def _is_json(line: str) -> bool:
    """Check whether a line is a JSON object or array, or the start of a long one."""
    if not line.startswith(("{", "[")):
        return False
    try:
        json.loads(line)
    except (ValueError, RecursionError):
        return len(line) >= LINE_CHARACTERS and line.startswith(('{"', "[{", '["'))
    return True


def _columns(lines: Sequence[str], separator: str) -> int:
    """Return the number of columns, if there are several in all lines; else 0."""
    try:
        widths = {len(row) for row in csv.reader(lines, delimiter=separator)}
    except csv.Error:
        return 0
    return max(widths) if len(widths) == 1 and widths != {1} else 0
