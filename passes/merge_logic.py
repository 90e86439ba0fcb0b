"""merge-logic: Where, Not, And, Or, Equal and casts of truth values that are one operator, or none."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.shapes import static_size
from fcc.rewrite import PassContext

from ._no_op_elementwise import keeps_shape
from ._no_op_layout import Found, first
from ._operands import uniform
from ._table import Rule, TablePass, only_for, producer_of, roots

_WRITTEN = 1024  # elements of a constant that takes the place of a node
_OPPOSITE = {"Less": "GreaterOrEqual", "LessOrEqual": "Greater", "Greater": "LessOrEqual", "GreaterOrEqual": "Less"}


# -- choices -----------------------------------------------------------------------------------------------------------
def _of_negation(node: ir.Node, ctx: PassContext) -> Found:
    """Where(Not(c), x, y)."""
    inner = producer_of(node.inputs[0], "Not")
    if inner is None:
        return "the condition is no Not"
    return lambda rw: rw.op("Where", inner.inputs[0], node.inputs[2], node.inputs[1])


def _of_equals(node: ir.Node, ctx: PassContext) -> Found:
    """Where(c, x, x)."""
    x = node.inputs[1]
    if x is None or x is not node.inputs[2]:
        return "the choice is between two values"
    return x if keeps_shape(x, [first(node)]) else "it broadcasts, or may"


def _of_choice(node: ir.Node, ctx: PassContext) -> Found:
    """Where(c, Where(c, x, y), z), Where(c, x, Where(c, y, z))."""
    for index, taken in ((1, 1), (2, 2)):
        inner = producer_of(node.inputs[index], "Where")
        if inner is None or inner.inputs[0] is not node.inputs[0]:
            continue
        value, dropped = inner.inputs[taken], inner.inputs[3 - taken]
        assert value is not None
        assert dropped is not None
        if not keeps_shape(value, [dropped, first(node)]):
            return "it broadcasts, or may"
        operands = [node.inputs[1], node.inputs[2]]
        operands[index - 1] = value
        return lambda rw, ops=operands: rw.op("Where", first(node), *ops)  # type: ignore[misc]
    return "it chooses from no choice by the same condition"


def _of_comparison(node: ir.Node, ctx: PassContext) -> Found:
    """Where(x > y, x, y), Where(x > y, y, x)."""
    test = producer_of(node.inputs[0], *_OPPOSITE)
    chosen = (node.inputs[1], node.inputs[2])
    if test is None or chosen not in (tuple(test.inputs), tuple(test.inputs)[::-1]) or chosen[0] is chosen[1]:
        return "it does not choose between what the condition compares"
    greater = test.op_type.startswith("Greater") == (chosen == tuple(test.inputs))
    op_type, dtype = "Max" if greater else "Min", node.outputs[0].dtype
    kinds = {} if dtype is None else {"T": dtype.name.lower()}
    return ctx.target.refusal(op_type, "", 13, kinds) or (lambda rw: rw.op(op_type, *chosen))


def _of_numbers(node: ir.Node, ctx: PassContext) -> Found:
    """Where(c, 1, 0), Where(c, 0, 1)."""
    condition, (one, other) = first(node), node.inputs[1:3]
    assert one is not None
    assert other is not None
    dtype = one.dtype
    yes = uniform(one, 1) and uniform(other, 0)
    no = uniform(one, 0) and uniform(other, 1)
    if dtype is None or not (yes or no) or (no and dtype != ir.DataType.BOOL):
        return "the choice is not between 1 and 0"
    if not keeps_shape(condition, [one, other]):
        return "it broadcasts, or may"
    if dtype == ir.DataType.BOOL:
        return condition if yes else lambda rw: rw.op("Not", condition)
    return lambda rw: rw.op("Cast", condition, to=int(dtype))


# -- twice the same ----------------------------------------------------------------------------------------------------
def _itself(node: ir.Node, ctx: PassContext) -> Found:
    """And(x, x), Or(x, x), Max(x, x), Min(x, x)."""
    return first(node) if len(node.inputs) == 2 and node.inputs[0] is node.inputs[1] else "the operands differ"


def _decided(result: int) -> Rule:
    """Equal(x, x), x - x and Xor(x, x) of what cannot be NaN or infinite."""

    def rule(node: ir.Node, ctx: PassContext) -> Found:
        value, out = first(node), node.outputs[0]
        if node.inputs[0] is not node.inputs[1] or value.dtype is None or value.dtype.is_floating_point():
            return "the operands differ, or may be NaN"
        size = static_size(out)
        if size is None or size > _WRITTEN or out.dtype is None or out.shape is None:
            return f"the result is not of a known shape of at most {_WRITTEN} elements"
        array = np.full(out.shape.numpy(), result, out.dtype.numpy())
        return lambda rw: rw.const(array)

    return rule


# -- negations and truth values ----------------------------------------------------------------------------------------
def _opposite(node: ir.Node, ctx: PassContext) -> Found:
    """Not(x < y) of integers: with NaN neither a comparison nor its opposite holds."""
    inner = only_for(node, node.inputs[0], *_OPPOSITE)
    if inner is None:
        return "it negates no comparison that nobody else uses"
    dtype = first(inner).dtype
    if dtype is None or not dtype.is_integer():
        return "the operands of the comparison may be NaN"
    return lambda rw: rw.op(_OPPOSITE[inner.op_type], *inner.inputs)


def _of_negations(node: ir.Node, ctx: PassContext) -> Found:
    """And(Not(x), Not(y)), Or(Not(x), Not(y))."""
    inner = [only_for(node, v, "Not") for v in node.inputs]
    if inner[0] is None or inner[1] is None or inner[0] is inner[1]:
        return "not both operands are a Not that nobody else uses"
    values = [first(n) for n in inner if n is not None]
    return lambda rw: rw.op("Not", rw.op("Or" if node.op_type == "And" else "And", *values))


def _of_truth(node: ir.Node, ctx: PassContext) -> Found:
    """Equal(b, true), Equal(Cast(b), 1), Equal(Cast(b), 0), Greater(Cast(b), 0)."""
    for value, number in (node.inputs, node.inputs[::-1]):
        cast = producer_of(value, "Cast")
        truth = value if value is not None and value.dtype == ir.DataType.BOOL else None
        truth = first(cast) if cast is not None and first(cast).dtype == ir.DataType.BOOL else truth
        if truth is None or number is None or number is truth:
            continue
        wanted = next((n for n in (0, 1) if uniform(number, n)), None)
        if wanted is None or (node.op_type == "Greater" and (wanted, number) != (0, node.inputs[1])):
            continue
        if not keeps_shape(truth, [number]):
            return "it broadcasts, or may"
        same = wanted == 1 or node.op_type == "Greater"
        return truth if same else lambda rw, truth=truth: rw.op("Not", truth)  # type: ignore[misc]
    return "it compares no truth value with a constant one"


RULES: Mapping[str, tuple[Rule, ...]] = {
    "And": (_itself, _of_negations),
    "Equal": (_of_truth, _decided(1)),
    "Greater": (_of_truth,),
    "Max": (_itself,),
    "Min": (_itself,),
    "Not": (_opposite,),
    "Or": (_itself, _of_negations),
    "Sub": (_decided(0),),
    "Where": (_of_negation, _of_equals, _of_choice, _of_comparison, _of_numbers),
    "Xor": (_decided(0),),
}


class MergeLogic(TablePass):
    """Simplify choices, comparisons and logic, by the table of rules.

    Where(not c, x, y) -> Where(c, y, x);  Where(c, x, x) -> x;  Where(c, Where(c, x, y), z) -> Where(c, x, z);
    Where(x > y, x, y) -> Max(x, y), Where(x > y, y, x) -> Min(x, y), for all comparisons (0.2 of the time, cpu);
    Where(c, 1, 0) -> Cast(c);  Where(c, true, false) -> c;  Where(c, false, true) -> not c;
    x and x, x or x, max(x, x), min(x, x) -> x;  x = x -> true, x - x -> 0, x xor x -> false, of integers and bools;
    not (x < y) -> x >= y of integers, likewise the other three;  not x and not y -> not (x or y);
    b = true, Cast(b) = 1, Cast(b) > 0 -> b;  b = false, Cast(b) = 0 -> not b

    Shapes: the result must provably keep its shape; a constant has at most 1024 elements. Numerics: bit for bit; where
    NaN is compared, Max and Min give NaN.
    Source: De Morgan; ONNX Where-16, Equal-19.
    """

    name: ClassVar[str] = "merge-logic"
    pattern = roots(RULES)
    rules = RULES
