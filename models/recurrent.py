"""Recurrent classifiers: RNN, LSTM and GRU share everything but the cell."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

from . import layers
from .graph import Dim, Graph


@dataclass(frozen=True)
class _Cell:
    op: str
    gates: int
    states: int
    attributes: Mapping[str, Any] = field(default_factory=dict)


_RNN = _Cell("RNN", gates=1, states=1)
_LSTM = _Cell("LSTM", gates=4, states=2)
_GRU = _Cell("GRU", gates=3, states=1, attributes={"linear_before_reset": 1})  # the form that torch computes


@dataclass(frozen=True)
class _Sizes:
    """Sizes of a recurrent classifier."""

    batch: Dim
    steps: Dim
    inputs: int
    hidden: int
    depth: int
    bidirectional: bool
    classes: int

    @property
    def directions(self) -> int:
        return 2 if self.bidirectional else 1


def rnn(
    *,
    batch: Dim = "N",
    steps: Dim = 12,
    inputs: int = 16,
    hidden: int = 32,
    depth: int = 1,
    bidirectional: bool = False,
    classes: int = 10,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, steps, inputs] -> logits [batch, classes] from the last step of ``depth`` tanh RNN layers."""
    return _classifier(_RNN, _Sizes(batch, steps, inputs, hidden, depth, bidirectional, classes), seed, opset)


def lstm(
    *,
    batch: Dim = "N",
    steps: Dim = 12,
    inputs: int = 16,
    hidden: int = 32,
    depth: int = 1,
    bidirectional: bool = False,
    classes: int = 10,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, steps, inputs] -> logits [batch, classes] from the last step of ``depth`` LSTM layers."""
    return _classifier(_LSTM, _Sizes(batch, steps, inputs, hidden, depth, bidirectional, classes), seed, opset)


def gru(
    *,
    batch: Dim = "N",
    steps: Dim = 12,
    inputs: int = 16,
    hidden: int = 32,
    depth: int = 1,
    bidirectional: bool = False,
    classes: int = 10,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, steps, inputs] -> logits [batch, classes] from the last step of ``depth`` GRU layers."""
    return _classifier(_GRU, _Sizes(batch, steps, inputs, hidden, depth, bidirectional, classes), seed, opset)


def _classifier(cell: _Cell, sizes: _Sizes, seed: int, opset: int) -> onnx.ModelProto:
    g = Graph(cell.op.lower(), opset=opset, seed=seed)
    source = g.input("x", [sizes.batch, sizes.steps, sizes.inputs])
    x = g.op("Transpose", source, perm=[1, 0, 2])
    width = sizes.inputs
    for i in range(sizes.depth):
        x = _layer(g, cell, sizes, f"{cell.op.lower()}{i}", source, x, width)
        width = sizes.hidden * sizes.directions
    x = g.op("Transpose", x, perm=[1, 0, 2])
    last = g.op("Gather", x, g.constant(np.array(-1, np.int64)), axis=1)
    layers.gemm(g, last, "head", width, sizes.classes, gain=1.0, output="logits")
    g.output("logits", [sizes.batch, sizes.classes])
    return g.model()


def _layer(g: Graph, cell: _Cell, sizes: _Sizes, name: str, source: str, x: str, width: int) -> str:
    """[steps, batch, width] -> [steps, batch, directions * hidden]; zero states of the batch size of ``source``."""
    directions, hidden = sizes.directions, sizes.hidden
    bound = 1 / math.sqrt(hidden)
    weights = (
        g.uniform(f"{name}.W", (directions, cell.gates * hidden, width), -bound, bound),
        g.uniform(f"{name}.R", (directions, cell.gates * hidden, hidden), -bound, bound),
        g.uniform(f"{name}.B", (directions, 2 * cell.gates * hidden), -bound, bound),
    )
    states = [
        g.op("ConstantOfShape", g.vector(directions, g.dim(source, 0), hidden), value=_ZERO) for _ in range(cell.states)
    ]
    direction = "bidirectional" if sizes.bidirectional else "forward"
    y = g.op(cell.op, x, *weights, "", *states, hidden_size=hidden, direction=direction, **cell.attributes)
    if not sizes.bidirectional:
        return g.op("Squeeze", y, g.ints(1))
    return g.reshape(g.op("Transpose", y, perm=[0, 2, 1, 3]), 0, 0, -1)


_ZERO = onnx.numpy_helper.from_array(np.zeros(1, np.float32))
