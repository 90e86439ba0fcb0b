"""convert-diagonal-linears: a layer that scales every channel by itself -> Mul and Add."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.interval_moves import is_padded
from fcc.analysis.linear import Linear, linear_of
from fcc.analysis.shapes import static_size
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._affine import FLOATS, Array, limits
from ._layers import row

_LAYERS = frozenset({"Conv", "Gemm", "MatMul"})


class ConvertDiagonalLinears(SitePass):
    """Scale channels by a product where a layer does nothing else: a diagonal matrix, a 1x1 depthwise Conv.

    x diag(w) + b -> x * w + b;  Conv1x1(x, diag(w), b), Conv1x1<group=C>(x, w, b) -> x * w + b

    A factor of 1 and a bias of 0 for all channels are left out. What is left folds into the layers around it; where it
    does not, a depthwise Conv with a bias stays, which is one node among convolutions (Mul and Add take 1.02 to 1.06 of
    the time of such a chain, recorded).
    Shapes: square weights; x of any rank >= 2; Conv with stride 1 and no padding.
    Numerics: exact for finite values, but for alpha and beta (in float64, rounded once). Source: linearity.
    """

    name: ClassVar[str] = "convert-diagonal-linears"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type in _LAYERS and node.domain == "" and node.graph is not None:
                yield Site(node, module, ctx, _view(node))

    def check(self, site: Site) -> str | None:
        view = site.data
        if isinstance(view, str):
            return view
        factors = _factors(view)
        if factors is None:
            return "the weight is not diagonal"
        dtype = view.weight.dtype
        assert dtype is not None
        bias = row(view)
        if not np.all(np.abs(factors) <= limits(dtype)[1]) or (bias is not None and not np.all(np.isfinite(bias))):
            return f"a factor leaves the range of {dtype}"
        if bias is not None and static_size(view.weight) == view.out_features and not _absorbed(view):
            return "it stands between operators that no factor folds into"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        view: Linear = site.data
        factors, bias, value = _factors(view), row(view), view.x
        assert factors is not None
        assert view.weight.dtype is not None
        kind = view.weight.dtype.numpy()
        spread = (-1, *[1] * (len(ir.known_dims(view.x)) - 2)) if view.kind == "Conv" else (-1,)
        for op_type, operand, nothing in (("Mul", factors, 1.0), ("Add", bias, 0.0)):
            if operand is not None and not np.all(operand == nothing):
                value = rw.op(op_type, value, np.asarray(operand, kind).reshape(spread))
        if value is view.x:
            value = rw.op("Identity", value)
        rw.replace(view.output, value)
        rw.erase(*reversed(view.nodes))


def _view(node: ir.Node) -> Linear | str:
    """Return the view of a layer with as many outputs as inputs, a constant weight and a constant bias row."""
    found = _depthwise(node) if node.attributes.get_int("group", 1) > 1 else linear_of(node)
    if isinstance(found, str):
        return found
    if found.weight.dtype not in FLOATS or isinstance(found.weight.const_value, ir.LazyTensor):
        return "the weight is no float, or computed only at save"
    dims = ir.dims_of(found.bias)
    channels = (ir.dims_of(found.x) or (None, None))[1 if found.kind == "Conv" else -1]
    if found.out_features != channels or (found.in_features not in (1, channels)):
        return "it has not as many outputs as inputs"
    if found.bias is not None and (not ir.Module.is_constant(found.bias) or any(d != 1 for d in (dims or ())[:-1])):
        return "the bias is no constant row"
    return found


def _depthwise(node: ir.Node) -> Linear | str:
    """Return the view of a 1x1 Conv with one group per channel, whose weight is [C, 1, 1, ...]."""
    x, weight, attributes = node.inputs[0], node.inputs[1], node.attributes
    dims = ir.known_dims(weight)
    if x is None or weight is None or not ir.Module.is_constant(weight):
        return "the weight is not constant"
    if any(d != 1 for d in dims[1:]) or dims[:1] != (attributes.get_int("group", 1),):
        return "the kernel is larger than 1, or reads several channels"
    if any(s != 1 for s in attributes.get_ints("strides", ())) or any(attributes.get_ints("pads", ())):
        return "it strides or pads"
    bias = node.inputs[2] if len(node.inputs) > 2 else None
    return Linear("Conv", x, weight, bias, node.outputs[0], (node,), transposed=True)


def _factors(view: Linear) -> Array | None:
    """Return what each channel is multiplied by, None where one reads another. Reads one row first."""
    assert view.weight.const_value is not None
    stored = view.weight.const_value.numpy()
    if stored.size == view.out_features:
        return np.asarray(view.alpha * stored.reshape(-1).astype(np.float64))
    matrix = stored.reshape(len(stored), -1)
    if np.any(matrix[0, 1:]) or np.any(matrix[-1, :-1]) or np.count_nonzero(matrix) > len(matrix):
        return None
    diagonal = np.diagonal(matrix)
    if np.count_nonzero(diagonal) != np.count_nonzero(matrix):
        return None
    return np.asarray(view.alpha * diagonal.astype(np.float64))


def _absorbed(view: Linear) -> bool:
    """Return whether the layer in front, or the one behind, takes both factor and shift."""
    before, after = view.x.producer(), ir.sole_user(view.output)
    if before is not None and before.op_type in _LAYERS and ir.sole_user(view.x) is view.nodes[0]:
        return True
    padded = after is not None and is_padded(after)
    return after is not None and after.op_type in _LAYERS and after.inputs[0] is view.output and not padded
