"""Residual sums behind int8 layers: which operand comes quantized, so that a kernel adds it to its own result."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator

from fcc import ir

# Nodes looked at behind either operand: blocks are shorter, and the search stays linear in the graph.
REACH = 64


def skips(module: ir.Module, layers: Collection[ir.Value]) -> Iterator[tuple[ir.Node, int]]:
    """Yield (Add, index of its skip operand) where the other operand is the result of a layer that only it reads.

    ``layers`` are results of the layers whose kernels add. Where both operands are, the skip is the one with the
    shorter way to the nearest ancestor of both.
    """
    for node in module.graph:
        if node.op_type != "Add" or node.domain != "":
            continue
        a, b = node.inputs
        if a is None or b is None or a is b or not _alike(a, b) or any(map(ir.Module.is_constant, (a, b))):
            continue
        own = [v in layers and ir.sole_user(v) is node for v in (a, b)]
        if all(own):
            yield node, _shorter(a, b)
        elif any(own):
            yield node, own.index(False)


def _alike(a: ir.Value, b: ir.Value) -> bool:
    """Return whether two tensors have one known shape: a kernel adds no broadcast operand."""
    dims = ir.dims_of(a)
    return dims is not None and None not in dims and dims == ir.dims_of(b)


def _shorter(a: ir.Value, b: ir.Value) -> int:
    """Return the index of the operand that is nearer to what both come from; the second where that is not known."""
    first, second = _distances(a), _distances(b)
    shared = [(first[v] + second[v], first[v], second[v]) for v in first if v in second]
    if not shared:
        return 1
    _, left, right = min(shared)
    return 0 if left < right else 1


def _distances(value: ir.Value) -> dict[ir.Value, int]:
    """Return value -> nodes between, for what a value is computed from."""
    found, waiting = {value: 0}, deque([value])
    while waiting and len(found) < REACH:
        node = waiting[0].producer()
        distance = found[waiting.popleft()] + 1
        for source in node.inputs if node is not None else ():
            if source is not None and source not in found and not ir.Module.is_constant(source):
                found[source] = distance
                waiting.append(source)
    return found
