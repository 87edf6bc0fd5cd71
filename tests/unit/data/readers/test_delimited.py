"""CSV as RFC 4180 describes it, and what is not."""

from __future__ import annotations

import csv
import io
import itertools
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.records import bad_in, pairs_in

from daskmr.data.readers import lines
from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.records import TOO_LONG, BadRecord, RecordFormat
from daskmr.data.readers.sniffing import HEAD_BYTES
from daskmr.errors import TaskFailed

CSV = RecordFormat("csv")
NAMES = ("a", "b", "c")
CELLS = st.text(st.sampled_from('xy,"\n\r\t \u00e9'), max_size=6)
ROWS = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12)


@given(ROWS, st.sampled_from([1, 2, 7, 1 << 16]))
def test_what_csv_writes_is_read(rows: list[tuple[str, str, str]], chunk: int) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerows([NAMES, *rows])
    data = text.getvalue().encode()
    with pytest.MonkeyPatch.context() as patch:
        whole = lines.read_chunks
        patch.setattr(
            lines,
            "read_chunks",
            lambda *args, **options: whole(*args, **{**options, "read_bytes": chunk}),
        )
        found = pairs_in(data, CSV)
    # As everywhere, carriage returns before a newline are part of the end of the line.
    assert [tuple(value.values()) for _, _, value in found] == [
        tuple(cell for cell in row) for row in rows
    ]


@pytest.mark.parametrize("chunk", [1, 2, 7, 1 << 16])
@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("csv:;", b'a;b\n1;"p\n#q;"\n2;#r\n'),
        ("csv:|", b'sep=|\r\na|b\r\n1|"p\n#q;"\r\n2|#r\r\n'),
        ("csv:#", b'# so, "x\n\n#\na,b\n1,"p\n#q;"\n#3,4\n2,#r\n'),
        ("csv:;#", b'#\nsep=;\na;b\n1;"p\n#q;"\n# "\n2;#r\n# end'),
        ("tsv:#", b'#\na\tb\n1\t"p\n#q;"\n2\t#r\n'),
    ],
)
def test_separators_and_comments(name: str, data: bytes, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = lines.read_chunks
        patch.setattr(lines, "read_chunks", lambda *a, **o: whole(*a, **{**o, "read_bytes": chunk}))
        found = pairs_in(data, RecordFormat(name))
    assert [value for *_, value in found] == [{"a": "1", "b": "p\n#q;"}, {"a": "2", "b": "#r"}]
    ends = data.split(b"\n")
    assert all(ends[number - 1].startswith(value["a"].encode()) for number, _, value in found)


def test_a_stray_quote_does_not_make_records_of_comments() -> None:
    data = b'a,b\n1,"x\n# y, z\n2,3\n'
    found = pairs_in(data, RecordFormat("csv:#"))
    assert [n for n, *_ in found] == [2, 4]
    assert bad_in(data, RecordFormat("csv:#")) == [(2, "a quote is not closed", b'1,"x')]


@pytest.mark.parametrize("chunk", [7, 64])
@pytest.mark.parametrize("limits", [{"max_record_bytes": 40}, {"max_text_bytes": 160}])
def test_a_comment_may_be_longer_than_any_record(chunk: int, limits: dict[str, int]) -> None:
    comment = '# "' + "x\U0001f600" * 40 + "\n"
    field = comment.replace('"', "")
    data = f'{comment}a,b\n1,2\n{comment}{comment}\n3,"{field}"\n4,5\n{comment}'.encode()
    with pytest.MonkeyPatch.context() as patch:
        options = {"chunk_bytes": chunk, "read_bytes": chunk}
        patch.setattr(lines, "read_chunks", lambda s, **o: read_chunks(s, **{**o, **options}))
        found = pairs_in(data, RecordFormat("csv:#"), **limits)
    assert [n for n, *_ in found] == [3, 7, 9]
    assert [getattr(value, "reason", "") for *_, value in found] == ["", TOO_LONG, ""]


@pytest.mark.parametrize(
    ("name", "data", "form"),
    [
        ("csv", b"sep=;\r\na;b\r\n1;2\r\n", "'csv:;'"),
        ("csv", b"\xef\xbb\xbfsep=;\na;b\n", "'csv:;'"),
        ("csv", b"sep=\t\na\tb\n", "tsv"),
        ("csv", b"sep=:\na:b\n", "csv::"),
        ("csv:;", b"sep=,\na,b\n", "csv"),
        ("csv:#", b"#\nsep=;\na;b\n", "'csv:;#'"),
        ("csv:#", b"a\tb\n1\t2\n", "'tsv:#'"),
        ("csv", b"a;b\n\n1;2\n", "'csv:;'"),
        ("csv", b"a|b|c\n1|2|3\n", "'csv:|'"),
        ("tsv", b"a,b\n1,2\n", "csv"),
    ],
)
@pytest.mark.parametrize("chunk", [1, 1 << 16])
def test_another_separator_is_an_error(name: str, data: bytes, form: str, chunk: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        whole = lines.read_chunks
        patch.setattr(lines, "read_chunks", lambda *a, **o: whole(*a, **{**o, "read_bytes": chunk}))
        with pytest.raises(TaskFailed) as caught:
            pairs_in(data, RecordFormat(name))
    assert caught.value.message.endswith(f"--records {form}")
    columns = ("a;b",) if b"sep" not in data else None
    if columns:
        assert pairs_in(data, RecordFormat(name, columns=columns))


@pytest.mark.parametrize(
    "data",
    [
        b"yes; or no\nyes\n",
        b'"a,b"\n"1,2"\n',
        b"a;b\n",
        b"a;b,c\n1;2,3\n",
        b"sep\nsep=\n",
        b"a\n1;2\n3;4\n",
        b"sep=x\n1\n",
    ],
)
def test_a_single_column_may_hold_separators(data: bytes) -> None:
    rows = [*csv.reader(io.StringIO(data.decode()))]
    assert [[*value.values()] for *_, value in pairs_in(data, CSV)] == rows[1:]


def test_a_header_with_a_name_twice_is_one_if_the_script_names_the_columns() -> None:
    form = RecordFormat("csv", columns=("a", "column2", "a_2"))
    assert [v for *_, v in pairs_in(b"a,,a\n1,2,3\n", form)] == [
        {"a": "1", "column2": "2", "a_2": "3"}
    ]


def test_numbers_are_those_of_first_lines() -> None:
    found = pairs_in(b'a,b\r\n1,"x\r\ny"\r\n\r\n2,z\r\n', CSV)
    assert [(n, v) for n, _, v in found] == [
        (2, {"a": "1", "b": "x\r\ny"}),
        (5, {"a": "2", "b": "z"}),
    ]


def test_bad_rows_have_place_reason_and_bytes() -> None:
    data = b'a,b\n1,2\n3\n4,5,6\n"x"y,1\n"7\n8",9\n"10\n11"\n'
    assert bad_in(data, CSV) == [
        (3, "wrong number of fields", b"3"),
        (4, "wrong number of fields", b"4,5,6"),
        (5, "not valid CSV", b'"x"y,1'),
        (8, "wrong number of fields", b'"10\n11"'),
    ]
    assert [n for n, _, v in pairs_in(data, CSV) if not isinstance(v, BadRecord)] == [2, 6]


def test_a_quote_that_is_not_closed_takes_one_line() -> None:
    data = b'a,b\n1,"open\n' + b"2,3\n" * 50_000
    found = pairs_in(data, CSV)
    assert len(found) == 50_001
    assert bad_in(data, CSV) == [(2, "a quote is not closed", b'1,"open')]
    assert found[-1][::2] == (50_002, {"a": "2", "b": "3"})


def test_a_quote_that_is_not_closed_within_the_limit_fails() -> None:
    data = b'a,b\n1,"open\n' + b"2,3\n" * 50_000
    for end in (b"", b'4,"5\n', b'4,"5"\n'):
        with pytest.raises(TaskFailed, match="has a quote that is not closed"):
            pairs_in(data + end, CSV, max_record_bytes=1000)
    for end in (b'4,"5\n', b'4,"5"6\n'):
        assert [n for n, _, _ in bad_in(data + end, CSV, max_record_bytes=300_000)] == [2, 50_003]


@pytest.mark.parametrize("chunk", [7, 64, 1000, 1 << 16])
def test_a_record_beyond_the_limit_is_one_record(chunk: int) -> None:
    """Wherever it continues in the next chunk; its lines are no records, though they look like some."""
    long = '%d,"' + "in,ner\n" * 30 + '"\n'
    line = '%d,"' + "x" * 300 + '\nin,ner\n"\n'  # one of its lines is too long by itself
    wide = '%d,"' + "\u00e9\n" * 40 + '"\n'  # shorter as text than in bytes
    rows = [kind % number for number in range(40) for kind in (long, "%d,x\n", line, wide)]
    with pytest.MonkeyPatch.context() as patch:
        options = {"chunk_bytes": chunk, "read_bytes": chunk}
        patch.setattr(lines, "read_chunks", lambda s, **o: read_chunks(s, **{**o, **options}))
        data = "a,b\n" + "".join(rows)
        found = pairs_in(data.encode(), CSV, max_record_bytes=100)
    assert [value["a"] for _, _, value in found if isinstance(value, dict)] == [
        *map(str, range(40))
    ]
    assert {value.reason for _, _, value in found if isinstance(value, BadRecord)} == {TOO_LONG}
    starts = itertools.accumulate((row.count("\n") for row in rows[:-1]), initial=2)
    assert [number for number, _, _ in found] == [*starts]


PIECES = st.sampled_from(
    ['"', '"', ",", "\n", "\n", "\r\n", "\r", "x", "yy" * 9, "\u00e9", '""', ' "']
)


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=60), st.integers(1, 30), st.sampled_from([5, 20, 60, 1 << 30]))
@example(['"', *["x", "\n"] * 9, '"', ",", "\n"], 3, 5)
def test_records_do_not_depend_on_chunks(pieces: list[str], chunk: int, limit: int) -> None:
    start = "a,b" + "\n" * HEAD_BYTES  # of which nothing is cut
    data = (start + "".join(pieces)).encode()

    def outcome() -> Any:
        try:
            return pairs_in(data, CSV, max_record_bytes=limit)
        except TaskFailed as error:
            return error.message

    whole = outcome()
    with pytest.MonkeyPatch.context() as patch:
        options = {"chunk_bytes": chunk, "read_bytes": chunk}
        patch.setattr(lines, "read_chunks", lambda s, **o: read_chunks(s, **{**o, **options}))
        assert outcome() == whole


def test_a_long_field_over_many_lines() -> None:
    cell = "0123456789\n" * 40_000
    found = pairs_in(f'a,b\n1,"{cell}"\n2,3\n'.encode(), CSV)
    assert [(n, v["b"]) for n, _, v in found] == [(2, cell), (40_003, "3")]
    short = f'a\n"{cell[:66]}"\n'.encode()
    reasons = [reason for _, reason, _ in bad_in(short, CSV, max_record_bytes=50)]
    assert reasons == ["longer than max-record-bytes"]


def test_columns_are_for_files_without_a_header() -> None:
    form = RecordFormat("csv", None, ("x", "y"))
    assert [v for _, _, v in pairs_in(b"1,2\n", form)] == [{"x": "1", "y": "2"}]
    assert [v for _, _, v in pairs_in(b"x,y\n1,2\n", form)] == [{"x": "1", "y": "2"}]


def test_columns_that_may_be_those_of_the_output() -> None:
    form = RecordFormat("csv", maybe_columns=("x", "y"))
    assert [v for _, _, v in pairs_in(b"a\n1\n", form)] == [{"a": "1"}]
    assert [v for _, _, v in pairs_in(b"x,y\n1,2\n", form)] == [{"x": "1", "y": "2"}]
    with pytest.raises(TaskFailed) as caught:
        pairs_in(b"1,2\n3,4\n", form)
    assert "write input_columns = ('x', 'y')" in caught.value.message


def test_rows_that_do_not_fit_the_columns_of_a_script() -> None:
    form = RecordFormat("csv", columns=("x", "y"))
    ((_, _, bad),) = pairs_in(b"1,2,3\n", form)
    assert "it has 3, and the script names 2 columns: write output_columns" in bad.detail


def test_key_and_fields_are_columns() -> None:
    form = RecordFormat("tsv", "id", None, (("n",), ("id",)))
    assert pairs_in(b"id\tn\nu\t1\n", form) == [(2, "u", ("1", "u"))]


@pytest.mark.parametrize(
    ("data", "form", "message"),
    [
        (b"a,b,a\n1,2,3\n", CSV, "names a column twice: 'a'"),
        (b"a,b,a\n1,2,3\n", CSV, "input_columns = ('a', 'b', 'a_2')"),
        (b'{"a": 1, "b": 2}\n', CSV, "has no header: its first line is JSON."),
        (b'"a"x,b\n1,2\n', CSV, "has no header: its first line is not valid CSV."),
        (b"a,b\n1,2\n", RecordFormat("csv", "id"), "has no column 'id'. The columns are 'a', 'b'."),
        (b"a,b\n1,2\n", RecordFormat("csv", None, None, (("c",),)), "has no column 'c'"),
        (b"city,b\n1,2\n", RecordFormat("csv", "cit"), "Did you mean 'city'?"),
        (b"a;b\n1;2\n", RecordFormat("csv", "a"), "by semicolons: --records 'csv:;'"),
        (b"a,b\n1,2\n", RecordFormat("tsv", "a"), "by commas: --records csv"),
    ],
)
def test_headers_that_do_not_fit(data: bytes, form: RecordFormat, message: str) -> None:
    with pytest.raises(TaskFailed) as caught:
        pairs_in(data, form)
    assert message in caught.value.message


def test_semicolons_show_in_bad_records() -> None:
    (bad,) = (value for _, _, value in pairs_in(b"a;b\n1;2,5\n", CSV))
    assert bad.detail == (
        "it has 2. The columns are 'a;b'. To separate them by semicolons: --records 'csv:;'"
    )


def test_nul_and_bytes_that_are_not_utf8_are_kept() -> None:
    ((_, _, value),) = pairs_in(b"a,b,c,d\nx\0y,\xff,some more text,and more\n", CSV)
    assert (value["a"], value["b"]) == ("x\0y", "\udcff")


@pytest.mark.parametrize("middle", [b'"x"y,2', b'"open,2', b"", b'"two\nlines",2', b"1,2,3"])
@pytest.mark.parametrize("form", [CSV, RecordFormat("csv", "b", None, (("a",), ("b",)))])
def test_records_around_any_other(middle: bytes, form: RecordFormat) -> None:
    found = pairs_in(b'a,b\n"p",1\n\n' + middle + b"\nq,3\n", form)
    first, *between, last = [(n, v) for n, _, v in found]
    values = (
        [("p", "1"), ("q", "3")] if form.fields else [{"a": "p", "b": "1"}, {"a": "q", "b": "3"}]
    )
    assert (first, last) == ((2, values[0]), (5 + middle.count(b"\n"), values[1]))
    assert [n for n, _ in between] == [4] * (middle != b"")
    assert isinstance(between[0][1] if between else None, BadRecord) == (
        middle not in (b"", b'"two\nlines",2')
    )
