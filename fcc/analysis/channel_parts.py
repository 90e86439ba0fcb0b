"""Channels through operators that cut, join, repeat and pick: Concat, Split, Slice, Gather, Expand, Tile, Resize."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from .. import ir
from .channel_steps import Change, Cut, Lane, Rule, Step, broadcast_cut, integers, only_data
from .units import Units


def _concat(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    """Channels side by side, what has none stays; or one after the other along another axis, which unites them."""
    rank = len(ir.dims_of(node.inputs[0]) or ())
    axis = node.attributes.get_int("axis", 0) % max(rank, 1)
    if len({lane.axis for lane in lanes.values()}) != 1:
        return "its operands hold the channels at different places"
    at = next(iter(lanes.values())).axis
    if at == axis:
        return _side_by_side(node, lanes, units, axis)
    first, cuts = next(iter(lanes.values())), list[Cut]()
    for i in range(len(node.inputs)):
        found = () if i in lanes else broadcast_cut(node, i, first, rank)
        if isinstance(found, str):
            return found
        cuts += found
    for lane in lanes.values():
        units.unite(first.ids, lane.ids)
    return Step((first,), tuple(cuts))


def _side_by_side(node: ir.Node, lanes: Mapping[int, Lane], units: Units, axis: int) -> Step | str:
    parts = []
    for i, value in enumerate(node.inputs):
        dims = ir.dims_of(value)
        size = None if dims is None else dims[axis]
        if i in lanes:
            parts.append(lanes[i].ids)
        elif isinstance(size, int):
            parts.append(units.new(size))
            units.block(parts[-1], "they are no channels of a layer")
        else:
            return "a part has an unknown size"
    return Step((Lane(axis, np.concatenate(parts)),))


def _split(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    lane, rank = lanes[0], len(ir.dims_of(node.inputs[0]) or ())
    axis = node.attributes.get_int("axis", 0) % max(rank, 1)
    if axis != lane.axis:
        return Step(tuple(lane for _ in node.outputs))
    sizes = [(ir.dims_of(v) or (None,) * rank)[axis] for v in node.outputs]
    if not all(isinstance(s, int) for s in sizes):
        return "a part has an unknown size"
    ends = np.cumsum([int(s) for s in sizes if isinstance(s, int)])
    parts = tuple(np.split(lane.ids, ends[:-1]))
    return Step(tuple(Lane(axis, ids) for ids in parts), (), (Change("sizes", node, parts),))


def _slice(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    lane, rank = lanes[0], len(ir.dims_of(node.inputs[0]) or ())
    starts, ends = integers(node, 1, "starts"), integers(node, 2, "ends")
    given = len(node.inputs) > 3 and node.inputs[3] is not None
    axes = integers(node, 3, "axes") if given else list(range(len(starts or ())))
    stepped = len(node.inputs) > 4 and node.inputs[4] is not None
    steps = integers(node, 4, "") if stepped else [1] * len(starts or ())
    if starts is None or ends is None or axes is None or steps is None:
        return "its bounds are not constant"
    for i, axis in enumerate(axes):
        if axis % rank == lane.axis:
            if steps[i] != 1:
                return "it takes every so many channels"
            first, stop, _ = slice(starts[i], ends[i]).indices(lane.ids.size)
            before, taken = lane.ids[:first], lane.ids[first:stop]
            return Step((Lane(lane.axis, taken),), (), (Change("bounds", node, (before, taken), i),))
    return Step((lane,))


def _gather(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    lane, rank = lanes[0], len(ir.dims_of(node.inputs[0]) or ())
    axis, index = node.attributes.get_int("axis", 0) % max(rank, 1), ir.dims_of(node.inputs[1])
    if index is None:
        return "its indices have an unknown rank"
    if axis != lane.axis:
        moved = 0 if lane.axis < axis else len(index) - 1
        return Step((Lane(lane.axis + moved, lane.ids),))
    chosen = integers(node, 1, "")
    if chosen is None or len(index) != 1 or not ir.Module.is_constant(node.inputs[1]):
        return "it picks channels by indices that are no constant vector"
    if any(not -lane.ids.size <= c < lane.ids.size for c in chosen):
        return "it picks channels that do not exist"
    return Step((Lane(axis, lane.ids[chosen]),), (), (Change("indices", node, (lane.ids, lane.ids[chosen])),))


def _repeated(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    """Expand, Tile, Resize of other axes; an Expand may name the number of channels in its shape."""
    lane, before, after = lanes[0], ir.dims_of(node.inputs[0]), ir.dims_of(node.outputs[0])
    if before is None or after is None:
        return "its shape is unknown"
    axis = lane.axis + len(after) - len(before)
    if node.op_type != "Expand":
        sizes = node.op_type == "Resize" and len(node.inputs) > 3 and node.inputs[3] is not None
        return "its sizes count the channels" if sizes or after[axis] != before[lane.axis] else Step((lane,))
    shape = ir.Module.constant(node.inputs[1])
    at = axis - len(after) + (shape.size if shape is not None else 0)
    if shape is None:
        return "its shape is not constant"
    if at < 0 or int(shape[at]) == 1:
        return Step((Lane(axis, lane.ids),))
    return Step((Lane(axis, lane.ids),), (), (Change("entry", node, (lane.ids,), at),))


PARTS: Mapping[tuple[str, str], Rule] = {
    ("", "Concat"): _concat,
    ("", "Gather"): only_data(_gather),
    ("", "Slice"): only_data(_slice),
    ("", "Split"): only_data(_split),
    **{("", op): only_data(_repeated) for op in ("Expand", "Resize", "Tile")},
}
