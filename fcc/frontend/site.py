"""What an adapter needs at a node: constants, inserted nodes, element types and ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcc import ir
from fcc.ir.infer import infer_types

from .constants import constant_tensor

_SMALL = 64


@dataclass
class Facts:
    """Types and shapes that the file does not declare, inferred once, when the first adapter asks."""

    nodes: Callable[[], Any]
    opsets: dict[str, int]
    _done: bool = field(default=False)

    def dtype(self, value: ir.Value | None) -> ir.DataType | None:
        """Return the element type of a tensor, or None when it cannot be known."""
        if value is not None and value.dtype is None:
            self._infer()
        return None if value is None else value.dtype

    def rank(self, value: ir.Value | None) -> int | None:
        """Return the number of dimensions, or None when it cannot be known."""
        if value is not None and value.shape is None:
            self._infer()
        return None if value is None or value.shape is None else len(value.shape)

    def _infer(self) -> None:
        if self._done:
            return
        self._done = True
        for node in self.nodes():
            if any(v.name and (v.type is None or v.shape is None) for v in node.outputs):
                self._infer_node(node)

    def _infer_node(self, node: ir.Node) -> None:
        known = {i: a for i, v in enumerate(node.inputs) if (a := array_of(v, _SMALL)) is not None}
        try:
            found = infer_types(node, self.opsets, known)
        except ValueError:
            return
        for value, (type_, dims) in zip(node.outputs, found, strict=True):
            if value.type is None:
                value.type = type_
            if value.shape is None and dims is not None:
                value.shape = ir.to_shape(dims)


def array_of(value: ir.Value | None, limit: int | None = None) -> np.ndarray[Any, Any] | None:
    """Return the array of an initializer that cannot be overridden, or of a Constant node, else None."""
    if value is None or value.is_graph_input():
        return None
    tensor = value.const_value if value.is_initializer() else None
    producer = value.producer()
    if producer is not None and producer.op_type == "Constant" and producer.domain == "":
        tensor = constant_tensor(producer)
    if tensor is None or (limit is not None and tensor.size > limit):
        return None
    return tensor.numpy()


def attribute(node: ir.Node, name: str, default: Any = None) -> Any:
    """Return the value of an attribute, or ``default`` when the node has none."""
    found = node.attributes.get(name)
    return default if found is None else found.value


def take(node: ir.Node, name: str, default: Any = None) -> Any:
    """Remove an attribute and return its value."""
    value = attribute(node, name, default)
    node.attributes.pop(name, None)
    return value


def set_attribute(node: ir.Node, name: str, value: Any) -> None:
    """Set an attribute to an int, float, string or list of one of them."""
    from onnx_ir import convenience

    node.attributes[name] = convenience.convert_attribute(name, value)


def set_inputs(node: ir.Node, inputs: Sequence[ir.Value | None]) -> None:
    """Give the node these inputs."""
    node.resize_inputs(len(inputs))
    for i, value in enumerate(inputs):
        node.replace_input_with(i, value)


def insert_before(node: ir.Node, op_type: str, inputs: Sequence[ir.Value | None], **attributes: Any) -> ir.Value:
    """Insert a node before ``node`` and return its output; names come later, metadata is the node's."""
    from onnx_ir import convenience

    attrs = convenience.convert_attributes(attributes)
    new = ir.Node("", op_type, inputs, attrs, num_outputs=1, metadata_props=dict(node.metadata_props))
    graph = node.graph
    assert graph is not None
    graph.insert_before(node, new)
    return new.outputs[0]


def constant(node: ir.Node, array: Any, dtype: Any = np.int64) -> ir.Value:
    """Insert a Constant before ``node`` (functions hold no initializers; normalize lifts it elsewhere)."""
    tensor = ir.Tensor(np.asarray(array, dtype))
    value = insert_before(node, "Constant", [], value=tensor)
    value.type, value.shape = ir.TensorType(tensor.dtype), ir.Shape(tensor.shape.numpy())
    return value
