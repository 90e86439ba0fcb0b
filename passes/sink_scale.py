"""sink-scale: c * (heads(x W + b) k^T) -> heads(x (c W) + c b) k^T."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.linear import Linear
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._affine import limits
from ._layers import DENSE, layer_of, used_elsewhere
from ._operands import small_constant

_MOVES = frozenset({"Reshape", "Transpose", "Squeeze", "Unsqueeze", "Flatten"})


@dataclass(frozen=True)
class _Chain:
    """``factor`` times what ``steps`` compute from the output of ``layer``, each by the operand of this index."""

    factor: float
    layer: Linear
    steps: tuple[tuple[ir.Node, int], ...]


class SinkScale(SitePass):
    """Move a scalar factor through data movement and matrix products into the weights of a layer.

    c * MatMul(Transpose(Reshape(x W + b)), k)  ->  MatMul(Transpose(Reshape(x (c W) + c b)), k)

    The factor is a Mul or Div by a finite scalar but 0; on the way Reshape, Transpose, Squeeze, Unsqueeze, Flatten and
    MatMul of computed operands (the left one is tried first); nothing on the way has other users. Layers: Gemm, MatMul
    (+ Add), Conv. A factor directly behind a layer is left to fold-affine. Shapes: any.
    Numerics: folded in float64, rounded once to the dtype of the weight; exact to rounding.
    Source: linearity; Vaswani et al. 2017, sec. 3.2.1.
    """

    name: ClassVar[str] = "sink-scale"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.graph is None or node.op_type not in ("Mul", "Div") or node.domain != "":
                continue
            found = _factor(node)
            if found is not None:
                yield Site(node, module, ctx, _chain(node, *found))

    def check(self, site: Site) -> str | None:
        chain = site.data
        if chain is None:
            return "no layer is reached that nothing else uses"
        if not chain.steps:
            return "fold-affine takes a factor directly behind a layer"
        dims = (ir.dims_of(site.anchor.outputs[0]), ir.dims_of(chain.steps[-1][0].outputs[0]))
        if None in dims or dims[0] != dims[1]:
            return "the factor is not known to keep the shape"
        dtype = chain.layer.weight.dtype
        tiny, largest = limits(dtype)
        for value in (chain.layer.weight, chain.layer.bias):
            array = ir.Module.constant(value)
            scaled = None if array is None else np.abs(array.astype(np.float64) * chain.factor)
            if scaled is not None and not np.all(scaled <= largest):
                return f"the scaled weights leave the range of {dtype}"
            if scaled is not None and dtype == ir.DataType.FLOAT16 and np.any((scaled > 0) & (scaled < tiny)):
                return f"the scaled weights vanish in {dtype}"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        chain: _Chain = site.data
        made = _scaled(chain, rw)
        for node, operand in chain.steps:
            made = rw.like(node, *(made if i == operand else v for i, v in enumerate(node.inputs)))
        rw.replace(site.anchor.outputs[0], made)
        rw.erase(site.anchor, *(node for node, _ in reversed(chain.steps)), *reversed(chain.layer.nodes))


def _factor(node: ir.Node) -> tuple[int, float] | None:
    """Return which operand is scaled, and by what."""
    for operand in (0, 1) if node.op_type == "Mul" else (0,):
        array = small_constant(node.inputs[1 - operand])
        if array is None or array.size != 1 or array.dtype.kind != "f":
            continue
        number = float(array.reshape(()))
        if np.isfinite(number) and number != 0:
            return operand, number if node.op_type == "Mul" else 1 / number
    return None


def _chain(node: ir.Node, operand: int, factor: float) -> _Chain | None:
    found = _walk(node.inputs[operand], node)
    return None if found is None else _Chain(factor, *found)


def _walk(value: ir.Value | None, user: ir.Node) -> tuple[Linear, tuple[tuple[ir.Node, int], ...]] | None:
    """Return the layer that a value comes from, and the steps from there to the value."""
    node = None if value is None else value.producer()
    if value is None or node is None or node.domain != "" or node.graph is not user.graph:
        return None
    if ir.sole_user(value) is not user or user.inputs.count(value) != 1:
        return None
    layer = _layer(node, value)
    if layer is not None:
        return layer, ()
    operands = (0, 1) if node.op_type == "MatMul" else (0,) if node.op_type in _MOVES else ()
    for operand in operands:
        found = _walk(node.inputs[operand], node)
        if found is not None:
            return found[0], (*found[1], (node, operand))
    return None


def _layer(node: ir.Node, value: ir.Value) -> Linear | None:
    """Return the layer whose result a value is, when nothing else uses its constants."""
    if node.op_type == "Add":
        node = next(iter(ir.producers(node)), node)
    found = layer_of(node) if node.op_type in DENSE else None
    if found is None or isinstance(found, str) or found.output is not value or used_elsewhere(found):
        return None
    return found


def _scaled(chain: _Chain, rw: Rewriter) -> Any:
    """Return the output of the layer with scaled constants."""
    layer, constants = chain.layer, {}
    for value in (layer.weight, layer.bias):
        array = ir.Module.constant(value)
        if array is not None:
            constants[id(value)] = rw.const((array.astype(np.float64) * chain.factor).astype(array.dtype))
    made: Any = None
    for node in layer.nodes:
        before = None if made is None else layer.nodes[0].outputs[0]
        made = rw.like(node, *(made if v is before and v is not None else constants.get(id(v), v) for v in node.inputs))
    return made
