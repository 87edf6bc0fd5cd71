"""The user's script: load it, and ship it to workers as source."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import chain
from typing import Any, TypeVar, Unpack

from daskmr.errors import InputError, Interrupted
from daskmr.job.activation import activated
from daskmr.job.check import (
    Function,
    Functions,
    Hooks,
    check_functions,
    choose_functions,
    explain_load_failure,
    hint_for,
    notes_on,
    take_hooks,
)
from daskmr.job.declared import Declared, declared_in, notes_on_declared, notes_on_steps
from daskmr.job.params.declared import Kept, Parameter
from daskmr.job.params.given import ParameterError
from daskmr.job.process_errors import no_children
from daskmr.job.script import InlineFunctions, Script, Source
from daskmr.job.shipped.contents import Sent
from daskmr.job.shipped.file import Files
from daskmr.job.shipped.given import given_files
from daskmr.job.shipped.places import Delivery
from daskmr.job.tracebacks import short_repr
from daskmr.text import shorten

__all__ = [
    "CODE", "Job", "after", "chained", "describe_params", "describe_steps", "forget", "function_names",
    "remember", "steps_in", "with_files",
]  # fmt: skip

_JOBS_KEPT = 32
_SHOWN = 60  # characters of the value of a parameter
_T = TypeVar("_T")
CODE = "<code>"
"""The file name of a script that is given as text."""


class _HasFunctions:
    """The user's functions, which are loaded when one is first accessed."""

    def _loaded(self) -> Functions:
        raise NotImplementedError

    @property
    def map(self) -> Function:
        """The user's ``map``."""
        return self._loaded().map

    @property
    def combine(self) -> Function | None:
        """The user's ``combine``."""
        return self._loaded().combine

    @property
    def reduce(self) -> Function | None:
        """The user's ``reduce``."""
        return self._loaded().reduce

    @property
    def setup_reduce(self) -> Function | None:
        """The user's ``setup_reduce``."""
        return self._loaded().setup_reduce

    @property
    def setup_map(self) -> Function | None:
        """The user's ``setup_map``."""
        return self._loaded().setup_map

    @property
    def finish_map(self) -> Function | None:
        """The user's ``finish_map``, by either of its names."""
        return self._loaded().finish_map

    @property
    def finish_reduce(self) -> Function | None:
        """The user's ``finish_reduce``."""
        return self._loaded().finish_reduce

    @property
    def read(self) -> Function | None:
        """The user's ``read``, for input in a format of its own."""
        return self._loaded().read

    @property
    def sort_values(self) -> Any:
        """The order of the values that `reduce` gets: ``True``, a function of a value, or ``None``."""
        return self._loaded().sort_values


class _HasSource(_HasFunctions):
    """What a job is made of, which its source has."""

    _source: Source
    path: str | None
    files: Mapping[str, str]

    @property
    def code(self) -> str | None:
        """The text of a script that is in no file."""
        is_code = self.path is not None and os.path.basename(self.path) == CODE
        return self.files[CODE] if is_code else None

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is shipped, in hex."""
        return self._source.digest

    @property
    def params(self) -> Mapping[str, Any]:
        """The values of the script's parameters, as plain data, where that can stand for them."""
        self._loaded()
        given = self._source.params.given if isinstance(self._source, Script) else {}
        return {name: value for name, value in given.items() if not isinstance(value, Kept)}

    @property
    def declared_params(self) -> Mapping[str, Parameter]:
        """The parameters that the script has declared."""
        self._loaded()
        return self._source.params.declared if isinstance(self._source, Script) else {}

    @property
    def shipped(self) -> Files:
        """The files that are sent with the job."""
        return self._source.shipped

    @property
    def py_files(self) -> tuple[str, ...]:
        """The folders and archives where the modules of the script were searched, beside its own."""
        return self._source.sources.py_files if isinstance(self._source, Script) else ()

    @property
    def data(self) -> Mapping[str, bytes]:
        """The other shipped files of the script's packages, by name like `files`."""
        return self._source.data


class Job(_HasSource):
    """The functions of a job, with everything that they need to run in another process.

    It is created from functions that are defined inline, or by `load_job` from a script. Pickling
    ships a script as source text, and inline functions by value. Either is loaded when a function is
    first accessed, once in each process.

    - `name`: the script's name without its extension, or ``"job"``.
    - `path`, `module_name`: the script's absolute path, and the name of its module; ``None`` for
      inline functions.
    - `files`: source text by file name, relative to the script's folder (inline: as compiled).
    - `texts`: source text by absolute file name.
    - `unused`: files beside the script that are not used, because other modules have their names.

    Parameters
    ----------
    map : callable
        ``map(key, dims, value, context)``
    combine, reduce : callable, optional
        ``combine(key, values, context)`` and ``reduce(key, values, context)``
    setup_reduce : callable, optional
        ``setup_reduce(context)``
    setup_map, finish_map, finish_reduce : callable, optional
        Hooks ``setup_map(context)``, ``finish_map(context)`` (or ``map_finished``) and
        ``finish_reduce(context)``: before the first and after the last record of a partition, and
        after the last key of a reducer.
    columns : sequence of str, optional
        The names of the columns of the output: of the parts of the key, then those of the value.
        If the input is CSV or TSV, they may be meant for that: prefer the next two.
    input_columns, output_columns : sequence of str, optional
        The names of the columns of CSV or TSV without a header, and of the output.
    read : callable, optional
        ``read(stream, dims)``, which yields keys and values, for input in a format of its own
    sort_values : bool or callable, optional
        Pass the values of each key to `reduce` in order: of the values, or of ``sort_values(value)``.
    files : list of paths or dict, optional
        Files and directories to send to the workers, where the functions find them by `daskmr.file`;
        with a dict, by other names than their own.

    Raises
    ------
    InputError
        If a function is not callable, is a generator or ``async``, or has other arguments; and,
        during pickling, if one refers to objects that cannot leave this process.

    Examples
    --------
    >>> job = Job(map=lambda key, dims, value, context: context.write(dims[0], 1))
    >>> job.name, job.path, job.reduce
    ('job', None, None)
    """

    def __init__(
        self,
        map: Function,
        combine: Function | None = None,
        reduce: Function | None = None,
        setup_reduce: Function | None = None,
        *,
        columns: Sequence[str] | None = None,
        input_columns: Sequence[str] | None = None,
        output_columns: Sequence[str] | None = None,
        read: Function | None = None,
        sort_values: Any = None,
        files: Any = None,
        **hooks: Unpack[Hooks],
    ) -> None:
        rest = dict[str, Any](**hooks)
        given = take_hooks(rest, "The job")
        if rest:
            raise TypeError(f"daskmr.Job takes no argument {min(rest)!r}")
        plain = Functions(map, combine, reduce, setup_reduce, read, sort_values=sort_values or None)
        functions = plain._replace(**given)  # type: ignore[misc]  # the old name is removed
        check_functions(functions, "The job")
        shipped = Files(given_files(files))
        (*shipped.settle({}),)
        self._take(InlineFunctions((*functions,), shipped=shipped), functions)
        self._declared = Declared(
            columns=columns, input_columns=input_columns, output_columns=output_columns
        )

    @classmethod
    def of(cls, source: Source) -> Job:
        """Return the job of a source that may not be loaded yet."""
        job = cls.__new__(cls)
        job._take(source, None)
        return job

    def _take(self, source: Source, functions: Functions | None) -> None:
        self._source, self._functions = source, functions
        self._number, self._is_listed = 0, False  # the place in the `steps` of a script
        self._chain: tuple[Job, ...] = (self,)
        self.passed_over: Mapping[str, str] = {}
        self._delivery = Delivery()
        self._declared = Declared()
        self._declared_notes: tuple[str, ...] = ()
        self._output_names: Any = None  # of a step in the `steps` of a script
        self.name: str = source.name
        self.path: str | None = source.path
        self.files: Mapping[str, str] = source.files
        self.texts: Mapping[str, str] = source.texts
        self.module_name: str | None = source.module_name
        self.unused: tuple[str, ...] = source.unused
        self.params_file: str | None = None  # which the output must not replace

    @property
    def steps(self) -> tuple[Job, ...]:
        """The steps of the job, which is the first of them; only itself if it has no others."""
        self._loaded()
        return self._chain

    @property
    def step_name(self) -> str:
        """A name for the job as a step: that of its script, of its `map`, or of the module of that."""
        own = getattr(self.map, "__name__", "")
        if self.path is not None and not self._is_listed:
            return self.name
        if own == "map" and self.path is not None and self.map.__module__ != self.module_name:
            own = self.map.__module__.rpartition(".")[2]
        return own if own.isidentifier() and own != "map" else ""

    def step_label(self, number: int) -> str:
        """Return what messages call a step of the job, such as ``"step 2 of 3 (totals)"``."""
        steps = self.steps
        name = steps[number - 1].step_name
        return f"step {number} of {len(steps)}{f' ({name})' if name else ''}"

    @property
    def scripts(self) -> tuple[Job, ...]:
        """The first step of each script; without scripts, all steps."""
        return tuple(step for step in self.steps if not step._number)

    @property
    def sent(self) -> list[Sent]:
        """The files that are sent with the steps, of which several may share some."""
        return [each for step in self.steps for each in step.shipped.sent.values()]

    @property
    def declared(self) -> Declared:
        """What the script declares at its top level; empty for inline functions."""
        self._loaded()
        return self._declared

    @property
    def output_names(self) -> Any:
        """The names of the columns of what this job, or step, writes, as they are."""
        own = self.declared.names_of_output
        return self._output_names if self._is_listed else own

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on files and functions of the scripts that are not used."""
        of_each = ((*notes_on(s, s.passed_over), *s._declared_notes) for s in self.scripts)
        return tuple(dict.fromkeys(chain.from_iterable(of_each)))

    def declare(self, namespace: Mapping[str, Any]) -> None:
        """Take what the top level of a script or module declares."""
        self._declared = declared_in(namespace)
        self._declared_notes = (*notes_on_declared(namespace),)

    def add_notes(self, notes: Iterable[str]) -> None:
        """Add notes to those on what the script declares."""
        self._declared_notes += (*notes,)

    def hint(self, exc: BaseException) -> str:
        """Return advice on an exception that is caused by the location of the script's files, or ""."""
        return hint_for(self, exc)

    def is_user_file(self, filename: str) -> bool:
        """Check whether the `filename` in a traceback belongs to the user's code."""
        return filename in self.texts

    def delivered(self, delivery: Delivery) -> Job:
        """Return this job for workers that get its environment variables and files as described."""
        job = _twin(self)
        job._delivery = delivery
        job._chain = (job, *(step.delivered(delivery) for step in self._chain[1:]))
        return job

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Activate the job in a block that runs the user's code or unpickles the user's values.

        Within it the job's modules can be imported by their names, and the working directory is the
        one that they have changed to; afterwards both are restored. One job is active in a process
        at a time, and other threads wait. Leave such blocks in the reverse order of entering.
        """
        with activated(self._source):
            self._loaded()
            yield

    @property
    def is_loaded(self) -> bool:
        """Check whether the functions are loaded in this process."""
        return self._functions is not None

    def _loaded(self) -> Functions:
        if self._functions is None:
            with activated(self._source):
                if self._functions is None:  # no other thread has loaded it
                    self._functions, self.passed_over = self._load()
        return self._functions

    def _load(self) -> tuple[Functions, dict[str, str]]:
        process, source = os.getpid(), self._source
        try:
            with no_children():
                loaded: Any = source.load()
            if os.getpid() != process:
                os._exit(0)  # a child that the script forked must not run the job
        except (KeyboardInterrupt, Interrupted):
            raise
        except ParameterError as exc:
            failure: InputError = exc.with_traceback(None)
        except BaseException as exc:
            failure = explain_load_failure(self, exc)
        else:
            if isinstance(source, Script):
                self.declare(loaded)
                if steps := steps_in(loaded, source.path):
                    return _take_step(self, loaded, steps), {}
                return choose_functions(loaded, source.path, source.is_own)
            return Functions(*loaded), {}
        raise failure  # outside of the handler, so it does not refer to the user's exception

    def __reduce__(self) -> tuple[Callable[..., Job], tuple[Any, ...]]:
        source = self._source
        if isinstance(source, Script):
            script = source.packed()
            return _restore_script, (script, self._number, self._delivery, source.before)
        blob = source.pickled()
        functions = blob, source.digest_of(blob), source.files, source.shipped
        return _restore_functions, (*functions, self._delivery, source.before)

    def __repr__(self) -> str:
        return f"<Job {self.path or self.name}>"


def function_names(job: Job) -> tuple[str, ...]:
    """Return the names of the functions of a job, with `sort_values`.

    >>> function_names(Job(map=print, sort_values=True))
    ('map', 'sort_values')
    """
    return tuple(name for name, function in job._loaded()._asdict().items() if function)


def describe_steps(job: Job) -> tuple[str, ...]:
    """Return the functions of each step, in words; nothing for a job of one step."""
    return tuple(
        f"{job.step_label(number)}: {', '.join(function_names(step))}"
        for number, step in enumerate(job.steps, 1)
        if len(job.steps) > 1
    )


def describe_params(job: Job) -> tuple[str, ...]:
    """Return the parameters of each script, such as ``"least = 8"`` or ``"least = 5 (default)"``."""
    return tuple(
        f"{name} = {shorten(str(declared.value), _SHOWN)}"
        + ("" if declared.is_given else " (default)")
        + ("" if script is job else f" in {os.path.basename(script.path or '')}")
        for script in job.scripts
        for name, declared in script.declared_params.items()
    )


def with_files(job: Job, given: Mapping[str, str]) -> Job:
    """Return a job of functions from Python with more files, by name; that of a script unchanged."""
    if not given or job.path is not None:
        return job
    steps = [_twin(step) for step in job.steps]
    for step in steps:
        step._source, step._chain = _twin(step._source), (step,)
        step._source.shipped = Files({**step.shipped.given, **given})
        (*step.shipped.settle({}),)
    return chained(steps) if steps[1:] else steps[0]


def _step(first: Job, number: int) -> Job:
    """Return another step of a script; it may not be loaded yet."""
    job = Job.of(first._source)
    job._number = number
    return job


def _take_step(job: Job, namespace: Mapping[str, Any], steps: Sequence[Job]) -> Functions:
    """Return the functions of this step of a script; the first one also gets the others."""
    own, job._is_listed = steps[job._number], True
    of_script, job._declared = job._declared, own._declared
    if own.shipped.sent:
        raise InputError(
            f"{job.path}: step {job._number + 1} of `steps` has files of its own. All steps of a script "
            f"share its files: write files = [...] at its top level."
        )
    if job._number in (0, len(steps) - 1):  # a script's declarations are about input and output
        job._declared = own._declared.over(of_script)
    job._declared = job._declared._replace(sort_values=None)  # it is that of a step
    of_output = job if job._number == len(steps) - 1 else own
    job._output_names = of_output._declared.names_of_output
    if not job._number:
        functions = [each._loaded() for each in steps]
        job._declared_notes += (*notes_on_steps(namespace, functions),)
        job._chain = (job, *(_step(job, number) for number in range(1, len(steps))))
    return own._loaded()


def after(job: Job, before: Job) -> Job:
    """Return a copy of a job, which reads values of the classes of the step before."""
    job, source = _twin(job), before._source
    if job.path is None or (job.path, job.digest) != (source.path, source.digest):
        source = _twin(job._source)
        source.before = before._source
    job._source, job._chain, job._delivery = source, (job,), before._delivery
    return job


def _twin(original: _T) -> _T:
    """Return a copy that shares everything with the original, so also what it has loaded."""
    twin = object.__new__(type(original))
    twin.__dict__.update(original.__dict__)
    return twin


def chained(jobs: Iterable[Job]) -> Job:
    """Return the first of several jobs, with the steps of all."""
    first, *rest = (step for job in jobs for step in job.steps)
    linked = [_twin(first)]
    for step in rest:
        linked.append(after(step, linked[-1]))
    linked[0]._chain = (*linked,)
    return linked[0]


def steps_in(namespace: Mapping[str, Any], where: str) -> tuple[Job, ...]:
    """Return the `steps` of a script; a script may use the name for anything but jobs."""
    steps = namespace.get("steps")
    if isinstance(steps, Job):
        raise InputError(f"{where}: `steps` is a Job. Write a list: steps = [Job(...), ...].")
    if not isinstance(steps, list | tuple) or not any(isinstance(step, Job) for step in steps):
        return ()
    for number, step in enumerate(steps, 1):
        if not isinstance(step, Job) or len(step._chain) > 1:
            raise InputError(
                f"{where}: step {number} of `steps` is {short_repr(step)}, not a Job. Write each as "
                "Job(map=..., reduce=...), with `from daskmr import Job`."
            )
    return (*steps,)


# --- one process: the jobs it has loaded -----------------------------------------------------------

_JOBS: dict[tuple[Any, ...], Job] = {}
# Separate from that of activation, because Dask's event loop unpickles, and must not wait for user code.
_JOBS_LOCK = threading.Lock()


def _memoised(key: tuple[Any, ...], make: Callable[[], Job]) -> Job:
    with _JOBS_LOCK:
        job = _JOBS.pop(key, None) or make()
        _JOBS[key] = job  # now the last: the first one is the least recently used
        while len(_JOBS) > _JOBS_KEPT:
            del _JOBS[next(iter(_JOBS))]
    return job


def _restore_script(
    packed: tuple[Any, ...], number: int, delivery: Delivery, before: Source | None
) -> Job:
    path, module_name, digest = packed[1], *packed[-3:-1]
    key = path, digest + "".join(delivery), module_name, *_lineage(before)
    first = _restored(key, partial(Script, *packed), delivery, before)
    # All steps of a script share its modules.
    return _memoised((*key, number), lambda: _step(first, number)) if number else first


def _restore_functions(
    blob: bytes,
    digest: str,
    files: dict[str, str],
    shipped: Files,
    delivery: Delivery,
    before: Source | None,
) -> Job:
    make = partial(InlineFunctions, blob=blob, files=files, shipped=shipped)
    key = None, digest + "".join(delivery), *_lineage(before)
    return _restored(key, make, delivery, before)


def _restored(
    key: tuple[Any, ...], make: Callable[[], Source], delivery: Delivery, before: Source | None
) -> Job:
    def restore() -> Job:
        source = make()
        source.delivery, source.before = delivery, before
        return Job.of(source)

    return _memoised(key, restore)


def _lineage(before: Source | None) -> tuple[str | None, ...]:
    if before is None:
        return ()
    return before.digest, before.module_name, *_lineage(before.before)


def remember(job: Job) -> Job:
    """Keep a job whose script was just run, in place of what earlier runs of it have loaded."""
    key = (job.path, job.digest)
    with _JOBS_LOCK:
        for each in [each for each in _JOBS if each[:2] == key]:
            del _JOBS[each]
    return _memoised((*key, job.module_name), lambda: job)


def forget(token: str) -> None:
    """Forget the jobs of this process that were loaded for a run, or with what it has sent beside them.

    - `token`: one of those in their `Delivery`.
    """
    with _JOBS_LOCK:
        for key in [key for key, job in _JOBS.items() if token in job._source.delivery]:
            del _JOBS[key]
