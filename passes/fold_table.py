"""fold-table: f(Gather(table, i)) -> Gather(f(table), i)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from math import prod
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.evaluate import evaluate
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._rows import is_row_wise

_LARGEST_REGION = 256
_NODE_BYTES = 64


@dataclass(frozen=True)
class _Cone:
    """Look-ups of one index, and the row-wise work on them that ends in one value."""

    roots: tuple[ir.Node, ...]
    nodes: tuple[ir.Node, ...]
    opset: int

    @property
    def index(self) -> ir.Value:
        index = self.roots[0].inputs[1]
        assert index is not None
        return index

    @property
    def lead(self) -> int:
        """The number of axes of the index."""
        return len(ir.known_dims(self.index))

    @property
    def end(self) -> ir.Value:
        """The value that a look-up in the new table gives."""
        return self.nodes[-1].outputs[0]

    @property
    def row(self) -> tuple[ir.Dim | int | None, ...]:
        return ir.known_dims(self.end)[self.lead :]

    @property
    def count(self) -> int:
        """The number of rows."""
        return int(_table_dims(self.roots[0])[0])

    @property
    def elements(self) -> int:
        """The largest number of elements of a tensor that folding computes."""
        rows = [ir.known_dims(n.outputs[0])[self.lead :] for n in self.nodes]
        return self.count * max(prod(d for d in row if isinstance(d, int)) for row in rows)

    def growth(self) -> int:
        """Return the bytes of the new table beyond those of the constants and nodes that go."""
        gone = {*self.roots, *self.nodes}
        constants = {v for n in gone for v in n.inputs if v is not None and ir.Module.is_constant(v)}
        freed = sum(v.const_value.nbytes for v in constants if v.const_value and {u.node for u in v.uses()} <= gone)
        assert self.end.dtype is not None
        new = self.count * prod(d for d in self.row if isinstance(d, int)) * self.end.dtype.itemsize
        return int(new - freed - _NODE_BYTES * (len(gone) - 1))

    @cached_property
    def table(self) -> np.ndarray[Any, Any] | str:
        """The new table, every operator in its own type as the runtime computes it; a reason when one cannot be."""
        known: dict[ir.Value, Any] = {}
        for root in self.roots:
            rows = ir.Module.constant(root.inputs[0])
            assert rows is not None
            known[root.outputs[0]] = rows.reshape(rows.shape[0], *[1] * (self.lead - 1), *rows.shape[1:])
        for node in self.nodes:
            inputs = [None if v is None else known.get(v, ir.Module.constant(v)) for v in node.inputs]
            try:
                found = evaluate(node, inputs, self.opset)
            except Exception as error:
                return f"{node.op_type} {node.name!r} cannot be computed: {error}"
            if found is None:
                return f"no evaluator knows {node.op_type} {node.name!r}"
            known[node.outputs[0]] = found[0]
        last, row = known[self.end], tuple(self.row)
        if last.shape != (self.count, *[1] * (self.lead - 1), *row) or last.dtype != self.end.dtype.numpy():  # type: ignore[union-attr]
            return f"the rows come out as {last.dtype}{list(last.shape)}"
        return np.ascontiguousarray(last.reshape(self.count, *row))


@dataclass(frozen=True)
class FoldTable(SitePass):
    """Compute on the table what would be computed on every looked-up row.

    f(Gather(table, i))  ->  Gather(f(table), i)      f(Gather(t1, i), Gather(t2, i))  ->  Gather(f(t1, t2), i)

    Shapes: table [D, *row] constant, looked up on axis 0 by an index of rank >= 1; f is any graph of operators that
    treat each row alone (elementwise with constants that repeat over the index, products by a constant matrix,
    normalizations, Softmax and reductions over axes of the row), whose other values have no users. The file may grow
    by ``max_growth`` bytes after what goes is credited; tables above ``max_elements`` elements are left alone.
    Numerics: each operator in its own type, as constants are folded; the same operations on the same rows.
    Source: ONNX Gather-13.
    """

    name: ClassVar[str] = "fold-table"
    max_growth: int = 0
    max_elements: int = 1 << 22

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.graph is not None and _is_look_up(node) and _roots(node)[0] is node:
                cones = _cones(_roots(node), module.opset())
                best = next((c for c in cones if self._refusal(c) is None), cones[0] if cones else None)
                if best is not None:
                    yield Site(best.nodes[-1], module, ctx, best)

    def check(self, site: Site) -> str | None:
        reason = self._refusal(site.data)
        if reason is not None:
            return reason
        return site.data.table if isinstance(site.data.table, str) else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        cone: _Cone = site.data
        assert not isinstance(cone.table, str)
        rw.replace(cone.end, rw.op("Gather", rw.const(cone.table), cone.index, axis=0))
        rw.erase(*reversed(cone.nodes), *cone.roots)

    def _refusal(self, cone: _Cone) -> str | None:
        if cone.elements > self.max_elements:
            return f"the table would be computed by way of {cone.elements} elements, more than {self.max_elements}"
        growth = cone.growth()
        return f"the file would grow by {growth} bytes" if growth > self.max_growth else None


def _is_look_up(node: ir.Node) -> bool:
    if node.op_type != "Gather" or node.domain != "" or node.attributes.get_int("axis", 0) != 0:
        return False
    data, index = node.inputs
    return ir.Module.is_constant(data) and not ir.Module.is_constant(index) and bool(ir.dims_of(index))


def _table_dims(node: ir.Node) -> tuple[int, ...]:
    return tuple(ir.numbers(ir.known_dims(node.inputs[0])))


def _roots(node: ir.Node) -> tuple[ir.Node, ...]:
    """Return the look-ups of the same index in tables of as many rows, in the same graph; the first names the site."""
    index = node.inputs[1]
    assert index is not None
    users = dict.fromkeys(u.node for u in index.uses() if u.idx == 1 and u.node.graph is node.graph)
    return tuple(n for n in users if _is_look_up(n) and _table_dims(n)[:1] == _table_dims(node)[:1])


def _cones(roots: tuple[ir.Node, ...], opset: int) -> list[_Cone]:
    """Return the ways to fold, the one with most nodes first: what leads to one value and nowhere else."""
    region = _region(roots)
    members = {*roots, *region}
    found = []
    for last in region:
        cone = _leading_to(last, members)
        if all(_stays_inside(n, cone) for n in cone if n is not last):
            own = tuple(r for r in roots if r in cone)
            found.append(_Cone(own, tuple(n for n in region if n in cone), opset))
    return sorted(found, key=lambda c: -len(c.nodes))


def _region(roots: tuple[ir.Node, ...]) -> list[ir.Node]:
    """Return the nodes that work on the rows alone, producers first."""
    lead = len(ir.known_dims(roots[0].inputs[1]))
    rows = frozenset(r.outputs[0] for r in roots)
    found: dict[ir.Node, None] = {}
    queue = [u.node for r in roots for u in r.outputs[0].uses()]
    while queue and len(found) < _LARGEST_REGION:
        node = queue.pop(0)
        if node in found or node.graph is not roots[0].graph or not is_row_wise(node, lead, rows):
            continue
        found[node] = None
        rows |= {node.outputs[0]}
        queue.extend(u.node for u in node.outputs[0].uses())
    return list(found)


def _leading_to(last: ir.Node, members: set[ir.Node]) -> set[ir.Node]:
    cone, stack = set(), [last]
    while stack:
        node = stack.pop()
        if node in members and node not in cone:
            cone.add(node)
            stack.extend(ir.producers(node))
    return cone


def _stays_inside(node: ir.Node, cone: set[ir.Node]) -> bool:
    value = node.outputs[0]
    return not value.is_graph_output() and all(u.node in cone for u in value.uses())
