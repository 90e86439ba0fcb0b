"""What TensorRT's parser refuses of QuantizeLinear and DequantizeLinear, and where they cost more than they save.

Every row is a function from a node to what is wrong with it, None where nothing is (targets.md 3.2, 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from fcc import ir
from fcc.target import TargetSpec

from .lint import LintRow, name_of
from .node_facts import element_type

Row = Callable[[ir.Node, ir.Module], str | None]
Q, DQ = "QuantizeLinear", "DequantizeLinear"
_INTEGERS = frozenset({"int8", "int4", "float8e4m3fn", "float4e2m1"})
_WEIGHT_AXES = {"Conv": 0, "ConvTranspose": 1, "MatMul": -1}
_CONTRACTIONS = frozenset({*_WEIGHT_AXES, "Gemm"})


def rejected_qdq(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """Q and DQ that the parser rejects: types, zero points, scales and axes."""
    for node in _pairs(module):
        for row in _REJECTED:
            reason = row(node, module)
            if reason is not None:
                yield LintRow(name_of(node), f"{node.op_type}: {reason}")


def _pairs(module: ir.Module) -> list[ir.Node]:
    return [n for n in module.nodes() if n.op_type in (Q, DQ) and n.domain == ""]


def _size(value: ir.Value | None) -> int | None:
    """Return the number of elements where it is known."""
    dims = ir.dims_of(value)
    if dims is None or not all(isinstance(d, int) for d in dims):
        return None
    size = 1
    for d in dims:
        size *= int(d)  # type: ignore[arg-type]
    return size


def _operand(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _integer_type(node: ir.Node, module: ir.Module) -> str | None:
    kind = element_type(node.outputs[0] if node.op_type == Q else node.inputs[0])
    return None if kind is None or kind in _INTEGERS else f"{kind} is no type that TensorRT quantizes to"


def _implicit_zero_point(node: ir.Node, module: ir.Module) -> str | None:
    """ONNX reads a missing zero point of a Q as uint8, TensorRT as int8."""
    typed = node.op_type == DQ or bool(node.attributes.get_int("output_dtype", 0))
    return (
        None if typed or _operand(node, 2) is not None else "without a zero point its type is uint8 in ONNX, int8 here"
    )


def _zero_point_size(node: ir.Node, module: ir.Module) -> str | None:
    zero, scale = _size(_operand(node, 2)), _size(node.inputs[1])
    return f"{zero} zero points for {scale} scales" if None not in (zero, scale) and zero != scale else None


def _scale_type(node: ir.Node, module: ir.Module) -> str | None:
    data, scale = element_type(node.inputs[0]), element_type(node.inputs[1])
    if node.op_type == DQ or None in (data, scale) or data == scale:
        return None
    return f"the scale is {scale} and the data {data}"


def _per_channel_activation(node: ir.Node, module: ir.Module) -> str | None:
    size = _size(node.inputs[1])
    if size is None or size == 1 or bool(node.attributes.get_int("block_size", 0)):
        return None
    data = node.inputs[0]
    made = data.producer() if data is not None else None
    if node.op_type == DQ and made is not None and made.op_type == Q:
        data = made.inputs[0]
    constant = data is None or ir.Module.is_constant(data)
    return None if constant else f"{size} scales for an activation, which takes one"


def _scale_length(node: ir.Node, module: ir.Module) -> str | None:
    size, dims = _size(node.inputs[1]), ir.dims_of(node.inputs[0])
    if size is None or size == 1 or not dims or bool(node.attributes.get_int("block_size", 0)):
        return None
    axis = node.attributes.get_int("axis", 1)
    if not -len(dims) <= axis < len(dims):
        return f"axis {axis} is outside of {len(dims)} dimensions"
    along = dims[axis]
    return f"{size} scales for {along} channels" if isinstance(along, int) and along != size else None


def _weight_axis(node: ir.Node, module: ir.Module) -> str | None:
    """One scale per output channel: along any other axis engines do not build, or compute something else."""
    size, rank = _size(node.inputs[1]), len(ir.dims_of(node.inputs[0]) or ())
    if node.op_type != DQ or size in (None, 1) or not rank or bool(node.attributes.get_int("block_size", 0)):
        return None
    for use in node.outputs[0].uses():
        if use.idx == 1 and use.node.op_type in _CONTRACTIONS and use.node.domain == "":
            transposed = bool(use.node.attributes.get_int("transB", 0))
            wanted = _WEIGHT_AXES.get(use.node.op_type, 0 if transposed else 1) % rank
            if node.attributes.get_int("axis", 1) % rank != wanted:
                return f"the output channels of {use.node.op_type} lie along axis {wanted}"
    return None


def _odd_int4(node: ir.Node, module: ir.Module) -> str | None:
    if element_type(node.outputs[0] if node.op_type == Q else node.inputs[0]) != "int4":
        return None
    last = (ir.dims_of(node.inputs[0]) or (0,))[-1]
    return "the last dimension of int4 must be even" if isinstance(last, int) and last % 2 else None


def _blocks(node: ir.Node, module: ir.Module) -> str | None:
    data, scale = ir.dims_of(node.inputs[0]), ir.dims_of(node.inputs[1])
    if not node.attributes.get_int("block_size", 0) or data is None or scale is None:
        return None
    if len(data) != len(scale):
        return "scales of blocks have as many dimensions as the data"
    axis = node.attributes.get_int("axis", 1) % len(data)
    return None if axis >= len(data) - 2 else "blocks lie along the last or the second to last axis"


_REJECTED: tuple[Row, ...] = (
    *(_integer_type, _implicit_zero_point, _zero_point_size, _scale_type),
    *(_per_channel_activation, _scale_length, _weight_axis, _odd_int4, _blocks),
)
