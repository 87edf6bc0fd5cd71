"""The command ``daskmr plan``, which shows a plan as aligned text with the warnings at the end."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import IO, TYPE_CHECKING, Any

import click

from daskmr.cli.console import EPILOG, Paint, announced, ends_process, listing_line, painter
from daskmr.cli.options import GroupedCommand, Script, add_option, job_options, repeated
from daskmr.config import SETTINGS
from daskmr.counts import most_frequent_first
from daskmr.stdio import say
from daskmr.text import counted, format_bytes, format_seconds, printable

if TYPE_CHECKING:
    from daskmr.run.estimate import Estimate, Sample
    from daskmr.run.plan import Amount, DimensionFigures, Plan, Unmatched

__all__ = ["plan", "render"]

_TITLE = 12  # width of the titles
_LONGEST_VALUE = 40
_BAR = 20


@click.command(
    cls=GroupedCommand, epilog=EPILOG, short_help="Show what a run would do, without doing it."
)
@click.argument("script", type=click.Path(), required=False, metavar="SCRIPT...")
@job_options(hide=lambda option: option.run_only)
@add_option("--json as_json", None, "Write one JSON object.", group="Display")
@add_option(
    "--estimate/--no-estimate",
    None,
    "Map a small sample for a few seconds, to estimate time and memory.",
    default=True,
    show_default=True,
    group="Display",
)
@click.pass_context
@ends_process
def plan(
    stdout: IO[bytes],
    context: click.Context,
    script: Script | None,
    as_json: bool,
    estimate: bool,
    **options: Any,
) -> None:
    """Show what a run of the job SCRIPT would do, without fetching input or writing output.

    Takes the options of run. Shows the input, what is in the cache and what would be fetched, how
    the work is partitioned, and which values of the filter match nothing.
    """
    import json

    how = ", and maps a sample of it for a few seconds" if estimate else ""
    with announced(f"plan reads the listing of the input{how}"), listing_line() as on_listing:
        from daskmr.data.sampling import Choice
        from daskmr.run.plan import as_json as convert
        from daskmr.run.plan import make_plan

        script, options = repeated(context, script, options)
        names = {"data_dir", "input_filter", "where", "date", "output", "inline"}
        names |= {"aws_key", "aws_secret_key", "params", "files", "py_files", "pass_env"}
        limits = (options[name] for name in ("limit_files", "sample", "seed", "sample_by"))
        made = make_plan(
            script,
            **{name: options[name] for name in names},
            estimating=estimate,
            choice=Choice(tuple(options["only"]), *limits),
            on_listing=on_listing,
            **{name: options[name] for name in options.keys() & SETTINGS.keys()},
        )
    text = json.dumps(convert(made), indent=2) if as_json else render(made, painter(stdout))
    say(stdout, f"{text}\n")
    if made.sample is not None and made.sample.details and not as_json:
        click.echo(f"\n{made.sample.details.rstrip()}", err=True)


# --- as text --------------------------------------------------------------------------------------


def render(plan: Plan, paint: Paint) -> str:
    """Format a plan for a terminal or a file."""

    def titled(rows: Iterable[tuple[str, str]]) -> str:
        return "\n".join(
            f"{paint(f'{title:{_TITLE}}', 'title')}{printable(text)}" for title, text in rows
        )

    blocks = [
        titled(_head(plan)),
        titled(_input(plan)),
        "\n".join(_values(plan, paint)),
        titled(_work(plan)),
        titled(_costs(plan)),
        titled(_estimate(plan)),
    ]
    text = "\n\n".join(filter(None, blocks))
    warnings = [*map(_explain_unmatched, plan.unmatched), *plan.warnings]
    if warnings:
        text += "\n"
    for warning in warnings:
        text += "\n" + paint(f"{'warning':{_TITLE}}{warning}", "warning")
    for note in plan.notes:
        text += f"\n{'note':{_TITLE}}{note}"
    return text.encode("utf-8", "backslashreplace").decode("utf-8")  # names in any encoding


_Rows = Iterator[tuple[str, str]]
"""Rows of a title and a text."""


def _head(plan: Plan) -> _Rows:
    given = (plan.data_dir,) if isinstance(plan.data_dir, str) else plan.data_dir or ()
    where = " and ".join(dict.fromkeys(place for place in (*given, plan.bucket) if place))
    yield "plan", f"{plan.script} over {where}"
    if plan.input_filter is not None:
        yield "filter", plan.input_filter
    for number, sent in enumerate(plan.sent):
        yield "" if number else "files", sent
    yield "output", "standard output" if plan.output == "-" else plan.output


def _input(plan: Plan) -> _Rows:
    yield "input", f"{_amount(plan.files)}, about {format_bytes(plan.text_bytes)} uncompressed"
    if plan.bucket is not None:
        if plan.local.files:
            yield "", f"{_amount(plan.local)} in the data dir"
        yield "", f"{_amount(plan.cached)} in the cache"
        yield "", f"{_amount(plan.to_fetch)} to fetch"
    if plan.skipped:
        yield "", f"{counted(plan.skipped, 'path')} skipped, not in the layout"


def _amount(amount: Amount | Sample) -> str:
    return f"{counted(amount.files, 'file')}, {format_bytes(amount.bytes)}"


def _values(plan: Plan, paint: Paint) -> Iterator[str]:
    if not plan.dimensions:
        return
    rows = [("values", "files", "size", 0.0)]
    for dimension in plan.dimensions:
        rows += _dimension(dimension, plan.files)
    name, files, size = (max(len(str(row[column])) for row in rows) for column in range(3))
    for label, count, taken, share in rows:
        text = f"{label:{name}}  {count:>{files}}  {taken:>{size}}"
        if count == "files":
            yield paint(f"{text}  share", "title")
        elif count:
            yield f"{text}  {share:>6.1%}  {paint('█' * round(_BAR * share), 'faint')}".rstrip()
        else:
            yield label


def _dimension(
    dimension: DimensionFigures, all_files: Amount
) -> Iterator[tuple[str, str, str, float]]:
    """Yield the label, the number of files, their size, and its share of the total for each row."""
    shares = [(_short(each.value), each.files, each.bytes) for each in dimension.values]
    about, others = counted(dimension.distinct, "value"), dimension.distinct - len(shares)
    if others:
        about += f", {_short(dimension.first)} to {_short(dimension.last)}"
        shares.append((f"({others:,} others)", dimension.others.files, dimension.others.bytes))
    yield f"{dimension.name}: {about}", "", "", 0.0
    for label, files, size in shares:
        share = size / all_files.bytes if all_files.bytes else files / max(1, all_files.files)
        yield f"  {label}", f"{files:,}", format_bytes(size), share


def _short(value: str) -> str:
    text = value if value.isprintable() else repr(value)
    return text if len(text) <= _LONGEST_VALUE else f"{text[: _LONGEST_VALUE - 3]}..."


def _work(plan: Plan) -> _Rows:
    cut, reducing = plan.partitions, plan.reducing
    yield (
        "partitions",
        f"{cut.count:,}, of {format_bytes(cut.bytes_min)} to {format_bytes(cut.bytes_max)}, "
        f"median {format_bytes(cut.bytes_median)}",
    )
    yield "", f"largest file: {format_bytes(cut.largest_file_bytes)}, {cut.largest_file}"
    for title, lines in (("params", plan.params), ("steps", plan.steps)):
        for number, line in enumerate(lines):
            yield "" if number else title, line
    if reducing is None:
        writes = "the pairs for step 2" if plan.steps else "the output"
        whose = "step 1" if plan.steps else "the job"
        yield "reducers", f"none: {whose} has no reduce, so map writes {writes}"
    else:
        buckets = counted(reducing.buckets, "bucket")
        yield "reducers", f"{counted(reducing.reducers, 'task')} for {buckets} of keys"
    yield "workers", "those of the cluster" if plan.workers is None else f"{plan.workers:,}"


def _costs(plan: Plan) -> _Rows:
    if (asked := plan.requests) is not None:
        heads = f" and {asked.head:,} HEAD" if asked.head else ""
        yield (
            "requests",
            f"{asked.listing:,} for this listing; a run would make {asked.get:,} GET{heads}",
        )
    for number, disk in enumerate(plan.disks):
        text = f"{format_bytes(disk.free)} free in {disk.path}"
        if disk.fetched:
            text += f"; {format_bytes(disk.fetched)} would be fetched"
        if disk.spilled:
            text += f"; about {format_bytes(disk.spilled)} would be spilled temporarily"
        yield "" if number else "disk", text


def _estimate(plan: Plan) -> _Rows:
    sample, estimate = plan.sample, plan.estimate
    if sample is None or estimate is None:
        yield "estimate", f"none: {plan.no_estimate}"
        return
    is_all = (sample.files, sample.bytes) == (plan.files.files, plan.files.bytes)
    mapped = "all of it" if is_all else _amount(sample)
    yield (
        "estimate",
        f"rough, from mapping {mapped} for {format_seconds(sample.seconds)} in this process",
    )
    yield "  time", _describe_time(plan, estimate)
    yield "  memory", f"{format_bytes(estimate.memory)} per worker while mapping"
    unit = "pairs" if plan.reducing is not None or plan.steps else "lines"
    yield "  records", f"{_round(estimate.records)}; map writes {_round(estimate.pairs)} {unit}"
    if sample.bad_records:
        share = sample.bad_records / max(1, sample.records)
        reasons = ", ".join(islice(most_frequent_first(sample.bad_reasons), 3))
        yield "  bad", f"{share:.2%} of the records: {reasons}"
    if estimate.output is not None and not plan.steps:
        yield "  output", f"{format_bytes(estimate.output)}, uncompressed"


def _describe_time(plan: Plan, estimate: Estimate) -> str:
    rest = "starting, fetching" if plan.to_fetch.files else "starting"
    if plan.steps:
        rest += " and all that follows"
    else:
        rest += ", merging and reducing" if plan.reducing is not None else " and writing"
    if estimate.map_seconds is None:
        text = f"{format_seconds(estimate.worker_seconds)} of one worker's time to map"
    else:
        workers = counted(plan.workers or 0, "worker")
        text = f"{format_seconds(estimate.map_seconds)} to map with {workers}"
    return f"{text}; {rest} not counted"


def _round(count: int) -> str:
    """Round an estimated count to three digits.

    >>> _round(123_456), _round(7)
    ('123,000', '7')
    """
    return f"{round(count, min(0, 3 - len(str(count)))):,}"


def _explain_unmatched(one: Unmatched) -> str:
    text = f"dimension {one.position} ({one.dimension}): no file has {one.value!r}"
    if one.similar:
        return f"{text}; did you mean {' or '.join(map(repr, one.similar))}?"
    if one.existing:
        return f"{text}; existing values: {', '.join(map(repr, one.existing))}"
    return text
