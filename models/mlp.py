"""Multi-layer perceptron."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import onnx

from . import layers
from .graph import Dim, Graph


def mlp(
    *,
    batch: Dim = "N",
    sizes: Sequence[int] = (784, 128, 64, 10),
    activation: str = "Relu",
    batchnorm: bool = False,
    dropout: bool = False,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, sizes[0]] -> logits [batch, sizes[-1]]: Gemm, BatchNormalization?, activation, Dropout?, ..., Gemm."""
    if len(sizes) < 2:
        raise ValueError(f"sizes needs an input and an output width, got {tuple(sizes)}")
    g = Graph("mlp", opset=opset, seed=seed)
    x = g.input("x", [batch, sizes[0]])
    for i, (inputs, outputs) in enumerate(itertools.pairwise(sizes[:-1])):
        x = layers.gemm(g, x, f"fc{i}", inputs, outputs)
        if batchnorm:
            x = layers.batchnorm(g, x, f"bn{i}", outputs)
        x = g.op(activation, x)
        if dropout:
            x = layers.dropout(g, x)
    layers.gemm(g, x, "head", sizes[-2], sizes[-1], gain=1.0, output="logits")
    g.output("logits", [batch, sizes[-1]])
    return g.model()
