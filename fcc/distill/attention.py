"""The torch form of Attention (ONNX opset 23)."""

from __future__ import annotations

import math

import torch

from .call import Call, NoForm, Table, Tensor


def _attention(c: Call) -> tuple[Tensor, ...]:
    c.only(softcap=(0.0,))
    c.without(nonpad_kv_seqlen=6)
    if c.results > 3:
        raise NoForm("Attention with the products of queries and keys")
    flat, heads, groups = c[0].ndim == 3, c.get("q_num_heads"), c.get("kv_num_heads")
    q = _by_head(c[0], heads) if flat else c[0]
    k, v = (_by_head(c[i], groups) if flat else c[i] for i in (1, 2))
    if c[4] is not None:
        k, v = torch.cat([c[4], k], 2), torch.cat([c[5], v], 2)
    present = (k, v)
    share = q.shape[1] // k.shape[1]
    k, v = (t.repeat_interleave(share, 1) if share > 1 else t for t in (k, v))
    scale = c.get("scale") or 1 / math.sqrt(q.shape[-1])
    scores = (q * scale) @ k.transpose(2, 3)
    if c.get("is_causal", 0):
        if c[4] is not None:
            raise NoForm("Attention that is causal over past keys")
        seen = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
        scores = scores.masked_fill(~seen, -math.inf)
    if c[3] is not None:
        scores = scores.masked_fill(~c[3], -math.inf) if c[3].dtype == torch.bool else scores + c[3]
    y = torch.softmax(scores, -1) @ v
    y = y.transpose(1, 2).flatten(2) if flat else y
    return (y, *present)


def _by_head(x: Tensor, heads: int) -> Tensor:
    return x.reshape(*x.shape[:2], heads, -1).transpose(1, 2)


TABLE: Table = {"Attention": _attention}
