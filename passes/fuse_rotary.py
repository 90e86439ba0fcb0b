"""fuse-rotary: x * cos + rotate_half(x) * sin -> RotaryEmbedding(x, cos, sin)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._attention_heads import Cost, cost_of, packed, total
from ._axes import Factors, Size, layout_of, same_size
from ._cone import orphans
from ._rearrange import Rearrangement, counted, rearrangement
from ._rotary import Rotary, Table, rotary_of

OPSET = 23
_ANCHORS = frozenset({"Add", "Concat", "Sub"})


@dataclass(frozen=True)
class _Fused:
    """A rotation as the operator takes it: x of rank 3 or 4, its result brought to y. ``heads``: their axis in y."""

    found: Rotary
    heads: int | None
    rank: int
    x: Rearrangement
    y: Rearrangement
    cost: Cost


class FuseRotary(SitePass):
    """Recover rotary position embedding from primitives.

    x * cos + Concat(-b, a) * sin, Concat(a * cos - b * sin, b * cos + a * sin)  ->  RotaryEmbedding(x, cos, sin)

    a and b are the halves of the last axis, or (interleaved) its even and odd numbers, however they are cut and joined;
    numbers of the axis that are joined to it as they were make the rotation partial. Tables of cosines and sines that
    hold every number twice are made again with half of them.
    Shapes: x [B, N, S, H] or [B, S, N, H], rotated packed as [B, S, N * H] where that moves less, or [B, S, H]; tables
    [S, H] or [B, S, H], with an axis of 1 for the heads. onnxruntime on CPU takes 0.31 to 0.66 of the time of the
    primitives (one thread, AVX2; heads x size 4 x 64, 32 x 128; sequence 1 to 512).
    Numerics: exact to rounding. Needs opset 23.
    Source: Su et al. 2021 (RoFormer), eq. 34; ONNX RotaryEmbedding-23.
    """

    name: ClassVar[str] = "fuse-rotary"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.op_type in _ANCHORS and node.domain == "" and node.graph is not None:
                found = rotary_of(node)
                if found is not None:
                    yield Site(node, module, ctx, found if isinstance(found, str) else _fused(found))

    def check(self, site: Site) -> str | None:
        if isinstance(site.data, str):
            return site.data
        dtype = site.data.found.y.dtype
        kinds = {} if dtype is None else {"T": dtype.name.lower()}
        support = site.ctx.target.support("RotaryEmbedding", "", OPSET, kinds)
        if support.verdict != "native":
            return support.reason
        opset = site.module.opset()
        return None if opset >= OPSET else f"needs opset {OPSET}, and the module has {opset}"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        fused: _Fused = site.data
        found = fused.found
        tables = [_laid_out(t, fused, rw) for t in (found.cos, found.sin)]
        heads = 1 if fused.heads is None else found.dims[fused.heads]
        made: Any = rw.op(
            "RotaryEmbedding",
            fused.x.emit(rw),
            *tables,
            num_heads=heads if fused.rank == 3 else None,
            interleaved=1 if found.interleaved else None,
            rotary_embedding_dim=found.width if found.width != found.dims[-1] else None,
        )
        rw.replace(found.y, fused.y.emit(rw, made))
        rw.erase(*orphans([found.y.producer()]))


def _fused(found: Rotary) -> _Fused | str:
    """Return a rotation as the operator takes it, or why it does not."""
    if len(found.dims) not in (3, 4):
        return "it is not of rank 3 or 4"
    heads = _heads(found)
    if heads == 0 or not all(_fits(t, found, heads) for t in (found.cos, found.sin)):
        return "the tables are not known to be those of the positions of a sequence"
    best: _Fused | None = None
    for rank in (3, 4):
        if rank == 3 and heads is not None and not isinstance(found.dims[heads], int):
            continue
        own = layout_of(found.dims)
        result = rearrangement(found.y, replace(own, source=_operand(own.axes, heads, rank)), own.axes)
        for source, layout, before in found.sources:
            x = rearrangement(source, layout, _operand(layout.axes, heads, rank))
            if x is None or result is None or not _has_batch(source, found):
                continue
            cost = total(x.cost, cost_of(before), result.cost)
            if best is None or cost < best.cost:
                best = _Fused(found, heads, rank, x, result, cost)
    return best or "it cannot be laid out in constant numbers"


def _has_batch(source: ir.Value, found: Rotary) -> bool:
    """Return whether the size of the batch is known, or can be read from a source, should a table be repeated."""
    return isinstance(found.dims[0], int) or found.dims[0] in ir.known_dims(source)


def _heads(found: Rotary) -> int | None:
    """Return the axis of the heads, along which the tables are the same; None without one, 0 where it is not clear."""
    if len(found.dims) == 3:
        return None
    return next((a for a in (1, 2) if all(_fits(t, found, a) for t in (found.cos, found.sin))), 0)


def _fits(table: Table, found: Rotary, heads: int | None) -> bool:
    """Return whether a table has an entry for each position and half of the width, and perhaps for each batch."""
    rank = len(found.dims)
    if len(table.dims) > rank:
        return False
    dims = (*(1,) * (rank - len(table.dims)), *table.dims)
    sequence = 1 if heads is None else 3 - heads
    alone = heads is None or dims[heads] == 1
    fits = dims[0] in (1, found.dims[0]) and same_size(dims[sequence], found.dims[sequence])
    return alone and fits and dims[-1] == found.width // 2


def _operand(axes: tuple[Factors, ...], heads: int | None, rank: int) -> tuple[Factors, ...]:
    """Return axes in the order of an operand of rank 3 or 4."""
    four = (axes[0], (), axes[1], axes[2]) if heads is None else (axes[0], axes[heads], axes[3 - heads], axes[3])
    return packed(four) if rank == 3 else four


def _laid_out(table: Table, fused: _Fused, rw: Rewriter) -> ir.Value:
    """Return a table as [batch, sequence, width / 2]."""
    made, rank, dims = table.make(rw), len(table.dims), fused.found.dims
    at = None if fused.heads is None else fused.heads - len(dims) + rank
    if at is not None and (at > 0 or rank > 3):  # an axis of 1 that comes first is as good for the batch
        made, rank = rw.op("Squeeze", made, np.asarray([at], np.int64)), rank - 1
    if rank < 3:
        made = rw.op("Unsqueeze", made, np.asarray(list(range(3 - rank)), np.int64))
    if (ir.dims_of(made) or (1,))[0] == dims[0]:
        return made
    return _expanded(made, fused, dims[0], rw)


def _expanded(table: ir.Value, fused: _Fused, batch: Size, rw: Rewriter) -> ir.Value:
    """Repeat a table over the batch."""
    ones = np.ones(2, np.int64)
    if isinstance(batch, int):
        wide: ir.Value = rw.op("Expand", table, np.concatenate([[batch], ones]))
        return wide
    shape = rw.op("Concat", counted(batch, fused.x.source, rw), ones, axis=0)
    wide = rw.op("Expand", table, shape)
    return wide
