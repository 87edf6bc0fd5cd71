"""Load a job from a script, a module, or a list of these."""

from __future__ import annotations

import os
import textwrap
import types
import warnings
from collections.abc import Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from daskmr.errors import InputError
from daskmr.job.check import choose_functions
from daskmr.job.job import CODE, Job, chained, remember, steps_in
from daskmr.job.params.given import check_given, refuse_unknown, values_for
from daskmr.job.script import Script
from daskmr.job.sources import absolute, check_path, collect, is_installed, parse, read_source
from daskmr.job.tracebacks import short_repr

__all__ = ["Code", "load_job"]


class Code(str):
    """The text of a script, in place of its path; it may import files in the working directory."""

    __slots__ = ()


def load_job(source: Any, params: Mapping[str, Any] | None = None) -> Job:
    """Load and check a job script before any work.

    - `source`: a script's path, or its text as `Code`; a module, whose file is used as the script unless it is part of a
      package or installed; a `Job`, which is returned unchanged; or a list of these, the steps.
    - `params`: values of the scripts' parameters, by name.
    Raises `InputError` if a script cannot be read or run, if its functions do not fit a job, or if a
    parameter is missing, unknown or of another type.
    """
    params = check_given(params)
    sources = source if isinstance(source, list | tuple) else [source]
    if not sources:
        raise InputError("A list of jobs needs at least one: mapreduce([first, second], ...).")
    jobs = [_load(each, values_for(params, place)) for place, each in enumerate(sources)]
    _refuse_unknown(
        params, [job for job, each in zip(jobs, sources, strict=True) if job is not each]
    )
    return jobs[0] if len(jobs) == 1 else chained(jobs)


def _load(source: Any, params: Mapping[str, Any]) -> Job:
    if isinstance(source, Job):
        return source
    if isinstance(source, types.ModuleType):
        return _load_module(source, params)
    if isinstance(source, Code):
        return _load_text(textwrap.dedent(source), os.path.join(os.getcwd(), CODE), params)
    if isinstance(source, str | bytes | os.PathLike):
        return _load_script(os.fsdecode(source), params)
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


def _load_module(module: types.ModuleType, params: Mapping[str, Any]) -> Job:
    """Use the file of a top-level module as the script, and only the functions of other modules."""
    filename = getattr(module, "__file__", None) or ""
    in_package = "." in module.__name__ or hasattr(module, "__path__")
    is_script = filename.endswith(".py") and os.path.isfile(filename)
    is_main = module.__name__ == "__main__"
    if is_script and not (is_main or in_package or is_installed(filename)):
        return _load_script(filename, params)
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


def _load_script(given: str, params: Mapping[str, Any]) -> Job:
    path = absolute(check_path(given))  # not a link's target: a script may read its own name
    return _load_text(read_source(path), path, params)


def _load_text(text: str, path: str, params: Mapping[str, Any]) -> Job:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # running the script will compile it and warn again
        sources = collect(path, text, parse(text, path))
    name = Path(path).stem.strip("<>")
    script = Script(name, path, sources, params)
    job = Job.of(script)
    with job.activate():
        script.settle()
    return remember(job)
