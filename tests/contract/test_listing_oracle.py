"""Listings of random layouts and filters are what a plain loop over all files selects."""

from __future__ import annotations

import datetime
import os
import random
import re
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import pytest
from support.fake_store import FakeStore

from daskmr import InputError
from daskmr.data.layout import load_schema
from daskmr.data.listing import list_files
from daskmr.data.store_listing import list_store

TODAY = datetime.date(2026, 1, 10)
DAYS = [TODAY + datetime.timedelta(n) for n in range(-9, 4)]
VALUES = {
    "": [
        "a",
        "b",
        "B",
        "a-b",
        "a_b",
        "web1",
        "we b",
        "x*",
        "[y]",
        "(z",
        "é",
        "a=b",
        "!a",
        "n\nl",
        "q.r",
    ],
    "int": ["7", "07", "-3", "12", "100", "x7"],
    "date": [f"{day:{form}}" for day in DAYS for form in ("%Y%m%d", "%Y-%m-%d")] + ["2026-1-1"],
    "%Y%m%d%H": [f"{day:%Y%m%d}{hour}" for day in DAYS for hour in ("00", "07", "23")]
    + ["20261231"],
}
ENDS = [".log", ".log.gz", ".txt", "", ".bak"]


# --- the oracle: layouts ------------------------------------------------------------------------


def parse(kind: str, value: str) -> object:
    """Return a value of a type; raise ValueError if it does not fit."""
    if kind == "int":
        if not re.fullmatch(r"[+-]?\d+", value, re.ASCII):
            raise ValueError
        return int(value)
    if kind == "date":
        if not re.fullmatch(r"\d{8}|\d{4}-\d\d-\d\d", value, re.ASCII):
            raise ValueError
        return datetime.datetime.strptime(value.replace("-", ""), "%Y%m%d").date()
    if kind and len(value) != 10:
        raise ValueError
    return datetime.datetime.strptime(value, kind) if kind else value


Part = str | tuple[str, str]
"""A literal, or the name and type of a field."""


def take(parts: list[Part], name: str) -> list[str] | None:
    """Return the values of the dimensions in a name, or None."""
    values = []
    for position, part in enumerate(parts):
        if isinstance(part, str):
            if not name.startswith(part):
                return None
            name = name[len(part) :]
            continue
        after = parts[position + 1] if position + 1 < len(parts) else None
        end = name.find(after) if isinstance(after, str) else len(name)
        if end < 1:
            return None
        if part[0] != "_":
            values.append(name[:end])
        name = name[end:]
    return None if name else values


def dims_of(levels: list[list[Part]], path: str) -> list[str] | None:
    """Return the dimensions of a path, or None if it is not in the layout."""
    names, dims = path.split("/"), []
    if len(names) != len(levels):
        return None
    for parts, name in zip(levels, names, strict=True):
        values = None if name[0] in "._" and parts[0] != name[0] else take(parts, name)
        if values is None:
            return None
        fields = [part for part in parts if not isinstance(part, str) and part[0] != "_"]
        if len(parts) == 2 and parts[0] == f"{parts[1][0]}=":
            null = "__HIVE_DEFAULT_PARTITION__"
            values = ["" if v == null else unquote(v, errors="surrogateescape") for v in values]
        for (_, kind), value in zip(fields, values, strict=True):
            try:
                parse(kind, value)
            except ValueError:
                return None
        dims += values
    last = levels[-1][-1]
    if not isinstance(last, str) and not last[1]:  # it is open
        known = names[-1].rpartition(".")[2].lower() in {"log", "gz", "txt"}
        return dims if "." in names[-1] and known else None
    return dims


# --- the oracle: filters ------------------------------------------------------------------------


def day_of(text: str) -> datetime.date | None:
    days = {"today": 0, "yesterday": -1}.get(text)
    if days is None and re.fullmatch(r"[+-]\d+d", text):
        days = int(text[:-1])
    return None if days is None else TODAY + datetime.timedelta(days)


def bound(kind: str, text: str, upper: bool) -> object:
    """Return a bound; a day as the bound of a time is all of it."""
    day = day_of(text)
    if kind in ("", "int"):
        return parse("date" if day else kind, str(day or text))
    try:
        day = day or parse("date", text)
    except ValueError:
        return parse(kind, text)
    if kind == "date":
        return day
    return datetime.datetime.combine(day, datetime.time.max if upper else datetime.time())


def is_date(text: str) -> bool:
    try:
        return bool(parse("date", text))
    except ValueError:
        return False


def is_short(text: str) -> bool:
    return re.fullmatch("[0-9]{1,4}", text) is not None


def is_before_all(start: str, day: str) -> bool:
    """Check whether a text is the year, or the month, of a date in the form of another one."""
    return start in {f"2026{rest}" for rest in ("", "-01" if "-" in day else "01")}


def surely(verdicts: list[Callable[[], bool]], decisive: bool) -> bool:
    """Return the decisive verdict if one is; else raise ValueError if one does."""
    refused = None
    for verdict in verdicts:
        try:
            if verdict() is decisive:
                return decisive
        except ValueError as error:
            refused = error
    if refused:
        raise refused
    return not decisive


def allows(kind: str, spec: str, value: str, checked: bool = False) -> bool:
    """Check a value; raise ValueError for a date or number whose form differs from the filter's."""
    spec = spec.strip()
    if spec[0] == "!":
        return not allows(kind, spec[1:], value, True)
    if spec[0] == "/":
        return re.fullmatch(spec[1:-1], value) is not None
    parts = [part.strip() for part in spec.split(",")]
    ranges, plain = [p for p in parts if ".." in p], ",".join(p for p in parts if ".." not in p)
    if ranges and len(parts) > 1:
        parts = [*ranges, plain] if plain else ranges
        return surely([partial(allows, kind, part, value, True) for part in parts], True)
    texts = [text.strip() for text in spec.split("..")] if ranges else parts
    forms = {len(text) for text in texts if is_date(text)} if ranges or checked else set()
    if not kind and (any(map(day_of, texts)) or len(forms) > 1):
        kind = "date"
        if not is_date(value):
            if any(map(str.isdigit, value)):
                raise ValueError
            return False
    if not kind and forms and is_date(value) and len(value) not in forms:
        raise ValueError
    if not kind and ranges:
        short = {len(text) for text in texts if is_short(text)}
        if is_short(value) and short - {len(value)}:
            raise ValueError
        for upper, text in enumerate(texts) if is_date(value) else ():
            complete = re.sub("[0-9]", "0", text) == re.sub("[0-9]", "0", value)
            start = not upper and is_before_all(text, value)
            if text[:1].isdigit() and not (complete or start or is_date(text)):
                raise ValueError
    found = parse(kind, value)
    if ranges:
        low, high = texts
        return (not low or bound(kind, low, False) <= found) and (
            not high or found <= bound(kind, high, True)
        )
    if kind:
        return any(bound(kind, s, False) <= found <= bound(kind, s, True) for s in parts)
    return value in parts or value in [re.sub(r"[^a-zA-Z0-9_/.]", "_", each) for each in parts]


# --- random cases -------------------------------------------------------------------------------


def random_layout(draw: random.Random) -> list[list[Part]]:
    names, levels = iter("abcdefgh"), []
    for _ in range(draw.randint(1, 3)):
        name, kind = next(names), draw.choice(["", "", *VALUES])
        form = draw.choice(["field", "field", "hive", "two", "start", "end", "literal", "any"])
        levels.append({
            "field": [(name, kind)],
            "hive": [f"{name}=", (name, kind)],
            "two": [(name, kind), draw.choice("-._"), (next(names), draw.choice(["", "int"]))],
            "start": [draw.choice(["v", "log-", "x*"]), (name, kind)],
            "end": [(name, kind), draw.choice([".log", "-x", "+"])],
            "literal": [draw.choice(["logs", "a.b", "x[1]"])],
            "any": [("_", "")],
        }[form])  # fmt: skip
    levels[-1] += draw.choice([[".log"], ["."]]) if not isinstance(levels[-1][-1], str) else []
    if all(isinstance(part, str) for parts in levels for part in parts):
        levels[-1] = ["."]
    if levels[-1][-1] == ".":
        levels[-1].append(("_", ""))
    return levels


def template_of(levels: list[list[Part]]) -> str:
    def text(part: Part) -> str:
        if isinstance(part, str):
            return part
        return f"{{{part[0]}{':' * bool(part[1])}{part[1]}}}"

    return "/".join("".join(map(text, parts)) for parts in levels)


def random_path(draw: random.Random, levels: list[list[Part]], dated: dict[str, list[str]]) -> str:
    """Return a path most of whose names fit; fields in `dated` have other values."""
    names = []
    for parts in levels:
        name = ""
        for part in parts:
            if isinstance(part, str):
                name += part
                continue
            kind = draw.choice([part[1], part[1], part[1], ""])
            name += draw.choice(dated.get(part[0]) or VALUES[kind])
        names.append(draw.choice([name] * 20 + [f".{name}", "odd", f"{name}x"]))
    if draw.random() < 0.1:
        names.insert(draw.randrange(len(names)), "deeper")
    return "/".join(names) + draw.choice(["", "", "", *ENDS])


def random_spec(draw: random.Random, kind: str, values: list[str]) -> str:
    """Return a filter of a dimension with these values, most of them in its own form."""
    fitting = [each for each in [*values, *VALUES[kind]] if fits(kind, each)]
    if not kind and any(map(is_date, values)):
        fitting += ["2026", "2026-01", "202601", "2026-1-5"]
    pair = draw.choices(fitting, k=2)
    dates = all(map(is_date, pair))
    one, other = sorted(pair, key=lambda t: t.replace("-", "") if dates else parse(kind, t))
    relative = ["today", "yesterday", "-3d", "+1d", "-5d..-1d", "-2d..", "..yesterday"]
    forms = [one, f"{one},{other}", f"{one}..{other}", f"{one}..", f"..{one}"]
    forms += ["/.*[17b]/"] + (relative if kind not in ("", "int") else [])
    if not kind and any(fits("date", value) for value in values):
        forms += relative
    spec = draw.choice(forms)
    if draw.random() < 0.4 and spec[0] != "/":
        lists = [form for form in forms if form[0] != "/"]
        more = f"{spec},{','.join(draw.choices(lists, k=draw.randint(1, 2)))}"
        plain = [text for text in more.split(",") if ".." not in text]
        if not any(map(day_of, plain)) or all(
            day_of(text) or fits(kind or "date", text) for text in plain
        ):
            spec = more.replace(",", draw.choice([",", ", ", " ,"]))
    return "!" * (draw.random() < 0.3) + spec


def fits(kind: str, value: str) -> bool:
    try:
        parse(kind, value)
    except ValueError:
        return False
    return not re.search(r"[,!*]|\.\.|^/", value) and value != ""


def expected(levels, paths, specs):
    """Return what a loop over all paths selects; None if a date is in another form."""
    fields = [p for parts in levels for p in parts if type(p) is tuple and p[0] != "_"]
    kept, refused = [], False
    for path in sorted(paths, key=os.fsencode):
        dims = dims_of(levels, path)
        if dims is None:
            continue
        try:
            if all(
                surely([partial(allows, kind, spec, value) for spec in specs[name]], False)
                for (name, kind), value in zip(fields, dims, strict=True)
                if name in specs
            ):
                kept.append((path, tuple(dims)))
        except ValueError:
            refused = True
    return None if refused else kept


@pytest.mark.parametrize("seed", range(40))
def test_a_listing_is_what_a_loop_selects(seed: int, tmp_path: Path) -> None:
    draw = random.Random(seed)
    levels = random_layout(draw)
    fields = [p for parts in levels for p in parts if type(p) is tuple and p[0] != "_"]
    days = [*VALUES["date"][:-1], "latest"]
    texts = [name for name, kind in fields if not kind]
    numbers = ["1", "2", "9", "10", "02", "2026", "x3"]
    choices = [days, days, [*days, "2026-01"], numbers]
    dated = {name: draw.choice(choices) for name in texts if draw.random() < 0.5}
    drawn = sorted({random_path(draw, levels, dated) for _ in range(25)})
    paths = [p for p in drawn if not any(q.startswith(f"{p}/") for q in drawn)]
    for path in paths:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text("")
    there = [dims for path in paths if (dims := dims_of(levels, path))]
    for _ in range(4):
        chosen = draw.sample(range(len(fields)), draw.randint(0, min(2, len(fields))))
        specs = {
            fields[n][0]: [
                random_spec(draw, fields[n][1], [dims[n] for dims in there])
                for _ in range(draw.choice([1, 1, 1, 2, 3]))
            ]
            for n in chosen
        }
        where = tuple(f"{name}={spec}" for name in specs for spec in specs[name])
        schema = load_schema(None, template_of(levels), where, TODAY)
        keys = [path for path in paths if "\n" not in path]  # which a key does not have
        store = FakeStore(dict.fromkeys(keys, 0))
        listings = [
            (paths, lambda schema=schema: list_files(tmp_path, schema)),
            (keys, lambda schema=schema, store=store: list_store(store, schema)),
        ]
        for names, listed in listings:
            right = expected(levels, names, specs)
            found = None
            with suppress(InputError):  # a date or number in another form
                found = [(file.path, file.dims) for file in listed().files]
            # A directory is refused even if it holds no file of the layout, and is not looked at if
            # another dimension excludes it.
            if (found is None and not dated) or (found is not None and right is not None):
                assert found == right, (template_of(levels), where)
            if right is None and len(chosen) == 1:
                assert found is None, (template_of(levels), where)
