"""Import what a worker needs, once, in the process that all workers are forked from.

The forkserver of multiprocessing imports this module at its start; `daskmr.cluster.forkserver.prewarm`
passes the parameters in an environment variable. Importing it anywhere else has no effect.
"""

from __future__ import annotations

import ctypes
import gc
import importlib
import importlib.machinery
import json
import os
import signal
import sys
import traceback
from typing import Any

from daskmr.cluster.forkserver import PARAMETERS
from daskmr.environment import set_environment

__all__ = ["FAILED", "MODULES"]

MODULES = (
    "distributed",
    "distributed.nanny",
    "distributed.worker",
    "dask.bag",
    "tornado.platform.asyncio",
    "cytoolz",
    "isal.igzip",
    "daskmr.tasks.map",
    "daskmr.tasks.reduce",
    "daskmr.data.readers.json_lines",
)

# Tracebacks by module name. The forkserver itself ignores failed imports.
FAILED: dict[str, str] = {}

_PR_SET_PDEATHSIG = 1


def _prepare(handed_over: dict[str, Any]) -> None:
    if handed_over["parent"] and sys.platform == "linux":
        _die_with_parent(handed_over["parent"])
    gc.disable()  # it would take a tenth of the time of these imports and find no garbage
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception:
            FAILED[name] = traceback.format_exc()
    # Every worker does this at its start: collect versions, and seed numpy if it is imported.
    if "numpy" in sys.modules:
        importlib.import_module("numpy.random")
    if "distributed.versions" in sys.modules:
        sys.modules["distributed.versions"].get_versions()
    gc.freeze()  # garbage collection in a worker would copy the shared memory pages
    gc.enable()
    _imitate_main(handed_over["main_path"], handed_over["main_name"])
    set_environment(handed_over["environment"])


def _die_with_parent(parent: int) -> None:
    """Have the kernel kill this process when `parent` ends, and every worker when this process ends.

    A worker whose task holds the GIL could not notice that its parent is gone.
    """
    libc = ctypes.CDLL(None)

    def follow() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    follow()
    os.register_at_fork(after_in_child=follow)
    if os.getppid() != parent:
        os._exit(1)


def _imitate_main(path: str | None, name: str | None) -> None:
    """Imitate the parent's ``__main__``, so that a worker does not run that script again.

    Workers do not need it, because cloudpickle sends definitions in ``__main__`` by value. So a script
    that calls daskmr without ``if __name__ == "__main__":`` works too.
    """
    main = sys.modules["__main__"]
    if path is not None:
        main.__file__ = path
    if name is not None:
        main.__spec__ = importlib.machinery.ModuleSpec(name, None)


if PARAMETERS in os.environ:
    _prepare(json.loads(os.environ.pop(PARAMETERS)))
