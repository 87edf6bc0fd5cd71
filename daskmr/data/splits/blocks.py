r"""Find where a compressed file can be read from: at BGZF blocks, zstd frames and bzip2 streams.

None of them depends on the data before it. They are found by their first bytes from any offset on, and
checked by the following blocks, because compressed data may hold the same bytes by chance. If this
ever fails, the task that reads up to there finds that no stream begins there, and the job fails.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator

import zstandard

from daskmr.data.readers.sniffing import BGZF, ZSTD

__all__ = ["find_block", "has_blocks"]

_WINDOW_BYTES = 1 << 18  # bytes searched at a time
_OVERLAP = 18  # bytes of the longest pattern, less than one of which may be at the end of a window

_BGZF = re.compile(BGZF, re.DOTALL)
_BGZF_HEADER_BYTES = 18
_CHAINED = 8  # consecutive blocks that are checked
_ZSTD = re.compile(rb"\x28\xb5\x2f\xfd")
_ZSTD_HEADER_BYTES = 18  # of the longest header of a frame
_ZSTD_BLOCK_BYTES = 1 << 17
_BZIP2 = re.compile(rb"BZh[1-9]1AY&SY")  # a stream that is not empty, with its first block


def has_blocks(codec: str, head: bytes) -> bool:
    """Check whether a file that starts with `head` may consist of several blocks."""
    return codec in _FINDERS and (codec != "gzip" or _BGZF.match(head) is not None)


def find_block(file: int, codec: str, start: int, stop: int, size: int) -> int | None:
    """Return the offset of the first block from `start` on, and before `stop`, if there is one.

    - `file`: a file descriptor.
    - `size`: bytes of the file.
    """
    pattern, is_block = _FINDERS[codec]
    while start < stop:
        window = os.pread(file, _WINDOW_BYTES + _OVERLAP, start)
        for match in pattern.finditer(window):
            found = start + match.start()
            if match.start() >= _WINDOW_BYTES or found >= stop:
                break
            if is_block(file, found, size):
                return found
        start += _WINDOW_BYTES
    return None


def _is_bgzf(file: int, at: int, size: int) -> bool:
    for _ in range(_CHAINED):
        header = _BGZF.match(os.pread(file, _BGZF_HEADER_BYTES, at))
        if header is None:
            return False
        at += int.from_bytes(header[1], "little") + 1
        if at >= size:
            return at == size
    return True


def _is_zstd(file: int, at: int, size: int) -> bool:
    """Follow the blocks of a frame to its end, where the next one begins, or the file ends."""
    head = os.pread(file, _ZSTD_HEADER_BYTES, at)
    try:
        has_checksum = zstandard.get_frame_parameters(head).has_checksum
        at += zstandard.frame_header_size(head)
    except zstandard.ZstdError:
        return False
    for last, length in _zstd_blocks(file, at):
        at += length
        if last:
            at += 4 * has_checksum
            return at == size or re.match(ZSTD, os.pread(file, 4, at)) is not None
    return False


def _zstd_blocks(file: int, at: int) -> Iterator[tuple[bool, int]]:
    """Yield whether each block is the last of its frame, and its length with its header."""
    while len(header := os.pread(file, 3, at)) == 3:
        fields = int.from_bytes(header, "little")
        kind, length = fields >> 1 & 3, fields >> 3
        if kind == 3 or length > _ZSTD_BLOCK_BYTES:  # reserved, or too long
            return
        length = 3 + (1 if kind == 1 else length)  # one byte that is repeated, or data
        yield bool(fields & 1), length
        at += length


_FINDERS: dict[str, tuple[re.Pattern[bytes], Callable[[int, int, int], bool]]] = {
    "gzip": (_BGZF, _is_bgzf),
    "zstd": (_ZSTD, _is_zstd),
    "bzip2": (_BZIP2, lambda file, at, size: True),
}
