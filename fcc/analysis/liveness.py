"""Liveness of the main graph: where each value dies, and the largest sum of live activation bytes."""

from __future__ import annotations

from collections.abc import Mapping
from math import prod

from .. import ir
from .cost import computed_at_load, nbytes, sizes


def last_uses(graph: ir.Graph) -> dict[ir.Value, int]:
    """Return for each produced value the index of the last node (of this graph) that needs it; outputs: the end.

    A use inside a nested graph counts at the node that holds the graph. O(nodes + uses).
    """
    order = {node: i for i, node in enumerate(graph)}
    last: dict[ir.Value, int] = {}
    for i, node in enumerate(graph):
        for value in _needed(node):
            if value.producer() in order or value.is_graph_input():
                last[value] = i
        for value in node.outputs:
            last.setdefault(value, i)
    for value in graph.outputs:
        last[value] = len(order)
    return last


def _needed(node: ir.Node) -> list[ir.Value]:
    values = [v for v in node.inputs if v is not None]
    for graph in ir.subgraphs_of(node):
        for inner in graph:
            values.extend(_needed(inner))
    return values


def peak_bytes(graph: ir.Graph, symbols: Mapping[str, int] | None = None, *, at_load: bool = False) -> int:
    """Return the largest number of bytes of activations alive at once, symbols bound (default 1).

    What a runtime computes when it loads is a weight, no activation, unless ``at_load``.
    """
    last = last_uses(graph)
    weights = set() if at_load else {v for node in computed_at_load(graph) for v in node.outputs}
    ends: dict[int, list[ir.Value]] = {}
    for value, at in last.items():
        ends.setdefault(at, []).append(value)

    def size(value: ir.Value) -> int:
        shape = sizes(value, symbols)
        if value in weights or shape is None or value.dtype is None:
            return 0
        return nbytes(value.dtype, shape)

    live = sum(size(v) for v in graph.inputs)
    peak = live
    for i, node in enumerate(graph):
        live += sum(size(v) for v in node.outputs)
        peak = max(peak, live)
        live -= sum(size(v) for v in ends.get(i, ()))
    return peak


_STRING = 32  # bytes of an empty string in memory


def _text_bytes(module: ir.Module) -> int:
    """Return the bytes of the longest string that the module holds."""
    constants = (v.const_value for g in module.graphs() for v in g.initializers.values())
    held = (t for t in constants if t is not None and t.dtype == ir.DataType.STRING)
    return _STRING + max((len(x) for t in held for x in t.numpy().reshape(-1).tolist()), default=0)


class Demand:
    """The memory that runs of a module take, weights not counted; what is the same for all sizes is added up once."""

    def __init__(self, module: ir.Module) -> None:
        self._module = module
        self._fixed = 0
        self._open: list[tuple[ir.DataType, tuple[ir.Dim | int | None, ...]]] = []
        texts = 0
        for value in (*module.graph.inputs, *(v for node in module.nodes() for v in node.outputs)):
            dims = ir.dims_of(value)
            if dims is None or value.dtype is None:
                continue
            if value.dtype == ir.DataType.STRING:
                texts += prod(d for d in dims if isinstance(d, int))
            if all(isinstance(d, int) for d in dims):
                self._fixed += nbytes(value.dtype, dims)
            else:
                self._open.append((value.dtype, dims))
        self._texts = texts * _text_bytes(module) if texts else 0

    def exceeds(self, most: int, symbols: Mapping[str, int]) -> int:
        """Return the bytes alive at once with symbols bound (default 1) when they are more than ``most``, else 0."""
        if self._texts > most:
            return self._texts
        total = self._fixed + sum(nbytes(dtype, dims, symbols) for dtype, dims in self._open)
        if total <= most:  # all values together fit
            return 0
        main, *nested = [peak_bytes(graph, symbols, at_load=True) for graph in self._module.graphs()]
        peak = main + max(nested, default=0)
        return peak if peak > most else 0
