"""Matrix products with constant weights, as the passes see them that quantize one operand or the other."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear, linear_of
from fcc.compress.calibrate import Watch
from fcc.compress.patches import Moments
from fcc.rewrite import PassContext

from ._chosen import chosen
from ._qdq_watch import MAX_INPUTS, MAX_MOMENTS, moments_key

Array = np.ndarray[Any, Any]
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})


def matrix_products(module: ir.Module, only: str, exclude: str) -> Iterator[tuple[ir.Node, Linear | str]]:
    """Yield every Gemm and MatMul with its view, or why it stays; those of two activations are left out."""
    for node in [n for n in module.nodes() if n.op_type in ("Gemm", "MatMul") and n.domain == ""]:
        if node.graph is not None and ir.Module.is_constant(node.inputs[1]):
            yield node, _view(node, only, exclude)


def _view(node: ir.Node, only: str, exclude: str) -> Linear | str:
    if not chosen(node, only, exclude):
        return "excluded by option"
    view = linear_of(node)
    if isinstance(view, str):
        return view
    if view.weight.dtype not in _FLOATS or view.x.dtype != view.weight.dtype:
        return f"the weight is {view.weight.dtype}"
    if min(view.out_features, view.in_features) < 1:
        return "the weight is empty"
    if ir.sole_user(view.weight) is None:
        return "the weight has other users"
    if view.bias is not None and not ir.Module.is_constant(view.bias):
        return "the bias is not constant"
    array = ir.Module.constant(view.weight)
    return view if array is not None and np.all(np.isfinite(array)) else "the weight holds NaN or infinity"


def rows_of(view: Linear, ctx: PassContext) -> int | None:
    """Return how many rows the weight multiplies at the sizes of the compile, None when that is not known."""
    dims = ir.dims_of(view.x)
    sizes = [d if isinstance(d, int) else ctx.shapes.get(str(d)) for d in (dims or (None, None))[:-1]]
    return None if any(s is None for s in sizes) else prod(s for s in sizes if s is not None)


def watch_inputs(views: list[Linear]) -> dict[str, Watch]:
    """Return what GPTQ needs to know of the inputs of layers, for as many as memory allows."""
    found: dict[str, Watch] = {}
    left = MAX_MOMENTS
    for view in views:
        size = view.in_features**2
        if view.in_features <= MAX_INPUTS and size <= left:
            left -= size
            found[moments_key(view.nodes[0].outputs[0])] = Watch(view.x.name or "", Moments())
    return found


def folds_of(view: Linear, stats: Any) -> list[Array] | None:
    """Return X'X / N of the inputs of a layer by fold, None when they were not watched."""
    moments = None if stats is None else stats.watched.get(moments_key(view.nodes[0].outputs[0]))
    return None if moments is None else [fold[0] for fold in moments.folds()]


def bias_of(view: Linear) -> Array | None:
    """Return the bias, beta included, in float64."""
    array = ir.Module.constant(view.bias) if view.bias is not None else None
    return None if array is None else array.astype(np.float64) * view.beta
