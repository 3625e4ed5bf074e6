"""The written style as functions over syntax trees: each takes a tree and returns findings as text, one per line."""

import ast
import re
from collections.abc import Iterable, Iterator

Function = ast.FunctionDef | ast.AsyncFunctionDef

IMPURE_CALLS = frozenset({"open", "print", "input", "eval", "exec", "compile", "__import__", "breakpoint", "hash"})
"""Built-in functions that do I/O, run text as code, or answer differently in every process."""

FORBIDDEN_WORDS = frozenset({"worker", "workers", "job", "jobs", "pod", "pods", "util", "utils", "helper", "helpers"})
MANAGERS = frozenset({"session", "executor", "resource"})
"""What may stand before `manager`, the only uses of that word."""

_ORDER_KEPT = frozenset({"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "reversed", "deque", "dict"})
_SET_NAMES = frozenset({"set", "frozenset", "Set", "FrozenSet", "AbstractSet", "MutableSet"})
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference"})
_DICT_NAMES = frozenset({"dict", "Mapping", "MutableMapping", "defaultdict", "Dict"})


def impure_calls(tree: ast.AST) -> Iterator[str]:
    """Calls of built-in functions that pure code must not make."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"{node.lineno}: calls {node.func.id}()"


def float_equality(tree: ast.AST) -> Iterator[str]:
    """`==` and `!=` between floating-point numbers."""
    for node in ast.walk(tree):
        match node:
            case ast.Compare(left=left, ops=ops, comparators=rest):
                equality = any(isinstance(op, ast.Eq | ast.NotEq) for op in ops)
                if equality and any(_is_float(side) for side in (left, *rest)):
                    yield f"{node.lineno}: compares floating-point numbers for equality"


def _is_float(node: ast.expr) -> bool:
    match node:
        case ast.Constant(value=float()):
            return True
        case ast.BinOp(op=ast.Div()) | ast.Call(func=ast.Name(id="float")):
            return True
        case ast.UnaryOp(operand=operand):
            return _is_float(operand)
    return False


# --- iteration over sets ---------------------------------------------------------------------------------------------


def set_attributes(trees: Iterable[ast.AST]) -> tuple[frozenset[str], frozenset[str]]:
    """Names of attributes that hold sets, and of those that hold dicts of sets, over all `trees`."""
    sets: set[str] = set()
    dicts: set[str] = set()
    for tree in trees:
        for node in ast.walk(tree):
            match node:
                case ast.AnnAssign(target=ast.Attribute(attr=name) | ast.Name(id=name), annotation=annotation):
                    _record(name, annotation, sets, dicts)
                case ast.Assign(targets=[ast.Attribute(attr=name)], value=ast.Call(func=ast.Name(id=kind))):
                    if kind in _SET_NAMES:
                        sets.add(name)
    return frozenset(sets), frozenset(dicts)


def iterated_sets(
    tree: ast.AST, attributes: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
) -> Iterator[str]:
    """Places where the order of a set decides something: loops, comprehensions, `list()`, `*`, `pop()`.

    Strings hash differently in every process, so the same run would take another course. `sorted`, `min`, `len`, `in`
    and set comprehensions are fine.
    """
    scopes: list[ast.AST] = [tree, *(node for node in ast.walk(tree) if isinstance(node, Function))]
    seen: set[tuple[int, int]] = set()
    for scope in scopes:
        names = _Names(scope, attributes)
        for node in ast.walk(scope):
            for place in _ordered_uses(node):
                if names.is_set(place) and (place.lineno, place.col_offset) not in seen:
                    seen.add((place.lineno, place.col_offset))
                    yield f"{place.lineno}: the order of the set {ast.unparse(place)!r} is used"


class _Names:
    """Which names in a function (or module) hold sets, by annotation or assignment."""

    def __init__(self, scope: ast.AST, attributes: tuple[frozenset[str], frozenset[str]]) -> None:
        self._attributes, self._dict_attributes = attributes
        self._sets: set[str] = set()
        self._dicts: set[str] = set()
        for node in ast.walk(scope):
            match node:
                case ast.arg(arg=name, annotation=annotation) if annotation is not None:
                    _record(name, annotation, self._sets, self._dicts)
                case ast.AnnAssign(target=ast.Name(id=name), annotation=annotation):
                    _record(name, annotation, self._sets, self._dicts)
                case ast.Assign(targets=[ast.Name(id=name)], value=value) if self.is_set(value):
                    self._sets.add(name)
                case ast.NamedExpr(target=ast.Name(id=name), value=value) if self.is_set(value):
                    self._sets.add(name)

    def is_set(self, node: ast.expr) -> bool:
        """Whether an expression is known to be a set."""
        match node:
            case ast.Set() | ast.SetComp():
                return True
            case ast.Name(id=name):
                return name in self._sets
            case ast.Attribute(attr=name):
                return name in self._attributes
            case ast.Call(func=ast.Name(id=name)):
                return name in ("set", "frozenset")
            case ast.Call(func=ast.Attribute(value=owner, attr=method)):
                if method in ("get", "pop", "setdefault"):
                    return self._is_dict_of_sets(owner)
                return (method in _SET_METHODS or method == "copy") and self.is_set(owner)
            case ast.Subscript(value=owner):
                return self._is_dict_of_sets(owner)
            case ast.BinOp(left=left, op=ast.BitOr() | ast.BitAnd() | ast.Sub() | ast.BitXor(), right=right):
                return any(self.is_set(side) or _is_keys(side) for side in (left, right))
            case ast.IfExp(body=left, orelse=right) | ast.BoolOp(values=[left, right]):
                return self.is_set(left) or self.is_set(right)
        return False

    def _is_dict_of_sets(self, node: ast.expr) -> bool:
        match node:
            case ast.Name(id=name):
                return name in self._dicts
            case ast.Attribute(attr=name):
                return name in self._dict_attributes
        return False


def _ordered_uses(node: ast.AST) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=value) | ast.AsyncFor(iter=value) | ast.Starred(value=value) | ast.YieldFrom(value=value):
            yield value
        case ast.ListComp(generators=generators) | ast.DictComp(generators=generators):
            yield from (generator.iter for generator in generators)
        case ast.Call(func=ast.Name(id=name), args=args) if name in _ORDER_KEPT:
            yield from args
        case ast.Call(func=ast.Name(id=name), args=[ast.GeneratorExp(generators=generators), *_]) if name == "next":
            yield from (generator.iter for generator in generators)
        case ast.Call(func=ast.Attribute(attr="join" | "extend" | "fromkeys"), args=args):
            yield from args
        case ast.Call(func=ast.Attribute(value=owner, attr="pop"), args=[]):
            yield owner


def _is_keys(node: ast.expr) -> bool:
    match node:
        case ast.Call(func=ast.Attribute(attr="keys" | "items")):
            return True
    return False


def _record(name: str, annotation: ast.expr, sets: set[str], dicts: set[str]) -> None:
    match annotation:
        case ast.BinOp(left=left, op=ast.BitOr(), right=right):
            _record(name, left, sets, dicts)
            _record(name, right, sets, dicts)
        case ast.Name(id=kind) if kind in _SET_NAMES:
            sets.add(name)
        case ast.Subscript(value=ast.Name(id=kind)) if kind in _SET_NAMES:
            sets.add(name)
        case ast.Subscript(value=ast.Name(id=kind), slice=ast.Tuple(elts=[_, value])) if kind in _DICT_NAMES:
            inner: set[str] = set()
            _record(name, value, inner, dicts)
            dicts.update(inner)


# --- size, words, docs, sleeping --------------------------------------------------------------------------------------


def long_functions(tree: ast.AST, most_lines: int) -> Iterator[str]:
    """Functions of more than `most_lines` lines, docstring not counted."""
    for node in ast.walk(tree):
        if isinstance(node, Function):
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            first = node.body[0]
            if ast.get_docstring(node) is not None:
                lines -= (first.end_lineno or first.lineno) - first.lineno + 1
            if lines > most_lines:
                yield f"{node.lineno}: {node.name} has {lines} lines"


def forbidden_words(tree: ast.AST) -> Iterator[str]:
    """Names that the code defines with a word that is not one of Flame's."""
    for node in ast.walk(tree):
        for name in _defined(node):
            words = words_of(name)
            for before, word in zip(["", *words], words, strict=False):
                if word in FORBIDDEN_WORDS or (word in ("manager", "managers") and before not in MANAGERS):
                    yield f"{getattr(node, 'lineno', 0)}: the name {name!r} uses the word {word!r}"


def _defined(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name) | ast.ClassDef(name=name):
            yield name
        case ast.arg(arg=name) | ast.Name(id=name, ctx=ast.Store()) | ast.Attribute(attr=name, ctx=ast.Store()):
            yield name
        case ast.alias(asname=str() as name):
            yield name


def words_of(name: str) -> list[str]:
    """The words of a name in snake_case, CamelCase or both.

    Example:
        >>> words_of("_SessionManager_id")
        ['session', 'manager', 'id']
    """
    return [word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+", name)]


def missing_docstrings(tree: ast.Module, *, methods: bool) -> Iterator[str]:
    """Public classes and functions (and with `methods` public methods of public classes) without a docstring."""
    if ast.get_docstring(tree) is None:
        yield "1: the module has no docstring"
    for node in tree.body:
        if not isinstance(node, Function | ast.ClassDef) or node.name.startswith("_"):
            continue
        if ast.get_docstring(node) is None:
            yield f"{node.lineno}: {node.name} has no docstring"
        if methods and isinstance(node, ast.ClassDef):
            for child in node.body:
                public = isinstance(child, Function) and not child.name.startswith("_") and not _is_overload(child)
                if isinstance(child, Function) and public and ast.get_docstring(child) is None:
                    yield f"{child.lineno}: {node.name}.{child.name} has no docstring"


def _is_overload(function: Function) -> bool:
    return any(ast.unparse(decorator).endswith("overload") for decorator in function.decorator_list)


def fixed_sleeps(tree: ast.AST) -> Iterator[str]:
    """Sleeps of a test that wait for nothing: outside any loop, and not in a slow stand-in."""
    yield from _sleeps(tree, inside=False)


def _sleeps(node: ast.AST, inside: bool) -> Iterator[str]:
    match node:
        case ast.While() | ast.For() | ast.AsyncFor():
            inside = True
        case ast.ClassDef(bases=[_, *_]):  # a stand-in for something slow: a service, a store
            inside = True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="time" | "asyncio"), attr="sleep"), args=[value]):
            if not inside and not (isinstance(value, ast.Constant) and value.value == 0):
                yield f"{node.lineno}: sleeps for a fixed time; wait for a condition"
    for child in ast.iter_child_nodes(node):
        yield from _sleeps(child, inside)
