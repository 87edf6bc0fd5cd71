"""Formatting for people: bytes, seconds, counts, and names with any characters. Pure functions."""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from functools import lru_cache, partial

__all__ = [
    "HIDDEN", "byte_unit", "count_unit", "counted", "describe_command", "did_you_mean", "format_bytes", "format_clock",
    "format_count", "format_seconds", "holds_credentials", "inspect_line", "mask_credentials", "masked",
    "printable", "shell_path", "shell_word", "shorten", "some", "time_unit",
]  # fmt: skip

HIDDEN = "***"
"""Placeholder for a secret."""

_SECRET_OPTIONS = ("-k", "--aws-key", "-s", "--aws-secret-key")
_USER_IN_URL = re.compile(r"(?<=://)[^/\s]*@")
_QUERY_IN_URL = re.compile(r"(?<=[^\s?])\?\S+$")
_SECRET_IN_QUERY = re.compile(r"([?&](?:sig|token|password|key|secret)[\w-]*=)[^&]*", re.IGNORECASE)
_BYTES = ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB"), (1.0, "B"))
_COUNTS = ((1e9, "billion "), (1e6, "million "), (1e3, "thousand "), (1.0, ""))
_TIMES = ((3600.0, "hours"), (60.0, "minutes"), (1.0, "seconds"))


def format_bytes(count: float) -> str:
    """Format a number of bytes, as ``999 B`` or ``1.5 MB``."""
    scale, unit = next((each for each in _BYTES if count >= each[0]), _BYTES[-1])
    return f"{count / scale:.{1 if scale > 1 else 0}f} {unit}"


def format_count(count: float) -> str:
    """Format a large number with about three digits.

    >>> format_count(999), format_count(12_345), format_count(2_500_000)
    ('999', '12.3 thousand', '2.5 million')
    """
    scale, unit = next((each for each in _COUNTS if count >= each[0]), _COUNTS[-1])
    return f"{count / scale:.3g} {unit}".rstrip() if unit else f"{count:.0f}"


def format_seconds(seconds: float) -> str:
    """Format a duration.

    >>> format_seconds(0.0123), format_seconds(9.96), format_seconds(75), format_seconds(7260)
    ('0.01 s', '10.0 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 1 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def format_clock(seconds: float) -> str:
    """Format a duration as on a clock, for figures that keep changing.

    >>> format_clock(7.6), format_clock(3725)
    ('0:08', '1:02:05')
    """
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"


def _unit(units: Sequence[tuple[float, str]], enough: float, most: float) -> tuple[float, str]:
    """Return the size and name of the largest unit of which `most` is at least `enough`.

    >>> byte_unit(3_000_000), count_unit(30_000), time_unit(90)
    ((1000000.0, 'MB'), (1000.0, 'thousand '), (1.0, 'seconds'))
    """
    return next((unit for unit in units if most >= enough * unit[0]), units[-1])


byte_unit = partial(_unit, _BYTES, 2)
count_unit = partial(_unit, _COUNTS, 2)
time_unit = partial(_unit, _TIMES, 4)


def printable(text: str) -> str:
    r"""Replace characters that are invisible or cannot be encoded by escapes.

    >>> printable("a\nb\ud800")
    'a\\nb\\ud800'
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def masked(content: str) -> str:
    """Hide anything in a URL that may be a user, a password or a signature.

    >>> masked("https://me:sec@ret@host/data?sig=abc"), masked("what?")
    ('https://***@host/data?***', 'what?')
    """
    if "://" not in content:
        return content
    return _QUERY_IN_URL.sub(f"?{HIDDEN}", _USER_IN_URL.sub(f"{HIDDEN}@", content))


def holds_credentials(url: str) -> bool:
    """Check whether a URL contains a user with a password, or a secret in its query.

    >>> holds_credentials("ftp://me:word@host"), holds_credentials("abfs://container@account/x")
    (True, False)
    """
    _, found, rest = url.partition("://")
    user = rest.partition("/")[0].rpartition("@")[0]
    return bool(found) and (":" in user or _SECRET_IN_QUERY.search(rest) is not None)


def mask_credentials(url: str) -> str:
    """Hide the credentials in a URL, and nothing else, to name a place in messages.

    >>> mask_credentials("ftp://me:word@host/x?token=abc&a=1")
    'ftp://***@host/x?token=***&a=1'
    """
    scheme, _, rest = url.partition("://")
    if holds_credentials(url):
        host, slash, path = rest.partition("/")
        user, _, server = host.rpartition("@")
        rest = f"{HIDDEN}@{server}{slash}{path}" if ":" in user else rest
        rest = _SECRET_IN_QUERY.sub(rf"\1{HIDDEN}", rest)
        url = f"{scheme}://{rest}"
    return printable(url)


def shell_word(text: str) -> str:
    r"""Quote a word for a shell, with characters that are not printable escaped for bash and zsh.

    >>> print(shell_word("plain"), shell_word("a b"), shell_word("it's\n\udcff"))
    plain 'a b' $'it\'s\x0a\xff'
    """
    if text.isprintable():
        return shlex.quote(text)
    return f"$'{''.join(map(_in_quotes, text))}'"


def _in_quotes(character: str) -> str:
    if character in "'\\":
        return f"\\{character}"
    if character.isprintable():
        return character
    error = "surrogateescape" if "\udc80" <= character <= "\udcff" else "surrogatepass"
    return "".join(f"\\x{byte:02x}" for byte in character.encode("utf-8", error))


def shell_path(path: str) -> str:
    """Quote a path for a shell, as an argument that is not mistaken for an option.

    >>> shell_path("-odd.py"), shell_path("my job.py")
    ('./-odd.py', "'my job.py'")
    """
    return shell_word(f"./{path}" if path.startswith("-") else path)


def describe_command(arguments: Sequence[str], secrets: Sequence[str] = ()) -> str:
    """Format a command line, with credentials hidden.

    `secrets` are known credentials, which are hidden everywhere, because several short options may
    share a dash.

    >>> describe_command(["daskmr", "run", "job.py", "-s", "secret", "--aws-key=key", "-kkey"])
    'daskmr run job.py -s *** --aws-key=*** -k***'
    >>> describe_command(["daskmr", "run", "job.py", "-qssecret"], ["secret"])
    "daskmr run job.py '-qs***'"
    """
    shown = []
    hidden = False
    for argument in arguments:
        name, equals, _ = argument.partition("=")
        if hidden:
            shown.append(HIDDEN)
        elif equals and _is_secret(name):
            shown.append(f"{name}={HIDDEN}")
        elif argument[:2] in ("-k", "-s") and len(argument) > 2:
            shown.append(f"{argument[:2]}{HIDDEN}")
        else:
            for secret in filter(None, secrets):
                argument = argument.replace(secret, HIDDEN)
            shown.append(shell_word(masked(argument)).replace(f"'{HIDDEN}'", HIDDEN))
        hidden = not hidden and not equals and _is_secret(argument)
    return " ".join(shown)


def _is_secret(name: str) -> bool:
    """Check whether an option takes a secret; click also accepts abbreviated long options."""
    if name.startswith("--a"):
        return any(option.startswith(name) for option in _SECRET_OPTIONS)
    return name in _SECRET_OPTIONS


def inspect_line(*places: str) -> str:
    """Return the command line that shows what is in some places, on a line of its own.

    >>> inspect_line("my logs")
    "\\ndaskmr inspect 'my logs'"
    """
    return f"\ndaskmr inspect {' '.join(map(shell_path, places))}"


def shorten(text: str, length: int) -> str:
    """Omit the middle of a text longer than `length` characters.

    >>> shorten("tcp://10.0.0.1:34567", 12)
    'tcp://…34567'
    """
    if len(text) <= length:
        return text
    end = (length - 1) // 2
    return f"{text[: length - 1 - end]}…{text[len(text) - end :]}"


def counted(count: int, noun: str) -> str:
    """Format a count with its noun.

    >>> counted(1, "key"), counted(1200, "key")
    ('1 key', '1,200 keys')
    """
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


@lru_cache
def did_you_mean(name: str, names: tuple[str, ...]) -> str:
    """Return a question with the most similar of `names`, after a space; "" if none is similar.

    >>> did_you_mean("usr", ("id", "user")), did_you_mean("x", ("id", "user"))
    (" Did you mean 'user'?", '')
    """
    import difflib  # deferred: only a mistake needs it

    like = difflib.get_close_matches(name, names, 1)
    return f" Did you mean {like[0]!r}?" if like else ""


def some(names: Sequence[str], most: int = 3) -> str:
    """Format the first few names, and the number of the others.

    >>> some(["a", "b", "c", "d", "e"]), some(["a", "b"])
    ('a, b, c and 2 more', 'a, b')
    """
    more = f" and {len(names) - most:,} more" if len(names) > most else ""
    return f"{', '.join(names[:most])}{more}"
