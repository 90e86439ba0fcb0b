"""Attributes from plain Python values, and plain values from attributes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from onnx_ir import Attr, AttributeType, Graph, Node, convenience, tensor


def attribute(name: str, value: Any) -> Attr:
    """Return ``value`` as an attribute; arrays become tensors, an Attr is renamed to ``name``."""
    if isinstance(value, Attr):
        return value
    if isinstance(value, np.ndarray):
        return Attr(name, AttributeType.TENSOR, tensor(value))
    if isinstance(value, Graph):
        return Attr(name, AttributeType.GRAPH, value)
    return convenience.convert_attribute(name, value)


def plain(node: Node) -> dict[str, Any]:
    """Return the attributes of a node as plain values (tensors and graphs as onnx_ir objects, references left out)."""
    return {k: a.value for k, a in node.attributes.items() if not a.is_ref()}


def set_attributes(node: Node, changes: Mapping[str, Any]) -> None:
    """Set attributes of a node; None removes one."""
    for key, value in changes.items():
        if value is None:
            node.attributes.pop(key, None)
        else:
            node.attributes[key] = attribute(key, value)
