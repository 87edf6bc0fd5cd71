"""Sessions on workers of this machine."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest

from daskmr.cluster.session import Session, connect
from daskmr.config import load_config


@pytest.fixture
def local(tmp_path: Path) -> Callable[..., AbstractContextManager[Session]]:
    """Open a session for a plan of `n` partitions."""

    def open_session(n: int = 4, **options: Any) -> AbstractContextManager[Session]:
        return connect(load_config(**options), n, run_dir=tmp_path)

    return open_session
