"""The parameters that are given for a run: on the command line, in a file, or from Python."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from daskmr.errors import InputError
from daskmr.job.tracebacks import short_repr

__all__ = [
    "FromFile",
    "ParameterError",
    "Recorded",
    "check_given",
    "read_params",
    "refuse_unknown",
    "similar",
    "values_for",
]


class ParameterError(InputError):
    """A value that is missing or wrong: a mistake of the command line, not of the script."""


class Recorded(NamedTuple):
    """The values of a parameter in an earlier run, by the place of the script, which may no longer have it."""

    values: Mapping[int, Any]


def check_given(given: Any) -> Mapping[str, Any]:
    """Return the parameters of a run as a mapping; raise InputError for anything else."""
    if given is None:
        return {}
    if not isinstance(given, Mapping) or not all(isinstance(name, str) for name in given):
        raise InputError(
            f'Parameters are a dict of names and values, such as {{"threshold": 10}}, not {short_repr(given)}.'
        )
    return given


def values_for(given: Mapping[str, Any], place: int) -> dict[str, Any]:
    """Return the parameters of one of several scripts, without the mark of an earlier run.

    >>> values_for({"day": Recorded({1: "2024-01-31"}), "least": 5}, 0)
    {'least': 5}
    """
    found = {}
    for name, value in given.items():
        if not isinstance(value, Recorded):
            found[name] = value
        elif place in value.values:
            found[name] = value.values[place]
    return found


def similar(name: str, names: Iterable[str]) -> list[str]:
    """Return the name that is most like another, if any is, whatever its case and separators."""
    plain_names = {re.sub(r"[-_.]", "", each).lower(): each for each in names}
    plain_name = re.sub(r"[-_.]", "", name).lower()
    return [plain_names[n] for n in difflib.get_close_matches(plain_name, plain_names, 1)]


def refuse_unknown(
    given: Mapping[str, Any], declared: Iterable[str], scripts: Sequence[str]
) -> None:
    """Raise ParameterError for a given parameter that no script has declared.

    - `scripts`: their names.

    >>> refuse_unknown({"treshold": "5"}, ["threshold"], ["job.py"])
    Traceback (most recent call last):
    daskmr.job.params.given.ParameterError: The script job.py has no parameter treshold. Did you mean threshold?
    """
    names = [*dict.fromkeys(declared)]
    several = len(scripts) > 1
    for name, value in given.items():
        if name in names or isinstance(value, Recorded):
            continue
        if like := similar(name, names):
            advice = f"Did you mean {like[0]}?"
        elif names:
            advice = f"{'They have' if several else 'It has'} {', '.join(names)}."
        else:
            advice = (
                f'To declare one: from daskmr import param; {_variable(name)} = param("{name}", 5)'
            )
        where = f"The script{'s' * several} {', '.join(scripts)} {'have' if several else 'has'}"
        raise ParameterError(f"{where} no parameter {name}. {advice}")


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
    if path is None:
        return given
    params = FromFile(_in_file(path) | given)
    params.path = path
    return params


class FromFile(dict[str, Any]):
    """Parameters of which some are from a file."""

    path: str


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
            found = json.loads(text, object_pairs_hook=_each_once)
        elif kind == "toml":
            import tomllib

            found = tomllib.loads(text)
        elif kind in ("yaml", "yml"):
            import yaml

            _check_names(yaml.compose(text, yaml.SafeLoader))
            found = yaml.safe_load(text) or {}
        else:
            raise InputError(
                f"Parameters are read from .json, .yaml or .toml files, not from {path}."
            )
    except InputError:
        raise
    except _Twice as twice:
        raise InputError(f"{path} gives {twice} twice. Remove one of them.") from None
    except Exception as error:  # each library has its own
        reason = " ".join(str(error).split())
        raise InputError(f"{path} is not {kind.upper()}: {reason}.") from None
    if not isinstance(found, dict) or not all(isinstance(name, str) for name in found):
        raise InputError(
            f"{path} must hold names and values of parameters, such as threshold = 10."
        )
    return found


class _Twice(Exception):
    """A name that is twice in a mapping of a file."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Twice(name)
        found[name] = value
    return found


def _check_names(node: Any) -> None:
    """Raise `_Twice` for a name that is twice in a mapping of a YAML document."""
    kind = getattr(node, "id", None)
    children = [*node.value] if kind in ("mapping", "sequence") else []
    if kind == "mapping":
        _each_once([(str(name.value), None) for name, _ in children])
        children = [value for _, value in children]
    for child in children:
        _check_names(child)
