"""Transformer block: attention and feed-forward, each with a residual and a normalization."""

from __future__ import annotations

from typing import Literal

import onnx

from . import layers
from .attention import Mask, multi_head
from .graph import Dim, Graph

Gelu = Literal["erf", "tanh"]


def transformer_block(
    *,
    batch: Dim = "N",
    tokens: Dim = 16,
    width: int = 64,
    heads: int = 4,
    pre_norm: bool = True,
    gelu: Gelu = "erf",
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, tokens, width] -> y of the same shape; normalized before each part, or (pre_norm=False) after it."""
    g = Graph("transformer_block", opset=opset, seed=seed)
    x = g.input("x", [batch, tokens, width])
    block = pre_norm_block if pre_norm else post_norm_block
    block(g, x, "block", width, heads, gelu, None, output="y")
    g.output("y", [batch, tokens, width])
    return g.model()


def pre_norm_block(
    g: Graph, x: str, name: str, width: int, heads: int, gelu: Gelu, mask: Mask | None, *, output: str = ""
) -> str:
    """``x + attention(norm(x))``, then ``x + feed_forward(norm(x))``: [N, T, width] -> [N, T, width]."""
    normed = layers.layer_norm(g, x, f"{name}.norm1", width)
    x = g.op("Add", x, multi_head(g, normed, f"{name}.attn", width, heads, mask))
    normed = layers.layer_norm(g, x, f"{name}.norm2", width)
    return g.op("Add", x, feed_forward(g, normed, f"{name}.ffn", width, gelu), output=output)


def post_norm_block(
    g: Graph, x: str, name: str, width: int, heads: int, gelu: Gelu, mask: Mask | None, *, output: str = ""
) -> str:
    """``norm(x + attention(x))``, then ``norm(x + feed_forward(x))``: [N, T, width] -> [N, T, width]."""
    x = g.op("Add", multi_head(g, x, f"{name}.attn", width, heads, mask), x)
    x = layers.layer_norm(g, x, f"{name}.norm1", width)
    x = g.op("Add", feed_forward(g, x, f"{name}.ffn", width, gelu), x)
    return layers.layer_norm(g, x, f"{name}.norm2", width, output=output)


def feed_forward(g: Graph, x: str, name: str, width: int, gelu: Gelu) -> str:
    """[..., width] -> [..., 4 * width] -> GELU -> [..., width]."""
    x = layers.project(g, x, f"{name}.up", width, 4 * width, gain=2.0)
    return layers.project(g, layers.GELU[gelu](g, x), f"{name}.down", 4 * width, width)
