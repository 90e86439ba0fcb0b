"""convert-conv1d: chains of one-dimensional convolutions as two-dimensional ones of height 1, where that is faster."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._spatial import AXIS, attributes_2d, constant_2d, is_carried

_GAINING = {"cpu": 250_000}
"""Target -> multiply-adds x 2 that a convolution needs for each Unsqueeze or Squeeze pair to be paid back.

onnxruntime's blocked (NCHWc) kernels exist for two dimensions only. Measured on AVX-512, one thread: 0.55-0.9 of the
time for chains of blocked layers; 1.03-1.15 for single layers below this work; 1.0-2.6 with fewer channels than a
block; 1.05-1.1 where padding the channels to blocks adds more than half of the work.
"""
_SHORT = 8
_MOST_PADDING = 1.5


@dataclass(frozen=True)
class _Region:
    """Connected nodes in graph order, what enters their convolutions from outside, and what of them is used outside."""

    nodes: tuple[ir.Node, ...]
    entries: tuple[ir.Value, ...]
    exits: tuple[ir.Value, ...]

    def work(self, ctx: PassContext) -> int:
        return sum(_work(n, ctx) for n in self.nodes if n.op_type == "Conv")


class ConvertConv1d(SitePass):
    """Run convolutions over one axis on the kernels that a target has for two.

    Conv(x, w) -> Squeeze(Conv(Unsqueeze(x, 2), Unsqueeze(w, 2)), 2), with one pair around a whole chain or graph of
    convolutions, poolings and elementwise operators between them

    Shapes: x [N, C, L] float32, w [M, C/g, K] constant and with no other user. Only convolutions whose channels fill
    the blocks of the target's kernels, and enough work to pay for the pair (``_GAINING``). Exact.
    Source: ONNX Conv-11; onnxruntime's NchwcTransformer.
    """

    name: ClassVar[str] = "convert-conv1d"
    measured: ClassVar[bool] = True

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        if ctx.target.name not in _GAINING:
            return
        for graph in list(module.graphs()):
            for region in _regions(graph, ctx):
                yield Site(region.nodes[0], module, ctx, region)

    def check(self, site: Site) -> str | None:
        if site.module.opset() < 13:
            return "Squeeze and Unsqueeze take their axes as attributes (opset below 13)"
        return None

    def pays(self, site: Site) -> str | None:
        region: _Region = site.data
        pairs = (len(region.entries) + len(region.exits)) / 2
        if region.work(site.ctx) < _GAINING[site.ctx.target.name] * pairs:
            return "the convolutions are too small to pay for the Unsqueeze and Squeeze around them"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        region: _Region = site.data
        made: dict[ir.Value, ir.Value] = {}
        axis = rw.const(np.asarray([AXIS], np.int64))
        for node in region.nodes:
            rw.before(node)
            for value in node.inputs:
                if value in region.entries and value not in made and value is not None:
                    made[value] = rw.op("Unsqueeze", value, axis)
            inputs = [made[v] if v in made else v and constant_2d(v, rw) for v in node.inputs]
            result = node.outputs[0]
            made[result] = rw.like(node, *inputs, **attributes_2d(node))
            if result in region.exits:
                rw.replace(result, rw.op("Squeeze", made[result], axis))
        rw.erase(*reversed(region.nodes))


def _regions(graph: ir.Graph, ctx: PassContext) -> list[_Region]:
    """Return the connected sets of gaining convolutions and of the nodes that carry their results."""
    leader: dict[ir.Node, ir.Node] = {}

    def find(node: ir.Node) -> ir.Node:
        while leader[node] is not node:
            leader[node] = leader[leader[node]]
            node = leader[node]
        return node

    for node in graph:
        sources = [p for v in node.inputs if v is not None and (p := v.producer()) in leader and p is not None]
        if gains(node, ctx) or (sources and is_carried(node, frozenset(s.outputs[0] for s in sources))):
            leader[node] = node
            for source in sources:
                leader[find(source)] = node
    groups: dict[ir.Node, list[ir.Node]] = {}
    for node in leader:
        groups.setdefault(find(node), []).append(node)
    return [_region(nodes) for nodes in groups.values()]


def _region(nodes: list[ir.Node]) -> _Region:
    members = set(nodes)
    data = (n.inputs[0] for n in nodes if n.op_type == "Conv")
    entries = dict.fromkeys(v for v in data if v is not None and v.producer() not in members)
    results = (n.outputs[0] for n in nodes)
    exits = [v for v in results if v.is_graph_output() or any(u.node not in members for u in v.uses())]
    return _Region(tuple(nodes), tuple(entries), tuple(exits))


def gains(node: ir.Node, ctx: PassContext) -> bool:
    """Return whether a node is a convolution over one axis that the target runs faster over two."""
    if node.op_type != "Conv" or node.domain != "" or node.outputs[0].dtype != ir.DataType.FLOAT:
        return False
    weight, x = node.inputs[1], ir.dims_of(node.inputs[0])
    dims: Any = ir.dims_of(weight)
    if weight is None or not ir.Module.is_constant(weight) or len(weight.uses()) != 1 or len(dims) != 3 or x is None:
        return False
    outputs, inputs, group = dims[0], dims[1], node.attributes.get_int("group", 1)
    block = ctx.target.channel_blocks[0]
    if group == 1:
        padded = -(-inputs // block) * -(-outputs // block) * block * block
        return bool(inputs >= block and inputs % 4 == 0 and padded <= _MOST_PADDING * inputs * outputs)
    if inputs == 1:
        return bool(outputs == group and outputs % block == 0)
    return bool(inputs % block == 0 and (outputs // group) % block == 0)


def _work(node: ir.Node, ctx: PassContext) -> int:
    """Return 2 x the multiply-adds; short rows count as longer ones, since their cost is that of the weights."""
    weight, out = sizes(node.inputs[1]) or (0,), sizes(node.outputs[0], ctx.shapes) or (1, 1, 1)
    return 2 * int(np.prod(weight)) * max(out[-1], _SHORT) * max(out[0], 1)
