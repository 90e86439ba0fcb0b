"""merge-common-subexpressions: nodes that compute the same thing -> one node."""

from __future__ import annotations

import struct
from collections import ChainMap
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

from fcc import ir
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

DOMAINS = frozenset({"", "ai.onnx.ml", "com.microsoft"})
RANDOM = frozenset(
    {"RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike", "Multinomial", "Bernoulli", "Sampling"}
    | {"BiasDropout", "BitmaskDropout", "BitmaskBiasDropout", "Dropout"}
)
QUANTIZERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
COMMUTATIVE = frozenset(
    {"Add", "Mul", "And", "Or", "Xor", "Equal", "Sum", "Mean", "BitwiseAnd", "BitwiseOr", "BitwiseXor"}
)
COMMUTATIVE_INTEGERS = frozenset({"Max", "Min"})  # of floats, the order of operands may decide between 0.0 and -0.0
# Operators that take longer than the copy an Identity makes.
COSTLY = frozenset(
    {"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "LSTM", "GRU", "RNN", "Attention", "Softmax", "LogSoftmax"}
    | {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN", "TopK", "Resize"}
    | {"AveragePool", "MaxPool", "GlobalAveragePool", "CumSum", "NonMaxSuppression", "GridSample", "RoiAlign", "DFT"}
    | {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL1", "ReduceL2", "ReduceProd", "ReduceLogSumExp"}
    | {"ReduceSumSquare", "ReduceLogSum", "ArgMax", "ArgMin", "Unique", "STFT", "MatMulNBits", "FusedConv"}
    | {"MultiHeadAttention", "GroupQueryAttention", "RMSNormalization", "MatMulInteger", "ConvInteger", "Det"}
)


@dataclass
class _Twins:
    """Two nodes that compute the same, and where the first one is known."""

    first: ir.Node
    second: ir.Node
    table: ChainMap[Hashable, ir.Node]
    key: Hashable

    def replace_first(self, node: ir.Node) -> None:
        """Let later twins meet ``node`` in place of the first one."""
        scope = next(m for m in self.table.maps if self.key in m)
        scope[self.key] = node


@dataclass
class _Numbering:
    """The order in which values were met: sorts the operands of commutative operators."""

    numbers: dict[ir.Value | None, int] = field(default_factory=dict)

    def of(self, value: ir.Value | None) -> int:
        return self.numbers.setdefault(value, len(self.numbers))


class MergeCommonSubexpressions(SitePass):
    """Compute once what several nodes compute from the same inputs.

    y = f(a, b), z = f(a, b) -> y = z = f(a, b)

    Shapes: any. Same means: operator, domain, inputs (in any order where the operator commutes exactly), attributes
    (defaults filled in, floats and tensors by their bits). A node of a subgraph may reuse what a graph around it
    computed before; optional outputs are united. Never merged: random operators, custom domains, functions, nodes
    with subgraphs, QuantizeLinear and DequantizeLinear (runtimes want one per user); a graph output whose twin is one
    too becomes an Identity only where the operator costs more than a copy. One pass over the nodes.
    Source: value numbering, Cocke & Schwartz 1970; ONNX Operators.
    """

    name: ClassVar[str] = "merge-common-subexpressions"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        yield from _twins(module, ctx, module.graph, ChainMap(), _Numbering())

    def check(self, site: Site) -> str | None:
        twins: _Twins = site.data
        for value in twins.second.outputs:
            if value.is_graph_output() and not _may_hand_over(value, twins) and twins.first.op_type not in COSTLY:
                return f"{value.name!r} is a graph output and {twins.first.op_type} costs no more than a copy"
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        twins: _Twins = site.data
        kept = twins.first
        if _lacks_outputs(twins):
            # One with the outputs of both, where the first one stands.
            longest = max(twins.first, twins.second, key=lambda node: len(node.outputs))
            made = rw.like(longest, *kept.inputs)
            for old, new in zip(twins.first.outputs, made, strict=False):
                if old.name:
                    rw.replace(old, new)
            kept = rw.made[-1]
            twins.replace_first(kept)
            rw.erase(twins.first)
        for old, new in zip(twins.second.outputs, kept.outputs, strict=False):
            if ir.is_used(old):
                rw.replace(old, new)
        rw.erase(twins.second)


def _twins(
    module: ir.Module, ctx: PassContext, graph: ir.Graph, table: ChainMap[Hashable, ir.Node], numbers: _Numbering
) -> Iterator[Site]:
    for node in graph:
        nested = list(ir.subgraphs_of(node))
        for body in nested:
            yield from _twins(module, ctx, body, table.new_child(), numbers)
        key = None if nested or not _is_pure(module, node) else _key(module, node, numbers)
        if key is None:
            continue
        first = table.setdefault(key, node)
        if first is not node:
            twins = _Twins(first, node, table, key)
            yield Site(first if _lacks_outputs(twins) else node, module, ctx, twins)


def _may_hand_over(value: ir.Value, twins: _Twins) -> bool:
    """Return whether the first twin's output can take the name of this graph output of the second."""
    index = value.index() or 0
    taken = index < len(twins.first.outputs) and twins.first.outputs[index].is_graph_output()
    return twins.first.graph is value.graph and not taken


def _lacks_outputs(twins: _Twins) -> bool:
    present = [bool(v.name) for v in twins.first.outputs]
    return any(ir.is_used(v) and not (i < len(present) and present[i]) for i, v in enumerate(twins.second.outputs))


def _is_pure(module: ir.Module, node: ir.Node) -> bool:
    if not node.outputs or node.domain not in DOMAINS or node.op_type in RANDOM | QUANTIZERS:
        return False
    return node.op_identifier() not in module.model.functions


def _key(module: ir.Module, node: ir.Node, numbers: _Numbering) -> Hashable | None:
    attributes = attributes_key(node, module.opset(node.domain))
    if attributes is None:
        return None
    inputs = [numbers.of(v) for v in node.inputs]
    absent = numbers.of(None)
    while inputs and inputs[-1] == absent:
        inputs.pop()
    if len(inputs) == 2 and _commutes(node):
        inputs.sort()
    return node.domain, node.op_type, node.overload, attributes, tuple(inputs)


def _commutes(node: ir.Node) -> bool:
    if node.domain:
        return False
    dtype = node.outputs[0].dtype
    integer = dtype is not None and dtype.is_integer()
    return node.op_type in COMMUTATIVE or (integer and node.op_type in COMMUTATIVE_INTEGERS)


# -- attributes ------------------------------------------------------------------------------------------------------
def attributes_key(node: ir.Node, opset: int) -> Hashable | None:
    """Return what two nodes of an operator share when their attributes mean the same; None where one is a graph."""
    found = dict(_defaults(node.op_type, node.domain, opset))
    for name, attribute in node.attributes.items():
        if attribute.is_ref() or attribute.type not in _BITS:
            return None
        found[name] = (int(attribute.type), _BITS[attribute.type](attribute.value))
    return tuple(sorted(found.items(), key=lambda item: item[0]))


@lru_cache(maxsize=1024)
def _defaults(op_type: str, domain: str, opset: int) -> tuple[tuple[str, Hashable], ...]:
    schema = ir.schema_of(op_type, domain, opset)
    if schema is None:
        return ()
    defaults = ((name, declared.default_value) for name, declared in schema.attributes.items())
    return tuple(
        (name, (proto.type, _BITS[ir.AttributeType(proto.type)](getattr(proto, _FIELDS[proto.type]))))
        for name, proto in defaults
        if proto.type in _FIELDS
    )


def _float_bits(value: float) -> bytes:
    return struct.pack("<f", value)


def _text(value: str | bytes) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def _tensor_bits(tensor: ir.TensorProtocol) -> Hashable:
    if tensor.dtype == ir.DataType.STRING:
        return tensor.dtype, tuple(tensor.shape), tuple(tensor.string_data())  # type: ignore[attr-defined]
    return tensor.dtype, tuple(tensor.shape), tensor.tobytes()


_BITS: dict[ir.AttributeType, Callable[[Any], Hashable]] = {
    ir.AttributeType.FLOAT: _float_bits,
    ir.AttributeType.INT: int,
    ir.AttributeType.STRING: _text,
    ir.AttributeType.TENSOR: _tensor_bits,
    ir.AttributeType.FLOATS: lambda values: tuple(map(_float_bits, values)),
    ir.AttributeType.INTS: tuple,
    ir.AttributeType.STRINGS: lambda values: tuple(map(_text, values)),
    ir.AttributeType.TENSORS: lambda values: tuple(map(_tensor_bits, values)),
    ir.AttributeType.TYPE_PROTO: repr,
}
_FIELDS = {1: "f", 2: "i", 3: "s", 6: "floats", 7: "ints", 8: "strings"}
