"""Keep each run of a work dir in its history, so that ``daskmr history`` can show and compare them."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from daskmr import clock
from daskmr._version import __version__
from daskmr.errors import InputError
from daskmr.run.outputs.side_cars import FORMAT
from daskmr.run.past.entries import write_entry
from daskmr.run.past.outcome import describe_end, describe_result, exit_code_of
from daskmr.signals import deferred
from daskmr.text import masked

if TYPE_CHECKING:
    from daskmr.run.request import Request
    from daskmr.run.result import Result

__all__ = ["Record", "kept"]

_COUNTERS = 100  # kept of each group; a script may have any number
_NOTES = 20
_LONGEST_ERROR = 4000  # characters


class Record:
    """The record of one run.

    - `meta`: the description of its script, settings and input, set as soon as it is known.
    """

    def __init__(self, request: Request, started: float, report: str | None) -> None:
        self.meta: Mapping[str, Any] = {}
        self._request, self._started, self._report = request, started, report
        self._is_kept = request.config.meta and request.output is not None

    def done(self, result: Result) -> tuple[str, ...]:
        """Keep a run that has succeeded; return a note if that fails."""
        if not self._is_kept:
            return ()
        described = describe_result(result)
        groups = described["counters"].items()
        described["counters"] = {
            group: dict(list(names.items())[:_COUNTERS]) for group, names in groups
        }
        described["notes"] = described["notes"][:_NOTES]
        try:
            self._write(describe_end(self._started, clock.now()) | described)
        except OSError as error:
            return (f"the run is not in the history: {error.strerror} ({error.filename})",)
        return ()

    def failed(self, error: BaseException) -> None:
        """Keep a run that has failed, unless it was refused before any work."""
        if not self._is_kept or isinstance(error, InputError):
            return
        secrets = [os.environ.get(name) for name in self._request.pass_env]
        end = describe_end(self._started, clock.now(), exit_code_of(error), error, secrets)
        if end["error"] is not None:
            end["error"] = end["error"][:_LONGEST_ERROR]
        with suppress(OSError):
            self._write(end | {"output": {"path": _path_of(self._request.output or "")}})

    def _write(self, end: dict[str, Any]) -> None:
        mark = {"meta": FORMAT, "version": __version__}
        report = None if self._report is None else os.path.abspath(self._report)
        head = {"daskmr": mark, "job": self._request.job.name, "report": report}
        with deferred():
            write_entry(
                self._request.config.work_dir, self._started, head | _shortened(self.meta) | end
            )


@contextmanager
def kept(request: Request, started: float, report: str | None) -> Iterator[Record]:
    """Keep a run that fails in the block; one that succeeds is kept by `Record.done`.

    - `started`: in seconds since 1970.
    - `report`: the file in which the caller puts a report of the run.
    """
    record = Record(request, started, report)
    try:
        yield record
    except BaseException as error:
        record.failed(error)
        raise


def _shortened(meta: Mapping[str, Any]) -> dict[str, Any]:
    """Replace the list of input files by its digest."""
    if not meta:
        return {}
    given = meta["input"]
    files = {name: value for name, value in given.items() if name != "list"}
    if "list" in given:
        files["list_sha256"] = hashlib.sha256(json.dumps(given["list"]).encode()).hexdigest()
    return {**meta, "input": files}


def _path_of(output: str) -> str:
    """Return the absolute path of an output, or what it is if it is no path."""
    if output == "-" or "://" in output:
        return masked(output)
    return os.path.abspath(output) + "/" * output.endswith("/")
