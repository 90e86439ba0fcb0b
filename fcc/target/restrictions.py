"""Conditions beyond op and dtype under which a provider leaves a node: predicates, named by tables in ``catalog``.

A predicate returns True when the node violates the condition for certain; what is unknown (a symbolic dim, an unknown
rank) is no violation.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shape = Sequence[int | None] | None


@dataclass(frozen=True)
class NodeFacts:
    """What is known of a node: attributes; shapes and constants per input, both None where absent or unknown.

    ``inputs[i]`` says whether input i is given, ``outputs[i]`` whether output i is used. Attribute values are plain
    ints, floats, strings and sequences of them.
    """

    attributes: Mapping[str, Any]
    inputs: Sequence[bool] = ()
    outputs: Sequence[bool] = ()
    shapes: Sequence[Shape] = ()
    constants: Sequence[NDArray[Any] | None] = ()

    def has_input(self, index: int) -> bool:
        return index < len(self.inputs) and self.inputs[index]

    def has_output(self, index: int) -> bool:
        return index < len(self.outputs) and self.outputs[index]

    def rank(self, index: int) -> int | None:
        shape = self.shapes[index] if index < len(self.shapes) else None
        return None if shape is None else len(shape)

    def constant(self, index: int) -> NDArray[Any] | None:
        return self.constants[index] if index < len(self.constants) else None


Predicate = Callable[[NodeFacts], bool]


@dataclass(frozen=True)
class Restriction:
    """A provider leaves nodes of these ops for which ``violated`` holds."""

    ops: frozenset[str]
    violated: Predicate
    reason: str


def restriction(ops: str, violated: Predicate, reason: str) -> Restriction:
    """Return the row for the ops named in a space-separated list."""
    return Restriction(frozenset(ops.split()), violated, reason)


def attribute_not(name: str, wanted: object, *, default: object = None) -> Predicate:
    """The attribute, or its default, differs from the value wanted."""
    return lambda node: node.attributes.get(name, default) != wanted


def attribute_not_in(name: str, allowed: Sequence[object], *, default: object) -> Predicate:
    """The attribute, or its default, is none of the values allowed."""
    return lambda node: node.attributes.get(name, default) not in allowed


def attribute_in(name: str, refused: Sequence[object]) -> Predicate:
    """The attribute is given and is one of the values refused."""
    return lambda node: node.attributes.get(name) in refused


def attribute_given(name: str) -> Predicate:
    """The attribute is given, whatever its value."""
    return lambda node: name in node.attributes


def not_all_ones(name: str) -> Predicate:
    """A list attribute holds anything but ones."""
    return lambda node: any(v != 1 for v in node.attributes.get(name) or ())


def asymmetric_pads(node: NodeFacts) -> bool:
    """Attribute pads [begins..., ends...] pads the two ends of an axis differently."""
    pads = list(node.attributes.get("pads") or ())
    return pads[: len(pads) // 2] != pads[len(pads) // 2 :]


def input_given(index: int) -> Predicate:
    """An optional input is present."""
    return lambda node: node.has_input(index)


def output_used(index: int) -> Predicate:
    """An optional output has a use."""
    return lambda node: node.has_output(index)


def not_constant(index: int) -> Predicate:
    """An input is present and its value is not known at compile time."""
    return lambda node: node.has_input(index) and node.constant(index) is None


def constant_nonzero(index: int) -> Predicate:
    """An input is a constant with an element other than zero (a zero point, a training flag)."""

    def violated(node: NodeFacts) -> bool:
        value = node.constant(index)
        return value is not None and bool(np.any(value.astype(np.float64) != 0))

    return violated


def constant_not_positive(index: int) -> Predicate:
    """An input is a constant with an element that is zero, negative or NaN (a scale)."""

    def violated(node: NodeFacts) -> bool:
        value = node.constant(index)
        return value is not None and not bool(np.all(value.astype(np.float64) > 0))

    return violated


def constant_at_least(index: int, limit: int) -> Predicate:
    """An input is a constant with an element of ``limit`` or more."""

    def violated(node: NodeFacts) -> bool:
        value = node.constant(index)
        return value is not None and bool(np.any(value >= limit))

    return violated


def rank_not_in(ranks: Sequence[int], *indices: int) -> Predicate:
    """One of the inputs has a known rank that is none of these."""
    return lambda node: any((r := node.rank(i)) is not None and r not in ranks for i in indices)


def dynamic_shape(index: int) -> Predicate:
    """An input has a dim that is not known at compile time."""

    def violated(node: NodeFacts) -> bool:
        shape = node.shapes[index] if index < len(node.shapes) else None
        return shape is None or any(not isinstance(dim, int) for dim in shape)

    return violated


def activations_not(*wanted: str) -> Predicate:
    """A recurrent op names activation functions other than these, per direction (compared without case)."""

    def violated(node: NodeFacts) -> bool:
        given = [name.lower() for name in node.attributes.get("activations") or ()]
        return any(name != wanted[i % len(wanted)].lower() for i, name in enumerate(given))

    return violated


def activations_differ(node: NodeFacts) -> bool:
    """A bidirectional recurrent op names other activation functions for the reverse pass."""
    given = [name.lower() for name in node.attributes.get("activations") or ()]
    half = len(given) // 2
    return node.attributes.get("direction") == "bidirectional" and given[:half] != given[half:]
