"""The parameters of a script: `param` declares one and returns its value, which a run may set."""

from __future__ import annotations

import copy
import io
import pickle
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from daskmr.errors import InputError
from daskmr.job.params.calls import declarations_in
from daskmr.job.params.given import ParameterError, similar
from daskmr.job.params.values import (
    REQUIRED,
    Kind,
    convert,
    describe,
    explain,
    kind_of,
    plain,
    stands_for,
    typed,
)
from daskmr.job.tracebacks import short_repr

__all__ = ["Kept", "Parameter", "Params", "activate", "param"]

_NAME = r"[^\W\d][\w.-]*"


class Parameter(NamedTuple):
    """A parameter that a script has declared, and its value in this run.

    - `form`: plain data for the value as it was declared, since the script may change a list or dict.
    - `is_settled`: any process makes the same value from it.
    """

    name: str
    default: Any
    kind: Kind
    help: str
    value: Any
    is_given: bool
    form: Any = None
    is_settled: bool = True


class Kept(NamedTuple):
    """A default that plain data cannot stand for, such as bytes, for processes that would make another."""

    pickled: bytes


def param(name: str, default: Any = REQUIRED, *, type: Any = None, help: str = "") -> Any:
    """Declare a parameter of a script, and return its value.

    Call it at the top level of the script, or of a module beside it. A run sets the value by
    ``--param NAME=VALUE``, ``--params FILE`` or ``mapreduce(params={...})``; outside of a run it is
    the default. A later call with the name alone returns the same value.

    Parameters
    ----------
    name : str
        Letters, digits, ``_``, ``-`` and ``.``
    default : optional
        The value if none is given; without it, one must be given.
    type : callable, optional
        The type, or a function of the text: by default, the type of `default`, or ``str``.
        ``bool``, ``int``, ``float``, ``str``, ``datetime.date``, ``datetime.datetime``, ``list``,
        ``list[int]``, ``dict`` and enumerations are read as one would write them.
    help : str, optional
        A phrase for ``daskmr run SCRIPT --help``.

    Raises
    ------
    InputError
        If the value is missing or has another type; before any work.

    Examples
    --------
    >>> param("threshold", 5, help="visits from which on a user counts")
    5
    """
    if not isinstance(name, str) or not re.fullmatch(_NAME, name):
        raise InputError(
            f"{short_repr(name)} cannot be the name of a parameter: it must begin with a letter, and "
            "consist of letters, digits, _, - and . only."
        )
    if _active is not None:
        return _active.value_of(name, default, type, help)
    if default is REQUIRED:
        raise InputError(
            f"The parameter {name} has no default, and only a run of the script gives it a value. To import "
            "the script elsewhere, such as in a test, give it a default."
        )
    return default


class Params:
    """The parameters of one script in this process.

    - `script`: the name of its file.
    - `given`: values by name: text, or plain data.
    - `texts`: the source text of the script and its modules, by file name.
    - `declared`: the parameters, in the order of their declaration.
    """

    def __init__(self, script: str, given: Mapping[str, Any], texts: Mapping[str, str]) -> None:
        self.given = given
        self._script = script
        self.declared: dict[str, Parameter] = {}
        self._texts = texts
        self._failure: ParameterError | None = None
        self._is_loaded = False

    @contextmanager
    def loading(self) -> Iterator[None]:
        """Raise the first mistake at the end of the script, even if it catches it; then accept no more."""
        self._failure = None
        try:
            yield
        except BaseException:
            self.declared.clear()  # the script may be run again
            if self._failure is None:
                raise
        self._is_loaded = self._failure is None
        if self._failure is not None:
            raise self._failure

    def value_of(self, name: str, default: Any, type_: Any, help: str) -> Any:
        """Declare a parameter, or look up one that is declared, and return its value."""
        known = self.declared.get(name)
        if known is not None and default is REQUIRED and type_ is None:
            return known.value
        kind = kind_of(type_, default)
        if known is not None:
            if (known.kind, repr(known.default)) == (kind, repr(default)):
                return known.value
            raise InputError(
                f"The parameter {name} is declared twice, with different defaults or types. Declare it once, "
                f'and write param("{name}") elsewhere.'
            )
        if self._is_loaded:
            raise InputError(
                f"The parameter {name} is declared while the job runs, which is too late to check its value. "
                "Call param at the top level of the script."
            )
        is_given = name in self.given
        value = self._converted(name, kind, default) if is_given else typed(name, default, kind)
        if value is REQUIRED:
            raise self._failing(self._explain_missing(name, kind, help))
        form = plain(value)
        is_settled = value is None is default or stands_for(form, value, kind)
        self.declared[name] = Parameter(
            name, default, kind, help, value, is_given, form, is_settled
        )
        return value

    def _converted(self, name: str, kind: Kind, default: Any) -> Any:
        given = self.given[name]
        if isinstance(given, Kept):
            return pickle.loads(given.pickled)
        if isinstance(given, dict | list):
            given = copy.deepcopy(given)  # the script may change it
        if given is None and default is None:
            return None
        try:
            return convert(given, kind)
        except Exception as error:
            text = explain(name, given, kind, error)
        raise self._failing(text)

    def _failing(self, text: str) -> ParameterError:
        self._failure = self._failure or ParameterError(text)
        return self._failure

    def _explain_missing(self, name: str, kind: Kind, help: str) -> str:
        calls = {call.name: call for call in declarations_in(self._texts)}
        others = [
            call.name
            for call in calls.values()
            if call.default is None and call.name not in {name, *self.given}
        ]
        wrong = next((n for n in self.given if n not in calls and similar(n, [name])), None)
        about = f" ({help})" if help else ""
        text = f"The script {self._script} needs a value for its parameter {name}{about}: {describe(kind)}."
        if wrong is not None:
            return f"{text} It has no {wrong}; did you mean {name}?"
        names = "".join(f" --param {each}=VALUE" for each in (name, *others))
        return f"{text} Give it with{names}"

    def settled(self) -> dict[str, Any]:
        """Return plain data for all values, from which any process makes the same values.

        Defaults that it cannot stand for are `Kept`, or left to the script if they are of its own types.
        Raises `ParameterError` for other values that it cannot stand for.
        """
        settled = {}
        for name, declared in self.declared.items():
            given = self.given.get(name)
            if isinstance(given, Kept):
                settled[name] = given
            elif declared.is_settled:
                settled[name] = declared.form
            elif not declared.is_given:
                if (kept := _kept(declared.value)) is not None:
                    settled[name] = kept
            else:
                if given != plain(given):
                    raise ParameterError(
                        f"The parameter {name} cannot be {short_repr(given)}, because a record of the run "
                        "could not hold it. Give text, a number, a date, or a list or dict of those."
                    )
                settled[name] = given
        return settled


class _OfPython(pickle.Unpickler):
    """Refuses what is not of Python itself: importing it could take long, or need the script."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] not in sys.stdlib_module_names:
            raise pickle.UnpicklingError(module)
        return super().find_class(module, name)


def _kept(value: Any) -> Kept | None:
    try:
        pickled = pickle.dumps(value)
        _OfPython(io.BytesIO(pickled)).load()
    except Exception:
        return None
    return Kept(pickled)


_active: Params | None = None


def activate(params: Params | None) -> Params | None:
    """Have `param` return the values of this script until the next call; return the script before."""
    global _active
    before, _active = _active, params
    return before
