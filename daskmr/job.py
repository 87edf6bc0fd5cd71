"""The user's script: load it, check it, and ship it to workers as source."""

from __future__ import annotations

import difflib
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import linecache
import os
import pickle
import re
import sys
import threading
import types
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from daskmr.by_value import dumps
from daskmr.children import no_children
from daskmr.errors import InputError, Interrupted
from daskmr.memory import NEAR_LIMIT, OutOfMemory, explain_shortage
from daskmr.sources import (
    check_path,
    collect,
    is_installed,
    module_of,
    parse,
    prefixes,
    read_source,
    syntax_failure,
)
from daskmr.tracebacks import (
    describe_exception,
    explain_process_error,
    format_user_traceback,
    remember_lines,
    shorten,
    user_location,
)

__all__ = ["Job", "load_job"]

Function = Callable[..., Any]
Loaded = tuple[Mapping[str, Any], str]


class _Functions(NamedTuple):
    map: Function
    combine: Function | None
    reduce: Function | None
    setup_reduce: Function | None


_ARGUMENTS = {
    "map": ("key", "dims", "value", "context"),
    "combine": ("key", "values", "context"),
    "reduce": ("key", "values", "context"),
    "setup_reduce": ("context",),
}

_JOBS_KEPT = 32


# ---------------------------------------------------------------------------------------------
# The job


class Job:
    """The four functions of a job, whole with what they need to run in another process.

    Made of functions that are defined on the spot, or by `load_job` of a script. Pickling ships a
    script as source text and functions on the spot by value; either is loaded when a function is
    first asked for, once a process.

    Parameters
    ----------
    map : callable
        ``map(key, dims, value, context)``
    combine, reduce : callable, optional
        ``combine(key, values, context)`` and ``reduce(key, values, context)``
    setup_reduce : callable, optional
        ``setup_reduce(context)``

    Raises
    ------
    InputError
        For what is not callable, is a generator or ``async``, or takes other arguments; and, when
        pickled, for functions that refer to what can't leave this process.

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
    ) -> None:
        functions = _Functions(map, combine, reduce, setup_reduce)
        self._functions: _Functions | None = _check(functions._asdict(), "The job")
        self._source: _Script | _OnTheSpot = _OnTheSpot(functions)

    @classmethod
    def _of(cls, source: _Script | _OnTheSpot) -> Job:
        job = cls.__new__(cls)
        job._functions = None
        job._source = source
        return job

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
    def name(self) -> str:
        """The script's name without its extension, or ``"job"``."""
        return self._source.name

    @property
    def path(self) -> str | None:
        """The script's absolute path; ``None`` for functions defined on the spot."""
        return self._source.path

    @property
    def digest(self) -> str:
        """SHA-256, in hex, of the contents of all that is shipped."""
        return self._source.digest

    @property
    def files(self) -> Mapping[str, str]:
        """Source text by file name, relative to the script's folder (as compiled, on the spot)."""
        return self._source.files

    @property
    def module_name(self) -> str | None:
        """Name of the module that the script is loaded as; None for functions on the spot."""
        return self._source.module_name if isinstance(self._source, _Script) else None

    @property
    def texts(self) -> Mapping[str, str]:
        """Source text by absolute file name, as it was shipped."""
        return self._source.texts

    def is_user_file(self, filename: str) -> bool:
        """Whether a traceback's `filename` is of the user's code."""
        return filename in self._source.texts

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Run the user's code, and unpickle the user's values, inside of this.

        Meanwhile the job's modules are importable under their names; afterwards ``sys.modules`` is
        as it was. One job is active in a process at a time: another thread waits. Leave in the
        reverse order of entering.
        """
        with _activated(self._source):
            self._loaded()
            yield

    @property
    def is_loaded(self) -> bool:
        """Whether its functions are there, in this process."""
        return self._functions is not None

    def _loaded(self) -> _Functions:
        functions = self._functions
        if functions is None:
            with _activated(self._source):
                functions = self._functions = self._functions or _load(self)
        return functions

    def __reduce__(self) -> tuple[Callable[..., Job], tuple[Any, ...]]:
        return self._source.ship()

    def __repr__(self) -> str:
        return f"<Job {self.path or self.name}>"


def load_job(source: str | os.PathLike[str] | types.ModuleType | Job) -> Job:
    """Load a job script and check it before any work.

    Parameters
    ----------
    source : path, module or Job
        A script's path; a module, whose file is taken as the script unless it is part of a package
        or installed; a `Job`, which is returned as it is.

    Raises
    ------
    InputError
        When the script can't be read or run, or its functions are not as a job needs them.
    """
    if isinstance(source, Job):
        return source
    if isinstance(source, types.ModuleType):
        return _load_module(source)
    try:
        given = os.fsdecode(source)
    except TypeError:
        raise InputError(
            f"A job is the path of a script, a module, or a daskmr.Job of functions, not {_short_repr(source)}."
        ) from None
    return _load_script(given)


def _load_module(module: types.ModuleType) -> Job:
    """A top-level module is as good as its file; of others the functions are taken."""
    filename = getattr(module, "__file__", None) or ""
    in_package = "." in module.__name__ or hasattr(module, "__path__")
    is_script = filename.endswith(".py") and os.path.isfile(filename)
    if (
        module.__name__ != "__main__"
        and is_script
        and not in_package
        and not is_installed(filename)
    ):
        return _load_script(filename)
    functions = _check(vars(module), f"The module {module.__name__!r}")
    return Job(*functions)


def _load_script(given: str) -> Job:
    # The real path: beside a link's target is where its imports are, as for `python link.py`.
    path = os.path.realpath(check_path(given))
    text = read_source(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come once more, when the script is compiled to run
        tree = parse(text, path)
        files, imports_script = collect(path, text, tree)
    job = Job._of(_Script(Path(given).stem, path, _digest(files), files, imports_script))
    with _JOBS_LOCK:
        _JOBS.pop((path, job.digest), None)  # a new load runs the script anew
    job._loaded()
    return _memoised((path, job.digest), lambda: job)


# ---------------------------------------------------------------------------------------------
# One process: which jobs it knows, and which one is active

_JOBS: dict[tuple[str | None, str], Job] = {}
# Not _ACTIVATION: unpickling happens in Dask's event loop, which must not wait for user code.
_JOBS_LOCK = threading.Lock()
_ACTIVATION = threading.RLock()
_active: _Script | _OnTheSpot | None = None


def _memoised(key: tuple[str | None, str], make: Callable[[], Job]) -> Job:
    with _JOBS_LOCK:
        job = _JOBS.pop(key, None) or make()
        _JOBS[key] = job  # last in order: what was used longest ago is dropped first
        while len(_JOBS) > _JOBS_KEPT:
            del _JOBS[next(iter(_JOBS))]
    return job


def _restore_script(
    name: str, path: str, digest: str, files: dict[str, str], imports_script: bool
) -> Job:
    return _memoised(
        (path, digest), lambda: Job._of(_Script(name, path, digest, files, imports_script))
    )


def _restore_functions(blob: bytes, digest: str, files: dict[str, str]) -> Job:
    return _memoised((None, digest), lambda: Job._of(_OnTheSpot(blob=blob, files=files)))


@contextmanager
def _activated(source: _Script | _OnTheSpot) -> Iterator[None]:
    with _ACTIVATION:
        before = _active
        if before is source:
            yield
            return
        _switch(before, source)
        try:
            yield
        finally:
            _switch(source, before)


def _switch(leaving: _Script | _OnTheSpot | None, entering: _Script | _OnTheSpot | None) -> None:
    global _active
    if leaving is not None:
        leaving.leave()
    if entering is not None:
        entering.enter()
    _active = entering


# ---------------------------------------------------------------------------------------------
# Where the functions come from


class _OnTheSpot:
    """Functions of a notebook, of ``__main__``, lambdas, closures: shipped by value.

    They are pickled anew every time, since what they refer to may have changed meanwhile.
    """

    name = "job"
    path = None

    def __init__(
        self,
        functions: _Functions | None = None,
        blob: bytes = b"",
        files: dict[str, str] | None = None,
    ) -> None:
        self.functions = functions
        self._blob = blob
        self.files = _files_of(functions) if functions is not None else files or {}
        self.texts = self.files

    @property
    def digest(self) -> str:
        return hashlib.sha256(self._pickled()).hexdigest()

    def load(self) -> Loaded:
        if self.functions is None:
            self.functions = _Functions(*pickle.loads(self._blob))
        return self.functions._asdict(), "The job"

    def ship(self) -> tuple[Callable[..., Job], tuple[Any, ...]]:
        blob = self._pickled()
        return _restore_functions, (blob, hashlib.sha256(blob).hexdigest(), self.files)

    def _pickled(self) -> bytes:
        if self.functions is None:
            return self._blob
        try:
            return dumps(tuple(self.functions))
        except Exception as exc:
            reason = describe_exception(exc)
        raise InputError(
            f"The job's functions cannot be sent to worker processes ({reason}). Open files, locks, "
            "connections and the like inside the functions, instead of referring to them from there."
        )

    def enter(self) -> None:
        """Nothing of theirs has a name in ``sys.modules``."""

    leave = enter


class _Script(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """A script and its siblings as text; finder and loader of the modules made of it.

    Siblings go by the names they are imported under. The script's own module is named after the
    contents, so that what it defines pickles under a name that no other script has.
    """

    is_job = True  # by which `children` knows the functions of a script

    def __init__(
        self, name: str, path: str, digest: str, files: dict[str, str], imports_script: bool
    ) -> None:
        self.name, self.path, self.digest, self.files = name, path, digest, files
        self._imports_script = imports_script
        directory, script = os.path.split(path)
        self.texts = {os.path.join(directory, file): text for file, text in files.items()}
        self.module_name = re.sub(r"\W|^(?=\d)", "_", f"{name}_{digest[:12]}")
        self._filenames = {
            module_of(file): os.path.join(directory, file) for file in files if file != script
        }
        self._filenames[self.module_name] = path
        self._folders = {
            parent: os.path.join(directory, *parent.split("."))
            for module in self._filenames
            for parent in prefixes(module)
            if parent not in self._filenames
        }
        # A sibling that imports the script gets the script's module, not a second copy of it.
        self._alias = script.removesuffix(".py") if imports_script else None
        self._tops = {module.partition(".")[0] for module in self._filenames} | {
            self._alias or self.module_name
        }
        self._modules: dict[str, types.ModuleType] = {}
        self._hidden: dict[str, types.ModuleType] = {}
        self._size = 0

    def load(self) -> Loaded:
        remember_lines(self.texts)
        return vars(importlib.import_module(self.module_name)), self.path

    def ship(self) -> tuple[Callable[..., Job], tuple[Any, ...]]:
        return _restore_script, (
            self.name,
            self.path,
            self.digest,
            self.files,
            self._imports_script,
        )

    def enter(self) -> None:
        if any(top in sys.modules for top in self._tops):
            self._hidden = self._take()
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self)
        self._size = len(sys.modules)

    def leave(self) -> None:
        with suppress(ValueError):
            sys.meta_path.remove(self)
        # A look through all of sys.modules costs more than the rest together, so only after imports.
        if len(sys.modules) != self._size:
            self._modules = self._take()
        for name in self._modules:
            sys.modules.pop(name, None)
        sys.modules.update(self._hidden)
        self._hidden = {}

    def _take(self) -> dict[str, types.ModuleType]:
        names = [name for name in list(sys.modules) if name.partition(".")[0] in self._tops]
        return {name: sys.modules.pop(name) for name in names}

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname in self._filenames:
            return importlib.util.spec_from_loader(fullname, self)
        if fullname in self._folders:
            spec = importlib.machinery.ModuleSpec(fullname, None, is_package=True)
            spec.submodule_search_locations = [self._folders[fullname]]
            return spec
        return None

    def get_filename(self, fullname: str) -> str:
        try:
            return self._filenames[fullname]
        except KeyError:
            raise ImportError(f"not a module of {self.path}", name=fullname) from None

    def get_source(self, fullname: str) -> str:
        return self.texts[self.get_filename(fullname)]

    def is_package(self, fullname: str) -> bool:
        return (
            fullname != self.module_name
            and os.path.basename(self.get_filename(fullname)) == "__init__.py"
        )

    def exec_module(self, module: types.ModuleType) -> None:
        if self._alias is None or module.__name__ != self.module_name:
            super().exec_module(module)
            return
        sys.modules[self._alias] = module
        try:
            super().exec_module(module)
        except BaseException:
            sys.modules.pop(self._alias, None)
            raise


def _digest(files: Mapping[str, str]) -> str:
    sha = hashlib.sha256()
    for file, text in sorted(files.items()):
        for part in (os.fsencode(file), text.encode("utf-8", "surrogatepass")):
            sha.update(len(part).to_bytes(8, "big") + part)
    return sha.hexdigest()


def _files_of(functions: _Functions) -> dict[str, str]:
    seen: set[int] = set()
    names = {
        name
        for function in functions
        if function is not None
        for name in _code_files(function, seen)
    }
    return {name: "".join(linecache.getlines(name)) for name in sorted(names)}


def _code_files(function: Any, seen: set[int]) -> Iterator[str]:
    """Files of a function and of the functions it refers to in its module: a notebook has one a cell."""
    while isinstance(function, partial):
        function = function.func
    with suppress(ValueError):
        function = inspect.unwrap(function)
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        function = inspect.getattr_static(type(function), "__call__", None)
    if not isinstance(function, types.FunctionType) or id(function) in seen:
        return
    seen.add(id(function))
    yield function.__code__.co_filename
    if function.__module__ == "__main__":
        with suppress(ValueError):  # a cell that is still empty
            for other in inspect.getclosurevars(function).globals.values():
                if isinstance(other, types.FunctionType) and other.__module__ == "__main__":
                    yield from _code_files(other, seen)


# ---------------------------------------------------------------------------------------------
# Checks


def _load(job: Job) -> _Functions:
    process = os.getpid()
    try:
        with no_children():
            namespace, where = job._source.load()
        if os.getpid() != process:
            os._exit(0)  # a child that the script forked: the job is not its to run
    except (KeyboardInterrupt, Interrupted):
        raise
    except BaseException as exc:
        failure = _load_failure(job, exc)
    else:
        return _check(namespace, where)
    raise failure  # outside of the handler: it must not hold on to the user's exception


def _load_failure(job: Job, exc: BaseException) -> InputError:
    if isinstance(exc, OutOfMemory):
        exc = MemoryError(NEAR_LIMIT).with_traceback(exc.__traceback__)
    if isinstance(exc, SyntaxError) and job.is_user_file(exc.filename or ""):
        return syntax_failure(exc, exc.filename or "")
    place = user_location(job, exc) or ""
    where = os.path.join(os.path.dirname(job.path), place or job.path) if job.path else "The job"
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        return InputError(f"{where}: {_missing_module(job, exc.name)}")
    if isinstance(exc, SystemExit):
        reason = (
            "the script calls sys.exit while it is loaded, so its functions cannot be used. "
            'Move what it does as a program under `if __name__ == "__main__":`.'
        )
    else:
        reason = f"it fails while it is loaded: {describe_exception(exc)}"
        if isinstance(exc, MemoryError):
            explanation = explain_shortage("load")
        else:
            explanation = explain_process_error(exc, loading=True)
        if explanation:
            reason = f"{reason.removesuffix('.')}. {explanation}"
    return InputError(f"{where}: {reason}", format_user_traceback(job, exc))


_RENAMED = {
    "ConfigParser": "configparser", "cPickle": "pickle", "cStringIO": "io", "StringIO": "io",
    "HTMLParser": "html.parser", "httplib": "http.client", "Queue": "queue",
    "__builtin__": "builtins", "anydbm": "dbm", "urllib2": "urllib.request",
    "urlparse": "urllib.parse", "sets": "the builtin set", "imp": "importlib",
}  # fmt: skip


def _missing_module(job: Job, name: str) -> str:
    top = name.partition(".")[0]
    if top in _RENAMED:
        return f"there is no module {name!r} in this Python; what it had is in {_RENAMED[top]} now."
    if f"{top}.py" in job.files or f"{top}/__init__.py" in job.files:
        return f"there is no module {name!r} beside the script, though there is {top!r}."
    beside = ", or put its file beside the script" if job.path else ""
    return (
        f"the module {name!r} is missing. Install the package that has it (often "
        f"`pip install {top}`) in the environment of every worker as well as here{beside}."
    )


def _check(namespace: Mapping[str, Any], where: str) -> _Functions:
    if namespace.get("map") is None:
        raise InputError(_no_map(namespace, where))
    functions = _Functions(**{name: namespace.get(name) for name in _ARGUMENTS})  # type: ignore[arg-type]
    for name, function in functions._asdict().items():
        if function is not None:
            _check_function(name, function, where)
    return functions


def _no_map(namespace: Mapping[str, Any], where: str) -> str:
    names = {
        name.lower(): name
        for name, value in namespace.items()
        if callable(value) and name[:2] != "__"
    }
    like = [name for name in names if "map" in name] or difflib.get_close_matches("map", names)
    hint = f" Should `{names[like[0]]}` be named `map`?" if like else ""
    return (
        f"{where} does not define `map`.{hint} A job defines `def map(key, dims, value, context):`, and may define "
        "`combine(key, values, context)`, `reduce(key, values, context)` and `setup_reduce(context)`."
    )


def _check_function(name: str, function: Any, where: str) -> None:
    wanted = f"def {name}({', '.join(_ARGUMENTS[name])}):"
    if not callable(function):
        raise InputError(
            f"{where}: `{name}` is {_short_repr(function)}, not a function like `{wanted}`."
        )
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
    place = f"{where}, line {line}" if line and os.path.isabs(where) else where
    if _returns_at_once(function) or _returns_at_once(
        inspect.getattr_static(type(function), "__call__", None)
    ):
        raise InputError(
            f"{place}: `{name}` is a generator or async function, so calling it would do nothing. "
            f"Make it a plain `{wanted}`, and for `yield` call `context.write(...)`."
        )
    problem = _binding_problem(function, len(_ARGUMENTS[name]))
    if problem:
        raise InputError(
            f"{place}: `{name}` cannot be called with {len(_ARGUMENTS[name])} positional arguments ({problem}). "
            f"Define it as `{wanted}`."
        )


def _returns_at_once(function: Any) -> bool:
    """Whether a call makes a generator or coroutine, and runs nothing of the body."""
    return (
        inspect.isgeneratorfunction(function)
        or inspect.iscoroutinefunction(function)
        or inspect.isasyncgenfunction(function)
    )


def _binding_problem(function: Function, count: int) -> str:
    try:
        # What a decorator's wrapper takes is what counts, not what it wraps.
        signature = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):
        return ""  # a builtin that does not tell
    try:
        signature.bind(*range(count))
    except TypeError as error:
        return f"{error}; it takes {len(signature.parameters)}"
    return ""


def _short_repr(value: object) -> str:
    try:
        return shorten(repr(value), 80)
    except Exception:
        return f"a {type(value).__name__}"
