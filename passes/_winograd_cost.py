"""What convolutions in tiles cost beside direct ones, in multiply-adds of a direct convolution.

Fitted to benchmarks/winograd.py (onnxruntime 1.32, AVX-512, one thread): 65 layers of 16 to 512 channels, rows of 100
to 1000, maps of 7 to 224, batch 1 and 8, alone, between 1x1 convolutions, and in chains, with their Relus (a fused one
of the direct convolution is a node of its own behind tiles); every tiling; standard deviation 8 %. Ratio of the time in
tiles, the worst of the three contexts, beside the estimate of what is chosen:

    3x3   64@28 .80 .77   64@56 .74 .71   64@112 .70 .71   128@14 .81 .78   128@28 .65 .64   256@14 .73 .70
          256@28 .61 .59   512@7 .98 .95 (refused)   512@14 .70 .66   32@56 .96 .90 (refused)   16@112 1.2 1.2 (refused)
    batch 8   64@28 .77 .74   64@112 .87 .77   128@28 .73 .66   48@56 .95 .89 (refused)   32@112 1.25 1.04 (refused)
    5x5   64@56 .50 .54   3x3x3   32@16x32x32 .60 .69
    3     64@1000 .84 .91 (refused)   128@400 .79 .72   256@200 .76 .72   512@100 .73 .77
    5     64@1000 .69 .80   128@400 .69 .66   256@512 .55 .52   512@250 .50 .49   batch 8, 64@1000 .86 .95 (refused)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import prod

from fcc import ir
from fcc.analysis.cost import computed_at_load, node_cost, sizes

from ._conv_layer import ConvLayer
from ._winograd import Tiling

MOST = 0.85
"""The largest estimated ratio at which tiles are taken: no layer measured then was slower in tiles."""


@dataclass(frozen=True)
class Rates:
    """Direct multiply-adds that take as long as one thing in tiles.

    A multiply-add of a product (tiles counted in multiples of ``lanes``); an element of the transformed input, and of
    the products; a transformed weight, for each image; the nodes of one layer.
    """

    product: float
    gathered: float
    made: float
    weight: float
    nodes: float
    lanes: int = 1


@dataclass(frozen=True)
class Target:
    """Rates by form: as MatMul, as Conv along the last axis, and along another one; and of a whole model.

    Transformed elements cost up to twice as much as they fill ``cache`` bytes. ``byte`` and ``node``: direct
    multiply-adds that take as long as moving a byte, and as starting a node.
    """

    matmul: Rates
    last: Rates
    inner: Rates
    cache: float
    byte: float
    node: float

    def rates(self, tiling: Tiling) -> Rates:
        """Return the rates of the form of a tiling."""
        if tiling.is_matmul:
            return self.matmul
        return self.inner if tiling.has_inner else self.last


RATES: Mapping[str, Target] = {
    "cpu": Target(
        matmul=Rates(product=1.05, gathered=10, made=44, weight=2, nodes=2e5, lanes=16),
        last=Rates(product=1.15, gathered=40, made=34, weight=6, nodes=2e6),
        inner=Rates(product=1.1, gathered=27, made=30, weight=7.5, nodes=2e6),
        cache=16e6,
        byte=2.5,
        node=1e5,
    )
}
"""Target -> rates, where direct convolutions have no such algorithm. cuDNN and TensorRT choose among their own."""


def direct(layer: ConvLayer, symbols: Mapping[str, int]) -> float:
    """Return the multiply-adds of a convolution."""
    out = sizes(layer.node.outputs[0], symbols) or ()
    return float(prod(out) * prod(layer.weight[1:]))


def tiled(tiling: Tiling, target: Target, symbols: Mapping[str, int]) -> float:
    """Return what a convolution costs in tiles."""
    rates, node, weight = target.rates(tiling), tiling.layer.node, tiling.layer.weight
    x, out = sizes(node.inputs[0], symbols) or (), sizes(node.outputs[0], symbols) or ()
    n, length = tiling.products, tiling.length
    columns = -(-tiling.tiles // rates.lanes) * rates.lanes
    gathered = prod(x) / x[2 + tiling.axis] * n * tiling.tiles
    made = prod(out) / length * n * tiling.tiles
    far = 1 + min(4 * (gathered + made) / target.cache, 1)
    return (
        rates.product * direct(tiling.layer, symbols) * n * columns / (tiling.taps * length)
        + (rates.gathered * gathered + rates.made * made) * far
        + rates.weight * x[0] * prod(weight) / tiling.taps * n
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
