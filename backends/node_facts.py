"""What the target tables ask of a node: element types by type variable, attributes, shapes, constants."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from fcc import ir
from fcc.target import NodeFacts, Support, TargetSpec

_SMALL = 1 << 16


def element_type(value: ir.Value | None) -> str | None:
    """Return the ONNX name of a tensor's element type ("float", "uint8"), None when it is unknown or no tensor."""
    if value is None or not isinstance(value.type, ir.TensorType) or value.dtype is None:
        return None
    name = value.dtype.name.lower()
    return name if name not in ("undefined",) else None


def dtypes_of(node: ir.Node, opsets: Mapping[str, int]) -> dict[str, str]:
    """Return type variable (or operand name) of the schema -> element type, input 0 first.

    An op without a schema in onnx (contrib) answers {"T": type of input 0}.
    """
    schema = ir.schema_of(node.op_type, node.domain, opsets.get(node.domain, 0))
    if schema is None:
        first = element_type(node.inputs[0]) if node.inputs else None
        return {} if first is None else {"T": first}
    found: dict[str, str] = {}
    for formals, values in ((schema.inputs, node.inputs), (schema.outputs, node.outputs)):
        for i, value in enumerate(values):
            kind = element_type(value) if value is not None and value.name else None
            if kind is None or not formals:
                continue
            formal = formals[min(i, len(formals) - 1)]
            found.setdefault(formal.type_str if "(" not in formal.type_str else formal.name, kind)
    return found


def facts_of(node: ir.Node) -> NodeFacts:
    """Return the attributes, shapes and small constants of a node in the terms of the target tables."""
    return NodeFacts(
        attributes=ir.plain(node),
        inputs=[v is not None for v in node.inputs],
        outputs=[bool(v.name) and ir.is_used(v) for v in node.outputs],
        shapes=[_static(v) for v in node.inputs],
        constants=[_constant(v) for v in node.inputs],
    )


def _static(value: ir.Value | None) -> tuple[int | None, ...] | None:
    dims = ir.dims_of(value)
    return None if dims is None else tuple(d if isinstance(d, int) else None for d in dims)


def _constant(value: ir.Value | None) -> np.ndarray[Any, Any] | None:
    if value is None or not ir.Module.is_constant(value) or value.const_value is None:
        return None
    if value.const_value.nbytes > _SMALL:
        return np.broadcast_to(np.ones((), np.float32), (1,))  # constant, and too large to be an axis or a scale
    return ir.Module.constant(value)


def support_of(
    node: ir.Node,
    module: ir.Module,
    spec: TargetSpec,
    dtypes: Mapping[str, str] | None = None,
    opsets: Mapping[str, int] | None = None,
) -> Support:
    """Say how the first provider of a target runs a node.

    ``dtypes`` overrides the element types found; ``opsets`` are those of the function that holds the node, if one does.
    """
    opsets = module.model.opset_imports if opsets is None else opsets
    version = ir.since_version(node, opsets) or opsets.get(node.domain, 1)
    kinds = dtypes_of(node, opsets) if dtypes is None else dtypes
    restricted = any(node.op_type in row.ops for row in spec.restrictions)
    return spec.support(node.op_type, node.domain, version, kinds, facts_of(node) if restricted else None)
