"""Makes what a decision says to a module being compiled, and completes the decision by what was found on the way."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from . import ir, passes, precisions, refit
from .allocation import Allocation
from .changes import Changes
from .decision import Decision
from .driver import Driver
from .errors import OptionError
from .options import HALVES
from .rewrite import PassContext
from .rewrite.manager import Manager
from .rewrite.pipeline import Pipeline


@dataclass
class Steps:
    """The lossy steps of one replay; ``fit`` is the calibration data.

    Afterwards ``decision`` holds the recipe that was found, ``distilled`` the figures of the distillation, ``said``
    what to say of it, and ``kept`` whether it changed anything.
    """

    driver: Driver
    fit: Any
    decision: Decision
    distilled: dict[str, Any] = field(default_factory=dict)
    said: str = ""
    kept: bool = False
    allocation: Allocation | None = None

    def __call__(self, module: ir.Module, ctx: PassContext, manager: Manager) -> None:
        """Change the module: channels, ranks, single layers, precision, and weights by distillation before fp16."""
        d, original = self.decision, module.clone() if self.decision.distill else None
        if d.prune or d.low_rank:
            with refit.Reference(self.driver, module, self.fit) as reference:
                if d.prune:
                    refit.prune(passes.BY_NAME["prune-channels"](**d.prune), reference, module, ctx, manager)
                if d.low_rank:
                    refit.low_rank(self._factorize(d.low_rank), reference, module, ctx, manager)
        if d.changes:
            self._require_layers(module, ctx)
            self.allocation = Allocation(self.driver, self.fit, d.changes, recipe=d.recipe)
            self.allocation(module, ctx, manager)
        if d.precision in precisions.PASSES:
            recipe = precisions.apply(d.precision, self.driver, module, ctx, manager, self.fit, d.recipe)
            self.decision = replace(d, recipe=recipe)
        if original is not None:
            self._distill(original, module)
        if d.precision in HALVES:
            precisions.halve(d.precision, self.driver, module, ctx, manager, self.fit)

    def last(self) -> Pipeline | None:
        """Return what gives weights their form in the file, after everything else."""
        return precisions.last(self.decision.size) if self.allocation is None else self.allocation.last()

    def _factorize(self, low_rank: Any) -> Any:
        """Return the pass for a low rank; what level 3 chooses for speed leaves layers that would not gain any."""
        kind: Any = passes.BY_NAME["factorize-linear"]
        given: dict[str, Any] = {k: int(v) if k == "rank" else v for k, v in low_rank.items()}
        return kind(**given, fast=self.decision.by != "hand" and self.decision.objective == "latency")

    def _require_layers(self, module: ir.Module, ctx: PassContext) -> None:
        """Refuse changes of layers that are not there.

        Raises:
            OptionError: the first of them.
        """
        found = Changes(self.driver, module.clone(), ctx, self.fit, self.decision.recipe).found()
        known = {(c.layer, c.kind) for changes in found.values() for c in changes}
        wrong = next((c for c in self.decision.changes if (c.layer, c.kind) not in known), None)
        if wrong is not None:
            raise OptionError(
                f"the plan says {wrong} for {wrong.layer}, which this model has no such layer for",
                "fcc sensitivity MODEL lists what can be changed",
            )

    def _distill(self, original: ir.Module, module: ir.Module) -> None:
        from .distill.recover import distill
        from .distill.train import Settings

        given = dict(self.decision.distill or {})
        settings = Settings(epochs=int(given["epochs"]), rate=given["rate"], seed=self.driver.options.seed)
        with self.driver.phase("distill"):
            found = distill(self.driver, original, module, self.fit, settings)
        self.distilled, self.said, self.kept = found.row(), str(found), found.kept
