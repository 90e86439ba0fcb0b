"""merge-transposes: a chain of Transpose, Reshape and their kind -> the fewest nodes that move the elements alike."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._axes import MOVERS, layouts
from ._outputs import output_refusal
from ._rearrange import Rearrangement, rearrangement


@dataclass(frozen=True)
class _Shorter:
    """What takes the place of a chain, and the nodes that go with it, last first."""

    instead: Rearrangement
    dying: tuple[ir.Node, ...]


class MergeTransposes(SitePass):
    """Move elements to where a chain of movers puts them with fewer nodes.

    Reshape(Transpose(Reshape(x, [B * N, S, H]), [0, 2, 1]), [B, N, H, S])  ->  Transpose(x, [0, 1, 3, 2])

    Movers: Transpose, Reshape, Flatten, Squeeze, Unsqueeze. The chain becomes at most Reshape, Transpose, Reshape; only
    where that takes fewer nodes than those of the chain that nothing else uses, and no more Transposes.
    Shapes: sizes known, at least as symbols, none 0. Numerics: exact.
    Source: axes as products of factors, Rogozhnikov 2022 (einops); torch exports attention with such chains.
    """

    name: ClassVar[str] = "merge-transposes"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.graph is not None and _ends_chain(node):
                yield Site(node, module, ctx, _shorter(node))

    def check(self, site: Site) -> str | None:
        if site.data is None:
            return "nothing shorter moves the elements alike"
        instead: Rearrangement = site.data.instead
        return None if instead.steps else output_refusal(site.anchor.outputs[0], instead.source)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        found: _Shorter = site.data
        rw.replace(site.anchor.outputs[0], found.instead.emit(rw))
        rw.erase(*found.dying)


def _moves(node: ir.Node | None) -> bool:
    return node is not None and node.op_type in MOVERS and node.domain == "" and node.inputs[0] is not None


def _ends_chain(node: ir.Node) -> bool:
    """Return whether a mover follows a mover, and no single mover follows it; a Transpose is among them."""
    if not _moves(node):
        return False
    before, after = node.inputs[0], ir.sole_user(node.outputs[0])
    inner = None if before is None else before.producer()
    return _moves(inner) and not (_moves(after) and after is not None and after.inputs[0] is node.outputs[0])


def _shorter(node: ir.Node) -> _Shorter | None:
    best: tuple[int, _Shorter] | None = None
    for source, layout, nodes in layouts(node.outputs[0]):
        if not all(n.op_type in MOVERS for n in nodes):
            break
        found = rearrangement(source, layout, layout.axes) if len(nodes) > 1 else None
        if found is None:
            continue
        dying = _dying(nodes)
        turns = sum(n.op_type == "Transpose" for n in dying)
        gain = len(dying) - found.cost[1]
        if gain > 0 and found.cost[0] <= turns and (best is None or gain > best[0]):
            best = gain, _Shorter(found, dying)
    return None if best is None else best[1]


def _dying(nodes: tuple[ir.Node, ...]) -> tuple[ir.Node, ...]:
    """Return the nodes at the end of a chain, last first, that nothing else uses."""
    for i, node in enumerate(nodes[1:], 1):
        if ir.sole_user(node.outputs[0]) is not nodes[i - 1]:
            return nodes[:i]
    return nodes
