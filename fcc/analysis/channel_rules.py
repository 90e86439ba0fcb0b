"""What each operator that treats channels alone does to the place where they lie: one rule per kind of operator."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import prod

from .. import ir


@dataclass(frozen=True)
class Lane:
    """Channel c lies at indices [c * block, (c + 1) * block) along ``axis``."""

    axis: int
    block: int


@dataclass(frozen=True)
class Cut:
    """Input ``index`` of ``node`` is a constant with channels along ``axis``, ``block`` entries each."""

    node: ir.Node
    index: int
    axis: int
    block: int

    @property
    def value(self) -> ir.Value:
        """The operand."""
        value = self.node.inputs[self.index]
        assert value is not None
        return value


@dataclass(frozen=True)
class Resize:
    """A number that counts channels times ``block``: attribute ``group`` (index None), or one element of a shape."""

    node: ir.Node
    block: int
    index: int | None = None


@dataclass(frozen=True)
class Step:
    """The lane behind an operator, its operands with channels, and the numbers in it that count them."""

    lane: Lane
    cuts: tuple[Cut, ...] = ()
    resizes: tuple[Resize, ...] = ()


Rule = Callable[[ir.Node, Mapping[int, Lane]], Step | str]


def broadcast_cut(node: ir.Node, index: int, lane: Lane, rank: int) -> tuple[Cut, ...] | str:
    """Return the cut of a constant operand that is broadcast to ``rank`` axes: none when all channels share it."""
    value = node.inputs[index]
    dims = ir.dims_of(value)
    if not ir.Module.is_constant(value) or dims is None:
        return "an operand is not constant"
    axis = lane.axis - (rank - len(dims))
    if len(dims) > rank:
        return "an operand has a higher rank"
    return (Cut(node, index, axis, lane.block),) if axis >= 0 and dims[axis] != 1 else ()


def _elementwise(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    lane = next(iter(lanes.values()))
    ranks = {len(ir.dims_of(node.inputs[i]) or ()) for i in lanes}
    if len(set(lanes.values())) != 1 or len(ranks) != 1:
        return "its operands hold the channels at different places"
    cuts: list[Cut] = []
    for i, value in enumerate(node.inputs):
        if value is None or i in lanes:
            continue
        found = broadcast_cut(node, i, lane, next(iter(ranks)))
        if isinstance(found, str):
            return found
        cuts += found
    return Step(lane, tuple(cuts))


def _normalization(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    if set(lanes) != {0} or lanes[0].axis != 1:
        return "the channels do not lie along axis 1"
    if node.attributes.get_int("training_mode", 0) != 0:
        return "it computes statistics over the batch"
    if not all(ir.Module.is_constant(v) for v in node.inputs[1:]):
        return "an operand is not constant"
    block = lanes[0].block
    return Step(lanes[0], tuple(Cut(node, i, 0, block) for i in range(1, len(node.inputs))))


def _pool(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    return Step(lanes[0]) if lanes[0].axis == 1 else "the channels do not lie along axis 1"


def _depthwise(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    weight, x = ir.dims_of(node.inputs[1]), ir.dims_of(node.inputs[0])
    group = node.attributes.get_int("group", 1)
    if set(lanes) != {0} or lanes[0].axis != 1 or weight is None or x is None:
        return "the channels are not its input"
    if group == 1 or x[1] != group or not isinstance(weight[0], int):
        return "the convolution is grouped" if group > 1 else "the weight is not constant"
    if not all(ir.Module.is_constant(v) for v in node.inputs[1:] if v is not None):
        return "an operand is not constant"
    block = lanes[0].block * (weight[0] // group)
    cuts = tuple(Cut(node, i, 0, block) for i, v in enumerate(node.inputs) if i > 0 and v is not None)
    return Step(Lane(1, block), cuts, (Resize(node, lanes[0].block),))


def _transpose(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    rank = len(ir.dims_of(node.inputs[0]) or ())
    perm = list(node.attributes.get_ints("perm", ()) or range(rank)[::-1])
    return Step(Lane(perm.index(lanes[0].axis), lanes[0].block))


def _reshape(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    """Row-major order keeps channels together where everything behind them is known and split no further."""
    if set(lanes) != {0}:
        return "the channels are its shape"
    before, after, lane = ir.dims_of(node.inputs[0]), ir.dims_of(node.outputs[0]), lanes[0]
    if node.op_type == "Squeeze" and len(node.inputs) < 2:
        return "it removes whichever axis has length 1"
    if before is None or after is None:
        return "its shape is unknown"
    behind = _size(before[lane.axis + 1 :])
    size = before[lane.axis]
    for axis, count in enumerate(after):
        rest = _size(after[axis + 1 :])
        if not behind or not rest or not isinstance(size, int) or not isinstance(count, int):
            continue
        if count * rest == size * behind and behind % rest == 0:
            found = Lane(axis, lane.block * (behind // rest))
            return _reshaped(node, lane, found) if node.op_type == "Reshape" else Step(found)
    return "it mixes the channels with another axis"


def _size(dims: tuple[ir.Dim | int | None, ...]) -> int | None:
    return prod(d for d in dims if isinstance(d, int)) if all(isinstance(d, int) for d in dims) else None


def _reshaped(node: ir.Node, lane: Lane, found: Lane) -> Step | str:
    shape = ir.Module.constant(node.inputs[1])
    if shape is None:
        return "its shape is not constant"
    wanted = int(shape[found.axis])
    if wanted == -1 or (wanted == 0 and found == lane):
        return Step(found)
    if wanted == 0:
        return "its shape copies an axis"
    return Step(found, (), (Resize(node, found.block, found.axis),))


def _reduce(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    rank = len(ir.dims_of(node.inputs[0]) or ())
    axes = node.attributes.get_ints("axes", None)
    if len(node.inputs) > 1 and node.inputs[1] is not None:
        array = ir.Module.constant(node.inputs[1])
        axes = None if array is None else [int(a) for a in array.reshape(-1)]
    if set(lanes) != {0} or not axes:
        return "it reduces every axis"
    gone = {a % rank for a in axes}
    if lanes[0].axis in gone:
        return "it reduces over the channels"
    keep = node.attributes.get_int("keepdims", 1) != 0
    axis = lanes[0].axis - (0 if keep else sum(a < lanes[0].axis for a in gone))
    return Step(Lane(axis, lanes[0].block))


def _pad(node: ir.Node, lanes: Mapping[int, Lane]) -> Step | str:
    pads = ir.Module.constant(node.inputs[1]) if len(node.inputs) > 1 else None
    rank = len(ir.dims_of(node.inputs[0]) or ())
    if set(lanes) != {0} or pads is None or pads.size != 2 * rank:
        return "its pads are not constant, or given by axis"
    axis = lanes[0].axis
    return Step(lanes[0]) if pads[axis] == 0 and pads[axis + rank] == 0 else "it pads the channels"


ELEMENTWISE = frozenset(
    {"Abs", "Add", "Cast", "Ceil", "Celu", "Clip", "Cos", "Div", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid"}
    | {"HardSwish", "Identity", "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal"}
    | {"Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish"}
    | {"Tanh", "ThresholdedRelu"}
)
POOLS = ("MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool")
REDUCTIONS = ("ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum")

RULES: Mapping[tuple[str, str], Rule] = {
    **{("", op): _elementwise for op in ELEMENTWISE},
    **{("com.microsoft", op): _elementwise for op in ("Gelu", "QuickGelu")},
    **{("", op): _pool for op in POOLS},
    **{("", op): _reduce for op in REDUCTIONS},
    **{("", op): _reshape for op in ("Flatten", "Reshape", "Squeeze", "Unsqueeze")},
    ("", "BatchNormalization"): _normalization,
    ("", "InstanceNormalization"): _normalization,
    ("", "Conv"): _depthwise,
    ("", "Pad"): _pad,
    ("", "Transpose"): _transpose,
}
