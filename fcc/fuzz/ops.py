"""The steps of random_graph(): each appends an operator that fits a value in scope, or nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .draft import Dim, Draft, Tensor

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
    y = d.node("MatMul", [x, d.weight(x.shape[-1], n, dtype=x.dtype)], (*x.shape[:-1], n))  # type: ignore[arg-type]
    if d.chance(0.6):
        d.node("Add", [y, d.weight(n, dtype=x.dtype)] if d.chance(0.7) else [d.weight(n, dtype=x.dtype), y], y.shape)


def gemm(d: Draft) -> None:
    trans_a = d.chance(0.15)
    x = d.value(lambda t: has_rank(2)(t) and static(t, 0 if trans_a else 1))
    if x is None:
        return
    k, m = (x.shape[0], x.shape[1]) if trans_a else (x.shape[1], x.shape[0])
    n, trans_b = d.pick([1, 3, 4, 8]), d.chance(0.5)
    w = d.weight(n, k, dtype=x.dtype) if trans_b else d.weight(k, n, dtype=x.dtype)  # type: ignore[arg-type]
    bias = d.pick([None, (n,), (1, n), (1,), ()])
    attributes: dict[str, Any] = {"transA": 1} if trans_a else {}
    if trans_b or d.chance(0.3):
        attributes["transB"] = int(trans_b)
    if d.chance(0.3):
        attributes.update(alpha=d.pick([0.5, -1.5]), beta=d.pick([0.0, 2.0, 1.0]))
    d.node("Gemm", [x, w, None if bias is None else d.weight(*bias, dtype=x.dtype)], (m, n), **attributes)


def conv(d: Draft) -> None:
    x = d.value(lambda t: has_rank(3, 4)(t) and static(t, 1) and t.dtype != "float16" and t.shape[-1] != 0)
    if x is None:
        return
    c, spatial = x.shape[1], x.rank - 2
    assert isinstance(c, int)
    group = c if d.chance(0.25) else (2 if c % 2 == 0 and d.chance(0.3) else 1)
    m = group * d.pick([1, 2, 3])
    kernel = [d.pick([1, 1, 3]) for _ in range(spatial)]
    bias = d.weight(m, dtype=x.dtype) if d.chance(0.5) else None
    if any(k == 3 for k in kernel):
        pads, same = [k // 2 for k in kernel] * 2, x.shape[2:]
    else:
        pads, same = [0] * (2 * spatial), x.shape[2:]
    attributes: dict[str, Any] = {"group": group} if group > 1 or d.chance(0.2) else {}
    if any(pads) or d.chance(0.2):
        attributes["pads"] = pads
    op = "Conv"
    weight = d.weight(m, c // group, *kernel, dtype=x.dtype)
    if d.chance(0.2):
        op, weight = "ConvTranspose", d.weight(c, m // group, *kernel, dtype=x.dtype)
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
        d.node("LayerNormalization", [x, d.weight(x.shape[-1], dtype=x.dtype)], x.shape, epsilon=0.1)  # type: ignore[arg-type]


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


STEPS: tuple[Callable[[Draft], None], ...] = (
    *(unary, unary, identity, clip, binary, binary, binary, power, compare, logic, where, cast, integers),
    *(matmul, matmul, gemm, gemm, conv, conv, conv, batchnorm, batchnorm, batchnorm, layernorm, softmax, pool),
)
