"""The parameters that are given for a run: on the command line, in a file, or from Python."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from daskmr.errors import InputError
from daskmr.job.tracebacks import short_repr

__all__ = [
    "ParameterError",
    "Recorded",
    "check_given",
    "read_params",
    "refuse_unknown",
    "similar",
    "value_of",
]


class ParameterError(InputError):
    """A value that is missing or wrong: a mistake of the command line, not of the script."""


class Recorded(NamedTuple):
    """A value from the record of an earlier run, which the script may no longer have."""

    value: Any


def check_given(given: Any) -> Mapping[str, Any]:
    """Return the parameters of a run as a mapping; raise InputError for anything else."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InputError(
            f'Parameters are a dict of names and values, such as {{"threshold": 10}}, not {short_repr(given)}.'
        )
    return given


def value_of(given: Any) -> Any:
    """Return a given value, without the mark of an earlier run."""
    return given.value if isinstance(given, Recorded) else given


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Return the name that is most like another, if any is, whatever its case and separators."""
    plain_names = {re.sub(r"[-_.]", "", each).lower(): each for each in names}
    plain_name = re.sub(r"[-_.]", "", name).lower()
    return [plain_names[n] for n in difflib.get_close_matches(plain_name, plain_names, 1)]


def refuse_unknown(given: Mapping[str, Any], declared: Iterable[str], where: str) -> None:
    """Raise ParameterError for a given parameter that no script has declared.

    - `where`: the scripts, in words.

    >>> refuse_unknown({"treshold": "5"}, ["threshold"], "job.py")
    Traceback (most recent call last):
    daskmr.job.params.given.ParameterError: job.py has no parameter treshold. Did you mean threshold?
    """
    names = [*declared]
    for name, value in given.items():
        if name in names or isinstance(value, Recorded):
            continue
        if like := similar(name, names):
            advice = f"Did you mean {like[0]}?"
        elif names:
            advice = f"It has {', '.join(names)}."
        else:
            advice = (
                f'To declare one: from daskmr import param; {_variable(name)} = param("{name}", 5)'
            )
        raise ParameterError(f"{where} has no parameter {name}. {advice}")


def _variable(name: str) -> str:
    return re.sub(r"\W", "_", name).upper()


def read_params(words: Iterable[str], path: str | None = None) -> dict[str, Any]:
    """Return parameters from words ``NAME=VALUE``, which go before those of a file.

    - `path`: a JSON, YAML or TOML file, by its extension.
    Raises `InputError` for other words, a name that is given twice, and a file that cannot be read.

    >>> read_params(["day=2024-01-31", "note="])
    {'day': '2024-01-31', 'note': ''}
    """
    given: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        name = name.strip()
        if not equals or not name:
            raise InputError(f"--param {word!r} is not NAME=VALUE, such as threshold=10.")
        if name in given:
            raise InputError(
                f"The parameter {name} is given twice. A list is one value: --param {name}=a,b"
            )
        given[name] = value
    return given if path is None else _in_file(path) | given


def _in_file(path: str) -> dict[str, Any]:
    kind = path.rpartition(".")[2].lower()
    try:
        with open(path, "rb") as file:
            text = file.read().decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"The parameters in {path} cannot be read: {reason}.") from None
    try:
        if kind == "json":
            found = json.loads(text)
        elif kind == "toml":
            import tomllib

            found = tomllib.loads(text)
        elif kind in ("yaml", "yml"):
            import yaml

            found = yaml.safe_load(text) or {}
        else:
            raise InputError(
                f"Parameters are read from .json, .yaml or .toml files, not from {path}."
            )
    except InputError:
        raise
    except Exception as error:  # each library has its own
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not {kind.upper()}: {reason}.") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(
            f"{path} must hold names and values of parameters, such as threshold = 10."
        )
    return found
