"""Mutants of a source file: every small change of what it computes, by ast."""

from __future__ import annotations

import ast
import difflib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Div,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.MatMult: ast.Mult,
}
COMPARE: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.Lt: (ast.LtE, ast.GtE),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.LtE),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
}
# Calls whose first two arguments may change places: sets of types, patterns of operators that commute.
SYMMETRIC = frozenset(
    {"ops", "max", "min", "op.Add", "op.Mul", "np.array_equal", "np.maximum", "np.minimum", "kept_axes", "_close"}
    | {"_product"}
)


@dataclass
class Mutant:
    """One change of one file: where, what it says, and how to make and undo it in the tree."""

    path: str
    line: int
    function: str
    before: str
    after: str
    apply: Callable[[], Callable[[], None]]

    @property
    def change(self) -> str:
        """The change in words."""
        return f"{self.before}  ->  {self.after}"

    @property
    def key(self) -> str:
        """What stays the same when lines move: the file, the function and the change."""
        return f"{self.path} | {self.function} | {self.change}"


class File:
    """A parsed file and its mutants; ``code`` compiles it with one of them applied."""

    def __init__(self, path: str, text: str) -> None:
        self.path, self.tree = path, ast.parse(text)
        self.parents = {c: p for p in ast.walk(self.tree) for c in ast.iter_child_nodes(p)}
        self.mutants = list(self._all())

    def code(self, mutant: Mutant, filename: str) -> object:
        """Return the code object of the file with a mutant in it."""
        undo = mutant.apply()
        try:
            return compile(ast.fix_missing_locations(self.tree), filename, "exec", dont_inherit=True)
        finally:
            undo()

    def diff(self, mutant: Mutant) -> str:
        """Return what a mutant changes, as a diff of the file without its comments."""
        before = ast.unparse(self.tree).splitlines()
        undo = mutant.apply()
        after = ast.unparse(ast.fix_missing_locations(self.tree)).splitlines()
        undo()
        lines = list(difflib.unified_diff(before, after, n=1, lineterm=""))[2:]
        return "\n".join(line for line in lines if not line.startswith("@@"))

    def _all(self) -> Iterator[Mutant]:
        for node in ast.walk(self.tree):
            if not self._computes(node):
                continue
            for kind, rule in RULES:
                if isinstance(node, kind):
                    for new in rule(node):
                        yield self._replacing(node, new)
            yield from self._inside(node)

    def _computes(self, node: ast.AST) -> bool:
        """Whether a node is evaluated for what it computes: no annotation, message, docstring, assertion or import.

        ``strict`` of zip is an assertion.
        """
        if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert | ast.alias | ast.Raise):
            return False
        child = node
        while (parent := self.parents.get(child)) is not None:
            if isinstance(parent, ast.Assert | ast.Raise | ast.JoinedStr | ast.Import | ast.ImportFrom):
                return False
            if isinstance(parent, ast.keyword) and parent.arg == "strict":
                return False
            if isinstance(parent, ast.AnnAssign | ast.arg) and parent.annotation is child:
                return False
            if isinstance(parent, ast.FunctionDef) and (parent.returns is child or child in parent.decorator_list):
                return False
            if isinstance(parent, ast.ClassDef) and child in (*parent.decorator_list, *parent.bases):
                return False
            if isinstance(parent, ast.Call) and _name(parent.func) in ("cast", "TypeVar", "isinstance"):
                return False
            child = parent
        return not _is_alias(node, self.parents)

    def _inside(self, node: ast.AST) -> Iterator[Mutant]:
        """Changes of lists in a node: a statement, an operand, an element or an argument that goes."""
        if isinstance(node, ast.BoolOp):
            for i in (i for i, v in enumerate(node.values) if ast.unparse(v) != "()"):
                yield self._without(node, node.values, i)
        if isinstance(node, ast.Set | ast.List | ast.Tuple) and isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            for i in range(len(node.elts) if len(node.elts) > 1 and not _unpacked(node, self.parents) else 0):
                yield self._without(node, node.elts, i)
        if isinstance(node, ast.Call):
            for i in (i for i, k in enumerate(node.keywords) if k.arg != "strict"):
                yield self._without(node, node.keywords, i)
            starred = any(isinstance(a, ast.Starred) for a in node.args[:2])
            if len(node.args) > 1 and not starred and ast.unparse(node.func) not in SYMMETRIC:
                yield self._swapped(node)
        if isinstance(node, ast.Dict) and len(node.keys) > 1:
            for i in range(len(node.keys)):
                yield self._without(node, node.keys, i, node.values)
        for block in (getattr(node, name, None) for name in ("body", "orelse")):
            if isinstance(block, list) and not isinstance(node, ast.Module | ast.ClassDef | ast.Lambda):
                for i, statement in enumerate(block):
                    if self._goes(statement):
                        yield self._replacing(statement, ast.Pass(), block, i)

    def _goes(self, s: ast.stmt) -> bool:
        """Whether leaving out a statement is a mutant of its own: a guard, an effect, a jump."""
        if isinstance(s, ast.If):
            return not s.orelse
        if isinstance(s, ast.Expr):
            return not isinstance(s.value, ast.Constant)
        if isinstance(s, ast.Assign):
            return not all(isinstance(t, ast.Name | ast.Tuple) for t in s.targets)
        return isinstance(s, ast.AugAssign | ast.Continue | ast.Break | ast.Delete)

    def _replacing(
        self, node: ast.AST, new: ast.AST, block: list[ast.stmt] | None = None, index: int | None = None
    ) -> Mutant:
        parent = self.parents[node]
        field, index = (None, index) if block is not None else _slot(parent, node)

        def apply() -> Callable[[], None]:
            holder = block if block is not None else getattr(parent, field) if index is not None else None
            ast.copy_location(new, node)
            if holder is not None:
                holder[index] = new
                return lambda: holder.__setitem__(index, node)
            setattr(parent, field, new)
            return lambda: setattr(parent, field, node)

        return self._mutant(node, _shown(node), _shown(new), apply)

    def _without(self, node: ast.AST, items: list[ast.AST], i: int, beside: list[ast.AST] | None = None) -> Mutant:
        lists = [items] if beside is None else [items, beside]

        def apply() -> Callable[[], None]:
            kept = [rows.pop(i) for rows in lists]
            lone = isinstance(node, ast.BoolOp) and len(node.values) == 1
            if lone:
                node.values.append(ast.Constant(isinstance(node.op, ast.And)))

            def undo() -> None:
                if lone:
                    node.values.pop()
                for rows, item in zip(lists, kept, strict=True):
                    rows.insert(i, item)

            return undo

        gone = items[i] if items[i] is not None else lists[-1][i]
        return self._mutant(gone, _shown(node), f"without {_shown(gone)}", apply, node)

    def _swapped(self, node: ast.Call) -> Mutant:
        def apply() -> Callable[[], None]:
            def swap() -> None:
                node.args[0], node.args[1] = node.args[1], node.args[0]

            swap()
            return swap

        return self._mutant(node, _shown(node), "first two arguments swapped", apply)

    def _mutant(
        self,
        node: ast.AST,
        before: str,
        after: str,
        apply: Callable[[], Callable[[], None]],
        near: ast.AST | None = None,
    ) -> Mutant:
        line = (
            getattr(node, "lineno", 0) or getattr(near, "lineno", 0) or getattr(getattr(node, "target", 0), "lineno", 0)
        )
        function, at = "", near if near is not None and not hasattr(node, "lineno") else node
        while (at := self.parents.get(at)) is not None:
            if isinstance(at, ast.FunctionDef | ast.ClassDef):
                function = f"{at.name}.{function}" if function else at.name
        return Mutant(self.path, line, function, before, after, apply)


def _binary(n: ast.BinOp) -> Iterator[ast.AST]:
    if type(n.op) in BINARY:
        yield ast.BinOp(n.left, BINARY[type(n.op)](), n.right)


def _compare(n: ast.Compare) -> Iterator[ast.AST]:
    for i, op in enumerate(n.ops):
        for new in COMPARE.get(type(op), ()):
            yield ast.Compare(n.left, [*n.ops[:i], new(), *n.ops[i + 1 :]], n.comparators)


def _boolean(n: ast.BoolOp) -> Iterator[ast.AST]:
    yield ast.BoolOp(ast.Or() if isinstance(n.op, ast.And) else ast.And(), n.values)


def _unary(n: ast.UnaryOp) -> Iterator[ast.AST]:
    if isinstance(n.op, ast.Not | ast.USub):
        yield n.operand


def _constant(n: ast.Constant) -> Iterator[ast.AST]:
    if isinstance(n.value, bool):
        yield ast.Constant(not n.value)
    elif isinstance(n.value, int):
        yield ast.Constant(n.value + 1)
        if n.value == 1:
            yield ast.Constant(0)
    elif isinstance(n.value, float):
        yield ast.Constant(n.value * 2 + (n.value == 0))


def _branch(n: ast.If | ast.IfExp) -> Iterator[ast.AST]:
    turned = ast.UnaryOp(ast.Not(), n.test)
    yield ast.If(turned, n.body, n.orelse) if isinstance(n, ast.If) else ast.IfExp(turned, n.body, n.orelse)


def _comprehension(n: ast.comprehension) -> Iterator[ast.AST]:
    for i, test in enumerate(n.ifs):
        yield ast.comprehension(n.target, n.iter, [*n.ifs[:i], *n.ifs[i + 1 :]], n.is_async)
        yield ast.comprehension(n.target, n.iter, [*n.ifs[:i], ast.UnaryOp(ast.Not(), test), *n.ifs[i + 1 :]], 0)


def _return(n: ast.Return) -> Iterator[ast.AST]:
    if n.value is not None and not (isinstance(n.value, ast.Constant) and n.value.value in (None, True, False)):
        yield ast.Return(ast.Constant(None))


def _slice(n: ast.Slice) -> Iterator[ast.AST]:
    if n.lower is not None:
        yield ast.Slice(None, n.upper, n.step)
    if n.upper is not None:
        yield ast.Slice(n.lower, None, n.step)


RULES: tuple[tuple[type | tuple[type, ...], Callable[..., Iterator[ast.AST]]], ...] = (
    (ast.BinOp, _binary),
    (ast.Compare, _compare),
    (ast.BoolOp, _boolean),
    (ast.UnaryOp, _unary),
    (ast.Constant, _constant),
    ((ast.If, ast.IfExp), _branch),
    (ast.comprehension, _comprehension),
    (ast.Return, _return),
    (ast.Slice, _slice),
)


def _slot(parent: ast.AST, node: ast.AST) -> tuple[str, int | None]:
    for field, value in ast.iter_fields(parent):
        if value is node:
            return field, None
        if isinstance(value, list):
            for i, item in enumerate(value):
                if item is node:
                    return field, i
    raise AssertionError("a node is not in its parent")


def _shown(node: ast.AST) -> str:
    text = " ".join(ast.unparse(node).split()) if not isinstance(node, ast.Pass) else "(nothing)"
    return text if len(text) <= 110 else text[:107] + "..."


def _name(func: ast.expr) -> str:
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""


def _unpacked(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a tuple is an index, or is taken apart right away: without an element it only breaks."""
    parent = parents.get(node)
    return isinstance(parent, ast.Subscript) or (isinstance(parent, ast.Assign) and isinstance(node, ast.Tuple))


def _is_alias(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> bool:
    """Whether a node belongs to a type alias at the top of the file: ``Array = np.ndarray[Any, Any]``."""
    while not isinstance(parents.get(node), ast.Module | type(None)):
        node = parents[node]
    if not isinstance(node, ast.Assign):
        return False
    text = ast.unparse(node.value)
    return text.startswith(("np.ndarray[", "Callable[", "tuple[", "dict[", "Mapping[", "Sequence[")) or " | " in text
