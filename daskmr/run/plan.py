"""The figures of a plan: input by dimension, balance of partitions, requests, disks. Pure functions."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median_low
from typing import Any

from daskmr.data.filters import OneOf, sanitise
from daskmr.data.layout import Schema
from daskmr.data.listing import InputFile, Listing
from daskmr.data.partition import Partition, count_buckets, count_reducers
from daskmr.run.estimate import Estimate, Sample
from daskmr.store.download import multipart_etag

__all__ = [
    "Amount",
    "Balance",
    "DimensionFigures",
    "Disk",
    "Plan",
    "Reducing",
    "Requests",
    "Share",
    "Unmatched",
    "amount_of",
    "as_json",
    "balance",
    "count_requests",
    "figures",
    "reducing",
    "unmatched",
]

_TOP = 5  # values of a dimension that are named
_SIMILAR = 3
_EXISTING = 8
_UNEVEN = 4  # times the median: from there on the largest partition is worth a note


@dataclass(frozen=True, slots=True)
class Amount:
    """A number of files, and their size as stored."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """The files that have one value of a dimension."""

    value: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DimensionFigures:
    """The input by the values of one dimension."""

    name: str
    distinct: int  # number of values
    # The lowest and the highest of them, compared as text
    first: str
    last: str
    values: tuple[Share, ...]  # the largest, by bytes
    others: Amount  # the others together


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A value that the filter allows and no file has."""

    dimension: str
    position: int  # from 1
    value: str  # as it is in the filter
    # Values that exist there: those that resemble it, and the first few of all
    similar: tuple[str, ...]
    existing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """How evenly the input is partitioned."""

    count: int  # partitions
    # Bytes of input, as stored, in a partition
    bytes_min: int
    bytes_median: int
    bytes_max: int
    largest_file: str
    largest_file_bytes: int

    @property
    def is_uneven(self) -> bool:
        """Whether one partition is far larger than most."""
        return self.bytes_max > _UNEVEN * max(1, self.bytes_median)


@dataclass(frozen=True, slots=True)
class Reducing:
    """The number of buckets, and of the tasks that reduce them."""

    buckets: int
    reducers: int


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to a store: those of the listing, and the fewest that fetching takes."""

    listing: int
    get: int
    head: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that the run writes to."""

    path: str  # the work dir, or the folder of the output
    free: int  # bytes
    # Estimated bytes that the run writes there: copies of objects, and segments
    fetched: int = 0
    spilled: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """A plan: all that is known of a run before it starts."""

    script: str
    output: str
    data_dir: str | None
    bucket: str | None
    input_filter: str | None
    files: Amount  # those that the filter allows
    text_bytes: int  # their size uncompressed, estimated from their extensions
    # Those in the data dir; objects with a local copy; objects without one
    local: Amount
    cached: Amount
    to_fetch: Amount
    skipped: int  # paths that are not in the layout
    dimensions: tuple[DimensionFigures, ...]
    unmatched: tuple[Unmatched, ...]
    partitions: Balance
    reducing: Reducing | None  # ``None`` for a map-only job
    workers: int | None  # ``None`` on a cluster
    requests: Requests | None = None  # ``None`` without a store, and where none may be asked
    disks: tuple[Disk, ...] = ()
    sample: Sample | None = None
    estimate: Estimate | None = None
    no_estimate: str = ""  # why there is no estimate
    warnings: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


def amount_of(files: Iterable[InputFile]) -> Amount:
    """Count files, and sum their sizes.

    >>> amount_of([InputFile("a", 5, ()), InputFile("b", 7, ())])
    Amount(files=2, bytes=12)
    """
    sizes = [file.size for file in files]
    return Amount(len(sizes), sum(sizes))


def figures(listing: Listing, top: int = _TOP) -> tuple[DimensionFigures, ...]:
    """Sum the input by the values of each dimension."""
    by_dims: dict[tuple[str, ...], list[int]] = {}
    for file in listing.files:  # by all dimensions first: there are far fewer of these than files
        total = by_dims.setdefault(file.dims, [0, 0])
        total[0] += 1
        total[1] += file.size
    return tuple(
        _figures_of(name, position, by_dims, top)
        for position, name in enumerate(listing.layout.field_names)
    )


def _figures_of(
    name: str, position: int, by_dims: Mapping[tuple[str, ...], list[int]], top: int
) -> DimensionFigures:
    totals: dict[str, list[int]] = {}
    for dims, (files, size) in by_dims.items():
        total = totals.setdefault(dims[position], [0, 0])
        total[0] += files
        total[1] += size
    shares = [Share(value, files, size) for value, (files, size) in totals.items()]
    shares.sort(key=lambda share: (-share.bytes, share.value))
    if len(shares) == top + 1:  # "1 other" would take as much room as its name
        top += 1
    rest = shares[top:]
    return DimensionFigures(
        name,
        len(shares),
        min(totals, default=""),
        max(totals, default=""),
        tuple(shares[:top]),
        Amount(sum(share.files for share in rest), sum(share.bytes for share in rest)),
    )


def unmatched(schema: Schema, listing: Listing) -> tuple[Unmatched, ...]:
    """Find the values that the filter names and no file has, such as a misspelt channel.

    Examples
    --------
    >>> from daskmr.data.listing import Selection
    >>> from daskmr.data.layout import load_schema
    >>> allowed = {"field_name": "reason", "allowed_values": ["idle", "savedsession"]}
    >>> schema = load_schema({"dimensions": [allowed]})
    >>> gathering = Selection(schema)
    >>> gathering.pick(0, "idle"), gathering.pick(0, "saved_session")
    ('idle', None)
    >>> gathering.files.append(InputFile("idle/...", 1, ("idle", "b", "c", "d", "e", "f")))
    >>> [(one.value, one.similar) for one in unmatched(schema, gathering.listing("/data"))]
    [('savedsession', ('saved_session',))]
    """
    found: list[Unmatched] = []
    for position, dimension in enumerate(schema.dimensions):
        if not isinstance(dimension.test, OneOf):
            continue
        there = {file.dims[position] for file in listing.files}
        seen = sorted({*listing.seen[position].values, *there})
        for value in dict.fromkeys(dimension.test.given):
            if value in there or sanitise(value) in there:
                continue
            left_out = {
                *(dimension.test.accepted or ()),
                *listing.seen[position].variants,
            }  # a note names these
            others = [each for each in seen if each not in left_out]
            similar = difflib.get_close_matches(sanitise(value), others, _SIMILAR)
            found.append(
                Unmatched(
                    dimension.field_name,
                    position + 1,
                    value,
                    tuple(similar),
                    tuple(seen[:_EXISTING]),
                )
            )
    return tuple(found)


def balance(plan: Sequence[Partition]) -> Balance:
    """Measure how evenly the input is partitioned."""
    sizes = [sum(file.size for file in partition.files) for partition in plan]
    files = [file for partition in plan for file in partition.files]
    largest = max(files, key=lambda file: file.size, default=InputFile("", 0, ()))
    return Balance(
        len(plan),
        min(sizes, default=0),
        median_low(sizes) if sizes else 0,
        max(sizes, default=0),
        largest.path,
        largest.size,
    )


def reducing(files: Sequence[InputFile], wanted: int | None, workers: int | None) -> Reducing:
    """Choose the numbers of buckets and reducers, as a run does."""
    buckets = count_buckets(files, wanted)
    return Reducing(buckets, count_reducers(buckets, wanted, workers))


def count_requests(listings: int, absent: Iterable[InputFile], is_s3: bool) -> Requests:
    """Count the requests that fetching takes without any retry.

    An object that was uploaded in parts takes one more, for the size of its first part.

    >>> count_requests(3, [InputFile("a", 1, (), f"{'0' * 32}-2"), InputFile("b", 1, (), "x")], True)
    Requests(listing=3, get=2, head=1)
    """
    files = list(absent)
    parts = [digest for file in files if (digest := multipart_etag(file.etag)) and digest[1]]
    return Requests(listings, len(files), len(parts) if is_s3 else 0)


def as_json(plan: Plan) -> dict[str, Any]:
    """Convert a plan to a JSON object; its keys are documented and stable (docs/before-a-run.md)."""
    content = asdict(plan)
    sample, estimate = content.pop("sample"), content.pop("estimate")
    if sample is not None:
        kept = ("files", "bytes", "records", "bad", "pairs", "keys", "seconds", "failure")
        sample |= sample["counts"].as_dict()
        sample = {name: sample["bad_reasons" if name == "bad" else name] for name in kept}
    return {"version": 1, **content, "sample": sample, "estimate": estimate}
