"""fold-space-to-depth: a convolution behind blocks that were moved into the channels -> one with a larger stride."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

from ._blocks import Blocks, blocks_of
from ._cone import orphans
from ._conv_layer import has_other_kernel
from ._views import full_dims


class FoldSpaceToDepth(PatternPass):
    """Let a convolution take the pixels of a block itself, instead of from channels they were moved to.

    Conv<strides=s, pads=p>(SpaceToDepth(x, b), w)  ->  Conv<strides=b s, pads=b p>(x, w'),
    w [M, b b C, k, k], w' [M, C, b k, b k]

    Blocks are moved by SpaceToDepth, by Reshape, Transpose and Reshape in any order of channel, row and column
    (torch's pixel_unshuffle), or by a Concat of strided slices (the Focus layer of YOLO). The sums are the same, the
    weights as many; onnxruntime on CPU takes 0.54 to 0.98 of the time of SpaceToDepth and Conv, and less of that of the
    other spellings (blocks of 2 and 4, kernels of 1 and 3, 1 to 64 channels).
    Shapes: x [N, C, H, W]; one group, no dilation; blocks of known size that divide H and W, with no other user.
    Numerics: exact (a runtime may order the sum differently).
    Source: ONNX SpaceToDepth-13, Conv-11.
    """

    name: ClassVar[str] = "fold-space-to-depth"
    pattern = op.Conv(var("v"), const("w"), var("b").optional(), name="conv")

    def check(self, m: Match) -> str | None:
        blocks = blocks_of(m["v"])
        if blocks is None or blocks.size == (1, 1):
            return "no blocks were moved into the channels of its input"
        node, weight, dims = m.nodes["conv"], ir.dims_of(m["w"]), full_dims(blocks.x)
        if dims is None or not isinstance(dims[1], int) or not blocks.is_whole(dims[1]):
            return "a pixel of the blocks is missing, or there twice"
        if node.attributes.get_int("group", 1) != 1:
            return "the convolution is grouped"
        if any(d != 1 for d in node.attributes.get_ints("dilations", None) or ()):
            return "the convolution is dilated"
        if node.attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
            return "the Conv computes its own padding"
        if has_other_kernel(node) or (weight is not None and weight[1:2] != (len(blocks.channel),)):
            return "the weight fits neither its kernel_shape nor the blocks"
        if weight is None or len(weight) != 4 or ir.sole_user(m["w"]) is not node:
            return "the weight has other users"
        return None if ir.sole_user(m["v"]) is node else "the blocks have other users"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        blocks = blocks_of(m["v"])
        assert blocks is not None
        node, (rows, columns) = m.nodes["conv"], blocks.size
        weight = _spread(m.const("w"), blocks)
        strides = node.attributes.get_ints("strides", None) or (1, 1)
        pads = node.attributes.get_ints("pads", None) or (0, 0, 0, 0)
        made: ir.Value = rw.like(
            node,
            blocks.x,
            weight,
            *node.inputs[2:],
            strides=[strides[0] * rows, strides[1] * columns],
            pads=[p * (rows, columns)[i % 2] for i, p in enumerate(pads)],
            kernel_shape=list(weight.shape[2:]),
        )
        rw.erase(*orphans([node]))
        return made


def _spread(weight: np.ndarray[Any, Any], blocks: Blocks) -> np.ndarray[Any, Any]:
    """Return the weight of each channel at the pixel of the block that the channel holds."""
    rows, columns = blocks.size
    outputs, inputs, height, width = weight.shape
    wide = np.zeros((outputs, inputs // (rows * columns), height * rows, width * columns), weight.dtype)
    for j, (c, y, x) in enumerate(zip(blocks.channel, blocks.row, blocks.column, strict=True)):
        wide[:, c, y::rows, x::columns] = weight[:, j]
    return wide
