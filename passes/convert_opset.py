"""convert-opset: the opset import rises to where an operator exists that another pass would emit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.analysis.recognize import number, producer
from fcc.frontend.upgrade import HIGHEST, raise_to
from fcc.rewrite import ModulePass, PassContext, SitePass

from .fuse_layer_norm import OPSET as LAYER_NORM
from .fuse_layer_norm import FuseLayerNorm

GELU = 20


@dataclass(frozen=True)
class ConvertOpset(ModulePass):
    """Raise the opset of the default domain where a fused operator is wanted that the model's opset lacks.

    opset 13..16 -> 17 where a LayerNormalization is written in primitives; -> 20 where a tanh GELU is

    ``version`` raises to that opset whatever the model holds. Every node keeps its meaning by the rules of the
    frontend's adapters; when one has no equal form, the next lower wanted opset is tried, else nothing changes. Never
    above 21, where onnxruntime's CUDA provider begins to lack kernels. The IR version rises with it.
    Source: the ONNX operator changelog.
    """

    name: ClassVar[str] = "convert-opset"
    version: int = 0

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        if self._wanted(module, ctx):
            return None
        return "no node is written in primitives for which a newer opset has an operator"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        for version in self._wanted(module, ctx):
            reason = raise_to(module, version)
            if reason is None:
                return 1
            ctx.log.refuse(self.name, "", f"opset {module.opset()} is not raised to {version}: {reason}")
        return 0

    def _wanted(self, module: ir.Module, ctx: PassContext) -> list[int]:
        """Return the opsets above the module's that something asks for, the highest first."""
        if self.version:
            return [self.version] if self.version > module.opset() else []
        newest = min(HIGHEST, ctx.target.opsets[1])
        versions = [v for v in sorted(HINTS, reverse=True) if module.opset() < v <= newest]
        return [v for v in versions if HINTS[v](module, ctx)]


def _asks(p: SitePass, version: int) -> Callable[[ir.Module, PassContext], bool]:
    """Return whether a pass would apply somewhere but for the opset."""

    def asked(module: ir.Module, ctx: PassContext) -> bool:
        return any(p.check(site) == f"needs opset {version}" for site in p.sites(module, ctx))

    return asked


def _has_tanh_gelu(module: ir.Module, ctx: PassContext) -> bool:
    return any(node.op_type == "Tanh" and _is_cubic(node) for node in module.nodes())


def _is_cubic(tanh: ir.Node) -> bool:
    """Whether a Tanh of a multiplied sum is added to 1, as in 1 + tanh(a * (x + b * x^3))."""
    scaled = producer(tanh.inputs[0], "Mul")
    sums = [] if scaled is None else [v for v in scaled.inputs if producer(v, "Add", "Mul") is not None]
    users = [u.node for u in tanh.outputs[0].uses() if u.node.op_type == "Add"]
    return bool(sums) and any(number(v) == 1.0 for user in users for v in user.inputs)


HINTS: dict[int, Callable[[ir.Module, PassContext], bool]] = {
    LAYER_NORM: _asks(FuseLayerNorm(), LAYER_NORM),
    GELU: _has_tanh_gelu,
}
