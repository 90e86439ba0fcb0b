"""Softmax and LogSoftmax written in primitives: what a value is the softmax of, and along which axis."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import inf, log

from .. import ir
from .interior import interior
from .recognize import Reduced, is_aligned, number, plain, producer, reduction, same_order, unexpanded

_BOUNDED = {"Tanh": 1.0, "Sigmoid": 1.0, "HardSigmoid": 1.0, "Softsign": 1.0, "Softmax": 1.0, "Erf": 1.0, "Sin": 1.0}
_KEPT = frozenset({"Identity", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Gather", "Flatten", "Expand"})
_DEEPEST = 8
_LARGEST = {ir.DataType.FLOAT: 87.0, ir.DataType.BFLOAT16: 87.0, ir.DataType.DOUBLE: 700.0, ir.DataType.FLOAT16: 9.0}
"""|x| for which exp(x) and exp(-x) are normal numbers."""


@dataclass(frozen=True)
class Soft:
    """A Softmax (LogSoftmax if ``log``) of ``x`` along ``axis``; ``interior`` computes it, the end first.

    ``reason`` says why it is not the operator after all: exp may overflow, or several axes.
    """

    x: ir.Value
    axis: int
    log: bool
    interior: tuple[ir.Node, ...]
    reason: str | None = None


def softmax_at(node: ir.Node) -> Soft | None:
    """Return the Softmax or LogSoftmax that a Div, Mul, Sub, Log or Exp is the end of."""
    rule = {"Div": _quotient, "Mul": _quotient, "Sub": _difference, "Log": _logarithm, "Exp": _exponential}
    return rule[node.op_type](node) if node.op_type in rule and node.domain == "" else None


# -- exp(d) / sum(exp(d)) ------------------------------------------------------------------------------------------
def _quotient(node: ir.Node) -> Soft | None:
    """exp(d) / sum(exp(d)), or times the Reciprocal of the sum."""
    for top, total, laid in _fractions(node):
        exp = producer(top, "Exp")
        if exp is None or exp.inputs[0] is None or total is None:
            continue
        if total.x is top and is_aligned(laid, total):
            return _soft(node, exp.inputs[0], total, False)
    return None


def _fractions(node: ir.Node) -> Iterator[tuple[ir.Value, Reduced | None, ir.Value]]:
    """Yield (numerator, the sum it is divided by, the value that lies along it)."""
    a, b = node.inputs
    if a is None or b is None:
        return
    if node.op_type == "Div":
        yield a, reduction(unexpanded(b), "ReduceSum"), b
        return
    for top, laid in ((a, b), (b, a)):
        inverse = producer(plain(unexpanded(laid)), "Reciprocal", "Div")
        below = None if inverse is None else inverse.inputs[-1]
        if inverse is None or below is None or not same_order(below, inverse.outputs[0]):
            continue
        if inverse.op_type == "Reciprocal" or number(inverse.inputs[0]) == 1.0:
            yield top, reduction(below, "ReduceSum"), laid


# -- d - log(sum(exp(d))) ------------------------------------------------------------------------------------------
def _difference(node: ir.Node) -> Soft | None:
    """d - log(sum(exp(d)));  x - ReduceLogSumExp(x);  x - (log(sum(exp(x - m))) + m)."""
    d, log_sum = node.inputs
    if d is None or log_sum is None:
        return None
    whole = reduction(unexpanded(log_sum), "ReduceLogSumExp")
    if whole is not None and whole.x is d and is_aligned(log_sum, whole):
        return _operator(node, d, whole, True)
    found = _log_sum_exp(log_sum)
    if found is not None and found[1] is d and is_aligned(log_sum, found[0]):
        return _soft(node, d, found[0], True)
    return _restored(node, d, log_sum)


def _restored(node: ir.Node, x: ir.Value, log_sum: ir.Value) -> Soft | None:
    added = producer(plain(unexpanded(log_sum)), "Add")
    if added is None:
        return None
    for first, most in (added.inputs, added.inputs[::-1]):
        found = None if first is None else _log_sum_exp(first)
        if first is None or most is None or found is None:
            continue
        total, d = found
        same = same_order(first, most) and same_order(first, added.outputs[0])
        if same and _unshifted(d, total) is x and _max_of(most) == Reduced(x, total.axes):
            return _operator(node, x, total, True) if is_aligned(log_sum, Reduced(x, total.axes)) else None
    return None


def _log_sum_exp(value: ir.Value) -> tuple[Reduced, ir.Value] | None:
    """Return (the sum, d) when the value is log(sum(exp(d)))."""
    value = plain(unexpanded(value))
    node = producer(value, "Log")
    total = reduction(node.inputs[0], "ReduceSum") if node is not None and node.inputs[0] is not None else None
    total = total or reduction(value, "ReduceLogSum")
    exp = None if total is None else producer(total.x, "Exp")
    return (total, exp.inputs[0]) if total is not None and exp is not None and exp.inputs[0] is not None else None


# -- of operators --------------------------------------------------------------------------------------------------
def _logarithm(node: ir.Node) -> Soft | None:
    """Log(Softmax(x)): equal only where no probability underflows."""
    soft = producer(node.inputs[0], "Softmax")
    x = None if soft is None else soft.inputs[0]
    if soft is None or x is None or not ir.dims_of(x):
        return None
    over = _axis_of(soft, x)
    reason = None
    if not _fits(x, over, 2):
        reason = "a probability may underflow: its logarithm is -inf here and finite in LogSoftmax"
    return Soft(x, over.axes[0], True, (node, soft), reason)


def _exponential(node: ir.Node) -> Soft | None:
    """Exp(LogSoftmax(x)) -> Softmax(x)."""
    soft = producer(node.inputs[0], "LogSoftmax")
    x = None if soft is None else soft.inputs[0]
    if soft is None or x is None or not ir.dims_of(x):
        return None
    return Soft(x, _axis_of(soft, x).axes[0], False, (node, soft))


def _axis_of(node: ir.Node, x: ir.Value) -> Reduced:
    return Reduced(x, (node.attributes.get_int("axis", -1) % len(ir.dims_of(x) or (1,)),))


# -- shared --------------------------------------------------------------------------------------------------------
def _soft(node: ir.Node, d: ir.Value, total: Reduced, is_log: bool) -> Soft:
    x = _unshifted(d, total)
    if x is not None:
        return _operator(node, x, total, is_log)
    reason = None
    if not _fits(d, total, 1):
        reason = "no maximum is subtracted and the input is not bounded: exp overflows here and not in Softmax"
    return _operator(node, d, total, is_log, reason)


def _operator(node: ir.Node, x: ir.Value, total: Reduced, is_log: bool, reason: str | None = None) -> Soft:
    if len(total.axes) != 1:
        reason = "it is taken over several axes at once"
    return Soft(x, total.axes[0], is_log, interior(node, {x}), reason)


def _unshifted(d: ir.Value, over: Reduced) -> ir.Value | None:
    """Return x when d is x - max(x) over the axes of ``over``, the maximum laid along x."""
    node = producer(d, "Sub")
    x, most = (None, None) if node is None else node.inputs
    if x is None or most is None:
        return None
    found = Reduced(x, over.axes)
    return x if _max_of(unexpanded(most)) == found and is_aligned(most, found) else None


def _max_of(value: ir.Value) -> Reduced | None:
    """Return what a value is the maximum of; Max(-inf, m) is m."""
    value = plain(value)
    node = producer(value, "Max")
    rest = [] if node is None else [v for v in node.inputs if v is not None and number(v) != -inf]
    if len(rest) == 1 and same_order(rest[0], value):
        value = rest[0]
    return reduction(value, "ReduceMax")


def _fits(x: ir.Value, over: Reduced, times: int) -> bool:
    """Return whether ``times`` the bound of |x|, and a sum of exponentials, stay normal numbers."""
    dims = ir.dims_of(x)
    n = None if dims is None else dims[over.axes[0]]
    if not isinstance(n, int) or n < 1 or x.dtype not in _LARGEST:
        return False
    return times * bound(x) + log(n) <= _LARGEST[x.dtype]


def bound(value: ir.Value, depth: int = _DEEPEST) -> float:
    """Return a bound of |value| that the nodes that make it guarantee, inf when there is none."""
    node = producer(value)
    if node is None or depth == 0 or not node.inputs or node.inputs[0] is None:
        return inf
    if node.op_type in _BOUNDED:
        return _BOUNDED[node.op_type]
    if node.op_type == "Clip":
        limits = [number(v) for v in node.inputs[1:]]
        known = [abs(c) for c in limits if c is not None]
        return max(known) if len(known) == 2 else inf
    if node.op_type == "Mul":
        operands = (node.inputs, node.inputs[::-1])
        return min(abs(c) * bound(v, depth - 1) if (c := number(k)) and v is not None else inf for v, k in operands)
    return bound(node.inputs[0], depth - 1) if node.op_type in _KEPT else inf
