"""The masks of an attention as the operator takes them: causal, one of bools, or one of numbers that are added.

The operator takes a row that holds nothing but the lowest number (or -inf) for masked and gives 0, where Softmax gives
the mean (or NaN). So masks of numbers are made to hold nothing below -1e30, which absorbs every score below 1e22 and
has the exponential 0 as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import Any

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

from ._attention import LOW_HALF, Attention, Term, masks, producer
from ._attention_heads import Past, Sizes
from ._axes import Size, number, same_size
from ._float_bounds import float_bounds
from ._operands import small_constant
from ._rearrange import counted, entries
from ._triangle import triangle
from ._views import full_dims

Array = np.ndarray[Any, Any]
MASKED = -1e30
_RAISED = "fcc.raised"  # on a constant: the value that took its place, so that all layers share one
_MOVES = frozenset({"Expand", "Reshape", "Squeeze", "Transpose", "Unsqueeze"})
_INTEGRAL = frozenset({"Add", "Sub", "Mul", "Neg", *_MOVES})
_NO_MASK = -1e6
"""What is added above it masks nothing."""


@dataclass(frozen=True)
class Masks:
    """``causal``: keys behind the query are masked. ``terms`` are the other masks, the last one first.

    ``bools``: they only choose, with -inf, so that the mask is one of bools.
    """

    causal: bool
    terms: tuple[Term, ...]
    bools: bool


def masks_of(found: Attention, sizes: Sizes, past: Past | None, causal_alone: bool) -> Masks | str:
    """Return the masks of an attention, or why the operator cannot take them.

    ``causal_alone``: the operator takes no other mask beside the causal one.
    """
    terms = [_as_choice(t) for t in found.terms]
    causal = [t for t in terms if _is_causal(t, sizes, past, found.q.dtype)]
    rest = tuple(t for t in terms if t not in causal)
    if rest and (causal_alone or not _go_together(causal, rest)):
        causal, rest = [], tuple(terms)
    reason = next((r for t in rest if (r := _refusal(t, rest, found, sizes)) is not None), None)
    if reason is not None:
        return reason
    bools = bool(rest) and all(t.keep is not None and t.fill == -inf for t in rest)
    if found.guard and not bools and any(_may_be_infinite(t) for t in rest):
        return "rows of NaN become 0, and it is not known which rows are"
    if not bools and found.q.dtype != ir.DataType.FLOAT and any(_may_be_lowest(t) for t in rest):
        return f"a mask in {found.q.dtype} may hold the lowest number, which Attention reads as masked"
    return Masks(bool(causal), rest, bools)


def _as_choice(term: Term) -> Term:
    """Where(c, 0, -inf), added, chooses."""
    node = producer(term.value, "Where") if term.keep is None else None
    kept = (None, None) if node is None else (number(node.inputs[1]), number(node.inputs[2]))
    if node is None or node.inputs[0] is None or kept not in ((0.0, -inf), (-inf, 0.0)):
        return term
    return Term(node.inputs[0], term.rank, kept[0] == 0.0, -inf)


def _is_causal(term: Term, sizes: Sizes, past: Past | None, dtype: ir.DataType | None) -> bool:
    found = triangle(term.value)
    if found is None or found.diagonal is None or (found.rows, found.columns) != (sizes.queries, sizes.keys):
        return False
    offset: Size = 0 if past is None else past.length
    if found.diagonal != offset or (past is None and sizes.queries != sizes.keys):
        return False
    if term.keep is None:
        return bool(found.inside == 0) and masks(float(found.outside), dtype)
    return bool(found.inside) == term.keep != bool(found.outside) and masks(term.fill, dtype)


def _may_be_infinite(term: Term) -> bool:
    """Return whether a mask may hold -inf: without it no row becomes NaN."""
    return (term.fill if term.keep is not None else float_bounds(term.value)[0]) == -inf


def _may_be_lowest(term: Term) -> bool:
    """Return whether a mask of half precision, which cannot hold -1e30, may hold a number near its lowest."""
    return term.keep is not None or float_bounds(term.value)[0] <= LOW_HALF


def _go_together(causal: list[Term], rest: tuple[Term, ...]) -> bool:
    """Return whether a row that both mask entirely is the same with one mask causal by attribute.

    There is none where the others do not mask; it is 0 or NaN where all of them do so with -inf.
    """
    if all(t.keep is None and float_bounds(t.value)[0] >= _NO_MASK for t in rest):
        return True
    return all(_fill(t) == -inf for t in (*causal, *rest))


def _fill(term: Term) -> float:
    found = triangle(term.value) if term.keep is None else None
    return term.fill if term.keep is not None else 0.0 if found is None else float(found.outside)


def _refusal(term: Term, terms: tuple[Term, ...], found: Attention, sizes: Sizes) -> str | None:
    beside = any(t.keep is None and float_bounds(t.value)[0] < _NO_MASK for t in terms)
    if term.keep is not None and not (term.fill <= MASKED if beside else masks(term.fill, found.q.dtype)):
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
    if dims[0] != sizes.batch * sizes.heads:
        return None
    target = (sizes.batch, sizes.heads, *dims[1:])
    return target if entries(dims, target) is not None else None


# -- writing it ------------------------------------------------------------------------------------------------------
def mask(found: Masks, sizes: Sizes, queries: ir.Value, rank: int, rw: Rewriter) -> ir.Value | None:
    """Return the mask operand, None when there is none; ``queries`` is a value that has their number as a size.

    ``rank``: that of the queries; a mask has at least rank 4 beside queries of rank 4, else 2.
    """
    if not found.terms:
        return None
    made: ir.Value | None = None
    for term in reversed(found.terms):
        if found.bools:
            kept = _laid_out(term.value, term, sizes, rw)
            kept = kept if term.keep else rw.op("Not", kept)
            made = kept if made is None else rw.op("And", made, kept)
        elif term.keep is None:
            value = _laid_out(_raised(term.value, rw), term, sizes, rw)
            made = value if made is None else rw.op("Add", made, value)
        else:
            made = _chosen(made, term, sizes, rw)
    assert made is not None
    return _expanded(made, sizes, queries, 4 if rank == 4 else 2, rw)


def _chosen(made: ir.Value | None, term: Term, sizes: Sizes, rw: Rewriter) -> ir.Value:
    """Return the mask where the term keeps it, and what masks elsewhere."""
    low, zero = (np.asarray(n, np.float32) for n in (-inf if term.fill == -inf else MASKED, 0.0))
    kept = zero if made is None else made
    condition = _laid_out(term.value, term, sizes, rw)
    chosen: ir.Value = rw.op("Where", condition, *((kept, low) if term.keep else (low, kept)))
    return chosen


def _laid_out(value: ir.Value, term: Term, sizes: Sizes, rw: Rewriter) -> ir.Value:
    before, after = full_dims(term.value), _four(term, sizes)
    assert before is not None
    assert after is not None
    if before == after:
        return value
    made: ir.Value = rw.op("Reshape", value, np.asarray(entries(before, after), np.int64))
    return made


def _raised(value: ir.Value, rw: Rewriter) -> ir.Value:
    """Return the numbers of a mask, none of them below -1e30."""
    if ir.Module.is_constant(value):
        return _raised_constant(value, rw)
    if float_bounds(value)[0] >= -1e37:
        return value
    node = producer(value, "Where", "Add", "Mul", *_MOVES)
    made: ir.Value
    if node is not None and node.op_type in ("Where", "Add"):
        operands = [v if v is None or v.dtype != value.dtype else _raised(v, rw) for v in node.inputs]
        made = rw.like(node, *operands)
    elif node is not None and node.op_type == "Mul" and any(_is_integral(v) for v in node.inputs):
        made = rw.like(node, *(v if v is None or _is_integral(v) else _clamped(v, rw) for v in node.inputs))
    elif node is not None and node.op_type in _MOVES and node.inputs[0] is not None:
        made = rw.like(node, _raised(node.inputs[0], rw), *node.inputs[1:])
    else:
        made = _clamped(value, rw)
    return made


def _clamped(value: ir.Value, rw: Rewriter) -> ir.Value:
    if ir.Module.is_constant(value):
        return _raised_constant(value, rw)
    assert value.dtype is not None
    made: ir.Value = rw.op("Max", value, np.asarray(MASKED, value.dtype.numpy()))
    return made


def _is_integral(value: ir.Value | None, depth: int = 0) -> bool:
    """Return whether a tensor of floats holds whole numbers: multiplied by a large number they mask, or are 0."""
    if value is None or depth > 8:
        return False
    array = small_constant(value)
    if array is not None:
        return bool((np.abs(array.astype(np.float64)) < 1e6).all() and (array.astype(np.float64) % 1 == 0).all())
    node = producer(value, "Cast", *_INTEGRAL)
    if node is None:
        return False
    if node.op_type == "Cast":
        dtype = None if node.inputs[0] is None else node.inputs[0].dtype
        return dtype is not None and (dtype.is_integer() or dtype == ir.DataType.BOOL)
    return all(_is_integral(v, depth + 1) for v in (node.inputs[:1] if node.op_type in _MOVES else node.inputs))


def _raised_constant(value: ir.Value, rw: Rewriter) -> ir.Value:
    array, tensor = ir.Module.constant(value), value.const_value
    if array is None or tensor is None or not ((array < MASKED) & (array != -inf)).any():
        return value
    before: object = value.meta.get(_RAISED)
    if isinstance(before, ir.Value) and before.graph is value.graph and ir.Module.is_constant(before):
        return before
    raised = rw.lazy(lambda: _above(tensor.numpy()), like=value)
    value.meta[_RAISED] = raised
    return raised


def _above(array: Array) -> Array:
    return np.where(array == -inf, array, np.maximum(array, np.asarray(MASKED, array.dtype)))


def _expanded(value: ir.Value, sizes: Sizes, queries: ir.Value, rank: int, rw: Rewriter) -> ir.Value:
    """Give the last two axes of a mask their full size."""
    dims, want = full_dims(value), (sizes.queries, sizes.keys)
    assert dims is not None
    target: list[Any] = [1] * max(rank - 2, len(dims) - 2, 0)
    target += [1 if same_size(d, w) else w for d, w in zip(((1, *dims)[-2:]), want, strict=True)]
    if len(dims) >= max(rank, 2) and target[-2:] == [1, 1]:
        return value
    if isinstance(target[-2], ir.Dim):
        entry = counted(target[-2], value if target[-2] in dims else queries, rw)
        parts = [np.asarray(target[:-2], np.int64), entry, np.asarray(target[-1:], np.int64)]
        given: list[Any] = [p for p in parts if not isinstance(p, np.ndarray) or p.size]
        shape = rw.op("Concat", *given, axis=0)
    else:
        shape = np.asarray(target, np.int64)
    wide: ir.Value = rw.op("Expand", value, shape)
    return wide
