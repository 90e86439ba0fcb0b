"""unroll-loops: Loop(n, true) {body} -> n copies of its body in a row; Scan alike."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.loops import Carried, Looped, Stacked, looped, used_loops
from fcc.analysis.trips import trips
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._cone import cone, has_elements
from ._constant_nodes import RANDOM


@dataclass(frozen=True)
class UnrollLoops(SitePass):
    """Write the body of a Loop or Scan as often as it runs, when that is known and little.

    y = Loop(3, true, x) {x -> f(x)} -> y = f(f(f(x)))
    y = Scan(x) {e -> f(e)} -> y = Concat(Unsqueeze(f(x[0])), Unsqueeze(f(x[1])), ...)

    The number of trips is known when that of a Loop is constant and its condition stays true, or compares a counter
    with a constant, and when the sequences of a Scan have a known length. No trip: what is carried stays as it was,
    what is stacked is empty. At most ``max_trips`` trips and ``max_nodes`` nodes, but one trip or none of any size.
    Constants of the body are shared by the copies. Shapes: any; what no trip stacks needs a known shape.
    Numerics: exact, the same operations in the same order. Source: ONNX Loop-25, Scan-25.
    """

    name: ClassVar[str] = "unroll-loops"
    grows: ClassVar[bool] = True
    max_trips: int = 32
    max_nodes: int = 256

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in used_loops(module, again=True):
            yield Site(node, module, ctx, looped(node))

    def check(self, site: Site) -> str | None:
        loop = site.data
        if isinstance(loop, str):
            return loop
        if site.module.opset() < 13:
            return "before opset 13, Unsqueeze has no axes operand"
        count = trips(loop)
        if not isinstance(count, int):
            return "how often it runs is not known"
        reason = _unfit(loop)
        if reason is None and count == 0:
            reason = next((r for s in loop.stacked if ir.is_used(s.result) and (r := _unknown(s.given))), None)
        if reason is None and count > 1:
            reason = _unjoined(loop, site.module.opset()) or self._excess(loop, count)
        return reason

    def _excess(self, loop: Looped, count: int) -> str | None:
        nodes = list(_nodes(loop.body))
        random = next((n.op_type for n in nodes if n.op_type in RANDOM), None)
        if random is not None:
            return f"{random} draws anew in every trip"
        if count > self.max_trips:
            return f"{count} trips are more than {self.max_trips}"
        size = count * len(nodes)
        return f"{size} nodes are more than {self.max_nodes}" if size > self.max_nodes else None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        loop, count = site.data, trips(site.data)
        assert isinstance(count, int)
        carried = [c.init for c in loop.carried]
        stacks: list[list[ir.Value]] = [[] for _ in loop.stacked]
        for trip in range(count):
            given = rw.copy(loop.body, _entering(loop, carried, trip, count, rw))[loop.goes_on is not None :]
            carried = given[: len(carried)]
            for stack, value in zip(stacks, given[len(carried) :], strict=True):
                stack.append(value)
        for state, value in zip(loop.carried, carried, strict=True):
            rw.replace(state.result, value)
        for output, values in zip(loop.stacked, stacks, strict=True):
            if ir.is_used(output.result):
                rw.replace(output.result, _stack(output, values, rw))
        rw.erase(site.anchor, *reversed(cone(site.anchor.inputs[:2], rw.graph, has_elements)))


def _nodes(graph: ir.Graph) -> Iterator[ir.Node]:
    for node in graph:
        yield node
        for nested in ir.subgraphs_of(node):
            yield from _nodes(nested)


def _unfit(loop: Looped) -> str | None:
    """What is no tensor cannot be an Identity or a constant, should it become an output; shapes may not change."""
    if not all(isinstance(c.init.type, ir.TensorType) for c in loop.carried):
        return "it carries what is no tensor"
    return "its body declares another shape than it is given" if any(map(_differs, loop.carried)) else None


def _differs(state: Carried) -> bool:
    given, declared = ir.dims_of(state.init), ir.dims_of(state.inner)
    if given is None or declared is None:
        return False
    known = [(a, b) for a, b in zip(given, declared, strict=False) if isinstance(a, int) and isinstance(b, int)]
    return any(a != b for a, b in known)


def _unjoined(loop: Looped, opset: int) -> str | None:
    takes = ir.schema_of("Concat", "", opset).inputs[0].types
    kinds = [s.given.dtype for s in loop.stacked if ir.is_used(s.result) and s.given.dtype is not None]
    return next((f"Concat takes no {k}" for k in kinds if f"tensor({k.name.lower()})" not in takes), None)


def _unknown(value: ir.Value) -> str | None:
    dims = ir.dims_of(value)
    if value.dtype is None or value.dtype == ir.DataType.STRING or dims is None:
        return f"the type of {value.name!r} is not known"
    return None if all(isinstance(d, int) for d in dims) else f"the shape of {value.name!r} is not known"


def _entering(
    loop: Looped, carried: Sequence[ir.Value], trip: int, count: int, rw: Rewriter
) -> dict[ir.Value, ir.Value]:
    """Return what the inputs of the body are in one trip."""
    found = {c.inner: value for c, value in zip(loop.carried, carried, strict=True)}
    for e in loop.elements:
        at = np.asarray(count - 1 - trip if e.reverse else trip, np.int64)
        found[e.inner] = rw.op("Gather", e.source, at, axis=e.axis)
    fixed: tuple[tuple[ir.Value | None, np.generic], ...] = (
        (loop.counter, np.int64(trip)),
        (loop.condition, np.bool_(True)),
    )
    for value, number in fixed:
        if value is not None and ir.is_used(value):
            found[value] = rw.const(np.full((1,) * len(ir.known_dims(value)), number))
    return found


def _stack(output: Stacked, values: Sequence[ir.Value], rw: Rewriter) -> ir.Value:
    if not values:
        dtype, dims = output.given.dtype, ir.numbers(ir.known_dims(output.given))
        assert dtype is not None
        at = output.axis % (len(dims) + 1)
        return rw.const(np.zeros((*dims[:at], 0, *dims[at:]), dtype.numpy()))
    axis = rw.const(np.asarray([output.axis], np.int64))
    rows = [rw.op("Unsqueeze", v, axis) for v in (reversed(values) if output.reverse else values)]
    joined: ir.Value = rw.op("Concat", *rows, axis=output.axis) if len(rows) > 1 else rows[0]
    return joined
