"""The command ``daskmr sample-data``."""

from __future__ import annotations

from typing import IO

import click

from daskmr.cli.console import EPILOG, ends_process
from daskmr.cli.options import add_option
from daskmr.text import format_bytes, printable

__all__ = ["sample_data"]


@click.command("sample-data", epilog=EPILOG, short_help="Write synthetic data to try daskmr with.")
@click.argument("directory", type=click.Path())
@add_option("--size", "SIZE", "Bytes to write, uncompressed.", default="20MB", show_default=True)
@add_option("--seed", "N", "Random seed.", default=0, show_default=True)
@add_option(
    "--ext",
    "FORMATS",
    "Formats to use in turn: any of gz, xz, lzma, bz2, zst, log, separated by commas.",
    default="gz",
    show_default=True,
)
@add_option(
    "--bad-lines",
    "SHARE",
    "Share of lines that are bad records.",
    default=0.0,
    show_default=True,
)
@ends_process
def sample_data(
    stdout: IO[bytes], directory: str, size: str, seed: int, ext: str, bad_lines: float
) -> None:
    """Write synthetic telemetry documents to DIRECTORY, in the layout.

    The same seed produces the same documents on every machine.
    """
    from dask.utils import parse_bytes

    from daskmr.cli.sample.files import write_sample

    try:
        count = int(parse_bytes(size))
    except ValueError:
        raise click.BadParameter(f'{size!r} is not a size such as "20MB".') from None
    summary = write_sample(directory, count, seed, tuple(ext.split(",")), bad_lines)
    click.echo(
        f"{summary.records:,} documents in {summary.files:,} files below {printable(directory)}: "
        f"{format_bytes(summary.bytes)}, {format_bytes(summary.compressed_bytes)} on disk",
        err=True,
    )
