"""What a run would do, in figures: its input by dimension, its partitions, what is fetched. Pure."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median_low
from typing import Any

from daskmr.data.layout import OneOf, Schema, sanitise
from daskmr.data.listing import InputFile, Listing
from daskmr.data.partition import Partition, count_buckets, count_reducers
from daskmr.run.estimate import Estimate, Sample
from daskmr.store.checksums import multipart_etag

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
_UNEVEN = 4  # times the median, from which on the largest partition is worth a word


@dataclass(frozen=True, slots=True)
class Amount:
    """So many files, and their size as stored."""

    files: int = 0
    bytes: int = 0


@dataclass(frozen=True, slots=True)
class Share:
    """What there is of one value of a dimension."""

    value: str
    files: int
    bytes: int


@dataclass(frozen=True, slots=True)
class DimensionFigures:
    """The input by the values of one dimension.

    Attributes
    ----------
    name : str
    distinct : int
        How many values there are.
    first, last : str
        The lowest and the highest of them, as text.
    values : tuple of Share
        The largest, by bytes.
    others : Amount
        The rest together.
    """

    name: str
    distinct: int
    first: str
    last: str
    values: tuple[Share, ...]
    others: Amount


@dataclass(frozen=True, slots=True)
class Unmatched:
    """A value that the filter allows, and that no file has.

    Attributes
    ----------
    dimension : str
    position : int
        From 1.
    value : str
        As the filter gives it.
    similar, existing : tuple of str
        Values that exist there: those that look like it, and the first few of all.
    """

    dimension: str
    position: int
    value: str
    similar: tuple[str, ...]
    existing: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Balance:
    """How evenly the work is cut.

    Attributes
    ----------
    count : int
        Partitions.
    bytes_min, bytes_median, bytes_max : int
        Bytes of input, as stored, in a partition.
    largest_file : str
    largest_file_bytes : int
    """

    count: int
    bytes_min: int
    bytes_median: int
    bytes_max: int
    largest_file: str
    largest_file_bytes: int

    @property
    def is_uneven(self) -> bool:
        """Tell whether one partition is far larger than most."""
        return self.bytes_max > _UNEVEN * max(1, self.bytes_median)


@dataclass(frozen=True, slots=True)
class Reducing:
    """Buckets that keys fall into, and tasks that reduce them."""

    buckets: int
    reducers: int


@dataclass(frozen=True, slots=True)
class Requests:
    """Requests to a store: those that listed, and those that are to come at least."""

    listing: int
    get: int
    head: int


@dataclass(frozen=True, slots=True)
class Disk:
    """A disk that the run writes to.

    Attributes
    ----------
    path : str
        The work dir, or the folder of the output.
    free : int
        Bytes.
    fetched, spilled : int
        Bytes that would be written there: copies of objects, and segments, as estimated.
    """

    path: str
    free: int
    fetched: int = 0
    spilled: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """All of it.

    Attributes
    ----------
    script, output : str
    data_dir, bucket, input_filter : str or None
    files : Amount
        What the filter allows.
    text_bytes : int
        Bytes that it holds uncompressed, as estimated by its files' extensions.
    local, cached, to_fetch : Amount
        What of it lies in the data dir, has a local copy, and has none.
    skipped : int
        What is not in the layout.
    dimensions : tuple of DimensionFigures
    unmatched : tuple of Unmatched
    partitions : Balance
    reducing : Reducing or None
        ``None`` for a map-only job.
    workers : int or None
        ``None`` on a cluster.
    requests : Requests or None
        ``None`` without a store, or without asking it.
    disks : tuple of Disk
    sample : Sample or None
    estimate : Estimate or None
    no_estimate : str
        Why there is none.
    warnings, notes : tuple of str
    """

    script: str
    output: str
    data_dir: str | None
    bucket: str | None
    input_filter: str | None
    files: Amount
    text_bytes: int
    local: Amount
    cached: Amount
    to_fetch: Amount
    skipped: int
    dimensions: tuple[DimensionFigures, ...]
    unmatched: tuple[Unmatched, ...]
    partitions: Balance
    reducing: Reducing | None
    workers: int | None
    requests: Requests | None = None
    disks: tuple[Disk, ...] = ()
    sample: Sample | None = None
    estimate: Estimate | None = None
    no_estimate: str = ""
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
    """Sum the input up by each dimension's values."""
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
    """Find the values that the filter names and that no file has, as a misspelt channel.

    Examples
    --------
    >>> from daskmr.data.listing import Gathering
    >>> from daskmr.data.layout import load_schema
    >>> allowed = {"field_name": "reason", "allowed_values": ["idle", "savedsession"]}
    >>> schema = load_schema({"dimensions": [allowed]})
    >>> gathering = Gathering(schema)
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
                *dimension.test.accepted,
                *listing.seen[position].twins,
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
    """Say how evenly the partitions of a plan are cut."""
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
    """Choose buckets and reducers as a run does."""
    buckets = count_buckets(files, wanted)
    return Reducing(buckets, count_reducers(buckets, wanted, workers))


def count_requests(listings: int, absent: Iterable[InputFile], is_s3: bool) -> Requests:
    """Count the requests that fetching takes, where none has to be tried again.

    Of an object that was uploaded in parts, the size of the first part is asked for too.

    >>> count_requests(3, [InputFile("a", 1, (), f"{'0' * 32}-2"), InputFile("b", 1, (), "x")], True)
    Requests(listing=3, get=2, head=1)
    """
    files = list(absent)
    parts = [digest for file in files if (digest := multipart_etag(file.etag)) and digest[1]]
    return Requests(listings, len(files), len(parts) if is_s3 else 0)


def as_json(plan: Plan) -> dict[str, Any]:
    """Give a plan as an object of JSON; docs/before-a-run.md has its keys, which stay as they are."""
    content = asdict(plan)
    sample, estimate = content.pop("sample"), content.pop("estimate")
    if sample is not None:
        kept = ("files", "bytes", "records", "bad", "pairs", "keys", "seconds", "failure")
        sample |= sample["counts"].as_dict()
        sample = {name: sample["bad_reasons" if name == "bad" else name] for name in kept}
    return {"version": 1, **content, "sample": sample, "estimate": estimate}
