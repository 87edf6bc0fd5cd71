"""The documentation, read as tests check it."""

from __future__ import annotations

import re

from support.jobs import ROOT


def read(name: str) -> str:
    return (ROOT / name).read_text("utf-8")


def section(text: str, title: str) -> str:
    return text.split(f"## {title}\n")[1].split("\n## ")[0]


def rows(text: str) -> list[list[str]]:
    """The rows of a table's body, as lists of cells."""
    lines = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line] for line in lines[2:]]


def first_cells(text: str) -> list[str]:
    """What stands in code spans in the first column."""
    return [name for row in rows(text) for name in re.findall(r"`([^`]+)`", row[0])]
