"""VGG (Simonyan and Zisserman 2014)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from . import layers
from .graph import Dim, Graph


def vgg(
    *,
    batch: Dim = "N",
    size: int = 32,
    stages: Sequence[tuple[int, int]] = ((16, 1), (32, 1), (64, 2)),
    hidden: int = 128,
    classes: int = 10,
    batchnorm: bool = False,
    dropout: bool = True,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, 3, size, size] -> logits [batch, classes]: stages of (channels, number of 3x3 Convs), three Gemms."""
    g = Graph("vgg", opset=opset, seed=seed)
    x = g.input("x", [batch, 3, size, size])
    inputs = 3
    for s, (channels, repeats) in enumerate(stages):
        for r in range(repeats):
            x = layers.conv(g, x, f"features.{s}.{r}.conv", inputs, channels, bias=True)
            if batchnorm:
                x = layers.batchnorm(g, x, f"features.{s}.{r}.bn", channels)
            x = g.op("Relu", x)
            inputs = channels
        x = layers.maxpool(g, x)
    x = g.op("Flatten", x, axis=1)
    side = size >> len(stages)
    for i, (width, outputs) in enumerate(((inputs * side * side, hidden), (hidden, hidden))):
        x = g.op("Relu", layers.gemm(g, x, f"classifier.{i}", width, outputs))
        if dropout:
            x = layers.dropout(g, x, 0.5)
    layers.gemm(g, x, "classifier.2", hidden, classes, gain=1.0, output="logits")
    g.output("logits", [batch, classes])
    return g.model()
