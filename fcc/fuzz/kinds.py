"""Steps of generate: element types (integers, bools, strings, bfloat16), activations, indices, quantization."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .draft import Draft, Tensor
from .ops import broadcast, has_rank, is_float, static

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

INTEGERS = ("int64", "int32", "int8", "uint8")
WIDE = ("int64", "int32")
# operator, first opset, float types of onnxruntime's CPU kernel, attributes to draw
ACTIVATIONS: tuple[tuple[str, int, str, dict[str, Sequence[Any]]], ...] = (
    ("Mish", 18, "f", {}),
    ("HardSwish", 14, "f", {}),
    ("HardSigmoid", 6, "f", {"alpha": (0.2, 1 / 6), "beta": (0.5, 0.25)}),
    ("Selu", 6, "f", {}),
    ("Celu", 12, "f", {"alpha": (1.0, 0.5)}),
    ("ThresholdedRelu", 10, "f", {"alpha": (1.0, 0.0)}),
    ("Gelu", 20, "f", {"approximate": ("none", "tanh")}),
    ("Softsign", 1, "f", {}),
    ("LogSoftmax", 13, "fd", {"axis": (-1, 0)}),
    ("Hardmax", 13, "fd", {"axis": (-1, 0)}),
    ("Softmax", 13, "fd", {"axis": (-1, 0)}),
    ("Exp", 13, "fd", {}),
    ("Sin", 7, "fd", {}),
    ("Cos", 7, "fd", {}),
    ("Swish", 24, "f", {}),
    ("MeanVarianceNormalization", 13, "f", {"axes": ([-1],)}),
    ("LpNormalization", 1, "fd", {"axis": (-1,), "p": (1, 2)}),
)
ROUNDING = ("Floor", "Ceil", "Round", "Sign")
TO = {
    "float32": 1,
    "float64": 11,
    "float16": 10,
    "bfloat16": 16,
    "int64": 7,
    "int32": 6,
    "int8": 3,
    "uint8": 2,
    "bool": 9,
}


def activation(d: Draft) -> None:
    op, since, types, drawn = d.pick(ACTIVATIONS)
    kinds = {"f": "float32", "d": "float64"}
    x = d.value(lambda t: t.dtype in [kinds[c] for c in types] and t.rank > 0 and 0 not in t.shape)
    if x is not None and d.opset >= since:
        d.node(op, [x], x.shape, **{k: d.pick(v) for k, v in drawn.items()})


def prelu(d: Draft) -> None:
    x = d.value(lambda t: has_rank(2, 3, 4)(t) and t.dtype == "float32" and static(t, 1))
    if x is not None:
        slope = d.weight(x.shape[1], *[1] * (x.rank - 2), dtype=x.dtype)  # type: ignore[arg-type]
        d.node("PRelu", [x, slope], x.shape)


def rounding(d: Draft) -> None:
    """Jumps, of numbers that no rounding reached before."""
    if x := d.value(lambda t: t.raw and t.dtype == "float32"):
        d.node(d.pick(ROUNDING), [x], x.shape)


def convert(d: Draft) -> None:
    """Cast between any two kinds: floats to integers only where their value is no rounding."""
    x = d.value(lambda t: t.dtype in TO and (t.raw or t.is_float))
    if x is None:
        return
    to = d.pick([*TO] if x.raw else ["float32", "float64", "float16", "bfloat16"])
    if x.is_float and to in INTEGERS:
        x = d.node("Clip", [x, d.constant(0, x.dtype), d.constant(6, x.dtype)], x.shape, raw=True)
        x = d.node("Floor", [x], x.shape, raw=True)
    if to == "bfloat16" or x.dtype == "bfloat16":  # onnxruntime has few kernels: there and back
        y = d.node("Cast", [x], x.shape, dtype="bfloat16", to=TO["bfloat16"])
        d.node("Cast", [y], x.shape, dtype="float32", to=TO["float32"])
        return
    d.node("Cast", [x], x.shape, dtype=to, raw=x.raw, to=TO[to])


def integer(d: Draft) -> None:
    x = d.value(lambda t: t.dtype in WIDE)
    if x is None:
        return
    op = d.pick(["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Abs", "Neg", "Sign", "Pow", "Equal", "Less"])
    if op in ("Abs", "Neg", "Sign"):
        d.node(op, [x], x.shape, raw=True)
        return
    if op == "Pow":
        d.node(op, [x, d.constant(d.pick([1, 2]), x.dtype)], x.shape, raw=True)
        return
    y = d.constant(np.full([1] * d.rng.randint(0, x.rank), d.pick([1, 2, 3, -2])), x.dtype)
    kind = "bool" if op in ("Equal", "Less") else x.dtype
    pair = [x, y] if op in ("Div", "Mod") or d.chance(0.6) else [y, x]
    d.node(op, pair, x.shape, dtype=kind, raw=True)


def bits(d: Draft) -> None:
    x = d.value(lambda t: t.dtype in INTEGERS)
    if x is None or d.opset < 18:
        return
    if d.chance(0.3):
        d.node("BitwiseNot", [x], x.shape, raw=True)
    else:
        op = d.pick(["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
        d.node(op, [x, d.constant(d.pick([0, 1, 5]), x.dtype)], x.shape, raw=True)


def words(d: Draft) -> None:
    """Strings: moved, compared, chosen."""
    x = d.value(lambda t: t.dtype == "str")
    if x is None:
        if d.outer is None:
            found = Tensor(d.fresh("text"), "str", ("N", 3), True)
            d.inputs.append(found)
            d.values.append(found)
        return
    op = d.pick(["Identity", "Concat", "Transpose", "Equal", "Unsqueeze", "Gather", "Where"])
    if op == "Concat" and x.rank > 0 and isinstance(x.shape[-1], int):
        d.node(op, [x, x], (*x.shape[:-1], 2 * x.shape[-1]), raw=True, axis=-1)
    elif op == "Transpose":
        d.node(op, [x], x.shape[::-1], raw=True)
    elif op == "Equal" and d.opset >= 19:
        d.node(op, [x, x], x.shape, dtype="bool", raw=True)
    elif op == "Gather" and x.rank > 0 and isinstance(x.shape[-1], int):
        d.node(op, [x, d.constant([1, 0], "int64")], (*x.shape[:-1], 2), raw=True, axis=-1)
    elif op == "Where":
        d.node(op, [d.constant(d.chance(0.5), "bool"), x, x], x.shape, dtype="str", raw=True)
    elif op == "Unsqueeze" and x.rank < 4:
        d.node(op, [x, d.constant([0], "int64")], (1, *x.shape), raw=True)
    else:
        d.node("Identity", [x], x.shape, raw=True)


def extreme(d: Draft) -> None:
    """ArgMax or ArgMin, then something with the index."""
    x = d.value(lambda t: t.raw and t.dtype == "float32" and t.rank > 1 and static(t, -1))
    if x is None:
        return
    keep = d.chance(0.5)
    shape = (*x.shape[:-1], 1) if keep else x.shape[:-1]
    y = d.node(d.pick(["ArgMax", "ArgMin"]), [x], shape, dtype="int64", axis=-1, keepdims=int(keep))
    if keep and d.opset >= 13:
        d.node("GatherElements", [x, y], shape, dtype=x.dtype, axis=-1)
    elif d.chance(0.5):
        ends = d.constant([0, 1], x.dtype)
        d.node("OneHot", [y, d.constant(x.shape[-1], "int64"), ends], (*y.shape, x.shape[-1]), dtype=x.dtype)


def cumulated(d: Draft) -> None:
    x = d.value(lambda t: t.dtype in ("float32", "float64", "int64", "int32") and t.rank > 0 and 0 not in t.shape)
    if x is not None and d.opset >= 14:
        more: dict[str, Any] = {k: 1 for k in ("exclusive", "reverse") if d.chance(0.3)}
        d.node("CumSum", [x, d.constant(d.pick([-1, 0]), "int64")], x.shape, raw=x.raw and not x.is_float, **more)


def triangle(d: Draft) -> None:
    x = d.value(lambda t: t.rank > 1 and t.dtype in ("float32", "float64", "int64"))
    if x is not None and d.opset >= 14:
        d.node("Trilu", [x], x.shape, raw=x.raw, upper=d.pick([0, 1]))


def quantized(d: Draft) -> None:
    """QuantizeLinear and DequantizeLinear, per tensor or per channel, alone or around a Relu."""
    x = d.value(lambda t: t.dtype == "float32" and t.rank > 1 and static(t, 1))
    if x is None:
        return
    per = d.chance(0.3)
    scale = np.full(int(x.shape[1]), 0.05) if per else np.asarray(d.pick([0.1, 0.25]))
    zero = d.pick([("uint8", 128), ("int8", 0), ("uint8", 0)])
    operands = [d.constant(scale, "float32"), d.constant(np.full(scale.shape, zero[1]), zero[0])]
    more: dict[str, Any] = {"axis": 1} if per else {}
    q = d.node("QuantizeLinear", [x, *operands], x.shape, dtype=zero[0], **more)
    if d.chance(0.3):
        q = d.node("Reshape", [q, d.constant([0] * x.rank, "int64")], x.shape)
    d.node("DequantizeLinear", [q, *operands], x.shape, dtype="float32", **more)


def normalized(d: Draft) -> None:
    """Instance, group and RMS normalization as operators."""
    x = d.value(lambda t: has_rank(3, 4)(t) and t.dtype == "float32" and static(t, *range(1, t.rank)))
    if x is None:
        return
    c = x.shape[1]
    assert isinstance(c, int)
    op = d.pick(["InstanceNormalization", "GroupNormalization", "RMSNormalization"])
    if op == "InstanceNormalization":
        d.node(op, [x, d.weight(c, dtype=x.dtype), d.weight(c, dtype=x.dtype)], x.shape, epsilon=0.1)
    elif op == "GroupNormalization" and d.opset >= 21:
        d.node(
            op,
            [x, d.weight(c, dtype=x.dtype), d.weight(c, dtype=x.dtype)],
            x.shape,
            num_groups=d.pick([1, c]),
            epsilon=0.1,
        )
    elif d.opset >= 23:
        d.node("RMSNormalization", [x, d.weight(x.shape[-1], dtype=x.dtype)], x.shape, axis=-1, epsilon=0.1)  # type: ignore[arg-type]


def blocks(d: Draft) -> None:
    """DepthToSpace and SpaceToDepth."""
    x = d.value(lambda t: has_rank(4)(t) and t.dtype == "float32" and static(t, 1, 2, 3))
    if x is None:
        return
    n, c, h, w = x.shape
    assert isinstance(c, int)
    assert isinstance(h, int)
    assert isinstance(w, int)
    if c % 4 == 0:
        d.node("DepthToSpace", [x], (n, c // 4, 2 * h, 2 * w), raw=x.raw, blocksize=2, mode=d.pick(["DCR", "CRD"]))
    elif h % 2 == 0 and w % 2 == 0:
        d.node("SpaceToDepth", [x], (n, 4 * c, h // 2, w // 2), raw=x.raw, blocksize=2)


def scatter(d: Draft) -> None:
    x = d.value(lambda t: is_float(t) and t.dtype != "float16" and t.rank == 2 and static(t, 0, 1))
    if x is not None and d.opset >= 16:
        update = d.weight(1, x.shape[1], dtype=x.dtype)  # type: ignore[arg-type]
        if x.dtype == update.dtype:
            d.node("ScatterND", [x, d.constant([[d.pick([0, x.shape[0] - 1])]], "int64"), update], x.shape)  # type: ignore[operator]


def product(d: Draft) -> None:
    """MatMul of two values, and what stands around it in attention: scale, mask, Softmax."""
    x = d.value(lambda t: has_rank(3, 4)(t) and t.dtype == "float32" and static(t, -1, -2))
    if x is None:
        return
    perm = [*range(x.rank - 2), x.rank - 1, x.rank - 2]
    t = d.node("Transpose", [x], [x.shape[p] for p in perm], perm=perm)
    s = d.node("MatMul", [x, t], (*x.shape[:-1], x.shape[-2]))
    if d.chance(0.6):
        s = d.node(d.pick(["Mul", "Div"]), [s, d.constant(d.pick([0.5, 4.0]), x.dtype)], s.shape)
    if d.chance(0.3):
        mask = np.triu(np.full(tuple(map(int, s.shape[-2:])), -1e4), 1)
        s = d.node("Add", [s, d.constant(mask, x.dtype)], s.shape)
    p = d.node("Softmax", [s], s.shape, axis=-1)
    other = d.value(lambda t: t.dtype == x.dtype and t.shape == x.shape) or x
    d.node("MatMul", [p, other], x.shape)


def pair(d: Draft) -> None:
    """Two values of one shape, or a comparison of integers, chosen by a mask."""
    x = d.value(is_float)
    y = d.value(lambda t: x is not None and t.dtype == x.dtype and broadcast(t.shape, x.shape) is not None)
    if x is not None and y is not None:
        shape = broadcast(x.shape, y.shape)
        assert shape is not None
        d.node(d.pick(["Add", "Sub", "Mul", "Max", "Min", "Sum", "Mean"]), [x, y], shape)


KINDS: tuple[Callable[[Draft], None], ...] = (
    *(activation, activation, activation, prelu, rounding, convert, convert, integer, integer, bits, words, extreme),
    *(cumulated, triangle, quantized, normalized, blocks, scatter, product, pair, pair),
)
