"""A cluster that is already there: which one, how to connect, and whether it can run the job."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import dask.config

from daskmr.cluster.deploy import start_failure
from daskmr.cluster.versions import Versions, here, judge
from daskmr.config import Config
from daskmr.errors import InputError
from daskmr.job.tracebacks import describe_exception

if TYPE_CHECKING:
    from distributed import Client, Security

__all__ = [
    "choose",
    "examine",
    "existing_scheduler",
    "security_of",
    "temporary_security",
]

_CONNECT_SECONDS = 8.0
_CLOSE_SECONDS = 3.0
_ANSWER_SECONDS = 30.0  # of all workers, to what they are asked before the job
_TELL_AFTER_SECONDS = 2.0
_POLL_SECONDS = 0.2


# --- which one ----------------------------------------------------------------------------------


def choose(config: Config, options: Mapping[str, Any], client: Any, inline: bool) -> Config:
    """Leave at most one of `scheduler` and `cluster` in `config`: the one that is closest.

    What is given with the job goes before any configuration; Dask's own ``scheduler-address``
    (``DASK_SCHEDULER_ADDRESS``) comes last.

    Parameters
    ----------
    config : Config
        Whose settings may come from anywhere.
    options : mapping
        Those that were given with the job.
    client, inline : object, bool
        As `daskmr.mapreduce` takes them.

    Raises
    ------
    InputError
        For two places that are given in the same way.
    """
    given = [name for name in ("scheduler", "cluster") if options.get(name) is not None]
    given += ["client"] if client is not None else []
    given += ["inline"] if inline else []
    if not given:
        given = [name for name in ("scheduler", "cluster") if getattr(config, name) is not None]
    if len(given) > 1:
        raise InputError(
            f"A job runs in one place, and both {given[0]} and {given[1]} are given: leave one of "
            "them out."
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
    """Connect to the scheduler at `address`; the connection ends with the block.

    Raises
    ------
    InputError
        When nothing there answers as a scheduler within some seconds, or TLS does not fit.
    """
    import distributed  # noqa: F401  # on a busy machine for seconds, which are not the scheduler's

    security = security_of(config)
    client = _within(_CONNECT_SECONDS, address, lambda: _client(address, security))
    try:
        yield client
    finally:
        with suppress(Exception):  # the scheduler may be what has failed
            client.close(timeout=_CLOSE_SECONDS)


def security_of(config: Config) -> Security | None:
    """Return what the TLS options say; ``None`` leaves it to Dask's own configuration."""
    files = {
        "tls_ca_file": config.tls_ca_file,
        "tls_client_cert": config.tls_cert,
        "tls_client_key": config.tls_key,
    }
    for path in files.values():
        if path is not None and not os.access(path, os.R_OK):
            raise InputError(f"The TLS file {path!r} cannot be read. Name another one.")
    given = {name: path for name, path in files.items() if path is not None}
    if not given:
        return None
    from distributed import Security

    return Security(require_encryption=True, **given)


def temporary_security() -> Security:
    """Make a certificate for one cluster, which is kept in memory only."""
    from distributed import Security

    try:
        return Security.temporary()
    except ImportError:
        raise InputError(
            "TLS between the processes on this machine (daskmr.local-tls, or "
            "distributed.comm.require-encryption in Dask's configuration) needs the cryptography "
            "library: pip install 'daskmr[tls]', or run with --inline."
        ) from None


def _client(address: str, security: Security | None) -> Client:
    import distributed

    return distributed.Client(
        address, security=security, set_as_default=False, timeout=_CONNECT_SECONDS
    )


def _within(seconds: float, address: str, connect: Callable[[], Client]) -> Client:
    """Connect in a thread: to what accepts connections and says nothing, Dask waits for ever."""
    made: list[Client] = []
    errors: list[Exception] = []
    lock, ended, given_up = threading.Lock(), threading.Event(), threading.Event()

    def attempt() -> None:
        try:
            client = connect()
            with lock:
                made.append(client)
                late = given_up.is_set()
            if late:
                client.close()
        except Exception as error:
            errors.append(error)
        finally:
            ended.set()

    threading.Thread(target=attempt, name="daskmr-connect", daemon=True).start()
    try:
        ended.wait(seconds + 1)
    finally:
        with lock:
            if not made:
                given_up.set()
    if made:
        return made[0]
    raise InputError(_explain_refusal(address, errors[0] if errors else None, seconds)) from None


def _explain_refusal(address: str, error: Exception | None, seconds: float) -> str:
    reason = _reason(error) if error is not None else "what listens there does not answer"
    if "TLS" in reason or "SSL" in reason or "encryption" in reason:
        advice = (
            "A tls:// address needs --tls-ca-file, --tls-cert and --tls-key as its scheduler has them, "
            "or the same in Dask's configuration (distributed.comm.tls); a tcp:// one must have none."
        )
    elif "identity() got an unexpected keyword" in reason:
        reason = "something of Dask's listens there that is no scheduler"
        advice = (
            "Maybe that is the address of a worker: give that of the scheduler, which each worker "
            'logs as "Registered to".'
        )
    elif isinstance(error, ValueError):
        advice = "An address looks like tcp://HOST:8786 or tls://HOST:8786."
    else:
        advice = (
            "Is it running there, is that its address (it logs it when it starts), does a firewall "
            "let this machine through, and does it use TLS (then the address begins with tls://)?"
        )
    return f"Cannot connect to the Dask scheduler {address} ({reason}). {advice}"


def _reason(error: BaseException) -> str:
    """The innermost cause that says something: the outer ones are of Dask's waiting."""
    texts = []
    cause: BaseException | None = error
    while cause is not None:
        if str(cause).strip():
            texts.append(describe_exception(cause))
        cause = cause.__cause__
    return texts[-1].removesuffix(".") if texts else type(error).__name__


# --- before the job -----------------------------------------------------------------------------


def examine(client: Client, config: Config) -> tuple[str, ...]:
    """Wait until the cluster of `client` has a worker, see that all fit, and return what to note.

    An adaptive cluster that has none starts one only when there is something to do: so it is given
    something.

    Raises
    ------
    InputError
        When no worker comes in time, or one could not run the job.
    """
    workers = _workers(client)
    if not workers:
        _wait_for_worker(client, config.worker_timeout)
        workers = _workers(client)
    asked = _ask(lambda: _versions(client))
    notes = judge(here(), asked) if asked is not None else ()
    return (*notes, *_note_threads(workers), *_note_settings(config))


def _workers(client: Client) -> dict[str, Any]:
    workers: dict[str, Any] = client.scheduler_info(n_workers=-1)["workers"]
    return workers


def _wait_for_worker(client: Client, seconds: float) -> None:
    started = time.monotonic()
    told = False
    # Not `pure`, or a result that somebody else's client holds would be taken for an answer.
    first = client.submit(abs, 0, pure=False)
    try:
        while not first.done() and not _workers(client):
            waited = time.monotonic() - started
            failure = start_failure(client.cluster)
            if failure:
                raise InputError(
                    f"The cluster could start no worker ({failure}). Look at its class and args in "
                    "the configuration."
                )
            if waited > seconds:
                raise InputError(
                    f"The cluster of {client.scheduler.address} has no workers, and none has come in "
                    f"{seconds:g} s (daskmr.worker-timeout). Start workers, or look at why the "
                    "cluster cannot."
                )
            if waited > _TELL_AFTER_SECONDS and not told:
                told = True
                _tell(f"waiting for the workers of {client.scheduler.address}, up to {seconds:g} s")
            time.sleep(_POLL_SECONDS)
    finally:
        first.release()


def _tell(text: str) -> None:
    with suppress(OSError):  # nobody may be there to be told
        sys.stderr.write(f"daskmr: {text}\n")
        sys.stderr.flush()


def _ask(question: Callable[[], Any]) -> Any:
    """Wait for an answer, but not for ever: a worker that hangs is no reason not to begin."""
    answers: list[Any] = []
    errors: list[Exception] = []

    def ask() -> None:
        try:
            answers.append(question())
        except Exception as error:
            errors.append(error)

    asking = threading.Thread(target=ask, name="daskmr-ask", daemon=True)
    asking.start()
    asking.join(_ANSWER_SECONDS)
    if errors:
        raise InputError(
            f"The Dask scheduler does not answer ({_reason(errors[0])}). Look at its log, and start "
            "the job again."
        ) from None
    return answers[0] if answers else None


# Evaluated by what every process has, so that the question reaches those without daskmr too.
_DASKMR_THERE = "__import__('daskmr').__version__"


def _versions(client: Client) -> list[tuple[str, Versions]]:
    """Ask the scheduler and all workers for their versions; who does not answer is left out."""
    answers = client.get_versions()
    daskmr = client.run(eval, _DASKMR_THERE, on_error="return")
    found = [("the scheduler", _read(answers["scheduler"], _at_scheduler(client)))]
    for address, answer in answers["workers"].items():
        if isinstance(answer, dict) and address in daskmr:
            found.append((f"the worker {address}", _read(answer, daskmr[address])))
    return found


def _at_scheduler(client: Client) -> Any:
    try:
        return client.run_on_scheduler(eval, _DASKMR_THERE)
    except Exception as error:
        return error


def _read(answer: Mapping[str, Any], daskmr: Any) -> Versions:
    found = dict(answer["packages"])
    found["python"] = ".".join(found["python"].split(".")[:3])
    if isinstance(daskmr, str):
        found["daskmr"] = daskmr
    elif isinstance(daskmr, ImportError):
        found["daskmr"] = None
    else:  # it would not say; the tasks look again
        found.pop("daskmr", None)
    return found


def _note_threads(workers: Mapping[str, Any]) -> list[str]:
    several = [address for address, worker in workers.items() if worker["nthreads"] > 1]
    if not several:
        return []
    return [
        f"{len(several):,} of {len(workers):,} workers have several threads ({several[0]} has "
        f"{workers[several[0]]['nthreads']}), and a process runs one task of a job at a time: start "
        "more workers, each with --nthreads 1"
    ]


def _note_settings(config: Config) -> list[str]:
    unused = [("num-mappers", config.num_mappers is not None)]
    unused.append(("memory-limit", config.memory_limit != "auto"))
    unused.append(("dashboard", config.dashboard not in (None, "off")))
    return [
        f"{name} is for workers on this machine; those of the cluster are as they were started"
        for name, is_set in unused
        if is_set
    ]
