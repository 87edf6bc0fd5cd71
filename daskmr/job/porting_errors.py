"""Advice on errors that Python 2 did not raise: what to write instead."""

from __future__ import annotations

import collections.abc
import re
import types

from daskmr.job.tracebacks import message_of

__all__ = [
    "BY_KEY", "BY_TRANSLATION", "CODECS", "METHODS", "MODULES", "NAMES", "advice_for",
    "syntax_advice",
]  # fmt: skip

NAMES = {
    "StandardError": "`Exception`", "apply": "`f(*args)`", "basestring": "`str`",
    "buffer": "`memoryview`", "cmp": "`(a > b) - (a < b)`",
    "execfile": "`exec(open(path).read())`", "file": "`open`", "intern": "`sys.intern`",
    "long": "`int`", "raw_input": "`input`", "reduce": "`functools.reduce`",
    "reload": "`importlib.reload`", "unichr": "`chr`", "unicode": "`str`", "xrange": "`range`",
}  # fmt: skip
METHODS = {
    "has_key": "`key in d`", "iteritems": "`items()`", "iterkeys": "`keys()`",
    "itervalues": "`values()`", "viewitems": "`items()`", "viewkeys": "`keys()`",
    "viewvalues": "`values()`", "func_name": "`__name__`",
}  # fmt: skip
MODULES = {
    **{f"collections.{name}": f"`collections.abc.{name}`" for name in collections.abc.__all__},
    **{f"string.{name}": f"`text.{name}(...)`" for name in vars(str) if name[0] != "_"},
    **{f"types.{name.title()}Type": f"`{name}`" for name in ("dict", "float", "int", "list", "tuple")},
    **{
        f"urllib.{name}": f"`urllib.parse.{name}`"
        for name in ("quote", "quote_plus", "unquote", "unquote_plus", "urlencode")
    },
    "base64.decodestring": "`base64.decodebytes`", "base64.encodestring": "`base64.encodebytes`",
    "cgi.escape": "`html.escape`", "inspect.getargspec": "`inspect.getfullargspec`",
    "itertools.ifilter": "a comprehension", "itertools.ifilterfalse": "`itertools.filterfalse`",
    "itertools.imap": "a comprehension", "itertools.izip": "`zip`",
    "itertools.izip_longest": "`itertools.zip_longest`", "os.getcwdu": "`os.getcwd`",
    "string.atof": "`float`", "string.atoi": "`int`", "string.atol": "`int`",
    "string.join": "`separator.join(words)`", "string.joinfields": "`separator.join(words)`",
    "string.letters": "`string.ascii_letters`", "string.lowercase": "`string.ascii_lowercase`",
    "string.maketrans": "`str.maketrans`", "string.splitfields": "`text.split(...)`",
    "string.uppercase": "`string.ascii_uppercase`", "sys.maxint": "`sys.maxsize`",
    "sys.setdefaultencoding": "nothing: text needs no default",
    "time.clock": "`time.perf_counter`",
    "types.BooleanType": "`bool`", "types.LongType": "`int`", "types.StringType": "`str`",
    "types.StringTypes": "`str`", "types.UnicodeType": "`str`",
    "urllib.urlopen": "`urllib.request.urlopen`",
    "urllib.urlretrieve": "`urllib.request.urlretrieve`",
}  # fmt: skip
# Codecs that `text.encode` and `text.decode` took in Python 2, but that are not text encodings.
CODECS = ("base64", "bz2", "hex", "quopri", "rot13", "rot_13", "uu", "zip", "zlib")
BY_KEY = "write `key=functools.cmp_to_key(compare)`"
BY_TRANSLATION = "write `text.translate(str.maketrans('', '', letters))`"


# --- advice on errors ---------------------------------------------------------------------------

_OLD = "This looks like Python 2: "
_VIEWS = tuple(map(type, ({}.keys(), {}.values(), {}.items())))
_LAZY_TYPES: tuple[type, ...] = (*_VIEWS, map, filter, zip, range)
_LAZY = f"'(?:{'|'.join(kind.__name__ for kind in _LAZY_TYPES)})'"
# C code raises these, and only their text distinguishes them.
_BY_MESSAGE = {
    r"^(?!unhashable).*SpilledValues|Object of type list is not JSON serializable|"
    r"^unmarshallable object": "This is `values`, which is not a real list if a key has too many for "
    "memory: code that needs one (`json.dumps`, `marshal`, `[...] + values`) requires `list(values)`, "
    "which takes the memory of all of them",
    rf"{_LAZY} object is not subscriptable|object of type {_LAZY} has no len|for \+: .*{_LAZY}": (
        f"{_OLD}`keys()`, `values()`, `items()`, `filter`, `zip` and `range` no longer return a list, "
        "so write `list(...)` around it"
    ),
    r"not supported between instances of": "Python 2 ordered values of any types, and None before "
    "all others. Give `sorted`, `min` or `max` a `key`, or leave None out first",
    r"'cmp' is an invalid keyword|unexpected keyword argument 'cmp'|^sorted expected 1 argument|"
    r"^sort\(\) takes (no|exactly 0) positional": f"{_OLD}{BY_KEY}",
    r"'float' object cannot be interpreted as an integer|indices must be integers.* not float|"
    r"^slice indices must be integers": "If there is a `/` in it: that gives a float, and `//` rounds "
    "down, as `/` did in Python 2",
    r"concatenate str \(not \"bytes\"|concat str to bytes|bytes-like object is required, not 'str'|"
    r"must be encoded before hashing|'in <string>' requires string .* not bytes": (
        "In Python 3 text (`str`) and bytes do not mix: `text.encode()` returns the bytes that a "
        "checksum or compressor needs, `io.StringIO` is a text file, and elsewhere "
        "leave `.encode(...)` out"
    ),
    r"^(map|reduce)\(\) missing \d+ required positional argument": "`map` and `reduce` are the job's "
    "own functions in a script: write a comprehension for `map(...)`, and `functools.reduce(...)`",
    r"^string indices must be integers, not 'str'": "If it is the value of a record, it is text: "
    "`json.loads(value)` parses it, and so does --records jsonl",
    r"is not a text encoding; use codecs": f"{_OLD}write `codecs.encode(text.encode(), 'hex').decode()`"
    ", with the name of the codec",
    r"translate\(\) takes exactly one argument": f"{_OLD}{BY_TRANSLATION}",
    r"^exceptions must derive from BaseException": f"{_OLD}write `raise ValueError(message)`",
    r"for >>: 'builtin_function_or_method'": f"{_OLD}write `print(..., file=f)` for `print >>f, ...`",
    r"^dictionary (changed size|keys changed) during iteration": "Loop over a copy, as `keys()` was "
    "in Python 2: `for key in list(d)`",
}


def advice_for(error: BaseException) -> str:
    """Return advice on an error that Python 2 did not raise, after a space; "" for any other.

    >>> advice_for(NameError("name 'xrange' is not defined", name="xrange"))
    ' This looks like Python 2: write `range` for `xrange`.'
    >>> advice_for(KeyError("xrange"))
    ''
    """
    advice = ""
    message = " ".join(message_of(error).split())
    if isinstance(error, AttributeError):
        advice = _advice_on_attribute(error.obj, str(error.name))
    elif isinstance(error, NameError):
        advice = _renamed(str(error.name), NAMES)
    elif isinstance(error, ImportError):  # `name_from` exists from Python 3.12 on
        if found := re.match(r"cannot import name '(\w+)' from '([\w.]+)'", message):
            advice = _renamed(f"{found[2]}.{found[1]}", MODULES, found[1])
    elif isinstance(error, TypeError | ValueError | RuntimeError | LookupError):
        advice = next((a for known, a in _BY_MESSAGE.items() if re.search(known, message)), "")
    return f" {advice}." if advice else ""


def _renamed(name: str, table: dict[str, str], shown: str = "") -> str:
    return f"{_OLD}write {table[name]} for `{shown or name}`" if name in table else ""


def _advice_on_attribute(of: object, name: str) -> str:
    kind = type(of)
    if isinstance(of, types.ModuleType):
        return _renamed(f"{of.__name__}.{name}", MODULES)
    if kind is str and name == "decode":
        return (
            f"{_OLD}text is already decoded, so leave `.decode(...)` out, but for "
            "`.decode('base64')` and the like write `codecs.decode(text.encode(), 'base64').decode()`"
        )
    if kind is bytes and name in ("encode", "format"):
        return f"{_OLD}these are bytes, which `.decode()` converts to text"
    if isinstance(of, BaseException) and name == "message":
        return f"{_OLD}write `str(error)` for `error.message`"
    if name == "next" and hasattr(kind, "__next__"):
        return f"{_OLD}write `next(it)` for `it.next()`"
    if hasattr(list, name) and kind in _LAZY_TYPES:
        now = "sorted(...)" if name == "sort" else "list(...)"
        return f"{_OLD}a {kind.__name__} is not a list, so write `{now}` around it"
    return _renamed(name, METHODS)


# --- syntax errors ------------------------------------------------------------------------------

# Patterns of the compiler's message, of the line up to the error, and of the line after it, because
# the compiler raises the same type for all of these.
_SYNTAX = (
    (r"call to 'print'", "", "", "`print` is now a function: write `print(...)`"),
    (r"call to 'exec'", "", "", "`exec` is now a function: write `exec(...)`"),
    (r"", r"^\s*except\b", r".*,\s*\w+\s*:", "write `except X as e:` for `except X, e:`"),
    (r"", r"^\s*raise\b", r".*,", "write `raise X(message)` for `raise X, message`"),
    (r"leading zeros", "", "", "octal numbers are written `0o777` for `0777`"),
    (r"invalid \w+ literal", "", r".{0,2}[lL]\b", "leave out the `L` of `10L`"),
    (r"parameters cannot be parenthesized", "", "", "take one parameter, and unpack it inside"),
    (r"invalid syntax", "", r"`", "write `repr(x)` for backticks"),
    (r"invalid syntax", "", r"<>", "write `!=` for `<>`"),
    (r"invalid syntax", r"\b[uU][rR]$", r"['\"]", 'write `r"..."` for `ur"..."`'),
    (r"invalid syntax", "", r"[uU][rR]['\"]", 'write `r"..."` for `ur"..."`'),
)


def syntax_advice(error: SyntaxError) -> str:
    """Return advice on syntax of Python 2, after a space; "" for any other error."""
    if isinstance(error, TabError):
        return f" {_OLD}indent with spaces only."
    line = error.text or ""
    column = max((error.offset or 1) - 1, 0)
    for message, before, after, advice in _SYNTAX:
        if (
            re.search(message, error.msg)
            and re.search(before, line[:column] or line[: column + 1])
            and re.match(after, line[column:])
        ):
            return f" {_OLD}{advice}."
    return ""
