"""Numbers and text for people."""

from __future__ import annotations

import os
import subprocess

import pytest
from hypothesis import given
from hypothesis import strategies as st

from daskmr.text import (
    byte_unit,
    count_unit,
    describe_command,
    format_bytes,
    format_clock,
    format_seconds,
    printable,
    shell_word,
    shorten,
    time_unit,
)

SECRET = "hunter2-hunter2"


@given(st.text())
def test_what_is_printable_can_be_encoded_and_seen(text: str) -> None:
    shown = printable(text)
    shown.encode("utf-8")
    assert shown.isprintable()


def test_a_shell_reads_any_file_name_from_what_can_be_seen() -> None:
    names = [bytes([code]) + b"a'\\" for code in range(1, 256)]
    names += ["\u202e7", "\U0001f600\n", "\x7ff", "é"]
    words = [shell_word(os.fsdecode(name)) for name in names]
    assert all(word.isprintable() for word in words)
    command = ["bash", "-c", f"printf '%s\\0' {' '.join(words)}"]
    environment = {**os.environ, "LC_ALL": "C.UTF-8"}
    said = subprocess.run(command, capture_output=True, check=True, env=environment).stdout
    assert said.split(b"\0")[:-1] == [os.fsencode(name) for name in names]


@given(st.text(), st.integers(min_value=1, max_value=80))
def test_what_is_shortened_fits_and_keeps_both_ends(text: str, length: int) -> None:
    short = shorten(text, length)
    assert len(short) <= length
    assert short == text if len(text) <= length else "…" in short
    if length > 4 and len(text) > length:
        assert short[0] == text[0]
        assert short[-1] == text[-1]


@pytest.mark.parametrize("unit", [byte_unit, count_unit])
@given(most=st.floats(min_value=0, max_value=1e15))
def test_an_axis_has_labels_of_few_digits(unit: object, most: float) -> None:
    scale, _ = unit(most)  # type: ignore[operator]
    assert most / scale < 2000 or scale >= 1e9


def test_an_axis_is_in_the_unit_that_fits() -> None:
    assert [time_unit(seconds)[1] for seconds in (10, 200, 900, 20_000)] == [
        "seconds",
        "seconds",
        "minutes",
        "hours",
    ]


def test_a_time_never_shows_sixty() -> None:
    assert [format_seconds(s) for s in (59.94, 59.97, 119.6, 3599.7)] == [
        "59.9 s",
        "1 min 0 s",
        "2 min 0 s",
        "1 h 0 min",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00"), (59.4, "0:59"), (59.6, "1:00"), (3599.9, "1:00:00"), (90061, "25:01:01")],
)
def test_times_as_on_a_clock(seconds: float, text: str) -> None:
    assert format_clock(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (1, "1 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (1_234_567, "1.2 MB"),
        (10**9, "1.0 GB"),
        (10**12, "1.0 TB"),
        (10**16, "10000.0 TB"),
    ],
)
def test_bytes_for_people(count: int, text: str) -> None:
    assert format_bytes(count) == text


@given(st.integers(0, 10**14))
def test_bytes_for_people_are_right_to_the_digits_shown(count: int) -> None:
    number, unit = format_bytes(count).split()
    scale = 1000 ** ["B", "kB", "MB", "GB", "TB"].index(unit)
    assert abs(float(number) * scale - count) <= 0.05 * scale + 1e-9 * count


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["-k", SECRET, "-s", SECRET], "-k *** -s ***"),
        ([f"--aws-key={SECRET}", "--aws-secret-key", SECRET], "--aws-key=*** --aws-secret-key ***"),
        (["--aws-s", SECRET, f"-s{SECRET}"], "--aws-s *** -s***"),
        (["-b", f"https://me:{SECRET}@host/b"], "-b 'https://***@host/b'"),
        (["-b", f"https://host/b?X-Amz-Signature={SECRET}"], "-b 'https://host/b?***'"),
        (["-o", "a file", "--aws-profile", "mine"], "-o 'a file' --aws-profile mine"),
    ],
)
def test_a_command_is_shown_without_its_secrets(arguments: list[str], shown: str) -> None:
    assert describe_command(["daskmr", "run", *arguments]) == f"daskmr run {shown}"
