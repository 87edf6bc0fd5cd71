"""The end of a run as plain data: what the history and ``--summary-json`` have in common."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from daskmr.errors import Interrupted
from daskmr.text import HIDDEN, masked

if TYPE_CHECKING:
    from daskmr.run.result import Result

__all__ = ["describe_end", "describe_result", "exit_code_of", "outcome_of", "without_secrets"]

_OUTCOMES = {0: "done", 2: "bad usage", 3: "nothing matched", 4: "locked"}
_SHORTEST_SECRET = 4  # characters; a shorter one would hide most of a text


def exit_code_of(error: BaseException) -> int:
    """Return the exit code of a command that ends with an error.

    >>> exit_code_of(KeyboardInterrupt()), exit_code_of(OSError())
    (130, 1)
    """
    if isinstance(error, RuntimeError) and isinstance(error.__cause__, Interrupted):
        error = error.__cause__  # Python 3.11 wraps exceptions raised while a class is created
    return 130 if isinstance(error, KeyboardInterrupt) else getattr(error, "exit_code", 1)


def outcome_of(exit_code: int) -> str:
    """Name the outcome of a run.

    >>> outcome_of(0), outcome_of(1), outcome_of(143)
    ('done', 'failed', 'interrupted')
    """
    return "interrupted" if exit_code > 128 else _OUTCOMES.get(exit_code, "failed")


def describe_end(
    started: float,
    ended: float,
    exit_code: int = 0,
    error: BaseException | None = None,
    secrets: Iterable[str | None] = (),
) -> dict[str, Any]:
    """Describe the outcome and the time of a run, in seconds since 1970."""
    text = None
    if exit_code > 128:
        text = "Interrupted; nothing was written."
    elif isinstance(error, BrokenPipeError):
        text = "Standard output was closed before the result was complete."
    elif error is not None:
        of_click = getattr(error, "format_message", None)  # which names the option
        message = str(error) if of_click is None else of_click()
        text = without_secrets(message or type(error).__name__, secrets)
    return {
        "outcome": outcome_of(exit_code),
        "exit_code": exit_code,
        "error": text,
        "started": _timestamp(started),
        "ended": _timestamp(ended),
        "seconds": round(ended - started, 3),
    }


def describe_result(result: Result) -> dict[str, Any]:
    """Describe what a run read and wrote, as ``OUTPUT.meta.json`` does, without the lists of files."""
    described = result.described
    bad, output = described["bad_records"], described["output"]
    return {
        "phases": {
            name: round(took, 3) for name, took in result.timings.items() if name != "total"
        },
        "counts": {
            **described["counts"],
            "cached": result.cached,
            "cached_bytes": result.cached_bytes,
            "deleted": result.deleted,
        },
        "bad_records": {name: value for name, value in bad.items() if name != "files"},
        "left_out": {kind: left["count"] for kind, left in described["left_out"].items()},
        "counters": described["counters"],
        "notes": [without_secrets(note) for note in result.notes],
        "sampled": result.sample or None,
        "output": _without_parts(output) | {"named": _named(output)},
    }


def _named(output: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _without_parts(each) for name, each in output.get("named", {}).items()}


def _without_parts(output: Mapping[str, Any]) -> dict[str, Any]:
    parts = {"parts": len(output["parts"])} if "parts" in output else {}
    return {**output, **parts, "path": masked(output["path"])}


def without_secrets(text: str, secrets: Iterable[str | None] = ()) -> str:
    """Hide secrets in a text: the given ones, and any user, password or signature in a URL.

    >>> without_secrets("no word2 at\\nftp://me:word@host/x?sig=1 today", ["word2"])
    'no *** at\\nftp://***@host/x?*** today'
    """
    for secret in secrets:
        if secret is not None and len(secret) >= _SHORTEST_SECRET:
            text = text.replace(secret, HIDDEN)
    return re.sub(r"\S+", lambda word: masked(word[0]), text)


def _timestamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
