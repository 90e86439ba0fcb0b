"""merge-reductions: reductions in a row that are one, and sums that are means."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, const, op, ops, var

from ._operands import small_constant
from ._reductions import axes_of, reduced

_CHAINS = ("ReduceMax", "ReduceMean", "ReduceMin", "ReduceProd", "ReduceSum")


class MergeReductions(PatternPass):
    """Reduce over all axes at once, and compute a mean as one.

    ReduceSum(ReduceSum(x, a), b) -> ReduceSum(x, a and b), likewise Max, Min, Prod, Mean, and without keepdims
    ReduceSum(x, a) * (1 / n) -> ReduceMean(x, a), n elements being reduced; likewise divided by n
    ReduceMean(x, a) * n -> ReduceSum(x, a)

    Shapes: known axes; keepdims equal, or false for both in any order; for a mean the reduced sizes are known.
    Numerics: the order of additions changes; the mean divides once instead of multiplying by a rounded 1 / n.
    Source: ONNX ReduceSum-13, ReduceMean-18.
    """

    name: ClassVar[str] = "merge-reductions"
    pattern = (
        *(ops(f)(ops(f)(var("x"), variadic=True, name="inner"), variadic=True, name="outer") for f in _CHAINS),
        op.Mul(ops("ReduceSum", "ReduceMean")(var("x"), variadic=True, name="sum"), const("n"), name="scale"),
        op.Div(op.ReduceSum(var("x"), variadic=True, name="sum"), const("n"), name="scale"),
    )

    def check(self, m: Match) -> str | None:
        if "scale" in m.nodes:
            return _mean_refusal(m)
        axes = _merged(m)
        return axes if isinstance(axes, str) else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        if "scale" in m.nodes:
            node = m.nodes["sum"]
            axes = axes_of(node)
            assert not isinstance(axes, str)
            kind = "ReduceMean" if node.op_type == "ReduceSum" else "ReduceSum"
            return reduced(rw, kind, m["x"], axes, node.attributes.get_int("keepdims", 1))
        merged = _merged(m)
        assert not isinstance(merged, str)
        return reduced(rw, m.root.op_type, m["x"], merged, m.root.attributes.get_int("keepdims", 1))


def _merged(m: Match) -> list[int] | str:
    inner, outer = m.nodes["inner"], m.nodes["outer"]
    first, second = axes_of(inner), axes_of(outer)
    if isinstance(first, str) or isinstance(second, str):
        return first if isinstance(first, str) else str(second)
    kept = [n.attributes.get_int("keepdims", 1) for n in (inner, outer)]
    if kept[0] != kept[1]:
        return "one keeps the reduced axes, the other does not"
    if kept[0] == 0:
        rank = len(ir.known_dims(m["x"]))
        left = [a for a in range(rank) if a not in first]
        second = [left[a] for a in second]
    if m.root.op_type == "ReduceMean" and set(first) & set(second):
        return "an axis is reduced twice"
    if m.root.op_type == "ReduceMean" and (m["x"].dtype is None or not m["x"].dtype.is_floating_point()):
        return "a mean of integers is rounded otherwise"
    return sorted({*first, *second})


def _mean_refusal(m: Match) -> str | None:
    node, scale = m.nodes["sum"], m.nodes["scale"]
    axes, dims, factor = axes_of(node), ir.dims_of(m["x"]), small_constant(m["n"])
    if isinstance(axes, str) or dims is None:
        return "the axes are not known"
    if scale.op_type == "Div" and scale.inputs[1] is not m["n"]:
        return "the sum is what divides"
    out = ir.dims_of(node.outputs[0])
    if factor is None or factor.size != 1 or out is None or factor.ndim > len(out):
        return "the factor is no number"
    if m["x"].dtype is None or not m["x"].dtype.is_floating_point():
        return "a mean of integers is rounded otherwise"
    sizes = [dims[a] for a in axes]
    if not all(isinstance(d, int) for d in sizes) or 0 in sizes:
        return "a reduced size is not known, or 0"
    count = int(np.prod([int(str(d)) for d in sizes]))
    same = _is_mean(factor, count, scale.op_type if node.op_type == "ReduceSum" else "Div")
    return None if same else "it is no mean" if node.op_type == "ReduceSum" else f"the factor is not {count}"


def _is_mean(factor: np.ndarray[Any, Any], count: int, kind: str) -> bool:
    """Return whether a factor is 1 / count as near as its type can write it (or count, for Div)."""
    exact = 1.0 / count if kind == "Mul" else float(count)
    return bool(factor.reshape(-1)[0] == np.asarray(exact, factor.dtype))
