"""Create a cluster from configuration for one job, and close it afterwards."""

from __future__ import annotations

import difflib
import logging
import os
import tempfile
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

import dask.config
import msgspec
import yaml

from daskmr.cluster.connect import TLS_ADVICE
from daskmr.cluster.dask_internals import (
    close_unfinished_clusters,
    is_tls_failure,
    raised_by_deployment,
    workers_never_started,
)
from daskmr.cluster.forkserver import SAFE_PATH
from daskmr.environment import environment
from daskmr.errors import InputError
from daskmr.job.tracebacks import causes_of, describe_exception, reason_of
from daskmr.signals import deferred, handlers_kept, on_hard_exit, patient

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Deployment", "load_deployment", "start_failure"]

logger = logging.getLogger(__name__)

_CLOSE_SECONDS = 30.0

# Dask ignores unknown arguments of `adapt`, so they are checked here.
_ADAPT = frozenset([
    "minimum", "maximum", "minimum_jobs", "maximum_jobs", "minimum_cores", "maximum_cores",
    "minimum_memory", "maximum_memory", "interval", "wait_count", "target_duration", "worker_key",
    "active",
])  # fmt: skip

# The extras of daskmr, by the library that they install.
_EXTRAS = {
    "asyncssh": "ssh",
    "dask_jobqueue": "slurm",
    "dask_kubernetes": "kubernetes",
    "dask_gateway": "gateway",
    "dask_cloudprovider": "fargate",
    "cryptography": "tls",
}


@dataclass(frozen=True, slots=True)
class Deployment:
    """A recipe for a cluster: a class, its keyword arguments, and those of its scale or adapt.

    If `scale` or `adapt` is ``None``, that method is not called. Messages use `name`.
    """

    name: str
    make: Callable[..., Any]
    args: dict[str, Any] = field(default_factory=dict)
    scale: dict[str, Any] | None = None
    adapt: dict[str, Any] | None = None

    @contextmanager
    def started(self, security: Any = None) -> Iterator[Client]:
        """Create the cluster and a client of it; close both at the end of the block.

        `security` is passed to the class unless its arguments contain one.

        Raises `InputError` if the cluster cannot be created.
        """
        import distributed

        args = dict(self.args)
        if security is not None:
            args.setdefault("security", security)
        # Closing may take a while: it may have to cancel jobs, or call a cloud service.
        with patient(_CLOSE_SECONDS), ExitStack() as stack:
            if not _is_local(self.make):
                # Its processes inherit this; SSHCluster learns from their logs that they are running.
                stack.enter_context(dask.config.set({"logging.distributed": "info"}))
            elif self.make is distributed.LocalCluster:
                # As for daskmr's own workers, whose failures the run reports itself: a worker that is
                # being closed may log that the scheduler has hung up.
                args.setdefault("silence_logs", logging.CRITICAL)
                if self.args.get("processes", True):
                    # Processes that a script starts are not affected.
                    restored = {name: os.environ.get(name, "") for name in SAFE_PATH}
                    args["env"] = restored | args.get("env", {})
                    stack.enter_context(environment(SAFE_PATH))
            # An interruption waits: a half-created cluster cannot be closed.
            with deferred():
                forget = on_hard_exit(close_unfinished_clusters)
                stack.callback(forget)
                with self._failures_explained():
                    cluster = self.make(**args)
                    if not hasattr(cluster, "close"):
                        raise TypeError(f"it is not a cluster but {type(cluster).__name__}")
                forget()
                stack.enter_context(_keeping_start_failures(cluster))
                stack.callback(on_hard_exit(lambda: _close(cluster)))
                stack.callback(_close, cluster)
            with self._failures_explained():
                if self.scale is not None:
                    cluster.scale(**self.scale)
                if self.adapt is not None:
                    cluster.adapt(**self.adapt)
            with deferred():
                with self._failures_explained():
                    client = distributed.Client(cluster, set_as_default=False)
                stack.callback(_close, client)
            yield client

    @contextmanager
    def _failures_explained(self) -> Iterator[None]:
        try:
            yield
        except (Exception, SystemExit) as error:
            missing = next((e for e in causes_of(error) if isinstance(e, ImportError)), None)
            if missing is not None:
                raise InputError(_explain_missing(self.name, missing)) from None
            advice = "Check its class and args in the configuration."
            if any(map(is_tls_failure, causes_of(error))):
                advice = TLS_ADVICE
            raise InputError(
                f"The cluster {self.name!r} could not be created ({reason_of(error)}). {advice}"
            ) from None


def _is_local(make: object) -> bool:
    """Check whether the processes of a cluster log to this process's terminal."""
    from distributed import LocalCluster

    return isinstance(make, type) and issubclass(make, LocalCluster)


class _StartFailures(logging.Filter):
    """A log filter that keeps the last failure of a cluster to start workers: Dask only logs it."""

    def __init__(self) -> None:
        super().__init__()
        self.last = ""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if error is None or not raised_by_deployment(error):
            return True
        self.last = reason_of(error)
        return False


_start_failures: weakref.WeakKeyDictionary[Any, _StartFailures] = weakref.WeakKeyDictionary()


@contextmanager
def _keeping_start_failures(cluster: Any) -> Iterator[None]:
    failures = _start_failures[cluster] = _StartFailures()
    with ExitStack() as stack:
        for name in ("asyncio", "tornado.application"):
            logging.getLogger(name).addFilter(failures)
            stack.callback(logging.getLogger(name).removeFilter, failures)
        yield


def start_failure(cluster: Any) -> str:
    """Explain why a cluster could not start any worker; ``""`` if it could, or may still.

    `cluster` is the cluster of a client; ``None`` if this process did not create it.
    """
    failures = _start_failures.get(cluster) if cluster is not None else None
    return failures.last if failures is not None and workers_never_started(cluster) else ""


def _close(part: Any) -> None:
    with deferred():
        try:
            part.close(timeout=_CLOSE_SECONDS / 2)
        except TypeError:  # a cluster whose `close` takes no such argument
            part.close()
        except Exception as error:  # the result, or an earlier failure, matters more
            level = logging.INFO if start_failure(part) else logging.WARNING
            logger.log(level, "While closing %r: %s", part, error)
        # Remove a cluster's temporary files (the TLS keys of dask_jobqueue's workers), because the
        # process ends without Python's clean-up.
        for value in getattr(part, "__dict__", {}).values():
            if isinstance(value, tempfile._TemporaryFileWrapper):
                value.close()


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """The configuration of a cluster."""

    path: str = msgspec.field(name="class")
    args: dict[str, Any] | None = None
    scale: int | dict[str, Any] | None = None
    adapt: dict[str, Any] | None = None


def load_deployment(name: str, configured: Mapping[str, Any]) -> Deployment:
    """Load a cluster from a YAML file, or a configured or packaged one by its name.

    Raises `InputError` if it does not exist, its content is invalid, or the library of its class is
    missing.
    """
    try:
        content = msgspec.convert(_find(name, configured), _Content)
    except msgspec.ValidationError as error:
        raise InputError(
            f"The cluster {name!r} is not valid ({error}): it must be a mapping with class, a dotted "
            "path such as distributed.LocalCluster; it may have args (a mapping of arguments), and "
            "scale (a number, or a mapping of arguments) or adapt (a mapping of arguments)."
        ) from None
    if content.scale is not None and content.adapt is not None:
        raise InputError(f"The cluster {name!r} has both scale and adapt. Remove one of them.")
    scale = {"n": content.scale} if isinstance(content.scale, int) else content.scale
    _check_size(name, scale, content.adapt)
    make = _import(name, content.path)
    return Deployment(name, make, _expanded(content.args or {}), scale, content.adapt)


def _check_size(
    name: str, scale: Mapping[str, Any] | None, adapt: Mapping[str, Any] | None
) -> None:
    for word in adapt or ():
        meant = difflib.get_close_matches(word, _ADAPT, 1)
        if meant and word not in _ADAPT:
            raise InputError(
                f"In the cluster {name!r}, adapt has the unknown key {word!r}. Use {meant[0]}."
            )
    most = {**(scale or {}), "maximum": (adapt or {}).get("maximum")}
    for word in ("n", "jobs", "maximum"):
        count = most.get(word)
        if isinstance(count, int) and count < 1:
            key = "adapt" if word == "maximum" else "scale"
            raise InputError(
                f"In the cluster {name!r}, {key} allows {count} workers. A job needs at least one."
            )


def _expanded(args: Any) -> Any:
    """Expand environment variables; convert values that are integers."""
    if isinstance(args, Mapping):
        return {key: _expanded(value) for key, value in args.items()}
    if isinstance(args, list):
        return [_expanded(value) for value in args]
    value = dask.config.expand_environment_variables(args)
    is_number = value != args and isinstance(value, str) and value.isdecimal()
    return int(value) if is_number and str(int(value)) == value else value


def _find(name: str, configured: Mapping[str, Any]) -> Any:
    if os.path.isfile(name):
        try:
            with open(name, encoding="utf-8") as file:
                return yaml.safe_load(file)
        except (OSError, ValueError, yaml.YAMLError) as error:
            reason = describe_exception(error)
        raise InputError(f"The cluster file {name!r} cannot be read ({reason}).")
    if name in configured:
        return configured[name]
    packaged = resources.files("daskmr").joinpath("clusters")
    names = sorted(file.name.removesuffix(".yaml") for file in packaged.iterdir())
    if name in names:
        return yaml.safe_load(packaged.joinpath(f"{name}.yaml").read_text("utf-8"))
    raise InputError(
        f"There is no cluster {name!r}. Give a YAML file, or one of these names: "
        f"{', '.join(sorted({*names, *configured}))}."
    )


def _import(name: str, path: str) -> Callable[..., Any]:
    module, _, attribute = path.rpartition(".")
    try:
        with handlers_kept():  # dask_jobqueue installs a handler of SIGINT that exits with 0
            make: Callable[..., Any] = getattr(import_module(module), attribute)
    except ImportError as error:
        reason = _explain_missing(name, error)
    except (AttributeError, ValueError):
        reason = (
            f"The class {path!r} of the cluster {name!r} does not exist. Give a dotted path such as "
            "distributed.LocalCluster."
        )
    except (Exception, SystemExit) as error:
        reason = (
            f"The module of the class {path!r} of the cluster {name!r} cannot be imported "
            f"({reason_of(error)})."
        )
    else:
        if callable(make):
            return make
        reason = f"The class {path!r} of the cluster {name!r} cannot be called. Give another one."
    raise InputError(reason)


def _explain_missing(name: str, error: ImportError) -> str:
    for library, extra in _EXTRAS.items():
        if library in f"{error.name or ''} {error}":
            return (
                f"The cluster {name!r} needs the library {library}, which is not installed: "
                f"pip install 'daskmr[{extra}]'."
            )
    return (
        f"The cluster {name!r} needs a library that is not installed ({error}). Install it in the "
        "environment of daskmr."
    )
