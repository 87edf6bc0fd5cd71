"""The files of an output directory."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable

from daskmr.data.writers import COMPRESSED, OutputFormat
from daskmr.text import some

__all__ = ["BAD", "META", "SUCCESS", "explain_foreign", "part_name", "staged_name", "suffix_of"]

SUCCESS = "_SUCCESS"
"""The file that is written last, so that readers know that the directory is complete."""

META, BAD = "_meta.json", "_bad.jsonl"
_OWN = re.compile(
    rf"{META}|{BAD}|_pstats|([A-Za-z0-9][\w-]*/)?({SUCCESS}|part-\d{{5}}(\.[a-z0-9]+){{1,2}})"
)


def suffix_of(target: str, output_format: OutputFormat) -> str:
    """Return the suffix of the parts: that of the format, then that of a compression.

    >>> from daskmr.data.writers import format_called
    >>> suffix_of("s3://bucket/counts.csv.gz/", format_called("csv"))
    '.csv.gz'
    """
    last = os.path.splitext(target.rstrip("/"))[1].lower()
    return output_format.suffixes[0] + (last if last in COMPRESSED else "")


def part_name(number: int, suffix: str) -> str:
    """Return the name of a part; names sort like numbers.

    >>> part_name(7, ".csv")
    'part-00007.csv'
    """
    return f"part-{number:05}{suffix}"


def staged_name(name: str) -> str:
    """Return the name of a part until it is in place, where there are no subdirectories.

    >>> staged_name("errors/part-00000.csv")
    'errors-part-00000.csv'
    """
    return name.replace("/", "-")


def explain_foreign(name: str, names: Iterable[str]) -> str:
    """Describe files that daskmr did not write; return ``""`` if there are none.

    - `name`: the output.
    - `names`: the files that it holds, and those in subdirectories that `is_output_name` allows.
    """
    others = (each for each in names if not _OWN.fullmatch(each))
    foreign = sorted({each[: each.find("/") + 1] or each for each in others})
    if not foreign:
        return ""
    return (
        f"The output directory {name!r} would be replaced as a whole, but it holds {some(foreign, 3)}, "
        f"which daskmr did not write as an output. Name a new directory, as {_another(name)}."
    )


def _another(name: str) -> str:
    """Return the name of a directory beside another one, which may be that of the input."""
    base = name.rstrip("/")
    has_none = base.count("/") < 3 if "://" in base else os.path.basename(base) in ("", ".", "..")
    return f"{name}result/" if has_none else f"{base}-result/"
