"""Value types for remote data: sources, entries and pages of listings, and errors."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import Any

from daskmr.errors import InputError, JobError
from daskmr.text import HIDDEN, holds_credentials, mask_credentials, printable

__all__ = [
    "ChangedObject", "Entry", "MissingObject", "Page", "Source", "StoreError", "TransientError",
    "join", "missing_package", "parse_source", "split_bucket",
]  # fmt: skip


class StoreError(JobError):
    """A request that a store rejected, or that failed after all retries; names object and cause."""


class MissingObject(StoreError):
    """An object that was listed does not exist."""


class ChangedObject(StoreError):
    """An object has another ETag or size than when it was listed."""


class TransientError(Exception):
    """A failure that may not occur again if the operation is retried.

    - `cause`: a clause for the message.
    - `remedy`: a sentence for the message: advice in case retries do not help.
    - `likely_to_last`: retries are unlikely to help: the server or the credentials do not work.
    - `restart`: the bytes received so far are unusable too, so a transfer cannot be resumed.
    - `disconnected`: the connection was closed; without any earlier answer, there may be no server.
    """

    def __init__(
        self,
        cause: str,
        remedy: str = "",
        *,
        likely_to_last: bool = False,
        restart: bool = False,
        disconnected: bool = False,
    ) -> None:
        super().__init__(cause)
        self.remedy = remedy or "Run the job again later: fetched files are kept."
        self.likely_to_last = likely_to_last
        self.restart = restart
        self.disconnected = disconnected


@dataclass(frozen=True, slots=True)
class Source:
    """The location of remote data. It may be pickled and displayed: it holds no secret.

    >>> source = Source("s3", "bucket/data", (("endpoint_url", "http://127.0.0.1:9000"),))
    >>> source.url
    's3://bucket/data'
    >>> source.identity
    's3://bucket/data endpoint_url=http://127.0.0.1:9000'
    """

    protocol: str  # ``"s3"``, or another fsspec protocol: ``"gs"``, ``"file"``, ``"memory"``
    root: str  # the bucket, or a folder in it, without "/" at the end
    # Access options, sorted by name: ``anon``, ``connect_timeout`` and ``read_timeout`` in
    # seconds, ``endpoint_url``, ``profile``, ``region``, ``requester_pays``, and for other
    # protocols the options that fsspec parses from the URL
    options: tuple[tuple[str, Any], ...] = ()
    # The given URL, if `root` lacks a part of it, such as the host
    given: str = field(default="", compare=False)

    @property
    def url(self) -> str:
        """Its address, for messages."""
        return self.given or f"{self.protocol}://{self.root}"

    def url_of(self, path: str) -> str:
        """Return the address of an object, for messages.

        >>> Source("ftp", "/data", (("host", "there"),), "ftp://there/data").url_of("a")
        'ftp://there/data/a'
        """
        return printable(f"{self.url}/{path}" if self.root or self.given else f"{self.url}{path}")

    @property
    def identity(self) -> str:
        """The address, and the server if it is not the default one."""
        return f"{self.protocol}://{self.root}{self._server}"

    def address(self, path: str) -> str:
        """Return an identifier of an object that is unique among all stores.

        >>> Source("s3", "bucket/data").address("a") == Source("s3", "bucket").address("data/a")
        True
        """
        return f"{self.protocol}://{self.root}/{path}{self._server}"

    @property
    def _server(self) -> str:
        return "".join(f" {k}={v}" for k, v in self.options if k not in _OPTIONS_OF_ACCESS)

    def option(self, name: str, default: Any = None) -> Any:
        """Return the value of an option."""
        return dict(self.options).get(name, default)


# Options for the connection, which do not identify the store
_OPTIONS_OF_ACCESS = frozenset(
    {"anon", "connect_timeout", "profile", "read_timeout", "region", "requester_pays", "token"}
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One object or directory in a listing.

    Its `name` has no "/" at the end. It is "" for an object whose key is the prefix itself (a
    folder marker), and for the directory from a key with "//". `size` is in bytes, `mtime` in Unix
    seconds. `etag`, without quotes, changes with the object.
    """

    name: str
    is_dir: bool
    size: int = 0
    etag: str | None = None
    mtime: float | None = None


@dataclass(frozen=True, slots=True)
class Page:
    """One page of a listing; `token` requests the next page, and is ``None`` on the last one."""

    entries: list[Entry]
    token: str | None


def join(root: str, path: str) -> str:
    """Join a root and a relative path.

    >>> join("bucket/data", "idle/"), join("", "idle/"), join("bucket", "")
    ('bucket/data/idle/', 'idle/', 'bucket/')
    """
    return f"{root}/{path}" if root else path


_URL = r"([A-Za-z][A-Za-z0-9+.-]*)://(.*)"
_BUCKET = r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}|arn:aws[\w-]*:s3[\w:-]*[:/][\w./-]+"
_ALIASES = {"s3a": "s3", "s3n": "s3", "gcs": "gs", "az": "abfs", "abfss": "abfs", "local": "file"}
_AWS_ADVICE = (
    "give AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment, or --aws-profile"
)
_ADVICE = "Give a bucket (NAME or NAME/prefix) or a URL such as s3://NAME/prefix."


def parse_source(
    bucket: str,
    *,
    endpoint_url: str | None = None,
    profile: str | None = None,
    region: str | None = None,
    anon: bool = False,
    requester_pays: bool = False,
    read_timeout: float = 60.0,
    connect_timeout: float = 5.0,
) -> Source:
    """Parse the value of ``--bucket``: ``NAME``, ``NAME/prefix``, or any fsspec URL.

    - `endpoint_url`: the server, if it is not Amazon S3. The default is from
      ``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL`` or the AWS configuration files.
    - `profile`: a section of the AWS configuration files.
    - `anon`, `requester_pays`: send no credentials; agree to pay for the requests.
    - `read_timeout`, `connect_timeout`: seconds without a byte, or without a connection, until a
      request is retried.
    Raises `InputError` if it is not valid, holds a secret, or needs a package that is not installed.

    >>> parse_source("bucket/data/", anon=True, endpoint_url="http://127.0.0.1:9000").identity
    's3://bucket/data endpoint_url=http://127.0.0.1:9000'
    >>> parse_source("s3://key:secret@bucket")
    Traceback (most recent call last):
        ...
    daskmr.errors.InputError: The URL s3://***@bucket holds credentials, which would be visible in ...
    """
    protocol, rest = _split(bucket)
    shown = ""
    options: dict[str, Any] = {
        "anon": anon,
        "endpoint_url": endpoint_url,
        "profile": profile,
        "region": region,
        "requester_pays": requester_pays,
    }
    if protocol == "s3":
        root = _s3_root(rest, bucket)
        options["endpoint_url"] = _endpoint_url(endpoint_url, profile)
        options["connect_timeout"] = float(connect_timeout)
        options["read_timeout"] = float(read_timeout)
    else:
        root, options, shown = _other(protocol, rest, options, bucket)
    given = [(k, value) for k, value in options.items() if value is not None and value is not False]
    return Source(protocol, root, tuple(sorted(given)), shown)


def _split(bucket: str) -> tuple[str, str]:
    if not bucket or not bucket.isprintable():
        raise InputError(f"{bucket!r} is not the name of a bucket. {_ADVICE}")
    url = re.fullmatch(_URL, bucket, re.DOTALL)
    if url is None:
        if bucket.startswith((".", "/", "~")) or "\\" in bucket:
            raise InputError(
                f"{bucket} is a local path, not a bucket: give it as --data-dir, or as "
                f"file://{os.path.abspath(os.path.expanduser(bucket))}."
            )
        return "s3", bucket
    given = url[1].lower()
    protocol = _ALIASES.get(given, given)
    # A secret key may contain "/", but the name of a bucket contains no ":".
    has_secret = protocol == "s3" and re.match(r"(?!arn:)[^/@]*:.*@", url[2], re.DOTALL)
    if holds_credentials(bucket) or has_secret:
        shown = mask_credentials(bucket)
        if has_secret:
            shown = f"{url[1]}://{HIDDEN}@{url[2].rpartition('@')[2]}"
        advice = (
            "fsspec takes them from its configuration files, or from variables such as "
            f"FSSPEC_{given.upper()}_PASSWORD, named after the options of its file system"
        )
        raise InputError(
            f"The URL {shown} holds credentials, which would be visible in "
            "messages, reports and the list of processes. Leave them out of it: "
            f"{_AWS_ADVICE if protocol == 's3' else advice}."
        )
    return protocol, url[2]


def _s3_root(rest: str, given: str) -> str:
    root = rest.rstrip("/")
    bucket, _, prefix = split_bucket(root)
    if not re.fullmatch(_BUCKET, bucket):
        raise InputError(f"{given} does not begin with a bucket. {_ADVICE}")
    if {".", ".."} & set(prefix.split("/")):
        raise InputError(
            f'{given} has "." or ".." in its prefix, which S3 does not resolve. Resolve the path.'
        )
    return root


def split_bucket(root: str) -> tuple[str, str, str]:
    """Split the root of an S3 source like ``partition("/")``; do not split an access point's ARN.

    >>> split_bucket("bucket/a/b")
    ('bucket', '/', 'a/b')
    >>> split_bucket("arn:aws:s3:us-east-1:123456789012:accesspoint/mine/a")
    ('arn:aws:s3:us-east-1:123456789012:accesspoint/mine', '/', 'a')
    """
    point = re.match(r"arn:[^/]+?:(outpost[/:][^/:]+[/:])?accesspoint[/:][^/:]+", root)
    if point is None:
        return root.partition("/")
    return point[0], root[point.end() : point.end() + 1], root[point.end() + 1 :]


def _endpoint_url(given: str | None, profile: str | None) -> str | None:
    """Return botocore's endpoint; a worker's environment may differ, and the cache needs it too."""
    url = given or _configured_endpoint_url(profile)
    if not url:
        return None
    parts = re.fullmatch(r"https?://([^/?#\s]+)(/[^?#\s]*)?", url)
    if parts is None:
        shown = url if "@" not in url else "hidden: it contains @"
        raise InputError(
            f"The endpoint URL is not valid ({printable(shown)}): give http:// or https:// and the "
            "server, as in http://127.0.0.1:9000."
        )
    if "@" in parts[1]:
        raise InputError(
            f"The endpoint URL holds credentials. Leave them out of it: {_AWS_ADVICE}."
        )
    return url.rstrip("/")


def _configured_endpoint_url(profile: str | None) -> str | None:
    if os.environ.get("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "").lower() == "true":
        return None
    for name in ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL"):
        if os.environ.get(name):
            return os.environ[name]
    if profile is None and not os.path.exists(
        os.path.expanduser(os.environ.get("AWS_CONFIG_FILE") or "~/.aws/config")
    ):
        return None
    from botocore.exceptions import BotoCoreError
    from botocore.session import Session

    try:
        session = Session(profile=profile)
        section = session.get_scoped_config()
        services = session.full_config.get("services", {}).get(section.get("services"), {})
    except BotoCoreError as error:
        raise InputError(
            f"The AWS configuration cannot be used: {error}. Check --aws-profile, AWS_PROFILE and "
            "the files in ~/.aws."
        ) from None
    url = services.get("s3", {}).get("endpoint_url") or section.get("endpoint_url")
    return None if url is None else str(url)


# The names and values of options in the file systems that support them
_KNOWN_OPTIONS: dict[str, dict[str, tuple[str, Any]]] = {
    "gs": {"anon": ("token", "anon"), "requester_pays": ("requester_pays", True)},
    "abfs": {"anon": ("anon", True)},
}


def _other(
    protocol: str, rest: str, given: dict[str, Any], url: str
) -> tuple[str, dict[str, Any], str]:
    """Return the root and options of a source other than S3; and its URL, if they are incomplete."""
    if re.search(r"::[\w+.-]+://", rest):
        raise InputError(f"{url} chains URLs, which is not supported; give one.")
    from fsspec.registry import get_filesystem_class

    try:
        filesystem: Any = get_filesystem_class(protocol)
    except ValueError:
        raise InputError(
            f"{protocol}:// is not a protocol that fsspec knows ({url}). {_ADVICE}"
        ) from None
    except ImportError as error:
        raise InputError(missing_package(protocol, url, error)) from None
    if not rest.strip("/") and protocol != "memory":
        raise InputError(f"{url} names no bucket or folder.")
    full = f"{protocol}://{rest}"
    try:
        options = dict(filesystem._get_kwargs_from_urls(full))
        root = str(filesystem._strip_protocol(full)).rstrip("/")
    except Exception as error:
        raise InputError(
            f"{url} is not a valid {protocol}:// URL: {error}. Check its host, port and path."
        ) from None
    shown = url.rstrip("/") if options or "://" in root else ""
    known = _KNOWN_OPTIONS.get(protocol, {})
    for name, value in given.items():
        if value and name not in known:
            raise InputError(f"{protocol}:// has no option for {name.replace('_', ' ')}.")
        if value:
            options[known[name][0]] = known[name][1]
    return root, options, shown


def missing_package(protocol: str, url: str, error: ImportError) -> str:
    """Return a message about the package that a URL's file system requires, with fsspec's advice."""
    from fsspec.registry import known_implementations

    cause = error.__cause__ if isinstance(error.__cause__, ImportError) else error
    name = f" ({cause.name})" if cause.name else ""
    advice = known_implementations.get(protocol, {}).get("err") or str(error)
    return (
        f"{url} needs a package that is not installed{name}: {advice.rstrip('.')}. Install it in the "
        "environment of daskmr, and on the workers of a cluster."
    )
