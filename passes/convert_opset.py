"""convert-opset: raise the opset of a module to the one that a fusion found in it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar

from fcc import ir
from fcc.frontend.upgrade import raise_to
from fcc.rewrite import ModulePass, PassContext, SitePass

from .fuse_attention import OPSET as ATTENTION
from .fuse_attention import FuseAttention
from .fuse_gelu import FuseGelu
from .fuse_layer_norm import OPSET as LAYER_NORM
from .fuse_layer_norm import FuseLayerNorm
from .fuse_rms_norm import FuseRmsNorm
from .fuse_rotary import FuseRotary

GELU = 20
Hint = Callable[[ir.Module, PassContext], bool]


@dataclass(frozen=True)
class ConvertOpset(ModulePass):
    """Raise the opset of the default domain where a fused operator is wanted that the model's opset lacks.

    opset n -> 17 where a LayerNormalization is written in primitives, -> 20 where a GELU is, -> 23 where an
    RMSNormalization is, or attention that fuse-attention takes; every node keeps its meaning.

    Only to where the target has a kernel for every node it has one for now; when that fails, or a node has no equal
    form, the next lower wanted opset is tried, else nothing changes. ``version`` raises to that opset whatever the
    model holds. The IR version rises with it. Shapes: any. Numerics: exact.
    Source: the ONNX operator changelog.
    """

    name: ClassVar[str] = "convert-opset"
    version: int = 0

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        wanted = self._wanted(module, ctx)
        if not wanted:
            return f"nothing in it needs an opset above {module.opset()}"
        reasons = [kernels_refusal(module, ctx, version) for version in wanted]
        return reasons[0] if all(reasons) else None

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        for version in self._wanted(module, ctx):
            reason = kernels_refusal(module, ctx, version) or raise_to(module, version)
            if reason is None:
                return 1
            ctx.log.refuse(self.name, "", f"opset {module.opset()} is not raised to {version}: {reason}")
        return 0

    def _wanted(self, module: ir.Module, ctx: PassContext) -> list[int]:
        """Return the opsets above the module's that something asks for, the highest first; asked once per graph."""
        found: list[int] = module.fact(f"{self} {ctx.target.name} {ctx.shapes}", lambda m: self._asked(m, ctx))
        return found

    def _asked(self, module: ir.Module, ctx: PassContext) -> list[int]:
        hints: Mapping[int, Hint] = {self.version: lambda module, ctx: True} if self.version else HINTS
        higher = [v for v in sorted(hints, reverse=True) if module.opset() < v <= ctx.target.opsets[1]]
        return [v for v in higher if hints[v](module, ctx)]


def _asks(version: int, *passes: SitePass) -> Hint:
    """Return whether one of some passes would apply somewhere, or write a better form, but for the opset."""

    def asked(module: ir.Module, ctx: PassContext) -> bool:
        reasons = (p.check(site) for p in passes for site in p.sites(module, ctx))
        return any(r is None or r.startswith(f"needs opset {version}") for r in reasons)

    return asked


HINTS: Mapping[int, Hint] = MappingProxyType(
    {
        LAYER_NORM: _asks(LAYER_NORM, FuseLayerNorm()),
        GELU: _asks(GELU, FuseGelu()),
        ATTENTION: _asks(ATTENTION, FuseRmsNorm(), FuseRotary(), FuseAttention()),
    }
)


def kernels_refusal(module: ir.Module, ctx: PassContext, version: int) -> str | None:
    """Return which node the target runs now and would not at the opset."""
    return next((r for n in module.nodes() if (r := _kernel_refusal(n, module, ctx, version)) is not None), None)


def _kernel_refusal(node: ir.Node, module: ir.Module, ctx: PassContext, version: int) -> str | None:
    if node.domain != "":
        return None
    dtype = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
    schema = ir.schema_of(node.op_type, "", version)
    kinds = {} if dtype is None or schema is None else {schema.inputs[0].name: dtype.name.lower()}
    now = ctx.target.refusal(node.op_type, "", module.opset(), kinds)
    then = ctx.target.refusal(node.op_type, "", version, kinds)
    return None if then is None or now is not None else f"{node.op_type} {node.name!r} at opset {version}: {then}"
