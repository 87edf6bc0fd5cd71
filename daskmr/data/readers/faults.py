"""Errors about unreadable input files, with a command that repairs the file.

A damaged file raises `CorruptFileError`, which ``--skip-corrupt-files`` handles. An intact file that
cannot be read as lines raises `TaskFailed`, because skipping it would silently lose good data.
"""

from __future__ import annotations

import math
import os
import shlex

import zstandard

from daskmr import memory
from daskmr.data.readers.sniffing import PARQUET, Form, recode_command, unpack_command
from daskmr.errors import TaskFailed

__all__ = [
    "ZSTD_MAX_WINDOW", "CorruptFileError", "StreamFault", "check_window",
    "explain_decoder_error", "refuse_form",
]  # fmt: skip

ZSTD_MAX_WINDOW = 1 << 31  # bytes of the largest window that zstd writes
# A decoder's window takes memory as it fills. A window of this size fits into any worker: `xz -9`
# uses half of it, and by default `zstd -d` accepts no more.
_USUAL_WINDOW = 1 << 27
_SPARE_BYTES = 1 << 25  # a window is too large if it leaves a worker less memory than this


class CorruptFileError(Exception):
    """A file that is damaged after `data_bytes` of uncompressed data.

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
    """The reason for a `CorruptFileError`, raised by code that does not know path and position."""


def refuse_form(form: Form, path: str, codec: str, data_bytes: int = 0) -> TaskFailed:
    """Return the error for data in a `form` that is not lines of UTF-8 text.

    `codec` is "" for uncompressed data; `data_bytes` is the size of the lines in earlier streams.
    """
    if data_bytes:  # each stream would need a different command
        return TaskFailed(
            f"The input file {path} holds several streams of {codec} data. After {data_bytes:,} bytes "
            f"of lines there is {form.name}. Nothing was written. Replace it with the files that it "
            "was concatenated from, each as UTF-8 text, compressed at most once."
        )
    command = unpack_command(form, path, codec)
    decompressed = f", decompressed from {codec}," if codec else ""
    if form.name == PARQUET:
        advice = "Read such files with --records parquet, or exclude them with the filter"
    elif form.extract:
        advice = "Extract it, and move the files to where the layout expects them"
    elif form.recode:
        advice = "Replace it with " + (
            "the output of this command" if command else "UTF-8 text, compressed at most once"
        )
    else:
        advice = "Convert its content to such lines, or remove it from the input"
    failure = TaskFailed(
        f"The input file {path}{decompressed} is {form.name}, not lines of text. "
        f"Nothing was written. {advice}{_command_line(command)}"
    )
    failure.is_foreign = not command
    return failure


def explain_decoder_error(codec: str, error: Exception, path: str, head: bytes) -> Exception:
    """Return the exception to raise for a decoder's `error`: the data is damaged or not supported.

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
            "decompressed. Replace it with the output of this command, given the dictionary",
            f"zstd -dc -D DICTIONARY < {shlex.quote(path)} | zstd > "
            f"{shlex.quote(os.path.basename(path) + '.new')}",
        )
    if "too much memory" in reason:
        reason = f"its window is larger than the maximum of {ZSTD_MAX_WINDOW >> 30} GiB"
    if "nsupported options" not in reason and "not supported by decoder" not in reason:
        return StreamFault(f"the {codec} data is not valid ({reason})")
    if codec == "lzma":  # no version of xz supports more of this old format
        return _refuse(
            path,
            "has lzma data with settings that liblzma does not support, such as lc + lp above 4. "
            "Decompress it with the program that created it, or with 7-Zip, and replace it",
            "",
        )
    return _refuse(
        path,
        f"has {codec} data with filters or settings that the liblzma of this machine does not "
        "support. Replace it with the output of this command, run with a newer xz",
        recode_command(path, codec),
    )


def check_window(codec: str, window: int, data_bytes: int, path: str) -> None:
    """Raise `TaskFailed` if a window fills the worker's memory, before the worker is killed."""
    if window <= _USUAL_WINDOW or not _USUAL_WINDOW <= data_bytes <= window:
        return
    room = memory.room()
    if room is None or room > _SPARE_BYTES:
        return
    needed = math.ceil((window + memory.resident() - data_bytes + _USUAL_WINDOW) / 9e7) * 10**8
    raise _refuse(
        path,
        f"is not damaged, but needs more memory than a worker may use: its {codec} data has a window of "
        f"{memory.describe_size(window)}, and the limit is "
        f"{memory.describe_size(memory.limit() or 0)}. Raise --memory-limit to "
        f"{memory.describe_size(needed)} or more, with fewer --num-mappers if the machine has no "
        "more; or replace it with the output of this command, which has a window of the usual size",
        recode_command(path, codec),
    )


def _refuse(path: str, problem: str, command: str) -> TaskFailed:
    line = _command_line("" if "://" in path else command)
    return TaskFailed(f"The input file {path} {problem}{line}")


def _command_line(command: str) -> str:
    return f":\n{command}" if command else "."
