"""eliminate-zero-taps: a convolution without the rows and columns of its kernel that are zero throughout."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.interval_moves import computes_padding
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, var

from ._affine import FLOATS, Array

_LARGEST = 1 << 24  # elements of a kernel that is looked at


class EliminateZeroTaps(PatternPass):
    """Cut the border of a kernel off where all of its weights are zero.

    Conv<kernel=[3, 3], pads=[1, 1, 1, 1]>(x, w), w zero but in its middle row -> Conv<[1, 3], pads=[0, 1, 0, 1]>

    As far as the padding in front of and behind an axis can shrink by what is cut off; one tap of each axis stays.
    Shapes: x [N, C, *spatial], w [M, C/group, *kernel], any stride and dilation. The weight has no other user.
    Numerics: exact for finite values. Source: ONNX Conv-11.
    """

    name: ClassVar[str] = "eliminate-zero-taps"
    pattern = op.Conv(var("x"), const("w"), var("b").optional(), name="conv")

    def check(self, m: Match) -> str | None:
        weight, node = m["w"], m.nodes["conv"]
        dims = ir.known_dims(weight)
        if weight.dtype not in FLOATS or isinstance(weight.const_value, ir.LazyTensor):
            return "the weights are no floats, or computed only at save"
        if weight.const_value is None or not 0 < weight.const_value.size <= _LARGEST or max(dims[2:], default=1) == 1:  # type: ignore[type-var]
            return "the kernel has one tap, or is too large to look at"
        if computes_padding(node):
            return "the Conv computes its own padding"
        if ir.sole_user(weight) is not node:
            return "the weight has other users"
        return (
            None if any(map(sum, _cuts(m))) else "no border of the kernel is zero, or the padding cannot shrink by it"
        )

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        cuts, node = _cuts(m), m.nodes["conv"]
        dilations, pads = _spatial(node, "dilations", 1, len(cuts)), _spatial(node, "pads", 0, 2 * len(cuts))
        kept = (slice(None), slice(None), *(slice(a, -b or None) for a, b in cuts))
        weight = np.ascontiguousarray(m.const("w")[kept])
        taken = [a for a, _ in cuts] + [b for _, b in cuts]
        made: ir.Value = rw.like(
            node,
            m["x"],
            rw.const(weight, f"{m['w'].name}/kept"),
            *node.inputs[2:],
            kernel_shape=list(weight.shape[2:]),
            pads=[p - t * d for p, t, d in zip(pads, taken, dilations * 2, strict=True)],
            auto_pad=None,
        )
        return made


def _spatial(node: ir.Node, name: str, otherwise: int, count: int) -> list[int]:
    return list(node.attributes.get_ints(name, ()) or [otherwise] * count)


def _cuts(m: Match) -> list[tuple[int, int]]:
    """Return, per spatial axis, how many taps go at its beginning and at its end."""
    array, node = m.const("w"), m.nodes["conv"]
    rank = array.ndim - 2
    dilations, pads = _spatial(node, "dilations", 1, rank), _spatial(node, "pads", 0, 2 * rank)
    found = []
    for i in range(rank):
        begin = _zeros(array, i + 2, pads[i] // dilations[i], range(array.shape[i + 2] - 1))
        rest = range(array.shape[i + 2] - 1, begin, -1)
        found.append((begin, _zeros(array, i + 2, pads[i + rank] // dilations[i], rest)))
    return found


def _zeros(array: Array, axis: int, limit: int, order: range) -> int:
    """Return how many slices along an axis are zero, at most ``limit``, in this order."""
    count = 0
    for at in order:
        if count == limit or any(np.take(part, at, axis=axis).any() for part in (array[:1], array)):  # one filter first
            break
        count += 1
    return count
