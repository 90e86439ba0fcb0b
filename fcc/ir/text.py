"""The stable text form of a module, models from text, and the structural difference of two modules."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

import numpy as np
import onnx.parser
from onnx_ir import AttributeType, Graph, Node, TensorType, Value, serde

from .module import Module
from .uses import subgraphs_of

INLINE = 8
IR_VERSION = 10  # of fragments: every runtime that fcc supports reads it


def parse(text: str) -> Module:
    """Return the module that a text in ONNX's textual syntax describes.

    Raises:
        ValueError: the text does not parse; the message holds the parser's position.
    """
    if not text.lstrip().startswith("<"):
        text = '<ir_version: 10, opset_import: ["" : 21]>\n' + text
    try:
        proto = onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        raise ValueError(str(error)) from None
    return Module(serde.deserialize_model(proto))


def model_of(text: str, opset: int, seed: int = 0) -> bytes:
    """Return the serialized model of a graph in ONNX's textual syntax; operators of com.microsoft may be used.

    A tensor declared in ``<...>`` without contents is a constant: floats are drawn from a normal distribution, scaled
    by 1 / sqrt(elements per row) so that products keep their size; integers are zeros.

    Raises:
        ValueError: the text does not parse; the message holds the parser's position.
    """
    header = f'<ir_version: {IR_VERSION}, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'
    try:
        model = onnx.parser.parse_model(header + text)
    except onnx.parser.ParseError as error:
        raise ValueError(str(error)) from None
    rng = np.random.default_rng(seed)
    known = {t.name for t in model.graph.initializer} | {o for n in model.graph.node for o in n.output}
    for info in [v for v in model.graph.value_info if v.name not in known]:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type)
        shape = [d.dim_value for d in info.type.tensor_type.shape.dim]
        scale = max(1, int(np.prod(shape[1:]))) ** -0.5
        drawn = np.zeros(shape) if dtype.kind in "iub" else rng.standard_normal(shape) * scale
        model.graph.initializer.append(onnx.numpy_helper.from_array(drawn.astype(dtype), info.name))
        model.graph.value_info.remove(info)
    return bytes(model.SerializeToString())


def to_text(module: Module) -> str:
    """Return the text form: one line a node, constants inline when small, else dtype, shape and a digest."""
    return "\n".join(_graph_lines(module.graph, "")) + "\n"


def canonical(module: Module) -> str:
    """Return the text form with internal names replaced by position: equal text means equal structure.

    Names of graph inputs and outputs are kept; constants are numbered c0, c1... in the order of first use; node
    names, metadata and types of intermediate values are left out.
    """
    names: dict[int, str] = {}
    for value in [*module.graph.inputs, *module.graph.outputs]:
        names[id(value)] = value.name or ""
    return "\n".join(_canonical_lines(module.graph, names, [0, 0], "")) + "\n"


def diff(before: Module, after: Module) -> str:
    """Return a unified diff of the text forms of two modules ('' when they are equal)."""
    a, b = to_text(before).splitlines(), to_text(after).splitlines()
    return "\n".join(difflib.unified_diff(a, b, "before", "after", lineterm="", n=1))


def _graph_lines(graph: Graph, indent: str) -> Iterable[str]:
    inputs = ", ".join(_typed(v) for v in graph.inputs)
    outputs = ", ".join(_typed(v) for v in graph.outputs)
    yield f"{indent}{graph.name or 'graph'} ({inputs}) => ({outputs}) {{"
    for name, value in graph.initializers.items():
        yield f"{indent}  const {name} = {_tensor(value)}"
    for node in graph:
        outs = ", ".join(_typed(v) for v in node.outputs)
        ins = ", ".join(v.name or "" if v is not None else "" for v in node.inputs)
        yield f"{indent}  {outs} = {_head(node)}({ins})"
        for nested in subgraphs_of(node):
            yield from _graph_lines(nested, indent + "    ")
    yield f"{indent}}}"


def _typed(value: Value) -> str:
    if not isinstance(value.type, TensorType):
        return f"{value.name}: {value.type}" if value.type is not None else f"{value.name}"
    shape = "?" if value.shape is None else ",".join("?" if d is None else str(d) for d in value.shape)
    return f"{value.name}: {value.type.dtype.name.lower()}[{shape}]"


def _tensor(value: Value) -> str:
    tensor = value.const_value
    if tensor is None:
        return "?"
    head = f"{tensor.dtype.name.lower()}{[int(str(d)) for d in tensor.shape]}"
    return f"{head} {np.asarray(tensor.numpy()).reshape(-1).tolist()}" if tensor.size <= INLINE else head


def _head(node: Node) -> str:
    kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
    shown = [
        f"{k}={_attribute(a.type, a.value)}"
        for k, a in sorted(node.attributes.items())
        if a.is_ref() or a.type not in (AttributeType.GRAPH, AttributeType.GRAPHS)
    ]
    return f"{kind}<{', '.join(shown)}>" if shown else kind


def _attribute(kind: AttributeType, value: object) -> str:
    if kind == AttributeType.TENSOR and hasattr(value, "numpy"):
        return str(np.asarray(value.numpy()).reshape(-1).tolist()[:INLINE])
    if isinstance(value, tuple | list):
        return "[" + ",".join(map(str, value)) + "]"
    return re.sub(r"\s+", " ", str(value))


def _canonical_lines(graph: Graph, names: dict[int, str], counters: list[int], indent: str) -> Iterable[str]:
    for value in graph.inputs:
        _name(value, names, counters)
    yield f"{indent}({', '.join(names[id(v)] for v in graph.inputs)}) => {{"
    for node in graph:
        ins = ", ".join("" if v is None else _name(v, names, counters) for v in node.inputs)
        outs = ", ".join(_name(v, names, counters) if v.name else "" for v in node.outputs)
        yield f"{indent}  {outs} = {_head(node)}({ins})"
        for nested in subgraphs_of(node):
            yield from _canonical_lines(nested, names, counters, indent + "    ")
    yield f"{indent}}} {', '.join(_name(v, names, counters) for v in graph.outputs)}"


def _name(value: Value, names: dict[int, str], counters: list[int]) -> str:
    found = names.get(id(value))
    if found is None:
        constant = Module.is_constant(value)
        found = f"{'c' if constant else 'v'}{counters[0 if constant else 1]}"
        counters[0 if constant else 1] += 1
        names[id(value)] = found
    return found
