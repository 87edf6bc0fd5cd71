"""The user's script is loaded once a process, activated, and left without a trace."""

from __future__ import annotations

import os
import pickle
import sys
import threading
import time
import types

import pytest
from support.scripts import MAP, WRITE, error_of, link_to, run_map

from daskmr.errors import InputError
from daskmr.job import job as job_module
from daskmr.job.job import Job, describe_params, describe_steps
from daskmr.job.loading import Code, load_job


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


def test_code_is_a_script_in_no_file(tree, monkeypatch):
    path = tree("", helper="def name(): return 'h'\n")
    monkeypatch.chdir(path.parent)
    text = "\n    import helper\n    def map(k, d, v, c): c.write(helper.name(), __file__)\n"
    job = load_job(Code(text))
    assert (job.name, job.path) == ("code", str(path.parent / "<code>"))
    assert run_map(pickle.loads(pickle.dumps(job))) == [("h", job.path)]
    assert job.code == "\nimport helper\ndef map(k, d, v, c): c.write(helper.name(), __file__)\n"
    assert load_job(tree(WRITE)).code is None
    with pytest.raises(InputError, match=r"<code>, line 1: syntax error"):
        load_job(Code("def map("))


def test_relative_path(tree, monkeypatch):
    path = tree(WRITE)
    monkeypatch.chdir(path.parent)
    assert load_job("job.py").path == load_job(".//job.py").path == str(path)


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


def test_activation_is_reentrant_and_exclusive(tree):
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


# --- steps ----------------------------------------------------------------------------------------


def test_steps_of_a_script_share_its_module(tmp_path):
    path = tmp_path / "chain.py"
    path.write_text(
        "from daskmr import Job\n"
        "layout, output_columns = 'flat', ('a', 'b')\n"
        "def one(k, d, v, c): pass\n"
        "def two(k, d, v, c): pass\n"
        "def total(k, v, c): pass\n"
        "def reduce(k, v, c): pass\n"
        "steps = [Job(map=one, combine=total, reduce=total), Job(map=one), Job(map=two)]\n"
    )
    job = load_job(str(path))
    again = pickle.loads(pickle.dumps(job.steps))
    for steps in (job.steps, again):
        assert [step.step_name for step in steps] == ["one", "one", "two"]
        assert [step.reduce is None for step in steps] == [False, True, True]
        assert steps[0].map is steps[1].map
    assert [step.declared.layout for step in job.steps] == ["flat", None, "flat"]
    assert job.steps[2].declared.names_of_output == ("a", "b")
    assert job.notes == (
        "`reduce` in the script is not used, because a run calls the functions of `steps`: "
        "Job(..., reduce=reduce)",
    )


def test_what_no_step_of_a_script_uses_is_noted(tmp_path):
    names = ("setup_map", "map_finished", "finish_reduce")
    text = "".join(f"def {name}(context): pass\n" for name in names)
    path = tmp_path / "chain.py"
    path.write_text(
        f"from daskmr import Job\n{text}sort_values = True\n"
        "steps = [Job(map=lambda k, d, v, c: None, reduce=lambda k, v, c: None)]\n"
    )
    job = load_job(str(path))
    noted = [note.rpartition(": Job(..., ")[2] for note in job.notes]
    pairs = ["setup_map=setup_map", "finish_map=map_finished", "finish_reduce=finish_reduce"]
    assert noted == [f"{pair})" for pair in (*pairs, "sort_values=sort_values")]
    assert job.declared.sort_values is None


def test_each_way_to_give_a_parameter_has_a_module_of_its_own(tmp_path):
    """Other processes find values of a class by the module that it was pickled in."""
    (tmp_path / "job.py").write_text(
        "from daskmr import param\nN = param('n', 1)\ndef map(k, d, v, c): pass\n"
    )
    jobs = [load_job(str(tmp_path / "job.py"), {"n": n}) for n in ("5", 5)]
    assert jobs[0].digest == jobs[1].digest
    restored = [pickle.loads(pickle.dumps(job)) for job in jobs]
    assert [job.module_name for job in restored] == [job.module_name for job in jobs]
    assert len({job.map.__module__ for job in restored}) == 2


def test_a_step_whose_map_is_in_a_module_has_its_name(tmp_path):
    (tmp_path / "words.py").write_text("def map(k, d, v, c): pass\ndef reduce(k, v, c): pass\n")
    (tmp_path / "chain.py").write_text(
        "import words\nfrom daskmr import Job, param\nLEAST = param('least', 5)\n"
        "def map(k, d, v, c): pass\n"
        "steps = [Job(map=words.map, reduce=words.reduce, sort_values=True), Job(map=map)]\n"
    )
    job = load_job(str(tmp_path / "chain.py"), {"least": 8})
    for steps in (job.steps, pickle.loads(pickle.dumps(job.steps))):
        assert [step.step_name for step in steps] == ["words", ""]
    assert describe_steps(job) == (
        "step 1 of 2 (words): map, reduce, sort_values", "step 2 of 2: map",
    )  # fmt: skip
    assert describe_params(job) == ("least = 8",)
    both = load_job([str(tmp_path / "words.py"), str(tmp_path / "chain.py")])
    assert describe_params(both) == ("least = 5 (default) in chain.py",)


def test_several_jobs_are_steps_and_stay_what_they_are(tmp_path):
    for name in ("a", "b"):
        (tmp_path / f"{name}.py").write_text("def map(k, d, v, c): pass\n")
    alone = load_job(str(tmp_path / "a.py"))
    chain = load_job([str(tmp_path / "a.py"), Job(map=print_), str(tmp_path / "b.py")])
    assert [step.step_name for step in chain.steps] == ["a", "print_", "b"]
    assert alone.steps == (alone,)
    backwards = load_job([str(tmp_path / "b.py"), str(tmp_path / "a.py"), str(tmp_path / "b.py")])
    for step in pickle.loads(pickle.dumps(backwards.steps)):
        with step.activate():
            assert step.map(1, 2, 3, 4) is None
    with pytest.raises(InputError, match="needs at least one"):
        load_job([])


def print_(key, dims, value, context):
    print(value)
