"""The files of a partition: open one after the other, fetch remote ones, and skip some."""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from functools import cache, partial
from typing import TYPE_CHECKING, BinaryIO, cast

from daskmr.counts import NO_COUNTS, Counts
from daskmr.data.listing import InputFile
from daskmr.data.local_file import LocalFile
from daskmr.data.partition import Partition
from daskmr.data.readers.decompression import read_chunks
from daskmr.data.readers.faults import CorruptFileError
from daskmr.data.splits.line_numbers import lines_before
from daskmr.errors import TaskFailed
from daskmr.store.source import StoreError
from daskmr.tasks.crashes import Marker
from daskmr.tasks.guard import TimeIsUp, alarm
from daskmr.tasks.progress import Reporter

if TYPE_CHECKING:
    from daskmr.data.cache.prefetch import Prefetcher
    from daskmr.data.inputs import Remote

__all__ = ["PartitionFiles", "explain_timeout", "source_name", "time_limit"]


class PartitionFiles:
    """The files of a partition, over all attempts to map it.

    - `root`: the data dir.
    - `remote`: how to fetch the files that a store has listed.
    - `poison`: files of any partition to skip, and why.
    - `where`: the worker's name for messages; ``""`` on this machine.
    """

    def __init__(
        self,
        partition: Partition,
        root: str,
        remote: Remote | None,
        poison: Mapping[str, str],
        where: str,
    ) -> None:
        self.partition = partition
        self.where = where
        self.corrupt: dict[str, str] = {}  # corrupt files that are skipped, and why
        self.missing: dict[str, str] = {}  # missing objects that are skipped, and why
        self.poison = {f.path: poison[f.path] for f in partition.files if f.path in poison}
        self.notes: dict[str, None] = {}  # notes on the input, without duplicates
        self._root = root
        self._remote = remote
        self._attempts = 0
        self._counts = NO_COUNTS
        self._ahead: Prefetcher | None = None

    def counts(self) -> Counts:
        """Return the counts of fetched files so far, and the time spent waiting for them."""
        ahead = self._ahead
        if ahead is None:
            return self._counts
        return self._counts + Counts(fetched=ahead.fetched, fetched_bytes=ahead.fetched_bytes)

    def open(
        self, marker: Marker, reporter: Reporter
    ) -> Generator[tuple[InputFile, str | BinaryIO], None, None]:
        """Yield each file that is not skipped, with its local path, or a stream if it has none.

        In a later step of a job, the pairs that it reads are in the place of a stream.
        """
        if self.partition.pairs is not None:
            yield self.partition.files[0], cast(BinaryIO, self.partition.pairs)
            return
        self._attempts += 1
        skipped = self.corrupt.keys() | self.missing.keys() | self.poison.keys()
        files = [file for file in self.partition.files if file.path not in skipped]
        remote, remote_files = self._remote, [file for file in files if file.is_remote]
        if remote is None or not remote_files:
            for file in files:
                yield file, os.path.join(self._root, file.path)
            return
        with self._prefetching(remote, remote_files) as ahead:
            for file in files:
                if not file.is_remote:
                    yield file, os.path.join(self._root, file.path)
                    continue
                marker.fetch(remote.locate(file.path))
                reporter.begin(file.path, fetching=True)
                before = time.monotonic()
                try:
                    source = ahead.take(file)
                except StoreError as error:
                    if not remote.skip_missing:
                        raise
                    self.missing[file.path] = str(error)
                else:
                    self._counts += Counts(waited=time.monotonic() - before)
                    yield file, source

    @contextmanager
    def _prefetching(self, remote: Remote, files: list[InputFile]) -> Iterator[Prefetcher]:
        from daskmr.data.cache.prefetch import Prefetcher

        with ExitStack() as stack:
            cache = remote.open_cache()
            if cache is not None:
                stack.enter_context(cache)
            self._ahead = ahead = Prefetcher(
                cache,
                remote.open_store,
                files,
                remote.prefetch_bytes,
                remote.open_fetcher(),
                ahead=self.partition.ahead,
                began=remote.began if self._attempts == 1 else None,  # count each fetch once
            )
            stack.callback(self._count_fetched)
            yield stack.enter_context(ahead)

    def _count_fetched(self) -> None:
        assert self._ahead is not None
        self.notes.update(dict.fromkeys(self._ahead.notes))
        self._counts, self._ahead = self.counts(), None

    def find_corrupt(self, after: InputFile, marker: Marker, seconds: float | None) -> None:
        """Find all corrupt files after `after`, because another attempt would find only the next.

        - `seconds`: maximum time for one file.
        """
        for file in self.partition.files[self.partition.files.index(after) + 1 :]:
            if not file.is_remote and file.path not in self.poison:
                path = os.path.join(self._root, file.path)
                marker.begin(path, file.path)
                with (
                    time_limit(seconds, path),
                    suppress(OSError),  # reported when the file is mapped
                    self.open_local(file, path) as local,
                ):
                    try:
                        deque(read_chunks(local), maxlen=0)
                    except CorruptFileError as error:
                        local.check()
                        self.corrupt[file.path] = str(error)

    def open_local(self, file: InputFile, path: str) -> LocalFile:
        """Open a file that is not an object of a store."""
        return LocalFile(file, path, self.where, elsewhere=bool(self.where))

    def counter(self, file: InputFile, path: str) -> Callable[[], int] | None:
        """Return a function that counts the lines before a part of a file; ``None`` if none are."""
        if file.is_start:
            return None
        return cache(partial(lines_before, file, partial(self.open_local, path=path)))

    def at_end(self, hook: str) -> str:
        """Name the first file for ``setup_map``, or the last one for ``finish_map``, if there is any."""
        files = self.partition.files
        return f" of {files[0 if hook == 'setup_map' else -1].path}" if files else ""

    def distrust(self, file: InputFile) -> bool:
        """Check whether only the local copy of an object is damaged; if so, never use it again."""
        cache = self._remote.open_cache() if file.is_remote and self._remote else None
        if cache is None:
            return False
        with cache:
            return cache.distrust(file)

    def check_size(self, file: InputFile, path: str) -> None:
        """Raise TaskFailed if a copy has changed since it was listed."""
        size = os.stat(path).st_size
        if size != file.size:
            raise TaskFailed(
                f"The input file {path} has {size:,} bytes{self.where} and had {file.size:,} when it "
                "was listed: it changed while the job ran. Run the job again when it is complete."
            )


def source_name(source: str | BinaryIO) -> str:
    """Return the path of a file, or the name of a stream."""
    return source if isinstance(source, str) else source.name


@contextmanager
def time_limit(seconds: float | None, path: str) -> Iterator[None]:
    """Fail if a file takes too long, for a job that runs in the main thread.

    On a cluster the client checks this, because a worker may hold the GIL, or be stuck in C code.
    """
    try:
        with alarm(seconds):
            yield
        return
    except TimeIsUp:
        pass
    raise TaskFailed(explain_timeout(path, seconds or 0.0))


def explain_timeout(path: str, seconds: float) -> str:
    """Return the message for a file that took too long."""
    return (
        f"Mapping {path} took longer than --file-timeout allows ({seconds:g} s). Nothing was "
        "written. Run that file alone with --inline to see where it hangs, or raise the limit."
    )
