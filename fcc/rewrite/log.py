"""What happened during a compile: applications, refusals, and the gate that bisection closes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from ..ir import Node, Rewrite

MAX_REASONS = 50


@dataclass(frozen=True)
class Refusal:
    """A site where a pass did nothing: how many nodes of its pattern matched, and the first failed condition."""

    pass_name: str
    site: str
    reason: str
    depth: int


@dataclass
class Log:
    """Applications in order, refusals with reasons, touched nodes, and which applications are admitted.

    ``limit`` stops after so many applications; ``skip`` holds (pass, site) pairs that are never applied, a site of ""
    standing for the whole pass; ``only`` those that may be, where not all may.
    """

    limit: int | None = None
    skip: frozenset[tuple[str, str]] = frozenset()
    explain: frozenset[str] = frozenset()
    strict: bool = False
    only: frozenset[tuple[str, str]] | None = None
    applied: list[Rewrite] = field(default_factory=list)
    refused: list[Refusal] = field(default_factory=list)
    refusals: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Refusal] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    layers: list[dict[str, Any]] = field(default_factory=list)
    touched: list[Node] = field(default_factory=list)

    def admits(self, pass_name: str, site: str) -> bool:
        """Return whether the next application may happen."""
        if (pass_name, site) in self.skip or (pass_name, "") in self.skip:
            return False
        if self.only is not None and not self._among(pass_name, site):
            return False
        return self.limit is None or len(self.applied) < self.limit

    def _among(self, pass_name: str, site: str) -> bool:
        """Return whether a pass may be applied at a site; without one, whether it may anywhere."""
        assert self.only is not None
        return (pass_name, site) in self.only if site else any(name == pass_name for name, _ in self.only)

    def apply(self, pass_name: str, site: str, before: Iterable[Node], after: Iterable[Node]) -> Rewrite:
        """Record an application."""
        rewrite = Rewrite(
            len(self.applied),
            pass_name,
            site,
            tuple(n.name or n.op_type for n in before),
            tuple(n.name or n.op_type for n in after),
        )
        self.applied.append(rewrite)
        return rewrite

    def refuse(self, pass_name: str, site: str, reason: str, depth: int = 0) -> None:
        """Record why a pass left a site alone; the first few of each kind are kept with their site."""
        self.refusals[(pass_name, reason)] += 1
        kept = self.refusals[(pass_name, reason)] <= (MAX_REASONS if pass_name in self.explain else 3)
        if kept:
            self.refused.append(Refusal(pass_name, site, reason, depth))

    def fail(self, pass_name: str, site: str, reason: str) -> None:
        """Record that a pass raised at a site (its change was undone)."""
        self.failures.append(Refusal(pass_name, site, reason, 0))

    def counts(self) -> Counter[str]:
        """Return the number of applications of each pass."""
        return Counter(r.pass_name for r in self.applied)
