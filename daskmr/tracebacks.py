"""Tracebacks of the user's own code: without our frames, capped, and never raising themselves."""

from __future__ import annotations

import linecache
import os
import re
import textwrap
import traceback
from collections.abc import Mapping
from typing import Protocol

__all__ = [
    "UserCode",
    "describe_exception",
    "excerpt",
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


class UserCode(Protocol):
    """What tells the user's code from that around it; a `daskmr.job.Job` does."""

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


_OWN_FOLDER = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")
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
