"""Sample data of the kind `events`: JSON lines of the users of a web shop, in hive partitions.

A session is a visit, and perhaps views of products, a cart and a purchase. The events of several
sessions are mixed, and a session may go on in the next file.
"""

from __future__ import annotations

import datetime
import json
from collections.abc import Iterator
from typing import Any

from daskmr.cli.sample.draws import Words, below, hexadecimal, pick, random_words, weighted
from daskmr.cli.sample.kind import Kind, SampleFile, fill, hour_weight, share_out

__all__ = ["KIND"]

_FIRST_DAY = datetime.date(2026, 10, 5)
_DAY_BYTES, _HOUR_BYTES = 1_000_000, 20_000  # of a sample, for each day and hour that it has
_BUSY = 45  # the weight of an hour above which it has two files
_OPEN = 32  # sessions at a time
_USER_BYTES = 2_500  # of a sample, for each user

_NEXT = {
    "visit": weighted({"view": 72, "": 28}),
    "view": weighted({"view": 46, "cart": 16, "": 38}),
    "cart": weighted({"view": 25, "purchase": 42, "": 33}),
    "purchase": ("",),
}
"""What may follow each event, where the empty text is the end of the session."""
_DEVICES = weighted({"phone": 58, "desktop": 34, "tablet": 8})
_CITIES = weighted(
    {"Berlin": 30, "Zürich": 14, "Łódź": 10, "São Paulo": 20, "東京": 12, "Lyon": 14}
)
_REFERRERS = weighted({"search": 46, "direct": 30, "mail": 16, "social": 8})
_PRODUCTS = (
    ("garden chair", "garden", 3990),
    ("bench, oak", "garden", 18900),
    ('lamp "Nova"', "light", 5950),
    ("desk", "office", 24900),
    ("rug 2×3 m", "home", 9900),
    ("vase", "home", 1495),
    ("parasol", "garden", 7900),
    ("notebook", "office", 450),
)


_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"))


class _Shop:
    """Generates events, in which `open` sessions take turns."""

    def __init__(self, words: Words, users: int) -> None:
        self._words = words
        self._users = users
        self._sessions: list[dict[str, Any]] = []
        self._orders = 0

    def event(self, time: str) -> dict[str, Any]:
        """Generate the next event of a session, which is removed at its end."""
        words = self._words
        slot = below(words, _OPEN)
        if slot >= len(self._sessions):
            self._sessions.append(self._visit())
            slot = len(self._sessions) - 1
        session = self._sessions[slot]
        kind = session["event"]
        event = {"time": time, **session}
        if kind in ("view", "cart"):
            name, category, cents = session["product"]
            event["product"] = {"name": name, "category": category, "price": cents / 100}
        else:
            event.pop("product", None)
        if kind == "purchase":
            self._orders += 1
            items = 1 + below(words, 1 + below(words, 4))
            total = session["product"][2] * items / 100
            event["order"] = {"id": f"o{self._orders:07}", "items": items, "total": total}
        self._advance(slot, kind)
        return event

    def _visit(self) -> dict[str, Any]:
        words = self._words
        return {
            "event": "visit",
            "user": f"u{below(words, 1 + below(words, self._users)):06}",  # low ones are frequent
            "session": hexadecimal(words, 8),
            "device": pick(words, _DEVICES),
            "geo": {"city": pick(words, _CITIES)},
            "referrer": pick(words, _REFERRERS),
        }

    def _advance(self, slot: int, kind: str) -> None:
        following = pick(self._words, _NEXT[kind])
        if not following:
            del self._sessions[slot]
            return
        session = self._sessions[slot]
        session["event"] = following
        if following == "view":
            session["product"] = _PRODUCTS[
                below(self._words, 1 + below(self._words, len(_PRODUCTS)))
            ]


def _files(size: int, seed: int, bad_lines: float) -> Iterator[SampleFile]:
    """Generate the files. Bad lines are in turn cut off, text, two events, and not UTF-8."""
    hours = [*_hours(size)]
    words = random_words(seed, "events")
    shop = _Shop(words, 20 + size // _USER_BYTES)

    def make(index: int, done: int, whole: int, bad: int) -> bytes:
        hour, part, parts = hours[index]
        seconds = (part * whole + done) * 3600 // (parts * whole)
        time = f"{hour + datetime.timedelta(seconds=seconds):%Y-%m-%dT%H:%M:%SZ}"
        line = _ENCODER.encode(shop.event(time)).encode()
        if bad:
            spoilt = (line[: len(line) // 2], b"restarted", line + line, b'{"user":"\xff\xfe')
            line = spoilt[bad % len(spoilt)]
        return line + b"\n"

    ends = share_out(size, [hour_weight(hour.hour) * 60 // parts for hour, _, parts in hours])
    for (hour, part, _), records in zip(hours, fill(ends, words, bad_lines, make), strict=True):
        folder = f"dt={hour:%Y-%m-%d}/hour={hour:%H}"
        yield SampleFile(f"{folder}/events-{part:02}.jsonl", records)


def _hours(size: int) -> Iterator[tuple[datetime.datetime, int, int]]:
    """Yield an hour, the number of a file in it, and how many it has, for each file."""
    days = max(1, min(7, size // _DAY_BYTES))
    start = datetime.datetime.combine(_FIRST_DAY, datetime.time())
    for number in range(days * max(1, min(24, size // _HOUR_BYTES))):
        hour = start + datetime.timedelta(hours=number)
        parts = 1 + (hour_weight(hour.hour) > _BUSY)
        for part in range(parts):
            yield hour, part, parts


KIND = Kind("events", _files, "gz", ("jsonl",), "hive", "jsonl")
