"""Running again: just what failed, or what an earlier run did."""

from __future__ import annotations

from typing import Any

import click
from click.core import ParameterSource

from daskmr.text import shell_path, shell_word

__all__ = ["command_again", "repeated"]

# What must not be shown, what would do harm, what a run in one process that stops in a debugger has
# no use for, and what chooses a part of the input.
_SECRETS = {"aws_key", "aws_secret_key"}
_HARMFUL = {"delete_data", "output", "meta", "profile", "quiet", "report", "log_format"}
_WORKERS = {
    "inline",
    "num_mappers",
    "num_reducers",
    "memory_limit",
    "scheduler",
    "cluster",
    "dashboard",
}
_WORKERS |= {"spill_dir", "tls_ca_file", "tls_cert", "tls_key"}
_PART = {"only", "limit_files", "sample", "sample_by", "seed"}
_LEFT_OUT = _SECRETS | _HARMFUL | _WORKERS | _PART


def command_again(context: click.Context, file: str) -> str:
    """Write the command of `context` anew, for one file and without workers; ready to be pasted.

    Its result goes to standard output, so that nothing is replaced by the result of one file.
    """
    words = context.command_path.split()
    for parameter in context.command.params:
        name = parameter.name or ""
        given = context.get_parameter_source(name) is ParameterSource.COMMANDLINE
        if given and name not in _LEFT_OUT:
            words += _words(parameter, context.params[name])
    words += ["--inline", "-o", "-"]
    if file:
        words += ["--only", shell_word(file)]
    return " ".join(words)


def _words(parameter: click.Parameter, value: object) -> list[str]:
    if isinstance(parameter, click.Argument):
        return [shell_path(str(value))]
    option = parameter.opts[-1]
    if isinstance(parameter, click.Option) and parameter.is_flag:
        return [option]
    return [option, shell_word(str(value))]


def repeated(
    context: click.Context, script: str | None, options: dict[str, Any]
) -> tuple[str, dict[str, Any]]:
    """Fill in what an earlier run was given, where one is to be run again."""
    path = options["earlier"]
    if path is None:
        if script is None:
            raise click.UsageError("Missing argument 'SCRIPT'.", context)
        return script, options
    from daskmr.run.provenance import repeat

    sources = map(context.get_parameter_source, options)
    given = [
        name
        for name, source in zip(options, sources, strict=True)
        if source is ParameterSource.COMMANDLINE
    ]
    script, options, meta = repeat(path, script, options, given)
    return script, {**options, "earlier": meta}
