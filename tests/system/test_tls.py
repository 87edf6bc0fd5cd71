"""TLS: to somebody's cluster, and between the processes of this machine."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterator, Mapping
from pathlib import Path

import psutil
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from support.dask_cluster import DaskCluster
from support.jobs import daskmr, write_tree

from daskmr.cluster.session import connect
from daskmr.config import load_config
from daskmr.errors import InputError

COUNT = """
def map(key, dims, value, context):
    context.write(key, 1)
def reduce(key, values, context):
    context.write(key, sum(values))
"""


def certificate(folder: Path) -> Mapping[str, str]:
    """Write a certificate that is its own authority, and its key; return the three files."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=2))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    folder.mkdir()
    (folder / "cert.pem").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    text = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    (folder / "key.pem").write_bytes(text)
    cert = str(folder / "cert.pem")
    return {"tls-ca-file": cert, "tls-cert": cert, "tls-key": str(folder / "key.pem")}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, str]:
    return certificate(tmp_path_factory.mktemp("tls") / "cluster")


@pytest.fixture(scope="module")
def tls_cluster(
    files: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[DaskCluster]:
    options = tuple(word for name, path in files.items() for word in (f"--{name}", path))
    cluster = DaskCluster(
        tmp_path_factory.mktemp("tls-cluster"),
        1,
        scheduler_options=("--protocol", "tls", *options),
        worker_options=options,
    )
    yield cluster
    cluster.stop()


@pytest.fixture
def job(tmp_path: Path) -> tuple[str, ...]:
    write_tree(tmp_path / "data", [["a\t1", "b\t1"], ["b\t1"]])
    (tmp_path / "job.py").write_text(COUNT)
    return ("run", str(tmp_path / "job.py"), "-d", str(tmp_path / "data"), "-q")


def options(files: Mapping[str, str]) -> list[str]:
    return [word for name, path in files.items() for word in (f"--{name}", path)]


def test_a_job_over_tls(
    job: tuple[str, ...], files: Mapping[str, str], tls_cluster: DaskCluster, tmp_path: Path
) -> None:
    assert tls_cluster.address.startswith("tls://")
    done = daskmr(*job, "--scheduler", tls_cluster.address, *options(files), cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\t1\nb\t2\n", "")


def test_a_job_over_tls_as_dask_is_configured(
    job: tuple[str, ...], files: Mapping[str, str], tls_cluster: DaskCluster, tmp_path: Path
) -> None:
    tls = "DASK_DISTRIBUTED__COMM__TLS__"
    environment = {
        "DASK_SCHEDULER_ADDRESS": tls_cluster.address,
        f"{tls}CA_FILE": files["tls-ca-file"],
        f"{tls}CLIENT__CERT": files["tls-cert"],
        f"{tls}CLIENT__KEY": files["tls-key"],
    }
    done = daskmr(*job, cwd=tmp_path, env=environment)
    assert (done.returncode, done.stdout, done.stderr) == (0, "a\t1\nb\t2\n", "")


@pytest.mark.slow
def test_tls_that_does_not_fit(
    job: tuple[str, ...], files: Mapping[str, str], tls_cluster: DaskCluster, tmp_path: Path
) -> None:
    address = tls_cluster.address
    plain = address.replace("tls://", "tcp://")
    other = certificate(tmp_path / "other")
    for where, given, said in [
        (address, [], "TLS"),
        (address, options(other), "certificate"),
        (plain, options(files), "encryption"),
        (plain, [], "if it uses TLS"),
        (address, ["--tls-ca-file", "nowhere.pem"], "nowhere.pem' cannot be read"),
    ]:
        done = daskmr(*job, "--scheduler", where, *given, cwd=tmp_path)
        assert done.returncode == 2
        assert done.stderr.startswith("daskmr: ")
        assert said in done.stderr
        assert done.stderr.count("\n") == 1, done.stderr


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, False), ({"local_tls": True}, True), ({"required": True}, True),
     ({"required": True, "local_tls": False}, True), ({"required": False}, False)],
)  # fmt: skip
def test_encryption_that_dask_requires_switches_it_on(
    given: dict[str, bool], expected: bool
) -> None:
    import dask

    given = dict(given)
    required = given.pop("required", None)
    with dask.config.set({"distributed.comm.require-encryption": required}):
        assert load_config(**given).local_tls is expected


def test_encryption_that_this_environment_cannot_make(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from distributed import Security

    def temporary() -> None:
        raise ImportError

    monkeypatch.setattr(Security, "temporary", temporary)
    with (
        pytest.raises(InputError, match=r"require-encryption .*pip install 'daskmr\[tls\]'"),
        connect(load_config(local_tls=True, num_mappers=1), 1, run_dir=tmp_path),
    ):
        pass


@pytest.mark.parametrize("cluster", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_site_that_requires_encryption(tmp_path: Path, cluster: bool) -> None:
    (tmp_path / "job.py").write_text(COUNT)
    write_tree(tmp_path / "data", [["a\t1", "b\t2", "a\t3"]])
    command = ["run", "job.py", "-d", "data", "-o", "out.txt", "-q"]
    if cluster:  # which is not told any certificate
        (tmp_path / "local.yaml").write_text("class: distributed.LocalCluster\n")
        command += ["--cluster", "local.yaml"]
    environment = {"DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION": "true"}
    done = daskmr(*command, cwd=tmp_path, env=environment)
    if cluster:
        assert done.returncode == 2
        assert "Give --tls-ca-file, --tls-cert and --tls-key" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert (tmp_path / "out.txt").read_text() == "a\t2\nb\t1\n"


def test_the_local_cluster_over_tls(tmp_path: Path) -> None:
    import dask

    with connect(load_config(local_tls=True, num_mappers=1), 1, run_dir=tmp_path) as session:
        assert session.client is not None
        assert session.client.scheduler.address.startswith("tls://127.0.0.1:")
        assert session.compute(dask.delayed(abs)(-1)) == 1
        words = [
            word
            for process in psutil.Process().children(recursive=True)
            for word in (*process.cmdline(), *process.environ().values())
        ]
        assert not [word for word in words if "PRIVATE KEY" in word]
    assert os.listdir(tmp_path) == []
