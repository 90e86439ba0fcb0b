"""Models from ONNX's textual syntax, their constants drawn where they are only declared."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnx.parser
from onnx_ir import serde

from fcc import ir

HEADER = '<ir_version: 10, opset_import: ["" : {opset}, "com.microsoft" : 1]>\n'


def random_array(dtype: Any, shape: Any, rng: np.random.Generator) -> np.ndarray[Any, Any]:
    """Return a seeded random array: normal floats, small integers from 0, or bools."""
    dtype = np.dtype(dtype)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, 4, shape)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    return np.asarray(rng.standard_normal(shape)).astype(dtype)


def model_from(
    text: str, opset: int = 21, constants: Mapping[str, Any] | None = None, seed: int = 0
) -> onnx.ModelProto:
    """Return the model of a graph in text form; what ``<...>`` declares and no node makes is a seeded constant."""
    constants = constants or {}
    if not text.lstrip().startswith("<"):
        text = HEADER.format(opset=opset) + text
    try:
        model = onnx.parser.parse_model(text)
    except onnx.parser.ParseError as error:
        raise AssertionError(f"the graph does not parse: {error}") from None
    rng = np.random.default_rng(seed)
    known = {i.name for i in model.graph.input} | {t.name for t in model.graph.initializer}
    produced = known | {o for n in model.graph.node for o in n.output}
    for info in list(model.graph.value_info):
        if info.name in produced:
            continue
        kind = info.type.tensor_type
        dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
        shape = [d.dim_value for d in kind.shape.dim]
        given = constants.get(info.name)
        array = random_array(dtype, shape, rng) if given is None else np.broadcast_to(given, shape).astype(dtype)
        if given is None and re.search("var", info.name) and dtype.kind == "f":
            array = np.abs(array) + np.asarray(0.5, dtype)
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(array, order="C"), info.name))
        model.graph.value_info.remove(info)
    return model


def expected_module(text: str, opset: int) -> ir.Module:
    """Return the module of an expected graph; a name that nothing defines stands for a constant."""
    if not text.lstrip().startswith("<"):
        text = HEADER.format(opset=opset) + text
    module = ir.Module(serde.deserialize_model(onnx.parser.parse_model(text)))
    for graph in module.graphs():
        for node in graph:
            for value in node.inputs:
                if value is not None and value.producer() is None and not value.is_graph_input():
                    value.const_value = value.const_value or ir.tensor(np.zeros(1, np.float32))
                    if not value.is_initializer():
                        module.graph.initializers.add(value)
    return module
