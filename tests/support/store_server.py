"""A real S3 server for tests: moto's, in a process of its own on 127.0.0.1, which counts requests.

Run as a program it serves until its standard input is closed.
"""

from __future__ import annotations

import logging
import pickle
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl

CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAFORTESTS",
    "AWS_SECRET_ACCESS_KEY": "the-secret-key-of-tests",
    "AWS_SESSION_TOKEN": "the-session-token-of-tests",
}
_ACCOUNT = "123456789012"  # moto's only one
_CONTROL = "/_control/"


@dataclass(frozen=True)
class Request:
    """A request that the server has seen.

    Parameters
    ----------
    method : str
    bucket, key : str
        The key is "" for requests of the bucket itself.
    query : dict
        Of a listing, ``query["prefix"]`` and ``query["delimiter"]``.
    headers : dict
        By their names in small letters.
    """

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]

    @property
    def is_listing(self) -> bool:
        return self.method == "GET" and "list-type" in self.query


class StoreServer:
    """The server's process, and what tests ask of it.

    Attributes
    ----------
    url : str
        Its endpoint.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = self._process.stdout.readline().strip()
        if not self.url:
            self.stop()
            raise RuntimeError("The S3 server did not start; what it said is on standard error.")

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()

    def put(self, bucket: str, objects: Mapping[str, bytes]) -> None:
        """Store many objects at once, in a bucket that is made when missing."""
        self._ask("put", (bucket, dict(objects)))

    def delete(self, bucket: str, keys: Iterable[str]) -> None:
        self._ask("delete", (bucket, list(keys)))

    def objects(self, bucket: str) -> dict[str, bytes]:
        """All that is in a bucket."""
        found: dict[str, bytes] = self._ask("objects", bucket)
        return found

    def uploads(self, bucket: str) -> int:
        """How many multipart uploads are neither completed nor aborted."""
        count: int = self._ask("uploads", bucket)
        return count

    def requests(self, bucket: str | None = None) -> list[Request]:
        """The requests so far, in the order of their arrival."""
        seen = [Request(*row) for row in self._ask("requests")]
        return [r for r in seen if bucket is None or r.bucket == bucket]

    def clear_requests(self) -> None:
        self._ask("clear")

    def delay(self, seconds: float) -> None:
        """Answer every request so much later."""
        self._ask("delay", seconds)

    def _ask(self, what: str, argument: Any = None) -> Any:
        with urllib.request.urlopen(
            self.url + _CONTROL + what, pickle.dumps(argument), timeout=60
        ) as answer:
            return pickle.loads(answer.read())


class Bucket:
    """One bucket of the server.

    Parameters
    ----------
    server : StoreServer
    name : str
    """

    def __init__(self, server: StoreServer, name: str) -> None:
        self.server = server
        self.name = name
        server.put(name, {})

    def put(self, objects: Mapping[str, bytes]) -> None:
        self.server.put(self.name, objects)

    def delete(self, *keys: str) -> None:
        self.server.delete(self.name, keys)

    def objects(self) -> dict[str, bytes]:
        return self.server.objects(self.name)

    def requests(self) -> list[Request]:
        return self.server.requests(self.name)

    def count(self, method: str, prefix: str = "") -> int:
        """How many requests by a method there were of keys that begin with a prefix.

        Requests of the bucket itself, such as listings, count only for ``count(method)``.
        """
        return sum(r.method == method and r.key.startswith(prefix) for r in self.requests())

    def listed(self) -> list[str]:
        """The prefixes that were listed, in order."""
        return [r.query.get("prefix", "") for r in self.requests() if r.is_listing]


def main() -> None:
    import moto.s3.models
    from moto.server import DomainDispatcherApplication, create_backend_app
    from werkzeug.serving import make_server

    # Its log of all requests would drown what tests say.
    logging.getLogger("werkzeug").setLevel(logging.CRITICAL + 1)
    application = DomainDispatcherApplication(create_backend_app)
    control = _Control(application, moto.s3.models.s3_backends[_ACCOUNT]["aws"])
    server = make_server("127.0.0.1", 0, control, threaded=True)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_port}", flush=True)
    sys.stdin.read()


class _Control:
    """A WSGI application before moto's: it notes requests, and does what the tests ask for."""

    def __init__(self, application: Callable[..., Any], backend: Any) -> None:
        self._application = application
        self._backend = backend
        self._seen: list[tuple[object, ...]] = []
        self._seconds = 0.0

    def __call__(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Any:
        path = environ["PATH_INFO"].encode("latin-1").decode("utf-8", "surrogateescape")
        if path.startswith(_CONTROL):
            body = environ["wsgi.input"].read(int(environ["CONTENT_LENGTH"]))
            answer = pickle.dumps(getattr(self, path.removeprefix(_CONTROL))(pickle.loads(body)))
            start_response("200 OK", [("Content-Length", str(len(answer)))])
            return [answer]
        bucket, _, key = path.removeprefix("/").partition("/")
        query = dict(parse_qsl(environ["QUERY_STRING"], keep_blank_values=True))
        headers = {
            name.removeprefix("HTTP_").replace("_", "-").lower(): value
            for name, value in environ.items()
            if name.startswith("HTTP_") and isinstance(value, str)
        }
        self._seen.append((environ["REQUEST_METHOD"], bucket, key, query, headers))
        time.sleep(self._seconds)
        return self._application(environ, start_response)

    def put(self, what: tuple[str, dict[str, bytes]]) -> None:
        bucket, objects = what
        if bucket not in self._backend.buckets:
            self._backend.create_bucket(bucket, "us-east-1")
        for key, value in objects.items():
            self._backend.put_object(bucket, key, value)

    def delete(self, what: tuple[str, list[str]]) -> None:
        bucket, keys = what
        for key in keys:
            self._backend.delete_object(bucket, key)

    def objects(self, bucket: str) -> dict[str, bytes]:
        return {key.name: key.value for key in self._backend.get_bucket(bucket).keys.values()}

    def uploads(self, bucket: str) -> int:
        return len(self._backend.get_bucket(bucket).multiparts)

    def requests(self, _: None) -> list[tuple[object, ...]]:
        return self._seen

    def clear(self, _: None) -> None:
        self._seen = []

    def delay(self, seconds: float) -> None:
        self._seconds = seconds


if __name__ == "__main__":
    main()
