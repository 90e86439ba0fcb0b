"""Channels: how the output channels of a linear layer travel to the layers that read them.

A layer is Conv or ConvTranspose (group 1), Gemm (transA = 0), or MatMul with a constant matrix on the right. Between
layers, channels pass through operators that treat every channel alone: elementwise ones, pooling, BatchNormalization,
depthwise Conv, spatial reductions, Flatten and what reshapes like it. Everything else blocks.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import ir
from .channel_rules import RULES, Cut, Lane, Resize, Step, broadcast_cut

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


@dataclass(frozen=True)
class End:
    """A layer that reads the channels: index [c * block, (c + 1) * block) of its ``in_axis`` belongs to channel c."""

    layer: Layer
    value: ir.Value
    block: int

    @property
    def cut(self) -> Cut:
        """The weight of the layer as an operand with channels."""
        return Cut(self.layer.node, 1, self.layer.in_axis, self.block)


@dataclass
class Flow:
    """Where the output channels of ``source`` go.

    ``nodes`` are the operators on the way in order, ``lanes`` where each value holds the channels, ``cuts`` the
    operands with one entry per channel (those of the source included), ``resizes`` what counts channels in numbers.
    """

    source: Layer
    nodes: list[ir.Node] = field(default_factory=list)
    lanes: dict[ir.Value, Lane] = field(default_factory=dict)
    cuts: list[Cut] = field(default_factory=list)
    resizes: list[Resize] = field(default_factory=list)
    ends: list[End] = field(default_factory=list)


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


def trace(source: Layer, order: Mapping[ir.Node, int]) -> Flow | str:
    """Follow the output channels of a layer to the layers that read them; ``order`` numbers the nodes of its graph.

    Returns the reason, naming the node, where something else than a layer reads them. O(nodes on the way * log).
    """
    node = source.node
    flow = Flow(source, lanes={node.outputs[0]: Lane(source.axis, 1)})
    flow.cuts.append(Cut(node, 1, source.out_axis, 1))
    found = _bias_cut(source)
    if isinstance(found, str):
        return found
    flow.cuts += found
    queue = _Queue(node, order)
    reason = queue.enter(node.outputs[0])
    while queue.heap and reason is None:
        user = queue.pop()
        reason = _visit(user, flow)
        if reason is None and user in flow.nodes[-1:]:
            reason = queue.enter(user.outputs[0])
    return flow if reason is None else reason


def _bias_cut(source: Layer) -> tuple[Cut, ...] | str:
    if source.bias is None:
        return ()
    if not ir.Module.is_constant(source.bias):
        return "the bias is not constant"
    if source.node.op_type == "Gemm":
        return broadcast_cut(source.node, 2, Lane(1, 1), 2)
    return (Cut(source.node, 2, 0, 1),)


@dataclass
class _Queue:
    """The users still to visit, in the order of the graph, so that a node comes after all it reads."""

    source: ir.Node
    order: Mapping[ir.Node, int]
    heap: list[int] = field(default_factory=list)
    nodes: dict[int, ir.Node] = field(default_factory=dict)

    def enter(self, value: ir.Value) -> str | None:
        """Add the users of a value; return why one of them blocks."""
        if value.is_graph_output():
            return f"its channels are the output {value.name!r}"
        for user, _ in value.uses():
            if user.graph is not self.source.graph:
                return f"its channels are read inside a subgraph, by {_label(user)}"
            at = self.order[user]
            if at not in self.nodes:
                self.nodes[at] = user
                heapq.heappush(self.heap, at)
        return None

    def pop(self) -> ir.Node:
        """Return the first user."""
        return self.nodes[heapq.heappop(self.heap)]


def _visit(node: ir.Node, flow: Flow) -> str | None:
    lanes = {i: flow.lanes[v] for i, v in enumerate(node.inputs) if v is not None and v in flow.lanes}
    end = _end_of(node, lanes)
    if end is not None:
        flow.ends.append(end)
        return None
    rule = RULES.get((node.domain, node.op_type))
    if rule is None:
        return f"its channels reach {_label(node)}"
    step = rule(node, lanes)
    if isinstance(step, str):
        return f"{step} ({_label(node)})"
    if any(ir.is_used(v) for v in node.outputs[1:]):
        return f"another output of {_label(node)} is used"
    dims = ir.dims_of(node.outputs[0])
    if dims is None or dims[step.lane.axis] != flow.source.channels * step.lane.block:
        return f"the shape behind {_label(node)} is unknown"
    _take(node, step, flow)
    return None


def _end_of(node: ir.Node, lanes: Mapping[int, Lane]) -> End | None:
    layer = layer_of(node)
    if isinstance(layer, str) or set(lanes) != {0} or lanes[0].axis != layer.axis:
        return None
    value = node.inputs[0]
    assert value is not None
    return End(layer, value, lanes[0].block)


def _take(node: ir.Node, step: Step, flow: Flow) -> None:
    flow.nodes.append(node)
    flow.lanes[node.outputs[0]] = step.lane
    flow.cuts += step.cuts
    flow.resizes += step.resizes


def _label(node: ir.Node) -> str:
    return f"{node.op_type} {node.name or (node.outputs[0].name if node.outputs else '')!r}"


def positions(channels: np.ndarray[Any, Any], block: int) -> np.ndarray[Any, Any]:
    """Return the indices along an axis that belong to these channels."""
    return np.asarray((channels[:, None] * block + np.arange(block)).reshape(-1))
