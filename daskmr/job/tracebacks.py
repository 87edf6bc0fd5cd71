"""Tracebacks of the user's own code: without our frames, capped, and never raising themselves."""

from __future__ import annotations

import dis
import io
import linecache
import os
import re
import textwrap
import traceback
from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

__all__ = [
    "NO_CHILDREN",
    "UserCode",
    "describe_exception",
    "excerpt",
    "explain_process_error",
    "format_user_traceback",
    "remember_lines",
    "shorten",
    "user_location",
]

_MESSAGE_LIMIT = 2_000
_TRACEBACK_LIMIT = 8_000
_DESCRIPTION_LIMIT = 300
_FRAMES_SHOWN = 2_000
_CHAIN_SHOWN = 10

_SIGNALS = (
    "Signal handlers can be set in the main thread only, and a worker process runs the script in "
    "another: leave that out, or run with --inline."
)
_CHILDREN = (
    "A job cannot start processes with multiprocessing, ProcessPoolExecutor or joblib: daskmr runs "
    "it in one process a core already. Call the function directly, or use threads "
    "(ThreadPoolExecutor) or subprocess."
)
_CLOSED = (
    "The script used a file, or the like, that it had closed or given away before: open it where "
    "it is used. No record is left out for this."
)
_UNSUPPORTED = (
    "The file that the script used does not allow this: in a task, standard input, output and "
    "error are no files of the system. No record is left out for this."
)
_IMPORT = (
    "A module failed while it was imported, so the record is not at fault. Repair its "
    "installation, and import it at the top of the script to see that at once."
)
_PROCESS = (
    "This comes from how the script is run, not from the data, so no record is left out for it."
)

NO_CHILDREN = "daemonic processes are not allowed to have children"
"""What Python says in a worker that is a daemon, as those of Dask are by default."""

# Whole messages without a place for data: one that quotes a record must not be taken for them.
_MESSAGES = (
    r"(?P<signals>[\w.() ]+ only works in (the )?main thread[\w ]*\.?)"
    r"|(?P<closed>(I/O|invalid) operation on (closed|uninitialized) [\w ]+\.?"
    r"|(flush|peek|read|seek|tell|truncate|write)\w*(\(\))? (of|to|on) closed (file|\w+ object)\.?"
    r"|Attempt to (use|write to) ZIP archive that was already closed"
    r"|mmap closed or invalid"
    r"|underlying buffer has been detached|raw stream has been detached"
    r"|operation forbidden on released memoryview object)"
    r"|(?P<process>generator already executing)"
)
_EXPLANATIONS = {"signals": _SIGNALS, "closed": _CLOSED, "process": _PROCESS}
_PROCESS_MODULES = frozenset(("concurrent", "daskmr", "multiprocessing", "selectors", "threading"))
_STANDARD_ERRORS = frozenset(("io", "ssl"))


class UserCode(Protocol):
    """What tells the user's code from that around it; a `daskmr.job.job.Job` does."""

    @property
    def path(self) -> str | None:
        """Absolute path of the script."""

    @property
    def module_name(self) -> str | None:
        """Name of the module that the script is loaded as."""

    @property
    def texts(self) -> Mapping[str, str]:
        """Source text by file name, as it was shipped."""

    def is_user_file(self, filename: str) -> bool:
        """Tell whether a frame's file holds the user's code."""


_OWN_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_CONTROLS = {
    code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"
}


def format_user_traceback(code: UserCode, exc: BaseException) -> str:
    """Python's traceback of `exc`, from the user's first frame on and without daskmr's own.

    Parameters
    ----------
    code : UserCode
        Whose files are the user's.
    exc : BaseException
        With its causes; a text of any size, or none that can be had.

    Returns
    -------
    str
        At most 8,000 characters, of a longer one the beginning and the end.
    """
    remember_lines(code.texts)
    text = "".join(link + _format_one(code, each) for link, each in _chain(exc))
    return shorten(text, _TRACEBACK_LIMIT, " ... ({:,} characters left out) ...\n")


def describe_exception(exc: BaseException) -> str:
    """Type and text of an exception in one line of at most 300 characters; never raises.

    >>> describe_exception(ValueError("not a number:\\n'x'"))
    "ValueError: not a number: 'x'"
    >>> describe_exception(KeyError())
    'KeyError'
    """
    message = " ".join(_message(exc, _MESSAGE_LIMIT).split())
    name = type(exc).__name__
    return shorten(f"{name}: {message}" if message else name, _DESCRIPTION_LIMIT)


def user_location(code: UserCode, exc: BaseException) -> str | None:
    """Where in the user's code `exc` arose, as ``"job.py, line 12, in map"``; ``None``: not there."""
    place = None
    for frame, line in traceback.walk_tb(exc.__traceback__):
        if code.is_user_file(frame.f_code.co_filename):
            place = (frame.f_code, line)
    if place is None:
        return None
    inner, line = place
    function = "" if inner.co_name == "<module>" else f", in {inner.co_name}"
    return f"{_shown_name(code, inner.co_filename)}, line {line}{function}"


def explain_process_error(exc: BaseException, *, loading: bool = False) -> str:
    """Say what to do about an error of the process the script runs in; ``""`` for any other.

    A ``ValueError`` makes its record a bad one, but Python raises some that have nothing to do with
    the record. With those, every record would be left out, or those that one process was given.

    Parameters
    ----------
    exc : BaseException
        With what it was raised from.
    loading : bool
        The script was being loaded, so that it is no news that a module was.

    Examples
    --------
    >>> explain_process_error(ValueError("I/O operation on closed file."))[:22]
    'The script used a file'
    >>> explain_process_error(ValueError("invalid literal: 'I/O operation on closed file.'"))
    ''
    """
    current: BaseException | None = exc
    for _ in range(_CHAIN_SHOWN):
        if current is None:
            break
        if explanation := _explain_one(current, loading):
            return explanation
        current = _translated(current)
    return ""


def _explain_one(exc: BaseException, loading: bool) -> str:
    if isinstance(exc, AssertionError) and _message(exc, _MESSAGE_LIMIT) == NO_CHILDREN:
        return _CHILDREN
    if match := re.fullmatch(_MESSAGES, _message(exc, _MESSAGE_LIMIT)):
        return _EXPLANATIONS[match.lastgroup or ""]
    if not isinstance(exc, ValueError):
        return ""
    if isinstance(exc, io.UnsupportedOperation):
        return _UNSUPPORTED
    if isinstance(exc, OSError) and type(exc).__module__ in _STANDARD_ERRORS:
        return _PROCESS
    if not loading and _is_of_import(exc.__traceback__):
        return _IMPORT
    inner = _innermost(exc)
    module = inner.tb_frame.f_globals.get("__name__", "") if inner is not None else ""
    if module == "signal":
        return _SIGNALS
    # What they call in C (`int` in a `map` that they iterate over) raises for the sake of data, and
    # what another process has raised is raised once more, from a text of its traceback.
    own = str(module).partition(".")[0] in _PROCESS_MODULES and exc.__cause__ is None
    return _PROCESS if own and inner is not None and _is_raise(inner) else ""


def _innermost(exc: BaseException) -> TracebackType | None:
    trace = exc.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace


def _is_raise(trace: TracebackType) -> bool:
    """Tell a ``raise`` from a call of C code that raises."""
    return trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]


def _is_of_import(trace: TracebackType | None) -> bool:
    while trace is not None:
        frame = trace.tb_frame
        filename = frame.f_code.co_filename
        if frame.f_code.co_name == "<module>" and frame.f_globals.get("__file__") == filename:
            return True
        trace = trace.tb_next
    return False


def _translated(exc: BaseException) -> BaseException | None:
    """Return the error that `exc` was raised in place of, by the function that caught it."""
    context, inner = exc.__context__, _innermost(exc)
    if exc.__cause__ is not None:
        return exc.__cause__
    if context is None or context.__traceback__ is None or inner is None or not _is_raise(inner):
        return None
    return context if context.__traceback__.tb_frame is inner.tb_frame else None


def _shown_name(code: UserCode, filename: str) -> str:
    if not code.path:
        return os.path.basename(filename)
    return filename.removeprefix(os.path.join(os.path.dirname(code.path), ""))


def _chain(exc: BaseException) -> list[tuple[str, BaseException]]:
    """An exception and those that led to it, oldest first, each with the words that join it on."""
    links: list[tuple[str, BaseException]] = []
    seen: set[int] = set()
    following: BaseException | None = exc
    while following is not None and id(following) not in seen and len(links) < _CHAIN_SHOWN:
        current = following
        seen.add(id(current))
        hidden = current.__suppress_context__
        following = current.__cause__ or (None if hidden else current.__context__)
        joint = _CAUSE if current.__cause__ is not None else _CONTEXT
        links.append(
            (joint if following is not None and id(following) not in seen else "", current)
        )
    oldest = links.pop()[1]
    return [("", oldest), *reversed(links)]


def _format_one(code: UserCode, exc: BaseException) -> str:
    frames = list(traceback.extract_tb(exc.__traceback__, limit=-_FRAMES_SHOWN))
    first = next((i for i, frame in enumerate(frames) if code.is_user_file(frame.filename)), 0)
    shown = [frame for frame in frames[first:] if not _is_machinery(frame.filename)]
    head = ["Traceback (most recent call last):\n"] if shown else []
    tail = f"{_type_name(code, exc)}{_after_colon(exc)}\n"
    return "".join(
        [*head, *traceback.StackSummary.from_list(shown).format(), tail, *_members(code, exc)]
    )


def _is_machinery(filename: str) -> bool:
    return filename.startswith((_OWN_FOLDER, "<frozen importlib"))


def _type_name(code: UserCode, exc: BaseException) -> str:
    kind = type(exc)
    plain = kind.__module__ in ("builtins", "__main__", code.module_name)
    return kind.__qualname__ if plain else f"{kind.__module__}.{kind.__qualname__}"


def _after_colon(exc: BaseException) -> str:
    message = _message(exc, _MESSAGE_LIMIT)
    source = excerpt(exc) if isinstance(exc, SyntaxError) else []
    notes = getattr(exc, "__notes__", None)
    notes = (
        [shorten(note, _MESSAGE_LIMIT) for note in notes if isinstance(note, str)]
        if isinstance(notes, list)
        else []
    )
    lines = [f": {message}" if message else "", *(f"    {line}" for line in source), *notes]
    return shorten("\n".join(lines), _MESSAGE_LIMIT + 50)


def _members(code: UserCode, exc: BaseException) -> list[str]:
    """The exceptions of an exception group."""
    members = exc.exceptions[:3] if isinstance(exc, BaseExceptionGroup) else ()
    return [textwrap.indent(_format_one(code, member), "  | ") for member in members]


def _message(exc: BaseException, limit: int) -> str:
    try:
        text = shorten(str(exc), limit)
    except (Exception, SystemExit, GeneratorExit) as error:
        return f"(its text cannot be shown: __str__ raised {type(error).__name__})"
    # Lone surrogates and control characters would break what shows or sends the text.
    return shorten(text.encode("utf-8", "backslashreplace").decode().translate(_CONTROLS), limit)


def shorten(text: str, limit: int, gap: str = " ... ({:,} characters left out) ... ") -> str:
    """Keep the beginning and the end.

    >>> shorten("a" * 50 + "z" * 50, 50)
    'aaaa ... (94 characters left out) ... zz'
    """
    if len(text) <= limit:
        return text
    room = max(limit - len(gap) - 8, 0)
    head, tail = room - room // 3, room // 3
    return text[:head] + gap.format(len(text) - head - tail) + text[len(text) - tail :]


def remember_lines(texts: Mapping[str, str]) -> None:
    """Let tracebacks show the lines that run, where the file is absent or has changed since."""
    for filename, text in texts.items():
        lines = [line + "\n" for line in text.removesuffix("\n").split("\n")]
        linecache.checkcache(filename)
        if text and linecache.getlines(filename) != lines:
            linecache.cache[filename] = (len(text), None, lines, filename)


def excerpt(error: SyntaxError) -> list[str]:
    """The line of a syntax error, and a caret under the place."""
    line = (error.text or linecache.getline(error.filename or "", error.lineno or 0)).rstrip()
    code = line.lstrip()
    if not code:
        return []
    column = max((error.offset or 1) - 1 - (len(line) - len(code)), 0)
    start = max(column - 80, 0)
    code = code[start : start + 160]
    return [code, re.sub(r"[^\t]", " ", code[: column - start]) + "^"]
