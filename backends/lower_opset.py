"""lower-opset: the newest older opset at which the target has a kernel for more nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

from fcc import ir
from fcc.frontend.downgrade import lower_to
from fcc.frontend.versions import settle_versions
from fcc.passes.convert_opset import kernels_refusal
from fcc.rewrite import ModulePass, PassContext

from .node_facts import support_of


class LowerOpset(ModulePass):
    """Lower the opset of a module to where the target has kernels for operators that it lacks at a newer one.

    opset n -> m < n, the highest at which every node means the same, none loses its kernel, and one gains one that it
    lacks at n: MaxPool-22 -> MaxPool-12 for the CUDA provider; or that is the newest opset that the target takes.

    Shapes: any. Numerics: exact, the operators are the same.
    Source: the ONNX operator changelog; the kernels that onnxruntime registers by version.
    """

    name: ClassVar[str] = "lower-opset"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None if self._goals(module, ctx) else f"no kernel is lacking for opset {module.opset()}"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        opset = module.opset()
        for goal in self._goals(module, ctx):
            reason = kernels_refusal(module, ctx, goal) or lower_to(module, goal)
            if reason is None:
                settle_versions(module.model)
                module.touch()
                return 1
            ctx.log.refuse(self.name, "", f"opset {opset} is not lowered to {goal}: {reason}")
        return 0

    def _goals(self, module: ir.Module, ctx: PassContext) -> list[int]:
        """Return the older opsets that the target takes at which some node gains a kernel, the highest first."""
        opset, (low, high) = module.opset(), ctx.target.opsets
        nodes = (n for n in module.nodes() if n.domain == "")
        lacking = [n for n in nodes if support_of(n, module, ctx.target).refusal is not None]
        found = {high} if opset > high else set()
        for node in lacking:
            found.update(next(([v] for v in _older(node, opset, low) if _runs(node, module, ctx, v)), []))
        return sorted((v for v in found if v <= high), reverse=True)


def _older(node: ir.Node, opset: int, low: int) -> Iterator[int]:
    """Yield the last opset of every older version of an operator, newest first."""
    since = ir.since_version(node, {"": opset})
    while since is not None and since - 1 >= low:
        yield since - 1
        since = ir.since_version(node, {"": since - 1})


def _runs(node: ir.Node, module: ir.Module, ctx: PassContext, version: int) -> bool:
    opsets = {**module.model.opset_imports, "": version}
    return ir.schema_of(node.op_type, "", version) is not None and (
        support_of(node, module, ctx.target, opsets=opsets).refusal is None
    )
