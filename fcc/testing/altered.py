"""Every graph that computes something else by one attribute, constant or operand: conditions are about these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

from fcc.runtime.protos import nodes

from .sources import refusal

MOST = 30
"""Alterations of a graph, spread over the nodes."""


def altered(model: onnx.ModelProto) -> Iterator[tuple[str, onnx.ModelProto]]:
    """Yield valid models with what was altered: an attribute is absent or another, a constant, the order of operands.

    What was known of the shapes behind is left to inference.
    """
    found = [(what, k) for what, count in _places(model) for k in range(count)]
    step = max(1, len(found) // MOST)
    for what, k in found[::step]:
        copy = onnx.ModelProto.FromString(model.SerializeToString())
        if STEPS[what](copy, k):
            _forget(copy)
            if not refusal(copy):
                yield f"{what}{k}", copy


def _places(model: onnx.ModelProto) -> Iterator[tuple[str, int]]:
    attributes = len(_attributes(model))
    yield "absent", attributes
    yield "other", attributes
    for what in ("constant", "zeros", "negative"):
        yield what, len(model.graph.initializer)
    yield "swapped", len(list(nodes(model)))


def _attributes(model: onnx.ModelProto) -> list[tuple[onnx.NodeProto, AttributeProto]]:
    plain = (AttributeProto.INT, AttributeProto.INTS, AttributeProto.FLOAT, AttributeProto.STRING)
    return [(n, a) for n in nodes(model) for a in n.attribute if a.type in plain]


def absent(model: onnx.ModelProto, k: int) -> bool:
    """An attribute has its default."""
    node, attribute = _attributes(model)[k]
    kept = [a for a in node.attribute if a is not attribute and a.name != attribute.name]
    del node.attribute[:]
    node.attribute.extend(kept)
    return True


def other(model: onnx.ModelProto, k: int) -> bool:
    """A flag is turned, a number is the next one, and so is the last of several."""
    attribute = _attributes(model)[k][1]
    if attribute.type == AttributeProto.INT:
        attribute.i = 1 - attribute.i if attribute.i in (0, 1) else attribute.i + 1
    elif attribute.type == AttributeProto.FLOAT:
        attribute.f = 1.5 * attribute.f + 0.25
    elif attribute.type == AttributeProto.INTS and attribute.ints:
        attribute.ints[-1] += 1
    else:
        return False
    return True


def constant(model: onnx.ModelProto, k: int) -> bool:
    """The last number of a constant is the next one; the only one too."""
    tensor = model.graph.initializer[k]
    array: Any = numpy_helper.to_array(tensor).copy()
    if array.size == 0 or array.dtype.kind not in "fiub" or tensor.data_type == onnx.TensorProto.STRING:
        return False
    last = np.unravel_index(array.size - 1, array.shape)
    with np.errstate(over="ignore"):  # the largest integer goes on with the smallest
        array[last] = not array[last] if array.dtype.kind == "b" else array[last] + array.dtype.type(1)
    tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return True


def zeros(model: onnx.ModelProto, k: int) -> bool:
    """All numbers of a constant are 0."""
    return _numbers(model, k, np.zeros_like)


def negative(model: onnx.ModelProto, k: int) -> bool:
    """All numbers of a constant have the other sign."""
    return _numbers(model, k, np.negative)


def _numbers(model: onnx.ModelProto, k: int, change: Callable[[Any], Any]) -> bool:
    tensor = model.graph.initializer[k]
    array = numpy_helper.to_array(tensor)
    if array.size == 0 or array.dtype.kind not in "fiu":
        return False
    made = change(array)
    tensor.CopyFrom(numpy_helper.from_array(made, tensor.name))
    return not np.array_equal(made, array)


def swapped(model: onnx.ModelProto, k: int) -> bool:
    """The first two operands have changed places."""
    node = list(nodes(model))[k]
    if len(node.input) < 2 or node.input[0] == node.input[1] or not all(node.input[:2]):
        return False
    node.input[0], node.input[1] = node.input[1], node.input[0]
    return True


def _forget(model: onnx.ModelProto) -> None:
    """Leave the shapes of what is computed to inference; ranks of the outputs as well."""
    del model.graph.value_info[:]
    for graph in (model.graph, *(a.g for n in nodes(model) for a in n.attribute if a.HasField("g"))):
        inputs = {v.name for v in graph.input}
        for v in graph.output:
            if v.type.HasField("tensor_type") and v.name not in inputs:
                v.CopyFrom(helper.make_tensor_value_info(v.name, v.type.tensor_type.elem_type, None))


STEPS = {f.__name__: f for f in (absent, other, constant, zeros, negative, swapped)}
