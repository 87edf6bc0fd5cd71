"""Check the arguments of a run before any work: settings, script, filter and output."""

from __future__ import annotations

import contextlib
import datetime
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from dask.system import CPU_COUNT

from daskmr.cluster.connect import choose
from daskmr.config import Config, choose_layout, load_config
from daskmr.data.dimensions.dates import fill, has_form, parse_date
from daskmr.data.inputs import Inputs
from daskmr.data.layout import Schema, load_schema
from daskmr.data.partition import (
    Partition,
    count_buckets,
    count_reducers,
    estimate_bytes,
    plan_partitions,
)
from daskmr.data.sampling import Choice
from daskmr.data.sources.given import Sources, parse_sources
from daskmr.data.splits.files import Splitting, split_files
from daskmr.data.writers import OutputFormat, notes_on
from daskmr.data.writers import choose_format as choose_output_format
from daskmr.data.writers.contexts import OutputKind
from daskmr.errors import InputError
from daskmr.job.loading import load_job
from daskmr.job.params.passed_env import check_names
from daskmr.memory import WORKER_BASE
from daskmr.run.outputs.side_cars import explain_alone, side_car_paths
from daskmr.run.record_format import RecordFormat, choose_format, extensions_of, splits_of
from daskmr.run.tables import columns_of
from daskmr.tasks.prints import redirected
from daskmr.text import mask_credentials

if TYPE_CHECKING:
    from distributed import Client

    from daskmr.cluster.deploy import Deployment
    from daskmr.data.input_file import InputFile
    from daskmr.job.job import Job

__all__ = [
    "Request",
    "check_request",
    "refuse_network",
    "schema_of",
    "settle_date",
]

_NOT_SETTINGS = ("keep_steps", "if_changed", "files", "py_files")  # among the options
_MOST_REDUCERS = 1000  # limit of --num-reducers
_NO_CREDENTIALS = (
    "Credentials given as options cannot be sent to the workers of a cluster without exposing them "
    "there. Provide them to the workers by a role or in their environment."
)


@dataclass(frozen=True, slots=True)
class Request:
    """A requested run, with its script, filter and settings loaded and checked.

    The other fields are parameters of `daskmr.mapreduce`.
    """

    job: Job  # the loaded script
    config: Config  # the settings
    schema: Schema  # the layout and the filter
    choice: Choice  # the part of the input that is read
    sources: Sources  # the values of ``data_dir``
    records: RecordFormat  # the format of the records
    output: str | None
    # The file of the filter; ``None`` without one, or for a filter given as a mapping.
    filter_path: str | None
    client: Client | None  # a client that the caller passed in
    deployment: Deployment | None  # the cluster to create for the run
    inline: bool
    profile: bool
    delete_data: bool
    output_format: OutputFormat  # that of the output
    columns: tuple[str, ...] | None  # the names of its columns, from the script
    pass_env: tuple[str, ...]  # names of variables for workers elsewhere
    # Options as they were given, if the date was filled in: ``data_dir``, ``output``, ``params``.
    unfilled: Mapping[str, Any] = field(default_factory=dict)
    keep_steps: str | None = None  # the folder for outputs of the steps before the last
    if_changed: bool = False  # whether to do nothing if the output is up to date
    step: str = ""  # as in `OutputKind`

    @property
    def date(self) -> datetime.date:
        """The date of the run."""
        return self.schema.given.today

    @property
    def output_kind(self) -> OutputKind:
        """The form in which tasks return the output."""
        if self.step:
            return OutputKind(items=True, step=self.step)
        return OutputKind(
            self.output is None,
            self.output_format.name,
            self.columns,
            alone=explain_alone(self.output),
        )

    @property
    def writes_directory(self) -> bool:
        """Whether the output is a directory of parts, which workers write."""
        return self.output is not None and self.output.endswith("/")

    def refuse_to_overwrite(self, output: str) -> None:
        """Raise InputError if an output, or one of its side-cars, would replace part of the job."""
        _refuse_to_overwrite(
            output, self.job, self.filter_path, self.schema.file, *self.sources.lists
        )

    def kept_path(self, number: int, step: Job) -> str:
        """Return the path of the output of ``--keep-steps`` for one step."""
        assert self.keep_steps is not None
        suffix = next(iter(self.output_format.suffixes), ".txt")
        return os.path.join(self.keep_steps, f"{number}-{step.step_name or 'step'}{suffix}")

    @property
    def is_indexed(self) -> bool:
        """Check whether tasks keep their output in segments with an index, for other tasks."""
        return bool(self.step) or self.writes_directory

    @property
    def is_local(self) -> bool:
        """True if the run starts its workers on this machine, or needs none."""
        return _is_local(self.client, self.config)

    @property
    def local_workers(self) -> int | None:
        """The number of processes that map on this machine; ``None`` for a cluster."""
        if not self.is_local:
            return None
        return 1 if self.inline else self.config.num_mappers or CPU_COUNT

    def plan(self, inputs: Inputs) -> tuple[list[Partition], tuple[str, ...]]:
        """Split large files, and arrange the input in partitions; also return notes."""
        config, kind = self.config, splits_of(self.records, self.job)
        notes = notes_on(self.output, config.output_format)
        # A file that may crash its worker is skipped whole.
        if config.skip_poison_files:
            return plan_partitions(inputs.listing.files, config.partition_bytes), notes
        how = Splitting(inputs.root, kind, config.partition_bytes, config.skip_corrupt_files)
        files, more = split_files(inputs.listing.files, how, self.local_workers or 2)
        return plan_partitions(files, config.partition_bytes), notes + more

    def count_buckets(self, files: Sequence[InputFile]) -> tuple[int, int]:
        """Choose the numbers of buckets and reducers; neither changes the result.

        Except that of `finish_reduce`: with it, they depend on the input and ``num-reducers`` alone.
        """
        requested = self.config.num_reducers
        workers = self.config.num_mappers or CPU_COUNT if self.is_local else None
        if self.job.finish_reduce is not None:
            workers = None
        size = estimate_bytes(files)
        return count_buckets(size, requested), count_reducers(size, requested, workers)


def check_request(
    job: Any,
    options: Mapping[str, Any],
    *,
    choice: Choice,
    data_dir: Any = None,
    input_filter: Any = None,
    output: str | os.PathLike[str] | None = None,
    client: Client | None = None,
    inline: bool = False,
    profile: bool = False,
    delete_data: bool = False,
    has_credentials: bool = False,
    watched: bool = False,
    where: Any = (),
    date: Any = None,
    params: Mapping[str, Any] | None = None,
    pass_env: Iterable[str] = (),
) -> Request:
    """Load what a run needs, and raise InputError if it cannot run.

    The parameters are those of `daskmr.mapreduce`; `has_credentials` and `watched` tell whether AWS
    keys and a watcher were given.
    """
    day, sources, params, output, unfilled = settle_date(date, data_dir, params, output)
    (keep_steps, if_changed, *sent), options = _without_settings(options)
    pass_env, settings = check_names(pass_env), load_config(**options)
    config = sources.settled(choose(settings, options, client, inline))
    if client is not None and not hasattr(client, "scheduler_info"):
        raise InputError(f"client must be a distributed.Client, not {client!r}.")
    _check_settings(config, inline, _is_local(client, config), has_credentials)
    job = _load(job, params, sent, watched)
    _refuse_places(job, config, output=output, keep_steps=keep_steps)
    output_format = _format_of(output, config)
    in_rows = output is None or output_format.rows is not None
    records = choose_format(job, options, config, in_rows, sources.given)
    extensions = extensions_of(records, job)
    schema = schema_of(job, config, options, input_filter, where, day).with_extensions(extensions)
    if output is not None:
        if config.local_only:
            refuse_network("output", output)
        _refuse_to_overwrite(output, job, input_filter, schema.file, *sources.lists)
        _refuse_named(output, job.steps[-1])
    _check_deletion(delete_data, output, sources)
    return Request(
        job=job,
        config=config,
        schema=schema,
        choice=choice,
        records=records,
        sources=sources,
        output=output,
        filter_path=_path_of(input_filter),
        client=client,
        deployment=_deployment_of(config),
        inline=inline,
        profile=profile,
        delete_data=delete_data,
        output_format=output_format,
        columns=None if output_format.rows is None else columns_of(job.steps[-1]),
        pass_env=pass_env,
        unfilled=unfilled,
        keep_steps=_check_steps(job, keep_steps),
        if_changed=_compares(if_changed, output, config, sources, delete_data, keep_steps),
    )


def _without_settings(options: Mapping[str, Any]) -> tuple[list[Any], dict[str, Any]]:
    """Return the options that are no settings, and those that are."""
    settings = {name: value for name, value in options.items() if name not in _NOT_SETTINGS}
    return [options.get(name) for name in _NOT_SETTINGS], settings


def _load(job: Any, params: Mapping[str, Any] | None, sent: Sequence[Any], watched: bool) -> Job:
    # Loggers that the script creates while it is loaded must be captured if it runs in this process.
    with redirected() if watched else contextlib.nullcontext():
        return load_job(job, params, *sent)


def _check_steps(job: Job, keep_steps: Any) -> str | None:
    """Check the steps of a job, and return the folder for what they write."""
    for number, step in enumerate(job.steps[1:], 2):
        if step.read is not None:
            raise InputError(
                f"Step {number} of the job has a `read`, but only the first step reads files: later ones map "
                "the pairs of the step before. Remove it."
            )
    if keep_steps is None:
        return None
    folder: str = os.fspath(keep_steps)
    if len(job.steps) == 1:
        raise InputError(
            f"--keep-steps {folder} keeps the pairs between the steps of a job, but this job has only "
            "one step. Omit it."
        )
    if "://" in folder or (os.path.lexists(folder) and not os.path.isdir(folder)):
        raise InputError(
            f"--keep-steps {mask_credentials(folder)!r} is not a directory of this machine. Name a "
            "directory; it is created if it is missing."
        )
    return folder


def _compares(
    if_changed: Any,
    output: str | None,
    config: Config,
    sources: Sources,
    delete_data: bool,
    keep_steps: Any,
) -> bool:
    """Return whether to compare with an earlier run; raise InputError if that is impossible."""
    if not if_changed:
        return False
    is_kept = output is not None and "://" not in output and output != os.devnull
    problems = {
        "the output must be a file or a directory of this machine, as with -o result.txt": not is_kept
        or bool(explain_alone(output)),
        "it compares with OUTPUT.meta.json; omit --no-meta": not config.meta,
        "standard input can be read only once; give the data as -d FILE": sources.reads_stdin,
        "after --delete-data (-X) there is no input to compare with; omit one of them": delete_data,
        "it does not compare the files of --keep-steps; omit one of them": keep_steps is not None,
    }
    for problem, is_there in problems.items():
        if is_there:
            raise InputError(f"--if-changed cannot be used here: {problem}.")
    return True


def _path_of(input_filter: Any) -> str | None:
    return os.fspath(input_filter) if isinstance(input_filter, str | os.PathLike) else None


def _deployment_of(config: Config) -> Deployment | None:
    if config.cluster is None:
        return None
    from daskmr.cluster.deploy import load_deployment  # deferred: most jobs have none

    return load_deployment(config.cluster, config.clusters)


def _format_of(output: str | None, config: Config) -> OutputFormat:
    output_format = choose_output_format(output, config.output_format)
    output_format.check()
    return output_format


class _Dated(NamedTuple):
    """Options with the date of a run filled in, and as they were given if they changed."""

    day: datetime.date
    sources: Sources
    params: Mapping[str, Any] | None
    output: str | None
    unfilled: Mapping[str, Any]


def settle_date(
    date: Any, data_dir: Any, params: Mapping[str, Any] | None, output: Any = None
) -> _Dated:
    """Choose the date of a run, by default today in UTC, and fill it in."""
    day = parse_date(date)
    given = {"data_dir": data_dir, "params": params, "output": output}
    return _Dated(
        day,
        parse_sources(data_dir, day),
        fill(params, day, "--param"),
        None if output is None else fill(os.fspath(output), day, "--output"),
        {name: value for name, value in given.items() if has_form(value)},
    )


def schema_of(
    job: Job,
    config: Config,
    options: Mapping[str, Any],
    input_filter: Any,
    where: Any,
    date: datetime.date,
) -> Schema:
    """Load the layout of a job and its filters.

    Raises `InputError` if there is a mistake in one of them.
    """
    layout = choose_layout(config, options, job.declared.layout)
    return load_schema(input_filter, layout, where, date)


def _is_local(client: Client | None, config: Config) -> bool:
    return client is None and config.scheduler is None and config.cluster is None


def _check_settings(config: Config, inline: bool, local: bool, has_credentials: bool) -> None:
    """Raise InputError for settings with which no job can run."""
    if not local and has_credentials:
        raise InputError(_NO_CREDENTIALS)
    if (config.num_reducers or 0) > _MOST_REDUCERS:
        raise InputError(
            f"{config.num_reducers:,} reducers are too many: each is a task, and takes a share of "
            f"every partition. Give --num-reducers {_MOST_REDUCERS:,} at most, or omit it; memory use "
            "does not depend on it."
        )
    limit = config.memory_limit
    needed = 3 * config.spill_bytes + WORKER_BASE
    if isinstance(limit, int) and 0 < limit < needed and not inline and local:
        raise InputError(
            f"A memory limit of {limit:,} bytes is too small for spill-bytes {config.spill_bytes:,}: "
            f"a worker needs at least {needed:,}. Raise --memory-limit, or lower daskmr.spill-bytes "
            "in the configuration."
        )


def _check_deletion(delete_data: bool, output: str | None, sources: Sources) -> None:
    """Raise InputError if the input is to be deleted, but cannot be."""
    if not delete_data:
        return
    if output is None:
        raise InputError("delete_data needs an output: a result in memory ends with this process.")
    if sources.reads_stdin:
        raise InputError(
            "Standard input cannot be deleted. Omit --delete-data (-X), or give the file as -d FILE."
        )


def _refuse_to_overwrite(output: str, job: Job, *sources: Any) -> None:
    """Raise InputError if the output, or one of its side-cars, would replace part of the job."""
    files = [os.path.join(sent.path, e.name) for sent in job.sent for e in sent.entries]
    needed = [*(step.path for step in job.steps), *files, job.params_file, *sources]
    taken = {os.path.realpath(each) for each in needed if isinstance(each, str | os.PathLike)}
    for path in (output, *side_car_paths(output)):
        if os.path.realpath(path) in taken:
            file = f"file {path!r} beside the output"
            raise InputError(
                f"The {f'output {output!r}' if path == output else file} would replace a file "
                "that the job needs. Name another output with --output."
            )


def _refuse_places(job: Job, config: Config, **written: Any) -> None:
    """Raise InputError if the run would write into a directory that it sends.

    - `written`: files and directories beside those of `config`, by option.
    """
    written |= {"work_dir": config.work_dir, "spill_dir": config.spill_dir}
    folders = [sent.path for sent in job.sent if sent.files is not None]
    for name, path in written.items():
        if path in (None, "-") or "://" in os.fspath(path):
            continue
        place = os.path.join(os.path.realpath(path), "")
        for folder in folders:
            if place.startswith(os.path.join(os.path.realpath(folder), "")):
                raise InputError(
                    f"--{name.replace('_', '-')} {path!r} is in {folder}, a directory that is sent with "
                    "the job and must not change meanwhile. Name another place, or send only what the "
                    "script reads of the directory."
                )


def _refuse_named(output: str, job: Job) -> None:
    """Raise InputError if a script names outputs, which the output cannot have beside it."""
    texts = job.files.values() if job.path is not None else ()
    reason = explain_alone(output)
    if reason and any(map(_NAMES_OUTPUTS, texts)):
        raise InputError(f"The script calls context.write_to: {reason}")


_NAMES_OUTPUTS = re.compile(r"^[^#\n]*\bcontext\.write_to\(", re.M).search


def refuse_network(role: str, url: str) -> None:
    """Raise InputError for a URL of a store, which an offline run cannot write to."""
    protocol, found, _ = url.partition("://")
    if found and protocol.lower() not in ("file", "local", "memory"):
        raise InputError(
            f"--local-only does not use the network, but the {role} {mask_credentials(url)!r} is in a "
            "store. Name a local one, or omit --local-only."
        )
