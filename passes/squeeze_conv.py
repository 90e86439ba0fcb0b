"""squeeze-conv: a two-dimensional convolution along one axis, the other of size 1, as one of one dimension."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

from ._spatial import reshaped


class SqueezeConv(PatternPass):
    """Take an axis of size 1 out of a convolution that was put in for it, or stands in the way.

    Conv(Unsqueeze(x, a), w)                     ->  Unsqueeze(Conv(x, Squeeze(w, a)), a)
    Conv(Transpose(Unsqueeze(x, a), p), w)       ->  Unsqueeze(Conv(Transpose(x, p'), Squeeze(w, b)), b)

    Shapes: input [N, C, L, 1] or [N, C, 1, L] by kernel [M, C/g, K, 1] or [M, C/g, 1, K] with no padding and stride 1
    on the axis of size 1. Applied where an Unsqueeze in front goes, and a Squeeze behind (or a pooling that ends in
    one), so that there are never more nodes once chains are merged. A bias or normalization behind the Squeeze then
    meets the convolution, and convert-conv1d chooses the axis that the target's kernels are fast along. Exact.
    Source: ONNX Conv-11.
    """

    name: ClassVar[str] = "squeeze-conv"
    pattern = op.Conv(var("x"), const("w"), var("b").optional(), name="conv")

    def check(self, m: Match) -> str | None:
        node, dims, kernel = m.nodes["conv"], ir.dims_of(m["x"]), ir.dims_of(m["w"])
        if m.module.opset() < 13:
            return "Squeeze and Unsqueeze take their axes as attributes (opset below 13)"
        if dims is None or kernel is None or len(dims) != 4:
            return "the convolution has not two dimensions"
        axis = _unit_axis(node, dims, kernel)
        if axis is None:
            return "no axis of size 1 is left alone by the convolution"
        if _without(m["x"], axis) is None:
            return "no Unsqueeze in front of it made the axis of size 1"
        return None if _is_squeezed(node.outputs[0], axis) else "no Squeeze behind it removes the axis of size 1"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        node = m.nodes["conv"]
        axis = _unit_axis(node, ir.known_dims(m["x"]), ir.known_dims(m["w"]))
        assert axis is not None
        found = _without(m["x"], axis)
        assert found is not None
        x, perm, front = found
        if perm is not None:
            x = rw.op("Transpose", x, perm=perm)
        operands = [x, reshaped(m["w"], _dropped(ir.dims_of(m["w"]), axis), rw), *node.inputs[2:]]
        line = rw.like(node, *operands, **_attributes(node, axis - 2))
        rw.erase(node, *front)
        made: ir.Value = rw.op("Unsqueeze", line, np.asarray([axis], np.int64))
        return made


def _unit_axis(node: ir.Node, dims: Any, kernel: Any) -> int | None:
    """Return the spatial axis of size 1 that kernel, padding and stride leave alone."""
    pads = node.attributes.get_ints("pads", None) or (0, 0, 0, 0)
    strides = node.attributes.get_ints("strides", None) or (1, 1)
    for axis in (3, 2):
        k = axis - 2
        if dims[axis] == 1 and kernel[axis] == 1 and pads[k] == pads[k + 2] == 0 and strides[k] == 1:
            return axis
    return None


def _without(value: ir.Value, axis: int) -> tuple[ir.Value, list[int] | None, tuple[ir.Node, ...]] | None:
    """Return the value in front of the Unsqueeze that made an axis, the Transpose still needed, and both nodes."""
    node = value.producer()
    if node is None or node.domain != "":
        return None
    if node.op_type == "Unsqueeze":
        return (node.inputs[0], None, (node,)) if _axes(node) == [axis] and node.inputs[0] is not None else None
    if node.op_type != "Transpose" or ir.sole_user(value) is None:
        return None
    perm = list(node.attributes.get_ints("perm", (3, 2, 1, 0)))
    below = None if node.inputs[0] is None else _without(node.inputs[0], perm[axis])
    if below is None or below[1] is not None:
        return None
    rest = [p for i, p in enumerate(perm) if i != axis]
    return below[0], [p - (p > perm[axis]) for p in rest], (node, *below[2])


def _axes(node: ir.Node) -> list[int] | None:
    """Return the axes of a Squeeze or Unsqueeze around four dimensions, counted from the front."""
    array = ir.Module.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    return None if array is None else sorted(int(a) % 4 for a in array.reshape(-1))


def _is_squeezed(value: ir.Value, axis: int) -> bool:
    """Whether every user removes the axis."""
    users = [u.node for u in value.uses()]
    if value.is_graph_output() or not users:
        return False
    return all(n.op_type == "Squeeze" and n.domain == "" and _axes(n) == [axis] for n in users)


def _attributes(node: ir.Node, k: int) -> dict[str, Any]:
    """Return the attributes without spatial axis ``k`` of two."""
    changed: dict[str, Any] = {}
    for name in ("kernel_shape", "strides", "dilations"):
        found = node.attributes.get_ints(name, None)
        if found is not None:
            changed[name] = [found[1 - k]]
    pads = node.attributes.get_ints("pads", None)
    if pads is not None:
        changed["pads"] = [pads[1 - k], pads[3 - k]]
    return changed


def _dropped(dims: Any, axis: int) -> tuple[int, ...]:
    return tuple(d for i, d in enumerate(dims) if i != axis)
