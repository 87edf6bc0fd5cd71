"""Marks as processes leave them that died."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from daskmr.tasks.crashes import Mark


def dead_pid() -> int:
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


def leave(run_dir: str, mark: Mark) -> None:
    """Write a mark as a process does that dies."""
    path = Path(run_dir, "marks", f"{mark.phase}-{mark.number}.{mark.pid}")
    path.write_text(json.dumps(mark._asdict()) + "\n")
