"""What the passes that recover normalizations share: sites, and scale and bias as vectors over the normalized axes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from fcc import ir
from fcc.analysis import cost
from fcc.analysis.interior import escape
from fcc.analysis.normalization import Normalization, normalizations, statistics
from fcc.analysis.recognize import array_of, scale_of
from fcc.rewrite import PassContext, Rewriter, Site

from ._affine import Array, limits

SINGLE = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})
"""Element types that are normalized in single precision or less; the ONNX operators would round double to single."""


def sites_of(
    module: ir.Module, ctx: PassContext, centered: bool, refusal: Callable[[Normalization], str | None]
) -> Iterator[Site]:
    """Yield one site per statistic: the furthest end without a refusal, else the statistic with a reason.

    The site's data is the Normalization, or the reason in words.
    """
    for node in [n for graph in list(module.graphs()) for n, s in statistics(graph) if s.centered == centered]:
        scale = None if node.graph is None else scale_of(node.outputs[0])
        if scale is None or scale.centered != centered:
            continue
        reasons: list[str] = []
        for found in normalizations(node, scale):
            reason = refusal(found)
            if reason is None:
                yield Site(found.interior[0], module, ctx, found)
                break
            reasons.append(reason)
        else:
            yield Site(node, module, ctx, _telling(reasons))


def _telling(reasons: list[str]) -> str:
    """Return the reason of the furthest end that lacks only the opset, else that of the nearest, which asks least."""
    nearest = reasons[-1] if reasons else "nothing is normalized by this statistic"
    return next((r for r in reasons if r.startswith("needs opset")), nearest)


def basic_refusal(found: Normalization) -> str | None:
    """Return why no normalization operator means the same: type, epsilon, sizes, or values that others use."""
    if found.root.dtype not in SINGLE:
        return f"{found.root.dtype} is not computed in its own precision"
    if found.epsilon <= 0:
        return "there is no epsilon above 0, so a constant row divides by 0"
    return escape(found.interior)


def normalized_dims(found: Normalization) -> tuple[int, ...] | None:
    """Return the sizes of the normalized axes, None when one is not a number above 0."""
    dims = ir.known_dims(found.of.x)
    sizes = [dims[a] for a in found.of.axes]
    known = tuple(d for d in sizes if isinstance(d, int) and d > 0)
    return known if len(known) == len(sizes) else None


def along(array: Array, axes: tuple[int, ...], rank: int, sizes: tuple[int, ...]) -> Array | None:
    """Return an array that broadcasts to a tensor as one that varies along ``axes`` only, of exactly their sizes."""
    if array.ndim > rank:
        return None
    array = array.reshape((1,) * (rank - array.ndim) + array.shape)
    if any(d != 1 for i, d in enumerate(array.shape) if i not in axes):
        return None
    kept = array.reshape([array.shape[a] for a in axes])
    return np.broadcast_to(kept, sizes) if all(d in (1, n) for d, n in zip(kept.shape, sizes, strict=True)) else None


def constant_scale(found: Normalization) -> Array | None:
    """Return sign * factors in float64, broadcast among themselves; None when one is not constant."""
    total = np.array(found.sign)
    for factor in found.factors:
        array = array_of(factor.value)
        if array is None:
            return None
        with np.errstate(all="ignore"):
            total = total / array if factor.divides else total * array
    return total


def constant_bias(found: Normalization) -> Array | None:
    """Return the signed bias in float64; None when it is not constant."""
    array = None if found.bias is None else array_of(found.bias)
    return None if array is None else found.bias_sign * array


def scale_operand(found: Normalization, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Array | ir.Value | str:
    """Return the scale as a vector over ``axes``, an existing value if one is it already, or why there is none."""
    if found.sign == 1 and len(found.factors) == 1 and not found.factors[0].divides:
        value = found.factors[0].value
        if _is_vector(value, found, axes, sizes):
            return value
    array = constant_scale(found)
    return "the factor is not constant" if array is None else _fitted(array, found, axes, sizes, "factor")


def bias_operand(found: Normalization, axes: tuple[int, ...], sizes: tuple[int, ...]) -> Array | ir.Value | str | None:
    """Return the bias likewise, None when there is none."""
    if found.bias is None:
        return None
    if found.bias_sign == 1 and _is_vector(found.bias, found, axes, sizes):
        return found.bias
    array = constant_bias(found)
    return "the addend is not constant" if array is None else _fitted(array, found, axes, sizes, "addend")


def _is_vector(value: ir.Value, found: Normalization, axes: tuple[int, ...], sizes: tuple[int, ...]) -> bool:
    """Whether a value, computed or not, has the shape of the axes and lies along them by itself."""
    rank = len(ir.known_dims(found.of.x))
    return ir.dims_of(value) == sizes and axes == tuple(range(rank - len(sizes), rank))


def _fitted(
    array: Array, found: Normalization, axes: tuple[int, ...], sizes: tuple[int, ...], what: str
) -> Array | str:
    vector = along(array, axes, len(ir.known_dims(found.of.x)), sizes)
    if vector is None:
        return f"the {what} varies along axes that are not normalized"
    dtype = found.root.dtype
    assert dtype is not None
    if not np.all(np.abs(vector) <= limits(dtype)[1]):
        return f"the {what} is not finite in {dtype}"
    return vector.astype(dtype.numpy())


def is_suffix(found: Normalization) -> bool:
    """Return whether the normalized axes are the last ones."""
    rank = len(ir.known_dims(found.of.x))
    return found.of.axes == tuple(range(rank - len(found.of.axes), rank))


_LEAST_ALONG = {"cpu": (32, 64)}
_MOST_ELEMENTS = {"cpu": (1 << 20, 1 << 18)}


def inner_axis_refusal(ctx: PassContext, x: ir.Value, axes: tuple[int, ...]) -> str | None:
    """Return why a kernel for the last axes, with a Transpose before and after it, does not pay along ``axes`` of x.

    Measured on onnxruntime 1.31's CPU provider, one thread, over 4..256 elements along the axis, 1 to 8 batches, 64 to
    12544 elements behind it: faster than the primitives (0.45 to 0.9) from 32 elements on with one batch and from 64
    with several, while the tensor fits the cache (with one batch up to 2^20 elements); slower (up to 5 times) below.
    A symbol counts as what ``ctx.shapes`` says, else as 1. On the other targets every kernel less to launch is a gain.
    """
    sizes = cost.sizes(x, ctx.shapes) or ()
    name, along_axes = ctx.target.name, prod(sizes[a] for a in axes)
    if name not in _LEAST_ALONG:
        return None
    batched = prod(sizes[: axes[0]]) > 1
    least, most = _LEAST_ALONG[name][batched], _MOST_ELEMENTS[name][batched]
    if along_axes < least:
        return f"{along_axes} elements along an inner axis: a Transpose there and back pays from {least} on"
    if prod(sizes) > most:
        return f"a Transpose there and back of {prod(sizes)} elements costs what it saves"
    return None


def finish(rw: Rewriter, found: Normalization, value: ir.Value) -> None:
    """Replace the end of a normalization and remove its nodes."""
    rw.replace(found.root, value)
    rw.erase(*found.interior)
