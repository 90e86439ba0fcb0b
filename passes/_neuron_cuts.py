"""Cut operands, weights and the numbers of nodes to the units that stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np

from fcc import ir
from fcc.analysis.channel_steps import Change
from fcc.analysis.channels import End
from fcc.rewrite import Rewriter

from ._neurons import Array, Mask, Plan, bias_of, contribution, with_merged

Operand = tuple[ir.Node, int]


def new_operands(plan: Plan, group: Mask) -> dict[Operand, Array]:
    """Return the operands of a group as they become: merged, with constants in biases, then cut along every axis."""
    found: dict[Operand, Array] = {}
    for end in plan.found.ends:
        if group[end.ids].any():
            found[end.layer.node, 1] = with_merged(end, plan, _stored(end.layer.node, 1))
            at, bias = bias_of(end), _new_bias(end, plan, group)
            if at is not None and bias is not None:
                found[at] = bias
    for cut in [*plan.found.cuts, *(end.cut for end in plan.found.ends)]:
        kept = np.flatnonzero(plan.stays(cut.ids))
        if not group[cut.ids].any() or kept.size == cut.ids.size:
            continue
        array = found.get((cut.node, cut.index), _stored(cut.node, cut.index))
        if array.shape[cut.axis] == cut.ids.size:
            found[cut.node, cut.index] = np.take(array, kept, axis=cut.axis)
    return found


def _stored(node: ir.Node, index: int) -> Array:
    array = ir.Module.constant(node.inputs[index])
    assert array is not None
    return array


def _new_bias(end: End, plan: Plan, group: Mask) -> Array | None:
    """Return the bias of an end with the constants added, None when it stays."""
    added, at = contribution(end, plan), bias_of(end)
    if not added.any() or at is None:
        return None
    node, index = at
    attributes = node.attributes
    value = node.inputs[index] if index < len(node.inputs) else None
    bias = ir.Module.constant(value) if value is not None else None
    alpha, beta = attributes.get_float("alpha", 1.0), attributes.get_float("beta", 1.0)
    old = np.zeros(1) if bias is None or beta == 0 else bias.astype(np.float64)
    total = np.asarray(old + (alpha * added / (beta or 1.0) if node.op_type == "Gemm" else added))
    own = next(s.ids for s in plan.found.sources if s.layer.node is end.layer.node)
    if group[own].any():  # a row that is new is no operand yet that is cut with the layer's own channels
        total = total[..., plan.stays(own)]
    return total.astype(_stored(end.layer.node, 1).dtype)


def apply(plan: Plan, group: Mask, rw: Rewriter, operands: Mapping[Operand, Array] | None = None) -> None:
    """Cut every operand of a group; nodes are set in order, so that types are inferred again from front to back.

    ``operands`` are what ``new_operands`` returns, or others in their place.
    """
    operands, changes = new_operands(plan, group) if operands is None else operands, _changes(plan, group)
    biased = {e.layer.node for e in plan.found.ends if group[e.ids].any() and _new_bias(e, plan, group) is not None}
    nodes = {node for node, _ in operands} | set(changes) | set(_on_the_way(plan, group))
    for node in rw.graph:
        if node not in nodes:
            continue
        rw.set_input(node, 0, node.inputs[0])
        for (owner, index), array in operands.items():
            if owner is node:
                before = node.inputs[index] if index < len(node.inputs) else None
                name = "" if before is None else f"{before.name}/kept"
                rw.set_input(node, index, rw.const(np.ascontiguousarray(array), name))
        if node in biased and node.attributes.get_float("beta", 1.0) == 0.0:
            rw.set_attributes(node, beta=1.0)
        for change in changes.get(node, ()):
            _APPLY[change.kind](change, plan, rw)


def _on_the_way(plan: Plan, group: Mask) -> Iterator[ir.Node]:
    for value, lane in plan.found.lanes.items():
        producer = value.producer()
        if producer is not None and lane.ids.size and group[lane.ids].any() and not plan.stays(lane.ids).all():
            yield producer


def _changes(plan: Plan, group: Mask) -> dict[ir.Node, list[Change]]:
    found: dict[ir.Node, list[Change]] = {}
    for change in plan.found.changes:
        if any(group[ids].any() and not plan.stays(ids).all() for ids in change.ids):
            found.setdefault(change.node, []).append(change)
    return found


# -- numbers that count units ------------------------------------------------------------------------------------------
def _group(change: Change, plan: Plan, rw: Rewriter) -> None:
    rw.set_attributes(change.node, group=int(plan.stays(change.ids[0]).sum()))


def _entry(change: Change, plan: Plan, rw: Rewriter) -> None:
    shape = np.array(_stored(change.node, 1))
    shape[change.index] = int(plan.stays(change.ids[0]).sum())
    rw.set_input(change.node, 1, shape)


def _sizes(change: Change, plan: Plan, rw: Rewriter) -> None:
    """A part that loses all of its channels is not used, and goes."""
    counts = [int(plan.stays(ids).sum()) for ids in change.ids]
    node = change.node
    if all(counts):
        rw.set_input(node, 1, np.asarray(counts, np.int64))
        rw.set_attributes(node, num_outputs=None)
        return
    kept = [(v, n) for v, n in zip(node.outputs, counts, strict=True) if n]
    sizes = np.asarray([n for _, n in kept], np.int64)
    rw.before(node)
    made = rw.op("Split", node.inputs[0], sizes, outputs=len(kept), axis=node.attributes.get_int("axis", 0))
    for (value, _), new in zip(kept, made if len(kept) > 1 else (made,), strict=True):
        rw.replace(value, new)
    rw.erase(node)


def _bounds(change: Change, plan: Plan, rw: Rewriter) -> None:
    """Channels that go in front of the ones that are taken, and among them, shift the bounds."""
    before, taken = (int(plan.stays(ids).sum()) for ids in change.ids)
    for index, number in ((1, before), (2, before + taken)):
        bounds = np.array(_stored(change.node, index))
        bounds[change.index] = number
        rw.set_input(change.node, index, bounds)


def _indices(change: Change, plan: Plan, rw: Rewriter) -> None:
    every, taken = change.ids
    chosen = _stored(change.node, 1)
    wrapped = np.where(chosen < 0, chosen + every.size, chosen)
    position = np.cumsum(plan.stays(every)) - 1
    rw.set_input(change.node, 1, position[wrapped[plan.stays(taken)]].astype(chosen.dtype))


def _heads(change: Change, plan: Plan, rw: Rewriter) -> None:
    count = int(plan.stays(change.ids[0]).sum())
    rw.set_attributes(change.node, q_num_heads=count, kv_num_heads=count)


_APPLY: Mapping[str, Callable[[Change, Plan, Rewriter], None]] = {
    "bounds": _bounds,
    "entry": _entry,
    "group": _group,
    "heads": _heads,
    "indices": _indices,
    "sizes": _sizes,
}
