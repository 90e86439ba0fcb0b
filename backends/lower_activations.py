"""lower-activations: activations that a target only knows as functions, by ops with kernels."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from fcc import ir

from .lowering import Builder, Lowering, Row

_SELU = (1.67326319217681884765625, 1.05070102214813232421875)


def _attribute(b: Builder, name: str, default: float) -> float:
    return b.node.attributes.get_float(name, default)


def _negative_part(b: Builder, x: ir.Value, alpha: float) -> ir.Value:
    """alpha * (exp(x) - 1) below 0, x above."""
    if b.has("Elu", x, alpha=alpha):
        return b.op("Elu", x, alpha=alpha)
    below = b.op("Sub", b.op("Exp", x), 1.0)
    below = below if alpha == 1.0 else b.op("Mul", below, alpha)
    return b.op("Where", b.op("Greater", x, 0.0), x, below)


def _elu(b: Builder) -> ir.Value:
    return _negative_part(b, b.x, _attribute(b, "alpha", 1.0))


def _celu(b: Builder) -> ir.Value:
    alpha = _attribute(b, "alpha", 1.0)
    if alpha == 1.0:
        return _negative_part(b, b.x, 1.0)
    return b.op("Mul", _negative_part(b, b.op("Div", b.x, alpha), 1.0), alpha)


def _selu(b: Builder) -> ir.Value:
    alpha, gamma = _attribute(b, "alpha", _SELU[0]), _attribute(b, "gamma", _SELU[1])
    return b.op("Mul", _negative_part(b, b.x, alpha), gamma)


def _swish(b: Builder) -> ir.Value:
    alpha = _attribute(b, "alpha", 1.0)
    scaled = b.x if alpha == 1.0 else b.op("Mul", b.x, alpha)
    return b.op("Mul", b.x, b.op("Sigmoid", scaled))


def _mish(b: Builder) -> ir.Value:
    return b.op("Mul", b.x, b.op("Tanh", b.op("Softplus", b.x)))


def _hard_swish(b: Builder) -> ir.Value:
    return b.op("Mul", b.x, b.op("HardSigmoid", b.x, alpha=1.0 / 6.0, beta=0.5))


def _thresholded_relu(b: Builder) -> ir.Value:
    alpha = _attribute(b, "alpha", 1.0)
    return b.op("Where", b.op("Greater", b.x, alpha), b.x, 0.0)


def _cast_like(b: Builder) -> ir.Value:
    like = b.input(1)
    assert like is not None
    assert like.dtype is not None
    extra = {k: a for k, a in b.node.attributes.items() if k in ("saturate", "round_mode")}
    return b.op("Cast", b.x, to=like.dtype.value, **extra)


def _known_type(node: ir.Node) -> str | None:
    like = node.inputs[1]
    return None if like is not None and like.dtype is not None else "the element type to cast to is not known"


def _positive_alpha(node: ir.Node) -> str | None:
    return None if node.attributes.get_float("alpha", 1.0) > 0 else "alpha is not positive"


class LowerActivations(Lowering):
    """Express activations (and CastLike) by what the target has a kernel for.

    Swish(x) -> x * Sigmoid(alpha x);  Mish(x) -> x * Tanh(Softplus(x));  HardSwish(x) -> x * HardSigmoid(x);
    Celu(x) -> alpha * Elu(x / alpha);  Elu(x) -> Where(x > 0, x, alpha * (Exp(x) - 1)), Selu likewise;
    ThresholdedRelu(x) -> Where(x > alpha, x, 0);  CastLike(x, y) -> Cast(x)

    Shapes: any. Source: the function bodies of ONNX Swish-24, Mish-22, HardSwish-22, Celu-12, Elu-22, CastLike-19.
    """

    name: ClassVar[str] = "lower-activations"
    rows: ClassVar[Mapping[str, Row]] = {
        "Swish": Row(_swish),
        "Mish": Row(_mish),
        "HardSwish": Row(_hard_swish),
        "Celu": Row(_celu, _positive_alpha),
        "Elu": Row(_elu),
        "Selu": Row(_selu),
        "ThresholdedRelu": Row(_thresholded_relu),
        "CastLike": Row(_cast_like, _known_type),
    }
