"""What an error of S3, botocore or the connection means: it may pass, or it is told at once."""

from __future__ import annotations

from typing import Any

from daskmr.store.source import (
    ChangedObject,
    Fault,
    MissingObject,
    Source,
    StoreError,
    printable,
    split_bucket,
)

__all__ = ["Expired", "changed", "explain"]


class Expired(Fault):
    """The credentials are no longer good; new ones may be had."""


def changed(url: str) -> ChangedObject:
    """Say that an object is another than the listed one."""
    return ChangedObject(
        f"{url} changed after it was listed (its ETag or size is another now). Run the job again, "
        "when nothing writes there."
    )


def explain(error: Exception, url: str, source: Source) -> Fault | StoreError:
    """Turn what s3fs, botocore or aiohttp raise into a `Fault` or a `StoreError`.

    Parameters
    ----------
    error : Exception
    url : str
        What was asked for.
    source : Source
        Names the bucket and the endpoint.
    """
    import botocore.exceptions as e

    if isinstance(error, StoreError):
        return StoreError(f"{url} cannot be read: {error}")
    if isinstance(error, Fault):
        return error
    if isinstance(error, e.ClientError):
        return _explain_answer(error.response, url, source)
    if isinstance(error, e.SSLError):
        return Fault(
            f"the server of {_where(source)} could not be trusted or spoke no TLS ({_said(error)})",
            "Check the endpoint URL and the certificates (AWS_CA_BUNDLE).",
            hopeless=True,
        )
    if isinstance(
        error, (e.EndpointConnectionError, e.ConnectTimeoutError, e.ProxyConnectionError)
    ):
        return Fault(
            f"{_where(source)} cannot be reached ({_said(error)})",
            "Check the network, and --endpoint-url or AWS_ENDPOINT_URL where it is not Amazon's.",
            hopeless=True,
        )
    if isinstance(error, _no_credentials()):
        return StoreError(
            f"{url} cannot be read, as there are no credentials that can be used ({_said(error)}). "
            "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or give --aws-profile, or --anon "
            "for a public bucket."
        )
    return _explain_connection(error, url)


def _where(source: Source) -> str:
    endpoint = source.option("endpoint_url")
    return f"the endpoint {endpoint}" if endpoint else "Amazon S3"


# --- answers --------------------------------------------------------------------------------------

_EXPIRED = frozenset(
    {"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"}
)
_PASSING = frozenset(
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
# A request without a body in its answer, such as HEAD, tells the status in place of a code.
_NO_SUCH_OBJECT = frozenset({"404", "NoSuchKey", "NoSuchUpload", "NoSuchVersion", "NotFound"})


def _explain_answer(response: dict[str, Any], url: str, source: Source) -> Fault | StoreError:
    """What the store's own answer of an error means."""
    details = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    code, status = str(details.get("Code", "")), int(metadata.get("HTTPStatusCode") or 0)
    message = " ".join(str(details.get("Message", "")).split())[:200].rstrip(".")
    told = ": ".join(printable(part) for part in (code, message) if part) or str(status)
    if code in _EXPIRED:
        return Expired(
            f"the credentials have expired ({told})",
            "Renew them, and run the job again: what has been fetched is kept.",
            hopeless=True,
        )
    if code in _PASSING or status in (408, 429) or status >= 500:
        return Fault(f"the store answered {told}")
    if code in _OTHER_REGION or status in (301, 307):
        return StoreError(_explain_region(details, metadata, told, source))
    if status == 404 and code not in _NO_SUCH_OBJECT:
        bucket, _, _ = split_bucket(source.root)
        return StoreError(
            f"There is no bucket {bucket} at {_where(source)}. Check its name, and "
            "--endpoint-url where it is not Amazon's."
        )
    if status == 404:
        return MissingObject(
            f"{url} is not there any more ({told}): it was deleted after it was listed. List "
            "the bucket again, or leave such objects out with --skip-missing."
        )
    if status in (412, 416):
        return changed(url)
    return StoreError(_explain_refusal(code, status, told, url))


def _explain_region(
    details: dict[str, Any], metadata: dict[str, Any], told: str, source: Source
) -> str:
    bucket, _, _ = split_bucket(source.root)
    region = details.get("Region") or metadata.get("HTTPHeaders", {}).get("x-amz-bucket-region")
    endpoint = details.get("Endpoint")
    which = f"in region {region}" if region else f"at {endpoint}" if endpoint else "elsewhere"
    give = f"--region {region}" if region else "its --region, or its --endpoint-url"
    return f"The bucket {bucket} is {which}, not where it was asked for ({told}). Give {give}."


def _explain_refusal(code: str, status: int, told: str, url: str) -> str:
    if code in ("InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "InvalidSecurity"):
        return (
            f"The store does not accept the credentials for {url} ({told}). Correct them, or give "
            "another --aws-profile."
        )
    if code == "RequestTimeTooSkewed":
        return f"The store refuses {url}, as this machine's clock is wrong ({told}). Set the clock."
    if code == "InvalidObjectState":
        return f"{url} is archived ({told}). Restore it first, or exclude it by the filter."
    if status == 403:
        return (
            f"Access to {url} was denied ({told}). Check that the credentials may list the bucket and "
            "read its objects (s3:ListBucket, s3:GetObject), or give another --aws-profile; --anon for "
            "a public bucket, --requester-pays where the reader pays."
        )
    return f"The store refuses {url} ({told}). Check the name of the bucket and the endpoint URL."


# --- connections ----------------------------------------------------------------------------------


def _no_credentials() -> tuple[type[Exception], ...]:
    import botocore.exceptions as e

    return (
        e.ConfigNotFound, e.ConfigParseError, e.CredentialRetrievalError, e.InvalidConfigError,
        e.NoAuthTokenError, e.NoCredentialsError, e.PartialCredentialsError, e.ProfileNotFound,
        e.SSOError, e.TokenRetrievalError,
    )  # fmt: skip


def _explain_connection(error: Exception, url: str) -> Fault | StoreError:
    """What is left is a connection that broke, an answer that could not be read, or a mistake."""
    import aiohttp
    import botocore.exceptions as e
    from botocore.parsers import ResponseParserError

    if isinstance(error, (e.ReadTimeoutError, TimeoutError)):
        return Fault("no byte came for too long", "Check the network, or raise read-timeout.")
    if isinstance(error, (e.HTTPClientError, e.IncompleteReadError, aiohttp.ClientError, OSError)):
        return Fault(
            f"the connection broke ({_said(error)})",
            "Check the network, and that the endpoint is an S3 store: what has been fetched is kept.",
            broken=True,
        )
    if isinstance(error, (e.FlexibleChecksumError, e.ChecksumError)):
        return Fault(f"the bytes that came are not those of the object ({_said(error)})", anew=True)
    if isinstance(error, ResponseParserError):
        return Fault(
            "what came is no answer of an S3 store",
            "Check that the endpoint is one, and that no proxy answers for it.",
            hopeless=True,
        )
    return StoreError(
        f"{url} cannot be asked for: {type(error).__name__}: {_said(error)}. Check the name of the "
        "bucket, the endpoint URL and the region."
    )


def _said(error: Exception) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return printable(text)[:300].rstrip(".")
