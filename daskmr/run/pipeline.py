"""The story: list, plan, map, merge, reduce, write.

A filter and a data dir become a list of files; the list becomes a plan of partitions; the plan
becomes a Dask Bag with one element a partition; each is mapped and folded into a Run for every
bucket; ``foldby`` merges the Runs; each bucket is reduced in key order into a part; the parts are
merged into one output.
"""

from __future__ import annotations

import contextlib
import os
import pickle
import time
import weakref
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field, fields, replace
from functools import partial
from itertools import islice
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any

from dask.system import CPU_COUNT

from daskmr import clock
from daskmr.cluster.connect import choose, existing_scheduler, security_of
from daskmr.cluster.probe import RESTART_SECONDS, HostMarks, check_data, check_spill_store, sees_all
from daskmr.cluster.session import Session, WorkerDied, connect
from daskmr.cluster.versions import Pinned
from daskmr.config import Config, load_config
from daskmr.counts import most_frequent_first
from daskmr.data.inputs import Inputs, find_inputs, source_of
from daskmr.data.layout import load_schema
from daskmr.data.local_file import is_as_listed
from daskmr.data.output import (
    OutputFile,
    beside,
    merge_parts,
    open_output,
)
from daskmr.data.partition import (
    Partition,
    count_buckets,
    count_reducers,
    plan_partitions,
    run_order,
    with_ahead,
)
from daskmr.data.parts import Part
from daskmr.data.records import CorruptFileError, OversizedLine, read_lines
from daskmr.data.sampling import EVERYTHING, Choice
from daskmr.data.segments import Extent
from daskmr.data.spill_dir import HOST_RENEWED_EVERY, RENEWED_EVERY, HostFolder, Scratch, SpillStore
from daskmr.diagnostics.collector import Collector, Watcher
from daskmr.diagnostics.looks import Plan
from daskmr.errors import InputError, JobError, NothingMatchedError, TaskFailed
from daskmr.history import PHASES, History
from daskmr.job.job import Job, load_job
from daskmr.run.checks import (
    check_settings,
    refuse_input_as_output,
    refuse_network,
    refuse_to_overwrite,
)
from daskmr.run.companions import BAD_SUFFIX, Companions, check_companions
from daskmr.run.provenance import (
    Given,
    describe_counts,
    describe_given,
    differences,
    moment,
)
from daskmr.run.result import Result
from daskmr.signals import deferred, on_hard_exit, patient
from daskmr.store.credentials import given
from daskmr.store.open_stores import stores_closed
from daskmr.store.source import Source, masked
from daskmr.tasks.crashes import COMBINING, FETCHING, Mark, by_task, is_alive, read_marks
from daskmr.tasks.deaths import explain_death, explain_kills, file_of_death
from daskmr.tasks.fold import Spilling
from daskmr.tasks.hot_keys import with_counted
from daskmr.tasks.map import TALLY, MapTask, map_packed
from daskmr.tasks.partition_files import explain_timeout
from daskmr.tasks.prints import listened
from daskmr.tasks.reduce import Merge, Reduced, ReduceTask, never_met, reduce_buckets
from daskmr.tasks.tally import (
    OPENING_LINES,
    Opening,
    Span,
    Tallies,
    Tally,
    by_group,
    explain_untabbed,
)
from daskmr.text import counted
from daskmr.workdir import RunDir

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["mapreduce"]

_SPLIT_EVERY = 8
_LONGEST_LOOKED_AT = 1 << 20  # bytes of a line
_REASONS = 5  # why records are bad, in a failure
_MUCH_FILES = 200  # or so many bytes, to fetch for each worker
_MUCH_BYTES = 256 << 20
_NAMED = 3  # files in a note


def mapreduce(
    job: Any,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    input_filter: Any = None,
    output: str | os.PathLike[str] | None = None,
    client: Client | None = None,
    inline: bool = False,
    delete_data: bool = False,
    profile: bool = False,
    stdout: IO[bytes] | None = None,
    aws_key: str | None = None,
    aws_secret_key: str | None = None,
    on_listing: Callable[[int, int], object] | None = None,
    only: Iterable[str] = (),
    limit_files: int | None = None,
    sample: float | None = None,
    seed: int = 0,
    sample_by: str = "file",
    earlier: Mapping[str, Any] | None = None,
    watcher: Watcher | None = None,
    **options: Any,
) -> Result:
    """Run a job over the files of a data dir that a filter allows.

    Parameters
    ----------
    job : str, path, module or Job
        The user's functions: a script, a module, or ``Job(map=..., reduce=...)``.
    data_dir : path, optional
        Where the files lie, in the layout. Where they are in a store, give ``bucket=``; of a file
        that is in both, the one in the data dir is read.
    input_filter : path or dict, optional
        Which files to read; all of them without.
    output : path, optional
        The file to write; ``"-"`` is standard output. Without it, iterate over the result.
    client : distributed.Client, optional
        A cluster to use and leave as it was; without it, one is started over this machine's cores.
    inline : bool
        Run everything in this process, one partition after the other, so that ``breakpoint()``
        works.
    delete_data : bool
        Delete the input files that were mapped whole, once the output is in place.
    profile : bool
        Collect a profile of all tasks in ``Result.profile``.
    stdout : binary file, optional
        What ``"-"`` means.
    aws_key, aws_secret_key : str, optional
        Credentials, where the usual chain of AWS (environment, profile, role) finds none.
    on_listing : callable, optional
        Called while a bucket is listed, from another thread, with the number of prefixes listed
        and of files found so far.
    only : iterable of str
        Paths of the files to read, relative to the data dir or the bucket; all without.
    limit_files : int, optional
        Read so many of the files at most, from all over the input.
    sample : float, optional
        Read such a share of the files, or of the keys, above 0 and up to 1.
    seed : int
        Another one chooses others.
    sample_by : str
        ``"file"``, or ``"key"``: records by a hash of their key.
    earlier : mapping, optional
        What ``OUTPUT.meta.json`` holds of a run that is repeated; what differs is among the notes.
    watcher : daskmr.diagnostics.collector.Watcher, optional
        Told how the job goes while it runs, and what the script prints.
    **options
        Any setting under ``daskmr:`` in Dask's configuration, as ``num_mappers=4``.

    Returns
    -------
    Result
        Counts and timings; without `output`, the reduced pairs too.

    Raises
    ------
    InputError
        For a mistake that is found before any work.
    NothingMatchedError
        When the filter allows no file.
    JobError
        When the job fails; there is no output, and an earlier one is as it was.

    Examples
    --------
    >>> def map(key, dims, value, context):
    ...     context.write(dims[2], 1)
    >>> def reduce(key, values, context):
    ...     context.write(key, sum(values))
    >>> job = Job(map=map, reduce=reduce)
    >>> for channel, count in mapreduce(job, data_dir="sample"):  # doctest: +SKIP
    ...     print(channel, count)
    """
    clock.restart()
    started = clock.now()
    config = choose(load_config(**options), options, client, inline)
    local = client is None and config.scheduler is None and config.cluster is None
    if client is not None and not hasattr(client, "scheduler_info"):
        raise InputError(f"client must be a distributed.Client, not {client!r}.")
    check_settings(config, inline, local)
    if not local and (aws_key is not None or aws_secret_key is not None):
        raise InputError(
            "Credentials given as options cannot reach the workers of a running cluster without "
            "being seen there. Give them to the workers, by a role or in their environment."
        )
    if data_dir is not None and not isinstance(data_dir, str | os.PathLike):
        raise InputError(f"data_dir must be a path, not {data_dir!r}.")
    deployment = None
    if config.cluster is not None:
        from daskmr.cluster.deploy import load_deployment

        deployment = load_deployment(config.cluster, config.clusters)
    # So that what a script's loggers keep, as it is loaded, can be listened to when it runs here.
    with contextlib.nullcontext() if watcher is None else listened():
        job = load_job(job)
    schema = load_schema(input_filter, config.schema)
    choice = Choice(tuple(only), limit_files, sample, seed, sample_by)
    if output is not None and config.local_only:
        refuse_network("output", os.fspath(output))
    if config.spill_dir is not None and not local:
        _check_spill_dir(config)  # reports a mistake before any work
    if output is not None:
        refuse_to_overwrite(os.fspath(output), job.path, input_filter, config.schema)
    if delete_data and output is None:
        raise InputError("delete_data needs an output: a result in memory ends with this process.")
    target: OutputFile | None = None
    with (
        given(aws_key, aws_secret_key, config.aws_profile),
        Collector(watcher) as collector,
        ExitStack() as stack,
    ):
        with deferred():
            run_dir = RunDir.create(config.work_dir)
            remains: list[Callable[[], object]] = [run_dir.remove]
            remove = partial(_call_all, remains)
            _at_end(stack, remove)
        if output is not None:
            with deferred():
                target = open_output(
                    os.fspath(output),
                    run_dir.run_id,
                    stdout,
                    run_dir.path,
                    partial(source_of, config=config),
                    config.fetch_retries,
                    hashed=config.meta,
                )
                _at_end(stack, target.discard)
            check_companions(target, config.meta, _bad_path(target, config, job))
        places = stack.enter_context(ExitStack())
        asked = clock.now()
        if config.scheduler is not None:
            client = places.enter_context(existing_scheduler(config.scheduler, config))
        connected = clock.now()
        stack.enter_context(stores_closed())
        listeners = [collector.listing, *([on_listing] if on_listing is not None else [])]
        inputs = find_inputs(data_dir, schema, config, partial(_each, listeners), choice)
        _at_end(stack, inputs.sweep)
        refuse_input_as_output(inputs, target)
        if not inputs.listing.files and not config.allow_empty:
            raise NothingMatchedError(inputs.listing.explain_nothing())
        listed = clock.now()
        if deployment is not None:
            client = places.enter_context(deployment.started(security_of(config)))
        run = _Run(
            job,
            config,
            inputs,
            run_dir,
            target is None,
            profile,
            client,
            inline,
            remains,
            collector,
        )
        run.choice, run.started, run.notes = choice, started, job.notes
        if earlier is not None or (config.meta and target is not None and target.has_companions):
            filter_path = None if isinstance(input_filter, Mapping) else input_filter
            run.described = describe_given(
                Given(
                    job,
                    config,
                    schema,
                    None if filter_path is None else os.fspath(filter_path),
                    None if data_dir is None else os.fspath(data_dir),
                    choice,
                    inline,
                    profile,
                    delete_data,
                ),
                inputs,
            )
        if earlier is not None:
            run.notes += differences(earlier, run.described)
        run.timings["list"] = listed - started - (connected - asked)
        run.timings["start"] = clock.now() - listed + (connected - asked)
        outcome = run.execute()
        if run.on_cluster:
            _check_grown(inputs, outcome.tally)
        places.close()  # what is made for the job is not paid for while the output is written
        _check_bad_records(outcome.tally, config)
        result = _write(outcome, run, target)
        if target is None:
            stack.pop_all()
            weakref.finalize(result, remove)
    if delete_data and not choice.keys:
        result.deleted, kept = _delete_input(inputs, outcome.tally, target)
        result.notes += kept
    ended = clock.now()
    result.timings["total"] = ended - started
    result.history = History(
        started,
        ended,
        tasks=outcome.tally.tasks,
        hot_keys=outcome.tally.hot_keys,
        looks=collector.looks,
    )
    result.plan, result.combines = collector.plan, job.combine is not None
    result.settings = {
        setting.name: getattr(config, setting.name)
        for setting in fields(config)
        if setting.name != "clusters"  # which may hold a token
    }
    collector.end(result)
    return result


def _each(functions: Iterable[Callable[..., object]], *arguments: Any) -> None:
    for function in functions:
        function(*arguments)


def _spill_source(config: Config) -> Source | None:
    """Say which store the spill dir is in; ``None`` for a path.

    Raises
    ------
    InputError
        For a URL that means none, or that a run without a network could not use.
    """
    url = config.spill_dir
    if url is None or "://" not in url or url.startswith("file://"):
        return None
    if config.local_only:
        refuse_network("spill dir", url)
    try:
        # What is public may be read without credentials, and is not what anybody may write to.
        return source_of(url, replace(config, anon=False, requester_pays=False))
    except InputError as error:
        reason = str(error)
    raise InputError(f"The spill dir {masked(url)!r} cannot be used: {reason}")


def _check_spill_dir(config: Config) -> None:
    """Raise InputError where the store of the spill dir cannot be reached."""
    source = _spill_source(config)
    if source is None:
        return
    from daskmr.store.store import Store  # deferred: most jobs have none

    try:
        with Store(source, config.fetch_retries) as store:
            store.check(to_write=True)
    except InputError as error:
        reason = str(error)
    else:
        return
    raise InputError(f"The spill dir {source.url!r} cannot be used: {reason}")


def _at_end(stack: ExitStack, clean: Callable[[], None]) -> None:
    """Have `clean` called when `stack` ends, undisturbed, or when the process is ended hard."""

    def undisturbed() -> None:
        with deferred():
            clean()

    stack.callback(on_hard_exit(clean))
    stack.callback(undisturbed)


def _call_all(remains: Iterable[Callable[[], object]]) -> None:
    for remove in remains:
        remove()


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What came back from the workers."""

    parts: tuple[Part, ...]
    tally: Tally
    keys: int
    reducing: Span | None


@dataclass(slots=True)
class _Run:
    """One job on its way."""

    job: Job
    config: Config
    inputs: Inputs
    run_dir: RunDir
    items: bool
    profile: bool
    client: Any
    inline: bool
    remains: list[Callable[[], object]]
    collector: Collector
    timings: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    store: SpillStore | None = None
    on_cluster: bool = False
    host_marks: HostMarks | None = None
    renewed: float = 0.0
    choice: Choice = EVERYTHING
    started: float = 0.0
    described: dict[str, Any] = field(default_factory=dict)
    renewed_on_hosts: float = 0.0
    seen: dict[Hashable, float] = field(default_factory=dict)  # when marks were first seen

    def execute(self) -> _Outcome:
        """Map, merge and reduce; what it costs is in `timings`."""
        _check_opening(self.inputs, self.config)
        plan = self._plan()
        self.collector.begin(self._announced(plan))
        before = clock.now()
        connected = connect(
            self.config,
            len(plan),
            client=self.client,
            inline=self._is_inline,
            run_dir=self.run_dir.path,
        )
        with connected as session, self._reached(session):
            self.timings["start"] += clock.now() - before
            self.notes += session.notes
            dashboard = self.config.dashboard != "off"
            with (
                self._shown(session),
                self.collector.following(session, self._scratch, dashboard),
            ):
                outcome = self._outcome(self._compute(session, plan))
        # No task can be tried again now, so none needs its input again: the disk has room for the
        # output where the segments were.
        self.run_dir.remove_segments()
        return outcome

    def _shown(self, session: Session) -> AbstractContextManager[None]:
        """Have a page of the dashboard show the run, where there is one and it is watched."""
        if session.client is None or not self.collector.watched or self.config.dashboard == "off":
            return contextlib.nullcontext()
        from daskmr.diagnostics.live.page import live_page

        return live_page(session, self.collector.history, self.job.name)

    @property
    def _is_inline(self) -> bool:
        return self.inline or not self.inputs.listing.files

    def _announced(self, plan: list[Partition]) -> Plan:
        """Say what will be done."""
        inputs, files = self.inputs, self.inputs.listing.files
        remote = [file.size for file in files if file.is_remote]
        to_fetch = len(remote) - inputs.cached
        reduces = self.job.reduce is not None
        buckets = self._buckets()[0] if reduces else 0
        phases = {
            "fetch": to_fetch > 0,
            "merge": reduces,
            "reduce": reduces,
            "write": not self.items,
        }
        return Plan(
            job=self.job.name,
            phases=tuple(name for name in PHASES if phases.get(name, True)),
            files=len(files),
            bytes=sum(file.size for file in files),
            to_fetch=to_fetch,
            bytes_to_fetch=sum(remote) - inputs.cached_bytes,
            partitions=len(plan),
            merges=(len(plan) - 1) * (buckets + 1) if reduces else 0,
            buckets=buckets,
            inline=self._is_inline,
        )

    @contextlib.contextmanager
    def _reached(self, session: Session) -> Iterator[None]:
        """See what the workers see, and choose where they keep what they write."""
        if not session.is_elsewhere:
            yield
            return
        self.on_cluster = True
        check_data(session.ask, self.inputs.root, self.inputs.listing.files)
        with ExitStack() as stack:
            if not sees_all(session.ask, self.run_dir.path):
                self._use_spill_dir(session, stack)
            yield

    def _use_spill_dir(self, session: Session, stack: ExitStack) -> None:
        """Do without the work dir, which some workers do not see."""
        spill_dir, source = self.config.spill_dir, _spill_source(self.config)
        if spill_dir is not None and source is None:
            self._share(session, spill_dir.removeprefix("file://"))
        else:
            self._keep_away(session, stack, source)
        remote = self.inputs.remote
        if remote is not None:
            host = HostFolder(self.run_dir.run_id)
            if self.store is None:  # only the copies of what is fetched are kept by each host
                self._clear_in_the_end(session, stack, host)
            self.inputs = replace(self.inputs, remote=replace(remote, host=host))

    def _share(self, session: Session, spill_dir: str) -> None:
        with deferred():
            self.run_dir = RunDir.create(spill_dir, "--spill-dir")
            self.remains.append(self.run_dir.remove)
        if not sees_all(session.ask, self.run_dir.path):
            raise InputError(
                f"Some workers do not see the spill dir {spill_dir!r} as this machine does, or "
                "cannot write there. Give a path that all share, or a URL of a store, such as "
                "s3://BUCKET/spill, as --spill-dir."
            )

    def _keep_away(self, session: Session, stack: ExitStack, source: Source | None) -> None:
        """Have tasks keep on their hosts what they write, and in a store what others read."""
        store = SpillStore(self.run_dir.run_id, source, self.config.fetch_retries)
        self.store = store
        if self.config.file_timeout is not None:
            self.notes += ("file-timeout was not watched for: workers do not see the work dir",)
        if source is not None:
            with deferred():
                self.remains.append(store.clear)
            store.begin()
        self.host_marks = self._clear_in_the_end(session, stack, store.host)
        if source is not None:
            check_spill_store(session.ask, store)

    def _clear_in_the_end(self, session: Session, stack: ExitStack, host: HostFolder) -> HostMarks:
        host_marks = HostMarks(session.ask, host)
        stack.callback(_forget, host_marks)
        self.renewed = self.renewed_on_hosts = time.monotonic()
        session.watch(partial(self._renew, host_marks))
        return host_marks

    def _renew(self, host_marks: HostMarks) -> None:
        now = time.monotonic()
        if now - self.renewed_on_hosts > HOST_RENEWED_EVERY:
            self.renewed_on_hosts = now
            host_marks.renew()
        store = self.store
        if store is not None and store.source is not None and now - self.renewed > RENEWED_EVERY:
            self.renewed = now
            store.renew()

    @property
    def _scratch(self) -> Scratch:
        return Scratch(str(self.run_dir.path), self.store)

    def _plan(self) -> list[Partition]:
        files = self.inputs.listing.files
        if not files:
            return [Partition(0, (), 0)]  # nothing to read, and yet `setup_reduce` may write
        return plan_partitions(files, self.config.partition_bytes)

    def _map_task(self, partitions: int) -> MapTask:
        config = self.config
        return MapTask(
            job=self.job,
            root=self.inputs.root,
            remote=self.inputs.remote,
            scratch=self._scratch,
            spilling=Spilling(
                self._scratch.segments(),
                config.spill_bytes,
                self._buckets()[0],
                partitions,
            ),
            combine_size=config.combine_size,
            items=self.items,
            skip_corrupt=config.skip_corrupt_files,
            max_bad=config.max_bad_records if type(config.max_bad_records) is int else None,
            save_limit=config.bad_records_saved,
            profile=self.profile,
            max_record_bytes=config.max_record_bytes,
            part_bytes=_part_bytes(config, partitions),
            file_timeout=config.file_timeout,
            on_cluster=self.on_cluster,
            skip_poison=config.skip_poison_files,
            needs_tabs=config.limits_bad_records,
            keys=self.choice.keys,
            watched=self.collector.watched,
        )

    def _mapped(self, plan: list[Partition]) -> Any:
        """Build the mapping as a Bag: one task a partition."""
        from dask.bag import Bag  # a cluster is started before it is imported

        # As literals of its task, and not as a collection of their own, which would be a task each
        # that a worker answers to before it is told to map. The name is unique to the run, since
        # clients of one scheduler share keys of one name.
        mapper = Pinned(partial(map_packed, task=self._map_task(len(plan))))
        name = f"map-{self.run_dir.run_id}"
        graph = {(name, p.index): (mapper, pickle.dumps(p, 5)) for p in plan}
        return Bag(graph, name, len(graph))

    def _reduced(self, runs: Any) -> Any:
        """Add to the mapping a tree of merges, and one task a reducer."""
        config, job = self.config, self.job
        if job.reduce is None:
            return runs
        buckets, reducers = self._buckets()
        merge = Pinned(Merge(job, self._scratch, self.collector.watched))
        folded = runs.foldby(itemgetter(0), never_met, combine=merge, split_every=_SPLIT_EVERY)
        reduce_task = ReduceTask(
            job=job,
            scratch=self._scratch,
            budget=config.spill_bytes,
            items=self.items,
            profile=self.profile,
            part_bytes=_part_bytes(config, buckets),
            watched=self.collector.watched,
        )
        if reducers > 1:
            folded = folded.repartition(npartitions=reducers)
        return folded.map_partitions(Pinned(partial(reduce_buckets, task=reduce_task)))

    def _buckets(self) -> tuple[int, int]:
        """Choose the number of buckets and of reducers; neither changes the result."""
        wanted = self.config.num_reducers
        workers = None if self.client is not None else self.config.num_mappers or CPU_COUNT
        buckets = count_buckets(self.inputs.listing.files, wanted)
        return buckets, count_reducers(buckets, wanted, workers)

    def _compute(self, session: Session, plan: list[Partition]) -> list[Any]:
        if self.config.file_timeout is not None:
            session.watch(self._check_timeout)
        skip_poison = self.config.skip_poison_files and session.client is not None
        if session.is_elsewhere and self.store is None and not skip_poison:
            session.watch(lambda: self._check_kills(session))
        try:
            order = run_order(plan)
            if self._may_fetch_beside(session) and self._is_worth_it(session.workers):
                self._fetch_beside()
                if not skip_poison:  # which has no order
                    plan = with_ahead(plan, order, session.workers)
            if skip_poison:
                return self._compute_around_poison(session, plan)
            bag = self._reduced(self._mapped(plan))
            if session.client is None:
                return list(session.compute(bag))
            ordered = _with_first(bag) if session.is_elsewhere else _in_order(bag, order)
            return list(session.compute(ordered, is_optimized=True))
        except WorkerDied as error:
            marks = self._marks(session)
            failure = JobError(
                explain_death(
                    error.key,
                    error.partition,
                    session.killed_for_memory(),
                    marks,
                    "",
                    session.memory_limit,
                )
            )
            failure.file = file_of_death(error.partition, marks)
        raise failure

    def _may_fetch_beside(self, session: Session) -> bool:
        """Tell whether the workers, of this machine, fetch from S3 into a cache."""
        remote = self.inputs.remote
        if remote is None or remote.cache_root is None or remote.source.protocol != "s3":
            return False
        return not (remote.offline or session.client is None or session.is_elsewhere)

    def _is_worth_it(self, workers: int) -> bool:
        """Tell whether to start a process beside each worker, which takes a second, and memory."""
        inputs, wanted = self.inputs, self.config.fetch_processes
        if wanted != "auto":
            return bool(wanted)
        files = [file for file in inputs.listing.files if file.is_remote]
        absent = len(files) - inputs.cached
        absent_bytes = sum(file.size for file in files) - inputs.cached_bytes
        return absent >= _MUCH_FILES * workers or absent_bytes >= _MUCH_BYTES * workers

    def _fetch_beside(self) -> None:
        remote = self.inputs.remote
        assert remote is not None
        # By the wall clock, as the cache notes when it fetched something.
        beside = replace(remote, beside=True, began=time.time())
        self.inputs = replace(self.inputs, remote=beside)

    def _compute_around_poison(self, session: Session, plan: list[Partition]) -> list[Any]:
        from daskmr.run.poison import Detour

        mapper = Pinned(partial(map_packed, task=self._map_task(len(plan))))
        name = f"map-{self.run_dir.run_id}"
        detour = Detour(session, plan, mapper, name, partial(self._marks_of_the_dead, session))
        while True:
            bag = self._reduced(detour.bag())
            try:
                return list(session.compute(bag))
            except JobError as error:
                if not detour.take_up(error):
                    raise

    def _marks(self, session: Session) -> list[Mark]:
        """Return what tasks say of themselves, or have said before their process died."""
        if self.store is None:
            return read_marks(self.run_dir.path)
        assert self.host_marks is not None
        return self.host_marks.read()

    def _marks_of_the_dead(self, session: Session, failed: int) -> list[Mark]:
        marks = self._marks(session)
        if self.store is not None:
            return marks
        # Of a process on another host nobody knows, but of the task that failed none is left.
        return [m for m in marks if m.number == failed or (m.is_local and not is_alive(m.pid))]

    def _check_kills(self, session: Session) -> None:
        """Fail when a task has been killed for memory twice, on a cluster that would go on."""
        for marks in by_task(read_marks(self.run_dir.path)):
            if len(marks) > 1:
                text = explain_kills(marks, session.killed_for_memory(), "")
                if text is not None:
                    failure = JobError(text)
                    failure.file = marks[-1].file
                    raise failure

    def _check_timeout(self) -> None:
        """Fail when a living mapper has been reading one file for too long."""
        seconds = self.config.file_timeout
        assert seconds is not None
        marks = read_marks(self.run_dir.path)
        # By this process's own clock: those of other hosts may be any other.
        now = time.monotonic()
        self.seen = {_file_begun(mark): self.seen.get(_file_begun(mark), now) for mark in marks}
        # Of a process on another host nobody here knows whether it lives; but when it is not the last
        # that took its task up, it does not.
        last = {
            (mark.phase, mark.number): mark
            for mark in sorted(marks, key=lambda mark: self.seen[_file_begun(mark)])
        }
        for mark in marks:
            mapping = mark.path and mark.place not in (FETCHING, COMBINING)
            late = mapping and now - self.seen[_file_begun(mark)] > seconds
            lives = is_alive(mark.pid) if mark.is_local else last[mark.phase, mark.number] is mark
            if late and lives:
                failure = JobError(explain_timeout(mark.path, seconds))
                failure.file = mark.file
                raise failure

    def _outcome(self, results: list[Any]) -> _Outcome:
        if self.job.reduce is None:
            parts = tuple(part for bucket, part in results if bucket != TALLY)
            tally = sum((t for bucket, t in results if bucket == TALLY), Tallies()).total()
            return _Outcome(parts, tally, 0, None)
        reduced: list[Reduced] = results
        tally = sum((r.tallies for r in reduced), Tallies()).total()
        counted = sum((r.counted for r in reduced), Tally())
        hot_keys = with_counted(tally.hot_keys, counted.hot_keys)
        spans = [r.reducing for r in reduced]
        return _Outcome(
            tuple(part for r in reduced for part in r.parts),
            replace(tally + counted, hot_keys=hot_keys),
            sum(r.keys for r in reduced),
            Span(min(s.start for s in spans), max(s.end for s in spans)),
        )


def _file_begun(mark: Mark) -> Hashable:
    """Tell the reading of one file from that of all others, wherever in the file it is."""
    return mark.process, mark.phase, mark.number, mark.since, mark.path


def _in_order(bag: Any, order: list[int]) -> Any:
    """Have partitions mapped in this order, on a cluster that has nothing else to do.

    Dask would choose one of its own, by the shape of the graph. What it runs first has a higher
    priority, and everything else the highest, so that results are merged as soon as they are there.
    """
    positions = {index: position for position, index in enumerate(order)}
    return _prioritised(bag, lambda index: 1 if index is None else -positions[index])


def _with_first(bag: Any) -> Any:
    """Have the first partition mapped first: it may tell that the input is no records."""
    return _prioritised(bag, lambda index: int(index == 0))


def _prioritised(bag: Any, priority: Callable[[int | None], int]) -> Any:
    """Give each task its priority, by the index of the partition that it maps or ``None``."""
    from dask import annotate, optimize
    from dask.bag import Bag

    (optimized,) = optimize(bag)  # which would lose annotations

    def of_task(key: Any) -> int:
        is_map = type(key) is tuple and str(key[0]).startswith("map-")
        return priority(key[1] if is_map else None)

    with annotate(priority=of_task):
        return Bag(dict(optimized.__dask_graph__()), optimized.name, optimized.npartitions)


def _forget(host_marks: HostMarks) -> None:
    with deferred(), patient(RESTART_SECONDS):
        host_marks.forget()


def _part_bytes(config: Config, parts: int) -> int:
    """Return what a part may hold in memory, so that all of them stay below ``spill-bytes``."""
    return max(4096, config.spill_bytes // parts)


def _check_opening(inputs: Inputs, config: Config) -> None:
    """Fail before any work where the input begins with lines that are no records.

    What is in a store is not fetched for that: the task that maps it looks. So it does where files
    may be left out as corrupt, which this one cannot tell from their first lines.
    """
    if not config.limits_bad_records or config.skip_corrupt_files:
        return
    opening = Opening()
    for file in inputs.listing.files:
        if file.is_remote:
            return
        path = os.path.join(inputs.root, file.path)
        try:
            for lines, _ in read_lines(path, _LONGEST_LOOKED_AT):
                for line in lines:
                    if "\t" in line or isinstance(line, OversizedLine):
                        return
                    opening = opening.with_line(path, line)
                    if opening.untabbed == OPENING_LINES:
                        raise JobError(explain_untabbed(opening))
        except (OSError, CorruptFileError, TaskFailed):
            return  # the task that maps the file says what is wrong with it
    if opening.untabbed:
        raise JobError(explain_untabbed(opening))


def _check_bad_records(tally: Tally, config: Config) -> None:
    if not config.limits_bad_records:
        return
    if tally.opening.is_foreign:
        raise JobError(explain_untabbed(tally.opening))
    limit, allowed = config.max_bad_records, config.allowed_bad_records(tally.records)
    if tally.bad_records > allowed:
        share = f" ({100 * limit:g}% of them)" if type(limit) is float else ""
        by_count = islice(most_frequent_first(tally.bad_reasons).items(), _REASONS)
        reasons = ", ".join(f"{count:,} x {reason}" for reason, count in by_count)
        some = "".join(f"\n  {example}" for example in tally.first_bad())
        raise JobError(
            f"{tally.bad_records:,} of {tally.records:,} records are bad ({reasons}), and "
            f"--max-bad-records allows {allowed:,}{share}. Nothing was written. Some of them:{some}\n"
            "To leave out however many there are: --max-bad-records 100%"
        )


def _write(outcome: _Outcome, run: _Run, target: OutputFile | None) -> Result:
    tally = outcome.tally
    before = clock.now()
    timings = run.timings
    _time_phases(timings, outcome)
    beside_it = None
    if target is not None:
        beside_it = _write_output(outcome, run, target)
        run.notes += beside_it.notes
    timings["write"] = clock.now() - before
    return Result(
        output=target.name if target is not None else None,
        counts=tally.counts._replace(bad_reasons=most_frequent_first(tally.bad_reasons)),
        bad_files=tally.bad_files,
        saved_bad_records=tally.saved,
        bad_records_path=beside_it.bad_path if beside_it and beside_it.bad else None,
        skipped=run.inputs.listing.skipped,
        skipped_count=run.inputs.listing.skipped_count,
        corrupt=tally.corrupt,
        key_count=outcome.keys,
        lines=sum(part.lines for part in outcome.parts),
        output_bytes=target.bytes if target is not None else 0,
        timings=timings,
        poisoned=tally.poisoned,
        missing=tally.missing,
        cached=run.inputs.cached,
        cached_bytes=run.inputs.cached_bytes,
        notes=_notes(outcome, run),
        counters=by_group(tally.counters),
        sample=run.choice.describe(len(run.inputs.listing.files)),
        meta_path=beside_it.meta_path if beside_it and beside_it.meta else None,
        sha256=target.sha256 if target is not None else None,
        profile=tally.profile,
        _parts=outcome.parts if target is None else (),
        _job=run.job,
    )


def _time_phases(timings: dict[str, float], outcome: _Outcome) -> None:
    mapping, reducing = outcome.tally.mapping, outcome.reducing
    if mapping is not None:
        timings["map"] = mapping.end - mapping.start
        if reducing is not None:
            timings["merge"] = max(0.0, reducing.start - mapping.end)
            timings["reduce"] = reducing.end - reducing.start


def _write_output(outcome: _Outcome, run: _Run, target: OutputFile) -> Companions:
    """Write the output and what stands beside it, and put all in place; an old one goes in one step."""
    before = clock.now()
    if outcome.parts:
        target.write("".join(outcome.parts[0].header))
    done, total = 0, outcome.keys if run.job.reduce else len(outcome.parts)
    run.collector.wrote(done, total)
    # Those of a map-only job stand one after the other, so each can go before the next is read.
    batches = [outcome.parts] if run.job.reduce else [(part,) for part in outcome.parts]
    for parts in batches:
        for written in merge_parts(parts):
            target.write("".join(written))
            done += len(written) if run.job.reduce else 0
            run.collector.wrote(done, total)
        done += 0 if run.job.reduce else 1
        _remove(parts)
    target.close()
    bad_path = _bad_path(target, run.config, run.job)
    companions = Companions(target, run.run_dir.run_id, os.fspath(run.run_dir.path), bad_path)
    try:
        run.timings["write"] = clock.now() - before
        wanted = run.config.meta and target.has_companions
        companions.write(outcome.tally.saved, _meta(outcome, run, target) if wanted else None)
        companions.put_in_place()
    finally:
        companions.discard()
    return companions


def _bad_path(target: OutputFile, config: Config, job: Job) -> str:
    if target.is_file:
        return beside(target.name, BAD_SUFFIX)
    return os.path.join(config.work_dir, f"{job.name}{BAD_SUFFIX}")  # a stream, or an object


def _notes(outcome: _Outcome, run: _Run) -> tuple[str, ...]:
    return run.inputs.notes + run.notes + outcome.tally.notes + _describe_grown(outcome.tally)


def _describe_grown(tally: Tally) -> tuple[str, ...]:
    paths = [path for path, _ in tally.grown]
    if not paths:
        return ()
    return (
        f"{counted(len(paths), 'file')} grew while the job ran, as a log does that is still being written: "
        "what was listed of it was read, but for a last line that was not complete then: "
        f"{_some(paths)}",
    )


def _some(paths: Sequence[str]) -> str:
    more = f" and {len(paths) - _NAMED:,} more" if len(paths) > _NAMED else ""
    return f"{', '.join(paths[:_NAMED])}{more}"


def _check_grown(inputs: Inputs, tally: Tally) -> None:
    """See that what has grown for a worker has grown here: else the worker has read another file."""
    for path, size in tally.grown:
        where = inputs.locate(path)
        try:
            here = os.stat(where).st_size
        except OSError:
            here = 0
        if here < size:
            failure = JobError(
                f"The input file {where} had {size:,} bytes for the worker that read it, and has "
                f"{here:,} here. Nothing was written. Put the data where all workers see it under "
                "the same path (a shared file system), and run the job again."
            )
            failure.file = path
            raise failure


def _meta(outcome: _Outcome, run: _Run, target: OutputFile) -> dict[str, Any]:
    listing, now = run.inputs.listing, clock.now()
    lines = sum(part.lines for part in outcome.parts)
    skipped = listing.skipped, listing.skipped_count
    return {
        **run.described,
        **describe_counts(outcome.tally, outcome.keys, lines, skipped),
        "notes": list(_notes(outcome, run)),
        "times": {
            "started": moment(run.started),
            "ended": moment(now),
            "seconds": {**run.timings, "total": now - run.started},
        },
        "output": {
            "path": target.name if "://" in target.name else os.path.abspath(target.name),
            "lines": lines,
            "bytes": target.bytes,
            "sha256": target.sha256,
        },
    }


def _remove(parts: Iterable[Part]) -> None:
    """Remove the segments of `parts`, which are written and will not be read again."""
    for part in parts:
        if isinstance(part.frames, Extent):
            part.frames.remove()


def _delete_input(
    inputs: Inputs, tally: Tally, target: OutputFile | None
) -> tuple[int, tuple[str, ...]]:
    """Delete the input files that were mapped whole; none whose bad records would be lost.

    Of what is in a store, only the local copies go. Returns how many went, and what there is to say
    of those that changed after they were read, and so hold what no job has read.
    """
    left_out = (*tally.corrupt, *tally.poisoned, *tally.missing)
    kept = {path for path, _ in left_out} | tally.unsaved_files
    output = target.path if target is not None else None
    count = 0
    copies: list[str] = []
    changed: list[str] = []
    refused: list[str] = []
    for file in inputs.listing.files:
        if file.path in kept:
            continue
        if file.is_remote:
            copies.append(file.path)
            continue
        path = os.path.join(inputs.root, file.path)
        if os.path.realpath(path) == output:
            continue
        try:
            if is_as_listed(file, path):
                os.unlink(path)
                count += 1
            else:
                changed.append(file.path)
        except FileNotFoundError:
            pass
        except OSError as error:  # the output is in place: this is not worth a failure
            refused.append(f"{file.path} ({error.strerror})")
    kinds = (("since no longer as listed and read", changed), ("which was refused", refused))
    notes = tuple(
        f"{counted(len(paths), 'input file')} not deleted, {why}: {_some(paths)}"
        for why, paths in kinds
        if paths
    )
    return count + inputs.delete_copies(copies), notes
