"""The module search path: the working directory comes last.

A file there may have the name of a module in the standard library, or of one that Dask needs
(``queue.py``, ``csv.py``), and must not shadow it.
"""

from __future__ import annotations

import os
import sys

__all__ = ["put_working_directory_last", "python_path"]

_PACKAGE = os.path.dirname(os.path.dirname(os.path.realpath(__file__)))


def put_working_directory_last(by_name: bool = False) -> None:
    """Move the working directory, which PYTHONPATH may contain, to the end of ``sys.path``.

    - `by_name`: Python runs this package by ``python -m``, which puts the working directory first. It
      is then removed, as if the command was run by its own name.
    """
    if by_name and not sys.flags.safe_path and os.path.realpath(sys.path[0]) != _PACKAGE:
        del sys.path[0]
    here = [entry for entry in sys.path if _is_here(entry)]
    sys.path[:] = [entry for entry in sys.path if entry not in here] + here


def python_path() -> str:
    """Return a PYTHONPATH by which a process finds this package, installed or not.

    It omits the working directory, unless it contains the package itself.
    """
    entries = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    paths = [entry for entry in entries if not _is_here(entry)]
    if _PACKAGE not in paths and not _PACKAGE.endswith(("site-packages", "dist-packages")):
        paths.append(_PACKAGE)
    return os.pathsep.join(paths)


def _is_here(entry: str) -> bool:
    try:
        return os.path.realpath(entry or ".") == os.getcwd()
    except OSError:  # the working directory has been removed
        return False
