"""Reading a graph as sums of products: from values down to the states and inputs of one step."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

import numpy as np

from fcc import ir

from ._forms import Array
from ._intervals import parts_of, pieces
from ._operands import uniform
from ._terms import Algebra, Sum

Rule = Callable[["Reader", ir.Node, int], Sum | None]
_MOST = 128  # nodes of one step
_READABLE = 1 << 24  # elements of a weight
_VIEWS = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})


@dataclass
class Reader:
    """Sums of the values of one graph. What is not known to be linear, and moves with no state, is rows of its own.

    ``states`` are rows, whatever computes them; ``moves`` says whether a value depends on one. ``eager``: what moves
    with no state is read as far as possible, too. ``nodes`` are those that were read through.
    """

    graph: ir.Graph
    states: Collection[ir.Value]
    moves: Callable[[ir.Value], bool]
    eager: bool = False
    algebra: Algebra = field(default_factory=Algebra)
    nodes: dict[ir.Node, None] = field(default_factory=dict)
    _known: dict[ir.Value, Sum | None] = field(default_factory=dict)

    def read(self, value: ir.Value | None) -> Sum | None:
        """Return a value as a sum; None when it is none, or depends on a state in another way."""
        if value is None:
            return None
        if value not in self._known:
            self._known[value] = None
            self._known[value] = self._read(value)
        return self._known[value]

    def _read(self, value: ir.Value) -> Sum | None:
        if value in self.states:
            return self._rows(value)
        if ir.Module.is_constant(value):
            row = constant_row(value)
            return None if row is None else self.algebra.linear_row(row)
        node = value.producer()
        inside = node is not None and node.graph is self.graph and node.domain == ""
        rule = _RULES.get(node.op_type) if inside and node is not None else None
        moves = self.moves(value)
        deep = moves or self.eager
        if rule is not None and node is not None and (deep or node.op_type in _LINEAR) and len(self.nodes) < _MOST:
            kept = dict(self.nodes)
            self.nodes[node] = None
            found = rule(self, node, value.index() or 0)
            if found is not None and (deep or found.linear is not None):
                return found
            self.nodes = kept
        return None if moves else self._rows(value)

    def _rows(self, value: ir.Value) -> Sum | None:
        dims = ir.dims_of(value)
        if not dims or not isinstance(dims[-1], int) or value.dtype is None or not value.dtype.is_floating_point():
            return None
        return self.algebra.rows(value, dims[-1])


def constant_row(value: ir.Value) -> Array | None:
    """Return the row that a constant repeats along all axes but the last, in float64."""
    tensor = value.const_value
    if tensor is None or value.dtype is None or not value.dtype.is_floating_point() or tensor.size > _READABLE:
        return None
    array = ir.Module.constant(value)
    assert array is not None
    if array.size == 0:
        return None
    flat = array.astype(np.float64).reshape(-1, array.shape[-1] if array.ndim else 1)
    return flat[0] if bool((flat == flat[0]).all()) else None


def weight(value: ir.Value | None) -> Array | None:
    """Return a constant matrix in float64."""
    dims = ir.dims_of(value)
    if value is None or dims is None or len(dims) != 2 or not ir.Module.is_constant(value):
        return None
    if value.dtype is None or not value.dtype.is_floating_point() or 0 in dims:
        return None
    array = ir.Module.constant(value)
    return None if array is None or array.size > _READABLE else array.astype(np.float64)


# -- rules: each returns the sum that an output of a node is -----------------------------------------------------------
def _view(r: Reader, node: ir.Node, index: int) -> Sum | None:
    """The same rows under other leading axes."""
    before, after = ir.dims_of(node.inputs[0]), ir.dims_of(node.outputs[0])
    kept = bool(before) and bool(after) and isinstance(before[-1], int) and before[-1] == after[-1]  # type: ignore[index]
    return r.read(node.inputs[0]) if kept else None


def _matmul(r: Reader, node: ir.Node, index: int) -> Sum | None:
    a = r.read(node.inputs[0])
    matrix = None if a is None else weight(node.inputs[1])  # read last: most nodes are no part of a cell
    return None if matrix is None or a is None or a.width != len(matrix) else r.algebra.multiplied(a, matrix)


def _gemm(r: Reader, node: ir.Node, index: int) -> Sum | None:
    attributes, a = node.attributes, r.read(node.inputs[0])
    matrix = None if a is None else weight(node.inputs[1])
    if matrix is None or a is None or attributes.get_int("transA", 0) != 0 or not _aligned(node):
        return None
    matrix = attributes.get_float("alpha", 1.0) * (matrix.T if attributes.get_int("transB", 0) != 0 else matrix)
    if a.width != len(matrix):
        return None
    product = r.algebra.multiplied(a, matrix)
    if len(node.inputs) < 3 or node.inputs[2] is None:
        return product
    added = r.read(node.inputs[2])
    scaled = None if added is None else r.algebra.scaled(added, np.array([attributes.get_float("beta", 1.0)]))
    return None if scaled is None else r.algebra.plus(product, scaled)


def _aligned(node: ir.Node) -> bool:
    """Return whether operands that are computed have the rows of the result: a broadcast pairs other rows."""
    rows = _rows_of(node.outputs[0])
    return rows is not None and all(v is None or ir.Module.is_constant(v) or _rows_of(v) == rows for v in _added(node))


def _added(node: ir.Node) -> list[ir.Value | None]:
    return list(node.inputs[2:]) if node.op_type == "Gemm" else list(node.inputs)


def _rows_of(value: ir.Value | None) -> tuple[ir.Dim | int | None, ...] | None:
    """Return the axes in front of the last one, without leading ones."""
    dims = ir.dims_of(value)
    if not dims or None in dims:
        return None if dims != () else ()
    rows = list(dims[:-1])
    while rows and rows[0] == 1:
        rows.pop(0)
    return tuple(rows)


def _sum(r: Reader, node: ir.Node, index: int) -> Sum | None:
    if not _aligned(node):
        return None
    total = r.read(node.inputs[0])
    for value in node.inputs[1:]:
        other = r.read(value)
        total = None if total is None or other is None else r.algebra.plus(total, other)
    return total


def _minus(r: Reader, node: ir.Node, index: int) -> Sum | None:
    if not _aligned(node):
        return None
    a, b = r.read(node.inputs[0]), r.read(node.inputs[1])
    negated = None if b is None else r.algebra.scaled(b, np.array([-1.0]))
    return None if a is None or negated is None else r.algebra.plus(a, negated)


def _times(r: Reader, node: ir.Node, index: int) -> Sum | None:
    if not _aligned(node):
        return None
    a, b = r.read(node.inputs[0]), r.read(node.inputs[1])
    return None if a is None or b is None else r.algebra.times(a, b)


def _negated(r: Reader, node: ir.Node, index: int) -> Sum | None:
    a = r.read(node.inputs[0])
    return None if a is None else r.algebra.scaled(a, np.array([-1.0]))


def _over(r: Reader, node: ir.Node, index: int) -> Sum | None:
    if not _aligned(node):
        return None
    a, b = r.read(node.inputs[0]), r.read(node.inputs[1])
    inverse = None if b is None else _inverse(r, b)
    return None if a is None or inverse is None else r.algebra.times(a, inverse)


def _reciprocal(r: Reader, node: ir.Node, index: int) -> Sum | None:
    a = r.read(node.inputs[0])
    return None if a is None else _inverse(r, a)


def _inverse(r: Reader, a: Sum) -> Sum | None:
    """1 / (1 + exp(u)) is sigmoid(-u); a constant has an inverse row."""
    row = a.row
    if row is not None:
        return r.algebra.linear_row(1.0 / row) if np.all(row != 0) else None
    exponentials = [p for p in a.terms if len(p) == 1 and p[0].kind == "Exp"]
    ones = len(a.terms) == 2 and () in a.terms and exponentials
    if not ones or not all(f.is_constant and np.all(f.bias == 1) for f in a.terms.values()):
        return None
    negated = r.algebra.scaled(exponentials[0][0].of, np.array([-1.0]))
    return None if negated is None else r.algebra.activation("Sigmoid", negated)


def _split(r: Reader, node: ir.Node, index: int) -> Sum | None:
    found, a = parts_of(node), r.read(node.inputs[0])
    if found is None or a is None or found[0] != len(ir.known_dims(node.inputs[0])) - 1:
        return None
    return r.algebra.columns(a, found[1][index], found[1][index + 1])


def _slice(r: Reader, node: ir.Node, index: int) -> Sum | None:
    found, a = pieces(node), r.read(node.inputs[0])
    if found is None or a is None or found[1] != len(ir.known_dims(node.inputs[0])) - 1:
        return None
    return r.algebra.columns(a, found[2], min(found[3], a.width))


def _concat(r: Reader, node: ir.Node, index: int) -> Sum | None:
    rank = len(ir.known_dims(node.outputs[0]))
    if not rank or node.attributes.get_int("axis", 0) % rank != rank - 1:
        return None
    parts = [r.read(v) for v in node.inputs]
    return None if None in parts else r.algebra.joined([p for p in parts if p is not None])


def _clip(r: Reader, node: ir.Node, index: int) -> Sum | None:
    """Clip(u, 0, 1) is HardSigmoid of slope 1 and offset 0."""
    bounds = len(node.inputs) == 3 and uniform(node.inputs[1], 0.0) and uniform(node.inputs[2], 1.0)
    a = r.read(node.inputs[0])
    return r.algebra.activation("HardSigmoid", a, (1.0, 0.0)) if bounds and a is not None else None


def _hard_sigmoid(r: Reader, node: ir.Node, index: int) -> Sum | None:
    a, attributes = r.read(node.inputs[0]), node.attributes
    scaled = None if a is None else r.algebra.scaled(a, np.array([attributes.get_float("alpha", 0.2)]))
    offset = r.algebra.linear_row(np.array([attributes.get_float("beta", 0.5)]))
    inner = None if scaled is None else r.algebra.plus(scaled, offset)
    return None if inner is None else r.algebra.activation("HardSigmoid", inner, (1.0, 0.0))


def _activation(*defaults: tuple[str, float]) -> Rule:
    def rule(r: Reader, node: ir.Node, index: int) -> Sum | None:
        a = r.read(node.inputs[0])
        parameters = tuple(node.attributes.get_float(name, default) for name, default in defaults)
        return None if a is None else r.algebra.activation(node.op_type, a, parameters)

    return rule


_LINEAR = _VIEWS | {"MatMul", "Gemm", "Add", "Sum", "Sub", "Mul", "Div", "Neg", "Split", "Slice", "Concat"}
_RULES: dict[str, Rule] = {
    **dict.fromkeys(_VIEWS, _view),
    **dict.fromkeys(("Exp", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"), _activation()),
    "Elu": _activation(("alpha", 1.0)),
    "LeakyRelu": _activation(("alpha", 0.01)),
    "ThresholdedRelu": _activation(("alpha", 1.0)),
    "Add": _sum,
    "Clip": _clip,
    "Concat": _concat,
    "Div": _over,
    "Gemm": _gemm,
    "HardSigmoid": _hard_sigmoid,
    "MatMul": _matmul,
    "Mul": _times,
    "Neg": _negated,
    "Reciprocal": _reciprocal,
    "Slice": _slice,
    "Split": _split,
    "Sub": _minus,
    "Sum": _sum,
}
