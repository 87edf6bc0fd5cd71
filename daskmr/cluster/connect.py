"""Choose an existing cluster, connect to it, and check whether it can run the job."""

from __future__ import annotations

import gc
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.config

from daskmr.cluster.dask_internals import is_of_another_server, is_tls_failure
from daskmr.cluster.versions import compare_cluster
from daskmr.config import Config
from daskmr.errors import InputError
from daskmr.job.tracebacks import causes_of, reason_of

if TYPE_CHECKING:
    from distributed import Client, Security

__all__ = ["TLS_ADVICE", "choose", "examine", "existing_scheduler", "security_of"]

TLS_ADVICE = (
    "Give --tls-ca-file, --tls-cert and --tls-key as the scheduler has them, or the same in Dask's "
    "configuration (distributed.comm.tls)."
)
_CONNECT_SECONDS = 8.0
_CLOSE_SECONDS = 3.0
_ANSWER_SECONDS = 30.0  # for the answers of all workers before the job
_NOTICE_AFTER_SECONDS = 2.0
_POLL_SECONDS = 0.2


def choose(config: Config, options: Mapping[str, Any], client: Any, inline: bool) -> Config:
    """Return `config` with at most one of `scheduler` and `cluster`: the one that takes precedence.

    The `options` of the job precede any configuration; Dask's own ``scheduler-address``
    (``DASK_SCHEDULER_ADDRESS``) comes last. `client` and `inline` are as for `daskmr.mapreduce`.

    Raises `InputError` if two places have the same precedence.
    """
    given = [name for name in ("scheduler", "cluster") if options.get(name) is not None]
    given += ["client"] if client is not None else []
    given += ["inline"] if inline else []
    if not given:
        given = [name for name in ("scheduler", "cluster") if getattr(config, name) is not None]
    if len(given) > 1:
        raise InputError(
            f"A job runs in one place, but both {given[0]} and {given[1]} are given. Remove one of "
            "them."
        )
    scheduler, cluster = config.scheduler, config.cluster
    if given != ["scheduler"]:
        scheduler = None if given else dask.config.get("scheduler-address", None) or None
    if given != ["cluster"]:
        cluster = None
    return replace(config, scheduler=scheduler, cluster=cluster)


# --- connecting ---------------------------------------------------------------------------------


@contextmanager
def existing_scheduler(address: str, config: Config) -> Iterator[Client]:
    """Connect to the scheduler at `address` for the duration of the block.

    Raises `InputError` if no scheduler answers there in a few seconds, or the TLS options are wrong.
    """
    import distributed  # noqa: F401  # slow on a busy machine; must not count against the timeout

    security = security_of(config)
    client = _client(address, security)
    try:
        yield client
    finally:
        with suppress(Exception):  # the scheduler may have failed
            client.close(timeout=_CLOSE_SECONDS)


def security_of(config: Config) -> Security | None:
    """Convert the TLS options; ``None`` means that Dask's own configuration applies."""
    files = {
        "tls_ca_file": config.tls_ca_file,
        "tls_client_cert": config.tls_cert,
        "tls_client_key": config.tls_key,
    }
    for path in files.values():
        if path is not None and not os.access(path, os.R_OK):
            raise InputError(f"The TLS file {path!r} cannot be read. Give a readable file.")
    given = {name: path for name, path in files.items() if path is not None}
    if not given:
        return None
    from distributed import Security

    return Security(require_encryption=True, **given)


def _client(address: str, security: Security | None) -> Client:
    """Connect in a thread: Dask waits indefinitely for a server that accepts but never answers."""
    import distributed

    def connect() -> Client:
        try:
            return distributed.Client(
                address, security=security, set_as_default=False, timeout=_CONNECT_SECONDS
            )
        except Exception as error:
            # Finalize the client now. Its finalizer takes a lock that Dask holds while another client
            # starts its event loop: were it garbage until then, the two could wait for each other.
            for cause in causes_of(error):
                cause.__traceback__ = None
            gc.collect()
            raise

    connecting = _in_thread(connect)
    try:
        return connecting.result(_CONNECT_SECONDS + 1)
    except BaseException as error:
        connecting.add_done_callback(_close_late)
        if not isinstance(error, Exception):  # an interruption
            raise
        failure = error if connecting.done() else None
    raise InputError(_explain_refusal(address, failure))


def _close_late(connecting: Future[Client]) -> None:
    if connecting.exception() is None:
        connecting.result().close()


def _in_thread(function: Callable[[], Any]) -> Future[Any]:
    future: Future[Any] = Future()

    def work() -> None:
        try:
            future.set_result(function())
        except Exception as error:
            future.set_exception(error)

    threading.Thread(target=work, name="daskmr-connect", daemon=True).start()
    return future


def _explain_refusal(address: str, error: Exception | None) -> str:
    reason = reason_of(error) if error is not None else "the server there does not answer"
    causes = list(causes_of(error))
    if any(map(is_tls_failure, causes)):
        advice = f"{TLS_ADVICE} A tcp:// address must have none."
    elif any(map(is_of_another_server, causes)):
        reason = "it is another kind of Dask server, not a scheduler"
        advice = (
            "It may be the address of a worker. Give the address of the scheduler, which each worker "
            'logs as "Registered to".'
        )
    elif isinstance(error, ValueError):
        advice = "An address looks like tcp://HOST:8786 or tls://HOST:8786."
    else:
        advice = (
            "Check that it is running, that the address is correct (the scheduler logs it when it "
            "starts), that no firewall blocks this machine, and that the address begins with tls:// "
            "if it uses TLS."
        )
    return f"Cannot connect to the Dask scheduler {address} ({reason}). {advice}"


# --- before the job -----------------------------------------------------------------------------


def examine(client: Client, config: Config) -> tuple[str, ...]:
    """Wait until the cluster of `client` has a worker, check all workers, and return notes.

    An adaptive cluster starts its first worker only when there is a task, so submit one.

    Raises `InputError` if no worker starts in time, or a worker could not run the job.
    """
    if not _workers(client):
        _wait_for_worker(client, config.worker_timeout)
    notes = _compare_versions(client)
    return (*notes, *_note_threads(_workers(client)), *_note_settings(config))


def _workers(client: Client) -> dict[str, Any]:
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def _wait_for_worker(client: Client, seconds: float) -> None:
    from daskmr.cluster.deploy import start_failure  # deferred: a local job needs none

    started = time.monotonic()
    noticed = False
    # Not `pure`: otherwise a result that another client holds would count as an answer.
    first = client.submit(abs, 0, pure=False)
    try:
        while not first.done() and not _workers(client):
            waited = time.monotonic() - started
            failure = start_failure(client.cluster)
            if failure:
                raise InputError(
                    f"The cluster could not start any worker ({failure}). Check its class and args in "
                    "the configuration."
                )
            if waited > seconds:
                raise InputError(
                    f"The cluster of {client.scheduler.address} has no workers, and none has started "
                    f"within {seconds:g} s (daskmr.worker-timeout). Start workers, or find out why "
                    "the cluster cannot."
                )
            if waited > _NOTICE_AFTER_SECONDS and not noticed:
                noticed = True
                with suppress(OSError):  # standard error may be closed
                    sys.stderr.write(
                        f"daskmr: waiting for the workers of {client.scheduler.address}, up to "
                        f"{seconds:g} s\n"
                    )
                    sys.stderr.flush()
            time.sleep(_POLL_SECONDS)
    finally:
        first.release()


def _compare_versions(client: Client) -> tuple[str, ...]:
    """Compare versions, but give up after a while: a hanging worker must not prevent the start."""
    comparing = _in_thread(lambda: compare_cluster(client))
    try:
        notes: tuple[str, ...] = comparing.result(_ANSWER_SECONDS)
        return notes
    except InputError:
        raise
    except Exception as error:
        if not comparing.done():
            return ()
        failure = error
    raise InputError(
        f"The Dask scheduler does not answer ({reason_of(failure)}). Check its log, and start the job "
        "again."
    )


def _note_threads(workers: Mapping[str, Any]) -> list[str]:
    several = {address: w["nthreads"] for address, w in workers.items() if w["nthreads"] > 1}
    if not several:
        return []
    address, threads = next(iter(several.items()))
    return [
        f"{len(several):,} of {len(workers):,} workers have several threads ({address} has "
        f"{threads}), and a process runs one task of a job at a time: start more workers, each with "
        "--nthreads 1"
    ]


def _note_settings(config: Config) -> list[str]:
    unused = {
        "num-mappers": config.num_mappers is not None,
        "memory-limit": config.memory_limit != "auto",
        "dashboard": config.dashboard not in (None, "off"),
    }
    return [
        f"{name} is ignored: it only applies to workers on this machine, not to a cluster"
        for name, is_set in unused.items()
        if is_set
    ]
