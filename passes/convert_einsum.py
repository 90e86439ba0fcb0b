"""convert-einsum: an Einsum that is a product or a sum -> MatMul, Mul, Transpose, Reshape, ReduceSum."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

from ._axes import Size
from ._einsum import Equation, Product, equation_of, products, term_of
from ._rearrange import Rearrangement, rearrangement
from ._views import full_dims


@dataclass(frozen=True)
class _Plan:
    """Sums over labels that one operand alone has, then the product, or the one operand rearranged."""

    equation: Equation
    sums: tuple[str, ...]
    product: Product | None
    alone: Rearrangement | None


class ConvertEinsum(PatternPass):
    """Write an Einsum of one or two operands by the operators that compute it.

    Einsum(x, w, "abc,cde->abde")   ->  Reshape(MatMul(x, Reshape(w, [c, d * e])), [a, b, d, e])
    Einsum(k, q, "aecd,abcd->acbe") ->  MatMul(Transpose(q, [0, 2, 1, 3]), Transpose(k, [0, 2, 3, 1]))
    Einsum(x, y, "ab,b->ab")        ->  Mul(x, y);   Einsum(x, "abc->ca") -> Transpose(ReduceSum(x, 1), [1, 0])

    Labels of both operands are batches where the result has them and summed over where it has not; those of one are
    rows or columns. Of all orders of operands and labels the one that moves the fewest elements is taken; weights that
    nothing else uses are turned when they are folded. Ellipses are spelled out. No repeated label (diagonal).
    Shapes: sizes known, at least as symbols, none 0; axes of one label have one size.
    Numerics: exact to rounding (a runtime may order the sum differently). onnxruntime on CPU takes 0.24 to 0.95 of the
    time of its Einsum (one thread, AVX2; attention and dense layers of Keras, sequence 1 to 512).
    Source: ONNX Einsum-12.
    """

    name: ClassVar[str] = "convert-einsum"
    pattern = (op.Einsum(var("a"), name="einsum"), op.Einsum(var("a"), var("b"), name="einsum"))

    def check(self, m: Match) -> str | None:
        plan = _plan(m)
        if isinstance(plan, str):
            return plan
        if any(plan.sums) and m.module.opset() < 13:
            return "ReduceSum takes its axes as attributes (opset below 13)"
        dtype = m.root.outputs[0].dtype
        if dtype == ir.DataType.BFLOAT16:
            return "onnxruntime computes an Einsum of bfloat16 in float32, and has no such MatMul on the CPU"
        kinds = {} if dtype is None else {"T": dtype.name.lower()}
        kind = "Transpose" if plan.product is None else plan.product.kind
        return m.ctx.target.refusal(kind, "", m.module.opset(), kinds)

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        plan = _plan(m)
        assert not isinstance(plan, str)
        summed: dict[ir.Value, Any] = {}
        for value, labels, gone in zip(m.root.inputs, plan.equation.operands, plan.sums, strict=True):
            assert value is not None
            axes = np.asarray([i for i, c in enumerate(labels) if c in gone], np.int64)
            summed[value] = rw.op("ReduceSum", value, axes, keepdims=1) if axes.size else value
        if plan.product is None:
            assert plan.alone is not None
            return plan.alone.emit(rw, summed[m["a"]])
        found = plan.product
        left, right = (part.emit(rw, summed[part.source]) for part in (found.left, found.right))
        return found.result.emit(rw, rw.op(found.kind, left, right))


def _plan(m: Match) -> _Plan | str:
    shapes = [full_dims(v) for v in m.root.inputs]
    known = [s for s in shapes if s is not None]
    if len(known) != len(shapes) or any(0 in s for s in known):
        return "the shapes are not known, or a size is 0"
    if m.get("b") is m["a"]:
        return "both operands are one value"
    equation = equation_of(m.root.attributes.get_string("equation", ""), known)
    return equation if isinstance(equation, str) else _of(equation, m, known)


def _of(equation: Equation, m: Match, shapes: list[tuple[Size, ...]]) -> _Plan | str:
    has = [
        {c for c, d in zip(labels, shape, strict=True) if d != 1}
        for labels, shape in zip(equation.operands, shapes, strict=True)
    ]
    others: list[set[str]] = [set().union(*(h for h in has if h is not own)) for own in has]
    sums = tuple(
        "".join(c for c in own if c not in other and c not in equation.result)
        for own, other in zip(has, others, strict=True)
    )
    values = [m["a"], *([m["b"]] if m.get("b") is not None else [])]
    terms = [term_of(*parts) for parts in zip(values, equation.operands, shapes, sums, strict=True)]
    if len(terms) == 1:
        alone = rearrangement(terms[0].value, terms[0].layout, [terms[0].axis(c) for c in equation.result])
        return "it cannot be laid out in constant numbers" if alone is None else _Plan(equation, sums, None, alone)
    best = min(products(terms[0], terms[1], equation.result, equation.sizes), key=lambda p: p.cost, default=None)
    return "it cannot be laid out in constant numbers" if best is None else _Plan(equation, sums, best, None)
