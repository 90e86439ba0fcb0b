"""Which nodes compute in float16 and which stay float32 islands, with the reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from fcc import ir
from fcc.target import TargetSpec

from .fp16_constants import Constants
from .fp16_ranges import Ranges
from .fp16_types import FLOAT, Operands, convertible, runs_in_half

# Contractions accumulate in float32 inside the kernel and are what float16 is for: an island never grows past one.
LINEAR = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "Einsum", "FusedConv", "FusedMatMul", "FusedGemm"})
# Results of these lie in the range of float16 whatever the operands; the quotient ends a decomposed normalization.
_TAMING = frozenset(
    {"Div", "Softmax", "LogSoftmax", "Sigmoid", "HardSigmoid", "Tanh", "Log", "Clip", "Erf", "Softsign"}
)
# From a large number to one that may be too small to divide by in float16: one more float32 op follows.
_NARROWING = frozenset({"Sqrt", "Reciprocal"})
_STILL_NARROW = frozenset({"Add", "Max", "Sqrt", "Reciprocal"})
_MADE_BY_ATTRIBUTE = frozenset({"dtype", "output_dtype"})
BIG, NARROW = "big", "narrow"


@dataclass
class Labels:
    """The nodes of one graph in float16, their operands, and why the other float nodes are not."""

    half: set[ir.Node] = field(default_factory=set)
    operands: dict[ir.Node, Operands] = field(default_factory=dict)
    islands: dict[ir.Node, str] = field(default_factory=dict)


def label(
    module: ir.Module,
    graph: ir.Graph,
    spec: TargetSpec,
    constants: Constants,
    keep: frozenset[str] = frozenset(),
    ranges: Ranges | None = None,
) -> Labels:
    """Return the labels of the nodes of one graph; what holds a graph (If, Loop, Scan) is an island in it. O(nodes).

    ``keep`` names op types that stay float32 by the user's wish; ``ranges`` are those of calibration.
    """
    labels, risk, seen = Labels(), dict[ir.Value, str](), ranges or Ranges()
    for node in graph:
        operands = convertible(node, module, spec, constants.form)
        labels.operands[node] = operands
        if not operands.inputs and not operands.outputs:
            continue
        risky = _risk_reason(node, operands, risk, spec) if constants.form.narrow else None
        wish = "it was asked for" if node.op_type in keep else None
        reason = wish or _static_reason(node, operands, module, spec, constants) or seen.reason(node, operands) or risky
        if reason is None and not operands.outputs and not _fed_by_half(node, operands, labels):
            reason = "its operands are float32"
        if reason is None:
            labels.half.add(node)
        else:
            labels.islands[node] = reason
    _smooth(graph, labels)
    return labels


def _static_reason(
    node: ir.Node, operands: Operands, module: ir.Module, spec: TargetSpec, constants: Constants
) -> str | None:
    form = constants.form
    rules: tuple[tuple[str, Callable[[], bool]], ...] = (
        ("it handles sequences", lambda: any(_is_no_tensor(v) for v in (*node.inputs, *node.outputs))),
        ("it holds a graph", lambda: any(True for _ in ir.subgraphs_of(node))),
        ("an attribute fixes its type", lambda: _typed_by_attribute(node, operands, form.dtype)),
        (f"its values leave the range of {form.name}", lambda: form.narrow and _grows(node, spec)),
        (f"there is no {form.name} kernel", lambda: not runs_in_half(node, operands, module, spec, form)),
        (f"a constant leaves the range of {form.name}", lambda: not constants.fit(node, operands.inputs)),
    )
    return next((reason for reason, holds in rules if holds()), None)


def _is_no_tensor(value: ir.Value | None) -> bool:
    """Whether a value is a sequence or optional, or nobody knows what it is."""
    return value is not None and bool(value.name) and not isinstance(value.type, ir.TensorType)


def _grows(node: ir.Node, spec: TargetSpec) -> bool:
    return not node.domain and node.op_type in spec.fp16_islands


def _typed_by_attribute(node: ir.Node, operands: Operands, half: ir.DataType) -> bool:
    """Whether the output type follows from an attribute that the conversion does not rewrite."""
    if not operands.outputs:
        return False
    if node.op_type == "Cast":
        source = node.inputs[0]
        return source is None or source.dtype not in (ir.DataType.BOOL, half)
    if node.op_type == "ConstantOfShape":
        return False
    return not operands.inputs or bool(_MADE_BY_ATTRIBUTE & set(node.attributes))


def _risk_reason(node: ir.Node, operands: Operands, risk: dict[ir.Value, str], spec: TargetSpec) -> str | None:
    """Follow values that may leave float16's range from the op that makes them to the one that tames them."""
    if node.op_type in spec.fp16_islands:
        _mark(node, BIG, risk)
        return None
    inputs = [node.inputs[i] for i in operands.inputs]
    levels = {risk[v] for v in inputs if v in risk}
    if not levels or node.op_type in LINEAR:
        return None
    if BIG in levels and node.op_type not in _TAMING:
        _mark(node, NARROW if node.op_type in _NARROWING else BIG, risk)
    elif BIG not in levels and node.op_type in _STILL_NARROW:
        _mark(node, NARROW, risk)
    return "it works on values beyond the range of float16"


def _mark(node: ir.Node, level: str, risk: dict[ir.Value, str]) -> None:
    for value in node.outputs:
        if value.dtype == FLOAT:
            risk[value] = level


def _fed_by_half(node: ir.Node, operands: Operands, labels: Labels) -> bool:
    """Whether every operand that is computed is float16 already (a node without float results follows its operands)."""
    values = [node.inputs[i] for i in operands.inputs]
    computed = [v for v in values if v is not None and not ir.Module.is_constant(v)]
    return bool(computed) and all(v.producer() in labels.half for v in computed)


def _smooth(graph: ir.Graph, labels: Labels) -> None:
    """Turn a cheap float16 node between float32 ones into float32: two casts less."""
    changed = True
    while changed:
        changed = False
        for node in graph:
            if node in labels.half and node.op_type not in LINEAR and _lonely(node, labels):
                labels.half.discard(node)
                labels.islands[node] = "only float32 nodes around it"
                changed = True


def _lonely(node: ir.Node, labels: Labels) -> bool:
    operands = labels.operands[node]
    inputs = [node.inputs[i] for i in operands.inputs]
    computed = [v for v in inputs if v is not None and not ir.Module.is_constant(v)]
    if any(v.producer() in labels.half for v in computed):
        return False
    outputs = [node.outputs[i] for i in operands.outputs]
    return not any(u.node in labels.half for v in outputs for u in v.uses())
