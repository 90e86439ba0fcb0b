"""lower-trigonometry: tan, inverse and hyperbolic functions by exp, log, sqrt, sin, cos, tanh."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import ClassVar

from fcc import ir

from .lowering import Builder, Lowering, Row, floats_only

# arctan(t) = t + t z P(z), z = t^2, |t| <= tan(pi/8): Cephes atanf (Moshier), 2e-8 relative.
_ATAN = (8.05374449538e-2, -1.38776856032e-1, 1.99777106478e-1, -3.33329491539e-1)

_EPSILON = {
    ir.DataType.DOUBLE: 2.0**-52,
    ir.DataType.FLOAT: 2.0**-23,
    ir.DataType.FLOAT16: 2.0**-10,
    ir.DataType.BFLOAT16: 2.0**-7,
}


def _atan(b: Builder, x: ir.Value) -> ir.Value:
    """arctan: |x| > 1 by pi/2 - arctan(1/|x|), then t -> t / (1 + sqrt(1 + t^2)) halves the angle."""
    magnitude = b.op("Abs", x)
    beyond = b.op("Greater", magnitude, 1.0)
    t = b.op("Where", beyond, b.op("Reciprocal", magnitude), magnitude)
    root = b.op("Sqrt", b.op("Add", b.op("Mul", t, t), 1.0))
    half = b.op("Div", t, b.op("Add", root, 1.0))
    z = b.op("Mul", half, half)
    poly: ir.Value = b.scalar(_ATAN[0])
    for coefficient in _ATAN[1:]:
        poly = b.op("Add", b.op("Mul", poly, z), coefficient)
    angle = b.op("Mul", b.op("Add", half, b.op("Mul", b.op("Mul", poly, z), half)), 2.0)
    folded = b.op("Where", beyond, b.op("Sub", math.pi / 2, angle), angle)
    return b.op("Mul", b.op("Sign", x), folded)


def _asin(b: Builder) -> ir.Value:
    root = b.op("Sqrt", b.op("Mul", b.op("Sub", 1.0, b.x), b.op("Add", 1.0, b.x)))
    return _atan(b, b.op("Div", b.x, root))


def _acos(b: Builder) -> ir.Value:
    ratio = b.op("Div", b.op("Sub", 1.0, b.x), b.op("Add", 1.0, b.x))
    return b.op("Mul", _atan(b, b.op("Sqrt", ratio)), 2.0)


def _log1p(b: Builder, u: ir.Value) -> ir.Value:
    """log(1 + u) for u >= 0: with w = fl(1 + u), log(w) * u / (w - 1) undoes the rounding of w (Kahan)."""
    w = b.op("Add", u, 1.0)
    rest = b.op("Sub", w, 1.0)
    tiny = b.op("Equal", rest, 0.0)
    log = b.op("Log", w)
    corrected = b.op("Mul", log, b.op("Div", u, b.op("Where", tiny, 1.0, rest)))
    large = b.op("Greater", u, 1.0 / _epsilon(b))
    return b.op("Where", tiny, u, b.op("Where", large, log, corrected))


def _epsilon(b: Builder) -> float:
    """Return the distance from 1 to the next number of the dtype of input 0."""
    assert b.x.dtype is not None
    return _EPSILON[b.x.dtype]


def _cosh(b: Builder) -> ir.Value:
    """e^(x/2) squared overflows no earlier than cosh itself."""
    up = b.op("Exp", b.op("Mul", b.x, 0.5))
    down = b.op("Exp", b.op("Mul", b.x, -0.5))
    return b.op("Add", b.op("Mul", b.op("Mul", up, 0.5), up), b.op("Mul", b.op("Mul", down, 0.5), down))


def _sinh(b: Builder) -> ir.Value:
    return b.op("Mul", b.op("Tanh", b.x), _cosh(b))


def _asinh(b: Builder) -> ir.Value:
    """Beyond 1/eps, log(2|x|); below, log1p(t + t^2 / (1 + sqrt(t^2 + 1)))."""
    limit = 1.0 / _epsilon(b) if b.x.dtype != ir.DataType.FLOAT16 else 200.0
    magnitude = b.op("Abs", b.x)
    far = b.op("Greater", magnitude, limit)
    t = b.op("Where", far, 1.0, magnitude)
    square = b.op("Mul", t, t)
    u = b.op("Add", t, b.op("Div", square, b.op("Add", b.op("Sqrt", b.op("Add", square, 1.0)), 1.0)))
    outer = b.op("Add", b.op("Log", magnitude), math.log(2.0))
    return b.op("Mul", b.op("Sign", b.x), b.op("Where", far, outer, _log1p(b, u)))


def _acosh(b: Builder) -> ir.Value:
    """Beyond 1/eps, log(2x); below, log1p(t + sqrt(t (t + 2))) with t = x - 1."""
    far = b.op("Greater", b.x, 1.0 / _epsilon(b))
    above = b.op("Sub", b.op("Where", far, 1.0, b.x), 1.0)
    root = b.op("Mul", b.op("Sqrt", above), b.op("Sqrt", b.op("Add", above, 2.0)))
    outer = b.op("Add", b.op("Log", b.x), math.log(2.0))
    return b.op("Where", far, outer, _log1p(b, b.op("Add", above, root)))


def _atanh(b: Builder) -> ir.Value:
    magnitude = b.op("Abs", b.x)
    u = b.op("Div", b.op("Mul", magnitude, 2.0), b.op("Sub", 1.0, magnitude))
    return b.op("Mul", b.op("Mul", b.op("Sign", b.x), 0.5), _log1p(b, u))


_POLYNOMIAL = floats_only("FLOAT", "FLOAT16")


class LowerTrigonometry(Lowering):
    """Express tan, inverse and hyperbolic functions by what the target has.

    Tan(x) -> Sin(x) / Cos(x);  Sinh(x) -> Tanh(x) * Cosh(x);  Asinh, Acosh, Atanh -> log1p(...);
    Atan(x) -> polynomial after two range reductions;  Asin(x) -> Atan(x / sqrt((1-x)(1+x)));  Acos likewise

    Shapes: any. Numerics: within 4 ulp of the function (no cancellation near 0), infinities and NaN as the function.
    Source: ONNX Tan-7 ... Atanh-22; Cephes atanf; Kahan's log1p.
    """

    name: ClassVar[str] = "lower-trigonometry"
    rows: ClassVar[Mapping[str, Row]] = {
        "Tan": Row(lambda b: b.op("Div", b.op("Sin", b.x), b.op("Cos", b.x))),
        "Sinh": Row(_sinh),
        "Cosh": Row(_cosh),
        "Asinh": Row(_asinh),
        "Acosh": Row(_acosh),
        "Atanh": Row(_atanh),
        "Atan": Row(lambda b: _atan(b, b.x), _POLYNOMIAL),
        "Asin": Row(_asin, _POLYNOMIAL),
        "Acos": Row(_acos, _POLYNOMIAL),
    }
