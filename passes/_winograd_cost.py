"""What convolutions in tiles cost beside direct ones, in multiply-adds of a direct convolution."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from fcc import ir
from fcc.analysis.cost import computed_at_load, node_cost, sizes

from ._winograd import Layer, Tiling


@dataclass(frozen=True)
class Rates:
    """Multiply-adds that take as long as: one in the products of tiles, an element gathered, one of their results
    scattered, a weight of the tiles read for an image, and the nodes of one layer."""

    product: float
    gathered: float
    made: float
    weight: float
    nodes: float


@dataclass(frozen=True)
class Target:
    grouped: Rates
    matmul: Rates
    byte: float
    node: float


MOST = 0.9
RATES = {"cpu": Target(Rates(1.11, 28, 28, 8, 1e6), Rates(1.11, 28, 28, 8, 1e6), byte=2.5, node=1e5)}


def direct(layer: Layer, symbols: Mapping[str, int]) -> float:
    """Return the multiply-adds of a convolution."""
    out = sizes(layer.node.outputs[0], symbols) or ()
    return float(prod(out) * prod(layer.weight[1:]))


def tiled(tiling: Tiling, target: Target, symbols: Mapping[str, int]) -> float:
    """Return what a convolution costs in tiles."""
    rates = target.matmul if tiling.is_matmul else target.grouped
    node, weight = tiling.layer.node, tiling.layer.weight
    x, out = sizes(node.inputs[0], symbols) or (), sizes(node.outputs[0], symbols) or ()
    n, length = tiling.products * tiling.tiles, tiling.length
    return (
        rates.product * direct(tiling.layer, symbols) * n / (tiling.taps * length)
        + rates.gathered * prod(x) / x[2 + tiling.axis] * n
        + rates.made * prod(out) / length * n
        + rates.weight * x[0] * prod(weight) / tiling.taps * tiling.products
        + rates.nodes
    )


def work(module: ir.Module, target: Target, symbols: Mapping[str, int]) -> float:
    """Return what one run of a model costs: every node by its multiply-adds or by the bytes it moves."""
    total = 0.0
    for graph in module.graphs():
        once = computed_at_load(graph)
        for node in graph:
            if node not in once:
                cost = node_cost(node, symbols)
                total += max(cost.flops / 2, cost.bytes * target.byte) + target.node
    return total
