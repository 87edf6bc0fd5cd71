"""An output directory in a store: workers upload to a prefix in it, which is copied at the end.

A store cannot replace several objects at once. So `_SUCCESS` is deleted first and written last:
without it, the directory is incomplete.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain

from daskmr.data.output_directory.base import OutputDirectory
from daskmr.data.output_directory.names import META, SUCCESS, explain_foreign, staged_name
from daskmr.data.spill_dir import SpillStore
from daskmr.errors import InputError, JobError
from daskmr.job.contexts import is_output_name
from daskmr.store.open_stores import shared_store
from daskmr.store.source import Source, StoreError, join
from daskmr.store.store import Store
from daskmr.workdir import NOTHING_REPLACED

__all__ = ["StoreDirectory"]

_TEMPORARY = "_temporary"  # as Hadoop calls it


class StoreDirectory(OutputDirectory):
    """The directory at `url`, which is `source`; see `OutputDirectory`.

    - `folder`: a local folder.
    Raises `InputError` if the store cannot be used, or there are objects of others.
    """

    place: SpillStore
    source: Source
    is_file = False

    def __init__(
        self, url: str, source: Source, folder: str, suffix: str, run_id: str, retries: int
    ) -> None:
        super().__init__(url, url, suffix)
        self.source = source
        self._folder, self._retries = folder, retries
        given = f"{source.given}/{_TEMPORARY}" if source.given else ""
        staging = replace(source, root=join(source.root, _TEMPORARY), given=given)
        self.place = SpillStore(run_id, staging, retries, "output")
        self._store.check(to_write=True)
        try:
            self.there = self._list()
        except JobError as error:
            raise InputError(str(error)) from None
        self.place.begin()

    @property
    def _store(self) -> Store:
        return shared_store(self.source, self._retries)

    def _list(self) -> tuple[str, ...]:
        """Return the names of the objects; raise JobError if some are not of an output."""
        names: list[str] = []
        folders = [""]
        for folder in folders:
            for e in chain.from_iterable(self._store.list(folder)):
                if not folder and e.is_dir and is_output_name(e.name):
                    folders.append(f"{e.name}/")
                elif e.name not in ("", _TEMPORARY):
                    names.append(folder + e.name + "/" * e.is_dir)
        if problem := explain_foreign(self.name, names):
            raise JobError(problem)
        return tuple(names)

    def publish(self) -> None:
        """Copy the parts to their places, and delete those of the earlier output.

        Raises `JobError` if there are objects of others, or a request fails.
        """
        there = self._list()
        store, staged = self._store, f"{_TEMPORARY}/{self.place.prefix}"
        complete = os.path.join(self._folder, SUCCESS)
        with open(complete, "wb"):
            pass
        with self._failing(NOTHING_REPLACED):
            store.delete([SUCCESS])
        with self._failing(f"without {SUCCESS} it is incomplete: run the job again"):
            store.copy((staged + staged_name(p.name), p.name, p.bytes) for p in self.all_parts)
            kept = {part.name for part in self.all_parts}
            store.delete([name for name in there if name not in kept])
            if self.meta is not None:
                store.write_object(META, self.meta)
            for folder in (*self.named, ""):
                store.write_object(join(folder, SUCCESS), complete)

    @contextmanager
    def _failing(self, state: str) -> Iterator[None]:
        try:
            yield
        except StoreError as error:
            raise JobError(f"The output {self.name} was not completed ({state}): {error}") from None

    def commit(self) -> None:
        """Do nothing, because `publish` has put everything in place."""

    def discard(self) -> None:
        with suppress(JobError):
            self.place.clear()
