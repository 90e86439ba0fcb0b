"""merge-mapped-elements: f(x[0]), f(x[1]), ... stacked -> f on all elements of x at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._mapped import Mapped
from ._operands import integers
from ._recurrent import stacked, stacking_refusal
from ._sequence_items import Item, elements_first, item_of, known_number
from ._twins import Twins

_MOST = 64  # values between a row and its elements


@dataclass(frozen=True)
class _Rows:
    """What rows compute of their elements, in the order of those or backwards; the nodes of all, and the elements'."""

    mapped: Mapped
    backwards: bool
    nodes: dict[ir.Node, None]
    elements: set[ir.Node]


class MergeMappedElements(SitePass):
    """Compute once, for all elements of a sequence, what is computed from one after the other and stacked.

    Concat(Unsqueeze(Gemm(x[0], w, b)), Unsqueeze(Gemm(x[1], w, b)), ...) -> x w + b

    So exporters write a layer that a Python loop applies to every step. The results are computed alike, from elements
    of the same sequences in order, forwards or backwards, by operators that also work with one axis more (see
    convert-mapped-loops); nothing else uses what lies between. Shapes: any, with constant positions of the elements.
    Numerics: the same operations (a product of more rows may add in another order). Source: ONNX MatMul-13 (stacks).
    """

    name: ClassVar[str] = "merge-mapped-elements"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type == "Concat" and node.domain == "" and len(node.inputs) > 1:
                rows = _rows(node)
                if rows:
                    yield Site(node, module, ctx, rows)

    def check(self, site: Site) -> str | None:
        if site.module.opset() < 13:
            return "before opset 13, Unsqueeze has no axes operand"
        found = _mapped(site.module, site.data)
        if isinstance(found, str):
            return found
        axis, opset = site.anchor.attributes.get_int("axis", 0), site.module.opset()
        foreign = next((n for n in found.nodes if not n.domain and ir.schema_of(n.op_type, "", opset) is None), None)
        unknown = None if foreign is None else f"opset {opset} has no {foreign.op_type}"
        return stacking_refusal(site.data[0], axis) or unknown or _used_elsewhere(site, found.nodes)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found = _mapped(site.module, site.data)
        assert not isinstance(found, str)
        count = len(site.data)
        values = found.mapped.write(rw, lambda item: elements_first(item, count, rw), lambda v: v)
        axis = site.anchor.attributes.get_int("axis", 0)
        rw.replace(site.anchor.outputs[0], stacked(values[site.data[0]], axis, found.backwards, rw))
        rows = set(ir.producers(site.anchor))
        old = rows.union(found.nodes, found.elements)
        rw.erase(site.anchor, *(n for n in reversed(list(rw.graph)) if n in old))


def _rows(join: ir.Node) -> list[ir.Value]:
    """Return what a Concat stacks along a new axis, computed by nodes; nothing where it does something else."""
    found = []
    axis = join.attributes.get_int("axis", 0)
    for value in join.inputs:
        row = None if value is None else value.producer()
        if row is None or row.op_type != "Unsqueeze" or row.domain or integers(row, 1, "axes") != [axis]:
            return []
        inner = row.inputs[0]
        if inner is None or inner.producer() is None:
            return []
        found.append(inner)
    return found


def _mapped(module: ir.Module, rows: list[ir.Value]) -> _Rows | str:
    """Return what rows compute of their elements, or why that has no common form."""
    leaves = _leaves(rows[0])
    twins = [Twins(module, leaves.keys()) for _ in rows]
    if not all(t.pair(rows[0], r) for t, r in zip(twins[1:], rows[1:], strict=True)):
        return "the rows are computed by other operators, or from other values"
    others = [t.pairs for t in twins[1:]]
    items: dict[ir.Value, Item] = {}
    directions = set()
    for leaf, item in leaves.items():
        found = [item, *(item_of(p[leaf], known_number) for p in others if leaf in p)]
        places = [f.at for f in found if f is not None and (f.sequence, f.axis) == (item.sequence, item.axis)]
        low = min((p for p in places if isinstance(p, int)), default=0)
        forwards = list(range(low, low + len(rows)))
        if places not in (forwards, forwards[::-1]):
            return "the elements are not in the order of one sequence"
        items[leaf] = Item(item.sequence, item.axis, low)
        directions.add(places != forwards)
    if len(directions) != 1:
        return "it reads sequences in both directions, or none"
    shared = {v for v in others[0] if all(p.get(v) is v or ir.Module.is_constant(v) for p in others)}
    graph = rows[0].producer().graph  # type: ignore[union-attr]
    assert graph is not None
    mapped = Mapped(graph, len(rows), items.get, shared.__contains__)
    reason = "the rows are the same" if rows[0] in shared else mapped.refusal(rows[0])
    pairs = [(a, b) for p in others for a, b in p.items() if a not in leaves and a not in shared]
    nodes = dict.fromkeys(n for a, b in pairs for v in (a, b) if (n := v.producer()) is not None)
    elements = {n for a in leaves for v in (a, *(p[a] for p in others)) if (n := v.producer()) is not None}
    return reason or _Rows(mapped, directions.pop(), nodes, elements)


def _leaves(row: ir.Value) -> dict[ir.Value, Item]:
    """Return the elements of sequences that a value is computed from, the nearest ones."""
    found: dict[ir.Value, Item] = {}
    seen: set[ir.Value] = set()
    stack = [row]
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        item = item_of(value, known_number)
        if item is not None and isinstance(item.at, int):
            found[value] = item
        elif (node := value.producer()) is not None and len(seen) < _MOST:
            stack += ir.operands(node)
    return found


def _used_elsewhere(site: Site, nodes: dict[ir.Node, None]) -> str | None:
    rows = {v.producer() for v in site.anchor.inputs if v is not None}
    for node in nodes:
        for value in node.outputs:
            if value.is_graph_output() or any(u not in nodes and u not in rows for u in value.consumers()):
                return f"{value.name!r} has other users"
    return None
