"""Q and DQ that TensorRT runs and that cost more than they save: where they lie, and what they lie around.

Every row is a function from a node to what is wrong with it, None where nothing is (targets.md 3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from math import prod

import numpy as np

from fcc import ir
from fcc.target import TargetSpec
from fcc.target.tensor_cores import narrow_conv

from .lint import LintRow, name_of

Row = Callable[[ir.Node], str | None]
Q, DQ = "QuantizeLinear", "DequantizeLinear"
# Integers pass through these, or they have int8 kernels of their own where both sides are quantized.
_BOTH_SIDES = frozenset(
    {"MaxPool", "AveragePool", "GlobalAveragePool", "Concat", "Mul", "Clip", "Relu", "Resize", "Sigmoid", "Split"}
)
# Kernels of these are fused with what is around them in float, which Q and DQ cut.
_FLOAT_ONLY = frozenset(
    {"LayerNormalization", "InstanceNormalization", "GroupNormalization", "RMSNormalization", "Softmax", "Gelu", "Erf"}
    | {"HardSwish", "Tanh", "LogSoftmax", "Attention"}
)


def costly_qdq(module: ir.Module, spec: TargetSpec) -> Iterator[LintRow]:
    """Q and DQ that are placed so that nothing runs faster."""
    if not any(n.op_type == DQ and n.domain == "" for n in module.nodes()):
        return
    for node in module.nodes():
        rows = _COSTLY.get(node.op_type, ()) if node.domain == "" else ()
        for row in rows:
            reason = row(node)
            if reason is not None:
                yield LintRow(name_of(node), f"{node.op_type}: {reason}", "warning")


def _dequantized(value: ir.Value | None) -> bool:
    made = value.producer() if value is not None else None
    return made is not None and made.op_type == DQ and made.domain == ""


def _weight_only(value: ir.Value | None) -> bool:
    """Whether a value is a constant of integers dequantized: weights alone may be quantized in blocks, or int4."""
    made = value.producer() if value is not None else None
    return made is not None and _dequantized(value) and ir.Module.is_constant(made.inputs[0])


def _requantized(value: ir.Value) -> bool:
    return any(u.node.op_type == Q and u.node.domain == "" for u in value.uses())


def _one_operand(node: ir.Node) -> str | None:
    """An integer kernel takes both operands as integers."""
    x, w = (_dequantized(v) for v in node.inputs[:2])
    if x == w or (w and _weight_only(node.inputs[1]) and not x):
        return None
    return f"only its {'data is' if x else 'weight is'} quantized, so it runs in float"


def _vector(node: ir.Node) -> str | None:
    dims = ir.dims_of(node.outputs[0])
    if not dims or not all(map(_dequantized, node.inputs[:2])):
        return None
    rows = [d for d in dims[:-1] if isinstance(d, int)]
    one_row = len(rows) == len(dims) - 1 and prod(rows) == 1
    return "a product with a vector gains nothing from int8" if dims[-1] == 1 or one_row else None


def _narrow(node: ir.Node) -> str | None:
    dims = ir.dims_of(node.inputs[1])
    if not dims or not all(isinstance(d, int) for d in dims) or not all(map(_dequantized, node.inputs[:2])):
        return None
    outputs, inputs, *kernel = (int(d) for d in dims)  # type: ignore[arg-type]
    group = node.attributes.get_int("group", 1)
    return narrow_conv(outputs, inputs, kernel, group, first=_is_input(node.inputs[0]))


def _is_input(value: ir.Value | None) -> bool:
    """Whether a dequantized value is an input of the model, quantized."""
    made = value.producer() if value is not None else None
    quantize = made.inputs[0].producer() if made is not None and made.inputs[0] is not None else None
    source = quantize.inputs[0] if quantize is not None else None
    return source is not None and source.is_graph_input()


def _residual(node: ir.Node) -> str | None:
    """A convolution adds a quantized tensor to its own float result; two quantized operands are an op of their own."""
    if not all(map(_dequantized, node.inputs)):
        return None
    behind = [_behind_conv(v) for v in node.inputs]
    return "the result of the Conv is quantized before the sum, which cuts it from the Conv" if any(behind) else None


def _behind_conv(value: ir.Value | None) -> bool:
    made = value.producer() if value is not None else None
    quantize = made.inputs[0].producer() if made is not None and made.inputs[0] is not None else None
    source = quantize.inputs[0].producer() if quantize is not None and quantize.inputs[0] is not None else None
    return source is not None and source.op_type == "Conv"


def _one_side(node: ir.Node) -> str | None:
    if not any(map(_dequantized, node.inputs)) or _requantized(node.outputs[0]):
        return None
    return "it reads int8 and writes float"


def _float_only(node: ir.Node) -> str | None:
    return "it is fused in float, and reads int8" if any(map(_dequantized, node.inputs)) else None


def _scales_of_concat(node: ir.Node) -> str | None:
    """Integers are joined as they are where all of them have one scale."""
    made = [v.producer() for v in node.inputs if v is not None and _dequantized(v)]
    users = [u.node for u in node.outputs[0].uses() if u.node.op_type == Q]
    found = [ir.Module.constant(n.inputs[1]) for n in (*made, *users) if n is not None and n.inputs[1] is not None]
    scales = [s for s in found if s is not None]
    same = all(np.array_equal(scales[0], s) for s in scales[1:]) if scales else True
    return None if same else "its operands and its result have different scales"


def _twice(node: ir.Node) -> str | None:
    """One QuantizeLinear serves all readers of a tensor."""
    value = node.inputs[0]
    others = [u.node for u in value.uses() if u.node.op_type == Q] if value is not None else []
    again = len(others) > 1 and others[0] is not node
    return f"{value.name} is quantized {len(others)} times" if again and value is not None else None


_COSTLY: dict[str, tuple[Row, ...]] = {
    "Conv": (_one_operand, _narrow),
    "ConvTranspose": (_one_operand,),
    "Gemm": (_one_operand, _vector),
    "MatMul": (_one_operand, _vector),
    "Add": (_residual,),
    Q: (_twice,),
    **dict.fromkeys(_BOTH_SIDES, (_one_side,)),
    **dict.fromkeys(_FLOAT_ONLY, (_float_only,)),
    "Concat": (_one_side, _scales_of_concat),
}
