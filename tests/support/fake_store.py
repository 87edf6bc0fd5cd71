"""A store without a server: keys in a dict, listed as S3 lists them, every request noted."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from types import SimpleNamespace
from typing import Any

from daskmr.store.source import Entry, Page
from daskmr.store.store import Pagination


class FakeStore:
    """Does for a walk what `daskmr.store.store.Store` does.

    Attributes
    ----------
    asked : list of (str, str)
        The prefix and name prefix of each listing, in the order asked.
    requests : int
        Pages given out.
    ordered : bool
        Whether it lists by the bytes of the keys.
    """

    source = SimpleNamespace(url="s3://bucket")
    ordered = True

    def __init__(self, sizes: Mapping[str, int], page: int = 1000) -> None:
        self.sizes = sizes
        self.keys = sorted(sizes, key=lambda key: key.encode("utf-8", "surrogatepass"))
        self.page = page
        self.asked: list[tuple[str, str]] = []
        self.requests = 0
        self.at_once = 0
        self.most_at_once = 0

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run(coroutine)

    def pagination(self, prefix: str, name_prefix: str = "") -> Pagination:
        return Pagination(f"{self.source.url}/{prefix}{name_prefix}", self.ordered)

    async def page_async(
        self, prefix: str, name_prefix: str = "", *, start: str = "", token: str | None = None
    ) -> Page:
        assert prefix == "" or prefix.endswith("/")
        assert "/" not in name_prefix
        if token is None:
            self.asked.append((prefix, name_prefix))
        self.requests += 1
        self.at_once += 1
        self.most_at_once = max(self.at_once, self.most_at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        entries = self.entries(prefix, name_prefix, start)
        first = int(token or 0)
        last = first + self.page
        return Page(entries[first:last], str(last) if last < len(entries) else None)

    def entries(self, prefix: str, name_prefix: str = "", start: str = "") -> list[Entry]:
        found: dict[str, Entry] = {}
        for key in self.keys:
            name = key.removeprefix(prefix)
            if not key.startswith(prefix + name_prefix) or (start and name <= start):
                continue
            name, slash, _ = name.partition("/")
            if slash:
                found.setdefault(name + "/", Entry(name, True))
            else:
                found[name] = Entry(name, False, self.sizes[key], f"tag of {key}", 1e9)
        return list(found.values())

    def prefixes_asked(self) -> list[str]:
        return sorted({prefix for prefix, _ in self.asked})


class FakeRecord:
    """Keeps in memory what a walk has listed, and gives it back."""

    def __init__(self) -> None:
        self.pending: dict[str, list[Entry]] = {}
        self.found: dict[str, dict[tuple[str, bool], Entry]] = {}
        self.listed: set[tuple[str, str]] = set()

    def entries_listed(self, prefix: str, entries: list[Entry]) -> None:
        self.pending.setdefault(prefix, []).extend(entries)

    def prefix_listed(self, prefix: str, name_prefix: str) -> None:
        entries = [e for e in self.pending.get(prefix, ()) if e.name.startswith(name_prefix)]
        self.found.setdefault(prefix, {}).update(((e.name, e.is_dir), e) for e in entries)
        self.listed.add((prefix, name_prefix))

    def prefixes(self) -> list[tuple[str, str]]:
        return sorted(self.listed, key=lambda listed: (listed[0].split("/"), listed[1]))

    def entries(self, prefix: str) -> list[Entry]:
        return [entry for _, entry in sorted(self.found.get(prefix, {}).items())]
