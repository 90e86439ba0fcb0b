"""Checks of nodes against operator schemas: the op exists at its opset, arity, attributes. Linear."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from onnx import defs

from fcc import ir
from fcc.errors import LoadError, did_you_mean

# ops without an ONNX schema that onnxruntime has in the default domain
_RUNTIME_OPS = frozenset(
    {
        "Affine",
        "Crop",
        "DisentangledAttention_TRT",
        "DynamicSlice",
        "EfficientNMS_TRT",
        "GRUUnit",
        "GivenTensorFill",
        "ImageScaler",
        "LayerNormalization",
        "MeanVarianceNormalization",
        "MemcpyFromHost",
        "MemcpyToHost",
        "MultilevelCropAndResize_TRT",
        "ParametricSoftplus",
        "PyramidROIAlign_TRT",
        "Scale",
        "ScaledTanh",
        "SimplifiedLayerNormalization",
        "ThresholdedRelu",
    }
)
_CHECKED = ("", "ai.onnx.ml")
_INVALID = "run onnx.checker on the model and export it again"


def check_nodes(model: ir.Model) -> None:
    """Check every node of the ONNX domains, in nested graphs and functions too.

    Raises:
        LoadError: unknown op (with the nearest name), wrong number of inputs or outputs, unknown or missing attribute.
    """
    functions = {key[:2] for key in model.functions}
    _check(model.graph.all_nodes(), dict(model.opset_imports), functions)
    for function in model.functions.values():
        _check(function.all_nodes(), {**model.opset_imports, **function.opset_imports}, functions)


def _check(nodes: Iterable[ir.Node], imports: dict[str, int], functions: set[tuple[str, str]]) -> None:
    found: dict[tuple[str, str], Any] = {}
    for node in nodes:
        for name, attribute in node.attributes.items():
            if attribute.type == ir.AttributeType.UNDEFINED:
                raise LoadError(f"{describe(node)}: attribute {name!r} has no type", _INVALID)
        key = (node.domain, node.op_type)
        if node.domain not in _CHECKED or key in functions:
            continue
        if key not in found:
            found[key] = _schema(node, imports.get(node.domain))
        if found[key] is not None:
            _check_node(node, found[key])


def _schema(node: ir.Node, opset: int | None) -> Any:
    if not isinstance(node.op_type, str):
        raise LoadError(f"an op type is no text: {node.op_type!r}", _INVALID)
    if opset is None:
        raise LoadError(f"{describe(node)} is of domain {node.domain!r}, which the model does not import", _INVALID)
    try:
        schema = defs.get_schema(node.op_type, opset, node.domain)
        if not schema.deprecated or not _has_older(schema):
            return _Facts(schema)
    except defs.SchemaError:
        if node.domain == "" and node.op_type in _RUNTIME_OPS:
            return None
    raise _unknown(node, opset)


def _has_older(schema: Any) -> bool:
    """A first version that is marked deprecated (GroupNormalization-18) still runs; a later one only says "gone"."""
    try:
        defs.get_schema(schema.name, schema.since_version - 1, schema.domain)
    except defs.SchemaError:
        return False
    return True


def _unknown(node: ir.Node, opset: int) -> LoadError:
    what = f"{describe(node)}: {node.domain or 'ai.onnx'} has no op {node.op_type} at opset {opset}"
    schemas = [s for s in defs.get_all_schemas_with_history() if s.domain == node.domain]
    since = [s.since_version for s in schemas if s.name == node.op_type]
    if since:
        when = f"it came with opset {min(since)}" if min(since) > opset else "a later op replaces it"
        return LoadError(what, f"{when}; fix the opset import")
    return LoadError(what, did_you_mean(node.op_type, {s.name for s in schemas if not s.deprecated}))


class _Facts:
    """What is asked of a schema for every node, read once."""

    def __init__(self, schema: Any) -> None:
        self.inputs = (schema.min_input, schema.max_input)
        self.outputs = (schema.min_output, schema.max_output)
        self.attributes = {a.name: int(a.type.value) for a in schema.attributes.values()}
        self.required = tuple(a.name for a in schema.attributes.values() if a.required)


def _check_node(node: ir.Node, facts: _Facts) -> None:
    for what, count, (low, high) in (
        ("inputs", len(node.inputs), facts.inputs),
        ("outputs", len(node.outputs), facts.outputs),
    ):
        if not low <= count <= high:
            wanted = str(low) if low == high else f"{low} to {high}"
            raise LoadError(f"{describe(node)} has {count} {what}, its schema wants {wanted}", _INVALID)
    for name, attribute in node.attributes.items():
        expected = facts.attributes.get(name)
        if expected is None and not name.startswith("__"):
            raise LoadError(f"{describe(node)} has unknown attribute {name!r}", did_you_mean(name, facts.attributes))
        if expected is not None and attribute.type != expected:
            raise LoadError(f"{describe(node)}: attribute {name!r} is of type {attribute.type.name}", _INVALID)
    for name in facts.required:
        if name not in node.attributes:
            raise LoadError(f"{describe(node)} lacks the required attribute {name!r}", _INVALID)


def describe(node: ir.Node) -> str:
    """Return words that identify a node: op type and name, else its first output."""
    name = node.name or next((v.name for v in node.outputs if v.name), "")
    return f"node {name!r} ({node.op_type})"
