"""merge-concats: Concat, Split and Slice along one axis that undo each other, or are one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op

from ._intervals import parts_of, pieces
from ._no_op_layout import Build, Found
from ._operands import integers
from ._outputs import output_refusal
from ._targets import reshape_entries

Several = Found | list[ir.Value]


class MergeConcats(PatternPass):
    """Join or undo operators that cut and join along one axis, by the table of rules.

    Concat(Concat(a, b), c) -> Concat(a, b, c), along the same axis, where the inner one has no other user
    Concat of neighbouring outputs of a Split, or of neighbouring Slices of x -> x where that is all of it
    Split(Concat(a, b)) -> a, b, where it cuts where they were joined
    Slice(Concat(a, b, c)) -> a, Concat(a, b), Slice(b), where it takes no more of them
    Concat(Unsqueeze(a), Unsqueeze(b)) -> Reshape(Concat(a, b)), a stack along an axis that the operands have

    Shapes: sizes along the axis are known.
    Numerics: exact.
    Source: ONNX Concat-13, Split-13, Slice-13, Unsqueeze-13.
    """

    name: ClassVar[str] = "merge-concats"
    pattern = (op.Concat(variadic=True), op.Slice(variadic=True), op.Split(variadic=True, shared=True))

    def check(self, m: Match) -> str | None:
        found = _found(m.root)
        if isinstance(found, str):
            return found
        if isinstance(found, list):
            reasons = (output_refusal(old, new) for old, new in zip(m.root.outputs, found, strict=True))
            return next((r for r in reasons if r is not None), None)
        return output_refusal(m.root.outputs[0], found) if isinstance(found, ir.Value) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value | list[ir.Value]:
        found = _found(m.root)
        assert not isinstance(found, str)
        sources = (v.producer() for v in m.root.inputs if v is not None)
        rw.erase(m.root, *(node for node in sources if node is not None))
        return found if isinstance(found, ir.Value | list) else found(rw)


def _found(node: ir.Node) -> Several:
    """Return the first rule's result (a list: one value per output), or the reason of the last one."""
    found: Several = ""
    for rule in RULES[node.op_type]:
        found = rule(node)
        if not isinstance(found, str):
            return found
    return found


def _operands(node: ir.Node) -> list[ir.Value]:
    return ir.operands(node)


def _axis(node: ir.Node, value: ir.Value) -> int | None:
    dims = ir.dims_of(value)
    return None if not dims else node.attributes.get_int("axis", 0) % len(dims)


def _nested(node: ir.Node) -> Found:
    """Concat(Concat(a, b), c): the operands of inner Concats take their place."""
    axis, operands, joined = _axis(node, node.outputs[0]), [], False
    for value in _operands(node):
        inner = value.producer()
        same = inner is not None and inner.op_type == "Concat" and inner.domain == "" and inner.graph is node.graph
        if same and inner is not None and ir.sole_user(value) is node and axis == _axis(inner, value):
            operands += _operands(inner)
            joined = True
        else:
            operands.append(value)
    if axis is None or not joined:
        return "no operand is a Concat along the same axis that nobody else uses"
    if len(operands) > _MOST_OPERANDS:  # one that reads another twice doubles them, and so does the next
        return f"it would have {len(operands)} operands"
    return lambda rw: rw.like(node, *operands)


def _together(node: ir.Node) -> Found:
    """Concat of all parts of a Split, or of Slices that cover their source, in order: the source."""
    axis = _axis(node, node.outputs[0])
    source: ir.Value | None = None
    at = 0
    for value in _operands(node):
        part = _part(value)
        if part is None or part[1] != axis or part[2] != at or (source is not None and part[0] is not source):
            return "the operands are no neighbouring parts of one tensor"
        source, at = part[0], part[3]
    dims = ir.dims_of(source)
    if source is None or axis is None or dims is None or dims[axis] != at:
        return "the parts are not all of the tensor"
    return source


def _part(value: ir.Value) -> tuple[ir.Value, int, int, int] | None:
    """Return (source, axis, start, stop) of a value that is a part of another along an axis."""
    producer = value.producer()
    if producer is None or producer.domain != "":
        return None
    if producer.op_type == "Slice":
        return pieces(producer)
    found = parts_of(producer) if producer.op_type == "Split" else None
    source, index = producer.inputs[0] if producer.inputs else None, value.index()
    if found is None or source is None or index is None:
        return None
    axis, offsets = found
    return source, axis, offsets[index], offsets[index + 1]


def _split_of_concat(node: ir.Node) -> Several:
    """Split(Concat(a, b)) into the sizes of a and b."""
    x = node.inputs[0]
    inner = x.producer() if x is not None else None
    if inner is None or inner.op_type != "Concat" or inner.domain != "":
        return "it cuts no Concat"
    ours, theirs = parts_of(node), parts_of(inner)
    if ours is None or ours != theirs:
        return "it cuts elsewhere than the Concat joins"
    return _operands(inner)


def _slice_of_concat(node: ir.Node) -> Found:
    """Slice(Concat(a, b, c)): the operands it touches, whole, or a Slice of the only one."""
    part = pieces(node)
    inner = part[0].producer() if part is not None else None
    if part is None or inner is None or inner.op_type != "Concat" or inner.domain != "":
        return "it takes no range of a Concat"
    found = parts_of(inner)
    if found is None or found[0] != part[1]:
        return "the Concat joins along another axis, or sizes are not known"
    axis, offsets = found
    _, _, start, stop = part
    touched = [i for i in range(len(inner.inputs)) if offsets[i] < stop and start < offsets[i + 1]]
    if not touched:
        return "it takes nothing"
    values = [v for v in (inner.inputs[i] for i in touched) if v is not None]
    first, last = offsets[touched[0]], offsets[touched[-1] + 1]
    if (start, stop) == (first, last):
        return values[0] if len(values) == 1 else lambda rw: rw.op("Concat", *values, axis=axis)
    if len(values) > 1:
        return "it takes parts of several operands"
    bounds = [np.asarray([b], np.int64) for b in (start - first, stop - first, axis)]
    return lambda rw: rw.op("Slice", values[0], *bounds)


def _stack(node: ir.Node) -> Found:
    """Concat(Unsqueeze(a), Unsqueeze(b)) along the new axis, which is not the last one."""
    out = ir.dims_of(node.outputs[0])
    axis = _axis(node, node.outputs[0])
    inner = [_unsqueezed(v, node, axis) for v in _operands(node)]
    values = [v for v in inner if v is not None]
    if axis is None or out is None or len(values) < 2 or len(values) != len(inner):
        return "the operands are no Unsqueezes of the axis that nobody else uses"
    if axis >= len(out) - 1:
        return "the new axis is the last one: the elements would be in another order"
    return _reshaped(values, axis, out)


def _unsqueezed(value: ir.Value, user: ir.Node, axis: int | None) -> ir.Value | None:
    producer = value.producer()
    dims = ir.dims_of(value)
    if producer is None or producer.op_type != "Unsqueeze" or producer.domain != "" or not dims or axis is None:
        return None
    if producer.graph is not user.graph or ir.sole_user(value) is not user:
        return None
    axes = integers(producer, 1, "axes")
    one = axes is not None and len(axes) == 1 and isinstance(axes[0], int) and axes[0] % len(dims) == axis
    return producer.inputs[0] if one else None


def _reshaped(values: Sequence[ir.Value], axis: int, out: Sequence[ir.Dim | int | None]) -> Build | str:
    dims = [d for d in out if d is not None]
    source = list(ir.known_dims(values[0]))
    if len(dims) != len(out) or 0 in dims or len(source) != len(out) - 1:
        return "a size is not known, or 0"
    size = source[axis]
    joined = [*source[:axis], None if size is None else size * len(values), *source[axis + 1 :]]
    entries = reshape_entries(joined, dims, False)
    if isinstance(entries, str):
        return entries
    return lambda rw: rw.op("Reshape", rw.op("Concat", *values, axis=axis), np.asarray(entries, np.int64))


RULES: dict[str, tuple[Callable[[ir.Node], Several], ...]] = {
    "Concat": (_together, _nested, _stack),
    "Slice": (_slice_of_concat,),
    "Split": (_split_of_concat,),
}

_MOST_OPERANDS = 1024
