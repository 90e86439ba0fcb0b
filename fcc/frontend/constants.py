"""Constant nodes become initializers of their own graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from onnx_ir import StringTensor

from fcc import ir


def _array(dtype: Any) -> Callable[[ir.Attr], ir.TensorProtocol]:
    return lambda attribute: ir.Tensor(np.array(attribute.value, dtype))


def _strings(attribute: ir.Attr) -> ir.TensorProtocol:
    return StringTensor(np.array([_bytes(s) for s in attribute.value], object))


def _string(attribute: ir.Attr) -> ir.TensorProtocol:
    return StringTensor(np.array(_bytes(attribute.value), object), shape=ir.Shape(()))


def _bytes(text: Any) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()


_FORMS: dict[str, Callable[[ir.Attr], ir.TensorProtocol]] = {
    "value": lambda attribute: attribute.value,  # as_tensor() checks a protocol, which is slow
    "value_float": _array(np.float32),
    "value_floats": _array(np.float32),
    "value_int": _array(np.int64),
    "value_ints": _array(np.int64),
    "value_string": _string,
    "value_strings": _strings,
}


def constant_tensor(node: ir.Node) -> ir.TensorProtocol | None:
    """Return the tensor of a Constant node, or None when its attribute refers to a function parameter."""
    for name, attribute in node.attributes.items():
        if name in _FORMS and not attribute.is_ref():
            return _FORMS[name](attribute)
    return None


def lift_constants(module: ir.Module) -> None:
    """Constant() -> initializer, in every graph of the module; functions keep theirs (they hold no initializers)."""
    for graph in module.graphs():
        for node in graph:
            if node.op_type == "Constant" and node.domain == "":
                tensor = constant_tensor(node)
                if tensor is not None:
                    _lift(module, graph, node, tensor)


def _lift(module: ir.Module, graph: ir.Graph, node: ir.Node, tensor: ir.TensorProtocol) -> None:
    old = node.outputs[0]
    name = old.name or module.fresh("constant")
    if name in graph.initializers:
        name = module.fresh(name)
    value = ir.Value(
        name=name,
        type=ir.TensorType(tensor.dtype),
        shape=ir.Shape(tensor.shape.numpy()),
        doc_string=old.doc_string or node.doc_string,
        metadata_props={**node.metadata_props, **old.metadata_props},
        const_value=tensor,
    )
    old.replace_all_uses_with(value, replace_graph_outputs=True)
    graph.remove(node, safe=True)
    graph.register_initializer(value)
