"""merge-constants: (x + a) * b / c -> x * (b / c) + a * b / c, in fewer nodes."""

from __future__ import annotations

from collections.abc import Iterator
from functools import reduce
from math import prod
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.shape_rules import broadcast
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._affine import Array
from ._affine_chain import STEPS, Affine, chain_to, composed, numbers_refusal, product_size, step, taken
from ._fused import in_fused_function
from ._outputs import output_refusal

_MOST_ELEMENTS = 1 << 20


class MergeConstants(SitePass):
    """Apply a chain of sums and products with constants as one product and one sum.

    (x + a) + b -> x + (a + b);  (x * a) / b -> x * (a / b);  a - (b - x) -> x + (a - b);  -(x * a + b) -> x * -a + -b
    x * a * b + c - d -> x * (a b) + (c - d)

    Only where nodes become fewer and constants no larger; what the chain starts from is no part of a normalization or
    activation that runtimes fuse. Shapes: any, constants broadcast. Types: floats, and int32 and int64 without Div.
    Numerics: constants in float64, rounded once; exact to rounding, so that sums which cancel stay. Integers wrap
    around as they did. Source: associativity and distributivity.
    """

    name: ClassVar[str] = "merge-constants"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type not in STEPS or step(node) is None:
                continue
            user = ir.sole_user(node.outputs[0])
            goes_on = user is not None and user.graph is node.graph and step(user) is not None
            nodes = [] if goes_on else chain_to(node)
            if len(nodes) > 1:
                yield Site(node, module, ctx, nodes)

    def check(self, site: Site) -> str | None:
        nodes: list[ir.Node] = site.data
        size = product_size(nodes)
        if size > _MOST_ELEMENTS:
            return f"the constants grow to {size} elements"
        x, out, found = _input(nodes), site.anchor.outputs[0], composed(nodes)
        turns, scale, shift = _parts(found)
        if max(turns, (scale is not None) + (shift is not None)) >= len(nodes):
            return f"{len(nodes)} nodes take no fewer as one product and one sum"
        assert out.dtype is not None
        if in_fused_function(x):
            return "it belongs to a normalization or an activation that runtimes fuse"
        reason = numbers_refusal(found, out.dtype) or _shape_refusal(x, out, scale, shift, nodes)
        return reason or (output_refusal(out, x) if not turns and scale is None and shift is None else None)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        nodes: list[ir.Node] = site.data
        value, out = _input(nodes), site.anchor.outputs[0]
        assert out.dtype is not None
        turns, *parts = _parts(composed(nodes))
        scale, shift = (None if p is None else np.asarray(p, out.dtype.numpy()) for p in parts)
        if turns:
            value = rw.op("Neg", value) if shift is None else rw.op("Sub", shift, value)
        else:
            value = value if scale is None else rw.op("Mul", value, scale)
            value = value if shift is None else rw.op("Add", value, shift)
        rw.replace(out, value)
        rw.erase(*reversed(nodes))


def _input(nodes: list[ir.Node]) -> ir.Value:
    value = nodes[0].inputs[taken(nodes[0])[0]]
    assert value is not None
    return value


def _parts(found: Affine) -> tuple[bool, Array | None, Array | None]:
    """Return whether the sign turns and nothing else, else the scale; and the shift; None for what does nothing."""
    scale, shift = np.asarray(found.scale), np.asarray(found.shift)
    turns = bool(np.all(scale == -1))
    return turns, None if turns or np.all(scale == 1) else scale, None if np.all(shift == 0) else shift


def _shape_refusal(
    x: ir.Value, out: ir.Value, scale: Array | None, shift: Array | None, nodes: list[ir.Node]
) -> str | None:
    dims = [ir.dims_of(x), *(p.shape for p in (scale, shift) if p is not None)]
    known = [d for d in dims if d is not None]
    if len(known) != len(dims) or reduce(broadcast, known) != ir.dims_of(out):
        return "the constants give the result its shape"
    constants = {v for n in nodes for v in n.inputs if v is not None and ir.Module.is_constant(v)}
    before = sum(prod(ir.numbers(ir.known_dims(v))) for v in constants)
    after = sum(p.size for p in (scale, shift) if p is not None)
    return f"the constants grow from {before} elements to {after}" if after > before else None
