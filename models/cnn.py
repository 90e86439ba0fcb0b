"""Convolutional network."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from . import layers
from .graph import Dim, Graph


def cnn(
    *,
    batch: Dim = "N",
    image: tuple[int, int, int] = (3, 32, 32),
    channels: Sequence[int] = (16, 32, 64),
    classes: int = 10,
    batchnorm: bool = False,
    depthwise: bool = False,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, *image] -> logits [batch, classes]: (Conv, BatchNormalization?, Relu, MaxPool) per channel count, Gemm.

    ``depthwise`` splits every Conv after the first into a depthwise 3x3 and a pointwise 1x1 (MobileNet, Howard et al.
    2017). The last feature map is flattened as ``x.view(x.size(0), -1)`` is exported: Shape, Gather, Concat, Reshape.
    """
    g = Graph("cnn", opset=opset, seed=seed)
    x = g.input("x", [batch, *image])
    inputs, height, width = image
    for i, outputs in enumerate(channels):
        if depthwise and i > 0:
            x = layers.conv(g, x, f"conv{i}.depthwise", inputs, inputs, group=inputs, bias=not batchnorm)
            x = _activate(g, x, f"bn{i}.depthwise", inputs, batchnorm)
        kernel = 1 if depthwise and i > 0 else 3
        x = layers.conv(g, x, f"conv{i}", inputs, outputs, kernel=kernel, bias=not batchnorm)
        x = layers.maxpool(g, _activate(g, x, f"bn{i}", outputs, batchnorm))
        inputs, height, width = outputs, height // 2, width // 2
    x = g.reshape(x, g.dim(x, 0), -1)
    layers.gemm(g, x, "head", inputs * height * width, classes, gain=1.0, output="logits")
    g.output("logits", [batch, classes])
    return g.model()


def _activate(g: Graph, x: str, name: str, channels: int, batchnorm: bool) -> str:
    return g.op("Relu", layers.batchnorm(g, x, name, channels) if batchnorm else x)
