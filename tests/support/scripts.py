"""Job scripts for tests, and what they do."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from daskmr.errors import InputError
from daskmr.job.loading import load_job
from support.jobs import ROOT

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


def link_to(target, *place):
    link = target.parent.parent.joinpath(*place)
    link.parent.mkdir(parents=True, exist_ok=True)
    link.symlink_to(target)
    return link
