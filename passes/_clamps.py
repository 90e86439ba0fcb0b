"""What bounds make of a clamp, a comparison, or a choice. A rule returns a value, how to build it, or why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce

import numpy as np

from fcc import ir
from fcc.analysis.bounds import Bounds, aligned
from fcc.analysis.intervals import Intervals
from fcc.analysis.shape_rules import broadcast
from fcc.analysis.shapes import static_size

from ._no_op_elementwise import keeps_shape
from ._no_op_layout import Found, first

Rule = Callable[[ir.Node, Intervals], Found]
_WRITTEN = 1024  # elements of a constant that takes the place of a node


def _decided(node: ir.Node, intervals: Intervals) -> Found:
    """The constant that the bounds of the result leave, when that is one number."""
    value, bounds = node.outputs[0], intervals.of(node.outputs[0])
    if bounds.least != bounds.greatest:
        return f"the result lies between {bounds.least:g} and {bounds.greatest:g}"
    size, dtype = static_size(value), value.dtype
    if size is None or size > _WRITTEN or dtype is None or value.shape is None:
        return f"the result is {bounds.least:g} throughout, and not of a known shape of at most {_WRITTEN} elements"
    array = np.full(value.shape.numpy(), bounds.least).astype(dtype.numpy())
    return lambda rw: rw.const(array)


def _or_decided(rule: Rule) -> Rule:
    def both(node: ir.Node, intervals: Intervals) -> Found:
        decided = _decided(node, intervals)
        return decided if not isinstance(decided, str) else rule(node, intervals)

    return both


def _idle_above(attribute: str = "") -> Rule:
    """f(x) = x where x is at least 0, or at least an attribute."""

    def rule(node: ir.Node, intervals: Intervals) -> Found:
        x = intervals.of(first(node))
        limit = node.attributes.get_float(attribute, 1.0) if attribute else 0.0
        idle = x.least > limit if attribute else x.least >= 0
        return first(node) if idle else f"the input may be {x.least:g}"

    return rule


def _abs(node: ir.Node, intervals: Intervals) -> Found:
    x = intervals.of(first(node))
    if x.least >= 0:
        return first(node)
    return (lambda rw: rw.op("Neg", first(node))) if x.greatest <= 0 else f"the input may be {x.least:g}"


def _clip(node: ir.Node, intervals: Intervals) -> Found:
    if "min" in node.attributes or "max" in node.attributes:
        return "the bounds are attributes (opset below 11)"
    x = intervals.of(first(node))
    idle = [_is_idle(node, intervals, x, side) for side in (0, 1)]
    if all(i is not False for i in idle):
        return first(node)
    if True not in idle:
        return f"the input lies between {x.least:g} and {x.greatest:g}"
    low, high = node.inputs[1], node.inputs[2]
    if idle[1] and intervals.of(low).greatest > intervals.of(high).least:
        return "the lower bound may exceed the upper one, which then is the result"
    return lambda rw: rw.op("Clip", first(node), *((None, high) if idle[0] else (low,)))


def _is_idle(node: ir.Node, intervals: Intervals, x: Bounds, side: int) -> bool | None:
    """Return whether a bound of a Clip (0: lower, 1: upper) never acts; None when there is none."""
    value = node.inputs[side + 1] if side + 1 < len(node.inputs) else None
    if value is None:
        return None
    bound = intervals.of(value)
    return x.least >= bound.greatest if side == 0 else x.greatest <= bound.least


def _extreme(greater: bool) -> Rule:
    """Max or Min without the operands that another one always exceeds, or stays below."""

    def rule(node: ir.Node, intervals: Intervals) -> Found:
        operands = ir.operands(node)
        kept = list(operands)
        for value in operands:
            rest = [v for v in kept if v is not value]
            if rest and any(_rules(intervals.of(v), intervals.of(value), greater) for v in rest):
                kept = rest
        if len(kept) == len(operands):
            return "no operand exceeds another one everywhere"
        if len(kept) == 1:
            return kept[0] if keeps_shape(kept[0], operands) else "it broadcasts, or may"
        return (lambda rw: rw.like(node, *kept)) if _same_shape(node, kept) else "it broadcasts, or may"

    return rule


def _rules(a: Bounds, b: Bounds, greater: bool) -> bool:
    x, y = aligned(a, b)
    return bool(np.all(x.low >= y.high)) if greater else bool(np.all(x.high <= y.low))


def _same_shape(node: ir.Node, kept: Sequence[ir.Value]) -> bool:
    dims = [ir.dims_of(v) for v in kept]
    known = [d for d in dims if d is not None]
    return len(known) == len(dims) and reduce(broadcast, known) == ir.dims_of(node.outputs[0])


def _where(node: ir.Node, intervals: Intervals) -> Found:
    condition = intervals.of(first(node))
    if condition.least != condition.greatest:
        return "the condition may be either"
    chosen, other = node.inputs[1 if condition.least else 2], node.inputs[2 if condition.least else 1]
    assert chosen is not None
    assert other is not None
    return chosen if keeps_shape(chosen, [other, first(node)]) else "it broadcasts, or may"


def _mod(node: ir.Node, intervals: Intervals) -> Found:
    x, divisor = intervals.of(first(node)), intervals.of(node.inputs[1])
    if not 0 <= x.least <= x.greatest < divisor.least:
        return "the number may be negative, or reach the divisor"
    other = node.inputs[1]
    assert other is not None
    return first(node) if keeps_shape(first(node), [other]) else "it broadcasts, or may"


CLAMPS: dict[str, Rule] = {
    **dict.fromkeys(
        ("And", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Not", "Or", "Sign"), _decided
    ),
    **dict.fromkeys(("Celu", "Elu", "LeakyRelu", "PRelu", "Relu"), _or_decided(_idle_above())),
    "Abs": _abs,
    "Clip": _or_decided(_clip),
    "Max": _or_decided(_extreme(True)),
    "Min": _or_decided(_extreme(False)),
    "Mod": _mod,
    "ThresholdedRelu": _or_decided(_idle_above("alpha")),
    "Where": _where,
}
