"""Clusters from configuration: the packaged ones, one's own, and what can be wrong with them."""

from __future__ import annotations

import inspect
import os
import signal
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import dask
import distributed
import pytest
import yaml
from support.jobs import ROOT, daskmr, write_tree

from daskmr import mapreduce
from daskmr.cluster.deploy import load_deployment
from daskmr.errors import InputError

CONF = ROOT / "conf"
NAMES = sorted(path.stem for path in CONF.glob("*.yaml") if path.stem != "daskmr")
COUNT = """
def map(key, dims, value, context):
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""


class FakeCluster:
    """Stands in for a class whose library need not be installed; notes what it is asked for."""

    def __init__(self, **args: Any) -> None:
        self.calls: list[Any] = [args]
        self.key = tempfile.NamedTemporaryFile()  # noqa: SIM115  # as dask_jobqueue has it

    def scale(self, n: int | None = None, *, jobs: int | None = None) -> None:
        self.calls.append(("scale", n or f"{jobs} jobs"))

    def adapt(self, *, minimum: int, maximum: int) -> None:
        self.calls.append(("adapt", minimum, maximum))

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def fakes(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], list[FakeCluster]]:
    """Put a fake in the place of a class; what is made of it is in the list."""

    def fake(path: str) -> list[FakeCluster]:
        made: list[FakeCluster] = []

        def make(**args: Any) -> FakeCluster:
            made.append(FakeCluster(**args))
            return made[-1]

        names = path.split(".")
        if names[0] == "distributed":
            monkeypatch.setattr(distributed, names[1], make)
            return made
        for end in range(1, len(names)):
            name = ".".join(names[:end])
            monkeypatch.setitem(sys.modules, name, types.ModuleType(name))
        setattr(sys.modules[".".join(names[:-1])], names[-1], make)
        return made

    return fake


class FakeClient:
    """Stands in for the client of a fake cluster."""

    def __init__(self, cluster: FakeCluster, *, set_as_default: bool) -> None:
        assert not set_as_default
        cluster.calls.append("connect")
        self._cluster = cluster

    def close(self, timeout: float) -> None:
        self._cluster.calls.append("disconnect")


# --- those that are packaged --------------------------------------------------------------------


def test_these_are_packaged() -> None:
    assert NAMES == ["fargate", "gateway", "kubernetes", "slurm", "ssh", "workstation"]


@pytest.mark.parametrize("name", NAMES)
def test_a_packaged_one_makes_its_call(
    name: str, fakes: Callable[[str], list[FakeCluster]], monkeypatch: pytest.MonkeyPatch
) -> None:
    content = yaml.safe_load((CONF / f"{name}.yaml").read_text("utf-8"))
    made = fakes(content["class"])
    monkeypatch.setattr(distributed, "Client", FakeClient)
    with load_deployment(name, {}).started() as client:
        assert isinstance(client, FakeClient)
    [cluster] = made
    assert not os.path.exists(cluster.key.name)
    sized = [("scale", content["scale"])] if "scale" in content else []
    if "adapt" in content:
        sized = [("adapt", content["adapt"]["minimum"], content["adapt"]["maximum"])]
    args = dask.config.expand_environment_variables(content["args"])
    assert cluster.calls == [args, *sized, "connect", "disconnect", "close"]


@pytest.mark.parametrize("name", ["ssh", "workstation"])
def test_a_packaged_one_has_arguments_that_its_class_takes(name: str) -> None:
    deployment = load_deployment(name, {})
    bound = inspect.signature(deployment.make).bind(**deployment.args)
    assert not set(bound.arguments) - set(bound.signature.parameters)


# --- one's own ----------------------------------------------------------------------------------


def own(tmp_path: Path, **content: Any) -> str:
    path = tmp_path / "own.yaml"
    path.write_text(yaml.safe_dump({"class": "fake_library.Cluster", **content}))
    return str(path)


def test_a_file_of_ones_own(
    tmp_path: Path,
    fakes: Callable[[str], list[FakeCluster]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FOLDER", "/scratch")
    monkeypatch.setattr(distributed, "Client", FakeClient)
    made = fakes("fake_library.Cluster")
    path = own(tmp_path, args={"folder": "$FOLDER/x"}, scale={"jobs": 2})
    with pytest.raises(ZeroDivisionError), load_deployment(path, {}).started("the security"):
        raise ZeroDivisionError
    args = {"folder": "/scratch/x", "security": "the security"}
    assert made[0].calls == [args, ("scale", "2 jobs"), "connect", "disconnect", "close"]


def test_a_name_of_ones_own_goes_before_a_packaged_one(
    fakes: Callable[[str], list[FakeCluster]],
) -> None:
    fakes("fake_library.Cluster")
    configured = {"slurm": {"class": "fake_library.Cluster", "args": {"cores": 1}}}
    assert load_deployment("slurm", configured).args == {"cores": 1}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ({"class": None}, "must be a mapping with class"),
        ({"arguments": {}}, r"unknown field `arguments`.* class.* args .* scale .* adapt "),
        ({"scale": 2, "adapt": {"minimum": 1}}, "both scale and adapt"),
        ({"scale": "many"}, r"got `str` - at `\$\.scale`.* scale \(a number, or a mapping of arg"),
        ({"scale": True}, r"got `bool` - at `\$\.scale`"),
        ({"adapt": 3}, r"got `int` - at `\$\.adapt`.* adapt \(a mapping of arguments\)"),
        ({"args": {1: 2}}, r"got `int` - at `key` in `\$\.args`"),
        ({"adapt": {"minmum": 0}}, "adapt has the unknown key 'minmum'. Use minimum"),
        ({"adapt": {"maximum": 0}}, "adapt allows 0 workers"),
        ({"scale": 0}, "scale allows 0 workers"),
        ({"scale": {"jobs": -1}}, "scale allows -1 workers"),
        ({"class": "daskmr.NoSuchThing"}, "'daskmr.NoSuchThing' .* does not exist"),
        ({"class": "nothing"}, "'nothing' .* does not exist"),
        ({"class": "daskmr.__version__"}, "cannot be called"),
        ({"class": "no_such_library.Cluster"}, "needs a library that is not installed"),
    ],
)
def test_what_is_wrong_with_one(tmp_path: Path, content: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        load_deployment(own(tmp_path, **content), {})


def test_a_file_that_is_no_yaml(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("a: [")
    with pytest.raises(InputError, match=r"own\.yaml' cannot be read"):
        load_deployment(str(tmp_path / "own.yaml"), {})


def test_a_library_that_takes_a_signal_does_not_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "grabbing_library.py").write_text(
        "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nCluster = dict\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    before = signal.getsignal(signal.SIGINT)
    load_deployment(own(tmp_path, **{"class": "grabbing_library.Cluster"}), {})
    assert signal.getsignal(signal.SIGINT) is before


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(InputError, match=r"no cluster 'slrm'.* mine, slurm, ssh, workstation"):
        load_deployment("slrm", {"mine": {}})


@pytest.mark.parametrize(
    ("name", "library", "extra"),
    [
        ("slurm", "dask_jobqueue", "slurm"),
        ("kubernetes", "dask_kubernetes", "kubernetes"),
        ("gateway", "dask_gateway", "gateway"),
        ("fargate", "dask_cloudprovider", "fargate"),
    ],
)
def test_a_missing_library_names_the_extra(
    name: str, library: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)  # as if it were not installed
    with pytest.raises(InputError) as caught:
        load_deployment(name, {})
    assert f"the library {library}, which is not installed: pip install 'daskmr[{extra}]'." in str(
        caught.value
    )


def test_a_library_that_is_missed_only_when_it_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "asyncssh", None)
    with (
        pytest.raises(InputError, match=r"pip install 'daskmr\[ssh\]'"),
        load_deployment("ssh", {}).started(),
    ):
        pass


def test_what_adapt_is_given_may_be_nothing(
    tmp_path: Path, fakes: Callable[[str], list[FakeCluster]]
) -> None:
    fakes("fake_library.Cluster")
    assert load_deployment(own(tmp_path, adapt={}), {}).adapt == {}
    assert load_deployment(own(tmp_path), {}).adapt is None
    assert load_deployment(own(tmp_path, adapt={"of_its_own": 1}), {}).adapt == {"of_its_own": 1}


def test_a_variable_that_is_a_number(
    tmp_path: Path, fakes: Callable[[str], list[FakeCluster]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes("fake_library.Cluster")
    monkeypatch.setenv("COUNT", "16")
    monkeypatch.setenv("CODE", "016")
    args = {"cores": "$COUNT", "more": ["$CODE", {"name": "x$COUNT"}], "text": "16"}
    found = load_deployment(own(tmp_path, args=args), {}).args
    assert found == {"cores": 16, "more": ["016", {"name": "x16"}], "text": "16"}


def test_a_module_that_cannot_be_imported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "leaving_library.py").write_text("import sys\nsys.exit(0)\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(InputError, match=r"cannot be imported \(SystemExit: 0\)"):
        load_deployment(own(tmp_path, **{"class": "leaving_library.Cluster"}), {})


@pytest.mark.parametrize(
    ("called", "said"),
    [("os.getpid", "it is not a cluster but int"), ("sys.exit", "SystemExit")],
)
def test_what_makes_no_cluster(tmp_path: Path, called: str, said: str) -> None:
    path = own(tmp_path, **{"class": called})
    with (
        pytest.raises(InputError, match=rf"could not be created \(.*{said}"),
        load_deployment(path, {}).started(),
    ):
        pass


# As dask_jobqueue's, whose command to submit a job fails.
REFUSED = """
from distributed import LocalCluster
from distributed.deploy.spec import ProcessInterface, SpecCluster
class Refused(ProcessInterface):
    def __init__(self, scheduler, name=None):
        super().__init__()
    async def start(self):
        raise RuntimeError("Command failed.\\nsbatch: error: no such account")
class Cluster(LocalCluster):
    def new_worker_spec(self):
        return {len(self.worker_spec): {"cls": Refused, "options": {}}}
"""


@pytest.mark.parametrize(
    "size",
    [{"scale": 2}, pytest.param({"adapt": {"minimum": 0, "maximum": 2}}, marks=pytest.mark.slow)],
)
def test_workers_that_cannot_be_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: dict[str, Any]
) -> None:
    """It is told at once, and in place of what Dask's event loop says of it."""
    (tmp_path / "refusing.py").write_text(REFUSED)
    data = write_tree(tmp_path / "data", [["a\t1"]])
    (tmp_path / "job.py").write_text(COUNT)
    args = {"n_workers": 0, "dashboard_address": "127.0.0.1:0"}
    path = own(tmp_path, **{"class": "refusing.Cluster", "args": args, **size})
    done = daskmr(
        *("run", "job.py", "-d", data, "--cluster", path, "-q"),
        cwd=tmp_path,
        env={"PYTHONPATH": f"{tmp_path}:{CONF.parent}"},
    )
    assert done.returncode == 2
    assert done.stderr == (
        "daskmr: The cluster could not start any worker (RuntimeError: Command failed. sbatch: error: no "
        "such account). Check its class and args in the configuration.\n"
    )


def test_the_first_cause_is_told_of_a_cluster_that_fails_to_start(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "data", [["a\t1"]])
    (tmp_path / "job.py").write_text(COUNT)
    args = {"n_workers": 1, "no_such": 1, "dashboard_address": "127.0.0.1:0"}
    path = own(tmp_path, **{"class": "distributed.LocalCluster", "args": args})
    done = daskmr("run", "job.py", "-d", data, "--cluster", path, cwd=tmp_path)
    assert done.returncode == 2
    assert "daskmr: The cluster " in done.stderr  # after what Dask's worker itself says
    assert "could not be created (TypeError: " in done.stderr
    assert "'no_such'). Check its class and args" in done.stderr


def test_a_cluster_that_cannot_be_made(tmp_path: Path) -> None:
    path = own(tmp_path, **{"class": "json.loads", "args": {"jobs": 2}})
    with (
        pytest.raises(
            InputError, match=r"own\.yaml' could not be created \(TypeError.*class and args"
        ),
        load_deployment(path, {}).started(),
    ):
        pass


# --- a whole job --------------------------------------------------------------------------------


def test_a_job_on_a_cluster_of_its_own(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "data", [["a\t1", "b\t1"], ["b\t1"]])
    args = {
        "n_workers": 0,
        "processes": False,
        "threads_per_worker": 1,
        "dashboard_address": "127.0.0.1:0",
    }
    clusters = {"mine": {"class": "distributed.LocalCluster", "args": args, "scale": 2}}
    (tmp_path / "job.py").write_text(COUNT)
    with dask.config.set({"daskmr.clusters": clusters}):
        result = mapreduce(
            tmp_path / "job.py", data_dir=data, cluster="mine", work_dir=tmp_path / "w"
        )
    assert list(result) == [("a", 1), ("b", 2)]
    assert result.notes == ()


@pytest.mark.slow  # the workers of such a cluster run a job in test_search_path.py
def test_the_command_makes_a_cluster_and_closes_it(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "data", [["a\t1", "b\t1"], ["b\t1"]])
    (tmp_path / "job.py").write_text(
        COUNT.replace(
            "    context.write(key, 1)",
            "    import logging\n"
            "    logging.getLogger('distributed.worker').error('the scheduler has hung up')\n"
            "    context.write(key, 1)",
        )
    )
    done = daskmr("run", "job.py", "-d", data, "--cluster", "workstation", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "a\t1\nb\t2\n")
    assert "hung up" not in done.stderr
    assert "note" not in done.stderr
    assert "distributed" not in done.stderr


def test_the_command_knows_no_such_cluster(tmp_path: Path) -> None:
    data = write_tree(tmp_path / "data", [["a\t1"]])
    (tmp_path / "job.py").write_text(COUNT)
    done = daskmr("run", "job.py", "-d", data, "--cluster", "no-such", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("daskmr: There is no cluster 'no-such'")
