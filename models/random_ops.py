"""The steps of random_graph(): each appends an operator that fits a value in scope, or nothing."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np

from .random_graph import Dim, Draft, Tensor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

SMOOTH = (
    "Relu",
    "Neg",
    "Abs",
    "Sigmoid",
    "Tanh",
    "Identity",
    "Relu",
    "Identity",
    "LeakyRelu",
    "Elu",
    "Softplus",
    "Erf",
)
ARITHMETIC = ("Add", "Mul", "Sub", "Add", "Mul", "Min", "Max", "Div", "Sum", "Mean")


def is_float(t: Tensor) -> bool:
    return t.is_float


def has_rank(*ranks: int) -> Callable[[Tensor], bool]:
    return lambda t: t.is_float and t.rank in ranks


def static(t: Tensor, *axes: int) -> bool:
    return all(isinstance(t.shape[a], int) and t.shape[a] != 0 for a in axes)


def broadcast(a: Sequence[Dim], b: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """Return the shape of two operands, None where symbols do not allow it."""
    size = max(len(a), len(b))
    x, y = ((1,) * (size - len(s)) + tuple(s) for s in (a, b))
    if any(p != q and 1 not in (p, q) for p, q in zip(x, y, strict=True)):
        return None
    return tuple(q if p == 1 else p for p, q in zip(x, y, strict=True))


# -- elementwise -----------------------------------------------------------------------------------------------------
def unary(d: Draft) -> None:
    if x := d.value(is_float):
        op = d.pick(SMOOTH)
        if op == "Erf" and x.dtype != "float32":
            op = "Tanh"
        d.node(op, [x], x.shape, raw=x.raw and op in ("Identity", "Neg", "Abs", "Relu"))


def identity(d: Draft) -> None:
    if x := d.value():
        d.node(d.pick(["Identity", "Identity", "Dropout"]) if x.is_float else "Identity", [x], x.shape, raw=x.raw)


def clip(d: Draft) -> None:
    if x := d.value(is_float):
        low, high = (d.constant(d.pick([-1, 0, 0.5, 3, 6]), x.dtype) if d.chance(0.7) else None for _ in "ab")
        d.node("Clip", [x, low, high], x.shape)


def operand(d: Draft, x: Tensor) -> Tensor:
    """Return something that broadcasts with ``x``: a scalar, a vector along an axis, its like, or a value."""
    other = d.value(lambda t: t.dtype == x.dtype and broadcast(t.shape, x.shape) is not None)
    if other is not None and d.chance(0.4):
        return other
    shape = [1] * x.rank
    axes = [a for a in range(x.rank) if isinstance(x.shape[a], int)]
    if axes and d.chance(0.7):
        axis = d.pick(axes)
        shape[axis] = x.shape[axis]
        shape = shape[d.rng.randint(0, axis) :] if d.chance(0.5) else shape
    elif d.chance(0.6):
        shape = []
    kind = d.pick(["random", "random", "zero", "one", "negative"])
    numbers = {"zero": 0.0, "one": 1.0, "negative": -2.0}
    if kind in numbers:
        return d.constant(np.full(shape, numbers[kind]), x.dtype)
    array = np.random.default_rng(d.rng.randint(0, 999)).uniform(0.5, 1.5, shape)
    return d.constant(array, x.dtype)


def binary(d: Draft) -> None:
    x = d.value(is_float)
    if x is None:
        return
    op, y = d.pick(ARITHMETIC), operand(d, x)
    shape = broadcast(x.shape, y.shape)
    if shape is None:
        return
    if op == "Div":
        if not y.constant:
            return
        y = d.constant(np.full([1] * d.rng.randint(0, x.rank), d.pick([1, 2, -0.5])), x.dtype)
        d.node(op, [x, y], x.shape)
    else:
        pair = [x, y] if d.chance(0.6) else [y, x]
        d.node(op, pair, shape, dtype=x.dtype)


def power(d: Draft) -> None:
    if x := d.value(is_float):
        d.node("Pow", [x, d.constant(d.pick([1, 2]), x.dtype)], x.shape)


def compare(d: Draft) -> None:
    if x := d.value(lambda t: t.is_float and t.raw):
        c = d.constant(d.pick([-0.5, 0.0, 0.25]), x.dtype)
        d.node(d.pick(["Less", "Greater", "GreaterOrEqual"]), [x, c], x.shape, dtype="bool", raw=True)


def logic(d: Draft) -> None:
    x = d.value(lambda t: t.dtype == "bool")
    if x is None:
        return
    if d.chance(0.4):
        d.node("Not", [x], x.shape, raw=True)
    else:
        d.node(d.pick(["And", "Or", "Xor"]), [x, d.constant(d.chance(0.5), "bool")], x.shape, raw=True)


def where(d: Draft) -> None:
    x = d.value(is_float)
    condition = d.value(lambda t: t.dtype == "bool")
    if x is None:
        return
    if condition is None or d.chance(0.3) or broadcast(condition.shape, x.shape) is None:
        condition = d.constant(d.chance(0.5), "bool")
    y = operand(d, x)
    shape = broadcast(x.shape, y.shape)
    shape = None if shape is None else broadcast(shape, condition.shape)
    if shape is not None:
        d.node("Where", [condition, x, y], shape, dtype=x.dtype)


def cast(d: Draft) -> None:
    if x := d.value(lambda t: t.is_float and t.dtype != "float16"):
        same = d.chance(0.4)
        other = x.dtype if same else ("float64" if x.dtype == "float32" else "float32")
        d.node("Cast", [x], x.shape, dtype=other, to={"float32": 1, "float64": 11, "float16": 10}[other])


def integers(d: Draft) -> None:
    x = d.value(lambda t: t.dtype == "int64")
    if x is not None:
        d.node(d.pick(["Add", "Mul", "Sub"]), [x, d.constant(d.pick([0, 1, 2]), "int64")], x.shape, raw=True)


# -- linear ----------------------------------------------------------------------------------------------------------
def matmul(d: Draft) -> None:
    x = d.value(lambda t: has_rank(2, 3, 4)(t) and static(t, -1))
    if x is None:
        return
    n = d.pick([1, 3, 4, 8])
    y = d.node("MatMul", [x, d.weight(x.shape[-1], n)], (*x.shape[:-1], n))  # type: ignore[arg-type]
    if d.chance(0.6):
        d.node("Add", [y, d.weight(n)] if d.chance(0.7) else [d.weight(n), y], y.shape)


def gemm(d: Draft) -> None:
    trans_a = d.chance(0.15)
    x = d.value(lambda t: has_rank(2)(t) and static(t, 0 if trans_a else 1))
    if x is None:
        return
    k, m = (x.shape[0], x.shape[1]) if trans_a else (x.shape[1], x.shape[0])
    n, trans_b = d.pick([1, 3, 4, 8]), d.chance(0.5)
    w = d.weight(n, k) if trans_b else d.weight(k, n)  # type: ignore[arg-type]
    bias = d.pick([None, (n,), (1, n), (1,), ()])
    attributes: dict[str, Any] = {"transA": 1} if trans_a else {}
    if trans_b or d.chance(0.3):
        attributes["transB"] = int(trans_b)
    if d.chance(0.3):
        attributes.update(alpha=d.pick([0.5, -1.5]), beta=d.pick([0.0, 2.0, 1.0]))
    d.node("Gemm", [x, w, None if bias is None else d.weight(*bias)], (m, n), **attributes)


def conv(d: Draft) -> None:
    x = d.value(lambda t: has_rank(3, 4)(t) and static(t, 1) and t.dtype != "float16" and t.shape[-1] != 0)
    if x is None:
        return
    c, spatial = x.shape[1], x.rank - 2
    assert isinstance(c, int)
    group = c if d.chance(0.25) else (2 if c % 2 == 0 and d.chance(0.3) else 1)
    m = group * d.pick([1, 2, 3])
    kernel = [d.pick([1, 1, 3]) for _ in range(spatial)]
    bias = d.weight(m) if d.chance(0.5) else None
    if any(k == 3 for k in kernel):
        pads, same = [k // 2 for k in kernel] * 2, x.shape[2:]
    else:
        pads, same = [0] * (2 * spatial), x.shape[2:]
    attributes: dict[str, Any] = {"group": group} if group > 1 or d.chance(0.2) else {}
    if any(pads) or d.chance(0.2):
        attributes["pads"] = pads
    op = "Conv"
    weight = d.weight(m, c // group, *kernel)
    if d.chance(0.2):
        op, weight = "ConvTranspose", d.weight(c, m // group, *kernel)
    d.node(op, [x, weight, bias], (x.shape[0], m, *same), **attributes)


def batchnorm(d: Draft) -> None:
    x = d.value(lambda t: has_rank(2, 3, 4)(t) and static(t, 1))
    if x is None:
        return
    c = x.shape[1]
    assert isinstance(c, int)
    rng = np.random.default_rng(d.rng.randint(0, 999))
    stats = [
        d.constant(rng.uniform(0.5, 1.5, c) * s, x.dtype)
        for s in (d.pick([1, 1, -1]), d.pick([1, 0]), d.pick([1, 0]), 1)
    ]
    d.node("BatchNormalization", [x, *stats], x.shape, epsilon=d.pick([1e-5, 0.01]))


def layernorm(d: Draft) -> None:
    x = d.value(lambda t: has_rank(2, 3)(t) and static(t, -1) and t.dtype != "float16")
    if x is not None and d.opset >= 17:
        d.node("LayerNormalization", [x, d.weight(x.shape[-1])], x.shape, epsilon=0.1)  # type: ignore[arg-type]


def softmax(d: Draft) -> None:
    if (x := d.value(lambda t: t.is_float and t.rank > 0)) and d.chance(0.5):
        d.node("Softmax", [x], x.shape, axis=d.rng.randint(-x.rank, x.rank - 1))


def pool(d: Draft) -> None:
    x = d.value(lambda t: has_rank(4)(t) and static(t, 1) and 0 not in t.shape and t.dtype == "float32")
    if x is None:
        return
    if d.chance(0.4):
        d.node("GlobalAveragePool", [x], (*x.shape[:2], 1, 1))
    else:
        d.node(d.pick(["MaxPool", "AveragePool"]), [x], x.shape, kernel_shape=[3, 3], pads=[1, 1, 1, 1])


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


# -- control flow ----------------------------------------------------------------------------------------------------
def branch(d: Draft) -> None:
    """An If whose branches capture values; conditions are constants, inputs or computed."""
    x = d.value(is_float)
    if x is None or d.outer is not None:
        return
    condition = d.value(lambda t: t.dtype == "bool" and t.shape == ())
    if condition is None or d.chance(0.3):
        condition = d.constant(d.chance(0.5), "bool")
    graphs = []
    for name in ("then", "else"):
        body = Draft(d.rng, d.opset, d.dtype, outer=d)
        for _ in range(d.rng.randint(0, 3)):
            d.pick([unary, binary, matmul, identity, clip, reshape, gemm])(body)
        same = [t for t in body.values if t.dtype == x.dtype and t.shape == x.shape]
        result = same[-1] if same else body.node(d.pick(["Identity", "Tanh"]), [x], x.shape)
        graphs.append(body.graph(f"{name}_{d.fresh('g')}", [result]))
    d.node("If", [condition], x.shape, dtype=x.dtype, then_branch=graphs[0], else_branch=graphs[1])


STEPS: tuple[Callable[[Draft], None], ...] = (
    *(unary, unary, identity, clip, binary, binary, binary, power, compare, logic, where, cast, integers),
    *(matmul, matmul, gemm, gemm, conv, conv, conv, batchnorm, batchnorm, batchnorm, layernorm, softmax, pool),
    *(transpose, reshape, reshape, squeeze, flatten, slice_, concat, pad, expand, tile, gather, reduce),
    *(shape_arithmetic, branch),
)
