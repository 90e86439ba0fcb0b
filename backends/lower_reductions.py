"""lower-reductions: Mean, Hardmax and Lp pooling by sums, maxima and averages."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from math import prod
from typing import ClassVar

import numpy as np

from fcc import ir

from .lowering import Builder, Lowering, Row


def _mean(b: Builder) -> ir.Value:
    terms = [v for v in b.node.inputs if v is not None]
    if len(terms) == 1:
        return b.op("Identity", terms[0])
    total = reduce(lambda a, c: b.op("Add", a, c), terms)
    return b.op("Div", total, float(len(terms)))


def _hardmax(b: Builder) -> ir.Value:
    axis = b.node.attributes.get_int("axis", -1)
    dims = ir.known_dims(b.x)
    size = dims[axis]
    assert isinstance(size, int)
    first = b.op("ArgMax", b.x, axis=axis, keepdims=1)
    shape = [1] * len(dims)
    shape[axis] = size
    hit = b.op("Equal", first, b.rw.const(np.arange(size, dtype=np.int64).reshape(shape)))
    assert b.x.dtype is not None
    return b.op("Cast", hit, to=b.x.dtype.value)


def _static_axis(node: ir.Node) -> str | None:
    dims = ir.dims_of(node.inputs[0])
    axis = node.attributes.get_int("axis", -1)
    if dims is None or not -len(dims) <= axis < len(dims) or not isinstance(dims[axis], int):
        return "the size of the axis is not known"
    return None


def _power(b: Builder, x: ir.Value, p: int) -> ir.Value:
    if p == 2:
        return b.op("Mul", x, x)
    magnitude = b.op("Abs", x)
    return magnitude if p == 1 else b.op("Pow", magnitude, float(p))


def _root(b: Builder, x: ir.Value, p: int) -> ir.Value:
    if p == 2:
        return b.op("Sqrt", x)
    return x if p == 1 else b.op("Pow", x, 1.0 / p)


def _lp_pool(b: Builder) -> ir.Value:
    p = b.node.attributes.get_int("p", 2)
    kernel = list(b.node.attributes.get_ints("kernel_shape") or ())
    kept = {k: a for k, a in b.node.attributes.items() if k in ("kernel_shape", "strides", "pads", "dilations")}
    mean = b.op("AveragePool", _power(b, b.x, p), count_include_pad=1, **kept)
    return _root(b, b.op("Mul", mean, float(prod(kernel))), p)


def _positive_p(node: ir.Node) -> str | None:
    return "p is below 1, which is no norm" if node.attributes.get_int("p", 2) < 1 else None


def _poolable(node: ir.Node) -> str | None:
    if node.attributes.get_int("ceil_mode", 0):
        return "with ceil_mode the windows at the border differ in size"
    if node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID"):
        return "auto_pad SAME_* is not expressed"
    return None


def _poolable_here(node: ir.Node) -> str | None:
    dilated = any(d != 1 for d in node.attributes.get_ints("dilations") or ())
    reason = "AveragePool has no dilations before opset 19" if dilated else _poolable(node)
    return reason or _positive_p(node)


def _global_lp_pool(b: Builder) -> ir.Value:
    p = b.node.attributes.get_int("p", 2)
    axes = range(2, len(ir.known_dims(b.x)))
    return _root(b, b.reduce("ReduceSum", _power(b, b.x, p), list(axes)), p)


def _known_rank(node: ir.Node) -> str | None:
    dims = ir.dims_of(node.inputs[0])
    return "the rank of the input is not known" if dims is None or len(dims) < 3 else _positive_p(node)


class LowerReductions(Lowering):
    """Express Mean, Hardmax and Lp pooling by what the target has a kernel for.

    Mean(a, b, c) -> (a + b + c) / 3;  Hardmax(x) -> Cast(ArgMax(x) == [0..n-1]);
    LpPool(x) -> (AveragePool(|x|^p) * prod(kernel))^(1/p);  GlobalLpPool(x) -> ReduceSum(|x|^p)^(1/p)

    Shapes: Mean broadcasts; the axis of Hardmax has a known size; pools x [N, C, *spatial].
    Source: ONNX Mean-13, Hardmax-13, LpPool-22, GlobalLpPool-22.
    """

    name: ClassVar[str] = "lower-reductions"
    rows: ClassVar[Mapping[str, Row]] = {
        "Mean": Row(_mean),
        "Hardmax": Row(_hardmax, _static_axis),
        "LpPool": Row(_lp_pool, _poolable_here),
        "GlobalLpPool": Row(_global_lp_pool, _known_rank),
    }
