"""Parse answers from S3: pages of ListObjectsV2, and errors, which are transient or final."""

from __future__ import annotations

from datetime import datetime
from typing import Any, NoReturn
from urllib.parse import unquote_plus
from xml.etree import ElementTree

import aiohttp
import botocore.exceptions as e
from botocore.parsers import ResponseParserError

from daskmr.store.source import (
    ChangedObject,
    Entry,
    MissingObject,
    Page,
    Source,
    StoreError,
    TransientError,
    split_bucket,
)
from daskmr.text import printable

__all__ = ["ExpiredCredentials", "changed_object", "parse_page", "translate_error"]


def parse_page(body: bytes, bucket: str, prefix: str, name_prefix: str) -> Page:
    """Parse an answer to ListObjectsV2, and check that it matches the request.

    - `body`: XML.
    - `bucket`, `prefix`, `name_prefix`: the request: list the names that start with `name_prefix`,
      directly below the key `prefix`, which is "" or ends in "/".
    Raises `TransientError` for another server's page, or a truncated one, which must not be
    mistaken for an empty listing.

    >>> body = b'''<ListBucketResult><Name>b</Name><Prefix>idle/</Prefix>
    ... <IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>
    ... <Contents><Key>idle/a%0A1</Key><Size>7</Size><ETag>"12"</ETag></Contents>
    ... <CommonPrefixes><Prefix>idle/Firefox/</Prefix></CommonPrefixes></ListBucketResult>'''
    >>> for entry in parse_page(body, "b", "idle/", "").entries:
    ...     print(entry)
    Entry(name='a\\n1', is_dir=False, size=7, etag='12', mtime=None)
    Entry(name='Firefox', is_dir=True, size=0, etag=None, mtime=None)
    """
    try:
        root = ElementTree.fromstring(body)
        space, _, tag = root.tag.rpartition("}")
        space += "}" if space else ""
        if tag != "ListBucketResult":
            _no_listing(f"it begins with {tag!r}")
        return _page(root, space, bucket, prefix, name_prefix)
    except (ElementTree.ParseError, ValueError, TypeError, UnicodeError) as error:
        _no_listing(str(error))


def _page(root: Any, space: str, bucket: str, prefix: str, name_prefix: str) -> Page:
    encoded = root.findtext(f"{space}EncodingType") == "url"

    def decoded(text: str) -> str:
        return unquote_plus(text, errors="strict") if encoded else text

    def name_of(text: str, is_dir: bool) -> str:
        key = decoded(text)
        if not key.startswith(asked):
            _no_listing(f"it has a key that was not requested, {key!r}")
        name = key[len(prefix) :]
        if not is_dir and "/" in name:
            _no_listing(f'it has an object below the next "/", {name!r}')
        if is_dir and name.find("/") != len(name) - 1:
            _no_listing(f'it has a common prefix that does not end at the next "/", {name!r}')
        return name[:-1] if is_dir else name

    asked = prefix + name_prefix
    answered = root.findtext(f"{space}Prefix")
    if root.findtext(f"{space}Name") != bucket or decoded(answered or "") not in ("", asked):
        _no_listing("it is for another bucket or prefix")
    truncated = root.findtext(f"{space}IsTruncated")
    token = root.findtext(f"{space}NextContinuationToken") if truncated == "true" else None
    if truncated not in ("true", "false") or (truncated == "true" and not token):
        _no_listing("it does not indicate whether there are more pages")
    entries = []
    for element in root.iterfind(f"{space}Contents"):
        fields = {child.tag: child.text or "" for child in element}
        written = fields.get(f"{space}LastModified")
        entries.append(
            Entry(
                name_of(fields.get(f"{space}Key", ""), False),
                False,
                int(fields.get(f"{space}Size", "")),
                fields.get(f"{space}ETag", "").strip('"') or None,
                None if written is None else datetime.fromisoformat(written).timestamp(),
            )
        )
    for element in root.iterfind(f"{space}CommonPrefixes/{space}Prefix"):
        entries.append(Entry(name_of(element.text or "", True), True))
    return Page(entries, token)


def _no_listing(reason: str) -> NoReturn:
    raise TransientError(
        f"the answer is not a listing of the bucket: {printable(reason)[:200]}",
        "Check that the endpoint is an S3 store, and that no proxy answers for it.",
        likely_to_last=True,
    )


class ExpiredCredentials(TransientError):
    """The credentials have expired; new ones may be available."""


def changed_object(url: str) -> ChangedObject:
    """Return the error for an object that has changed since it was listed."""
    return ChangedObject(
        f"{url} changed after it was listed (its ETag or size is different). Run the job again "
        "when nothing writes there."
    )


_UNREACHABLE = (e.EndpointConnectionError, e.ConnectTimeoutError, e.ProxyConnectionError)
_NO_CREDENTIALS = (
    e.ConfigNotFound, e.ConfigParseError, e.CredentialRetrievalError, e.InvalidConfigError,
    e.NoAuthTokenError, e.NoCredentialsError, e.PartialCredentialsError, e.ProfileNotFound,
    e.SSOError, e.TokenRetrievalError,
)  # fmt: skip


def translate_error(error: Exception, url: str, source: Source) -> TransientError | StoreError:
    """Translate an exception of s3fs, botocore or aiohttp.

    - `url`: the URL of the request.
    - `source`: the source with the bucket and the endpoint.
    """
    if isinstance(error, StoreError):
        return StoreError(f"{url} cannot be read: {error}")
    if isinstance(error, TransientError):
        return error
    if isinstance(error, e.ClientError):
        return _translate_answer(error.response, url, source)
    if isinstance(error, e.SSLError):
        return TransientError(
            f"the TLS connection to {_endpoint(source)} failed ({_text(error)})",
            "Check the endpoint URL and the certificates (AWS_CA_BUNDLE).",
            likely_to_last=True,
        )
    if isinstance(error, _UNREACHABLE):
        return TransientError(
            f"{_endpoint(source)} cannot be reached ({_text(error)})",
            "Check the network, and --endpoint-url or AWS_ENDPOINT_URL if it is not Amazon S3.",
            likely_to_last=True,
        )
    if isinstance(error, _NO_CREDENTIALS):
        return StoreError(
            f"{url} cannot be read because there are no usable credentials ({_text(error)}). "
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --aws-profile, or --anon "
            "for a public bucket."
        )
    return _translate_connection(error, url)


def _endpoint(source: Source) -> str:
    endpoint = source.option("endpoint_url")
    return f"the endpoint {endpoint}" if endpoint else "Amazon S3"


_EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
)
_TRANSIENT = frozenset(
    {
        "BadDigest", "IncompleteBody", "InternalError", "OperationAborted", "RequestTimeout",
        "ServiceUnavailable", "SlowDown", "Throttling", "ThrottlingException",
        "XAmzContentSHA256Mismatch",
    }
)  # fmt: skip
_OTHER_REGION = frozenset(
    {
        "AuthorizationHeaderMalformed", "IllegalLocationConstraintException", "PermanentRedirect",
        "Redirect", "TemporaryRedirect",
    }
)  # fmt: skip
_REFUSAL = "The store rejects {url} ({answer}). Check the name of the bucket and the endpoint URL."
_REFUSALS = {
    **dict.fromkeys(
        ("InvalidAccessKeyId", "InvalidSecurity", "InvalidToken", "SignatureDoesNotMatch"),
        "The store does not accept the credentials for {url} ({answer}). Correct them, or give "
        "another --aws-profile.",
    ),
    "RequestTimeTooSkewed": "The store rejects {url} because this machine's clock is wrong "
    "({answer}). Set the clock.",
    "InvalidObjectState": "{url} is archived ({answer}). Restore it first, or exclude it with the "
    "filter.",
    "403": "Access to {url} was denied ({answer}). Check that the credentials may list the bucket "
    "and read its objects (s3:ListBucket, s3:GetObject), or give another --aws-profile; "
    "--anon for a public bucket, or --requester-pays if the reader must pay.",
}
"""Messages by the error code, or by the HTTP status."""
# If the answer has no body, as for HEAD, the code is the HTTP status.
_NO_SUCH_OBJECT = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound"})


def _translate_answer(
    response: dict[str, Any], url: str, source: Source
) -> TransientError | StoreError:
    details = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(metadata.get("HTTPStatusCode") or 0)
    message = " ".join(str(details.get("Message", "")).split())[:200].rstrip(".")
    answer = ": ".join(printable(part) for part in (code, message) if part) or str(status)
    if code in _EXPIRED:
        return ExpiredCredentials(
            f"the credentials have expired ({answer})",
            "Renew them, and run the job again: fetched files are kept.",
            likely_to_last=True,
        )
    if code in _TRANSIENT or status in (408, 429) or status >= 500:
        return TransientError(f"the store answered {answer}")
    bucket, _, _ = split_bucket(source.root)
    if code in _OTHER_REGION or status in (301, 307):
        region = details.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
        endpoint = details.get("Endpoint")
        where = f"in region {region}" if region else f"at {endpoint}" if endpoint else "elsewhere"
        advice = f"--region {region}" if region else "its --region, or its --endpoint-url"
        return StoreError(
            f"The bucket {bucket} is {where}, not where it was requested ({answer}). Give {advice}."
        )
    if status == 404 and code not in _NO_SUCH_OBJECT:
        return StoreError(
            f"There is no bucket {bucket} at {_endpoint(source)}. Check its name, and "
            "--endpoint-url if it is not at Amazon S3."
        )
    if status == 404:
        return MissingObject(
            f"{url} no longer exists ({answer}): it was deleted after it was listed. List "
            "the bucket again, or skip such objects with --skip-missing."
        )
    if status in (412, 416):
        return changed_object(url)
    refusal = _REFUSALS.get(code) or _REFUSALS.get(str(status), _REFUSAL)
    return StoreError(refusal.format(url=url, answer=answer))


def _translate_connection(error: Exception, url: str) -> TransientError | StoreError:
    """Translate other errors: a broken connection, an unreadable answer, or an invalid request."""
    if isinstance(error, (e.ReadTimeoutError, TimeoutError)):
        return TransientError(
            "no data arrived for too long", "Check the network, or raise read-timeout."
        )
    if isinstance(error, (e.HTTPClientError, e.IncompleteReadError, aiohttp.ClientError, OSError)):
        return TransientError(
            f"the connection broke ({_text(error)})",
            "Check the network, and that the endpoint is an S3 store: fetched files are kept.",
            disconnected=True,
        )
    if isinstance(error, (e.FlexibleChecksumError, e.ChecksumError)):
        return TransientError(
            f"the received bytes are not those of the object ({_text(error)})", restart=True
        )
    if isinstance(error, ResponseParserError):
        return TransientError(
            "the answer is not from an S3 store",
            "Check that the endpoint is one, and that no proxy answers for it.",
            likely_to_last=True,
        )
    return StoreError(
        f"{url} cannot be requested: {type(error).__name__}: {_text(error)}. Check the name of the "
        "bucket, the endpoint URL and the region."
    )


def _text(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text)[:300].rstrip(".")
