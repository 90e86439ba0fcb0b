"""eliminate-expand: Add(x, Expand(y)) -> Add(x, y) where the Add broadcasts y itself; likewise other repetitions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.shape_rules import broadcast
from fcc.analysis.shapes import elements
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

Dims = tuple[ir.Dim | int | None, ...]

_BROADCASTING = frozenset(
    {"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "And", "Or", "Xor", "Equal", "Less", "Greater"}
    | {"LessOrEqual", "GreaterOrEqual", "Where", "Mod", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
)
_UNARY = frozenset(
    {"Abs", "Cast", "Ceil", "Erf", "Exp", "Floor", "Identity", "Log", "Neg", "Not", "Reciprocal", "Relu", "Sigmoid"}
    | {"Sign", "Sqrt", "Tanh"}
)


@dataclass(frozen=True)
class _Path:
    """From the operand of a broadcasting node back to what repeats: ``nodes`` nearest first, the Expand last."""

    index: int
    nodes: tuple[ir.Node, ...]


class EliminateExpand(SitePass):
    """Leave broadcasting to the operator that does it anyway, also behind elementwise operators and table look-ups.

    Add(x, f(Expand(y))) -> Add(x, f(y)),  f elementwise;  Add(x, Gather(t, Expand(i))) -> Add(x, Gather(t, i))

    Likewise Tile and Concat of copies along axes of size 1, and ConstantOfShape, which is one number.

    Shapes: the operands without the Expand must be known to broadcast to the same shape. Values between the Expand
    and the operator have no other user. Numerics: exact; the same operations on fewer elements.
    Source: ONNX "Multidirectional Broadcasting", Expand-13, Tile-13, Gather-13 (axis 0).
    """

    name: ClassVar[str] = "eliminate-expand"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type in _BROADCASTING and node.domain == "":
                for i in range(len(node.inputs)):
                    path = _path(node, i)
                    if path is not None and node.graph is not None:
                        yield Site(node, module, ctx, path)

    def check(self, site: Site) -> str | None:
        node, path = site.anchor, site.data
        if any(n.graph is not node.graph for n in path.nodes):
            return "the Expand lies in another graph"
        small = _dims_without(path)
        if small is None:
            return "a shape is not known"
        operands = [small if i == path.index else ir.dims_of(v) for i, v in enumerate(node.inputs) if v is not None]
        known = [d for d in operands if d is not None]
        if len(known) != len(operands):
            return "a shape is not known"
        result = reduce(broadcast, known)
        if None in result or result != ir.dims_of(node.outputs[0]):
            return "the other operands are not known to have the shape that the Expand gives"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        path: _Path = site.data
        *between, expand = path.nodes
        origin = _ORIGINS[expand.op_type](expand)
        value = rw.const(origin) if isinstance(origin, np.ndarray) else origin
        for node in reversed(between):
            value = rw.like(node, node.inputs[0], value) if node.op_type == "Gather" else rw.like(node, value)
        rw.set_input(site.anchor, path.index, value)
        rw.erase(*path.nodes)


def _path(node: ir.Node, index: int) -> _Path | None:
    nodes: list[ir.Node] = []
    value = node.inputs[index]
    while value is not None and (producer := value.producer()) is not None and producer.domain == "":
        nodes.append(producer)
        if producer.op_type in _ORIGINS and _ORIGINS[producer.op_type](producer) is not None:
            return _Path(index, tuple(nodes))
        if ir.sole_user(value) is None:
            return None
        if producer.op_type in _UNARY:
            value = producer.inputs[0]
        elif producer.op_type == "Gather" and producer.attributes.get_int("axis", 0) == 0:
            value = producer.inputs[1]
        else:
            return None
    return None


def _dims_without(path: _Path) -> Dims | None:
    """Return the dims that the operand has when the Expand is left out."""
    origin = _ORIGINS[path.nodes[-1].op_type](path.nodes[-1])
    dims = () if isinstance(origin, np.ndarray) else ir.dims_of(origin)
    for node in reversed(path.nodes[:-1]):
        if node.op_type == "Gather":
            table = ir.dims_of(node.inputs[0])
            dims = None if dims is None or table is None else dims + table[1:]
    return dims


# -- what repeats ------------------------------------------------------------------------------------------------------
Origin = ir.Value | np.ndarray[Any, Any] | None


def _expand(node: ir.Node) -> Origin:
    return node.inputs[0]


def _tile(node: ir.Node) -> Origin:
    """Return the input of a Tile that repeats axes of size 1 only."""
    dims, repeats = ir.dims_of(node.inputs[0]), elements(node.inputs[1])
    if dims is None or repeats is None or repeats.size != len(dims):
        return None
    plain = all(d == 1 or (isinstance(r, int) and r == 1) for d, r in zip(dims, repeats.tolist(), strict=True))
    return node.inputs[0] if plain else None


def _copies(node: ir.Node) -> Origin:
    """Return the operand of a Concat of copies along an axis of size 1."""
    x = node.inputs[0]
    dims, axis = ir.dims_of(x), node.attributes.get_int("axis", 0)
    same = all(v is x for v in node.inputs) and len(node.inputs) > 1
    return x if same and dims is not None and dims[axis] == 1 else None


def _filled(node: ir.Node) -> Origin:
    value = node.attributes.get_tensor("value", None)
    return np.zeros((), np.float32) if value is None else np.array(value.numpy()).reshape(())


_ORIGINS: Mapping[str, Callable[[ir.Node], Origin]] = {
    "Concat": _copies,
    "ConstantOfShape": _filled,
    "Expand": _expand,
    "Tile": _tile,
}
