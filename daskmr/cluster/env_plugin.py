"""Pass environment variables to the workers of a cluster, also to those that join later.

A plugin carries the values: they are in no graph, file or log, nor on the dashboard. Its name and
its ``repr`` do not contain them.
"""

from __future__ import annotations

import logging
import os
import secrets
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from distributed import Client, WorkerPlugin

from daskmr.cluster.dask_internals import ask_scheduler, register_plugin
from daskmr.job.job import forget
from daskmr.job.params.passed_env import put, take_back
from daskmr.signals import deferred

__all__ = ["EnvPlugin", "passed_env"]

logger = logging.getLogger(__name__)

_START_SECONDS = 20.0
_END_SECONDS = 5.0  # the scheduler may be gone


class EnvPlugin(WorkerPlugin):  # type: ignore[misc]
    """The variables of one run, on a worker.

    - `token`: names the run.
    - `values`: the variables.
    """

    def __init__(self, token: str, values: Mapping[str, str]) -> None:
        self._token = token
        self._values = values

    def __repr__(self) -> str:
        return f"<EnvPlugin {', '.join(self._values)}>"

    def setup(self, worker: Any) -> None:
        """Keep the variables for the tasks of the run."""
        put(self._token, self._values)

    def teardown(self, worker: Any) -> None:
        """Forget the variables, and the modules of the script, which may hold copies."""
        take_back(self._token)
        forget(self._token)


@contextmanager
def passed_env(client: Client, names: Sequence[str]) -> Iterator[str]:
    """Pass variables of this process to all workers of `client` for the duration of the block.

    Yields a token for `daskmr.job.shipped.places.Delivery`.
    """
    token = secrets.token_hex(8)
    name = f"daskmr-env-{token}"
    plugin = EnvPlugin(token, {each: os.environ[each] for each in names})
    try:
        with _logged("register"):
            register_plugin(client, _START_SECONDS, name, plugin)
        yield token
    finally:
        with deferred(), _logged("unregister"):
            ask_scheduler(client, _END_SECONDS, "unregister_worker_plugin", name=name)


@contextmanager
def _logged(what: str) -> Iterator[None]:
    """Log a failure of the block: a task on a worker without the variables explains it."""
    try:
        yield
    except Exception as error:  # its text could hold them
        logger.info("%s: %s", what, type(error).__name__)
