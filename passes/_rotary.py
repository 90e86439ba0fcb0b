"""Rotary position embedding written in primitives: each pair (a, b) of x becomes (a cos - b sin, b cos + a sin)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from fcc import ir

from ._attention import producer
from ._axes import Layout, Size, layouts
from ._half_tables import Make, halved
from ._intervals import parts_of, pieces
from ._views import full_dims

Source = tuple[ir.Value, Layout, tuple[ir.Node, ...]]


@dataclass(frozen=True)
class Table:
    """A table of cosines or sines [.., width / 2]: its shape, and how to make it."""

    dims: tuple[Size, ...]
    make: Make


@dataclass(frozen=True)
class Rotary:
    """``y`` is ``x`` rotated; ``sources`` says from what x may be taken, and how it lies there.

    With each source come the nodes before it that lay out x. ``width`` numbers of the last axis are rotated;
    ``interleaved``: neighbours are pairs, else numbers of both halves.
    """

    y: ir.Value
    dims: tuple[Size, ...]
    sources: tuple[Source, ...]
    cos: Table
    sin: Table
    interleaved: bool
    width: int


def rotary_of(node: ir.Node) -> Rotary | str | None:
    """Return the rotation that an Add, Sub or Concat ends, why it is none, or None where nothing looks like one."""
    if node.op_type in ("Add", "Sub"):
        found = _of_whole(node)
        return _partial(found) if isinstance(found, Rotary) else found
    return _of_halves(node)


# -- x cos + (-b, a) sin ---------------------------------------------------------------------------------------------
def _of_whole(node: ir.Node) -> Rotary | str | None:
    for first, second in (node.inputs, tuple(reversed(node.inputs)))[: 2 if node.op_type == "Add" else 1]:
        a, b = producer(first, "Mul"), producer(second, "Mul")
        if a is None or b is None:
            return None
        for turned, sine in (b.inputs, tuple(reversed(b.inputs))):
            for x, cosine in (a.inputs, tuple(reversed(a.inputs))):
                assert turned is not None
                assert x is not None
                swapped = _swapped(turned, x)
                if swapped is None or swapped[1] != (node.op_type == "Add"):
                    continue
                return _whole(node, x, cosine, sine, swapped[0])
    return None


def _whole(
    node: ir.Node, x: ir.Value, cosine: ir.Value | None, sine: ir.Value | None, interleaved: bool
) -> Rotary | str:
    dims, cos, sin = full_dims(x), _table(cosine, interleaved), _table(sine, interleaved)
    y = node.outputs[0]
    if dims is None or 0 in dims or full_dims(y) != dims or not isinstance(width := dims[-1], int):
        return "the shape changes, or is not known"
    if cos is None or sin is None:
        return "cosines and sines are not known to be there twice"
    return Rotary(y, dims, _sources(x), cos, sin, interleaved, width)


def _sources(x: ir.Value) -> tuple[Source, ...]:
    found = [(s, layout, nodes) for s, layout, nodes in layouts(x) if layout.scale == 1.0]
    return tuple((s, layout, found[-1][2][len(nodes) :]) for s, layout, nodes in found)


def _table(value: ir.Value | None, interleaved: bool) -> Table | None:
    dims, make = full_dims(value), halved(value, interleaved)
    if dims is None or make is None or not isinstance(dims[-1], int):
        return None
    return Table((*dims[:-1], dims[-1] // 2), make)


def _swapped(value: ir.Value, x: ir.Value) -> tuple[bool, bool] | None:
    """Return (interleaved, whether it is (-b, a) and not (b, -a)) where a value is x with its pairs swapped."""
    joined = _join(value)
    if joined is None:
        return None
    interleaved, ends = joined
    negated = [producer(v, "Neg") for v in ends]
    if (negated[0] is None) == (negated[1] is None):
        return None
    parts = [v if n is None else n.inputs[0] for v, n in zip(ends, negated, strict=True)]
    if [_part_of(v, x, interleaved) for v in parts] != [1, 0]:
        return None
    return interleaved, negated[0] is not None


def _join(value: ir.Value) -> tuple[bool, tuple[ir.Value, ir.Value]] | None:
    """Return (interleaved, the two parts) of a Concat along the last axis, or of a stack with its axes joined."""
    dims, concat = full_dims(value), producer(value, "Concat")
    if concat is not None:
        return None if _parts(concat) is None else (False, _parts(concat) or (value, value))
    reshape = producer(value, "Reshape", "Flatten")
    concat = None if reshape is None else producer(reshape.inputs[0], "Concat")
    parts = None if concat is None else _parts(concat)
    if dims is None or parts is None or full_dims(concat.outputs[0]) != (*dims[:-1], dims[-1] // 2, 2):  # type: ignore[union-attr]
        return None
    flat = [_without_last(v) for v in parts]
    return None if flat[0] is None or flat[1] is None else (True, (flat[0], flat[1]))


def _parts(concat: ir.Node) -> tuple[ir.Value, ir.Value] | None:
    rank = len(ir.known_dims(concat.outputs[0]))
    last = concat.attributes.get_int("axis", 0) in (-1, rank - 1)
    a, b = concat.inputs if len(concat.inputs) == 2 else (None, None)
    if a is None or b is None or not last or full_dims(a) is None or full_dims(a) != full_dims(b):
        return None
    return a, b


def _without_last(value: ir.Value) -> ir.Value | None:
    """Return what an Unsqueeze, or a Reshape, puts an axis of size 1 behind."""
    node, dims = producer(value, "Unsqueeze", "Reshape"), full_dims(value)
    inner = None if node is None else node.inputs[0]
    return inner if dims is not None and inner is not None and full_dims(inner) == dims[:-1] and dims[-1] == 1 else None


def _part_of(value: ir.Value | None, x: ir.Value, interleaved: bool) -> int | None:
    """Return which of each pair of x a value holds."""
    for source, layout, _ in () if value is None else layouts(value):
        if source is x:
            return _index(layout, interleaved)
    return None


def _index(layout: Layout, interleaved: bool) -> int | None:
    """Return the index of the pairs' factor of the last axis of the source, which is all that is fixed."""
    last = layout.source[-1]
    pair = last[-1:] if interleaved else last[:1]
    rest = last[:-1] if interleaved else last[1:]
    if list(layout.fixed) != list(pair) or layout.sizes[pair[0]] != 2 or layout.scale != 1.0:
        return None
    return layout.fixed[pair[0]] if layout.axes == (*layout.source[:-1], rest) else None


# -- (a cos - b sin, b cos + a sin) joined ---------------------------------------------------------------------------
def _of_halves(node: ir.Node) -> Rotary | str | None:
    end = node
    user = ir.sole_user(node.outputs[0])
    if user is not None and user.inputs[0] is node.outputs[0]:
        joined = _join(user.outputs[0])
        end = user if joined is not None and joined[0] else node
    joined = _join(end.outputs[0])
    if joined is None:
        return None
    interleaved, (first, second) = joined
    minus, plus = producer(first, "Sub"), producer(second, "Add")
    if minus is None or plus is None:
        return None
    for a, b, cos, sin in _rotated(minus, plus):
        dims, sources = full_dims(a), tuple(_pair_sources(a, b, interleaved))
        tables = [_half_table(t) for t in (cos, sin)]
        if not sources or dims is None or not isinstance(dims[-1], int):
            continue
        if tables[0] is None or tables[1] is None:
            return "the shape of the cosines or sines is not known"
        whole = (*dims[:-1], 2 * dims[-1])
        if full_dims(end.outputs[0]) != whole or 0 in dims:
            return "the shape changes, or is not known"
        return Rotary(end.outputs[0], whole, sources, tables[0], tables[1], interleaved, 2 * dims[-1])
    return None


def _rotated(minus: ir.Node, plus: ir.Node) -> Iterator[tuple[ir.Value, ir.Value, ir.Value, ir.Value]]:
    """Yield (a, b, cos, sin) for which minus is a cos - b sin and plus is b cos + a sin."""
    products = [producer(v, "Mul") for v in (*minus.inputs, *plus.inputs)]
    known = [tuple(p.inputs) for p in products if p is not None]
    if len(known) != 4:
        return
    for a, cos in (known[0], known[0][::-1]):
        for b, sin in (known[1], known[1][::-1]):
            terms = [set(map(id, k)) for k in known[2:]]
            wanted = [{id(b), id(cos)}, {id(a), id(sin)}]
            if terms in (wanted, wanted[::-1]) and None not in (a, b, cos, sin):
                yield a, b, cos, sin  # type: ignore[misc]


def _pair_sources(a: ir.Value, b: ir.Value, interleaved: bool) -> Iterator[Source]:
    """Yield what both parts of each pair come from, with the layout of x over it."""
    others = {s: layout for s, layout, _ in layouts(b)}
    found = list(layouts(a))
    for source, layout, nodes in found:
        other = others.get(source)
        if other is None or other.source != layout.source or other.axes != layout.axes or len(layout.fixed) != 1:
            continue
        ((factor, index),) = layout.fixed.items()
        if (
            index != 0
            or other.fixed != {factor: 1}
            or layout.sizes[factor] != 2
            or {layout.scale, other.scale} != {1.0}
        ):
            continue
        last = (*layout.axes[-1], factor) if interleaved else (factor, *layout.axes[-1])
        yield source, replace(layout, axes=(*layout.axes[:-1], last), fixed={}), found[-1][2][len(nodes) :]


def _half_table(value: ir.Value) -> Table | None:
    dims = full_dims(value)
    return None if dims is None else Table(dims, lambda rw: value)


# -- the rest of the last axis ---------------------------------------------------------------------------------------
def _partial(found: Rotary) -> Rotary:
    """Return the rotation of a wider x, whose further numbers are joined to y as they are; else the same."""
    user, rotated = ir.sole_user(found.y), _piece(found.sources[0][0])
    if user is None or user.op_type != "Concat" or user.domain != "" or rotated is None or len(user.inputs) != 2:
        return found
    rest = _piece(user.inputs[1])
    last = user.attributes.get_int("axis", 0) in (-1, len(found.dims) - 1)
    if rest is None or user.inputs[0] is not found.y or not last or rest[0] is not rotated[0]:
        return found
    dims = full_dims(rest[0]) or ()
    if rotated[1:] != (len(dims) - 1, 0, found.width) or rest[1:] != (len(dims) - 1, found.width, dims[-1]):
        return found
    return replace(found, y=user.outputs[0], dims=dims, sources=_sources(rest[0]))


def _piece(value: ir.Value | None) -> tuple[ir.Value, int, int, int] | None:
    """Return (source, axis, start, stop) of what a Slice or a Split takes of one axis."""
    node = producer(value, "Slice", "Split")
    if node is None or value is None or node.op_type == "Slice":
        return None if node is None else pieces(node)
    found, source, at = parts_of(node), node.inputs[0], node.outputs.index(value)
    assert source is not None
    return None if found is None else (source, found[0], found[1][at], found[1][at + 1])
