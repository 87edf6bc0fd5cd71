"""A cluster that is made for one job, from configuration, and closed after it."""

from __future__ import annotations

import logging
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import import_module, resources
from typing import TYPE_CHECKING, Any

import dask.config
import yaml

from daskmr.errors import InputError
from daskmr.interruption import deferred, handlers_kept, on_hard_exit, patient
from daskmr.tracebacks import describe_exception

if TYPE_CHECKING:
    from distributed import Client

__all__ = ["Deployment", "load_deployment"]

logger = logging.getLogger(__name__)

_KEYS = ("class", "args", "scale", "adapt")
_CLOSE_SECONDS = 30.0

# What brings the library of a class that is not there, by the library's name.
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
    """How to make a cluster.

    Attributes
    ----------
    name : str
        What it goes by in messages.
    make : callable
        The cluster's class.
    args : dict
        Its arguments, by keyword.
    scale : dict
        Arguments of its ``scale``; empty leaves it as it is made.
    adapt : dict
        Arguments of its ``adapt``; empty leaves it as it is made.
    """

    name: str
    make: Callable[..., Any]
    args: dict[str, Any] = field(default_factory=dict)
    scale: dict[str, Any] = field(default_factory=dict)
    adapt: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def started(self, security: Any = None) -> Iterator[Client]:
        """Make the cluster, and give a client of it; close both, however the block is left.

        Parameters
        ----------
        security : distributed.Security, optional
            Given to the class, where its arguments do not say.

        Raises
        ------
        InputError
            When the cluster cannot be made.
        """
        import distributed

        extra = {} if security is None or "security" in self.args else {"security": security}
        # Closing may mean to cancel jobs, or to call a cloud.
        with patient(_CLOSE_SECONDS), ExitStack() as stack:
            # Its processes take this over, and SSHCluster reads in their logs that they are there.
            stack.enter_context(dask.config.set({"logging.distributed": "info"}))
            # An interruption waits: of what is half made nobody knows how to end it.
            with deferred():
                forget = on_hard_exit(_close_unfinished)
                stack.callback(forget)
                cluster = self._attempt(lambda: self.make(**self.args, **extra))
                forget()
                stack.callback(on_hard_exit(lambda: _close(cluster)))
                stack.callback(_close, cluster)
            self._attempt(lambda: self._size(cluster))
            with deferred():
                client = self._attempt(lambda: distributed.Client(cluster, set_as_default=False))
                stack.callback(_close, client)
            yield client

    def _size(self, cluster: Any) -> None:
        if self.scale:
            cluster.scale(**self.scale)
        if self.adapt:
            cluster.adapt(**self.adapt)

    def _attempt(self, step: Callable[[], Any]) -> Any:
        try:
            return step()
        except Exception as error:
            missing = next((e for e in _causes(error) if isinstance(e, ImportError)), None)
            if missing is not None:
                explanation = _explain_missing(self.name, missing)
            else:
                explanation = (
                    f"The cluster {self.name!r} could not be made ({describe_exception(error)}). "
                    "Look at its class and args in the configuration."
                )
        raise InputError(explanation)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _close_unfinished() -> None:
    """Close what takes too long to make, as Dask does when a process ends in the ordinary way."""
    from distributed.deploy.spec import close_clusters

    close_clusters()


def _close(part: Any) -> None:
    with deferred():
        try:
            part.close(timeout=_CLOSE_SECONDS / 2)
        except TypeError:  # a cluster whose `close` takes no such argument
            part.close()
        except Exception as error:  # the result, or what went wrong before, matters more
            logger.warning("While closing %r: %s", part, error)
        # Of those that a cluster binds to its own life (the keys of dask_jobqueue's workers) none
        # would go, since the process is left without Python's clean-up.
        for value in vars(part).values():
            if isinstance(value, tempfile._TemporaryFileWrapper):
                value.close()


def load_deployment(name: str, configured: Mapping[str, Any]) -> Deployment:
    """Find the cluster that `name` means, and the class that makes it.

    Parameters
    ----------
    name : str
        A YAML file; or the name of one that is configured, or packaged.
    configured : mapping
        What stands under ``daskmr.clusters`` in Dask's configuration.

    Raises
    ------
    InputError
        When there is none, it is not of its form, or the library of its class is missing.
    """
    content = _find(name, configured)
    if not isinstance(content, Mapping) or not isinstance(content.get("class"), str):
        raise InputError(
            f"The cluster {name!r} must be a mapping with class, a dotted path such as "
            "distributed.LocalCluster; it may have args, and scale or adapt."
        )
    unknown = content.keys() - set(_KEYS)
    if unknown:
        raise InputError(
            f"The cluster {name!r} has {sorted(map(str, unknown))[0]!r}; there are {', '.join(_KEYS)}."
        )
    if content.get("scale") is not None and content.get("adapt") is not None:
        raise InputError(f"The cluster {name!r} has both scale and adapt: leave one of them out.")
    args = dask.config.expand_environment_variables(_mapping(name, content, "args"))
    scale = _mapping(name, content, "scale", count="n")
    adapt = _mapping(name, content, "adapt")
    return Deployment(name, _import(name, content["class"]), args, scale, adapt)


def _find(name: str, configured: Mapping[str, Any]) -> Any:
    if os.path.isfile(name):
        return _read(name)
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


def _read(path: str) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            return yaml.safe_load(file)
    except (OSError, ValueError, yaml.YAMLError) as error:
        reason = describe_exception(error)
    raise InputError(f"The cluster file {path!r} cannot be read ({reason}).")


def _mapping(
    name: str, content: Mapping[str, Any], key: str, count: str | None = None
) -> dict[str, Any]:
    value = content.get(key)
    if count is not None and isinstance(value, int) and not isinstance(value, bool):
        return {count: value}
    if value is None:
        return {}
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        form = "a number, or a mapping of arguments" if count else "a mapping of arguments"
        raise InputError(f"In the cluster {name!r}, {key} must be {form}, not {value!r}.")
    return dict(value)


def _import(name: str, path: str) -> Callable[..., Any]:
    module, _, attribute = path.rpartition(".")
    try:
        with handlers_kept():  # dask_jobqueue takes SIGINT for itself, and ends with code 0
            made = getattr(import_module(module), attribute)
    except ImportError as error:
        reason = _explain_missing(name, error)
    except (AttributeError, ValueError):
        reason = f"The class {path!r} of the cluster {name!r} does not exist. Name another one."
    else:
        if callable(made):
            found: Callable[..., Any] = made
            return found
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
