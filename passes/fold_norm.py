"""fold-norm: Mul, Add and Cast around a LayerNormalization or RMSNormalization -> its scale, bias and type."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, ops, var

from ._affine import Array, limits
from ._norms import SINGLE, along

_NORM = ops("LayerNormalization", "RMSNormalization")
_HALVES = frozenset({ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


class FoldNorm(PatternPass):
    """Fold what follows a normalization into its scale and bias, and casts around it into its element type.

    Norm(x, s, b) * f -> Norm(x, s * f, b * f);  LayerNormalization(x, s, b) + c -> LayerNormalization(x, s, b + c)
    Cast(Norm(Cast(x), s, b)) -> Norm(x, s, b) for x of half precision, cast to float and back

    Shapes: x [..., *normalized]; f and c constants that vary along the normalized axes only. Scale and bias constant.
    Numerics: exact to rounding. A normalization of half precision is computed in single precision (stash_type 1), so
    casts around it round the same, if scale and bias are numbers of half precision.
    Source: ONNX LayerNormalization-17, RMSNormalization-23.
    """

    name: ClassVar[str] = "fold-norm"
    pattern = (
        op.Mul(_NORM(var("x"), const("scale"), const("bias").optional(), name="norm"), const("factor")),
        op.Add(op.LayerNormalization(var("x"), const("scale"), const("bias").optional(), name="norm"), const("addend")),
        op.Cast(
            _NORM(op.Cast(var("x"), shared=True), const("scale"), const("bias").optional(), name="norm"), name="out"
        ),
    )

    def check(self, m: Match) -> str | None:
        norm = m.nodes["norm"]
        if m.root.op_type == "Cast":
            return _cast_refusal(m)
        if ir.dims_of(norm.outputs[0]) is None or ir.dims_of(m.root.outputs[0]) != ir.dims_of(norm.outputs[0]):
            return "the result has another shape"
        if norm.outputs[0].dtype not in SINGLE or m.root.outputs[0].dtype is None:
            return f"{norm.outputs[0].dtype} is not folded"
        operands = _operands(m)
        return operands if isinstance(operands, str) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        norm = m.nodes["norm"]
        dtype = m.root.outputs[0].dtype
        assert dtype is not None
        operands = _operands(m)
        assert not isinstance(operands, str)
        attributes: dict[str, Any] = {k: a for k, a in norm.attributes.items() if k in ("axis", "epsilon")}
        arrays = (a.astype(dtype.numpy()) for a in operands)
        fused: ir.Value = rw.op(norm.op_type, m["x"], *arrays, **attributes)
        return fused


def _cast_refusal(m: Match) -> str | None:
    x, norm, out = m["x"].dtype, m.nodes["norm"], m.root.outputs[0].dtype
    if x not in _HALVES or out != x or norm.outputs[0].dtype != ir.DataType.FLOAT:
        return "these are no casts from half precision to float and back"
    if norm.attributes.get_int("stash_type", 1) != 1:
        return "it is not computed in single precision"
    for name in ("scale", "bias"):
        array = None if m.get(name) is None else m.const(name)
        if array is not None and not _is_exact(array, x):
            return f"its {name} has no exact form in {x}"
    kinds = {"T": x.name.lower(), "U": "float", "V": x.name.lower()}
    return m.ctx.target.refusal(norm.op_type, "", m.module.opset(), kinds)


def _is_exact(array: Array, dtype: ir.DataType) -> bool:
    with np.errstate(over="ignore"):
        return np.array_equal(array, array.astype(dtype.numpy()).astype(array.dtype))


def _operands(m: Match) -> list[Array] | str:
    """Return scale and, where there is one, bias of the folded normalization in float64, or why there are none."""
    scale = m.const("scale").astype(np.float64)
    bias = None if m.get("bias") is None else m.const("bias").astype(np.float64)
    if m.root.op_type == "Cast":
        return [scale] if bias is None else [scale, bias]
    rank = len(ir.known_dims(m.nodes["norm"].outputs[0]))
    axis = m.nodes["norm"].attributes.get_int("axis", -1) % rank
    if scale.ndim != rank - axis or (bias is not None and bias.shape != scale.shape):
        return "scale or bias have not the shape of the normalized axes"
    name = "factor" if m.root.op_type == "Mul" else "addend"
    given = along(m.const(name).astype(np.float64), tuple(range(axis, rank)), rank, scale.shape)
    if given is None:
        return f"the {name} varies along axes that are not normalized"
    shifted = given if bias is None else bias + given
    found = [scale * given, *([] if bias is None else [bias * given])] if name == "factor" else [scale, shifted]
    dtype = m.root.outputs[0].dtype
    assert dtype is not None
    finite = all(np.all(np.abs(a) <= limits(dtype)[1]) for a in found)
    return found if finite else f"the scale or the bias is not finite in {dtype}"
