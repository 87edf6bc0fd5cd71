"""What is wrong with a script is said before any work."""

from __future__ import annotations

import pickle
import shutil
import sys

import pytest
from support.jobs import ROOT
from support.scripts import ARGUMENTS, MAP, WRITE, error_of, failure_of, link_to, run_map

from daskmr.errors import InputError, Interrupted
from daskmr.job.check import take_hooks
from daskmr.job.job import Job
from daskmr.job.loading import load_job


def test_a_file_beside_the_target_of_a_link_is_named(tree):
    path = tree(
        "import os\nopen(os.path.join(os.path.dirname(__file__), 'table')).close()\n" + WRITE
    )
    (path.parent / "table").touch()
    load_job(path)
    message = str(error_of(link_to(path, "links", "today.py")))
    assert f"the file is beside its target, {path.parent}/table." in message
    assert message.endswith(f"or run {path}.")


def test_a_worker_that_does_not_see_the_folder_says_so(tree):
    path = tree(MAP + f"    open({str(tree().parent)!r} + '/table.txt')\n")
    job = load_job(path)
    assert job.hint(failure_of(job)) == ""
    shutil.rmtree(path.parent)
    hint = job.hint(failure_of(job))
    assert f"does not see the script's folder {path.parent}: it receives" in hint
    assert hint.endswith(
        'Write files = ["table.txt"] at the top of the script, and then daskmr.file("table.txt").'
    )


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
    assert (f"Did you mean `{meant}`?" in message) == (meant is not None)
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
        ("def m3(key): pass\nmap = m3", "`map` (m3) cannot be called with 4 positional"),
        ("steps = []", "or it defines `steps = [Job(map=..., reduce=...), ...]`"),
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


def test_hooks_are_taken_by_either_name():
    options = {"map_finished": len, "setup_map": None, "finish_reduce": repr, "other": 1}
    assert take_hooks(options, "x") == {"finish_map": len, "finish_reduce": repr}
    assert options == {"other": 1}
    with pytest.raises(InputError, match="the old name of `finish_map`"):
        take_hooks({"map_finished": len, "finish_map": repr}, "x")
    job = pickle.loads(pickle.dumps(Job(map=lambda k, d, v, c: None, setup_map=len)))
    assert (job.setup_map, job.finish_map, job.finish_reduce) == (len, None, None)


def test_hooks_of_a_library_are_not_those_of_the_job(tree):
    path = tree("from shutil import copyfile as setup_map\n" + MAP + "    pass\n")
    job = load_job(path)
    assert job.setup_map is None
    assert "`setup_map` in the script is shutil.copyfile" in job.notes[0]
