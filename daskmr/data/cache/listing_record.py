"""Record the listings of a store, for runs without a network."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from itertools import chain

import msgspec
import zstandard

from daskmr.data.cache.manifest import Manifest, in_chunks
from daskmr.data.paths import decode_path, encode_path
from daskmr.store.source import Entry

__all__ = ["ListingRecord", "ListingRecorder"]

_PAGE = 20_000  # entries that are packed together

_Columns = tuple[list[bytes], list[bool], list[int], list[str | None], list[float | None]]
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(_Columns).decode


class ListingRecord:
    """The recorded listings of a store, by prefix, from the manifest.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     manifest = Manifest(f"{folder}/cache.sqlite")
    ...     recording = ListingRecorder(manifest)
    ...     recording.entries_listed("idle/", [Entry("Firefox", True), Entry("Fennec", True)])
    ...     recording.prefix_listed("idle/", "")
    ...     recorded = ListingRecord(manifest)
    ...     print([entry.name for entry in recorded.entries("idle/")])
    ...     print(recorded.prefixes())
    ...     manifest.close()
    ['Fennec', 'Firefox']
    [('idle/', '')]
    """

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest

    def prefixes(self) -> list[tuple[str, str]]:
        """Return each completely listed prefix, with the name prefix that limited its listing."""
        rows = self._manifest.read("SELECT prefix, name_prefix FROM listings ORDER BY prefix, id")
        return [(decode_path(prefix), decode_path(names)) for prefix, names in rows]

    def entries(self, prefix: str) -> list[Entry]:
        """Return the latest entries directly below `prefix`, sorted by name."""
        rows = self._manifest.read(
            "SELECT id, name_prefix, entries FROM listings LEFT JOIN pages ON listing = id"
            " WHERE prefix = ? ORDER BY id, number",
            (encode_path(prefix),),
        )
        found: dict[tuple[bytes, bool], Entry] = {}
        latest = None
        for number, names, page in rows:
            if number != latest:  # a later listing replaces earlier entries of its name prefix
                found = {key: e for key, e in found.items() if not key[0].startswith(names)}
                latest = number
            if page is not None:
                # An object and a directory may have the same name.
                found.update(((encode_path(e.name), e.is_dir), e) for e in _unpack(page))
        return [found[key] for key in sorted(found)]

    def checked(self) -> float | None:
        """Return the time of the last listing in Unix seconds, if any."""
        when: float | None = self._manifest.read("SELECT MAX(checked) FROM listings")[0][0]
        return when


class ListingRecorder:
    """Collects the entries that one walk lists, and writes complete prefixes to the manifest."""

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._listed: dict[str, _Pages] = {}

    def entries_listed(self, prefix: str, entries: Sequence[Entry]) -> None:
        """Add some of the entries directly below `prefix`; an entry may be repeated."""
        self._listed.setdefault(prefix, _Pages()).extend(entries)

    def prefix_listed(self, prefix: str, name_prefix: str) -> None:
        """Write all entries below `prefix` whose names start with `name_prefix`.

        In one transaction, they replace the entries of earlier walks with such names.
        """
        names = encode_path(name_prefix)
        listed = self._listed.get(prefix, _Pages())
        pages = listed.starting_with(names) if names else listed.pack()
        if not names:  # otherwise more name prefixes may follow
            self._listed.pop(prefix, None)
        self._replace(encode_path(prefix), names, pages)

    def _replace(self, prefix: bytes, names: bytes, pages: list[bytes]) -> None:
        with self._manifest.writing() as connection:
            earlier = connection.execute(
                "SELECT id, name_prefix FROM listings WHERE prefix = ?", (prefix,)
            ).fetchall()
            for number, start in earlier:
                if start.startswith(names):
                    connection.execute("DELETE FROM listings WHERE id = ?", (number,))
                    connection.execute("DELETE FROM pages WHERE listing = ?", (number,))
            number = connection.execute(
                "INSERT INTO listings (prefix, name_prefix, checked) VALUES (?, ?, ?)",
                (prefix, names, time.time()),
            ).lastrowid
            connection.executemany(
                "INSERT INTO pages VALUES (?, ?, ?)",
                [(number, position, page) for position, page in enumerate(pages)],
            )


class _Pages:
    """Entries, packed into about 30 bytes each except for the most recent ones."""

    def __init__(self) -> None:
        self._packed: list[bytes] = []
        self._loose: list[Entry] = []

    def extend(self, entries: Iterable[Entry]) -> None:
        self._loose.extend(entries)
        if len(self._loose) >= _PAGE:
            self.pack()

    def pack(self) -> list[bytes]:
        if self._loose:
            self._packed.append(_pack(self._loose))
            self._loose = []
        return self._packed

    def starting_with(self, names: bytes) -> list[bytes]:
        """Return the packed entries whose names start with `names`."""
        entries = chain.from_iterable(map(_unpack, self.pack()))
        chosen = (entry for entry in entries if encode_path(entry.name).startswith(names))
        return [_pack(chunk) for chunk in in_chunks(chosen, _PAGE)]


def _pack(entries: list[Entry]) -> bytes:
    rows = ((encode_path(e.name), e.is_dir, e.size, e.etag, e.mtime) for e in entries)
    return zstandard.ZstdCompressor(level=1).compress(_encode([*zip(*rows, strict=True)]))


def _unpack(page: bytes) -> list[Entry]:
    columns = _decode(zstandard.ZstdDecompressor().decompress(page))
    return [
        Entry(decode_path(name), is_dir, size, etag, mtime)
        for name, is_dir, size, etag, mtime in zip(*columns, strict=True)
    ]
