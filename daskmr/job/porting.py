"""Scripts that come from Python 2: what to change where they fail, and where they say nothing."""

from __future__ import annotations

import ast
import re
import types
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from daskmr.job.tracebacks import describe_exception

__all__ = ["Finding", "advice_for", "find_python2"]


class Finding(NamedTuple):
    """A place in a script that means something else under Python 3, or fails there.

    Attributes
    ----------
    line : int
    text : str
        What happens, and what to write.
    """

    line: int
    text: str


_NAMES = {
    "StandardError": "`Exception`", "apply": "`f(*args)`", "basestring": "`str`",
    "buffer": "`memoryview`", "cmp": "`(a > b) - (a < b)`",
    "execfile": "`exec(open(path).read())`", "file": "`open`", "intern": "`sys.intern`",
    "long": "`int`", "raw_input": "`input`", "reduce": "`functools.reduce`",
    "reload": "`importlib.reload`", "unichr": "`chr`", "unicode": "`str`", "xrange": "`range`",
}  # fmt: skip
_HOOKS = ("map", "combine", "reduce", "setup_reduce")
_METHODS = {
    "has_key": "`key in d`", "iteritems": "`items()`", "iterkeys": "`keys()`",
    "itervalues": "`values()`", "viewitems": "`items()`", "viewkeys": "`keys()`",
    "viewvalues": "`values()`", "func_name": "`__name__`",
}  # fmt: skip
_TEXT_METHODS = (
    "capitalize count find index ljust lower lstrip replace rfind rjust rstrip split strip "
    "swapcase translate upper zfill"
)
_CODECS = ("base64", "bz2", "hex", "quopri", "rot13", "rot_13", "uu", "zip", "zlib")
"""What ``text.encode(...)`` and ``text.decode(...)`` took in Python 2, and is no encoding of text."""
_ABCS = (
    "Callable Container Hashable ItemsView Iterable Iterator KeysView Mapping MappingView "
    "MutableMapping MutableSequence MutableSet Sequence Set Sized ValuesView"
)
_TYPES = {
    "BooleanType": "bool", "DictType": "dict", "FloatType": "float", "IntType": "int",
    "ListType": "list", "LongType": "int", "StringType": "str", "StringTypes": "str",
    "TupleType": "tuple", "UnicodeType": "str",
}  # fmt: skip
_MODULES = {
    ("base64", "decodestring"): "`base64.decodebytes`",
    ("base64", "encodestring"): "`base64.encodebytes`",
    ("cgi", "escape"): "`html.escape`",
    ("inspect", "getargspec"): "`inspect.getfullargspec`",
    ("itertools", "ifilter"): "a comprehension",
    ("itertools", "ifilterfalse"): "`itertools.filterfalse`",
    ("itertools", "imap"): "a comprehension",
    ("itertools", "izip"): "`zip`",
    ("itertools", "izip_longest"): "`itertools.zip_longest`",
    ("os", "getcwdu"): "`os.getcwd`",
    ("string", "atof"): "`float`",
    ("string", "atoi"): "`int`",
    ("string", "atol"): "`int`",
    ("string", "join"): "`separator.join(words)`",
    ("string", "joinfields"): "`separator.join(words)`",
    ("string", "letters"): "`string.ascii_letters`",
    ("string", "lowercase"): "`string.ascii_lowercase`",
    ("string", "maketrans"): "`str.maketrans`",
    ("string", "splitfields"): "`text.split(...)`",
    ("string", "uppercase"): "`string.ascii_uppercase`",
    ("sys", "maxint"): "`sys.maxsize`",
    ("sys", "setdefaultencoding"): "nothing: text needs no default",
    ("time", "clock"): "`time.perf_counter`",
    **{("collections", name): f"`collections.abc.{name}`" for name in _ABCS.split()},
    **{("string", name): f"`text.{name}(...)`" for name in _TEXT_METHODS.split()},
    **{("types", name): f"`{now}`" for name, now in _TYPES.items()},
    **{("urllib", name): f"`urllib.parse.{name}`" for name in ("quote", "quote_plus", "unquote", "unquote_plus", "urlencode")},
    **{("urllib", name): f"`urllib.request.{name}`" for name in ("urlopen", "urlretrieve")},
}  # fmt: skip
_VIEWS = ("keys", "values", "items")
_USED_UP = ("filter", "map", "zip")


# --- advice on errors ---------------------------------------------------------------------------

_LAZY = r"'(?:dict_keys|dict_values|dict_items|map|filter|zip|range)'"
_BY_MESSAGE = (
    (r"unhashable", ""),
    (
        r"SpilledValues|Object of type list is not JSON serializable|^unmarshallable object",
        "`values` is no real list where a key has too many for memory: what needs one (`json.dumps`, "
        "`marshal`, `[...] + values`) takes `list(values)`, and that takes the memory of all of them",
    ),
    (
        rf"{_LAZY} object is not subscriptable|object of type {_LAZY} has no len|for \+: .*{_LAZY}",
        "This looks like Python 2: `keys()`, `values()`, `items()`, `filter`, `zip` and `range` give "
        "no list any more, so write `list(...)` around it",
    ),
    (
        r"not supported between instances of",
        "Python 2 ordered values of any types, and None before all others. Give `sorted`, `min` or "
        "`max` a `key`, or leave None out first",
    ),
    (
        r"'cmp' is an invalid keyword|unexpected keyword argument 'cmp'|^sorted expected 1 argument|"
        r"^sort\(\) takes (no|exactly 0) positional",
        "This looks like Python 2: write `key=functools.cmp_to_key(compare)`",
    ),
    (
        r"'float' object cannot be interpreted as an integer|indices must be integers.* not float|"
        r"^slice indices must be integers",
        "If there is a `/` in it: that gives a float, and `//` rounds down, as `/` did in Python 2",
    ),
    (
        r"concatenate str \(not \"bytes\"|concat str to bytes|bytes-like object is required, not 'str'|"
        r"must be encoded before hashing|'in <string>' requires string .* not bytes",
        "In Python 3 text (`str`) and bytes do not mix: `text.encode()` gives the bytes that a "
        "checksum or a compressor takes, `io.StringIO` is a file of text, and elsewhere `.encode(...)` is left out",
    ),
    (
        r"^(map|reduce)\(\) missing \d+ required positional argument",
        "`map` and `reduce` are the job's own functions in a script: write a comprehension for "
        "`map(...)`, and `functools.reduce(...)`",
    ),
    (
        r"is not a text encoding; use codecs",
        "This looks like Python 2: write `codecs.encode(text.encode(), 'hex').decode()`, with the "
        "name of the codec",
    ),
    (
        r"translate\(\) takes exactly one argument",
        "This looks like Python 2: write `text.translate(str.maketrans('', '', letters))`",
    ),
    (
        r"^exceptions must derive from BaseException",
        "This looks like Python 2: write `raise ValueError(message)`",
    ),
    (
        r"for >>: 'builtin_function_or_method'",
        "This looks like Python 2: write `print(..., file=f)` for `print >>f, ...`",
    ),
    (
        r"^dictionary (changed size|keys changed) during iteration",
        "Loop over a copy, as `keys()` was in Python 2: `for key in list(d)`",
    ),
)  # fmt: skip


def advice_for(error: BaseException) -> str:
    """Say what to write, for an error that Python 2 did not raise; else return "".

    It begins with a space, as it follows a message.

    >>> advice_for(NameError("name 'xrange' is not defined", name="xrange"))
    ' This looks like Python 2: write `range` for `xrange`.'
    >>> advice_for(KeyError("xrange"))
    ''
    """
    advice = _advice(error)
    return f" {advice}." if advice else ""


def _advice(error: BaseException) -> str:
    message = describe_exception(error).partition(": ")[2]
    if isinstance(error, AttributeError):
        return _advice_on_attribute(error.obj, str(error.name))
    if isinstance(error, NameError):
        return _looks_like(str(error.name), _NAMES.get(str(error.name)))
    if isinstance(error, ImportError):
        found = re.match(r"cannot import name '(\w+)' from '([\w.]+)'", message)
        return _looks_like(found[1], _MODULES.get((found[2], found[1]))) if found else ""
    if not isinstance(error, TypeError | ValueError | RuntimeError | LookupError):
        return ""
    return next((advice for known, advice in _BY_MESSAGE if re.search(known, message)), "")


def _looks_like(name: str, now: str | None) -> str:
    return f"This looks like Python 2: write {now} for `{name}`" if now else ""


def _advice_on_attribute(of: object, name: str) -> str:
    kind = type(of)
    if isinstance(of, types.ModuleType):
        return _looks_like(f"{of.__name__}.{name}", _MODULES.get((of.__name__, name)))
    if kind is str and name == "decode":
        return (
            "This looks like Python 2: text is decoded already, so leave `.decode(...)` out, but for "
            "`.decode('base64')` and the like write `codecs.decode(text.encode(), 'base64').decode()`"
        )
    if kind is bytes and name in ("encode", "format"):
        return "This looks like Python 2: these are bytes, and `.decode()` makes text of them"
    if isinstance(of, BaseException) and name == "message":
        return "This looks like Python 2: write `str(error)` for `error.message`"
    if name == "next" and hasattr(kind, "__next__"):
        return "This looks like Python 2: write `next(it)` for `it.next()`"
    if hasattr(list, name) and re.fullmatch(_LAZY, f"'{kind.__name__}'"):
        now = "sorted(...)" if name == "sort" else "list(...)"
        return f"This looks like Python 2: a {kind.__name__} is no list, so write `{now}` around it"
    return _looks_like(name, _METHODS.get(name))


# --- places in a script -------------------------------------------------------------------------


def find_python2(tree: ast.Module, *, is_script: bool = True) -> list[Finding]:
    """Find what ports from Python 2 in silence, or fails only when it is reached.

    Where Python 3 code may mean it as it stands (a division, say), it is found only in a script
    that has nothing in it that Python 2 does not have.

    Parameters
    ----------
    tree : ast.Module
    is_script : bool
        Whether it is the job's script, rather than a module that it imports.

    Examples
    --------
    >>> text = "def reduce(key, values, context):\\n    context.write(key, sum(values) / len(values))"
    >>> [finding.line for finding in find_python2(ast.parse(text))]
    [2]
    >>> find_python2(ast.parse("from daskmr import pluck\\n" + text))
    []
    """
    module = _Module.of(tree)
    checks = [
        _old_names,
        _old_attributes,
        _old_arguments,
        _hashing,
        _lazy,
        _printing,
        _catching,
        _bytes,
        _codecs,
    ]
    if not _is_python3(tree):
        checks += [_dividing, _comparing, _numbers]
    found = {finding for check in checks for finding in check(module)}
    if is_script:
        found |= {
            *_decoding(module),
            *_counting_first(module),
            *_exact_type(module),
            *_shadowed(module),
        }
    return sorted(found)


@dataclass(frozen=True, slots=True)
class _Module:
    """A syntax tree, and what every check asks of it."""

    tree: ast.Module
    nodes: list[ast.AST]
    parents: dict[ast.AST, ast.AST] = field(repr=False)
    bound: frozenset[str]
    """Names that it gives a meaning of its own."""
    imported: dict[str, str]
    """Modules by the names that they go by."""

    @classmethod
    def of(cls, tree: ast.Module) -> _Module:
        nodes = list(ast.walk(tree))
        parents = {child: node for node in nodes for child in ast.iter_child_nodes(node)}
        imported = {
            alias.asname or alias.name: alias.name
            for node in nodes
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        return cls(tree, nodes, parents, frozenset(_bound(nodes)), imported)

    def calls(self, *names: str) -> Iterator[ast.Call]:
        """Calls of builtins."""
        for node in self.nodes:
            if isinstance(node, ast.Call) and self.is_builtin(node.func, *names):
                yield node

    def is_builtin(self, node: ast.AST, *names: str) -> bool:
        return isinstance(node, ast.Name) and node.id in names and node.id not in self.bound

    def functions(self) -> Iterator[ast.FunctionDef]:
        return (node for node in self.nodes if isinstance(node, ast.FunctionDef))

    def hook(self, name: str) -> ast.FunctionDef | None:
        """One of the job's functions."""
        found = [
            each
            for each in self.tree.body
            if isinstance(each, ast.FunctionDef) and each.name == name
        ]
        return found[-1] if found else None


def _bound(nodes: Iterable[ast.AST]) -> Iterator[str]:
    for node in nodes:
        if isinstance(node, ast.Name) and not isinstance(node.ctx, ast.Load):
            yield node.id
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.alias):
            # A star may bring any of them; that of a module that brings none is no harm.
            yield from _NAMES if node.name == "*" else [(node.asname or node.name).split(".")[0]]


_PYTHON3_MODULES = ("asyncio", "concurrent", "daskmr", "dataclasses", "enum", "pathlib", "typing")


def _is_python3(tree: ast.Module) -> bool:
    """Whether something is in it that Python 2 does not have, so that `/` is meant as it is."""
    return any(_is_new(node) for node in ast.walk(tree))


def _is_new(node: ast.AST) -> bool:
    if isinstance(node, ast.Import):
        return any(alias.name.split(".")[0] in _PYTHON3_MODULES for alias in node.names)
    if isinstance(node, ast.ImportFrom):
        names = {alias.name for alias in node.names}
        top = (node.module or "").split(".")[0]
        return top in _PYTHON3_MODULES or (top == "__future__" and "division" in names)
    if isinstance(node, ast.FunctionDef):
        return node.returns is not None
    if isinstance(node, ast.arguments):
        return bool(node.kwonlyargs or node.posonlyargs)
    if isinstance(node, ast.arg):
        return node.annotation is not None
    if isinstance(node, ast.Raise):
        return node.cause is not None
    if isinstance(node, ast.List | ast.Tuple):
        return any(isinstance(each, ast.Starred) for each in node.elts)
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id == "super" and not node.args
    return isinstance(node, _NEW)


_NEW = (
    ast.AnnAssign, ast.AsyncFunctionDef, ast.Await, ast.JoinedStr, ast.Match, ast.NamedExpr,
    ast.Nonlocal, ast.YieldFrom,
)  # fmt: skip


def _old_names(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        if isinstance(node, ast.Name) and module.is_builtin(node, *_NAMES):
            yield Finding(node.lineno, _is_gone(node.id, _NAMES[node.id]))


def _is_gone(name: str, now: str) -> str:
    return f"`{name}` is gone in Python 3: write {now}"


def _old_attributes(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                now = _MODULES.get((node.module or "", alias.name))
                if now and not node.level:
                    yield Finding(node.lineno, _is_gone(f"{node.module}.{alias.name}", now))
        elif isinstance(node, ast.Attribute):
            of = module.imported.get(node.value.id) if isinstance(node.value, ast.Name) else None
            now = _METHODS.get(node.attr) if of is None else _MODULES.get((of, node.attr))
            if now and node.attr not in module.bound:
                name = node.attr if of is None else f"{of}.{node.attr}"
                yield Finding(node.lineno, _is_gone(name, now))


def _old_arguments(module: _Module) -> Iterator[Finding]:
    advice = "write `key=functools.cmp_to_key(compare)`"
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        if getattr(node.func, "attr", "") == "translate" and len(node.args) == 2:
            yield Finding(
                node.lineno,
                "`text.translate(None, letters)` fails in Python 3: write "
                "`text.translate(str.maketrans('', '', letters))`",
            )
        is_sorted = module.is_builtin(node.func, "sorted")
        is_sort = isinstance(node.func, ast.Attribute) and node.func.attr == "sort"
        if is_sorted or is_sort:
            if any(keyword.arg == "cmp" for keyword in node.keywords):
                yield Finding(node.lineno, f"`cmp=` is gone in Python 3: {advice}")
            elif is_sorted and len(node.args) > 1:
                yield Finding(node.lineno, f"`sorted(values, compare)` fails in Python 3: {advice}")
            elif is_sort and node.args and isinstance(node.args[0], ast.Lambda):
                yield Finding(node.lineno, f"`sort(compare)` fails in Python 3: {advice}")


def _hashing(module: _Module) -> Iterator[Finding]:
    for node in module.calls("hash"):
        inside = _enclosing(module, node)
        if inside is None or inside.name != "__hash__":
            yield Finding(
                node.lineno,
                "`hash()` of text differs from process to process: write `zlib.crc32(text.encode())`",
            )


def _called(node: ast.AST) -> str:
    """The name of the function that is called by it."""
    return getattr(getattr(node, "func", None), "id", "")


def _enclosing(module: _Module, node: ast.AST) -> ast.FunctionDef | None:
    while (parent := module.parents.get(node)) is not None:
        if isinstance(parent, ast.FunctionDef):
            return parent
        node = parent
    return None


# --- what is no list any more -------------------------------------------------------------------


def _lazy(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        name = _lazy_name(module, node)
        if not name:
            continue
        assert isinstance(node, ast.Call)
        parent = module.parents[node]
        used = _use_as_list(node, parent)
        if used:
            yield Finding(node.lineno, f"`{name}` gives no list in Python 3: {used}")
        elif name in _USED_UP and _is_tested(node, parent):
            yield Finding(
                node.lineno, f"`{name}(...)` is always true in Python 3: write `list(...)`"
            )
        elif _is_written(module, node):
            yield Finding(
                node.lineno,
                f"`{name}` gives no list in Python 3, and prints differently: write `list(...)`",
            )
    for function in module.functions():
        yield from _lazy_variables(module, function)


def _lazy_name(module: _Module, node: ast.AST) -> str:
    """The name of a call that gave a list in Python 2, or ""."""
    if not isinstance(node, ast.Call):
        return ""
    if module.is_builtin(node.func, *_USED_UP, "range"):
        return node.func.id if isinstance(node.func, ast.Name) else ""
    is_view = isinstance(node.func, ast.Attribute) and node.func.attr in _VIEWS
    if is_view and not node.args and isinstance(node.func, ast.Attribute):
        return f"{node.func.attr}()"
    return ""


def _use_as_list(node: ast.AST, parent: ast.AST) -> str:
    """What to write for the use of `node` as only a list can be used, or ""."""
    if isinstance(parent, ast.Attribute) and parent.attr in (
        "sort",
        "append",
        "extend",
        "reverse",
        "pop",
    ):
        return "write `sorted(...)`" if parent.attr == "sort" else "write `list(...)`"
    if isinstance(parent, ast.Subscript) and parent.value is node:
        return "write `list(...)` before the index"
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Add):
        return "write `list(...)` before `+`"
    is_len = isinstance(parent, ast.Call) and getattr(parent.func, "id", "") == "len"
    return "write `len(list(...))`" if is_len and _is_used_up(node) else ""


def _is_tested(node: ast.AST, parent: ast.AST) -> bool:
    if isinstance(parent, ast.UnaryOp):
        return isinstance(parent.op, ast.Not)
    return isinstance(parent, ast.If | ast.While | ast.IfExp) and parent.test is node


def _is_used_up(node: ast.AST | None) -> bool:
    return (
        isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _USED_UP
    )


def _lazy_variables(module: _Module, function: ast.FunctionDef) -> Iterator[Finding]:
    stores: dict[str, list[ast.expr | None]] = {}
    loads: dict[str, list[ast.Name]] = {}
    for node in ast.walk(function):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            loads.setdefault(node.id, []).append(node)
        elif isinstance(node, ast.Name):
            parent = module.parents[node]
            plain = isinstance(parent, ast.Assign) and parent.targets == [node]
            value = parent.value if plain and isinstance(parent, ast.Assign) else None
            stores.setdefault(node.id, []).append(value)
    for variable, values in stores.items():
        value = values[0]
        name = _lazy_name(module, value) if value is not None and len(values) == 1 else ""
        if not name:
            continue
        uses = loads.get(variable, [])
        for use in uses:
            used = _use_as_list(use, module.parents[use])
            if used:
                yield Finding(
                    use.lineno, f"`{variable}`, made by `{name}`, is no list in Python 3: {used}"
                )
        if _is_used_up(value) and len(uses) > 1:
            yield Finding(
                uses[1].lineno,
                f"`{variable}` is empty after its first use, as `{name}` gives no list in Python 3: "
                "write `list(...)`",
            )


def _is_written(module: _Module, node: ast.AST) -> bool:
    """Whether it is itself what is written to the output, or made text of."""
    parent = module.parents[node]
    if isinstance(parent, ast.Call) and node in parent.args:
        return _is_write(parent) in ("write", "writeline") or module.is_builtin(parent.func, "str")
    if isinstance(parent, ast.Tuple):
        parent = module.parents[parent]
    return isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.Mod)


def _is_write(node: ast.AST) -> str:
    """The method by which a call writes to a context, or ""; a file's ``write`` takes one argument."""
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
        return ""
    name = node.func.attr
    if name in ("writeline", "writecsv", "write_each") or (name == "write" and len(node.args) == 2):
        return name
    return ""


# --- statements ---------------------------------------------------------------------------------


def _printing(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.RShift):
            if module.is_builtin(node.left, "print"):
                yield Finding(
                    node.lineno, "`print >>f, ...` fails in Python 3: write `print(..., file=f)`"
                )
        elif isinstance(node, ast.Expr) and module.is_builtin(node.value, "print"):
            yield Finding(node.lineno, "`print` alone prints nothing in Python 3: write `print()`")


def _catching(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        if not isinstance(node, ast.ExceptHandler):
            continue
        for each in ast.walk(node):
            of = each.value if isinstance(each, ast.Attribute) and each.attr == "message" else None
            if isinstance(of, ast.Name) and of.id == node.name:
                yield Finding(of.lineno, _is_gone(f"{of.id}.message", f"`str({of.id})`"))
        is_bare = node.type is None
        all_of_them = getattr(node.type, "id", "") == "BaseException" and node.name is None
        raises = any(isinstance(each, ast.Raise) for each in ast.walk(node))
        if (is_bare or all_of_them) and not raises:
            shown = "a bare `except:`" if is_bare else "`except BaseException:`"
            yield Finding(
                node.lineno,
                f"{shown} also hides what is no fault of the record: a name that Python 3 does not "
                "have, running out of memory. Name what it is for, as in `except ValueError:`",
            )


# --- text and bytes -----------------------------------------------------------------------------


def _bytes(module: _Module) -> Iterator[Finding]:
    encoders = {
        function.name
        for function in module.functions()
        for node in ast.walk(function)
        if isinstance(node, ast.Return) and _has_encoded(node.value, set())
    }
    for node in module.nodes:
        if not _is_write(node) or not isinstance(node, ast.Call):
            continue
        inside = _enclosing(module, node)
        if inside is not None and _are_decoded_later(module, inside):
            continue
        encoded = encoders | (_encoded_names(inside, encoders) if inside is not None else set())
        for argument in node.args:
            if _has_encoded(argument, encoded):
                yield Finding(
                    argument.lineno,
                    "`.encode(...)` makes bytes, which are written as \"b'...'\": leave it out, all "
                    "text is written as UTF-8",
                )


def _are_decoded_later(module: _Module, function: ast.FunctionDef) -> bool:
    """Whether `map` may write bytes to a `reduce` that makes text of them."""
    reduce = module.hook("reduce")
    if function.name != "map" or reduce is None:
        return False
    return any(
        isinstance(node, ast.Attribute) and node.attr == "decode" for node in ast.walk(reduce)
    )


def _encoded_names(function: ast.FunctionDef, encoders: set[str]) -> set[str]:
    """Variables that are never given anything without the result of ``.encode()``, or of `encoders`."""
    stored = Counter(
        node.id
        for node in ast.walk(function)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    )
    encoded = Counter(
        node.targets[0].id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and _has_encoded(node.value, encoders)
    )
    return {name for name, count in encoded.items() if stored[name] == count}


def _has_encoded(node: ast.AST | None, names: set[str]) -> bool:
    return node is not None and any(_is_encoded(part, names) for part in _parts(node))


def _is_encoded(node: ast.AST, names: set[str]) -> bool:
    """Whether it is bytes, with `names` of variables and functions that give bytes."""
    if isinstance(node, ast.Name):
        return node.id in names
    if not isinstance(node, ast.Call):
        return False
    is_encode = getattr(node.func, "attr", "") == "encode" and not _codec(node)
    return is_encode or _called(node) in names


def _codec(call: ast.Call) -> str:
    """The codec that is no encoding of text, of an ``encode`` or ``decode``; "" for any other."""
    given = call.args[0] if call.args else None
    name = given.value if isinstance(given, ast.Constant) else None
    return name if isinstance(name, str) and name.lower() in _CODECS else ""


def _codecs(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        name = (
            node.func.attr
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)
            else ""
        )
        if isinstance(node, ast.Call) and name in ("encode", "decode") and (codec := _codec(node)):
            yield Finding(
                node.lineno,
                f"`text.{name}({codec!r})` fails in Python 3: write "
                f"`codecs.{name}(text.encode(), {codec!r}).decode()`",
            )


def _parts(node: ast.AST) -> Iterator[ast.AST]:
    """The expressions whose values are a part of the text that is written for `node`."""
    yield node
    parts: list[ast.AST] = []
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Mod):
        parts = [node.left, node.right]
    elif isinstance(node, ast.Tuple | ast.List):
        parts = [*node.elts]
    elif isinstance(node, ast.JoinedStr):
        parts = [each.value for each in node.values if isinstance(each, ast.FormattedValue)]
    elif isinstance(node, ast.IfExp):
        parts = [node.body, node.orelse]
    elif isinstance(node, ast.BoolOp):
        parts = [*node.values]
    elif isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        parts = [*node.args] if name in ("str", "format") else []
    for part in parts:
        yield from _parts(part)


def _decoding(module: _Module) -> Iterator[Finding]:
    map_ = module.hook("map")
    if map_ is None or len(map_.args.args) != 4:
        return
    texts = {map_.args.args[0].arg, map_.args.args[2].arg}
    for node in ast.walk(map_):
        if not isinstance(node, ast.Call) or _codec(node):
            continue
        if isinstance(node.func, ast.Attribute) and node.func.attr == "decode":
            of = node.func.value
            if isinstance(of, ast.Name) and of.id in texts:
                yield Finding(
                    node.lineno, f"`{of.id}` is text, decoded already: leave `.decode(...)` out"
                )


# --- counting before parsing --------------------------------------------------------------------


def _counting_first(module: _Module) -> Iterator[Finding]:
    map_ = module.hook("map")
    if map_ is not None:
        yield from _Flow(module).of(map_.body)


class _Flow:
    """Statements in the order in which they run, to find what is written before it is parsed."""

    def __init__(self, module: _Module) -> None:
        self._writers: set[str] = set()
        self._parsers = {
            target.id
            for node in module.tree.body
            if isinstance(node, ast.Assign)
            and isinstance(node.value, ast.Call)
            and "pluck"
            in (getattr(node.value.func, "id", ""), getattr(node.value.func, "attr", ""))
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        self._found: dict[int, Finding] = {}
        functions = [each for each in module.functions() if each.name not in _HOOKS]
        for _ in functions:  # those that call another of them, and so on
            before = len(self._writers), len(self._parsers)
            for function in functions:
                calls = [each for each in ast.walk(function) if isinstance(each, ast.Call)]
                if any(map(self._writes, calls)):
                    self._writers.add(function.name)
                if any(map(self._parses, calls)) and not _catches_itself(function):
                    self._parsers.add(function.name)
            if before == (len(self._writers), len(self._parsers)):
                break

    def of(self, body: list[ast.stmt]) -> Iterator[Finding]:
        self._follow(body, 0, caught=False)
        yield from self._found.values()

    def _follow(self, body: list[ast.stmt], wrote: int, *, caught: bool) -> int:
        """Return the line of the first write so far; 0 where there is none, or the body leaves."""
        for statement in body:
            if isinstance(statement, ast.FunctionDef | ast.ClassDef):
                continue
            if isinstance(statement, ast.Return | ast.Raise | ast.Continue | ast.Break):
                self._look(statement, wrote, caught)
                return 0
            blocks = [getattr(statement, name, []) for name in ("body", "orelse", "finalbody")]
            if not any(blocks):
                wrote = self._look(statement, wrote, caught)
            elif isinstance(statement, ast.Try):
                inside = caught or any(map(_catches_bad_records, statement.handlers))
                tried = self._follow([*statement.body, *statement.orelse], wrote, caught=inside)
                ends = [
                    self._follow(each.body, wrote, caught=caught) for each in statement.handlers
                ]
                after = max([tried, *ends])
                wrote = self._follow(statement.finalbody, after, caught=caught)
            else:
                for head in ("test", "iter"):
                    if hasattr(statement, head):
                        wrote = self._look(getattr(statement, head), wrote, caught)
                ends = [self._follow(block, wrote, caught=caught) for block in blocks[:2]]
                wrote = max(ends)
        return wrote

    def _look(self, node: ast.AST, wrote: int, caught: bool) -> int:
        calls = [each for each in ast.walk(node) if isinstance(each, ast.Call)]
        if wrote and not caught and any(map(self._parses, calls)):
            self._found.setdefault(
                wrote,
                Finding(
                    wrote,
                    f"what is written here does not count when line {node.lineno} raises a "  # type: ignore[attr-defined]
                    "ValueError: a bad record takes back all that its call of map wrote and counted, "
                    "where formerly it stayed",
                ),
            )
        writes = [each.lineno for each in calls if self._writes(each)]
        return wrote or min(writes, default=0)

    def _parses(self, call: ast.Call) -> bool:
        name = getattr(call.func, "id", getattr(call.func, "attr", ""))
        if name in ("int", "float"):
            return len(call.args) == 1 and isinstance(call.args[0], ast.Name | ast.Subscript)
        return name in ("loads", "literal_eval", "strptime") or _called(call) in self._parsers

    def _writes(self, call: ast.Call) -> bool:
        return bool(_is_write(call)) or _is_counter(call) or _called(call) in self._writers


def _catches_itself(function: ast.FunctionDef) -> bool:
    handlers = [each for each in ast.walk(function) if isinstance(each, ast.ExceptHandler)]
    return any(map(_catches_bad_records, handlers))


def _is_counter(call: ast.Call) -> bool:
    return isinstance(call.func, ast.Attribute) and call.func.attr == "counter"


def _catches_bad_records(handler: ast.ExceptHandler) -> bool:
    if handler.type is None:
        return True
    names = {getattr(node, "id", getattr(node, "attr", "")) for node in ast.walk(handler.type)}
    return bool(names & {"ValueError", "Exception", "BaseException", "JSONDecodeError"})


def _shadowed(module: _Module) -> Iterator[Finding]:
    """Find calls that mean the builtins `map` and `reduce`; 2to3 makes some of ``imap``."""
    instead = {"map": "a comprehension", "reduce": "`functools.reduce(...)`"}
    for name, now in instead.items():
        hook = module.hook(name)
        for node in module.nodes if hook is not None else ():
            if (
                isinstance(node, ast.Call)
                and _called(node) == name
                and hook is not None
                and node.args
            ):
                is_function = isinstance(node.args[0], ast.Lambda | ast.Attribute)
                if is_function or len(node.args) < len(hook.args.args):
                    yield Finding(
                        node.lineno, f"`{name}` is the job's own function here: write {now}"
                    )


def _exact_type(module: _Module) -> Iterator[Finding]:
    """Find ``type(values) is list`` where `values` may lie on disk."""
    for name in ("reduce", "combine"):
        hook = module.hook(name)
        if hook is None or len(hook.args.args) != 3:
            continue
        values = hook.args.args[1].arg
        for node in ast.walk(hook):
            if not (isinstance(node, ast.Call) and module.is_builtin(node.func, "type")):
                continue
            given = node.args[0] if len(node.args) == 1 else None
            is_values = isinstance(given, ast.Name) and given.id == values
            if is_values and isinstance(module.parents[node], ast.Compare):
                yield Finding(
                    node.lineno,
                    f"`{values}` is of another type where a key has too many for memory: "
                    f"write `isinstance({values}, list)`",
                )


# --- where Python 3 code may mean it ------------------------------------------------------------


def _dividing(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
            operands = [node.left, node.right]
        elif isinstance(node, ast.AugAssign) and isinstance(node.op, ast.Div):
            operands = [node.target, node.value]
        else:
            continue
        floats = _float_names(_enclosing(module, node))
        if any(_is_no_integer(operand, floats) for operand in operands):
            continue
        parent = module.parents[node]
        if isinstance(parent, ast.Call) and module.is_builtin(parent.func, "int"):
            continue
        yield Finding(
            node.lineno,
            "`/` between integers gives a float; in Python 2 it rounded down, as `//` does",
        )


def _float_names(function: ast.FunctionDef | None) -> set[str]:
    """Variables that are given a float somewhere."""
    if function is None:
        return set()
    return {
        target.id
        for node in ast.walk(function)
        if isinstance(node, ast.Assign) and _is_no_integer(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _is_no_integer(node: ast.AST, floats: set[str]) -> bool:
    """Whether a number is certainly a float, or is no number."""
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, int)
    if isinstance(node, ast.Name):
        return node.id in floats
    if isinstance(node, ast.BinOp):
        return any(_is_no_integer(each, floats) for each in (node.left, node.right))
    if isinstance(node, ast.UnaryOp):
        return _is_no_integer(node.operand, floats)
    if isinstance(node, ast.Call):
        name = getattr(node.func, "id", getattr(node.func, "attr", ""))
        return name in (
            "float",
            "Decimal",
            "Fraction",
            "time",
            "total_seconds",
            "sqrt",
            "log",
            "exp",
        )
    return isinstance(node, ast.JoinedStr)


def _comparing(module: _Module) -> Iterator[Finding]:
    advice = (
        "Python 3 does not order None and other values: give it a default, as in `get(name, 0)`"
    )
    for node in module.nodes:
        if isinstance(node, ast.Compare):
            ordered = any(isinstance(op, ast.Lt | ast.LtE | ast.Gt | ast.GtE) for op in node.ops)
            sides = [node.left, *node.comparators]
            if ordered and any(map(_may_be_none, sides)) and not _is_guarded(module, node):
                yield Finding(node.lineno, advice)
    for call in module.calls("sorted", "min", "max"):
        if any(keyword.arg == "key" for keyword in call.keywords):
            continue
        for argument in call.args:
            several = (
                len(call.args) > 1 and _may_be_none(argument) and not _is_guarded(module, call)
            )
            if several or _is_mixed(argument):
                yield Finding(
                    call.lineno,
                    f"`{getattr(call.func, 'id', '')}` of values of different types, or None, fails in "
                    "Python 3: give it a `key`",
                )


def _may_be_none(node: ast.AST) -> bool:
    is_get = isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "get"
    return is_get and isinstance(node, ast.Call) and len(node.args) == 1 and not node.keywords


def _is_guarded(module: _Module, node: ast.AST) -> bool:
    """Whether it stands behind an ``and``, or below a test, which may have looked for None."""
    while (parent := module.parents.get(node)) is not None and not isinstance(
        parent, ast.FunctionDef
    ):
        if isinstance(parent, ast.BoolOp) or (
            isinstance(parent, ast.If | ast.IfExp) and node is not parent.test
        ):
            return True
        node = parent
    return False


def _is_mixed(node: ast.AST) -> bool:
    if isinstance(node, ast.ListComp | ast.GeneratorExp | ast.SetComp):
        elements = node.elt.elts if isinstance(node.elt, ast.Tuple) else [node.elt]
        return any(map(_may_be_none, elements))
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        kinds = {type(each.value) for each in node.elts if isinstance(each, ast.Constant)}
        return len(kinds - {int, float, bool}) + bool(kinds & {int, float, bool}) > 1
    return False


def _numbers(module: _Module) -> Iterator[Finding]:
    for node in module.nodes:
        if not isinstance(node, ast.Call):
            continue
        of = getattr(getattr(node.func, "value", None), "id", "")
        name = getattr(node.func, "attr", "")
        if of in ("zlib", "binascii") and name in ("crc32", "adler32"):
            parent = module.parents[node]
            if not (isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitAnd)):
                yield Finding(
                    node.lineno,
                    f"`{of}.{name}` could be negative in Python 2, and never is in Python 3",
                )
        elif of == "random" and name == "seed":
            yield Finding(
                node.lineno,
                "with the same seed, Python 3 chooses differently: only `random.random()` gives the same",
            )
    for call in module.calls("round"):
        if len(call.args) > 1:
            continue
        yield Finding(
            call.lineno,
            "`round` gives an integer in Python 3 (`3`, not `3.0`), and rounds a half to the even side",
        )
