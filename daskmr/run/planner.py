"""Make a plan: find out what a run would read, fetch and write, without running it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from dask.system import CPU_COUNT

from daskmr.config import Config
from daskmr.data.cache.cache import State
from daskmr.data.inputs import Inputs, find_inputs
from daskmr.data.listing import InputFile
from daskmr.data.partition import Partition, count_buckets, estimate_bytes, plan_partitions
from daskmr.data.sampling import EVERYTHING, Choice
from daskmr.errors import InputError, NothingMatchedError
from daskmr.run.estimate import Estimate, Sample, estimate, map_sample
from daskmr.run.plan import (
    Amount,
    Balance,
    Disk,
    Plan,
    Reducing,
    Requests,
    amount_of,
    balance,
    count_requests,
    figures,
    reducing,
    unmatched,
)
from daskmr.run.request import Request, check_request, refuse_to_replace_input
from daskmr.run.side_cars import check_beside
from daskmr.store.credentials import given
from daskmr.store.open_stores import stores_closed
from daskmr.text import format_bytes

__all__ = ["make_plan"]

_SAMPLE_SECONDS = 3.0
_LEFT_OUT = "left out (--no-estimate)"
_NOT_HERE = "none of the files is on this machine yet, and a plan fetches nothing"


def make_plan(
    script: Any,
    *,
    data_dir: str | os.PathLike[str] | None = None,
    input_filter: Any = None,
    output: str = "-",
    inline: bool = False,
    estimating: bool = True,
    sample_seconds: float = _SAMPLE_SECONDS,
    choice: Choice = EVERYTHING,
    aws_key: str | None = None,
    aws_secret_key: str | None = None,
    on_listing: Callable[[int, int], object] | None = None,
    **options: Any,
) -> Plan:
    """Plan what `daskmr.mapreduce` would do with the same arguments.

    Nothing is fetched, and nothing is written but the listing of a bucket, to the record of its cache.

    - `script`, `data_dir`, `input_filter`, `output`, `inline`, `aws_key`, `aws_secret_key`,
      `on_listing`, `**options`: as `daskmr.mapreduce` takes them.
    - `estimating`: map a sample of the files on this machine, to estimate time and memory.
    - `sample_seconds`: how long to map the sample.
    - `choice`: which part of the input the run would read.
    Raises `InputError` where a run would fail before any work; too little disk space is a warning
    in the plan.
    Raises `NothingMatchedError` when the filter allows no file.
    """
    is_file = output != "-" and "://" not in output
    request = check_request(
        script,
        options,
        choice=choice,
        data_dir=data_dir,
        input_filter=input_filter,
        output=output,
        inline=inline,
    )
    config = request.config
    with given(aws_key, aws_secret_key, config.aws_profile), stores_closed():
        inputs = find_inputs(data_dir, request.schema, config, on_listing, choice, to_read=False)
        if not inputs.listing.files and not config.allow_empty:
            raise NothingMatchedError(inputs.listing.explain_nothing())
        if is_file:
            refuse_to_replace_input(inputs, output, output)
            check_beside(output, config.meta)
        return _Planner(request, inputs).plan(
            script=os.fspath(script) if isinstance(script, str | os.PathLike) else request.job.name,
            output=output,
            data_dir=request.data_dir,
            input_filter=request.filter_path,
            seconds=sample_seconds if estimating else None,
        )


@dataclass(slots=True)
class _Planner:
    """Gathers the figures of one plan."""

    request: Request
    inputs: Inputs
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def config(self) -> Config:
        return self.request.config

    @property
    def files(self) -> tuple[InputFile, ...]:
        return self.inputs.listing.files

    @property
    def workers(self) -> int | None:
        if not self.request.is_local:
            return None
        return 1 if self.request.inline else self.config.num_mappers or CPU_COUNT

    def plan(self, *, output: str, seconds: float | None, **names: Any) -> Plan:
        """Gather all figures."""
        listing, source = self.inputs.listing, self.inputs.remote and self.inputs.remote.source
        partitions = plan_partitions(self.files, self.config.partition_bytes)
        state = self.inputs.state()
        absent = self._absent(state)
        sample, forecast, reason = self._estimate(partitions, absent, seconds)
        spilled = forecast.spilled if forecast is not None else 0
        local = amount_of(file for file in self.files if not file.is_remote)
        allowed, to_fetch = amount_of(self.files), amount_of(absent)
        self.warnings += self.request.job.notes
        self._check_input(listing.files, balance(partitions))
        self._check_output(output)
        if self.request.choice.is_sample:
            self.notes.append(f"a sample: {self.request.choice.describe(len(self.files))}")
        self._check_space(state, spilled)
        return Plan(
            **names,
            output=output,
            bucket=source.url if source else None,
            files=allowed,
            text_bytes=estimate_bytes(self.files),
            local=local,
            cached=Amount(
                allowed.files - local.files - to_fetch.files,
                allowed.bytes - local.bytes - to_fetch.bytes,
            ),
            to_fetch=to_fetch,
            skipped=listing.skipped_count,
            dimensions=figures(listing),
            # A part of the input does not show which values are missing.
            unmatched=unmatched(self.request.schema, listing)
            if self.request.choice == EVERYTHING
            else (),
            partitions=balance(partitions),
            reducing=self._reducing(),
            workers=self.workers,
            requests=self._requests(absent),
            disks=self._disks(output, to_fetch.bytes, spilled),
            sample=sample,
            estimate=forecast,
            no_estimate=reason,
            warnings=tuple(self.warnings),
            notes=(*self.inputs.notes, *self.notes),
        )

    def _absent(self, state: State | None) -> tuple[InputFile, ...]:
        """The objects that would be fetched."""
        if state is not None:
            return state.absent
        return tuple(file for file in self.files if file.is_remote)

    def _reducing(self) -> Reducing | None:
        if self.request.job.reduce is None:
            return None
        workers = self.config.num_mappers or CPU_COUNT if self.request.is_local else None
        return reducing(self.files, self.config.num_reducers, workers)

    def _requests(self, absent: Sequence[InputFile]) -> Requests | None:
        remote = self.inputs.remote
        if remote is None or remote.offline:
            return None
        return count_requests(self.inputs.listings, absent, remote.source.protocol == "s3")

    # --- the estimate ---------------------------------------------------------------------------

    def _estimate(
        self, partitions: Sequence[Partition], absent: Sequence[InputFile], seconds: float | None
    ) -> tuple[Sample | None, Estimate | None, str]:
        """Map a sample, or return the reason why there is no estimate."""
        if seconds is None:
            return None, None, _LEFT_OUT
        here = list(self._on_this_machine({file.path for file in absent}))
        if not here:
            return None, None, _NOT_HERE if self.files else "there is nothing to map"
        config = self.config
        sample = map_sample(
            self.request.job,
            here,
            seconds,
            buckets=count_buckets(self.files, config.num_reducers),
            combine_size=config.combine_size,
            max_record_bytes=config.max_record_bytes,
            keys=self.request.choice.keys,
        )
        self._check_sample(sample)
        forecast = estimate(
            sample,
            partitions,
            workers=self.workers,
            spill_bytes=config.spill_bytes,
            grouped=self.request.job.reduce is not None,
        )
        if forecast is None:
            reason = "map failed on the sample" if sample.failure else "the sample has no data"
            return sample, None, reason
        self._check_memory(forecast)
        return sample, forecast, ""

    def _on_this_machine(self, absent: set[str]) -> Iterator[tuple[InputFile, str]]:
        cache_root = self.inputs.remote and self.inputs.remote.cache_root
        for file in self.files:
            if not file.is_remote:
                yield file, os.path.join(self.inputs.root, file.path)
            elif cache_root and file.path not in absent:
                yield file, os.path.join(cache_root, file.path)

    # --- warnings and notes ---------------------------------------------------------------------

    def _check_input(self, files: Sequence[InputFile], cut: Balance) -> None:
        names = self.request.schema.layout.field_names
        for position, dimension in enumerate(self.request.schema.dimensions):
            label = dimension.field_name
            if label != names[position] and label in names:
                self.warnings.append(
                    f"dimension {position + 1} of the filter is called {label}, and in the layout "
                    f"{names[position]}: the order counts, not the name"
                )
        if not files:
            self.warnings.append("nothing matches, and the output would be empty (--allow-empty)")
        elif cut.is_uneven and cut.bytes_max > self.config.partition_bytes:
            self.notes.append(
                f"the largest partition, with {format_bytes(cut.bytes_max)}, may be the last to "
                "end, as no file is split"
            )

    def _check_sample(self, sample: Sample) -> None:
        if sample.failure:
            self.warnings.append(f"the run would fail: {sample.failure}")
        config, bad = self.config, sample.bad_records
        if config.limits_bad_records and bad > config.allowed_bad_records(sample.records):
            self.warnings.append(
                f"the run would fail if all of the input were like the sample: {bad:,} of its "
                f"{sample.records:,} records are bad, more than --max-bad-records allows"
            )
        for corrupt in sample.corrupt[:3]:
            self.warnings.append(
                f"{corrupt} The run would skip it (--skip-corrupt-files)"
                if self.config.skip_corrupt_files
                else f"{corrupt} The run would fail, without --skip-corrupt-files"
            )

    def _check_memory(self, forecast: Estimate) -> None:
        limit = self.config.memory_limit
        if not self.request.is_local or self.request.inline:
            return
        if limit == "auto" and self.workers:
            from distributed.system import MEMORY_LIMIT  # what a cluster divides among its workers

            limit = MEMORY_LIMIT // self.workers
        if isinstance(limit, int) and 0 < limit < forecast.memory:
            self.warnings.append(
                f"a worker may need {format_bytes(forecast.memory)}, and has {format_bytes(limit)}: "
                "fewer --num-mappers leave more to each"
            )

    def _check_output(self, output: str) -> None:
        if output == "-" or "://" in output:
            return
        folder = os.path.dirname(os.path.abspath(output))
        if os.path.isdir(output):
            self.warnings.append(f"the run would refuse the output {output}: it is a directory")
        elif not os.path.isdir(folder):
            self.warnings.append(f"the run would refuse the output: there is no directory {folder}")
        elif os.path.isfile(output):
            self.notes.append(
                f"{output} is there, and would be replaced when the job has succeeded"
            )

    def _check_space(self, state: State | None, spilled: int) -> None:
        cache = self.inputs.open_cache()
        if cache is not None and state is not None and not self.config.local_only:
            with cache:
                try:
                    cache.check_space(state, self.config.cache_max)
                except InputError as error:
                    self.warnings.append(f"the run would refuse: {error}")
        fetched = state.absent_bytes if state is not None else 0
        free = _free(self.config.work_dir)
        if spilled and fetched + spilled > free:
            self.warnings.append(
                f"some {format_bytes(fetched + spilled)} would be written to the work dir, where "
                f"{format_bytes(free)} are free: use another --work-dir"
            )

    def _disks(self, output: str, fetched: int, spilled: int) -> tuple[Disk, ...]:
        work_dir = self.config.work_dir
        kept = fetched if self.config.cache else 0
        disks = [Disk(work_dir, _free(work_dir), kept, spilled)]
        folder = os.path.dirname(os.path.abspath(output))
        streamed = output == "-" or "://" in output
        if not streamed and os.path.isdir(folder) and _device(folder) != _device(work_dir):
            disks.append(Disk(folder, _free(folder)))
        return tuple(disks)


def _existing(path: str) -> str:
    """The closest existing folder above a path."""
    path = os.path.abspath(path)
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def _free(path: str) -> int:
    return shutil.disk_usage(_existing(path)).free


def _device(path: str) -> int:
    return os.stat(_existing(path)).st_dev
