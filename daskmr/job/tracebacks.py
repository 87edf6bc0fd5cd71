"""Tracebacks of the user's code, without other frames, limited in size; these never raise."""

from __future__ import annotations

import linecache
import os
import textwrap
import traceback
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from daskmr.job.job import Job

__all__ = [
    "causes_of", "describe_exception", "elide", "format_user_traceback", "message_of", "reason_of",
    "remember_lines", "short_repr", "user_location",
]  # fmt: skip

_LONGEST_REASON = 500  # characters; a reason may contain the entire output of a command

_MESSAGE_LIMIT = 2_000
_TRACEBACK_LIMIT = 8_000
_DESCRIPTION_LIMIT = 300
_FRAMES_SHOWN = 2_000
_CHAIN_SHOWN = 10
_GROUP_SHOWN = 3

_OWN_FOLDER = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "")
_CAUSE = "\nThe above exception was the direct cause of the following exception:\n\n"
_CONTEXT = "\nDuring handling of the above exception, another exception occurred:\n\n"
_CONTROLS = {
    code: f"\\x{code:02x}" for code in [*range(32), *range(127, 160)] if chr(code) not in "\n\t"
}


def format_user_traceback(job: Job, exc: BaseException) -> str:
    """Format `exc` and its causes, starting at the user's first frame, without daskmr's own frames.

    Returns at most 8,000 characters: the beginning and the end.
    """
    remember_lines(job.texts)
    current: traceback.TracebackException | None = traceback.TracebackException(
        type(exc), exc, exc.__traceback__, limit=-_FRAMES_SHOWN, max_group_width=_GROUP_SHOWN
    )
    parts: list[str] = []
    while current is not None and len(parts) < 2 * _CHAIN_SHOWN:
        parts += [_format_one(job, current), _CAUSE if current.__cause__ else _CONTEXT]
        hidden = current.__suppress_context__
        current = current.__cause__ or (None if hidden else current.__context__)
    text = "".join(reversed(parts[:-1]))
    return elide(text, _TRACEBACK_LIMIT, " ... ({:,} characters left out) ...\n")


def _format_one(job: Job, exc: traceback.TracebackException) -> str:
    """Format an exception without its causes."""
    users = [job.is_user_file(frame.filename) for frame in exc.stack]
    first, is_ours, shown = users.index(True) if any(users) else 0, False, []
    for frame, is_users in zip(exc.stack[first:], users[first:], strict=True):
        # What daskmr calls on behalf of the user's code, such as `json`, is its own, too.
        is_ours = frame.filename.startswith(_OWN_FOLDER) or (
            is_ours and any(users) and not is_users
        )
        if not is_ours and not frame.filename.startswith("<frozen importlib"):
            shown.append(frame)
    frames = traceback.StackSummary.from_list(shown).format()
    head = "Traceback (most recent call last):\n" if shown else ""
    # The module is named after a hash of its contents, which would only confuse its author.
    text = "".join(exc.format_exception_only()).removeprefix(f"{job.module_name}.")
    members = [_format_one(job, member) for member in (exc.exceptions or ())[:_GROUP_SHOWN]]
    indented = [textwrap.indent(member, "  | ") for member in members]
    return "".join([head, *frames, _printable(text, _MESSAGE_LIMIT + 50), *indented])


def describe_exception(exc: BaseException) -> str:
    """Return the type and text of an exception in a line of at most 300 characters; never raises.

    >>> describe_exception(ValueError("not a number:\\n'x'"))
    "ValueError: not a number: 'x'"
    >>> describe_exception(KeyError())
    'KeyError'
    """
    message = " ".join(message_of(exc).split())
    name = type(exc).__name__
    return elide(f"{name}: {message}" if message else name, _DESCRIPTION_LIMIT)


def message_of(exc: object) -> str:
    """Return the text of an exception, or another object, in at most 2,000 printable characters; never raises."""
    try:
        return _printable(str(exc), _MESSAGE_LIMIT)
    except (Exception, SystemExit, GeneratorExit) as error:
        return f"(its text cannot be shown: __str__ raised {type(error).__name__})"


def _printable(text: str, limit: int) -> str:
    # Lone surrogates and control characters could not be displayed or sent.
    text = elide(text, limit).encode("utf-8", "backslashreplace").decode()
    return elide(text.translate(_CONTROLS), limit)


def user_location(job: Job, exc: BaseException) -> str | None:
    """Return the place in the user's code that raised `exc`, such as ``"job.py, line 12, in map"``."""
    frames = traceback.walk_tb(exc.__traceback__)
    places = [(f.f_code, line) for f, line in frames if job.is_user_file(f.f_code.co_filename)]
    if not places:
        return None
    inner, line = places[-1]
    function = "" if inner.co_name == "<module>" else f", in {inner.co_name}"
    folder = os.path.dirname(job.path or inner.co_filename)
    shown = inner.co_filename.removeprefix(os.path.join(folder, ""))
    return f"{shown}, line {line}{function}"


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its chain of causes, the root cause last."""
    while error is not None:
        yield error
        error = error.__cause__


def reason_of(error: BaseException) -> str:
    """Describe the innermost cause that has a message: Dask wraps it in less specific exceptions."""
    texts = [describe_exception(cause) for cause in causes_of(error) if str(cause).strip()]
    text = " ".join(texts[-1].split()).removesuffix(".") if texts else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


def elide(text: str, limit: int, gap: str = " ... ({:,} characters left out) ... ") -> str:
    """Shorten a text to its beginning and end.

    >>> elide("a" * 50 + "z" * 50, 50)
    'aaaa ... (94 characters left out) ... zz'
    """
    if len(text) <= limit:
        return text
    room = max(limit - len(gap) - 8, 0)
    head, tail = room - room // 3, room // 3
    return text[:head] + gap.format(len(text) - head - tail) + text[len(text) - tail :]


def short_repr(value: object) -> str:
    """Return at most 80 characters of a value's ``repr``; never raises."""
    try:
        return elide(repr(value), 80, " ... ")
    except Exception as error:
        return f"a {type(value).__name__} whose repr raises {type(error).__name__}"


def remember_lines(texts: Mapping[str, str]) -> None:
    """Make tracebacks show the lines that run, even if the file is missing or has changed."""
    for filename, text in texts.items():
        lines = [line + "\n" for line in text.removesuffix("\n").split("\n")]
        linecache.checkcache(filename)
        if text and linecache.getlines(filename) != lines:
            linecache.cache[filename] = (len(text), None, lines, filename)
