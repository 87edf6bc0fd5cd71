"""The files of a script: itself and what it imports from beside it, found without running it."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from daskmr.errors import InputError
from daskmr.tracebacks import describe_exception, excerpt
from daskmr.units import shell_path

__all__ = [
    "check_path",
    "collect",
    "is_installed",
    "module_of",
    "parse",
    "prefixes",
    "read_source",
    "syntax_failure",
]


# What the worker process itself runs on: a file beside the script never takes its place.
_RESERVED = sys.stdlib_module_names | {
    "__main__", "bokeh", "botocore", "aiobotocore", "click", "cloudpickle", "cytoolz", "dask",
    "daskmr", "distributed", "fsspec", "isal", "jinja2", "locket", "msgpack", "packaging",
    "partd", "psutil", "rich", "s3fs", "sortedcontainers", "tblib", "toolz", "tornado", "urllib3",
    "yaml", "zict", "zstandard",
}  # fmt: skip


def prefixes(dotted: str) -> list[str]:
    """
    >>> prefixes("a.b.c")
    ['a', 'a.b', 'a.b.c']
    """
    parts = dotted.split(".")
    return [".".join(parts[: end + 1]) for end in range(len(parts))]


def module_of(file: str) -> str:
    """
    >>> module_of("geo/__init__.py"), module_of("geo/cells.py")
    ('geo', 'geo.cells')
    """
    return file.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def check_path(given: str) -> str:
    if os.path.isfile(given):
        if given.endswith(".ipynb"):
            raise InputError(
                f"{given} is a notebook: save it as a .py script, or pass its functions to daskmr.Job."
            )
        return given
    if os.path.isdir(given):
        raise InputError(
            f"The job script {given} is a directory: give the path of the .py file in it."
        )
    if os.path.exists(given):
        raise InputError(f"The job script {given} is not a regular file.")
    hint = f" Did you mean {given}.py?" if os.path.isfile(f"{given}.py") else ""
    where = "" if os.path.isabs(given) else f" (looked for in {os.getcwd()})"
    raise InputError(f"There is no job script {given}{where}.{hint}")


def read_source(path: str) -> str:
    """Decode as Python does: UTF-8 with or without a mark, or as a coding line says."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror or error}.") from None
    try:
        return importlib.util.decode_source(data)
    except (SyntaxError, UnicodeDecodeError) as error:
        failure = _decoding_failure(path, data, error)
    raise failure


def _decoding_failure(
    path: str, data: bytes, error: SyntaxError | UnicodeDecodeError
) -> InputError:
    if isinstance(error, SyntaxError) and "unknown" not in error.msg:
        try:
            data.decode()  # of the first two lines, where a coding line may be, Python tells no place
        except UnicodeDecodeError as place:
            error = place
    if isinstance(error, SyntaxError):
        return InputError(f"{path} cannot be read as Python: {error.msg}. Save the file as UTF-8.")
    line = data.count(b"\n", 0, error.start) + 1
    return InputError(
        f"{path}, line {line}: not {error.encoding} text (byte 0x{error.object[error.start]:02x}). Save the "
        'file as UTF-8, or name its encoding in the first line, as in "# -*- coding: latin-1 -*-".'
    )


def parse(text: str, path: str) -> ast.Module:
    try:
        return ast.parse(text, path)
    except SyntaxError as error:
        failure = syntax_failure(error, path)
    except (ValueError, RecursionError, MemoryError) as error:
        failure = InputError(f"{path} cannot be compiled as Python: {describe_exception(error)}.")
    raise failure


def collect(path: str, text: str, tree: ast.Module) -> tuple[dict[str, str], bool]:
    """The script and, transitively, the files that it imports from beside it.

    Returns
    -------
    files : dict
        Source text by file name, relative to the script's folder.
    imports_script : bool
        Whether a sibling imports the script.
    """
    directory, script = os.path.split(path)
    files, imports_script = {script: text}, False
    own = set(_imports(tree, ""))
    queue = [(script, own)]
    while queue:
        importer, names = queue.pop()
        for file in _siblings(directory, names):
            if file == script:
                # A script that imports its own name means the library that it is named after.
                imports_script |= importer != script and module_of(script) not in own
            elif file not in files:
                files[file] = read_source(os.path.join(directory, file))
                queue.append((file, _imports_of(files[file], file)))
    return dict(sorted(files.items())), imports_script


def _imports_of(text: str, file: str) -> set[str]:
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return set()  # if it is really imported, that fails and says why
    module = module_of(file)
    return set(
        _imports(tree, module if file.endswith("/__init__.py") else module.rpartition(".")[0])
    )


def _imports(tree: ast.Module, package: str) -> Iterator[str]:
    """Dotted names that a module of `package` may import, wherever in the file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node.module or "", node.level, package)
            names = [f"{base}.{alias.name}" for alias in node.names if base]
        elif isinstance(node, ast.Call):
            names = _named_import(node)
        else:
            continue
        for name in names:
            yield from prefixes(name.removesuffix(".*"))


def _absolute(module: str, level: int, package: str) -> str:
    """
    >>> _absolute("cells", 2, "geo.grid")
    'geo.cells'
    """
    if not level:
        return module
    parents = package.split(".")[: len(package.split(".")) - level + 1] if package else []
    return ".".join(filter(None, [*parents, module])) if parents else ""


def _named_import(call: ast.Call) -> list[str]:
    """``import_module("geo.cells")`` and ``__import__("geo")``."""
    function = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if function not in ("import_module", "__import__") or not call.args:
        return []
    name = getattr(call.args[0], "value", None)
    valid = isinstance(name, str) and all(part.isidentifier() for part in name.split("."))
    return [str(name)] if valid else []


def _siblings(directory: str, names: set[str]) -> Iterator[str]:
    for name in sorted(names):
        file = _find(directory, name)
        if file is not None:
            yield file
            if file.endswith("/__init__.py"):
                yield from _package_files(directory, os.path.dirname(file))


def _find(directory: str, dotted: str) -> str | None:
    """The file beside the script that Python would import as `dotted`, if there is one."""
    top, _, rest = dotted.partition(".")
    if top in _RESERVED or is_installed(os.path.join(directory, top)):
        return None
    base = dotted.replace(".", "/")
    for file in (f"{base}/__init__.py", f"{base}.py"):
        if os.path.isfile(os.path.join(directory, file)):
            return None if rest and _is_elsewhere(directory, top) else file
    return None


def _is_elsewhere(directory: str, top: str) -> bool:
    """Whether a folder without ``__init__.py`` gives way to a library of its name, as in Python."""
    if os.path.isfile(os.path.join(directory, top, "__init__.py")):
        return False
    spec = importlib.machinery.PathFinder.find_spec(top)
    return spec is not None and spec.origin is not None


def is_installed(filename: str) -> bool:
    return os.path.basename(os.path.dirname(filename)) in ("site-packages", "dist-packages")


def _package_files(directory: str, package: str) -> Iterator[str]:
    """All modules of a package, also those it imports in ways that can't be seen."""
    with os.scandir(os.path.join(directory, package)) as entries:
        found = sorted(entries, key=lambda entry: entry.name)
    for entry in found:
        file = f"{package}/{entry.name}"
        stem, extension = os.path.splitext(entry.name)
        if (
            extension == ".py"
            and stem.isidentifier()
            and entry.is_file()
            and _is_readable(entry.path)
        ):
            yield file
        elif entry.name.isidentifier() and os.path.isfile(os.path.join(entry.path, "__init__.py")):
            yield f"{file}/__init__.py"
            yield from _package_files(directory, file)


def _is_readable(path: str) -> bool:
    """A file of a package that can't be read matters only when it is imported."""
    try:
        read_source(path)
    except InputError:
        return False
    return True


class _Python2(NamedTuple):
    message: str
    """Pattern that the compiler's message has."""
    before: str
    """Pattern of the line up to the error."""
    after: str
    """Pattern of the line from the error on."""
    advice: str


_PYTHON2 = (
    _Python2(r"call to 'print'", "", "", "`print` is a function now: write `print(...)`"),
    _Python2(r"call to 'exec'", "", "", "`exec` is a function now: write `exec(...)`"),
    _Python2(r"", r"^\s*except\b", r".*,\s*\w+\s*:", "write `except X as e:` for `except X, e:`"),
    _Python2(r"", r"^\s*raise\b", r".*,", "write `raise X(message)` for `raise X, message`"),
    _Python2(r"leading zeros", "", "", "octal numbers are written `0o777` for `0777`"),
    _Python2(
        r"invalid \w+ literal", "", r".{0,2}[lL]\b", "leave out the `L` of `10L`: every int is long"
    ),
    _Python2(
        r"parameters cannot be parenthesized", "", "", "take one parameter, and unpack it inside"
    ),
    _Python2(r"invalid syntax", "", r"`", "write `repr(x)` for backticks"),
    _Python2(r"invalid syntax", "", r"<>", "write `!=` for `<>`"),
    _Python2(r"invalid syntax", r"\b[uU][rR]$", r"['\"]", 'write `r"..."` for `ur"..."`'),
    _Python2(r"invalid syntax", "", r"[uU][rR]['\"]", 'write `r"..."` for `ur"..."`'),
    _Python2(r"inconsistent use of tabs", "", "", "indent with spaces only"),
)


def _python2_advice(error: SyntaxError, line: str) -> str:
    column = max((error.offset or 1) - 1, 0)
    for known in _PYTHON2:
        if (
            re.search(known.message, error.msg)
            and re.search(known.before, line[:column] or line[: column + 1])
            and re.match(known.after, line[column:])
        ):
            return f" This looks like Python 2: {known.advice}."
    return ""


def syntax_failure(error: SyntaxError, path: str) -> InputError:
    advice = _python2_advice(error, error.text or "")
    if advice and "indent" not in advice:
        advice += (
            f" For all of {os.path.basename(path)} like this: `pip install fissix`, and "
            f"`python -m fissix -w {shell_path(path)}`."
        )
    shown = "".join(f"\n    {line}" for line in excerpt(error))
    problem = f"{error.msg[:1].lower()}{error.msg[1:]}".rstrip("?.")
    return InputError(f"{path}, line {error.lineno}: syntax error: {problem}.{advice}{shown}")
