"""x * (s * f(p(x)) + t): a function of a polynomial of x that gates x, in whatever order and grouping it is written."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from fcc import ir

from ._operands import small_constant

Polynomial = Mapping[int, float]
_DEGREE = 3
TOLERANCE = {ir.DataType.FLOAT16: 1e-3, ir.DataType.BFLOAT16: 8e-3}
"""How far a constant may lie from the number it stands for, relatively; half digits of its type are lost."""


@dataclass(frozen=True)
class Gate:
    """``top`` = x * (scale * f(p(x)) + shift), or without x as long as x is None.

    ``nodes`` lead from f to ``top``; those ``beside`` them multiply x by constants.
    """

    inner: ir.Value
    scale: float = 1.0
    shift: float = 0.0
    x: ir.Value | None = None
    nodes: tuple[ir.Node, ...] = ()
    beside: tuple[ir.Node, ...] = ()

    @property
    def top(self) -> ir.Value:
        return self.nodes[-1].outputs[0]

    def times(self, number: float) -> Gate:
        return replace(self, scale=self.scale * number, shift=self.shift * number)

    def is_close(self, scale: float, shift: float, rtol: float) -> bool:
        """Whether the gate is scale * f + shift."""
        return _close(self.scale, scale, rtol) and _close(self.shift, shift, rtol)


def gates(node: ir.Node) -> Iterator[Gate]:
    """Yield every product that the result of ``node`` = f(inner) gates, on the way that it alone takes.

    A value with other users, a graph output or a use in a nested graph ends the way. The same x is tried as it is, and
    without the constants that multiply it.
    """
    inner = node.inputs[0]
    assert inner is not None
    open_ways, budget = [Gate(inner, nodes=(node,))], 64
    while open_ways and budget:
        gate, budget = open_ways.pop(0), budget - 1
        user = ir.sole_user(gate.top)
        if user is None or user.graph is not node.graph or user.domain != "":
            continue
        for wider in _through(gate, user):
            grown = replace(wider, nodes=(*gate.nodes, user))
            if (
                grown.x is not None
                and ir.dims_of(grown.top) == ir.dims_of(grown.x)
                and grown.top.dtype == grown.x.dtype
            ):
                yield grown
            open_ways.append(grown)


def _through(gate: Gate, user: ir.Node) -> Iterator[Gate]:
    """Yield what the result of the next node is, in every reading."""
    if user.op_type == "Neg":
        yield gate.times(-1.0)
    if user.op_type not in ("Add", "Sub", "Mul", "Div"):
        return
    left, right = user.inputs
    first = left is gate.top
    other = right if first else left
    if other is gate.top or other is None:
        return
    number = scalar(other)
    if user.op_type == "Mul":
        yield from [gate.times(number)] if number is not None else _gated(gate, other)
    elif user.op_type == "Div":
        if number and first:
            yield gate.times(1.0 / number)
    else:
        signed = gate if first or user.op_type == "Add" else gate.times(-1.0)
        yield from _shifted(signed, other, number, -1.0 if user.op_type == "Sub" and first else 1.0)


def _gated(gate: Gate, other: ir.Value) -> Iterator[Gate]:
    if gate.x is None:
        for factor, x, nodes in multiples(other):
            yield replace(gate.times(factor), x=x, beside=nodes)


def _shifted(gate: Gate, other: ir.Value, number: float | None, sign: float) -> Iterator[Gate]:
    """A number shifts the gate; behind the product a multiple of x does."""
    if gate.x is None:
        if number is not None:
            yield replace(gate, shift=gate.shift + sign * number)
        return
    for factor, x, nodes in multiples(other):
        if x is gate.x:
            yield replace(gate, shift=gate.shift + sign * factor, beside=(*gate.beside, *nodes))


def multiples(value: ir.Value) -> Iterator[tuple[float, ir.Value, tuple[ir.Node, ...]]]:
    """Yield (c, x, nodes) for every way in which a value is a constant times another, (1, value, none) first."""
    factor, nodes = 1.0, tuple[ir.Node, ...]()
    for _ in range(4):
        yield factor, value, nodes
        node = value.producer()
        if node is None or node.domain != "" or node.op_type not in ("Mul", "Div", "Neg"):
            return
        if node.op_type == "Neg":
            factor, rest = -factor, node.inputs[0]
        else:
            left, right = node.inputs
            number, rest = scalar(right), left
            if number is None and node.op_type == "Mul":
                number, rest = scalar(left), right
            if not number:
                return
            factor = factor * number if node.op_type == "Mul" else factor / number
        assert rest is not None
        value, nodes = rest, (*nodes, node)


def scalar(value: ir.Value | None) -> float | None:
    """Return the number that a floating-point constant holds throughout, else None."""
    array = small_constant(value)
    if array is None or array.size == 0 or not ir.DataType.from_numpy(array.dtype).is_floating_point():
        return None
    wide = array.astype(np.float64).reshape(-1)
    return float(wide[0]) if (wide == wide[0]).all() else None


@dataclass
class _Reader:
    x: ir.Value
    nodes: list[ir.Node] = field(default_factory=list)


def polynomial(value: ir.Value, x: ir.Value) -> tuple[Polynomial, tuple[ir.Node, ...]] | None:
    """Return the coefficients by power with which a value is computed from x, and the nodes that do; else None.

    Degrees above 3 are not read.
    """
    reader = _Reader(x)
    found = _read(value, reader, 0)
    return None if found is None else ({k: c for k, c in found.items() if c != 0.0}, tuple(reader.nodes))


def _read(value: ir.Value | None, reader: _Reader, depth: int) -> dict[int, float] | None:
    if value is reader.x:
        return {1: 1.0}
    number = scalar(value)
    if number is not None:
        return {0: number}
    node = None if value is None else value.producer()
    if (
        node is None
        or node.domain != ""
        or depth > 12
        or node.op_type not in ("Add", "Sub", "Mul", "Div", "Neg", "Pow")
    ):
        return None
    reader.nodes.append(node)
    operands = [_read(v, reader, depth + 1) for v in node.inputs]
    if any(p is None for p in operands):
        return None
    return _combine(node.op_type, [p for p in operands if p is not None])


def _combine(op_type: str, operands: list[dict[int, float]]) -> dict[int, float] | None:
    a, b = operands[0], operands[-1]
    constant = b.get(0, 0.0) if set(b) <= {0} else None
    match op_type:
        case "Neg":
            return {k: -c for k, c in a.items()}
        case "Add" | "Sub":
            sign = 1.0 if op_type == "Add" else -1.0
            return {k: a.get(k, 0.0) + sign * b.get(k, 0.0) for k in {*a, *b}}
        case "Mul":
            return _product(a, b)
        case "Div":
            return {k: c / constant for k, c in a.items()} if constant else None
        case _:
            return _power(a, constant)


def _product(a: Polynomial, b: Polynomial) -> dict[int, float] | None:
    out: dict[int, float] = {}
    for i, c in a.items():
        for j, d in b.items():
            out[i + j] = out.get(i + j, 0.0) + c * d
    return out if max(out, default=0) <= _DEGREE else None


def _power(a: Polynomial, exponent: float | None) -> dict[int, float] | None:
    if exponent not in (1.0, 2.0, 3.0):
        return None
    out: dict[int, float] | None = {0: 1.0}
    for _ in range(int(exponent)):
        out = None if out is None else _product(out, a)
    return out


def users_first(nodes: Iterable[ir.Node]) -> list[ir.Node]:
    """Return nodes without repetition, each before those that it uses: the order in which they die."""
    members, done = set(nodes), dict[ir.Node, None]()

    def visit(node: ir.Node) -> None:
        for value in node.inputs:
            producer = None if value is None else value.producer()
            if producer in members and producer not in done and producer is not None:
                visit(producer)
        done[node] = None

    for node in sorted(members, key=lambda n: n.name or ""):
        if node not in done:
            visit(node)
    return list(reversed(done))


def is_near(found: Polynomial, wanted: Polynomial, rtol: float) -> bool:
    """Whether two polynomials have the same powers with coefficients that are close."""
    return set(found) == set(wanted) and all(_close(c, wanted[k], rtol) for k, c in found.items())


def _close(a: float, b: float, rtol: float) -> bool:
    return abs(a - b) <= rtol * abs(b)
