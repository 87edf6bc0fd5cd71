"""Access logs: the combined format, by day and host, with what real logs have in them."""

from __future__ import annotations

import datetime
import gzip
import re
from collections import Counter
from pathlib import Path

import pytest

from daskmr.cli.sample.files import write_sample

LINE = re.compile(
    rb'(?P<client>[\da-f.:]+) - (?P<user>\w+|-) \[(?P<time>[^\]]+)\] "(?P<request>[A-Z]+ \S+ HTTP/[12]\.[01])" '
    rb'(?P<status>\d{3}) (?P<bytes>\d+) "(?P<referrer>[^"]+)" "(?P<agent>[^"]+)"'
)


def lines(root: Path) -> dict[str, list[bytes]]:
    return {
        path.relative_to(root).as_posix(): gzip.decompress(path.read_bytes()).split(b"\n")[:-1]
        for path in sorted(root.rglob("*.gz"))
    }


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[re.Match[bytes]]]:
    root = tmp_path_factory.mktemp("logs")
    write_sample(root, size=4_000_000, kind="logs")
    found = {name: list(map(LINE.fullmatch, each)) for name, each in lines(root).items()}
    assert all(match for each in found.values() for match in each)
    return found  # type: ignore[return-value]


def test_files_are_by_day_and_host(logs: dict[str, list[re.Match[bytes]]]) -> None:
    assert all(re.fullmatch(r"2026-10-\d\d/\w+/access\.log\.gz", name) for name in logs)
    assert len({name.split("/")[0] for name in logs}) == 14
    sizes = Counter[str]()
    for name, matches in logs.items():
        sizes[name.split("/")[1]] += len(matches)
    assert len(sizes) == 6
    assert sizes["web1"] > 10 * sizes["admin1"]


def test_times_are_of_the_day_and_in_order(logs: dict[str, list[re.Match[bytes]]]) -> None:
    for name, matches in logs.items():
        times = [
            datetime.datetime.strptime(match["time"].decode(), "%d/%b/%Y:%H:%M:%S %z")
            for match in matches
        ]
        assert times == sorted(times)
        assert {time.date().isoformat() for time in times} == {name.split("/")[0]}


def test_errors_come_in_bursts(logs: dict[str, list[re.Match[bytes]]]) -> None:
    cells: dict[tuple[str, bytes], list[bool]] = {}
    for name, matches in logs.items():
        for match in matches:
            cells.setdefault((name, match["time"][:14]), []).append(match["status"] >= b"500")
    shares = sorted(sum(each) / len(each) for each in cells.values() if len(each) >= 10)
    assert shares[len(shares) // 2] < 0.02
    assert shares[-1] > 0.3


def test_some_clients_are_far_busier_than_others(logs: dict[str, list[re.Match[bytes]]]) -> None:
    clients = Counter(match["client"] for matches in logs.values() for match in matches)
    counts = [count for _, count in clients.most_common()]
    assert len(counts) > 300
    assert counts[0] > 10 * counts[len(counts) // 2]
    assert any(b":" in client for client in clients)


def test_bad_lines_are_in_another_format(tmp_path: Path) -> None:
    summary = write_sample(tmp_path, size=300_000, kind="logs", bad_lines=0.2)
    found = [line for each in lines(tmp_path).values() for line in each]
    bad = [line for line in found if not LINE.fullmatch(line)]
    assert (len(found), len(bad)) == (summary.records, summary.bad_lines)
    assert len({len(line) for line in bad}) > 4
    assert b"" in bad
    assert any(b"[error]" in line for line in bad)
