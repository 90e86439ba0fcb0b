"""The masks of an attention as the operator takes them: causal, one of bools, or one of numbers that are added.

The operator takes a row that holds nothing but the lowest number (or -inf) for masked and gives 0, where Softmax gives
the mean (or NaN). So the lowest numbers of masks are raised, where they are made: to a floor that absorbs every score
below 1e22 and has the exponential 0 as well, or, when there may be several of them, closer together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.intervals import Intervals
from fcc.rewrite import Rewriter

from ._attention import LOW_HALF, Attention, Term, masks, producer
from ._attention_heads import Past, Sizes
from ._axes import Size, layouts, number, reshaped, same_size
from ._raised import Raiser, several
from ._rearrange import Rearrangement, counted, rearrangement
from ._triangle import Triangle, triangle
from ._views import full_dims

ABSORBING = -1e30
"""Beside it and below, a score is nothing."""
_NO_MASK = -1e6
"""What is added above it masks nothing."""


@dataclass(frozen=True)
class Masks:
    """``causal``: keys behind the query are masked. ``terms`` are the other masks, the last one first.

    ``bools``: they only choose, with -inf, so that the mask is one of bools.
    ``apart``: different numbers may mask, and have to stay different.
    """

    causal: bool
    terms: tuple[Term, ...]
    bools: bool
    apart: bool


@dataclass(frozen=True)
class Accepts:
    """What a target's Attention takes: ranks of operands, element types, a past, masks beside the causal one.

    ``zero_rows``: a row without keys is 0. ``scales``: it multiplies the scores itself, at no cost. ``cap``: it can
    bound them by a tanh. ``floor``: the lowest number of a mask that it does not read as masked.
    """

    ranks: tuple[int, ...]
    types: frozenset[ir.DataType]
    past: bool
    causal_alone: bool
    zero_rows: bool
    scales: bool
    cap: bool
    floor: float


def masks_of(found: Attention, sizes: Sizes, past: Past | None, accepts: Accepts) -> Masks | str:
    """Return the masks of an attention, or why the operator cannot take them."""
    terms = [t for term in found.terms if not _masks_nothing(t := _as_choice(term), sizes)]
    causal = [t for t in terms if _is_causal(t, sizes, past, found.q.dtype)]
    rest = tuple(t for t in terms if t not in causal)
    if rest and (accepts.causal_alone or not _go_together(causal, rest)):
        causal, rest = [], tuple(terms)
    reason = next((r for t in rest if (r := _refusal(t, rest, found, sizes)) is not None), None)
    if reason is not None:
        return reason
    bools = bool(rest) and all(t.keep is not None and t.fill == -inf for t in rest)
    if found.guard and not bools and any(_may_be_infinite(t) for t in rest):
        return "rows of NaN become 0, and it is not known which rows are"
    if not bools and found.q.dtype != ir.DataType.FLOAT and any(_may_be_lowest(t) for t in rest):
        return f"a mask in {found.q.dtype} may hold the lowest number, which Attention reads as masked"
    added, fills = [t.value for t in rest if t.keep is None], {t.fill for t in rest if t.keep is not None}
    return Masks(bool(causal), rest, bools, not bools and several(accepts.floor, added, fills))


def _as_choice(term: Term) -> Term:
    """Where(c, 0, -inf), added, chooses."""
    node = producer(term.value, "Where") if term.keep is None else None
    kept = (None, None) if node is None else (number(node.inputs[1]), number(node.inputs[2]))
    if node is None or node.inputs[0] is None or kept not in ((0.0, -inf), (-inf, 0.0)):
        return term
    return Term(node.inputs[0], term.rank, kept[0] == 0.0, -inf)


def _triangle(term: Term, sizes: Sizes) -> Triangle | None:
    """Return the triangle that a mask is, of queries by keys and broadcast to the other axes."""
    found, dims = triangle(term.value), ir.dims_of(term.value)
    if found is None or found.diagonal is None or (found.rows, found.columns) != (sizes.queries, sizes.keys):
        return None
    want: tuple[Size, ...] = (sizes.batch, sizes.heads) if term.rank == 4 else (sizes.batch * sizes.heads,)
    if dims is None or len(dims) > term.rank:
        return None
    return found if all(d in (1, w) for d, w in zip(reversed(dims[:-2]), reversed(want), strict=False)) else None


def _masks_nothing(term: Term, sizes: Sizes) -> bool:
    """Return whether no key lies behind the diagonal: the causal mask of one query after a past."""
    found = _triangle(term, sizes)
    if found is None or found.diagonal is None or not ir.at_least(found.diagonal - found.columns, -1):
        return False
    return bool(found.inside == 0) if term.keep is None else bool(found.inside) == term.keep


def _is_causal(term: Term, sizes: Sizes, past: Past | None, dtype: ir.DataType | None) -> bool:
    found = _triangle(term, sizes)
    if found is None:
        return False
    offset: Size = 0 if past is None else past.length
    if found.diagonal != offset or (past is None and sizes.queries != sizes.keys):
        return False
    if term.keep is None:
        return bool(found.inside == 0) and masks(float(found.outside), dtype)
    return bool(found.inside) == term.keep != bool(found.outside) and masks(term.fill, dtype)


def _may_be_infinite(term: Term) -> bool:
    """Return whether a mask may hold -inf: without it no row becomes NaN."""
    return (term.fill if term.keep is not None else Intervals().of(term.value).least) == -inf


def _may_be_lowest(term: Term) -> bool:
    """Return whether a mask of half precision, which cannot hold -1e30, may hold a number near its lowest."""
    return term.keep is not None or Intervals().of(term.value).least <= LOW_HALF


def _go_together(causal: list[Term], rest: tuple[Term, ...]) -> bool:
    """Return whether a row that both mask entirely is the same with one mask causal by attribute.

    There is none where the others do not mask; it is 0 or NaN where all of them do so with -inf.
    """
    if all(t.keep is None and Intervals().of(t.value).least >= _NO_MASK for t in rest):
        return True
    return all(_fill(t) == -inf for t in (*causal, *rest))


def _fill(term: Term) -> float:
    found = triangle(term.value) if term.keep is None else None
    return term.fill if term.keep is not None else 0.0 if found is None else float(found.outside)


def _refusal(term: Term, terms: tuple[Term, ...], found: Attention, sizes: Sizes) -> str | None:
    beside = any(t.keep is None and Intervals().of(t.value).least < _NO_MASK for t in terms)
    if term.keep is not None and not (term.fill <= ABSORBING if beside else masks(term.fill, found.q.dtype)):
        return f"a masked score is set to {term.fill:g}, which other scores may lie below"
    if term.keep is None and term.value.dtype != found.q.dtype:
        return "the mask has another element type than the queries"
    if not _broadcasts(_four(term, sizes), (sizes.batch, sizes.heads, sizes.queries, sizes.keys)):
        return "the mask is not known to broadcast to [batch, heads, queries, keys], and to nothing larger"
    return None


def _broadcasts(dims: tuple[Size, ...] | None, want: Sequence[Size]) -> bool:
    """Return whether a mask broadcasts to a shape, and its last axis can be expanded by a constant."""
    pairs = [] if dims is None else list(zip(reversed(dims), reversed(want), strict=False))
    fits = all(d == 1 or same_size(d, w) for d, w in pairs)
    return bool(pairs) and fits and (pairs[0][0] != 1 or isinstance(want[-1], int))


def _four(term: Term, sizes: Sizes) -> tuple[Size, ...] | None:
    """Return the shape of a mask beside [batch, heads, queries, keys], of rank 4 or less."""
    dims = full_dims(term.value)
    if dims is None or not 0 < len(dims) <= term.rank:
        return None
    if term.rank == 4 or len(dims) < 3 or dims[0] == 1:
        return dims
    target = (sizes.batch, sizes.heads, *dims[1:])
    return target if dims[0] == sizes.batch * sizes.heads and _split(term.value, target) is not None else None


def _split(value: ir.Value, target: tuple[Size, ...]) -> Rearrangement | None:
    """Return how to give batch and heads an axis each."""
    made = [
        rearrangement(source, laid, laid.axes)
        for source, layout, _ in layouts(value)
        if layout.scale == 1.0 and (laid := reshaped(layout, target)) is not None
    ]
    return min((m for m in made if m is not None), key=lambda m: m.cost, default=None)


# -- writing it ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class MaskWriter:
    """Writes the mask of an attention. ``raiser`` raises the lowest numbers; ``rank``: the least that it has."""

    sizes: Sizes
    raiser: Raiser
    rank: int
    rw: Rewriter

    def write(self, found: Masks, queries: ir.Value) -> ir.Value | None:
        """Return the operand, None when there is no mask; ``queries`` is a value that has their number as a size."""
        if not found.terms:
            return None
        made: ir.Value | None = None
        for term in reversed(found.terms):
            if found.bools:
                kept = self.laid_out(term)
                kept = kept if term.keep else self.rw.op("Not", kept)
                made = kept if made is None else self.rw.op("And", made, kept)
            elif term.keep is None:
                value = self.laid_out(term)
                made = value if made is None else self.rw.op("Add", made, value)
            else:
                made = self.chosen(made, term)
        assert made is not None
        return self.expanded(made, queries)

    def chosen(self, made: ir.Value | None, term: Term) -> ir.Value:
        """Return the mask where the term keeps it, and what masks elsewhere."""
        fill = -inf if term.fill == -inf else self.raiser.number(min(term.fill, ABSORBING))
        low, zero = (np.asarray(n, np.float32) for n in (fill, 0.0))
        kept = zero if made is None else made
        condition = self.laid_out(term)
        chosen: ir.Value = self.rw.op("Where", condition, *((kept, low) if term.keep else (low, kept)))
        return chosen

    def laid_out(self, term: Term) -> ir.Value:
        """Return a mask beside [batch, heads, queries, keys]; one that is added is raised."""
        target = _four(term, self.sizes)
        assert target is not None
        if target == full_dims(term.value):
            made = self.raiser.raised(term.value) if term.keep is None else term.value
            made.shape = made.shape if full_dims(made) is not None else term.value.shape
            return made
        moved = _split(term.value, target)
        assert moved is not None
        return moved.emit(self.rw, self.raiser.raised(moved.source) if term.keep is None else None)

    def expanded(self, value: ir.Value, queries: ir.Value) -> ir.Value:
        """Give the last two axes of a mask their full size."""
        dims, want = full_dims(value), (self.sizes.queries, self.sizes.keys)
        assert dims is not None
        target: list[Any] = [1] * max(self.rank - 2, len(dims) - 2, 0)
        target += [1 if same_size(d, w) else w for d, w in zip(((1, *dims)[-2:]), want, strict=True)]
        if len(dims) >= max(self.rank, 2) and target[-2:] == [1, 1]:
            return value
        shape: Any = np.asarray([0 if isinstance(d, ir.Dim) else d for d in target], np.int64)
        if isinstance(target[-2], ir.Dim):
            entry = counted(target[-2], queries, self.rw)
            parts: list[Any] = [*([shape[:-2]] if len(target) > 2 else []), entry, shape[-1:]]
            shape = self.rw.op("Concat", *parts, axis=0)
        wide: ir.Value = self.rw.op("Expand", value, shape)
        return wide
