"""A layer that reads a Concat along its features, and what every part of it contributes."""

from __future__ import annotations

from dataclasses import dataclass

from fcc import ir
from fcc.analysis.linear import Linear

from ._intervals import parts_of
from ._layers import DENSE, layer_of, used_elsewhere


@dataclass(frozen=True)
class Part:
    """An operand of the Concat: its features are columns [start, stop) of the weight [out, in, *kernel]."""

    value: ir.Value
    start: int
    stop: int


@dataclass(frozen=True)
class ConcatLayer:
    """A layer, the Concat that nobody else reads, and its parts."""

    layer: Linear
    concat: ir.Node
    parts: tuple[Part, ...]

    @property
    def axis(self) -> int:
        """The axis of the features in the input."""
        return self.concat.attributes.get_int("axis", 0)


def concat_layer(node: ir.Node) -> ConcatLayer | str | None:
    """Return the view of a layer behind a Concat, why there is none, or None where no Concat is near."""
    x = node.inputs[0] if node.op_type in DENSE and node.domain == "" else None
    concat = None if x is None else x.producer()
    if concat is None or concat.op_type != "Concat" or concat.domain != "":
        return None
    layer = layer_of(node)
    if isinstance(layer, str):
        return layer
    if ir.sole_user(concat.outputs[0]) is not node or concat.graph is not node.graph:
        return "the Concat has other users"
    found, rank = parts_of(concat), len(ir.known_dims(x))
    if found is None or found[0] != (1 if layer.kind == "Conv" else rank - 1):
        return "the Concat is not along the features, or a size is not known"
    if used_elsewhere(layer):
        return "a weight or bias has other users and would stay"
    values = ir.operands(concat)
    spans = zip(values, found[1], found[1][1:], strict=False)
    return ConcatLayer(layer, concat, tuple(Part(v, a, b) for v, a, b in spans))


def without(found: ConcatLayer, gone: set[int]) -> tuple[list[ir.Value], list[int]]:
    """Return the operands that stay, and the columns of the weight that are theirs."""
    kept = [p for i, p in enumerate(found.parts) if i not in gone]
    return [p.value for p in kept], [c for p in kept for c in range(p.start, p.stop)]
