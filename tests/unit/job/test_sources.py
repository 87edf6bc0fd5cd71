"""The files of a script are found without running it."""

from __future__ import annotations

import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.scripts import MAP, WRITE, error_of, run_map

from daskmr.job import job as job_module
from daskmr.job import sources
from daskmr.job.loading import load_job


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


def test_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert "no job script nowhere.py (looked for in" in str(error_of("nowhere.py"))
    assert str(error_of("nowhere.py")).endswith("daskmr new nowhere.py")
    assert "is a directory" in str(error_of(tmp_path))
    assert str(error_of(tmp_path)).endswith(f"\ndaskmr inspect {tmp_path} --write job.py")
    Path("count.py").write_text(WRITE)
    assert "Did you mean count.py?" in str(error_of("count"))
    Path("book.ipynb").write_text("{}")
    assert "is a notebook" in str(error_of("book.ipynb"))
    os.symlink("gone.py", "link.py")
    assert "link.py is a link to gone.py, which does not exist" in str(error_of("link.py"))
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
