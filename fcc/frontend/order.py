"""Topological order of the nodes of every graph."""

from __future__ import annotations

from collections.abc import Iterable

from fcc import ir
from fcc.errors import LoadError

from .schema import describe


def sort_nodes(module: ir.Module) -> None:
    """Sort the nodes so that producers come first; graphs in order stay as they are. Functions too.

    Raises:
        LoadError: a cycle, naming the nodes on it.
    """
    owners: list[ir.Graph | ir.Function] = [module.model.graph, *module.model.functions.values()]
    for owner in owners:
        if _is_sorted(owner, set()):
            continue
        try:
            owner.sort()
        except ValueError:
            raise LoadError(f"the graph has a cycle: {_cycle(owner)}", "export the model again") from None


def _is_sorted(nodes: Iterable[ir.Node], seen: set[ir.Node]) -> bool:
    """A node counts as seen after the graphs it contains, so neither can use its outputs."""
    for node in nodes:
        for value in node.inputs:
            producer = value.producer() if value is not None else None
            if producer is not None and producer not in seen:
                return False
        if not all(_is_sorted(graph, seen) for graph in ir.subgraphs_of(node)):
            return False
        seen.add(node)
    return True


def _cycle(owner: ir.Graph | ir.Function) -> str:
    needs: dict[ir.Node, set[ir.Node]] = {}
    for node in owner.all_nodes():
        direct = {p for v in node.inputs if v is not None and (p := v.producer()) is not None}
        direct.update(n for g in ir.subgraphs_of(node) for n in g)
        needs[node] = direct
    ready = [n for n, d in needs.items() if not d & needs.keys()]
    while ready:
        done = ready.pop()
        del needs[done]
        ready.extend(n for n, d in needs.items() if n not in ready and not d & needs.keys())
    node = next(iter(needs))
    path: list[ir.Node] = []
    while node not in path:
        path.append(node)
        node = next(n for n in sorted(needs[node] & needs.keys(), key=lambda n: n.name or ""))
    loop = path[path.index(node) :]
    return " <- ".join(describe(n) for n in [*loop[:4], loop[0]])
