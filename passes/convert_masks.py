"""convert-masks: numbers in an attention mask that mask as well, and whose exponentials are no denormal numbers."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._operands import small_constant
from ._score_bound import score_bound

Array = np.ndarray[Any, Any]
# exp(-52) = 2.6e-23: nothing beside 1 in float32, and with scores of 17 either way above the smallest normal number.
FILL = -52.0
_LOW = -1e4
_LONGEST = 128  # 64 KiB of a causal mask
# Time of Attention with numbers that underflow over that with -52 in half of the mask (onnxruntime 1.31.1, one thread,
# AVX-512): (heads, sequence) (4, 64) 2.11, (12, 128) 2.15, (3, 197) 2.22. Exponentials of what is far below the range
# take a slow path; those in the range of denormal numbers make it 30 times slower.
_SLOW = frozenset({"cpu"})


class ConvertMasks(SitePass):
    """Replace the large negative numbers of a constant attention mask by -52, where bounded scores allow it.

    Attention(q, k, v, Where(c, 0, -1e30))  ->  Attention(q, k, v, Where(c, 0, -52))
    Attention<is_causal=1>(q, k, v)         ->  Attention(q, k, v, mask), for a sequence of at most 128

    The mask holds 0 and numbers up to -1e4, chosen by constants, and no row of it masks everything. With scores within
    +-r (proved from the weights, for q and k computed from a LayerNormalization), masked keys weigh at most
    T exp(2 r - 52) together: applied where that is below 2^-26, half a rounding error of float32, and where no
    exponential is denormal, 2 r < 34. Numerics: exact to rounding. Element type float32. T: number of keys.
    Source: ONNX Attention-23; Cauchy-Schwarz; recorded measurements.
    """

    name: ClassVar[str] = "convert-masks"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            masked = len(node.inputs) > 3 and node.inputs[3] is not None
            if node.op_type == "Attention" and node.domain == "" and (masked or _is_causal(node)):
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        node = site.anchor
        if site.ctx.target.name not in _SLOW:
            return f"nothing says that underflow is slow on {site.ctx.target.name}"
        if len(node.inputs) > 4 or node.attributes.get_float("softcap", 0.0) != 0:
            return "the attention has a past, or a softcap"
        if _is_causal(node) and len(node.inputs) > 3:
            return "the attention has a causal mask beside the other"
        mask = _triangle(node) if _is_causal(node) else _contents(node.inputs[3])
        return _mask_refusal(mask) or _scores_refusal(node, (0 if mask is None else mask.shape[-1]))

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        if _is_causal(site.anchor):
            causal = _triangle(site.anchor)
            assert causal is not None
            rw.set_input(site.anchor, 3, rw.const(_filled(causal)))
            rw.set_attributes(site.anchor, is_causal=None)
            return
        mask = site.anchor.inputs[3]
        assert mask is not None
        choice = mask.producer()
        if choice is None:
            array = small_constant(mask)
            assert array is not None
            made = rw.const(_filled(array))
        else:
            numbers = [small_constant(v) for v in choice.inputs[1:]]
            made = rw.op("Where", choice.inputs[0], *(_filled(a) for a in numbers if a is not None))
        rw.set_input(site.anchor, 3, made)
        rw.erase(*(() if choice is None else (choice,)))


def _is_causal(node: ir.Node) -> bool:
    return node.attributes.get_int("is_causal", 0) != 0


def _triangle(node: ir.Node) -> Array | None:
    """Return the causal mask of queries and keys of one known length, when that is short."""
    lengths = [(ir.dims_of(v) or (None,) * 2)[-2] for v in node.inputs[:2]]
    size = lengths[0]
    if lengths[0] != lengths[1] or not isinstance(size, int) or not 1 < size <= _LONGEST:
        return None
    return np.where(np.tri(size, dtype=bool), 0, _LOW).astype(np.float32)


def _contents(mask: ir.Value | None) -> Array | None:
    """Return the numbers in a mask: a small constant, or a Where of small constants."""
    node = None if mask is None else mask.producer()
    if node is None:
        return small_constant(mask)
    arrays = [small_constant(v) for v in node.inputs] if node.op_type == "Where" and node.domain == "" else [None]
    if any(a is None for a in arrays):
        return None
    chosen: Array = np.where(*[a for a in arrays if a is not None])
    return chosen


def _filled(array: Array) -> Array:
    return np.where(array <= _LOW, np.asarray(FILL, array.dtype), array)


def _mask_refusal(mask: Array | None) -> str | None:
    if mask is None or mask.dtype != np.float32:
        return "the mask is not known, or not in float32"
    low = mask <= _LOW
    if not np.all(low | (mask == 0)):
        return "the mask holds other numbers than 0 and -1e4 or less"
    if not low.any():
        return "the mask masks nothing"
    return "a row of the mask masks everything" if low.all(axis=-1).any() else None


def _scores_refusal(node: ir.Node, keys: int) -> str | None:
    q, k = node.inputs[:2]
    assert q is not None
    assert k is not None
    heads = node.attributes.get_int("q_num_heads", 0)
    if not heads or heads != node.attributes.get_int("kv_num_heads", 0):
        return "queries and keys are not packed with the same number of heads"
    width = (ir.dims_of(q) or (None,))[-1]
    if not isinstance(width, int) or width == 0 or width % heads:
        return "the size of the heads is not known"
    bound = score_bound(q, k, heads, node.attributes.get_float("scale", (heads / width) ** 0.5))
    if bound is None:
        return "no bound of the scores is known"
    limit = min(34.0, -FILL - 26 * log(2) - log(keys))
    return None if 2 * bound <= limit else f"the scores are only known to lie within +-{bound:.3g}"
