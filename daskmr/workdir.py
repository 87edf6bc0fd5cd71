"""A run's own folder in the work dir, locked during the run; if the run dies, the next removes it."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import shutil
import time
import uuid
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from daskmr.errors import InputError, JobError
from daskmr.files import sweep

__all__ = ["NOTHING_REPLACED", "RunDir", "disk_error"]

NOTHING_REPLACED = "this run has replaced no output"
"""Statement about a run that fails before its output is in place, true whatever other runs do."""

_LOCK = "lock"
_RUN = re.compile(r"run-[0-9a-f]{12}")
_NEW = re.compile(r"\.new-[0-9a-f]{12}")
_CONTENTS = frozenset(
    (_LOCK, "marks", "live", "segments", "parts", "files", "stdin", "dask-scratch-space")
)
_REMOVE_SECONDS = 1.0
_NEW_IS_STALE_AFTER = 3600.0  # seconds; making a folder takes milliseconds


@dataclass(frozen=True, slots=True)
class RunDir:
    """The folder of one run."""

    path: str  # absolute path of the folder
    run_id: str  # unique to this run; part of all names that the run creates
    _lock: int
    _created: tuple[str, ...]

    @classmethod
    def create(cls, work_dir: str, option: str = "--work-dir") -> RunDir:
        """Create and lock a folder in `work_dir` (created if missing), and remove those of dead runs.

        Raises `InputError` if the work dir cannot be created or written.
        """
        root = Path(os.path.abspath(work_dir))
        run_id = uuid.uuid4().hex[:12]
        new, path = root / f".new-{run_id}", root / f"run-{run_id}"
        try:
            created = [str(folder) for folder in (root, *root.parents) if not folder.exists()]
            root.mkdir(parents=True, exist_ok=True)
            new.mkdir()
            lock = os.open(new / _LOCK, os.O_CREAT | os.O_RDWR, 0o600)
            fcntl.flock(lock, fcntl.LOCK_EX)
            new.rename(path)  # only now do other runs recognise it as a run's folder
        except OSError as error:
            shutil.rmtree(new, ignore_errors=True)
            raise InputError(
                f"The {option[2:].replace('-', ' ')} {str(root)!r} cannot be used "
                f"({error.strerror}). Name another one with {option}."
            ) from None
        _sweep(root)
        for name in ("marks", "live", "segments", "parts"):
            (path / name).mkdir()
        return cls(str(path), run_id, lock, tuple(created))

    def remove_segments(self) -> None:
        """Remove the intermediate data, but not the parts of the output."""
        shutil.rmtree(os.path.join(self.path, "segments"), ignore_errors=True)

    def remove(self) -> None:
        """Remove the folder, and the work dir if this run created it."""
        until = time.monotonic() + _REMOVE_SECONDS
        shutil.rmtree(self.path, ignore_errors=True)
        # A worker that was just killed may have created a file while the others were removed.
        while os.path.lexists(self.path) and time.monotonic() < until:
            time.sleep(0.02)
            shutil.rmtree(self.path, ignore_errors=True)
        with contextlib.suppress(OSError):
            os.close(self._lock)
        for folder in self._created:
            try:
                os.rmdir(folder)
            except OSError:  # keep a folder that another run or the user uses
                return


def _sweep(root: Path) -> None:
    """Remove the folders of runs that were killed."""
    for folder in [each for each in root.iterdir() if each.is_dir()]:
        with contextlib.suppress(OSError):
            if _RUN.fullmatch(folder.name):
                is_left = _CONTENTS.issuperset(os.listdir(folder))  # else it is the user's own
            elif _NEW.fullmatch(folder.name):
                is_left = time.time() - folder.stat().st_mtime > _NEW_IS_STALE_AFTER
            else:
                continue
            remove = partial(shutil.rmtree, folder, ignore_errors=True)
            if is_left and (folder / _LOCK).exists():
                sweep(folder / _LOCK, remove)
            elif is_left:
                remove()  # its removal was interrupted


def disk_error(error: OSError, path: str, what: str, state: str = NOTHING_REPLACED) -> JobError:
    """Return an error for a failure to write `path`, with the free space there.

    - `what`: the role of the file, as "the output".
    - `state`: the state of the output.
    """
    free = ""
    with contextlib.suppress(OSError):
        usage = shutil.disk_usage(os.path.dirname(path) or ".")
        free = f"; {usage.free:,} bytes are free there"
    advice = "Make room, or use another disk"
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        advice = "Check the disk and its permissions, or use another place"
    return JobError(
        f"Writing {what} failed: {error.strerror or error} ({path}{free}). {advice} "
        f"(--output, --work-dir); {state}."
    )
