"""Load a script, and find its Python 2 code."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from daskmr.errors import InputError
from daskmr.job.job import Job
from daskmr.job.loading import load_job
from daskmr.job.porting import find_python2
from daskmr.job.sources import collect, parse, read_source

__all__ = ["Say", "find_ported", "load_ported"]

Say = Callable[[str, str], None]
"""A function that shows a line, given its title and its text."""


def find_ported(files: Mapping[str, str], script: str) -> list[str]:
    """Find Python 2 code in a script and in the files beside it that it imports.

    >>> find_ported({"job.py": "names = {}.iteritems()"}, "job.py")
    ['job.py:1: `iteritems` is gone in Python 3: write `items()`']
    """
    found = []
    for file, text in files.items():
        with suppress(InputError):  # a syntax error is reported when the file is imported
            findings = find_python2(parse(text, file), is_script=file == script)
            found += [f"{file}:{finding.line}: {finding.text}" for finding in findings]
    return found


def load_ported(script: Any, say: Say, *given: Any) -> Job:
    """Load a script, or several; if that fails, show its Python 2 code first.

    - `*given`: its parameters and files, as for `load_job`.
    """
    try:
        return load_job(script, *given)
    except InputError as error:
        failure = error
    for each in script if isinstance(script, list | tuple) else [script]:
        if isinstance(each, str | os.PathLike) and os.path.isfile(each):
            with suppress(InputError):  # it would be the same failure
                path = os.path.abspath(os.fsdecode(each))
                text = read_source(path)
                files = collect(path, text, parse(text, path)).files
                for found in find_ported(files, os.path.basename(path)):
                    say("warning", found)
    raise failure
