"""What a script declares at its top level about its input and output."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any, NamedTuple

from daskmr.errors import InputError
from daskmr.job.tracebacks import short_repr

__all__ = [
    "FUNCTIONS", "Declared", "declared_in", "distinct_names", "names_of", "notes_on_declared", "notes_on_steps",
    "paths_of",
]  # fmt: skip


class Declared(NamedTuple):
    """Values at the top level of a script, as they are; ``None`` if the script does not set one.

    Scripts may use these names for other things, so a value counts, and is checked, only where it is
    needed: `key`, `input_columns` and `fields` not for keyed records.

    - `columns`: the names of columns of the output, or of CSV and TSV without a header; which of
      them, `daskmr.run.record_format` decides.

    >>> declared_in({"records": "jsonl", "key": "user.id"})
    Declared(layout=None, records='jsonl', key='user.id', columns=None, fields=None, input_columns=None, output_columns=None, sort_values=None)
    """

    layout: Any = None
    records: Any = None
    key: Any = None
    columns: Any = None
    fields: Any = None
    input_columns: Any = None
    output_columns: Any = None
    sort_values: Any = None

    def over(self, other: Declared) -> Declared:
        """Return these values, and those of `other` where there are none."""
        return Declared(*(b if a is None else a for a, b in zip(self, other, strict=True)))

    @property
    def names_of_output(self) -> Any:
        """The names of the columns of the output, as they are."""
        return self.columns if self.output_columns is None else self.output_columns


def declared_in(namespace: Mapping[str, Any]) -> Declared:
    """Return what a script or a module declares; `layout` and `records` must be text to count."""
    found = Declared(*(namespace.get(name) for name in Declared._fields))
    texts = {n: v if isinstance(v := getattr(found, n), str) else None for n in _TEXTS}
    return found._replace(**texts)


_TEXTS = ("layout", "records")
FUNCTIONS = (
    "map", "combine", "reduce", "setup_reduce", "setup_map", "finish_map", "map_finished",
    "finish_reduce",
)  # fmt: skip
"""The names that a script gives to the functions of a job."""


def notes_on_declared(namespace: Mapping[str, Any]) -> Iterator[str]:
    """Yield notes on names that are not used, since their values are not text.

    >>> list(notes_on_declared({"records": ["jsonl"]}))
    ["`records` in the script is ['jsonl'], not text, so it does not name the format of the records"]
    """
    steps = namespace.get("steps")
    is_meant = isinstance(steps, list | tuple) and all(
        callable(s) or isinstance(s, dict) for s in steps
    )
    if is_meant:  # a list of Jobs does not get here
        yield (
            f"`steps` in the script is {short_repr(steps)}, which holds no Job, so the job has one step. Write "
            "steps = [Job(map=..., reduce=...), ...]"
        )
    meanings = {"layout": "the layout", "records": "the format of the records"}
    for name, meaning in meanings.items():
        value = namespace.get(name)
        if isinstance(value, list | tuple | dict):
            yield (
                f"`{name}` in the script is {short_repr(value)}, not text, so it does not name {meaning}"
            )


def notes_on_steps(namespace: Mapping[str, Any], steps: Sequence[Sequence[Any]]) -> Iterator[str]:
    """Yield notes on functions of a script that none of its steps uses.

    - `steps`: the functions of each step.

    >>> list(notes_on_steps({"reduce": len, "map": max}, [(max, None)]))
    ['`reduce` in the script is not used, because a run calls the functions of `steps`: Job(..., reduce=reduce)']
    """
    used = [function for functions in steps for function in functions]
    for name in (*FUNCTIONS, "sort_values"):
        own = namespace.get(name)
        if (callable(own) or own is True) and own not in used:
            takes = "finish_map" if name == "map_finished" else name
            yield (
                f"`{name}` in the script is not used, because a run calls the functions of `steps`: "
                f"Job(..., {takes}={name})"
            )


def names_of(value: Any, name: str) -> tuple[str, ...]:
    """Return names of columns as a tuple; raise InputError for anything else.

    >>> names_of(["a", "b"], "columns")
    ('a', 'b')
    """
    if isinstance(value, str) or not isinstance(value, list | tuple) or not value:
        raise InputError(_explain(name, value))
    if not all(isinstance(each, str) and each for each in value):
        raise InputError(_explain(name, value))
    twice = {each for each in value if value.count(each) > 1}
    if twice:
        raise InputError(f"`{name}` in the script holds {min(twice)!r} twice.")
    return tuple(value)


def distinct_names(names: Iterable[str]) -> tuple[str, ...]:
    """Return names of columns of which some are empty or occur twice, so that they differ.

    >>> distinct_names(["id", "id", ""])
    ('id', 'id_2', 'column3')
    """
    found: list[str] = []
    for number, name in enumerate(names, 1):
        name = name or f"column{number}"
        others = (f"{name}_{n}" for n in count(2))
        found.append(next(each for each in chain([name], others) if each not in found))
    return tuple(found)


def paths_of(value: Any) -> tuple[tuple[str, ...], ...]:
    """Return the paths of fields; raise InputError for anything else.

    >>> paths_of(("user.id", ("a.b", "c")))
    (('user', 'id'), ('a.b', 'c'))
    """
    from daskmr.job.pluck import Fields, pluck  # deferred: imports msgspec

    if isinstance(value, Fields):
        return value.paths
    if isinstance(value, str) or not isinstance(value, list | tuple):
        raise InputError(_explain("fields", value))
    try:
        return pluck(*value).paths
    except (TypeError, ValueError) as error:
        reason = str(error)
    raise InputError(f"`fields` in the script cannot be used: {reason}")


def _explain(name: str, value: Any) -> str:
    return (
        f"`{name}` in the script is {short_repr(value)}. It must be a tuple of names, such as "
        f'`{name} = ("time", "status")`.'
    )
