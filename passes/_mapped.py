"""Values that are computed from elements of sequences, each by itself: which nodes do it, and how for all at once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.analysis.trips import Size
from fcc.rewrite import Rewriter

from ._cone import cone
from ._lifted import Lifted, lift
from ._sequence_items import Item

Leaf = Callable[[ir.Value], Item | None]
_LARGEST = 1 << 24  # elements of all results of one node together, where that is known


@dataclass
class Mapped:
    """The nodes between some values and the elements they are computed from, in order.

    ``item`` says which element of which sequence a value is; ``given`` whether it is the same for every element, and
    there when the sequences are.
    """

    graph: ir.Graph
    count: Size
    item: Leaf
    given: Callable[[ir.Value], bool]
    nodes: dict[ir.Node, Lifted] = field(default_factory=dict)
    leaves: dict[ir.Value, Item] = field(default_factory=dict)

    def refusal(self, value: ir.Value) -> str | None:
        """Add what a value is computed by; return why it cannot be computed for all elements at once, or None."""
        if self._is_known(value):
            return None
        for node in cone([value], self.graph, lambda n: not any(self._is_known(v) for v in n.outputs)):
            strange = next((v for v in node.inputs if v is not None and not self._is_known(v)), None)
            if strange is not None:
                return f"{strange.name!r} differs by element in another way"
            reason = self._add(node)
            if reason is not None:
                return reason
        return None if self._is_known(value) else f"{value.name!r} differs by element in another way"

    def _is_known(self, value: ir.Value) -> bool:
        if value in self.leaves or value.producer() in self.nodes or self.given(value):
            return True
        item = None if ir.dims_of(value) is None else self.item(value)
        if item is not None:
            self.leaves[value] = item
        return item is not None

    def _add(self, node: ir.Node) -> str | None:
        lifted = [v is not None and not self.given(v) for v in node.inputs]
        found = lift(node, lifted) if any(lifted) else f"{node.op_type} gives the same for every element"
        if isinstance(found, str):
            return found
        sizes = [shapes.static_size(v) for v in node.outputs]
        count = self.count if isinstance(self.count, int) else 1
        if any(s is not None and s * count > _LARGEST for s in sizes):
            return f"{node.op_type} on all elements at once would be too large"
        self.nodes[node] = found
        return None

    def write(
        self, rw: Rewriter, all_of: Callable[[Item], ir.Value], given: Callable[[ir.Value], ir.Value]
    ) -> dict[ir.Value, ir.Value]:
        """Return every value for all elements, along a new first axis.

        ``all_of`` returns all elements from an item on, ``given`` what is the same for them.
        """
        values = {v: _kept(all_of(i), i, v, rw) for v, i in self.leaves.items()}
        for node, form in self.nodes.items():
            operands = [None if v is None else values[v] if v in values else given(v) for v in node.inputs]
            values.update(zip(node.outputs, form.write(rw, node, operands), strict=True))
        return values


def _kept(elements: ir.Value, item: Item, one: ir.Value, rw: Rewriter) -> ir.Value:
    """Return elements with the axis of size 1 that a single one keeps."""
    if len(ir.known_dims(one)) < len(item.dims):
        return elements
    made: ir.Value = rw.op("Unsqueeze", elements, np.array([item.axis + 1], np.int64))
    return made
