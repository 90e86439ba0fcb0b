"""fold-one-hot: MatMul(one_hot(i), table) -> Gather(table, i)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.intervals import Intervals
from fcc.rewrite import Match, PatternPass, Rewriter, any_of, const, op, var
from fcc.rewrite.pattern import Op

from ._operands import small_constant

Array = np.ndarray[Any, Any]
_INDICES = (ir.DataType.INT32, ir.DataType.INT64)
_NARROW = (ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.INT16, ir.DataType.UINT16)
_EQUAL = op.Equal(var("i"), const("range"), name="equal")
_HOT = any_of(
    op.Cast(_EQUAL, name="hot"),
    op.Where(_EQUAL, const("one", 1.0), const("zero", 0.0), name="hot"),
    op.OneHot(var("i"), const("depth"), const("values"), name="hot"),
)


@dataclass(frozen=True)
class _Table:
    """What one_hot(i) @ weight + bias gives for each index: row ``ids[k]`` is weight[k] + bias, any other row bias.

    ``wraps``: an index in [-D, -1] counts from the end (OneHot), else it gives the bias.
    """

    index: ir.Value
    ids: Array
    weight: ir.Value
    bias: ir.Value | None
    node: ir.Node
    wraps: bool

    @property
    def size(self) -> int:
        """The number of rows up to the highest index that has one."""
        return int(self.ids.max()) + 1

    @cached_property
    def is_guarded(self) -> bool:
        """Whether an index without a row may occur, so that a row without weight stands at the end."""
        found = Intervals().of(self.index)
        return found.least < (-self.size if self.wraps else 0) or found.greatest >= self.size

    @property
    def is_weight(self) -> bool:
        """Whether the weight is the table as it stands."""
        plain = self.bias is None and not self.is_guarded and np.array_equal(self.ids, np.arange(len(self.ids)))
        return plain and (self.node.op_type == "MatMul" or not self.node.attributes)

    def rows(self) -> Array:
        """Return the table, one rounding after float64."""
        weight = ir.Module.constant(self.weight)
        assert weight is not None
        attributes = self.node.attributes
        exact = weight.astype(np.float64) * attributes.get_float("alpha", 1.0)
        exact = exact.T if attributes.get_int("transB", 0) else exact
        table = np.zeros((self.size + self.is_guarded, exact.shape[1]))
        table[self.ids] = exact
        if self.bias is not None:
            bias = ir.Module.constant(self.bias)
            assert bias is not None
            table += bias.astype(np.float64) * attributes.get_float("beta", 1.0)
        return table.astype(weight.dtype)


@dataclass(frozen=True)
class FoldOneHot(PatternPass):
    """Look rows up instead of multiplying a one-hot matrix by a table.

    MatMul(Cast(Equal(i, ids)), table)        ->  Gather(table, Squeeze(i, -1))
    MatMul(OneHot(i, D, [0, 1]), table)       ->  Gather(table, i)
    Gemm(one_hot(i), table, b)                ->  Gather(alpha * table + beta * b, i)

    Shapes: i [..., 1] integer against ids [D], distinct and not negative; table [D, N], finite. An i that is none of
    ids has a row of zeros in the product: where the operators that make i do not prove that this cannot happen, the
    table gets a row of zeros at its end, row R, and the index becomes Clip(i, -1, R), of which -1 is that row too.
    ``max_growth`` bounds the bytes that this row and a copy of a shared table may add. Exact: one term of each sum is
    not zero.
    Source: ONNX Equal-13, OneHot-11, Gather-13 (negative indices count from the end).
    """

    name: ClassVar[str] = "fold-one-hot"
    pattern: ClassVar[tuple[Op, ...]] = (
        op.MatMul(_HOT, const("table"), name="product"),
        op.Gemm(_HOT, const("table"), const("bias").optional(), name="product"),
    )
    max_growth: int = 1024

    def check(self, m: Match) -> str | None:
        reason = _product_refusal(m) or (_equal_refusal(m) if "equal" in m.nodes else _one_hot_refusal(m))
        if reason is not None:
            return reason
        table = _table(m)
        if table.wraps and table.is_guarded:
            return "an index outside of the table is not excluded, and OneHot wraps negative ones"
        if not np.isfinite(m.const("table")).all():
            return "the table holds NaN or infinity, which zeros of the one-hot matrix would spread"
        if not table.is_weight and _growth(m, table) > self.max_growth:
            return f"the table would be a copy of more than {self.max_growth} bytes (it is shared, or sparse)"
        kind = "int64" if m["i"].dtype == ir.DataType.INT64 else "int32"
        return m.ctx.target.refusal("Clip", "", m.module.opset(), {"T": kind}) if table.is_guarded else None

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        table, index = _table(m), m["i"]
        if "equal" in m.nodes:
            index = rw.op("Squeeze", index, np.asarray([-1], np.int64))
        if index.dtype in _NARROW:
            index = rw.op("Cast", index, to=int(ir.DataType.INT32))
        if table.is_guarded:
            kind = np.int64 if index.dtype == ir.DataType.INT64 else np.int32
            index = rw.op("Clip", index, np.asarray(-1, kind), np.asarray(table.size, kind))
        rows = table.weight if table.is_weight else rw.const(table.rows())
        looked_up: ir.Value = rw.op("Gather", rows, index, axis=0)
        return looked_up


def _product_refusal(m: Match) -> str | None:
    if m["i"].dtype not in (*_INDICES, *_NARROW):
        return f"a Gather takes no index of type {m['i'].dtype}"
    node, table, hot = m.nodes["product"], ir.dims_of(m["table"]), ir.dims_of(m.nodes["hot"].outputs[0])
    if m["table"].dtype is None or not m["table"].dtype.is_floating_point():
        return "the table holds no floats"
    if table is None or len(table) != 2 or hot is None or len(hot) < 2:
        return "the table is no matrix, or the one-hot matrix a vector"
    if 0 in table:
        return "the table is empty"
    if node.op_type == "MatMul":
        return None
    if node.attributes.get_int("transA", 0):
        return "the one-hot matrix is transposed"
    bias = ir.known_dims(m.get("bias"))
    if len(bias) > 2 or any(d != 1 for d in bias[:-1]):
        return "the bias is no row"
    return None


def _equal_refusal(m: Match) -> str | None:
    dims, ids = ir.dims_of(m["i"]), small_constant(m["range"])
    if dims is None or ids is None:
        return "the rank of the index is not known, or it is compared with too many ids"
    if not dims or dims[-1] != 1 or ids.ndim > len(dims) or any(d != 1 for d in ids.shape[:-1]):
        return "the comparison is not of indices [..., 1] with the ids on the last axis"
    if ids.size != _depth(m) or ids.size == 0 or ids.min() < 0 or len(np.unique(ids)) != ids.size:
        return "the ids are not distinct, or negative, or not one for each row of the table"
    return None


def _one_hot_refusal(m: Match) -> str | None:
    node, dims = m.nodes["hot"], ir.dims_of(m["i"])
    if dims is None or node.attributes.get_int("axis", -1) not in (-1, len(dims)):
        return "the one-hot vectors do not lie on the last axis"
    return None if m.const("values").tolist() == [0, 1] else "the values are not 0 and 1"


def _depth(m: Match) -> int:
    axis = 1 if m.nodes["product"].attributes.get_int("transB", 0) else 0
    return int(ir.dims_of(m["table"])[axis])  # type: ignore[index, arg-type]


def _table(m: Match) -> _Table:
    hot = "equal" not in m.nodes
    ids = np.arange(_depth(m)) if hot else m.const("range").reshape(-1).astype(np.int64)
    return _Table(m["i"], ids, m["table"], m.get("bias"), m.nodes["product"], wraps=hot)


def _growth(m: Match, table: _Table) -> int:
    """Return the bytes of the new table beyond those of the constants that go."""
    constants = [v for k in ("table", "bias", "range") if (v := m.get(k)) is not None]
    freed = sum(_bytes(v) for v in constants if len(v.uses()) == 1)
    return (table.size + 1) * _bytes(m["table"]) // len(table.ids) - freed


def _bytes(value: ir.Value) -> int:
    return 0 if value.const_value is None else int(value.const_value.nbytes)
