"""Check whether a script is acceptable, and explain why if it is not."""

from __future__ import annotations

import ast
import difflib
import inspect
import os
import re
import socket
import sys
import types
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from daskmr.errors import InputError
from daskmr.job.process_errors import explain_process_error
from daskmr.job.shipped.given import FileError
from daskmr.job.sources import is_library, is_of_reducers, module_of, parse, syntax_failure
from daskmr.job.tracebacks import (
    describe_exception,
    format_user_traceback,
    short_repr,
    user_location,
)
from daskmr.memory import NEAR_LIMIT, OutOfMemory, explain_shortage
from daskmr.text import counted

if TYPE_CHECKING:
    from daskmr.job.job import Job

__all__ = [
    "OLD_FINISH_MAP", "Function", "Functions", "Hooks", "check_functions", "choose_functions",
    "explain_load_failure", "hint_for", "is_order", "likely_misspelt", "notes_on", "take_hooks",
]  # fmt: skip

Function = Callable[..., Any]
IsOwn = Callable[[str, "str | None"], bool]


class Functions(NamedTuple):
    """The functions of a job, by their names in a script."""

    map: Function
    combine: Function | None
    reduce: Function | None
    setup_reduce: Function | None
    read: Function | None = None
    setup_map: Function | None = None
    finish_map: Function | None = None
    finish_reduce: Function | None = None
    sort_values: Any = None  # ``True``, or a function of a value


class Hooks(TypedDict, total=False):
    """The hooks among a job's functions, as keyword arguments."""

    setup_map: Function | None
    finish_map: Function | None
    map_finished: Function | None
    finish_reduce: Function | None


OLD_FINISH_MAP = "map_finished"
"""The name of `finish_map` in older scripts."""

_READ = ("stream", "dims")
_ARGUMENTS = {
    "map": ("key", "dims", "value", "context"),
    "combine": ("key", "values", "context"),
    "reduce": ("key", "values", "context"),
    "setup_reduce": ("context",),
    "setup_map": ("context",),
    "finish_map": ("context",),
    "finish_reduce": ("context",),
}

# --- which functions ------------------------------------------------------------------------------


def choose_functions(
    namespace: Mapping[str, Any], where: str, is_own: IsOwn
) -> tuple[Functions, dict[str, str]]:
    """Return a job's functions from the names in its module, and those that belong to a library.

    For example, ``from functools import reduce`` does not define the job's `reduce`.
    """
    found = {name: namespace.get(name) for name in _ARGUMENTS}
    found["finish_map"] = _finish_map(namespace, where)
    libraries = {
        name: _library_name(name, value, is_own)
        for name, value in found.items()
        if value is not None and not _is_made_for(name, value)
    }
    passed_over = {name: library for name, library in libraries.items() if library}
    functions = Functions(
        **found | dict.fromkeys(passed_over),  # type: ignore[arg-type]
        read=_reader_in(namespace),
        sort_values=order if is_order(order := namespace.get("sort_values")) else None,
    )
    if functions.map is None:
        raise InputError(_no_map(namespace, where, passed_over.get("map", "")))
    check_functions(functions, where)
    return functions, passed_over


def take_hooks(options: dict[str, Any], where: str) -> Hooks:
    """Remove the hooks from keyword arguments, and return those that are given, by their names of today."""
    given: dict[str, Any] = {name: options.pop(name, None) for name in Hooks.__annotations__}
    given["finish_map"] = _finish_map(given, where)
    del given[OLD_FINISH_MAP]
    hooks: Any = {name: hook for name, hook in given.items() if hook is not None}
    return hooks  # type: ignore[no-any-return]


def _finish_map(namespace: Mapping[str, Any], where: str) -> Any:
    """Return the hook `finish_map` by either of its names."""
    hook, old = namespace.get("finish_map"), namespace.get(OLD_FINISH_MAP)
    if hook is not None and old is not None and hook is not old:
        raise InputError(
            f"{where}: `{OLD_FINISH_MAP}` is the old name of `finish_map`, so only one of them can be "
            "called. Make them one function, `finish_map(context)`."
        )
    return old if hook is None else hook


def _reader_in(namespace: Mapping[str, Any]) -> Function | None:
    """Return `read` if it is the job's: a script may use the name for another function."""
    read = namespace.get("read")
    with suppress(ValueError, TypeError):
        return read if (*inspect.signature(read).parameters,) == _READ else None  # type: ignore[arg-type]
    return None


def is_order(value: Any) -> bool:
    """Check whether `sort_values` of a script is the job's: it may be another function of that name.

    It is ``True``, ``def sort_values(value):``, or something else with one argument, like a lambda.
    """
    if not callable(value):
        return value is True
    with suppress(ValueError, TypeError):
        parameters = (*inspect.signature(value).parameters,)
        is_named = getattr(value, "__name__", "") == "sort_values"
        return parameters == ("value",) if is_named else not _binding_problem(value, 1)
    return True


def _is_made_for(name: str, function: Any) -> bool:
    """Check whether a function, even one of a library, has exactly the arguments of a job's function."""
    with suppress(ValueError, TypeError):
        return (*inspect.signature(function).parameters,) == _ARGUMENTS[name]
    return False


def _library_name(name: str, value: Any, is_own: IsOwn) -> str:
    """Return the name of `value` in the library that defines it; ``""`` if it is the script's own."""
    code = getattr(value, "__code__", None)
    if is_own("", getattr(code, "co_filename", None)) or _instead_of(name, value):
        return ""
    names: set[str] = {name, getattr(value, "__name__", name)}
    home = str(getattr(value, "__module__", "")).lstrip("_")
    having = [
        # Prefer the best known: `functools.reduce` is also in `_functools`, `enum` and `toolz`.
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


def _no_map(namespace: Mapping[str, Any], where: str, library: str) -> str:
    if library:
        return (
            f"{where} does not define `map`: the `map` in it is {library}, which it imports. Define `def "
            "map(key, dims, value, context):`, and import the other one by another name."
        )
    functions = [name for name, value in namespace.items() if callable(value)]
    names = {name.lower(): name for name in functions if name[:2] != "__"}
    like = [name for name in names if "map" in name] or difflib.get_close_matches("map", names)
    hint = f" Should `{names[like[0]]}` be named `map`?" if like else ""
    return (
        f"{where} does not define `map`.{hint} A job defines `def map(key, dims, value, context):`, and may define "
        "`combine(key, values, context)`, `reduce(key, values, context)`, `setup_reduce(context)` and hooks "
        "(`setup_map`, `finish_map`, `finish_reduce`); or it defines `steps = [Job(map=..., reduce=...), ...]`."
    )


def check_functions(functions: Functions, where: str) -> None:
    """Raise InputError for a function that cannot be called like a job's function."""
    if functions.read is not None and not callable(functions.read):
        raise InputError(f"{where}: `read` is not a function like `def read(stream, dims):`.")
    if functions.sort_values not in (None, False) and not is_order(functions.sort_values):
        raise InputError(
            f"{where}: `sort_values` is {short_repr(functions.sort_values)}, neither True nor a function "
            "of a value. Write `sort_values = True`, or `sort_values = lambda value: value[0]`."
        )
    for name, function in functions._asdict().items():
        if name in _ARGUMENTS and (function is not None or name == "map"):
            _check_function(name, function, where)
    if functions.finish_reduce is not None and functions.reduce is None:
        raise InputError(
            f"{where}: `finish_reduce` is called after the last key of `reduce`, which this job lacks. "
            "For the end of each partition that is mapped, define `finish_map(context)`."
        )
    reduce, of = functions.reduce, getattr(functions.combine, "__self__", None)
    are_ready = is_of_reducers(type(reduce).__module__) and is_of_reducers(type(of).__module__)
    if are_ready and repr(reduce) != repr(of):
        raise InputError(
            f"{where}: `reduce` is {reduce!r}, which does not understand the partial results of "
            f"`{of!r}.combine`. Write `combine = {reduce!r}.combine`."
        )


def _check_function(name: str, function: Any, where: str) -> None:
    signature = f"def {name}({', '.join(_ARGUMENTS[name])}):"
    if not callable(function):
        raise InputError(
            f"{where}: `{name}` is {short_repr(function)}, not a function like `{signature}`."
        )
    if instead := _instead_of(name, function):
        raise InputError(f"{where}: {instead}")
    line = getattr(getattr(function, "__code__", None), "co_firstlineno", None)
    place = f"{where}, line {line}" if line and os.path.isabs(where) else where
    kinds = (inspect.isgeneratorfunction, inspect.iscoroutinefunction, inspect.isasyncgenfunction)
    called = (function, inspect.getattr_static(type(function), "__call__", None))
    if any(is_kind(each) for is_kind in kinds for each in called):
        raise InputError(
            f"{place}: `{name}` is a generator or async function, so calling it would do nothing. "
            f"Make it a plain `{signature}`, and for `yield` call `context.write(...)`."
        )
    problem = _binding_problem(function, len(_ARGUMENTS[name]))
    if problem:
        taken = counted(len(_ARGUMENTS[name]), "positional argument")
        own = getattr(function, "__name__", name)
        known = f" ({own})" if own.isidentifier() and own != name else ""
        raise InputError(
            f"{place}: `{name}`{known} cannot be called with {taken} ({problem}). "
            f"Define it as `{signature}`."
        )


def _instead_of(name: str, function: Any) -> str:
    """Return how to use a reducer of `daskmr.reducers` that is not used as it is meant, or ""."""
    home = getattr(function, "__module__", "")
    if name not in ("reduce", "combine") or not is_of_reducers(home):
        return ""
    if isinstance(function, type | types.FunctionType):
        known = function.__name__ if isinstance(function, type) else "top"
        return (
            f"`{name}` belongs to a reducer that takes settings, but was given none. Write "
            f"`reduce = {known}(...)`, and `combine = reduce.combine`."
        )
    reducer = getattr(function, "__self__", function)
    if name == "combine" and reducer is function:
        return f"`combine` is {reducer!r}. Write `combine = {reducer!r}.combine`."
    if name == "reduce" and reducer is not function:
        return f"`reduce` is {reducer!r}.combine. Write `reduce = {reducer!r}`."
    return ""


def _binding_problem(function: Function, count: int) -> str:
    try:
        # The wrapper of a decorator will be called, not the function inside it.
        signature = inspect.signature(function, follow_wrapped=False)
    except (ValueError, TypeError):
        return ""  # a builtin without a signature
    try:
        signature.bind(*range(count))
    except TypeError as error:
        return f"{error}; it takes {len(signature.parameters)}"
    return ""


# --- notes on unused functions and files ----------------------------------------------------------


def notes_on(job: Job, passed_over: Mapping[str, str]) -> Iterator[str]:
    """Yield notes on functions and files of a script that are not used."""
    for name, library in passed_over.items():
        without = ": without one, what map writes is the output" if name == "reduce" else ""
        yield (
            f"`{name}` in the script is {library}, not a function of the script or of a module of "
            f"yours, so it is not the job's `{name}`{without}"
        )
    yield from _notes_on_order(job)
    if any(step.combine is not None and step.reduce is None for step in job.steps):
        is_named = job.path and len(job.steps) == 1
        meant = "" if is_named else ". Name each function: Job(map=..., reduce=...)"
        yield f"combine is never called, because there is no reduce{meant}"
    yield from map(_note_unused, job.unused)
    names = likely_misspelt(job.files[os.path.basename(job.path)], job.path) if job.path else {}
    for name, meant in names.items():
        if meant:
            yield f"`{name}` is never called. Should it be named `{meant}`?"
        else:
            *others, last = (f"`{each}`" for each in _ARGUMENTS)
            called = f"{', '.join(others)} and {last}"
            yield f"`{name}` is never called: a run calls only {called} of a script"


def _notes_on_order(job: Job) -> Iterator[str]:
    """Yield a note if `sort_values` does not sort anything."""
    order = job.declared.sort_values
    if job.sort_values is not None and job.reduce is None:
        yield "`sort_values` has no effect: without reduce, there are no values of a key"
    elif job.sort_values is None and order is not None and order is not False:
        shown = short_repr(order)
        with suppress(ValueError, TypeError):
            shown = f"def sort_values{inspect.signature(order)}"
        yield (
            f"`sort_values` in the script is `{shown}`, neither True nor a function "
            "`def sort_values(value):`, so reduce gets values in input order"
        )


def _note_unused(file: str) -> str:
    name = module_of(file)
    is_standard = name in sys.stdlib_module_names
    owner = "Python's standard library" if is_standard else "an installed library"
    return (
        f"{file} beside the script is not used: the module {name!r} is that of {owner}. If the script "
        "means the file, give it another name"
    )


_LIKE_HOOKS = (  # compiled only if a script has functions that a job does not call
    r"(map|reduce|combine)(?![a-z])|"
    r"(map|reduc|combin)(e|per|er|ed|ing)?_?"
    r"(setup|init|start|begin|teardown|cleanup|finish|final|done|close|end)|"
    r"(setup|init|start|begin|before|teardown|cleanup|finish|finali[sz]e|close|end|after|on)_"
    r"(map|reduc|combin)(e|per|er|ing)?s?$|"
    r"(map|reduc|combin)(per|er|e?or)s?$|"
    r"(setup|teardown|cleanup|init|start|finish|close|end|output)$"
)


def likely_misspelt(text: str, path: str) -> dict[str, str]:
    """Find unused functions of a script whose names resemble those that a job may define.

    Returns a dict from each function's name to the name that was likely intended, or "".

    >>> likely_misspelt("def map(k, d, v, c): pass\\ndef reducer(k, v, c): pass", "job.py")
    {'reducer': 'reduce'}
    >>> likely_misspelt("def map(k, d, v, c): pass\\ndef map_cleanup(c): pass", "job.py")
    {'map_cleanup': ''}
    """
    tree = parse(text, path)
    nodes = [node for node in ast.walk(tree) if isinstance(node, ast.Name)]
    used = {node.id for node in nodes if isinstance(node.ctx, ast.Load)}
    defined = {node.id for node in nodes if isinstance(node.ctx, ast.Store)}
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    names = [n.name for n in tree.body if isinstance(n, functions) and not n.decorator_list]
    missing = [name for name in _ARGUMENTS if name not in ("map", *names) and name not in defined]
    found = {}
    for name in names:
        if name in _ARGUMENTS or name in used or name == OLD_FINISH_MAP:
            continue
        plain = name.lower().strip("_")
        like = [each for each in missing if sorted(each.split("_")) == sorted(plain.split("_"))]
        like = like or difflib.get_close_matches(plain, missing, 1, 0.75)
        if like:
            found[name] = like[0]
        elif re.match(_LIKE_HOOKS, plain) or difflib.get_close_matches(plain, _ARGUMENTS, 1, 0.75):
            found[name] = ""
    return found


# --- failures -------------------------------------------------------------------------------------


def explain_load_failure(job: Job, exc: BaseException) -> InputError:
    """Return an error that describes where and why loading the script fails."""
    if isinstance(exc, OutOfMemory):
        exc = MemoryError(NEAR_LIMIT).with_traceback(exc.__traceback__)
    if isinstance(exc, SyntaxError) and job.is_user_file(exc.filename or ""):
        return syntax_failure(exc, exc.filename or "")
    place = user_location(job, exc) or ""
    where = os.path.join(os.path.dirname(job.path), place or job.path) if job.path else "The job"
    if isinstance(exc, ModuleNotFoundError) and exc.name and not _unused_file(job, exc.name):
        return InputError(f"{where}: {_missing_module(job, exc.name)}")
    if isinstance(exc, FileError):
        return InputError(f"{where}: {exc}")
    if isinstance(exc, SystemExit):
        reason = (
            "the script calls sys.exit while it is loaded, so its functions cannot be used. "
            'Move code that runs as a program under `if __name__ == "__main__":`.'
        )
    else:
        reason = f"it fails while it is loaded: {describe_exception(exc)}"
        if isinstance(exc, MemoryError):
            explanation = explain_shortage("load")
        else:
            from daskmr.job.porting_errors import advice_for  # deferred: only a failure needs it

            explanation = hint_for(job, exc) or explain_process_error(exc, loading=True)
            explanation = (explanation or advice_for(exc)).strip()
        if explanation:
            reason = f"{reason.removesuffix('.')}. {explanation}"
    return InputError(f"{where}: {reason}", format_user_traceback(job, exc))


def hint_for(job: Job, exc: BaseException) -> str:
    """Return advice on an exception that is caused by the location of the script's files, or ""."""
    module = ""
    if isinstance(exc, AttributeError) and isinstance(exc.obj, types.ModuleType):
        module = exc.obj.__name__
    elif isinstance(exc, ImportError):
        module = exc.name or ""
    unused = _unused_file(job, module)
    if unused:
        return f" {_note_unused(unused)}."
    if isinstance(exc, TypeError) and re.match(
        r"_?\w+\.__call__\(\) missing .*'context'", str(exc)
    ):
        return (
            " A ready-made reducer is not called in the script: write `reduce = total`. Those with settings "
            "are `top(10)`, `quantiles(0.5)`, `histogram([0, 10])` and `distinct.up_to(100)`."
        )
    if isinstance(exc, FileNotFoundError) and isinstance(exc.filename, str) and job.path:
        return _hint_missing_file(job, job.path, exc.filename)
    if isinstance(exc, ModuleNotFoundError) and exc.name:
        missing = _missing_module(job, exc.name)
        return f" {missing[:1].upper()}{missing[1:]}"
    return ""


def _unused_file(job: Job, module: str) -> str:
    """Return the file beside the script that is not used as `module`, because the name is taken."""
    top = module.partition(".")[0]
    return next((file for file in job.unused if module_of(file).partition(".")[0] == top), "")


def _hint_missing_file(job: Job, script: str, name: str) -> str:
    folder = os.path.dirname(script)
    is_beside = name.startswith(os.path.join(folder, ""))
    relative = os.path.relpath(name, folder) if is_beside else os.path.normpath(name)
    if os.path.isabs(relative) or relative.startswith(".."):
        return ""
    top = relative.partition("/")[0]
    line = f'daskmr.file("{relative}")'
    if top not in job.shipped.sent:
        line = f'files = ["{top}"] at the top of the script, and then {line}'
    if not os.path.exists(script if job.code is None else folder):
        return (
            f" The worker on {socket.gethostname()} does not see the script's folder {folder}: it "
            f"receives the script's modules, and the files that the script sends. Write {line}."
        )
    if not is_beside:
        if not os.path.exists(os.path.join(folder, relative)):
            return ""
        return f" It is beside the script, but not in the working directory {os.getcwd()}. Write {line}."
    target = os.path.realpath(script)
    there = os.path.join(os.path.dirname(target), os.path.relpath(name, folder))
    if os.path.islink(script) and os.path.exists(there):
        return (
            f" The script is a link, and `__file__` is its own path; the file is beside its target, "
            f"{there}. Link that as well, or run {target}."
        )
    return ""


_RENAMED = {
    "ConfigParser": "configparser", "cPickle": "pickle", "cStringIO": "io", "StringIO": "io",
    "HTMLParser": "html.parser", "httplib": "http.client", "Queue": "queue",
    "__builtin__": "builtins", "anydbm": "dbm", "urllib2": "urllib.request",
    "urlparse": "urllib.parse", "sets": "the builtin set", "imp": "importlib",
}  # fmt: skip


# Modules whose distribution has a different name, and some popular ones.
_DISTRIBUTIONS = {
    "bs4": "beautifulsoup4", "cv2": "opencv-python", "dateutil": "python-dateutil",
    "PIL": "Pillow", "sklearn": "scikit-learn", "yaml": "PyYAML",
    "lxml": "lxml", "numpy": "numpy", "orjson": "orjson", "pandas": "pandas", "pyarrow": "pyarrow",
    "pytz": "pytz", "regex": "regex", "requests": "requests", "scipy": "scipy",
    "simplejson": "simplejson", "six": "six", "ujson": "ujson",
}  # fmt: skip


def _missing_module(job: Job, name: str) -> str:
    top = name.partition(".")[0]
    if top in _RENAMED:
        return (
            f"there is no module {name!r} in this Python; its functions are now in {_RENAMED[top]}."
        )
    if name != top and (f"{top}.py" in job.files or f"{top}/__init__.py" in job.files):
        return f"there is no module {name!r} beside the script, though there is {top!r}."
    if top in _DISTRIBUTIONS:
        return (
            f"the module {name!r} is missing. Install it here and in the environment of every worker: "
            f"`pip install {_DISTRIBUTIONS[top]}`."
        )
    known = [*sys.stdlib_module_names, *_DISTRIBUTIONS]
    with suppress(OSError):  # a worker may not see the folder
        files = os.listdir(os.path.dirname(job.path)) if job.path else []
        known += [file.removesuffix(".py") for file in files if file.endswith(".py")]
    public = sorted({each for each in known if each[0] != "_"})
    like = difflib.get_close_matches(top, public, 1, 0.75)
    meant = f" Did you mean `{like[0]}`?" if like else ""
    own = "If"
    if job.path:
        own = (
            f"If it is yours, put {top}.py beside the script, or give its folder as --py-files; if"
        )
    return (
        f"the module {name!r} is missing.{meant} {own} it is a library's, install that library here "
        "and in the environment of every worker."
    )
