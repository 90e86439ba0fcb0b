"""What each operator does to the place where channels lie: one rule per kind of operator."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

import numpy as np

from .. import ir
from .channel_parts import PARTS
from .channel_steps import Change, Cut, Lane, Rule, Step, aligned_axis, broadcast_cut, integers, only_data
from .units import Units


def _elementwise(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    """Channels of all operands meet at one place; what has none there is shared by all channels."""
    shapes = {i: ir.dims_of(v) for i, v in enumerate(node.inputs) if v is not None}
    ranks = {i: len(dims) for i, dims in shapes.items() if dims is not None}
    if len(ranks) != len(shapes):
        return "the rank of an operand is not known"
    rank = max(ranks.values())
    places = {aligned_axis(lane, ranks[i]) for i, lane in lanes.items()}
    if len(places) != 1 or len({lane.ids.size for lane in lanes.values()}) != 1:
        return "its operands hold the channels at different places"
    first = next(iter(lanes.values()))
    out, cuts = Lane(rank + places.pop(), first.ids), list[Cut]()
    for i, dims in shapes.items():
        at = out.axis - (rank - ranks[i])
        if i in lanes or at < 0 or dims is None or dims[at] == 1:
            continue
        found = broadcast_cut(node, i, out, rank)
        if isinstance(found, str):
            return found
        cuts += found
    for lane in lanes.values():
        units.unite(first.ids, lane.ids)
    return Step((out,), tuple(cuts))


def _normalization(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    if set(lanes) != {0} or lanes[0].axis != 1:
        return "the channels do not lie along axis 1"
    if node.attributes.get_int("training_mode", 0) != 0:
        return "it computes statistics over the batch"
    if not all(ir.Module.is_constant(v) for v in node.inputs[1:]):
        return "an operand is not constant"
    return Step((lanes[0],), tuple(Cut(node, i, 0, lanes[0].ids) for i in range(1, len(node.inputs))))


def _pool(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    return Step((lanes[0],)) if lanes[0].axis == 1 else "the channels do not lie along axis 1"


def _depthwise(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    weight, x = ir.dims_of(node.inputs[1]), ir.dims_of(node.inputs[0])
    group = node.attributes.get_int("group", 1)
    if set(lanes) != {0} or lanes[0].axis != 1 or weight is None or x is None:
        return "the channels are not its input"
    if group == 1 or x[1] != group or not isinstance(weight[0], int):
        return "the convolution is grouped" if group > 1 else "the weight is not constant"
    if not all(ir.Module.is_constant(v) for v in node.inputs[1:] if v is not None):
        return "an operand is not constant"
    ids = np.repeat(lanes[0].ids, weight[0] // group)
    cuts = tuple(Cut(node, i, 0, ids) for i, v in enumerate(node.inputs) if i > 0 and v is not None)
    return Step((Lane(1, ids),), cuts, (Change("group", node, (lanes[0].ids,)),))


def _transpose(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    rank = len(ir.dims_of(node.inputs[0]) or ())
    perm = list(node.attributes.get_ints("perm", ()) or range(rank)[::-1])
    return Step((Lane(perm.index(lanes[0].axis), lanes[0].ids),))


def _reshape(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    """Row-major order spreads a channel over a larger axis, or makes heads of several; other reshapes mix channels."""
    if set(lanes) != {0}:
        return "the channels are its shape"
    before, after, lane = ir.dims_of(node.inputs[0]), ir.dims_of(node.outputs[0]), lanes[0]
    if node.op_type == "Squeeze" and len(node.inputs) < 2:
        return "it removes whichever axis has length 1"
    if before is None or after is None:
        return "its shape is unknown"
    if node.op_type in ("Squeeze", "Unsqueeze") and (axes := integers(node, 1, "axes")):
        return _inserted(node, lane, {a % max(len(before), len(after)) for a in axes})
    behind, size = _size(before[lane.axis + 1 :]) or 0, lane.ids.size
    same = list[tuple[int, int]]()
    for axis, count in enumerate(after):
        rest = _size(after[axis + 1 :])
        if behind and rest and isinstance(count, int) and count * rest == size * behind:
            same.append((axis, rest))
    for axis, rest in same:
        if behind % rest == 0:
            found = Lane(axis, np.repeat(lane.ids, behind // rest))
            return _reshaped(node, lane, found) if node.op_type == "Reshape" else Step((found,))
    for axis, rest in same:
        if rest % behind == 0:
            heads = lane.ids.reshape(-1, rest // behind)
            units.unite(heads, np.broadcast_to(heads[:, :1], heads.shape))
            found = Lane(axis, heads[:, 0])
            return _reshaped(node, lane, found) if node.op_type == "Reshape" else Step((found,))
    return "it mixes the channels with another axis"


def _inserted(node: ir.Node, lane: Lane, axes: set[int]) -> Step | str:
    """Channels keep apart from axes of length 1 that come or go."""
    if node.op_type == "Squeeze":
        if lane.axis in axes:
            return "it removes the channels"
        return Step((Lane(lane.axis - sum(a < lane.axis for a in axes), lane.ids),))
    free = [a for a in range(len(axes) + lane.axis + 1) if a not in axes]
    return Step((Lane(free[lane.axis], lane.ids),))


def _size(dims: tuple[ir.Dim | int | None, ...]) -> int | None:
    return prod(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None


def _reshaped(node: ir.Node, lane: Lane, found: Lane) -> Step | str:
    shape = ir.Module.constant(node.inputs[1])
    if shape is None:
        return "its shape is not constant"
    wanted = int(shape[found.axis])
    if wanted == -1 or (wanted == 0 and found.axis == lane.axis and np.array_equal(found.ids, lane.ids)):
        return Step((found,))
    if wanted == 0:
        return "its shape copies an axis"
    return Step((found,), (), (Change("entry", node, (found.ids,), found.axis),))


def _reduce(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    rank = len(ir.dims_of(node.inputs[0]) or ())
    axes = integers(node, 1, "axes")
    if set(lanes) != {0} or not axes:
        return "it reduces every axis"
    gone = {a % rank for a in axes}
    if lanes[0].axis in gone:
        return "it reduces over the channels"
    keep = node.attributes.get_int("keepdims", 1) != 0
    axis = lanes[0].axis - (0 if keep else sum(a < lanes[0].axis for a in gone))
    return Step((Lane(axis, lanes[0].ids),))


def _along(attribute: str, otherwise: int) -> Rule:
    """An operator over the axes from one of its attributes on, or over that one: Softmax, LayerNormalization."""

    def rule(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
        rank = len(ir.dims_of(node.inputs[0]) or ())
        axis = node.attributes.get_int(attribute, otherwise) % max(rank, 1)
        return "it mixes channels" if set(lanes) != {0} or lanes[0].axis >= axis else Step((lanes[0],))

    return rule


def _pad(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    pads = ir.Module.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    rank = len(ir.dims_of(node.inputs[0]) or ())
    if set(lanes) != {0} or pads is None or pads.size != 2 * rank:
        return "its pads are not constant, or given by axis"
    axis = lanes[0].axis
    return Step((lanes[0],)) if pads[axis] == 0 and pads[axis + rank] == 0 else "it pads the channels"


def _product(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    """A product of computed tensors: channels are batches of both, rows of the left, or columns of the right one."""
    ranks = [len(ir.dims_of(v) or ()) for v in node.inputs]
    rank = max(ranks)
    places = {i: aligned_axis(lane, ranks[i]) for i, lane in lanes.items()}
    place = next(iter(places.values()))
    ids = next(iter(lanes.values())).ids
    if place < -2:
        if len(set(places.values())) != 1 or len({lane.ids.size for lane in lanes.values()}) != 1:
            return "its operands hold the channels at different places"
        for i, value in enumerate(node.inputs):
            dims = ir.dims_of(value) or ()
            if i not in lanes and -place <= len(dims) and dims[place] != 1:
                return "an operand is not constant"
        for lane in lanes.values():
            units.unite(ids, lane.ids)
        return Step((Lane(rank + place, ids),))
    kept = len(lanes) == 1 and min(ranks) >= 2 and places in ({0: -2}, {1: -1})
    return Step((Lane(rank + place, ids),)) if kept else "it multiplies channels by each other"


def _attention(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
    """Heads of packed queries, keys and values go together, with the result."""
    heads = node.attributes.get_int("q_num_heads", 0)
    packed = heads > 0 and heads == node.attributes.get_int("kv_num_heads", 0)
    if set(lanes) != {0, 1, 2} or not packed or any(lane.axis != 2 for lane in lanes.values()):
        return "not all of queries, keys and values are packed channels of one number of heads"
    mask = ir.dims_of(node.inputs[3]) if len(node.inputs) > 3 else ()
    if len(mask or ()) > 3 and mask is not None and mask[1] != 1:
        return "its mask differs by head"
    if any(v is not None for v in node.inputs[4:]):
        return "it has a past"
    blocks = [lane.ids.reshape(heads, -1) for lane in lanes.values()]
    for block in blocks:
        units.unite(block, np.broadcast_to(blocks[0][:, :1], block.shape))
    return Step((Lane(2, blocks[2].reshape(-1)),), (), (Change("heads", node, (blocks[0][:, 0],)),))


ELEMENTWISE = frozenset(
    {"Abs", "Add", "And", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu"}
    | {"Greater", "GreaterOrEqual", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "Less", "LessOrEqual", "Log"}
    | {"Max", "Min", "Mish", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu"}
    | {"Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu"}
    | {"Where"}
)
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")

RULES: Mapping[tuple[str, str], Rule] = {
    **{("", op): _elementwise for op in ELEMENTWISE},
    **{("com.microsoft", op): _elementwise for op in ("Gelu", "QuickGelu")},
    **{("", op): only_data(_pool) for op in POOLS},
    **{("", op): _reduce for op in REDUCTIONS},
    **{("", op): _reshape for op in ("Flatten", "Reshape", "Squeeze", "Unsqueeze")},
    **{("", op): _along("axis", -1) for op in ("LayerNormalization", "LogSoftmax", "RMSNormalization", "Softmax")},
    ("", "Attention"): _attention,
    ("", "BatchNormalization"): _normalization,
    ("", "InstanceNormalization"): _normalization,
    ("", "Conv"): _depthwise,
    ("", "MatMul"): _product,
    ("", "Pad"): _pad,
    ("", "Transpose"): only_data(_transpose),
    **PARTS,
}
