"""The options of the commands that work on a job, in the groups in which ``--help`` shows them.

Options for settings are generated from the table in `daskmr.config`; the others are defined here.
"""

from __future__ import annotations

import glob
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, TypeAlias, TypeVar

import click
from click.core import ParameterSource

from daskmr.cli.completion import complete_clusters, complete_files, complete_folders
from daskmr.config import SETTINGS, Setting
from daskmr.errors import InputError
from daskmr.text import HIDDEN, shell_path, shell_word

__all__ = [
    "CommandGroup",
    "GroupedCommand",
    "Option",
    "add_option",
    "job_options",
    "repeated",
    "script_of",
    "with_params",
]

_Rows: TypeAlias = list[tuple[str, str]]
_F = TypeVar("_F", bound=Callable[..., Any])

Script = str | list[str]
"""The path of a script, or of the scripts of several steps."""
_ARGUMENTS = "daskmr.arguments"  # key of the arguments of a command

_COMPLETION = {
    "FILE": complete_files,
    "SCRIPT": complete_files,
    "DIR": complete_folders,
    "DIR|URL": complete_folders,
    "PATH|URL": complete_files,
    "NAME|FILE": complete_clusters,
}


class Option(click.Option):
    """An option of a command that works on a job.

    - `help`: the help text; code is in backticks, which ``--help`` omits.
    - `group`: the section of ``--help``.
    - `run_only`: whether it has no effect on ``daskmr plan``.
    - `rerun`: whether to repeat it in the command that runs one file again, for debugging.
    """

    def __init__(
        self,
        names: Sequence[str],
        *,
        help: str = "",
        group: str = "",
        run_only: bool = False,
        rerun: bool = False,
        metavar: str | None = None,
        **attributes: Any,
    ) -> None:
        attributes.setdefault("shell_complete", _COMPLETION.get(metavar or ""))
        super().__init__(names, help=help.replace("`", ""), metavar=metavar, **attributes)
        self.markdown = help
        self.group = group
        self.run_only = run_only
        self.rerun = rerun


def add_option(names: str, metavar: str | None, help: str, **attributes: Any) -> Callable[[_F], _F]:
    """Decorate a command with an `Option`; an option without a metavar or a type is a flag."""
    if metavar is None and "type" not in attributes:
        attributes["is_flag"] = True
    return click.option(*names.split(), cls=Option, metavar=metavar, help=help, **attributes)


def _of_settings(group: str) -> list[Callable[[Any], Any]]:
    return [_of_setting(row) for row in SETTINGS.values() if row.group == group and row.options]


def _of_setting(row: Setting) -> Callable[[Any], Any]:
    """Create the option of a setting; its value is ``None`` if it is not given."""
    names, metavar, help = " ".join((*row.options, row.name)), None, row.help
    attributes: dict[str, Any] = {"run_only": row.run_only, "rerun": row.rerun, "default": None}
    if not row.is_flag:
        least, metavar = row.kind.least, row.metavar or row.kind.metavar
        attributes["type"] = None if least is None else click.IntRange(min=least)
        attributes["show_default"] = row.shown or (row.default and str(row.default))
    elif row.options[-1].startswith("--no-"):
        help = f"Do not {row.help[0].lower()}{row.help[1:]}"
        attributes |= {"flag_value": False, "type": bool}
    return add_option(names, metavar, help, **attributes)


_GROUPS: dict[str, list[Callable[[Any], Any]]] = {
    "Input": [
        add_option(
            "-c --code", "TEXT", "The script itself, in place of `SCRIPT`, as with `python -c`.",
            rerun=True,
        ),
        add_option(
            "-d --data-dir", "PATH|URL",
            "Input: a directory, a file, a quoted glob, `@LIST` (one path a line), `-` (standard "
            "input) or the URL of a store; can be repeated.",
            rerun=True, multiple=True,
        ),
        add_option(
            "-f --input-filter", "FILE", "JSON filter of the input files.",
            show_default="all files", rerun=True,
        ),
        add_option(
            "--where", "NAME=SPEC",
            "Read only these values of a dimension: `a`, `a,b`, `lo..hi`, `lo..`, `..hi`, `/regex/`, or "
            "`!` and one of these; dates may be `today`, `yesterday` or `-7d`. Can be repeated.",
            multiple=True, rerun=True,
        ),
        add_option(
            "--date", "DATE", "Date that `today` and `-7d` in `--where` refer to.",
            show_default="today, UTC", rerun=True,
        ),
        *_of_settings("Input"),
        add_option(
            "--only", "PATH",
            "Read only this file, relative to the data dir or bucket; can be repeated.",
            multiple=True,
        ),
        add_option(
            "--limit-files", "N", "Read at most this many files, spread evenly over the input.",
            type=click.IntRange(min=1),
        ),
        add_option("--sample", "SHARE", "Read a share of the input, such as `0.01`.", type=float),
        add_option(
            "--sample-by", None, "Sample files, or records by a hash of their key.",
            type=click.Choice(["file", "key"]), default="file", show_default=True,
        ),
        add_option("--seed", "N", "Random seed for sampling.", default=0, show_default=True),
        add_option(
            "--from earlier", "FILE",
            "Repeat the run of this output, or `OUTPUT.meta.json`; options given explicitly take precedence.",
            rerun=True,
        ),
    ],
    "Script": [
        add_option(
            "--param", "NAME=VALUE",
            "Set a parameter that the script declares by `daskmr.param`; can be repeated. "
            "`daskmr run SCRIPT --help` lists them.",
            multiple=True, rerun=True,
        ),
        add_option(
            "--params params_file", "FILE",
            "Set the parameters in a JSON, YAML or TOML file; `--param` takes precedence.",
            multiple=True, rerun=True,
        ),
        add_option(
            "--file sent", "[NAME=]PATH",
            "Send this file or directory to the workers, where the script finds it by "
            "`daskmr.file(NAME)`; can be repeated.",
            multiple=True, rerun=True, shell_complete=complete_files,
        ),
        add_option(
            "--py-files", "DIR|ZIP",
            "Import modules from this folder or zip archive, too, and send them with the script; can be "
            "repeated.",
            multiple=True, rerun=True, shell_complete=complete_files,
        ),
        add_option(
            "--pass-env", "NAME",
            "Let the script read this environment variable on remote workers, too; its value is never "
            "written. Can be repeated.",
            multiple=True, rerun=True,
        ),
    ],
    "Output": [
        add_option(
            "-o --output", "FILE",
            "Output file; compressed if its name ends in `.gz`, `.bz2`, `.xz` or `.zst`. If it ends in "
            "`/`, a directory of parts that the workers write.",
            default="-", show_default="standard output",
        ),
        add_option(
            "--keep-steps", "DIR",
            "Write the pairs between the steps of a job to files in this directory, too.",
            run_only=True,
        ),
        *_of_settings("Output"),
        add_option(
            "-X --delete-data", None,
            "Delete fully mapped, unchanged input files (of a bucket, only their local copies) "
            "once the output is in place.",
            run_only=True,
        ),
    ],
    "Workers": [
        *_of_settings("Workers"),
        add_option(
            "--inline", None, "Run in this process without a cluster, so that `breakpoint()` works."
        ),
    ],
    "Bad records and files": _of_settings("Bad records and files"),
    "Object store": [
        *_of_settings("Object store"),
        add_option(
            "-k --aws-key", "KEY",
            "AWS access key; prefer `AWS_ACCESS_KEY_ID` or a profile, since `ps` shows this.",
        ),
        add_option(
            "-s --aws-secret-key", "KEY",
            "AWS secret key; prefer `AWS_SECRET_ACCESS_KEY` or a profile, since `ps` shows this.",
        ),
    ],
    "Cluster": _of_settings("Cluster"),
    "Display": [
        add_option(
            "-p --profile", None, "Write `OUTPUT.pstats`, a profile merged over all tasks.",
            run_only=True,
        ),
        add_option("-v --verbose", None, "Show full tracebacks.", rerun=True),
        add_option("-q --quiet", None, "Show neither progress nor summary.", run_only=True),
        add_option(
            "--report", "FILE", "Write an HTML report with charts of the run and its bottlenecks.",
            run_only=True,
        ),
        add_option(
            "--summary-json", "FILE",
            "Write a JSON summary at the end, whatever the outcome: exit code, error, counts, digest.",
            run_only=True,
        ),
        add_option(
            "--log-format", None, "Format of standard error: text, or one JSON object per line.",
            type=click.Choice(["text", "json"]), default="text", show_default=True, run_only=True,
        ),
        *_of_settings("Display"),
    ],
}  # fmt: skip


def job_options(
    *groups: str, hide: Callable[[Option], bool] = lambda option: False
) -> Callable[[_F], _F]:
    """Decorate a command with the options of the given groups; by default, of all groups.

    Options for which `hide` returns true are accepted, but not shown by ``--help``.
    """

    def decorate(function: _F) -> _F:
        for title in reversed(groups or tuple(_GROUPS)):
            for option in reversed(_GROUPS[title]):
                function = option(function)
                added = function.__click_params__[-1]  # type: ignore[attr-defined]
                added.group = title
                added.hidden = hide(added)
        return function

    return decorate


def repeated(
    context: click.Context, script: Script | None, options: dict[str, Any]
) -> tuple[Script, dict[str, Any]]:
    """Return the script, or a list of them, and the options; with ``--from``, based on those of the earlier run."""
    path, code = options["earlier"], options["code"]
    options = with_params({name: value for name, value in options.items() if name != "code"})
    if path is None:
        return script_of(context, script, code, options["data_dir"]), options
    from daskmr.run.provenance import repeat

    commandline = ParameterSource.COMMANDLINE
    given = [name for name in options if context.get_parameter_source(name) is commandline]
    own = None if script is code is None else script_of(context, script, code)
    found, options, meta = repeat(path, own, options, given)
    return found, {**options, "earlier": meta}


def with_params(options: dict[str, Any]) -> dict[str, Any]:
    """Replace the options for parameters and files by their values, as ``params`` and ``files``."""
    from daskmr.job.params.given import read_params
    from daskmr.job.shipped.given import given_files

    words, paths = options.pop("param"), options.pop("params_file")
    if len(paths) > 1:
        raise InputError(
            f"--params is given twice: {' and '.join(paths)}. Put all parameters in one file, or give "
            "some as --param NAME=VALUE."
        )
    files = given_files(options.pop("sent"))
    return options | {"params": read_params(words, *paths), "files": files}


def script_of(
    context: click.Context, script: Script | None, code: str | None, data_dir: Iterable[str] = ()
) -> Script:
    """Return the path of the script, or a list of several, or the `Code` that replaces it."""
    if code is None:
        if script is None:
            data = " ".join(map(shell_word, data_dir))
            hint = f" To write one for this data: daskmr inspect {data} --write job.py"
            raise click.UsageError(f"Missing argument 'SCRIPT'.{hint * bool(data)}", context)
        return script
    from daskmr.job.loading import Code

    return Code(code)


class CommandGroup(click.Group):
    """A group that suggests similar names for a misspelled command."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if self.get_command(ctx, name) is None and not ctx.resilient_parsing and name[:1] != "-":
            from difflib import get_close_matches

            names = self.list_commands(ctx)
            like = " or ".join(map(repr, get_close_matches(name, names)))
            if name.endswith(".py") and "run" in names:
                like = f"`{ctx.command_path} run {name}`"
            elif not like and os.path.exists(name) and "inspect" in names:
                like = f"`{ctx.command_path} inspect {shell_path(name)}`"
            hint = f" Did you mean {like}?" if like else ""
            ctx.fail(f"No such command {name!r}.{hint}")
        return super().resolve_command(ctx, args)


def _glob_of(paths: Sequence[str]) -> str | None:
    """Return a glob that matches these paths and no others; ``None`` if there is no simple one."""
    if len(paths) == 1:
        return None
    folder, suffix = os.path.dirname(paths[0]), os.path.splitext(paths[0])[1]
    start = os.path.basename(os.path.commonprefix(paths))  # noqa: RUF071 - of characters
    pattern = os.path.join(glob.escape(folder), f"{glob.escape(start)}*{suffix}")
    return pattern if sorted(glob.glob(pattern)) == sorted(paths) else None


class GroupedCommand(click.Command):
    """A command whose ``--help`` shows its options by group, and that has a hint for input paths."""

    allow_extra_args = True  # reported below

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments; an error about extra ones names the option that takes them.

        More scripts are the next steps of the job, so that `script` is a list.
        """
        words = [*args]
        ctx.meta[_ARGUMENTS] = words  # for --help, which is shown before they are parsed
        rest = super().parse_args(ctx, args)
        script, code = ctx.params.get("script"), ctx.params.get("code")
        is_job = "data_dir" in ctx.params and code is None and not _has_script(ctx)
        if rest and is_job and all(str(word).endswith(".py") for word in (script, *rest)):
            ctx.params["script"] = [script, *rest]
            ctx.args = rest = []
        is_other = not str(script).endswith(".py") and any(word.endswith(".py") for word in rest)
        if script is not None and (code is not None or is_other):
            rest = [script, *rest]
        if rest and not ctx.resilient_parsing:
            noun = "argument" if len(rest) == 1 else "arguments"
            ctx.fail(
                f"Got unexpected extra {noun} ({' '.join(rest)}).{self._hint(ctx, rest, words)}"
            )
        return rest

    def _hint(self, ctx: click.Context, rest: list[str], words: list[str]) -> str:
        """Return how to give `rest` as input, if the command reads any.

        - `words`: all arguments.
        """
        if "data_dir" not in {parameter.name for parameter in self.params}:
            return ""
        scripts = [word for word in rest if word.endswith(".py") and not _has_script(ctx)]
        if scripts and ctx.params.get("code") is not None:
            return f" --code is the script: omit it, or omit {shell_path(scripts[0])}."
        inputs = [word for word in rest if word not in scripts]
        if not inputs:
            return ""
        given = (ctx.params.get("data_dir") or ())[-1:]
        pattern, first = _glob_of([*given, *inputs]), [*given, *inputs][0]
        problem = "The input is an option"
        if given:
            problem = f"If the shell has expanded a glob, {'quote it' if pattern else 'repeat -d'}"
        secret, line = ctx.params.get("aws_secret_key"), []
        for word in words:
            if pattern is not None and word == first:
                line += [pattern] if given else ["-d", pattern]
            elif word in inputs:
                line += [] if pattern else ["-d", word]
            else:
                line.append(HIDDEN if word == secret else word)
        return f" {problem}: {ctx.command_path} {' '.join(map(shell_word, line))}"

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group; options without a group come last."""
        sections: dict[str, list[tuple[str, str]]] = {title: [] for title in (*_GROUPS, "Options")}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None and (record[1] or isinstance(parameter, click.Option)):
                sections[getattr(parameter, "group", "") or "Options"].append(record)
        if len(sections["Options"]) == 1 and sections["Display"]:
            sections["Display"] += sections.pop("Options")  # --help alone
        for title, records in sections.items():
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
        for script, rows in self._script_parameters(ctx):
            if rows:
                with formatter.section(f"Parameters of {script} (--param NAME=VALUE)"):
                    formatter.write_dl(rows)

    def _script_parameters(self, ctx: click.Context) -> Iterator[tuple[str, _Rows]]:
        """Yield each script on the command line, and the parameters in its text, as rows of help."""
        if "param" not in {parameter.name for parameter in self.params}:
            return
        try:
            given, rest, _ = self.make_parser(ctx).parse_args(args=ctx.meta.get(_ARGUMENTS, []))
        except click.UsageError:
            return
        script, code = given.get("script"), given.get("code")
        if isinstance(code, str):
            yield "the script", _parameter_rows("", code)
        elif isinstance(script, str):
            for each in dict.fromkeys([script, *rest]):
                yield each, _parameter_rows(each)


def _has_script(ctx: click.Context) -> bool:
    """Check whether the input that is given last is a script, as if the shell has expanded a glob."""
    return any(word.endswith(".py") for word in (ctx.params.get("data_dir") or ())[-1:])


def _parameter_rows(script: str, code: str | None = None) -> _Rows:
    """Describe the parameters in the text of a script; a script that cannot be read has none."""
    from daskmr.job.params.calls import declarations_in
    from daskmr.job.sources import absolute, check_path, collect, parse, read_source

    try:
        if code is None:
            path = absolute(check_path(script))
            code = read_source(path)
        else:
            path = os.path.abspath("<code>")
        found = declarations_in(collect(path, code, parse(code, path)).files)
    except InputError:
        return []
    return [
        (
            f"{each.name} {each.type}",
            f"{each.help}  [{'required' if each.default is None else f'default: {each.default}'}]".strip(),
        )
        for each in found
    ]
