"""What a job reads: the files of a data dir, the objects of a store, or both together."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from typing import TYPE_CHECKING

from daskmr.data.listing import InputFile, Listing, list_files, unite
from daskmr.data.sampling import EVERYTHING, Choice
from daskmr.data.spill_dir import HostFolder
from daskmr.errors import InputError, NothingMatchedError
from daskmr.normal_forms import twin_of
from daskmr.store.open_stores import shared_store
from daskmr.store.source import Source, StoreError, parse_source, split_bucket

if TYPE_CHECKING:
    from daskmr.config import Config
    from daskmr.data.cache.cache import Cache, State
    from daskmr.data.cache.fetcher import Fetcher
    from daskmr.data.layout import Schema
    from daskmr.store.store import Store

__all__ = ["Inputs", "Remote", "find_inputs", "source_of"]

_WHERE = "Give --data-dir, --bucket, or both."


@dataclass(frozen=True, slots=True)
class Remote:
    """How a mapper comes by objects. It may be pickled: it holds no secret.

    Attributes
    ----------
    source : Source
        Where they are.
    cache_root : str or None
        The data dir of their local copies; ``None`` keeps none.
    retries : int
        How often a request is tried again.
    prefetch_bytes : int
        Bytes that may be on their way ahead of the mapper.
    skip_missing : bool
        Leave out what cannot be fetched.
    offline : bool
        Touch no network.
    host : HostFolder or None
        Keeps the copies, on hosts that do not see the work dir.
    beside : bool
        Processes beside the workers fetch; else the workers do.
    began : float or None
        When the run began, in seconds since 1970, by the clock of the machine whose workers fetch
        `beside`; ``None`` where none do.
    """

    source: Source
    cache_root: str | None
    retries: int
    prefetch_bytes: int
    skip_missing: bool
    offline: bool
    host: HostFolder | None = None
    beside: bool = False
    began: float | None = None

    def open_cache(self) -> Cache | None:
        """Open the local copies, in the process that uses them."""
        from daskmr.data.cache.cache import Cache

        if self.host is not None and self.cache_root is not None:
            return Cache.of(self.host.work_dir(), self.source)
        return None if self.cache_root is None else Cache(self.cache_root)

    def open_store(self) -> Store:
        """Give this process's store, which is made when it is first asked for."""
        if self.offline:
            raise StoreError(
                f"A file of {self.source.url} was removed from the cache, or changed there, while "
                "the job ran with --local-only. Run it again without."
            )
        return shared_store(self.source, self.retries)

    def open_fetcher(self) -> Fetcher | None:
        """Give the process that fetches for this one, if there is to be one."""
        if not self.beside or self.cache_root is None:
            return None
        from daskmr.data.cache.fetcher import Order, fetcher_for
        from daskmr.data.cache.prefetch import AT_ONCE

        return fetcher_for(Order(self.source, self.retries, self.cache_root, AT_ONCE))

    def locate(self, path: str) -> str:
        """Say where an object, or its copy, is to be found."""
        if self.cache_root is not None and self.host is None:
            return os.path.join(self.cache_root, path)
        return f"{self.source.url}/{path}"


@dataclass(frozen=True, slots=True)
class Inputs:
    """What a job reads.

    Attributes
    ----------
    listing : Listing
        All of it, in input order.
    root : str
        The data dir; ``""`` when there is none.
    remote : Remote or None
        How to come by the files that have been listed in a store.
    cached, cached_bytes : int
        What of those is in the cache already.
    notes : tuple of str
        What is missing, where the job goes on without.
    listings : int
        Requests that listed a store.
    """

    listing: Listing
    root: str
    remote: Remote | None = None
    cached: int = 0
    cached_bytes: int = 0
    notes: tuple[str, ...] = ()
    listings: int = 0

    def locate(self, path: str) -> str:
        """Say where the file of this path is to be found."""
        local = os.path.join(self.root, path)
        if self.remote is None or (self.root and os.path.exists(local)):
            return local
        return self.remote.locate(path)

    def delete_copies(self, paths: Sequence[str]) -> int:
        """Delete local copies of objects, and tell how many there were."""
        from daskmr.data.cache.upkeep import remove

        cache = self.open_cache()
        if cache is None:
            return 0
        with cache:
            return remove(cache, paths).files

    def state(self) -> State | None:
        """Say which of the listed objects have a local copy; ``None`` where none are kept."""
        cache = self.open_cache()
        if cache is None:
            return None
        with cache:
            return cache.state(_to_fetch(self), use=False)

    def sweep(self) -> None:
        """Clear away what processes have left that died while they fetched."""
        cache = self.open_cache()
        if cache is not None:
            with cache:
                cache.sweep()

    def open_cache(self) -> Cache | None:
        """Open the local copies, where any are kept."""
        return self.remote.open_cache() if self.remote is not None else None


def find_inputs(
    data_dir: str | os.PathLike[str] | None,
    schema: Schema,
    config: Config,
    on_progress: Callable[[int, int], object] | None = None,
    choice: Choice = EVERYTHING,
    *,
    to_read: bool = True,
) -> Inputs:
    """List what the filter allows, in the data dir and in the bucket.

    An object that lies in the data dir under the same relative name is read there.

    Parameters
    ----------
    data_dir : path, optional
        Where local files are.
    schema : Schema
        The layout and the filter.
    config : Config
        Of which ``bucket`` and how to reach it are used, and what is said of the cache.
    on_progress : callable, optional
        Called with the prefixes listed and the files found so far, from another thread.
    choice : Choice
        Which part of it to read.
    to_read : bool
        The files are going to be read: there must be room for those that are fetched, and the cache
        notes that the others are used. Without, `Inputs.state` tells what of them is there.

    Raises
    ------
    InputError
        Before any work: nothing to read from, a bucket that cannot be read, too little disk, or,
        without the network, something that was never listed or fetched.
    """
    inputs = _found(data_dir, schema, config, on_progress, choice, to_read)
    return replace(inputs, notes=(*inputs.notes, *inputs.listing.explain_twins()))


def _found(
    data_dir: str | os.PathLike[str] | None,
    schema: Schema,
    config: Config,
    on_progress: Callable[[int, int], object] | None,
    choice: Choice,
    to_read: bool,
) -> Inputs:
    if config.bucket is None:
        if data_dir is None:
            raise InputError(f"There is nothing to read from. {_WHERE}")
        return _local(data_dir, schema, config, choice)
    source = source_of(config.bucket, config)
    if config.local_only:
        cache = _known(source, data_dir, config)
        return _recorded(cache, data_dir, source, schema, config, choice)
    inputs = _listed(data_dir, source, schema, config, on_progress, choice)
    return _with_room(inputs, config) if to_read else inputs


def source_of(url: str, config: Config) -> Source:
    """Say where a bucket or folder of a store is, and how `config` wants it reached."""
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


def _local(
    data_dir: str | os.PathLike[str], schema: Schema, config: Config, choice: Choice
) -> Inputs:
    cache = _cache_at(data_dir)
    if cache is not None and config.local_only:
        # Somebody has fetched it, and maybe only a part of what the filter allows.
        return _recorded(cache, None, parse_source(cache.url), schema, config, choice)
    listing = _chosen(list_files(data_dir, schema), choice)
    notes = () if cache is None else _altered(cache, listing.files)
    return Inputs(listing, listing.root, notes=notes)


def _chosen(listing: Listing, choice: Choice) -> Listing:
    if not listing.files:
        return listing
    return replace(listing, files=choice.files(listing.files))


def _altered(cache: Cache, files: Sequence[InputFile]) -> tuple[str, ...]:
    """Tell which files of a cache that is read as a data dir are not what was fetched."""
    copies = cache.manifest.get([file.path for file in files])
    altered = [path for path, copy in copies.items() if not copy.lies_as(cache.staging.found(path))]
    if not altered:
        return ()
    more = f" and {len(altered) - 3:,} more" if len(altered) > 3 else ""
    return (
        f"{len(altered):,} files in {cache.root} are not as they were fetched from {cache.url}, and "
        f"were read as they are: {', '.join(sorted(altered)[:3])}{more}",
    )


def _cache_at(data_dir: str | os.PathLike[str] | None) -> Cache | None:
    if data_dir is None or not os.path.exists(f"{os.path.abspath(data_dir)}.sqlite"):
        return None
    from daskmr.data.cache.cache import Cache

    return Cache.at(os.fspath(data_dir))


def _known(source: Source, data_dir: str | os.PathLike[str] | None, config: Config) -> Cache:
    """The cache of `source`, which an earlier run has made."""
    from daskmr.data.cache.cache import caches

    if not config.cache:
        raise InputError("--local-only reads the cache, and --no-cache has none: leave one out.")
    for cache in (_cache_at(data_dir), *caches(config.work_dir)):
        if cache is not None and cache.manifest.meta("identity") == source.identity:
            return cache
    raise InputError(
        f"Nothing was ever fetched from {source.identity} with the work dir {config.work_dir!r}. "
        "Run it once without --local-only, or name the work dir of earlier runs with --work-dir."
    )


def _cache_of(
    source: Source, data_dir: str | os.PathLike[str] | None, config: Config
) -> Cache | None:
    if not config.cache:
        return None
    from daskmr.data.cache.cache import Cache

    given = _cache_at(data_dir)
    if given is not None and given.manifest.meta("identity") == source.identity:
        return given
    return Cache.of(config.work_dir, source)


def _beside(
    data_dir: str | os.PathLike[str] | None, cache: Cache | None, schema: Schema
) -> Listing | None:
    """List the data dir, unless it is the cache itself, whose rules hold then."""
    if data_dir is None:
        return None
    if cache is not None and os.path.realpath(data_dir) == os.path.realpath(cache.root):
        return None
    return list_files(data_dir, schema)


def _remote(source: Source, cache: Cache | None, config: Config) -> Remote:
    return Remote(
        source,
        cache.root if cache is not None else None,
        config.fetch_retries,
        config.prefetch_bytes,
        config.skip_missing,
        config.local_only,
    )


def _listed(
    data_dir: str | os.PathLike[str] | None,
    source: Source,
    schema: Schema,
    config: Config,
    on_progress: Callable[[int, int], object] | None,
    choice: Choice,
) -> Inputs:
    from daskmr.data.store_listing import list_store
    from daskmr.store.store import Store

    with Store(source, config.fetch_retries) as store:
        store.check()  # first of all: a bucket of a wrong name must not get a cache
        cache = _cache_of(source, data_dir, config)
        local = _beside(data_dir, cache, schema)
        if cache is not None:
            cache.sweep()
        recorder = cache.recording() if cache is not None else None
        listing = list_store(store, schema, recorder=recorder, on_progress=on_progress)
        listings = store.listings
    if not listing.files:
        _refuse_twin(source, config)
    inputs = _united(local, listing, _remote(source, cache, config), choice)
    return replace(inputs, listings=listings, notes=_repeats(listing))


def _refuse_twin(source: Source, config: Config) -> None:
    """Raise InputError where a bucket has what was asked for in another Unicode normal form only."""
    from daskmr.store.store import Store

    bucket, _, prefix = split_bucket(source.root)
    if source.protocol != "s3" or prefix.isascii():
        return
    above = ""
    with Store(replace(source, root=bucket), config.fetch_retries) as store:
        for name in prefix.split("/"):
            if not name.isascii():
                # The last letter that is ASCII may be a part of the first that is not.
                start = "".join(takewhile(str.isascii, name))[:-1]
                pages = store.list(above, start)
                twin = twin_of(name, {e.name for page in pages for e in page if e.is_dir})
                if twin is not None:
                    raise InputError(
                        f"There is no file below {source.url}, but there is "
                        f"{store.source.url_of(above + twin)}, which differs only in its Unicode "
                        f"normal form ({twin!a}, where {name!a} was given). Give that."
                    )
            above += f"{name}/"


def _repeats(listing: Listing) -> tuple[str, ...]:
    """Tell that a store has listed things twice, which its keeper may want to know."""
    if not listing.repeated:
        return ()
    return (
        f"{listing.root} listed keys or prefixes again that it had listed before, "
        f"{listing.repeated:,} in all; each counted once",
    )


def _with_room(inputs: Inputs, config: Config) -> Inputs:
    """Note the use of what is in the cache, and see whether the rest will find room there."""
    cache = inputs.open_cache()
    if cache is None:
        return inputs
    with cache:
        state = cache.state(_to_fetch(inputs))
        cache.check_space(state, config.cache_max)
    return replace(inputs, cached=state.files, cached_bytes=state.bytes)


def _recorded(
    cache: Cache,
    data_dir: str | os.PathLike[str] | None,
    source: Source,
    schema: Schema,
    config: Config,
    choice: Choice,
) -> Inputs:
    """List what earlier runs have recorded and fetched, without asking anybody."""
    from daskmr.data.offline_listing import list_recorded

    listing, notes = list_recorded(
        cache.recorded(), source.url, schema, allow_incomplete=config.allow_incomplete
    )
    local = _beside(data_dir, cache, schema)
    inputs = _united(local, listing, _remote(source, cache, config), choice)
    state = cache.state(_to_fetch(inputs))
    if state.absent:
        inputs = replace(inputs, listing=_without(inputs.listing, state, config))
        notes = (*notes, state.explain_absent())
        if not inputs.listing.files and not config.allow_empty:
            raise NothingMatchedError(f"There is nothing to read: {state.explain_absent()}.")
    return replace(inputs, cached=state.files, cached_bytes=state.bytes, notes=tuple(notes))


def _united(local: Listing | None, listing: Listing, remote: Remote, choice: Choice) -> Inputs:
    if local is None:
        return Inputs(_chosen(listing, choice), "", remote)
    return Inputs(_chosen(unite(local, listing), choice), local.root, remote)


def _to_fetch(inputs: Inputs) -> list[InputFile]:
    """What is not in the data dir."""
    return [file for file in inputs.listing.files if file.is_remote]


def _without(listing: Listing, state: State, config: Config) -> Listing:
    if not config.allow_incomplete:
        raise InputError(
            f"{state.explain_absent()}. Run it once without --local-only, narrow the filter, or "
            "use --allow-incomplete to go on without."
        )
    absent = {file.path for file in state.absent}
    files: tuple[InputFile, ...] = tuple(f for f in listing.files if f.path not in absent)
    return replace(listing, files=files)
