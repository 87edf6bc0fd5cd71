"""`daskmr.file` finds what was sent, in each process."""

from __future__ import annotations

import pickle
import runpy
from pathlib import Path

import pytest
from support.scripts import MAP, WRITE, run_map

from daskmr.errors import InputError, TaskFailed
from daskmr.job.job import Job
from daskmr.job.loading import load_job
from daskmr.job.shipped.file import Files, file
from daskmr.job.shipped.given import FileError
from daskmr.job.shipped.places import Delivery

READS = "from daskmr import file\nfiles = ['lookup.tsv', 'geo/']\n"


@pytest.fixture
def script(tmp_path: Path) -> Path:
    (tmp_path / "geo").mkdir()
    (tmp_path / "geo" / "cities").write_text("cities")
    (tmp_path / "lookup.tsv").write_text("lookup")
    path = tmp_path / "job.py"
    path.write_text(READS + MAP + "    context.write(file(value), 1)\n")
    return path


def found(job: Job, name: str) -> str:
    return str(run_map(job, name)[0][0])


@pytest.mark.parametrize(
    ("name", "place"),
    [
        ("lookup.tsv", "lookup.tsv"),
        ("./lookup.tsv", "lookup.tsv"),
        ("geo", "geo"),
        ("geo/", "geo"),
        ("geo/cities", "geo/cities"),
    ],
)
def test_what_is_found(script: Path, name: str, place: str) -> None:
    job = load_job(script)
    assert found(job, name) == str(script.parent / place)
    there = pickle.loads(pickle.dumps(job))
    assert found(there, name) == str(script.parent / place)


def test_a_file_is_found_by_the_path_in_the_list(script: Path) -> None:
    script.write_text(script.read_text().replace("'geo/'", "'geo/cities'"))
    job = load_job(script)
    assert found(job, "geo/cities") == found(job, "cities") == f"{script.parent}/geo/cities"


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("lokup.tsv", "Did you mean 'lookup.tsv'?"),
        ("other", "It has lookup.tsv, geo. To send it, add files = ['other']"),
        ("geo/gone", "there is no gone in the directory geo"),
        ("geo/../lookup.tsv", None),
        ("geo/../../x", "no file of this name"),
        ("eo/cities", "no file of this name"),
        ("", "no file of this name"),
    ],
)
def test_what_is_not_found(script: Path, name: str, why: str | None) -> None:
    job = load_job(script)
    if why is None:
        assert found(job, name) == f"{script.parent}/lookup.tsv"
        return
    with pytest.raises(FileError) as caught:
        found(job, name)
    assert why in str(caught.value)


def test_a_name_must_be_text() -> None:
    with pytest.raises(FileError, match="takes the name of a file, not 5"):
        file(5)  # type: ignore[arg-type]


def test_an_unknown_name_at_import_names_its_line(script: Path) -> None:
    script.write_text(READS + "\nfile('lokup.tsv')\n" + WRITE)
    with pytest.raises(InputError) as caught:
        load_job(script)
    assert str(caught.value).startswith(f"{script}, line 4: daskmr.file('lokup.tsv'): no file")


def test_the_list_may_be_computed(script: Path) -> None:
    script.write_text(
        "import daskmr as d\nNAME = d.param('name', 'lookup')\nfiles = (f'{NAME}.tsv',)\n"
        "with open(d.file(f'{NAME}.tsv')) as lines:\n    TEXT = lines.read()\n"
        + MAP
        + "    context.write(TEXT, 1)\n"
    )
    assert found(load_job(script), "") == "lookup"
    (script.parent / "other.tsv").write_text("other")
    assert found(load_job(script, {"name": "other"}), "") == "other"


def test_a_module_beside_the_script_may_open_them(script: Path) -> None:
    (script.parent / "tables.py").write_text("from daskmr import file as f\nget = f\n")
    script.write_text(
        "files = ['lookup.tsv']\nimport tables\n"
        + MAP
        + "    context.write(tables.get(value), 1)\n"
    )
    assert found(load_job(script), "lookup.tsv") == str(script.parent / "lookup.tsv")


def test_content_is_part_of_the_digest(script: Path) -> None:
    first, given = load_job(script), load_job(script, None, {"lookup.tsv": script})
    assert len({first.digest, load_job(script).digest}) == 1
    (script.parent / "geo" / "cities").write_text("more")
    assert len({first.digest, given.digest, load_job(script).digest}) == 3


def test_functions(script: Path) -> None:
    def map(key: str, dims: list[str], value: str, context: object) -> None:
        context.write(file(value), 1)  # type: ignore[attr-defined]

    plain, job = Job(map=map), Job(map=map, files={"x": script})
    assert plain.digest != job.digest
    assert found(pickle.loads(pickle.dumps(job)), "x") == str(script)
    with pytest.raises(FileError):
        found(plain, "x")


def test_each_job_finds_its_own(script: Path) -> None:
    job, other = load_job(script), load_job(script, None, {"lookup.tsv": script})
    assert found(job, "lookup.tsv") != found(other, "lookup.tsv")
    with job.activate(), other.activate():
        assert file("lookup.tsv") == str(script)


def test_a_change_is_found_by_the_next_process(script: Path) -> None:
    job = load_job(script)
    there = pickle.loads(pickle.dumps(job.delivered(Delivery("", ""))))
    fresh = Files(sent={name: s._replace(entries=()) for name, s in job.shipped.sent.items()})
    fresh.arrive("")
    (script.parent / "lookup.tsv").write_text("LOOKUP")
    fresh = Files(sent=job.shipped.sent)
    assert fresh.is_expected
    with pytest.raises(TaskFailed, match=r"lookup.tsv.*has changed since the run began"):
        fresh.arrive("")
    assert found(there, "geo") == str(script.parent / "geo")  # it is this process's own


def test_a_copy(script: Path, tmp_path: Path) -> None:
    job = load_job(script)
    copy = tmp_path / "copies" / job.shipped.sent["geo"].place
    copy.mkdir(parents=True)
    (copy / "cities").write_text("copy")
    there = pickle.loads(pickle.dumps(job.delivered(Delivery("", str(tmp_path / "copies")))))
    assert found(there, "geo/cities") == str(copy / "cities")


def test_a_script_outside_of_a_run_finds_them_beside_it(script: Path) -> None:
    names = runpy.run_path(str(script))
    written = []
    context = type("Context", (), {"write": lambda self, key, value: written.append(key)})()
    names["map"]("", [], "lookup.tsv", context)
    assert written == [str(script.parent / "lookup.tsv")]
    with pytest.raises(FileError, match="no file of this name"):
        file("lookup.tsv")
