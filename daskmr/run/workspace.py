"""Prepare the places that a run writes to: its folder, its output, and on a cluster a spill dir."""

from __future__ import annotations

import time
import weakref
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import IO, TYPE_CHECKING

from daskmr.cluster.probe import RESTART_SECONDS, HostMarks, check_data, check_spill_store, sees_all
from daskmr.cluster.session import Session
from daskmr.data.inputs import Inputs, source_of
from daskmr.data.output import OutputFile, open_output
from daskmr.data.output_directory.base import Output
from daskmr.data.output_directory.names import suffix_of
from daskmr.data.output_directory.opening import open_directory
from daskmr.data.spill_dir import HOST_RENEWED_EVERY, RENEWED_EVERY, HostFolder, Scratch, SpillStore
from daskmr.errors import InputError, JobError
from daskmr.run.input_checks import refuse_input_as_output
from daskmr.run.outputs.side_cars import bad_records_path, check_side_cars, side_car_paths
from daskmr.run.request import Request, refuse_network
from daskmr.signals import deferred, on_hard_exit, patient
from daskmr.store.source import Source
from daskmr.tasks.crashes import Mark, clear_marks, read_marks
from daskmr.text import mask_credentials
from daskmr.workdir import RunDir

if TYPE_CHECKING:
    from daskmr.config import Config
    from daskmr.run.result import Result

__all__ = ["Placement", "Workspace", "check_spill_dir", "placed", "workspace_of"]


@contextmanager
def workspace_of(request: Request, stdout: IO[bytes] | None) -> Iterator[Workspace]:
    """Create the folder of a run, and open its output; refuse to replace files of other programs."""
    with ExitStack() as stack:
        yield Workspace(stack, request, stdout)


class Workspace:
    """The folder of a run and its output, which are cleaned up however the run ends.

    - `target`: the output; ``None`` for a result in memory.
    """

    def __init__(self, stack: ExitStack, request: Request, stdout: IO[bytes] | None) -> None:
        config = request.config
        self._stack = stack
        self._leftovers: list[Callable[[], object]] = []
        self.target: Output | None = None
        with deferred():
            self.run_dir = RunDir.create(config.work_dir)
            self._leftovers.append(self.run_dir.remove)
            self.at_end(self.remove)
        if request.output is None:
            return
        with deferred():
            self.target = self._opened(request, request.output, stdout)
            self.at_end(self.target.discard)
        if request.output_format.is_binary and self.target.is_terminal:
            raise InputError(
                f"{request.output_format.name} is binary, which a terminal cannot show. Write a file "
                f"with --output, or another format, as with --output-format jsonl."
            )
        bad_path = bad_records_path(self.target, config, request.job)
        has_meta = self.target.is_file and config.meta
        check_side_cars(bad_path, side_car_paths(self.target.name)[1] if has_meta else None)

    def _opened(self, request: Request, output: str, stdout: IO[bytes] | None) -> Output:
        config, run_id, folder = request.config, self.run_dir.run_id, self.run_dir.path
        reach, retries = partial(source_of, config=config), config.fetch_retries
        if request.writes_directory:
            suffix = suffix_of(output, request.output_format)
            return open_directory(output, suffix, run_id, folder, reach, retries)
        return open_output(output, run_id, stdout, folder, reach, retries, hashed=config.meta)

    def open_named(self, name: str, request: Request, inputs: Inputs) -> OutputFile:
        """Open the output `name` of the script, beside the main one, which is closed.

        Raises `JobError` if it would replace a file that the job needs, or cannot be written.
        """
        target = self.target
        assert isinstance(target, OutputFile)
        try:
            with deferred():
                file = target.named(name, self.run_dir.run_id)
                self.at_end(file.discard)
            refuse_input_as_output(inputs, file)
            request.refuse_to_overwrite(file.name)
            return file
        except InputError as error:
            reason = str(error)
        raise JobError(
            f"context.write_to({name!r}, ...) writes {target.name}.{name}. {reason} Nothing was written."
        )

    def at_end(self, clean: Callable[[], object]) -> None:
        """Call `clean` with signals deferred when the run ends, or at a hard exit of the process."""

        def undisturbed() -> None:
            with deferred():
                clean()

        self._stack.callback(on_hard_exit(clean))
        self._stack.callback(undisturbed)

    def add_leftover(self, remove: Callable[[], object]) -> None:
        """Call `remove` together with the removal of the folder."""
        self._leftovers.append(remove)

    def remove(self) -> None:
        """Remove the folder and all leftovers."""
        for remove in self._leftovers:
            remove()

    def keep_for(self, result: Result) -> None:
        """Keep the folder for the lifetime of a result in memory, which reads its parts there."""
        self._stack.pop_all()
        weakref.finalize(result, self.remove)


def check_spill_dir(request: Request) -> None:
    """Raise InputError if the run may need the store of its spill dir but cannot reach it."""
    config = request.config
    source = None if request.is_local else _spill_source(config)
    if source is None:
        return
    from daskmr.store.store import Store  # deferred: most jobs have none

    try:
        with Store(source, config.fetch_retries) as store:
            store.check(to_write=True)
    except InputError as error:
        raise InputError(f"The spill dir {source.url!r} cannot be used: {error}") from None


def _spill_source(config: Config) -> Source | None:
    """Return the store that the spill dir is in; ``None`` for a path."""
    url = config.spill_dir
    if url is None or "://" not in url or url.startswith("file://"):
        return None
    if config.local_only:
        refuse_network("spill dir", url)
    try:
        # Public data may be read without credentials, but a spill dir is always written with them.
        return source_of(url, replace(config, anon=False, requester_pays=False))
    except InputError as error:
        where = mask_credentials(url)
        raise InputError(f"The spill dir {where!r} cannot be used: {error}") from None


@dataclass(frozen=True, slots=True)
class Placement:
    """The places where the tasks of a run read and write, as seen from its workers."""

    run_dir: RunDir  # the folder that tasks share with the client
    inputs: Inputs  # the input, with the cache that workers use
    store: SpillStore | None = None  # replaces the folder on hosts that do not see it
    host_marks: HostMarks | None = None  # reads the marks of tasks on those hosts
    notes: tuple[str, ...] = ()

    @property
    def scratch(self) -> Scratch:
        """The place where tasks write."""
        return Scratch(self.run_dir.path, self.store)

    def begin_step(self, kept: Collection[str]) -> None:
        """Remove what the tasks of one step have left, before those of the next one.

        - `kept`: the segments of its result.
        """
        self.scratch.keep_only(kept)
        if self.host_marks is None:
            clear_marks(self.run_dir.path)
        else:
            self.host_marks.clear()

    def marks(self) -> list[Mark]:
        """Read the marks of tasks, including those whose process has died."""
        return read_marks(self.run_dir.path) if self.host_marks is None else self.host_marks.read()


@contextmanager
def placed(
    session: Session, config: Config, inputs: Inputs, workspace: Workspace
) -> Iterator[Placement]:
    """Probe which files the workers see, and choose where they write.

    Raises `InputError` if a worker does not see the input files, or cannot use the spill dir.
    """
    run_dir = workspace.run_dir
    if not session.is_elsewhere:
        yield Placement(run_dir, inputs)
        return
    check_data(session.ask, inputs.root, inputs.listing.files)
    if sees_all(session.ask, run_dir.path):
        yield Placement(run_dir, inputs)
        return
    with ExitStack() as stack:
        yield _replace_work_dir(session, config, inputs, workspace, stack)


def _replace_work_dir(
    session: Session, config: Config, inputs: Inputs, workspace: Workspace, stack: ExitStack
) -> Placement:
    """Replace the work dir, which some workers do not see."""
    spill_dir, source = config.spill_dir, _spill_source(config)
    if spill_dir is not None and source is None:
        shared = _share(session, spill_dir.removeprefix("file://"), workspace)
        placement = Placement(shared, inputs)
    else:
        placement = _write_on_hosts(session, config, inputs, workspace, stack, source)
    if inputs.remote is None:
        return placement
    host = HostFolder(workspace.run_dir.run_id)
    if placement.store is None:  # hosts keep only their copies of remote files
        _HostFolders(session, stack, host)
    return replace(placement, inputs=replace(inputs, remote=replace(inputs.remote, host=host)))


def _share(session: Session, spill_dir: str, workspace: Workspace) -> RunDir:
    with deferred():
        run_dir = RunDir.create(spill_dir, "--spill-dir")
        workspace.add_leftover(run_dir.remove)
    if not sees_all(session.ask, run_dir.path):
        raise InputError(
            f"Some workers do not see the spill dir {spill_dir!r} of this machine, or cannot "
            "write to it. Give a path that all share, or the URL of a store, such as "
            "s3://BUCKET/spill, as --spill-dir."
        )
    return run_dir


def _write_on_hosts(
    session: Session,
    config: Config,
    inputs: Inputs,
    workspace: Workspace,
    stack: ExitStack,
    source: Source | None,
) -> Placement:
    """Let tasks write to the disks of their hosts, and data for other tasks to a store."""
    run_dir, notes = workspace.run_dir, tuple[str, ...]()
    store = SpillStore(run_dir.run_id, source, config.fetch_retries)
    if config.file_timeout is not None:
        notes = ("file-timeout was ignored, because workers do not see the work dir",)
    if source is not None:
        with deferred():
            workspace.add_leftover(store.clear)
        store.begin()
    folders = _HostFolders(session, stack, store.host, store)
    if source is not None:
        check_spill_store(session.ask, store)
    return Placement(run_dir, inputs, store, folders.marks, notes)


class _HostFolders:
    """The folders of a run on its workers' hosts, which are renewed while it runs, and then removed."""

    def __init__(
        self, session: Session, stack: ExitStack, host: HostFolder, store: SpillStore | None = None
    ) -> None:
        self.marks = HostMarks(session.ask, host)
        self._store = store if store is not None and store.source is not None else None
        self._renewed = self._hosts_renewed = time.monotonic()
        stack.callback(self._remove)
        session.watch(self._renew)

    def _remove(self) -> None:
        with deferred(), patient(RESTART_SECONDS):
            self.marks.forget()

    def _renew(self) -> None:
        now = time.monotonic()
        if now - self._hosts_renewed > HOST_RENEWED_EVERY:
            self._hosts_renewed = now
            self.marks.renew()
        if self._store is not None and now - self._renewed > RENEWED_EVERY:
            self._renewed = now
            self._store.renew()
