"""Choose a part of the input: named files, some files, or some keys, the same for each seed."""

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
_MIX = 0x9E3779B97F4A7C15  # odd, and about the golden ratio of 2**64: neighbours go far apart
_NAMED = 3


@dataclass(frozen=True, slots=True)
class Choice:
    """Which part of the input a run reads.

    Raises `InputError` for values that are invalid or contradict one another.

    >>> files = [InputFile(f"{n:02}", 1, ()) for n in range(20)]
    >>> [file.path for file in Choice(share=0.2, seed=1).files(files)] == ["01", "09", "11", "17"]
    False
    >>> len(Choice(limit_files=3).files(files)), len(Choice(share=0.01).files(files))
    (3, 1)
    """

    only: tuple[str, ...] = ()  # paths of the files to read; all of them when it is empty
    limit_files: int | None = None  # how many files to read at most
    share: float | None = None  # share of the files, or of the keys, to read, between 0 and 1
    seed: int = 0  # another seed chooses others
    by: str = "file"  # ``"file"`` or ``"key"``: what `share` is of

    def __post_init__(self) -> None:
        limit, share = self.limit_files, self.share
        if limit is not None and (type(limit) is not int or limit < 1):
            raise InputError(f"limit-files cannot be {limit!r}: it must be a whole number above 0.")
        if share is not None and not (
            isinstance(share, int | float) and not isinstance(share, bool) and 0 < share <= 1
        ):
            raise InputError(f"sample cannot be {share!r}: it is a share above 0 and up to 1.")
        if type(self.seed) is not int:
            raise InputError(f"seed cannot be {self.seed!r}: it must be a whole number.")
        if self.by not in ("file", "key"):
            raise InputError(f'sample-by cannot be {self.by!r}: it is "file" or "key".')
        if limit is not None and share is not None and self.by == "file":
            raise InputError(
                "limit-files and sample both choose files: give one of them, or sample by key."
            )
        if share is None and self.by == "key":
            raise InputError("sample-by says what a sample is of: give sample too, as 0.01.")

    @property
    def is_sample(self) -> bool:
        """Whether the part is random, rather than named."""
        return self.limit_files is not None or self.share is not None

    @property
    def keys(self) -> KeyFilter | None:
        """Which records of a file are read; ``None`` is all."""
        if self.share is None or self.by != "key":
            return None
        return KeyFilter(int(self.share * _SPACE), _number(f"seed {self.seed}"))

    def files(self, files: Sequence[InputFile]) -> tuple[InputFile, ...]:
        """Choose among `files`, in their order; raise InputError for a named one that is missing."""
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
                f"--only names what is not among the {counted(len(files), 'file')} of the input: "
                f"{some(absent, _NAMED)}. Give paths relative to the data dir or the "
                f"bucket, that the filter allows.{advice}"
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
        """Return it as JSON holds it; ``None`` for all of the input."""
        if not self.only and not self.is_sample:
            return None
        return asdict(self) | {"only": list(self.only)}


EVERYTHING = Choice()


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
        """Check whether records of this key are read; the same in every process."""
        mixed = ((stable_hash(key) ^ (self.mixed_in & 0xFFFFFFFF)) * _MIX + self.mixed_in) % (
            1 << 64
        )
        return (mixed >> 32) < self.threshold


def _number(text: str) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big")
