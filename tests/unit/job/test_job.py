"""The user's script: loading, checks, shipping, activation, and its failures."""

from __future__ import annotations

import functools
import linecache
import os
import pickle
import shutil
import subprocess
import sys
import threading
import time
import traceback
import types
from pathlib import Path

import pytest
from support.jobs import ROOT

from daskmr.errors import InputError, Interrupted
from daskmr.job import job as job_module
from daskmr.job import sources
from daskmr.job.job import Job, load_job
from daskmr.job.tracebacks import describe_exception, format_user_traceback, user_location

MAP = "def map(key, dims, value, context):\n"
ARGUMENTS = "(key, values, context)"
WRITE = MAP + "    context.write(key, value)\n"


class Collector:
    """A context that keeps what is written."""

    def __init__(self):
        self.pairs = []

    def write(self, key, value):
        self.pairs.append((key, value))


def run_map(job, value="v"):
    context = Collector()
    with job.activate():
        job.map("k", ["d"], value, context)
    return context.pairs


def failure_of(job, value="v"):
    try:
        run_map(job, value)
    except BaseException as exc:
        return exc
    raise AssertionError("map did not fail")


def error_of(source):
    with pytest.raises(InputError) as caught:
        load_job(source)
    assert caught.value.exit_code == 2
    return caught.value


@pytest.fixture
def tree(tmp_path):
    """Write files into a folder, and return the path of its job.py."""

    def write(job="", folder="here", **others):
        for name, text in {"job": job, **others}.items():
            path = tmp_path / folder / f"{name.replace('_in_', '/')}.py"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return tmp_path / folder / "job.py"

    return write


@pytest.fixture(autouse=True)
def clean_interpreter(monkeypatch):
    """Nothing of the user's stays behind, whatever a test does."""
    monkeypatch.setattr(job_module, "_JOBS", {})
    own = {"job", "helper", "pkg", "ns"}
    yield
    left = {name.partition(".")[0] for name in sys.modules}
    assert not {name for name in left if name in own or name.startswith("job_")}
    assert not any(isinstance(finder, job_module._Script) for finder in sys.meta_path)
    assert job_module._active is None


def python(code, *args, cwd):
    """Run `code` in a fresh interpreter that knows daskmr and nothing of this test."""
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, args)],
        cwd=cwd,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Loading


def test_script_gives_functions_name_path_and_files(tree):
    path = tree(WRITE + "def reduce(key, values, context): pass\n")
    job = load_job(path)
    assert (job.name, job.path, job.combine, job.setup_reduce) == ("job", str(path), None, None)
    assert job.reduce.__name__ == "reduce"
    assert job.files == {"job.py": path.read_text()}
    assert len(job.digest) == 64
    assert run_map(job) == [("k", "v")]
    assert load_job(job) is job
    assert load_job(str(path)).digest == job.digest


def test_script_runs_as_a_module_of_a_unique_name(tree):
    path = tree("name, file = __name__, __file__\n" + MAP + "    context.write(name, file)\n")
    job = load_job(path)
    assert run_map(job) == [(f"job_{job.digest[:12]}", str(path))]


def test_odd_names_and_encodings(tmp_path):
    path = tmp_path / "2 jobs-é.old.py"
    path.write_bytes(b"\xef\xbb\xbf" + MAP.encode() + "    context.write('é', 1)\r\n".encode())
    assert run_map(load_job(path)) == [("é", 1)]
    path.write_bytes(b"# coding: latin-1\n" + MAP.encode() + b"    context.write('\xe9', 1)\n")
    assert run_map(load_job(path)) == [("é", 1)]
    bare = tmp_path / "count"
    bare.write_text(MAP + "    context.write(1, 2)\n")
    assert run_map(load_job(bare)) == [(1, 2)]


def test_relative_path(tree, monkeypatch):
    path = tree(WRITE)
    monkeypatch.chdir(path.parent)
    assert load_job("job.py").path == load_job(".//job.py").path == str(path)


def link_to(target, *place):
    link = target.parent.parent.joinpath(*place)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return link


def test_a_link_is_taken_by_its_own_path(tree):
    path = tree("file = __file__\n" + MAP + "    context.write(file, __name__)\n")
    first, second = link_to(path, "links", "first.py"), link_to(path, "links", "second.py")
    chain = link_to(second, "here", "third.py")
    for link in (first, second, chain):
        job = load_job(link)
        assert (job.name, job.path, list(job.files)) == (link.stem, str(link), [link.name])
        for each in (job, pickle.loads(pickle.dumps(job))):
            [(file, module)] = run_map(each)
            assert (file, module[:-13]) == (str(link), link.stem)


def test_a_folder_that_is_a_link_stays_in_the_path(tree, tmp_path, monkeypatch):
    path = tree("import helper\nfiles = __file__, helper.__file__\n" + WRITE, helper="")
    folder = tmp_path / "elsewhere/folder"
    folder.parent.mkdir()
    folder.symlink_to(path.parent)
    job = load_job(folder / "job.py")
    assert job.map.__globals__["files"] == (f"{folder}/job.py", f"{folder}/helper.py")
    monkeypatch.chdir(folder.parent)
    assert load_job("folder/./job.py").path == f"{folder}/job.py"
    up = load_job("folder/../here/job.py")  # above the folder that the link leads to
    assert os.path.samefile(up.path, path)


def test_siblings_of_a_link_are_those_beside_it_and_then_those_of_its_target(tree):
    path = tree(
        "import config, helper, pkg.one, job\n"
        + MAP
        + "    context.write(config.X + helper.X + pkg.one.X, helper.same(map))\n",
        config="X = 'target '",
        helper="X = 'target '\ndef same(f):\n    import job\n    return job.map is f",
        pkg_in___init__="",
        pkg_in_one="X = 'target'",
        pkg_in_two="",
    )
    link = link_to(path, "links", "today.py")
    tree(folder="links", job="map = 'of another script'", config="X = 'link '", pkg_in___init__="")
    (link.parent / "pkg/one.py").write_text("X = 'link'")
    tree("import helper\n" + path.read_text().replace(", job", ""))
    job = load_job(link)
    assert set(job.files) == {
        "today.py", "job.py", "config.py", "helper.py", "pkg/__init__.py", "pkg/one.py"
    }  # fmt: skip
    assert run_map(job) == [("link target link", False)]  # `import job` is that beside the link
    (link.parent / "job.py").unlink()
    job = load_job(link)
    assert "job.py" not in job.files
    assert run_map(pickle.loads(pickle.dumps(job))) == [("link target link", True)]


def test_a_failure_beside_the_target_of_a_link_names_that_place(tree):
    path = tree("import helper\n" + WRITE, helper="\n1 / 0")
    message = str(error_of(link_to(path, "links", "today.py")))
    assert message.startswith(f"{path.parent}/helper.py, line 2: it fails while it is loaded")


def test_a_file_beside_the_target_of_a_link_is_named(tree):
    path = tree(
        "import os\nopen(os.path.join(os.path.dirname(__file__), 'table')).close()\n" + WRITE
    )
    (path.parent / "table").touch()
    load_job(path)
    message = str(error_of(link_to(path, "links", "today.py")))
    assert f"the file is beside its target, {path.parent}/table." in message
    assert message.endswith(f"or run {path}.")


def test_module_objects(tree, monkeypatch):
    path = tree(WRITE, pkg_in___init__="", pkg_in_inner=WRITE)
    made = types.ModuleType("made")
    made.map = lambda key, dims, value, context: context.write(key, 2)
    assert run_map(load_job(made)) == [("k", 2)]
    with pytest.raises(InputError, match="module 'empty' does not define `map`"):
        load_job(types.ModuleType("empty"))
    top = types.ModuleType("job")
    top.__file__ = str(path)
    assert load_job(top).path == str(path)
    monkeypatch.syspath_prepend(path.parent)
    import pkg.inner

    job = load_job(pkg.inner)
    assert (job.path, job.map) == (None, pkg.inner.map)
    assert job.is_user_file(pkg.inner.__file__)
    assert pickle.loads(pickle.dumps(job)).map is pkg.inner.map
    del sys.modules["pkg.inner"], sys.modules["pkg"]


def test_a_script_runs_once_a_process_and_anew_when_loaded_again(tree, tmp_path):
    count = tmp_path / "count"
    path = tree(f"with open({str(count)!r}, 'a') as f: f.write('x')\n" + WRITE)
    job = load_job(path)
    for _ in range(100):
        assert pickle.loads(pickle.dumps(job)).map is job.map
    assert count.read_text() == "x"
    assert load_job(path) is not job
    assert count.read_text() == "xx"


def test_jobs_kept_in_a_process_are_bounded(tree, monkeypatch):
    monkeypatch.setattr(job_module, "_JOBS_KEPT", 3)
    for number in range(6):
        load_job(tree(f"X = {number}\n" + WRITE))
    assert len(job_module._JOBS) == 3


# What is shipped


def test_ships_what_is_imported_from_beside_the_script_and_no_more(tree):
    path = tree(
        "import json, pkg.deep.one\nimport ns.mod\nif 0: import yaml\n"
        + MAP
        + "    from c import X\n    import a, yaml\n    assert json.dumps and yaml.safe_load\n",
        a="import b\nimport a",
        b="from importlib import import_module\nif 0: import_module('d')\nimport_module(f'd')",
        c="X = 1",
        d="",
        unused="",
        json="raise SystemExit",
        yaml="raise SystemExit",
        pkg_in___init__="from . import used",
        pkg_in_used="from .deep import one",
        pkg_in_other="a syntax error",
        pkg_in_binary=b"\xff\xfe",
        pkg_in_deep_in___init__="",
        pkg_in_deep_in_one="try:\n    from ... import nothing\nexcept ImportError: from .. import other2",
        pkg_in_other2="",
        pkg_in_data_in_skipped="",
        ns_in_mod="from . import sub",
        ns_in_sub="",
        ns_in_unused="",
    )
    job = load_job(path)
    assert set(job.files) == {
        "job.py", "a.py", "b.py", "c.py", "d.py", "ns/mod.py", "ns/sub.py", "pkg/__init__.py",
        "pkg/used.py", "pkg/other.py", "pkg/other2.py", "pkg/deep/__init__.py", "pkg/deep/one.py",
    }  # fmt: skip
    run_map(job)


def test_sibling_wins_over_an_installed_module_but_a_bare_folder_does_not(tree):
    path = tree(
        "import click_plugins_x, cloudpickle\nimport toolz\nimport pluggy\nimport iniconfig\n"
        "from iniconfig import exceptions\n"
        + MAP
        + "    context.write(pluggy.X, iniconfig.__file__)\n",
        click_plugins_x="",
        pluggy="X = 1",
        cloudpickle="raise SystemExit",
        iniconfig_in_exceptions="raise SystemExit",
    )
    job = load_job(path)
    assert set(job.files) == {"job.py", "click_plugins_x.py", "pluggy.py"}
    named = [note.partition(" beside")[0] for note in job.notes]
    assert named == ["cloudpickle.py", "iniconfig/exceptions.py"]
    assert run_map(job) == [(1, sys.modules["iniconfig"].__file__)]
    assert hasattr(sys.modules["pluggy"], "PluginManager")


def test_digest_follows_every_file_and_not_the_place(tree):
    one = load_job(tree("import helper\n" + WRITE, helper="X = 1"))
    two = load_job(tree("import helper\n" + WRITE, helper="X = 2"))
    other = load_job(tree("import helper\n" + WRITE, helper="X = 2", folder="there"))
    assert one.digest != two.digest == other.digest
    assert other.map.__code__.co_filename == other.path != two.path


def test_cycles_and_a_sibling_that_imports_the_script(tree):
    path = tree(
        "class Thing: pass\nimport helper\n" + MAP + "    context.write(helper.same(Thing), 1)\n",
        helper="import helper2\ndef same(thing):\n    import job\n    return job.Thing is thing",
        helper2="import helper, job",
    )
    job = load_job(path)
    assert run_map(job) == [(True, 1)]
    assert run_map(pickle.loads(pickle.dumps(job))) == [(True, 1)]


def test_a_cycle_that_fails_can_be_tried_again(tree):
    helper = "import job\nif not hasattr(job, 'Thing'): raise RuntimeError('too early')"
    path = tree("import helper\n" + WRITE, helper=helper)
    assert "here/helper.py, line 2: it fails" in str(error_of(path))
    path = tree("class Thing: pass\nimport helper\n" + WRITE, helper=helper)
    assert run_map(load_job(path)) == [("k", "v")]


def test_functions_of_main_name_the_files_of_those_they_call():
    space = {"__name__": "__main__"}
    exec(compile("def check(value): return value", "<cell 1>", "exec"), space)
    exec(compile(MAP + "    context.write(key, check(value))", "<cell 2>", "exec"), space)
    job = Job(space["map"])
    assert set(job.files) == {"<cell 1>", "<cell 2>"}
    assert not job.is_user_file(__file__)
    assert repr(job) == "<Job job>"


def test_a_script_named_like_the_library_it_imports(tree, tmp_path):
    path = tree("import pluggy\npluggy.PluginManager\n" + WRITE).rename(tmp_path / "pluggy.py")
    assert run_map(load_job(path)) == [("k", "v")]


@pytest.mark.parametrize(
    "call",
    [
        "importlib.import_module('ns.' + value)",
        "importlib.import_module(f'ns.{value}')",
        "importlib.import_module('ns.%s' % value)",
        "importlib.import_module('ns.{}'.format(value))",
        "getattr(__import__('ns.' + value), value)",
        "__import__(value)",
        "load(value)",
        "[*builtins.map(__import__, [value])][0]",
        "__import__('two-of them')",
        "importlib.import_module('.two', 'ns')",
    ],
)
def test_modules_by_a_name_that_is_known_only_when_they_are_imported(tree, call, tmp_path):
    path = tree(
        "import builtins, importlib\nfrom importlib import import_module as load\n"
        + f"{MAP}    context.write({call}.X, 1)\n",
        ns_in_two="X = 2",
        two="X = 2",
        broken=b"\xff",
        **{"two-of them": "X = 2"},
    )
    packed = pickle.dumps(load_job(path))
    shutil.rmtree(path.parent)
    job_module._JOBS.clear()
    assert run_map(pickle.loads(packed), "two") == [(2, 1)]


def test_only_what_may_be_meant_is_shipped_for_an_unknown_name(tree):
    others = {"plugins_in_one": "", "plugins_in_deep_in___init__": "", "other": "", "csv": ""}
    job = load_job(
        tree("import importlib\nimportlib.import_module('plugins.' + 'one')\n" + WRITE, **others)
    )
    assert set(job.files) == {"job.py", "plugins/one.py", "plugins/deep/__init__.py"}
    job = load_job(tree(WRITE + "    __import__(value)\n", **others))
    assert set(job.files) == {"job.py", "other.py"}
    job = load_job(tree(WRITE + "    files(value), path('other'), __import__('../x')\n", **others))
    assert set(job.files) == {"job.py"}


READERS = {
    "get_data": "pkgutil.get_data('pkg', 'table.txt')",
    "get_data below": "pkgutil.get_data('pkg', 'deep/table.txt')",
    "files": "resources.files('pkg').joinpath('table.txt').read_bytes()",
    "files of a module": "resources.files(pkg).joinpath('deep', 'table.txt').read_bytes()",
    "files of a bare folder": "resources.files('bare').joinpath('table.txt').read_bytes()",
    "as_file": "read(resources.files('pkg') / 'table.txt')",
    "iterdir": "[f for f in resources.files('pkg').iterdir() if f.name[0] == 't'][0].read_bytes()",
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS)
def test_packages_read_their_own_data_here_and_where_the_folder_is_not_seen(tree, reader):
    path = tree(
        "import pkg, pkgutil\nfrom importlib import resources\n"
        "def read(file):\n    with resources.as_file(file) as path: return path.read_bytes()\n"
        f"TABLE = {reader}\n{MAP}    context.write(key, (TABLE, {reader}))\n",
        pkg_in___init__="",
    )
    for place in ("pkg", "pkg/deep", "bare"):
        (path.parent / place).mkdir(exist_ok=True)
        (path.parent / place / "table.txt").write_bytes(b"a\xc3\xa9\n")
    job = load_job(path)
    assert run_map(job) == [("k", (b"a\xc3\xa9\n",) * 2)]
    assert {"pkg/table.txt", "pkg/deep/table.txt"} <= job.data.keys()
    packed = pickle.dumps(job)
    shutil.rmtree(path.parent)
    job_module._JOBS.clear()
    assert run_map(pickle.loads(packed)) == [("k", (b"a\xc3\xa9\n",) * 2)]


def test_a_script_reads_what_is_beside_it_through_its_loader(tree):
    read = "__loader__.get_data(__file__.replace('job.py', 'table.txt')), get_data(__name__, 'table.txt')"
    path = tree(f"from pkgutil import get_data\n{MAP}    context.write(key, ({read}))\n")
    (path.parent / "table.txt").write_bytes(b"t")
    assert run_map(load_job(path)) == [("k", (b"t", b"t"))]


def test_data_is_part_of_the_digest_and_large_data_is_not_sent(tree, monkeypatch):
    path = tree("import pkg\n" + WRITE, pkg_in___init__="")
    table = path.parent / "pkg/table.txt"
    digests = {load_job(path).digest}
    for text in ("one", "two"):
        table.write_text(text)
        digests.add(load_job(path).digest)
    assert len(digests) == 3
    (path.parent / "pkg/.hidden").write_text("x")
    (path.parent / "pkg/gone").symlink_to("nowhere")
    assert load_job(path).data == {"pkg/table.txt": b"two"}
    monkeypatch.setattr(sources, "_DATA_BYTES", 2)
    assert load_job(path).data == {}


def test_a_worker_that_does_not_see_the_folder_says_so(tree):
    path = tree(MAP + f"    open({str(tree().parent)!r} + '/table.txt')\n")
    job = load_job(path)
    assert job.hint(failure_of(job)) == ""
    shutil.rmtree(path.parent)
    assert f"does not see the script's folder {path.parent}." in job.hint(failure_of(job))


def test_files_whose_names_are_taken_are_named(tree):
    path = tree(
        "import queue, numpy, csv, email.mime, helper, unittest.mock\n" + WRITE,
        queue="def push(): pass",
        numpy="",
        csv="",
        email_in___init__="",
        json="not imported",
        helper="import yaml",
        yaml="",
    )
    (path.parent / "unittest").mkdir()
    job = load_job(path.rename(path.parent / "csv.py"))
    assert set(job.files) == {"csv.py", "helper.py"}
    named = [note.partition(" ")[0] for note in job.notes]
    assert named == ["email/__init__.py", "numpy.py", "queue.py", "yaml.py"]
    assert (
        "queue.py beside the script is not used: the module 'queue' is that of Python's"
        in job.notes[2]
    )
    assert "'yaml' is that of an installed library" in job.notes[3]


@pytest.mark.parametrize(
    "use",
    ["queue.push", "from queue import push", "import queue.inner", "__import__('queue').push"],
)
def test_a_failure_over_a_name_that_is_taken_says_so(tree, use):
    path = tree(f"import queue\n{use}\n" + WRITE, queue="push = 1")
    assert "queue.py beside the script is not used" in str(error_of(path))
    job = load_job(tree(f"import queue\n{MAP}    {use}\n", queue="push = 1"))
    assert "queue.py beside the script is not used" in job.hint(failure_of(job))
    assert job.hint(AttributeError("other")) == ""


def test_what_workers_have_imported_is_never_taken_from_beside_a_script():
    """Else the list of such modules has fallen behind its libraries."""
    code = "import sys, daskmr.cluster.preload as p\nfor name in p.MODULES: __import__(name)\nprint(*sys.modules)"
    loaded = subprocess.check_output([sys.executable, "-c", code], text=True).split()
    tops = {name.partition(".")[0] for name in loaded}
    private = {top for top in tops if top[0] == "_" or top.endswith("_runtime") or "lazy" in top}
    assert tops - private <= sources._NEEDED | sources._USED_IF_INSTALLED


def test_a_library_that_is_not_installed_leaves_its_name_free(tree, monkeypatch):
    monkeypatch.setattr(sources, "_USED_IF_INSTALLED", {"not_installed_at_all"})
    name = "not_installed_at_all"
    path = tree(f"import {name}\n{MAP}    context.write({name}.X, 1)\n", **{name: "X = 3"})
    monkeypatch.syspath_prepend(path.parent)
    job = load_job(path)
    assert (run_map(job), job.notes) == ([(3, 1)], ())


# Activation


def test_lazy_import_of_a_sibling_while_active(tree):
    path = tree(
        MAP + "    import helper\n    helper.N += 1\n    context.write(key, helper.N)\n",
        helper="N = 0",
    )
    job = load_job(path)
    assert run_map(job) == [("k", 1)]
    assert "helper" not in sys.modules
    assert run_map(job) == [("k", 2)]
    with pytest.raises(ImportError):
        import helper  # noqa: F401


def test_same_names_alternate_without_mixing(tree):
    code = MAP + "    import helper.part\n    context.write(X, helper.part.X)\n"
    jobs = [
        load_job(
            tree(f"X = {x}\n" + code, f"v{x}", helper_in___init__="", helper_in_part=f"X = {x}")
        )
        for x in (1, 2)
    ]
    edited = load_job(tree("X = 3\n" + code, "v2"))
    for _ in range(3):
        assert [run_map(job) for job in [*jobs, edited]] == [[(1, 1)], [(2, 2)], [(3, 2)]]
    with jobs[0].activate(), jobs[1].activate(), jobs[0].activate():
        assert run_map(jobs[0]) == [(1, 1)]
        assert run_map(jobs[1]) == [(2, 2)]


def test_what_was_imported_before_is_put_back(tree):
    before = {name: types.ModuleType(name) for name in ("helper", "helper.sub")}
    sys.modules.update(before)
    try:
        path = tree(
            "import helper\n"
            + MAP
            + "    context.write(helper.X, 'helper.sub' in sys.modules)\nimport sys",
            helper="X = 5",
        )
        assert run_map(load_job(path)) == [(5, False)]
        assert {name: sys.modules[name] for name in before} == before
    finally:
        for name in before:
            del sys.modules[name]


def test_activation_is_reentrant_exclusive_and_cheap(tree):
    job = load_job(tree("import helper\n" + WRITE, helper=""))
    with job.activate(), job.activate():
        assert "helper" in sys.modules
        seen = []
        thread = threading.Thread(
            target=lambda: (run_map(job), seen.append("helper" in sys.modules))
        )
        thread.start()
        time.sleep(0.02)
        assert seen == []
    thread.join()
    assert seen == [False]
    start = time.perf_counter()
    for _ in range(1000):
        with job.activate():
            pass
    assert time.perf_counter() - start < 0.2  # 200 us each, ten times what it takes


def test_unpickling_does_not_wait_for_an_active_job(tree):
    job = load_job(tree(WRITE))
    data = pickle.dumps(job)
    done = threading.Event()
    with job.activate():
        threading.Thread(target=lambda: (pickle.loads(data), done.set())).start()
        assert done.wait(5)


def test_values_of_the_users_classes_pickle_inside_activation(tree):
    path = tree(
        "import helper\nclass Here: pass\n" + MAP + "    context.write(Here(), helper.There())\n",
        helper="class There: pass",
    )
    job = load_job(path)
    with job.activate():
        data = pickle.dumps(run_map(job))
    with pytest.raises(ModuleNotFoundError):
        pickle.loads(data)
    with job.activate():
        [(here, there)] = pickle.loads(data)
    assert type(here).__module__ == f"job_{job.digest[:12]}"
    assert type(there).__module__ == "helper"


# In another process

WORKER = """
import pickle, sys, traceback
from daskmr.job.job import format_user_traceback
with open(sys.argv[1], "rb") as file:
    job = pickle.load(file)
class Context:
    def write(self, key, value): print(key, value)
before = set(sys.modules)
with job.activate():
    if len(sys.argv) > 2:
        with open(sys.argv[2], "rb") as file:
            print(sorted(str(each) for each in pickle.load(file)))
    job.map("k", ["d"], "v", Context())
try:
    with job.activate():
        job.map("k", ["d"], "", Context())
except Exception as exc:
    print(format_user_traceback(job, exc))
    print(traceback.format_exc())
print([name for name in sys.modules if name.startswith(("job", "helper", "pkg"))])
"""


def test_runs_in_a_process_without_the_files(tree, tmp_path):
    path = tree(
        "import helper\nclass Here:\n    def __str__(self): return 'here'\n"
        + MAP
        + "    from pkg import late\n    context.write(late.X, helper.check(value))\n",
        helper="def check(value):\n    assert value, 'is empty'\n    return value\n"
        "class There:\n    def __str__(self): return 'there'",
        pkg_in___init__="",
        pkg_in_late="from .later import X",
        pkg_in_later="X = 7",
    )
    job = load_job(path)
    (tmp_path / "job.pickle").write_bytes(pickle.dumps(job))
    with job.activate():
        things = [job.map.__globals__["Here"](), sys.modules["helper"].There()]
        (tmp_path / "things.pickle").write_bytes(pickle.dumps(things))
    for file in sorted(path.parent.rglob("*.py")):
        file.unlink()
    out = python(WORKER, tmp_path / "job.pickle", tmp_path / "things.pickle", cwd="/")
    assert out.startswith("['here', 'there']\n7 v\nTraceback (most recent call last):\n")
    assert out.count("    assert value, 'is empty'\n") == 2
    assert out.endswith("[]\n")


def test_functions_of_main_run_in_another_process(tmp_path):
    main = tmp_path / "main.py"
    main.write_text(
        "import pickle, sys\nfrom daskmr.job.job import Job\n"
        "def check(value):\n    assert value, 'is empty'\n    return value + suffix\n"
        "suffix = '!'\n"
        "job = Job(map=lambda key, dims, value, context: context.write(key, check(value)))\n"
        "with open(sys.argv[1], 'wb') as file:\n    pickle.dump(job, file)\n"
    )
    python(
        f"import runpy\nrunpy.run_path({str(main)!r}, run_name='__main__')",
        tmp_path / "p",
        cwd=tmp_path,
    )
    main.unlink()
    out = python(WORKER, tmp_path / "p", cwd="/")
    assert out.startswith("k v!\nTraceback (most recent call last):\n")
    assert "    assert value, 'is empty'\n" in out


def test_a_module_that_the_worker_lacks_fails_the_task_and_not_the_unpickling(tree, tmp_path):
    path = tree("import helper_lib\n" + WRITE)
    library = tmp_path / "lib"
    library.mkdir()
    (library / "helper_lib.py").write_text("")
    code = (
        "import pickle, sys\nsys.path.append(sys.argv[1])\nfrom daskmr.job.job import load_job\n"
        "with open(sys.argv[3], 'wb') as file: pickle.dump(load_job(sys.argv[2]), file)"
    )
    python(code, library, path, tmp_path / "p", cwd="/")
    job = pickle.loads((tmp_path / "p").read_bytes())
    with pytest.raises(InputError, match=r"line 1.*'helper_lib' is missing.*every worker"):
        job.map  # noqa: B018


# Functions on the spot


def test_closures_methods_partials_and_objects():
    class Counter:
        def __call__(self, key, dims, value, context):
            context.write(key, 1)

        def method(self, key, dims, value, context):
            context.write(key, 2)

    def closed(n):
        return lambda key, dims, value, context: context.write(key, n)

    def five(n, key, dims, value, context):
        context.write(key, n)

    for n, function in enumerate(
        [Counter(), Counter().method, closed(3), functools.partial(five, 4)], 1
    ):
        job = Job(function)
        assert job.is_user_file(__file__)
        assert run_map(job) == run_map(pickle.loads(pickle.dumps(job))) == [("k", n)]


def test_what_functions_refer_to_is_shipped_as_it_is_now():
    factor = [1]
    job = Job(lambda key, dims, value, context: context.write(key, factor[0]))
    first, digest = pickle.dumps(job), job.digest
    factor[0] = 2
    assert [run_map(pickle.loads(data)) for data in (first, pickle.dumps(job), first)] == [
        [("k", 1)],
        [("k", 2)],
        [("k", 1)],
    ]
    assert job.digest != digest


def test_functions_that_cannot_leave_the_process():
    lock = threading.Lock()
    job = Job(lambda key, dims, value, context: context.write(lock, 1))
    assert len(run_map(job)) == 1
    with pytest.raises(InputError, match=r"cannot be sent to worker processes \(TypeError"):
        pickle.dumps(job)


# Checks


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no job script nowhere.py (looked for in" in str(error_of("nowhere.py"))
    assert "is a directory" in str(error_of(tmp_path))
    Path("count.py").write_text(WRITE)
    assert "Did you mean count.py?" in str(error_of("count"))
    Path("book.ipynb").write_text("{}")
    assert "is a notebook" in str(error_of("book.ipynb"))
    os.symlink("gone.py", "link.py")
    assert "link.py is a link to gone.py, which is not there" in str(error_of("link.py"))
    os.mkfifo("pipe")
    assert "not a regular file" in str(error_of("pipe"))
    assert "not 12" in str(error_of(12))
    assert "no job script" in str(error_of("a\0b"))
    assert "no job script" in str(error_of("a" * 5000))

    def refuse(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "read_bytes", refuse)
    assert "count.py cannot be read: Permission denied" in str(error_of("count.py"))


def test_files_that_are_not_text(tree):
    message = str(error_of(tree(b"x = 1\ny = '\xe9'\n")))
    assert "job.py, line 2: not utf-8 text (byte 0xe9). Save the file as UTF-8, or" in message
    assert "unknown encoding" in str(error_of(tree(b"# coding: nonsense\n")))
    assert "null byte" in str(error_of(tree(b"x = '\0'\n")))
    assert "helper.py, line 1: not utf-8" in str(error_of(tree("import helper", helper=b"# \xe9")))


def test_syntax_error_shows_the_line_and_a_caret(tree):
    path = tree("x = 1\nif x = 2: pass\n" + WRITE)
    message = str(error_of(path))
    assert message.startswith(f"{path}, line 2: ")
    assert message.endswith("\n    if x = 2: pass\n       ^")
    assert "Python 2" not in message
    late = str(error_of(tree("import helper\n" + WRITE, helper="x = 1\nreturn x\n")))
    assert (
        "helper.py, line 2: syntax error: 'return' outside function.\n    return x\n    ^" in late
    )
    deep = str(error_of(tree("x = " + "(" * 5000 + ")" * 5000)))
    assert "job.py" in deep
    assert len(deep) < 500


@pytest.mark.parametrize(
    ("line", "advice"),
    [
        ('print "x"', "print(...)"),
        ("print x, y", "print(...)"),
        ("try: pass\nexcept X, e: pass", "except X as e:"),
        ("try: pass\nexcept (A, B), e: pass", "except X as e:"),
        ("x = `y`", "repr(x)"),
        ("x = 0777", "0o777"),
        ("x = 10L", "leave out the `L`"),
        ("x = 0xFFL", "leave out the `L`"),
        ('x = ur"a"', 'r"..."'),
        ('exec "x"', "exec(...)"),
        ('raise E, "x"', "raise X(message)"),
        ("if a <> b: pass", "!="),
        ("def f((a, b), c): pass", "unpack"),
        ("f = lambda (a, b): a", "unpack"),
        ("if 1:\n\tx\n        y", "spaces only"),
    ],
)
def test_python_2(tree, line, advice):
    for path in (tree(line + "\n"), tree("import helper\n" + WRITE, "two", helper=line + "\n")):
        message = str(error_of(path))
        assert "This looks like Python 2: " in message
        assert advice in message
        assert ("helper.py" in message) == (path.parent.name == "two")


@pytest.mark.parametrize(
    "line", ["s = 'a <> b' +", "x = (1,", "def f(:", "async = 1", "x = '`' '", "raise E +"]
)
def test_not_python_2(tree, line):
    assert "Python 2" not in str(error_of(tree(line + "\n")))


def test_missing_module(tree):
    path = tree("\nimport nowhere.at_all\n")
    message = str(error_of(path))
    assert f"{path}, line 2: the module 'nowhere' is missing" in message
    assert "every worker" in message
    assert "urllib.request" in str(error_of(tree("import urllib2")))
    message = str(error_of(tree("import helper.sub", helper="")))
    assert "no module 'helper.sub' beside the script" in message
    assert "helper.py, line 2: the module" in str(
        error_of(tree("import helper", helper="\nimport nowhere"))
    )


@pytest.mark.parametrize(
    ("module", "meant"),
    [("mylib", "myliba"), ("jsno", "json"), ("colections", "collections"), ("xyz_qq", None)],
)
def test_no_unknown_name_is_said_to_be_a_package_to_install(tree, module, meant):
    message = str(error_of(tree(f"import {module}\n" + WRITE, myliba="")))
    assert "pip install" not in message
    assert (f"Is `{meant}` meant?" in message) == (meant is not None)
    assert f"put {module}.py beside the script" in message
    job = load_job(tree(f"{MAP}    import {module}\n", myliba=""))
    assert f" The module '{module}' is missing." in job.hint(failure_of(job))


def test_a_well_known_library_is_installed_by_the_name_of_its_distribution(tree, monkeypatch):
    for module, package in (("sklearn", "scikit-learn"), ("orjson", "orjson")):
        monkeypatch.setitem(sys.modules, module, None)
        message = str(error_of(tree(f"import {module}\n" + WRITE)))
        assert message.endswith(f"environment of every worker: `pip install {package}`.")


def test_a_library_is_missing_though_the_script_has_its_name(tree, monkeypatch):
    monkeypatch.setitem(sys.modules, "simplejson", None)
    path = tree("import simplejson\n" + WRITE).with_name("simplejson.py")
    path.write_text("import simplejson\n" + WRITE)
    assert "`pip install simplejson`" in str(error_of(path))


# Which functions are the job's

LIBRARY_IMPORTS = {
    "from functools import reduce": "functools.reduce",
    "from functools import *\nfrom functools import reduce": "functools.reduce",
    "import functools\nreduce = functools.reduce": "functools.reduce",
    "from operator import add as reduce": "operator.add",
    "from random import choice as reduce": "random.choice",
    "from toolz.curried import reduce": "toolz.curried.reduce",
    "from numpy import add as reduce": "numpy.add",
    "from helper import reduce": "functools.reduce",
    "from helper import *": "functools.reduce",
    "from collections import Counter as reduce": "collections.Counter",
}


@pytest.mark.parametrize(("text", "library"), LIBRARY_IMPORTS.items(), ids=LIBRARY_IMPORTS)
def test_functions_of_libraries_are_not_the_jobs(tree, text, library):
    path = tree(f"{text}\n{WRITE}", helper="from functools import reduce")
    for job in (load_job(path), pickle.loads(pickle.dumps(load_job(path)))):
        assert job.reduce is None
        [note] = job.notes
        assert f"`reduce` in the script is {library}, not a function of the script" in note
        assert "what map writes is the output" in note


@pytest.mark.parametrize("name", ["combine", "setup_reduce"])
def test_any_function_of_a_job_may_have_the_name_of_another(tree, name):
    job = load_job(tree(f"from operator import add as {name}\n{WRITE}def reduce(k, v, c): pass\n"))
    assert getattr(job, name) is None
    assert job.reduce is not None
    assert [note.partition(",")[0] for note in job.notes] == [
        f"`{name}` in the script is operator.add"
    ]


@pytest.mark.parametrize(
    ("text", "library"),
    [
        ("from builtins import map", "builtins.map"),
        ("from toolz.curried import *", "toolz.curried.map"),
        ("import operator\nmap = operator.mul", "operator.mul"),
    ],
)
def test_a_map_of_a_library_is_an_error(tree, text, library):
    message = str(error_of(tree(f"{text}\ndef reduce(key, values, context): pass\n")))
    assert f"does not define `map`: the `map` in it is {library}, which it imports" in message


OWN = {
    "a sibling's": "from helper import reduce",
    "a sibling's, by star": "from functools import reduce\nfrom helper import *",
    "defined after the import": f"from functools import reduce\ndef reduce{ARGUMENTS}: pass",
    "a lambda": "reduce = lambda key, values, context: None",
    "a partial": "import functools\ndef f(x, *a): pass\nreduce = functools.partial(f, 1)",
    "a partial of a library's": "import functools, operator\nreduce = functools.partial(print)",
    "an object": "class R:\n    def __call__(self, key, values, context): pass\nreduce = R()",
    "a method": "class R:\n    def f(self, key, values, context): pass\nreduce = R().f",
    "a class": "class reduce:\n    def __init__(self, key, values, context): pass",
    "cached": f"import functools\n@functools.lru_cache\ndef reduce{ARGUMENTS}: pass",
    "decorated by a library": f"import contextlib\nclass D(contextlib.ContextDecorator):\n    def __enter__(self): pass\n    def __exit__(self, *a): pass\n@D()\ndef reduce{ARGUMENTS}: pass",
    "curried": f"import toolz\n@toolz.curry\ndef reduce{ARGUMENTS}: pass",
}


@pytest.mark.parametrize("text", OWN.values(), ids=OWN)
def test_what_a_script_makes_itself_is_the_jobs(tree, text):
    path = tree(f"{text}\n{WRITE}", helper=f"def reduce{ARGUMENTS}: pass")
    job = load_job(path)
    assert job.reduce is not None
    assert job.notes == ()


def test_functions_made_for_daskmr_may_come_from_an_installed_library(tree, tmp_path, monkeypatch):
    library = tmp_path / "site-packages" / "acme_jobs.py"
    library.parent.mkdir()
    library.write_text(f"{WRITE}def reduce{ARGUMENTS}: pass\ndef combine(a, b, c): pass\n")
    monkeypatch.syspath_prepend(library.parent)
    job = load_job(tree("from acme_jobs import *\n"))
    assert (job.map.__module__, job.reduce.__module__) == ("acme_jobs", "acme_jobs")
    assert (job.combine, len(job.notes)) == (None, 1)
    whole = load_job(sys.modules["acme_jobs"])  # the module itself is the job
    assert (whole.combine.__module__, whole.notes) == ("acme_jobs", ())
    del sys.modules["acme_jobs"]


def test_other_failures_while_loading(tree):
    error = error_of(tree("import helper\n", helper="def f():\n    1 / 0\nf()"))
    assert "here/helper.py, line 2, in f: it fails while it is loaded: ZeroDiv" in str(error)
    assert error.details.startswith("Traceback (most recent call last):\n  File")
    assert "importlib" not in error.details
    assert "daskmr" not in error.details.replace(str(ROOT), "")
    assert error.details.endswith("ZeroDivisionError: division by zero\n")
    assert error.__cause__ is None is error.__context__
    assert "ImportError" in str(error_of(tree("from os import nothing_like_it")))
    assert "ImportError" in str(error_of(tree("from . import helper", helper="")))
    assert "sys.exit" in str(error_of(tree("import sys\nsys.exit(0)")))
    assert "GeneratorExit" in str(error_of(tree("raise GeneratorExit")))
    for text in ("raise KeyboardInterrupt", "import daskmr.errors as e\nraise e.Interrupted(15)"):
        with pytest.raises((KeyboardInterrupt, Interrupted)):
            load_job(tree(text))


def test_no_map(tree):
    for name in ("Map", "mapper", "map_record", "mop"):
        assert f"Should `{name}` be named `map`?" in str(error_of(tree(f"def {name}(): pass\n")))
    message = str(error_of(tree("def main(): pass\nmapping = {}\n")))
    assert "does not define `map`. A job defines `def map(key, dims, value, context):`" in message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("map = 3", "`map` is 3, not a function like `def map(key, dims, value, context):`"),
        (WRITE + "reduce = 'sum'", "`reduce` is 'sum', not a function"),
        ("def map(key, dims, value): pass", "line 1: `map` cannot be called with 4 positional"),
        ("def map(key, dims, value, *, context): pass", "`map` cannot be called with 4"),
        (WRITE + "def combine(values, context): pass", "`def combine(key, values, context):`"),
        (WRITE + "def reduce(a, b, c, d): pass", "line 3: `reduce` cannot be called with 3"),
        (
            WRITE + "def setup_reduce(): pass",
            "it takes 0). Define it as `def setup_reduce(context)",
        ),
        (MAP + "    yield key, value", "a generator or async function"),
        ("async " + WRITE, "a generator or async function"),
        (WRITE + "async def reduce(k, v, c): yield 1", "a generator or async function"),
        (WRITE + "class A:\n    def __call__(self, k, v, c): yield\nreduce = A()", "generator"),
    ],
)
def test_functions_that_are_not_as_needed(tree, text, problem):
    path = tree(text)
    message = str(error_of(path))
    assert message.startswith(str(path))
    assert problem in message


def test_functions_that_are_fine(tree):
    loose = (
        "def map(*args): pass\ndef combine(key, values, context, extra=1): pass\ncombine2 = None\n"
    )
    job = load_job(tree(loose + "setup_reduce = None\nreduce = {}.update\n"))
    assert job.setup_reduce is None
    assert job.reduce.__name__ == "update"  # which tells nothing of its arguments
    wrapped = (
        "import functools\ndef add(f):\n    @functools.wraps(f)\n"
        "    def wrapper(*args): return f(1, *args)\n    return wrapper\n"
        "@add\ndef map(one, key, dims, value, context): context.write(one, 2)\n"
    )
    assert run_map(load_job(tree(wrapped))) == [(1, 2)]
    with pytest.raises(InputError, match=r"^The job: `map` is 3"):
        Job(map=3)


# Failures of the user's code


def test_traceback_starts_at_the_users_first_frame_and_keeps_libraries(tree):
    path = tree("import json\n" + MAP + "    parse(value)\ndef parse(v):\n    json.loads(v)\n")
    job = load_job(path)
    exc = failure_of(job, "{")
    text = format_user_traceback(job, exc)
    lines = text.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert lines[1:3] == [f'  File "{path}", line 3, in map', "    parse(value)"]
    assert "json/decoder.py" in text
    assert __file__ not in text
    assert lines[-1].startswith("json.decoder.JSONDecodeError: Expecting")
    assert user_location(job, exc) == "job.py, line 5, in parse"
    assert user_location(job, ValueError()) is None
    assert format_user_traceback(job, ValueError("bare")) == "ValueError: bare\n"


def test_traceback_shows_the_lines_that_ran_though_the_file_was_edited(tree):
    path = tree(MAP + "    raise ValueError(value)\n")
    job = load_job(path)
    path.write_text("# edited\n" * 9)
    assert "    raise ValueError(value)\n" in format_user_traceback(job, failure_of(job))
    linecache.clearcache()


def test_traceback_leaves_out_our_own_frames(tree):
    job = load_job(tree(MAP + "    import daskmr.config as c\n    c.load_config(nonsense=1)\n"))
    text = format_user_traceback(job, failure_of(job))
    assert text.count("  File ") == 1
    assert "InputError: Unknown option" in text


def test_chained_exceptions(tree):
    text = """
class Bad(Exception): pass
def map(key, dims, value, context):
    try:
        try:
            1 / 0
        except ZeroDivisionError:
            {}['x']
    except KeyError as exc:
        if value == "none": raise Bad("no more") from None
        raise Bad("in all") from exc
"""
    job = load_job(tree(text))
    shown = format_user_traceback(job, failure_of(job))
    parts = [
        "ZeroDivisionError: division",
        "During handling",
        "KeyError: 'x'",
        "direct cause",
        "Bad: in all",
    ]
    assert sorted(parts, key=shown.index) == parts
    assert shown.endswith("\nBad: in all\n")
    assert "KeyError" not in format_user_traceback(job, failure_of(job, "none"))
    first, second = ValueError("first"), ValueError("second")
    first.__cause__, second.__cause__ = second, first
    assert format_user_traceback(job, first).count("ValueError") == 2


def test_long_chains_groups_notes_and_syntax_errors(tree):
    job = load_job(tree(WRITE))
    last = None
    for number in range(100):
        exc = ValueError(number)
        exc.__context__, last = last, exc
    assert format_user_traceback(job, last).count("ValueError") == 10
    group = ExceptionGroup("many", [ValueError(n) for n in range(9)])
    assert format_user_traceback(job, group).splitlines()[1:] == [
        f"  | ValueError: {n}" for n in range(3)
    ]
    noted = ValueError("x")
    noted.add_note("in row 3")
    assert format_user_traceback(job, noted) == "ValueError: x\nin row 3\n"
    with pytest.raises(SyntaxError) as caught:
        compile("x = = 1", "made up", "exec")
    assert "    x = = 1\n        ^\n" in format_user_traceback(job, caught.value)


def test_recursion(tree):
    job = load_job(tree(MAP + "    map(key, dims, value, context)\n"))
    text = format_user_traceback(job, failure_of(job))
    assert "[Previous line repeated" in text
    assert len(text) < 1000
    mutual = load_job(tree("def a():\n    b()\ndef b():\n    a()\n" + MAP + "    a()\n", "two"))
    text = format_user_traceback(mutual, failure_of(mutual))
    assert 7_000 < len(text) <= 8_000
    assert text.startswith("Traceback")
    assert "RecursionError" in text[-200:]


class Unspeakable(Exception):
    def __init__(self, outcome):
        self.outcome, self.asked = outcome, 0

    def __str__(self):
        self.asked += 1
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


@pytest.mark.parametrize("outcome", [ValueError(), SystemExit(1), RecursionError(), 7])
def test_exceptions_without_a_text(outcome):
    job, exc = Job(lambda *args: None), Unspeakable(outcome)
    assert describe_exception(exc).startswith(
        "Unspeakable: (its text cannot be shown: __str__ raised "
    )
    assert "its text cannot be shown" in format_user_traceback(job, exc)


def test_exceptions_with_a_huge_text():
    job, exc = Job(lambda *args: None), Unspeakable("begin" + "x" * 100_000_000 + "end")
    start = time.perf_counter()
    assert len(describe_exception(exc)) <= 300
    text = format_user_traceback(job, exc)
    assert time.perf_counter() - start < 1
    assert exc.asked == 2
    assert 1_900 < len(text) < 2_200
    assert "begin" in text
    assert text.endswith("end\n")


def test_descriptions_are_one_printable_line():
    assert (
        describe_exception(ValueError("a\n\tb\x1b[31m\ud800 é"))
        == "ValueError: a b\\x1b[31m\\ud800 é"
    )
    assert describe_exception(StopIteration()) == "StopIteration"
    assert describe_exception(KeyError("x")) == "KeyError: 'x'"
    text = describe_exception(ValueError("\ud800" * 5000))
    assert len(text) <= 300
    assert text.encode()


def test_ordinary_tracebacks_show_shipped_lines_too(tree):
    job = load_job(tree(MAP + "    raise ValueError(value)\n"))
    os.unlink(job.path)
    linecache.clearcache()
    exc = failure_of(job)
    assert "    raise ValueError(value)\n" in "".join(traceback.format_exception(exc))


def test_each_job_has_a_working_directory_of_its_own(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    places = {name: tmp_path / name for name in ("one", "two")}
    jobs = {}
    for name, folder in places.items():
        folder.mkdir()
        script = tmp_path / f"{name}.py"
        script.write_text(
            f"import os\nos.chdir({name!r})\n"
            "def map(key, dims, value, context):\n    os.chdir(value)\n"
        )
        jobs[name] = load_job(script)
        assert os.getcwd() == str(tmp_path)
    for _ in range(2):
        with jobs["one"].activate():
            assert os.getcwd() == str(places["one"])
            with jobs["two"].activate():
                assert os.getcwd() == str(places["two"])
            assert os.getcwd() == str(places["one"])
        assert os.getcwd() == str(tmp_path)
    for value in ("/", tmp_path):  # back where the run was started
        with jobs["one"].activate():
            jobs["one"].map("", [], value, None)
        assert os.getcwd() == str(tmp_path)
        with jobs["one"].activate():
            assert os.getcwd() == str(value)


def test_a_working_directory_that_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "job.py"
    script.write_text(
        "import os\nos.mkdir('gone')\nos.chdir('gone')\n"
        "def map(key, dims, value, context):\n    os.rmdir(os.getcwd())\n"
    )
    job = load_job(script)
    for _ in range(2):
        with job.activate():
            if os.path.isdir("../gone"):
                job.map("", [], "", None)
        assert os.getcwd() == str(tmp_path)
