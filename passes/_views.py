"""Operators that may compute on values seen in another shape: the last axes stay, the ones before are laid out anew.

A value v is stored as v' with v = Reshape(v', shape of v). A layout is the shape of v'. The axes that both shapes end
in are the kept ones: operators that work along kept axes only, or element by element, do not see the others.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.shapes import static_size
from fcc.rewrite import Rewriter

from ._operands import integers, present, small_constant
from ._permutations import NARY, REDUCTIONS, UNARY, permutation
from ._regions import LAUNCH, SMALL, Carried, Layout
from ._targets import reshape_entries

MOVERS = ("Flatten", "Reshape", "Squeeze", "Unsqueeze")
Rule = Callable[[ir.Node, Layout, Layout], Carried | str]


def full_dims(value: ir.Value | None) -> Layout | None:
    """Return the shape of a value when every size is known, at least as a symbol, else None."""
    dims = ir.dims_of(value)
    return None if dims is None or None in dims else tuple(dims)


def kept_axes(a: Sequence[Any], b: Sequence[Any]) -> int:
    """Return how many axes two shapes have in common at their ends."""
    count = 0
    while count < min(len(a), len(b)) and a[-1 - count] == b[-1 - count]:
        count += 1
    return count


def _elementwise(node: ir.Node, main: Layout, stored: Layout) -> Carried | str:
    kept = kept_axes(main, stored)
    operands: list[Layout | None] = []
    inputs: dict[int, np.ndarray[Any, Any]] = {}
    for i, value in enumerate(node.inputs):
        dims = full_dims(value)
        if value is None:
            operands.append(None)
        elif dims is None:
            return "the shape of an operand is not known"
        elif dims == main:
            operands.append(stored)
        elif len(dims) <= kept and len(dims) <= len(stored):
            operands.append(None)
        elif (array := small_constant(value)) is not None and array.size <= SMALL and _leads_with_ones(dims, kept):
            operands.append(None)
            inputs[i] = array.reshape(array.shape[array.ndim - kept :])
        elif array is not None and (laid_out := _laid_out(array, main, stored)) is not None:
            operands.append(None)
            inputs[i] = laid_out
        else:
            return "an operand broadcasts over axes that are laid out anew"
    return Carried(tuple(operands), (stored,) * len(node.outputs), {}, inputs)


def _laid_out(array: np.ndarray[Any, Any], main: Layout, stored: Layout) -> np.ndarray[Any, Any] | None:
    """Return a constant beside the last axes of ``main`` as it stands beside those of ``stored`` that hold the same."""
    array = array.reshape(array.shape[next((i for i, d in enumerate(array.shape) if d != 1), array.ndim) :])
    for i in range(array.ndim, len(main) + 1):
        tail = ir.numbers(main[len(main) - i :])
        size = prod(tail)
        if len(tail) < i or size > SMALL:
            return None
        for j in range(len(stored) + 1):
            other = ir.numbers(stored[len(stored) - j :])
            if len(other) == j and prod(other) == size and size > 0:
                return np.ascontiguousarray(np.broadcast_to(array, tail)).reshape(other)
    return None


def _leads_with_ones(dims: Layout, kept: int) -> bool:
    return all(d == 1 for d in dims[: len(dims) - kept])


def _along(default: int) -> Rule:
    """Return the rule of operators along one kept axis; all operands of Concat, the first one of others."""

    def rule(node: ir.Node, main: Layout, stored: Layout) -> Carried | str:
        axis = node.attributes.get_int("axis", default)
        axis = axis if axis < 0 else axis - len(main)
        if -axis > kept_axes(main, stored):
            return "it works along an axis that is laid out anew"
        every = node.op_type == "Concat"
        operands = [_beside(v, main, stored) if every or i == 0 else None for i, v in enumerate(node.inputs)]
        if any(p is None for p in operands[: None if every else 1]):
            return "the operands have other leading axes"
        return _with_results(node, main, stored, operands, {"axis": axis})

    return rule


def _beside(value: ir.Value | None, main: Layout, stored: Layout) -> Layout | None:
    """Return the layout of a value that differs from ``main`` in kept axes only."""
    dims = full_dims(value)
    if dims is None or len(dims) != len(main):
        return None
    kept = kept_axes(main, stored)
    if dims[: len(main) - kept] != main[: len(main) - kept]:
        return None
    return (*stored[: len(stored) - kept], *dims[len(main) - kept :])


def _with_results(
    node: ir.Node, main: Layout, stored: Layout, operands: Sequence[Layout | None], attributes: dict[str, Any]
) -> Carried | str:
    results = [_beside(v, main, stored) for v in node.outputs]
    if any(r is None for r in results):
        return "the shape of a result is not known, or its leading axes are others"
    return Carried(tuple(operands), tuple(r for r in results if r is not None), attributes)


def _reduce(node: ir.Node, main: Layout, stored: Layout) -> Carried | str:
    axes = integers(node, 1, "axes") if present(node, 1, "axes") else None
    if not axes or any(not isinstance(a, int) for a in axes):
        return "the axes are not known"
    negative = [a if a < 0 else a - len(main) for a in axes]
    if not node.attributes.get_int("keepdims", 1):
        return _drop(node, main, stored, negative)
    if any(-a > kept_axes(main, stored) for a in negative):
        return "it works along an axis that is laid out anew"
    given, changed, inputs = _reducing(node, stored, negative)
    found = _with_results(node, main, stored, given, changed)
    return found if isinstance(found, str) else Carried(found.operands, found.results, changed, inputs)


def _reducing(
    node: ir.Node, stored: Layout, axes: list[int]
) -> tuple[tuple[Layout | None, ...], dict[str, Any], dict[int, np.ndarray[Any, Any]]]:
    """Return operands, attributes and inputs of a reduction along other axes."""
    inputs = {1: np.asarray(axes, np.int64)} if present(node, 1) else {}
    return (stored, None)[: len(node.inputs)], {} if inputs else {"axes": axes}, inputs


def _drop(node: ir.Node, main: Layout, stored: Layout, negative: Sequence[int]) -> Carried | str:
    """A reduction that drops its axes gives its result at once, where the layouts differ in axes of size 1 only."""
    gone = {a + len(main) for a in negative}
    kept = [i not in gone for i, d in enumerate(main) if d != 1]
    if [d for d in main if d != 1] != [d for d in stored if d != 1]:
        return "it works along an axis that is laid out anew"
    result = tuple(d for i, d in enumerate(main) if i not in gone)
    axes: list[int] = []
    at, stays = 0, iter(kept)
    for axis, dim in enumerate(stored):
        if not (next(stays) if dim != 1 else result[at : at + 1] == (1,)):
            axes.append(axis - len(stored))
        elif result[at : at + 1] == (dim,):
            at += 1
        else:
            return "the result has axes of size 1 at other places"
    if at < len(result) or not axes:
        return "the result has axes of size 1 at other places"
    given, changed, inputs = _reducing(node, stored, axes)
    return Carried(given, (result,), changed, inputs)


def _matmul(node: ir.Node, main: Layout, stored: Layout) -> Carried | str:
    weight, out = full_dims(node.inputs[1]), full_dims(node.outputs[0])
    if weight is None or len(weight) != 2 or out is None or len(stored) < 2 or kept_axes(main, stored) < 1:
        return "it multiplies no matrix along a kept axis"
    return Carried((stored, None), ((*stored[:-1], out[-1]),))


def _transpose(node: ir.Node, main: Layout, stored: Layout) -> Carried | str:
    perm, kept = permutation(node) or (), kept_axes(main, stored)
    lead, start = len(main) - kept, len(stored) - kept
    if perm[:lead] != tuple(range(lead)):
        return "it moves an axis that is laid out anew"
    moved = perm[lead:]
    result = (*stored[:start], *(main[p] for p in moved))
    return Carried((stored,), (result,), {"perm": [*range(start), *(p - lead + start for p in moved)]})


RULES: dict[str, Rule] = {
    **{name: _elementwise for name in (*UNARY, *NARY)},
    **{name: _along(-1) for name in ("Hardmax", "LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax")},
    **{name: _along(0) for name in ("Concat", "Split")},
    **{name: _reduce for name in REDUCTIONS},
    "MatMul": _matmul,
    "Transpose": _transpose,
}


class Views:
    """Reshape, Flatten, Squeeze and Unsqueeze as movers: a layout is the shape of what is stored."""

    def moves(self, node: ir.Node) -> bool:
        return node.op_type in MOVERS and node.domain == "" and _keeps_elements(node)

    def given(self, node: ir.Node) -> Layout | None:
        return full_dims(node.inputs[0])

    def taken(self, node: ir.Node) -> Layout | None:
        return full_dims(node.outputs[0])

    def same(self, value: ir.Value, layout: Layout) -> bool:
        return full_dims(value) == layout

    def carried(self, node: ir.Node, index: int, layout: Layout) -> Carried | str:
        rule = RULES.get(node.op_type) if node.domain == "" else None
        main = full_dims(node.inputs[index])
        if rule is None or main is None:
            return f"{node.op_type} does not work on the last axes alone"
        if rule is _elementwise and main != full_dims(node.outputs[0]):
            return "the operand is repeated"
        return rule(node, main, layout)

    def before(self, node: ir.Node, layout: Layout) -> Carried | str:
        main, out = full_dims(node.inputs[0]) if node.inputs else None, full_dims(node.outputs[0])
        if main is None or out is None or node.domain != "":
            return "the shapes are not known"
        if RULES.get(node.op_type) is _elementwise:
            return _elementwise(node, out, layout)
        first = _beside(node.inputs[0], out, layout)
        return "the leading axes are others" if first is None else self.carried(node, 0, first)

    def fits(self, value: ir.Value, layout: Layout) -> bool:
        dims = full_dims(value)
        if dims is None or 0 in dims or 0 in layout:
            return False
        return not any(isinstance(reshape_entries(a, b, False), str) for a, b in ((dims, layout), (layout, dims)))

    def weight(self, value: ir.Value, shapes: Mapping[str, int]) -> int:
        return LAUNCH

    def constant(self, value: ir.Value, layout: Layout) -> np.ndarray[Any, Any] | None:
        array = small_constant(value)
        sizes = ir.numbers(layout)
        if array is None or array.size > SMALL or len(sizes) != len(layout):
            return None
        return array.reshape(sizes)

    def store(self, rw: Rewriter, value: ir.Value, layout: Layout) -> ir.Value:
        return _reshape(rw, value, full_dims(value), layout)

    def restore(self, rw: Rewriter, stored: ir.Value, value: ir.Value, layout: Layout) -> ir.Value:
        return _reshape(rw, stored, layout, full_dims(value))

    def turn(self, rw: Rewriter, stored: ir.Value, node: ir.Node, layout: Layout) -> ir.Value:
        return _reshape(rw, stored, layout, full_dims(node.outputs[0]))

    def turns(self, node: ir.Node, layout: Layout) -> bool:
        out = full_dims(node.outputs[0])
        return out is not None and 0 not in out and not isinstance(reshape_entries(layout, out, False), str)

    def remakes(self, node: ir.Node, layout: Layout) -> bool:
        source = full_dims(node.inputs[0])
        return source is not None and not isinstance(reshape_entries(source, layout, False), str)


def _keeps_elements(node: ir.Node) -> bool:
    """Return whether nothing known of the shapes says that a mover has other elements than its input."""
    assert node.inputs[0] is not None
    before, after = static_size(node.inputs[0]), static_size(node.outputs[0])
    return before is None or after is None or before == after


def _reshape(rw: Rewriter, value: ir.Value, source: Layout | None, target: Layout | None) -> ir.Value:
    assert target is not None
    entries = reshape_entries(source, target, False)
    assert not isinstance(entries, str)
    made: ir.Value = rw.op("Reshape", value, np.asarray(entries, np.int64))
    return made
