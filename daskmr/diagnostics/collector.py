"""Follow a run.

At most twice a second, a `Collector` reads the reports of tasks (`daskmr.tasks.progress`) and the
state of the workers, combines them in a `RunState`, takes a snapshot (`Look`) and passes it to a
`Watcher`. It uses its own thread, because the client may be blocked. An inline job is followed in
the job's thread, whenever a task reports. The collector never changes what a run does.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from daskmr import clock
from daskmr.data.spill_dir import HostFolder, Scratch
from daskmr.diagnostics.run_state import RunOutline, RunState, Thinning
from daskmr.errors import DaskMRError
from daskmr.history import History, Look, Progress
from daskmr.tasks.progress import News, Printed, Report, listening, read_news

if TYPE_CHECKING:
    from daskmr.cluster.session import Session

__all__ = ["Collector", "Watcher"]

logger = logging.getLogger(__name__)

_EVERY = 0.5  # least seconds between two snapshots
_MAX_SNAPSHOTS = 600  # snapshots kept
_WORKERS_EVERY = 1.0  # least seconds between two requests for the workers' state
_WORKERS_PER_SECOND = 100  # with many workers, at most this many are asked per second
_ANSWER_SECONDS = 3.0
_REMOTE_PAUSE = 10.0  # most seconds between two requests to hosts that share no folder
_REMOTE_REQUESTS = 30.0  # approximate requests while the age of a run doubles
_MAX_FINAL_READS = 50


class Watcher:
    """A receiver of the events of a run. All methods do nothing; override those of interest.

    Methods are called one at a time, from a thread of the collector or from the client's, and must
    be quick. Exceptions are logged, and do not fail the job.
    """

    def phase(self, name: str) -> None:
        """Called when a phase begins, one of `daskmr.history.PHASES`."""

    def begin(self, plan: RunOutline) -> None:
        """Called with the outline of the run when the input has been listed, and of each later step."""

    def look(self, look: Look) -> None:
        """Called when a snapshot of the run was taken."""

    def printed(self, line: Printed) -> None:
        """Called when the script printed a line."""

    def dashboard(self, address: str) -> None:
        """Called when there is a dashboard."""

    def end(self, result: Any) -> None:
        """Called with the result when the run has ended; with ``None`` if it failed."""


class Collector:
    """Follows one run.

    - `watcher`: receives the events; with ``None``, nothing is collected.
    - `every`: seconds between two snapshots.

    >>> with Collector(None) as collector:
    ...     collector.listing(3, 100)
    >>> collector.looks
    ()
    """

    def __init__(
        self,
        watcher: Watcher | None,
        on_listing: Callable[[int, int], object] | None = None,
        every: float = _EVERY,
    ) -> None:
        self.watched = watcher is not None
        self._watcher = watcher or Watcher()
        self._on_listing = on_listing
        self._every = every
        self._lock = threading.RLock()
        self._reading = threading.Lock()  # held while reading news and adding them to the state
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = clock.now()
        self._state = RunState()
        self._snapshots = Thinning(_MAX_SNAPSHOTS)
        self._source: _Source | None = None
        self._plan: RunOutline | None = None
        self._dashboard: str | None = None
        self._last = time.monotonic()

    # --- called by the client -----------------------------------------------------------------------

    def __enter__(self) -> Collector:
        if self.watched:
            self._notify(self._watcher.phase, "list")
            self._thread = threading.Thread(target=self._follow, name="daskmr-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: object, error: BaseException | None, *rest: object) -> None:
        self._closed.set()
        if self.watched and error is not None:
            if isinstance(error, DaskMRError):
                error.history = self.history()
            self.end(None)

    def listing(self, prefixes: int, files: int) -> None:
        """Note the progress of the listing; may be called from any thread."""
        self._state.listed = Progress(tasks=prefixes, files=files)
        if self._on_listing is not None:
            self._on_listing(prefixes, files)

    def begin(self, outline: RunOutline) -> None:
        """Set the outline of the run, or of its next step, once all tasks before have ended."""
        if not self.watched:
            return
        if self._plan is None:
            self._plan = outline
        elif self._source is not None:
            with self._reading:
                for news in self._source.remaining_news():
                    self._add(news)
        with self._lock:
            self._state.begin(outline)
            self._notify(self._watcher.begin, outline)

    @contextlib.contextmanager
    def following(
        self, session: Session, scratch: Scratch, dashboard: bool = True
    ) -> Iterator[None]:
        """Follow the tasks of a session, which report in `scratch`, for the duration of the block."""
        if not self.watched:
            yield
        elif session.client is None:
            with listening(self._hear):
                yield
        else:
            self._source = source = _Source(session, scratch, dashboard)
            try:
                yield
            except Exception:  # but not after an interruption, when there is no time for it
                self._drain(source)
                raise
            else:
                self._drain(source)
            finally:
                self._source = None

    def _drain(self, source: _Source) -> None:
        """Read the remaining news: the last lines that a dead worker printed matter most."""
        with self._reading:
            self._source = None
            for news in source.remaining_news():
                self._add(news)
            self._take_snapshot()

    def wrote(self, done: int, total: int) -> None:
        """Note how much of the output is written, in keys, or in parts for a map-only job."""
        if not self.watched:
            return
        first = self._state.written is None
        self._state.written = Progress(done, total)
        if first:  # a display may have to be removed before the output is written
            self._take_snapshot()
        elif self._state.inline:
            self._take_snapshot_if_due()

    def end(self, result: Any) -> None:
        """Announce the end of the run, once."""
        with self._lock:
            if self.watched and not self._state.ended:
                self._closed.set()
                self._take_snapshot()
                self._state.ended = True
                self._notify(self._watcher.end, result)

    @property
    def looks(self) -> tuple[Look, ...]:
        """The snapshots so far, thinned out if there are many."""
        return self._snapshots.kept

    @property
    def plan(self) -> RunOutline | None:
        """The outline of the run, or of its first step, once it is known."""
        return self._plan

    def history(self) -> History:
        """Return the history of the run so far; may be called from any thread."""
        with self._lock:
            state = self._state
            ended = clock.now()
            return History(
                self._started, ended, state.spans, self.looks, state.hot_keys, state.step
            )

    # --- in the collector's own thread --------------------------------------------------------------

    def _follow(self) -> None:
        while not self._closed.wait(self._every) and not self._state.inline:
            try:
                with self._reading:
                    if self._source is not None:
                        self._read(self._source)
                self._take_snapshot()
            except Exception:
                if self._source is None:  # its session has been closed
                    continue
                logger.warning("The run cannot be watched any more.", exc_info=True)
                return

    def _read(self, source: _Source) -> None:
        news, workers, address = source.news(), source.workers(), source.dashboard()
        with self._lock:
            self._add(news)
            self._state.workers = workers
            if address is not None and address != self._dashboard:
                self._dashboard = address
                self._notify(self._watcher.dashboard, address)

    # --- in the thread of an inline job -------------------------------------------------------------

    def _hear(self, news: Report | Printed) -> None:
        self._add([news])
        self._take_snapshot_if_due()

    def _take_snapshot_if_due(self) -> None:
        if time.monotonic() - self._last > self._every:
            self._take_snapshot()

    # --- in both ------------------------------------------------------------------------------------

    def _add(self, news: Sequence[Report | Printed]) -> None:
        with self._lock:
            for each in news:
                if isinstance(each, Report):
                    self._state.add(each)
                elif not self._state.ended:
                    self._notify(self._watcher.printed, each)

    def _take_snapshot(self) -> None:
        with self._lock:
            if self._state.ended:
                return
            self._last = time.monotonic()
            snapshot = self._state.snapshot()
            if snapshot.phase != self._state.phase:
                self._state.phase = snapshot.phase
                self._notify(self._watcher.phase, snapshot.phase)
            self._snapshots.add(snapshot)
            self._notify(self._watcher.look, snapshot)

    def _notify(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception:
            logger.warning("A watcher failed.", exc_info=True)


class _Source:
    """Reads the reports of a session's tasks, and the state of its workers."""

    def __init__(self, session: Session, scratch: Scratch, dashboard: bool) -> None:
        self._session = session
        self._dashboard = dashboard
        self._scratch = scratch
        self._offsets: dict[str, int] = {}
        self._workers: Mapping[str, Any] = {}
        self._workers_asked = self._news_asked = -float("inf")
        self._began = time.monotonic()

    def dashboard(self) -> str | None:
        """Return the address of the dashboard, once there is one."""
        if not self._dashboard:
            return None
        self._dashboard = not self._session.is_elsewhere  # ask an existing scheduler only once
        return self._session.dashboard_link

    def news(self) -> list[Report | Printed]:
        """Return new reports and printed lines, if it is time to read them."""
        now = time.monotonic()
        if not self._scratch.is_shared:
            # Workers log each request, so they are asked less often as a run gets older.
            rarely = min(_REMOTE_PAUSE, (now - self._began) / _REMOTE_REQUESTS)
            if now - self._news_asked < self._pause(max(_EVERY, rarely)):
                return []
        self._news_asked = now
        return self._read()

    def remaining_news(self) -> Iterator[list[Report | Printed]]:
        """Yield new reports and printed lines in batches, up to the end."""
        for _ in range(_MAX_FINAL_READS):
            before = dict(self._offsets)
            yield self._read()
            if self._offsets == before:
                return

    def _read(self) -> list[Report | Printed]:
        """Read news from the run's folder, or request them from hosts that do not share it."""
        store = self._scratch.store
        if store is None:
            found = read_news(self._scratch.run_dir, self._offsets)
        else:
            read = partial(_read_news, store.host)
            answers = self._session.ask(read, self._offsets, seconds=_ANSWER_SECONDS).values()
            found = [news for some in answers if not isinstance(some, Exception) for news in some]
        new: list[Report | Printed] = []
        for news in found:
            if news.start == self._offsets.get(
                news.name, 0
            ):  # all workers of a host return the same
                new += news.said
                self._offsets[news.name] = news.end
        return new

    def workers(self) -> Mapping[str, Any]:
        """Return the state of the workers by address; the last known if it is too early to ask."""
        if time.monotonic() - self._workers_asked >= self._pause(_WORKERS_EVERY):
            self._workers_asked = time.monotonic()
            self._workers = self._session.worker_info(_ANSWER_SECONDS) or self._workers
        return self._workers

    def _pause(self, least: float) -> float:
        return max(least, len(self._workers) / _WORKERS_PER_SECOND)


def _read_news(host: HostFolder, offsets: Mapping[str, int], dask_worker: Any = None) -> list[News]:
    return read_news(host.path(dask_worker), offsets)
