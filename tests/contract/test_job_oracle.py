"""Any job gives what a model in plain Python gives, however it is run.

`support.any_job` has the steps, `support.model` the model. ``ORACLE_EXAMPLES=5000`` tries more of them.
"""

from __future__ import annotations

import gc
import gzip
import json
import os
import signal
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import any_job
from support.dask_cluster import DaskCluster
from support.model import Answer, run_model
from support.runs import small_limits

from daskmr import Job, mapreduce
from daskmr.data import parts
from daskmr.data.output_directory import slices
from daskmr.data.steps import cuts, pairs, plan
from daskmr.data.writers import named
from daskmr.diagnostics.run_state import RunOutline
from daskmr.run.result import Result
from daskmr.tasks import map_output
from daskmr.tasks import reduce as reducing
from daskmr.watching import Watcher

EXAMPLES = int(os.environ.get("ORACLE_EXAMPLES", "25"))
KILLED_RUNS = int(os.environ.get("ORACLE_KILLED_RUNS", "12"))
SKIPPED = {"fail": (ValueError,), "skip": (ValueError, KeyError)}
FORMS = {
    "result": "pairs",
    "out.txt": "text",
    "dir/": "text",
    "out.jsonl": "jsonl",
    "jsonl/": "jsonl",
}


def lines_of(seed: int, count: int) -> list[str]:
    """Return the lines of a file; some have no tab."""
    numbers = [any_job.number(seed, n) for n in range(count)]
    return [f"{n % 10}" if n % 23 == 0 else f"k{n % 9}\t{n % 1000}" for n in numbers]


FILES = st.lists(
    st.builds(lines_of, st.integers(0, 999), st.sampled_from([0, 1, 2, 9, 50, 120])), max_size=4
)


@st.composite
def any_steps(draw: st.DrawFn, form: str) -> list[dict[str, Any]]:
    """Draw the description of one to three steps."""
    count = draw(st.integers(1, 3))
    shared = {
        "on_error": draw(st.sampled_from(sorted(SKIPPED))),
        "reducers": draw(st.sampled_from([1, 2, 3, 5, None])),
        "plain": FORMS[form] == "jsonl" or draw(st.booleans()),
    }
    found = []
    for number in range(count):
        reduce = draw(st.sampled_from([None, "count", "each", "merge", "few", "values", "list"]))
        combine = reduce and draw(st.sampled_from([None, None, "sum", "join", "lazy", "grouping"]))
        sort = reduce and draw(st.sampled_from([None, None, "true", "back", "stable"]))
        if combine == "join":  # sorted is what it gives
            sort = None
        orderly = ["ints", "sortable", "large", "huge"]
        values = draw(
            st.sampled_from(orderly if sort == "true" else [*orderly, "any", "any", "pair"])
        )
        found.append(
            shared
            | {
                "first": number == 0,
                "last": number == count - 1,
                "reduce": reduce,
                "combine": combine,
                "sort": sort,
                "values": values,
                "keys": draw(st.sampled_from(["mixed", "few", "many", "text", "same", "nested"])),
                "emits": draw(st.sampled_from([1, 1, 2, 3])),
                "each": draw(st.sampled_from([False, False, False, True])),
                "bad": draw(st.sampled_from([0, 2, 5])),
                "names": draw(st.booleans()),
                "ends": draw(st.sampled_from(["both", "named"])),
                "setup_map": draw(st.booleans()),
                "finish_map": draw(st.booleans()),
                "setup_reduce": draw(st.booleans()),
                "finish_reduce": bool(reduce)
                and draw(st.sampled_from([False, False, False, True])),
            }
        )
    return found


@contextmanager
def fine(is_fine: bool) -> Iterator[None]:
    """Divide pairs and output finely, so that little data takes every way."""
    with pytest.MonkeyPatch.context() as patch:
        if is_fine:
            patch.setattr(plan, "_FINE_BYTES", 1000)
            patch.setattr(parts, "_FINELY", 200)
            patch.setattr(parts, "_INDEXED_BYTES", 200)
            patch.setattr(slices, "_FILE_BYTES", 1500)
            patch.setattr(cuts, "_BYTES", 100)
            patch.setattr(pairs, "_BATCH", 3)
            patch.setattr(reducing, "_STEP_BYTES", 500)
            patch.setattr(reducing, "_BLOCK_BYTES", 300)
            patch.setattr(named, "_BATCH", 4)
            patch.setattr(named, "_SMALLEST", 200)
            patch.setattr(map_output, "_BATCH", 5)
        with small_limits() if is_fine else nullcontext():
            yield


def write_files(folder: Path, files: list[list[str]]) -> Path:
    data = folder / "data"
    data.mkdir()
    for number, lines in enumerate(files):
        text = "".join(f"{line}\n" for line in lines)
        (data / f"{number}.gz").write_bytes(gzip.compress(text.encode(), 1))
    return data


def run_job(
    folder: Path, steps: list[dict[str, Any]], form: str, **options: Any
) -> tuple[Result, Any, dict[str, Any]]:
    """Run the job, and return its result, its output and the other ones: bytes, or pairs as text."""
    given = {"steps": json.dumps(steps)} | options.pop("params", {})
    options = {
        "inline": True,
        "work_dir": folder / "work",
        "num_reducers": steps[0]["reducers"],
    } | options
    output = None if form == "result" else f"{folder}/{form}"
    job: Any = any_job.__file__
    if options.pop("in_python", False):
        job, given = [Job(**any_job.functions(step)) for step in steps], {}
    result = mapreduce(
        job, data_dir=folder / "data", layout="flat", params=given, output=output,
        output_format=None if output is None else FORMS[form], allow_empty=True,
        max_bad_records="100%", on_error=steps[0]["on_error"], meta=False, **options,
    )  # fmt: skip
    if output is None:
        return (
            result,
            repr([*result]),
            {name: repr([*rows]) for name, rows in result.outputs.items()},
        )
    if output.endswith("/"):
        outputs = {name: whole(folder / form / name) for name in result.outputs}
        return result, whole(folder / form), outputs
    outputs = {name: Path(f"{output}.{name}").read_bytes() for name in result.outputs}
    return result, Path(output).read_bytes(), outputs


def as_text(rows: list[Any]) -> bytes:
    return "".join(f"{key}\t{value}\n" for key, value in rows).encode("utf-8", "surrogatepass")


def whole(folder: Path) -> bytes:
    return b"".join(part.read_bytes() for part in sorted(folder.glob("part-*")))


def answer_of(files: list[list[str]], steps: list[dict[str, Any]], form: str) -> Answer:
    jobs = [any_job.functions(step) for step in steps]
    return run_model(
        files, jobs, FORMS[form], steps[0]["reducers"] or 1, SKIPPED[steps[0]["on_error"]]
    )


def check(answer: Answer, exact: bool, result: Result, main: Any, others: dict[str, Any]) -> None:
    """Compare what a run gave with what it must give."""
    if exact and isinstance(main, str):
        assert main == repr(answer.rows)
        assert others == {name: repr(rows) for name, rows in answer.named.items()}
    elif exact:
        assert main == answer.text()
        assert others == {name: answer.text(name) for name in answer.named}
    if exact:
        assert result.bad_records == answer.bad
        found = {
            (group, name): n
            for group, names in result.counters.items()
            for name, n in names.items()
        }
        assert found == answer.counters


def mapped(result: Result) -> Counter[tuple[int, int]]:
    """Return the number of each partition of any step, and of the records in it."""
    tasks = (task for task in result.history.tasks if task.phase == "map")
    return Counter((task.number, task.records) for task in tasks)


def is_exact(steps: list[dict[str, Any]]) -> bool:
    """Whether the model knows all that the output depends on: not the groups that `combine` gets."""
    if any(step["finish_reduce"] for step in steps) and steps[0]["reducers"] is None:
        return False
    return not any(step["combine"] == "grouping" for step in steps)


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck),
    print_blob=True,
)  # fmt: skip
@given(st.data())
def test_any_job_gives_what_the_model_gives(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    files = data.draw(FILES, "files")
    form = data.draw(st.sampled_from(sorted(FORMS)), "form")
    steps = data.draw(any_steps(form), "steps")
    spill_bytes = data.draw(st.sampled_from(["1", "1 kB", "20 kB", "256 MB"]), "spill_bytes")
    combine_size = data.draw(st.sampled_from([2, 50]), "combine_size")
    is_fine = data.draw(st.sampled_from([True, True, False]), "fine")
    folder = tmp_path_factory.mktemp("job")
    write_files(folder, files)
    answer, exact = answer_of(files, steps, form), is_exact(steps)
    options: dict[str, Any] = {"spill_bytes": spill_bytes, "combine_size": combine_size}
    keeps = len(steps) > 1 and FORMS[form] != "jsonl"
    with fine(is_fine):
        found = run_job(
            folder, steps, form, **options, **({"keep_steps": folder / "kept"} if keeps else {})
        )
        check(answer, exact, *found)
        if exact and keeps:
            kept = [path.read_bytes() for path in sorted((folder / "kept").iterdir())]
            assert kept == [as_text(rows) for rows in answer.steps]
        if not any(step["finish_reduce"] for step in steps):
            options["num_reducers"] = data.draw(st.sampled_from([1, 4, 7, None]), "reducers")
        options["in_python"] = data.draw(st.booleans(), "in Python")
        if exact:
            options["spill_bytes"] = data.draw(st.sampled_from(["1", "5 kB"]), "other spill_bytes")
        again = run_job(folder, steps, form, **options)
    assert again[1:] == found[1:]
    assert again[0].counters == found[0].counters
    assert mapped(again[0]) == mapped(found[0])
    del found, again  # results in Python keep their rows there
    gc.collect()
    assert not [*(folder / "work").glob("**/*")]


@pytest.fixture(params=["this machine", "a cluster"])
def client(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Client | None]:
    """A client of a cluster that has other processes, or none."""
    if request.param == "this machine":
        yield None
        return
    cluster = DaskCluster(tmp_path, 2, env={"DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "5"})
    try:
        with Client(cluster.address, set_as_default=False) as client:
            yield client
    finally:
        cluster.stop()


@pytest.mark.slow
def test_workers_that_are_killed_change_nothing(
    tmp_path_factory: pytest.TempPathFactory, client: Client | None
) -> None:
    """In any function of any step, and all of them between two steps."""
    kills: list[str] = []

    @settings(
        max_examples=KILLED_RUNS, deadline=None, database=None, derandomize=KILLED_RUNS == 12,
        phases=[Phase.generate], suppress_health_check=list(HealthCheck),
    )  # fmt: skip
    @given(st.data())
    def run(data: st.DataObject) -> None:
        kills.extend(run_with_kills(tmp_path_factory.mktemp("job"), data, client))

    run()
    print("kills:", *(f"{name} {n}" for name, n in sorted(Counter(kills).items())))
    assert len(kills) > KILLED_RUNS


def run_with_kills(folder: Path, data: st.DataObject, client: Client | None = None) -> list[str]:
    """Compare a run whose workers are killed with the model; return where they were killed."""
    files = data.draw(FILES, "files")
    form = data.draw(st.sampled_from(sorted(FORMS)), "form")
    steps = data.draw(any_steps(form), "steps")
    kills = {}
    for number, step in enumerate(steps):
        names = sorted(
            n
            for n, each in any_job.functions(step).items()
            if callable(each) and n != "sort_values"
        )
        chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, max_size=2), "where")
        kills[number] = {
            name: data.draw(st.sampled_from([0, 0, 1, 7]), "calls before") for name in chosen
        }
    between = data.draw(
        st.sets(st.integers(2, len(steps))) if len(steps) > 1 else st.just(set()), "between"
    )
    options: dict[str, Any] = {
        "spill_bytes": data.draw(st.sampled_from(["1 kB", "256 MB"]), "spill_bytes")
    }
    write_files(folder, files)
    seen = folder / "seen"
    seen.mkdir()

    class Killer(Watcher):
        def begin(self, plan: RunOutline) -> None:
            number = int(plan.step.split()[1]) if plan.step else 1
            for path in seen.glob("pid-*") if number in between else ():
                with suppress(ProcessLookupError):
                    os.kill(int(path.name.split("-")[1]), signal.SIGKILL)
                    (seen / f"killed-{number}-between-{path.name}").touch()

    answer, exact = answer_of(files, steps, form), is_exact(steps)
    quiet = run_job(folder, steps, form, **options)
    check(answer, exact, *quiet)
    options["num_mappers" if client is None else "client"] = client or data.draw(
        st.sampled_from([1, 2, 3]), "mappers"
    )
    found = run_job(
        folder, steps, form, inline=False,
        params={"folder": str(seen), "kills": json.dumps(kills), "spared": os.getpid()}, watcher=Killer(), **options,
    )  # fmt: skip
    check(answer, exact, *found)
    assert found[1:] == quiet[1:]
    assert found[0].counters == quiet[0].counters
    assert mapped(found[0]) == mapped(quiet[0])
    return [path.name.split("-")[2] for path in seen.glob("killed-*")]
