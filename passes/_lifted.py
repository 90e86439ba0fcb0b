"""Operators on many elements at once: what a node does to one element, for all of them along a new first axis.

A value is lifted when it has that axis; values that are the same for every element stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fcc import ir
from fcc.rewrite import Rewriter

from ._operands import integers, present
from ._permutations import NARY, REDUCTIONS, UNARY

Array = np.ndarray[Any, Any]
Emit = Callable[[Rewriter, ir.Node, Sequence[ir.Value | None]], Any]


@dataclass(frozen=True)
class Lifted:
    """A node on all elements: axes of size 1 to insert behind the first one per operand, and what else changes.

    ``inputs`` replaces operands, ``attributes`` attributes; ``emit`` writes another operator instead.
    """

    inserted: tuple[int, ...] = ()
    attributes: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[int, Array] = field(default_factory=dict)
    emit: Emit | None = None

    def write(self, rw: Rewriter, node: ir.Node, operands: Sequence[ir.Value | None]) -> tuple[ir.Value, ...]:
        """Return the results of the node on lifted operands."""
        values: list[Any] = [self.inputs.get(i, v) for i, v in enumerate(operands)]
        for i, count in enumerate(self.inserted):
            if count:
                values[i] = rw.op("Unsqueeze", values[i], np.arange(1, 1 + count, dtype=np.int64))
        made = self.emit(rw, node, values) if self.emit is not None else rw.like(node, *values, **self.attributes)
        return made if isinstance(made, tuple) else (made,)


Rule = Callable[[ir.Node, Sequence[bool]], Lifted | str]


def lift(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    """Return a node on all elements, given which of its operands are lifted, or why it has no such form."""
    rule = RULES.get(node.op_type) if node.domain == "" else None
    return f"{node.op_type} is not known to work on many elements at once" if rule is None else rule(node, lifted)


def _rank(value: ir.Value | None) -> int | None:
    dims = ir.dims_of(value)
    return None if dims is None else len(dims)


def _only_first(node: ir.Node, lifted: Sequence[bool]) -> bool:
    return lifted[0] and not any(lifted[1:])


def _elementwise(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    """Lifted operands of fewer axes get axes of size 1; the others broadcast from the right as before."""
    ranks = [0 if v is None else _rank(v) for v in node.inputs]
    if None in ranks:
        return "a rank is not known"
    most = max(r for r in ranks if r is not None)
    return Lifted(tuple(most - r if on and r is not None else 0 for r, on in zip(ranks, lifted, strict=True)))


def _of_first(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    """One operand element by element, and numbers."""
    return Lifted() if _only_first(node, lifted) else "an operand behind the first one differs by element"


def _prelu(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    return _elementwise(node, lifted) if lifted[0] else "only the slope differs by element"


def _along(default: int) -> Rule:
    def rule(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
        axis = node.attributes.get_int("axis", default)
        if not _only_first(node, lifted) or _rank(node.inputs[0]) is None:
            return "an operand behind the first one differs by element"
        return Lifted(attributes={"axis": axis if axis < 0 else axis + 1})

    return rule


def _concat(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    axis = node.attributes.get_int("axis", 0)
    return Lifted(attributes={"axis": axis + (axis >= 0)}) if all(lifted) else "an operand is the same for all elements"


def _axes(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    """Unsqueeze, Squeeze, reductions: along axes that they name."""
    axes = integers(node, 1, "axes") if present(node, 1, "axes") else []
    if not _only_first(node, lifted) or not axes or not all(isinstance(a, int) for a in axes):
        return "the axes are not known"
    moved = [a + (a >= 0) for a in axes]
    if "axes" in node.attributes:
        return Lifted(attributes={"axes": moved})
    return Lifted(inputs={1: np.asarray(moved, np.int64)})


def _transpose(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    rank = _rank(node.inputs[0])
    if rank is None:
        return "the rank is not known"
    perm = node.attributes.get_ints("perm", tuple(reversed(range(rank))))
    return Lifted(attributes={"perm": [0, *(p + 1 for p in perm)]})


def _reshape(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    """[0, *target]: entries of 0 copy the axis at their place, which moves with them; -1 is written as a number."""
    target, dims = ir.Module.constant(node.inputs[1]), ir.dims_of(node.outputs[0])
    if not _only_first(node, lifted) or target is None or node.attributes.get_int("allowzero", 0) != 0:
        return "the target is not constant"
    entries = [d if t == -1 and dims is not None else int(t) for t, d in zip(target, dims or target, strict=True)]
    if not all(isinstance(e, int) and e != -1 for e in entries):
        return "a size of the target is not known"
    return Lifted(inputs={1: np.asarray([0, *entries], np.int64)})


def _slice(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    axes = integers(node, 3, "axes") if present(node, 3) else None
    if not _only_first(node, lifted) or axes is None or not all(isinstance(a, int) for a in axes):
        return "the axes are not known"
    return Lifted(inputs={3: np.asarray([a + (a >= 0) for a in axes], np.int64)})


def _gather(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    axis = node.attributes.get_int("axis", 0)
    if lifted == [True, False]:
        return Lifted(attributes={"axis": axis + (axis >= 0)})
    return Lifted() if lifted == [False, True] and axis == 0 else "both operands differ by element"


def _matmul(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    a, b = (_rank(v) for v in node.inputs)
    if a is None or b is None:
        return "a rank is not known"
    rows = lifted[0] and not lifted[1] and b == 2 and a >= 1
    stacks = a >= 2 and b >= 2 and (a == b if all(lifted) else lifted[1] and a == 2)
    return Lifted() if rows or stacks else "it multiplies vectors, or stacks of another rank"


def _gemm(node: ir.Node, lifted: Sequence[bool]) -> Lifted | str:
    """a B + c, the matrix being turned over where transB says so."""
    attributes = node.attributes
    numbers = [attributes.get_float(k, 1.0) for k in ("alpha", "beta")]
    plain = attributes.get_int("transA", 0) == 0 and numbers == [1.0, 1.0]
    return Lifted(emit=_as_matmul) if plain and _only_first(node, lifted) else "it does more than a product by a matrix"


def _as_matmul(rw: Rewriter, node: ir.Node, operands: Sequence[ir.Value | None]) -> ir.Value:
    a, b, *rest = operands
    if node.attributes.get_int("transB", 0):
        b = rw.op("Transpose", b, perm=[1, 0])
    product: ir.Value = rw.op("MatMul", a, b)
    if rest and rest[0] is not None:
        product = rw.op("Add", product, rest[0])
    return product


RULES: dict[str, Rule] = {
    **dict.fromkeys(UNARY, _of_first),
    **dict.fromkeys(NARY, _elementwise),
    **dict.fromkeys(("Squeeze", "Unsqueeze", *REDUCTIONS), _axes),
    **dict.fromkeys(("Hardmax", "LayerNormalization", "LogSoftmax", "Softmax"), _along(-1)),
    **dict.fromkeys(("ArgMax", "ArgMin", "Split"), _along(0)),
    "Concat": _concat,
    "Gather": _gather,
    "Gemm": _gemm,
    "MatMul": _matmul,
    "PRelu": _prelu,
    "Reshape": _reshape,
    "Slice": _slice,
    "Transpose": _transpose,
}
