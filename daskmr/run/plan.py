"""Plan a run: find out what it would read, fetch and write, without running it."""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median_low
from typing import Any

from daskmr.cluster.delivery import files_of
from daskmr.data.filters import OneOf, sanitise
from daskmr.data.inputs import Inputs, find_inputs
from daskmr.data.layout import Schema
from daskmr.data.listing import InputFile, Listing
from daskmr.data.output_directory.local import check_target
from daskmr.data.partition import Partition, estimate_bytes
from daskmr.data.sampling import EVERYTHING, Choice
from daskmr.data.sources.given import spooled
from daskmr.errors import InputError
from daskmr.job.job import Job, describe_params, describe_steps
from daskmr.run.estimate import Estimate, Sample, estimate, map_sample
from daskmr.run.input_checks import refuse_to_replace_input
from daskmr.run.outputs.side_cars import check_side_cars, side_car_paths
from daskmr.run.request import Request, check_request
from daskmr.store.credentials import given
from daskmr.store.download import multipart_etag
from daskmr.store.open_stores import stores_closed
from daskmr.text import format_bytes

__all__ = ["Plan", "as_json", "make_plan"]

_TOP = 5  # values listed per dimension
_REPLACED = "{} exists, and would be replaced when the job has succeeded"
_SIMILAR = 3
_EXISTING = 8
_SAMPLE_SECONDS = 3.0
_UNEVEN = 4  # a largest partition of more than this many times the median is worth a note


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of files, and their size as stored."""

    files: int = 0
    bytes: int = 0

    def __sub__(self, other: Amount) -> Amount:
        return Amount(self.files - other.files, self.bytes - other.bytes)


@dataclass(frozen=True, slots=True)
class Share:
    """The files with one value of a dimension."""

    value: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DimensionFigures:
    """The input, broken down by the values of one dimension."""

    name: str
    distinct: int  # number of values
    first: str  # lowest value, compared as text
    last: str  # highest value
    values: tuple[Share, ...]  # values with the most bytes
    others: Amount  # all other values together


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A value that the filter allows but no file has."""

    dimension: str
    position: int  # counted from 1
    value: str  # as written in the filter
    similar: tuple[str, ...]  # existing values that resemble it
    existing: tuple[str, ...]  # the first few existing values


@dataclass(frozen=True, slots=True)
class Balance:
    """The sizes of the partitions, in bytes of input as stored."""

    count: int  # number of partitions
    bytes_min: int
    bytes_median: int
    bytes_max: int
    largest_file: str
    largest_file_bytes: int

    @property
    def is_uneven(self) -> bool:
        """True if the largest partition is several times the median."""
        return self.bytes_max > _UNEVEN * max(1, self.bytes_median)


@dataclass(frozen=True, slots=True)
class Reducing:
    """The numbers of buckets and of tasks that reduce them."""

    buckets: int
    reducers: int


@dataclass(frozen=True, slots=True)
class Requests:
    """The requests to a store: those of the listing, and the minimum for fetching."""

    listing: int
    get: int
    head: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that the run writes to."""

    path: str  # the work dir, or the folder of the output
    free: int  # bytes
    fetched: int = 0  # estimated bytes of copies of objects written there
    spilled: int = 0  # estimated bytes of segments written there


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan: everything known about a run before it starts."""

    script: str
    output: str
    data_dir: str | tuple[str, ...] | None  # several values as a tuple
    bucket: str | None
    input_filter: str | None
    files: Amount  # files that the filter allows
    text_bytes: int  # their uncompressed size, estimated from their extensions
    local: Amount  # files in the data dir
    cached: Amount  # objects with a local copy
    to_fetch: Amount  # objects without a local copy
    skipped: int  # paths that are not in the layout
    dimensions: tuple[DimensionFigures, ...]
    unmatched: tuple[Unmatched, ...]
    partitions: Balance
    reducing: Reducing | None  # ``None`` for a map-only job
    workers: int | None  # ``None`` on a cluster
    params: tuple[str, ...] = ()  # of the script, each with its value
    steps: tuple[str, ...] = ()  # of a job that has several: what messages call them, and functions
    sent: tuple[str, ...] = ()  # files that are sent with the job: names, paths and sizes
    requests: Requests | None = None  # ``None`` without a store, or offline
    disks: tuple[Disk, ...] = ()
    sample: Sample | None = None
    estimate: Estimate | None = None
    no_estimate: str = ""  # why there is no estimate
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def make_plan(
    script: Any,
    *,
    data_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    input_filter: Any = None,
    output: str = "-",
    inline: bool = False,
    estimating: bool = True,
    choice: Choice = EVERYTHING,
    aws_key: str | None = None,
    aws_secret_key: str | None = None,
    on_listing: Callable[[int, int], object] | None = None,
    where: Any = (),
    date: Any = None,
    params: Mapping[str, Any] | None = None,
    pass_env: Iterable[str] = (),
    files: Any = None,
    py_files: Iterable[str] = (),
    **options: Any,
) -> Plan:
    """Plan what `daskmr.mapreduce` would do with the same arguments.

    Nothing is fetched, and the only thing written is the listing of a bucket, to its cache.

    - `estimating`: map a sample of the files on this machine, to estimate time and memory.
    - `choice`: the part of the input that the run would read.
    Raises `InputError` if a run would fail before any work. Too little disk space is only a warning
    in the plan.
    Raises `NothingMatchedError` if the filter allows no file.
    """
    request = check_request(
        script,
        {**options, "files": files, "py_files": py_files},
        choice=choice,
        data_dir=data_dir,
        input_filter=input_filter,
        output=output,
        inline=inline,
        where=where,
        date=date,
        params=params,
        pass_env=pass_env,
    )
    config, output = request.config, request.output or output
    with (
        given(aws_key, aws_secret_key, config.aws_profile),
        stores_closed(),
        spooled(request.sources) as stdin,
    ):
        inputs = find_inputs(
            request.sources,
            request.schema,
            config,
            on_listing,
            choice,
            to_read=False,
            stdin=stdin,
        )
        if not inputs.listing.files and not config.allow_empty:
            inputs.listing.refuse_nothing()
        if _is_file(output):
            refuse_to_replace_input(inputs, output, output)
            bad_path, meta_path = side_car_paths(output)
            check_side_cars(bad_path, meta_path if config.meta else None)
        scripts = script if isinstance(script, list | tuple) else [script]
        names = [
            _name_of(each, one) for each, one in zip(scripts, request.job.scripts, strict=True)
        ]
        return _Planner(request, inputs, output).plan(" ".join(names), estimating)


def _name_of(script: Any, job: Job) -> str:
    """Return what a script was called: its path as it was given, if it has one."""
    is_path = isinstance(script, str | os.PathLike) and job.code is None
    return os.fspath(script) if is_path else job.name


def _is_file(output: str) -> bool:
    return output != "-" and "://" not in output


class _Planner:
    """Collects the figures of one plan."""

    def __init__(self, request: Request, inputs: Inputs, output: str) -> None:
        self.request, self.inputs, self.output = request, inputs, output
        self.config, self.files = request.config, inputs.listing.files
        self.partitions, notes = request.plan(inputs)
        self.state = inputs.state()
        self.remote = [file for file in self.files if file.is_remote]
        self.absent = self.remote if self.state is None else self.state.absent
        self.workers = request.local_workers
        self.warnings: list[str] = []
        self.notes = [*inputs.notes, *notes]

    def plan(self, script: str, estimating: bool) -> Plan:
        request, listing, remote = self.request, self.inputs.listing, self.inputs.remote
        sample, forecast, reason = self._estimate(estimating)
        spilled = forecast.spilled if forecast is not None else 0
        allowed, to_fetch = amount_of(self.files), amount_of(self.absent)
        listed = amount_of(self.remote)
        partitions = balance(self.partitions)
        kept = to_fetch.bytes if self.config.cache else 0
        self.warnings += request.job.notes
        self._check_input(partitions)
        self._check_output()
        if request.choice.is_sample:
            self.notes.append(f"a sample: {request.choice.describe(len(self.files))}")
        self._check_space(kept + spilled if spilled else 0)
        requests = None
        if remote is not None and not remote.offline:
            is_s3 = remote.source.protocol == "s3"
            requests = count_requests(self.inputs.listings, self.absent, is_s3)
        return Plan(
            script=script,
            output=self.output,
            data_dir=request.sources.plain,
            bucket=remote.source.url if remote else None,
            input_filter=request.filter_path,
            files=allowed,
            text_bytes=estimate_bytes(self.files),
            local=allowed - listed,
            cached=listed - to_fetch,
            to_fetch=to_fetch,
            skipped=listing.skipped_count,
            dimensions=figures(listing),
            # With only a part of the input, it is unknown which values are missing.
            unmatched=unmatched(listing.schema, listing) if request.choice == EVERYTHING else (),
            partitions=partitions,
            reducing=Reducing(*request.count_buckets(self.files)) if request.job.reduce else None,
            workers=self.workers,
            params=describe_params(request.job),
            steps=describe_steps(request.job),
            sent=tuple(each.shown for each in files_of(request.job)),
            requests=requests,
            disks=self._disks(kept, spilled),
            sample=sample,
            estimate=forecast,
            no_estimate=reason,
            warnings=tuple(self.warnings),
            notes=tuple(self.notes),
        )

    # --- the estimate ---------------------------------------------------------------------------

    def _estimate(self, estimating: bool) -> tuple[Sample | None, Estimate | None, str]:
        """Map a sample, or return the reason why there is no estimate."""
        if not estimating:
            return None, None, "skipped (--no-estimate)"
        if not self.files:
            return None, None, "there is nothing to map"
        here = list(self._on_this_machine())
        if not here:
            reason = "none of the files is on this machine yet, and plan does not fetch any"
            return None, None, reason
        config, request = self.config, self.request
        sample = map_sample(
            request.job,
            here,
            _SAMPLE_SECONDS,
            buckets=request.count_buckets(self.files)[0],
            combine_size=config.combine_size,
            max_record_bytes=config.max_record_bytes,
            keys=request.choice.keys,
            form=request.records,
            names=self.inputs.listing.layout.field_names,
            on_error=config.on_error,
        )
        self._check_sample(sample)
        forecast = estimate(
            sample,
            self.partitions,
            workers=self.workers,
            spill_bytes=config.spill_bytes,
            grouped=request.job.reduce is not None,
        )
        if forecast is None:
            reason = "map failed on the sample" if sample.failure else "the sample has no data"
            return sample, None, reason
        self._check_memory(forecast)
        return sample, forecast, ""

    def _on_this_machine(self) -> Iterator[tuple[InputFile, str]]:
        cache_root = self.inputs.remote and self.inputs.remote.cache_root
        absent = {file.path for file in self.absent}
        for file in self.files:
            file = replace(file, source=self.inputs.sources.of(file))
            if not file.is_remote:
                yield file, os.path.join(self.inputs.root, file.path)
            elif cache_root and file.path not in absent:
                yield file, os.path.join(cache_root, file.path)

    # --- warnings and notes ---------------------------------------------------------------------

    def _check_input(self, partitions: Balance) -> None:
        if not self.files:
            self.warnings.append("nothing matches, so the output would be empty (--allow-empty)")
        elif partitions.is_uneven and partitions.bytes_max > self.config.partition_bytes:
            self.notes.append(
                f"the largest partition, with {format_bytes(partitions.bytes_max)}, may finish last, "
                "because its files cannot be split"
            )

    def _check_sample(self, sample: Sample) -> None:
        if sample.failure:
            self.warnings.append(f"the run would fail: {sample.failure}")
        config, bad = self.config, sample.bad_records
        if config.limits_bad_records and bad > config.allowed_bad_records(sample.records):
            self.warnings.append(
                f"the run would fail if all of the input is like the sample: {bad:,} of its "
                f"{sample.records:,} records are bad, more than --max-bad-records allows"
            )
        outcome = (
            "The run would skip it (--skip-corrupt-files)"
            if config.skip_corrupt_files
            else "The run would fail unless --skip-corrupt-files is given"
        )
        self.warnings += [f"{corrupt} {outcome}" for corrupt in sample.corrupt[:3]]

    def _check_memory(self, forecast: Estimate) -> None:
        limit = self.config.memory_limit
        if self.workers is None or self.request.inline:
            return
        if limit == "auto":
            from distributed.system import MEMORY_LIMIT  # a cluster divides this among its workers

            limit = MEMORY_LIMIT // self.workers
        if isinstance(limit, int) and 0 < limit < forecast.memory:
            self.warnings.append(
                f"a worker may need {format_bytes(forecast.memory)} but has {format_bytes(limit)}: "
                "lower --num-mappers to give each more memory"
            )

    def _check_output(self) -> None:
        output = self.output
        if not _is_file(output):
            return
        folder = os.path.dirname(os.path.abspath(output))
        if output.endswith("/"):
            try:
                if check_target(output):
                    self.notes.append(_REPLACED.format(output))
            except InputError as error:
                self.warnings.append(f"the run would reject the output: {error}")
        elif os.path.isdir(output):
            self.warnings.append(f"the run would reject the output {output}: it is a directory")
        elif not os.path.isdir(folder):
            self.warnings.append(f"the run would reject the output: there is no directory {folder}")
        elif os.path.isfile(output):
            self.notes.append(_REPLACED.format(output))

    def _check_space(self, written: int) -> None:
        cache = self.inputs.open_cache()
        if cache is not None and self.state is not None and not self.config.local_only:
            with cache:
                try:
                    cache.check_space(self.state, self.config.cache_max)
                except InputError as error:
                    self.warnings.append(f"the run would fail: {error}")
        free = _free(self.config.work_dir)
        if written > free:
            self.warnings.append(
                f"about {format_bytes(written)} would be written to the work dir, which has "
                f"{format_bytes(free)} free: use another --work-dir"
            )

    def _disks(self, fetched: int, spilled: int) -> tuple[Disk, ...]:
        work_dir, folder = self.config.work_dir, os.path.dirname(os.path.abspath(self.output))
        disk = Disk(work_dir, _free(work_dir), fetched, spilled)
        if not _is_file(self.output) or not os.path.isdir(folder):
            return (disk,)
        is_same = os.stat(folder).st_dev == os.stat(_existing(work_dir)).st_dev
        return (disk,) if is_same else (disk, Disk(folder, _free(folder)))


def _existing(path: str) -> str:
    """Return the closest existing parent folder of a path, or the path itself."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _free(path: str) -> int:
    return shutil.disk_usage(_existing(path)).free


# --- the figures ----------------------------------------------------------------------------------


def amount_of(files: Iterable[InputFile]) -> Amount:
    """Count files, and sum their sizes.

    >>> amount_of([InputFile("a", 5, ()), InputFile("b", 7, ())])
    Amount(files=2, bytes=12)
    """
    sizes = [file.size for file in files]
    return Amount(len(sizes), sum(sizes))


def figures(listing: Listing, top: int = _TOP) -> tuple[DimensionFigures, ...]:
    """Break the input down by the values of each dimension."""
    by_dims: dict[tuple[str, ...], list[int]] = {}
    for file in listing.files:  # combinations of values first, which are far fewer than files
        total = by_dims.setdefault(file.dims, [0, 0])
        total[0] += 1
        total[1] += file.size
    return tuple(
        _figures_of(name, position, by_dims, top)
        for position, name in enumerate(listing.layout.field_names)
    )


def _figures_of(
    name: str, position: int, by_dims: Mapping[tuple[str, ...], list[int]], top: int
) -> DimensionFigures:
    totals: dict[str, list[int]] = {}
    for dims, (files, size) in by_dims.items():
        total = totals.setdefault(dims[position], [0, 0])
        total[0] += files
        total[1] += size
    shares = [Share(value, files, size) for value, (files, size) in totals.items()]
    shares.sort(key=lambda share: (-share.bytes, share.value))
    if len(shares) == top + 1:  # "1 other" would take as much space as its name
        top += 1
    rest = shares[top:]
    return DimensionFigures(
        name,
        len(shares),
        min(totals, default=""),
        max(totals, default=""),
        tuple(shares[:top]),
        Amount(sum(share.files for share in rest), sum(share.bytes for share in rest)),
    )


def unmatched(schema: Schema, listing: Listing) -> tuple[Unmatched, ...]:
    """Find values that the filter names but no file has, such as a misspelled channel.

    Examples
    --------
    >>> from daskmr.data.listing import Selection
    >>> from daskmr.data.layout import load_schema
    >>> allowed = {"field_name": "reason", "allowed_values": ["idle", "savedsession"]}
    >>> schema = load_schema({"dimensions": [allowed]})
    >>> gathering = Selection(schema)
    >>> gathering.pick(0, "idle"), gathering.pick(0, "saved_session")
    ('idle', None)
    >>> gathering.files.append(InputFile("idle/...", 1, ("idle", "b", "c", "d", "e", "f")))
    >>> [(one.value, one.similar) for one in unmatched(schema, gathering.listing("/data"))]
    [('savedsession', ('saved_session',))]
    """
    found: list[Unmatched] = []
    for position, dimension in enumerate(schema.dimensions):
        if not isinstance(dimension.test, OneOf):
            continue
        there = {file.dims[position] for file in listing.files}
        seen = sorted({*listing.seen[position].values, *there})
        for value in dict.fromkeys(dimension.test.given):
            if value in there or sanitise(value) in there:
                continue
            # The variants are named in a note.
            left_out = {*(dimension.test.accepted or ()), *listing.seen[position].variants}
            others = [each for each in seen if each not in left_out]
            similar = tuple(difflib.get_close_matches(sanitise(value), others, _SIMILAR))
            existing = tuple(seen[:_EXISTING])
            found.append(Unmatched(dimension.field_name, position + 1, value, similar, existing))
    return tuple(found)


def balance(plan: Sequence[Partition]) -> Balance:
    """Compute the sizes of the partitions."""
    sizes = [sum(file.bytes for file in partition.files) for partition in plan]
    files = [file for partition in plan for file in partition.files]
    largest = max(files, key=lambda file: file.size, default=InputFile("", 0, ()))
    return Balance(
        len(plan),
        min(sizes, default=0),
        median_low(sizes) if sizes else 0,
        max(sizes, default=0),
        largest.path,
        largest.size,
    )


def count_requests(listings: int, absent: Iterable[InputFile], is_s3: bool) -> Requests:
    """Count the requests that fetching takes without retries.

    An object that was uploaded in parts takes an additional one, for the size of its first part.

    >>> count_requests(3, [InputFile("a", 1, (), f"{'0' * 32}-2"), InputFile("b", 1, (), "x")], True)
    Requests(listing=3, get=2, head=1)
    """
    files = list(absent)
    parts = [digest for file in files if (digest := multipart_etag(file.etag)) and digest[1]]
    return Requests(listings, len(files), len(parts) if is_s3 else 0)


def as_json(plan: Plan) -> dict[str, Any]:
    """Convert a plan to a JSON object; its keys are documented and stable (docs/before-a-run.md)."""
    content = asdict(plan)
    sample, estimate = content.pop("sample"), content.pop("estimate")
    if sample is not None:
        kept = ("files", "bytes", "records", "bad", "pairs", "keys", "seconds", "failure")
        sample |= sample["counts"].as_dict()
        sample = {name: sample["bad_reasons" if name == "bad" else name] for name in kept}
    return {"version": 1, **content, "sample": sample, "estimate": estimate}
