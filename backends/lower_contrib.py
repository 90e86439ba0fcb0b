"""lower-contrib: com.microsoft ops with a standard spelling, for a target that takes standard ONNX only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import ClassVar

from fcc import ir

from .lowering import Builder, Check, Lowering, Row


def _gelu(b: Builder, x: ir.Value, approximate: str = "none") -> ir.Value:
    if b.rw.module.opset() >= 20:
        return b.op("Gelu", x, approximate=approximate)
    half = b.op("Mul", x, 0.5)
    if approximate == "none":
        inner = b.op("Erf", b.op("Mul", x, math.sqrt(0.5)))
    else:
        cube = b.op("Mul", b.op("Mul", x, x), x)
        scaled = b.op("Add", x, b.op("Mul", cube, 0.044715))
        inner = b.op("Tanh", b.op("Mul", scaled, math.sqrt(2.0 / math.pi)))
    return b.op("Mul", half, b.op("Add", inner, 1.0))


def _plus(b: Builder, x: ir.Value, index: int) -> ir.Value:
    bias = b.input(index)
    return x if bias is None else b.op("Add", x, bias)


def _quick_gelu(b: Builder) -> ir.Value:
    alpha = b.node.attributes.get_float("alpha", 1.702)
    return b.op("Mul", b.x, b.op("Sigmoid", b.op("Mul", b.x, alpha)))


# -- linear --------------------------------------------------------------------------------------------------------
_ACTIVATIONS: Mapping[str, Callable[[Builder, ir.Value, Sequence[float]], ir.Value]] = {
    "": lambda b, x, p: x,
    "Relu": lambda b, x, p: b.op("Relu", x),
    "Tanh": lambda b, x, p: b.op("Tanh", x),
    "Sigmoid": lambda b, x, p: b.op("Sigmoid", x),
    "LeakyRelu": lambda b, x, p: b.op("LeakyRelu", x, alpha=p[0] if p else 0.01),
    "Clip": lambda b, x, p: b.op("Clip", x, float(p[0]), float(p[1])),
    "HardSigmoid": lambda b, x, p: b.op("HardSigmoid", x, alpha=p[0], beta=p[1]),
}
_PARAMETERS = {"Clip": 2, "HardSigmoid": 2}


def _known_activation(node: ir.Node) -> str | None:
    kind = node.attributes.get_string("activation", "") or ""
    if kind not in _ACTIVATIONS:
        return f"activation {kind} is not known"
    if len(_parameters(node)) < _PARAMETERS.get(kind, 0):
        return f"activation {kind} lacks parameters"
    return None


def _parameters(node: ir.Node) -> list[float]:
    listed = node.attributes.get("activation_params")
    if listed is not None:
        return [float(v) for v in listed.as_floats()]
    named = ("activation_alpha", "activation_beta", "activation_gamma")
    return [node.attributes.get_float(n, 0.0) for n in named if n in node.attributes]


def _activate(b: Builder, x: ir.Value) -> ir.Value:
    kind = b.node.attributes.get_string("activation", "") or ""
    return _ACTIVATIONS[kind](b, x, _parameters(b.node))


def _without_activation(node: ir.Node) -> dict[str, ir.Attr]:
    return {k: a for k, a in node.attributes.items() if not k.startswith("activation")}


def _fused_conv(b: Builder) -> ir.Value:
    y = b.op("Conv", b.x, b.input(1), b.input(2), **_without_activation(b.node))
    return _activate(b, _plus(b, y, 3))


def _fused_gemm(b: Builder) -> ir.Value:
    return _activate(b, b.op("Gemm", b.x, b.input(1), b.input(2), **_without_activation(b.node)))


def _fused_matmul(b: Builder) -> ir.Value:
    left, right = b.x, b.input(1)
    assert right is not None
    if b.node.attributes.get_int("transA", 0):
        left = _swap_last(b, left)
    if b.node.attributes.get_int("transB", 0):
        right = _swap_last(b, right)
    product = b.op("MatMul", left, right)
    alpha = b.node.attributes.get_float("alpha", 1.0)
    return product if alpha == 1.0 else b.op("Mul", product, alpha)


def _swap_last(b: Builder, value: ir.Value) -> ir.Value:
    rank = len(ir.known_dims(value))
    if rank < 2:
        return value
    return b.op("Transpose", value, perm=[*range(rank - 2), rank - 1, rank - 2])


def _plain_transposes(node: ir.Node) -> str | None:
    if node.attributes.get_int("transBatchA", 0) or node.attributes.get_int("transBatchB", 0):
        return "batch axes are transposed"
    flags = [node.attributes.get_int(n, 0) for n in ("transA", "transB")]
    ranks = [ir.dims_of(v) for v in node.inputs]
    return (
        "the rank of a transposed operand is not known"
        if any(f and r is None for f, r in zip(flags, ranks, strict=True))
        else None
    )


_SKIP_EPSILON = 1e-12  # what both Skip operators take by default


# -- normalization -------------------------------------------------------------------------------------------------
def _layer_norm(b: Builder, x: ir.Value, scale: ir.Value | None, bias: ir.Value | None, default: float) -> ir.Value:
    epsilon = b.node.attributes.get_float("epsilon", default)
    if b.rw.module.opset() >= 17:
        return b.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=epsilon)
    moved = b.op("Sub", x, b.reduce("ReduceMean", x, [-1]))
    variance = b.reduce("ReduceMean", b.op("Mul", moved, moved), [-1])
    scaled = b.op("Mul", b.op("Div", moved, b.op("Sqrt", b.op("Add", variance, epsilon))), scale)
    return scaled if bias is None else b.op("Add", scaled, bias)


def _rms_norm(b: Builder, x: ir.Value, scale: ir.Value | None, axis: int, default: float) -> ir.Value:
    epsilon = b.node.attributes.get_float("epsilon", default)
    if b.rw.module.opset() >= 23:
        return b.op("RMSNormalization", x, scale, axis=axis, epsilon=epsilon)
    rank = len(ir.known_dims(x))
    axes = list(range(axis % rank, rank)) if rank else [-1]
    mean = b.reduce("ReduceMean", b.op("Mul", x, x), axes)
    return b.op("Mul", b.op("Div", x, b.op("Sqrt", b.op("Add", mean, epsilon))), scale)


def _skip_layer_norm(b: Builder) -> Sequence[ir.Value | None]:
    total = _plus(b, b.op("Add", b.x, b.input(1)), 4)
    return [_layer_norm(b, total, b.input(2), b.input(3), _SKIP_EPSILON), None, None, total]


def _skip_rms_norm(b: Builder) -> Sequence[ir.Value | None]:
    total = _plus(b, b.op("Add", b.x, b.input(1)), 3)
    return [_rms_norm(b, total, b.input(2), -1, _SKIP_EPSILON), None, None, total]


def _has_layer_norm(node: ir.Node) -> str | None:
    x, skip = node.inputs[0], node.inputs[1]
    a, c = ir.dims_of(x), ir.dims_of(skip)
    if a is None or c is None or len(a) < len(c):
        return "the ranks of input and skip are not known"
    fits = all(q in (1, p) or p is None or not isinstance(q, int) for p, q in zip(a[::-1], c[::-1], strict=False))
    return None if fits else "the skip does not broadcast to the input"


def _fits(index: int) -> Check:
    """Refuse an operand that would widen the result."""

    def refuse(node: ir.Node) -> str | None:
        small = ir.dims_of(node.inputs[index]) if index < len(node.inputs) else None
        large = ir.dims_of(node.outputs[0])
        if small is None or large is None:
            return None
        pairs = zip(large[::-1], small[::-1], strict=False)
        wider = any(isinstance(p, int) and isinstance(q, int) and q not in (1, p) for p, q in pairs)
        return f"input {index} does not broadcast to the result" if wider or len(small) > len(large) else None

    return refuse


def _each(*checks: Check) -> Check:
    return lambda node: next((reason for c in checks if (reason := c(node)) is not None), None)


def _simplified(b: Builder) -> ir.Value:
    return _rms_norm(b, b.x, b.input(1), b.node.attributes.get_int("axis", -1), 1e-5)


def _known_rank(node: ir.Node) -> str | None:
    return "the rank of the input is not known" if ir.dims_of(node.inputs[0]) is None else None


_WITH_SUM = frozenset({0, 3})


class LowerContrib(Lowering):
    """Replace com.microsoft ops that have a standard spelling.

    Gelu, BiasGelu, FastGelu -> Add, Gelu;  QuickGelu(x) -> x * Sigmoid(alpha x);
    FusedConv, FusedGemm -> Conv, Gemm, Add, activation;  FusedMatMul -> Transpose, MatMul, Mul;
    SkipLayerNormalization(x, s) -> LayerNormalization(x + s), below opset 17 written out;
    SkipSimplifiedLayerNormalization likewise by RMS

    Shapes: as the op. Source: onnxruntime docs/ContribOperators.md.
    """

    name: ClassVar[str] = "lower-contrib"
    domain: ClassVar[str] = "com.microsoft"
    rows: ClassVar[Mapping[str, Row]] = {
        "Gelu": Row(lambda b: _gelu(b, b.x)),
        "BiasGelu": Row(lambda b: _gelu(b, _plus(b, b.x, 1)), _fits(1)),
        "FastGelu": Row(lambda b: _gelu(b, _plus(b, b.x, 1), "tanh"), _fits(1)),
        "QuickGelu": Row(_quick_gelu),
        "FusedConv": Row(_fused_conv, _each(_known_activation, _fits(3))),
        "FusedGemm": Row(_fused_gemm, _known_activation),
        "FusedMatMul": Row(_fused_matmul, _plain_transposes),
        "SkipLayerNormalization": Row(_skip_layer_norm, _has_layer_norm, _WITH_SUM),
        "SkipSimplifiedLayerNormalization": Row(_skip_rms_norm, _has_layer_norm, _WITH_SUM),
    }


class LowerSimplified(Lowering):
    """Replace onnxruntime's SimplifiedLayerNormalization, which it keeps in the domain of ONNX.

    SimplifiedLayerNormalization(x, s) -> RMSNormalization(x, s), below opset 23 x / Sqrt(mean(x^2) + epsilon) * s

    Shapes: x [..., N], s [N]. Source: onnxruntime contrib_defs.cc; ONNX RMSNormalization-23.
    """

    name: ClassVar[str] = "lower-simplified-layer-normalization"
    rows: ClassVar[Mapping[str, Row]] = {"SimplifiedLayerNormalization": Row(_simplified, _each(_known_rank, _fits(1)))}
