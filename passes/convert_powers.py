"""convert-powers: Pow, Div, Reciprocal, Sqrt, Exp and Log by what costs less, or nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.intervals import Intervals
from fcc.rewrite import PassContext, Rewriter

from ._affine import FLOATS, limits
from ._fused import in_fused_function
from ._no_op_elementwise import keeps_shape
from ._no_op_layout import Found, first
from ._operands import small_constant, uniform
from ._table import TablePass, kernel_refusal, only_for, producer_of, roots

_SINGLE = frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})

# onnxruntime 1.31.1 on CPU, 1e5 elements, one thread, of the time of the Pow or Div: x * x 0.57, Sqrt 0.05, Reciprocal
# 0.07, Reciprocal(Sqrt) 0.15, (x * x) * (x * x) 0.07, Mul by a constant for Div 0.58, Reciprocal for 1 / x 0.99.
# x * x * x 1.05 to 0.77: Pow has its own loop for 2 and 3.
_TWO_NODES = frozenset({"cpu"})  # targets where a Pow costs more than two nodes


def _square(rw: Rewriter, x: ir.Value) -> Any:
    return rw.op("Mul", x, x)


_Build = Callable[[Rewriter, ir.Value], Any]
_POWERS: Mapping[float, tuple[int, _Build]] = {
    2.0: (1, _square),
    0.5: (1, lambda rw, x: rw.op("Sqrt", x)),
    -1.0: (1, lambda rw, x: rw.op("Reciprocal", x)),
    -0.5: (2, lambda rw, x: rw.op("Reciprocal", rw.op("Sqrt", x))),
    -2.0: (2, lambda rw, x: rw.op("Reciprocal", _square(rw, x))),
    0.25: (2, lambda rw, x: rw.op("Sqrt", rw.op("Sqrt", x))),
    1.5: (2, lambda rw, x: rw.op("Mul", x, rw.op("Sqrt", x))),
    4.0: (2, lambda rw, x: _square(rw, _square(rw, x))),
}
"""Exponent -> nodes, and how to make them."""


def _pow(node: ir.Node, ctx: PassContext) -> Found:
    x, exponent = first(node), small_constant(node.inputs[1])
    if exponent is None or exponent.size != 1 or node.inputs[1] is None:
        return "the exponent is no constant number"
    number = float(exponent.reshape(()))
    count, build = _POWERS.get(number, (0, _square))
    if count == 0 or (count > 1 and ctx.target.name not in _TWO_NODES):
        return f"a power of {number:g} costs no less otherwise on {ctx.target.name}"
    if x.dtype not in FLOATS:
        return "a power of integers"
    if not keeps_shape(x, [node.inputs[1]]):
        return "it broadcasts, or may"
    if any(u.node.op_type == "ReduceMean" for u in node.outputs[0].uses()):
        return "its mean is the variance of a normalization that runtimes fuse"
    return kernel_refusal(ctx, x, "Sqrt", "Reciprocal") or (lambda rw: build(rw, x))


# -- quotients ---------------------------------------------------------------------------------------------------------
def _one_over(node: ir.Node, ctx: PassContext) -> Found:
    """1 / x."""
    one, x = node.inputs
    assert one is not None
    assert x is not None
    if x.dtype not in FLOATS or not uniform(one, 1.0) or not keeps_shape(x, [one]):
        return "the numerator is not 1"
    return kernel_refusal(ctx, x, "Reciprocal") or (lambda rw: rw.op("Reciprocal", x))


def _over_reciprocal(node: ir.Node, ctx: PassContext) -> Found:
    """x / (1 / y)."""
    inner = only_for(node, node.inputs[1], "Reciprocal")
    return "the divisor is no Reciprocal" if inner is None else lambda rw: rw.op("Mul", first(node), inner.inputs[0])


def _over_constant(node: ir.Node, ctx: PassContext) -> Found:
    """x / c, where 1 / c is exact, or rounded in single precision or better."""
    x, c = first(node), small_constant(node.inputs[1])
    if x.dtype not in FLOATS or c is None or x.dtype is None:
        return "the divisor is no constant"
    exact = 1.0 / c.astype(np.float64, copy=False) if np.all(c != 0) else np.zeros(1)
    tiny, largest = limits(x.dtype)
    if not np.all((np.abs(exact) >= tiny) & (np.abs(exact) <= largest)):
        return "the inverse of the divisor is not finite and normal"
    inverse = np.asarray(exact, c.dtype)
    if x.dtype not in _SINGLE and not np.array_equal(inverse.astype(np.float64), exact):
        return f"the inverse of the divisor is rounded in {x.dtype}"
    if any(u.node.op_type == "Erf" for u in node.outputs[0].uses()) or in_fused_function(x):
        return "it belongs to a normalization or an activation that runtimes fuse"
    return lambda rw: rw.op("Mul", x, inverse)


def _times_reciprocal(node: ir.Node, ctx: PassContext) -> Found:
    """x * (1 / y)."""
    for x, other in (node.inputs, node.inputs[::-1]):
        inner = only_for(node, other, "Reciprocal")
        if inner is not None and x is not other:
            return lambda rw, x=x, y=inner.inputs[0]: rw.op("Div", x, y)  # type: ignore[misc]
    return "no factor is a Reciprocal that nobody else uses"


def _reciprocal(node: ir.Node, ctx: PassContext) -> Found:
    """1 / (1 / x), 1 / (x / y)."""
    inner = producer_of(node.inputs[0], "Reciprocal")
    if inner is not None:
        return first(inner)
    div = only_for(node, node.inputs[0], "Div")
    if div is None:
        return "it inverts no Reciprocal, and no Div that nobody else uses"
    return lambda rw: rw.op("Div", div.inputs[1], div.inputs[0])


# -- functions and their inverses --------------------------------------------------------------------------------------
def _squared_root(node: ir.Node, ctx: PassContext) -> Found:
    """Sqrt(x) * Sqrt(x)."""
    roots_ = [producer_of(v, "Sqrt") for v in node.inputs]
    if roots_[0] is None or roots_[1] is None or roots_[0].inputs[0] is not roots_[1].inputs[0]:
        return "it is no square of a Sqrt"
    x = first(roots_[0])
    return x if Intervals().of(x).least >= 0 else "the number under the root may be negative"


def _root_of_square(node: ir.Node, ctx: PassContext) -> Found:
    """Sqrt(x * x)."""
    inner = producer_of(node.inputs[0], "Mul")
    x = None if inner is None or inner.inputs[0] is not inner.inputs[1] else inner.inputs[0]
    if x is None or x.dtype is None:
        return "it is no root of a square"
    bounds, largest = Intervals().of(x), limits(x.dtype)[1] ** 0.5
    if max(-bounds.least, bounds.greatest) > largest:
        return f"the square may overflow: {bounds.least:g} <= x <= {bounds.greatest:g}"
    return lambda rw: rw.op("Abs", x)


def _exp_of_log(node: ir.Node, ctx: PassContext) -> Found:
    inner = producer_of(node.inputs[0], "Log")
    if inner is None:
        return "it is no exponential of a Log"
    return first(inner) if Intervals().of(inner.inputs[0]).least >= 0 else "the logarithm may be of a negative number"


def _log_of_exp(node: ir.Node, ctx: PassContext) -> Found:
    inner = producer_of(node.inputs[0], "Exp")
    dtype = None if inner is None else first(inner).dtype
    if inner is None or dtype is None:
        return "it is no logarithm of an Exp"
    bounds, (tiny, largest) = Intervals().of(inner.inputs[0]), limits(dtype)
    fits = np.log(tiny) <= bounds.least and bounds.greatest <= np.log(largest)
    return (
        first(inner)
        if fits
        else f"the exponential may overflow: x lies within {bounds.least:g} and {bounds.greatest:g}"
    )


RULES = {
    "Pow": (_pow,),
    "Div": (_one_over, _over_reciprocal, _over_constant),
    "Mul": (_squared_root, _times_reciprocal),
    "Reciprocal": (_reciprocal,),
    "Sqrt": (_root_of_square,),
    "Exp": (_exp_of_log,),
    "Log": (_log_of_exp,),
}


class ConvertPowers(TablePass):
    """Write powers, quotients and functions of their inverses as what costs less.

    x^2 -> x * x;  x^0.5 -> Sqrt(x);  x^-1, 1 / x -> Reciprocal(x);  x^4 -> (x * x)^2 on cpu, also 0.25, 1.5, -0.5,
    -2;  x / c -> x * (1 / c);  x * (1 / y) -> x / y;  x / (1 / y) -> x * y;  1 / (x / y) -> y / x;  1 / (1 / x) -> x;
    Sqrt(x) * Sqrt(x) -> x;  Sqrt(x * x) -> Abs(x);  Exp(Log(x)) -> x;  Log(Exp(x)) -> x

    Functions of their inverses only where bounds of x show that nothing is NaN, and nothing overflows. Shapes: any
    that no constant widens. Types: floats; an inexact 1 / c in single precision and better. What runtimes fuse as a
    whole (the square in a variance, x / sqrt(2) under Erf) stays.
    Numerics: exact to rounding. Source: recorded measurements; ONNX Pow-15.
    """

    name: ClassVar[str] = "convert-powers"
    pattern = roots(RULES)
    rules = RULES
