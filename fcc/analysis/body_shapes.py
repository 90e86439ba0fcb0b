"""Shapes through Loop and Scan: what enters a body, what every trip keeps, and what comes out.

A carried value has the shape that it starts with if a trip that starts with it ends with it: that is assumed, the body
is inferred, and what turns out otherwise is taken back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .. import ir
from .loops import LOOPS, Looped, looped

Dims = tuple[ir.Dim | int | None, ...]


@dataclass(frozen=True)
class _Assumption:
    """A carried value has the dims that it starts with in every trip."""

    inner: ir.Value
    given: ir.Value
    dims: Dims


def infer_body(node: ir.Node, body: ir.Graph, infer: Callable[[], None], elements: str) -> None:
    """Bind what enters a nested graph and call ``infer``, until nothing of what was assumed turns out wrong.

    ``elements`` is the key under which inference keeps what it knows of contents.
    """
    loop = looped(node) if node.op_type in LOOPS and node.domain == "" else ""
    if isinstance(loop, str):
        infer()
        return
    _bind(loop)
    left = _assumptions(loop)
    before = [(v, v.shape, v.meta.get(elements)) for v in _values(body)] if left else []
    while left:
        for a in left:
            a.inner.shape = ir.to_shape(a.dims)
        infer()
        held = [a for a in left if ir.dims_of(a.given) == a.dims]
        if len(held) == len(left):
            return
        for value, shape, found in before:
            value.shape = shape
            value.meta[elements] = found
        left = held
    infer()


def result_dims(node: ir.Node) -> Iterator[tuple[ir.Value, Dims]]:
    """Yield the dims of the outputs of a Loop or Scan, None for sizes that are not known."""
    loop = looped(node)
    if isinstance(loop, str):
        return
    for c in loop.carried:
        dims = ir.dims_of(c.init)
        if dims is not None and dims == ir.dims_of(c.inner) == ir.dims_of(c.given):
            yield c.result, dims
    lengths = [(ir.dims_of(e.source) or ())[e.axis] for e in loop.elements if ir.dims_of(e.source)]
    for s in loop.stacked:
        dims = ir.dims_of(s.given)
        if dims is not None:
            known = [d if isinstance(d, int) else None for d in dims]
            axis = s.axis % (len(known) + 1)
            yield s.result, (*known[:axis], lengths[0] if lengths else None, *known[axis:])


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    for node in graph:
        yield from node.outputs
        for nested in ir.subgraphs_of(node):
            yield from _values(nested)


def _bind(loop: Looped) -> None:
    """Give the inputs of a body element types, and the shapes that are the same in every trip."""
    fixed = ((loop.counter, ir.DataType.INT64), (loop.condition, ir.DataType.BOOL))
    for value, dtype in fixed:
        if value is not None:
            value.type = value.type or ir.TensorType(dtype)
            value.shape = value.shape or ir.Shape(())
    for c in loop.carried:
        c.inner.type = c.inner.type or c.init.type
        _forget_symbols(c.inner)
    for e in loop.elements:
        e.inner.type = e.inner.type or e.source.type
        dims = ir.dims_of(e.source)
        if dims and e.inner.shape is None:
            axis = e.axis % len(dims)
            e.inner.shape = ir.to_shape(dims[:axis] + dims[axis + 1 :])


def _forget_symbols(value: ir.Value) -> None:
    """Let no axis of a carried value stand for a symbol of the graphs around the loop: it may change with each step."""
    dims = ir.dims_of(value)
    if dims is not None:
        value.shape = ir.to_shape(d if isinstance(d, int) else None for d in dims)


def _assumptions(loop: Looped) -> list[_Assumption]:
    found = []
    for c in loop.carried:
        start, declared = ir.dims_of(c.init), ir.dims_of(c.inner)
        if start is None or (declared is not None and not _fits(start, declared)):
            continue
        if declared is None or None in declared:
            found.append(_Assumption(c.inner, c.given, start))
    return found


def _fits(start: Dims, declared: Dims) -> bool:
    pairs: Any = zip(start, declared, strict=False)
    return len(start) == len(declared) and all(b is None or a == b for a, b in pairs)
