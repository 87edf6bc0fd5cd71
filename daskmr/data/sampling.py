"""Select a part of the input: named files, or a reproducible sample of files or keys."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from daskmr.data.listing import InputFile
from daskmr.errors import InputError
from daskmr.job.keys import stable_hash
from daskmr.normal_forms import describe_variant, variant_of
from daskmr.text import counted, some

__all__ = ["EVERYTHING", "Choice", "KeyFilter"]

_SPACE = 1 << 32
_MIX = 0x9E3779B97F4A7C15  # odd, about 2**64 / the golden ratio: spreads adjacent hashes apart
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """The part of the input that a run reads.

    Raises `InputError` for values that are invalid or contradict each other.

    >>> files = [InputFile(f"{n:02}", 1, ()) for n in range(20)]
    >>> [file.path for file in Choice(share=0.2, seed=1).files(files)] == ["01", "09", "11", "17"]
    False
    >>> len(Choice(limit_files=3).files(files)), len(Choice(share=0.01).files(files))
    (3, 1)
    """

    only: tuple[str, ...] = ()  # paths of the files to read; empty: all files
    limit_files: int | None = None  # maximum number of files to read
    share: float | None = None  # fraction of the files or keys to read, between 0 and 1
    seed: int = 0  # a different seed selects a different sample
    by: str = "file"  # the unit of `share`: ``"file"`` or ``"key"``

    def __post_init__(self) -> None:
        limit, share = self.limit_files, self.share
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InputError(f"limit-files cannot be {limit!r}: it must be a whole number above 0.")
        if share is not None and not (
            isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= 1
        ):
            raise InputError(f"sample cannot be {share!r}: it is a fraction above 0, up to 1.")
        if type(self.seed) is not int:
            raise InputError(f"seed cannot be {self.seed!r}: it must be a whole number.")
        if self.by not in ("file", "key"):
            raise InputError(f'sample-by cannot be {self.by!r}: it is "file" or "key".')
        if limit is not None and share is not None and self.by == "file":
            raise InputError(
                "limit-files and sample both select files: give one of them, or sample by key."
            )
        if share is None and self.by == "key":
            raise InputError("sample-by has no effect without sample: give both, as sample 0.01.")

    @property
    def is_sample(self) -> bool:
        """Whether the part is a random sample, rather than named files or everything."""
        return self.limit_files is not None or self.share is not None

    @property
    def keys(self) -> KeyFilter | None:
        """The filter on the records of each file; ``None``: read all records."""
        if self.share is None or self.by != "key":
            return None
        return KeyFilter(int(self.share * _SPACE), _number(f"seed {self.seed}"))

    def files(self, files: Sequence[InputFile]) -> tuple[InputFile, ...]:
        """Select from `files`, keeping their order; raise InputError if a named file is missing."""
        chosen = tuple(files)
        if self.only:
            chosen = self._named(chosen)
        count = len(chosen)
        if self.limit_files is not None:
            count = min(count, self.limit_files)
        elif self.share is not None and self.by == "file":
            count = max(min(1, count), math.ceil(round(self.share * count, 6)))
        if count == len(chosen):
            return chosen
        ranked = sorted(chosen, key=lambda file: _number(f"{self.seed} {file.path}"))
        kept = {file.path for file in ranked[:count]}
        return tuple(file for file in chosen if file.path in kept)

    def _named(self, files: tuple[InputFile, ...]) -> tuple[InputFile, ...]:
        named = {path.removeprefix("./") for path in self.only}
        absent = sorted(named - {file.path for file in files})
        if absent:
            found = variant_of(absent[0], (file.path for file in files))
            advice = "" if found is None else f" {describe_variant(found, absent[0])}."
            raise InputError(
                f"--only names files that are not among the {counted(len(files), 'file')} of the "
                f"input: {some(absent, _NAMED)}. Give paths relative to the data dir or the "
                f"bucket, and allowed by the filter.{advice}"
            )
        return tuple(file for file in files if file.path in named)

    def describe(self, chosen: int) -> str:
        if not self.is_sample:
            return ""
        parts = [counted(chosen, "file")] if self.limit_files is not None else []
        if self.share is not None:
            files = f" ({chosen:,})" if self.by == "file" else ""
            parts.append(f"{100 * self.share:.3g}% of the {self.by}s{files}")
        return f"{' and '.join(parts)}, chosen with seed {self.seed}"

    def as_dict(self) -> dict[str, Any] | None:
        """Return a dict that can be encoded as JSON; ``None`` if the entire input is read."""
        if not self.only and not self.is_sample:
            return None
        return asdict(self) | {"only": list(self.only)}


EVERYTHING = Choice()  # reads the entire input


@dataclass(frozen=True, slots=True)
class KeyFilter:
    """Selects the keys whose hash, mixed with a seed, is below a threshold.

    >>> keys = KeyFilter(1 << 30, 7)
    >>> 200 < sum(keys.takes(str(n)) for n in range(1000)) < 300
    True
    """

    threshold: int
    mixed_in: int

    def takes(self, key: str) -> bool:
        """Check whether to read records of this key; the answer is the same in every process."""
        mixed = ((stable_hash(key) ^ (self.mixed_in & 0xFFFFFFFF)) * _MIX + self.mixed_in) % (
            1 << 64
        )
        return (mixed >> 32) < self.threshold


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
