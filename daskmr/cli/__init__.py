"""The command line: one file for each command, and the options that they share.

Commands parse, call `run`, print, and choose the exit code; no decision about a job is made here.
Nothing heavy is imported before a command needs it. Begin with `entry`.
"""

from __future__ import annotations

from daskmr.cli.entry import main

__all__ = ["main"]
