"""The pass manager: runs a pipeline, verifies what each pass touched, and tells instruments."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from .. import ir, limits
from ..errors import FccError, PassError, VerifyError
from .base import ModulePass, Pass, PassContext, SitePass
from .engine import run_pass
from .pipeline import Fixpoint, Pipeline, Step


@dataclass(frozen=True)
class PassRecord:
    """One run of one pass: how many rewrites it applied and how long it took (seconds)."""

    name: str
    applied: int
    seconds: float


class Instrument:
    """Something that watches passes; subclasses override what they need."""

    def before(self, p: Pass, module: ir.Module) -> None:
        """Called before a pass runs."""

    def after(self, p: Pass, module: ir.Module, record: PassRecord) -> None:
        """Called after a pass ran and what it touched was verified."""


@dataclass
class PrintAfter(Instrument):
    """Print the text form of the module after a pass of this name."""

    name: str
    write: Callable[[str], None]

    def after(self, p: Pass, module: ir.Module, record: PassRecord) -> None:
        from ..ir.text import to_text

        if p.name == self.name and record.applied:
            self.write(f"// after {p}\n{to_text(module)}")


@dataclass
class Manager:
    """Runs a pipeline over a module. The same input, pipeline and gate give the same result.

    A step that ran on the module as it is now has nothing more to do, and does not run again.
    """

    instruments: Sequence[Instrument] = ()
    records: list[PassRecord] = field(default_factory=list)
    _settled: dict[Step, int] = field(default_factory=dict)
    _of: tuple[ir.Module, PassContext] | None = None

    def run(self, pipeline: Pipeline, module: ir.Module, ctx: PassContext) -> int:
        """Run every step and return the number of applications; the whole module is verified at the end.

        Raises:
            VerifyError: the graph is broken; the message names the pass.
            PassError: a pass raised where nothing could be undone, or at all under strict. The attempt is logged as an
            application at site "", so that bisection can leave it out.
        """
        if self._of is None or self._of[0] is not module or self._of[1] is not ctx:
            self._of, self._settled = (module, ctx), {}
        total = sum(self._step(step, module, ctx) for step in pipeline.steps)
        if total:
            ir.verify(module)
        return total

    def _step(self, step: Step, module: ir.Module, ctx: PassContext) -> int:
        if self._settled.get(step) == module.version:
            return 0
        changed = self._repeat(step, module, ctx) if isinstance(step, Fixpoint) else self._run(step, module, ctx)
        if not (changed and isinstance(step, SitePass)):  # one sweep over its sites may make others
            self._settled[step] = module.version
        return changed

    def _repeat(self, fixpoint: Fixpoint, module: ir.Module, ctx: PassContext) -> int:
        total = 0
        for _ in range(fixpoint.rounds):
            changed = sum(self._step(inner, module, ctx) for inner in fixpoint.steps)
            total += changed
            if not changed:
                break
        return total

    def _run(self, p: Pass, module: ir.Module, ctx: PassContext) -> int:
        limits.check()
        for instrument in self.instruments:
            instrument.before(p, module)
        start = time.perf_counter()
        ctx.log.touched.clear()
        applied = _attempt(p, module, ctx)
        try:
            if applied and isinstance(p, ModulePass):  # it may have touched anything
                ir.verify(module)
            else:
                ir.verify_nodes(ctx.log.touched)
        except VerifyError as error:
            raise VerifyError(f"after pass {p.name}: {error.message}", error.hint) from error
        record = PassRecord(p.name, applied, time.perf_counter() - start)
        self.records.append(record)
        for instrument in self.instruments:
            instrument.after(p, module, record)
        return applied


def _attempt(p: Pass, module: ir.Module, ctx: PassContext) -> int:
    try:
        return run_pass(p, module, ctx)
    except Exception as error:
        if isinstance(error, FccError) and not isinstance(error, VerifyError):
            raise
        ctx.log.apply(p.name, "", (), ())
        reason = error.message if isinstance(error, VerifyError) else f"{type(error).__name__}: {error}"
        raise PassError(
            f"pass {p.name} failed: {reason}", f"--disable {p.name} leaves it out", pass_name=p.name
        ) from error
