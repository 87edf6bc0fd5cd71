"""The bounds on the sizes of the package are measured as they are meant."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.jobs import ROOT


def house(package: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "house", package]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def package(tmp_path: Path) -> Path:
    """A chain of eleven modules, of which the last imports others as no module does."""
    package = tmp_path / "small"
    package.mkdir()
    (package / "__init__.py").write_text("", "utf-8")
    for number in range(11):
        (package / f"m{number}.py").write_text(f"from small import m{number + 1}\n", "utf-8")
    last = (
        "from typing import TYPE_CHECKING\n"
        "if TYPE_CHECKING:\n    import small.m0\n"
        "def f():\n    from small.m0 import f\n"
    )
    (package / "m10.py").write_text(last, "utf-8")
    return package


def test_what_keeps_within_the_bounds(package: Path) -> None:
    (package / "long.py").write_text("def long():\n" + "    pass\n" * 59, "utf-8")
    done = house(package)
    assert (done.returncode, done.stderr) == (0, "")
    assert "lines of a function              60 of at most     60   small/long.py:1 long\n" in (
        done.stdout
    )
    chain = " > ".join(f"small.m{number}" for number in range(11))
    assert f"depth of imports                 11 of at most     11   {chain}\n" in done.stdout


def test_each_excess_is_a_line(package: Path) -> None:
    (package / "long.py").write_text("def long():\n" + "    pass\n" * 60, "utf-8")
    (package / "wide.py").write_text(
        "class Wide:\n    def __init__(self, a, b, c, d, e, f, g, h, *, i, j, k): pass\n", "utf-8"
    )
    (package / "top.py").write_text("try:\n    import small.m0\nfinally:\n    pass\n", "utf-8")
    done = house(package)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "TOO MUCH: 12 depth of imports, at most 11: "
        + " > ".join(["small.top", *(f"small.m{number}" for number in range(11))]),
        "TOO MUCH: 61 lines of a function, at most 60: small/long.py:1 long",
        "TOO MUCH: 11 parameters of a constructor, at most 10: small/wide.py:2 __init__",
    ]
