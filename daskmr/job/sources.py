"""The files of a script: itself and its imports from beside it, found without running it."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import importlib.util
import io
import linecache
import os
import re
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path
from typing import Any

from daskmr.errors import InputError
from daskmr.job.params.calls import syntax_tree
from daskmr.normal_forms import hint
from daskmr.text import inspect_line, shell_path

__all__ = [
    "Sources", "absolute", "check_path", "collect", "folders_of", "is_installed", "is_library",
    "is_of_reducers", "module_of", "name_of", "parse", "prefixes", "read_source", "syntax_failure",
]  # fmt: skip

# The worker process itself needs these, so a file beside the script never replaces them.
_NEEDED = sys.stdlib_module_names | {
    "__main__", "bokeh", "botocore", "aiobotocore", "aiohttp", "click", "cloudpickle", "cytoolz",
    "dask", "daskmr", "distributed", "fsspec", "importlib_metadata", "isal", "jinja2", "locket",
    "markupsafe", "msgpack", "msgspec", "multidict", "packaging", "partd", "psutil", "rich", "s3fs",
    "sortedcontainers", "tblib", "tlz", "toolz", "tornado", "urllib3", "yaml", "yarl", "zict", "zipp",
    "zstandard",
}  # fmt: skip
# The above import these if they are installed, some only when they first need them.
_USED_IF_INSTALLED = {
    "aiohappyeyeballs", "aioitertools", "aiosignal", "attr", "attrs", "certifi", "cryptography",
    "datasketches", "dateutil", "frozenlist", "idna", "jmespath", "lz4", "numpy", "pandas", "propcache", "pyarrow",
    "scipy", "snappy", "typing_extensions", "wrapt",
}  # fmt: skip

_DATA_BYTES = 1 << 20  # maximum for all packages together, because each task carries them
_DATA_FILES = 1000
_ANY = "?"  # replaces a part of a module's name that is known only when it is imported


@dataclass(frozen=True, slots=True)
class Sources:
    """The shipped parts of a script."""

    files: dict[str, str]  # source text by file name, relative to the script's folder
    # Folder of each top-level module that is beside the target of a link to the script.
    homes: dict[str, str] = field(default_factory=dict)
    # Folders beside the script that are packages without an ``__init__.py``.
    namespaces: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()  # names by which the siblings import the script
    # File names that would be imported if their names were not taken by other modules.
    unused: tuple[str, ...] = ()
    # A zip of the packages' other files, if they are small; ``b""`` if there are none.
    data: bytes = b""
    py_files: tuple[str, ...] = ()  # other folders and archives that were searched

    def digest(self) -> str:
        """Return the SHA-256 of the contents, in hex."""
        sha = hashlib.sha256()
        texts = {file: text.encode("utf-8", "surrogatepass") for file, text in self.files.items()}
        data = [("", self.data)] if self.data else []
        for file, content in (*sorted(texts.items()), *data):
            for part in (os.fsencode(file), content):
                sha.update(len(part).to_bytes(8, "big") + part)
        return sha.hexdigest()

    def place(self, file: str, directory: str) -> str:
        """Return the path of a file, or of a folder in `namespaces`; `directory` is the script's folder."""
        home = self.homes.get(module_of(file).partition(".")[0], directory)
        return os.path.join(home, file)


def prefixes(dotted: str) -> list[str]:
    """
    >>> prefixes("a.b.c")
    ['a', 'a.b', 'a.b.c']
    """
    return list(accumulate(dotted.split("."), "{}.{}".format))


def module_of(file: str) -> str:
    """
    >>> module_of("geo/__init__.py"), module_of("geo/cells.py")
    ('geo', 'geo.cells')
    """
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def check_path(given: str) -> str:
    """Return the path of a script; raise InputError if there is none."""
    if os.path.isfile(given) and not given.endswith(".ipynb"):
        return given
    problem = ""
    if os.path.isfile(given):
        problem = "is a notebook: save it as a .py script, or pass its functions to daskmr.Job"
    elif os.path.isdir(given):
        raise InputError(
            f"The job script {given} is a directory: give the path of the .py file in it. To write a "
            f"script for the data in it:{inspect_line(given)} --write job.py"
        )
    elif os.path.exists(given):
        problem = "is not a regular file"
    elif os.path.islink(given):
        problem = f"is a link to {os.readlink(given)}, which does not exist"
    if problem:
        raise InputError(f"The job script {given} {problem}.")
    advice = f" Did you mean {given}.py?" if os.path.isfile(f"{given}.py") else hint(given)
    if not advice and given.endswith(".py"):
        advice = f" To write one to start from: daskmr new {shell_path(given)}"
    where = "" if os.path.isabs(given) else f" (looked for in {os.getcwd()})"
    raise InputError(f"There is no job script {given}{where}.{advice}")


def absolute(given: str) -> str:
    """Return `given` as an absolute path, without resolving symlinks."""
    path = os.path.abspath(given)
    # After a symlink, `..` means the folder above the link's target.
    if os.path.realpath(os.path.dirname(path)) == os.path.realpath(os.path.dirname(given) or "."):
        return path
    return os.path.join(os.getcwd(), given)


def read_source(path: str) -> str:
    """Read and decode a file like Python: UTF-8 with or without a BOM, or as a coding line declares."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        try:
            return importlib.util.decode_source(data)
        except SyntaxError as error:
            problem = f"{path} cannot be read as Python: {error.msg}. Save the file as UTF-8."
            if "unknown" not in error.msg:
                data.decode()  # find the place, which Python does not report for the first two lines
    except UnicodeDecodeError as error:
        line, byte = data.count(b"\n", 0, error.start) + 1, error.object[error.start]
        problem = (
            f"{path}, line {line}: not {error.encoding} text (byte 0x{byte:02x}). Save the file as UTF-8, or "
            'name its encoding in the first line, as in "# -*- coding: latin-1 -*-".'
        )
    raise InputError(problem)


def parse(text: str, path: str) -> ast.Module:
    """Parse a script; raise InputError, with advice, if that fails."""
    try:
        return syntax_tree(text, path)
    except SyntaxError as error:
        failure = syntax_failure(error, path)
    except (ValueError, RecursionError, MemoryError) as error:
        reason = f"{type(error).__name__}: {error}".removesuffix(": ")
        failure = InputError(f"{path} cannot be compiled as Python: {reason}.")
    raise failure


def collect(path: str, text: str, tree: ast.Module, more: Sequence[str] = ()) -> Sources:
    """Find the files that a script imports from beside it, and those that they import.

    The search covers the script's folder, if the script is a link the folder of its target, and then
    the folders `more`.
    """
    script = os.path.basename(path)
    found = _SourceFinder([*folders_of(path), *more], {script: text})
    own = set(_imports(tree, ""))
    queue = [(script, own)]
    while queue:
        importer, names = queue.pop()
        for file in found.siblings(names):
            place = found.place(file)
            if os.path.exists(path) and os.path.samefile(place, path):
                # A script that imports its own name means a library of the same name.
                if importer != script and module_of(file) not in own:
                    found.aliases.add(module_of(file))
            elif file not in found.files:
                text = found.files[file] = read_source(place)
                with suppress(InputError):  # if it is really imported, that reports the error
                    package = os.path.dirname(file).replace("/", ".")
                    queue.append((file, set(_imports(parse(text, file), package))))
    return found.sources()


def is_of_reducers(module: object) -> bool:
    """Check whether a module is one of the ready-made reducers, which need not be imported for that."""
    return f"{module}.".startswith("daskmr.reducers.")


def folders_of(path: str) -> list[str]:
    """Return the folder of a script, followed by those of the targets of its links."""
    folders = [os.path.dirname(path)]
    while os.path.islink(path):
        path = os.path.join(os.path.dirname(path), os.readlink(path))
        folders.append(os.path.realpath(os.path.dirname(path)))
    return list({os.path.realpath(folder): folder for folder in folders[::-1]}.values())[::-1]


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Yield the dotted names that a module in `package` may import, anywhere in its code."""
    nodes = list(ast.walk(tree))
    called = {id(node.func) for node in nodes if isinstance(node, ast.Call)}
    for node in nodes:
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = []
            with suppress(ImportError):  # above the script's folder
                base = importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                names = [f"{base}.{alias.name}" for alias in node.names]
            if any(alias.name in _BY_NAME and alias.asname for alias in node.names):
                names.append(_ANY)
        elif isinstance(node, ast.Call):
            names = _named_import(node)
        elif isinstance(node, ast.Name | ast.Attribute) and id(node) not in called:
            names = [_ANY] if name_of(node) in _BY_NAME else []
        else:
            continue
        for name in names:
            yield from prefixes(name.removesuffix(".*"))


# Functions whose first argument is the name of a module that they import.
_BY_NAME = {"__import__", "import_module"}
_OF_RESOURCES = {
    "get_data", "files", "open_binary", "open_text", "read_binary", "read_text", "run_module",
}  # fmt: skip


def _named_import(call: ast.Call) -> list[str]:
    """Return the names imported by ``import_module("geo.cells")``, ``get_data("geo", "x")`` etc."""
    function = name_of(call)
    if function not in _BY_NAME | _OF_RESOURCES or not call.args:
        return []
    name = _text(call.args[0])
    if name.startswith(".") and len(call.args) > 1:
        name = f"{_text(call.args[1])}{name}"
    if function in _OF_RESOURCES and _ANY in name:
        return []  # other functions may have these names, too
    return [name] if all(name.split(".")) and not re.search(r"[/\0]", name) else []


def name_of(node: Any) -> str:
    """Return the name of a variable, of an attribute, or of the function of a call; else ""."""
    node = getattr(node, "func", node)
    return str(getattr(node, "id", getattr(node, "attr", "")))


def _text(node: ast.expr) -> str:
    """Return the value of a text expression, with `_ANY` for all unknown parts.

    >>> _text(ast.parse("'plugins.' + name", mode="eval").body)
    'plugins.?'
    """
    match node:
        case ast.Constant(value=str(known)):
            return known
        case ast.JoinedStr(values=[ast.Constant() as only]):
            return _text(only)
        case ast.Call(func=ast.Attribute(value=first, attr="format")):
            pass
        case ast.JoinedStr(values=[first, *_]) | ast.BinOp(left=first):
            pass
        case _:
            return _ANY
    known = re.split(r"[%{?]", _text(first))[0].rpartition(".")[0]
    return f"{known}.{_ANY}" if known else _ANY


class _SourceFinder:
    """Finder of the files that a script imports, in its own folder first and then in others."""

    def __init__(self, folders: list[str], files: dict[str, str]) -> None:
        self._folders = folders
        self.files = files
        self.aliases: set[str] = set()
        self._homes: dict[str, str] = {}
        self._namespaces: set[str] = set()
        self._unused: set[str] = set()

    def sources(self) -> Sources:
        files = dict(sorted(self.files.items()))
        tops = {module_of(file).partition(".")[0] for file in (*files, *self._namespaces)}
        return Sources(
            files,
            {top: self._home(top) for top in tops if self._home(top) != self._folders[0]},
            tuple(sorted(self._namespaces)),
            tuple(sorted(self.aliases)),
            tuple(sorted(self._unused - files.keys())),
            self._data(),
        )

    def place(self, file: str) -> str:
        return os.path.join(self._home(module_of(file).partition(".")[0]), file)

    def _home(self, top: str) -> str:
        """Return the first folder that contains the module `top`, like a search of ``sys.path``."""
        if top not in self._homes:
            found = [
                folder
                for folder in self._folders
                if _module_files(folder, top) or os.path.isdir(os.path.join(folder, top))
            ]
            self._homes[top] = (found or self._folders)[0]
        return self._homes[top]

    def siblings(self, names: set[str]) -> Iterator[str]:
        for name in sorted(names):
            if name.endswith(_ANY):
                yield from self._any(name.removesuffix(_ANY).removesuffix("."))
                continue
            file = self._find(name)
            if file is not None:
                yield file
                if file.endswith("/__init__.py"):
                    top = name.partition(".")[0]
                    yield from _package_files(self._home(top), os.path.dirname(file))

    def _find(self, dotted: str) -> str | None:
        """Return the file beside the script that Python would import as `dotted`."""
        top, _, rest = dotted.partition(".")
        directory = self._home(top)
        if is_installed(os.path.join(directory, top)):
            return None
        if _is_taken(top, directory):
            self._unused.update(_module_files(directory, top))
            return None
        base = dotted.replace(".", "/")
        if found := _module_files(directory, base):
            if not rest or not _yields_to_library(directory, top):
                return found[0]
            self._unused.add(found[0])
        elif os.path.isdir(os.path.join(directory, base)) and not _yields_to_library(
            directory, top
        ):
            self._namespaces.add(base)
        return None

    def _any(self, package: str) -> Iterator[str]:
        """Yield all modules in `package`, or beside the script if it is ""; any may be imported."""
        if package:
            top, base = package.partition(".")[0], package.replace(".", "/")
            home = self._home(top)
            is_here = os.path.isdir(os.path.join(home, base)) and not _yields_to_library(home, top)
            if is_here and not _is_taken(top, home):
                yield from _package_files(home, base)
            return
        for folder in self._folders:
            for file in sorted(os.listdir(folder)):
                top, path = module_of(file), os.path.join(folder, file)
                is_free = not (_is_taken(top, folder) or is_installed(path))
                if is_free and _is_module(path) and self._home(top) == folder:
                    yield file

    def _data(self) -> bytes:
        """Return a reproducible zip of the packages' other files, if they are small."""
        packages = {os.path.dirname(f) for f in self.files if f.endswith("/__init__.py")}
        files: dict[str, str] = {}
        for package in packages | self._namespaces:
            for file, path in _data_files(self._home(package.partition("/")[0]), package):
                files[file] = path
                if len(files) > _DATA_FILES:
                    return b""
        if sum(map(os.path.getsize, files.values())) > _DATA_BYTES:
            return b""
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w") as archive:
            for file, path in sorted(files.items()):
                archive.writestr(zipfile.ZipInfo(file), Path(path).read_bytes())
        return packed.getvalue() if files else b""


def _data_files(directory: str, package: str) -> Iterator[tuple[str, str]]:
    """Yield the files of a package that are not modules, by their names in `directory` and paths."""
    for place, folders, names in os.walk(os.path.join(directory, package)):
        folders[:] = [name for name in folders if name[0] != "." and name != "__pycache__"]
        for name in names:
            path = os.path.join(place, name)
            is_data = name[0] != "." and not name.endswith((".py", ".pyc"))
            if is_data and os.path.isfile(path) and os.access(path, os.R_OK):
                yield os.path.relpath(path, directory), path


def _module_files(folder: str, base: str) -> list[str]:
    files = (f"{base}/__init__.py", f"{base}.py")
    return [file for file in files if os.path.isfile(os.path.join(folder, file))]


def _is_module(path: str) -> bool:
    stem, extension = os.path.splitext(os.path.basename(path))
    if extension != ".py" or "." in stem or not os.path.isfile(path):
        return False
    try:
        read_source(path)
    except InputError:  # the error matters only if the file is imported
        return False
    return True


def _is_taken(top: str, directory: str) -> bool:
    """Check whether a worker itself needs a different module of this name."""
    if top not in _USED_IF_INSTALLED:
        return top in _NEEDED
    beside = os.path.realpath(directory)
    paths = [entry for entry in sys.path if os.path.realpath(entry or ".") != beside]
    return importlib.machinery.PathFinder.find_spec(top, paths) is not None


def is_library(module: str, filename: str | None) -> bool:
    """Check whether a module belongs to the standard library or to an installed one."""
    installed = not {"site-packages", "dist-packages"}.isdisjoint(Path(filename or "").parts)
    return installed or module.partition(".")[0] in _NEEDED - {"__main__"}


def _yields_to_library(directory: str, top: str) -> bool:
    """Check whether a folder without ``__init__.py`` is shadowed by a library of the same name."""
    if os.path.isfile(os.path.join(directory, top, "__init__.py")):
        return False
    spec = importlib.machinery.PathFinder.find_spec(top)
    return spec is not None and spec.origin is not None


def is_installed(filename: str) -> bool:
    """Check whether a file or package is directly in a folder for installed packages."""
    return os.path.basename(os.path.dirname(filename)) in ("site-packages", "dist-packages")


def _package_files(directory: str, package: str) -> Iterator[str]:
    """Yield all modules of a package, because it may import them in ways that cannot be detected."""
    for name in sorted(os.listdir(os.path.join(directory, package))):
        file = f"{package}/{name}"
        if _is_module(os.path.join(directory, file)):
            yield file
        elif name.isidentifier() and _module_files(directory, file)[:1] == [f"{file}/__init__.py"]:
            yield f"{file}/__init__.py"
            yield from _package_files(directory, file)


def syntax_failure(error: SyntaxError, path: str) -> InputError:
    """Return an error that shows the place of a syntax error, with advice on what to write."""
    from daskmr.job.porting_errors import syntax_advice  # deferred: only a failure needs it

    advice = syntax_advice(error)
    if advice and os.path.exists(path) and not isinstance(error, TabError):
        advice += (
            f" To fix all such errors in {os.path.basename(path)}: `pip install fissix`, then "
            f"`python -m fissix -w {shell_path(path)}`."
        )
    shown = "".join(f"\n    {line}" for line in _excerpt(error))
    problem = f"{error.msg[:1].lower()}{error.msg[1:]}".rstrip("?.")
    return InputError(f"{path}, line {error.lineno}: syntax error: {problem}.{advice}{shown}")


def _excerpt(error: SyntaxError) -> list[str]:
    """Return the line of a syntax error, and a line with a caret under its place."""
    line = (error.text or linecache.getline(error.filename or "", error.lineno or 0)).rstrip()
    code = line.lstrip()
    if not code:
        return []
    column = max((error.offset or 1) - 1 - (len(line) - len(code)), 0)
    start = max(column - 80, 0)
    code = code[start : start + 160]
    return [code, re.sub(r"[^\t]", " ", code[: column - start]) + "^"]
