"""Recognise what daskmr writes itself, which is never input."""

from __future__ import annotations

__all__ = ["OWN_SUFFIXES", "why_own"]

OWN_SUFFIXES = (".meta.json", ".bad.jsonl", ".pstats")


def why_own(name: str) -> str:
    """Return why a file or directory of this name is no input; ``""`` if it may be input.

    >>> why_own("os_count.txt.meta.json"), why_own("_SUCCESS"), why_own("a.log")
    ('it was written by daskmr', 'its name begins with _', '')
    >>> why_own("_hour=07")  # a directory of a Hive partition
    ''
    """
    if name.endswith(OWN_SUFFIXES):
        return "it was written by daskmr"
    if name.startswith("_") and "=" not in name:
        return "its name begins with _"
    return ""
