"""Two computations of the same form: which values of one stand for which of the other."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field

from fcc import ir

from .merge_common_subexpressions import attributes_key

_GLANCE = 16  # elements that tell most constants apart


@dataclass
class Twins:
    """Pairs of values that are computed alike: by the same operators from paired values and equal constants.

    A walk ends at ``stops`` of the first computation, which pair with whatever stands in their place, and at values
    that both have in common. ``pairs`` maps the first to the second. Nested graphs are not compared.
    """

    module: ir.Module
    stops: Collection[ir.Value] = ()
    pairs: dict[ir.Value, ir.Value] = field(default_factory=dict)

    def pair(self, first: ir.Value, second: ir.Value) -> bool:
        """Pair two values and all that they are computed from; return whether that is possible. O(nodes)."""
        stack = [(first, second)]
        while stack:
            a, b = stack.pop()
            if a in self.pairs:
                if self.pairs[a] is not b:
                    return False
                continue
            self.pairs[a] = b
            if a is not b and a not in self.stops:
                operands = self._operands(a, b)
                if operands is None:
                    return False
                stack += operands
        return True

    def _operands(self, a: ir.Value, b: ir.Value) -> list[tuple[ir.Value, ir.Value]] | None:
        """Return what must be paired for two values to be computed alike, None where they are not."""
        if ir.Module.is_constant(a) and ir.Module.is_constant(b):
            return [] if _equal(a, b) else None
        first, second = a.producer(), b.producer()
        if first is None or second is None or a.index() != b.index() or not self._same_operator(first, second):
            return None
        found = []
        for x, y in zip(first.inputs, second.inputs, strict=True):
            if (x is None) != (y is None):
                return None
            if x is not None and y is not None:
                found.append((x, y))
        return found

    def _same_operator(self, a: ir.Node, b: ir.Node) -> bool:
        if (a.op_type, a.domain, a.overload) != (b.op_type, b.domain, b.overload):
            return False
        if len(a.inputs) != len(b.inputs) or len(a.outputs) != len(b.outputs):
            return False
        keys = [attributes_key(node, self.module.opset(node.domain)) for node in (a, b)]
        return keys[0] is not None and keys[0] == keys[1]


def _equal(a: ir.Value, b: ir.Value) -> bool:
    s, t = a.const_value, b.const_value
    assert s is not None
    assert t is not None
    if s is t:
        return True
    if s.dtype != t.dtype or s.shape != t.shape or s.dtype == ir.DataType.STRING:
        return False
    x, y = s.numpy().reshape(-1), t.numpy().reshape(-1)
    return x[:_GLANCE].tobytes() == y[:_GLANCE].tobytes() and x.tobytes() == y.tobytes()
