"""Shell completion for the values of options; click completes the rest."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["complete_clusters", "complete_files", "complete_folders"]


def complete_files(
    context: click.Context, parameter: click.Parameter, incomplete: str, type: str = "file"
) -> list[CompletionItem]:
    """Let the shell complete paths."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type=type)]


complete_folders = partial(complete_files, type="dir")


def complete_clusters(
    context: click.Context, parameter: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Complete the name of a packaged cluster, or else a path."""
    from importlib import resources

    from click.shell_completion import CompletionItem

    files = resources.files("daskmr").joinpath("clusters").iterdir()
    names = sorted(f.name.removesuffix(".yaml") for f in files if f.name.endswith(".yaml"))
    found = [CompletionItem(name) for name in names if name.startswith(incomplete)]
    return found or complete_files(context, parameter, incomplete)
