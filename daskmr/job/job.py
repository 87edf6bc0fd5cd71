"""The user's script: load it, check it, and ship it to workers as source."""

from __future__ import annotations

import difflib
import errno
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import io
import linecache
import os
import pickle
import re
import socket
import sys
import threading
import types
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from importlib.readers import FileReader
from importlib.resources.abc import TraversableResources
from pathlib import Path
from typing import Any, NamedTuple

from daskmr.errors import InputError, Interrupted
from daskmr.job.pickling import dumps_by_value
from daskmr.job.process_errors import explain_process_error, no_children
from daskmr.job.sources import (
    Sources,
    absolute,
    check_path,
    collect,
    is_installed,
    is_library,
    likely_misspelt,
    module_of,
    parse,
    prefixes,
    read_source,
    syntax_failure,
)
from daskmr.job.tracebacks import (
    describe_exception,
    format_user_traceback,
    remember_lines,
    shorten,
    user_location,
)
from daskmr.memory import NEAR_LIMIT, OutOfMemory, explain_shortage

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

_CALLED = "`map`, `combine`, `reduce` and `setup_reduce`"
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
        _check(functions, "The job")
        self._functions: _Functions | None = functions
        self._passed_over: Mapping[str, str] = {}
        self._source: _Script | _OnTheSpot = _OnTheSpot(functions)

    @classmethod
    def _of(cls, source: _Script | _OnTheSpot) -> Job:
        job = cls.__new__(cls)
        job._functions, job._passed_over = None, {}
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
    def data(self) -> Mapping[str, bytes]:
        """The other files of the script's packages that are shipped, by name like `files`."""
        return self._source.data() if isinstance(self._source, _Script) else {}

    @property
    def module_name(self) -> str | None:
        """Name of the module that the script is loaded as; None for functions on the spot."""
        return self._source.module_name if isinstance(self._source, _Script) else None

    @property
    def texts(self) -> Mapping[str, str]:
        """Source text by absolute file name, as it was shipped."""
        return self._source.texts

    @property
    def notes(self) -> tuple[str, ...]:
        """What of the script's folder, and of its names, is passed over."""
        self._loaded()
        unused = self._source.sources.unused if isinstance(self._source, _Script) else ()
        return (
            *(_note_passed_over(name, library) for name, library in self._passed_over.items()),
            *map(_note_unused, unused),
            *self._notes_on_names(),
        )

    def _notes_on_names(self) -> Iterator[str]:
        if self.path is None:
            return
        text = self.files[os.path.basename(self.path)]
        for name, meant in likely_misspelt(text, self.path).items():
            if meant:
                yield f"`{name}` is never called. Should it be named `{meant}`?"
            else:
                yield f"`{name}` is never called: a run calls only {_CALLED} of a script"

    def hint(self, exc: BaseException) -> str:
        """Say what to do about an exception of the script that comes from where its files are."""
        hint = _hint(self._source, exc) if isinstance(self._source, _Script) else ""
        if not hint and isinstance(exc, ModuleNotFoundError) and exc.name:
            missing = _missing_module(self, exc.name)
            return f" {missing[:1].upper()}{missing[1:]}"
        return hint

    def is_user_file(self, filename: str) -> bool:
        """Whether a traceback's `filename` is of the user's code."""
        return filename in self._source.texts

    @contextmanager
    def activate(self) -> Iterator[None]:
        """Run the user's code, and unpickle the user's values, inside of this.

        Meanwhile the job's modules are importable under their names, and the working directory is
        the one that they have changed to; afterwards both are as they were. One job is active in a
        process at a time: another thread waits. Leave in the reverse order of entering.
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
                if self._functions is None:
                    self._functions, self._passed_over = _load(self)
                functions = self._functions
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
    where = f"The module {module.__name__!r}"
    tops = {module.__name__.partition(".")[0]}
    functions, passed_over = _choose(vars(module), where, lambda top, _: top in tops)
    job = Job(*functions)
    job._passed_over = passed_over
    return job


def _load_script(given: str) -> Job:
    path = absolute(check_path(given))  # not that of a link's target: scripts look at their names
    text = read_source(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they come once more, when the script is compiled to run
        tree = parse(text, path)
        sources = collect(path, text, tree)
    job = Job._of(_Script(Path(given).stem, path, _digest(sources), sources))
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


def _restore_script(name: str, path: str, digest: str, sources: Sources) -> Job:
    return _memoised((path, digest), lambda: Job._of(_Script(name, path, digest, sources)))


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
            with _working_directory_of(source):
                yield
        finally:
            _switch(source, before)


@contextmanager
def _working_directory_of(source: _Script | _OnTheSpot) -> Iterator[None]:
    """Let a script change the working directory for itself alone.

    So the paths that a run was given mean the same until its end.
    """
    before = _working_directory()
    if source.directory is not None:
        with suppress(FileNotFoundError):  # it is gone, and so is what it would open there
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
    except FileNotFoundError:  # it has been removed
        return None


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
        self.directory: str | None = None
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
            return dumps_by_value(tuple(self.functions))
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

    def __init__(self, name: str, path: str, digest: str, sources: Sources) -> None:
        self.name, self.path, self.digest, self.sources = name, path, digest, sources
        self.directory: str | None = None  # that it has changed to
        self.files = sources.files
        directory, script = os.path.split(path)
        places = {file: sources.place(file, directory) for file in self.files}
        self.texts = {places[file]: text for file, text in self.files.items()}
        self.module_name = re.sub(r"\W|^(?=\d)", "_", f"{name}_{digest[:12]}")
        self._filenames = {module_of(file): places[file] for file in self.files if file != script}
        self._filenames[self.module_name] = path
        spaces = [module_of(space) for space in sources.spaces]
        self._folders = {
            parent: sources.place(parent.replace(".", "/"), directory)
            for module in (*self._filenames, *spaces)
            for parent in prefixes(module)
            if parent not in self._filenames
        }
        self._tops = {
            self.module_name,
            *sources.aliases,
            *(module.partition(".")[0] for module in (*self._filenames, *spaces)),
        }
        self._modules: dict[str, types.ModuleType] = {}
        self._hidden: dict[str, types.ModuleType] = {}
        self._size = 0

    def is_own(self, top: str, filename: str | None) -> bool:
        """Whether a module is of the script, by its top-level name, or a function by its file."""
        return top in self._tops or filename in self.texts

    def load(self) -> Loaded:
        remember_lines(self.texts)
        return vars(importlib.import_module(self.module_name)), self.path

    def ship(self) -> tuple[Callable[..., Job], tuple[Any, ...]]:
        return _restore_script, (self.name, self.path, self.digest, self.sources)

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
            spec = importlib.machinery.ModuleSpec(fullname, self, is_package=True)
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
        return fullname in self._folders or (
            fullname != self.module_name
            and os.path.basename(self.get_filename(fullname)) == "__init__.py"
        )

    def get_data(self, path: str) -> bytes:
        if os.path.exists(path):
            return Path(path).read_bytes()
        try:
            return self.data()[self._data_name(path)]
        except KeyError:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path) from None

    def get_resource_reader(self, fullname: str) -> TraversableResources:
        """Read what lies in a package: from its folder; from what was sent, where that is not seen."""
        folder = self._folders.get(fullname) or os.path.dirname(self.get_filename(fullname))
        if os.path.isdir(folder) or not self.sources.data:
            anchor = os.path.join(folder, "__init__.py")
            return FileReader(importlib.machinery.SourceFileLoader(fullname, anchor))
        archive = zipfile.ZipFile(io.BytesIO(self.sources.data))
        return _Resources(zipfile.Path(archive, f"{self._data_name(folder)}/"))

    def _data_name(self, path: str) -> str:
        homes = (os.path.dirname(self.path), *self.sources.homes.values())
        home = next((home for home in homes if path.startswith(os.path.join(home, ""))), "")
        return os.path.relpath(path, home or "/").replace(os.sep, "/")

    def data(self) -> dict[str, bytes]:
        if not self.sources.data:
            return {}
        with zipfile.ZipFile(io.BytesIO(self.sources.data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ in self._folders:
            return
        if module.__name__ != self.module_name:
            super().exec_module(module)
            return
        aliases = self.sources.aliases
        # A sibling that imports the script gets the script's module, not a second copy of it.
        sys.modules.update(dict.fromkeys(aliases, module))
        try:
            super().exec_module(module)
        except BaseException:
            for alias in aliases:
                sys.modules.pop(alias, None)
            raise


class _Resources(TraversableResources):
    """The files of a package that were sent with a script."""

    def __init__(self, files: zipfile.Path) -> None:
        self._files = files

    def files(self) -> Any:
        return self._files


def _digest(sources: Sources) -> str:
    sha = hashlib.sha256()
    texts = {file: text.encode("utf-8", "surrogatepass") for file, text in sources.files.items()}
    for file, content in (*sorted(texts.items()), *([("", sources.data)] if sources.data else [])):
        for part in (os.fsencode(file), content):
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


def _load(job: Job) -> tuple[_Functions, dict[str, str]]:
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
        if isinstance(job._source, _Script):
            return _choose(namespace, where, job._source.is_own)
        return _Functions(**namespace), {}
    raise failure  # outside of the handler: it must not hold on to the user's exception


def _load_failure(job: Job, exc: BaseException) -> InputError:
    if isinstance(exc, OutOfMemory):
        exc = MemoryError(NEAR_LIMIT).with_traceback(exc.__traceback__)
    if isinstance(exc, SyntaxError) and job.is_user_file(exc.filename or ""):
        return syntax_failure(exc, exc.filename or "")
    place = user_location(job, exc) or ""
    where = os.path.join(os.path.dirname(job.path), place or job.path) if job.path else "The job"
    if (
        isinstance(exc, ModuleNotFoundError)
        and exc.name
        and not _unused_file(job._source, exc.name)
    ):
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
            from daskmr.job.porting_errors import advice_for  # deferred: only a failure needs it

            explanation = (
                job.hint(exc) or explain_process_error(exc, loading=True) or advice_for(exc)
            ).strip()
        if explanation:
            reason = f"{reason.removesuffix('.')}. {explanation}"
    return InputError(f"{where}: {reason}", format_user_traceback(job, exc))


_RENAMED = {
    "ConfigParser": "configparser", "cPickle": "pickle", "cStringIO": "io", "StringIO": "io",
    "HTMLParser": "html.parser", "httplib": "http.client", "Queue": "queue",
    "__builtin__": "builtins", "anydbm": "dbm", "urllib2": "urllib.request",
    "urlparse": "urllib.parse", "sets": "the builtin set", "imp": "importlib",
}  # fmt: skip


# Modules whose distribution has another name, and some that are often used.
_DISTRIBUTIONS = {
    "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "PIL": "Pillow", "sklearn": "scikit-learn", "yaml": "PyYAML",
    **dict.fromkeys(("lxml", "numpy", "orjson", "pandas", "pyarrow", "pytz", "regex", "requests")),
    **dict.fromkeys(("scipy", "simplejson", "six", "ujson")),
}  # fmt: skip


def _missing_module(job: Job, name: str) -> str:
    top = name.partition(".")[0]
    if top in _RENAMED:
        return f"there is no module {name!r} in this Python; what it had is in {_RENAMED[top]} now."
    if name != top and (f"{top}.py" in job.files or f"{top}/__init__.py" in job.files):
        return f"there is no module {name!r} beside the script, though there is {top!r}."
    if top in _DISTRIBUTIONS:
        package = _DISTRIBUTIONS[top] or top
        return (
            f"the module {name!r} is missing. Install it here and in the environment of every worker: "
            f"`pip install {package}`."
        )
    like = difflib.get_close_matches(top, _modules_at_hand(job), 1, 0.75)
    meant = f" Is `{like[0]}` meant?" if like else ""
    own = f"If it is yours, put {top}.py beside the script; if" if job.path else "If"
    return (
        f"the module {name!r} is missing.{meant} {own} it is a library's, install that library here "
        "and in the environment of every worker."
    )


def _modules_at_hand(job: Job) -> set[str]:
    """Names of modules that the one who writes a script may have meant."""
    names = set(sys.stdlib_module_names) | _DISTRIBUTIONS.keys()
    if job.path is not None:
        with suppress(OSError):  # a worker may not see the folder
            files = os.listdir(os.path.dirname(job.path))
            names |= {file.removesuffix(".py") for file in files if file.endswith(".py")}
    return {name for name in names if name[0] != "_"}


def _hint(source: _Script, exc: BaseException) -> str:
    module = ""
    if isinstance(exc, AttributeError) and isinstance(exc.obj, types.ModuleType):
        module = exc.obj.__name__
    elif isinstance(exc, ImportError):
        module = exc.name or ""
    unused = _unused_file(source, module)
    if unused:
        return f" {_note_unused(unused)}."
    if isinstance(exc, FileNotFoundError) and isinstance(exc.filename, str):
        return _hint_missing_file(source.path, exc.filename)
    return ""


def _unused_file(source: _Script | _OnTheSpot, module: str) -> str:
    """The file beside the script that `module` would be, were its name not taken."""
    top = module.partition(".")[0]
    unused = source.sources.unused if isinstance(source, _Script) else ()
    return next((file for file in unused if module_of(file).partition(".")[0] == top), "")


def _hint_missing_file(script: str, name: str) -> str:
    folder = os.path.dirname(script)
    if not name.startswith(os.path.join(folder, "")):
        return ""
    if not os.path.isdir(folder):
        return (
            f" The worker on {socket.gethostname()} does not see the script's folder {folder}. It is "
            "sent the script's modules, and what lies in its packages if that is small, which "
            "importlib.resources and pkgutil.get_data read. Put other files where all workers see "
            "them under the same path."
        )
    target = os.path.realpath(script)
    there = os.path.join(os.path.dirname(target), os.path.relpath(name, folder))
    if os.path.islink(script) and os.path.exists(there):
        return (
            f" The script is a link, and `__file__` is its own path; the file is beside its target, "
            f"{there}. Link that as well, or run {target}."
        )
    return ""


# ---------------------------------------------------------------------------------------------
# Which functions


IsOwn = Callable[[str, "str | None"], bool]


def _choose(
    namespace: Mapping[str, Any], where: str, is_own: IsOwn
) -> tuple[_Functions, dict[str, str]]:
    """The functions of a job among all names of its module, and those that are of a library.

    ``from functools import reduce`` does not mean that to be called for every key.
    """
    found = {name: namespace.get(name) for name in _ARGUMENTS}
    libraries = {
        name: _library_name(name, value, is_own)
        for name, value in found.items()
        if value is not None and not _is_made_for(name, value)
    }
    passed_over = {name: library for name, library in libraries.items() if library}
    functions = _Functions(**found | dict.fromkeys(passed_over))  # type: ignore[arg-type]
    if functions.map is None:
        raise InputError(_no_map(namespace, where, passed_over.get("map")))
    _check(functions, where)
    return functions, passed_over


def _is_made_for(name: str, function: Any) -> bool:
    """Whether a function, maybe of an installed library, takes what a job's function is given."""
    try:
        return (*inspect.signature(function).parameters,) == _ARGUMENTS[name]
    except (ValueError, TypeError):
        return False


def _library_name(name: str, value: Any, is_own: IsOwn) -> str:
    """The name by which a library has `value`, or ``""``: then it was made by the script."""
    code = getattr(value, "__code__", None)
    if is_own("", getattr(code, "co_filename", None)):
        return ""
    names: set[str] = {name, getattr(value, "__name__", name)}
    home = str(getattr(value, "__module__", "")).lstrip("_")
    having = [
        # The best known first: `functools.reduce` is in `_functools`, `enum` and `toolz` too.
        (module != home, module not in sys.stdlib_module_names, f"{module}.{each}")
        for module, content in list(sys.modules.items())
        if isinstance(content, types.ModuleType)
        for each in names
        if vars(content).get(each) is value
        and module not in ("__main__", "__mp_main__")
        and not is_own(module.partition(".")[0], None)
        and is_library(module, vars(content).get("__file__"))
    ]
    return min(having)[-1] if having else ""


def _note_passed_over(name: str, library: str) -> str:
    without = ": without one, what map writes is the output" if name == "reduce" else ""
    return (
        f"`{name}` in the script is {library}, not a function of the script or of a module of yours, "
        f"and so is not the job's{without}"
    )


def _note_unused(file: str) -> str:
    name = module_of(file)
    owner = (
        "Python's standard library" if name in sys.stdlib_module_names else "an installed library"
    )
    return (
        f"{file} beside the script is not used: the module {name!r} is that of {owner}. If the script "
        "means the file, give it another name"
    )


def _check(functions: _Functions, where: str) -> None:
    if functions.map is None:
        raise InputError(_no_map({}, where))
    for name, function in functions._asdict().items():
        if function is not None:
            _check_function(name, function, where)


def _no_map(namespace: Mapping[str, Any], where: str, library: str | None = None) -> str:
    if library:
        return (
            f"{where} does not define `map`: the `map` in it is {library}, which it imports. Define `def "
            "map(key, dims, value, context):`, and import the other one by another name."
        )
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
