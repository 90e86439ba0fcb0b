"""lower-windows: ConvTranspose and MaxPool in forms that a target lacks, by forms it has."""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce
from typing import ClassVar

import numpy as np

from fcc import ir

from .lowering import Builder, Lowering, Row

_END = np.iinfo(np.int64).max
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.DOUBLE})


def _list(node: ir.Node, name: str, default: list[int]) -> list[int]:
    found = node.attributes.get_ints(name)
    return list(found) if found else default


def _spatial(node: ir.Node) -> int:
    """Return the number of spatial axes, 0 when the rank is not known."""
    dims = ir.dims_of(node.inputs[0])
    return 0 if dims is None else len(dims) - 2


def _slice(b: Builder, x: ir.Value, starts: list[int], ends: list[int], axes: list[int], steps: list[int]) -> ir.Value:
    return b.op("Slice", x, b.ints(starts), b.ints(ends), b.ints(axes), b.ints(steps))


# -- ConvTranspose -----------------------------------------------------------------------------------------------------
def _transposed_pads(node: ir.Node) -> list[int] | None:
    """Return the explicit pads [begins..., ends...] of a ConvTranspose, None when they depend on the input's size."""
    n = _spatial(node)
    mode = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    if "output_shape" in node.attributes or n < 1:
        return None
    if mode == "VALID":
        return [0] * 2 * n
    if mode == "NOTSET":
        return _list(node, "pads", [0] * 2 * n)
    weight = ir.dims_of(node.inputs[1])
    kernel = _list(node, "kernel_shape", ir.numbers((weight or ())[2:]))
    if len(kernel) != n:
        return None
    strides, dilations = _list(node, "strides", [1] * n), _list(node, "dilations", [1] * n)
    extra = _list(node, "output_padding", [0] * n)
    total = [(k - 1) * d + 1 - s + e for k, d, s, e in zip(kernel, dilations, strides, extra, strict=True)]
    small, large = [t // 2 for t in total], [t - t // 2 for t in total]
    return small + large if mode == "SAME_UPPER" else large + small


def _conv_transpose(b: Builder) -> ir.Value:
    pads = _transposed_pads(b.node) or []
    n = len(pads) // 2
    common = [min(p, q) for p, q in zip(pads[:n], pads[n:], strict=True)]
    begins = [p - c for p, c in zip(pads[:n], common, strict=True)]
    ends = [q - c for q, c in zip(pads[n:], common, strict=True)]
    kept = {k: a for k, a in b.node.attributes.items() if k not in ("pads", "auto_pad")}
    y = b.op("ConvTranspose", *b.node.inputs, pads=common * 2, **kept)
    if not any(begins + ends):
        return y
    return _slice(b, y, begins, [-e if e else _END for e in ends], list(range(2, n + 2)), [1] * n)


def _explicit_pads(node: ir.Node) -> str | None:
    pads = _transposed_pads(node)
    if pads is None:
        return "its pads depend on the size of the input"
    if min(pads, default=0) < 0:
        return "a pad is negative"
    n = len(pads) // 2
    mode = node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET"
    return "its pads are symmetric" if pads[:n] == pads[n:] and not mode.startswith("SAME") else None


# -- MaxPool -----------------------------------------------------------------------------------------------------------
def _max_pool(b: Builder) -> ir.Value:
    """One axis after the other: the maximum of k strided slices, element i of the window from i on."""
    node, n = b.node, _spatial(b.node)
    kernel = _list(node, "kernel_shape", [])
    strides, dilations = _list(node, "strides", [1] * n), _list(node, "dilations", [1] * n)
    pads = _list(node, "pads", [0] * 2 * n)
    x = b.x
    if any(pads):
        width = b.ints([0, 0, *pads[:n], 0, 0, *pads[n:]])
        x = b.op("Pad", x, width, float("-inf"))
    for axis in range(n):
        k, s, d = kernel[axis], strides[axis], dilations[axis]
        ends = [-(k - 1 - i) * d or _END for i in range(k)]
        windows = [_slice(b, x, [i * d], [ends[i]], [axis + 2], [s]) for i in range(k)]
        x = reduce(lambda p, q: b.op("Max", p, q), windows)
    return x


def _poolable(node: ir.Node) -> str | None:
    n = _spatial(node)
    value = node.inputs[0]
    if n < 1:
        return "the rank of the input is not known"
    if value is None or value.dtype not in _FLOATS:
        return "only floats are padded with -inf"
    if node.attributes.get_int("ceil_mode", 0):
        return "with ceil_mode the last window reaches beyond the input"
    if (node.attributes.get_string("auto_pad", "NOTSET") or "NOTSET") not in ("NOTSET", "VALID"):
        return "auto_pad SAME_* depends on the size of the input"
    if node.attributes.get_string("auto_pad", "NOTSET") == "VALID" and any(_list(node, "pads", [0])):
        return "it has pads beside auto_pad, which nothing defines"
    sizes = ir.known_dims(value)[2:]
    if any(isinstance(size, int) and _reach(node, i) > size for i, size in enumerate(sizes)):
        return "a window is larger than the input"
    if any(not isinstance(size, int) and _reach(node, i) > 1 for i, size in enumerate(sizes)):
        return "a window may be larger than the input, where onnxruntime gives one element and the slices none"
    return "windows above 8 are slower than a copy to the CPU" if max(_list(node, "kernel_shape", [9])) > 8 else None


def _reach(node: ir.Node, axis: int) -> int:
    """Return the smallest size of a spatial axis that a window fits on."""
    n = _spatial(node)
    pads = _list(node, "pads", [0] * 2 * n)
    window = (_list(node, "kernel_shape", [])[axis] - 1) * _list(node, "dilations", [1] * n)[axis] + 1
    return window - pads[axis] - pads[axis + n]


class LowerWindows(Lowering):
    """Express ConvTranspose with uneven pads and MaxPool without a kernel by what the target has.

    ConvTranspose<pads=[b, e]>(x, w) -> Slice(ConvTranspose<pads=[m, m]>(x, w)),  m = min(b, e)
    MaxPool<k, s>(x) -> per axis: Max(Slice<0::s>(x), ..., Slice<k-1::s>(x)), after Pad with -inf

    Shapes: x [N, C, *spatial], of known spatial sizes for MaxPool.
    Source: ONNX ConvTranspose-22, MaxPool-22; the CUDA provider has neither uneven pads nor MaxPool of opset 22.
    """

    name: ClassVar[str] = "lower-windows"
    rows: ClassVar[Mapping[str, Row]] = {
        "ConvTranspose": Row(_conv_transpose, _explicit_pads),
        "MaxPool": Row(_max_pool, _poolable),
    }
