"""What a value is, whatever the spelling: a constant number, a sum, a mean, a square, a variance, an inverse deviation.

Each function returns what it found, or None. Nodes that keep the elements and their row-major order (Identity,
Reshape, Squeeze, Unsqueeze, Flatten, an Expand that adds nothing) are looked through, so a statistic may have been
reshaped on its way; ``is_aligned`` says at its use whether it still lies along the tensor it was computed from.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from math import isclose, prod
from typing import Any

import numpy as np

from .. import ir

_ORDER_KEPT = frozenset({"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten"})
_MOST_EQUAL = 4096  # elements of a constant that are compared with each other
Dims = tuple[ir.Dim | int | None, ...]


@dataclass(frozen=True)
class Reduced:
    """A reduction of ``x`` over ``axes`` (sorted, from the front)."""

    x: ir.Value
    axes: tuple[int, ...]


@dataclass(frozen=True)
class Scale:
    """A power of a statistic of ``x``: (s + epsilon) ^ 0.5, or ^ -0.5 if ``inverse``.

    ``centered``: s is the variance of x over the axes, else the mean of its squares.
    """

    of: Reduced
    epsilon: float
    inverse: bool
    centered: bool


def producer(value: ir.Value | None, *types: str) -> ir.Node | None:
    """Return the node of the default domain that makes a value, if it is of one of ``types`` (any if none given)."""
    node = None if value is None else value.producer()
    if node is None or node.domain != "" or (types and node.op_type not in types):
        return None
    return node


def plain(value: ir.Value) -> ir.Value:
    """Return the value of which ``value`` holds the same elements in the same row-major order."""
    while (node := producer(value)) is not None and node.inputs and node.inputs[0] is not None:
        source = node.inputs[0]
        if node.op_type not in _ORDER_KEPT and not (node.op_type == "Expand" and same_order(source, value)):
            break
        value = source
    return value


def same_order(a: ir.Value, b: ir.Value) -> bool:
    """Return whether two shapes differ in dims of 1 only, so that elementwise ops pair elements in row-major order."""
    return _without_ones(a) is not None and _without_ones(a) == _without_ones(b)


def _without_ones(value: ir.Value) -> Dims | None:
    dims = ir.dims_of(value)
    return None if dims is None or None in dims else tuple(d for d in dims if d != 1)


def number(value: ir.Value | None) -> float | None:
    """Return the number that all elements of a constant are equal to, else None."""
    if value is None or not ir.Module.is_constant(value):
        return None
    dims = ir.dims_of(value)
    if dims is None or not 1 <= prod(d for d in dims if isinstance(d, int)) <= _MOST_EQUAL:
        return None
    array = ir.Module.constant(value)
    if array is None or array.dtype.kind in "bOSU" or not (array == array.flat[0]).all():
        return None
    return float(array.flat[0])


def times_number(value: ir.Value) -> tuple[ir.Value, float] | None:
    """Return (x, c) when the value is x * c, x / (1 / c) or -x, element by element of x."""
    node = producer(value, "Mul", "Div", "Neg")
    if node is None:
        return None
    if node.op_type == "Neg":
        found = (node.inputs[0], -1.0)
    elif (c := number(node.inputs[1])) is not None:
        found = (node.inputs[0], c if node.op_type == "Mul" else 1 / c if c else 0.0)
    elif node.op_type == "Mul" and (c := number(node.inputs[0])) is not None:
        found = (node.inputs[1], c)
    else:
        return None
    x, c = found
    return None if x is None or not same_order(x, value) else (x, c)


def axes_of(node: ir.Node) -> tuple[int, ...] | None:
    """Return the axes of a Reduce node, sorted and from the front, or None when they are not known."""
    dims = ir.dims_of(node.inputs[0])
    if dims is None:
        return None
    given: Iterable[int] | None = None
    attribute = node.attributes.get("axes")
    if attribute is not None:
        given = attribute.value
    elif len(node.inputs) > 1 and node.inputs[1] is not None:
        array = ir.Module.constant(node.inputs[1])
        if array is None:
            return None
        given = array.reshape(-1).tolist()
    axes = tuple(sorted({int(a) % len(dims) for a in given})) if given and dims else ()
    if axes:
        return axes
    return None if node.attributes.get_int("noop_with_empty_axes", 0) else tuple(range(len(dims)))


def reduction(value: ir.Value, *types: str) -> Reduced | None:
    """Return what the value reduces, if a Reduce node of one of ``types`` makes it."""
    node = producer(plain(value), *types)
    axes = None if node is None else axes_of(node)
    return Reduced(node.inputs[0], axes) if node is not None and node.inputs[0] is not None and axes else None


def mean_of(value: ir.Value) -> Reduced | None:
    """ReduceMean(x), ReduceSum(x) * (1 / n), ReduceSum(x) / n, GlobalAveragePool(x)."""
    value = plain(value)
    node = producer(value, "GlobalAveragePool")
    if node is not None and node.inputs[0] is not None:
        dims = ir.dims_of(node.inputs[0])
        return Reduced(node.inputs[0], tuple(range(2, len(dims)))) if dims and len(dims) > 2 else None
    return reduction(value, "ReduceMean") or _sum_over_count(value, "ReduceSum")


def mean_square_of(value: ir.Value) -> Reduced | None:
    """mean(x * x), ReduceSumSquare(x) / n: what is squared, and over which axes."""
    mean = mean_of(value)
    if mean is None:
        return _sum_over_count(plain(value), "ReduceSumSquare")
    squared = square_of(mean.x)
    return None if squared is None else Reduced(squared, mean.axes)


def _sum_over_count(value: ir.Value, sum_type: str) -> Reduced | None:
    scaled = times_number(value)
    total = None if scaled is None else reduction(scaled[0], sum_type)
    if scaled is None or total is None:
        return None
    n = count(total.x, total.axes)
    return total if n and isclose(scaled[1] * n, 1.0, rel_tol=_rounding(value)) else None


def _rounding(value: ir.Value) -> float:
    """Two roundings of the element type: what a constant 1 / n may be off."""
    return 2e-3 if value.dtype == ir.DataType.FLOAT16 else 1e-2 if value.dtype == ir.DataType.BFLOAT16 else 3e-7


def count(x: ir.Value, axes: Iterable[int]) -> int | None:
    """Return the number of elements along some axes, None when it is not known, or 0."""
    dims = ir.dims_of(x) or ()
    sizes = [dims[a] for a in axes if a < len(dims)]
    known = [d for d in sizes if isinstance(d, int)]
    return (prod(known) or None) if len(known) == len(sizes) else None


def square_of(value: ir.Value) -> ir.Value | None:
    """x * x, x ^ 2: what is squared, of the same shape."""
    node = producer(value, "Mul", "Pow")
    if node is None or node.inputs[0] is None:
        return None
    x = node.inputs[0]
    if node.op_type == "Pow":
        return x if number(node.inputs[1]) == 2.0 and ir.dims_of(x) == ir.dims_of(value) else None
    return x if node.inputs[1] is x else None


def is_aligned(value: ir.Value, over: Reduced) -> bool:
    """Return whether a reduced value broadcasts to ``over.x`` along the axes that were kept (Expand to it allowed)."""
    dims = ir.dims_of(over.x)
    node = producer(value, "Expand")
    if node is not None and node.inputs[0] is not None and ir.dims_of(value) == dims:
        value = node.inputs[0]
    found = ir.dims_of(value)
    if dims is None or found is None or len(found) > len(dims) or None in dims:
        return False
    kept = tuple(1 if i in over.axes else d for i, d in enumerate(dims))
    return (1,) * (len(dims) - len(found)) + found == kept


def unexpanded(value: ir.Value) -> ir.Value:
    """Return the operand of the Expand that makes a value, else the value."""
    node = producer(value, "Expand")
    return value if node is None or node.inputs[0] is None else node.inputs[0]


def centered(value: ir.Value) -> tuple[Reduced, int] | None:
    """x - mean(x): (x with the axes, 1); mean(x) - x: (..., -1)."""
    node = producer(value, "Sub", "Add")
    if node is None:
        return None
    a, b = node.inputs
    if a is None or b is None:
        return None
    if node.op_type == "Sub":
        return _centered(a, b, 1) or _centered(b, a, -1)
    for x, other in ((a, b), (b, a)):
        negated = times_number(other)
        if negated is not None and negated[1] == -1.0 and (found := _centered(x, negated[0], 1)):
            return found
    return None


def _centered(x: ir.Value, mean: ir.Value, sign: int) -> tuple[Reduced, int] | None:
    found = mean_of(unexpanded(mean))
    return (found, sign) if found is not None and found.x is x and is_aligned(mean, found) else None


def variance_of(value: ir.Value) -> Reduced | None:
    """mean((x - mean(x))^2), or mean(x^2) - mean(x)^2, also clamped below at 0: of what, over which axes."""
    value = _unclamped(plain(value))
    square = mean_square_of(value)
    if square is not None:
        center = centered(square.x)
        return center[0] if center is not None and center[0].axes == square.axes else None
    node = producer(value, "Sub")
    first, second = (None, None) if node is None else node.inputs
    if first is None or second is None:
        return None
    square, root = mean_square_of(first), square_of(plain(second))
    mean = None if root is None else mean_of(root)
    same = same_order(first, second) and same_order(first, value)
    return square if square is not None and square == mean and same else None


def _unclamped(value: ir.Value) -> ir.Value:
    """Max(x, 0), Relu(x), Clip(x, 0), Abs(x) -> x: the same for a variance but for its rounding errors."""
    node = producer(value, "Max", "Relu", "Clip", "Abs")
    if node is None or node.inputs[0] is None:
        return value
    if node.op_type in ("Relu", "Abs"):
        return plain(node.inputs[0])
    if node.op_type == "Clip":
        upper = node.inputs[2] if len(node.inputs) > 2 else None
        lower = node.inputs[1] if len(node.inputs) > 1 else None
        return plain(node.inputs[0]) if number(lower) == 0.0 and upper is None else value
    rest = [v for v in node.inputs if v is not None and number(v) != 0.0]
    only = len(rest) == 1 and len(node.inputs) == 2 and same_order(rest[0], value)
    return plain(rest[0]) if only else value


def scale_of(value: ir.Value) -> Scale | None:
    """Sqrt(s + e), its Reciprocal, Sqrt of the Reciprocal, 1 / Sqrt, Pow with 0.5 or -0.5."""
    value, flipped = _uninverted(plain(value))
    node = producer(value, "Sqrt", "Pow")
    if node is None or node.inputs[0] is None:
        return None
    power = 0.5 if node.op_type == "Sqrt" else number(node.inputs[1])
    if power not in (0.5, -0.5) or not same_order(node.inputs[0], value):
        return None
    inner, below = _uninverted(plain(node.inputs[0]))
    statistic, epsilon = _plus_number(inner)
    inverse = (power < 0) ^ flipped ^ below
    variance = variance_of(statistic)
    if variance is not None:
        return Scale(variance, epsilon, inverse, True)
    square = mean_square_of(statistic)
    return None if square is None else Scale(square, epsilon, inverse, False)


def _uninverted(value: ir.Value) -> tuple[ir.Value, bool]:
    node = producer(value, "Reciprocal", "Div")
    if node is None:
        return value, False
    if node.op_type == "Div" and number(node.inputs[0]) != 1.0:
        return value, False
    operand = node.inputs[-1]
    return (plain(operand), True) if operand is not None and same_order(operand, value) else (value, False)


def _plus_number(value: ir.Value) -> tuple[ir.Value, float]:
    node = producer(value, "Add")
    if node is not None:
        for x, c in (node.inputs, node.inputs[::-1]):
            if x is not None and (found := number(c)) is not None and same_order(x, value):
                return x, found
    return value, 0.0


def array_of(value: ir.Value) -> np.ndarray[Any, Any] | None:
    """Return a constant as float64, else None."""
    array = ir.Module.constant(value)
    return None if array is None or array.dtype.kind in "OSU" else array.astype(np.float64)
