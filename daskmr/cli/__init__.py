"""The command line: one module per command, and their shared options.

Commands parse arguments, call `run`, print, and choose the exit code. They make no decisions about
a job. Large modules are imported only when a command needs them. Begin with `entry`.
"""

from __future__ import annotations

from daskmr.cli.entry import main

__all__ = ["main"]
