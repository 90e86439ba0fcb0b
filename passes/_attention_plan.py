"""What a target's Attention takes, and an attention written in primitives brought into that form."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from fcc import ir

from ._attention import Attention, attention_of
from ._attention_heads import Form, Past, Sizes, form, pasts, sizes_of
from ._attention_mask import Accepts, Masks, masks_of
from ._cone import orphans

_ABOVE_LOWEST = float(np.nextafter(np.finfo(np.float32).min, np.float32(0)))
_FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16})

# onnxruntime 1.32, one thread, AVX2, time over that of the primitives: (heads, queries, keys), batch 1, no mask, float
# mask, causal, keys in heads / 4 groups, of rank 3 (nothing is transposed) and of rank 4:
# (4, 1, 256) 0.40 0.39 0.38 0.47 / 0.96 0.92 0.91 0.62, (4, 16, 16) 0.59 0.60 0.60 0.56 / 0.94 0.93 0.94 0.82,
# (12, 64, 64) 0.76 0.76 0.75 0.77 / 0.98 0.98 0.98 0.93, (12, 197, 197) 0.91 0.89 0.85 0.92 / 1.00 0.95 0.98 0.99,
# (12, 512, 512) 0.93 0.88 0.88 0.92 / 1.01 0.94 0.94 0.96; batch 8 (4, 16, 16) 0.63 0.62 0.62 0.61 / 1.06 1.03 1.04
# 0.92, (4, 197, 197) 0.95 0.92 0.87 0.93 / 1.06 1.00 0.97 0.99. Not measured elsewhere. CUDA has a flash kernel for
# half precision without a mask; TensorRT's parser takes operands of rank 4 and multiplies both by the square root of
# the scale, so that the queries are scaled outside, where their weights can be.
ACCEPTS: Mapping[str, Accepts] = MappingProxyType(
    {
        "cpu": Accepts((3, 4), frozenset({ir.DataType.FLOAT}), True, False, True, True, True, _ABOVE_LOWEST),
        "cuda": Accepts((3, 4), _FLOATS, True, False, False, True, False, -1e30),
        "tensorrt": Accepts((4,), _FLOATS, False, True, False, False, False, -1e30),
    }
)


@dataclass(frozen=True)
class Fused:
    """An attention as the operator takes it."""

    found: Attention
    sizes: Sizes
    masks: Masks
    form: Form
    past: tuple[Past, Past] | None

    @property
    def scale(self) -> float:
        """What multiplies the scores, before they are bounded."""
        cap = 1.0 if self.found.cap is None else self.found.cap
        return self.found.scale * self.form.q.scale * self.form.k.scale * cap


def fused(last: ir.Node, accepts: Accepts) -> Fused | str:
    """Return the attention that ends in a product as a target takes it, or why it does not."""
    found = attention_of(last)
    sizes = found if isinstance(found, str) else sizes_of(found)
    if isinstance(found, str) or isinstance(sizes, str):
        return str(sizes)
    reason = _escapes(found)
    if reason is not None:
        return reason
    if found.q.dtype not in accepts.types:
        return f"not measured for {found.q.dtype}"
    if found.cap is not None and not accepts.cap:
        return "the scores are bounded by a tanh"
    past = pasts(found, sizes) if accepts.past else None
    made = None if past is None else _with(found, sizes, past, accepts)
    return made if isinstance(made, Fused) and _present_may_wait(made) else _with(found, sizes, None, accepts)


def _with(found: Attention, sizes: Sizes, past: tuple[Past, Past] | None, accepts: Accepts) -> Fused | str:
    masks = masks_of(found, sizes, None if past is None else past[0], accepts)
    if isinstance(masks, str):
        return masks
    if found.guard and masks.bools and not accepts.zero_rows:
        return "a row without keys is 0, and is not known to be so in Attention"
    forms = [f for rank in accepts.ranks if (f := form(found, sizes, rank, past)) is not None]
    if not forms:
        return "its operands cannot be laid out in constant numbers"
    made = Fused(found, sizes, masks, min(forms, key=lambda f: f.cost), past)
    with np.errstate(over="ignore", under="ignore"):
        scale = np.float32(made.scale)
    return made if 0 < scale < np.inf else "the scale is not positive, or no number of float32"


def _escapes(found: Attention) -> str | None:
    """Whatever else uses a value between would need it computed."""
    graph, own = found.nodes[0].graph, set(found.nodes)
    for node in found.nodes:
        if node.graph is not graph:
            return "it reaches over the border of a nested graph"
        value = node.outputs[0]
        if value is not found.output and (value.is_graph_output() or any(u.node not in own for u in value.uses())):
            return f"{value.name!r} has other users"
    return None


def _present_may_wait(made: Fused) -> bool:
    """Return whether nothing that stays reads the joined keys and values, which the operator gives out itself."""
    concats = [p.concat for p in made.past or ()]
    read = [t.value for t in made.masks.terms] + [p.source for p in (made.form.q, made.form.k, made.form.v)]
    gone = set(orphans([made.form.target.producer(), *concats], read))
    return all(u.node in gone for c in concats for u in c.outputs[0].uses())
