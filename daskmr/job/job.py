"""The user's script: load it, and ship it to workers as source."""

from __future__ import annotations

import os
import textwrap
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

from daskmr.errors import InputError, Interrupted
from daskmr.job.check import (
    Function,
    Functions,
    check_functions,
    choose_functions,
    explain_load_failure,
    hint_for,
    notes_on,
)
from daskmr.job.declared import Declared, declared_in, notes_on_declared
from daskmr.job.process_errors import no_children
from daskmr.job.script import InlineFunctions, Script
from daskmr.job.sources import (
    Sources,
    absolute,
    check_path,
    collect,
    is_installed,
    parse,
    read_source,
)
from daskmr.job.tracebacks import short_repr

__all__ = ["Code", "Job", "load_job"]

_JOBS_KEPT = 32
_CODE = "<code>"  # the file name of a script that is given as text


class Job:
    """The four functions of a job, with everything that they need to run in another process.

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
    columns : sequence of str, optional
        The names of the columns of the output: of the parts of the key, then those of the value.
        If the input is CSV or TSV, they may be meant for that: prefer the next two.
    input_columns, output_columns : sequence of str, optional
        The names of the columns of CSV or TSV without a header, and of the output.
    read : callable, optional
        ``read(stream, dims)``, which yields keys and values, for input in a format of its own
    sort_values : bool or callable, optional
        Pass the values of each key to `reduce` in order: of the values, or of ``sort_values(value)``.

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
    ) -> None:
        functions = Functions(map, combine, reduce, setup_reduce, read, sort_values or None)
        check_functions(functions, "The job")
        self._take(InlineFunctions((*functions,)), functions)
        self._declared = Declared(
            columns=columns, input_columns=input_columns, output_columns=output_columns
        )

    @classmethod
    def _of(cls, source: Script | InlineFunctions) -> Job:
        job = cls.__new__(cls)
        job._take(source, None)
        return job

    def _take(self, source: Script | InlineFunctions, functions: Functions | None) -> None:
        self._source, self._functions = source, functions
        self._passed_over: Mapping[str, str] = {}
        self._declared = Declared()
        self._declared_notes: tuple[str, ...] = ()
        self.name: str = source.name
        self.path: str | None = source.path
        self.files: Mapping[str, str] = source.files
        self.texts: Mapping[str, str] = source.texts
        self.module_name: str | None = source.module_name
        self.unused: tuple[str, ...] = source.unused

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
    def read(self) -> Function | None:
        """The user's ``read``, for input in a format of its own."""
        return self._loaded().read

    @property
    def sort_values(self) -> Any:
        """The order of the values that `reduce` gets: ``True``, a function of a value, or ``None``."""
        return self._loaded().sort_values

    @property
    def declared(self) -> Declared:
        """What the script declares at its top level; empty for inline functions."""
        self._loaded()
        return self._declared

    @property
    def code(self) -> str | None:
        """The text of a script that is in no file."""
        is_code = self.path is not None and os.path.basename(self.path) == _CODE
        return self.files[_CODE] if is_code else None

    @property
    def digest(self) -> str:
        """SHA-256 of everything that is shipped, in hex."""
        return self._source.digest

    @property
    def data(self) -> Mapping[str, bytes]:
        """The other shipped files of the script's packages, by name like `files`."""
        return self._source.data

    @property
    def notes(self) -> tuple[str, ...]:
        """Notes on files and functions of the script that are not used."""
        self._loaded()
        return (*notes_on(self, self._passed_over), *self._declared_notes)

    def _declare(self, namespace: Mapping[str, Any]) -> None:
        self._declared = declared_in(namespace)
        self._declared_notes = (*notes_on_declared(namespace),)

    def hint(self, exc: BaseException) -> str:
        """Return advice on an exception that is caused by the location of the script's files, or ""."""
        return hint_for(self, exc)

    def is_user_file(self, filename: str) -> bool:
        """Check whether the `filename` in a traceback belongs to the user's code."""
        return filename in self.texts

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Activate the job in a block that runs the user's code or unpickles the user's values.

        Within it the job's modules can be imported by their names, and the working directory is the
        one that they have changed to; afterwards both are restored. One job is active in a process
        at a time, and other threads wait. Leave such blocks in the reverse order of entering.
        """
        with _activated(self._source):
            self._loaded()
            yield

    @property
    def is_loaded(self) -> bool:
        """Check whether the functions are loaded in this process."""
        return self._functions is not None

    def _loaded(self) -> Functions:
        if self._functions is None:
            with _activated(self._source):
                if self._functions is None:  # no other thread has loaded it
                    self._functions, self._passed_over = self._load()
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
        except BaseException as exc:
            failure = explain_load_failure(self, exc)
        else:
            if isinstance(source, Script):
                self._declare(loaded)
                return choose_functions(loaded, source.path, source.is_own)
            return Functions(*loaded), {}
        raise failure  # outside of the handler, so it does not refer to the user's exception

    def __reduce__(self) -> tuple[Callable[..., Job], tuple[Any, ...]]:
        source = self._source
        if isinstance(source, Script):
            return _restore_script, (source.name, source.path, source.digest, source.sources)
        blob = source.pickled()
        return _restore_functions, (blob, sha256(blob).hexdigest(), source.files)

    def __repr__(self) -> str:
        return f"<Job {self.path or self.name}>"


class Code(str):
    """The text of a script, in place of its path; it may import files in the working directory."""

    __slots__ = ()


def load_job(source: str | os.PathLike[str] | types.ModuleType | Job) -> Job:
    """Load and check a job script before any work.

    - `source`: a script's path, or its text as `Code`; a module, whose file is used as the script unless it is part of a
      package or installed; or a `Job`, which is returned unchanged.
    Raises `InputError` if the script cannot be read or run, or if its functions do not fit a job.
    """
    if isinstance(source, Job):
        return source
    if isinstance(source, types.ModuleType):
        return _load_module(source)
    if isinstance(source, Code):
        return _load_text(textwrap.dedent(source), os.path.join(os.getcwd(), _CODE))
    if isinstance(source, str | bytes | os.PathLike):
        return _load_script(os.fsdecode(source))
    raise InputError(
        f"A job is the path of a script, a module, or a daskmr.Job of functions, not {short_repr(source)}."
    )


def _load_module(module: types.ModuleType) -> Job:
    """Use the file of a top-level module as the script, and only the functions of other modules."""
    filename = getattr(module, "__file__", None) or ""
    in_package = "." in module.__name__ or hasattr(module, "__path__")
    is_script = filename.endswith(".py") and os.path.isfile(filename)
    is_main = module.__name__ == "__main__"
    if is_script and not (is_main or in_package or is_installed(filename)):
        return _load_script(filename)
    where = f"The module {module.__name__!r}"
    tops = {module.__name__.partition(".")[0]}
    functions, passed_over = choose_functions(vars(module), where, lambda top, _: top in tops)
    job = Job(*functions[:4], read=functions.read, sort_values=functions.sort_values)
    job._passed_over = passed_over
    job._declare(vars(module))
    return job


def _load_script(given: str) -> Job:
    path = absolute(check_path(given))  # not a link's target: a script may read its own name
    return _load_text(read_source(path), path)


def _load_text(text: str, path: str) -> Job:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # running the script will compile it and warn again
        sources = collect(path, text, parse(text, path))
    name = Path(path).stem.strip("<>")
    job = Job._of(Script(name, path, sources.digest(), sources))
    with _JOBS_LOCK:
        _JOBS.pop((path, job.digest), None)  # a new load runs the script again
    job._loaded()
    return _memoised((path, job.digest), lambda: job)


# --- one process: the jobs it has loaded, and the one that is active ------------------------------

_JOBS: dict[tuple[str | None, str], Job] = {}
# Separate from _ACTIVATION, because Dask's event loop unpickles, and must not wait for user code.
_JOBS_LOCK = threading.Lock()
_ACTIVATION = threading.RLock()
_active: Script | InlineFunctions | None = None


def _memoised(key: tuple[str | None, str], make: Callable[[], Job]) -> Job:
    with _JOBS_LOCK:
        job = _JOBS.pop(key, None) or make()
        _JOBS[key] = job  # now the last: the first one is the least recently used
        while len(_JOBS) > _JOBS_KEPT:
            del _JOBS[next(iter(_JOBS))]
    return job


def _restore_script(name: str, path: str, digest: str, sources: Sources) -> Job:
    return _memoised((path, digest), lambda: Job._of(Script(name, path, digest, sources)))


def _restore_functions(blob: bytes, digest: str, files: dict[str, str]) -> Job:
    return _memoised((None, digest), lambda: Job._of(InlineFunctions(blob=blob, files=files)))


@contextmanager
def _activated(source: Script | InlineFunctions) -> Iterator[None]:
    global _active
    with _ACTIVATION:
        before = _active
        if before is source:
            yield
            return
        if before is not None:
            before.leave()
        source.enter()
        _active = source
        try:
            with _working_directory_of(source):
                yield
        finally:
            source.leave()
            if before is not None:
                before.enter()
            _active = before


@contextmanager
def _working_directory_of(source: Script | InlineFunctions) -> Iterator[None]:
    """Hide a script's changes of the working directory from the run, whose paths may be relative."""
    before = _working_directory()
    if source.directory is not None:
        with suppress(FileNotFoundError):  # the script will notice when it opens a file there
            os.chdir(source.directory)
    try:
        yield
    finally:
        directory = _working_directory()
        source.directory = None if directory == before else directory
        if before is not None and directory != before:
            os.chdir(before)


def _working_directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # the directory has been removed
        return None
