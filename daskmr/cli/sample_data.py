"""The command ``daskmr sample-data``."""

from __future__ import annotations

from typing import IO

import click

from daskmr.cli.console import EPILOG, ends_process
from daskmr.text import format_bytes, printable

__all__ = ["sample_data"]


@click.command("sample-data", epilog=EPILOG, short_help="Write synthetic data to try daskmr with.")
@click.argument("directory", type=click.Path())
@click.option(
    "--size",
    default="20MB",
    metavar="SIZE",
    show_default=True,
    help="Bytes to write, uncompressed.",
)
@click.option("--seed", default=0, metavar="N", show_default=True, help="Random seed.")
@click.option(
    "--ext",
    default="gz",
    metavar="FORMATS",
    show_default=True,
    help="Formats of the files in turn, of gz, xz, lzma, bz2, zst, log.",
)
@click.option(
    "--bad-lines",
    default=0.0,
    metavar="SHARE",
    show_default=True,
    help="Share of lines that are bad records.",
)
@ends_process
def sample_data(
    stdout: IO[bytes], directory: str, size: str, seed: int, ext: str, bad_lines: float
) -> None:
    """Write synthetic telemetry documents to DIRECTORY, in the layout.

    The same seed gives the same documents on every machine.
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
