"""eliminate-expand: Add(x, Expand(y)) -> Add(x, y) where the Add broadcasts y itself."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import reduce
from typing import ClassVar

from fcc import ir
from fcc.analysis.shape_rules import broadcast
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
    """From the operand of a broadcasting node back to the Expand: ``nodes`` nearest first, the Expand last."""

    index: int
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True)
class EliminateExpand(SitePass):
    """Leave broadcasting to the operator that does it anyway, also behind elementwise operators and table look-ups.

    Add(x, f(Expand(y))) -> Add(x, f(y)),  f elementwise;  Add(x, Gather(t, Expand(i))) -> Add(x, Gather(t, i))

    Shapes: the operands without the Expand must be known to broadcast to the same shape. Values between the Expand
    and the operator have no other user. Numerics: exact; the same operations on fewer elements.
    Source: ONNX "Multidirectional Broadcasting", Expand-13, Gather-13 (axis 0).
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
        value = expand.inputs[0]
        for node in reversed(between):
            value = rw.like(node, node.inputs[0], value) if node.op_type == "Gather" else rw.like(node, value)
        rw.set_input(site.anchor, path.index, value)
        rw.erase(*path.nodes)


def _path(node: ir.Node, index: int) -> _Path | None:
    nodes: list[ir.Node] = []
    value = node.inputs[index]
    while value is not None and (producer := value.producer()) is not None and producer.domain == "":
        nodes.append(producer)
        if producer.op_type == "Expand":
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
    dims = ir.dims_of(path.nodes[-1].inputs[0])
    for node in reversed(path.nodes[:-1]):
        if node.op_type == "Gather":
            table = ir.dims_of(node.inputs[0])
            dims = None if dims is None or table is None else dims + table[1:]
    return dims
