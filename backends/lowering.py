"""Lowering: an op that a target has no kernel for -> the same function by ops that it has."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.frontend.versions import MEANT
from fcc.rewrite import PassContext, Rewriter, Site, SitePass
from fcc.target import TargetSpec

from .node_facts import support_of


class Builder:
    """Shorthand for the arithmetic of one lowering: ops on values, scalars in the dtype of input 0."""

    def __init__(self, node: ir.Node, rw: Rewriter, target: TargetSpec) -> None:
        self.node, self.rw, self.target = node, rw, target

    @property
    def x(self) -> ir.Value:
        """Input 0 of the node."""
        value = self.node.inputs[0]
        assert value is not None
        return value

    def input(self, index: int) -> ir.Value | None:
        """Return an input of the node, None when it is absent."""
        return self.node.inputs[index] if index < len(self.node.inputs) else None

    def op(self, op_type: str, *inputs: Any, **attributes: Any) -> ir.Value:
        """Return the result of a new node; plain numbers become scalars."""
        values = [self.scalar(i) if isinstance(i, int | float) else i for i in inputs]
        made: ir.Value = self.rw.op(op_type, *values, **attributes)
        return made

    def scalar(self, number: float) -> ir.Value:
        """Return a constant of rank 0 in the dtype of input 0."""
        dtype = self.x.dtype
        assert dtype is not None
        return self.rw.const(np.asarray(number).astype(dtype.numpy()))

    def ints(self, numbers: Sequence[int]) -> ir.Value:
        """Return a constant int64 vector."""
        return self.rw.const(np.asarray(numbers, np.int64))

    def has(self, op_type: str, *inputs: ir.Value, **attributes: Any) -> bool:
        """Return whether the target has a kernel for an op at this opset and dtype."""
        made = [ir.attribute(k, v) for k, v in attributes.items()]
        probe = ir.Node("", op_type, list(inputs), made, num_outputs=1)
        probe.outputs[0].name, probe.outputs[0].type = "probe", self.x.type
        try:
            return support_of(probe, self.rw.module, self.target).verdict == "native"
        finally:
            for i in range(len(probe.inputs)):
                probe.replace_input_with(i, None)

    def reduce(self, op_type: str, x: ir.Value, axes: Sequence[int]) -> ir.Value:
        """Return a reduction that keeps the rank; axes are an input or an attribute, as the opset wants."""
        since = 13 if op_type == "ReduceSum" else 18
        if self.rw.module.opset() >= since:
            return self.op(op_type, x, self.ints(axes), keepdims=1)
        return self.op(op_type, x, axes=list(axes), keepdims=1)

    def reshape_like(self, value: ir.Value, like: ir.Value) -> ir.Value:
        """Return ``value`` in the shape of ``like``, by constants as far as that shape is known."""
        dims = ir.dims_of(like)
        if dims is not None and sum(not isinstance(d, int) for d in dims) <= 1 and 0 not in dims:
            return self.op("Reshape", value, self.ints([d if isinstance(d, int) else -1 for d in dims]))
        return self.op("Reshape", value, self.op("Shape", like))


Build = Callable[[Builder], "ir.Value | Sequence[ir.Value | None]"]
Check = Callable[[ir.Node], "str | None"]


@dataclass(frozen=True)
class Row:
    """How one op is lowered, and when it cannot be (``refuse`` returns the reason).

    ``build`` returns output 0, or one value per output; ``outputs`` are the indices it can give.
    """

    build: Build
    refuse: Check = lambda node: None
    outputs: frozenset[int] = frozenset({0})


class Lowering(SitePass):
    """Rewrite the ops of a table wherever the target has no kernel for them; others stay."""

    rows: ClassVar[Mapping[str, Row]]
    domain: ClassVar[str] = ""

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.op_type in self.rows and node.domain == self.domain:
                yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        node, target = site.anchor, site.ctx.target
        if (ir.since_version(node, site.module.model.opset_imports) or 0) > MEANT[1] and node.domain == "":
            return f"no table says what {target.name} has for {node.op_type} of opset {site.module.opset()}"
        if support_of(node, site.module, target).verdict == "native":
            return f"{target.name} has a kernel for {node.op_type}"
        row = self.rows[node.op_type]
        if any(ir.is_used(v) and i not in row.outputs for i, v in enumerate(node.outputs)):
            return "an output is used that the lowering does not give"
        if node.inputs and (node.inputs[0] is None or node.inputs[0].dtype is None):
            return "the element type of the input is not known"
        return row.refuse(node)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        node = site.anchor
        result = self.rows[node.op_type].build(Builder(node, rw, site.ctx.target))
        values = [result] if isinstance(result, ir.Value) else result
        for old, new in zip(node.outputs, values, strict=False):
            if new is not None and (old.name and ir.is_used(old)):
                rw.replace(old, new)
        rw.erase(node)


def floats_only(*names: str) -> Check:
    """Refuse element types other than those named (as in ir.DataType)."""

    def refuse(node: ir.Node) -> str | None:
        value = node.inputs[0]
        kind = value.dtype.name if value is not None and value.dtype is not None else "unknown"
        return None if kind in names else f"exact to rounding for {', '.join(names).lower()} only, not {kind.lower()}"

    return refuse
