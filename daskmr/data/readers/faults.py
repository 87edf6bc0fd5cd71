"""Errors about input files that cannot be read, with the command that repairs the file.

A damaged file raises `CorruptFileError`, which ``--skip-corrupt-files`` handles. An intact file that
cannot be read as lines raises `TaskFailed`: skipping it would lose good data silently.
"""

from __future__ import annotations

import math
import os
import shlex

import zstandard

from daskmr import memory
from daskmr.data.readers.sniffing import Form, recode_command, unpack_command
from daskmr.errors import TaskFailed

__all__ = [
    "ZSTD_MAX_WINDOW", "CorruptFileError", "StreamFault", "check_window",
    "explain_decoder_error", "refuse_form",
]  # fmt: skip

ZSTD_MAX_WINDOW = 1 << 31  # the largest that zstd makes
# A decoder's window takes memory as it fills. This much fits into any worker: `xz -9` asks for half
# of it, and `zstd -d` by itself accepts no more.
_USUAL_WINDOW = 1 << 27
_SPARE_BYTES = 1 << 25  # left of a worker's memory when a window is found too large for it


class CorruptFileError(Exception):
    """A file whose data could not be read to its end, after `data_bytes` of uncompressed data.

    >>> print(CorruptFileError("a.gz", 1200, "the file ends too early"))
    The input file a.gz is damaged: after 1,200 bytes of data, the file ends too early.
    """

    def __init__(self, path: str, data_bytes: int, reason: str) -> None:
        super().__init__(path, data_bytes, reason)
        self.path = path
        self.data_bytes = data_bytes
        self.reason = reason

    def __str__(self) -> str:
        return (
            f"The input file {self.path} is damaged: "
            f"after {self.data_bytes:,} bytes of data, {self.reason}."
        )


class StreamFault(Exception):
    """The reason of a `CorruptFileError`, raised where path and position are not known."""


def refuse_form(form: Form, path: str, codec: str, data_bytes: int = 0) -> TaskFailed:
    """Return the error for data in a `form` that is not lines of UTF-8 text.

    `codec` is "" for data that is not compressed; `data_bytes` counts the lines of earlier streams.
    """
    if data_bytes:  # another command would be needed for each of the streams
        return TaskFailed(
            f"The input file {path} holds several streams of {codec} data. After {data_bytes:,} bytes "
            f"of lines there is {form.name}. Nothing was written. Replace it with the files that it "
            "was put together from, each as text in UTF-8, compressed once at most."
        )
    command = unpack_command(form, path, codec)
    decompressed = f", decompressed from {codec}," if codec else ""
    if form.extract:
        advice = "Unpack it, and put the files that it holds where the layout expects them"
    elif form.recode:
        advice = "Replace it with " + (
            "the file that this makes" if command else "text in UTF-8, compressed once at most"
        )
    else:
        advice = "Write its content as such lines, or take it out of the input"
    return TaskFailed(
        f"The input file {path}{decompressed} is {form.name}, not lines of key, tab, value. "
        f"Nothing was written. {advice}{_command_line(command)}"
    )


def explain_decoder_error(codec: str, error: Exception, path: str, head: bytes) -> Exception:
    """Return what to raise for a decoder's `error`: the data is damaged, or beyond its means.

    `head` holds the first bytes of the stream.
    """
    reason = str(error)
    if "not enough memory" in reason:
        return MemoryError(reason)
    if "Dictionary mismatch" in reason:
        number = zstandard.get_frame_parameters(head).dict_id
        return _refuse(
            path,
            f"was compressed with the zstd dictionary {number}, without which it cannot be "
            "decompressed. Replace it with the file that this makes, given the dictionary",
            f"zstd -dc -D DICTIONARY < {shlex.quote(path)} | zstd > "
            f"{shlex.quote(os.path.basename(path) + '.new')}",
        )
    if "too much memory" in reason:
        reason = f"its window is larger than {ZSTD_MAX_WINDOW >> 30} GiB, the largest there is"
    if "nsupported options" not in reason and "not supported by decoder" not in reason:
        return StreamFault(f"the {codec} data is not valid ({reason})")
    if codec == "lzma":  # no version of xz supports more of this old format
        return _refuse(
            path,
            "has lzma data with settings that liblzma does not know, as lc + lp above 4. Unpack it with "
            "the program that made it, or 7-Zip, and put what it holds in its place",
            "",
        )
    return _refuse(
        path,
        f"has {codec} data whose header asks for filters or settings that the liblzma of this "
        "machine does not know. Replace it with the file that this makes with a newer xz",
        recode_command(path, codec),
    )


def check_window(codec: str, window: int, data_bytes: int, path: str) -> None:
    """Raise `TaskFailed` for a window that is filling a worker's memory, before that kills it."""
    if window <= _USUAL_WINDOW or not _USUAL_WINDOW <= data_bytes <= window:
        return
    room = memory.room()
    if room is None or room > _SPARE_BYTES:
        return
    needed = math.ceil((window + memory.resident() - data_bytes + _USUAL_WINDOW) / 9e7) * 10**8
    raise _refuse(
        path,
        f"is not damaged, but needs more memory than a worker may take: its {codec} data has a window of "
        f"{memory.describe_size(window)}, and the limit is "
        f"{memory.describe_size(memory.limit() or 0)}. Raise --memory-limit to "
        f"{memory.describe_size(needed)} or more, with fewer --num-mappers if the machine has no "
        "more; or replace it with the file that this makes, whose window has the usual size",
        recode_command(path, codec),
    )


def _refuse(path: str, problem: str, command: str) -> TaskFailed:
    line = _command_line("" if "://" in path else command)
    return TaskFailed(f"The input file {path} {problem}{line}")


def _command_line(command: str) -> str:
    return f":\n{command}" if command else "."
