"""The function of the public interface that runs a job: check its arguments, then run the request."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import IO, TYPE_CHECKING, Any

from daskmr.data.sampling import Choice
from daskmr.diagnostics.collector import Collector, Watcher
from daskmr.diagnostics.notebook import progress_in_notebook
from daskmr.errors import InputError
from daskmr.job.check import take_hooks
from daskmr.job.job import Job
from daskmr.run.request import Request, check_request
from daskmr.run.result import Result
from daskmr.run.stopwatch import Stopwatch
from daskmr.run.workspace import check_spill_dir
from daskmr.store.credentials import given

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["mapreduce"]


def mapreduce(
    job: Any = None,
    *,
    map: Callable[..., Any] | None = None,
    reduce: Callable[..., Any] | None = None,
    combine: Callable[..., Any] | None = None,
    setup_reduce: Callable[..., Any] | None = None,
    columns: Sequence[str] | None = None,
    input_columns: Sequence[str] | None = None,
    output_columns: Sequence[str] | None = None,
    params: Mapping[str, Any] | None = None,
    pass_env: Iterable[str] = (),
    sort_values: Any = None,
    data_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
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
    where: Any = (),
    date: Any = None,
    report: str | None = None,
    **options: Any,
) -> Result:
    """Run a job over the files of a data dir that a filter allows.

    Parameters
    ----------
    job : str, path, module, Job or list of these
        The user's functions: a script, a module, or ``Job(map=..., reduce=...)``. With a list, each
        maps the pairs that the one before has written; see docs/steps.md.
    map, reduce, combine, setup_reduce : callable, optional
        The functions of the job, in place of `job`; see `daskmr.Job`. So are the hooks ``setup_map``,
        ``finish_map`` and ``finish_reduce``.
    columns : sequence of str, optional
        With `map`: the names of the columns of the output.
    input_columns, output_columns : sequence of str, optional
        With `map`: the names of the columns of CSV or TSV without a header, and of the output.
    params : dict, optional
        Values of the parameters that the script declares by `daskmr.param`.
    pass_env : iterable of str, optional
        Names of environment variables that the functions of the job need on workers elsewhere. Their
        values are in no file, graph or log.
    sort_values : bool or callable, optional
        With `map`: the order in which `reduce` gets the values of a key; see `daskmr.Job`.
    data_dir : path or list of paths, optional
        The input: a directory in the layout, a file, a glob such as ``"data/2024-*/*.gz"``,
        ``"@FILE"`` (a list with one path a line), ``"-"`` (standard input) or the URL of a store,
        which is the same as ``bucket=``. If a path exists in a directory and in a store, the
        directory's file is read.
    input_filter : path or dict, optional
        The filter of the files to read; all files by default.
    output : path, optional
        The file to write; ``"-"`` is standard output. Without it, iterate over the result.
    client : distributed.Client, optional
        A client of the cluster to use, which stays open; by default, a cluster is started on this
        machine.
    inline : bool
        Run everything in this process, one partition at a time, so that ``breakpoint()`` works.
    delete_data : bool
        Delete the input files that were mapped completely, once the output is in place.
    profile : bool
        Collect a profile of all tasks in ``Result.profile``.
    stdout : binary file, optional
        The stream for an output of ``"-"``.
    aws_key, aws_secret_key : str, optional
        Credentials, if the usual AWS chain (environment, profile, role) has none.
    on_listing : callable, optional
        Called from another thread while a bucket is listed, with the numbers of prefixes listed
        and files found so far.
    only : iterable of str
        Paths of the files to read, relative to the data dir or the bucket; all by default.
    limit_files : int, optional
        Read at most this many files, from all over the input.
    sample : float, optional
        Read this share of the files, or of the keys; above 0, at most 1.
    seed : int
        Random seed for sampling.
    sample_by : str
        Sample files (``"file"``), or records by a hash of their key (``"key"``).
    earlier : mapping, optional
        The content of ``OUTPUT.meta.json`` of a run to repeat; notes name the differences.
    watcher : daskmr.watching.Watcher, optional
        Notified of the progress of the job, and of anything that the script prints.
    where : dict or list of str, optional
        Filters of dimensions by name, such as ``{"day": "-7d..", "host": ["web1", "web2"]}`` or
        ``["day=-7d.."]``; see docs/filters.md. They narrow `input_filter`.
    date : datetime.date or str, optional
        The date that ``today``, ``yesterday`` and ``-7d`` refer to; by default today, in UTC.
    report : str, optional
        The file in which the caller will put a report of the run, so that its history has a link to it.
    **options
        Any setting under ``daskmr:`` in Dask's configuration, such as ``num_mappers=4``; and
        ``keep_steps="DIR"``, to write the pairs between steps to files in a directory, too;
        ``files=["lookup.tsv"]`` or ``files={NAME: PATH}``, files and directories to send to the workers,
        where the functions find them by `daskmr.file`; ``py_files=["DIR"]``, folders and zip archives
        with modules that the script imports.

    Returns
    -------
    Result
        Counts and timings; without `output`, also the reduced pairs.

    Raises
    ------
    InputError
        If a mistake is found before any work, or no file fits the layout.
    NothingMatchedError
        If the filter allows no file.
    JobError
        If the job fails; no output is written, and an earlier one is unchanged.

    Examples
    --------
    >>> from daskmr import mapreduce
    >>> def map(key, dims, value, context):
    ...     context.write(dims[2], 1)
    >>> def reduce(key, values, context):
    ...     context.write(key, sum(values))
    >>> result = mapreduce(map=map, reduce=reduce, data_dir="sample")  # doctest: +SKIP
    >>> result.to_dict()  # doctest: +SKIP
    {'beta': 20, 'nightly': 12}
    """
    names = (columns, input_columns, output_columns, sort_values)
    job = _job_of(job, (map, combine, reduce, setup_reduce), names, options)
    watcher, stopwatch = watcher or progress_in_notebook(), Stopwatch()
    request = check_request(
        job,
        options,
        choice=Choice(tuple(only), limit_files, sample, seed, sample_by),
        data_dir=data_dir,
        input_filter=input_filter,
        output=output,
        client=client,
        inline=inline,
        profile=profile,
        delete_data=delete_data,
        has_credentials=aws_key is not None or aws_secret_key is not None,
        watched=watcher is not None,
        where=where,
        date=date,
        params=params,
        pass_env=pass_env,
    )
    check_spill_dir(request)
    with given(aws_key, aws_secret_key, request.config.aws_profile):
        return _run(request, Collector(watcher, on_listing), stopwatch, report, stdout, earlier)


def _job_of(
    job: Any, functions: tuple[Any, ...], names: tuple[Any, ...], options: dict[str, Any]
) -> Any:
    """Return the job, or one of the functions; raise InputError if both are given, or neither.

    - `options`: keyword arguments, from which hooks are removed.
    """
    hooks = take_hooks(options, "The job")
    if job is not None:
        if hooks or any(each is not None for each in (*functions, *names)):
            raise InputError(
                "mapreduce takes a job or its functions, not both. Give one: mapreduce(job, ...), or "
                "mapreduce(map=map, reduce=reduce, ...)."
            )
        return job
    if functions[0] is None:
        raise InputError(
            "mapreduce needs a job: the path of a script, a module, a Job, or functions, as in "
            'mapreduce(map=map, reduce=reduce, data_dir="data").'
        )
    columns, input_columns, output_columns, sort_values = names
    return Job(
        *functions,
        columns=columns,
        input_columns=input_columns,
        output_columns=output_columns,
        **hooks,
        sort_values=sort_values,
    )


def _run(
    request: Request,
    collector: Collector,
    stopwatch: Stopwatch,
    report: str | None,
    stdout: IO[bytes] | None,
    earlier: Mapping[str, Any] | None,
) -> Result:
    from daskmr.run.past.keeping import kept  # deferred: mistakes are found sooner
    from daskmr.run.pipeline import run_request

    with collector, kept(request, stopwatch.started, report) as record:
        result = run_request(request, collector, stopwatch, stdout, earlier, record)
        result.notes += record.done(result)
    collector.end(result)
    return result
