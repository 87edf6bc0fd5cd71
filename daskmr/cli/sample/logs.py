"""Sample data of the kind `logs`: access logs of nginx in the combined format, by day and host.

Some hosts and clients are far busier than others, evenings are busier than nights, and most errors
come in bursts, when a host cannot reach what is behind it.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator
from typing import NamedTuple

from daskmr.cli.sample.draws import Words, below, log_uniform, pick, random_words, weighted
from daskmr.cli.sample.kind import Kind, SampleFile, clock, fill, second_of_day, share_out

__all__ = ["KIND"]

_FIRST_DAY = datetime.date(2026, 10, 5)  # a Monday
_DAYS = (10, 10, 11, 10, 12, 15, 16)  # how busy each day of a week is
_HOSTS = {"web1": 40, "web2": 28, "api1": 16, "static1": 9, "web3": 5, "admin1": 2}
_DAY_BYTES, _HOST_BYTES = 240_000, 20_000  # of a sample, for each day and host that it has

_REQUESTS = weighted(
    {
        "GET / HTTP/1.1": 16,
        "GET /products?page=%d HTTP/1.1": 10,
        "GET /products/%d HTTP/2.0": 24,
        "GET /static/app.%d.js HTTP/2.0": 12,
        "GET /static/images/%d.webp HTTP/2.0": 14,
        "GET /search?q=garden+chair&page=%d HTTP/1.1": 5,
        "GET /api/v1/stock/%d HTTP/1.1": 8,
        "POST /api/v1/cart/%d HTTP/1.1": 4,
        "POST /login HTTP/1.1": 2,
        "HEAD / HTTP/1.1": 2,
        "GET /caf%%C3%%A9/menu.pdf HTTP/1.1": 1,
        "GET /wp-login.php HTTP/1.1": 2,
    }
)
_STATUSES = weighted({"200": 172, "304": 14, "301": 4, "404": 7, "403": 1, "500": 1, "499": 1})
_BURST_STATUSES = weighted({"502": 40, "504": 15, "503": 10, "200": 35})
_REFERRERS = weighted(
    {
        "-": 45,
        "https://www.example.com/": 35,
        "https://search.example.net/?q=chairs": 15,
        "https://news.example.org/2026/10/the-%22best%22-chairs": 5,
    }
)
_AGENTS = weighted(
    {
        "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:143.0) Gecko/20100101 Firefox/143.0": 30,
        "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X) AppleWebKit/605.1.15 Mobile": 26,
        "Mozilla/5.0 (Linux; Android 15) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/140.0": 26,
        "curl/8.14.1": 3,
        "ExampleBot/2.1 (+https://bot.example.com/about)": 14,
        "-": 1,
    }
)


class _Log(NamedTuple):
    host: str
    day: datetime.date
    weight: int
    burst: tuple[int, int]  # its first second, and the one after its last

    @property
    def path(self) -> str:
        return f"{self.day}/{self.host}/access.log"


def _files(size: int, seed: int, bad_lines: float) -> Iterator[SampleFile]:
    """Generate the files. Bad lines are in turn cut off, of the error log, empty, and zero bytes."""
    logs = sorted(_plan(size, random_words(seed, "plan of logs")), key=lambda log: log.path)
    words = random_words(seed, "logs")

    def make(index: int, done: int, whole: int, bad: int) -> bytes:
        log, second = logs[index], second_of_day(done, whole)
        line = _line(words, log, second)
        return (_spoil(bad, line, log.day, second) if bad else line).encode() + b"\n"

    ends = share_out(size, [log.weight for log in logs])
    for log, records in zip(logs, fill(ends, words, bad_lines, make), strict=True):
        yield SampleFile(log.path, records)


def _plan(size: int, words: Words) -> Iterator[_Log]:
    hosts = list(_HOSTS.items())[: max(1, size // _HOST_BYTES)]
    for number in range(max(1, min(14, size // _DAY_BYTES))):
        day = _FIRST_DAY + datetime.timedelta(days=number)
        for host, weight in hosts:
            start = 3600 * 7 + below(words, 3600 * 14)
            length = 300 + below(words, 2400) if below(words, 3) == 0 else 0
            varied = weight * _DAYS[day.weekday()] * (80 + below(words, 40))
            yield _Log(host, day, varied, (start, start + length))


def _line(words: Words, log: _Log, second: int) -> str:
    """Generate a line.

    >>> log = _Log("web1", _FIRST_DAY, 1, (0, 0))
    >>> _line(iter([0] * 99), log, 3661)[:65]
    '203.0.113.0 - - [05/Oct/2026:01:01:01 +0000] "GET / HTTP/1.1" 200'
    """
    request = pick(words, _REQUESTS)
    in_burst = log.burst[0] <= second < log.burst[1]
    status = pick(words, _BURST_STATUSES if in_burst else _STATUSES)
    if "wp-login" in request:
        status = "404"
    length = 0 if status == "304" or request.startswith("HEAD") else 150 + log_uniform(words, 17)
    user = "deploy" if log.host == "admin1" and below(words, 4) == 0 else "-"
    if "%" in request:
        request = request.replace("%d", str(below(words, 1 + below(words, 400)))).replace("%%", "%")
    # The C locale's names of months: `%b` would depend on the machine.
    month = "JanFebMarAprMayJunJulAugSepOctNovDec"[3 * log.day.month - 3 : 3 * log.day.month]
    time = f"{log.day.day:02}/{month}/{log.day.year}:{clock(second)} +0000"
    return (
        f'{_client(words)} - {user} [{time}] "{request}" {status} {length} '
        f'"{pick(words, _REFERRERS)}" "{pick(words, _AGENTS)}"'
    )


def _client(words: Words) -> str:
    """Draw an address for documentation; low ones are frequent."""
    number = below(words, 1 + below(words, 1 + below(words, 640)))
    if number < 512:
        return f"{('203.0.113', '198.51.100')[number // 256]}.{number % 256}"
    return f"2001:db8::{number:x}"


def _spoil(turn: int, line: str, day: datetime.date, second: int) -> str:
    error = f"{day:%Y/%m/%d} {clock(second)} [error] 31#31: *{turn} upstream timed out"
    return (line[: len(line) // 2], error, "", "\0" * 64)[turn % 4]


KIND = Kind("lines", _files, "gz", ("log",), "{day:date}/{host}/access.log", "lines")
