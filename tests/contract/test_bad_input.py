"""Input that is not as it should be: a clear error or a bad record, and an earlier output as it was."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.jobs import daskmr

from daskmr.data.readers.parquet import row_groups

EARLIER = "an earlier output\n"
SCRIPT = """
def map(key, dims, value, context):
    context.write(repr(value), 1)

def reduce(key, values, context):
    context.write(key, sum(values))
"""


class Place:
    """A folder with a job, an earlier output and input in ``data``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (root / "data").mkdir()
        (root / "job.py").write_text(SCRIPT)
        (root / "out").write_text(EARLIER)

    def put(self, name: str, data: bytes | str) -> Path:
        path = self.root / "data" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def run(self, *options: str) -> str:
        """Run the job, and return its output; the summary is in `said`."""
        done = daskmr("run", "job.py", "-o", "out", "--inline", *options, cwd=self.root)
        assert done.returncode == 0, done.stderr
        self.said = done.stderr
        return (self.root / "out").read_text()

    def fails(self, *options: str, code: int) -> str:
        """Run the job, which fails; return its error."""
        done = daskmr("run", "job.py", "-o", "out", "--inline", *options, cwd=self.root)
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        assert (self.root / "out").read_text() == EARLIER
        return done.stderr

    @property
    def saved(self) -> list[tuple[int, str]]:
        lines = (self.root / "out.bad.jsonl").read_text().splitlines()
        return [(saved["line"], saved["reason"]) for saved in map(json.loads, lines)]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


# --- layouts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("template", "mistake"),
    [
        ("{day}/{day}/x.log", "the name 'day' occurs twice"),
        ("{day}{host}.log", "{day} and {host} are adjacent; put text between them, as in {day}-{host}"),
        ("{day:float}/x.log", "the type of {day:float} is not known"),
        ("../{day}/x.log", "'..' is one of its parts"),
        ("/data/{day}.log", 'begins or ends with "/"'),
        ("{day/x.log", "is not a field"),
    ],
)  # fmt: skip
def test_a_template(place: Place, template: str, mistake: str) -> None:
    place.put("a/x.log", "k\t1\n")
    assert mistake in place.fails("-d", "data", "--layout", template, code=2)


def test_a_value_that_does_not_fit_its_type(place: Place) -> None:
    place.put("2024-01-02/x.log", "k\t1\n")
    place.put("2024-02-30/x.log", "k\t1\n")
    assert place.run("-d", "data", "--layout", "{day:date}/x.log") == "'1'\t1\n"
    assert "2024-02-30" in place.said
    assert "is not a date" in place.said
    assert "not in the layout" in place.said


def test_no_value_fits(place: Place) -> None:
    place.put("today/x.log", "k\t1\n")
    assert "is not a date" in place.fails("-d", "data", "--layout", "{day:date}/x.log", code=2)


# --- lists and globs ------------------------------------------------------------------------------


def test_parents_absolute_paths_and_links(place: Place) -> None:
    """They mean what they mean in a shell, and no file is read twice."""
    first, second = place.put("a/1.log", "k\t1\n"), place.put("b/2.log", "k\t2\n")
    (place.root / "data" / "a" / "link.log").symlink_to(second)
    (place.root / "lists").mkdir()
    for names in (
        [f"../data/a/../a/1.log\n{second}\n../data/a/link.log\n", "@lists/list"],
        ["", "lists/../data/*/*.log"],
        ["", f"{place.root}/data/**"],
    ):
        (place.root / "lists" / "list").write_text(names[0])
        assert place.run("-d", names[1]) == "'1'\t1\n'2'\t1\n"
        assert "reached more than once" in place.said
    assert first.exists()


@pytest.mark.parametrize(
    ("entry", "mistake"),
    [
        ("../outside/absent.log", "does not exist"),
        ("/etc", "is a directory"),
        ("data/dangling.log", "does not exist"),
        ("data/loop.log", "cannot be read"),
    ],
)
def test_a_list_of_what_is_no_file(place: Place, entry: str, mistake: str) -> None:
    (place.root / "data" / "dangling.log").symlink_to("nowhere")
    (place.root / "data" / "loop.log").symlink_to("loop.log")
    (place.root / "list").write_text(f"{entry}\n")
    said = place.fails("-d", "@list", code=2)
    assert "The list list, line 1" in said
    assert mistake in said


# --- CSV ------------------------------------------------------------------------------------------


def test_csv_with_rows_that_do_not_fit(place: Place) -> None:
    place.put("a.csv", b'id,n\nu,1\nv\nw,2,3\nx\0,4\n"y"z,5\n"",""\n')
    found = place.run("-d", "data/a.csv", "--records", "csv", "--max-bad-records", "3")
    assert "{'id': 'u', 'n': '1'}\t1\n" in found
    assert "{'id': 'x\\x00', 'n': '4'}\t1\n" in found
    assert "{'id': '', 'n': ''}\t1\n" in found
    wrong = "wrong number of fields"
    assert place.saved == [(3, wrong), (4, wrong), (6, "not valid CSV")]


def test_csv_without_a_header_that_a_key_or_field_needs(place: Place) -> None:
    place.put("a.csv", "u,1\nv,2\n")
    said = place.fails("-d", "data/a.csv", "--records", "csv", "--key", "id", code=1)
    assert "a.csv has no column 'id'. The columns are 'u', '1'" in said
    assert "input_columns" in said


def test_an_empty_csv_is_no_records(place: Place) -> None:
    place.put("a.csv", "")
    place.put("b.csv", "id,n\n")
    assert place.run("-d", "data/*.csv", "--records", "csv") == ""


# --- JSON lines -----------------------------------------------------------------------------------


def test_json_lines_of_all_kinds(place: Place) -> None:
    long = "[" + "0," * 1_000_000 + "0]"
    lines = [
        "1", long, '{"a": 1, "a": 2}', "[NaN, -Infinity]", '"\\ud800"', "{'a': 1}", "", '{"a": ',
    ]  # fmt: skip
    place.put("a.jsonl", "\n".join(lines))
    limit = "DASK_DASKMR__MAX_RECORD_BYTES"
    options = ("-d", "data/a.jsonl", "--records", "jsonl", "-o", "out", "--inline")
    done = daskmr("run", "job.py", *options, cwd=place.root, env={limit: "1 MiB"})
    assert done.returncode == 0, done.stderr
    found = (place.root / "out").read_text("utf-8", "surrogatepass")
    assert found == "'\\ud800'\t1\n1\t1\n[nan, -inf]\t1\n{'a': 2}\t1\n"
    assert "1 x longer than max-record-bytes" in done.stderr
    assert "2 x not JSON" in done.stderr
    assert place.saved == [(6, "not JSON"), (8, "not JSON")]  # one that is too long is not saved


# --- Parquet --------------------------------------------------------------------------------------


def parquet(rows: list[dict[str, Any]], schema: Any = None) -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema), sink)
    return sink.getvalue()


def test_parquet_of_other_columns(place: Place) -> None:
    """They may differ, unless a column is asked for by name."""
    place.put("a.parquet", parquet([{"id": "u", "n": 1}]))
    place.put("b.parquet", parquet([{"id": "v", "m": 2.5}]))
    options = ("-d", "data", "--layout", "flat", "--records", "parquet")
    assert place.run(*options) == "{'id': 'u', 'n': 1}\t1\n{'id': 'v', 'm': 2.5}\t1\n"
    (place.root / "out").write_text(EARLIER)
    (place.root / "job.py").write_text(f"fields = ('id', 'n')\n{SCRIPT}")
    said = place.fails(*options, code=1)
    assert "b.parquet has no column 'n'. The columns are 'id', 'm'." in said


def test_parquet_without_rows(place: Place) -> None:
    place.put("a.parquet", parquet([], pa.schema([("id", pa.string())])))
    sink = io.BytesIO()
    pq.ParquetWriter(sink, pa.schema([("id", pa.string())])).close()
    assert pq.ParquetFile(io.BytesIO(sink.getvalue())).num_row_groups == 0
    place.put("b.parquet", sink.getvalue())
    assert place.run("-d", "data", "--layout", "flat", "--records", "parquet") == ""


def test_parquet_that_is_encrypted(place: Place) -> None:
    encryption = pytest.importorskip("pyarrow.parquet.encryption")
    import base64

    class Client(encryption.KmsClient):  # type: ignore[misc]
        def wrap_key(self, key: bytes, name: str) -> bytes:
            return base64.b64encode(key)

        def unwrap_key(self, key: bytes, name: str) -> bytes:
            return base64.b64decode(key)

    factory = encryption.CryptoFactory(lambda config: Client())
    for plain_footer in (False, True):
        config = encryption.EncryptionConfiguration(
            footer_key="f", column_keys={"c": ["id"]}, plaintext_footer=plain_footer
        )
        properties = factory.file_encryption_properties(encryption.KmsConnectionConfig(), config)
        sink = io.BytesIO()
        table = pa.table({"id": ["secret"]})
        with pq.ParquetWriter(sink, table.schema, encryption_properties=properties) as writer:
            writer.write_table(table)
            writer.write_table(table)
        place.put("a.parquet", sink.getvalue())
        groups = row_groups(str(place.root / "data" / "a.parquet"))  # as for a large file
        assert len(groups) == (2 if plain_footer else 0)
        said = place.fails("-d", "data/a.parquet", "--records", "parquet", code=1)
        assert "a.parquet is encrypted" in said


# --- another format -------------------------------------------------------------------------------


@pytest.mark.parametrize("records", ["csv", "parquet"])
def test_another_format(place: Place, records: str) -> None:
    place.put("a.jsonl", '{"a": "b", "c": 1}\n')
    said = place.fails("-d", "data/a.jsonl", "--records", records, code=1)
    assert "name its format with --records" in said.lower()


def test_text_that_map_takes_for_a_document(place: Place) -> None:
    place.put("a.jsonl", '{"a": 1}\n')
    (place.root / "job.py").write_text(SCRIPT.replace("repr(value)", "value['a']"))
    options = ("-d", "data/a.jsonl", "--inline", "--records", "lines")
    said = daskmr("run", "job.py", *options, cwd=place.root).stderr
    assert "`json.loads(value)` parses it, and so does --records jsonl" in said
    assert place.run("-d", "data/a.jsonl", "--records", "jsonl") == "1\t1\n"


# --- credentials ----------------------------------------------------------------------------------


@pytest.mark.parametrize("option", ["-d", "-b"])
def test_credentials_in_a_url(place: Place, option: str) -> None:
    """They are refused, and written nowhere."""
    url = "s3://AKIAEXAMPLE:HUSH/HUSH@bucket/x"
    options = (option, url, "--verbose", "--report", "r.html", "--log-format", "json")
    done = daskmr("run", "job.py", "-o", "out", "--inline", *options, cwd=place.root)
    assert done.returncode == 2, done.stderr
    said = done.stdout + done.stderr
    assert "HUSH" not in said
    assert "credentials" in said
    for path in place.root.rglob("*"):
        if path.is_file():
            assert b"HUSH" not in path.read_bytes()


# --- standard input -------------------------------------------------------------------------------


@pytest.mark.parametrize("how", [["--inline"], ["-m", "1"]])
@pytest.mark.parametrize(
    ("data", "options", "code", "result"),
    [
        (b"k\t1\nk\t1\n", [], 0, "'1'\t2\n"),
        (b'{"a": 1}\n', ["--records", "jsonl"], 0, "{'a': 1}\t1\n"),
        (b"", [], 3, "was empty"),
        (b"no tab\n", [], 1, "tab"),
        (b"\x1f\x8b\x08 damaged", [], 1, "damaged"),
    ],
)
def test_standard_input(
    place: Place, how: list[str], data: bytes, options: list[str], code: int, result: str
) -> None:
    arguments = ("run", "job.py", "-d", "-", "-o", "out", *how, *options)
    done = daskmr(*arguments, cwd=place.root, data=data)
    said = done.stderr
    assert done.returncode == code, said
    found = (place.root / "out").read_text()
    assert found == (result if code == 0 else EARLIER)
    assert code == 0 or result in said


def test_a_breakpoint_does_not_read_the_data(place: Place) -> None:
    """Standard input is copied before the job begins, so nothing in the script reads it."""
    (place.root / "job.py").write_text(
        "import sys\ndef map(key, dims, value, context): context.write(sys.stdin.read(), value)\n"
    )
    done = daskmr("run", "job.py", "-d", "-", "--inline", "-q", cwd=place.root, data=b"k\t1\n")
    assert done.stdout == "\t1\n", done.stderr
