"""Several folders, files, globs and lists are one input, in one order."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from support.layouts import DIMS, LAST, NAME, allow, layout

from daskmr.data.layout import load_schema
from daskmr.data.listing import Listing
from daskmr.data.sources.given import Sources
from daskmr.data.sources.named_files import NO_DIMENSIONS, dims_by_end, list_sources
from daskmr.errors import InputError, NothingMatchedError


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for path in ("logs/01/a.log", "logs/02/b.log", "other/c.txt", f"data/{LAST}{NAME}"):
        put(tmp_path, path)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def put(place: Path, path: str, text: str = "k\t1\n") -> None:
    (place / path).parent.mkdir(parents=True, exist_ok=True)
    (place / path).write_text(text)


def listed(*values: str, schema: Any = None, **options: Any) -> tuple[Listing, tuple[str, ...]]:
    options = {"has_layout": False} | options
    return list_sources(Sources(values), schema or allow(), **options)


def paths(*values: str, **options: Any) -> list[str]:
    return [file.path for file in listed(*values, **options)[0].files]


def test_a_file(place: Path) -> None:
    listing, notes = listed("logs/01/a.log")
    (file,) = listing.files
    found = (place / "logs/01/a.log").stat()
    assert (file.path, file.size, file.dims) == ("a.log", 4, ())
    assert (file.mtime_ns, file.inode) == (found.st_mtime_ns, found.st_ino)
    assert (listing.root, listing.layout, notes) == (f"{place}/logs/01", NO_DIMENSIONS, ())


def test_a_glob_is_relative_to_its_part_without_wildcards(place: Path) -> None:
    listing, _ = listed("logs/0[1]/*.log")
    assert listing.root == f"{place}/logs"
    assert [file.path for file in listing.files] == ["01/a.log"]


def test_inputs_add_up_in_the_order_of_their_paths(place: Path) -> None:
    expected = ["logs/01/a.log", "logs/02/b.log", "other/c.txt"]
    values = ["other/c.txt", "logs/**/*.log"]
    assert paths(*values) == paths(*reversed(values)) == expected
    assert listed(*values)[0].root == str(place)


def test_a_folder_has_its_layout(place: Path) -> None:
    listing, _ = listed("data", "other/c.txt")
    assert {file.path: file.dims[:4] for file in listing.files} == {
        f"data/{LAST}{NAME}": DIMS,
        "other/c.txt": (),
    }
    put(place, f"more/{LAST}{NAME}")
    put(place, "more/README.md")
    listing, _ = listed("data", "more", schema=allow("idle"))
    assert [file.path for file in listing.files] == [f"data/{LAST}{NAME}", f"more/{LAST}{NAME}"]
    assert listing.skipped == ("more/README.md",)
    assert listing.seen[0].candidates == listing.seen[0].allowed == 2
    nothing, _ = listed("data", "more", schema=allow("absent"))
    assert "existing there: 'idle'" in nothing.explain_nothing()


def test_a_layout_of_files(place: Path) -> None:
    put(place, "logs/03/1.2.x.log")
    schema = layout(place, 3, ["03"])
    for value in ("logs/**", "logs/03/1.2.x.log", "@list"):
        put(place, "list", "logs/03/1.2.x.log\n")
        listing, _ = listed(value, schema=schema, has_layout=True)
        assert [file.dims for file in listing.files] == [("03", "1", "2")]
    assert "01/a.log" in listed("logs/**", schema=schema, has_layout=True)[0].skipped
    excluded, _ = listed("logs/**", schema=layout(place, 3, ["04"]), has_layout=True)
    assert not excluded.files
    assert "existing there: '03'" in excluded.explain_nothing()


def test_a_filter_needs_a_layout(place: Path) -> None:
    with pytest.raises(InputError, match=r"with --layout, or the folder: -d logs/01"):
        listed("logs/01/a.log", schema=allow("idle"))


def test_a_file_that_is_reached_twice_is_read_once(place: Path) -> None:
    (place / "logs" / "link.log").symlink_to("01/a.log")
    (place / "logs" / "03").symlink_to("02")
    listing, notes = listed("logs/*/*.log", "logs/*.log", "logs/01/a.log", "other/c.txt")
    assert [f.path for f in listing.files] == ["logs/01/a.log", "logs/02/b.log", "other/c.txt"]
    assert len(notes) == 1
    assert "reached more than once by --data-dir, and read once" in notes[0]
    assert paths("logs/link.log") == ["link.log"]


def test_a_list(place: Path) -> None:
    content = b"../logs/01/a.log\r\n\n%s\n./x\xff.log" % os.fsencode(place / "logs/02/b.log")
    Path(place, "lists").mkdir()
    Path(place, "lists", "list").write_bytes(content)
    put(place, os.fsdecode(b"lists/x\xff.log"))
    expected = [os.fsdecode(b"lists/x\xff.log"), "logs/01/a.log", "logs/02/b.log"]
    assert paths("@lists/list") == expected


def test_parents_are_those_of_the_file_system(place: Path) -> None:
    put(place, "far/away/x.log")
    put(place, "far/y.log")
    (place / "near").symlink_to("far/away")
    assert listed("near/../y.log")[0].root == f"{place}/far"
    assert paths("near/../*.log") == ["y.log"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("absent", r"The list list, line 2: 'absent' does not exist \(.*/absent\)"),
        ("logs", "line 2: 'logs' is a directory"),
        ("s3://b/x", "line 2: 's3://b/x' is a URL"),
        ("a\0b", "line 2: .* cannot be read"),
        ("/dev/null", "line 2: '/dev/null' is not a regular file"),
    ],
)
def test_mistakes_in_a_list(place: Path, entry: str, message: str) -> None:
    put(place, "list", f"other/c.txt\n{entry}\n")
    with pytest.raises(InputError, match=message):
        listed("@list")


def test_a_list_that_cannot_be_read(place: Path) -> None:
    with pytest.raises(InputError, match=r"The list absent of input files cannot be read"):
        listed("@absent")


def test_a_list_on_standard_input(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"other/c.txt\n")))
    assert paths("@-") == ["c.txt"]


def test_an_empty_list_is_nothing(place: Path) -> None:
    put(place, "list", "\n")
    assert "There is no file to read in '@list'" in listed("@list")[0].explain_nothing()


def test_standard_input(place: Path) -> None:
    put(place, "run/stdin/stdin")
    listing, _ = listed("-", stdin=str(place / "run/stdin/stdin"))
    assert [(file.path, file.dims) for file in listing.files] == [("stdin", ())]
    put(place, "run/stdin/stdin", "")
    with pytest.raises(NothingMatchedError, match="Standard input was empty"):
        listed("-", stdin=str(place / "run/stdin/stdin"))
    with pytest.raises(InputError, match="cannot be read here"):
        listed("-")


def test_a_glob_that_matches_nothing(place: Path) -> None:
    with pytest.raises(NothingMatchedError, match=r"matches no file\. Check it with: ls logs"):
        listed("logs/9*")
    with pytest.raises(NothingMatchedError, match=r"directories.*: -d 'logs/\*/\*\*'"):
        listed("logs/*")
    with pytest.raises(NothingMatchedError, match="absent is not a directory"):
        listed("absent/*")
    assert paths("logs/9*", "other/c.txt", allow_empty=True) == ["other/c.txt"]


def test_an_absent_path_is_explained_as_a_data_directory(place: Path) -> None:
    with pytest.raises(InputError, match="absent does not exist"):
        listed("absent", "other/c.txt")


def test_what_daskmr_wrote_is_no_input(place: Path) -> None:
    for name in ("out.meta.json", "out.bad.jsonl", "out.pstats", "_SUCCESS", "_t/x.log"):
        put(place, f"logs/{name}")
    put(place, "logs/work/run-1/part")
    listing, notes = listed("logs/**", own_folder="logs/work")
    assert [file.path for file in listing.files] == ["01/a.log", "02/b.log"]
    reasons = dict(zip(listing.skipped, listing.reasons, strict=True))
    assert reasons["out.meta.json"] == "it was written by daskmr"
    assert "_SUCCESS" not in reasons
    assert notes == ()
    listing, notes = listed("logs/out.pstats", "other/c.txt")
    assert [file.path for file in listing.files] == ["other/c.txt"]
    assert notes == ("logs/out.pstats was not read: it was written by daskmr",)
    alone, _ = listed("logs/out.pstats")
    assert "Skipped: 1 (out.pstats: it was written by daskmr)" in alone.explain_nothing()


def test_what_is_no_file_is_skipped(place: Path) -> None:
    (place / "logs" / "dangling").symlink_to("nowhere")
    os.mkfifo(place / "logs" / "pipe")
    listing, _ = listed("logs/**")
    assert listing.skipped == ("dangling", "pipe")
    assert listing.reasons == ("it is a dangling link", "it is not a regular file")


def test_hive_names_are_those_of_all_inputs(place: Path) -> None:
    for path in ("h/dt=1/hour=2/a.log", "h/dt=1/hour=3/a.log", "i/day=1/a.log"):
        put(place, path)
    hive: dict[str, Any] = {"schema": load_schema(layout="hive"), "has_layout": True}
    for values in (["h"], ["h/dt=1/hour=2/a.log", "h/dt=1/hour=3/a.log"], ["h/dt=1/*/*.log"]):
        listing, _ = listed(*values, **hive)
        assert listing.layout.field_names == ("dt", "hour")
        assert [file.dims for file in listing.files] == [("1", "2"), ("1", "3")]
    with pytest.raises(InputError, match="h and i do not have the same names"):
        listed("h", "i", **hive)
    none, _ = listed("other/c.txt", "logs/01/a.log", **hive)
    assert none.files == ()
    assert none.reasons[0].startswith("it does not end in the layout hive")


def test_a_folder_keeps_its_layout_beside_files_that_are_named(place: Path) -> None:
    listing, _ = listed("data", "other/c.txt")
    assert listing.layout == allow().layout
    assert [file.dims[:4] for file in listing.files] == [DIMS, ()]


def test_dims_by_the_end_of_a_path() -> None:
    assert dims_by_end(NO_DIMENSIONS, "/a/b") == ()
    assert dims_by_end(allow().layout, "/a/b") is None
    found = dims_by_end(allow().layout, f"/data/{LAST}{NAME}")
    assert found is not None
    assert found[:4] == DIMS
