"""GPT-2 decoder (Radford et al. 2019), as Hugging Face's exports look; without a cache of keys and values."""

from __future__ import annotations

import numpy as np
import onnx

from . import layers
from .attention import Mask, attend, causal_mask, token_limit
from .graph import Dim, Graph


def gpt(
    *,
    batch: Dim = "N",
    tokens: Dim = "T",
    vocabulary: int = 100,
    width: int = 64,
    heads: int = 4,
    depth: int = 2,
    max_tokens: int = 64,
    seed: int = 0,
    opset: int = 17,
) -> onnx.ModelProto:
    """input_ids int64 [batch, tokens], at most ``max_tokens`` -> logits [batch, tokens, vocabulary].

    The head is the transposed token embedding (tied weights): one initializer, read by a Gather and by a Transpose.
    """
    g = Graph("gpt", opset=opset, seed=seed)
    ids = g.input("input_ids", [batch, tokens], np.int64)
    embedding = g.normal("wte.weight", (vocabulary, width), 0.5)
    start, step = (g.constant(np.array(n, np.int64)) for n in (0, 1))
    positions = g.op("Unsqueeze", g.op("Range", start, g.dim(ids, 1), step), g.ints(0))
    position = g.op("Gather", g.normal("wpe.weight", (max_tokens, width), 0.5), positions)
    x = g.op("Add", g.op("Gather", embedding, ids), position)
    mask = causal_mask(g, "attn.bias", token_limit(tokens, max_tokens))
    for i in range(depth):
        x = _block(g, x, f"h.{i}", width, heads, mask)
    x = layers.layer_norm(g, x, "ln_f", width)
    g.op("MatMul", x, g.op("Transpose", embedding, perm=[1, 0]), output="logits")
    g.output("logits", [batch, tokens, vocabulary])
    return g.model()


def _block(g: Graph, x: str, name: str, width: int, heads: int, mask: Mask) -> str:
    """A pre-norm block with one projection for query, key and value: [N, T, width] -> [N, T, width]."""
    qkv = _conv1d(g, layers.layer_norm(g, x, f"{name}.ln_1", width), f"{name}.attn.c_attn", width, 3 * width)
    query, key, value = g.split(qkv, [width] * 3, axis=2)
    context = attend(g, query, key, value, width, heads, mask)
    x = g.op("Add", _conv1d(g, context, f"{name}.attn.c_proj", width, width), x)
    up = _conv1d(g, layers.layer_norm(g, x, f"{name}.ln_2", width), f"{name}.mlp.c_fc", width, 4 * width)
    return g.op("Add", x, _conv1d(g, layers.gelu_tanh(g, up), f"{name}.mlp.c_proj", 4 * width, width))


def _conv1d(g: Graph, x: str, name: str, inputs: int, outputs: int) -> str:
    """GPT-2's linear layer, ``x.view(-1, inputs) @ W + b`` viewed back: [N, T, inputs] -> [N, T, outputs]."""
    leading = g.dim(x, 0), g.dim(x, 1)
    weight = g.he(f"{name}.weight", (inputs, outputs), inputs, gain=1.0)
    flat = g.op("Gemm", g.reshape(x, -1, inputs), weight, g.normal(f"{name}.bias", (outputs,), 0.1))
    return g.reshape(flat, *leading, outputs)
