"""Quantized tensors of a model that came with them: Q nodes, DQ nodes and integers, as convert-qdq sees them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

Array = np.ndarray[Any, Any]
# Shifting integers and zero point alike changes no value.
SHIFTED = {"int8": ("uint8", 128), "uint8": ("int8", -128)}


def is_op(node: ir.Node | None, name: str) -> bool:
    """Return whether a node is a standard operator of that name."""
    return node is not None and node.op_type == name and node.domain == ""


def constants_of(node: ir.Node) -> tuple[Array, Array] | None:
    """Return scale and zero point of a Q or DQ that has both, constant and without blocks."""
    if len(node.inputs) < 3 or bool(node.attributes.get_int("block_size", 0)):
        return None
    found = [ir.Module.constant(v) if v is not None else None for v in node.inputs[1:3]]
    return None if found[0] is None or found[1] is None else (found[0], found[1])


@dataclass(frozen=True)
class Pairs:
    """Integers and the DQ nodes that read them, all alike; ``quantize`` makes them (None: a constant does)."""

    integers: ir.Value
    readers: tuple[ir.Node, ...]
    quantize: ir.Node | None
    scale: Array
    zero_point: Array


def pairs_of(integers: ir.Value) -> Pairs | str:
    """Return the pairs around integers, or why they cannot be given another type."""
    readers = tuple(dict.fromkeys(u.node for u in integers.uses()))
    if integers.is_graph_output() or not readers or not all(is_op(n, "DequantizeLinear") for n in readers):
        return "something else than DequantizeLinear reads the integers"
    made = integers.producer()
    if len({n.graph for n in (*readers, *((made,) if made is not None else ()))}) > 1:
        return "several graphs read the integers"
    found = [constants_of(n) for n in (*readers, *((made,) if made is not None else ()))]
    first = found[0]
    if first is None or any(f is None or not _same(first, f) for f in found):
        return "scales and zero points are not constant and alike"
    if len({n.attributes.get_int("axis", 1) for n in (*readers, *((made,) if made is not None else ()))}) > 1:
        return "scales lie along different axes"
    return Pairs(integers, readers, made, *first)


def _same(a: tuple[Array, Array], b: tuple[Array, Array]) -> bool:
    return all(x.dtype == y.dtype and np.array_equal(x, y) for x, y in zip(a, b, strict=True))


def replace_zero_point(rw: Rewriter, pairs: Pairs, zero_point: Array) -> None:
    """Write the pairs with another zero point, that of the other type of 8 bits where the integers are constant."""
    values = [rw.const(pairs.scale), rw.const(zero_point)]
    if pairs.quantize is not None:
        rw.before(pairs.quantize)
        integers = rw.like(pairs.quantize, pairs.quantize.inputs[0], *values, output_dtype=None)
    else:
        array = np.asarray(ir.Module.constant(pairs.integers))
        shifted = array.view(np.uint8) ^ 0x80  # by 128, up or down
        integers = rw.const(shifted.view(zero_point.dtype), f"{pairs.integers.name}/shifted")
    for reader in pairs.readers:
        rw.before(reader)
        rw.replace(reader.outputs[0], rw.like(reader, integers, *values))
        rw.erase(reader)
    if pairs.quantize is not None:
        rw.erase(pairs.quantize)


def quantized(array: Array, node: ir.Node, scale: Array, zero_point: Array) -> Array:
    """Return what a QuantizeLinear makes of a constant."""
    if scale.ndim:
        axis = node.attributes.get_int("axis", 1) % array.ndim
        shape = tuple(-1 if i == axis else 1 for i in range(array.ndim))
        scale, zero_point = scale.reshape(shape), zero_point.reshape(shape)
    limits = np.iinfo(zero_point.dtype)
    steps = np.rint(array / scale).astype(np.float64) + zero_point.astype(np.float64)
    return np.clip(steps, limits.min, limits.max).astype(zero_point.dtype)
