"""Files and helper packages that are sent with a job: the same content wherever it runs."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from distributed import Client
from support.dask_cluster import DaskCluster
from support.jobs import daskmr

from daskmr import InputError, Job, JobError, file, mapreduce
from daskmr.run import chain, workspace

SCRIPT = """
import os
from daskmr import file

files = ["lookup.tsv", "geo/"]

with open(file("lookup.tsv")) as lines:
    NAMES = dict(line.rstrip("\\n").split("\\t") for line in lines)

def setup_map(context):
    with open(file("geo/eu/weight")) as weight:
        context.weight = int(weight.read())

def map(key, dims, value, context):
    context.write(NAMES.get(key, "other"), int(value) * context.weight)

def reduce(key, values, context):
    with open(os.path.join(file("geo"), "unit")) as unit:
        context.write(key, f"{sum(values)} {unit.read()}")

def finish_reduce(context):
    assert sorted(os.listdir(file("geo"))) == ["empty", "eu", "unit"]
"""
OUTPUT = "alpha\t30 km\nbeta\t50 km\nother\t120 km\n"


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a script, files beside it, and data in two files."""
    scripts = tmp_path / "scripts"
    (scripts / "geo" / "eu").mkdir(parents=True)
    (scripts / "geo" / "empty").mkdir()
    (scripts / "job.py").write_text(SCRIPT)
    (scripts / "lookup.tsv").write_text("a\talpha\nb\tbeta\n")
    (scripts / "geo" / "eu" / "weight").write_text("10")
    (scripts / "geo" / "unit").write_text("km")
    (tmp_path / "data").mkdir()
    for number in range(2):
        lines = [f"{key}\t{n + 1 + number}\n" for n, key in enumerate("abc")]
        (tmp_path / "data" / f"{number}.tsv").write_text("".join(lines).replace("c\t4", "c\t9"))
    return tmp_path


@pytest.fixture
def client(dask_cluster: DaskCluster) -> Iterator[Client]:
    with Client(dask_cluster.address, set_as_default=False) as client:
        yield client


def run(place: Path, *words: str, code: int = 0, cwd: str = "") -> str:
    """Run the command, and return the output or the error."""
    script = "job.py" if cwd else "scripts/job.py"
    words = ("-d", str(place / "data"), "--layout", "flat", "-o", str(place / "out.txt"), *words)
    done = daskmr("run", script, *words, cwd=place / cwd)
    assert done.returncode == code, done.stderr
    return (place / "out.txt").read_text() if code == 0 else done.stderr


def call(place: Path, job: Any = None, **options: Any) -> str:
    """Run the job from Python, and return its output."""
    job = place / "scripts" / "job.py" if job is None and "map" not in options else job
    options = {"work_dir": str(place / "work"), "output": place / "out.txt", **options}
    mapreduce(job, data_dir=place / "data", layout="flat", **options)
    return (place / "out.txt").read_text()


def after_sending(place: Path, action: Any) -> Any:
    """Act on the folder of the scripts once the files have been sent, and before any task runs."""
    original = chain.run_steps

    def acted(*arguments: Any) -> Any:
        action(place / "scripts")
        return original(*arguments)

    return mock.patch.object(chain, "run_steps", acted)


# --- where a job runs -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "where",
    [["--inline"], pytest.param(["-m", "2"], marks=pytest.mark.slow), ["-m", "2", "-r", "3"]],
)
def test_on_this_machine(place: Path, where: list[str]) -> None:
    assert run(place, *where) == OUTPUT
    assert run(place, *where, cwd="scripts") == OUTPUT


@pytest.mark.parametrize("sees_work_dir", [True, False])
def test_on_a_cluster_that_does_not_see_them(
    place: Path, dask_cluster: DaskCluster, client: Client, sees_work_dir: bool
) -> None:
    with (
        mock.patch.object(workspace, "sees_all", return_value=sees_work_dir),
        after_sending(place, lambda folder: folder.rename(place / "gone")),
    ):
        assert call(place, client=client) == OUTPUT
    assert not list(dask_cluster.folder.rglob("lookup.tsv"))
    assert not (place / "work").exists()


def test_a_directory_is_sent_as_it_is(place: Path, client: Client) -> None:
    """With its links, its empty directories, and its permissions to run a file."""
    geo = place / "scripts" / "geo"
    (geo / "tool").write_text("#!/bin/sh\necho $1\n")
    (geo / "tool").chmod(0o755)
    (geo / "link").symlink_to("eu")
    (geo / "nothing").touch()
    (geo / "\u00e4 b").write_text("x" * 3_000_000)
    text = SCRIPT.replace('["empty", "eu", "unit"]', repr(sorted(p.name for p in geo.iterdir())))
    text += (
        "\n    import subprocess\n"
        "    done = subprocess.run([file('geo/tool'), 'ran'], capture_output=True, text=True)\n"
        "    size = os.path.getsize(file('geo/ä b'))\n"
        "    context.write(done.stdout.strip(), f\"{size} {os.listdir(file('geo/link/'))}\")\n"
    )
    (place / "scripts" / "job.py").write_text(text)
    expected = OUTPUT + "ran\t3000000 ['weight']\n"
    assert call(place, inline=True) == expected
    assert call(place, client=client) == expected
    with mock.patch.object(workspace, "sees_all", return_value=False):
        assert call(place, client=client) == expected


def test_functions_from_python(place: Path, client: Client) -> None:
    def map(key: str, dims: list[str], value: str, context: Any) -> None:
        with open(file("names")) as lines:
            context.write(lines.read()[2:7], 1)

    def reduce(key: str, values: list[int], context: Any) -> None:
        context.write(key, sum(values))

    given = {"names": place / "scripts" / "lookup.tsv"}
    assert call(place, map=map, reduce=reduce, files=given, inline=True) == "alpha\t6\n"
    with mock.patch.object(workspace, "sees_all", return_value=False):
        job = Job(map=map, reduce=reduce, files=given)
        assert call(place, job, client=client) == "alpha\t6\n"
        plain = Job(map=map, reduce=reduce)
        with after_sending(place, lambda folder: folder.rename(place / "gone")):
            assert call(place, plain, files=given, client=client) == "alpha\t6\n"
        (place / "gone").rename(place / "scripts")
    assert call(place, [plain, plain], files=given, inline=True) == "alpha\t1\n"
    assert not plain.shipped.sent
    assert call(place, job, num_mappers=2) == "alpha\t6\n"
    other = place / "other"
    other.write_text("b\tgamma\n")
    assert call(place, job, files={"names": other}, inline=True) == "gamma\t6\n"


def test_each_script_has_its_own(place: Path, client: Client) -> None:
    """A file that is given goes to all scripts; a class whose module reads one is read by the next."""
    text = SCRIPT + "\nclass Row:\n    name = NAMES['a']\n"
    text += "def reduce(key, values, context): context.write(key, Row())\n"
    (place / "scripts" / "job.py").write_text(text)
    (place / "second").mkdir()
    (place / "second" / "lookup.tsv").write_text("second ")
    (place / "second" / "next.py").write_text(
        "from pathlib import Path\nfrom daskmr import file\nfiles = ['lookup.tsv']\n"
        "TEXT = Path(file('lookup.tsv')).read_text() + Path(file('mine')).read_text()\n"
        "def map(key, dims, value, context): context.write(TEXT, value.name)\n"
        "def reduce(key, values, context): context.write(key, len(values))\n"
    )
    (place / "mine").write_text("mine")
    job = [place / "scripts" / "job.py", place / "second" / "next.py"]
    for where in ({"inline": True}, {"num_mappers": 2}, {"client": client}):
        assert call(place, job, files=[place / "mine"], **where) == "second mine\t3\n"
    meta = json.loads((place / "out.txt.meta.json").read_text())
    assert [*meta["files"]] == ["lookup.tsv", "geo", "mine"]
    assert [*meta["steps"][1]["files"]] == ["lookup.tsv", "mine"]


def test_the_steps_of_a_script_share_its_files(place: Path, client: Client) -> None:
    steps = """
from daskmr import Job
def second(key, dims, value, context):
    context.write(key, f"{value} {NAMES['a']}")
steps = [Job(map=map, reduce=reduce, setup_map=setup_map), Job(map=second)]
"""
    (place / "scripts" / "job.py").write_text(SCRIPT + steps)
    expected = OUTPUT.replace("km", "km alpha")
    assert call(place, client=client) == call(place, inline=True) == expected
    own = steps.replace("map=second", "map=second, files={'x': __file__}")
    (place / "scripts" / "job.py").write_text(SCRIPT + own)
    with pytest.raises(InputError, match="step 2 of `steps` has files of its own"):
        call(place, inline=True)


# --- what is sent ---------------------------------------------------------------------------------


def test_a_given_file_goes_before_that_of_the_script(place: Path) -> None:
    (place / "other.tsv").write_text("a\tgamma\n")
    (place / "scripts" / "lookup.tsv").unlink()
    expected = "gamma\t30 km\nother\t170 km\n"
    assert run(place, "--file", "lookup.tsv=other.tsv", "--inline") == expected
    assert call(place, files={"lookup.tsv": place / "other.tsv"}, inline=True) == expected


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--file", "scripts/lokup.tsv"], "There is no file 'scripts/lokup.tsv' to send"),
        (["--file", "s3://bucket/lookup.tsv"], "s3://bucket/lookup.tsv is a URL"),
        (["--file", "data", "--file", "data=scripts"], "Two files have the name data"),
        (["--file", "a/b=scripts/job.py"], "There is no file 'a/b=scripts/job.py' to send"),
        (["--file", "..=scripts/job.py"], "'..' cannot be the name of the file"),
        (["--file", "scripts/broken"], "is a link that leads nowhere"),
        (
            ["--file", "/dev/null"],
            "/dev/null, to be sent as null, is neither a file nor a directory",
        ),
        (["--py-files", "none"], "There is no folder or zip archive 'none'"),
        (["--py-files", "scripts/job.py"], "is a module. Give the folder that it is in"),
    ],
)
def test_mistakes_are_found_before_any_work(place: Path, words: list[str], why: str) -> None:
    (place / "scripts" / "broken").symlink_to("nowhere")
    for command in ("run", "check", "plan"):
        words = ["scripts/job.py", "-d", "data", "--layout", "flat", *words]
        done = daskmr(command, *words, cwd=place)
        assert (done.returncode, done.stdout) == (2, "")
        assert why in done.stderr
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (("lookup.tsv", "lookups.tsv"), "There is no file 'lookups.tsv' to send"),
        (
            ('"geo/"]', "5]"),
            "`files` in the script is ['lookup.tsv', 5]: write files = ['lookup.tsv']",
        ),
        (
            ('file("lookup', 'file("lokup'),
            "no file of this name is sent with the script. Did you mean",
        ),
        (('"geo/"]', '"geo/", "eu=geo/eu/weight", "eu=job.py"]'), "Two files have the name eu"),
    ],
)
def test_mistakes_of_a_script(place: Path, change: tuple[str, str], why: str) -> None:
    path = place / "scripts" / "job.py"
    path.write_text(path.read_text().replace(*change, 1))
    with pytest.raises(InputError) as caught:
        call(place, inline=True)
    assert why in str(caught.value)


def test_a_list_for_something_else_is_not_sent(place: Path) -> None:
    script = place / "scripts" / "job.py"
    for files in ("os.listdir('.')", "[1, 2]", "['a', 'b']", "{'a': open}"):
        script.write_text(
            f"import os\nfiles = {files}\ndef map(key, dims, value, context): context.write(key, 1)\n"
        )
        result = mapreduce(script, data_dir=place / "data", layout="flat", inline=True)
        assert not result.notes
    script.write_text(script.read_text().replace("{'a': open}", "['lookup.tsv']"))
    result = mapreduce(
        script, data_dir=place / "data", layout="flat", inline=True, files=[place / "data"]
    )
    assert [note.split(":")[0] for note in result.notes] == [
        "--file data has no effect",
        "`files` in the script has no effect",
    ]


def test_names_that_are_asked_for_late_are_noted(place: Path) -> None:
    script = place / "scripts" / "job.py"
    script.write_text(SCRIPT + "\n    if key == 'never': file('extra.tsv')\n")
    done = daskmr("check", "scripts/job.py", cwd=place)
    shown = " ".join(done.stdout.split())
    assert "files lookup.tsv: " in shown
    assert f"geo: {place}/scripts/geo (2 files, 4 B)" in shown
    assert "warning daskmr.file('extra.tsv'): no file of this name is sent" in shown
    done = daskmr("plan", "scripts/job.py", "-d", "data", "--layout", "flat", cwd=place)
    assert done.returncode == 0, done.stderr
    assert f"files       lookup.tsv: {place}/scripts/lookup.tsv (15 B)\n" in done.stdout
    asked = SCRIPT.replace("context.weight)", "len(file('extra.tsv')))")
    script.write_text(asked)
    with pytest.raises(JobError, match=r"no file of this name .* files = \['extra.tsv'\]"):
        call(place, inline=True)


# --- changes --------------------------------------------------------------------------------------


def append(folder: Path) -> None:
    with (folder / "lookup.tsv").open("a") as file:
        file.write("c\tgamma\n")


@pytest.mark.parametrize("where", [{"inline": True}, {"num_mappers": 2}])
def test_a_file_that_changes_during_the_run(place: Path, where: dict[str, Any]) -> None:
    (place / "out.txt").write_text("before")
    with (
        after_sending(place, append),
        pytest.raises(JobError, match=r"lookup.tsv.* has changed since the run began") as caught,
    ):
        call(place, **where)
    assert "Nothing was written" in str(caught.value)
    assert (place / "out.txt").read_text() == "before"


def test_a_file_that_is_only_touched(place: Path) -> None:
    with after_sending(place, lambda folder: (folder / "lookup.tsv").touch()):
        assert call(place, num_mappers=2) == OUTPUT


def test_a_copy_does_not_change(place: Path, client: Client) -> None:
    with after_sending(place, append):
        assert call(place, client=client) == OUTPUT


@pytest.mark.parametrize("sees_work_dir", [True, False])
def test_a_file_that_changes_before_it_is_sent(
    place: Path, client: Client, sees_work_dir: bool
) -> None:
    def changed(*arguments: Any) -> bool:
        (place / "scripts" / "lookup.tsv").write_text("a\tgamma\nb\tbeta\n")
        return sees_work_dir

    with (
        mock.patch.object(workspace, "sees_all", changed),
        pytest.raises(JobError, match=r"lookup.tsv.* has changed since the run began"),
    ):
        call(place, client=client)
    assert not (place / "work").exists()


# --- the record of a run --------------------------------------------------------------------------


def test_they_are_recorded_and_repeated(place: Path) -> None:
    (place / "more").mkdir()
    (place / "more" / "helper.py").write_text("def text(): return 'helped'\n")
    (place / "extra").write_text("extra")
    script = place / "scripts" / "job.py"
    script.write_text("import helper\n" + SCRIPT + "\n    open(file('extra')).close()\n")
    words = ["--file", "extra", "--py-files", "more", "--inline"]
    first = run(place, *words)
    meta = json.loads((place / "out.txt.meta.json").read_text())
    assert meta["files"]["lookup.tsv"] == {
        "path": str(place / "scripts" / "lookup.tsv"),
        "size": 15,
        "sha256": sha256(b"a\talpha\nb\tbeta\n").hexdigest(),
        "given": False,
    }
    assert (meta["files"]["geo"]["files"], meta["files"]["extra"]["given"]) == (2, True)
    assert meta["py_files"] == [str(place / "more")]
    assert [*meta["script"]["modules"]] == ["helper.py"]

    again = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    assert (again.returncode, (place / "out.txt").read_text()) == (0, first), again.stderr
    assert "earlier run" not in again.stderr
    (place / "extra").write_text("other")
    append(place / "scripts")
    changed = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    for name in ("extra", "lookup.tsv"):
        assert f"the file {name} that is sent has changed since the earlier run" in changed.stderr
    assert "gamma" in (place / "out.txt").read_text()
    words = ["--file", "lookup.tsv=scripts/geo/unit"]
    failed = daskmr("run", "--from", "out.txt.meta.json", *words, cwd=place)
    assert failed.returncode == 2
    (place / "extra").unlink()
    gone = daskmr("run", "--from", "out.txt.meta.json", cwd=place)
    assert f"There is no file '{place}/extra' to send" in gone.stderr


def test_replay_uses_them(place: Path) -> None:
    (place / "data" / "2.tsv").write_text("a\tx\n")
    (place / "extra").write_text("extra")
    script = place / "scripts" / "job.py"
    script.write_text(SCRIPT + "\nopen(file('extra')).close()\n")
    run(place, "--file", "extra", "--inline")
    done = daskmr("replay", "out.txt.bad.jsonl", cwd=place)
    assert "1 of 1 records do not pass" in done.stderr
    (place / "extra").rename(place / "renamed")
    done = daskmr("replay", "out.txt.bad.jsonl", "--file", "extra=renamed", cwd=place)
    assert "1 of 1 records do not pass" in done.stderr


def test_the_output_does_not_replace_them(place: Path) -> None:
    lookup = place / "scripts" / "lookup.tsv"
    one = Job(lambda key, dims, value, context: context.write(key, 1), files=[place / "data"])
    for job in (place / "scripts" / "job.py", one, [one, one]):
        with pytest.raises(InputError, match="would replace a file that the job needs"):
            call(place, job, files=[lookup], output=lookup, inline=True)
    (place / "scripts" / "geo" / "link").symlink_to(place / "kept")
    (place / "kept").write_text("of others")
    with pytest.raises(InputError, match="would replace a file that the job needs"):
        call(place, output=place / "kept", inline=True)


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (
            {"output": "geo/out.txt"},
            "--output 'geo/out.txt' is in {}/geo, a directory that is sent",
        ),
        ({"output": "geo/"}, "--output 'geo/' is in {}/geo, "),
        ({"work_dir": "geo/eu"}, "--work-dir 'geo/eu' is in {}/geo, "),
        ({"keep_steps": "geo/steps"}, "--keep-steps 'geo/steps' is in {}/geo, "),
    ],
)
def test_a_run_does_not_write_into_a_directory_that_it_sends(
    place: Path, monkeypatch: pytest.MonkeyPatch, given: dict[str, str], why: str
) -> None:
    monkeypatch.chdir(place / "scripts")
    before = sorted(place.rglob("*"))
    with pytest.raises(InputError, match=re.escape(why.format(place / "scripts"))):
        call(place, inline=True, **given)
    assert sorted(place.rglob("*")) == before
    with pytest.raises(InputError, match=f"--work-dir '.daskmr' is in {place}/scripts, "):
        call(place, files=["."], inline=True, work_dir=".daskmr")
    assert call(place, inline=True, work_dir="geo.work") == OUTPUT


def test_a_script_may_import_from_a_directory_that_it_sends(place: Path) -> None:
    (place / "scripts" / "geo" / "area.py").write_text("UNIT = 'km'\n")
    (place / "scripts" / "job.py").write_text(
        SCRIPT.replace("import os", "import os, sys")
        .replace('["empty"', '["area.py", "empty"')
        .replace("def map(", "sys.path.append(file('geo'))\nimport area\n\ndef map(")
        .replace("unit.read()", "area.UNIT")
    )
    assert run(place, "-m", "2") == OUTPUT
    assert run(place, "-m", "2") == OUTPUT


# --- helper packages ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["folder", "zip"])
def test_packages_elsewhere(place: Path, client: Client, kind: str) -> None:
    package = place / "lib" / "shop"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from shop.rates import rate\n")
    (package / "rates.py").write_text(
        "import pkgutil\ndef rate(): return int(pkgutil.get_data('shop', 'rate.txt'))\n"
    )
    (package / "rate.txt").write_text("7")
    path = place / "lib"
    if kind == "zip":
        path = place / "lib.zip"
        with zipfile.ZipFile(path, "w") as archive:
            for each in package.iterdir():
                archive.write(each, f"shop/{each.name}")
        shutil.rmtree(place / "lib")
    (place / "scripts" / "job.py").write_text(
        "import shop\ndef map(key, dims, value, context): context.write(shop.rate(), 1)\n"
        "def reduce(key, values, context): context.write(key, sum(values))\n"
    )
    assert run(place, "--py-files", str(path), "--inline") == "7\t6\n"
    assert run(place, "--py-files", str(path), "-m", "2") == "7\t6\n"

    def hide(folder: Path) -> None:
        folder.rename(place / "gone")
        path.rename(place / "hidden")

    with after_sending(place, hide):
        assert call(place, py_files=[path], client=client) == "7\t6\n"


def test_what_a_run_has_loaded_is_not_used_by_the_next(place: Path, client: Client) -> None:
    """On a cluster whose workers see the script's folder: nothing that they have read, or counted."""
    script = place / "scripts" / "job.py"
    script.write_text(
        "import os, shop\nSEEN = []\n"
        "with open(os.path.join(os.path.dirname(__file__), 'lookup.tsv')) as lines: NAME = lines.read()\n"
        "def map(key, dims, value, context):\n"
        "    if key not in SEEN: context.write((NAME, shop.rate()), 1)\n"
        "    SEEN.append(key)\n"
        "def reduce(key, values, context): context.write(' '.join(key), 'seen')\n"
    )
    for name in ("one", "two"):
        (place / "scripts" / "lookup.tsv").write_text(name)
        (place / name / "shop").mkdir(parents=True)
        (place / name / "shop" / "__init__.py").write_text(
            "import os\ndef rate():\n"
            "    with open(os.path.join(os.path.dirname(__file__), 'rate')) as text: return text.read(3)\n"
        )
        (place / name / "shop" / "rate").write_text(name + " " * (1 << 20))
        assert call(place, py_files=[place / name], client=client) == f"{name} {name}\tseen\n"

    def loaded() -> str:
        from daskmr.job.job import _JOBS

        return str([*_JOBS])

    assert not [jobs for jobs in client.run(loaded).values() if str(script) in jobs]


def test_packages_that_have_no_effect(place: Path) -> None:
    (place / "lib").mkdir()
    options = {"data_dir": place / "data", "layout": "flat", "inline": True}
    result = mapreduce(place / "scripts" / "job.py", py_files=place / "lib", **options)
    assert f"--py-files {place}/lib has no effect" in result.notes[0]
    with pytest.raises(InputError, match="are the modules of a script"):
        mapreduce(map=lambda key, dims, value, context: None, py_files=[place / "lib"], **options)


# --- files that were not sent ---------------------------------------------------------------------


def test_an_error_says_which_line_to_add(place: Path, client: Client) -> None:
    script = place / "scripts" / "job.py"
    script.write_text(
        "import os\nFOLDER = os.path.dirname(__file__)\n"
        "def map(key, dims, value, context): open(os.path.join(FOLDER, 'lookup.tsv')).close()\n"
    )
    line = 'files = ["lookup.tsv"] at the top of the script, and then daskmr.file("lookup.tsv")'
    with (
        after_sending(place, lambda folder: folder.rename(place / "gone")),
        pytest.raises(JobError) as caught,
    ):
        call(place, client=client)
    assert "does not see the script's folder" in str(caught.value)
    assert f"Write {line}." in str(caught.value)
    (place / "gone").rename(place / "scripts")
    script.write_text(
        script.read_text().replace("os.path.join(FOLDER, 'lookup.tsv')", "'lookup.tsv'")
    )
    assert (
        f"It is beside the script, but not in the working directory {place}. Write {line}."
        in run(place, "--inline", code=1)
    )
