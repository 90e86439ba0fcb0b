"""Equations of Einsum, and the matrix product that one with two operands is."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from string import ascii_letters

from fcc import ir

from ._axes import Factors, Layout, Size, layout_of
from ._rearrange import Rearrangement, rearrangement

_LETTERS = frozenset(ascii_letters)


@dataclass(frozen=True)
class Equation:
    """The labels of each operand and of the result, one letter per axis, and the size of each label."""

    operands: tuple[str, ...]
    result: str
    sizes: Mapping[str, Size]


def equation_of(text: str, shapes: Sequence[tuple[Size, ...]]) -> Equation | str:
    """Return an equation with its ellipses spelled out, or why it is none that a product computes."""
    terms, arrow, result = text.replace(" ", "").partition("->")
    operands = terms.split(",")
    if len(operands) != len(shapes):
        return "the equation does not fit the operands"
    spare = [c for c in ascii_letters[::-1] if c not in text]
    hidden = [len(s) - len(t.replace("...", "")) if "..." in t else 0 for t, s in zip(operands, shapes, strict=True)]
    widest = max(hidden)
    if min(hidden) < 0 or widest > len(spare):
        return "the equation does not fit the operands"
    dots = "".join(spare[:widest])
    full = tuple(t.replace("...", dots[widest - n :]) for t, n in zip(operands, hidden, strict=True))
    letters = "".join(full)
    if not arrow:
        result = dots + "".join(sorted(c for c in set(letters) - set(dots) if letters.count(c) == 1))
    result = result.replace("...", dots)
    if not set(letters + result) <= _LETTERS or not set(result) <= set(letters):
        return "the equation is malformed"
    if any(len(set(t)) < len(t) for t in (*full, result)):
        return "a label is repeated within an operand: a diagonal"
    sizes: dict[str, Size] = {}
    for labels, shape in zip(full, shapes, strict=True):
        if len(labels) != len(shape):
            return "the equation does not fit the operands"
        for label, size in zip(labels, shape, strict=True):
            if sizes.setdefault(label, size) != size:
                return f"axes of label {label} are not known to have one size"
    return Equation(full, result, sizes)


@dataclass(frozen=True)
class Term:
    """An operand: its value, its layout, the factors of each label that it has (labels of size 1 it has not)."""

    value: ir.Value
    layout: Layout
    factors: Mapping[str, Factors]

    def axis(self, labels: str) -> Factors:
        """Return the factors of an axis made of some labels."""
        return tuple(f for label in labels for f in self.factors.get(label, ()))


def term_of(value: ir.Value, labels: str, shape: tuple[Size, ...], without: str = "") -> Term:
    """Return an operand, after the sum over some labels."""
    layout = layout_of([1 if c in without else d for c, d in zip(labels, shape, strict=True)])
    return Term(value, layout, {c: a for c, a in zip(labels, layout.axes, strict=True) if a})


@dataclass(frozen=True)
class Product:
    """``left`` and ``right`` in the axes of a product (a MatMul, or elementwise), and its result as it is wanted."""

    kind: str
    left: Rearrangement
    right: Rearrangement
    result: Rearrangement

    @property
    def cost(self) -> tuple[int, int]:
        """The number of nodes that move elements, and of all nodes; weights of its own are turned before."""
        sides = [p.cost for p in (self.left, self.right) if not _is_own(p.source)]
        costs = (*sides, self.result.cost)
        return sum(c[0] for c in costs), sum(c[1] for c in costs)


def _is_own(value: ir.Value) -> bool:
    return ir.Module.is_constant(value) and ir.sole_user(value) is not None


def products(a: Term, b: Term, result: str, sizes: Mapping[str, Size]) -> Iterator[Product]:
    """Yield the products that are a result, operands and labels in every order that they have somewhere."""
    inner = [c for c in a.factors if c in b.factors and c not in result]
    if not inner:
        wanted = [[t.axis(c) for c in result] for t in (a, b)]
        sides = zip((a, b), wanted, reversed(wanted), strict=True)
        left, right = (rearrangement(t.value, t.layout, _beside(own, other)) for t, own, other in sides)
        if left is not None and right is not None:
            yield Product("Mul", left, right, Rearrangement(a.value, (), ()))
        return
    for left_term, right_term in ((a, b), (b, a)):
        yield from _matmuls(left_term, right_term, "".join(inner), result, sizes)


def _beside(axes: list[Factors], other: list[Factors]) -> list[Factors]:
    """Return axes without those of size 1 in front, where the other operand has them all."""
    front = next((i for i, axis in enumerate(axes) if axis), len(axes))
    return axes[front:] if other and other[0] else axes


def _matmuls(left: Term, right: Term, inner: str, result: str, sizes: Mapping[str, Size]) -> Iterator[Product]:
    batch = "".join(c for c in result if c in left.factors and c in right.factors)
    rows = "".join(c for c in result if c in left.factors and c not in batch)
    columns = "".join(c for c in result if c in right.factors and c not in batch)
    options = (
        _orders(batch, result, left, right),
        _orders(inner, "", left, right),
        _orders(rows, result, left),
        _orders(columns, result, right),
    )
    for b, k, r, c in product(*options):
        heads = list(b) if b else list(r[:-1])
        last = r if b else r[-1:]
        x = rearrangement(left.value, left.layout, [*map(left.axis, heads), left.axis(last), left.axis(k)])
        y = rearrangement(right.value, right.layout, [*map(right.axis, b), right.axis(k), right.axis(c)])
        z = _result(left.value, [*heads, last, c], result, sizes)
        if x is not None and y is not None and z is not None:
            yield Product("MatMul", x, y, z)


def _orders(labels: str, result: str, *terms: Term) -> list[str]:
    """Return the orders that some labels have in the result and in the operands."""
    orders = [[c for c in side if c in labels] for side in (result, *(t.factors for t in terms)) if side]
    return list(dict.fromkeys("".join(o) for o in orders if len(o) == len(labels))) or [labels]


def _result(value: ir.Value, have: Sequence[str], want: str, sizes: Mapping[str, Size]) -> Rearrangement | None:
    """Return how to bring a result with these axes into the order that is wanted."""
    names = {c: i for i, c in enumerate(c for c in want if sizes[c] != 1)}
    source = tuple(tuple(names[c] for c in axis if c in names) for axis in have)
    axes = tuple((names[c],) if c in names else () for c in want)
    layout = Layout({i: sizes[c] for c, i in names.items()}, source, axes, {})
    return rearrangement(value, layout, axes)
