"""Channels: which output channels of layers are one unit all over a graph, and who reads them.

A layer is Conv or ConvTranspose (group 1), Gemm (transA = 0), or MatMul with a constant matrix on the right. Its output
channels pass through operators that treat every channel alone (``channel_rules``), are added to those of other layers
(then both are one unit: a residual group), joined, cut, counted as heads, and end in layers that read them. One pass
over a graph, O(nodes * channels).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from .. import ir
from .channel_rules import RULES
from .channel_steps import Change, Cut, Lane, Step, broadcast_cut
from .units import Ids, Units

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16, ir.DataType.DOUBLE})


@dataclass(frozen=True)
class Layer:
    """A linear operator: ``weight`` has its output channels along ``out_axis``, its input channels along ``in_axis``.

    ``axis`` is where channels lie in its input and in its output.
    """

    node: ir.Node
    weight: ir.Value
    out_axis: int
    in_axis: int
    axis: int

    @property
    def channels(self) -> int:
        """Number of output channels."""
        return int((ir.dims_of(self.weight) or ())[self.out_axis])  # type: ignore[arg-type]

    @property
    def bias(self) -> ir.Value | None:
        """The operand added to the product, None when absent (always for MatMul)."""
        return self.node.inputs[2] if len(self.node.inputs) > 2 else None


@dataclass(frozen=True, eq=False)
class Source:
    """A layer and the units that its output channels are."""

    layer: Layer
    ids: Ids


@dataclass(frozen=True, eq=False)
class End:
    """A layer that reads units: index i of its ``in_axis`` belongs to unit ``ids[i]``."""

    layer: Layer
    value: ir.Value
    ids: Ids

    @property
    def cut(self) -> Cut:
        """The weight of the layer as an operand with channels."""
        return Cut(self.layer.node, 1, self.layer.in_axis, self.ids)


@dataclass
class Channels:
    """Where the units of a graph are: in which layers, operands, numbers and values, and which must stay (and why)."""

    units: Units = field(default_factory=Units)
    sources: list[Source] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)
    cuts: list[Cut] = field(default_factory=list)
    changes: list[Change] = field(default_factory=list)
    lanes: dict[ir.Value, Lane] = field(default_factory=dict)
    refused: dict[ir.Node, str] = field(default_factory=dict)


def layer_of(node: ir.Node) -> Layer | str:
    """Return the Layer view of a node, or the reason why it has none."""
    if node.op_type not in _AXES or node.domain != "":
        return f"{node.op_type} is no linear operator"
    if not ir.Module.is_constant(node.inputs[1]):
        return "the weight is not constant"
    x, weight = node.inputs[0], node.inputs[1]
    assert weight is not None
    rank, dims = len(ir.dims_of(x) or ()), ir.dims_of(weight) or ()
    if weight.dtype not in FLOATS:
        return "the weight has no floating-point type"
    if rank < 2 or len(dims) < 2 or 0 in dims:
        return "the rank of the input is unknown or below 2"
    if node.attributes.get_int("group", 1) != 1:
        return "the convolution is grouped"
    if node.op_type == "MatMul" and len(dims) != 2:
        return "the weight is not a matrix"
    if node.attributes.get_int("transA", 0) != 0:
        return "transA is set"
    out_axis, in_axis = _AXES[node.op_type]
    if node.attributes.get_int("transB", 0) != 0:
        out_axis, in_axis = in_axis, out_axis
    return Layer(node, weight, out_axis, in_axis, rank - 1 if node.op_type == "MatMul" else 1)


_AXES = {"Conv": (0, 1), "ConvTranspose": (1, 0), "Gemm": (1, 0), "MatMul": (1, 0)}


def channels_of(graph: ir.Graph) -> Channels:
    """Return where the channels of the layers of a graph go."""
    found = Channels()
    for node in graph:
        lanes = {i: found.lanes[v] for i, v in enumerate(node.inputs) if v is not None and v in found.lanes}
        layer = layer_of(node) if node.op_type in _AXES else f"{node.op_type} is no linear operator"
        if isinstance(layer, Layer):
            _end(layer, lanes, found)
            _source(layer, found)
        elif lanes:
            if node.op_type in _AXES:
                found.refused[node] = layer
            _step(node, lanes, found)
        elif node.op_type in _AXES:
            found.refused[node] = layer
        for value in node.outputs:
            if value in found.lanes:
                _guard(value, graph, found)
    return found


def _end(layer: Layer, lanes: Mapping[int, Lane], found: Channels) -> None:
    lane = lanes.get(0)
    for index, other in lanes.items():
        if index > 0 or other.axis != layer.axis:
            found.units.block(other.ids, f"its channels reach {label(layer.node)} where it has none")
    if lane is None or lane.axis != layer.axis or len(lanes) > 1:
        return
    end = End(layer, layer.node.inputs[0], lane.ids)  # type: ignore[arg-type]
    if not _is_whole(end.cut):
        found.units.block(lane.ids, f"the weight {layer.weight.name!r} misses channels")
        return
    found.ends.append(end)
    reason = _weight_refusal(layer)
    if reason is not None:
        found.units.block(lane.ids, reason)


def _source(layer: Layer, found: Channels) -> None:
    ids = found.units.new(layer.channels)
    found.sources.append(Source(layer, ids))
    found.lanes[layer.node.outputs[0]] = Lane(layer.axis, ids)
    found.cuts.append(Cut(layer.node, 1, layer.out_axis, ids))
    reason = _weight_refusal(layer)
    bias = _bias_cut(layer, ids)
    if isinstance(bias, str):
        reason = reason or bias
    else:
        found.cuts += bias
    if reason is not None:
        found.units.block(ids, reason)


def _weight_refusal(layer: Layer) -> str | None:
    """Return why a weight may not be cut: another node uses it too, or it is computed only at save."""
    weight = layer.weight
    if isinstance(weight.const_value, ir.LazyTensor):
        return f"the weight {weight.name!r} is computed at save"
    if len(weight.uses()) > 1:
        return f"the weight {weight.name!r} is shared"
    return f"the weight {weight.name!r} is an output" if weight.is_graph_output() else None


def _bias_cut(layer: Layer, ids: Ids) -> tuple[Cut, ...] | str:
    if layer.bias is None:
        return ()
    if not ir.Module.is_constant(layer.bias):
        return "the bias is not constant"
    if layer.node.op_type == "Gemm":
        return broadcast_cut(layer.node, 2, Lane(1, ids), 2)
    cut = Cut(layer.node, 2, 0, ids)
    return (cut,) if _is_whole(cut) else "the bias misses channels"


def _step(node: ir.Node, lanes: Mapping[int, Lane], found: Channels) -> None:
    """Let channels pass a node, or keep them all because it does something else with them."""
    rule = RULES.get((node.domain, node.op_type))
    step: Step | str = f"its channels reach {label(node)}"
    if rule is not None:
        step = rule(node, lanes, found.units)
        step = f"{step} ({label(node)})" if isinstance(step, str) else step
    if isinstance(step, Step):
        step = _fits(node, step) or step
    if isinstance(step, str):
        for lane in lanes.values():
            found.units.block(lane.ids, step)
        return
    for value, out in zip(node.outputs, step.lanes, strict=False):
        found.lanes[value] = out
    found.cuts += step.cuts
    found.changes += step.changes
    for cut in step.cuts:
        reason = _operand_refusal(cut)
        if reason is not None:
            found.units.block(cut.ids, reason)


def _fits(node: ir.Node, step: Step) -> str | None:
    if any(ir.is_used(v) for v in node.outputs[len(step.lanes) :]):
        return f"another output of {label(node)} is used"
    for value, lane in zip(node.outputs, step.lanes, strict=False):
        dims = ir.dims_of(value)
        if dims is None or dims[lane.axis] != lane.ids.size:
            return f"the shape behind {label(node)} is unknown"
    return None if all(_is_whole(cut) for cut in step.cuts) else f"an operand of {label(node)} misses channels"


def _is_whole(cut: Cut) -> bool:
    """Return whether an operand has as many entries along its axis as there are channels: not so in invalid models."""
    dims = ir.dims_of(cut.value) or ()
    return len(dims) > cut.axis and dims[cut.axis] == cut.ids.size


def _operand_refusal(cut: Cut) -> str | None:
    """Return why an operand on the way may not be cut; small shared ones are copied."""
    value = cut.value
    if isinstance(value.const_value, ir.LazyTensor):
        return f"the weight {value.name!r} is computed at save"
    if len(ir.dims_of(value) or ()) > 1 and len(value.uses()) > 1:
        return f"the weight {value.name!r} is shared"
    return f"the weight {value.name!r} is an output" if value.is_graph_output() else None


def _guard(value: ir.Value, graph: ir.Graph, found: Channels) -> None:
    """Keep channels that are an output, are read inside a nested graph, or by nobody (a part of a Split may go)."""
    producer = value.producer()
    if not ir.is_used(value) and (producer is None or producer.op_type != "Split"):
        found.units.block(found.lanes[value].ids, "nothing reads its channels")
    if value.is_graph_output():
        found.units.block(found.lanes[value].ids, f"its channels are the output {value.name!r}")
    for user, _ in value.uses():
        if user.graph is not graph:
            reason = f"its channels are read inside a subgraph, by {label(user)}"
            found.units.block(found.lanes[value].ids, reason)


def label(node: ir.Node) -> str:
    """Return how a reason names a node."""
    return f"{node.op_type} {node.name or (node.outputs[0].name if node.outputs else '')!r}"
