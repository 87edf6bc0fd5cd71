"""What a run looks like from outside while it runs.

A `Collector` asks, twice a second at most, what tasks have said (`daskmr.tasks.progress`) and how the
workers are, and makes a `Look` of it. It has a thread of its own, since the client may be waiting
for anything; for an inline job it takes its turn when a task says something. Whoever wants to know
is a `Watcher`.
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
from daskmr.diagnostics.looks import Plan, RunState, Thinned
from daskmr.errors import DaskMRError
from daskmr.history import History, Look, Progress
from daskmr.tasks.progress import News, Printed, Report, listening, read_news

if TYPE_CHECKING:
    from daskmr.cluster.session import Session

__all__ = ["Collector", "Plan", "Watcher"]

logger = logging.getLogger(__name__)

_EVERY = 0.5  # seconds at least between two looks
_MOST_LOOKS = 600  # that are kept
_WORKERS_EVERY = 1.0  # seconds at least between two questions for the workers' state
_WORKERS_A_SECOND = 100  # that are asked, when there are many
_ANSWER_SECONDS = 3.0
_AWAY_PAUSE = 10.0  # seconds at most between two questions to hosts that share no folder
_AWAY_QUESTIONS = 30.0  # about so many while a run doubles its age
_MOST_PIECES = 50  # of what is read at the end


class Watcher:
    """Whoever wants to see how a run goes; does nothing by itself, so override what is of use.

    Its methods are called one at a time, from a thread of the collector's or from the client's, and
    must be quick. What they raise is logged, and does not fail the job.
    """

    def phase(self, name: str) -> None:
        """The run has come to a phase, one of `daskmr.history.PHASES`."""

    def begin(self, plan: Plan) -> None:
        """The input is listed, and this is what will be done."""

    def look(self, look: Look) -> None:
        """This is how far it is."""

    def printed(self, line: Printed) -> None:
        """The script has printed a line."""

    def dashboard(self, address: str) -> None:
        """There is a dashboard."""

    def end(self, result: Any) -> None:
        """The run has ended, with this result; ``None`` when it has failed."""


class Collector:
    """Watches one run.

    Parameters
    ----------
    watcher : Watcher or None
        Is told; ``None`` collects nothing.
    every : float
        Seconds between two looks.

    Examples
    --------
    >>> with Collector(None) as collector:
    ...     collector.listing(3, 100)
    >>> collector.looks
    ()
    """

    def __init__(self, watcher: Watcher | None, every: float = _EVERY) -> None:
        self.watched = watcher is not None
        self._watcher = watcher or Watcher()
        self._every = every
        self._lock = threading.RLock()
        self._reading = threading.Lock()  # what is read is taken too before anybody reads on
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = clock.now()
        self._state = RunState()
        self._looks = Thinned(_MOST_LOOKS)
        self._source: _Source | None = None
        self._dashboard: str | None = None
        self._looked = time.monotonic()

    # --- by the client ----------------------------------------------------------------------------

    def __enter__(self) -> Collector:
        if self.watched:
            self._tell(self._watcher.phase, "list")
            self._thread = threading.Thread(target=self._follow, name="daskmr-watch", daemon=True)
            self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *rest: object
    ) -> None:
        self._closed.set()
        if isinstance(error, DaskMRError) and self.watched:
            error.history = self.history()
        if kind is not None and self.watched:
            self.end(None)

    def listing(self, prefixes: int, files: int) -> None:
        """Take note of how far a listing is; from any thread."""
        self._state.listed = Progress(tasks=prefixes, files=files)

    def begin(self, plan: Plan) -> None:
        """Take note of what will be done."""
        if self.watched:
            with self._lock:
                self._state.plan = plan
                self._tell(self._watcher.begin, plan)

    @contextlib.contextmanager
    def following(
        self, session: Session, scratch: Scratch, dashboard: bool = True
    ) -> Iterator[None]:
        """Follow the tasks of a session, while the block lasts.

        Parameters
        ----------
        session : Session
        scratch : Scratch
            Where tasks report.
        dashboard : bool
            Whether to tell the address of the dashboard.
        """
        if not self.watched:
            yield
            return
        source = _Source(session, scratch, dashboard)
        if session.client is None:
            with listening(self._hear):
                yield
            return
        self._source = source
        try:
            yield
        except Exception:  # after an interruption nobody wants to wait for more
            self._hear_the_last(source)
            raise
        else:
            self._hear_the_last(source)
        finally:
            self._source = None

    def _hear_the_last(self, source: _Source) -> None:
        """Take what was said since the last look: what a worker prints before it dies matters most."""
        with self._reading:
            self._source = None
            for news in source.all_news():
                with self._lock:
                    self._take(news)
            with self._lock:
                self._look()

    def wrote(self, done: int, total: int) -> None:
        """Take note of how much of the output is written, in keys, or in parts where it has none."""
        if not self.watched:
            return
        first = self._state.written is None
        self._state.written = Progress(done, total)
        if first:  # whoever shows something may have to make way for the output
            with self._lock:
                self._look()
        elif self._state.inline:
            self._turn_if_due()

    def end(self, result: Any) -> None:
        """Say that the run has ended, once."""
        with self._lock:
            if self.watched and not self._state.ended:
                self._closed.set()
                self._look()
                self._state.ended = True
                self._tell(self._watcher.end, result)

    @property
    def looks(self) -> tuple[Look, ...]:
        """Looks that were taken so far, thinned out when there are many."""
        return self._looks.kept

    @property
    def plan(self) -> Plan | None:
        """What was to be done, once that was known."""
        return self._state.plan

    def history(self) -> History:
        """What is known of the run as of now; from any thread."""
        with self._lock:
            state = self._state
            return History(self._started, clock.now(), state.spans, self.looks, state.hot_keys)

    # --- in the collector's own thread ------------------------------------------------------------

    def _follow(self) -> None:
        while not self._closed.wait(self._every) and not self._state.inline:
            try:
                self._turn()
            except Exception:
                if self._source is None:  # its session was closed meanwhile
                    continue
                logger.warning("The run cannot be watched any more.", exc_info=True)
                return

    def _turn(self) -> None:
        with self._reading:
            source = self._source
            if source is not None:
                news, workers, address = source.news(), source.workers(), source.dashboard()
                with self._lock:
                    self._take(news)
                    self._state.workers = workers
                    self._note_dashboard(address)
        with self._lock:
            self._look()

    def _note_dashboard(self, address: str | None) -> None:
        if address is not None and address != self._dashboard:
            self._dashboard = address
            self._tell(self._watcher.dashboard, address)

    def _take(self, news: Sequence[Report | Printed]) -> None:
        for each in news:
            if isinstance(each, Report):
                self._state.take(each)
            elif not self._state.ended:
                self._tell(self._watcher.printed, each)

    # --- an inline job, in its own thread ---------------------------------------------------------

    def _hear(self, news: Report | Printed) -> None:
        with self._lock:
            self._take([news])
        self._turn_if_due()

    def _turn_if_due(self) -> None:
        if time.monotonic() - self._looked > self._every:
            with self._lock:
                self._look()

    # --- both -------------------------------------------------------------------------------------

    def _look(self) -> None:
        if self._state.ended:
            return
        self._looked = time.monotonic()
        look = self._state.look()
        if look.phase != self._state.phase:
            self._state.phase = look.phase
            self._tell(self._watcher.phase, look.phase)
        self._looks.add(look)
        self._tell(self._watcher.look, look)

    def _tell(self, method: Callable[..., None], *arguments: Any) -> None:
        try:
            method(*arguments)
        except Exception:
            logger.warning("A watcher failed.", exc_info=True)


# --- where it is known from ---------------------------------------------------------------------


class _Source:
    """Asks after what tasks have said, and how the workers of a session are."""

    def __init__(self, session: Session, scratch: Scratch, dashboard: bool) -> None:
        self._session = session
        self._dashboard = dashboard
        self._scratch = scratch
        self._offsets: dict[str, int] = {}
        self._workers: Mapping[str, Any] | None = None
        self._asked = -float("inf")
        self._heard = -float("inf")
        self._began = time.monotonic()

    def dashboard(self) -> str | None:
        """Address of the dashboard, once there is one."""
        if not self._dashboard:
            return None
        self._dashboard = not self._session.is_elsewhere  # a scheduler is asked once
        return self._session.dashboard_link

    def news(self) -> list[Report | Printed]:
        """What is new, if it is time to ask."""
        now = time.monotonic()
        if not self._scratch.is_shared:
            # Workers note each question in their log, so of a long run they are asked less often.
            seldom = min(_AWAY_PAUSE, (now - self._began) / _AWAY_QUESTIONS)
            if now - self._heard < self._pause(max(_EVERY, seldom)):
                return []
        self._heard = now
        return self._read()

    def all_news(self) -> Iterator[list[Report | Printed]]:
        """What is new, in pieces, to the end."""
        for _ in range(_MOST_PIECES):
            before = dict(self._offsets)
            yield self._read()
            if self._offsets == before:
                return

    def _read(self) -> list[Report | Printed]:
        """Read what is new; hosts that do not share the run's folder are asked for it."""
        store = self._scratch.store
        if store is None:
            return self._new(read_news(self._scratch.run_dir, self._offsets))
        read = partial(_read_news, store.host)
        answers = self._session.ask(read, self._offsets, seconds=_ANSWER_SECONDS)
        told = [answer for answer in answers.values() if not isinstance(answer, Exception)]
        return [said for answer in told for said in self._new(answer)]

    def _new(self, found: Sequence[News]) -> list[Report | Printed]:
        """What was not heard before: workers of one host read the same files."""
        new: list[Report | Printed] = []
        for news in found:
            if news.start == self._offsets.get(news.name, 0):
                new += news.said
                self._offsets[news.name] = news.end
        return new

    def workers(self) -> Mapping[str, Any] | None:
        """How the workers are, by address; what was known before if it is too early to ask again."""
        if time.monotonic() - self._asked >= self._pause(_WORKERS_EVERY):
            self._asked = time.monotonic()
            self._workers = self._session.look_at_workers(_ANSWER_SECONDS) or self._workers
        return self._workers

    def _pause(self, least: float) -> float:
        return max(least, len(self._workers or ()) / _WORKERS_A_SECOND)


def _read_news(host: HostFolder, offsets: Mapping[str, int], dask_worker: Any = None) -> list[News]:
    return read_news(host.path(dask_worker), offsets)
