"""Explain a listing: why it is empty, which layout fits, and which values nearly match the filter."""

from __future__ import annotations

import json
import re

from daskmr.data.filters import Seen
from daskmr.data.listing import Listing
from daskmr.text import inspect_line, shell_path, shell_word

__all__ = ["explain_nothing", "explain_variants"]

_LOOK = " To see what is there, and the line that reads it:"


def explain_nothing(listing: Listing) -> str:
    """Explain an empty listing: name the dimension that excluded the last candidates."""
    if listing.nothing:
        return listing.nothing
    # A dimension only sees values below what all earlier ones allow, so without the deepest
    # dimension that excluded something, there might have been a file.
    for position in reversed(range(len(listing.seen))):
        seen = listing.seen[position]
        if seen.allowed < seen.candidates:
            return _explain_excluded(listing, position, seen)
    some = [
        f"{path!r}, because {reason}"
        for path, reason in zip(listing.skipped[:3], listing.reasons, strict=False)
    ]
    skipped = "; ".join(some) + "; ..." * (listing.skipped_count > 3)
    if skipped:
        skipped = f" Not in the layout: {listing.skipped_count} ({skipped})."
    known = f" with a known extension ({', '.join(sorted(listing.schema.extensions))})"
    what = _what(listing)
    return (
        f"The {what} {listing.root} holds no file in the layout {listing.layout.template}"
        f"{known if listing.layout.levels[-1].is_open else ''}.{skipped} "
        f"Check the {what} and the layout.{_advise(listing)}"
    )


def explain_variants(listing: Listing) -> tuple[str, ...]:
    """Describe values that the filter probably means: in another normal form, or by a glob."""
    notes: list[str] = []
    for position, seen in enumerate(listing.seen, 1):
        dimension = f"dimension {position} ({seen.dimension.field_name})"
        if seen.variants:
            notes.append(f"{dimension} excludes {_describe_variants(seen)}")
        if seen.globs:
            notes.append(f"{dimension}: {_describe_glob(listing, position - 1, seen.globs[0])}")
    return tuple(notes)


def _advise(listing: Listing) -> str:
    """Name a layout, or a format, that fits what is there."""
    from daskmr.data.inspection.names import guess_layout
    from daskmr.data.readers.registry import formats_by_extension

    formats, spec, paths = formats_by_extension(), listing.layout.spec, _paths(listing)
    ends = {path.rpartition(".")[2] for path in listing.skipped} & formats.keys()
    unknown = ends - listing.schema.extensions
    if unknown and all("extension" in reason for reason in listing.reasons):
        options = [f"for .{end}, --records {formats[end]}" for end in sorted(unknown)]
        return f" Name their format: {', '.join(options)}.{_LOOK}{inspect_line(listing.root)}"
    if spec == "hive" and (inside := _inside_partition(listing)):
        return inside
    guess = guess_layout(paths, listing.schema.extensions | formats.keys()) if paths else None
    hive = any("=" in name[1:] for path in listing.skipped for name in path.split("/")[:-1])
    if (guess.spec == "hive" if guess is not None else hive) and spec != "hive":
        advice = " For directories name=value, use --layout hive."
    elif guess is not None and guess.spec is not None and guess.spec != spec:
        advice = f" --layout {shell_word(guess.spec)} fits the files that are there."
    elif guess is None and not paths:
        advice = (
            " To name the parts of the paths, use a template such as --layout '{day}/{host}.log'; to "
            "read files at any depth, --layout flat."
        )
    else:
        advice = ""
    return f"{advice}{_LOOK}{inspect_line(listing.root)}"


def _inside_partition(listing: Listing) -> str:
    """Name the folder of the partitions, if one of them was given; else return ""."""
    path = f"{listing.root}/{listing.skipped[0] if listing.skipped else ''}"
    parts = path.split("/")
    start = next((n for n, part in enumerate(parts[:-1]) if part.find("=") > 0), 0)
    if not start or "://" in path:
        return ""
    above = shell_path("/".join(parts[:start]) or "/")
    return (
        f" {parts[start]} is a partition. Give the folder that holds it: "
        f"-d {above} --layout hive --where {shell_word(parts[start])}"
    )


def _paths(listing: Listing) -> list[str]:
    """Return a sample of the paths that are there; of a store, those that are known already."""
    from daskmr.data.inspection.survey import surveyed
    from daskmr.data.sources.given import Sources

    files = [path for path in listing.skipped if not path.endswith("/")]
    if "://" not in listing.root and len(files) < listing.skipped_count:
        with surveyed(Sources((listing.root,))) as survey:
            return [file.path for file in survey.files]
    return files


def _what(listing: Listing) -> str:
    return "bucket" if "://" in listing.root else "data directory"  # no "//" in a local root


def _explain_excluded(listing: Listing, position: int, seen: Seen) -> str:
    label, name = seen.dimension.field_name, listing.layout.field_names[position]
    label = label if label == name else f"{label}, in the layout {name}"
    barren = ", where no file in the layout was found" if seen.allowed else ""
    return (
        f"No file below {listing.root} matches the filter: dimension {position + 1} ({label}) "
        f"allows {seen.dimension.describe()}{barren}; {_describe_values(seen)}. "
        f"Correct {'--where' if listing.schema.given.where else 'the filter'}, or the "
        f"{_what(listing)}."
        + (f" It excludes {_describe_variants(seen)}." if seen.variants else "")
        + "".join(f" {_describe_glob(listing, position, glob)}" for glob in seen.globs[:1])
    )


def _describe_glob(listing: Listing, position: int, glob: str) -> str:
    regex = re.escape(glob).replace(r"\*", ".*").replace(r"\?", ".").replace(r"\-", "-")
    name = listing.layout.field_names[position]
    advice = json.dumps({"regex": regex})
    if listing.schema.given.where:
        advice = f"--where {shell_word(f'{name}=/{regex}/')}"
    return f"No value is {glob!r}: it is compared as text, not as a glob. For a pattern: {advice}"


def _describe_variants(seen: Seen) -> str:
    found = seen.variants[0]
    allowed = str(seen.dimension.variant_of(found))
    more = f" and {len(seen.variants) - 1:,} more" if len(seen.variants) > 1 else ""
    return (
        f"{found!r}{more}, which differs from {allowed!r} only in its Unicode normal form "
        f"({found!a} exists, the filter allows {allowed!a}); to read both, allow "
        f"{json.dumps([found, allowed])}"
    )


def _describe_values(seen: Seen) -> str:
    shown = [repr(value) for value in seen.values]
    if len(seen.values) < seen.distinct:
        shown.insert((len(shown) + 1) // 2, "...")
    count = f" ({seen.distinct} values)" if len(seen.values) < seen.distinct else ""
    return f"existing there: {', '.join(shown)}{count}"
