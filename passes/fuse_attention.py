"""fuse-attention: MatMul(Softmax(MatMul(q, k^T) * scale + mask), v) and its heads -> Attention(q, k, v, mask)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._attention import is_attention_end
from ._attention_mask import MaskWriter
from ._attention_plan import ACCEPTS, Fused, fused
from ._cone import orphans
from ._raised import Raiser
from ._views import full_dims

OPSET = 23


class FuseAttention(SitePass):
    """Fuse scaled dot product attention over several heads, with the splitting into heads and back.

    merge(softmax(scale * heads(q) heads(k)^T + mask) heads(v))  ->  Attention(q, k, v, mask)

    Queries, keys and values are found behind any chain of Reshape, Transpose, Expand and their kind: packed
    [batch, sequence, heads * size], in heads [batch, heads, sequence, size], or with batch and heads in one axis; keys
    and values that are repeated for groups of queries go without the repetition, and what joins them to those of
    earlier steps becomes the past. The scale is a positive scalar that multiplies or divides scores, queries or keys;
    scores may be bounded by c * tanh(scores / c).
    Masks are added, or choose scores by a condition; a causal one becomes ``is_causal``, one of -inf a mask of bools,
    others are made to hold no lowest number, which the operator reads as masked (other targets than cpu: none below
    -1e30); their last axes are expanded. Shapes: sizes known, at least as symbols, none 0.
    Numerics: exact to rounding, for scores and biases below 1e9. Needs opset 23.
    Source: Vaswani et al. 2017, sec. 3.2; Ainslie et al. 2023 (grouped queries); ONNX Attention-23.
    """

    name: ClassVar[str] = "fuse-attention"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        accepts = ACCEPTS.get(ctx.target.name)
        for node in list(module.nodes()):
            if node.graph is not None and is_attention_end(node):
                found = fused(node, accepts) if accepts else f"nothing says that it pays on {ctx.target.name}"
                yield Site(node, module, ctx, found)

    def check(self, site: Site) -> str | None:
        if isinstance(site.data, str):
            return site.data
        plan: Fused = site.data
        kind = plan.found.q.dtype
        name = "unknown" if kind is None else kind.name.lower()
        kinds = {"T1": name, "T2": name, **({"U": "bool" if plan.masks.bools else name} if plan.masks.terms else {})}
        support = site.ctx.target.support("Attention", "", OPSET, kinds)
        if support.verdict != "native":
            return support.reason
        opset = site.module.opset()
        return None if opset >= OPSET else f"needs opset {OPSET}, and the module has {opset}"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        plan: Fused = site.data
        laid_out, sizes, past = plan.form, plan.sizes, plan.past or ()
        q, k, v = (part.emit(rw) for part in (laid_out.q, laid_out.k, laid_out.v))
        scale = plan.scale
        accepts = ACCEPTS[site.ctx.target.name]
        assert plan.found.q.dtype is not None
        if not accepts.scales and scale != 1.0:
            q, scale = rw.op("Mul", q, np.asarray(scale, plan.found.q.dtype.numpy())), 1.0
        counted = laid_out.q.source if sizes.queries in (full_dims(laid_out.q.source) or ()) else plan.found.q
        raiser = Raiser(accepts.floor, plan.masks.apart, rw)
        masked = MaskWriter(sizes, raiser, 2 if 3 in accepts.ranks else 4, rw).write(plan.masks, counted)
        heads: dict[str, Any] = {"q_num_heads": sizes.heads, "kv_num_heads": sizes.groups} if laid_out.rank == 3 else {}
        causal: dict[str, Any] = {"is_causal": 1} if plan.masks.causal else {}
        operands = [q, k, v, *((masked,) if masked is not None or past else ()), *(p.before for p in past)]
        made: Any = rw.op(
            "Attention", *operands, outputs=3 if past else 1, **heads, **causal, scale=scale, softcap=plan.found.cap
        )
        if past:
            made, *present = made
            for part, value in zip(past, present, strict=True):
                rw.replace(part.concat.outputs[0], value)
        rw.replace(laid_out.target, laid_out.result.emit(rw, made))
        rw.erase(*orphans([laid_out.target.producer(), *(p.concat for p in past)]))
