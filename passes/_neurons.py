"""Which neurons of layers a rewrite can do without: exact tests on weights, cheap where there is nothing to find."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.channel_steps import Cut
from fcc.analysis.channels import Channels, End, Source
from fcc.analysis.interval_moves import is_padded
from fcc.analysis.intervals import Intervals
from fcc.analysis.linear import linear_of
from fcc.analysis.units import Ids
from fcc.compress.prune import constant_rows, duplicate_rows

Array = np.ndarray[Any, Any]
Mask = np.ndarray[Any, np.dtype[np.bool_]]
SAMPLES = 8


@dataclass(frozen=True)
class Known:
    """Per index of what an end reads: where it holds one number, and which."""

    mask: Mask
    value: Array


@dataclass(frozen=True)
class Plan:
    """Which units of a graph go, by their smallest number: ``needless`` ones, and those ``merged`` into another.

    ``roots`` gives the smallest number of the unit of every number, ``representative`` the unit that takes over;
    ``known`` holds, per end, the constants that it must add to its bias; ``reasons`` why units must stay; ``spared``
    how many channels of a layer could go and stay, since its kernel works on several at once.
    """

    found: Channels
    roots: Ids
    needless: Mask
    merged: Mask
    representative: Ids
    known: Mapping[End, Known]
    reasons: Mapping[int, str]
    spared: Mapping[Source, int]

    def stays(self, ids: Ids) -> Mask:
        """Return which of these numbers stay."""
        found: Mask = ~(self.needless | self.merged)[self.roots[ids]]
        return found

    def goes(self, source: Source) -> int:
        """Return how many output channels of a layer go."""
        return int((~self.stays(source.ids)).sum())

    def why(self, source: Source) -> str | None:
        """Return why all channels of a layer must stay, None when some could go."""
        reasons = [self.reasons.get(r) for r in self.roots[source.ids].tolist()]
        return reasons[0] if all(r is not None for r in reasons) else None


def plan(found: Channels, intervals: Intervals, blocks: tuple[int, ...]) -> Plan:
    """Decide which units can go: every layer that reads one must agree.

    An end does without a channel that holds a constant its bias can take, or that its weights ignore (all zero). Units
    with equal weights, biases and operands on the way are duplicates. One channel of each tensor stays, and a number
    of channels of each Conv that is a multiple of one of ``blocks`` if it was before. All weights are read only of
    channels whose samples are suspicious.
    """
    count = len(found.units)
    roots = found.units.find(np.arange(count))
    reasons = found.units.reasons()
    needless = np.ones(count, bool)
    needless[list(reasons)] = False
    known = {end: _known(end, intervals) for end in found.ends}
    for end, constants in known.items():
        taken = constants.mask & ((constants.value == 0) | _takes_constants(end))
        rest = np.flatnonzero(~taken & needless[roots[end.ids]])
        taken[rest[zero_slices(_array(end.cut), end.cut.axis, rest)]] = True
        needless[roots[end.ids[~taken]]] = False
    _spare_infinite(found, roots, needless)
    _spare_one(found, roots, needless)
    allowed = np.zeros(count, bool)
    allowed[roots] = True
    allowed[list(reasons)] = False
    representative = _representatives(found, roots, allowed & ~needless)
    merged = representative != np.arange(count)
    spared = _align(found, roots, needless, merged, blocks)
    representative = np.where(merged, representative, np.arange(count))
    return Plan(found, roots, needless, merged, representative, known, reasons, spared)


def _known(end: End, intervals: Intervals) -> Known:
    """Return which channels that an end reads hold one number, by their bounds."""
    bounds, rank = intervals.of(end.value), len(ir.known_dims(end.value))
    low, high = bounds.low, bounds.high
    if bounds.axis is not None and bounds.axis + rank != end.layer.axis:
        low, high = np.asarray(bounds.least), np.asarray(bounds.greatest)
    size = end.ids.size
    mask = np.broadcast_to(np.isfinite(low) & (low == high), (size,))
    return Known(mask.copy(), np.where(mask, np.broadcast_to(low, (size,)), 0.0))


# -- what must stay ----------------------------------------------------------------------------------------------------
def _spare_infinite(found: Channels, roots: Ids, needless: Mask) -> None:
    """A channel computed with NaN or infinity spreads it, even through weights that are zero."""
    for cut in found.cuts:
        at = np.flatnonzero(needless[roots[cut.ids]])
        finite = np.isfinite(_rows(cut, at).astype(np.float64)).all(axis=1)
        needless[roots[cut.ids[at[~finite]]]] = False


def _spare_one(found: Channels, roots: Ids, needless: Mask) -> None:
    """One channel of every tensor that is used stays."""
    for value, lane in found.lanes.items():
        if lane.ids.size and ir.is_used(value) and needless[roots[lane.ids]].all():
            needless[roots[lane.ids[0]]] = False


def _align(found: Channels, roots: Ids, needless: Mask, merged: Mask, blocks: tuple[int, ...]) -> dict[Source, int]:
    """Let a Conv lose a multiple of the channels that its kernels work on at once; duplicates are spared first."""
    changed, before = True, dict[Source, int]()
    while changed:
        changed = False
        for source in found.sources if blocks else ():
            if "Conv" not in source.layer.node.op_type:
                continue
            own = roots[source.ids]
            gone = np.concatenate([own[needless[own]], own[merged[own] & ~needless[own]]])
            block = next((b for b in blocks if own.size % b == 0), 1)
            spared = gone[gone.size // block * block :]
            if spared.size:
                before.setdefault(source, gone.size)
                needless[spared] = merged[spared] = False
                changed = True
    return before


# -- weights ---------------------------------------------------------------------------------------------------------
def _array(cut: Cut) -> Array:
    array = ir.Module.constant(cut.value)
    assert array is not None
    return array


def _rows(cut: Cut, at: Ids) -> Array:
    """Return what an operand holds at these indices, [indices, entries]."""
    rows = np.moveaxis(_array(cut), cut.axis, 0)[at]
    return rows.reshape(at.size, -1) if at.size else np.zeros((0, 1))


def _sample(array: Array, axis: int) -> Array:
    """Return a few entries of every slice along ``axis``, [slices, samples]."""
    rows = np.moveaxis(array, axis, 0)
    size = int(np.prod(rows.shape[1:]))
    at = np.linspace(0, max(size - 1, 0), min(SAMPLES, size)).astype(np.int64)
    if rows.ndim == 1:
        return rows[:, None]
    index: tuple[Any, ...] = (slice(None), *np.unravel_index(at, rows.shape[1:]))
    return np.asarray(rows[index])


def zero_slices(array: Array, axis: int, among: Array) -> Array:
    """Return the indices into ``among`` of the slices along ``axis`` that are all zero."""
    if among.size == 0:
        return among
    suspects = np.flatnonzero((_sample(array, axis)[among] == 0).all(axis=1))
    if suspects.size == 0:
        return suspects
    return suspects[constant_rows(np.take(np.moveaxis(array, axis, 0), among[suspects], axis=0))]


# -- duplicates --------------------------------------------------------------------------------------------------------
_MIX = np.array([0x9E3779B97F4A7C15, 0xC2B2AE3D27D4EB4F, 0x165667B19E3779F9, 0xD6E8FEB86659FD93], np.uint64)


def _representatives(found: Channels, roots: Ids, allowed: Mask) -> Ids:
    """Return, per unit, the first unit with equal operands everywhere (itself when it is not allowed to go)."""
    own = np.arange(roots.size)
    allowed = _suspicious(found, roots, allowed)
    if not allowed.any():
        return own
    keys = np.zeros(roots.size, np.uint64)
    for index, cut in enumerate(found.cuts):
        at = np.flatnonzero(allowed[roots[cut.ids]])
        if at.size:
            _hash(keys, roots[cut.ids[at]], _outline(cut)[at], index)
    for index, end in enumerate(found.ends, len(found.cuts)):
        at = np.flatnonzero(allowed[roots[end.ids]])
        _hash(keys, roots[end.ids[at]], np.zeros(at.size), index)
    units = own[allowed & (roots == own)]
    _, alike, count = np.unique(keys[units], return_inverse=True, return_counts=True)
    suspects = units[count[alike.reshape(-1)] > 1]
    if suspects.size == 0:
        return own
    kind = np.full(roots.size, -1)
    kind[suspects] = np.unique(keys[suspects], return_inverse=True)[1].reshape(-1)
    for cut in found.cuts:
        _tell_apart(kind, cut, roots)
    first = np.full(int(kind.max()) + 1, roots.size)
    np.minimum.at(first, kind[suspects], suspects)
    own[suspects] = first[kind[suspects]]
    return own


def _suspicious(found: Channels, roots: Ids, allowed: Mask) -> Mask:
    """Return the units of which a layer has another one with the same few weights."""
    suspects = np.zeros(roots.size, bool)
    for source in found.sources:
        units = roots[source.ids]
        if not allowed[units].any():
            continue
        lines = np.where(allowed[units], _outline(Cut(source.layer.node, 1, source.layer.out_axis, source.ids)), np.nan)
        order = np.argsort(lines)
        same = np.flatnonzero(np.diff(lines[order]) == 0)
        suspects[units[order[same]]] = suspects[units[order[same + 1]]] = True
    return suspects & allowed


def _outline(cut: Cut) -> Array:
    """Return one number per index of an operand, equal where a few of its entries are."""
    sample = _sample(_array(cut), cut.axis).astype(np.float64)
    with np.errstate(all="ignore"):
        return np.asarray((sample * _PRIMES[: sample.shape[1]]).sum(axis=1) + 0.0)


_PRIMES = np.sqrt(np.array([2.0, 3.0, 5.0, 7.0, 11.0, 13.0, 17.0, 19.0]))


def _hash(keys: Array, units: Ids, outline: Array, place: int) -> None:
    """Add to the key of every unit what it holds at a place, entry by entry."""
    with np.errstate(over="ignore"):
        mixed = (
            outline.astype(np.float64).view(np.uint64) * _MIX[0]
            + _rank(units).astype(np.uint64) * _MIX[1]
            + np.uint64(place + 1) * _MIX[2]
        )
        mixed = (mixed ^ (mixed >> np.uint64(29))) * _MIX[3]
        np.add.at(keys, units, mixed ^ (mixed >> np.uint64(32)))


def _rank(units: Ids) -> Ids:
    """Return, per index, how many indices before it belong to the same unit."""
    order = np.argsort(units, kind="stable")
    starts = np.flatnonzero(np.concatenate([[True], np.diff(units[order]) != 0])) if units.size else units
    rank = np.empty(units.size, np.int64)
    rank[order] = np.arange(units.size) - np.repeat(starts, np.diff(np.append(starts, units.size)))
    return rank


def _tell_apart(kind: Ids, cut: Cut, roots: Ids) -> None:
    """Give units that look alike, and differ in an operand, another kind."""
    units = roots[cut.ids]
    at = np.flatnonzero(kind[units] >= 0)
    at = at[np.argsort(units[at], kind="stable")]
    present, counts = np.unique(units[at], return_counts=True)
    starts = np.cumsum(counts) - counts
    for count in np.unique(counts).tolist():
        chosen = counts == count
        places = at[starts[chosen][:, None] + np.arange(count)]
        rows = duplicate_rows(_rows(cut, places.reshape(-1)).reshape(len(places), -1))
        pairs = np.stack([kind[present[chosen]], rows], axis=1)
        kinds = np.unique(pairs, axis=0, return_inverse=True)[1].reshape(-1)
        kind[present[chosen]] = kinds + (kind.max() + 1)


# -- what an end can take over -----------------------------------------------------------------------------------------
def _takes_constants(end: End) -> bool:
    """Return whether the end can add constant channels to its bias: nothing is padded, the bias is a constant row."""
    node = end.layer.node
    if node.op_type == "ConvTranspose" or (node.op_type == "Conv" and is_padded(node)):
        return False
    if node.op_type == "MatMul":
        return True
    return end.layer.bias is None or (ir.Module.is_constant(end.layer.bias) and is_row(end.layer.bias))


def is_row(value: ir.Value) -> bool:
    """Return whether all but the last axis have length 1."""
    return all(d == 1 for d in ir.known_dims(value)[:-1])


def bias_of(end: End) -> tuple[ir.Node, int] | None:
    """Return the node and input that add a constant row to the product of an end, None when there is none."""
    if end.layer.node.op_type != "MatMul":
        return (end.layer.node, 2)
    linear = linear_of(end.layer.node)
    if isinstance(linear, str) or linear.bias is None or linear.nodes[1].graph is not end.layer.node.graph:
        return None
    return linear.nodes[1], list(linear.nodes[1].inputs).index(linear.bias)


def contribution(end: End, plan: Plan) -> Array:
    """Return what the constant channels that go add to every output of an end, in float64 (alpha not applied)."""
    known = plan.known[end]
    at = np.flatnonzero(plan.needless[plan.roots[end.ids]] & known.mask & (known.value != 0))
    if at.size == 0:
        return np.zeros(end.layer.channels)
    axes = (end.layer.in_axis, end.layer.out_axis)
    weight = np.moveaxis(np.take(_array(end.cut), at, axis=axes[0]).astype(np.float64), axes, (0, 1))
    return np.asarray(np.einsum("p,pm->m", known.value[at], weight.reshape(*weight.shape[:2], -1).sum(axis=2)))


def with_merged(end: End, plan: Plan, array: Array) -> Array:
    """Return a weight whose columns of merged channels are added to those of the channel that stays, in float64."""
    units = plan.roots[end.ids]
    gone = np.flatnonzero(plan.merged[units])
    if gone.size == 0:
        return array
    rank = _rank(units)
    place = {(int(u), int(r)): i for i, (u, r) in enumerate(zip(units, rank, strict=True))}
    targets = [place[int(plan.representative[units[i]]), int(rank[i])] for i in gone.tolist()]
    changed, position = np.unique(targets, return_inverse=True)
    rows = np.moveaxis(array, end.layer.in_axis, 0)
    sums = rows[changed].astype(np.float64)
    np.add.at(sums, position.reshape(-1), rows[gone].astype(np.float64))
    made = np.array(array)
    np.moveaxis(made, end.layer.in_axis, 0)[changed] = sums.astype(array.dtype)
    return made


def together(found: Channels) -> Array:
    """Return, per number, the smallest one of all that are in the same tensors: what is decided as a whole."""
    return found.units.joined([*(lane.ids for lane in found.lanes.values()), *(c.ids for c in found.cuts)])


def touched(plan: Plan, group: Mask) -> Iterator[ir.Node]:
    """Yield the nodes that hold, or pass on, units of a group."""
    found = plan.found
    for source in found.sources:
        if group[source.ids[0]]:
            yield source.layer.node
    for value, lane in found.lanes.items():
        producer = value.producer()
        if producer is not None and lane.ids.size and group[lane.ids].any():
            yield producer
    for end in found.ends:
        if group[end.ids].any():
            yield end.layer.node
            at = bias_of(end)
            if at is not None:
                yield at[0]
