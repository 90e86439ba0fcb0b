"""One step of raising a node over one schema version."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fcc import ir

from .site import Facts

Adapter = Callable[[ir.Node, Facts], None]
Refusal = Callable[[ir.Node, Facts], "str | None"]


def never(node: ir.Node, facts: Facts) -> str | None:
    """Every node can be raised."""
    return None


def keep(node: ir.Node, facts: Facts) -> None:
    """The node means the same."""


@dataclass(frozen=True)
class Step:
    """Raise a node to schema version ``since``; ``refuse`` says beforehand, in words, why it cannot."""

    since: int
    adapt: Adapter
    refuse: Refusal = never
