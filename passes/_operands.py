"""Operands of a node that were attributes in older opsets, and constants that are one number throughout."""

from __future__ import annotations

from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis import shapes

READABLE = 1 << 16


def integers(node: ir.Node, index: int, attribute: str) -> list[Any] | None:
    """Return an integer operand (symbols included), [] when it is absent, None when it is not known."""
    if index < len(node.inputs) and node.inputs[index] is not None:
        found = shapes.elements(node.inputs[index])
        if found is None:
            return None
        return [x if isinstance(x, ir.Dim) else int(x) for x in found.reshape(-1).tolist()]
    return list(node.attributes.get_ints(attribute, ()))


def present(node: ir.Node, index: int, attribute: str = "") -> bool:
    """Return whether a node has an operand, as input or as attribute."""
    return (index < len(node.inputs) and node.inputs[index] is not None) or attribute in node.attributes


def small_constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    """Return the array of a constant that is cheap to read, else None."""
    if value is None or not ir.Module.is_constant(value) or isinstance(value.const_value, ir.LazyTensor):
        return None
    size = shapes.static_size(value)
    if size is None or size > READABLE or value.dtype == ir.DataType.STRING:
        return None
    return ir.Module.constant(value)


def uniform(value: ir.Value | None, number: float) -> bool:
    """Return whether a value is a constant, not empty, whose every element equals ``number``."""
    array = small_constant(value)
    return array is not None and array.size > 0 and bool((array.astype(np.float64) == number).all())
