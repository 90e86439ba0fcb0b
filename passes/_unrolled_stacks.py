"""What is made of the hidden states of an unrolled layer: stacks of all of them, and single ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

from ._operands import integers
from ._recurrent import Layer, unstacked
from ._unrolled_cells import Chain


@dataclass(frozen=True, eq=False)
class Stack:
    """A Concat of the hidden states with a new axis, in the order of the steps or, if turned, the other way."""

    node: ir.Node
    axis: int
    turned: bool
    rows: tuple[ir.Node, ...]


def stacks_of(chain: Chain) -> list[Stack]:
    """Return the stacks of all hidden states."""
    rows = [u for u in chain.steps[0].h.consumers() if _axis(u) is not None]
    joins = dict.fromkeys(c for u in rows for c in u.outputs[0].consumers() if c.op_type == "Concat" and c.domain == "")
    return [s for j in joins if (s := _stack(j, [s.h for s in chain.steps])) is not None]


def _axis(node: ir.Node) -> int | None:
    """Return the axis that an Unsqueeze makes, from the front."""
    axes = integers(node, 1, "axes") if node.op_type == "Unsqueeze" and node.domain == "" else None
    dims = ir.dims_of(node.outputs[0])
    if not axes or len(axes) != 1 or not isinstance(axes[0], int) or not dims:
        return None
    return axes[0] % len(dims)


def _stack(join: ir.Node, states: Sequence[ir.Value]) -> Stack | None:
    rows = [None if v is None else v.producer() for v in join.inputs]
    axes = {None if r is None else _axis(r) for r in rows}
    (axis,) = axes if len(axes) == 1 else (None,)
    dims = ir.dims_of(join.outputs[0])
    if axis is None or not dims or join.attributes.get_int("axis", 0) % len(dims) != axis:
        return None
    found = [r for r in rows if r is not None and r.graph is join.graph]
    order = [r.inputs[0] for r in found]
    if order not in (list(states), list(states[::-1])):
        return None
    alone = [r for r in found if ir.sole_user(r.outputs[0]) is join]
    return Stack(join, axis, order != list(states), tuple(alone))


def elements(y: ir.Value, layer: Layer, count: int, used: list[int], rw: Rewriter) -> list[ir.Value]:
    """Return the hidden states behind some steps: pieces of a Split where most are asked for."""
    if not used:
        return []
    hidden = unstacked(y, layer.state, rw)
    places = [count - 1 - i if layer.reverse else i for i in used]
    if len(used) < count - 1:
        return [rw.op("Gather", hidden, np.asarray(p, np.int64), axis=0) for p in places]
    pieces = rw.op("Split", hidden, np.ones(count, np.int64), outputs=count, axis=0)
    axis = rw.const(np.zeros(1, np.int64))
    return [rw.op("Squeeze", pieces[p], axis) for p in places]
