"""Reading what S3 answers to ListObjectsV2, page by page; pure."""

from __future__ import annotations

from typing import Any, NoReturn

from daskmr.store.source import Entry, Fault, Page, StoreError, printable

__all__ = ["Pagination", "parse_page"]

_MOST_IDLE = 1000  # pages in a row without a new entry; some servers skip what was deleted by pages


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

    def object_name(text: str) -> str:
        name = name_of(text)
        if "/" in name:
            _no_listing(f'it has an object below the next "/", {name!r}')
        return name

    def directory_name(text: str) -> str:
        name = name_of(text)
        if name.find("/") != len(name) - 1:
            _no_listing(f'it has a common prefix that does not end at the next "/", {name!r}')
        return name[:-1]

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
                object_name(fields.get(f"{space}Key", "")),
                False,
                int(fields.get(f"{space}Size", "")),
                fields.get(f"{space}ETag", "").strip('"') or None,
                _timestamp(fields.get(f"{space}LastModified")),
            )
        )
    for element in root.iterfind(f"{space}CommonPrefixes/{space}Prefix"):
        entries.append(Entry(directory_name(element.text or ""), True))
    return Page(entries, token)


class Pagination:
    """Makes sure that each page of one listing goes on where the page before it ended.

    Parameters
    ----------
    url : str
        What is listed, for messages.
    ordered : bool
        Whether the store lists by the bytes of the keys. A store that does not may bring an object
        twice on two pages that are not neighbours.

    Examples
    --------
    >>> pagination = Pagination("s3://bucket")
    >>> idle, saved = Entry("idle", True), Entry("saved_session", True)
    >>> pagination.advance(Page([idle], "1")).entries == [idle]
    True
    >>> pagination.advance(Page([idle, saved], None)).entries == [saved]
    True
    >>> pagination.advance(Page([Entry("a", False)], None))
    Traceback (most recent call last):
        ...
    daskmr.store.source.StoreError: s3://bucket cannot be listed: its pages are out of order: 'a' came ...
    """

    def __init__(self, url: str, ordered: bool = True) -> None:
        self._url = url
        self._ordered = ordered
        self._last: str | None = None
        self._page: set[str] = set()
        self._directories: set[str] = set()
        self._tokens: set[int] = set()
        self._pages: set[int] = set()
        self._idle = 0

    def advance(self, page: Page) -> Page:
        """Return the next page without the entries that have come before.

        Raises
        ------
        StoreError
            When the listing goes backwards, or does not end.
        """
        current: set[str] = set()
        fresh: list[Entry] = []
        is_known_page = self._is_known_page(page)
        for entry in page.entries:
            key = _key(entry)
            if not (is_known_page or key in current or self._has_come(entry, key)):
                fresh.append(entry)
            current.add(key)
        self._directories.update(entry.name for entry in fresh if entry.is_dir)
        self._page = current or self._page
        if self._ordered and fresh:
            self._last = max(map(_key, fresh))
        self._check_end(page.token, bool(fresh))
        return Page(fresh, page.token)

    def _has_come(self, entry: Entry, key: str) -> bool:
        if entry.is_dir and entry.name in self._directories:
            return True
        if key in self._page:
            return True
        # Text compares by code points, which is the order of its bytes in UTF-8.
        if self._ordered and self._last is not None and key <= self._last:
            raise StoreError(
                f"{self._url} cannot be listed: its pages are out of order: {key!r} came after "
                f"{self._last!r}, so objects could be missed or count twice. Only the directory "
                "buckets of S3 may list so. Check that the endpoint is an S3 store, or copy the data "
                "and give the copy as --data-dir."
            )
        return False

    def _is_known_page(self, page: Page) -> bool:
        """Whether a store without an order gives a whole page again; it may do so for ever."""
        if self._ordered or not page.entries:
            return False
        digest = hash(frozenset(map(_key, page.entries)))
        known = digest in self._pages
        self._pages.add(digest)
        return known

    def _check_end(self, token: str | None, advanced: bool) -> None:
        if token is None:
            return
        self._idle = 0 if advanced else self._idle + 1
        if hash(token) in self._tokens or self._idle > _MOST_IDLE:
            raise StoreError(
                f"{self._url} cannot be listed: the store gives the same pages again and again, so "
                "the listing would never end. Check that the endpoint is an S3 store, or copy the "
                "data and give the copy as --data-dir."
            )
        self._tokens.add(hash(token))


def _key(entry: Entry) -> str:
    """The end of an entry's key: a directory stands among the objects where its "/" puts it."""
    return f"{entry.name}/" if entry.is_dir else entry.name


def _timestamp(text: str | None) -> float | None:
    from datetime import datetime

    return None if text is None else datetime.fromisoformat(text).timestamp()


def _no_listing(reason: str) -> NoReturn:
    raise Fault(
        f"what came is no listing of the bucket: {printable(reason)[:200]}",
        "Check that the endpoint is an S3 store, and that no proxy answers for it.",
        hopeless=True,
    )
