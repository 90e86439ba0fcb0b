"""Layers that integer kernels on tensor cores run slower than float ones: one row, few channels."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import prod

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.target.tensor_cores import NARROW, narrow_conv

from ._qdq_layers import Layer

Symbols = Mapping[str, int]


def unfit(layer: Layer, symbols: Symbols) -> str | None:
    """Return why a layer gains nothing in int8 on tensor cores; ``symbols`` are the sizes that count."""
    return _RULES[layer.node.op_type](layer, symbols)


def _product(layer: Layer, symbols: Symbols) -> str | None:
    """A product with a vector (GEMV) reads weights, and has no tensor core to feed."""
    if layer.channels == 1:
        return "it is a product with a vector: one output channel"
    dims = ir.known_dims(layer.x)[:-1]
    bound = all(isinstance(d, int) or (d is not None and d.symbols() <= symbols.keys()) for d in dims)
    one = bound and prod((sizes(layer.x, symbols) or ())[:-1]) == 1
    if not one:
        return None
    open_ = not all(isinstance(d, int) for d in dims)
    return "it is a product with a vector: one row" + " at the sizes of --opt-shape or the first sample" * open_


def _conv(layer: Layer, symbols: Symbols) -> str | None:
    outputs, inputs, *kernel = (int(d) for d in ir.known_dims(layer.weight))  # type: ignore[arg-type]
    group = layer.node.attributes.get_int("group", 1)
    return narrow_conv(outputs, inputs, kernel, group, first=layer.x.is_graph_input())


def _transposed(layer: Layer, symbols: Symbols) -> str | None:
    inputs, outputs, *_ = (int(d) for d in ir.known_dims(layer.weight))  # type: ignore[arg-type]
    return None if min(inputs, outputs) >= NARROW else f"{inputs} channels in and {outputs} out are too few"


_RULES: Mapping[str, Callable[[Layer, Symbols], str | None]] = {
    "Gemm": _product,
    "MatMul": _product,
    "Conv": _conv,
    "ConvTranspose": _transposed,
}
