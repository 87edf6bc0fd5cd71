"""Variables of a run are set where its code runs, and nowhere else."""

from __future__ import annotations

import os
import pickle
import secrets

import pytest
from support.scripts import MAP, run_map

from daskmr.errors import InputError, TaskFailed
from daskmr.job.job import Job, forget
from daskmr.job.loading import load_job
from daskmr.job.params.passed_env import applied, check_names, put, take_back
from daskmr.job.shipped.places import Delivery


def test_names(monkeypatch):
    monkeypatch.setenv("DASKMR_TOKEN", "s3cret")
    assert check_names(["DASKMR_TOKEN", "HOME", "DASKMR_TOKEN"]) == ("DASKMR_TOKEN", "HOME")
    assert check_names("DASKMR_TOKEN") == ("DASKMR_TOKEN",)
    with pytest.raises(
        InputError, match=r"DASKMR_TOKNE \(--pass-env\) is not set. Did you mean 'DASKMR_T"
    ):
        check_names(["DASKMR_TOKNE"])
    with pytest.raises(InputError, match="export zzzz"):
        check_names(["zzzz"])
    with pytest.raises(InputError, match="only the name") as caught:
        check_names(["A=s3cret"])
    assert "s3cret" not in str(caught.value)


def test_they_are_set_within_a_block(monkeypatch):
    monkeypatch.setenv("DASKMR_A", "before")
    monkeypatch.delenv("DASKMR_B", raising=False)
    put("t", {"DASKMR_A": "1", "DASKMR_B": "2"})
    try:
        with applied("t"), applied(""):
            assert (os.environ["DASKMR_A"], os.environ["DASKMR_B"]) == ("1", "2")
        assert (os.environ["DASKMR_A"], os.environ.get("DASKMR_B")) == ("before", None)
    finally:
        take_back("t")
    with pytest.raises(TaskFailed, match="has not received"), applied("t"):
        pass


@pytest.mark.parametrize("kind", ["script", "functions"])
def test_a_job_sees_those_of_its_run(tree, kind):
    """Also while it is loaded; the next run loads it again."""
    if kind == "script":
        text = "import os\nA = os.environ.get('DASKMR_A')\n"
        job = load_job(tree(f"{text}{MAP}    context.write(A, os.environ.get('DASKMR_A'))\n"))
    else:
        job = Job(map=lambda k, d, v, c: c.write(*[os.environ.get("DASKMR_A")] * 2))
    found, secret = [], secrets.token_hex(8)
    for token in ("one", "two"):
        blob = pickle.dumps(job.delivered(Delivery(token)))
        put(token, {"DASKMR_A": secret + token})
        there = pickle.loads(blob)
        found += run_map(there)
        assert pickle.loads(blob) is there
        assert secret.encode() not in blob
        take_back(token)
        forget(token)
        assert pickle.loads(blob) is not there
    assert found == [(secret + token,) * 2 for token in ("one", "two")]
    assert run_map(job) == [(None, None)]
