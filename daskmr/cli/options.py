"""The options of the commands that work on a job, in the groups in which ``--help`` shows them."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any, TypeVar

import click

from daskmr.cli.completion import complete_clusters, complete_files, complete_folders

__all__ = ["CommandGroup", "GroupedCommand", "job_options", "option_of"]

_F = TypeVar("_F", bound=Callable[..., Any])
_Option = Callable[[Any], Any]


_GROUPS: dict[str, list[_Option]] = {
    "Input": [
        click.option(
            "-d",
            "--data-dir",
            metavar="DIR",
            shell_complete=complete_folders,
            help="Where the input files lie.",
        ),
        click.option(
            "-b",
            "--bucket",
            metavar="BUCKET",
            help="A bucket to read: NAME, NAME/prefix, or a URL.",
        ),
        click.option(
            "-f",
            "--input-filter",
            metavar="FILE",
            shell_complete=complete_files,
            help="JSON filter; all files without it.",
        ),
        click.option(
            "--schema",
            metavar="FILE",
            shell_complete=complete_files,
            help="JSON schema of the layout.",
        ),
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
        click.option(
            "--only",
            multiple=True,
            metavar="PATH",
            help="Read this file alone, relative to the data dir or bucket; may be repeated.",
        ),
        click.option(
            "--limit-files",
            type=click.IntRange(min=1),
            metavar="N",
            help="Read so many files at most, from all over the input.",
        ),
        click.option(
            "--sample", type=float, metavar="SHARE", help="Read a share of the input, as 0.01."
        ),
        click.option(
            "--sample-by",
            type=click.Choice(["file", "key"]),
            default="file",
            show_default=True,
            help="What the share is of: files, or records by a hash of their key.",
        ),
        click.option(
            "--seed", default=0, show_default=True, metavar="N", help="Another one chooses others."
        ),
        click.option(
            "--from",
            "earlier",
            metavar="FILE",
            shell_complete=complete_files,
            help="Run again what OUTPUT.meta.json tells of; options given beside it count.",
        ),
    ],
    "Output": [
        click.option(
            "-o",
            "--output",
            default="-",
            show_default="standard output",
            metavar="FILE",
            shell_complete=complete_files,
            help="The output; .gz, .bz2, .xz and .zst are compressed.",
        ),
        click.option(
            "--allow-empty",
            is_flag=True,
            default=None,
            help="Write an empty output when the filter matches nothing.",
        ),
        click.option(
            "--no-meta",
            "meta",
            flag_value=False,
            default=None,
            type=bool,
            help="Leave out OUTPUT.meta.json, which says where the output is from.",
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
            shell_complete=complete_folders,
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
            help="Bad records, or the share of them, beyond which the job fails; 0 is strict, 100% is no limit.  [default: 50%]",
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
            shell_complete=complete_clusters,
            help="A cluster to make for the run: a YAML file, or a name (ssh, slurm, kubernetes, ...).",
        ),
        click.option(
            "--spill-dir",
            metavar="DIR|URL",
            shell_complete=complete_folders,
            help="On a cluster, what its workers share when they do not see the work dir.",
        ),
        click.option(
            "--tls-ca-file",
            metavar="FILE",
            shell_complete=complete_files,
            help="The authority that the cluster trusts.",
        ),
        click.option(
            "--tls-cert",
            metavar="FILE",
            shell_complete=complete_files,
            help="The certificate to show to the scheduler.",
        ),
        click.option(
            "--tls-key",
            metavar="FILE",
            shell_complete=complete_files,
            help="The key of --tls-cert.",
        ),
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
            shell_complete=complete_files,
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
            help="Where Dask's dashboard listens, as :8787, at once.  [default: any port, after 10 s]",
        ),
    ],
}


def job_options(*groups: str, hidden: Collection[str] = ()) -> Callable[[_F], _F]:
    """Decorate a command with the options of these groups; of all without a name.

    Those whose parameters are named in `hidden` are taken, and not shown by ``--help``.
    """

    def decorate(function: _F) -> _F:
        for title in reversed(groups or tuple(_GROUPS)):
            for option in reversed(_GROUPS[title]):
                function = option(function)
                added = function.__click_params__[-1]  # type: ignore[attr-defined]
                added.group = title
                added.hidden = added.name in hidden
        return function

    return decorate


def option_of(group: str, *names: str, **attributes: Any) -> Callable[[_F], _F]:
    """Decorate a command with an option of its own, which ``--help`` shows in this group."""

    def decorate(function: _F) -> _F:
        decorated = click.option(*names, **attributes)(function)
        decorated.__click_params__[-1].group = group  # type: ignore[attr-defined]
        return decorated

    return decorate


class CommandGroup(click.Group):
    """A group that knows what a misspelt command should have been."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command that `args` begin with."""
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and name[:1] != "-":
            ctx.fail(f"No such command {name!r}.{self._suggest(ctx, name)}")
        return super().resolve_command(ctx, args)

    def _suggest(self, ctx: click.Context, name: str) -> str:
        from difflib import get_close_matches

        if name.endswith(".py") and "run" in self.commands:
            return f" Did you mean `{ctx.command_path} run {name}`?"
        like = get_close_matches(name, self.list_commands(ctx))
        return f" Did you mean {' or '.join(map(repr, like))}?" if like else ""


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows its options in their groups."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one section a group; options of no group come last."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_GROUPS, "Options")}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and (record[1] or isinstance(parameter, click.Option)):
                sections[getattr(parameter, "group", "Options")].append(record)
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
