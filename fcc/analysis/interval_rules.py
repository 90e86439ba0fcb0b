"""Between which numbers the result of each operator lies: one rule per kind of operator, kinds in a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import erf

import numpy as np

from .. import ir
from .bounds import (
    EVERYTHING,
    Array,
    Ask,
    Bounds,
    Rule,
    aligned,
    between,
    combined,
    epsilon,
    hull,
    of_type,
    rounded,
    times,
)
from .interval_layers import LAYERS
from .interval_moves import MOVES
from .shapes import static_size

Function = Callable[[Array], Array]
_erf = np.vectorize(erf, otypes=[np.float64])


# -- functions of one number -------------------------------------------------------------------------------------------
def _rising(f: Function, low: float = -np.inf, high: float = np.inf) -> Rule:
    """A function that never falls, with values between ``low`` and ``high``."""

    def rule(ask: Ask) -> Bounds:
        x = ask.input(0)
        return combined(np.clip(f(x.low), low, high), np.clip(f(x.high), low, high), x)

    return rule


def _of_positive(f: Function) -> Rule:
    """A function that rises, and gives NaN for numbers below 0."""
    rule = _rising(f)
    return lambda ask: rule(ask) if ask.input(0).least >= 0 else EVERYTHING


def _attributes(f: Callable[..., Array], low: float = -np.inf, high: float = np.inf, **defaults: float) -> Rule:
    """A function whose attributes must all be >= 0 for it to rise."""

    def rule(ask: Ask) -> Bounds:
        given = {k: ask.node.attributes.get_float(k, v) for k, v in defaults.items()}
        if any(v < 0 for v in given.values()):
            return EVERYTHING
        return _rising(lambda x: f(x, **given), low, high)(ask)

    return rule


def _gate(lowest: float) -> Rule:
    """x g(x) with a gate between 0 and 1, which is 0 for x -> -inf; ``lowest`` is what it falls to below 0."""

    def rule(ask: Ask) -> Bounds:
        x = ask.input(0)
        return combined(np.where(x.low < 0, lowest, 0.0), np.maximum(x.high, 0.0), x)

    return rule


def _within(low: float, high: float) -> Rule:
    return lambda ask: between(low, high)


def _neg(ask: Ask) -> Bounds:
    x = ask.input(0)
    return combined(-x.high, -x.low, x)


def _reciprocal(ask: Ask) -> Bounds:
    x = ask.input(0)
    apart = (x.low > 0) | (x.high < 0)
    return combined(np.where(apart, 1 / x.high, -np.inf), np.where(apart, 1 / x.low, np.inf), x)


def _abs(ask: Ask) -> Bounds:
    x = ask.input(0)
    ends = np.abs(x.low), np.abs(x.high)
    return combined(np.where((x.low <= 0) & (x.high >= 0), 0.0, np.minimum(*ends)), np.maximum(*ends), x)


def _swish(ask: Ask) -> Bounds:
    alpha = ask.node.attributes.get_float("alpha", 1.702 if ask.node.domain else 1.0)
    return _gate(-0.2784646 / alpha)(ask) if alpha > 0 else EVERYTHING


def _prelu(ask: Ask) -> Bounds:
    x, slope = aligned(ask.input(0), ask.input(1))
    positive = combined(np.maximum(x.low, 0), np.maximum(x.high, 0), x)
    negative = combined(np.minimum(x.low, 0), np.minimum(x.high, 0), x)
    return hull(positive, _product(negative, slope)) if (x.low < 0).any() else x


def _cast(ask: Ask) -> Bounds:
    """Casts round to the nearest float, and towards zero for integers: both never fall."""
    x, to, source = ask.input(0), ask.node.outputs[0].dtype, ask.value(0)
    if to is None or to == ir.DataType.BOOL or source is None:
        return of_type(to)
    if to.is_integer():
        bounded = np.isfinite([x.least, x.greatest]).all()
        return combined(np.trunc(x.low), np.trunc(x.high), x) if bounded else of_type(to)
    if epsilon(source.dtype) >= epsilon(to) or _represents(x, epsilon(to)):
        return x
    return _outwards(x, to)


def _represents(x: Bounds, spacing: float) -> bool:
    """Return whether both bounds are integers that a float type with this spacing holds exactly."""
    ends = np.concatenate([x.low.reshape(-1), x.high.reshape(-1)])
    return bool(np.all((np.abs(ends) <= 1 / spacing) & (ends == np.round(ends))))


# -- functions of several ----------------------------------------------------------------------------------------------
def _sum(signs: tuple[int, ...] | None = None) -> Rule:
    """The sum of all inputs, some of them subtracted."""

    def rule(ask: Ask) -> Bounds:
        parts = aligned(*(ask.of(v) for v in ask.node.inputs))
        signed = zip(parts, signs or (1,) * len(parts), strict=True)
        ends = [(p.low, p.high) if s > 0 else (-p.high, -p.low) for p, s in signed]
        low, high = (sum((e[i] for e in ends[1:]), ends[0][i]) for i in (0, 1))
        sizes = [sum((np.abs(e[i]) for e in ends[1:]), np.abs(ends[0][i])) for i in (0, 1)]
        dtype = ask.node.outputs[0].dtype
        return combined(*rounded(low, high, sizes[0], sizes[1], len(parts) * epsilon(dtype)), *parts)

    return rule


def _mean(ask: Ask) -> Bounds:
    return hull(*(ask.of(v) for v in ask.node.inputs))


def _product(a: Bounds, b: Bounds) -> Bounds:
    x, y = aligned(a, b)
    corners = [times(p, q) for p in (x.low, x.high) for q in (y.low, y.high)]
    return combined(np.minimum.reduce(corners), np.maximum.reduce(corners), x, y)


def _outwards(found: Bounds, dtype: ir.DataType | None) -> Bounds:
    ends = rounded(found.low, found.high, np.abs(found.low), np.abs(found.high), epsilon(dtype))
    return Bounds(*ends, found.axis)


def _mul(ask: Ask) -> Bounds:
    dtype = ask.node.outputs[0].dtype
    if ask.value(0) is ask.value(1):
        x = ask.input(0)
        return _outwards(_square(x), dtype)
    return _outwards(_product(ask.input(0), ask.input(1)), dtype)


def _square(x: Bounds) -> Bounds:
    ends = np.square(x.low), np.square(x.high)
    through = (x.low <= 0) & (x.high >= 0)
    return combined(np.where(through, 0.0, np.minimum(*ends)), np.maximum(*ends), x)


def _div(ask: Ask) -> Bounds:
    """Quotients by what stays away from zero; those of integers are truncated, which never falls."""
    x, y = ask.input(0), ask.input(1)
    dtype = ask.node.outputs[0].dtype
    if not ((y.low > 0) | (y.high < 0)).all() or dtype is None:
        return EVERYTHING
    inverse = combined(1 / y.high, 1 / y.low, y)
    found = _product(x, inverse)
    if dtype.is_integer():
        return combined(np.floor(found.low), np.ceil(found.high), found)
    return Bounds(
        *rounded(found.low, found.high, np.abs(found.low), np.abs(found.high), 2 * epsilon(dtype)), found.axis
    )


def _pow(ask: Ask) -> Bounds:
    """Constant powers: even ones, and any above 0 of what is not negative."""
    exponent, x = ask.constant(1), ask.input(0)
    if exponent is None or exponent.size != 1:
        return EVERYTHING
    n = float(exponent.reshape(()))
    if n == 2.0:
        return _outwards(_square(x), ask.node.outputs[0].dtype)
    if n > 0 and x.least >= 0:
        return _outwards(combined(np.power(x.low, n), np.power(x.high, n), x), ask.node.outputs[0].dtype)
    return between(0.0, np.inf) if n % 2 == 0 or x.least >= 0 else EVERYTHING


def _extreme(choose: Callable[..., Array]) -> Rule:
    def rule(ask: Ask) -> Bounds:
        parts = aligned(*(ask.of(v) for v in ask.node.inputs))
        low, high = (_reduced(choose, [getattr(p, end) for p in parts]) for end in ("low", "high"))
        return combined(low, high, *parts)

    return rule


def _reduced(choose: Callable[..., Array], arrays: list[Array]) -> Array:
    found = arrays[0]
    for array in arrays[1:]:
        found = choose(found, array)
    return found


def _clip(ask: Ask) -> Bounds:
    """min(max(x, low), high); a bound that is absent is none, one that is not known may be anything."""
    attributes = ask.node.attributes
    ends = [between(*(attributes.get_float(k, v),) * 2) for k, v in (("min", -np.inf), ("max", np.inf))]
    if any(static_size(v) != 1 for i in (1, 2) if (v := ask.value(i)) is not None):
        return EVERYTHING
    low, high = (e if ask.value(i) is None else ask.input(i) for i, e in ((1, ends[0]), (2, ends[1])))
    x, low, high = aligned(ask.input(0), low, high)
    return combined(
        np.minimum(np.maximum(x.low, low.low), high.low), np.minimum(np.maximum(x.high, low.high), high.high), x
    )


def _where(ask: Ask) -> Bounds:
    condition = ask.input(0)
    if condition.least == condition.greatest:
        return ask.input(1 if condition.least else 2)
    return hull(ask.input(1), ask.input(2))


def _mod(ask: Ask) -> Bounds:
    """x mod m has the sign of m, and is x where 0 <= x < m."""
    x, divisor = aligned(ask.input(0), ask.input(1))
    if ask.node.attributes.get_int("fmod", 0) or divisor.least < 1:
        return EVERYTHING
    inside = (x.low >= 0) & (x.high < divisor.low)
    return combined(np.where(inside, x.low, 0.0), np.where(inside, x.high, divisor.high - 1), x, divisor)


def compared(op_type: str, a: Bounds, b: Bounds) -> bool | None:
    """Return what a comparison of two tensors gives for every pair of their elements, None where that depends."""
    kind = _COMPARISONS.get(op_type)
    if kind is None:
        return None
    x, y = aligned(a, b)
    less, or_equal = kind
    if not less:
        x, y = y, x
    always, never = ((x.high <= y.low), (x.low > y.high)) if or_equal else ((x.high < y.low), (x.low >= y.high))
    return True if always.all() else False if never.all() else None


_COMPARISONS = {
    "Less": (True, False),
    "LessOrEqual": (True, True),
    "Greater": (False, False),
    "GreaterOrEqual": (False, True),
}


def _comparison(ask: Ask) -> Bounds:
    found = compared(ask.node.op_type, ask.input(0), ask.input(1))
    return between(0.0, 1.0) if found is None else between(float(found), float(found))


def _equal(ask: Ask) -> Bounds:
    """Never where the two lie apart, always where both are the same integer."""
    x, y = aligned(ask.input(0), ask.input(1))
    if ((x.high < y.low) | (y.high < x.low)).all():
        return between(0.0, 0.0)
    value = ask.value(0)
    whole = value is not None and value.dtype is not None and not value.dtype.is_floating_point()
    same = whole and bool(np.all((x.low == x.high) & (y.low == y.high) & (x.low == y.low)))
    return between(float(same), 1.0)


def _not(ask: Ask) -> Bounds:
    x = ask.input(0)
    return combined(1 - x.high, 1 - x.low, x)


def _position(ask: Ask) -> Bounds:
    """ArgMax, ArgMin: a position on the axis."""
    dims, axis = ir.dims_of(ask.value(0)), ask.node.attributes.get_int("axis", 0)
    size = None if not dims else dims[axis]
    return between(0.0, size - 1.0) if isinstance(size, int) and size > 0 else between(0.0, np.inf)


_FUNCTIONS: Mapping[str, Rule] = {
    "Abs": _abs,
    "Asinh": _rising(np.arcsinh),
    "Atan": _rising(np.arctan, -np.pi / 2, np.pi / 2),
    "Cast": _cast,
    "CastLike": _cast,
    "Ceil": _rising(np.ceil),
    "Celu": _attributes(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x / alpha)), alpha=1.0),
    "Cos": _within(-1.0, 1.0),
    "Elu": _attributes(lambda x, alpha: np.where(x > 0, x, alpha * np.expm1(x)), alpha=1.0),
    "Erf": _rising(_erf, -1.0, 1.0),
    "Exp": _rising(np.exp, 0.0),
    "Floor": _rising(np.floor),
    "Gelu": _gate(-0.1702),
    "HardSigmoid": _attributes(lambda x, alpha, beta: np.clip(alpha * x + beta, 0, 1), 0.0, 1.0, alpha=0.2, beta=0.5),
    "HardSwish": _gate(-0.375),
    "LeakyRelu": _attributes(lambda x, alpha: np.where(x > 0, x, alpha * x), alpha=0.01),
    "Log": _of_positive(np.log),
    "LogSoftmax": _within(-np.inf, 0.0),
    "Mish": _gate(-0.30885),
    "Neg": _neg,
    "Reciprocal": _reciprocal,
    "Relu": _rising(lambda x: np.maximum(x, 0.0), 0.0),
    "Round": _rising(np.round),
    "Sigmoid": _rising(lambda x: 1 / (1 + np.exp(-x)), 0.0, 1.0),
    "Sign": _rising(np.sign, -1.0, 1.0),
    "Sin": _within(-1.0, 1.0),
    "Softmax": _within(0.0, 1.0),
    "Softplus": _rising(lambda x: np.logaddexp(0, x), 0.0),
    "Softsign": _rising(lambda x: np.sign(x) / (1 + 1 / np.abs(x)), -1.0, 1.0),
    "Sqrt": _of_positive(np.sqrt),
    "Swish": _swish,
    "Tanh": _rising(np.tanh, -1.0, 1.0),
    "ThresholdedRelu": _attributes(lambda x, alpha: np.where(x > alpha, x, 0.0), alpha=1.0),
}
_SEVERAL: Mapping[str, Rule] = {
    "Add": _sum(),
    "And": _extreme(np.minimum),
    "ArgMax": _position,
    "ArgMin": _position,
    "Clip": _clip,
    "Div": _div,
    "Equal": _equal,
    "Greater": _comparison,
    "GreaterOrEqual": _comparison,
    "Hardmax": _within(0.0, 1.0),
    "Less": _comparison,
    "LessOrEqual": _comparison,
    "Max": _extreme(np.maximum),
    "Mean": _mean,
    "Min": _extreme(np.minimum),
    "Mod": _mod,
    "Mul": _mul,
    "Not": _not,
    "Or": _extreme(np.maximum),
    "PRelu": _prelu,
    "Pow": _pow,
    "Shape": _within(0.0, 2.0**48),
    "Size": _within(0.0, 2.0**48),
    "Sub": _sum((1, -1)),
    "Sum": _sum(),
    "Where": _where,
}
_CONTRIB: Mapping[str, Rule] = {
    "FastGelu": _gate(-0.1702),
    "Gelu": _FUNCTIONS["Gelu"],
    "QuickGelu": _swish,
}

RULES: Mapping[tuple[str, str, int], Rule] = {
    **{("", op, 0): rule for table in (_FUNCTIONS, _SEVERAL) for op, rule in table.items()},
    **{("com.microsoft", op, 0): rule for op, rule in _CONTRIB.items()},
    **MOVES,
    **LAYERS,
}
