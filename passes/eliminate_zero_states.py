"""eliminate-zero-states: LSTM(x, w, r, b, , zeros, zeros) -> LSTM(x, w, r, b)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

_STATES = {"LSTM": (5, 6), "GRU": (5,), "RNN": (5,)}
_MOVES = frozenset(
    {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Transpose", "Slice", "Expand", "Tile", "Flatten", "Cast", "Gather"}
)


class EliminateZeroStates(SitePass):
    """Leave out the initial state of a recurrent layer when it is zero, which is what an absent one means.

    LSTM(x, w, r, b, lengths, 0, 0, p) -> LSTM(x, w, r, b, lengths, , , p), GRU and RNN alike

    Zero is a constant of zeros, a ConstantOfShape of zeros, and what data movement makes of one. Shapes: any; an
    initial state has the shape that the layer takes anyway. Numerics: exact.
    Source: ONNX LSTM-22 ("initial_h ... If not specified - assumed to be 0"), GRU-22, RNN-22.
    """

    name: ClassVar[str] = "eliminate-zero-states"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            indices = _STATES.get(node.op_type, ()) if node.domain == "" else ()
            if any(i < len(node.inputs) and node.inputs[i] is not None for i in indices):
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        return None if _zero_inputs(site.anchor) else "no initial state is known to be zero"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        for i in _zero_inputs(site.anchor):
            value = site.anchor.inputs[i]
            rw.set_input(site.anchor, i, None)
            rw.erase(*_chain(value))


def _zero_inputs(node: ir.Node) -> list[int]:
    return [i for i in _STATES[node.op_type] if i < len(node.inputs) and _is_zero(node.inputs[i])]


def _is_zero(value: ir.Value | None) -> bool:
    if value is None:
        return False
    array = ir.Module.constant(value)
    if array is not None:
        return not np.any(array)
    node = value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get_tensor("value", None)
        return fill is None or not np.any(fill.numpy())
    return node.op_type in _MOVES and _is_zero(node.inputs[0])


def _chain(value: ir.Value | None) -> Iterator[ir.Node]:
    while value is not None and (node := value.producer()) is not None:
        yield node
        value = node.inputs[0] if node.inputs else None
