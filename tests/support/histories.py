"""Made-up histories of runs, for what is drawn from them."""

from __future__ import annotations

import random
from collections.abc import Iterable

from daskmr.counts import Counts
from daskmr.history import History, HotKey, Look, Progress, TaskSpan, WorkerLook

__all__ = ["NASTY", "STARTED", "look_at", "made_up"]

STARTED = 1_385_000_000.0
NASTY = (
    """</script><img src=x onerror="console.error('pwned')">&lt;b&gt;$$x^2$$'\"\\ \ud800\u2028"""
)
GB = 1_000_000_000


def made_up(
    partitions: int = 64,
    workers: int = 4,
    *,
    seed: int = 0,
    looks: bool = True,
    straggler: int | None = 17,
    store: bool = True,
    spill: bool = True,
    nasty: bool = False,
) -> History:
    """Make up a run: partitions mapped by workers in turn, then as many reducers as workers."""
    rng = random.Random(seed)
    names = [NASTY if nasty and n == 0 else str(n) for n in range(workers)]
    free = [STARTED + 1.2 + 0.1 * n for n in range(workers)]
    tasks = []
    for number in range(partitions):
        worker = min(range(workers), key=lambda n: free[n])
        size = rng.randint(12, 20) * 1_000_000
        seconds = size / 20e6 * rng.uniform(0.9, 1.2)
        if number == straggler:
            seconds *= 9
        waited = seconds * rng.uniform(0.0, 0.3) if store else 0.0
        tasks.append(
            TaskSpan(
                phase="map",
                number=number,
                worker=names[worker],
                start=free[worker],
                end=free[worker] + seconds,
                counts=Counts(
                    files=rng.randint(3, 9),
                    bytes=size,
                    records=size // 700,
                    spilled=size // 3 if spill and number % 3 == 0 else 0,
                    waited=waited,
                ),
                memory=rng.randint(150, 400) * 1_000_000,
            )
        )
        free[worker] += seconds + 0.01
    begin = max(free) + 0.8
    for n, name in enumerate(names):
        tasks.append(
            TaskSpan(
                "reduce",
                2 * n,
                name,
                begin + 0.02 * n,
                begin + 2 + 0.3 * n,
                Counts(records=50 + n),
            )
        )
    end = max(task.end for task in tasks) + 0.7
    keys = [
        HotKey(
            repr(("Firefox", "nightly", f"2{n}.0a1")), 4_000_000 // (n + 1), 90_000_000 // (n + 2)
        )
        for n in range(14)
    ]
    if nasty:
        keys[0] = HotKey(NASTY, keys[0].values, keys[0].bytes, exact=True)
        keys[2] = keys[3] = HotKey("the same", 1_000_000, 1_000_000, exact=True)
    history = History(STARTED, end, tuple(tasks), (), tuple(keys))
    if not looks:
        return history
    times = [STARTED + 0.2 * n for n in range(int((end - STARTED) / 0.2) + 1)] + [end]
    return History(
        STARTED,
        end,
        history.tasks,
        tuple(look_at(history, at, names, rng, store, nasty) for at in times),
        history.hot_keys,
    )


def look_at(
    history: History,
    at: float,
    workers: Iterable[str],
    rng: random.Random,
    store: bool = True,
    nasty: bool = False,
) -> Look:
    """What would have been seen at one moment."""
    mapped = [task for task in history.tasks if task.phase == "map"]
    reduced = [task for task in history.tasks if task.phase == "reduce"]
    shares = {task: _share(task, at) for task in history.tasks}
    total = sum(task.bytes for task in mapped)
    done = sum(int(task.bytes * shares[task]) for task in mapped)
    records = sum(int(task.records * shares[task]) for task in mapped)
    fetched = min(total, int(1.1 * done) + 20_000_000) if store and at > history.started + 1 else 0
    progress = {
        "list": Progress(files=min(400, int(900 * (at - history.started))), files_total=400),
        "map": Progress(
            sum(share == 1 for task, share in shares.items() if task.phase == "map"),
            len(mapped),
            bytes=done,
            bytes_total=total,
        ),
        "reduce": Progress(sum(shares[task] == 1 for task in reduced), len(reduced)),
    }
    if store:
        progress["fetch"] = Progress(bytes=fetched, bytes_total=total)
    bad = records // 5000
    reasons = {"no tab in the line": bad // 3, "ValueError: Expecting value": bad - bad // 3}
    if nasty:
        reasons[NASTY] = 1
    looks = []
    for name in workers:
        own = [task for task in history.tasks if task.worker == name]
        now = [task for task in own if task.start <= at < task.end]
        spilled = sum(task.spilled for task in own if task.end <= at)
        held = 120_000_000 + (rng.randint(100, 250) * 1_000_000 if now else 20_000_000)
        phase = now[0].phase if now else ""
        file = f"saved_session/Firefox/nightly/28.0a1/{now[0].number}.gz" if phase == "map" else ""
        looks.append(WorkerLook(name, held, GB, "running", phase, file, spilled))
    phase = "reduce" if at > reduced[0].start else "map" if at > mapped[0].start else "list"
    return Look(
        at=at,
        phase=phase,
        progress=progress,
        counts=Counts(
            records=records,
            bad_reasons={reason: count for reason, count in reasons.items() if count},
            fetched_bytes=fetched,
            spilled=sum(look.spilled for look in looks),
        ),
        workers=tuple(looks),
    )


def _share(task: TaskSpan, at: float) -> float:
    return min(1.0, max(0.0, (at - task.start) / (task.end - task.start)))
