"""Explanations of why worker processes died, from marks and notes of kills; and when to give up.

Dask retries a task several times if its worker dies. A task reads the marks of earlier tries, and gives
up sooner if another try would be useless.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager

from daskmr.errors import TaskFailed
from daskmr.job.job import Job
from daskmr.memory import advice, describe_size
from daskmr.tasks.crashes import Kills, Mark, Marker, by_task, is_alive, read_kills

__all__ = [
    "activated",
    "deaths_by_file",
    "explain_death",
    "explain_kills",
    "file_of_death",
    "load",
    "refuse_poison",
    "refuse_third_try",
]


_DOING = {"load": "loaded the script", "merge": "merged partial results with combine"}


def load(job: Job, run_dir: str, number: int) -> None:
    """Load the script, if necessary, under a separate mark, because it may end the process.

    - `number`: the number of the task, as in its own marks.
    Raises `TaskFailed` if two processes have died while they loaded the script for this task.
    """
    if job.is_loaded:
        return
    with Marker(run_dir, "load", number) as marker:
        if len(marker.earlier) > 1:
            explanation = explain_kills(marker.earlier, read_kills(run_dir))
            raise TaskFailed(explanation or _explain_end(_describe(marker.earlier)))
        with job.activate():
            pass


@contextmanager
def activated(job: Job, run_dir: str, number: int) -> Iterator[None]:
    """`load` a job and enter `Job.activate`."""
    load(job, run_dir, number)
    with job.activate():
        yield


def refuse_third_try(marker: Marker, run_dir: str) -> None:
    """Raise TaskFailed if two processes have been killed for the memory that this task uses."""
    if marker.earlier and (why := explain_kills(marker.earlier, read_kills(run_dir))) is not None:
        raise TaskFailed(why)


def refuse_poison(marker: Marker, skipped: Collection[str]) -> None:
    """Raise TaskFailed if a file that is not skipped has crashed two workers that mapped it."""
    deaths = deaths_by_file(marker.earlier)
    files = tuple(f for f, count in deaths.items() if count > 1 and f not in skipped)
    if files:
        raise TaskFailed(f"A worker process died twice while it mapped {files[0]}.", files=files)


def deaths_by_file(marks: Iterable[Mark]) -> dict[str, int]:
    """Count how many processes crashed while mapping each file, from their marks."""
    return dict(Counter(mark.file for mark in marks if mark.file))


def explain_kills(marks: Sequence[Mark], kills: Kills, root: str = "") -> str | None:
    """Describe where a task's processes ran out of memory; ``None`` unless that happened twice.

    - `marks`: the marks of the task, the latest last.
    - `kills`: the memory that processes used when they were killed for it.
    - `root`: the data dir.
    """
    held = _held(marks, kills)
    if len(held) < 2:
        return None
    return _explain_memory(_describe(marks, root), marks[-1].phase, held, marks[-1].limit)


def explain_death(
    key: object,
    partition: int | None,
    kills: Kills,
    marks: Sequence[Mark],
    root: str,
    limit: int | None,
) -> str:
    """Describe what a task was doing each time its worker died, why it died, and what to do.

    - `key`, `partition`: the task that Dask gave up, and the partition if its key has a number.
    - `kills`: the memory that processes used when they were killed for it.
    - `marks`: the marks of all tasks, the latest last.
    - `root`: the data dir.
    - `limit`: bytes beyond which a worker process is killed.
    """
    marks = _marks_of_dead(marks, partition)
    if not marks:  # it died before it could leave a mark
        doing = f"ran one task of the job ({key!r})"
        if kills:
            return _explain_memory(doing, "merge", list(kills.values()), limit)
        return _explain_end(doing)
    doing, phase = _describe(marks, root), marks[-1].phase
    if held := _held(marks, kills):
        return _explain_memory(doing, phase, held, marks[-1].limit)
    return _explain_end(doing, "file alone" if phase == "map" else "job")


def file_of_death(partition: int | None, marks: Sequence[Mark]) -> str:
    """Return the input file that crashed the workers, if all read the same one; else ``""``."""
    files = {mark.file for mark in _marks_of_dead(marks, partition)}
    return files.pop() if len(files) == 1 else ""


def _held(marks: Iterable[Mark], kills: Kills) -> list[int]:
    return [held for mark in marks if (held := mark.killed_with(kills)) is not None]


def _explain_memory(doing: str, phase: str, held: Sequence[int], limit: int | None) -> str:
    by_system = not max(held)
    if by_system:
        how = "The machine or container had none left, so the system killed it"
    else:
        how = f"It held {describe_size(max(held))} when it was killed"
    most = f"; its limit is {describe_size(limit)} (--memory-limit)" if limit else ""
    times = {1: "once", 2: "twice"}.get(len(held), f"{len(held)} times")
    return (
        f"A worker process ran out of memory {times} while it {doing}. {how}{most}. "
        f"Nothing was written. {advice(phase, limited=not by_system)}"
    )


def _explain_end(doing: str, what: str = "job") -> str:
    return (
        f"A worker process died each time it {doing}. Nothing was written. The script, or a "
        "library that it uses, ended the process, or something killed it. Run the "
        f"{what} with --inline to see."
    )


def _describe(marks: Sequence[Mark], root: str = "") -> str:
    """Describe what tasks did, as the end of a sentence, and their last place if it is known."""
    paths = dict.fromkeys(os.path.join(root, mark.path) for mark in marks if mark.path)
    phase = marks[-1].phase
    doing = _DOING.get(phase, f"ran {phase}")
    if paths:
        doing = f"mapped {', or '.join(list(paths)[:3])}"
    places = [mark.place for mark in marks if mark.place]
    return f"{doing} (the last time it was at {places[-1]})" if places else doing


def _marks_of_dead(marks: Iterable[Mark], partition: int | None) -> list[Mark]:
    """Return the marks of the tasks whose workers died most often.

    A task's key contains its partition, except for the only task of a job, which Dask fuses with the
    one that gathers the result. Also, a worker may die while tasks that have not begun wait for it.
    In these cases it is one of the tasks that dead processes had begun.
    """
    tasks = by_task(mark for mark in marks if not mark.is_local or not is_alive(mark.pid))
    most = max(map(len, tasks), default=0)
    tasks = [marks for marks in tasks if len(marks) == most]
    named = [marks for marks in tasks if (marks[0].phase, marks[0].number) == ("map", partition)]
    return [mark for marks in named or tasks for mark in marks]
