"""Two layers with a narrow value between them, in place of one."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.projection import RECURRENT, Projection
from fcc.rewrite import Rewriter

Array = np.ndarray[Any, Any]


@dataclass(frozen=True)
class Factors:
    """W ~ ``inner`` @ ``outer``, [groups, in, rank] and [groups, rank, out]; ``bias`` [groups, out], None as it was."""

    inner: Array
    outer: Array
    bias: Array | None = None

    @property
    def rank(self) -> int:
        """Width of the value between them, per group."""
        return int(self.inner.shape[2])


def emit(view: Projection, factors: Factors, rw: Rewriter) -> None:
    """Put the pair in place of the layer, its bias after the second."""
    wide = _EMIT[view.kind](view, factors, rw)
    if wide is not None:
        rw.replace(view.output, wide)
        rw.erase(*reversed(view.nodes))


def _stored(view: Projection, array: Array) -> Array:
    assert view.weight.dtype is not None
    return np.ascontiguousarray(array.astype(view.weight.dtype.numpy()))


def _bias(view: Projection, factors: Factors) -> tuple[ir.Value | Array, ...]:
    if factors.bias is not None:
        return (_stored(view, factors.bias.reshape(-1)),)
    return () if view.bias is None else (view.bias,)


def _gemm(view: Projection, factors: Factors, rw: Rewriter) -> ir.Value:
    trans = view.node.attributes.get_int("transB", 0) or None
    inner, outer = (a[0].T if trans else a[0] for a in (factors.inner, factors.outer))
    narrow = rw.op("Gemm", view.x, _stored(view, inner), transB=trans)
    beta = view.node.attributes.get_float("beta", 1.0) if factors.bias is None and view.bias is not None else 1.0
    bias = _bias(view, factors)
    made: ir.Value = rw.op("Gemm", narrow, _stored(view, outer), *bias, transB=trans, beta=None if beta == 1 else beta)
    return made


def _matmul(view: Projection, factors: Factors, rw: Rewriter) -> ir.Value:
    narrow = rw.op("MatMul", view.x, _stored(view, factors.inner[0]))
    wide: ir.Value = rw.op("MatMul", narrow, _stored(view, factors.outer[0]))
    for bias in _bias(view, factors):
        wide = rw.op("Add", wide, bias)
    return wide


def _conv(view: Projection, factors: Factors, rw: Rewriter) -> ir.Value:
    """The first Conv has the kernel, the second is pointwise; both have the groups."""
    window = view.window
    assert window is not None
    inner = factors.inner.transpose(0, 2, 1).reshape(view.groups * factors.rank, -1, *window.kernel)
    outer = factors.outer.transpose(0, 2, 1).reshape(-1, factors.rank, *(1 for _ in window.kernel))
    plain = prod(window.kernel) == 1 and set(window.strides) == {1} and not any(window.pads) and view.groups == 1
    first = _stored(view, inner)
    narrow = rw.op("Conv", view.x, first) if plain else rw.like(view.node, view.x, first)
    group = view.groups if view.groups > 1 else None
    made: ir.Value = rw.op("Conv", narrow, _stored(view, outer), *_bias(view, factors), group=group)
    return made


def _recurrent(view: Projection, factors: Factors, rw: Rewriter) -> None:
    """The input is narrowed before the layer, whose weight then reads the narrow one."""
    dims = [int(d) for d in ir.dims_of(view.weight) or () if isinstance(d, int)]
    rw.set_input(view.node, 0, rw.op("MatMul", view.x, _stored(view, factors.inner[0])))
    rw.set_input(view.node, 1, _stored(view, factors.outer[0].T.reshape(dims[0], dims[1], factors.rank)))
    if factors.bias is None:
        return
    before = ir.Module.constant(view.bias) if view.bias is not None else None
    bias = np.zeros((dims[0], 2 * dims[1])) if before is None else before.astype(np.float64)
    bias[:, : dims[1]] = factors.bias.reshape(dims[0], dims[1])
    rw.set_input(view.node, 3, _stored(view, bias))


_EMIT: Mapping[str, Callable[[Projection, Factors, Rewriter], ir.Value | None]] = {
    "Gemm": _gemm,
    "MatMul": _matmul,
    "Conv": _conv,
    **dict.fromkeys(RECURRENT, _recurrent),
}
