"""convert-shape-operands: Expand(y, Concat(Gather(Shape(x)), ...)) -> Expand(y, Shape(Slice(x)))."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._cone import cone, dying, has_elements

_OPERANDS = {"Expand": (1,), "Range": (0, 1, 2)}


@dataclass(frozen=True)
class _Plan:
    """Slice all axes of ``source`` but ``axis`` to 1, then read the shape as ``rank`` entries (0: a scalar)."""

    source: ir.Value
    axis: int
    rank: int
    place: int
    cost: int


class ConvertShapeOperands(SitePass):
    """Read a shape operand that holds one symbol from a tensor that has it, without integer arithmetic.

    Expand(y, f(Shape(x))) -> Expand(y, Shape(Slice(x))),  Range(0, f(Shape(x)), 1) -> Range(0, Size(Slice(x)), 1)

    Shapes: the operand is [1, .., N, .., 1] (entries that the input of the Expand has itself count as 1), or the scalar
    N; x has N on one axis and sizes known to be at least 1 on the others, which the Slice takes to 1. Only where nodes
    become fewer. A provider such as CUDA keeps integer arithmetic on the CPU; Slice, Shape and Size it runs itself.
    Numerics: exact. Source: ONNX Shape-15, Size-13, Expand-13, Range-11.
    """

    name: ClassVar[str] = "convert-shape-operands"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            for i in _OPERANDS.get(node.op_type, ()) if node.domain == "" else ():
                value = node.inputs[i] if node.graph is not None else None
                if value is not None and value.producer() is not None and shapes.elements(value) is not None:
                    yield Site(node, module, ctx, i)

    def check(self, site: Site) -> str | None:
        if site.module.opset() < 15:
            return "Shape has no start and end before opset 15"
        plan = _plan(site.anchor, site.data)
        if isinstance(plan, str):
            return plan
        kind = None if plan.source.dtype is None else plan.source.dtype.name.lower()
        if plan.rank == 0 and (kind is None or site.ctx.target.refusal("Size", "", site.module.opset(), {"T": kind})):
            return f"{site.ctx.target.name} has no kernel for the Size of {kind}"
        operand = site.anchor.inputs[site.data]
        assert site.anchor.graph is not None
        feeding = cone([operand], site.anchor.graph, has_elements)
        saved = len(dying(feeding, site.anchor)) - 1
        return None if plan.cost < saved else f"{plan.cost} nodes would replace {saved}"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        plan = _plan(site.anchor, site.data)
        assert not isinstance(plan, str)
        dims = ir.known_dims(plan.source)
        cut = np.array([i for i, d in enumerate(dims) if i != plan.axis and d != 1], np.int64)
        value = plan.source
        if cut.size:
            value = rw.op("Slice", value, np.zeros_like(cut), np.ones_like(cut), cut)
        start = plan.axis - plan.place
        if plan.rank == 0:
            made = rw.op("Size", value)
        elif start >= 0 and start + plan.rank <= len(dims):
            whole = start == 0 and plan.rank == len(dims)
            made = rw.op("Shape", value) if whole else rw.op("Shape", value, start=start, end=start + plan.rank)
        else:
            target = np.ones(plan.rank, np.int64)
            target[plan.place] = -1
            made = rw.op("Shape", rw.op("Reshape", value, target))
        operand = site.anchor.inputs[site.data]
        rw.set_input(site.anchor, site.data, made)
        rw.erase(*reversed(cone([operand], rw.graph, has_elements)))


def _plan(node: ir.Node, index: int) -> _Plan | str:
    operand = node.inputs[index]
    found = shapes.elements(operand)
    if operand is None or found is None or operand.dtype != ir.DataType.INT64:
        return "the operand is not int64 of known elements"
    entries = found.reshape(-1).tolist()
    needed = _relaxed(node, entries) if node.op_type == "Expand" else entries
    places = [i for i, e in enumerate(needed) if not (isinstance(e, int) and e == 1)]
    symbol = needed[places[0]] if len(places) == 1 else None
    if not isinstance(symbol, ir.Dim):
        return "the operand is not 1 everywhere but for one symbol"
    rank = 0 if found.ndim == 0 else len(needed)
    plans = [p for v in _sources(node, operand) if (p := _from(v, symbol, rank, places[0])) is not None]
    return min(plans, key=lambda p: p.cost, default="no tensor nearby has the symbol as one of its dimensions")


def _relaxed(node: ir.Node, entries: list[ir.Dim | int]) -> list[ir.Dim | int]:
    """Return 1 for the entries that the input of an Expand has itself."""
    dims = ir.known_dims(node.inputs[0])
    offset = len(entries) - len(dims)
    return [1 if i >= offset and dims[i - offset] == e else e for i, e in enumerate(entries)]


def _sources(node: ir.Node, operand: ir.Value) -> Iterator[ir.Value]:
    """Yield the tensors whose shapes the operand is computed from."""
    assert node.graph is not None
    for feeding in cone([operand], node.graph, has_elements):
        if feeding.op_type == "Shape" and feeding.inputs[0] is not None:
            yield feeding.inputs[0]


def _from(value: ir.Value, symbol: ir.Dim, rank: int, place: int) -> _Plan | None:
    dims = ir.known_dims(value)
    axes = [i for i, d in enumerate(dims) if d == symbol]
    if len(axes) != 1 or any(not ir.at_least(d, 1) for i, d in enumerate(dims) if i != axes[0]):
        return None
    if not all(isinstance(d, int) for i, d in enumerate(dims) if i != axes[0]):
        return None
    sliced = any(d != 1 for i, d in enumerate(dims) if i != axes[0])
    start = axes[0] - place
    fits = rank == 0 or (start >= 0 and start + rank <= len(dims))
    return _Plan(value, axes[0], rank, place, 1 + sliced + (not fits))
