"""A script declares parameters, and gets the values of its run in every process."""

from __future__ import annotations

import importlib.util
import pickle
import subprocess
import sys
from datetime import date

import pytest
from support.scripts import MAP, failure_of, run_map

from daskmr import param
from daskmr.errors import InputError
from daskmr.job import job as job_module
from daskmr.job.job import Job
from daskmr.job.loading import load_job
from daskmr.job.params.given import ParameterError, Recorded

WRITES = MAP + "    context.write(N, DAY)\n"
SCRIPT = f"""
import datetime
from daskmr import param
N = param("n", 5, help="how many")
DAY = param("day", type=datetime.date)
{WRITES}
"""


def test_values_have_types(tree):
    job = load_job(tree(SCRIPT), {"day": "2024-01-31"})
    assert run_map(job) == [(5, date(2024, 1, 31))]
    assert job.params == {"n": 5, "day": "2024-01-31"}
    assert [(p.name, p.help, p.is_given) for p in job.declared_params.values()] == [
        ("n", "how many", False),
        ("day", "", True),
    ]


def test_without_a_run_the_default_is_the_value():
    assert param("n", 5) == 5
    with pytest.raises(InputError, match="n has no default, and only a run"):
        param("n")
    for name in ("", "a b", "5", "-x", None, "a=b"):
        with pytest.raises(InputError, match="cannot be the name of a parameter"):
            param(name, 5)


def test_another_process_gets_the_values_of_this_one(tree, monkeypatch):
    """Also a default that differs there."""
    path = tree(
        f"import os\nfrom daskmr import param\nN, DAY = param('n', os.environ['N']), 1\n{WRITES}"
    )
    monkeypatch.setenv("N", "one")
    blob = pickle.dumps(load_job(path))
    monkeypatch.setattr(job_module, "_JOBS", {})
    monkeypatch.setenv("N", "two")
    assert run_map(pickle.loads(blob)) == [("one", 1)]
    code = (
        "import pickle, sys; job = pickle.loads(sys.stdin.buffer.read())\n"
        "with job.activate(): job.map('k', [], 'v', type('C', (), {'write': staticmethod(print)}))"
    )
    done = subprocess.run([sys.executable, "-c", code], input=blob, capture_output=True, timeout=60)
    assert done.stdout == b"one 1\n", done.stderr


def test_nor_does_a_default_differ_there_that_text_cannot_stand_for(tree, monkeypatch):
    path = tree(
        "import os\nfrom datetime import datetime, timedelta\nfrom daskmr import param\n"
        "class Own: __eq__ = lambda self, other: True\n"
        "N = param('n', (datetime.now(), os.urandom(4), 7)), param('own', Own())\n"
        "DAY = param('span', timedelta(days=7))\n" + WRITES
    )
    job = load_job(path)
    assert job.params == {}
    blob, here = pickle.dumps(job), run_map(job)
    monkeypatch.setattr(job_module, "_JOBS", {})
    there = pickle.loads(blob)
    assert run_map(there) == here
    assert pickle.loads(pickle.dumps(there)).digest == job.digest


def test_an_identity_includes_the_values(tree):
    path = tree(SCRIPT)
    one, two = (load_job(path, {"day": day}) for day in ("2024-01-31", "2024-02-01"))
    same = load_job(path, {"day": date(2024, 1, 31), "n": "05"})
    assert one.digest != two.digest
    assert one.digest == same.digest
    assert one.module_name != two.module_name
    assert run_map(one) + run_map(two) + run_map(one) == [
        (5, date(2024, 1, 31)),
        (5, date(2024, 2, 1)),
        (5, date(2024, 1, 31)),
    ]
    copies = [pickle.loads(pickle.dumps(job)) for job in (one, two)]
    assert [run_map(job) for job in copies] == [run_map(one), run_map(two)]


def test_a_script_without_parameters_keeps_its_identity(tree):
    job = load_job(tree(f"N, DAY = 1, 2\n{WRITES}"))
    assert job.module_name == f"job_{job.digest[:12]}"


def test_modules_beside_the_script_declare_too(tree):
    path = tree(
        f"from daskmr import param\nfrom helper import N\nDAY = param('day', 1) + param('n')\n{WRITES}",
        helper="from daskmr import param\nN = param('n', 5)\nparam('day', 1)",
    )
    assert run_map(load_job(path, {"n": "7"})) == [(7, 8)]


def test_a_function_may_look_one_up(tree):
    path = tree(
        "from daskmr import param\nparam('n', 5)\n" + MAP + "    context.write(param('n'), 1)\n"
    )
    assert run_map(load_job(path, {"n": 6})) == [(6, 1)]


def test_a_declaration_while_the_job_runs_is_an_error(tree):
    path = tree("from daskmr import param\n" + MAP + "    param('n', 5)\n")
    assert "Call param at the top level" in str(failure_of(load_job(path)))


@pytest.mark.parametrize(
    ("given", "why"),
    [
        ({}, r"needs a value for its parameter day: a date .* Give it with --param day=VALUE"),
        ({"dya": "x"}, "It has no dya; did you mean day?"),
        ({"day": "x"}, "The parameter day cannot be 'x': it takes a date such as 2024-01-31"),
        (
            {"day": "2024-01-31", "N": 5},
            r"The script job\.py has no parameter N\. Did you mean n\?",
        ),
        ({"day": "2024-01-31", "z": 5}, r"no parameter z\. It has n, day\."),
    ],
)
def test_mistakes_of_a_run(tree, given, why):
    with pytest.raises(ParameterError, match=why):
        load_job(tree(SCRIPT), given)


def test_all_that_are_missing_are_named(tree):
    path = tree(
        "from daskmr import param\nfor n in 'ab': param(n)\nparam('c')\nparam('d')\n" + WRITES
    )
    with pytest.raises(ParameterError, match=r"--param a=VALUE --param c=VALUE --param d=VALUE$"):
        load_job(path)


def test_a_script_cannot_hide_a_mistake(tree):
    path = tree(
        f"from daskmr import param\ntry: N = param('n')\nexcept Exception: N = DAY = 1\n{WRITES}"
    )
    with pytest.raises(ParameterError, match="needs a value"):
        load_job(path)


@pytest.mark.parametrize(
    ("call", "why"),
    [
        ("param('n', 5); param('n', 6)", "n is declared twice"),
        ("param('n n', 5)", "cannot be the name of a parameter"),
        ("param('n', 5, type=5)", "is a class, or a function that takes its text, not 5"),
        ("param('n', 'x', type=int)", "This is its default in the script"),
    ],
)
def test_mistakes_of_a_script(tree, call, why):
    with pytest.raises(InputError, match=rf"job\.py, line 2: .*{why}"):
        load_job(tree(f"from daskmr import param\n{call}\n{WRITES}"))


def test_types_of_the_script(tree):
    """Their values travel as text, and a default that has no text is made by each process."""
    path = tree(f"""
import enum
from daskmr import param
class Mode(enum.Enum):
    FAST = 1
    EXACT = 2
class Own:
    pass
N = param("mode", Mode.FAST)
DAY = param("own", Own())
P = param("pair", None, type=lambda text: text.split(":"))
{MAP}    context.write(N.name, (type(DAY).__name__, P))
""")
    job = load_job(path, {"mode": "EXACT", "pair": "a:b"})
    assert run_map(job) == [("EXACT", ("Own", ["a", "b"]))]
    assert job.params == {"mode": "EXACT", "pair": "a:b"}
    with pytest.raises(ParameterError, match="because a record of the run could not hold it"):
        load_job(path, {"pair": type("T", (), {"split": lambda self, by: [1]})()})


def test_what_an_earlier_run_had_besides_is_ignored(tree):
    job = load_job(tree(SCRIPT), {"day": Recorded({0: "2024-01-31"}), "gone": Recorded({0: 5})})
    assert job.params == {"n": 5, "day": "2024-01-31"}


def test_functions_take_no_parameters(tree):
    job = Job(map=lambda key, dims, value, context: context.write(param("n", 5), 1))
    assert run_map(job) == [(5, 1)]
    assert (job.params, job.declared_params) == ({}, {})
    for source in (job, load_job(tree(SCRIPT), {"day": "2024-01-31"})):
        with pytest.raises(InputError, match="The parameter n has no effect on functions"):
            load_job(source, {"n": 6})


def test_a_module_is_loaded_as_a_script(tree, monkeypatch):
    """With the values of the run, whatever it had when it was imported."""
    path = tree(f"from daskmr import param\nN, DAY = param('n', 5), 1\n{WRITES}")
    monkeypatch.syspath_prepend(path.parent)
    spec = importlib.util.spec_from_file_location("job", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.N == 5
    assert run_map(load_job(module, {"n": 6})) == [(6, 1)]
