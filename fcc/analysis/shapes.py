"""Shapes, element types and known integers of every value, symbols included.

onnx infers each node by its schema; this module adds what the schemas leave out: symbolic dimensions through
data-dependent operators, contents of small integer tensors, and nested graphs. Partial results are usable: a dimension
that nothing determines becomes a symbol named after its tensor, ``name:axis``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache, partial
from math import prod
from typing import Any
from zlib import crc32

import numpy as np

from .. import ir
from . import evaluate
from .body_shapes import infer_body, result_dims
from .shape_rules import BROADCASTING, DATA_DEPENDENT, RECURRENT, broadcast_dims, product, recurrent_dims

ELEMENTS = "fcc.elements"
SMALL = 1024
_UNSAFE = re.compile(r"[^\w.:/]|//|^\d")
Array = np.ndarray[Any, Any]


def infer(module: ir.Module) -> list[tuple[ir.Node, str]]:
    """Infer every value of a module, outer graphs first; return (node, reason) for each node that stopped it.

    A shape declared in the file is used only where inference finds nothing. O(nodes).
    """
    stopped: list[tuple[ir.Node, str]] = []
    _infer_graph(module, module.graph, stopped)
    return stopped


def infer_node(module: ir.Module, node: ir.Node, stopped: list[tuple[ir.Node, str]] | None = None) -> None:
    """Infer the outputs of one node (and its nested graphs) from its inputs."""
    for nested in ir.subgraphs_of(node):
        found: list[tuple[ir.Node, str]] = []
        infer_body(node, nested, partial(_infer_anew, module, nested, found), ELEMENTS)
        if stopped is not None:
            stopped += found
    if node.op_type in _CONTROL and node.domain == "":
        _CONTROL[node.op_type](node)
    else:
        _infer_plain(module, node, stopped)
    for value in node.outputs:
        _name_unknown(value)
    _set_elements(node)


def elements(value: ir.Value | None) -> Array | None:
    """Return what is known of the contents of a small integer or bool tensor, as an object or numeric array.

    Elements are ints, or ir.Dim where they depend on symbols; None when the contents are not known.
    """
    if value is None:
        return None
    found = value.meta.get(ELEMENTS)
    if found is None and ir.Module.is_constant(value) and _small_integer(value):
        assert value.const_value is not None
        found = value.const_value.numpy()
        value.meta[ELEMENTS] = found
    return found


def note(value: ir.Value, array: Array) -> None:
    """Let inference know the contents of a constant that no graph holds yet."""
    if _small_integer(value):
        value.meta[ELEMENTS] = array


def known(value: ir.Value) -> tuple[Any, ...]:
    """Return what inference found of a value, comparable: element type, dims, known elements."""
    found = value.meta.get(ELEMENTS)
    return value.type, ir.dims_of(value), None if found is None else (found.shape, found.reshape(-1).tolist())


def static_size(value: ir.Value) -> int | None:
    """Return the number of elements when every dimension is an integer, else None."""
    dims = ir.dims_of(value)
    if dims is None or not all(isinstance(d, int) for d in dims):
        return None
    return prod(d for d in dims if isinstance(d, int))


def _small_integer(value: ir.Value) -> bool:
    dtype, size = value.dtype, static_size(value)
    if dtype is None or size is None or size > SMALL:
        return False
    return dtype.is_integer() or dtype == ir.DataType.BOOL


def _infer_graph(module: ir.Module, graph: ir.Graph, stopped: list[tuple[ir.Node, str]]) -> None:
    for value in graph.inputs:
        _name_unknown(value)
    for value in graph.initializers.values():
        if value.const_value is not None and not value.is_graph_input():
            value.type = value.type or ir.TensorType(value.const_value.dtype)
            value.shape = ir.Shape(value.const_value.shape.numpy())
    for node in graph:
        infer_node(module, node, stopped)


def _infer_anew(module: ir.Module, graph: ir.Graph, stopped: list[tuple[ir.Node, str]]) -> None:
    stopped.clear()
    _infer_graph(module, graph, stopped)


def _infer_plain(module: ir.Module, node: ir.Node, stopped: list[tuple[ir.Node, str]] | None) -> None:
    try:
        results = ir.infer_types(node, module.model.opset_imports, _known_inputs(node))
    except ValueError as error:
        if stopped is not None:
            stopped.append((node, str(error)))
        return
    for value, (found_type, dims) in zip(node.outputs, results, strict=True):
        if found_type is not None:
            value.type = found_type
        _refine(value, dims)
    if node.domain != "":
        return
    try:
        better = _better_dims(node, None in (results[0][1] or ()))
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:  # operands that the operator does not take
        if stopped is not None:
            stopped.append((node, f"{type(error).__name__}: {error}"))
        return
    for value, dims in zip(node.outputs, better, strict=False):
        _refine(value, dims)


def _better_dims(node: ir.Node, is_open: bool) -> Sequence[tuple[ir.Dim | int | None, ...] | None]:
    """Return dims by the rules of fcc, which know symbols and contents; nothing where the schema says it all."""
    dims = [ir.dims_of(v) for v in node.inputs]
    if node.op_type in RECURRENT:
        return recurrent_dims(node, dims) or ()
    rule = DATA_DEPENDENT.get(node.op_type) or (broadcast_dims if is_open and node.op_type in BROADCASTING else None)
    return (rule(node, dims, [elements(v) for v in node.inputs]),) if rule is not None else ()


def _refine(value: ir.Value, dims: tuple[ir.Dim | int | None, ...] | None) -> None:
    """Set the shape of a value; an axis that ``dims`` leaves open keeps what was known of it.

    So does one of an output of a graph that is a size without a name: a Loop of no trips gives its body's declaration.
    """
    if dims is None:
        return
    known, declared = ir.dims_of(value), value.is_graph_output()
    if known is not None and len(known) == len(dims):
        dims = tuple(
            old if new is None or (declared and isinstance(old, int) and _is_unnamed(new)) else new
            for old, new in zip(known, dims, strict=True)
        )
    value.shape = ir.to_shape(dims)


def _known_inputs(node: ir.Node) -> dict[int, Array]:
    known: dict[int, Array] = {}
    for i, value in enumerate(node.inputs):
        if value is None or value.dtype is None:
            continue
        if ir.Module.is_constant(value):
            size = static_size(value)
            if size is not None and size <= SMALL and value.const_value is not None:
                known[i] = value.const_value.numpy()
            continue
        found = value.meta.get(ELEMENTS)
        if found is not None and not _has_symbols(found):
            known[i] = found.astype(value.dtype.numpy())
    return known


def _has_symbols(array: Array) -> bool:
    return array.dtype == object and any(isinstance(x, ir.Dim) for x in array.reshape(-1))


def _name_unknown(value: ir.Value) -> None:
    dims = ir.dims_of(value)
    if dims is not None and None in dims:
        value.shape = ir.to_shape(
            ir.Dim.symbol(f"{_safe(value.name or '')}:{i}") if d is None else d for i, d in enumerate(dims)
        )


def _is_unnamed(dim: ir.Dim | int | None) -> bool:
    """Return whether a size is nothing but what ``_name_unknown`` calls it."""
    return isinstance(dim, ir.Dim) and re.fullmatch(r"[\w.:~]+(/[\w.:~]+)*:\d+", str(dim)) is not None


@lru_cache(maxsize=1 << 14)
def _safe(name: str) -> str:
    """Return a name that no arithmetic of dims takes apart; different names stay different."""
    plain = _UNSAFE.sub("_", name)
    return name if plain == name else f"{plain}~{crc32(name.encode()):x}"


# -- contents --------------------------------------------------------------------------------------------------------
def _set_elements(node: ir.Node) -> None:
    for value in node.outputs:
        value.meta.pop(ELEMENTS, None)
    out = node.outputs[0] if node.outputs else None
    if out is None or out.dtype not in _CONTENT_TYPES or node.domain != "":
        return
    size = static_size(out)
    if (size is None and node.op_type in _GROWING) or (size or 0) > SMALL:
        return
    found: Array | None
    if node.op_type == "Shape":
        found = _shape_elements(node)
    elif node.op_type == "Size":
        dims = ir.dims_of(node.inputs[0])
        found = None if dims is None or None in dims else np.asarray(product(dims), dtype=object)
    else:
        inputs = [elements(v) for v in node.inputs]
        if any(e is None and v is not None for e, v in zip(inputs, node.inputs, strict=True)):
            return
        found = evaluate.symbolic(node, inputs)
    if found is not None and found.size <= SMALL and _representable(found, out.dtype):
        out.meta[ELEMENTS] = found
        if out.shape is None or not out.shape.is_static():
            out.shape = ir.Shape(found.shape)


def _representable(array: Array, dtype: ir.DataType) -> bool:
    """Return whether Python integers of an object array fit the type: where they do not, the operator wraps around."""
    if array.dtype != object or dtype == ir.DataType.BOOL:
        return True
    info = np.iinfo(dtype.numpy())
    return all(isinstance(x, ir.Dim) or info.min <= x <= info.max for x in array.reshape(-1))


_GROWING = frozenset({"ConstantOfShape", "Expand", "Range", "Tile"})
_CONTENT_TYPES = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)


def _shape_elements(node: ir.Node) -> Array | None:
    dims = ir.dims_of(node.inputs[0])
    if dims is None or None in dims:
        return None
    picked = dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(dims))]
    out = np.empty(len(picked), dtype=object)
    out[:] = picked
    return out


# -- nested graphs ---------------------------------------------------------------------------------------------------
def _infer_if(node: ir.Node) -> None:
    branches = [g.outputs for g in ir.subgraphs_of(node)]
    for i, value in enumerate(node.outputs):
        options = [b[i] for b in branches if i < len(b)]
        value.type = next((o.type for o in options if o.type is not None), value.type)
        dims = [ir.dims_of(o) for o in options]
        first = dims[0] if dims else None
        if first is None or any(d is None or len(d) != len(first) for d in dims):
            continue
        same = zip(*(d for d in dims if d is not None), strict=True)
        value.shape = ir.to_shape(column[0] if len(set(column)) == 1 else None for column in same)


def _infer_body_types(node: ir.Node) -> None:
    body = next(iter(ir.subgraphs_of(node)))
    outputs = list(body.outputs)[1:] if node.op_type == "Loop" else list(body.outputs)
    for value, inner in zip(node.outputs, outputs, strict=False):
        value.type = value.type or inner.type
    for value, dims in result_dims(node):
        _refine(value, dims)


_CONTROL = {"If": _infer_if, "Loop": _infer_body_types, "Scan": _infer_body_types}
