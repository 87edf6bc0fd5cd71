"""Call a script's functions on a few records, and show what each of them does: ``daskmr check``."""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeAlias

from daskmr.config import Config, load_config
from daskmr.data.dims import Dims
from daskmr.data.inputs import Inputs, find_inputs
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.readers.sniffing import LINE_CHARACTERS, describe_lines, format_of
from daskmr.data.sampling import Choice
from daskmr.data.sources.given import spooled
from daskmr.errors import InputError, JobError, TaskFailed
from daskmr.job.job import Job, describe_params, describe_steps, function_names
from daskmr.job.keys import sorted_keys
from daskmr.job.ported import Say, find_ported, load_ported
from daskmr.job.process_errors import no_children
from daskmr.run.record_format import (
    RecordFormat,
    check_header,
    choose_format,
    extensions_of,
    pointing_to_inspect,
)
from daskmr.run.request import schema_of, settle_date
from daskmr.run.trial import (
    PAIRS,
    Bad,
    Combined,
    Record,
    Trial,
    first_records,
    pair_records,
    text_of,
)
from daskmr.store.credentials import given
from daskmr.store.open_stores import stores_closed
from daskmr.tasks.guard import in_thread, no_exit, shortened
from daskmr.tasks.spilled_values import on_disk
from daskmr.text import counted, shell_word

if TYPE_CHECKING:
    from daskmr.data.input_file import InputFile

__all__ = ["alike", "check_script"]

_SHOWN = 20  # pairs, and lines of output
_BAD_SHOWN = 5
_VALUES = 5  # sorted values of a key
_SNIFFED = 10  # lines from which the format of the input is guessed
_WIDTH = 60  # characters of a key or value


def check_script(
    script: Any,
    say: Say,
    *,
    data_dir: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] | None = None,
    input_filter: Any = None,
    limit_records: int = 100,
    only: Iterable[str] = (),
    aws_key: str | None = None,
    aws_secret_key: str | None = None,
    on_listing: Callable[[int, int], object] | None = None,
    where: Any = (),
    date: Any = None,
    params: Mapping[str, Any] | None = None,
    files: Any = None,
    py_files: Iterable[str] = (),
    **options: Any,
) -> int:
    """Load a script, and try it on the first records of its input, if one is given.

    - `script`, `data_dir`, `input_filter`, `aws_key`, `aws_secret_key`, `on_listing`, `where`,
      `date`, `params`, `files`, `py_files`, `**options`: as for `daskmr.mapreduce`.
    - `say`: called as ``say(title, text)`` for each finding.
    - `limit_records`: the number of records to map.
    - `only`: paths of the files to read.
    Returns the number of warnings.
    Raises `InputError` or `NothingMatchedError` if a job could not run with the script or the
    input.
    Raises `JobError` if one of the functions fails.
    """
    day, sources, params, *_ = settle_date(date, data_dir, params)
    config = sources.settled(load_config(**options))

    def try_script() -> int:
        job = load_ported(script, say, params, files, py_files)
        form = choose_format(job, options, config, in_rows=True, data=sources.given)
        check = _Check(job, say, form)
        check.script()
        if not sources.local and config.bucket is None:
            none = "none given (--data-dir, --bucket): its functions were checked, not called"
            say("input", none)
            return check.warnings
        schema = schema_of(job, config, options, input_filter, where, day)
        schema = schema.with_extensions(extensions_of(form, job))
        choice = Choice(tuple(only))
        inputs = find_inputs(
            sources, schema, config, on_listing, choice, to_read=False, stdin=stdin
        )
        if not inputs.listing.files:
            inputs.listing.refuse_nothing()
        with pointing_to_inspect(sources, inputs.listing.root):
            check.records(inputs, config, limit_records)
        return check.warnings

    with (
        given(aws_key, aws_secret_key, config.aws_profile),
        stores_closed(),
        spooled(sources) as stdin,
    ):
        # One thread for everything: SQLite connections belong to the thread that opened them.
        return in_thread(try_script)


_Records: TypeAlias = "Iterator[tuple[InputFile, str, int, Record]]"
"""Records, each with its file, the place of the file, and its number."""


class _Transcript:
    """The lines that a trial shows, with a count of the warnings."""

    def __init__(self, say: Say) -> None:
        self.warnings = 0
        self._show = say
        self._title = ""

    def _say(self, title: str, text: str) -> None:
        is_repeated = title == self._title and title != "warning"  # each warning has its title
        self._show("" if is_repeated else title, text)
        self._title = title or self._title

    def _warn(self, text: str) -> None:
        self.warnings += 1
        self._say("warning", text)

    def _list(self, title: str, lines: Sequence[str]) -> None:
        """Show the first of many lines."""
        for line in lines[:_SHOWN]:
            self._say(title, line)
        if len(lines) > _SHOWN:
            self._say("", f"... and {len(lines) - _SHOWN:,} more")


class _Check(_Transcript):
    """The trial of a script, step by step."""

    def __init__(self, job: Job, say: Say, form: RecordFormat) -> None:
        super().__init__(say)
        self.job, self.form, self.steps = job, form, job.steps
        self.number = 1  # of the step that `job` is
        self.names: tuple[str, ...] = ()  # of the dimensions

    def script(self) -> None:
        """Show which functions the script defines."""
        job = self.job
        self._say("script", f"{job.path or 'the job'} defines {', '.join(function_names(job))}")
        for described in describe_steps(job):
            self._say("steps", described)
        for step in self.steps:
            if (old := getattr(step.finish_map, "__name__", "")) == "map_finished":
                self._say("script", f"{old} is called as finish_map, its new name")
        ported: list[str] = []
        for script in job.scripts:
            file = os.path.basename(script.path or "")
            ported += find_ported(script.files, file) if file else []
            for sent in script.shipped.sent.values():
                self._say("files", sent.shown)
        for described in describe_params(job):
            self._say("params", described)
        self._columns()
        for text in [*job.notes, *ported]:
            self._warn(text)

    def _columns(self) -> None:
        """Show which columns the script names."""
        maybe, output = self.form.maybe_columns, self.steps[-1].output_names
        for what, names in (
            ("the input", self.form.columns),
            ("the input or the output", maybe),
            ("the output", None if maybe else output),
        ):
            if isinstance(names, list | tuple):
                self._say("columns", f"of {what}: {', '.join(map(str, names))}")

    def records(self, inputs: Inputs, config: Config, count: int) -> None:
        """Map the first records of the input, then combine and reduce their pairs; in each step.

        Raises `JobError` if one of the functions fails, or a file cannot be read.
        """
        self.names = inputs.listing.layout.field_names
        try:
            check_header(inputs, self.form)
        except InputError as error:
            self._warn(str(error))
            self.form = replace(self.form, columns=self.form.maybe_columns, maybe_columns=None)
        pairs = self._try(partial(first_records, inputs, config, count), config, count)
        for number in range(2, len(self.steps) + 1):
            name = f"the pairs of {self.steps[0].step_label(number - 1)}"
            self.number, self.job, self.form = number, self.steps[number - 1], PAIRS
            pairs = self._try(partial(pair_records, pairs, name), config, count)

    def _try(
        self, records_of: Callable[[Trial], _Records], config: Config, count: int
    ) -> list[Any]:
        """Try one step on its first records; return the pairs that it writes for the next one."""
        label = self.steps[0].step_label(self.number) if len(self.steps) > 1 else ""
        if label:
            self._say("step", label)
        is_last = self.number == len(self.steps)
        with self.job.activate(), no_exit(), no_children():
            try:
                trial = Trial(self.job, self.form, config.on_error, "" if is_last else label)
                self._map(trial, records_of(trial), config, count)
                self._combine(trial)
                self._sort(trial)
                self._reduce(trial, is_last)
                self._reduce_from_disk(trial)
                return [] if is_last else trial.pairs()
            except TaskFailed as error:
                where = f"In {label}: " if label else ""
                failure = error.as_kind(lambda text, details: JobError(where + text, details))
            except CorruptFileError as error:
                failure = JobError(f"{error} A run fails there, unless with --skip-corrupt-files.")
        raise failure

    # --- map ------------------------------------------------------------------------------------

    def _map(self, trial: Trial, records_of: _Records, config: Config, count: int) -> None:
        bad: list[tuple[str, int, str, Bad]] = []
        pairs = records = 0
        shown, dims = "", None
        hooked = self._hook(trial, "setup_map")
        for file, place, number, record in islice(records_of, count):
            line = text_of(record)
            if place != shown and pairs < _SHOWN:
                shown = place
                self._say("input", place)
                if dims != (dims := list(file.dims)):
                    self._say("dims", shortened(dims, 2 * _WIDTH))
            mark = len(trial.pending)
            try:
                dims = Dims(file.dims, self.names)
                found = trial.map(place, dims, number, record, file.path, file.source)
            except TaskFailed as error:
                error.message += f"\nThe record: {shortened(line, 3 * _WIDTH)}"
                raise
            records += 1
            if found is not None:
                bad.append((file.path, number, line, found))
            for written in trial.written_since(mark):
                if pairs < _SHOWN:
                    self._say("map", f"{trial.unit} {number:<5} {_written(written)}")
                pairs += 1
        if pairs > _SHOWN:
            self._say("", f"... and {pairs - _SHOWN:,} more")
        hooked += self._hook(trial, "finish_map")
        self._sum_up(trial, records, pairs + hooked, bad)
        self._judge_bad([line for _, _, line, _ in bad], records, config)

    def _hook(self, trial: Trial, name: str) -> int:
        """Call a hook, if the job has it; show what it writes, and count it."""
        if getattr(self.job, name) is None:
            return 0
        mark = len(trial.pending)
        trial.call_hook(name)
        written = trial.written_since(mark)
        self._list(name, [*map(_written, written)] or ["wrote nothing"])
        return len(written)

    def _sum_up(
        self, trial: Trial, records: int, pairs: int, bad: list[tuple[str, int, str, Bad]]
    ) -> None:
        written = counted(pairs, "line" if self.number == len(self.steps) else "pair")
        if self.job.reduce is not None:
            written = f"{counted(pairs, 'pair')} under {counted(len(trial.groups), 'key')}"
        self._say("records", f"{counted(records, 'record')} gave {written}")
        for (group, name), n in sorted(trial.context.counters.items()):
            self._say("counter", f"{group}: {name} {n:,}")
        reasons = Counter(each.reason for *_, each in bad)
        for reason, count in reasons.most_common():
            self._say("bad", f"{count:,} x {reason}")
        for path, number, line, each in bad[:_BAD_SHOWN]:
            detail = each.detail or each.reason
            self._say("", f"{trial.unit} {number} of {path}: {detail}; {shortened(line, _WIDTH)}")
        if not records:
            self._warn("the input has no records")
        elif len(bad) == records:
            self._warn("all of these records are bad")
        elif not pairs and not getattr(trial.context, "named", None):
            self._warn("map wrote nothing for any of them")

    def _judge_bad(self, bad: Sequence[str], records: int, config: Config) -> None:
        """Warn if a run would fail because of bad records, assuming that the rest is similar."""
        if len(bad) <= config.allowed_bad_records(records) or not config.limits_bad_records:
            return
        if len(bad) == records and self.form.is_keyed and not any("\t" in line for line in bad):
            form = describe_lines([line[:LINE_CHARACTERS] for line in bad[:_SNIFFED]])
            name = format_of(form)
            advice = f"; to read them as such, pass --records {shell_word(name)}" if name else ""
            self._warn(
                f"no line has a tab: they look like {form}. A run would fail immediately{advice}"
            )
        else:
            self._warn(
                f"{len(bad):,} of {records:,} records are bad: with this proportion, a run would fail "
                "unless --max-bad-records allows it"
            )

    # --- combine, reduce ------------------------------------------------------------------------

    def _combine(self, trial: Trial) -> None:
        if self.job.combine is None or self.job.reduce is None or not trial.groups:
            return
        combined = trial.combined()
        if not combined:
            self._say("combine", "not tried: no key has several values in these records")
            return
        first = combined[0]
        shown = ", ".join(shortened(value, _WIDTH) for value in first.combined[:3])
        self._say(
            "combine",
            f"{shortened(first.key, _WIDTH)}: {len(first.values):,} values become {shown}",
        )
        for one in combined:
            original = trial.items({one.key: one.values})
            for values in _combinations(trial, one):
                folded = trial.items({one.key: values})
                if not alike(original, folded):
                    self._warn(
                        f"combine changes the result: for the key {shortened(one.key, _WIDTH)}, "
                        f"reduce gives {shortened(original, _WIDTH)} for all values, but "
                        f"{shortened(folded, _WIDTH)} for combined values. The output "
                        "would depend on how often combine is called"
                    )
                    return
        self._say("", "reduce gives the same result for combined values")

    def _sort(self, trial: Trial) -> None:
        """Show the key with the most values, and its values in the order that `reduce` gets."""
        groups, order = trial.groups, self.job.sort_values
        if order is None or self.job.reduce is None or not groups:
            return
        key = max(sorted_keys(groups), key=lambda key: len(groups[key]))
        values = trial.in_order(key, trial.combine(key, groups[key]))
        shown = ", ".join(shortened(value, _WIDTH) for value in values[:_VALUES])
        more = ", ..." if len(values) > _VALUES else ""
        self._say("sorted", f"{shortened(key, _WIDTH)}: {shown}{more}")

    def _reduce(self, trial: Trial, is_last: bool) -> None:
        outputs: dict[str, list[Any]] = {}
        if self.job.reduce is None:
            for line in trial.header:
                self._say("header", shortened(line, 2 * _WIDTH))
        if is_last:
            outputs = {**trial.outputs(trial.groups)}
        elif self.job.reduce is not None:
            outputs = {"": trial.items(trial.groups)}
        for name, lines in outputs.items():
            end = len(lines) - (0 if name else trial.ending)
            shown = [f"{name}  {_written(line)}".lstrip() for line in lines]
            self._list("write_to" if name else "output", shown[:end])
            self._list("finish_reduce", shown[end:])
        if self.job.reduce is not None and not any(outputs.values()):
            self._warn("reduce wrote nothing")

    def _reduce_from_disk(self, trial: Trial) -> None:
        """Reduce the values of one key as a run does if they do not fit in memory."""
        groups = trial.groups
        if self.job.reduce is None or not groups:
            return
        key = max(sorted_keys(groups), key=lambda key: len(groups[key]))
        in_memory = trial.items({key: groups[key]})
        large = "if the values of a key do not fit in memory"
        try:
            with on_disk(trial.in_order(key, groups[key])) as values:
                found = trial.items({key: values})
            with on_disk(groups[key]) as values:
                trial.combine(key, values)
        except TaskFailed as error:
            self._warn(f"{large}, a run will fail: {error.message}")
            return
        if alike(in_memory, found) or not alike(in_memory, trial.items({key: groups[key]})):
            return  # the same result, or `reduce` is not deterministic
        self._warn(
            f"{large}, the result differs: for the key {shortened(key, _WIDTH)}, reduce gives "
            f"{shortened(found, _WIDTH)} for values on disk, but {shortened(in_memory, _WIDTH)} "
            "for a list of them"
        )


def _combinations(trial: Trial, one: Combined) -> Iterator[Sequence[Any]]:
    """Yield the values after `combine` of all, of the first half, and of that half with the rest."""
    yield one.combined
    half = max(2, len(one.values) // 2)
    partly = [*trial.combine(one.key, one.values[:half]), *one.values[half:]]
    yield partly
    yield trial.combine(one.key, partly)


def _written(written: Any) -> str:
    if isinstance(written, str):
        return _output_line(written)
    key, value = written
    return f"{shortened(key, _WIDTH)}: {shortened(value, _WIDTH)}"


def _output_line(line: str) -> str:
    """Format a line of the output for a terminal."""
    text = line.rstrip("\r\n")
    shown = text.replace("\t", "    ")
    if not shown.isprintable():
        shown = repr(text)
    return shown if len(shown) <= 2 * _WIDTH else f"{shown[: 2 * _WIDTH]}..."


def alike(one: Any, other: Any) -> bool:
    """Compare two outputs of `reduce`; floats may differ in their last digits.

    >>> alike([("k", 0.1 + 0.2)], [("k", 0.3)]), alike([("k", 3)], [("k", 4)])
    (True, False)
    """
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=1e-9, abs_tol=1e-12)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(map(alike, one, other))
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        return one.keys() == other.keys() and all(alike(one[key], other[key]) for key in one)
    return bool(one == other)
