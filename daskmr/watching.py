"""What a run looks like from outside while it runs.

A `Collector` asks, twice a second at most, what tasks have said (`daskmr.progress`) and how the
workers are, and makes a `Look` of it. It has a thread of its own, since the client may be waiting
for anything; for an inline job it takes its turn when a task says something. Whoever wants to know
is a `Watcher`.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from daskmr.away import Away, host_folder
from daskmr.errors import DaskMRError
from daskmr.history import History, HotKey, Look, Progress, TaskSpan, WorkerLook
from daskmr.hotkeys import merge_hot_keys
from daskmr.memory import resident
from daskmr.progress import News, Printed, Report, listening, read_news

if TYPE_CHECKING:
    from daskmr.cluster import Session

__all__ = ["Collector", "Plan", "Watcher"]

logger = logging.getLogger(__name__)

_EVERY = 0.5  # seconds at least between two looks
_MOST_LOOKS = 600  # that are kept
_WORKERS_EVERY = 1.0  # seconds at least between two questions for the workers' state
_WORKERS_A_SECOND = 100  # that are asked, when there are many
_ANSWER_SECONDS = 3.0
_MOST_PIECES = 50  # of what is read at the end
_IDLE_SECONDS = 1.5  # after the end of a task, when a process is taken for idle


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is about to do.

    Attributes
    ----------
    job : str
        Name of the job.
    phases : tuple of str
        Those of `daskmr.history.PHASES` that it has.
    files, bytes : int
        What is read.
    to_fetch, bytes_to_fetch : int
        What of that has to be fetched first.
    partitions, merges, buckets : int
        How many tasks map, how often two partial results meet, and in how many buckets the keys are.
    inline : bool
        It runs in this process.
    """

    job: str
    phases: tuple[str, ...]
    files: int
    bytes: int
    to_fetch: int
    bytes_to_fetch: int
    partitions: int
    merges: int
    buckets: int
    inline: bool


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
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        self._started = time.time()
        self._state = _State()
        self._looks = _Thinned(_MOST_LOOKS)
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
        self, session: Session, run_dir: str, away: Away | None, dashboard: bool = True
    ) -> Iterator[None]:
        """Follow the tasks of a session, while the block lasts.

        Parameters
        ----------
        session : Session
        run_dir : str
            The run's folder.
        away : Away or None
            What takes its place where the workers do not see it.
        dashboard : bool
            Whether to tell the address of the dashboard.
        """
        if not self.watched:
            yield
            return
        source = _Source(session, run_dir, away, dashboard)
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
        with self._lock:
            self._source = None
            for news in source.all_news():
                self._take(news)

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
            return History(self._started, time.time(), state.spans, self.looks, state.hot_keys)

    # --- in the collector's own thread ------------------------------------------------------------

    def _follow(self) -> None:
        while not self._closed.wait(self._every) and not self._state.inline:
            try:
                self._turn()
            except Exception:
                logger.warning("The run cannot be watched any more.", exc_info=True)
                return

    def _turn(self) -> None:
        source = self._source
        if source is None:
            with self._lock:
                self._look()
            return
        news, workers, address = source.news(), source.workers(), source.dashboard()
        with self._lock:
            if self._source is source:
                self._take(news)
                self._state.workers = workers
                self._note_dashboard(address)
                self._look()

    def _note_dashboard(self, address: str | None) -> None:
        if address is not None and address != self._dashboard:
            self._dashboard = address
            self._tell(self._watcher.dashboard, address)

    def _take(self, news: Sequence[Report | Printed]) -> None:
        for each in news:
            if isinstance(each, Report):
                self._state.take(each)
            else:
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


# --- what is known ------------------------------------------------------------------------------


class _State:
    """What tasks have said, added up so that each partition counts once."""

    def __init__(self) -> None:
        self.phase = "list"
        self.plan: Plan | None = None
        self.listed = Progress()
        self.written: Progress | None = None
        self.workers: Mapping[str, Any] | None = {}
        self.ended = False
        self.hot_keys: tuple[HotKey, ...] = ()
        self._done: dict[tuple[str, int], TaskSpan] = {}
        self._total: dict[str, _Sum] = {"map": _Sum(), "reduce": _Sum()}
        self._running: dict[tuple[str, int], Report] = {}
        self._last: dict[str, tuple[Report, float]] = {}  # by process, with when it was heard
        self._merges: dict[str, int] = {}
        self._spilled: Counter[str] = Counter()  # by worker

    @property
    def inline(self) -> bool:
        return self.plan is not None and self.plan.inline

    @property
    def spans(self) -> tuple[TaskSpan, ...]:
        return tuple(sorted(self._done.values(), key=lambda span: (span.phase, span.number)))

    def take(self, report: Report) -> None:
        """Take a report; of a task that is done, the first counts."""
        last = self._last.get(report.process)
        if last is not None and last[0].at >= report.at:
            return  # it was read again, or stands there since before the task was done
        self._last[report.process] = report, time.monotonic()
        if report.phase == "merge":
            self._merges[report.process] = report.merges
            return
        task = report.phase, report.number
        if task in self._done:
            return
        if not report.done:
            self._running[task] = report
            return
        self._running.pop(task, None)
        self._done[task] = _span(report)
        self._total[report.phase].add(report)
        self._spilled[report.worker] += report.spilled
        self.hot_keys = merge_hot_keys(self.hot_keys, tuple(HotKey(*key) for key in report.hot))

    def look(self) -> Look:
        """What all of this means now."""
        mapped = self._sum("map")
        progress = self._progress(mapped)
        return Look(
            time.time(),
            self._phase(progress),
            progress,
            records=mapped.records,
            bad_records=mapped.bad.total(),
            bad_reasons=dict(mapped.bad.most_common()),
            fetched_bytes=mapped.fetched_bytes,
            spilled=mapped.spilled,
            workers=self._workers(),
        )

    def _sum(self, phase: str) -> _Sum:
        """What is done, and what is known of that which is being done."""
        total = self._total[phase].copy()
        for task, report in self._running.items():
            if task[0] == phase:
                total.add(report)
        return total

    def _progress(self, mapped: _Sum) -> dict[str, Progress]:
        plan = self.plan
        if plan is None:
            return {"list": self.listed}
        reduced = self._sum("reduce")
        merges = min(sum(self._merges.values()), plan.merges)
        if reduced.tasks or reduced.files or self.written is not None:
            merges = plan.merges  # there is no reducing before all have met
        buckets = plan.buckets if self.written is not None else reduced.files
        everything = {
            "list": Progress(1, 1, plan.files, plan.files, plan.bytes, plan.bytes),
            "fetch": Progress(
                files=mapped.fetched,
                files_total=plan.to_fetch,
                bytes=mapped.fetched_bytes,
                bytes_total=plan.bytes_to_fetch,
            ),
            "map": self._mapping(mapped, plan),
            "merge": Progress(merges, plan.merges),
            "reduce": Progress(min(buckets, plan.buckets), plan.buckets),
            "write": self.written or Progress(),
        }
        return {name: everything[name] for name in plan.phases}

    def _mapping(self, mapped: _Sum, plan: Plan) -> Progress:
        if self.written is not None:  # what was left out is done with, too
            mapped = _Sum(tasks=plan.partitions, files=plan.files, bytes=plan.bytes)
        return Progress(
            min(mapped.tasks, plan.partitions),
            plan.partitions,
            min(mapped.files, plan.files),
            plan.files,
            min(mapped.bytes, plan.bytes),
            plan.bytes,
        )

    def _phase(self, progress: Mapping[str, Progress]) -> str:
        if self.plan is None:
            return "list"
        if self.written is not None:
            return "write"
        for name in ("map", "merge", "reduce"):
            if name in progress and progress[name].tasks < progress[name].tasks_total:
                return name
        return "reduce" if "reduce" in progress else "map"

    def _workers(self) -> tuple[WorkerLook, ...]:
        if self.inline:
            last = next(iter(self._last.values()), (None, 0.0))
            own = WorkerLook("inline", memory=resident(), spilled=self._spilled["inline"])
            return (_at_work(own, *last),)
        latest = {report.address: (report, heard) for report, heard in self._last.values()}
        looks = [
            _at_work(_worker_look(worker, self._spilled), *latest.get(address, (None, 0.0)))
            for address, worker in (self.workers or {}).items()
        ]
        return tuple(sorted(looks, key=lambda look: (len(look.name), look.name)))


@dataclass(slots=True)
class _Sum:
    """Counts of some tasks."""

    tasks: int = 0
    files: int = 0
    bytes: int = 0
    records: int = 0
    fetched: int = 0
    fetched_bytes: int = 0
    spilled: int = 0
    bad: Counter[str] = None  # type: ignore[assignment]

    def __post_init__(self) -> None:
        self.bad = Counter(self.bad)

    def copy(self) -> _Sum:
        return replace(self)

    def add(self, report: Report) -> None:
        self.tasks += report.done
        self.files += report.files
        self.bytes += report.bytes
        self.records += report.records
        self.fetched += report.fetched
        self.fetched_bytes += report.fetched_bytes
        self.spilled += report.spilled
        self.bad.update(report.bad)


def _span(report: Report) -> TaskSpan:
    return TaskSpan(
        report.phase,
        report.number,
        report.worker,
        report.start,
        report.at,
        files=report.files,
        bytes=report.bytes,
        records=report.records,
        spilled=report.spilled,
        waited=report.waited,
        memory=report.memory,
    )


def _worker_look(worker: Mapping[str, Any], spilled: Mapping[str, int]) -> WorkerLook:
    """What the scheduler knows of a worker."""
    name = str(worker["name"])
    return WorkerLook(
        name,
        memory=int(worker["metrics"].get("memory", 0)),
        limit=int(worker["memory_limit"] or 0),
        status=str(worker["status"]),
        spilled=spilled.get(name, 0),
    )


def _at_work(look: WorkerLook, report: Report | None, heard: float) -> WorkerLook:
    """Add what the worker's process has said last."""
    if report is None:
        return look
    ended = report.done or report.phase == "merge"  # and the next task has not said anything yet
    if ended and time.monotonic() - heard > _IDLE_SECONDS:
        return look
    if report.done:
        return replace(look, phase=report.phase)
    phase = "fetch" if report.fetching else report.phase
    spilled = look.spilled + report.spilled
    return replace(look, phase=phase, file=report.file, spilled=spilled)


class _Thinned:
    """Looks that are spread evenly: when there are too many, every second one goes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._looks: list[Look] = []
        self._last: Look | None = None
        self._step = 1
        self._count = 0

    def add(self, look: Look) -> None:
        self._last = look
        if self._count % self._step == 0:
            self._looks.append(look)
        self._count += 1
        if len(self._looks) >= self._most:
            self._looks = self._looks[::2]
            self._step *= 2

    @property
    def kept(self) -> tuple[Look, ...]:
        """Those that are kept, and the last."""
        looks, last = self._looks, self._last
        return tuple(looks) if last is None or looks[-1] is last else (*looks, last)


# --- where it is known from ---------------------------------------------------------------------


class _Source:
    """Asks after what tasks have said, and how the workers of a session are."""

    def __init__(self, session: Session, run_dir: str, away: Away | None, dashboard: bool) -> None:
        self._session = session
        self._dashboard = dashboard
        self._run_dir = run_dir
        self._away = away
        self._offsets: dict[str, int] = {}
        self._workers: Mapping[str, Any] | None = None
        self._asked = -float("inf")
        self._heard = -float("inf")

    def dashboard(self) -> str | None:
        """Address of the dashboard, once there is one."""
        if not self._dashboard:
            return None
        self._dashboard = not self._session.is_elsewhere  # a scheduler is asked once
        return self._session.dashboard_link

    def news(self) -> list[Report | Printed]:
        """What is new, if it is time to ask."""
        if self._away is not None and time.monotonic() - self._heard < self._pause(_EVERY):
            return []
        self._heard = time.monotonic()
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
        if self._away is None:
            return self._new(read_news(self._run_dir, self._offsets))
        read = partial(_read_news, self._away)
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


def _read_news(away: Away, offsets: Mapping[str, int], dask_worker: Any = None) -> list[News]:
    return read_news(host_folder(away.shelf.run_id, dask_worker), offsets)
