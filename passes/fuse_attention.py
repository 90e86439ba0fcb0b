"""fuse-attention: MatMul(Softmax(MatMul(q, k^T) * scale + mask), v) and its heads -> Attention(q, k, v, mask)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._attention import Attention, attention_of
from ._operands import small_constant

OPSET = 23
# Time of Attention-23 over that of the primitives with their Transposes, batch 1, heads of 64, onnxruntime 1.31.1, one
# thread, AVX-512: (heads, sequence) -> ratio. (4, 16) 0.59, (4, 64) 0.67, masked 0.82, (3, 197) 0.85, (12, 128) masked
# 0.86, (8, 512) 0.93; batch 8 (4, 64) 0.68; one query over keys (4, 64) 0.52, (12, 256) 0.40. On 4-D operands, with
# the Transposes left outside, only 0.94 to 0.99: not made. com.microsoft MultiHeadAttention: 0.83 to 1.01. Not measured
# elsewhere, and above opset 21 the CUDA provider loses kernels.
PAYS = frozenset({"cpu"})
# Attention takes a row that holds nothing but the lowest number for masked and gives 0, where Softmax gives the mean.
# This number masks as well: it absorbs every score below 1e22, and its exponential is 0.
_MASKED = -1e30
_RAISED = "fcc.raised"  # on a constant mask: the value that took its place, so that all layers share one


@dataclass(frozen=True)
class FuseAttention(SitePass):
    """Fuse scaled dot product attention over several heads, with the splitting into heads and back.

    merge(softmax(scale * heads(q) heads(k)^T + mask) heads(v))  ->  Attention(q, k, v, mask)

    heads(x) = Transpose(Reshape(x, [batch, sequence, heads, size]), [0, 2, 1, 3]), merge its inverse. The scale is a
    Mul or Div by a positive scalar of the scores, the queries or the keys; self and cross attention.
    Shapes: q [B, S, N * H], k [B, T, N * H], v [B, T, N * V]; mask of rank 2 to 4, the last axes [S, T] (an axis of
    size 1 is expanded when it is static), the leading ones 1, or B and N. A mask is a constant, or chosen by a Where of
    constants: it must not hold the lowest number, which Attention reads as "masked" (it is replaced by -1e30).
    Numerics: exact to rounding, for scores below 1e22. Needs opset 23.
    Source: Vaswani et al. 2017, sec. 3.2; ONNX Attention-23.
    """

    name: ClassVar[str] = "fuse-attention"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.graph is not None and is_attention_end(node):
                yield Site(node, module, ctx, attention_of(node))

    def check(self, site: Site) -> str | None:
        reason = refusal(site)
        if reason is None and site.module.opset() < OPSET:
            return f"Attention needs opset {OPSET}, the model has {site.module.opset()}"
        return reason

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: Attention = site.data
        mask = () if found.mask is None else (_expanded(found, _mask(found.mask, rw) or found.mask, rw),)
        made = rw.op(
            "Attention",
            found.q.packed,
            found.k.packed,
            found.v.packed,
            *mask,
            q_num_heads=found.q.heads,
            kv_num_heads=found.k.heads,
            scale=found.scale,
        )
        if not _is_packed(found):
            made = rw.op("Reshape", made, found.merge.inputs[1], allowzero=found.merge.attributes.get("allowzero"))
        rw.replace(found.output, made)
        choice = None if found.mask is None else _choice(found.mask)
        rw.erase(*found.nodes, *(() if choice is None else (choice,)))


def is_attention_end(node: ir.Node) -> bool:
    """Return whether a node multiplies a Softmax with something."""
    if node.op_type != "MatMul" or node.domain != "" or node.inputs[0] is None:
        return False
    left = node.inputs[0].producer()
    return left is not None and left.op_type == "Softmax" and left.domain == ""


def refusal(site: Site) -> str | None:
    """Return why an attention cannot be fused, whatever the opset of the module is."""
    found = site.data
    if isinstance(found, str):
        return found
    if site.ctx.target.name not in PAYS:
        return f"nothing says that it pays on {site.ctx.target.name}, where opset {OPSET} costs kernels"
    return _escapes(found) or _shape_refusal(found) or _mask_refusal(found) or _kernel_refusal(found, site.ctx)


def _escapes(found: Attention) -> str | None:
    """Whatever is shared stays, and so would the work: only Transposes and Reshapes of operands may be."""
    graph = found.output.producer().graph  # type: ignore[union-attr]
    own = set(found.nodes)
    for node in found.nodes:
        if node.graph is not graph:
            return "it reaches over the border of a nested graph"
        value = node.outputs[0]
        if value is not found.output and (value.is_graph_output() or any(u.node not in own for u in value.uses())):
            return f"{value.name!r} has other users"
    return None


def _shape_refusal(found: Attention) -> str | None:
    q, k, v = found.q, found.k, found.v
    a, b, c = (ir.dims_of(x) or () for x in (q.packed, k.packed, v.packed))
    if (q.heads, q.size) != (k.heads, k.size) or v.heads != q.heads:
        return "queries, keys and values differ in heads"
    if a[0] != b[0] or b[:2] != c[:2]:
        return "queries, keys and values are not known to have one batch and one sequence"
    if not _is_packed(found) and not _reads_elements(found.merge):
        return "the Reshape behind it copies a size of the heads"
    with np.errstate(over="ignore", under="ignore"):
        scale = np.float32(found.scale)
    return None if 0 < scale < np.inf else "the scale is not positive, or no number of float32"


def _is_packed(found: Attention) -> bool:
    """Return whether the result is [batch, sequence, heads * size]."""
    return ir.dims_of(found.output) == ((*(ir.dims_of(found.q.packed) or ())[:2], found.v.heads * found.v.size))


def _reads_elements(reshape: ir.Node) -> bool:
    """Return whether a Reshape of [a, b, c, d] does the same to [a, b, c * d]: it copies no size but a and b."""
    target = shapes.elements(reshape.inputs[1])
    return target is not None and (
        bool(reshape.attributes.get_int("allowzero", 0)) or all(t != 0 for t in target.reshape(-1)[2:].tolist())
    )


def _kernel_refusal(found: Attention, ctx: PassContext) -> str | None:
    dtype = found.q.packed.dtype
    if dtype != ir.DataType.FLOAT:
        return f"not measured for {dtype}"
    kinds = {"T1": "float", "T2": "float"} | ({} if found.mask is None else {"U": "float"})
    return ctx.target.refusal("Attention", "", OPSET, kinds)


# -- the mask ------------------------------------------------------------------------------------------------------
def _mask_refusal(found: Attention) -> str | None:
    if found.mask is None:
        return None
    dims, want = ir.dims_of(found.mask), _wanted(found)
    if dims is None or not 1 < len(dims) <= 4:
        return "the mask is not of rank 2 to 4"
    for i, (d, w) in enumerate(zip(reversed(dims), reversed(want), strict=False)):
        if d != w and (d != 1 or (i < 2 and not isinstance(w, int))):
            return "the mask is not known to broadcast to [batch, heads, sequence, sequence], and to nothing larger"
    if ir.Module.is_constant(found.mask) or _choice(found.mask) is not None:
        return None
    return "the mask is computed and may hold the lowest number, which Attention reads as masked"


def _wanted(found: Attention) -> tuple[Any, ...]:
    q, k = ir.dims_of(found.q.packed) or (), ir.dims_of(found.k.packed) or ()
    return q[0], found.q.heads, q[1], k[1]


def _choice(mask: ir.Value) -> ir.Node | None:
    """Return the Where of two small constants that gives a mask."""
    node = mask.producer()
    if node is None or node.op_type != "Where" or node.domain != "":
        return None
    return node if all(small_constant(v) is not None for v in node.inputs[1:]) else None


def _mask(mask: ir.Value, rw: Rewriter) -> ir.Value | None:
    """Return the mask without the lowest number, None when it holds none."""
    node = _choice(mask)
    if node is not None:
        arrays = [small_constant(v) for v in node.inputs[1:]]
        if not any(_has_lowest(a) for a in arrays if a is not None):
            return None
        chosen: ir.Value = rw.op("Where", node.inputs[0], *(_raised(a) for a in arrays if a is not None))
        return chosen
    array, tensor = ir.Module.constant(mask), mask.const_value
    if array is None or tensor is None or not _has_lowest(array):
        return None
    before: object = mask.meta.get(_RAISED)
    if isinstance(before, ir.Value) and before.graph is mask.graph and ir.Module.is_constant(before):
        return before
    raised = rw.lazy(lambda: _raised(tensor.numpy()), like=mask)
    mask.meta[_RAISED] = raised
    return raised


def _has_lowest(array: np.ndarray[Any, Any]) -> bool:
    return bool(np.any(array == np.finfo(array.dtype).min))


def _raised(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(array == np.finfo(array.dtype).min, np.asarray(_MASKED, array.dtype), array)


def _expanded(found: Attention, mask: ir.Value, rw: Rewriter) -> ir.Value:
    """Give the last two axes of a mask their full size."""
    dims, want = ir.dims_of(mask) or (), _wanted(found)
    if dims[-2:] == want[-2:]:
        return mask
    target = [1] * (len(dims) - 2) + [w if d != w else 1 for d, w in zip(dims[-2:], want[-2:], strict=True)]
    wide: ir.Value = rw.op("Expand", mask, np.array(target, np.int64))
    return wide
