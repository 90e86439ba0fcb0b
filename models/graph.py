"""A small writer of ONNX graphs: one call per node, values are names, every random number comes from one seed."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Dim = int | str
Array = NDArray[Any]

OLDEST_OPSET = 13  # below it Squeeze, Unsqueeze, Split and Softmax have another form


class Graph:
    """A graph under construction, in the idioms of torch's tracing exporter (Constant nodes, Shape arithmetic)."""

    def __init__(self, name: str, *, opset: int, seed: int) -> None:
        if opset < OLDEST_OPSET:
            raise ValueError(f"opset {opset} is not supported: these builders write opset {OLDEST_OPSET} and later")
        self.name = name
        self.opset = opset
        self.rng = np.random.default_rng(seed)
        self._nodes: list[onnx.NodeProto] = []
        self._inputs: list[onnx.ValueInfoProto] = []
        self._outputs: list[onnx.ValueInfoProto] = []
        self._initializers: list[onnx.TensorProto] = []

    # The interface of the graph

    def input(self, name: str, shape: Sequence[Dim], dtype: type[np.generic] = np.float32) -> str:
        """Declare a graph input; a dim given as text is symbolic."""
        self._inputs.append(_value_info(name, shape, dtype))
        return name

    def output(self, name: str, shape: Sequence[Dim], dtype: type[np.generic] = np.float32) -> None:
        """Declare that the value of this name is a graph output."""
        self._outputs.append(_value_info(name, shape, dtype))

    def model(self) -> onnx.ModelProto:
        """Return the finished model, with the oldest ir_version that its opset allows."""
        opsets = [helper.make_opsetid("", self.opset)]
        graph = helper.make_graph(self._nodes, self.name, self._inputs, self._outputs, self._initializers)
        return helper.make_model(
            graph, opset_imports=opsets, producer_name="fcc.models", ir_version=helper.find_min_ir_version_for(opsets)
        )

    # Nodes

    def op(self, op_type: str, *inputs: str, output: str = "", **attributes: object) -> str:
        """Append a node and return its only (or first) output, called ``output`` when that is given."""
        name = f"{op_type}_{len(self._nodes)}"
        value = output or f"{name}_output_0"
        self._nodes.append(helper.make_node(op_type, inputs, [value], name=name, **attributes))
        return value

    def split(self, value: str, sizes: Sequence[int], axis: int) -> list[str]:
        """Append a Split: ``value`` -> one value per size, along ``axis``."""
        name = f"Split_{len(self._nodes) + 1}"  # the Constant with the sizes comes first
        outputs = [f"{name}_output_{i}" for i in range(len(sizes))]
        self._nodes.append(helper.make_node("Split", [value, self.ints(*sizes)], outputs, name=name, axis=axis))
        return outputs

    # Constants and weights

    def weight(self, name: str, array: Array) -> str:
        """Add an initializer."""
        self._initializers.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def normal(self, name: str, shape: Sequence[int], std: float, mean: float = 0.0) -> str:
        """Add a float32 initializer drawn from N(mean, std^2)."""
        return self.weight(name, self.rng.normal(mean, std, shape).astype(np.float32))

    def uniform(self, name: str, shape: Sequence[int], low: float, high: float) -> str:
        """Add a float32 initializer drawn from [low, high)."""
        return self.weight(name, self.rng.uniform(low, high, shape).astype(np.float32))

    def he(self, name: str, shape: Sequence[int], fan_in: int, gain: float = 2.0) -> str:
        """Add a weight drawn from N(0, gain / fan_in) (He et al. 2015: gain 2 before a Relu, else 1)."""
        return self.normal(name, shape, math.sqrt(gain / fan_in))

    def constant(self, array: Array) -> str:
        """Append a Constant node."""
        return self.op("Constant", value=numpy_helper.from_array(array))

    def scalar(self, number: float) -> str:
        """Append a float32 Constant of rank 0."""
        return self.constant(np.array(number, np.float32))

    def ints(self, *numbers: int) -> str:
        """Append an int64 Constant of rank 1."""
        return self.constant(np.array(numbers, np.int64))

    # Shape arithmetic as exporters write it

    def dim(self, value: str, axis: int) -> str:
        """Append ``Gather(Shape(value), axis)``: an int64 scalar."""
        return self.op("Gather", self.op("Shape", value), self.constant(np.array(axis, np.int64)), axis=0)

    def vector(self, *dims: int | str) -> str:
        """Append an int64 vector: a Constant, or a Concat of unsqueezed scalars when some are values."""
        if all(isinstance(d, int) for d in dims):
            return self.ints(*(int(d) for d in dims))
        scalars = [self.constant(np.array(d, np.int64)) if isinstance(d, int) else d for d in dims]
        return self.op("Concat", *(self.op("Unsqueeze", s, self.ints(0)) for s in scalars), axis=0)

    def reshape(self, value: str, *dims: int | str) -> str:
        """Append ``Reshape(value, dims)``; a dim is a number or an int64 scalar value."""
        return self.op("Reshape", value, self.vector(*dims))


def _value_info(name: str, shape: Sequence[Dim], dtype: type[np.generic]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), list(shape))
