"""Layers that several architectures share, each with freshly drawn weights."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .graph import Graph

EPSILON = 1e-5


def gemm(g: Graph, x: str, name: str, inputs: int, outputs: int, *, gain: float = 2.0, output: str = "") -> str:
    """[N, inputs] -> [N, outputs] as ``Gemm(x, W, b, transB=1)``."""
    weight = g.he(f"{name}.weight", (outputs, inputs), inputs, gain)
    bias = g.normal(f"{name}.bias", (outputs,), 0.1)
    return g.op("Gemm", x, weight, bias, transB=1, output=output)


def project(g: Graph, x: str, name: str, inputs: int, outputs: int, *, gain: float = 1.0, output: str = "") -> str:
    """[..., inputs] -> [..., outputs] as ``Add(b, MatMul(x, W))``."""
    weight = g.he(f"{name}.weight", (inputs, outputs), inputs, gain)
    bias = g.normal(f"{name}.bias", (outputs,), 0.1)
    return g.op("Add", bias, g.op("MatMul", x, weight), output=output)


def conv(
    g: Graph,
    x: str,
    name: str,
    inputs: int,
    outputs: int,
    *,
    kernel: int = 3,
    stride: int = 1,
    group: int = 1,
    bias: bool,
) -> str:
    """[N, inputs, H, W] -> [N, outputs, H/stride, W/stride], odd square kernel with padding ``kernel // 2``."""
    per_group = inputs // group
    operands = [g.he(f"{name}.weight", (outputs, per_group, kernel, kernel), per_group * kernel**2)]
    if bias:
        operands.append(g.normal(f"{name}.bias", (outputs,), 0.1))
    window: dict[str, Any] = {
        "kernel_shape": [kernel] * 2,
        "strides": [stride] * 2,
        "pads": [kernel // 2] * 4,
        "dilations": [1, 1],
    }
    return g.op("Conv", x, *operands, group=group, **window)


def maxpool(g: Graph, x: str) -> str:
    """[N, C, H, W] -> [N, C, H/2, W/2]."""
    return g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])


def batchnorm(g: Graph, x: str, name: str, channels: int) -> str:
    """Normalize channel 1 by statistics that look trained: no scale is 1, no mean is 0."""
    operands = [
        g.uniform(f"{name}.weight", (channels,), 0.5, 1.5),
        g.normal(f"{name}.bias", (channels,), 0.2),
        g.normal(f"{name}.running_mean", (channels,), 0.3),
        g.uniform(f"{name}.running_var", (channels,), 0.5, 2.0),
    ]
    return g.op("BatchNormalization", x, *operands, epsilon=EPSILON, momentum=0.9)


def dropout(g: Graph, x: str, ratio: float = 0.1) -> str:
    """An inference Dropout as an exporter leaves it: ``training_mode`` is a constant false."""
    return g.op("Dropout", x, g.scalar(ratio), g.constant(np.array(False)))


def layer_norm(g: Graph, x: str, name: str, width: int, *, output: str = "") -> str:
    """Normalize the last axis: one LayerNormalization from opset 17, before that its nine nodes."""
    scale = g.uniform(f"{name}.weight", (width,), 0.8, 1.2)
    bias = g.normal(f"{name}.bias", (width,), 0.1)
    if g.opset >= 17:
        return g.op("LayerNormalization", x, scale, bias, axis=-1, epsilon=EPSILON, output=output)
    centred = g.op("Sub", x, g.op("ReduceMean", x, axes=[-1]))
    variance = g.op("ReduceMean", g.op("Pow", centred, g.scalar(2.0)), axes=[-1])
    deviation = g.op("Sqrt", g.op("Add", variance, g.scalar(EPSILON)))
    return g.op("Add", g.op("Mul", g.op("Div", centred, deviation), scale), bias, output=output)


def gelu_erf(g: Graph, x: str) -> str:
    """``x * (1 + erf(x / sqrt 2)) / 2`` in five nodes (Hendrycks and Gimpel 2016)."""
    tail = g.op("Add", g.op("Erf", g.op("Div", x, g.scalar(math.sqrt(2)))), g.scalar(1.0))
    return g.op("Mul", g.op("Mul", x, tail), g.scalar(0.5))


def gelu_tanh(g: Graph, x: str) -> str:
    """``x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 x^3))) / 2`` in eight nodes, as GPT-2 computes it."""
    half = g.op("Mul", x, g.scalar(0.5))
    cubic = g.op("Mul", g.op("Pow", x, g.scalar(3.0)), g.scalar(0.044715))
    inner = g.op("Mul", g.op("Add", x, cubic), g.scalar(math.sqrt(2 / math.pi)))
    return g.op("Mul", half, g.op("Add", g.op("Tanh", inner), g.scalar(1.0)))


GELU = {"erf": gelu_erf, "tanh": gelu_tanh}
