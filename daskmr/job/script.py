"""The source of a job's functions, in this or another process: a script's text, or pickles."""

from __future__ import annotations

import errno
import hashlib
import importlib
import importlib.abc
import importlib.machinery
import importlib.util
import inspect
import io
import json
import linecache
import os
import pickle
import re
import sys
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from importlib.readers import FileReader
from importlib.resources.abc import TraversableResources
from pathlib import Path
from typing import Any

from daskmr.errors import InputError
from daskmr.job.params.declared import Params, activate
from daskmr.job.pickling import dumps_by_value
from daskmr.job.shipped.file import Files
from daskmr.job.shipped.file import activate as activate_files
from daskmr.job.shipped.places import Delivery
from daskmr.job.sources import Sources, is_of_reducers, module_of, prefixes
from daskmr.job.tracebacks import describe_exception, remember_lines

__all__ = ["InlineFunctions", "Script", "Source"]

Function = Callable[..., Any]


class InlineFunctions:
    """Functions that are shipped by value: those of a notebook or ``__main__``, lambdas, closures.

    They are pickled again every time, because the objects that they refer to may have changed.

    - `before`: the source of the step before, whose modules can be imported, too.
    - `delivery`: how this process gets the environment variables and files that are sent for them.
    """

    before: Source | None = None
    delivery = Delivery()
    name = "job"
    path = None
    module_name = None
    unused = ()

    def __init__(
        self,
        functions: tuple[Function | None, ...] = (),
        blob: bytes = b"",
        files: dict[str, str] | None = None,
        shipped: Files | None = None,
    ) -> None:
        self._functions = functions
        self.shipped = shipped or Files()
        self._blob = blob
        self.directory: str | None = None
        if files is None:
            seen: set[int] = set()
            names = {name for each in functions if each for name in _code_files(each, seen)}
            files = {name: "".join(linecache.getlines(name)) for name in sorted(names)}
        self.files = self.texts = files
        self.data: dict[str, bytes] = {}

    @property
    def digest(self) -> str:
        return self.digest_of(self.pickled())

    def digest_of(self, blob: bytes) -> str:
        """Return the SHA-256 of the pickled functions and the files that are sent with them, in hex."""
        return _extended(hashlib.sha256(blob).hexdigest(), self.shipped.digests)

    def load(self) -> tuple[Function | None, ...]:
        if not self._functions:
            self._functions = pickle.loads(self._blob)
        return self._functions

    def pickled(self) -> bytes:
        if not self._functions:
            return self._blob
        try:
            return dumps_by_value(self._functions)
        except Exception as exc:
            reason = describe_exception(exc)
        raise InputError(
            f"The job's functions cannot be sent to worker processes ({reason}). Open files, locks, "
            "connections and the like inside of the functions instead of referring to them from there."
        )

    def enter(self) -> None:
        """Only enter the source before, because the functions need no names in ``sys.modules``."""
        if self.before is not None:
            self.before.enter()
            activate(None)
        activate_files(self.shipped)

    def leave(self) -> None:
        activate_files(None)
        if self.before is not None:
            self.before.leave()

    def __reduce__(self) -> tuple[Any, ...]:
        make = partial(InlineFunctions, files=self.files, shipped=self.shipped)
        return make, ((), self.pickled()), self.before

    def __setstate__(self, before: Source) -> None:
        self.before = before


def _code_files(function: Any, seen: set[int]) -> Iterator[str]:
    """Yield the files of a function and of those it uses in ``__main__``, such as notebook cells."""
    while isinstance(function, partial):
        function = function.func
    with suppress(ValueError):
        function = inspect.unwrap(function)
    function = getattr(function, "__func__", function)
    if not isinstance(function, types.FunctionType):
        function = inspect.getattr_static(type(function), "__call__", None)
    if not isinstance(function, types.FunctionType) or id(function) in seen:
        return
    if is_of_reducers(function.__module__):
        return
    seen.add(id(function))
    yield function.__code__.co_filename
    if function.__module__ == "__main__":
        with suppress(ValueError):  # a closure cell that is still empty
            for other in inspect.getclosurevars(function).globals.values():
                if isinstance(other, types.FunctionType) and other.__module__ == "__main__":
                    yield from _code_files(other, seen)


class Script(importlib.abc.MetaPathFinder, importlib.abc.ExecutionLoader):
    """A script and its siblings as text, and the finder and loader of their modules.

    Siblings keep the names that they are imported under. The script's own module is named after the
    contents, so that its classes are pickled under a name that no other script has.

    - `before`, `delivery`: as those of `InlineFunctions`.
    """

    before: Source | None = None
    delivery = Delivery()
    is_job = True  # `process_errors` recognises the functions of a script by their loader

    def __init__(
        self,
        name: str,
        path: str,
        sources: Sources,
        given: Mapping[str, Any],
        module_name: str = "",
        digest: str = "",
        shipped: Files | None = None,
    ) -> None:
        self.name, self.path, self.sources = name, path, sources
        self.shipped = shipped or Files()
        self.digest = digest or _digest(sources, given)
        self.directory: str | None = None  # the working directory that the script has changed to
        self.files, self.unused = sources.files, sources.unused
        directory, script = os.path.split(path)
        places = {file: sources.place(file, directory) for file in self.files}
        self.texts = {places[file]: text for file, text in self.files.items()}
        self.module_name = module_name or re.sub(r"\W|^(?=\d)", "_", f"{name}_{self.digest[:12]}")
        self.params = Params(script, given, self.texts)
        self._filenames = {module_of(file): places[file] for file in self.files if file != script}
        self._filenames[self.module_name] = path
        modules = [*self._filenames, *map(module_of, sources.namespaces)]
        self._folders = {
            parent: sources.place(parent.replace(".", "/"), directory)
            for module in modules
            for parent in prefixes(module)
            if parent not in self._filenames
        }
        self._tops = {*sources.aliases, *(module.partition(".")[0] for module in modules)}
        self._modules: dict[str, types.ModuleType] = {}
        self._hidden: dict[str, types.ModuleType] = {}
        self._size = 0

    @property
    def data(self) -> dict[str, bytes]:
        if not self.sources.data:
            return {}
        with zipfile.ZipFile(io.BytesIO(self.sources.data)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}

    def is_own(self, top: str, filename: str | None) -> bool:
        """Check whether a module (by its top-level name) or a function (by its file) is the script's."""
        return top in self._tops or filename in self.texts

    def load(self) -> dict[str, Any]:
        remember_lines(self.texts)
        return vars(importlib.import_module(self.module_name))

    def settle(self) -> tuple[str, ...]:
        """Have all processes use the parameters and files that this one has; return notes on them."""
        self.params.given = self.params.settled()
        notes = (*self.shipped.settle(self.files),)
        self.digest = _extended(_digest(self.sources, self.params.given), self.shipped.digests)
        return notes

    def enter(self) -> None:
        if self.before is not None:
            self.before.enter()
        self._activate()
        if any(top in sys.modules for top in self._tops):
            self._hidden = self._take()
        sys.modules.update(self._modules)
        sys.meta_path.insert(0, self)
        self._size = len(sys.modules)

    def leave(self) -> None:
        activate(None)
        activate_files(None)
        with suppress(ValueError):
            sys.meta_path.remove(self)
        # Searching all of sys.modules is slower than all the rest, so do it only after imports.
        if len(sys.modules) != self._size:
            self._modules = self._take()
        for name in self._modules:
            sys.modules.pop(name, None)
        sys.modules.update(self._hidden)
        self._hidden = {}
        if self.before is not None:
            self.before.leave()

    def packed(self) -> tuple[Any, ...]:
        """Return the arguments that create the script in another process."""
        given = self.params.given
        names = self.module_name, self.digest
        return self.name, self.path, self.sources, given, *names, self.shipped

    def _activate(self) -> tuple[Any, Any]:
        return activate(self.params), activate_files(self.shipped)

    def _take(self) -> dict[str, types.ModuleType]:
        names = [name for name in list(sys.modules) if name.partition(".")[0] in self._tops]
        return {name: sys.modules.pop(name) for name in names}

    def __reduce__(self) -> tuple[Any, ...]:
        return Script, self.packed(), self.before

    def __setstate__(self, before: Source) -> None:
        self.before = before

    # --- finder and loader

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
        if fullname not in self._filenames:
            raise ImportError(f"not a module of {self.path}", name=fullname)
        return self._filenames[fullname]

    def get_source(self, fullname: str) -> str:
        return self.texts[self.get_filename(fullname)]

    def is_package(self, fullname: str) -> bool:
        is_script = fullname == self.module_name
        return fullname in self._folders or (
            not is_script and self.get_filename(fullname).endswith("/__init__.py")
        )

    def get_data(self, path: str) -> bytes:
        if os.path.exists(path):
            return Path(path).read_bytes()
        name = self._data_name(path)
        if name not in self.data:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        return self.data[name]

    def get_resource_reader(self, fullname: str) -> TraversableResources:
        """Read a package's files from its folder, or from the shipped copy if that is not accessible."""
        folder = self._folders.get(fullname) or os.path.dirname(self.get_filename(fullname))
        if os.path.isdir(folder) or not self.sources.data:
            anchor = os.path.join(folder, "__init__.py")
            return FileReader(importlib.machinery.SourceFileLoader(fullname, anchor))
        archive = zipfile.ZipFile(io.BytesIO(self.sources.data))
        return _Resources(zipfile.Path(archive, f"{self._data_name(folder)}/"))

    def _data_name(self, path: str) -> str:
        directory, homes = os.path.dirname(self.path), self.sources.homes
        for home in sorted({directory, *homes.values()}, key=len, reverse=True):
            name = path.removeprefix(os.path.join(home, ""))
            if name != path and homes.get(name.partition("/")[0], directory) == home:
                return name
        return path

    def exec_module(self, module: types.ModuleType) -> None:
        if module.__name__ in self._folders:
            return
        # A sibling that imports the script must get the script's module, not a second copy.
        is_script = module.__name__ == self.module_name
        aliases = self.sources.aliases if is_script else ()
        sys.modules.update(dict.fromkeys(aliases, module))
        params, files = self._activate()  # of others, if a later step reads values of its classes
        if is_script:
            self.shipped.namespace = partial(vars, module)
        try:
            with self.params.loading() if is_script else nullcontext():
                super().exec_module(module)
        except BaseException:
            for alias in aliases:
                sys.modules.pop(alias, None)
            raise
        finally:
            activate(params)
            activate_files(files)


Source = Script | InlineFunctions
"""Where the functions of a job are from."""


def _digest(sources: Sources, given: Mapping[str, Any]) -> str:
    """Return the SHA-256 of a script and its parameters, in hex."""
    return _extended(sources.digest(), given)


def _extended(digest: str, more: Mapping[str, Any]) -> str:
    """Return the digest of something together with more of it, if there is any."""
    if not more:
        return digest
    values = json.dumps(more, sort_keys=True, default=repr)
    return hashlib.sha256(f"{digest} {values}".encode()).hexdigest()


class _Resources(TraversableResources):
    """The files of a package that were sent with a script."""

    def __init__(self, files: zipfile.Path) -> None:
        self._files = files

    def files(self) -> Any:
        return self._files
