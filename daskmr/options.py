"""The options of the commands that work on a job, in the groups in which ``--help`` shows them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

__all__ = ["GroupedCommand", "job_options"]

_F = TypeVar("_F", bound=Callable[..., Any])
_Option = Callable[[Any], Any]

_GROUPS: dict[str, list[_Option]] = {
    "Input": [
        click.option("-d", "--data-dir", metavar="DIR", help="Where the input files lie."),
        click.option(
            "-b",
            "--bucket",
            metavar="BUCKET",
            help="A bucket to read: NAME, NAME/prefix, or a URL.",
        ),
        click.option(
            "-f", "--input-filter", metavar="FILE", help="JSON filter; all files without it."
        ),
        click.option("--schema", metavar="FILE", help="JSON schema of the layout."),
        click.option(
            "-l",
            "--local-only",
            is_flag=True,
            default=None,
            help="Touch no network: read what earlier runs have fetched.",
        ),
        click.option(
            "--allow-incomplete",
            is_flag=True,
            default=None,
            help="With -l, go on without what was never listed or fetched.",
        ),
    ],
    "Output": [
        click.option(
            "-o",
            "--output",
            default="-",
            show_default="standard output",
            metavar="FILE",
            help="The output; .gz, .bz2, .xz and .zst are compressed.",
        ),
        click.option(
            "--allow-empty",
            is_flag=True,
            default=None,
            help="Write an empty output when the filter matches nothing.",
        ),
        click.option(
            "-X",
            "--delete-data",
            is_flag=True,
            help="Delete the input files that were mapped whole (of a bucket: their local copies only), "
            "once the output is in place.",
        ),
    ],
    "Workers": [
        click.option(
            "-m",
            "--num-mappers",
            metavar="N",
            type=click.IntRange(min=1),
            help="Worker processes.  [default: one a core]",
        ),
        click.option(
            "-r",
            "--num-reducers",
            metavar="N",
            type=click.IntRange(min=1),
            help="Reduce tasks.  [default: by the size of the data]",
        ),
        click.option(
            "--memory-limit",
            metavar="SIZE",
            help='Memory of a worker process, as "2GB"; 0 is no limit.  [default: an equal share]',
        ),
        click.option(
            "-w",
            "--work-dir",
            metavar="DIR",
            help="Where temporary files go; created when missing.  [default: .daskmr]",
        ),
        click.option(
            "--inline", is_flag=True, help="No cluster: run in this process, for breakpoint()."
        ),
        click.option(
            "--file-timeout",
            metavar="TIME",
            help='Fail when mapping one file takes longer, as "10 min".  [default: no limit]',
        ),
    ],
    "What is left out": [
        click.option(
            "--max-bad-records",
            metavar="N|N%",
            help="Fail beyond so many bad records; 0 is strict.  [default: no limit]",
        ),
        click.option(
            "--skip-corrupt-files",
            is_flag=True,
            default=None,
            help="Leave out whole what cannot be decompressed, instead of failing.",
        ),
        click.option(
            "--skip-poison-files",
            is_flag=True,
            default=None,
            help="Leave out whole what kills its worker process twice, instead of failing.",
        ),
        click.option(
            "--skip-missing",
            is_flag=True,
            default=None,
            help="Leave out objects that cannot be fetched, instead of failing.",
        ),
    ],
    "A bucket": [
        click.option(
            "--aws-profile", metavar="NAME", help="A section of the AWS configuration files."
        ),
        click.option(
            "--endpoint-url", metavar="URL", help="The S3 server, where it is not Amazon's."
        ),
        click.option("--region", metavar="NAME", help="The bucket's region."),
        click.option(
            "--anon", is_flag=True, default=None, help="Send no credentials: public data."
        ),
        click.option(
            "--requester-pays", is_flag=True, default=None, help="Agree to pay for requests."
        ),
        click.option(
            "-k",
            "--aws-key",
            metavar="KEY",
            help="Better in AWS_ACCESS_KEY_ID or a profile: ps shows it.",
        ),
        click.option(
            "-s",
            "--aws-secret-key",
            metavar="KEY",
            help="Better in AWS_SECRET_ACCESS_KEY or a profile: ps shows it.",
        ),
        click.option(
            "--no-cache",
            "cache",
            flag_value=False,
            default=None,
            type=bool,
            help="Map straight from the bucket and keep no local copies.",
        ),
        click.option(
            "--cache-max", metavar="SIZE", help='Most that local copies may take, as "50GB".'
        ),
    ],
    "A cluster": [
        click.option(
            "--scheduler", metavar="ADDRESS", help="A Dask cluster to run on, as tcp://HOST:8786."
        ),
        click.option(
            "--cluster",
            metavar="NAME|FILE",
            help="A cluster to make for the run: a YAML file, or a name (ssh, slurm, kubernetes, ...).",
        ),
        click.option(
            "--spill-dir",
            metavar="DIR|URL",
            help="On a cluster, what its workers share when they do not see the work dir.",
        ),
        click.option(
            "--tls-ca-file", metavar="FILE", help="The authority that the cluster trusts."
        ),
        click.option(
            "--tls-cert", metavar="FILE", help="The certificate to show to the scheduler."
        ),
        click.option("--tls-key", metavar="FILE", help="The key of --tls-cert."),
    ],
    "What is shown": [
        click.option(
            "-p", "--profile", is_flag=True, help="Write OUTPUT.pstats, merged over all tasks."
        ),
        click.option(
            "-v", "--verbose", is_flag=True, help="Show the whole traceback of a failure."
        ),
        click.option("-q", "--quiet", is_flag=True, help="Show no progress and no summary."),
        click.option(
            "--report",
            metavar="FILE",
            help="Write an HTML page with pictures of the run, and where time was lost.",
        ),
        click.option(
            "--log-format",
            type=click.Choice(["text", "json"]),
            default="text",
            show_default=True,
            help="What standard error is for: people, or programs (one JSON object a line).",
        ),
        click.option(
            "--dashboard",
            metavar="ADDRESS|off",
            help="Where Dask's dashboard listens, as :8787, at once.  [default: any port, after 5 s]",
        ),
    ],
}


def job_options(*groups: str) -> Callable[[_F], _F]:
    """Decorate a command with the options of these groups; of all without a name."""

    def decorate(function: _F) -> _F:
        for title in reversed(groups or tuple(_GROUPS)):
            for option in reversed(_GROUPS[title]):
                function = option(function)
                function.__click_params__[-1].group = title  # type: ignore[attr-defined]
        return function

    return decorate


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows its options in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group; options of no group come last."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_GROUPS, "Options")}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                sections[getattr(parameter, "group", "Options")].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
