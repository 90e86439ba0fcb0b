"""Backend: from an optimized module to what is deployed on one target."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import metadata

from fcc import ir
from fcc.rewrite import PassContext
from fcc.rewrite.manager import Instrument, Manager
from fcc.rewrite.pipeline import Pipeline
from fcc.target import TargetSpec
from fcc.version import __version__

from .emit import Emitted
from .emit import emit as emit_module
from .emit import unchanged as unchanged_source
from .facts import facts_of_module
from .lint import LintRow, Rule, missing_kernels, opset_window, run_rules
from .profiles import Sizes


@dataclass(frozen=True)
class Shapes:
    """Sizes of dynamic inputs: by input (a shape) or by symbol (an int), smallest, usual and largest."""

    low: Sizes = field(default_factory=dict)
    usual: Sizes = field(default_factory=dict)
    high: Sizes = field(default_factory=dict)


NOTHING = Pipeline(())
ExtraOptions = Callable[[ir.Module, TargetSpec, Shapes], Mapping[str, Mapping[str, str]]]


@dataclass(frozen=True)
class Backend:
    """One target: passes that legalize, rules that lint, and how its models are written.

    ``lowerings`` express what the provider lacks by what it has. ``extra_options`` adds provider options that depend on
    sizes. Subclassed by nothing: the targets are rows of data.
    """

    target: TargetSpec
    lowerings: Pipeline = NOTHING
    rules: tuple[Rule, ...] = (missing_kernels, opset_window)
    complete_info: bool = False
    extra_options: ExtraOptions = lambda module, spec, shapes: {}

    def legalize(self, module: ir.Module, ctx: PassContext, instruments: Sequence[Instrument] = ()) -> None:
        """Rewrite, in place, what the provider lacks and its kernels can express; runs as passes, so bisection sees it.

        Raises:
            PassError: a pass raised, under strict.
        """
        Manager(instruments).run(self.lowerings, module, ctx)

    def lint(self, module: ir.Module) -> list[LintRow]:
        """Return what the provider cannot run (error) or runs badly (warning), with reasons in words."""
        return run_rules(self.rules, module, self.target)

    def emit(
        self,
        module: ir.Module,
        *,
        meta: Mapping[str, str] | None = None,
        opt_shapes: Sizes | None = None,
        min_shapes: Sizes | None = None,
        max_shapes: Sizes | None = None,
    ) -> Emitted:
        """Return the ONNX output with recommended options; ``meta`` adds ``fcc.*`` model metadata.

        Raises:
            VerifyError: inputs or outputs are no longer those of the source.
            OptionError: a size names no input, or does not fit it.
        """
        shapes = Shapes(min_shapes or {}, opt_shapes or {}, max_shapes or {})
        asked = frozenset(row.when for row in self.target.options)
        facts = facts_of_module(module, asked, lambda: any(r.severity == "error" for r in self.lint(module)))
        options = self.target.recommended(facts)
        extra = self.extra_options(module, self.target, shapes)
        providers = {p: {**options.get(p, {}), **extra.get(p, {})} for p in self.target.providers}
        return emit_module(
            module,
            meta={**_identity(module, self.target), **(meta or {})},
            session_options=options.get("", {}),
            provider_options=providers,
            facts=facts,
            complete_info=self.complete_info,
        )

    def unchanged(self, module: ir.Module, *, meta: Mapping[str, str] | None = None) -> Emitted | None:
        """Return the source of a module as the output, metadata added; None when it cannot be read in one piece."""
        return unchanged_source(module, {**_identity(module, self.target), **(meta or {})}, self.target.providers)


@functools.cache
def libraries() -> str:
    """Return the versions of the libraries that decide the bytes of an output: ``numpy 2.1, onnx 1.19, ...``."""
    found = []
    for name in ("numpy", "onnx", "onnx_ir", "onnxruntime"):
        with contextlib.suppress(metadata.PackageNotFoundError):
            found.append(f"{name} {metadata.version(name)}")
    return ", ".join(found)


def _identity(module: ir.Module, target: TargetSpec) -> dict[str, str]:
    found = {"fcc.version": __version__, "fcc.target": target.name, "fcc.libraries": libraries()}
    if target.name == "cpu" and any(n.op_type == "QuantizeLinear" for n in module.nodes()):
        found["fcc.isa"] = target.isa
    return found
