"""Multi-head self-attention (Vaswani et al. 2017), and its parts for the transformers."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import onnx

from . import layers
from .graph import Array, Dim, Graph

LOWEST = np.array(np.finfo(np.float32).min, np.float32)  # what a hidden score becomes
Mask = Callable[[Graph, str], str]


def self_attention(
    *,
    batch: Dim = "N",
    tokens: Dim = 16,
    width: int = 64,
    heads: int = 4,
    causal: bool = False,
    max_tokens: int = 128,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """x [batch, tokens, width] -> y [batch, tokens, width]; a causal one reads at most ``max_tokens`` tokens."""
    g = Graph("self_attention", opset=opset, seed=seed)
    x = g.input("x", [batch, tokens, width])
    mask = causal_mask(g, "attn.bias", token_limit(tokens, max_tokens)) if causal else None
    multi_head(g, x, "attn", width, heads, mask, output="y")
    g.output("y", [batch, tokens, width])
    return g.model()


def multi_head(g: Graph, x: str, name: str, width: int, heads: int, mask: Mask | None, *, output: str = "") -> str:
    """[N, T, width] -> [N, T, width] with one projection each for query, key, value and output."""
    query, key, value = (layers.project(g, x, f"{name}.{part}", width, width) for part in ("query", "key", "value"))
    context = attend(g, query, key, value, width, heads, mask)
    return layers.project(g, context, f"{name}.output", width, width, output=output)


def attend(g: Graph, query: str, key: str, value: str, width: int, heads: int, mask: Mask | None) -> str:
    """``softmax(mask(Q K^T / sqrt(width / heads))) V`` per head: three of [N, T, width] -> [N, T, width]."""
    if width % heads:
        raise ValueError(f"width {width} is not a multiple of {heads} heads")
    q = _split_heads(g, query, width, heads, [0, 2, 1, 3])
    k = _split_heads(g, key, width, heads, [0, 2, 3, 1])
    v = _split_heads(g, value, width, heads, [0, 2, 1, 3])
    scores = g.op("Div", g.op("MatMul", q, k), g.scalar(math.sqrt(width // heads)))
    if mask is not None:
        scores = mask(g, scores)
    context = g.op("Transpose", g.op("MatMul", g.op("Softmax", scores, axis=-1), v), perm=[0, 2, 1, 3])
    return g.reshape(context, g.dim(context, 0), g.dim(context, 1), width)


def causal_mask(g: Graph, name: str, longest: int) -> Mask:
    """Hide later tokens: a triangular buffer [1, 1, longest, longest], cut to the length at hand."""
    triangle = g.weight(name, lower_triangle(longest))

    def mask(g: Graph, scores: str) -> str:
        visible = triangle
        for axis in (2, 3):
            end = g.vector(g.dim(scores, axis))
            visible = g.op("Slice", visible, g.ints(0), end, g.ints(axis), g.ints(1))
        return g.op("Where", visible, scores, g.constant(LOWEST))

    return mask


def lower_triangle(size: int) -> Array:
    """[1, 1, size, size] bool: row may see column."""
    return np.tri(size, dtype=np.bool_)[None, None]


def token_limit(tokens: Dim, max_tokens: int) -> int:
    """Return ``max_tokens``; a fixed number of tokens beyond it is a ValueError."""
    if isinstance(tokens, int) and tokens > max_tokens:
        raise ValueError(f"tokens {tokens} is more than max_tokens {max_tokens}")
    return max_tokens


def _split_heads(g: Graph, x: str, width: int, heads: int, perm: list[int]) -> str:
    """[N, T, width] -> [N, T, heads, width / heads], then transposed."""
    return g.op("Transpose", g.reshape(x, g.dim(x, 0), g.dim(x, 1), heads, width // heads), perm=perm)
