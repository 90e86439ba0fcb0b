"""Operators whose operands and results may be stored with permuted axes: what becomes of their axes.

A value v is stored as v' with v = Transpose(v', perm = p): axis i of v is axis p[i] of v'. A rule takes a node and the
permutation of its first operand and returns the Carried form, or the reason why there is none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

from ._operands import integers, present, small_constant
from ._regions import LAUNCH, SMALL, Carried, Layout, elements

Perm = tuple[int, ...]


Rule = Callable[[ir.Node, Perm], Carried | str]


def inverse(p: Perm) -> Perm:
    """Return q with q[p[i]] = i."""
    return tuple(sorted(range(len(p)), key=p.__getitem__))


def composed(p: Perm, q: Perm) -> Perm:
    """Return the permutation of Transpose(Transpose(x, p), q)."""
    return tuple(p[i] for i in q)


def permutation(node: ir.Node) -> Perm | None:
    """Return the permutation of a Transpose, None when the rank is not known, or not that of the permutation."""
    perm = tuple(node.attributes.get_ints("perm", ()))
    dims = ir.dims_of(node.inputs[0])
    if not perm and dims is not None:
        perm = tuple(reversed(range(len(dims))))
    return perm if perm and (dims is None or len(perm) == len(dims)) else None


def moved_constant(value: ir.Value, p: Perm) -> np.ndarray[Any, Any] | None:
    """Return a small constant as an operand beside (broadcast against) values stored under ``p``, else None."""
    array = small_constant(value)
    if array is None or array.size > SMALL or array.ndim > len(p):
        return None
    full = array.reshape((1,) * (len(p) - array.ndim) + array.shape).transpose(inverse(p))
    while full.ndim > array.ndim and full.shape[0] == 1:
        full = full[0]
    return np.ascontiguousarray(full)


def _rank(value: ir.Value | None) -> int | None:
    dims = ir.dims_of(value)
    return None if dims is None else len(dims)


def _elementwise(node: ir.Node, p: Perm) -> Carried | str:
    """Operands of the rank of the result are permuted; constants follow; scalars stay."""
    operands: list[Perm | None] = []
    inputs: dict[int, np.ndarray[Any, Any]] = {}
    for i, value in enumerate(node.inputs):
        rank = _rank(value)
        constant = moved_constant(value, p) if value is not None and rank != 0 else None
        if value is None or rank == 0:
            operands.append(None)
        elif constant is not None:
            operands.append(None)
            inputs[i] = constant
        elif rank == len(p):
            operands.append(p)
        else:
            return "an operand broadcasts over axes it does not have"
    return Carried(tuple(operands), (p,) * len(node.outputs), {}, inputs)


def _axes(node: ir.Node, index: int, rank: int) -> list[int] | None:
    found = integers(node, index, "axes")
    if found is None or any(not isinstance(a, int) or not -rank <= a < rank for a in found):
        return None
    return [a % rank for a in found]


def _with_axes(node: ir.Node, axes: Sequence[int]) -> tuple[dict[str, Any], dict[int, np.ndarray[Any, Any]]]:
    if present(node, 1):
        return {}, {1: np.asarray(axes, np.int64)}
    return {"axes": list(axes)}, {}


def without(p: Perm, axes: Sequence[int]) -> Perm:
    """Return the permutation that is left when the axes (of v) go."""
    kept = [p[i] for i in range(len(p)) if i not in axes]
    order = sorted(kept)
    return tuple(order.index(k) for k in kept)


def _adjacent(axes: Sequence[int]) -> bool:
    return max(axes) - min(axes) == len(axes) - 1


def _reduce(node: ir.Node, p: Perm) -> Carried | str:
    given = present(node, 1, "axes")
    axes = _axes(node, 1, len(p)) if given else list(range(len(p)))
    if not axes or (not given and node.attributes.get_int("noop_with_empty_axes", 0) != 0):
        return "the axes are not known, or it reduces none"
    mapped = sorted(p[a] for a in axes)
    if _adjacent(axes) and not _adjacent(mapped):
        return "the reduced axes would not be adjacent"
    attributes, inputs = _with_axes(node, mapped) if given else ({}, {})
    result = p if node.attributes.get_int("keepdims", 1) else without(p, axes)
    return Carried((p, None)[: len(node.inputs)], (result,), attributes, inputs)


def _squeeze(node: ir.Node, p: Perm) -> Carried | str:
    axes = _axes(node, 1, len(p)) if present(node, 1, "axes") else None
    if axes is None:
        return "the axes are not known"
    attributes, inputs = _with_axes(node, sorted(p[a] for a in axes))
    return Carried((p, None)[: len(node.inputs)], (without(p, axes),), attributes, inputs)


def _unsqueeze(node: ir.Node, p: Perm) -> Carried | str:
    found = integers(node, 1, "axes")
    if found is None or any(not isinstance(a, int) for a in found):
        return "the axes are not known"
    rank = len(p) + len(found)
    axes = [a % rank for a in found]
    others = [i for i in range(rank) if i not in axes]
    result = list(range(rank))
    for j, place in enumerate(others):
        result[place] = others[p[j]]
    return Carried((p, None)[: len(node.inputs)], (tuple(result),))


def _one_axis(default: int, innermost: bool = False) -> Rule:
    """Return the rule of operators along one axis; ``innermost``: kernels are slower when it is not the last one."""

    def rule(node: ir.Node, p: Perm) -> Carried | str:
        axis = node.attributes.get_int("axis", default) % len(p)
        if innermost and axis == len(p) - 1 and p[axis] != axis:
            return "it would no longer work along the innermost axis"
        operands = tuple(p if i == 0 or node.op_type == "Concat" else None for i in range(len(node.inputs)))
        return Carried(operands, (p,) * len(node.outputs), {"axis": p[axis]})

    return rule


def _arg(node: ir.Node, p: Perm) -> Carried | str:
    axis = node.attributes.get_int("axis", 0) % len(p)
    result = p if node.attributes.get_int("keepdims", 1) else without(p, [axis])
    return Carried((p,), (result,), {"axis": p[axis]})


def _slice(node: ir.Node, p: Perm) -> Carried | str:
    starts = integers(node, 1, "starts")
    axes = _axes(node, 3, len(p)) if present(node, 3) else None if starts is None else list(range(len(starts)))
    if axes is None or "starts" in node.attributes:
        return "the axes are not known"
    assert node.inputs[1] is not None
    entries = _like(node.inputs[1], [p[a] for a in axes])
    return Carried((p, None, None, None, None)[: max(4, len(node.inputs))], (p,), {}, {3: entries})


def _like(value: ir.Value, entries: Sequence[int]) -> np.ndarray[Any, Any]:
    """Return numbers in the type of another operand, which the operator wants for both."""
    return np.asarray(entries, np.int64 if value.dtype is None else value.dtype.numpy())


def _int64(entries: Sequence[int]) -> np.ndarray[Any, Any]:
    return np.asarray(entries, np.int64)


def _pad(node: ir.Node, p: Perm) -> Carried | str:
    pads, rank = integers(node, 1, "pads"), len(p)
    if pads is None or "pads" in node.attributes or any(not isinstance(x, int) for x in pads):
        return "the pads are not known"
    operands = (p, None, None, None)[: len(node.inputs)]
    if present(node, 3):
        axes = _axes(node, 3, rank)
        return (
            "the axes are not known" if axes is None else Carried(operands, (p,), {}, {3: _int64([p[a] for a in axes])})
        )
    if len(pads) != 2 * rank:
        return "the pads do not fit the rank"
    back = inverse(p)
    return Carried(operands, (p,), {}, {1: _int64([pads[a + half] for half in (0, rank) for a in back])})


def _tile(node: ir.Node, p: Perm) -> Carried | str:
    repeats = integers(node, 1, "repeats")
    if repeats is None or any(not isinstance(x, int) for x in repeats) or len(repeats) != len(p):
        return "the repeats are not known"
    return Carried((p, None), (p,), {}, {1: _int64([repeats[a] for a in inverse(p)])})


def _gather(node: ir.Node, p: Perm) -> Carried | str:
    """Gather(x, scalar or row of indices): the axis is dropped or kept."""
    rank = _rank(node.inputs[1])
    axis = node.attributes.get_int("axis", 0) % len(p)
    if rank not in (0, 1):
        return "the indices have several axes, or their rank is not known"
    return Carried((p, None), (p if rank else without(p, [axis]),), {"axis": p[axis]})


def _matmul(node: ir.Node, p: Perm) -> Carried | str:
    """Batch axes are permuted on both sides; beside a matrix on the right, the row axis may go along."""
    left, right = (_rank(v) for v in node.inputs)
    last = len(p) - 1
    if left == right == len(p) > 2 and p[-2:] == (last - 1, last):
        return Carried((p, p), (p,))
    if left == len(p) and right == 2 and p[last] == last:
        return Carried((p, None), (p,))
    return "the permutation moves the axes that are multiplied"


def _last_axis(node: ir.Node, p: Perm) -> Carried | str:
    if node.attributes.get_int("axis", -1) not in (-1, len(p) - 1) or p[-1] != len(p) - 1:
        return "it works along the last axis, which the permutation moves"
    if len(node.outputs) > 1:
        return "it has further outputs"
    return Carried((p, *(None for _ in node.inputs[1:])), (p,))


def _per_tensor(node: ir.Node, p: Perm) -> Carried | str:
    if _rank(node.inputs[1]) != 0 or node.attributes.get_int("block_size", 0) != 0:
        return "it has a scale per channel"
    return Carried((p, *(None for _ in node.inputs[1:])), (p,))


UNARY = (
    "Abs",
    "Acos",
    "Acosh",
    "Asin",
    "Asinh",
    "Atan",
    "Atanh",
    "BitwiseNot",
    "Cast",
    "Ceil",
    "Celu",
    "Clip",
    "Cos",
    "Cosh",
    "Elu",
    "Erf",
    "Exp",
    "Floor",
    "Gelu",
    "HardSigmoid",
    "HardSwish",
    "Identity",
    "IsInf",
    "IsNaN",
    "LeakyRelu",
    "Log",
    "Mish",
    "Neg",
    "Not",
    "Reciprocal",
    "Relu",
    "Round",
    "Selu",
    "Shrink",
    "Sigmoid",
    "Sign",
    "Sin",
    "Sinh",
    "Softplus",
    "Softsign",
    "Sqrt",
    "Tan",
    "Tanh",
    "ThresholdedRelu",
)
NARY = (
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseOr",
    "BitwiseXor",
    "Div",
    "Equal",
    "Greater",
    "GreaterOrEqual",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Sub",
    "Sum",
    "Where",
    "Xor",
)
REDUCTIONS = (
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceMax",
    "ReduceMean",
    "ReduceMin",
    "ReduceProd",
    "ReduceSum",
    "ReduceSumSquare",
)

RULES: dict[str, Rule] = {
    **{name: _elementwise for name in (*UNARY, *NARY)},
    **{name: _reduce for name in REDUCTIONS},
    **{name: _one_axis(-1, innermost=True) for name in ("Hardmax", "LogSoftmax", "Softmax")},
    **{name: _one_axis(0) for name in ("Concat", "Split")},
    **{name: _arg for name in ("ArgMax", "ArgMin")},
    **{name: _last_axis for name in ("LayerNormalization", "RMSNormalization")},
    **{name: _per_tensor for name in ("DequantizeLinear", "QuantizeLinear")},
    "Gather": _gather,
    "MatMul": _matmul,
    "Pad": _pad,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Unsqueeze": _unsqueeze,
}


KEEP_RANK = frozenset(RULES) - {"Gather", "Squeeze", "Unsqueeze"}


class Transposes:
    """Transpose as a mover: a layout is a permutation p, v = Transpose(v', perm = p)."""

    def moves(self, node: ir.Node) -> bool:
        return node.op_type == "Transpose" and node.domain == ""

    def given(self, node: ir.Node) -> Perm | None:
        return permutation(node)

    def taken(self, node: ir.Node) -> Perm | None:
        p = permutation(node)
        return None if p is None else inverse(p)

    def same(self, value: ir.Value, layout: Layout) -> bool:
        return layout == tuple(range(len(layout)))

    def carried(self, node: ir.Node, index: int, layout: Layout) -> Carried | str:
        rule = RULES.get(node.op_type) if node.domain == "" else None
        return rule(node, layout) if rule is not None else f"{node.op_type} has axes of fixed meaning"

    def before(self, node: ir.Node, layout: Layout) -> Carried | str:
        if node.op_type not in KEEP_RANK or _rank(node.outputs[0]) != len(layout):
            return "the rank changes"
        return self.carried(node, 0, layout)

    def fits(self, value: ir.Value, layout: Layout) -> bool:
        return True

    def weight(self, value: ir.Value, shapes: Mapping[str, int]) -> int:
        return LAUNCH + elements(value, shapes)

    def constant(self, value: ir.Value, layout: Layout) -> np.ndarray[Any, Any] | None:
        return moved_constant(value, layout)

    def store(self, rw: Rewriter, value: ir.Value, layout: Layout) -> ir.Value:
        made: ir.Value = rw.op("Transpose", value, perm=inverse(layout))
        return made

    def restore(self, rw: Rewriter, stored: ir.Value, value: ir.Value, layout: Layout) -> ir.Value:
        made: ir.Value = rw.op("Transpose", stored, perm=layout)
        return made

    def turn(self, rw: Rewriter, stored: ir.Value, node: ir.Node, layout: Layout) -> ir.Value:
        own = permutation(node)
        assert own is not None
        made: ir.Value = rw.op("Transpose", stored, perm=composed(layout, own))
        return made

    def turns(self, node: ir.Node, layout: Layout) -> bool:
        return permutation(node) is not None

    def remakes(self, node: ir.Node, layout: Layout) -> bool:
        return False
