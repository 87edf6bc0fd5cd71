"""Reading what S3 answers to ListObjectsV2; pure."""

from __future__ import annotations

from typing import Any, NoReturn

from daskmr.remote import Entry, Fault, Page, printable

__all__ = ["parse_page"]


def parse_page(body: bytes, bucket: str, prefix: str, name_prefix: str) -> Page:
    """Read the answer to ListObjectsV2, and make sure that it is one, to this question.

    Parameters
    ----------
    body : bytes
        XML.
    bucket, prefix, name_prefix : str
        What was asked for: the names that begin with `name_prefix`, directly below the key
        `prefix`, which is "" or ends in "/".

    Raises
    ------
    Fault
        It may be another server's page, or cut off; it must not be taken for an empty listing.

    Examples
    --------
    >>> body = b'''<ListBucketResult><Name>b</Name><Prefix>idle/</Prefix>
    ... <IsTruncated>false</IsTruncated><EncodingType>url</EncodingType>
    ... <Contents><Key>idle/a%0A1</Key><Size>7</Size><ETag>"12"</ETag></Contents>
    ... <CommonPrefixes><Prefix>idle/Firefox/</Prefix></CommonPrefixes></ListBucketResult>'''
    >>> for entry in parse_page(body, "b", "idle/", "").entries:
    ...     print(entry)
    Entry(name='a\\n1', is_dir=False, size=7, etag='12', mtime=None)
    Entry(name='Firefox', is_dir=True, size=0, etag=None, mtime=None)
    """
    from xml.etree import ElementTree

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
    from urllib.parse import unquote_plus

    encoded = root.findtext(f"{space}EncodingType") == "url"

    def decoded(text: str) -> str:
        return unquote_plus(text, errors="strict") if encoded else text

    def name_of(text: str) -> str:
        key = decoded(text)
        if not key.startswith(asked):
            _no_listing(f"it has a key that was not asked for, {key!r}")
        return key[len(prefix) :]

    asked = prefix + name_prefix
    answered = root.findtext(f"{space}Prefix")
    if root.findtext(f"{space}Name") != bucket or decoded(answered or "") not in ("", asked):
        _no_listing("it is of another bucket or prefix")
    truncated = root.findtext(f"{space}IsTruncated")
    token = root.findtext(f"{space}NextContinuationToken") if truncated == "true" else None
    if truncated not in ("true", "false") or (truncated == "true" and not token):
        _no_listing("it does not say whether it goes on")
    entries = []
    for element in root.iterfind(f"{space}Contents"):
        fields = {child.tag: child.text or "" for child in element}
        entries.append(
            Entry(
                name_of(fields.get(f"{space}Key", "")),
                False,
                int(fields.get(f"{space}Size", "")),
                fields.get(f"{space}ETag", "").strip('"') or None,
                _timestamp(fields.get(f"{space}LastModified")),
            )
        )
    for element in root.iterfind(f"{space}CommonPrefixes/{space}Prefix"):
        entries.append(Entry(name_of(element.text or "").removesuffix("/"), True))
    return Page(entries, token)


def _timestamp(text: str | None) -> float | None:
    from datetime import datetime

    return None if text is None else datetime.fromisoformat(text).timestamp()


def _no_listing(reason: str) -> NoReturn:
    raise Fault(
        f"what came is no listing of the bucket: {printable(reason)[:200]}",
        "Check that the endpoint is an S3 store, and that no proxy answers for it.",
        hopeless=True,
    )
