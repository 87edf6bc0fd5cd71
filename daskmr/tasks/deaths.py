"""Why worker processes died: from the marks that tasks left, and the notes of who killed them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from daskmr.errors import TaskFailed
from daskmr.memory import advice, describe_size
from daskmr.tasks.crashes import Kills, Mark, Marker, by_task, is_alive, read_kills

__all__ = [
    "deaths_by_file",
    "explain_death",
    "explain_kills",
    "file_of_death",
    "refuse_poison",
    "refuse_third_load",
    "refuse_third_try",
]


_DOING = {"load": "loaded the script", "merge": "merged partial results with combine"}


def refuse_third_try(marker: Marker, run_dir: str, root: str) -> None:
    """Raise TaskFailed when two processes have been killed for the memory that this task takes.

    - `marker`: the task's.
    - `run_dir`, `root`: the run's folder, and the data dir.
    """
    explanation = explain_kills(marker.earlier, read_kills(run_dir) if marker.earlier else {}, root)
    if explanation is not None:
        raise TaskFailed(explanation)


def refuse_poison(marker: Marker, left_out: Collection[str]) -> None:
    """Raise TaskFailed when a file has killed two processes that mapped it.

    - `marker`: the task's.
    - `left_out`: files that are left out as it is.
    """
    deaths = deaths_by_file(marker.earlier)
    files = tuple(f for f, count in deaths.items() if count > 1 and f not in left_out)
    if files:
        raise TaskFailed(f"A worker process died twice while it mapped {files[0]}.", files=files)


def refuse_third_load(marker: Marker, run_dir: str) -> None:
    """Raise TaskFailed when two processes have died while they loaded the script for this task.

    - `marker`: the task's, while it loads the script.
    - `run_dir`: the run's folder.
    """
    if len(marker.earlier) > 1:
        explanation = explain_kills(marker.earlier, read_kills(run_dir), "")
        raise TaskFailed(explanation or _explain_end(_describe(marker.earlier, "")))


def deaths_by_file(marks: Iterable[Mark]) -> dict[str, int]:
    """Count the processes that died of each file, from what they left."""
    return dict(Counter(mark.file for mark in marks if mark.file))


def explain_kills(marks: Sequence[Mark], kills: Kills, root: str) -> str | None:
    """Say where a task's processes ran out of memory; ``None`` unless that happened twice.

    - `marks`: those of the task, the latest last.
    - `kills`: what processes held when they were killed for it.
    - `root`: the data dir.
    """
    held = [held for mark in marks if (held := mark.killed_with(kills)) is not None]
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
    """Say what a task was doing each time that its worker died, why it did, and what to do.

    - `key`, `partition`: the task that Dask gave up, and the partition if its key has a number.
    - `kills`: what processes held when they were killed for it.
    - `marks`: what tasks have said of themselves, the latest last.
    - `root`: the data dir.
    - `limit`: bytes beyond which a worker process is killed.
    """
    marks = _marks_of_the_dead(marks, partition)
    if not marks:  # it died before it could say anything
        doing = f"ran one task of the job ({key!r})"
        if kills:
            return _explain_memory(doing, "merge", list(kills.values()), limit)
        return _explain_end(doing)
    doing, phase = _describe(marks, root), marks[-1].phase
    held = [held for mark in marks if (held := mark.killed_with(kills)) is not None]
    if held:
        return _explain_memory(doing, phase, held, marks[-1].limit)
    return _explain_end(doing, "file alone" if phase == "map" else "job")


def file_of_death(partition: int | None, marks: Sequence[Mark]) -> str:
    """Name the input file that workers died of, where all were at the same; else ``""``."""
    files = {mark.file for mark in _marks_of_the_dead(marks, partition)}
    return files.pop() if len(files) == 1 else ""


def _explain_memory(doing: str, phase: str, held: Sequence[int], limit: int | None) -> str:
    by_system = not max(held)
    if by_system:
        how = "The machine or container had no more, so that the system killed it"
    else:
        how = f"It held {describe_size(max(held))} when it was killed"
    most = f"; its limit is {describe_size(limit)} (--memory-limit)" if limit else ""
    return (
        f"A worker process ran out of memory {_times(len(held))} while it {doing}. {how}{most}. "
        f"Nothing was written. {advice(phase, limited=not by_system)}"
    )


def _explain_end(doing: str, what: str = "job") -> str:
    return (
        f"A worker process died each time it {doing}. Nothing was written. The script, or a "
        "library that it uses, has ended the process, or something has killed it. Run the "
        f"{what} with --inline to see."
    )


def _times(number: int) -> str:
    return {1: "once", 2: "twice"}.get(number, f"{number} times")


def _describe(marks: Sequence[Mark], root: str) -> str:
    """Say what tasks did, as the end of a sentence; and where they were, if that is known."""
    paths = dict.fromkeys(os.path.join(root, mark.path) for mark in marks if mark.path)
    phase = marks[-1].phase
    doing = _DOING.get(phase, f"ran {phase}")
    if paths:
        doing = f"mapped {', or '.join(list(paths)[:3])}"
    places = [mark.place for mark in marks if mark.place]
    return f"{doing} (the last time it was at {places[-1]})" if places else doing


def _marks_of_the_dead(marks: Iterable[Mark], partition: int | None) -> list[Mark]:
    """Find what workers were doing that died most often.

    The key of a task tells its partition, but not for the only task of a job, which Dask joins
    with what gathers the result; and a worker may die while tasks wait for it that have not begun.
    Then it is one of those that dead processes had begun with.
    """
    tasks = by_task(mark for mark in marks if not mark.is_local or not is_alive(mark.pid))
    most = max(map(len, tasks), default=0)
    tasks = [marks for marks in tasks if len(marks) == most]
    told = [marks for marks in tasks if (marks[0].phase, marks[0].number) == ("map", partition)]
    return [mark for marks in told or tasks for mark in marks]
