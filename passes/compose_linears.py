"""compose-linears: Gemm(Gemm(x)) -> Gemm(x), and so for MatMul (+ Add) and Conv with a 1x1 Conv before or behind."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.analysis.linear import Linear
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._affine import limits
from ._layers import layer_of, row, used_elsewhere, weights

Array = np.ndarray[Any, Any]


class ComposeLinears(SitePass):
    """Compose two layers with nothing between them into one.

    (x A + a) B + b  ->  x (A B) + (a B + b)
    Conv1x1(Conv(x, v, a), w, b)  ->  Conv(x, w v, w a + b)
    Conv(Conv1x1(x, v, a), w, b)  ->  Conv(x, w v, b + sum w a)

    Only where parameters and FLOPs both fall (in * out < in * mid + mid * out; measured times go before FLOPs), the
    value between has no other user, and the weights none. A 1x1 Conv has stride 1 and no padding; in front of a Conv
    that pads it has no bias, since the padding is 0 and not a. Shapes: x of any rank >= 2, Conv [N, C, *spatial] with
    one group.
    Numerics: composed in float64, rounded once to the dtype of the weights; exact to rounding.
    Source: associativity of the matrix product.
    """

    name: ClassVar[str] = "compose-linears"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        changed = True
        while changed:
            changed = False
            for node in list(module.nodes()):
                pair = _pair(node) if node.graph is not None else None
                if pair is not None:
                    yield Site(node, module, ctx, pair)
                    changed = changed or node.graph is None

    def check(self, site: Site) -> str | None:
        first, second = site.data
        for layer in (first, second):
            if isinstance(layer, str):
                return layer
            if used_elsewhere(layer):
                return "a weight or bias has other users and would stay"
        return _form_refusal(first, second) or _growth_refusal(first, second) or _range_refusal(first, second)

    def pays(self, site: Site) -> str | None:
        first, second = site.data
        a, b = _parameters(first), _parameters(second)
        here, there = (_positions(layer, site.ctx) for layer in (first, second))
        more = _composed_size(a, b) * there >= prod(a) * here + prod(b) * there
        return "the composed layer takes more multiplications" if more else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        first, second = site.data
        weight, bias = _composed(first, second)
        rw.replace(second.output, _emit(first, second, weight, bias, rw))
        rw.erase(*reversed(second.nodes), *reversed(first.nodes))


def _pair(node: ir.Node) -> tuple[Linear | str, Linear | str] | None:
    """Return the layers that end in the input of ``node`` and that ``node`` begins; None where there are no two."""
    second = layer_of(node)
    if isinstance(second, str):
        return None
    between = second.x
    user, producer = ir.sole_user(between), between.producer()
    if producer is None or user is not node or producer.graph is not node.graph:
        return None
    if producer.op_type == "Add" and producer.domain == "":
        producer = next(iter(ir.producers(producer)), None)
    if producer is None or (producer.op_type == "Conv") != (node.op_type == "Conv"):
        return None
    first = layer_of(producer)
    if not isinstance(first, str) and first.output is not between:
        return None
    return (first, second) if not isinstance(first, str) or producer.op_type == node.op_type else None


# -- conditions ----------------------------------------------------------------------------------------------------
def _form_refusal(first: Linear, second: Linear) -> str | None:
    if first.kind != "Conv" or _is_pointwise(second):
        return None
    if not _is_pointwise(first):
        return "neither convolution is 1x1 with stride 1 and no padding"
    if row(first) is not None and _pads(second.nodes[0]):
        return "the second convolution pads with zeros, not with the bias of the first"
    return None


def _is_pointwise(layer: Linear) -> bool:
    attributes = layer.nodes[0].attributes
    kernel = ir.known_dims(layer.weight)[2:]
    strides, pads = attributes.get_ints("strides", ()), attributes.get_ints("pads", ())
    return all(k == 1 for k in kernel) and all(s == 1 for s in strides) and not any(pads)


def _pads(node: ir.Node) -> bool:
    explicit = any(node.attributes.get_ints("pads", ()))
    return explicit or node.attributes.get_string("auto_pad", "NOTSET") not in ("NOTSET", "VALID")


def _growth_refusal(first: Linear, second: Linear) -> str | None:
    a, b = _parameters(first), _parameters(second)
    composed = _composed_size(a, b)
    if composed >= prod(a) + prod(b):
        return f"the composed weight has {composed} elements, the two have {prod(a)} and {prod(b)}"
    return None


def _composed_size(first: tuple[int, int, int], second: tuple[int, int, int]) -> int:
    """Return the elements of the composed weight: in of the first, out of the second, the larger kernel."""
    return first[1] * second[0] * max(first[2], second[2])


def _parameters(layer: Linear) -> tuple[int, int, int]:
    """Return (out, in, taps)."""
    kernel = ir.numbers(ir.known_dims(layer.weight)[2:])
    return layer.out_features, layer.in_features, prod(kernel)


def _positions(layer: Linear, ctx: PassContext) -> int:
    """Return at how many places a layer is applied in one run."""
    out = sizes(layer.nodes[0].outputs[0], ctx.shapes)
    return 1 if out is None else max(1, prod(out)) // max(1, layer.out_features)


def _range_refusal(first: Linear, second: Linear) -> str | None:
    dtype = first.weight.dtype
    assert dtype is not None
    with np.errstate(all="ignore"):
        found = [a for a in _composed(first, second) if a is not None]
    if any(not np.all(np.abs(a) <= limits(dtype)[1]) for a in found):
        return f"the composed weights are not finite in {dtype}"
    return None


# -- the composed layer --------------------------------------------------------------------------------------------
def _composed(first: Linear, second: Linear) -> tuple[Array, Array | None]:
    """Return weight [out, in, *kernel] and bias [out] in float64."""
    v, w, a, b = weights(first), weights(second), row(first), row(second)
    inner = v.reshape(v.shape[:2]) if v[0, 0].size == 1 else None
    if inner is not None:
        weight = np.moveaxis(np.tensordot(w, inner, axes=(1, 0)), -1, 1)
    else:
        weight = np.tensordot(w.reshape(w.shape[:2]), v, axes=(1, 0))
    if a is None:
        return weight, b
    moved = w.sum(axis=tuple(range(2, w.ndim))) @ a
    return weight, moved if b is None else moved + b


def _emit(first: Linear, second: Linear, weight: Array, bias: Array | None, rw: Rewriter) -> ir.Value:
    assert first.weight.dtype is not None
    dtype = first.weight.dtype.numpy()
    added = [] if bias is None else [rw.const(bias.astype(dtype))]
    made: ir.Value
    if first.kind == "Conv":
        base = first if _is_pointwise(second) else second
        made = rw.like(base.nodes[0], first.x, weight.astype(dtype), *added)
        return made
    matrix = np.ascontiguousarray(weight.T.astype(dtype))
    if "Gemm" in (first.kind, second.kind):
        made = rw.op("Gemm", first.x, matrix, *added)
        return made
    made = rw.op("MatMul", first.x, matrix)
    return rw.op("Add", made, *added) if added else made
