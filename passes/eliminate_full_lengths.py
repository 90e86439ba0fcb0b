"""eliminate-full-lengths: LSTM(x, w, r, b, lengths) -> LSTM(x, w, r, b) where every row has all steps."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.analysis import shapes
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

_LENGTHS = 4
_REPEATING = frozenset({"Expand", "Tile", "Identity", "Reshape", "Unsqueeze", "Squeeze"})


class EliminateFullLengths(SitePass):
    """Leave out the lengths of the rows of a recurrent layer when each is the length of the sequence.

    LSTM(x, w, r, b, lengths) -> LSTM(x, w, r, b), GRU and RNN alike, where lengths holds x.shape[0] throughout

    Known numbers, or the size of a symbol repeated for a batch of any size. Shapes: x [steps, rows, inputs].
    Numerics: exact. Source: ONNX LSTM-22 ("If not specified - assumed all sequences in the batch to have length
    seq_length").
    """

    name: ClassVar[str] = "eliminate-full-lengths"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            recurrent = node.op_type in ("LSTM", "GRU", "RNN") and node.domain == ""
            if recurrent and len(node.inputs) > _LENGTHS and node.inputs[_LENGTHS] is not None:
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        dims = ir.dims_of(site.anchor.inputs[0])
        axis = 1 if site.anchor.attributes.get_int("layout", 0) else 0
        steps = dims[axis] if dims is not None and len(dims) == 3 else None
        found = _filling(site.anchor.inputs[_LENGTHS])
        return None if steps is not None and found == steps else "a length is not known to be that of the sequence"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        value = site.anchor.inputs[_LENGTHS]
        rw.set_input(site.anchor, _LENGTHS, None)
        while value is not None and (node := value.producer()) is not None:
            rw.erase(node)
            value = node.inputs[0] if node.inputs else None


def _filling(value: ir.Value | None) -> ir.Dim | int | None:
    """Return the number that a tensor holds throughout."""
    known = shapes.elements(value)
    if known is not None:
        numbers = {x if isinstance(x, ir.Dim) else int(x) for x in known.reshape(-1)}
        return numbers.pop() if len(numbers) == 1 else None
    node = None if value is None else value.producer()
    if node is None or node.domain:
        return None
    if node.op_type == "ConstantOfShape":
        fill = node.attributes.get_tensor("value", None)
        return None if fill is None else int(fill.numpy().reshape(-1)[0])
    if node.op_type == "Cast" and node.attributes.get_int("to", 0) in (ir.DataType.INT32, ir.DataType.INT64):
        return _filling(node.inputs[0]) if node.inputs[0] is not None and _is_integer(node.inputs[0]) else None
    return _filling(node.inputs[0]) if node.op_type in _REPEATING else None


def _is_integer(value: ir.Value) -> bool:
    return value.dtype is not None and value.dtype.is_integer()
