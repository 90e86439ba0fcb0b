"""eliminate-negations: x + -y -> x - y, and what else takes a sign away."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext

from ._no_op_layout import Found, first
from ._table import Rule, TablePass, only_for, producer_of, roots


def _turned(index: int, op_type: str, order: Callable[[ir.Value, ir.Value], tuple[ir.Value, ir.Value]]) -> Rule:
    """Input ``index`` is a Neg that nobody else uses: ``op_type`` of the other input and what is negated, in order."""

    def rule(node: ir.Node, ctx: PassContext) -> Found:
        other, inner = node.inputs[1 - index], only_for(node, node.inputs[index], "Neg")
        if inner is None or other is None or other is node.inputs[index]:
            return "no operand is a Neg that nobody else uses"
        return lambda rw: rw.op(op_type, *order(other, first(inner)))

    return rule


def _both(node: ir.Node, ctx: PassContext) -> Found:
    """-x * -y, -x / -y."""
    inner = [only_for(node, v, "Neg") for v in node.inputs]
    if inner[0] is None or inner[1] is None:
        return "not both operands are a Neg that nobody else uses"
    values = [first(n) for n in inner if n is not None]
    return lambda rw: rw.op(node.op_type, *values)


def _swapped(node: ir.Node, ctx: PassContext) -> Found:
    """-(x - y)."""
    inner = only_for(node, node.inputs[0], "Sub")
    if inner is None:
        return "it negates no Sub that nobody else uses"
    return lambda rw: rw.op("Sub", inner.inputs[1], inner.inputs[0])


def _even(node: ir.Node, ctx: PassContext) -> Found:
    """|-x|, cos(-x)."""
    inner = producer_of(node.inputs[0], "Neg")
    return "it is of no Neg" if inner is None else lambda rw: rw.like(node, first(inner))


RULES: Mapping[str, tuple[Rule, ...]] = {
    "Add": (_turned(1, "Sub", lambda x, y: (x, y)), _turned(0, "Sub", lambda x, y: (x, y))),
    "Sub": (_turned(1, "Add", lambda x, y: (x, y)),),
    "Mul": (_both,),
    "Div": (_both,),
    "Neg": (_swapped,),
    "Abs": (_even,),
    "Cos": (_even,),
}


class EliminateNegations(TablePass):
    """Let the operators around a negation do without it.

    x + -y, -y + x -> x - y;  x - -y -> x + y;  -x * -y -> x * y;  -x / -y -> x / y;  -(x - y) -> y - x;
    |-x| -> |x|;  cos(-x) -> cos(x)

    A negation (or the difference) that others use too stays, except under an even function. Shapes: any.
    Numerics: bit for bit, but -(x - x), which is -0.0. Source: IEEE 754.
    """

    name: ClassVar[str] = "eliminate-negations"
    pattern = roots(RULES)
    rules = RULES
