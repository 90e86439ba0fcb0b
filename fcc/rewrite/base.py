"""What a pass is: pattern + check + rewrite (PatternPass), or sites + check + rewrite (SitePass)."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any, ClassVar, Protocol

import numpy as np

from .. import ir
from ..target import TargetSpec
from .fragment import Question
from .log import Log
from .pattern import Op
from .rewriter import Rewriter


class Costs(Protocol):
    """What is recorded about choices: a table of measurements, or a plan."""

    def asks(self, pass_name: str, site: str) -> bool:
        """Return whether anything may be recorded about the pass at the site: if not, ``refusal`` is not called."""
        ...

    def refusal(self, pass_name: str, site: str, question: Question | None) -> str | None:
        """Return why the rewrite does not pay ("" where it does), None when nothing is recorded: the pass guesses.

        ``question`` is None where the rewrite cannot be written down.
        """
        ...


@dataclass(frozen=True)
class PassContext:
    """What a pass may know beyond the graph.

    ``shapes`` binds symbols to the sizes that are timed and modelled; ``stats`` holds calibration statistics by tensor
    name (None when the user gave no data); ``costs`` answers whether a rewrite pays from what was measured (None:
    every pass guesses); ``log`` counts applications and keeps the reasons of refusals.
    """

    target: TargetSpec
    log: Log = field(default_factory=Log)
    shapes: Mapping[str, int] = field(default_factory=dict)
    stats: Any = None
    costs: Costs | None = None


@dataclass(frozen=True)
class Match:
    """A pattern bound to a graph: ``m["x"]`` is a value, ``m.nodes["conv"]`` a node, ``m.const("w")`` an array."""

    root: ir.Node
    values: Mapping[str, ir.Value | None]
    nodes: Mapping[str, ir.Node]
    interior: tuple[ir.Node, ...]
    module: ir.Module
    ctx: PassContext

    def __getitem__(self, name: str) -> ir.Value:
        value = self.values[name]
        assert value is not None, f"operand {name} is absent"
        return value

    def get(self, name: str) -> ir.Value | None:
        """Return the value bound to ``name``, None when the operand is absent."""
        return self.values.get(name)

    def const(self, name: str) -> np.ndarray[Any, Any]:
        """Return the array of a constant operand."""
        array = ir.Module.constant(self[name])
        assert array is not None
        return array


@dataclass(frozen=True)
class Site:
    """A place where a SitePass may rewrite: an anchor node, and whatever the pass wants to remember."""

    anchor: ir.Node
    module: ir.Module
    ctx: PassContext
    data: Any = None


@dataclass(frozen=True)
class Pass(ABC):
    """One rewrite with its conditions. Fields are its options; ``name`` is its kebab-case, verb-first name.

    A ``finishing`` pass writes layers in forms that other passes do not know, with more nodes, for speed: lossy steps
    come before it, and it is the first to go where a file would grow. ``measured``: whether it pays depends on shapes
    and machine, so what was measured goes before ``pays``.
    ``grows``: it may write many nodes for few; a compile does without it when the file would grow.
    """

    name: ClassVar[str]
    exact: ClassVar[bool] = True
    finishing: ClassVar[bool] = False
    needs_stats: ClassVar[bool] = False
    measured: ClassVar[bool] = False
    grows: ClassVar[bool] = False

    def options(self) -> dict[str, Any]:
        """Return the options that differ from their defaults."""
        return {f.name: getattr(self, f.name) for f in fields(self) if getattr(self, f.name) != f.default}

    def lean(self) -> Pass:
        """Return the pass with the options by which the file grows least."""
        return self

    def __str__(self) -> str:
        text = ",".join(f"{k}={v}" for k, v in self.options().items())
        return f"{self.name}{{{text}}}" if text else self.name


@dataclass(frozen=True)
class PatternPass(Pass):
    """A rewrite of the computation that a pattern describes; the value it ends in is replaced."""

    pattern: ClassVar[Op | tuple[Op, ...]]

    def check(self, m: Match) -> str | None:
        """Return None when the rewrite is legal here, else the reason in words."""
        return None

    def pays(self, m: Match) -> str | None:
        """Return None when the rewrite is likely to pay here, else the reason; asked where nothing was measured."""
        return None

    def context(self, m: Match) -> Sequence[ir.Node]:
        """Return nodes behind the match that are timed with it, since a runtime fuses them with it."""
        return ()

    @abstractmethod
    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value | Sequence[ir.Value | None]:
        """Return the value that replaces the matched output, or one per output of the root (None keeps one)."""


@dataclass(frozen=True)
class SitePass(Pass):
    """A rewrite whose sites a data-flow pattern cannot describe."""

    @abstractmethod
    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        """Yield the candidate sites; the graph may have changed by earlier sites when the next one is asked for."""

    def check(self, site: Site) -> str | None:
        """Return None when the rewrite is legal here, else the reason in words."""
        return None

    def pays(self, site: Site) -> str | None:
        """Return None when the rewrite is likely to pay here, else the reason; asked where nothing was measured."""
        return None

    def context(self, site: Site) -> Sequence[ir.Node]:
        """Return nodes behind the site that are timed with it, since a runtime fuses them with it."""
        return ()

    @abstractmethod
    def rewrite(self, site: Site, rw: Rewriter) -> None:
        """Describe the change to the Rewriter."""


@dataclass(frozen=True)
class ModulePass(Pass):
    """A change of the whole module in one application (inlining, a user's script, a conversion of precision)."""

    @abstractmethod
    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        """Return None when there is something to do, else the reason in words."""

    @abstractmethod
    def run(self, module: ir.Module, ctx: PassContext) -> int:
        """Change the module in place (or set ``module.model``) and return how many places changed."""
