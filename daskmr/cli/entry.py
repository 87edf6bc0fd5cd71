"""The entry point of the command line. Each command is a module, which is imported when needed."""

from __future__ import annotations

import os
from importlib import import_module
from pkgutil import iter_modules

import click

from daskmr._version import __version__
from daskmr.cli.console import EPILOG
from daskmr.cli.options import CommandGroup

__all__ = ["main"]

# modules without a command
_SHARED = {"__init__", "completion", "console", "each_day", "entry", "lock", "options"}


class _Commands(CommandGroup):
    """A group that finds a command in the module of its name, such as ``sample_data.sample_data``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names of all commands."""
        modules = {
            each.name for each in iter_modules([os.path.dirname(__file__)]) if not each.ispkg
        } - _SHARED
        return sorted(module.replace("_", "-") for module in modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import a command."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"daskmr.cli.{module}"), module)
        return command


# The `dask` command lists this name, not the name of the entry point.
@click.group(
    "mapreduce",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="daskmr")
def main() -> None:
    """MapReduce for Python people, on Dask."""
