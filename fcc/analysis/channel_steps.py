"""What a rule for channels says: where they lie behind an operator, and which operands and numbers count them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from .. import ir
from .shapes import elements
from .units import Ids, Units


@dataclass(frozen=True, eq=False)
class Lane:
    """Index i along ``axis`` of a value belongs to unit ``ids[i]``."""

    axis: int
    ids: Ids


@dataclass(frozen=True, eq=False)
class Cut:
    """Input ``index`` of ``node`` is a constant whose index i along ``axis`` belongs to unit ``ids[i]``."""

    node: ir.Node
    index: int
    axis: int
    ids: Ids

    @property
    def value(self) -> ir.Value:
        """The operand."""
        value = self.node.inputs[self.index]
        assert value is not None
        return value


@dataclass(frozen=True, eq=False)
class Change:
    """Numbers of a node that count units.

    ``kind``: "group" (attribute), "entry" ``index`` of the shape of a Reshape or Expand, "sizes" of a Split (one array
    of ids per output), "bounds" ``index`` of a Slice (ids in front of it, and taken), "indices" of a Gather (ids of
    all, and taken), "heads" of an Attention.
    """

    kind: str
    node: ir.Node
    ids: tuple[Ids, ...]
    index: int = 0


@dataclass(frozen=True, eq=False)
class Step:
    """The lanes of the outputs of an operator, its operands with channels, and the numbers in it that count them."""

    lanes: tuple[Lane, ...]
    cuts: tuple[Cut, ...] = ()
    changes: tuple[Change, ...] = ()


Rule = Callable[[ir.Node, Mapping[int, Lane], Units], Step | str]


def broadcast_cut(node: ir.Node, index: int, lane: Lane, rank: int) -> tuple[Cut, ...] | str:
    """Return the cut of a constant operand that is broadcast to ``rank`` axes: none when all channels share it."""
    value = node.inputs[index]
    dims = ir.dims_of(value)
    if not ir.Module.is_constant(value) or dims is None:
        return "an operand is not constant"
    axis = lane.axis - (rank - len(dims))
    if len(dims) > rank:
        return "an operand has a higher rank"
    return (Cut(node, index, axis, lane.ids),) if axis >= 0 and dims[axis] != 1 else ()


def aligned_axis(lane: Lane, rank: int) -> int:
    """Return where channels lie, counted from the end: broadcasting aligns there."""
    return lane.axis - rank


def integers(node: ir.Node, index: int, attribute: str) -> list[int] | None:
    """Return a known integer operand, which was an attribute in older opsets; None when absent or not known."""
    value = node.inputs[index] if index < len(node.inputs) else None
    if value is None:
        return list(node.attributes.get_ints(attribute, ())) or None
    found = elements(value)
    entries = None if found is None else found.reshape(-1).tolist()
    return entries if entries is not None and all(isinstance(e, int) for e in entries) else None


def only_data(rule: Rule) -> Rule:
    """Return the rule for channels of input 0 alone."""

    def checked(node: ir.Node, lanes: Mapping[int, Lane], units: Units) -> Step | str:
        return rule(node, lanes, units) if set(lanes) == {0} else "the channels are not its input"

    return checked
