"""What is shipped of a job works in another process."""

from __future__ import annotations

import functools
import pickle
import shutil
import sys
import threading

import pytest
from support.scripts import MAP, WRITE, error_of, python, run_map

from daskmr.errors import InputError
from daskmr.job import job as job_module
from daskmr.job.job import Job
from daskmr.job.loading import load_job


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


WORKER = """
import pickle, sys, traceback
from daskmr.job.tracebacks import format_user_traceback
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
        "import pickle, sys\nsys.path.append(sys.argv[1])\nfrom daskmr.job.loading import load_job\n"
        "with open(sys.argv[3], 'wb') as file: pickle.dump(load_job(sys.argv[2]), file)"
    )
    python(code, library, path, tmp_path / "p", cwd="/")
    job = pickle.loads((tmp_path / "p").read_bytes())
    with pytest.raises(InputError, match=r"line 1.*'helper_lib' is missing.*every worker"):
        job.map  # noqa: B018


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
