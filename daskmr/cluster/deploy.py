"""A cluster that is created for one job, from configuration, and closed after it."""

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

from daskmr.cluster.dask_internals import (
    close_unfinished_clusters,
    is_tls_failure,
    raised_by_deployment,
    workers_never_started,
)
from daskmr.cluster.forkserver import SAFE_PATH, environment
from daskmr.errors import InputError
from daskmr.job.tracebacks import describe_exception
from daskmr.signals import deferred, handlers_kept, on_hard_exit, patient

if TYPE_CHECKING:
    from distributed import Client

__all__ = [
    "TLS_ADVICE", "Deployment", "causes_of", "load_deployment", "reason_of", "start_failure",
]  # fmt: skip

logger = logging.getLogger(__name__)

TLS_ADVICE = (
    "Give --tls-ca-file, --tls-cert and --tls-key as the scheduler has them, or the same in Dask's "
    "configuration (distributed.comm.tls)."
)

_CLOSE_SECONDS = 30.0
_LONGEST_REASON = 500  # characters, since it may be all that a command has printed

# Dask ignores arguments of `adapt` that it does not know.
_ADAPT = frozenset([
    "minimum", "maximum", "minimum_jobs", "maximum_jobs", "minimum_cores", "maximum_cores",
    "minimum_memory", "maximum_memory", "interval", "wait_count", "target_duration", "worker_key",
    "active",
])  # fmt: skip

# The extra of daskmr that installs a library.
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
    """How to create a cluster: a class, its keyword arguments, and those of its scale or adapt.

    ``None`` for `scale` or `adapt` leaves the cluster as it is created. Messages use `name`.
    """

    name: str
    make: Callable[..., Any]
    args: dict[str, Any] = field(default_factory=dict)
    scale: dict[str, Any] | None = None
    adapt: dict[str, Any] | None = None

    @contextmanager
    def started(self, security: Any = None) -> Iterator[Client]:
        """Create the cluster and a client of it; close both on the way out.

        `security` is given to the class, unless its arguments name one.

        Raises `InputError` when the cluster cannot be created.
        """
        import distributed

        args = dict(self.args)
        if security is not None:
            args.setdefault("security", security)
        # Closing may mean to cancel jobs, or to call a cloud.
        with patient(_CLOSE_SECONDS), ExitStack() as stack:
            if not _is_local(self.make):
                # Its processes inherit this, and SSHCluster reads in their logs that they run.
                stack.enter_context(dask.config.set({"logging.distributed": "info"}))
            elif self.make is distributed.LocalCluster and self.args.get("processes", True):
                # As for workers that daskmr starts itself; what a script starts is not affected.
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
                        raise TypeError(f"it is no cluster, but {type(cluster).__name__}")
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
            advice = "Look at its class and args in the configuration."
            if any(map(is_tls_failure, causes_of(error))):
                advice = TLS_ADVICE
            raise InputError(
                f"The cluster {self.name!r} could not be made ({reason_of(error)}). {advice}"
            ) from None


def _is_local(make: object) -> bool:
    """Check whether the processes of a cluster log to the terminal of this one."""
    from distributed import LocalCluster

    return isinstance(make, type) and issubclass(make, LocalCluster)


def causes_of(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an exception and its causes, the first cause last."""
    while error is not None:
        yield error
        error = error.__cause__


def reason_of(error: BaseException) -> str:
    """Describe the innermost cause with a message: Dask wraps it in others, which say less."""
    texts = [describe_exception(cause) for cause in causes_of(error) if str(cause).strip()]
    text = " ".join(texts[-1].split()).removesuffix(".") if texts else type(error).__name__
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]}..."


class _StartFailures(logging.Filter):
    """Keeps what fails when a cluster starts workers: Dask only logs it."""

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
    """Explain why none of the workers of a cluster could be started; ``""`` unless that is so.

    `cluster` is that of a client; ``None`` for one that this process has not created.
    """
    failures = _start_failures.get(cluster) if cluster is not None else None
    return failures.last if failures is not None and workers_never_started(cluster) else ""


def _close(part: Any) -> None:
    with deferred():
        try:
            part.close(timeout=_CLOSE_SECONDS / 2)
        except TypeError:  # a cluster whose `close` takes no such argument
            part.close()
        except Exception as error:  # the result, or what went wrong before, matters more
            level = logging.INFO if start_failure(part) else logging.WARNING
            logger.log(level, "While closing %r: %s", part, error)
        # Temporary files of a cluster (the keys of dask_jobqueue's workers) would stay, since the
        # process ends without Python's clean-up.
        for value in getattr(part, "__dict__", {}).values():
            if isinstance(value, tempfile._TemporaryFileWrapper):
                value.close()


class _Content(msgspec.Struct, forbid_unknown_fields=True):
    """A cluster as it is configured."""

    path: str = msgspec.field(name="class")
    args: dict[str, Any] | None = None
    scale: int | dict[str, Any] | None = None
    adapt: dict[str, Any] | None = None


def load_deployment(name: str, configured: Mapping[str, Any]) -> Deployment:
    """Load a cluster from a YAML file, or by its name from those configured or packaged.

    Raises `InputError` when there is none, its content is invalid, or the library of its class is
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
        raise InputError(f"The cluster {name!r} has both scale and adapt: leave one of them out.")
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
                f"In the cluster {name!r}, adapt has {word!r}, which is not known: {meant[0]} is."
            )
    most = {**(scale or {}), "maximum": (adapt or {}).get("maximum")}
    for word in ("n", "jobs", "maximum"):
        count = most.get(word)
        if isinstance(count, int) and count < 1:
            key = "adapt" if word == "maximum" else "scale"
            raise InputError(
                f"In the cluster {name!r}, {key} leaves no worker ({count}): a job needs one at least."
            )


def _expanded(args: Any) -> Any:
    """Expand environment variables; one whose value is a number becomes a number."""
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
        f"There is no cluster {name!r}: it is no file, and the names are "
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
            f"The class {path!r} of the cluster {name!r} does not exist. Name one by its dotted path, "
            "such as distributed.LocalCluster."
        )
    except (Exception, SystemExit) as error:
        reason = (
            f"The module of the class {path!r} of the cluster {name!r} cannot be imported "
            f"({reason_of(error)})."
        )
    else:
        if callable(make):
            return make
        reason = f"The class {path!r} of the cluster {name!r} cannot be called. Name another one."
    raise InputError(reason)


def _explain_missing(name: str, error: ImportError) -> str:
    for library, extra in _EXTRAS.items():
        if library in f"{error.name or ''} {error}":
            return (
                f"The cluster {name!r} needs the library {library}, which is not installed: "
                f"pip install 'daskmr[{extra}]'."
            )
    return (
        f"The cluster {name!r} needs a library that is not installed ({error}). Install it beside "
        "daskmr."
    )
