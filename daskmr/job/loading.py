"""Load a job from a script, a module, or a list of these."""

from __future__ import annotations

import os
import textwrap
import types
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from daskmr.errors import InputError
from daskmr.job.check import choose_functions
from daskmr.job.job import CODE, Job, chained, remember, steps_in, with_files
from daskmr.job.params.given import FromFile, check_given, refuse_unknown, values_for
from daskmr.job.script import Script
from daskmr.job.shipped.file import Files
from daskmr.job.shipped.given import given_files
from daskmr.job.shipped.py_files import check_py_files, collect_with
from daskmr.job.sources import (
    absolute,
    check_path,
    folders_of,
    is_installed,
    parse,
    read_source,
)
from daskmr.job.tracebacks import short_repr

__all__ = ["Code", "load_job"]


class Code(str):
    """The text of a script, in place of its path; it may import files in the working directory."""

    __slots__ = ()


def load_job(
    source: Any, params: Mapping[str, Any] | None = None, files: Any = None, py_files: Any = ()
) -> Job:
    """Load and check a job script before any work.

    - `source`: a script's path, or its text as `Code`; a module, whose file is used as the script unless it is part of a
      package or installed; a `Job`, which is returned unchanged; or a list of these, the steps.
    - `params`: values of the scripts' parameters, by name.
    - `files`: files to send with all scripts, as in `daskmr.job.shipped.given.given_files`.
    - `py_files`: folders and zip archives with modules that the scripts import.
    Raises `InputError` if a script cannot be read or run, if its functions do not fit a job, if a
    parameter is missing, unknown or of another type, or if a file is missing.
    """
    params, given = check_given(params), _Given(given_files(files), check_py_files(py_files))
    sources = source if isinstance(source, list | tuple) else [source]
    if not sources:
        raise InputError("A list of jobs needs at least one: mapreduce([first, second], ...).")
    jobs = [_load(each, values_for(params, place), given) for place, each in enumerate(sources)]
    _refuse_unknown(
        params, [job for job, each in zip(jobs, sources, strict=True) if job is not each]
    )
    job = jobs[0] if len(jobs) == 1 else chained(jobs)
    if isinstance(params, FromFile):
        job.params_file = params.path
    return job


class _Given(NamedTuple):
    """What is sent with each script."""

    files: Mapping[str, str]  # paths by name
    py_files: Sequence[str]


def _load(source: Any, params: Mapping[str, Any], given: _Given) -> Job:
    if isinstance(source, types.ModuleType):
        source = _load_module(source, params, given)
    if isinstance(source, Job):
        if source.path is None and given.py_files:
            raise InputError(
                "--py-files (py_files) are the modules of a script, but the job is functions that are "
                "loaded already. Give the path of a script."
            )
        return with_files(source, given.files)
    if isinstance(source, Code):
        return _load_text(textwrap.dedent(source), os.path.join(os.getcwd(), CODE), params, given)
    if isinstance(source, str | bytes | os.PathLike):
        return _load_script(os.fsdecode(source), params, given)
    raise InputError(
        f"A job is the path of a script, a module, or a daskmr.Job of functions, not {short_repr(source)}."
    )


def _refuse_unknown(params: Mapping[str, Any], jobs: Sequence[Job]) -> None:
    """Raise InputError for a parameter that no script declares.

    - `jobs`: those that were loaded with the parameters.
    """
    declared = {job.path: job.declared_params for job in jobs if job.path is not None}
    if declared:
        scripts = [*map(os.path.basename, declared)]
        refuse_unknown(params, chain.from_iterable(declared.values()), scripts)
    elif params:
        raise InputError(
            f"The parameter {next(iter(params))} has no effect on functions that are passed from Python, "
            "since they are loaded already. Pass the path of a script that calls daskmr.param, or set the "
            "variables that the functions use."
        )


def _load_module(module: types.ModuleType, params: Mapping[str, Any], given: _Given) -> Job:
    """Use the file of a top-level module as the script, and only the functions of other modules."""
    filename = getattr(module, "__file__", None) or ""
    in_package = "." in module.__name__ or hasattr(module, "__path__")
    is_script = filename.endswith(".py") and os.path.isfile(filename)
    is_main = module.__name__ == "__main__"
    if is_script and not (is_main or in_package or is_installed(filename)):
        return _load_script(filename, params, given)
    where = f"The module {module.__name__!r}"
    if steps := steps_in(vars(module), where):
        return chained(steps)
    tops = {module.__name__.partition(".")[0]}
    functions, passed_over = choose_functions(vars(module), where, lambda top, _: top in tops)
    named = functions._asdict()
    job = Job(named.pop("map"), **named)
    job.passed_over = passed_over
    job.declare(vars(module))
    return job


def _load_script(script: str, params: Mapping[str, Any], given: _Given) -> Job:
    path = absolute(check_path(script))  # not a link's target: a script may read its own name
    return _load_text(read_source(path), path, params, given)


def _load_text(text: str, path: str, params: Mapping[str, Any], given: _Given) -> Job:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # running the script will compile it and warn again
        sources, unused = collect_with(path, text, parse(text, path), given.py_files)
    name = Path(path).stem.strip("<>")
    script = Script(name, path, sources, params, shipped=Files(given.files, folders_of(path)))
    job = Job.of(script)
    with job.activate():
        job.add_notes((*unused, *script.settle()))
    return remember(job)
