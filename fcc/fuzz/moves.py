"""More steps of random_graph(): data movement, shape arithmetic."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from .draft import Draft
from .ops import static

if TYPE_CHECKING:
    from collections.abc import Callable


# -- layout ----------------------------------------------------------------------------------------------------------
def transpose(d: Draft) -> None:
    if x := d.value(lambda t: t.rank > 1):
        perm = list(range(x.rank))
        d.rng.shuffle(perm)
        perm = list(range(x.rank)) if d.chance(0.2) else perm
        d.node("Transpose", [x], [x.shape[p] for p in perm], raw=x.raw, perm=perm)


def reshape(d: Draft) -> None:
    x = d.value(lambda t: t.rank > 1 and static(t, *range(1, t.rank)))
    if x is None:
        return
    tail = [s for s in x.shape[1:] if isinstance(s, int)]
    shape = d.pick([(x.shape[0], prod(tail)), (x.shape[0], *reversed(tail)), x.shape, (x.shape[0], 1, *tail)])
    if d.chance(0.5):
        target = d.constant([0, *shape[1:]] if d.chance(0.5) else [-1, *shape[1:]], "int64")
    else:
        size = d.node("Shape", [x], (x.rank,), dtype="int64", raw=True)
        first = d.node("Gather", [size, d.constant([0], "int64")], (1,), raw=True)
        rest = d.constant(shape[1:], "int64")
        target = d.node("Concat", [first, rest], (len(shape),), raw=True, axis=0)
    d.node("Reshape", [x, target], shape, raw=x.raw)


def squeeze(d: Draft) -> None:
    if x := d.value(lambda t: t.rank < 4):
        axis = d.rng.randint(0, x.rank)
        y = d.node("Unsqueeze", [x, d.constant([axis], "int64")], (*x.shape[:axis], 1, *x.shape[axis:]), raw=x.raw)
        if d.chance(0.4):
            d.node("Squeeze", [y, d.constant([axis], "int64")], x.shape, raw=x.raw)


def flatten(d: Draft) -> None:
    if x := d.value(lambda t: t.is_float and t.rank > 1 and static(t, *range(1, t.rank))):
        d.node("Flatten", [x], (x.shape[0], prod(x.shape[1:])), raw=x.raw)


def slice_(d: Draft) -> None:
    x = d.value(lambda t: t.rank > 0)
    if x is None:
        return
    axis = d.rng.randint(0, x.rank - 1)
    size, form = x.shape[axis], d.pick(["all", "all", "tail", "reverse"])
    bounds = {"all": (0, 2**63 - 1, 1), "tail": (1, 2**63 - 1, 1), "reverse": (-1, -(2**63), -1)}[form]
    if form == "tail" and not isinstance(size, int):
        return
    kept = max(size - 1, 0) if form == "tail" else size  # type: ignore[operator]
    operands = [d.constant([v], "int64") for v in (bounds[0], bounds[1], axis, bounds[2])]
    d.node("Slice", [x, *operands], (*x.shape[:axis], kept, *x.shape[axis + 1 :]), raw=x.raw)


def concat(d: Draft) -> None:
    x = d.value(lambda t: t.rank > 0)
    if x is None:
        return
    axis = d.rng.randint(0, x.rank - 1)
    size = x.shape[axis]
    if not isinstance(size, int):
        return
    empty = d.chance(0.2) and all(isinstance(s, int) for s in x.shape)
    other = d.constant(np.zeros([0 if a == axis else s for a, s in enumerate(x.shape)]), x.dtype) if empty else x
    d.node("Concat", [x, other], (*x.shape[:axis], size if empty else 2 * size, *x.shape[axis + 1 :]), axis=axis)


def pad(d: Draft) -> None:
    x = d.value(lambda t: t.is_float and t.rank > 0 and static(t, -1))
    if x is None:
        return
    before, after = d.pick([(0, 0), (0, 0), (1, 2), (1, 0)])
    pads = [0] * (x.rank - 1) + [before] + [0] * (x.rank - 1) + [after]
    fill = d.constant(d.pick([0, 1.5]), x.dtype) if d.chance(0.5) else None
    d.node("Pad", [x, d.constant(pads, "int64"), fill], (*x.shape[:-1], x.shape[-1] + before + after))


def expand(d: Draft) -> None:
    x = d.value(lambda t: t.is_float and t.rank > 0)
    if x is None:
        return
    if d.chance(0.5):
        size = d.node("Shape", [x], (x.rank,), dtype="int64", raw=True)
        d.node("Expand", [x, size], x.shape, raw=x.raw)
    else:
        shape = [2 if s == 1 else 1 for s in x.shape]
        d.node("Expand", [x, d.constant(shape, "int64")], [2 if s == 1 else s for s in x.shape], raw=x.raw)


def tile(d: Draft) -> None:
    x = d.value(lambda t: t.is_float and t.rank > 0 and static(t, -1))
    if x is not None:
        k = d.pick([1, 1, 2])
        repeats = d.constant([1] * (x.rank - 1) + [k], "int64")
        d.node("Tile", [x, repeats], (*x.shape[:-1], x.shape[-1] * k), raw=x.raw)


def gather(d: Draft) -> None:
    x = d.value(lambda t: t.rank > 0 and static(t, -1) and isinstance(t.shape[-1], int) and t.shape[-1] > 1)
    if x is None:
        return
    ids = d.value(lambda t: t.name == "ids") if d.chance(0.4) else None
    indices = ids or d.constant(d.pick([0, [0], [1, 0], [-1]]), "int64")
    d.node("Gather", [x, indices], (*x.shape[:-1], *indices.shape), raw=x.raw, axis=-1)


def reduce(d: Draft) -> None:
    x = d.value(lambda t: t.is_float and t.rank > 1 and static(t, -1) and 0 not in t.shape)
    if x is None:
        return
    op, keep = d.pick(["ReduceSum", "ReduceMean", "ReduceMax"]), d.chance(0.5)
    shape = (*x.shape[:-1], 1) if keep else x.shape[:-1]
    if op == "ReduceSum" or d.opset >= 18:
        d.node(op, [x, d.constant([-1], "int64")], shape, keepdims=int(keep))
    else:
        d.node(op, [x], shape, keepdims=int(keep), axes=[-1])


def shape_arithmetic(d: Draft) -> None:
    """A tensor of ones (or zeros) with the shape of another one, added to it."""
    x = d.value(lambda t: t.is_float and t.rank > 0)
    if x is None:
        return
    size = d.node("Shape", [x], (x.rank,), dtype="int64", raw=True)
    if d.chance(0.4):
        one = d.constant(d.pick([[1], 1]), "int64")
        size = d.node(d.pick(["Mul", "Div"]), [size, one], (x.rank,), raw=True)
    number = np.array([d.pick([0.0, 1.0])], x.dtype)
    from onnx import numpy_helper

    y = d.node("ConstantOfShape", [size], x.shape, dtype=x.dtype, value=numpy_helper.from_array(number))
    d.node(d.pick(["Add", "Mul"]), [x, y], x.shape)


MOVES: tuple[Callable[[Draft], None], ...] = (
    *(transpose, reshape, reshape, squeeze, flatten, slice_, concat, pad, expand, tile, gather, reduce),
    shape_arithmetic,
)
