"""A script whose steps are described by a parameter: what jobs can do, in any combination.

It is also imported by the model of jobs (`support.model`), which calls the same functions.
"""

from __future__ import annotations

import json
import os
import signal
from contextlib import suppress
from typing import Any
from zlib import crc32

from daskmr import BadRecord, Job, param

NAN = float("nan")
KEYS = (
    *(None, True, 0, 1, 1.0, -0.0, 0.0, 2.5, NAN, -float("inf"), -7, 10**30, "", "1", "a", "b", "\xe9"),
    *("\ud800", "\U0001f40d", b"", b"1", b"\xff", (), (1, "x"), (True, "x"), (NAN,), (None, b"", ()), ((1,), 2)),
    *("L" * 300 + "0", "L" * 300 + "1", b"L" * 300, ("L" * 300, 0)),
)  # fmt: skip
HOOK = "of a hook"


class Point:
    """A class that only the script defines."""

    def __init__(self, x: int, seen: list[int]) -> None:
        self.x, self.seen = x, seen

    def __repr__(self) -> str:
        return f"Point({self.x}, {self.seen})"


def number(*values: Any) -> int:
    return crc32(repr(values).encode("utf-8", "backslashreplace"))


def any_value(n: int) -> Any:
    shared = [n % 5]
    values = (
        *(None, n % 2 == 0, n % 50, n % 50 / 7, f"text {n % 9}", b"bytes", [n % 3, [n % 2]], (n % 4, None)),
        *({"x": n % 7, "y": [1]}, {"one": shared, "other": shared}, Point(n % 6, shared), NAN, (shared, shared)),
    )  # fmt: skip
    return values[n // 50 % len(values)]


def sortable(n: int) -> Any:
    values = (
        None,
        n % 5,
        n % 9 / 3,
        NAN,
        f"t{n % 4}",
        b"b",
        (n % 3, None),
        [n % 3, "x"],
        [],
        n % 2 == 0,
    )
    return values[n // 50 % len(values)]


def functions(spec: dict[str, Any], kill: Any = None) -> dict[str, Any]:
    """Return the functions of a step.

    - `spec`: what they do.
    - `kill`: called with the name of a function, and a number, before it does anything that counts.
    """
    first, last, plain = spec["first"], spec["last"], spec["plain"]
    reduce_, combine_, wraps = spec["reduce"], spec["combine"], spec["combine"] == "join"
    # How many partitions there are is known for the input alone.
    hooks_write = reduce_ is not None or first
    strike = kill or (lambda name, n: None)

    def key_of(n: int, key: Any) -> Any:
        match spec["keys"]:
            case "mixed":
                return KEYS[n % len(KEYS)]
            case "few":
                return "ab"[n % 2]
            case "many":
                return n
            case "text":
                return f"k{n % 50}"
            case "same" if isinstance(key, str | int | None):
                return key
        return (n % 3, KEYS[n % len(KEYS)], -(n % 2))

    def value_of(n: int, key: Any, value: Any) -> Any:
        if wraps:
            return [n % 1000] * (n % 3)
        if combine_ == "grouping":
            return f"{n % 10}"
        if combine_ == "sum" or spec["values"] == "ints":
            return n % 1000
        match spec["values"]:
            case "sortable":
                return sortable(n)
            case "large":
                return "x" * (n % 50) * 300
            case "huge":
                return "x" * (300_000 if n % 97 == 0 else n % 10)
            case "pair":
                return (key, value)
        return any_value(n)

    def shown(value: Any) -> Any:
        return repr(value)[:200] if plain else value

    def write(context: Any, key: Any, value: Any) -> None:
        if last and reduce_ is None:
            key, value = shown(key), shown(value)
        context.write(key, value)
        if isinstance(value, list):
            value.append("changed after it was written")
        elif isinstance(value, dict):
            value.clear()
        elif isinstance(value, Point):
            value.seen.append(99)

    def wrapped(n: int) -> Any:
        return [n] if wraps else str(n) if combine_ == "grouping" else n

    def joined(values: Any) -> str:
        """Write down how the values were grouped."""
        return f"({'+'.join(values)})"

    def setup_map(context: Any) -> None:
        strike("setup_map", 0)
        context.records, context.seen = 0, {}
        context.counter("setup_map", "calls", int(first))
        if hooks_write:
            n = int(first)
            context.write((HOOK, "begin"), wrapped(n))

    def map(key: Any, dims: Any, value: Any, context: Any) -> None:
        n = number(key, value)
        strike("map", n)
        if not first:
            assert dims == []
        context.counter("map", "calls")
        if spec["setup_map"]:
            context.records += 1
            context.seen[n % 3] = context.seen.get(n % 3, 0) + 1
        for index in range(spec["emits"]):
            n = number(index, n)
            if spec["each"]:
                keys = [key_of(n, key), key_of(n // 7, key), "each"]
                keys = [*map_(shown, keys)] if last and reduce_ is None else keys
                given = (
                    shown(value_of(n, key, value))
                    if last and reduce_ is None
                    else value_of(n, key, value)
                )
                context.write_each(keys, given)
            write(context, key_of(n, key), value_of(n, key, value))
            if last and reduce_ is None and spec["names"] and n % 3:
                context.write_to(f"name{n % 2}", shown(key), n)
        if spec["bad"] and n % spec["bad"] == 0:
            if spec["on_error"] == "skip" and n % 3 == 0:
                raise KeyError(n)
            raise BadRecord("of this number") if n % 2 else ValueError(n)

    def finish_map(context: Any) -> None:
        strike("finish_map", 0)
        n = getattr(context, "records", 0)
        context.counter("finish_map", "records", n)
        if hooks_write:
            context.write((HOOK, "records"), wrapped(n))
            for key, count in sorted(getattr(context, "seen", {}).items()):
                context.write((HOOK, key), wrapped(count))
            if last and reduce_ is None and spec["names"]:
                context.write_to("ends", "n", n)
        strike("finish_map", 1)

    def combine(key: Any, values: Any, context: Any) -> None:
        strike("combine", len(values))
        context.records = len(values)
        if combine_ == "sum":
            context.write(key, sum(values))
        elif combine_ == "grouping":
            context.write(key, joined(values))
        elif wraps:
            whole = values[0]
            for value in values[1:]:
                whole += value
            context.write(key, whole)
            whole.append("changed after it was written")

    def setup_reduce(context: Any) -> None:
        strike("setup_reduce", 0)
        context.keys = 0
        if last and not plain:
            context.field_separator = "|"
            context.writeline("header")
            if spec["names"]:
                context.write_to("name0", "named", "header")

    def reduce(key: Any, values: Any, context: Any) -> None:
        strike("reduce", number(key))
        context.counter("reduce", "keys")
        context.keys = getattr(context, "keys", 0) + 1
        if isinstance(key, tuple) and key[:1] == (HOOK,):
            if combine_ == "grouping":
                values = joined(values).translate(str.maketrans("()+", "   ")).split()
            total = sum(sum(value) if wraps else int(value) for value in values)
            context.write(shown(key) if last else key, total)
            return
        wrote = key
        if last:
            key = shown(key)
        if combine_ == "sum":
            context.write(key, sum(values))
            return
        if combine_ == "grouping":
            context.write(key, shown(joined(values)))
            return
        if wraps:
            context.write(key, shown([each for value in values for each in value]))
            return
        match reduce_:
            case "count":
                context.write(key, len(values))
            case "each":
                for index, value in enumerate(values):
                    context.write((key, index % 2), shown(value))
            case "merge":
                seen = []
                for value in values:
                    if isinstance(value, dict) and "one" in value:
                        value["one"].append("merged")
                    elif isinstance(value, Point):
                        value.seen.append(-1)
                    seen.append(value)
                context.write(key, shown(seen))
                seen.append("changed after it was written")
            case "values":
                context.write(key, shown(values))
            case "few":
                if len(values) % 3:
                    context.write(
                        key if last else [wrote], shown({"n": len(values), "last": values[-1]})
                    )
            case _:
                context.write(key, shown(values[:5] + values[-1:]))
                for value in values:
                    n = number(value)
                    if n % 4 == 0:
                        context.write(key, n)
                    if last and spec["names"] and n % 3:
                        context.write_to(f"name{n % 2}", (key, n % 7), shown(value))
                if last and not plain:
                    context.writeline(f"line {len(values)}")
                    context.writecsv([len(values), 'a "quoted" field'])
        strike("reduce", number(wrote) + 1)

    def finish_reduce(context: Any) -> None:
        strike("finish_reduce", 0)
        context.counter("finish_reduce", "calls")
        n = getattr(context, "keys", 0) if spec["reducers"] == 1 else 1
        if spec["ends"] != "named":
            context.write("end" if last else (HOOK, "end"), n)
            context.write("end" if last else KEYS[spec["reducers"] or 0], shown([n]))
        if last and spec["names"]:
            for name in ("name0", "ends"):
                context.write_to(name, "end", n)
        strike("finish_reduce", 1)

    order: Any = {
        "true": True,
        "back": lambda value: -(number(value) % 5),
        "stable": lambda value: (len(repr(value)) % 2, None),
    }.get(spec["sort"])
    found: dict[str, Any] = {
        "map": map,
        "reduce": reduce if reduce_ else None,
        "sort_values": order,
    }
    if combine_:
        found["combine"] = combine
    hooks = (setup_map, finish_map, setup_reduce, finish_reduce)
    return found | {hook.__name__: hook for hook in hooks if spec[hook.__name__]}


map_ = map
GIVEN = param("steps", "[]")
KILLS = param("kills", "{}")
FOLDER = param("folder", "")
SPARED = param("spared", 0)


def killer(step: int) -> Any:
    """Return a function that kills this process once in the run, at each place that `KILLS` names."""
    places = json.loads(KILLS).get(str(step), {})
    seen = dict.fromkeys(places, 0)

    def strike(name: str, n: int) -> None:
        if os.getpid() == SPARED:  # there are no records
            return
        open(os.path.join(FOLDER, f"pid-{os.getpid()}"), "w").close()
        if name not in places:
            return
        seen[name] += 1
        if seen[name] <= places[name]:
            return
        with suppress(FileExistsError):
            open(os.path.join(FOLDER, f"killed-{step}-{name}"), "x").close()
            os.kill(os.getpid(), signal.SIGKILL)

    return strike


steps = [
    Job(**functions(spec, killer(n) if FOLDER else None))
    for n, spec in enumerate(json.loads(GIVEN))
] or None
