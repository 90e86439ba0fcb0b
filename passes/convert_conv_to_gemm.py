"""convert-conv-to-gemm: a convolution whose kernel covers its whole input -> Flatten, Gemm, Reshape."""

from __future__ import annotations

from math import prod
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

from ._conv_layer import has_other_kernel
from ._permutations import UNARY
from ._rearrange import entries
from ._spatial import reshaped
from ._views import full_dims

# Time of Gemm over that of Conv (onnxruntime 1.32, one thread, AVX-512), batch x channels x kernel -> outputs:
# 1x16x5 -> 120 0.86, 1x64x4 -> 64 0.85, 1x128x3 -> 10 0.83, 1x512x2 -> 512 1.00; 8x512x7 -> 256 0.19, 16x64x4 -> 64
# 0.53; but 1x512x7 -> 256 1.10 to 1.47, 1x256x6 -> 1024 4.05, 2x512x7 -> 256 1.08. Not measured elsewhere.
_PAYS = frozenset({"cpu"})
_SMALL = 1 << 17  # weights with which a single row is as fast
_ROWS = 4


class ConvertConvToGemm(PatternPass):
    """Multiply by a matrix where a convolution has one position.

    Conv(x, w, b)  ->  Reshape(Gemm(Flatten(x), w', b), [N, M, 1, ..]),  w' = Reshape(w, [M, C * prod(kernel)])

    Shapes: x [N, C, *spatial], the kernel as large as the input and larger than 1, no padding, one group, no dilation.
    Only where the table of measurements says that it pays: few weights, or a batch of four and more; and where what
    follows, perhaps behind activations, takes the axes of 1 away again.
    Numerics: exact (a runtime may order the sum differently).
    Source: ONNX Conv-11, Gemm-13.
    """

    name: ClassVar[str] = "convert-conv-to-gemm"
    pattern = op.Conv(var("x"), const("w"), const("b").optional(), name="conv")

    def check(self, m: Match) -> str | None:
        node, dims, weight = m.nodes["conv"], full_dims(m["x"]), full_dims(m["w"])
        if dims is None or weight is None or dims[2:] != weight[2:] or prod(weight[2:]) == 1:
            return "the kernel is not as large as the input, or is 1"
        if has_other_kernel(node):
            return "its kernel_shape is not that of the weight"
        if node.attributes.get_int("group", 1) != 1:
            return "the convolution is grouped"
        if any(d != 1 for d in node.attributes.get_ints("dilations", None) or ()):
            return "the convolution is dilated"
        pads = node.attributes.get_ints("pads", None) or ()
        if any(p != 0 for p in pads) or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
            return "the input is padded"
        if ir.sole_user(m["w"]) is not node:
            return "the weight has other users"
        if m.ctx.target.name not in _PAYS:
            return f"nothing says that it pays on {m.ctx.target.name}"
        if prod(weight) > _SMALL and not (isinstance(dims[0], int) and dims[0] >= _ROWS):
            return "the convolution is faster with so many weights for so few rows"
        return None if _is_flattened(m.root.outputs[0]) else "no Reshape behind it takes the axes of 1 away"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        weight = full_dims(m["w"])
        assert weight is not None
        sizes = ir.numbers(weight)
        flat = reshaped(m["w"], (sizes[0], prod(sizes[1:])), rw)
        bias = () if m.get("b") is None else (m["b"],)
        made: Any = rw.op("Gemm", rw.op("Flatten", m["x"]), flat, *bias, transB=1)
        target: Any = entries(full_dims(made) or (), (*(full_dims(made) or ()), *[1] * (len(sizes) - 2)))
        back: ir.Value = rw.op("Reshape", made, np.asarray(target, np.int64))
        return back


def _is_flattened(value: ir.Value) -> bool:
    """Return whether all users lay the value out as rows, perhaps behind activations, so that the Reshape goes."""
    while (user := ir.sole_user(value)) is not None and user.op_type in UNARY and user.domain == "":
        value = user.outputs[0]
    users = [u.node for u in value.uses()]
    kinds = ("Flatten", "Reshape", "Squeeze")
    rows = all(n.op_type in kinds and n.domain == "" and len(ir.known_dims(n.outputs[0])) == 2 for n in users)
    return bool(users) and rows and not value.is_graph_output()
