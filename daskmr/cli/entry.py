"""The command line: each command is a module of this package, imported when it is asked for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import click

from daskmr._version import __version__
from daskmr.cli.console import EPILOG
from daskmr.cli.options import CommandGroup

__all__ = ["main"]

_SHARED = {"__init__", "completion", "console", "entry", "options"}  # what commands have in common


class _Commands(CommandGroup):
    """Finds a command in the module of its name, as ``sample_data.sample_data``."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name all of them."""
        modules = {path.stem for path in Path(__file__).parent.glob("*.py")} - _SHARED
        return sorted(module.replace("_", "-") for module in modules)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one."""
        if cmd_name not in self.list_commands(ctx):
            return None
        module = cmd_name.replace("-", "_")
        command: click.Command = getattr(import_module(f"daskmr.cli.{module}"), module)
        return command


# Named as `dask` lists it: it goes by this name, not by that of the entry point.
@click.group(
    "mapreduce",
    cls=_Commands,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EPILOG,
)
@click.version_option(__version__, prog_name="daskmr")
def main() -> None:
    """MapReduce for Python people, on Dask."""
