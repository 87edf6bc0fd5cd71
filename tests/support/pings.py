"""Made-up telemetry: documents of sessions, in fragments, some of them twice, some broken."""

from __future__ import annotations

import gzip
import json
import random
from collections.abc import Iterator
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["BROKEN", "LAST_DAY", "Document", "documents", "write_documents"]

LAST_DAY = date(2013, 11, 9)
BROKEN = 7  # documents that are not JSON
_DAYS = 9
_CHANNELS = ("aurora", "beta", "nightly")


class Document(NamedTuple):
    channel: str
    day: date
    client: str
    session: str
    start: int
    seconds: int
    crashes: int


@cache
def documents() -> tuple[Document, ...]:
    """Return all documents that are not broken."""
    noise = random.Random(11)
    found = []
    for number in range(70):
        client, channel = f"client-{number:02}", _CHANNELS[number % len(_CHANNELS)]
        for session in range(noise.choice((1, 2, 3, 8, 25))):
            day = LAST_DAY - timedelta(noise.randrange(_DAYS))
            start = day.toordinal() * 86_400 + noise.randrange(80_000)
            for _ in range(noise.randint(1, 3)):
                seconds = noise.choice((20, 50, 200, 4000))
                crashes = noise.randrange(20) // 18
                document = Document(channel, day, client, f"s{session}", start, seconds, crashes)
                found += [document] * (2 if noise.random() < 0.1 else 1)
                start += seconds
    return tuple(found)


def write_documents(folder: Path) -> Path:
    """Write the documents in the packaged layout below `folder`, by day and channel."""
    for (channel, day), lines in _files():
        place = folder / f"saved_session/Firefox/{channel}/28.0a1"
        place.mkdir(parents=True, exist_ok=True)
        path = place / f"20131029030201.{day:%Y%m%d}.v2.log.{'0' * 32}.gz"
        path.write_bytes(gzip.compress("".join(lines).encode(), 1, mtime=0))
    return folder


def _files() -> Iterator[tuple[tuple[str, date], list[str]]]:
    files: dict[tuple[str, date], list[str]] = {}
    for number, document in enumerate(documents()):
        fields = document._asdict()
        place = (fields.pop("channel"), fields.pop("day"))
        files.setdefault(place, []).append(f"{number:08x}\t{json.dumps(fields)}\n")
    for lines in list(files.values())[:BROKEN]:
        lines.insert(3, f"broken\t{lines[0][9:60]}\n")
    yield from files.items()
