"""fold-constants: f(constants) -> constant."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.shapes import static_size
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._cone import cone, dying, freed_bytes, has_elements, nbytes
from ._constant_nodes import Plan, is_source, refusal

DEFER_BYTES = 1 << 20


@dataclass
class _Fold:
    """What a site knows: why it cannot fold, the nodes that compute it, and the arrays once they are computed."""

    reason: str | None
    nodes: list[ir.Node] = field(default_factory=list)
    arrays: list[np.ndarray[Any, Any]] | None = None


@dataclass(frozen=True)
class FoldConstants(SitePass):
    """Replace nodes that compute the same on every run by what they compute, in every graph.

    f(c1, g(c2), ...) -> constant

    Shapes: static and known before anything is evaluated. Never: random operators, Q and DQ, control flow, sequences.
    ``growth``: bytes by which the result may exceed the constants and nodes that die with it. ``elements`` and
    ``slow_elements`` bound the result of a node, with a vectorized evaluator and without; what moves or adds whole
    weights may be as large as they are. Results of 1 MiB and more are computed at save where that cannot fail.
    Numerics: as the operator specifies in its own dtype; reductions of floats may round otherwise than a runtime.
    """

    name: ClassVar[str] = "fold-constants"
    growth: int = 1024
    elements: int = 1 << 24
    slow_elements: int = 1 << 20

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        version: int | None = None
        whole = sum(static_size(v) or 0 for graph in module.graphs() for v in graph.initializers.values())
        while version != module.version:
            version = module.version
            for graph in module.graphs():
                reasons = self._survey(graph, whole)
                for node in reversed(list(reasons)):
                    if any(ir.is_used(v) for v in node.outputs) and not _is_output_form(node):
                        nodes = cone(node.outputs, graph, lambda n, r=reasons: r.get(n, "") is None)  # type: ignore[misc]
                        yield Site(node, module, ctx, _Fold(reasons[node], nodes))

    def check(self, site: Site) -> str | None:
        fold, node = site.data, site.anchor
        if fold.reason is not None:
            return str(fold.reason)
        size = sum(nbytes(v) or 0 for v in node.outputs if ir.is_used(v))
        room = freed_bytes(dying(fold.nodes, node)) + self.growth
        if size > room:
            return f"the result has {size} bytes, {room} would be freed"
        plan = Plan.of(fold.nodes, site.module.opset())
        if size >= DEFER_BYTES and plan.deferrable():
            return None
        try:
            fold.arrays = plan.run()
        except Exception as error:  # an evaluator that refuses its operands leaves the node to the runtime
            return " ".join(f"evaluation failed: {type(error).__name__}: {error}".split())[:200]
        return next((r for v, a in zip(node.outputs, fold.arrays, strict=True) if (r := _differs(v, a))), None)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        fold, node = site.data, site.anchor
        if fold.arrays is None:
            plan = Plan.of(fold.nodes, site.module.opset())
            rw.replace(node.outputs[0], rw.lazy(lambda: plan.run()[0], like=node.outputs[0]))
        else:
            for value, array in zip(node.outputs, fold.arrays, strict=True):
                if ir.is_used(value):
                    rw.replace(value, rw.const(np.array(array, order="C")))
        known = cone((v for n in fold.nodes for v in n.inputs), rw.graph, has_elements)
        rw.erase(*reversed(fold.nodes), *reversed(known))

    def _survey(self, graph: ir.Graph, whole: int) -> dict[ir.Node, str | None]:
        """Return the nodes of a graph that depend on constants only, in order, with what forbids to evaluate each."""
        found: dict[ir.Node, str | None] = {}
        for node in graph:
            inputs = ir.operands(node)
            if inputs and all(is_source(v) or found.get(_producer(v), "") is None for v in inputs):
                found[node] = refusal(node, self.elements, self.slow_elements, whole)
        return found


def _producer(value: ir.Value) -> Any:
    return value.producer()


def _is_output_form(node: ir.Node) -> bool:
    """Identity of a constant: how a constant is a graph output; elsewhere eliminate-identity removes it."""
    return node.op_type == "Identity" and ir.Module.is_constant(node.inputs[0])


def _differs(value: ir.Value, array: np.ndarray[Any, Any] | None) -> str | None:
    if not ir.is_used(value):
        return None
    if array is None or value.dtype is None:
        return f"the evaluator gives no {value.name!r}"
    if tuple(array.shape) != ir.dims_of(value) or array.dtype != value.dtype.numpy():
        found = f"{array.dtype}{list(array.shape)}"
        return f"the evaluator gives {found} for {value.name!r}, inference {value.dtype}{value.shape}"
    return None
