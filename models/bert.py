"""BERT encoder (Devlin et al. 2018), as Hugging Face's exports look."""

from __future__ import annotations

import numpy as np
import onnx

from . import layers
from .attention import LOWEST, Mask, token_limit
from .graph import Dim, Graph
from .transformer import post_norm_block


def bert(
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
    """input_ids, attention_mask (1 = visible), token_type_ids (0, 1) -> last_hidden_state, pooler_output.

    Inputs are int64 [batch, tokens] with at most ``max_tokens`` tokens; the outputs are float32 [batch, tokens, width]
    and [batch, width] (the first token through a dense layer and tanh).
    """
    if depth < 1:
        raise ValueError(f"depth must be at least 1, got {depth}")
    g = Graph("bert", opset=opset, seed=seed)
    ids, visible, segments = (
        g.input(name, [batch, tokens], np.int64) for name in ("input_ids", "attention_mask", "token_type_ids")
    )
    mask = _padding_mask(g, visible)
    x = _embed(g, ids, segments, vocabulary, width, token_limit(tokens, max_tokens))
    for i in range(depth):
        output = "last_hidden_state" if i == depth - 1 else ""
        x = post_norm_block(g, x, f"encoder.layer.{i}", width, heads, "erf", mask, output=output)
    first = g.op("Gather", x, g.constant(np.array(0, np.int64)), axis=1)
    g.op("Tanh", layers.gemm(g, first, "pooler.dense", width, width, gain=1.0), output="pooler_output")
    g.output("last_hidden_state", [batch, tokens, width])
    g.output("pooler_output", [batch, width])
    return g.model()


def _embed(g: Graph, ids: str, segments: str, vocabulary: int, width: int, max_tokens: int) -> str:
    """Words + segments + positions, normalized: two of [N, T] -> [N, T, width]."""
    positions = g.weight("embeddings.position_ids", np.arange(max_tokens, dtype=np.int64)[None])
    positions = g.op("Slice", positions, g.ints(0), g.vector(g.dim(ids, 1)), g.ints(1), g.ints(1))
    word = g.op("Gather", g.normal("embeddings.word.weight", (vocabulary, width), 0.5), ids)
    segment = g.op("Gather", g.normal("embeddings.token_type.weight", (2, width), 0.5), segments)
    position = g.op("Gather", g.normal("embeddings.position.weight", (max_tokens, width), 0.5), positions)
    total = g.op("Add", g.op("Add", word, segment), position)
    return layers.layer_norm(g, total, "embeddings.norm", width)


def _padding_mask(g: Graph, visible: str) -> Mask:
    """[N, T] of 0 and 1 -> an addend [N, 1, 1, T] of the lowest float and 0, computed once for all layers."""
    extended = g.op("Unsqueeze", g.op("Unsqueeze", visible, g.ints(1)), g.ints(2))
    hidden = g.op("Sub", g.scalar(1.0), g.op("Cast", extended, to=onnx.TensorProto.FLOAT))
    addend = g.op("Mul", hidden, g.constant(LOWEST))
    return lambda g, scores: g.op("Add", scores, addend)
