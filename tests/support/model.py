"""What a job means, in plain Python, without any code of the package: all in memory, in one pass."""

from __future__ import annotations

import copy
import csv
import io
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Answer", "rank", "run_model"]


def rank(key: Any) -> Any:
    """The place of a key in the order; the same for keys that are one."""
    if key is None:
        return (0,)
    if isinstance(key, int | float):
        return (1, 0, key) if key == key else (1, 1)
    if isinstance(key, str):
        return (2, key)
    if isinstance(key, bytes):
        return (3, key)
    return (4, tuple(rank(each) for each in key))


def tree(value: Any) -> Any:
    """Copy a value so that no two places in it are one object."""
    if isinstance(value, list | tuple):
        return type(value)(tree(each) for each in value)
    if isinstance(value, dict):
        return {key: tree(each) for key, each in value.items()}
    if hasattr(value, "__dict__"):
        value = copy.copy(value)
        vars(value).update({name: tree(each) for name, each in vars(value).items()})
    return value


class Written:
    """An output, or the pairs between `map` and `reduce`, in the form of a kind.

    - `kind`: ``"pairs"``, ``"text"`` or ``"jsonl"``.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows: list[Any] = []

    def pair(self, key: Any, value: Any, separator: str) -> None:
        if self.kind == "pairs":
            self.rows.append((tree(key), tree(value)))
        elif self.kind == "text":
            self.rows.append(f"{key}{separator}{value}\n")
        else:
            keys = key if isinstance(key, tuple) else (key,)
            parts = [("key", n, each) for n, each in enumerate(keys, 1)] + [("value", 1, value)]
            row = {name if n == 1 else f"{name}_{n}": each for name, n, each in parts}
            self.rows.append(json.dumps(row, ensure_ascii=False, separators=(",", ":")) + "\n")


class Context:
    """What the functions of a partition, or of a reducer, write to."""

    field_separator = "\t"

    def __init__(self, answer: Answer, kind: str) -> None:
        self._answer = answer
        self._kind = kind
        self._main = Written(kind)
        self._named: defaultdict[str, Written] = defaultdict(lambda: Written(kind))
        self._counts: Counter[tuple[str, str]] = Counter()

    def write(self, key: Any, value: Any) -> None:
        self._main.pair(key, value, self.field_separator)

    def write_each(self, keys: Iterable[Any], value: Any) -> None:
        for key in keys:
            self.write(key, value)

    def write_to(self, name: str, key: Any, value: Any) -> None:
        self._named[name].pair(key, value, self.field_separator)

    def writeline(self, text: str) -> None:
        self._main.rows.append(text if self._kind == "pairs" else f"{text}\n")

    def writecsv(self, values: Sequence[Any]) -> None:
        file = io.StringIO()
        csv.writer(file).writerow(values)
        line = file.getvalue()
        self._main.rows.append(line.removesuffix("\r\n") if self._kind == "pairs" else line)

    def counter(self, group: str, name: str, n: int = 1) -> None:
        self._counts[group, name] += n


@dataclass
class Answer:
    """What a run must give.

    - `rows`: pairs, or lines of the output; `named`: those of the other outputs.
    - `steps`: the pairs of each step but the last.
    """

    rows: list[Any] = field(default_factory=list)
    named: dict[str, list[Any]] = field(default_factory=dict)
    counters: Counter[tuple[str, str]] = field(default_factory=Counter)
    bad: int = 0
    steps: list[list[Any]] = field(default_factory=list)

    def text(self, name: str | None = None) -> bytes:
        rows = self.rows if name is None else self.named[name]
        return "".join(rows).encode("utf-8", "surrogatepass")


def run_model(
    files: Sequence[Sequence[str]], steps: Sequence[dict[str, Any]], kind: str, reducers: int,
    skipped: tuple[type[Exception], ...],
) -> Answer:  # fmt: skip
    """Run a job over lines of text, one file a partition.

    - `steps`: the functions of each.
    - `kind`: that of the last output.
    - `skipped`: exceptions that make a record bad.
    """
    answer = Answer()
    partitions: list[list[Any]] = [[tuple(line.split("\t", 1)) for line in file] for file in files]
    for number, step in enumerate(steps, 1):
        step_kind = kind if number == len(steps) else "pairs"
        _run_step(answer, partitions or [[]], step, step_kind, reducers, skipped)
        partitions = [answer.rows]
        answer.steps.append(answer.rows)
    answer.steps.pop()
    return answer


def _run_step(
    answer: Answer, partitions: list[list[Any]], step: dict[str, Any], kind: str, reducers: int,
    skipped: tuple[type[Exception], ...],
) -> None:  # fmt: skip
    reduce = step["reduce"]
    mapped = [
        _map(answer, step, records, "pairs" if reduce else kind, reduce is None, skipped)
        for records in partitions
    ]
    if reduce is None:
        header, named_header = mapped[0][1]
        rows = [*header]
        named = defaultdict(list, {name: [*lines] for name, lines in named_header.items()})
        for context, _ in mapped:
            rows += context._main.rows
            for name, written in context._named.items():
                named[name] += written.rows
    else:
        context = Context(answer, kind)
        _call(step, "setup_reduce", context)
        groups: dict[Any, tuple[Any, list[Any]]] = {}
        for each, _ in mapped:
            for key, value in each._main.rows:
                groups.setdefault(rank(key), (key, []))[1].append(value)
        for order in sorted(groups):
            key, values = groups[order]
            reduce(key, _sorted(values, step["sort_values"]), context)
        for _ in range(reducers):
            _call(step, "finish_reduce", context)
        rows = context._main.rows
        named = defaultdict(list, {n: written.rows for n, written in context._named.items()})
        answer.counters.update(context._counts)
    answer.rows = rows
    answer.named = {name: lines for name, lines in named.items() if lines}


def _map(
    answer: Answer, step: dict[str, Any], records: list[Any], kind: str, alone: bool, skipped: Any
) -> tuple[Context, Any]:
    context = Context(answer, kind)
    header: Any = ([], {})
    if alone:
        _call(step, "setup_reduce", context)
        header = context._main.rows[:], {n: w.rows[:] for n, w in context._named.items()}
        for written in (context._main, *context._named.values()):
            written.rows.clear()
    _call(step, "setup_map", context)
    for record in records:
        ends = {name: len(written.rows) for name, written in context._named.items()}
        end, counts = len(context._main.rows), context._counts.copy()
        try:
            if len(record) != 2:
                raise ValueError("no tab")
            step["map"](record[0], [], record[1], context)
        except skipped:
            answer.bad += 1
            del context._main.rows[end:]
            for name, written in context._named.items():
                del written.rows[ends.get(name, 0) :]
            context._counts = counts
    _call(step, "finish_map", context)
    answer.counters.update(context._counts)
    return context, header


def _call(step: dict[str, Any], name: str, context: Context) -> None:
    if name in step:
        step[name](context)


def _sorted(values: list[Any], order: Any) -> list[Any]:
    if not order:
        return values
    return sorted(values, key=rank if order is True else lambda value: rank(order(value)))
