"""Scripts written for Python 2: find the places where they fail silently, or late."""

from __future__ import annotations

import ast
import builtins
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from typing import Any, NamedTuple

from daskmr.job.declared import FUNCTIONS
from daskmr.job.params.calls import syntax_tree
from daskmr.job.porting_errors import BY_KEY, BY_TRANSLATION, CODECS, METHODS, MODULES, NAMES
from daskmr.job.sources import name_of
from daskmr.job.tracebacks import elide

__all__ = ["Finding", "find_python2"]


class Finding(NamedTuple):
    """A place in a script whose meaning differs in Python 3, or that fails there."""

    line: int
    text: str  # what happens, and what to write


# Templates of code, and advice. `_` matches any expression, a name in capitals any expression that the
# method of `_Module` with that name accepts, and `...` any further arguments. Extra keyword arguments
# are ignored. In advice, `{0}` is the code that matched the name in capitals.
_RULES = {
    "LAZY.sort": "`{0}`{made} is not a list in Python 3: write `sorted(...)`",
    "LAZY.append | LAZY.extend | LAZY.reverse | LAZY.pop | LAZY[_] | LAZY + _ | _ + LAZY | "
    "len(ITERATOR)": "`{0}`{made} is not a list in Python 3: write `list(...)` around it",
    "not ITERATOR | if ITERATOR: ... | while ITERATOR: ... | _ if ITERATOR else _": (
        "`{0}`{made} is always true in Python 3: write `list(...)`"
    ),
    "USED_AGAIN": "`{0}`{made} is empty after its first use in Python 3: write `list(...)`",
    "_.write(SHOWN, _) | _.write(_, SHOWN) | _.writeline(SHOWN) | str(SHOWN) | _ % SHOWN": (
        "`{0}`{made} does not contain a list in Python 3, and prints differently: write `list(...)`"
    ),
    "sorted(_, _, ...) | sorted(..., cmp=_) | _.sort(..., cmp=_) | _.sort(FUNCTION, ...)": (
        f"sorting takes no function of two values in Python 3: {BY_KEY}"
    ),
    "_.translate(_, _)": f"`translate(None, letters)` fails in Python 3: {BY_TRANSLATION}",
    "_.encode(CODEC, ...)": "`text.encode({0})` fails in Python 3: write "
    "`codecs.encode(text.encode(), {0}).decode()`",
    "_.decode(CODEC, ...)": "`text.decode({0})` fails in Python 3: write "
    "`codecs.decode(text.encode(), {0}).decode()`",
    "print >> _": "`print >>f, ...` fails in Python 3: write `print(..., file=f)`",
    "print;": "`print` alone prints nothing in Python 3: write `print()`",
    "SALTED(_)": "`hash()` of text differs from process to process: write `zlib.crc32(text.encode())`",
    "CAUGHT.message": "`{0}.message` is gone in Python 3: write `str({0})`",
    "HIDING": "catching everything also hides errors that are not the record's fault: a name that "
    "Python 3 does not have, or lack of memory. Name the exception, as in `except ValueError:`",
    "_.write(ENCODED, _) | _.write(_, ENCODED) | _.writeline(ENCODED) | _.writecsv(ENCODED) | "
    "_.write_each(ENCODED, _) | _.write_each(_, ENCODED)": (
        "`.encode(...)` makes bytes, which are written as \"b'...'\": leave it out, all text is "
        "written as UTF-8"
    ),
}
_OF_SCRIPT = {
    "TEXT.decode(...)": "`{0}` is text, which is already decoded: leave `.decode(...)` out",
    "SHADOWED(...)": "`{0}` is the job's own function here: write a comprehension for `map(...)`, and "
    "`functools.reduce(...)`",
    "type(VALUES_SEEN)": "`{0}` has another type if a key has too many values for memory: write "
    "`isinstance({0}, list)`",
}
_ORDERINGS = " | ".join([
    *(f"NULLABLE {sign} _ | _ {sign} NULLABLE" for sign in ("<", "<=", ">", ">=")),
    *(f"{name}(NULLABLE, _, ...) | {name}(_, NULLABLE, ...)" for name in ("min", "max")),
    *(f"{name}(NULLABLE for _ in _)" for name in ("sorted", "min", "max")),
])  # fmt: skip
_AMBIGUOUS = {
    "INTEGER / INTEGER | INTEGER /= INTEGER": (
        "`/` between integers gives a float; in Python 2 it rounded down, as `//` does"
    ),
    _ORDERINGS: "Python 3 does not order None and other values: give it a default, as in "
    "`get(name, 0)`, or a `key`",
    "SIGNED(...)": "`{0}` could be negative in Python 2, and never is in Python 3",
    "random.seed(...)": "with the same seed, Python 3 chooses differently: only `random.random()` "
    "gives the same",
    "round(_)": "`round` gives an integer in Python 3 (`3`, not `3.0`), and rounds a half to the "
    "even side",
}


def find_python2(tree: ast.Module, *, is_script: bool = True) -> list[Finding]:
    """Find code from Python 2 whose meaning differs, or that fails only when it is reached.

    Code that may also be intended in Python 3 (such as a division) is reported only in a script that
    uses nothing that Python 2 lacks.

    - `is_script`: whether this is the job's script, not a module that it imports.

    >>> text = "def reduce(key, values, context):\\n    context.write(key, sum(values) / len(values))"
    >>> [finding.line for finding in find_python2(ast.parse(text))]
    [2]
    >>> find_python2(ast.parse("from daskmr import pluck\\n" + text))
    []
    """
    module = _Module(tree)
    tables = [_RULES]
    if not any(map(module.is_new, module.nodes)):
        tables.append(_AMBIGUOUS)
    if is_script:
        tables.append(_OF_SCRIPT)
    rules = [rule for table in tables for rule in _compiled(tuple(table.items()))]
    found = {*_gone(module), *(_written_before_parsing(module) if is_script else ())}
    for node in module.nodes:
        for kind, pattern, advice in rules:
            parts: list[Any] = []
            if isinstance(node, kind) and _matches(module, pattern, node, parts):
                made = module.origin(parts[0]) if parts else ""
                found.add(Finding(node.lineno, advice.format(*map(_shown, parts), made=made)))
    return sorted(found)


@cache
def _compiled(table: tuple[tuple[str, str], ...]) -> list[tuple[Any, ast.AST, str]]:
    """Parse templates, and return them with the type of their node; ``;`` marks a statement."""
    rules: list[tuple[Any, ast.AST, str]] = []
    for templates, advice in table:
        for template in templates.split(" | "):
            pattern: ast.AST = syntax_tree(template).body[0]
            if isinstance(pattern, ast.Expr) and template[-1] != ";":
                pattern = pattern.value
            rules.append((_ROOTS.get(template, type(pattern)), pattern, advice))
    return rules


def _shown(node: ast.AST) -> str:
    return elide(ast.unparse(node), 60, "...")


def _matches(module: _Module, pattern: Any, node: Any, parts: list[Any]) -> bool:
    """Match `node` with `pattern`, and collect in `parts` the matches of names in capitals."""
    if isinstance(pattern, ast.Name):
        if pattern.id.isupper():
            parts.append(node)
            return bool(getattr(module, pattern.id.lower())(node))
        return pattern.id == "_" or module.is_name(node, pattern.id)
    if isinstance(pattern, list):
        fixed = [each for each in pattern if getattr(each, "value", None) is not ...]
        enough = len(node) == len(fixed) or len(node) > len(fixed) < len(pattern)
        pairs = zip(fixed, node, strict=False)
        return enough and all(_matches(module, *pair, parts) for pair in pairs)
    if not isinstance(pattern, ast.AST) or type(pattern) is not type(node):
        return bool(pattern == node)
    for field, part in ast.iter_fields(pattern):
        value = getattr(node, field)
        if field == "keywords":
            if not all(any(_matches(module, k, each, parts) for each in value) for k in part):
                return False
        elif field not in _IGNORED and not _matches(module, part, value, parts):
            return False
    return True


class _Module:
    """A syntax tree; its methods of one node are the predicates that templates name in capitals."""

    def __init__(self, tree: ast.Module) -> None:
        self.nodes: list[Any] = list(ast.walk(tree))
        self.parents: dict[Any, Any] = {}
        self.inside: dict[Any, ast.FunctionDef | None] = {tree: None}  # the function around a node
        functions = [each for each in tree.body if isinstance(each, ast.FunctionDef)]
        self.hooks = {each.name: each for each in functions if each.name in FUNCTIONS}
        self.bound: set[str] = set()  # names that the module defines itself
        self.imported: dict[str, str] = {}  # imported modules by their local names
        # By function and name: the values assigned to a variable (``None``: set otherwise), its uses.
        self.stores: defaultdict[Any, list[ast.expr | None]] = defaultdict(list)
        self.loads: defaultdict[Any, list[ast.Name]] = defaultdict(list)
        for node in self.nodes:
            inside = node if isinstance(node, ast.FunctionDef) else self.inside[node]
            for child in ast.iter_child_nodes(node):
                self.parents[child], self.inside[child] = node, inside
            self._note_names(node)
        returns = [node for node in self.nodes if isinstance(node, ast.Return)]
        encoders = [self.inside[each] for each in returns if _has_encoded(each.value, set())]
        self.encoders = {each.name for each in encoders if each}  # functions that return bytes

    def _note_names(self, node: Any) -> None:
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
            self.loads[self.inside[node], node.id].append(node)
        elif isinstance(node, ast.Name):
            value = getattr(self.parents[node], "value", None)
            is_assigned = isinstance(self.parents[node], ast.Assign)
            self.stores[self.inside[node], node.id].append(value if is_assigned else None)
            self.bound.add(node.id)
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self.bound.add(node.name)
        elif isinstance(node, ast.arg):
            self.bound.add(node.arg)
        elif isinstance(node, ast.alias):
            # A star may import any of them; assuming so is harmless if it does not.
            name = node.asname or node.name
            self.bound.update(NAMES if name == "*" else [name.split(".")[0]])
            if isinstance(self.parents[node], ast.Import):
                self.imported[name] = node.name

    def is_name(self, node: Any, *names: str) -> bool:
        """Check whether `node` is one of `names`, and not redefined if that is a builtin's name."""
        if not isinstance(node, ast.Name) or node.id not in names:
            return False
        return node.id not in self.bound or not (hasattr(builtins, node.id) or node.id in NAMES)

    def is_new(self, node: Any) -> bool:
        """Check whether Python 2 lacks this syntax, so that the script is meant for Python 3."""
        if isinstance(node, ast.alias):
            name = f"{getattr(self.parents[node], 'module', None) or ''}.{node.name}".lstrip(".")
            return name == "__future__.division" or name.split(".")[0] in _PYTHON3_MODULES
        if isinstance(node, ast.Starred):
            return isinstance(self.parents[node], ast.List | ast.Tuple)
        if isinstance(node, ast.Call):
            return getattr(node.func, "id", "") == "super" and not node.args
        return isinstance(node, _NEW) or any(getattr(node, field, None) for field in _NEW_FIELDS)

    def around(self, node: Any) -> list[Any]:
        """Return a node and its ancestors."""
        found = [node]
        while node := self.parents.get(node):
            found.append(node)
        return found

    def values(self, node: Any) -> list[Any]:
        """Return the values assigned to the variable `node`; `node` itself if it is not a variable."""
        is_name = isinstance(node, ast.Name)
        return self.stores.get((self.inside[node], node.id), []) if is_name else [node]

    def parameter(self, node: Any, *hooks: str) -> int:
        """Return the index of `node` in the parameters of the function of `hooks` that it is in, or -1."""
        hook = self.inside[node]
        is_in = hook and hook in [self.hooks.get(name) for name in hooks]
        names = [each.arg for each in hook.args.args] if hook and is_in else []
        return names.index(node.id) if getattr(node, "id", "") in names else -1

    def maker(self, node: Any) -> str:
        """Return the name of the function that made `node`, and returned a list in Python 2, or ""."""
        values = self.values(node)
        call = values[0] if len(values) == 1 else None
        if not isinstance(call, ast.Call):
            return ""
        is_view = not isinstance(call.func, ast.Name) and name_of(call) in _VIEWS and not call.args
        is_maker = is_view or self.is_name(call.func, *_ITERATORS, "range")
        return name_of(call) if is_maker else ""

    def origin(self, node: Any) -> str:
        """Describe the call that made a variable, which was a list in Python 2."""
        is_made = isinstance(node, ast.Name) and self.maker(node)
        return f" (made by `{_shown(self.values(node)[0])}`)" if is_made else ""

    lazy = maker

    def iterator(self, node: Any) -> bool:
        return self.maker(node) in _ITERATORS

    def used_again(self, node: ast.Name) -> bool:
        return self.iterator(node) and node in self.loads[self.inside[node], node.id][1:2]

    def shown(self, node: Any) -> bool:
        return any(map(self.maker, node.elts if isinstance(node, ast.Tuple) else [node]))

    def function(self, node: Any) -> bool:
        return isinstance(node, ast.Lambda)

    def codec(self, node: Any) -> bool:
        """Check whether `node` is the name of a codec that is not a text encoding."""
        return isinstance(node, ast.Constant) and str(node.value).lower() in CODECS

    def salted(self, node: Any) -> bool:
        inside = self.inside[node]
        return self.is_name(node, "hash") and (inside is None or inside.name != "__hash__")

    def caught(self, node: Any) -> bool:
        handlers = [each for each in self.around(node) if isinstance(each, ast.ExceptHandler)]
        return isinstance(node, ast.Name) and node.id in [each.name for each in handlers]

    def hiding(self, node: ast.ExceptHandler) -> bool:
        of_all = node.type is None or (name_of(node.type) == "BaseException" and not node.name)
        return of_all and not any(isinstance(each, ast.Raise) for each in ast.walk(node))

    def encoded(self, node: Any) -> bool:
        inside, reduce = self.inside[node], self.hooks.get("reduce")
        attributes = [getattr(each, "attr", "") for each in ast.walk(reduce)] if reduce else []
        if "decode" in attributes and inside and inside is self.hooks.get("map"):
            return False  # `reduce` decodes the bytes that `map` writes
        variables = {
            name
            for (function, name), values in self.stores.items()
            if function is inside and all(_has_encoded(value, self.encoders) for value in values)
        }
        return _has_encoded(node, self.encoders | variables)

    def text(self, node: Any) -> bool:
        """Check whether `node` is the key or value of `map`, and its ``decode`` has no codec."""
        is_text = self.parameter(node, "map") in (0, 2)
        return is_text and not any(map(self.codec, self.parents[self.parents[node]].args))

    def shadowed(self, node: Any) -> bool:
        """Check whether `node` calls the job's `map` or `reduce`, but means the builtin."""
        name, given = getattr(node, "id", ""), self.parents[node].args
        if name not in ("map", "reduce") or name not in self.hooks or not given:
            return False
        too_few = len(given) < len(self.hooks[name].args.args)
        return too_few or isinstance(given[0], ast.Lambda | ast.Attribute)

    def values_seen(self, node: Any) -> bool:
        """Check whether `node` is the values of `reduce` or `combine`, and their type is compared."""
        is_compared = isinstance(self.parents[self.parents[node]], ast.Compare)
        return is_compared and self.parameter(node, "reduce", "combine") == 1

    def integer(self, node: Any) -> bool:
        """Check whether an operand may be an integer, in a division that is not within ``int()``."""
        around = self.parents[self.parents[node]]
        return not (self.is_name(getattr(around, "func", None), "int") or self._is_float(node))

    def _is_float(self, node: Any, *, follow: bool = True) -> bool:
        """Check whether a number is certainly a float, or not a number at all."""
        if isinstance(node, ast.Name):
            return follow and any(self._is_float(v, follow=False) for v in self.values(node))
        if isinstance(node, ast.BinOp | ast.UnaryOp):
            return any(self._is_float(each, follow=follow) for each in ast.iter_child_nodes(node))
        if isinstance(node, ast.Constant):
            return not isinstance(node.value, int)
        is_float = isinstance(node, ast.Call) and name_of(node) in _FLOATS
        return is_float or isinstance(node, ast.JoinedStr)

    def nullable(self, node: Any) -> bool:
        """Check for ``d.get(name)``, except where None may be tested (in ``and``, ``or``, ``if``)."""
        if not isinstance(node, ast.Call) or len(node.args) != 1 or node.keywords:
            return False
        is_get = getattr(node.func, "attr", "") == "get"
        while is_get and not isinstance(parent := self.parents.get(node), ast.FunctionDef | None):
            has_key = any(each.arg == "key" for each in getattr(parent, "keywords", ()))
            is_branch = isinstance(parent, ast.If | ast.IfExp) and node is not parent.test
            is_get = not (has_key or is_branch or isinstance(parent, ast.BoolOp))
            node = parent
        return is_get

    def signed(self, node: Any) -> bool:
        of, around = name_of(getattr(node, "value", None)), self.parents[self.parents[node]]
        is_checksum = name_of(node) in ("crc32", "adler32") and of in ("zlib", "binascii")
        return is_checksum and not isinstance(getattr(around, "op", None), ast.BitAnd)


_IGNORED = ("body", "orelse", "ctx", "generators")  # fields that templates do not compare
_ROOTS = {"USED_AGAIN": ast.Name, "HIDING": ast.ExceptHandler}
_PYTHON3_MODULES = ("asyncio", "concurrent", "daskmr", "dataclasses", "enum", "pathlib", "typing")
_NEW = (
    ast.AnnAssign, ast.AsyncFunctionDef, ast.Await, ast.JoinedStr, ast.Match, ast.NamedExpr,
    ast.Nonlocal, ast.YieldFrom,
)  # fmt: skip
_NEW_FIELDS = ("returns", "annotation", "cause", "kwonlyargs", "posonlyargs")
_VIEWS = ("keys", "values", "items")
_ITERATORS = ("filter", "map", "zip")
_FLOATS = ("float", "Decimal", "Fraction", "time", "total_seconds", "sqrt", "log", "exp")
_TEXT_PARTS = (
    ast.BinOp, ast.Tuple, ast.List, ast.JoinedStr, ast.FormattedValue, ast.IfExp, ast.BoolOp,
)  # fmt: skip


def _called(node: Any) -> str:
    """Return the plain name of the function that a call calls; "" for a method."""
    return str(getattr(getattr(node, "func", None), "id", ""))


def _has_encoded(node: Any, names: set[str]) -> bool:
    """Check whether the text of `node` includes bytes, such as a variable or call of `names`."""
    parts: Iterable[ast.AST] = ()
    if isinstance(node, ast.Name):
        return node.id in names
    if isinstance(node, ast.Call):
        codecs = {getattr(each, "value", None) for each in node.args}
        if _called(node) in names or (name_of(node) == "encode" and codecs.isdisjoint(CODECS)):
            return True
        parts = node.args if name_of(node) in ("str", "format") else ()
    elif isinstance(node, _TEXT_PARTS):
        parts = ast.iter_child_nodes(node)
    return any(_has_encoded(part, names) for part in parts)


def _gone(module: _Module) -> Iterator[Finding]:
    """Find names, attributes and imports that do not exist in Python 3."""
    for node in module.nodes:
        names, table = [], MODULES
        if isinstance(node, ast.Name):
            names, table = [node.id] * module.is_name(node, *NAMES), NAMES
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Attribute) and node.attr not in module.bound:
            of = module.imported.get(getattr(node.value, "id", ""))
            names, table = ([f"{of}.{node.attr}"], MODULES) if of else ([node.attr], METHODS)
        for name in names:
            if name in table:
                yield Finding(node.lineno, f"`{name}` is gone in Python 3: write {table[name]}")


# --- counting before parsing --------------------------------------------------------------------

_LEAVING = (ast.Return, ast.Raise, ast.Continue, ast.Break)
_WRITERS = ("writeline", "writecsv", "write_each", "counter")


def _written_before_parsing(module: _Module) -> list[Finding]:
    """Find writes and counts of `map` before a line that may reject the record as bad."""
    defined = [node for node in module.nodes if isinstance(node, ast.FunctionDef)]
    functions = [each for each in defined if each.name not in FUNCTIONS]
    careless = [each for each in functions if not any(map(_catches_bad_records, ast.walk(each)))]
    plucked = {name for (_, name), made in module.stores.items() if "pluck" in map(name_of, made)}
    parsers = _callers(careless, plucked, _parses)
    writers = _callers(functions, set(), _writes)
    nodes = ast.walk(module.hooks["map"]) if "map" in module.hooks else ()
    calls = [node for node in nodes if isinstance(node, ast.Call)]
    calls.sort(key=lambda call: (call.lineno, call.col_offset))
    writes = [call for call in calls if _writes(call) or _called(call) in writers]
    lines: dict[int, int] = {}  # the line that parses, by the line that writes
    for parse in [call for call in calls if _parses(call) or _called(call) in parsers]:
        before = [write.lineno for write in writes if _is_before(module, write, parse)]
        lines.setdefault(min(before, default=0), parse.lineno)
    advice = (
        "this output does not count when line {} raises a ValueError: for a bad record, everything that "
        "its call of map wrote and counted is undone, but formerly it was kept"
    )
    return [Finding(write, advice.format(parse)) for write, parse in lines.items() if write]


def _is_before(module: _Module, write: ast.Call, parse: ast.Call) -> bool:
    """Check whether `parse` may run after `write` and end the call of `map`."""
    of_parse, of_write = {*module.around(parse)}, {*module.around(write)}
    if write in of_parse or (write.lineno, write.col_offset) > (parse.lineno, parse.col_offset):
        return False
    for node in of_parse | of_write:
        for block in (getattr(node, name, None) for name in ("body", "orelse")):
            if not isinstance(block, list):  # the body of a lambda or a conditional expression
                continue
            has_parse, has_write = not of_parse.isdisjoint(block), not of_write.isdisjoint(block)
            handlers = getattr(node, "handlers", ())
            if has_parse and any(map(_catches_bad_records, handlers)):
                return False
            if has_parse and not has_write and isinstance(node, ast.If) and node in of_write:
                return False  # only one of two branches runs
            if has_write and not has_parse and any(isinstance(each, _LEAVING) for each in block):
                return False
    return True


def _callers(
    functions: list[ast.FunctionDef], known: set[str], does: Callable[[ast.Call], bool]
) -> set[str]:
    """Return `known` and the names of `functions` with a call that `does` it, even indirectly."""
    found = set(known)
    while more := {
        each.name
        for each in functions
        for call in ast.walk(each)
        if each.name not in found and isinstance(call, ast.Call)
        if does(call) or _called(call) in found
    }:
        found |= more
    return found


def _parses(call: ast.Call) -> bool:
    if name_of(call) in ("int", "float"):
        return len(call.args) == 1 and isinstance(call.args[0], ast.Name | ast.Subscript)
    return name_of(call) in ("loads", "literal_eval", "strptime")


def _writes(call: ast.Call) -> bool:
    """Check whether a call writes to a context, or counts; a file's ``write`` has one argument."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    return name in _WRITERS or (name == "write" and len(call.args) == 2)


def _catches_bad_records(node: ast.AST) -> bool:
    if not isinstance(node, ast.ExceptHandler):
        return False
    names = set(map(name_of, ast.walk(node.type))) if node.type else {"BaseException"}
    return not names.isdisjoint(("ValueError", "Exception", "BaseException", "JSONDecodeError"))
