"""The command ``daskmr sample-data``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import IO, TYPE_CHECKING

import click

from daskmr.cli.console import EPILOG, announced, ends_process, progress_line
from daskmr.cli.options import add_option
from daskmr.cli.sample import KINDS
from daskmr.text import counted, format_bytes, printable, shell_path, shell_word

if TYPE_CHECKING:
    from daskmr.cli.sample.kind import Kind

__all__ = ["sample_data"]


@click.command("sample-data", epilog=EPILOG, short_help="Write synthetic data to try daskmr with.")
@click.argument("directory", type=click.Path())
@add_option(
    "--kind",
    None,
    "Kind of data: telemetry documents, access logs of nginx, JSON lines of a web shop in hive "
    "partitions, or CSV of taxi rides.",
    type=click.Choice(KINDS),
    default=KINDS[0],
    show_default=True,
)
@add_option("--size", "SIZE", "Bytes to write, uncompressed.", default="20MB", show_default=True)
@add_option("--seed", "N", "Random seed.", default=0, show_default=True)
@add_option(
    "--ext",
    "FORMATS",
    "Formats to use in turn, separated by commas: any of gz, xz, lzma, bz2, zst, or one without "
    "compression (log for documents and logs, jsonl for events, csv for rides). [default: gz; csv "
    "for rides]",
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
    stdout: IO[bytes],
    directory: str,
    kind: str,
    size: str,
    seed: int,
    ext: str | None,
    bad_lines: float,
) -> None:
    """Write synthetic data to DIRECTORY, which must be new or empty.

    The same seed produces the same data on every machine.
    """
    with announced(f"writing sample data to {printable(directory)}"), progress_line() as show:
        from dask.utils import parse_bytes

        from daskmr.cli.sample.files import load_kind, write_sample

        try:
            count = int(parse_bytes(size))
        except ValueError:
            raise click.BadParameter(f'{size!r} is not a size such as "20MB".') from None

        def progress(written: int) -> None:
            if show is not None:
                show(f"{format_bytes(written)} of {format_bytes(count)}")

        extensions = () if ext is None else tuple(ext.split(","))
        summary = write_sample(directory, count, seed, extensions, bad_lines, kind, progress)
    chosen = load_kind(kind)
    click.echo(
        f"{summary.records:,} {chosen.noun} in {counted(summary.files, 'file')} below "
        f"{printable(directory)}: {format_bytes(summary.bytes)}, "
        f"{format_bytes(summary.compressed_bytes)} on disk",
        err=True,
    )
    if chosen.layout:
        layout = shell_word(_layout(chosen, extensions or (chosen.extension,)))
        click.echo(
            f"To read them: daskmr run SCRIPT -d {shell_path(directory)} --layout {layout} "
            f"--records {chosen.records}",
            err=True,
        )


def _layout(kind: Kind, extensions: Sequence[str]) -> str:
    """Return the layout of files with the extensions, which stand in a template as they are."""
    folder, slash, _ = kind.layout.rpartition("/")
    if not slash:
        return kind.layout
    if len(set(extensions)) > 1:
        return f"{folder}/{{_}}"
    return kind.layout if extensions[0] in kind.plain else f"{kind.layout}.{extensions[0]}"
