"""The input of a job: files in a data dir, objects in a store, or both."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from daskmr.data.input_file import UNNAMED, SourceNames
from daskmr.data.listing import InputFile, Listing, list_files, unite
from daskmr.data.sampling import EVERYTHING, Choice
from daskmr.data.sources.given import Sources, parse_sources
from daskmr.data.sources.named_files import NO_DIMENSIONS, list_sources
from daskmr.data.spill_dir import HostFolder
from daskmr.errors import InputError, NothingMatchedError
from daskmr.normal_forms import variant_of
from daskmr.store.open_stores import shared_store
from daskmr.store.source import Source, StoreError, parse_source, split_bucket
from daskmr.text import some

if TYPE_CHECKING:
    from daskmr.config import Config
    from daskmr.data.cache.cache import Cache, State
    from daskmr.data.cache.fetcher import Fetcher
    from daskmr.data.layout import Schema
    from daskmr.store.store import Store

__all__ = ["Inputs", "Remote", "find_inputs", "source_of"]


@dataclass(frozen=True, slots=True)
class Remote:
    """The remote objects of a job, as a mapper fetches them. It may be pickled: it holds no secret."""

    source: Source  # the bucket or folder of the objects
    cache_root: str | None  # the data dir for local copies; ``None``: keep no copies
    retries: int  # maximum number of retries of a request
    prefetch_bytes: int  # maximum number of bytes fetched ahead of the mapper
    skip_missing: bool  # skip objects that cannot be fetched
    offline: bool  # do not use the network
    host: HostFolder | None = None  # folder for copies on hosts that do not share the work dir
    beside: bool = False  # fetch in separate processes, rather than in the workers
    # Start of the run in Unix seconds, by the clock of the machine whose workers fetch `beside`;
    # ``None`` if no workers do.
    began: float | None = None

    def open_cache(self) -> Cache | None:
        """Open the cache for this process; ``None`` if no copies are kept."""
        from daskmr.data.cache.cache import Cache

        if self.host is not None and self.cache_root is not None:
            return Cache.of(self.host.work_dir(), self.source)
        return None if self.cache_root is None else Cache(self.cache_root)

    def open_store(self) -> Store:
        """Return the store of this process, which is opened on the first call."""
        if self.offline:
            raise StoreError(
                f"A file of {self.source.url} was removed from the cache, or changed there, while "
                "the job ran with --local-only. Run the job again without --local-only."
            )
        return shared_store(self.source, self.retries)

    def open_fetcher(self) -> Fetcher | None:
        """Return the process that fetches for this one, if any."""
        if not self.beside or self.cache_root is None:
            return None
        from daskmr.data.cache.fetcher import Order, fetcher_for
        from daskmr.data.cache.prefetch import AT_ONCE

        return fetcher_for(Order(self.source, self.retries, self.cache_root, AT_ONCE))

    def locate(self, path: str) -> str:
        """Return the path of the object's local copy, or its URL."""
        if self.cache_root is not None and self.host is None:
            return os.path.join(self.cache_root, path)
        return f"{self.source.url}/{path}"


@dataclass(frozen=True, slots=True)
class Inputs:
    """The input of a job."""

    listing: Listing  # its files, in input order
    root: str  # the data dir; ``""`` if there is none
    remote: Remote | None = None  # the source of remote files, if any
    cached: int = 0  # number of remote files that are already in the cache
    cached_bytes: int = 0  # their size
    notes: tuple[str, ...] = ()  # warnings for the summary
    listings: int = 0  # number of listing requests to the store
    sources: SourceNames = UNNAMED

    def locate(self, path: str) -> str:
        """Return the location of a file of the input: a local path or a URL."""
        local = os.path.join(self.root, path)
        if self.remote is None or (self.root and os.path.exists(local)):
            return local
        return self.remote.locate(path)

    def delete_copies(self, paths: Sequence[str]) -> int:
        """Delete files from the cache, and return their number."""
        from daskmr.data.cache.upkeep import remove

        with self.open_cache() or nullcontext() as cache:
            return 0 if cache is None else remove(cache, paths).files

    def state(self) -> State | None:
        """Look up the listed objects in the cache; return ``None`` without a cache."""
        with self.open_cache() or nullcontext() as cache:
            return None if cache is None else cache.state(_to_fetch(self), use=False)

    def sweep(self) -> None:
        """Remove the temporary files of processes that died while fetching."""
        with self.open_cache() or nullcontext() as cache:
            if cache is not None:
                cache.sweep()

    def open_cache(self) -> Cache | None:
        """Open the cache, if there is one."""
        return self.remote.open_cache() if self.remote is not None else None


def find_inputs(
    sources: Sources | str | os.PathLike[str] | None,
    schema: Schema,
    config: Config,
    on_progress: Callable[[int, int], object] | None = None,
    choice: Choice = EVERYTHING,
    *,
    to_read: bool = True,
    stdin: str | None = None,
) -> Inputs:
    """List the files that the filter allows, in local sources and in the bucket.

    If a path exists in both a data dir and the bucket, the data dir's file is read.

    - `sources`: the values of ``data_dir``, or one of them.
    - `config`: the ``bucket``, the settings to access it, and the settings of the cache.
    - `on_progress`: called from another thread with the numbers of prefixes listed and files found
      so far.
    - `to_read`: the files are going to be read: check the disk space for those to fetch, and mark
      those in the cache as used. If false, call `Inputs.state` to look up the cached files.
    - `stdin`: the file that holds the data from standard input.
    Raises `InputError`: no input is given, a bucket cannot be read, there is too little disk space,
    or, without the network, a prefix or file was never listed or fetched.
    """
    if not isinstance(sources, Sources):
        sources = parse_sources(sources)
    search = _Search(sources, schema, sources.settled(config), choice, stdin)
    inputs = search.run(on_progress, to_read)
    return replace(
        inputs,
        notes=(*inputs.notes, *inputs.listing.explain_variants()),
        sources=SourceNames(sources.named(), sources.named(search.config.bucket)),
    )


def source_of(url: str, config: Config) -> Source:
    """Return the source at the URL of a bucket or folder, with the access settings of `config`."""
    return parse_source(
        url,
        endpoint_url=config.endpoint_url,
        profile=config.aws_profile,
        region=config.region,
        anon=config.anon,
        requester_pays=config.requester_pays,
        read_timeout=config.read_timeout,
        connect_timeout=config.connect_timeout,
    )


_Local = tuple["Listing | None", tuple[str, ...]]
"""The listing of the local sources, and notes."""


@dataclass(frozen=True, slots=True)
class _Search:
    """The parameters of `find_inputs`."""

    sources: Sources
    schema: Schema
    config: Config
    choice: Choice
    stdin: str | None = None

    @property
    def data_dir(self) -> str | None:
        """The data dir; ``None`` without local sources, and for several or for files."""
        return self.sources.folder

    def run(self, on_progress: Callable[[int, int], object] | None, to_read: bool) -> Inputs:
        config = self.config
        if config.bucket is None:
            if not self.sources.local:
                raise InputError("There is nothing to read from. Give --data-dir (-d) or --bucket.")
            return self._local(on_progress)
        source = source_of(config.bucket, config)
        if config.local_only:
            return self._offline(self._known_cache(source), source, self._local_listing)
        inputs = self._online(source, on_progress)
        with (inputs.open_cache() if to_read else None) or nullcontext() as cache:
            if cache is None:
                return inputs
            state = cache.state(_to_fetch(inputs))
            cache.check_space(state, config.cache_max)
        return replace(inputs, cached=state.files, cached_bytes=state.bytes)

    def _local(self, on_progress: Callable[[int, int], object] | None) -> Inputs:
        cache = _cache_at(self.data_dir)
        if cache is not None and self.config.local_only:
            # The cache may hold only a part of the files that the filter allows.
            return self._offline(cache, parse_source(cache.url), lambda cache: (None, ()))
        listing, notes = self._list_local(on_progress)
        listing = self._chosen(listing)
        notes += () if cache is None else _altered(cache, listing.files)
        return Inputs(listing, listing.root, notes=notes)

    def _list_local(
        self, on_progress: Callable[[int, int], object] | None = None
    ) -> tuple[Listing, tuple[str, ...]]:
        work_dir = self.config.work_dir
        if self.data_dir is not None:
            return list_files(self.data_dir, self.schema, work_dir, on_progress), ()
        return list_sources(
            self.sources,
            self.schema,
            has_layout=self.schema.has_layout,
            own_folder=work_dir,
            allow_empty=self.config.allow_empty,
            stdin=self.stdin,
        )

    def _online(self, source: Source, on_progress: Callable[[int, int], object] | None) -> Inputs:
        from daskmr.data.store_listing import list_store
        from daskmr.store.store import Store

        with Store(source, self.config.fetch_retries) as store:
            store.check()  # first, so that no cache is created for a misspelled bucket
            cache = self._cache(source)
            local, notes = self._local_listing(cache)
            if cache is not None:
                cache.sweep()
            recorder = cache.recording() if cache is not None else None
            listing = list_store(store, self.schema, recorder=recorder, on_progress=on_progress)
            listings = store.listings
        if not listing.files:
            _refuse_variant(source, self.config)
        if listing.repeated:
            again = "listed some keys or prefixes more than once"
            notes += (f"{listing.root} {again} ({listing.repeated:,} repeats); each counts once",)
        inputs = self._united(local, listing, source, cache)
        return replace(inputs, listings=listings, notes=notes)

    def _offline(
        self, cache: Cache, source: Source, list_local: Callable[[Cache], _Local]
    ) -> Inputs:
        """List the files that earlier runs have listed and fetched, without using the network."""
        from daskmr.data.offline_listing import list_recorded

        config = self.config
        listing, notes = list_recorded(
            cache.recorded(), source.url, self.schema, allow_incomplete=config.allow_incomplete
        )
        local, more = list_local(cache)
        inputs, notes = self._united(local, listing, source, cache), (*more, *notes)
        state = cache.state(_to_fetch(inputs))
        if state.absent:
            explanation = state.explain_absent()
            if not config.allow_incomplete:
                raise InputError(
                    f"{explanation}. Run once without --local-only, narrow the filter, or use "
                    "--allow-incomplete to continue without them."
                )
            absent = {file.path for file in state.absent}
            files = tuple(f for f in inputs.listing.files if f.path not in absent)
            if not files and not config.allow_empty:
                raise NothingMatchedError(f"There is nothing to read: {explanation}.")
            inputs = replace(inputs, listing=replace(inputs.listing, files=files))
            notes = (*notes, explanation)
        return replace(inputs, cached=state.files, cached_bytes=state.bytes, notes=notes)

    def _known_cache(self, source: Source) -> Cache:
        """Return the cache of `source` from an earlier run."""
        from daskmr.data.cache.cache import caches

        work_dir = self.config.work_dir
        if not self.config.cache:
            raise InputError(
                "--local-only reads the cache, which --no-cache disables: use only one of them."
            )
        for cache in (_cache_at(self.data_dir), *caches(work_dir)):
            if cache is not None and cache.manifest.meta("identity") == source.identity:
                return cache
        raise InputError(
            f"Nothing was ever fetched from {source.identity} with the work dir {work_dir!r}. "
            "Run once without --local-only, or name the work dir of earlier runs with --work-dir."
        )

    def _cache(self, source: Source) -> Cache | None:
        if not self.config.cache:
            return None
        from daskmr.data.cache.cache import Cache

        given = _cache_at(self.data_dir)
        if given is not None and given.manifest.meta("identity") == source.identity:
            return given
        return Cache.of(self.config.work_dir, source)

    def _local_listing(self, cache: Cache | None) -> _Local:
        """List the local sources, unless they are the cache itself."""
        if not self.sources.local:
            return None, ()
        given = self.data_dir
        if given is not None and cache is not None:
            is_cache = os.path.realpath(given) == os.path.realpath(cache.root)
            return (None, ()) if is_cache else self._list_local()
        return self._list_local()

    def _united(
        self, local: Listing | None, listing: Listing, source: Source, cache: Cache | None
    ) -> Inputs:
        config = self.config
        remote = Remote(
            source,
            cache.root if cache is not None else None,
            config.fetch_retries,
            config.prefetch_bytes,
            config.skip_missing,
            config.local_only,
        )
        if local is None:
            return Inputs(self._chosen(listing), "", remote)
        if local.layout == NO_DIMENSIONS:  # of files that are named
            local = replace(local, schema=listing.schema, seen=listing.seen)
        united = unite(local, listing)
        if self.data_dir is None:
            _refuse_shared_path(local, listing)
        return Inputs(self._chosen(united), local.root, remote)

    def _chosen(self, listing: Listing) -> Listing:
        if not listing.files:
            return listing
        return replace(listing, files=self.choice.files(listing.files))


def _refuse_shared_path(local: Listing, remote: Listing) -> None:
    """Raise InputError if several local sources and a store have the same path.

    Only a single data dir is known to hold copies of the objects in the store.
    """
    shared = {file.path for file in local.files} & {file.path for file in remote.files}
    if shared:
        raise InputError(
            f"{min(shared)} is both in {local.root} and in {remote.root}, and it is not known whether "
            "both are to be read. Run the job over one of them, or give a single folder as -d: its "
            "files then replace those of the store."
        )


def _altered(cache: Cache, files: Sequence[InputFile]) -> tuple[str, ...]:
    """Describe the files of a cache, read as a data dir, that were modified after the fetch."""
    copies = cache.manifest.get([file.path for file in files])
    altered = [
        path for path, copy in copies.items() if not copy.is_unchanged(cache.staging.found(path))
    ]
    if not altered:
        return ()
    return (
        f"{len(altered):,} files in {cache.root} were modified after they were fetched from "
        f"{cache.url}, and were read as they are: {some(sorted(altered))}",
    )


def _cache_at(data_dir: str | os.PathLike[str] | None) -> Cache | None:
    if data_dir is None or not os.path.exists(f"{os.path.abspath(data_dir)}.sqlite"):
        return None
    from daskmr.data.cache.cache import Cache

    return Cache.at(os.fspath(data_dir))


def _refuse_variant(source: Source, config: Config) -> None:
    """Raise InputError if the prefix exists in the bucket only in another Unicode normal form."""
    from daskmr.store.store import Store

    bucket, _, prefix = split_bucket(source.root)
    if source.protocol != "s3" or prefix.isascii():
        return
    above = ""
    with Store(replace(source, root=bucket), config.fetch_retries) as store:
        for name in prefix.split("/"):
            if not name.isascii():
                # The last ASCII letter may be the base of the first non-ASCII character.
                start = "".join(takewhile(str.isascii, name))[:-1]
                pages = store.list(above, start)
                found = variant_of(name, {e.name for page in pages for e in page if e.is_dir})
                if found is not None:
                    raise InputError(
                        f"There is no file below {source.url}, but there is "
                        f"{store.source.url_of(above + found)}, which differs only in its Unicode "
                        f"normal form ({found!a} instead of {name!a}). Use that URL."
                    )
            above += f"{name}/"


def _to_fetch(inputs: Inputs) -> list[InputFile]:
    """Return the files that are in the store."""
    return [file for file in inputs.listing.files if file.is_remote]
