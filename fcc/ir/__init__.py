"""The single door to onnx_ir: Module, uses, verification, stable text, dimensions, per-node inference."""

from . import _onnx_ir as _onnx_ir  # isort: skip  (must come first: loads onnx_ir without sympy)

from onnx_ir import (
    Attr,
    AttributeType,
    DataType,
    ExternalTensor,
    Function,
    Graph,
    LazyTensor,
    Model,
    Node,
    Shape,
    SymbolicDim,
    Tensor,
    TensorProtocol,
    TensorType,
    Value,
    tensor,
)

from .attributes import attribute, plain, set_attributes
from .copies import copy_node, copy_value
from .dims import Dim, as_dim, at_least, dims_of, exact_div, known_dims, numbers, to_shape
from .infer import infer_types, schema_of, since_version, trim
from .module import GENERATED, Module, Rewrite
from .uses import detach_nested, erase, is_dead, is_used, operands, producers, sole_user, subgraphs_of
from .verify import verify, verify_nodes

__all__ = [
    "GENERATED",
    "Attr",
    "AttributeType",
    "DataType",
    "Dim",
    "ExternalTensor",
    "Function",
    "Graph",
    "LazyTensor",
    "Model",
    "Module",
    "Node",
    "Rewrite",
    "Shape",
    "SymbolicDim",
    "Tensor",
    "TensorProtocol",
    "TensorType",
    "Value",
    "as_dim",
    "at_least",
    "attribute",
    "copy_node",
    "copy_value",
    "detach_nested",
    "dims_of",
    "erase",
    "exact_div",
    "infer_types",
    "is_dead",
    "is_used",
    "known_dims",
    "numbers",
    "operands",
    "plain",
    "producers",
    "schema_of",
    "set_attributes",
    "since_version",
    "sole_user",
    "subgraphs_of",
    "tensor",
    "to_shape",
    "trim",
    "verify",
    "verify_nodes",
]
