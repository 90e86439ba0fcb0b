"""ResNet of basic blocks (He et al. 2015)."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from . import layers
from .graph import Dim, Graph


def resnet(
    *,
    batch: Dim = "N",
    size: int = 32,
    stages: Sequence[tuple[int, int]] = ((16, 1), (32, 1), (64, 1)),
    classes: int = 10,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, 3, size, size] -> logits [batch, classes]: stages of (channels, blocks), halved in between."""
    g = Graph("resnet", opset=opset, seed=seed)
    x = g.input("x", [batch, 3, size, size])
    channels = stages[0][0]
    x = g.op("Relu", _conv_bn(g, x, "stem", 3, channels))
    for s, (outputs, repeats) in enumerate(stages):
        for r in range(repeats):
            stride = 2 if s > 0 and r == 0 else 1
            x = _block(g, x, f"layer{s}.{r}", channels, outputs, stride)
            channels = outputs
    x = g.op("Flatten", g.op("GlobalAveragePool", x), axis=1)
    layers.gemm(g, x, "head", channels, classes, gain=1.0, output="logits")
    g.output("logits", [batch, classes])
    return g.model()


def _block(g: Graph, x: str, name: str, inputs: int, outputs: int, stride: int) -> str:
    """relu(bn(conv(relu(bn(conv(x))))) + shortcut); the shortcut is a 1x1 Conv where shapes differ."""
    y = g.op("Relu", _conv_bn(g, x, f"{name}.1", inputs, outputs, stride=stride))
    y = _conv_bn(g, y, f"{name}.2", outputs, outputs)
    if stride != 1 or inputs != outputs:
        x = _conv_bn(g, x, f"{name}.shortcut", inputs, outputs, kernel=1, stride=stride)
    return g.op("Relu", g.op("Add", y, x))


def _conv_bn(g: Graph, x: str, name: str, inputs: int, outputs: int, *, kernel: int = 3, stride: int = 1) -> str:
    x = layers.conv(g, x, f"{name}.conv", inputs, outputs, kernel=kernel, stride=stride, bias=False)
    return layers.batchnorm(g, x, f"{name}.bn", outputs)
