"""The interface for programs that watch a run; see `daskmr.diagnostics.collector`."""

from __future__ import annotations

from daskmr.diagnostics.collector import Watcher

__all__ = ["Watcher"]
