"""hoist-invariants: what every trip of a Loop or Scan computes again is computed once in front of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import ClassVar

from fcc import ir
from fcc.analysis.loops import LOOPS, Looped, control_flow, looped
from fcc.analysis.trips import trips
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._constant_nodes import QUANTIZED, RANDOM
from ._live import reads
from ._permutations import NARY, UNARY

Dims = tuple[ir.Dim | int | None, ...]


class HoistInvariants(SitePass):
    """Move nodes that depend on nothing of a Loop or Scan out of its body.

    Loop(n, c, x) {x -> x + f(w)} -> v = f(w), Loop(n, c, x) {x -> x + v}

    A loop that surely runs gives up every such node, nested graphs included; from one that may not run at all, only
    nodes go that cannot fail on any input of their shapes (an integer division or a Reshape could). Never: random
    operators, Q and DQ, other domains, nodes whose result the body gives as it is. Branches of an If keep what they
    have, since one of them would run for nothing. Shapes: any. Numerics: exact, the same operations.
    Source: loop-invariant code motion, Aho et al. 2006, sec. 9.5; ONNX Loop-25, Scan-25.
    """

    name: ClassVar[str] = "hoist-invariants"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in reversed(list(control_flow(module, *LOOPS))):  # the inner ones first
            if node.graph is not None:
                yield Site(node, module, ctx, looped(node))

    def check(self, site: Site) -> str | None:
        if isinstance(site.data, str):
            return site.data
        return None if _invariants(site.data) else "every node of it depends on the trip, or may fail"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        rw.hoist(_invariants(site.data))


def _invariants(loop: Looped) -> list[ir.Node]:
    """Return the nodes that can go, in their order."""
    count = trips(loop)
    runs = count is not None and ir.at_least(count, 1)
    own: set[ir.Value] = set(loop.body.inputs)
    found: list[ir.Node] = []
    for node in loop.body:
        fixed = own.isdisjoint(reads(node)) and not any(v.is_graph_output() for v in node.outputs)
        if fixed and _repeatable(node) and (runs or _cannot_fail(node)):
            found.append(node)
        else:
            own.update(node.outputs)
    return found


def _repeatable(node: ir.Node) -> bool:
    """Return whether a node gives the same whenever it runs."""
    if node.domain or not node.outputs or node.op_type in RANDOM or node.op_type in QUANTIZED:
        return False
    return all(_repeatable(inner) for nested in ir.subgraphs_of(node) for inner in nested)


def _cannot_fail(node: ir.Node) -> bool:
    rule = _SAFE.get(node.op_type)
    return rule is not None and all(v is None or v.dtype != ir.DataType.STRING for v in node.inputs) and rule(node)


def _always(node: ir.Node) -> bool:
    return True


def _broadcasts(node: ir.Node) -> bool:
    return _agree([ir.dims_of(v) for v in node.inputs])


def _agree(shapes: Sequence[Dims | None]) -> bool:
    """Return whether shapes broadcast to each other for every value of the symbols."""
    known = [s for s in shapes if s is not None]
    rank = max((len(s) for s in known), default=0)
    aligned = zip(*((1,) * (rank - len(s)) + s for s in known), strict=True)
    columns = [set(column) - {1} for column in aligned]
    return len(known) == len(shapes) and all(len(c) <= 1 and None not in c for c in columns)


def _float_broadcasts(node: ir.Node) -> bool:
    kinds = [v.dtype for v in node.inputs if v is not None]
    return all(k is not None and k.is_floating_point() for k in kinds) and _broadcasts(node)


def _multiplies(node: ir.Node) -> bool:
    """Return whether two matrices, or stacks of them, are known to have a product."""
    a, b = (ir.dims_of(v) for v in node.inputs[:2])
    if a is None or b is None or len(a) < 2 or len(b) < 2:
        return False
    return a[-1] is not None and a[-1] == b[-2] and _agree([a[:-2], b[:-2]])


def _distinct_axes(node: ir.Node) -> bool:
    """Return whether an Unsqueeze is known to have axes of its result, each once."""
    axes, dims = ir.Module.constant(node.inputs[1]), ir.dims_of(node.inputs[0])
    if axes is None or dims is None:
        return False
    whole = len(dims) + axes.size
    return len({int(a) % whole for a in axes.ravel() if -whole <= a < whole}) == axes.size


_SAFE: dict[str, Callable[[ir.Node], bool]] = {
    **dict.fromkeys((*UNARY, "LogSoftmax", "Shape", "Size", "Softmax", "Transpose"), _always),
    **dict.fromkeys(NARY, _broadcasts),
    **dict.fromkeys(("Div", "Mod", "Pow"), _float_broadcasts),
    "MatMul": _multiplies,
    "Unsqueeze": _distinct_axes,
}
