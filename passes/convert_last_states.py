"""convert-last-states: the hidden state of the last step of a recurrent layer -> its output for that."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._operands import integers
from ._sequence_items import item_of, known_number


class ConvertLastStates(SitePass):
    """Read the last hidden state of a recurrent layer where it is given by itself.

    Gather(Squeeze(Y, 1), -1) -> Squeeze(Y_h, 0), with Y, Y_h the outputs of LSTM, GRU or RNN; Slice likewise
    A layer that runs backwards ends with the first element.

    Without Y a layer need not keep the other states. Only layers in one direction and without lengths: there, every
    row ends at the last step. Shapes: Y [steps, 1, rows, units]; steps known, or counted from the end.
    Numerics: exact. Source: ONNX LSTM-22, GRU-22, RNN-22 (Y_h).
    """

    name: ClassVar[str] = "convert-last-states"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type in ("LSTM", "GRU", "RNN") and node.domain == "":
                for user in list(_users(node.outputs[0])):
                    if user.graph is not None:
                        yield Site(user, module, ctx, node)

    def check(self, site: Site) -> str | None:
        layer, user = site.data, site.anchor
        item = item_of(user.outputs[0], known_number)
        direction = layer.attributes.get_string("direction", "forward")
        if item is None or item.axis:
            return "it takes no single step"
        if direction == "bidirectional" or layer.attributes.get_int("layout", 0):
            return "the layer has two directions, or rows first"
        if len(layer.inputs) > 4 and layer.inputs[4] is not None:
            return "rows have lengths of their own"
        last = 0 if direction == "reverse" else None if item.length is None else item.length - 1
        if item.at != last:
            return "it takes another step than the last one"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        layer, user = site.data, site.anchor
        state = _final(layer, rw)
        rank = len(ir.known_dims(user.outputs[0]))
        rw.before(user)
        if rank != 3:
            state = rw.op("Squeeze" if rank == 2 else "Unsqueeze", state, np.zeros(1, np.int64))
        rw.replace(user.outputs[0], state)
        squeeze = None if user.inputs[0] is None else user.inputs[0].producer()
        rw.erase(user, *([squeeze] if squeeze is not None and squeeze is not layer else []), layer)


def _users(y: ir.Value) -> Iterator[ir.Node]:
    """Yield what uses the hidden states, with or without the axis of directions."""
    for node in y.consumers():
        if node.op_type == "Squeeze" and node.domain == "" and integers(node, 1, "axes") == [1]:
            yield from node.outputs[0].consumers()
        else:
            yield node


def _final(layer: ir.Node, rw: Rewriter) -> ir.Value:
    """Return the output for the last hidden state, of a copy of the layer where it has none."""
    if len(layer.outputs) > 1 and layer.outputs[1].name:
        return layer.outputs[1]
    rw.before(layer)
    attributes: dict[str, Any] = dict(layer.attributes)
    made = rw.op(layer.op_type, *layer.inputs, outputs=max(2, len(layer.outputs)), **attributes)
    for old, new in zip(layer.outputs, made, strict=False):
        if ir.is_used(old):
            rw.replace(old, new)
    final: ir.Value = made[1]
    return final
