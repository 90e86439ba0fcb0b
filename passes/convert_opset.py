"""convert-opset: raise the opset of a module to the one that a fusion found in it needs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend.upgrade import raise_to
from fcc.rewrite import ModulePass, PassContext, Site

from ._attention import attention_of
from .fuse_attention import OPSET, is_attention_end, refusal


@dataclass(frozen=True)
class ConvertOpset(ModulePass):
    """Raise the opset to 23 where fuse-attention has something to fuse, and the target has every kernel at 23.

    Opset n < 23 -> 23; every node keeps its meaning.

    Refused when a node has no form in opset 23, or the target no kernel for that form. Shapes: any. Numerics: exact.
    Source: ONNX operator changelog, 14 to 23.
    """

    name: ClassVar[str] = "convert-opset"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        if module.opset() >= OPSET:
            return f"the module has opset {module.opset()} already"
        ends = [n for n in module.nodes() if is_attention_end(n)]
        if not any(refusal(Site(n, module, ctx, attention_of(n))) is None for n in ends):
            return f"nothing in it needs opset {OPSET}"
        return next((r for n in module.nodes() if (r := _kernel_refusal(n, module, ctx)) is not None), None)

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        kept = raise_to(module, OPSET)
        if kept is not None:
            ctx.log.refuse(self.name, "", kept)
            return 0
        shapes.infer(module)
        return 1


def _kernel_refusal(node: ir.Node, module: ir.Module, ctx: PassContext) -> str | None:
    """Return why the target runs a node now and would not at opset 23."""
    if node.domain != "":
        return None
    dtype = node.inputs[0].dtype if node.inputs and node.inputs[0] is not None else None
    schema = ir.schema_of(node.op_type, "", OPSET)
    kinds = {} if dtype is None or schema is None else {schema.inputs[0].name: dtype.name.lower()}
    now = ctx.target.refusal(node.op_type, "", module.opset(), kinds)
    then = ctx.target.refusal(node.op_type, "", OPSET, kinds)
    return None if then is None or now is not None else f"{node.op_type} {node.name!r} at opset {OPSET}: {then}"
