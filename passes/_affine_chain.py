"""Chains of sums and products with constants: what they do to their input, as one scale and one shift."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import zip_longest
from math import prod

import numpy as np

from fcc import ir

from ._affine import FLOATS, Array, limits
from ._operands import small_constant

INTEGERS = frozenset({ir.DataType.INT32, ir.DataType.INT64})
_CANCELLED = 4  # what is left of the shifts must be this part of their sizes: the chain rounds where they cancel


@dataclass(frozen=True)
class Affine:
    """scale * x + shift, with constants that broadcast; ``size`` is what was added up to the shift, without signs."""

    scale: Array
    shift: Array
    size: Array

    def after(self, node: ir.Node, operand: int, constant: Array | None) -> Affine:
        """Return what ``node`` makes of it, which reads it as ``operand`` and the constant as the other one."""
        one = np.ones((), self.scale.dtype)
        scale, shift = _FORMS[node.op_type, operand](one if constant is None else constant)
        return Affine(self.scale * scale, self.shift * scale + shift, self.size * np.abs(scale) + np.abs(shift))


_Form = Callable[[Array], tuple[Array, Array]]
_FORMS: dict[tuple[str, int], _Form] = {
    ("Add", 0): lambda c: (np.ones((), c.dtype), c),
    ("Add", 1): lambda c: (np.ones((), c.dtype), c),
    ("Sub", 0): lambda c: (np.ones((), c.dtype), -c),
    ("Sub", 1): lambda c: (-np.ones((), c.dtype), c),
    ("Mul", 0): lambda c: (c, np.zeros((), c.dtype)),
    ("Mul", 1): lambda c: (c, np.zeros((), c.dtype)),
    ("Div", 0): lambda c: (1 / c, np.zeros((), c.dtype)),
    ("Neg", 0): lambda c: (-c, np.zeros((), c.dtype)),
}
STEPS = frozenset(op for op, _ in _FORMS)


def step(node: ir.Node) -> tuple[int, Array | None] | None:
    """Return (operand that is computed, the constant in float64 or as it is), None for a node that is no step."""
    if node.op_type not in STEPS or node.domain != "" or node.outputs[0].dtype not in FLOATS | INTEGERS:
        return None
    if len(node.inputs) == 1:
        return 0, None
    arrays = [small_constant(v) for v in node.inputs]
    if (arrays[0] is None) == (arrays[1] is None):
        return None
    operand = 0 if arrays[0] is None else 1
    constant = arrays[1 - operand]
    whole = node.outputs[0].dtype in INTEGERS
    if constant is None or (node.op_type, operand) not in _FORMS or (whole and node.op_type == "Div"):
        return None
    return operand, constant if whole else constant.astype(np.float64)


def taken(node: ir.Node) -> tuple[int, Array | None]:
    """Return what ``step`` does, of a node that is a step."""
    found = step(node)
    assert found is not None
    return found


def chain_to(last: ir.Node) -> list[ir.Node]:
    """Return the longest chain of steps that ends in a node, its first step first; values between have one user."""
    nodes: list[ir.Node] = []
    node: ir.Node | None = last
    while node is not None and node.graph is last.graph and (found := step(node)) is not None:
        nodes.insert(0, node)
        value = node.inputs[found[0]]
        producer = None if value is None else value.producer()
        node = producer if value is not None and ir.sole_user(value) is not None else None
    return nodes


def composed(nodes: list[ir.Node]) -> Affine:
    """Return what a chain does to its input."""
    dtype = nodes[0].outputs[0].dtype
    assert dtype is not None
    kind = np.dtype(dtype.numpy() if dtype in INTEGERS else np.float64)
    found = Affine(np.ones((), kind), np.zeros((), kind), np.zeros((), kind))
    with np.errstate(all="ignore"):
        for node in nodes:
            found = found.after(node, *taken(node))
    return found


def product_size(nodes: list[ir.Node]) -> int:
    """Return how many elements the constants of a chain have when they are broadcast to each other."""
    constants = [c for n in nodes if (c := taken(n)[1]) is not None]
    return prod(map(max, zip_longest(*(reversed(c.shape) for c in constants), fillvalue=1)))


def numbers_refusal(found: Affine, dtype: ir.DataType) -> str | None:
    """Return why the one scale and shift of floats would not give what the chain gives, or None when they do."""
    if dtype in INTEGERS:
        return None
    tiny, largest = limits(dtype)
    size = np.abs(found.scale)
    if not np.all(np.isfinite(found.scale) & (size >= tiny) & (size <= largest)):
        return f"the factor is 0, or leaves the normal range of {dtype}"
    if not np.all(np.abs(found.shift) <= largest):
        return f"the shift leaves the range of {dtype}"
    if np.any(found.size > _CANCELLED * np.abs(found.shift)):
        return "the constants that are added cancel, and the chain rounds where they do"
    return None
