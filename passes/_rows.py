"""Which operators treat every row of a looked-up tensor alone (index axes in front, those of the row behind)."""

from __future__ import annotations

from collections.abc import Callable

from fcc import ir

from ._operands import integers

Rule = Callable[[ir.Node, int, frozenset[ir.Value]], bool]

_ELEMENTWISE = frozenset(
    {"Abs", "Acos", "Acosh", "Add", "And", "Asin", "Asinh", "Atan", "Atanh", "Cast", "Ceil", "Celu", "Clip", "Cos"}
    | {"Cosh", "Div", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater", "GreaterOrEqual", "HardSigmoid"}
    | {"HardSwish", "Identity", "IsInf", "IsNaN", "LeakyRelu", "Less", "LessOrEqual", "Log", "Max", "Mean", "Min"}
    | {"Mish", "Mod", "Mul", "Neg", "Not", "Or", "PRelu", "Pow", "Reciprocal", "Relu", "Round", "Selu", "Sigmoid"}
    | {"Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tan", "Tanh", "ThresholdedRelu"}
    | {"Where", "Xor"}
)
_SCALED = frozenset({"LayerNormalization", "RMSNormalization"})
_ON_AXIS = frozenset({"Hardmax", "LogSoftmax", "LpNormalization", "Softmax"})
_REDUCING = frozenset(
    {"ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd"}
    | {"ReduceSum", "ReduceSumSquare"}
)


def is_row_wise(node: ir.Node, lead: int, rows: frozenset[ir.Value]) -> bool:
    """Return whether each row of the result depends on the same row of the inputs alone.

    ``rows`` are values with ``lead`` index axes in front; every other input must be constant. The result then has
    these index axes in front, too.
    """
    rule = _RULES.get(node.op_type) if node.domain == "" else None
    known = ir.operands(node)
    if rule is None or not all(v in rows or ir.Module.is_constant(v) for v in known):
        return False
    return not any(ir.is_used(v) for v in node.outputs[1:]) and rule(node, lead, rows)


def _elementwise(node: ir.Node, lead: int, rows: frozenset[ir.Value]) -> bool:
    """Rows align with rows, and a constant has size 1 on the index axes, or does not reach them."""
    out = ir.dims_of(node.outputs[0])
    return out is not None and all(
        _rank(v) == len(out) if v in rows else _repeats(v, len(out) - lead) and _rank(v) <= len(out)
        for v in node.inputs
        if v is not None
    )


def _rank(value: ir.Value) -> int:
    dims = ir.dims_of(value)
    return -1 if dims is None else len(dims)


def _repeats(value: ir.Value, row_rank: int) -> bool:
    dims = ir.dims_of(value)
    return dims is not None and all(d == 1 for d in dims[: max(0, len(dims) - row_rank)])


def _inside(axis: int, node: ir.Node, lead: int) -> bool:
    rank = _rank(node.inputs[0])  # type: ignore[arg-type]
    return (axis + rank if axis < 0 else axis) >= lead


def _on_axis(node: ir.Node, lead: int, rows: frozenset[ir.Value]) -> bool:
    return _inside(node.attributes.get_int("axis", -1), node, lead)


def _scaled(node: ir.Node, lead: int, rows: frozenset[ir.Value]) -> bool:
    """Axes from ``axis`` on are normalized; scale and bias are constants that broadcast to the row."""
    if not _on_axis(node, lead, rows) or node.inputs[0] not in rows:
        return False
    row_rank = _rank(node.inputs[0]) - lead
    return all(v is None or (v not in rows and _repeats(v, row_rank)) for v in node.inputs[1:])


def _reduces(node: ir.Node, lead: int, rows: frozenset[ir.Value]) -> bool:
    axes = integers(node, 1, "axes")
    return bool(axes) and all(isinstance(a, int) and _inside(a, node, lead) for a in axes or ())


def _matmul(node: ir.Node, lead: int, rows: frozenset[ir.Value]) -> bool:
    """[*index, *, K] @ [K, N]: the product takes a row's last axis and no other."""
    x, weight = node.inputs
    return x in rows and weight not in rows and _rank(weight) == 2 and _rank(x) > lead  # type: ignore[arg-type]


def _gemm(node: ir.Node, lead: int, rows: frozenset[ir.Value]) -> bool:
    x, weight = node.inputs[:2]
    plain = x in rows and weight not in rows and lead == 1 and not node.attributes.get_int("transA", 0)
    return plain and all(v is None or (v not in rows and _repeats(v, 1)) for v in node.inputs[2:])


_RULES: dict[str, Rule] = {
    **dict.fromkeys(_ELEMENTWISE, _elementwise),
    **dict.fromkeys(_ON_AXIS, _on_axis),
    **dict.fromkeys(_REDUCING, _reduces),
    **dict.fromkeys(_SCALED, _scaled),
    "Gemm": _gemm,
    "MatMul": _matmul,
}
