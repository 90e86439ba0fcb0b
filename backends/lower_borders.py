"""lower-borders: fewer and smaller copies around what the device has no kernel for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from math import prod
from typing import ClassVar

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from .placement import HOST, Placement, placement_of

_UNARY = frozenset(
    {"Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Cast", "Ceil", "Celu", "Cos", "Cosh"}
    | {"Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish"}
    | {"Neg", "Not", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign"}
    | {"Sqrt", "Swish", "Tan", "Tanh", "ThresholdedRelu"}
)
_BINARY = frozenset(
    {"Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual"}
    | {"Less", "LessOrEqual", "Max", "Min", "Mod", "Mul", "Or", "Pow", "Sub", "Xor"}
)
_MOVING = frozenset({"Expand", "Flatten", "Gather", "Reshape", "Slice", "Squeeze", "Tile", "Transpose", "Unsqueeze"})


@dataclass(frozen=True)
class _Swap:
    """An elementwise node on the host and a data movement beside it: ``first`` comes to stand behind ``second``."""

    first: ir.Node
    second: ir.Node


class LowerBorders(SitePass):
    """Let data movement stand where it makes the device and the host copy least around elementwise nodes on the host.

    g(Transpose(f(x))) -> Transpose(g(f(x))),  f and g on the host: two copies instead of four
    f(Expand(x)) -> Expand(f(x)),  Slice(f(x)) -> f(Slice(x)): fewer bytes

    f, g: elementwise, of one tensor and numbers, for which the provider has no kernel. Data movement: Transpose,
    Reshape and its like, Expand, Tile, Slice and Gather, which keep elements as they are. Values between have no other
    user. Shapes: any; sizes that are open count as those that are modelled. Numerics: bit for bit.
    Source: onnxruntime transformer_memcpy.cc.
    """

    name: ClassVar[str] = "lower-borders"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        version = -1
        while version != module.version:
            version = module.version
            for graph in list(module.graphs()):
                for node in placement_of(module, graph, ctx.target).foreign:
                    if node.graph is not None and _operand(node) is not None:
                        yield Site(node, module, ctx, _swap(node, placement_of(module, graph, ctx.target), ctx.shapes))

    def check(self, site: Site) -> str | None:
        return None if site.data is not None else "no data movement beside it makes copies larger, or more"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        swap: _Swap = site.data
        value = swap.first.inputs[_operand(swap.first) or 0]
        assert value is not None
        for node in (swap.second, swap.first):
            at = _operand(node) or 0
            value = rw.like(node, *(value if i == at else v for i, v in enumerate(node.inputs)))
        rw.replace(swap.second.outputs[0], value)
        rw.erase(swap.second, swap.first)


def _operand(node: ir.Node) -> int | None:
    """Return which input of an elementwise or moving node is its data, None for other nodes."""
    if node.domain != "" or len(node.outputs) != 1:
        return None
    if node.op_type in _UNARY:
        return 0
    if node.op_type in _MOVING:
        return 0 if all(v is None or v.producer() is None for v in node.inputs[1:]) else None
    if node.op_type not in _BINARY:
        return None
    numbers = [i for i, v in enumerate(node.inputs) if ir.Module.is_constant(v) and ir.dims_of(v) == ()]
    return 1 - numbers[0] if len(node.inputs) == 2 and len(numbers) == 1 else None


def _swap(node: ir.Node, placed: Placement, symbols: Mapping[str, int]) -> _Swap | None:
    before = _neighbor(node.inputs[_operand(node) or 0], node)
    if before is not None and before.op_type in _MOVING and _operand(before) == 0:
        grows = _elements(before.outputs[0], symbols) - _elements(before.inputs[0], symbols)
        if grows > 0 or (grows == 0 and _reaches_host(before, placed)):
            return _Swap(before, node)
    after = ir.sole_user(node.outputs[0])
    if after is None or after.graph is not node.graph or after.op_type not in _MOVING or _operand(after) != 0:
        return None
    if after.inputs[0] is not node.outputs[0]:
        return None
    smaller = _elements(after.outputs[0], symbols) < _elements(node.outputs[0], symbols)
    return _Swap(node, after) if smaller else None


def _reaches_host(node: ir.Node, placed: Placement) -> bool:
    """Return whether data movement, and nothing else, stands between a node and an elementwise one on the host."""
    source = _neighbor(node.inputs[0], node)
    while source is not None and source.op_type in _MOVING and _operand(source) == 0:
        source = _neighbor(source.inputs[0], source)
    return source is not None and placed.where.get(source) == HOST and _operand(source) is not None


def _neighbor(value: ir.Value | None, user: ir.Node) -> ir.Node | None:
    """Return the node that makes a value for ``user`` alone, in its graph."""
    producer = None if value is None else value.producer()
    if producer is None or value is None or producer.graph is not user.graph or ir.sole_user(value) is not user:
        return None
    return producer


def _elements(value: ir.Value | None, symbols: Mapping[str, int]) -> int:
    shape = sizes(value, symbols)
    return 0 if shape is None else prod(shape)
