"""A proxy before the store that breaks its answers, in each way that a network or a store can."""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from support.store_server import Request

ANSWERS = ("503 SlowDown", "500 InternalError", "400 ExpiredToken")
"""Given instead of the store's answer; any other status with any other code will do as well."""

BROKEN = ("disconnect", "reset", "truncated", "short", "stall", "html")
"""What can happen to an answer:

- ``disconnect``: the connection ends before the answer;
- ``reset``: it is reset in the middle of the body;
- ``truncated``: it ends in the middle of the body, after the right Content-Length;
- ``short``: body and Content-Length are cut to the half;
- ``stall``: nothing comes after the first half of the body;
- ``html``: a page of somebody else's.

``lost``, which is not among them: the store does what was asked, but its answer never comes.
"""

LISTED = ("twice", "endless")
"""What can happen to a listing only: each key and prefix comes twice, and the page never ends.

``trickle``, which befalls any body, is not among these either: it comes at 50 bytes a second.
"""

DAMAGED = ("flip", "disguise")
"""What only a checksum shows: a flipped bit, and an HTML page with the headers of the object. Only
bodies of objects are damaged so, since no checksum protects a listing."""

FAULTS = (*ANSWERS, *BROKEN, *DAMAGED)

_PAGE = b"<html><head><title>Sign in</title></head><body><p>Hotel network</p></body></html>"


@dataclass
class _Rule:
    faults: cycle[str]
    every: int
    times: float
    match: Callable[[Request], bool]
    met: int = 0


@dataclass
class _Answer:
    status: int
    headers: list[tuple[str, str]]
    body: bytes


class FaultProxy:
    """A proxy on 127.0.0.1; nothing is broken before `inject` asks for it.

    Parameters
    ----------
    target : str
        The URL of the store.

    Attributes
    ----------
    url : str
        Its own.
    injected : Counter
        Faults so far, by name.
    requests : list of Request
        All that were seen, those that the store never saw included.
    """

    def __init__(self, target: str) -> None:
        self.target = urlsplit(target).netloc
        self.injected: Counter[str] = Counter()
        self.requests: list[Request] = []
        self._rules: list[_Rule] = []
        self._lock = threading.Lock()
        self.stopping = threading.Event()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.proxy = self
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def stop(self) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._server.server_close()

    def inject(
        self,
        *faults: str,
        every: int = 1,
        times: float = float("inf"),
        match: Callable[[Request], bool] = lambda request: True,
    ) -> None:
        """Break the answers to requests from now on.

        Parameters
        ----------
        *faults : str
            Taken in rotation; one that cannot befall an answer is passed over.
        every : int
            Only every so many requests.
        times : int, optional
            Then no more.
        match : callable
            Only requests for which it is true.
        """
        with self._lock:
            self._rules.append(_Rule(cycle(faults), every, times, match))

    def clear(self) -> None:
        """Break nothing any more, and count anew."""
        with self._lock:
            self._rules.clear()
            self.injected.clear()
            self.requests.clear()

    def choose(self, request: Request, answer: Callable[[], _Answer]) -> str | None:
        """The fault for a request, which is counted; `answer` gets the store's answer."""
        with self._lock:
            self.requests.append(request)
            rule = next((rule for rule in self._rules if _due(rule, request)), None)
        if rule is None:
            return None
        for _ in FAULTS:
            with self._lock:
                fault = next(rule.faults)
            if fault[0].isdigit() or fault == "disconnect" or _fits(fault, request, answer()):
                with self._lock:
                    self.injected[fault] += 1
                    rule.times -= 1
                return fault
        return None


def _due(rule: _Rule, request: Request) -> bool:
    if rule.times <= 0 or not rule.match(request):
        return False
    rule.met += 1
    return rule.met % rule.every == 0


def _fits(fault: str, request: Request, answer: _Answer) -> bool:
    """Whether there is anything to break, and the client could notice."""
    if fault == "lost":
        return answer.status < 300
    if request.method != "GET" or len(answer.body) < 2 or answer.status >= 300:
        return False
    if fault in LISTED:
        return request.is_listing
    return fault in BROKEN or fault == "trickle" or not request.is_listing


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    proxy: FaultProxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Nothing: clients that go away are what the tests are about."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def setup(self) -> None:
        super().setup()
        self._upstream = http.client.HTTPConnection(self.server.proxy.target, timeout=60)

    def finish(self) -> None:
        self._upstream.close()
        super().finish()

    def log_message(self, *args: Any) -> None:
        pass

    def handle_any(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answers: list[_Answer] = []

        def answer() -> _Answer:
            if not answers:
                answers.append(self._ask(body))
            return answers[0]

        fault = self.server.proxy.choose(self._request(), answer)
        if fault is None:
            self._send(answer())
        elif fault[0].isdigit():
            self._refuse(fault)
        elif fault in ("disconnect", "lost"):
            self.close_connection = True
        else:
            getattr(self, f"_send_{fault}")(answer())

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_any

    def _request(self) -> Request:
        path, _, query = self.path.partition("?")
        bucket, _, key = unquote(path, errors="surrogateescape").removeprefix("/").partition("/")
        headers = {name.lower(): value for name, value in self.headers.items()}
        parsed = dict(parse_qsl(query, keep_blank_values=True))
        return Request(self.command, bucket, key, parsed, headers)

    def _ask(self, body: bytes) -> _Answer:
        self._upstream.putrequest(
            self.command, self.path, skip_host=True, skip_accept_encoding=True
        )
        for name, value in self.headers.items():
            self._upstream.putheader(name, value)
        self._upstream.endheaders(body)
        response = self._upstream.getresponse()
        data = response.read()
        if response.will_close:
            self._upstream.close()
        return _Answer(response.status, response.getheaders(), data)

    def _send(self, answer: _Answer, length: int | None = None) -> None:
        """Send an answer, announcing another `length` than the body has."""
        self.send_response_only(answer.status)
        for name, value in answer.headers:
            if name.lower() not in ("connection", "content-length", "transfer-encoding"):
                self.send_header(name, value)
        announced = {name.lower(): value for name, value in answer.headers}.get(
            "content-length", "0"
        )
        if self.command != "HEAD":
            announced = str(len(answer.body) if length is None else length)
        self.send_header("Content-Length", announced)
        self.end_headers()
        self.wfile.write(answer.body)

    def _send_half(self, answer: _Answer) -> None:
        half = answer.body[: len(answer.body) // 2]
        self._send(_Answer(answer.status, answer.headers, half), len(answer.body))
        self.wfile.flush()
        self.close_connection = True

    def _refuse(self, fault: str) -> None:
        status, _, code = fault.partition(" ")
        xml = f"<Error><Code>{code}</Code><Message>As the test asked.</Message></Error>".encode()
        body = b"" if self.command == "HEAD" else xml
        headers = [("Content-Type", "application/xml")]
        if status == "301":
            headers.append(("x-amz-bucket-region", "eu-west-1"))
        self._send(_Answer(int(status), headers, body))

    def _send_reset(self, answer: _Answer) -> None:
        self._send_half(answer)
        linger = struct.pack("ii", 1, 0)  # closing then resets the connection
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        for end in (self.rfile, self.connection):  # the socket goes when nothing holds it
            end.close()

    def _send_truncated(self, answer: _Answer) -> None:
        self._send_half(answer)

    def _send_short(self, answer: _Answer) -> None:
        half = answer.body[: len(answer.body) // 2]
        self._send(_Answer(answer.status, answer.headers, half))

    def _send_stall(self, answer: _Answer) -> None:
        self._send_half(answer)
        self.connection.settimeout(0.05)
        while not self.server.proxy.stopping.is_set():
            try:
                if not self.connection.recv(1024):
                    return
            except TimeoutError:
                continue

    def _send_trickle(self, answer: _Answer) -> None:
        self._send(_Answer(answer.status, answer.headers, b""), len(answer.body))
        for position in range(len(answer.body)):
            if self.server.proxy.stopping.wait(0.02):
                return
            self.wfile.write(answer.body[position : position + 1])

    def _send_twice(self, answer: _Answer) -> None:
        body = re.sub(rb"(<(Contents|CommonPrefixes)>.*?</\2>)", rb"\1\1", answer.body, flags=re.S)
        self._send(_Answer(answer.status, answer.headers, body))

    def _send_endless(self, answer: _Answer) -> None:
        self.close_connection = True
        start, _, end = answer.body.partition(b"<Contents>")
        self._send(_Answer(answer.status, answer.headers, start), 1 << 50)
        element = b"<Contents>" + end[: end.index(b"</Contents>")] + b"</Contents>"
        while not self.server.proxy.stopping.is_set():
            self.wfile.write(element * 1000)

    def _send_html(self, answer: _Answer) -> None:
        self._send(_Answer(200, [("Content-Type", "text/html")], _PAGE))

    def _send_flip(self, answer: _Answer) -> None:
        body = bytearray(answer.body)
        body[len(body) // 2] ^= 1
        self._send(_Answer(answer.status, answer.headers, bytes(body)))

    def _send_disguise(self, answer: _Answer) -> None:
        size = len(answer.body)
        page = (_PAGE * (size // len(_PAGE) + 1))[:size]
        self._send(_Answer(answer.status, answer.headers, page))
