"""How a target wants int8: which ops, which operands, which types (targets.md 1.1-1.3, algorithms.md 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

Dtype = Literal["uint8", "int8", "uint16"]


@dataclass(frozen=True)
class QdqRule:
    """An op that has an integer kernel when the operands named here are quantized.

    ``weight_axes`` is the per-channel axis of the weight when the attribute transB is 0 and 1: any other axis fuses
    all the same and computes wrong values. ``needs_output_q``: without a QuantizeLinear right after it the op stays
    float and its weight is dequantized at every run. ``absorbs`` names ops that vanish between this one and that
    QuantizeLinear, provided the quantized range lies within theirs (Relu: the zero point is the type's minimum).
    """

    op_type: str
    activation: int
    weight: int
    bias: int | None
    weight_axes: tuple[int, int]
    needs_output_q: bool
    absorbs: frozenset[str] = frozenset({"Relu", "Clip"})
    per_channel: bool = True

    def weight_axis(self, attributes: Mapping[str, Any], rank: int) -> int:
        """Return the output-channel axis of a weight of this rank, non-negative."""
        return self.weight_axes[int(attributes.get("transB", 0))] % rank


@dataclass(frozen=True)
class QdqScheme:
    """The types of a quantized model and the rows of ops it may quantize.

    Scales and zero points of activations are rank-0 initializers and every zero point is explicit: without them the
    runtime leaves Gemm and all pass-through ops unfused. A bias is int32 with scale x_scale * w_scale, zero point 0.
    ``pair_safe``: the kernels add two products in int16, so weights must satisfy |q[2i] + q[2i+1]| <= 128.
    ``pass_through`` maps ops that run on int8 as they are, with one scale and zero point on both sides, to the first
    opset version where they do.
    ``symmetric``: zero points are 0, of activations too. ``float_operands``: the op stays as it is, its bias float, and
    only its data operand and its weight are quantized; no QuantizeLinear follows it for its own sake. ``residual_of``
    are ops whose kernel adds a tensor to the result, provided that tensor comes quantized. ``one_scale`` are ops that
    move integers where what they read and write has one scale. ``tensor_cores``: kernels for few channels or one row
    are slower in int8. ``per_tensor_pays``: one scale per weight is faster for a product of few rows.
    ``pow2``: every scale is a power of two. ``widths`` are the bits of activations that the runtime takes; ``opset`` is
    the first one that writes them. ``guarded``: the runtime would quantize float biases behind a scalar scale to int32,
    at scales that overflow.
    """

    activation_dtype: Dtype
    weight_dtype: Literal["int8", "int16"]
    pair_safe: bool
    rules: Mapping[str, QdqRule]
    pass_through: Mapping[str, int] = field(default_factory=dict)
    symmetric: bool = False
    float_operands: bool = False
    residual_of: frozenset[str] = frozenset()
    one_scale: frozenset[str] = frozenset()
    tensor_cores: bool = False
    per_tensor_pays: bool = True
    pow2: bool = False
    widths: tuple[int, ...] = (8,)
    opset: int = 13
    guarded: bool = False


def _rules(*rows: QdqRule) -> dict[str, QdqRule]:
    return {row.op_type: row for row in rows}


CPU_RULES = _rules(
    QdqRule("Conv", 0, 1, 2, weight_axes=(0, 0), needs_output_q=True),
    # Without an output Q a Gemm fuses only if its bias is absent or a dequantized int32.
    QdqRule("Gemm", 0, 1, 2, weight_axes=(1, 0), needs_output_q=False),
    QdqRule("MatMul", 0, 1, None, weight_axes=(-1, -1), needs_output_q=False),
)

# isa -> (activations, int16 pair sums saturate).  avx2: vpmaddubsw adds u8 x s8 pairs in int16.
ISA_TYPES: Mapping[str, tuple[Dtype, bool]] = {
    "avx2": ("uint8", True),
    "vnni": ("uint8", False),
    "arm": ("int8", False),
}


def cpu_scheme(isa: str) -> QdqScheme:
    """Return the int8 scheme of the cpu target for an instruction set (a key of ``ISA_TYPES``)."""
    activation_dtype, pair_safe = ISA_TYPES[isa]
    return QdqScheme(activation_dtype, "int8", pair_safe, CPU_RULES, {"MaxPool": 12}, widths=(8, 16))


_NOTHING = frozenset[str]()
OPERAND_RULES = _rules(
    QdqRule("Conv", 0, 1, None, weight_axes=(0, 0), needs_output_q=False, absorbs=_NOTHING),
    # Engines with a deconvolution of per-channel scales may fail to build.
    QdqRule("ConvTranspose", 0, 1, None, (1, 1), needs_output_q=False, absorbs=_NOTHING, per_channel=False),
    QdqRule("Gemm", 0, 1, None, weight_axes=(1, 0), needs_output_q=False, absorbs=_NOTHING),
    QdqRule("MatMul", 0, 1, None, weight_axes=(-1, -1), needs_output_q=False, absorbs=_NOTHING),
)


def tensorrt_scheme() -> QdqScheme:
    """Return the int8 scheme of the tensorrt target: symmetric, operands only (targets.md 3.2, 3.3)."""
    return QdqScheme(
        "int8",
        "int8",
        pair_safe=False,
        rules=OPERAND_RULES,
        symmetric=True,
        float_operands=True,
        residual_of=frozenset({"Conv"}),
        one_scale=frozenset({"Concat"}),
        tensor_cores=True,
        per_tensor_pays=False,
    )


def widened(scheme: QdqScheme) -> QdqScheme:
    """Return a scheme of 16 bits around float ops: no runtime here has kernels for them.

    Weights too: behind a float activation, onnxruntime fuses an int8 weight to a kernel that rounds activations to 8.
    """
    return replace(
        scheme,
        activation_dtype="uint16",
        weight_dtype="int16",
        pair_safe=False,
        rules=OPERAND_RULES,
        pass_through={},
        float_operands=True,
        per_tensor_pays=False,
        opset=21,
        guarded=True,
    )


def powers_of_two(scheme: QdqScheme) -> QdqScheme:
    """Return a scheme whose scales are powers of two; no Clip vanishes then, since its limits are none."""
    rules = {name: replace(rule, absorbs=rule.absorbs - {"Clip"}) for name, rule in scheme.rules.items()}
    return replace(scheme, rules=rules, pow2=True)
