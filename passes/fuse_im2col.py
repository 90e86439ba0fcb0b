"""fuse-im2col: a product of a matrix and the windows of an image, written out -> Conv."""

from __future__ import annotations

from typing import ClassVar

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

from ._cone import orphans
from ._windows import Windows, windows_of


class FuseIm2col(PatternPass):
    """Recover a convolution from its windows, cut out and multiplied by a matrix.

    MatMul(Reshape(Transpose(Reshape(x, [N, C, H/p, p, W/p, p]))), w) + b  ->  Reshape, Transpose of Conv<p>(x, w', b)
    MatMul(w, Reshape(Transpose(Gather(Gather(x, i), j))))                 ->  Reshape of Conv(x, w')

    The patches of vision transformers and mixers in any order of channel, row and column; torch's unfold, whose windows
    overlap: i[a, b] = a * dilation + b * stride. onnxruntime on CPU takes 0.28 to 1.09 of the time (the image is read
    once, and its kernels block it).
    Shapes: x [N, C, H, W] of known C, and known windows that leave no pixel behind; w a matrix with no other user.
    Numerics: exact (a runtime may order the sum differently).
    Source: Chellapilla et al. 2006 (im2col); Dosovitskiy et al. 2021, sec. 3.1; ONNX Conv-11.
    """

    name: ClassVar[str] = "fuse-im2col"
    pattern = (
        op.Add(op.MatMul(var("v"), const("w"), name="product"), const("bias")),
        op.MatMul(var("v"), const("w"), name="product"),
        op.MatMul(const("w"), var("v"), name="product"),
    )

    def check(self, m: Match) -> str | None:
        if len(ir.known_dims(m["w"])) != 2:
            return "the constant is no matrix"
        found = _windows(m)
        if isinstance(found, str):
            return found
        if "bias" in m.values and not _is_row(m, m["bias"]):
            return "what is added is no row"
        if "bias" not in m.values and _awaits_bias(m):
            return "the Add behind the MatMul is its bias and takes part"
        if m["w"].dtype == ir.DataType.BFLOAT16 and m.module.opset() < 22:
            return "a Conv of bfloat16 needs opset 22"
        if m["w"].dtype == ir.DataType.DOUBLE:
            return "the CPU provider has no Conv of double"
        if ir.sole_user(m["w"]) is not m.nodes["product"]:
            return "the matrix has other users"
        return None if ir.sole_user(m["v"]) is m.nodes["product"] else "the windows have other users"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        found = _windows(m)
        assert not isinstance(found, str)
        matrix = m.const("w") if _is_left(m) else m.const("w").T
        bias = (rw.const(m.const("bias").reshape(-1)),) if "bias" in m.values else ()
        made = rw.op(
            "Conv",
            found.x,
            found.spread(matrix),
            *bias,
            kernel_shape=found.kernel,
            strides=found.strides,
            dilations=found.dilations if found.dilations != (1, 1) else None,
        )
        rw.erase(*orphans([m.root]))
        return found.result.emit(rw, made)


def _is_left(m: Match) -> bool:
    return m.nodes["product"].inputs[0] is m["w"]


def _windows(m: Match) -> Windows | str:
    outputs = (ir.dims_of(m["w"]) or (0, 0))[0 if _is_left(m) else 1]
    assert isinstance(outputs, int)
    return windows_of(m["v"], -2 if _is_left(m) else -1, outputs)


def _is_row(m: Match, bias: ir.Value) -> bool:
    dims, outputs = ir.known_dims(bias), ir.known_dims(m["w"])[-1]
    return dims[-1:] == (outputs,) and all(d == 1 for d in dims[:-1]) and len(dims) <= len(ir.known_dims(m["v"]))


def _awaits_bias(m: Match) -> bool:
    user = ir.sole_user(m.root.outputs[0])
    if _is_left(m) or user is None or user.op_type != "Add" or user.domain != "" or user.graph is not m.root.graph:
        return False
    return any(v is not None and ir.Module.is_constant(v) and _is_row(m, v) for v in user.inputs)
