"""merge-clamps: Min(Max(x, a), b) -> Clip(x, a, b), and clamps in a row."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.shapes import static_size
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._affine import FLOATS, Array
from ._no_op_elementwise import keeps_shape
from ._operands import small_constant

_CLAMPS = frozenset({"Clip", "Max", "Min", "Relu"})


@dataclass(frozen=True)
class _Clamp:
    """min(max(x, low), high) with low <= high, element by element; infinite where there is no bound."""

    low: Array
    high: Array

    def after(self, low: Array, high: Array) -> _Clamp:
        """Return this clamp followed by one to at least ``low`` and then to at most ``high``."""
        return _Clamp(*(np.minimum(np.maximum(end, low), high) for end in (self.low, self.high)))

    @property
    def nodes(self) -> int:
        """Number of nodes that it takes."""
        lower, upper = bool(np.any(np.isfinite(self.low))), bool(np.any(np.isfinite(self.high)))
        return 1 if self.low.size == self.high.size == 1 else lower + upper


class MergeClamps(SitePass):
    """Apply clamps in a row as one: Clip for numbers, Max and Min for bounds that vary.

    Min(Max(x, a), b) -> Clip(x, a, b);  Max(Clip(x, a, b), c) -> Clip(x, max(a, c), max(b, c));  Max(Relu(x), c) ->
    Clip(x, max(0, c));  Min(Max(Min(x, a), b), c) -> Min(Max(x, b'), c')

    Bounds are constants; only where nodes become fewer. Shapes: the bounds broadcast to x. Types: floats.
    Numerics: bit for bit, but for which of -0.0 and 0.0 a bound of 0 gives. Clip and Relu alone: merge-chains.
    Source: ONNX Clip-13, Max-13, Min-13.
    """

    name: ClassVar[str] = "merge-clamps"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type not in _CLAMPS or _step(node) is None:
                continue
            user = ir.sole_user(node.outputs[0])
            goes_on = user is not None and user.graph is node.graph and _step(user) is not None
            nodes = [] if goes_on else _chain(node)
            if len(nodes) > 1 and any(n.op_type in ("Max", "Min") for n in nodes):
                yield Site(node, module, ctx, nodes)

    def check(self, site: Site) -> str | None:
        nodes: list[ir.Node] = site.data
        found, x = _composed(nodes), _input(nodes[0])
        if x.dtype is None:
            return "the element type is not known"
        if found.nodes >= len(nodes):
            return f"{len(nodes)} clamps take as many nodes"
        if np.isnan(found.low).any() or np.isnan(found.high).any():
            return "a bound is NaN"
        constants = {v for n in nodes for v in n.inputs if v is not None and ir.Module.is_constant(v)}
        if not keeps_shape(x, list(constants)):
            return "a bound widens the result, or may"
        before = sum(static_size(v) or 0 for v in constants)
        after = sum(end.size for end in (found.low, found.high) if np.any(np.isfinite(end)))
        zeros = any(n.op_type == "Relu" for n in nodes)  # a bound that is no constant yet
        return f"the bounds grow from {before} elements to {after}" if after > before + zeros else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        nodes: list[ir.Node] = site.data
        found, value = _composed(nodes), _input(nodes[0])
        assert value.dtype is not None
        kind = value.dtype.numpy()
        low, high = (np.asarray(end, kind) if np.any(np.isfinite(end)) else None for end in (found.low, found.high))
        if found.low.size == found.high.size == 1:
            ends = [None if end is None else end.reshape(()) for end in (low, high)]
            value = rw.op("Clip", value, *(ends if ends[1] is not None else ends[:1]))
        else:
            value = value if low is None else rw.op("Max", value, low)
            value = value if high is None else rw.op("Min", value, high)
        rw.replace(site.anchor.outputs[0], value)
        rw.erase(*reversed(nodes))


def _input(node: ir.Node) -> ir.Value:
    """Return the operand of a clamp that is computed."""
    found = next(v for v in node.inputs if v is not None and small_constant(v) is None)
    return found


def _step(node: ir.Node) -> tuple[Array, Array] | None:
    """Return the bounds of a clamp by constants of floats, None for a node that is none."""
    if node.op_type not in _CLAMPS or node.domain != "" or node.outputs[0].dtype not in FLOATS:
        return None
    none, values = np.asarray(np.inf), ir.operands(node)
    arrays = [small_constant(v) for v in values]
    if node.op_type == "Relu":
        return (np.asarray(0.0), none) if arrays[0] is None else None
    known = [a.astype(np.float64) for a in arrays if a is not None]
    if len(known) != len(values) - 1 or "min" in node.attributes or "max" in node.attributes:
        return None
    if node.op_type == "Clip":
        return _clip(node) if arrays[0] is None and all(a.size == 1 for a in known) else None
    if len(known) != 1:
        return None
    return (known[0], none) if node.op_type == "Max" else (-none, known[0])


def _clip(node: ir.Node) -> tuple[Array, Array]:
    ends = []
    for index, open_end in ((1, -np.inf), (2, np.inf)):
        array = small_constant(node.inputs[index]) if index < len(node.inputs) else None
        ends.append(np.asarray(open_end if array is None else array.reshape(()), np.float64))
    return ends[0], ends[1]


def _chain(last: ir.Node) -> list[ir.Node]:
    nodes: list[ir.Node] = []
    node: ir.Node | None = last
    while node is not None and node.graph is last.graph and _step(node) is not None:
        nodes.insert(0, node)
        value = _input(node)
        node = value.producer() if ir.sole_user(value) is not None else None
    return nodes


def _composed(nodes: list[ir.Node]) -> _Clamp:
    found = _Clamp(np.asarray(-np.inf), np.asarray(np.inf))
    for node in nodes:
        low, high = _step(node) or (np.asarray(-np.inf), np.asarray(np.inf))
        found = found.after(low, high)
    return found
