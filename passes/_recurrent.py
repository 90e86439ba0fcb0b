"""RNN, GRU and LSTM nodes from cells: operands, attributes, what a target runs, and where that pays."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np

from fcc import ir
from fcc.analysis.cost import sizes
from fcc.analysis.trips import Size
from fcc.rewrite import PassContext, Rewriter
from fcc.target import NodeFacts

from ._cells import Cell
from ._cone import NODE_BYTES
from ._forms import Array, Form
from ._sequence_items import Item, time_major

_DEFAULTS = {"RNN": ("Tanh",), "GRU": ("Sigmoid", "Tanh"), "LSTM": ("Sigmoid", "Tanh", "Tanh")}
_KINDS = frozenset({"Elu", "HardSigmoid", "LeakyRelu", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh"}) | {
    "ThresholdedRelu"
}
_FEW = 8
_SELECTED = 64  # units up to which a product by the identity costs less than the nodes that go


@dataclass(frozen=True)
class Limits:
    """Up to how many rows the kernel is not slower, and rows times units for fewer than 8 steps and for more."""

    rows: int = 1 << 62
    few: int = 1 << 62
    many: int = 1 << 62


# onnxruntime 1.32's CPU provider, 1 thread, by benchmarks/recurrent.py: batch 1..128, units 8..512, steps 2..32. The
# kernel of RNN is up to 3.7 times slower than its nodes, that of GRU up to 1.4 (128 rows); both win at few rows.
UNROLLED = {"LSTM": Limits(64, few=512), "GRU": Limits(32, few=512), "RNN": Limits(few=128, many=256)}
LOOPED = {"LSTM": Limits(), "GRU": Limits(32), "RNN": Limits(few=512, many=512)}
_BACKWARDS = (-1, -(2**63) + 1, 0, -1)  # start, end, axis, step of a Slice


@dataclass(frozen=True, eq=False)
class Layer:
    """A recurrent layer that a graph computes: what the rows of the cell are, the number of steps and the states.

    ``items`` are the first elements of the inputs in the order of time, ``state`` is any value of the state h, and
    ``h`` and ``c`` are the initial states, None for zero.
    """

    cell: Cell
    items: tuple[Item, ...]
    steps: Size
    reverse: bool
    state: ir.Value
    h: ir.Value | None
    c: ir.Value | None

    @property
    def batch(self) -> Size | None:
        rest = self.items[0].rest
        return rest[0] if len(rest) == 2 else 1

    def refusal(self, module: ir.Module, ctx: PassContext, nonempty: bool) -> str | None:
        """Return why the layer cannot be one node on the target, or None."""
        if module.opset() < 13:
            return "before opset 13, Squeeze and Unsqueeze have no axes operand"
        if not (ir.at_least(self.steps, 1) or (nonempty and isinstance(self.steps, ir.Dim))):
            return "the sequence may be empty"
        return self._shape_refusal() or self._target_refusal(module, ctx)

    def _shape_refusal(self) -> str | None:
        if any(not 1 <= len(item.rest) <= 2 or item.columns is None for item in self.items):
            return "an input is no sequence of rows"
        if ir.dims_of(self.state) is None:
            return "the rank of the state is not known"
        batch = self.batch
        if batch is None or any((i.rest[0] if len(i.rest) == 2 else 1) != batch for i in self.items):
            return "the inputs have several numbers of rows"
        wanted = (batch, self.cell.hidden)
        wrong = next((s for s in (self.h, self.c) if s is not None and rows_of(ir.dims_of(s)) != wanted), None)
        return None if wrong is None else f"the initial state has the shape {wrong.shape}, not {list(wanted)}"

    def _target_refusal(self, module: ir.Module, ctx: PassContext) -> str | None:
        unknown = next((k for k, _ in self.cell.activations if k not in _KINDS), None)
        if unknown is not None:
            return f"{unknown} is no activation of {self.cell.kind}"
        dtype = self.state.dtype
        if dtype is None or any(i.sequence.dtype != dtype for i in self.items):
            return "the element types differ"
        if dtype == ir.DataType.DOUBLE:  # onnxruntime registers its kernels for it, and they stop when they run
            return "no kernel runs in double precision"
        present = [True] * 4 + [False] + [True] * 2
        facts = NodeFacts(attributes=self.attributes(), inputs=[*present, self.cell.peepholes is not None])
        return ctx.target.refusal(self.cell.kind, "", module.opset(), {"T": dtype.name.lower()}, facts)

    def growth(self) -> int:
        """Return the bytes of the node and its constants."""
        dtype = self.state.dtype
        assert dtype is not None
        return sum(a.size for a in self.operands() if a is not None) * int(dtype.itemsize) + 4 * NODE_BYTES

    def pays(self, ctx: PassContext, limits: Mapping[str, Limits]) -> str | None:
        """Return why the node is likely to be slower than what it replaces, or None."""
        if self._selects and self.cell.hidden > _SELECTED:
            return "the inputs are projected to the gates by something else than a linear layer of the whole sequence"
        if ctx.target.name != "cpu":
            return None
        shape = list(sizes(self.items[0].sequence, ctx.shapes) or ())
        del shape[self.items[0].axis]
        rows, steps = prod(shape[:-1]), self.steps if isinstance(self.steps, int) else _FEW
        limit = limits[self.cell.kind]
        most = limit.few if steps < _FEW else limit.many
        fast = rows <= limit.rows and (rows * self.cell.hidden <= most or (rows == 1 and steps >= _FEW))
        slow = f"{self.cell.kind} over {rows} rows of {self.cell.hidden} units is slower than its nodes on cpu"
        return None if fast else slow

    @property
    def _selects(self) -> bool:
        """Whether every column of an input goes to a gate as it is, so that its matrix would cost and do nothing."""
        sources = zip(self.cell.inputs(), self.items, strict=True)
        return any(
            i.form is None and all(p.matrix.ndim == 1 for g in self.cell.gates for p in g.pieces if p.source is s)
            for s, i in sources
        )

    def attributes(self) -> dict[str, Any]:
        """Return the attributes of the node."""
        cell, found = self.cell, {"hidden_size": self.cell.hidden}
        changed: dict[str, Any] = {}
        if tuple(k for k, _ in cell.activations) != _DEFAULTS[cell.kind]:
            changed["activations"] = [k for k, _ in cell.activations]
        for i, name in enumerate(("activation_alpha", "activation_beta")):
            values = [p[i] for _, p in cell.activations if len(p) > i]
            changed |= {name: values} if values else {}
        changed |= {"direction": "reverse"} if self.reverse else {}
        changed |= {"linear_before_reset": 1} if cell.gated is not None else {}
        changed |= {"input_forget": 1} if cell.coupled else {}
        return {**found, **changed}

    def operands(self) -> tuple[Array, Array, Array | None, Array | None]:
        """Return W, R, B and P in float64, B and P as None where they are zero or absent."""
        cell, sources = self.cell, list(zip(self.cell.inputs(), self.items, strict=True))
        w = np.concatenate([np.concatenate([_weight(g, s, i) for s, i in sources]).T for g in cell.gates])
        r = np.concatenate([m.T for m in cell.recurrent()])
        rb = np.zeros(len(r))
        if cell.gated is not None:
            rb[-cell.hidden :] = cell.gated.bias
        b = np.concatenate([*(g.bias + sum(_offset(g, s, i) for s, i in sources) for g in cell.gates), rb])
        p = None if cell.peepholes is None else np.concatenate(cell.peepholes)[None]
        return w[None], r[None], b[None] if np.any(b) else None, p

    def emit(self, rw: Rewriter) -> tuple[ir.Value, ...]:
        """Return Y, Y_h and, for LSTM, Y_c of a new node."""
        dtype = self.state.dtype
        assert dtype is not None
        w, r, b, p = (None if a is None else a.astype(dtype.numpy()) for a in self.operands())
        xs = [time_major(i, self.steps, rw) for i in self.items]
        x = rw.op("Concat", *xs, axis=2) if len(xs) > 1 else xs[0]
        states = [_entering(s, rw) for s in (self.h, self.c)][: 2 if self.cell.kind == "LSTM" else 1]
        inputs = [x, w, r, b, None, *states, p]
        while inputs[-1] is None:
            inputs.pop()
        made: tuple[ir.Value, ...] = rw.op(
            self.cell.kind, *inputs, outputs=3 if self.cell.kind == "LSTM" else 2, **self.attributes()
        )
        return made


def rows_of(dims: Sequence[ir.Dim | int | None] | None) -> tuple[ir.Dim | int | None, ...] | None:
    """Return (rows, columns) of a state [columns], [rows, columns] or [1, rows, columns]."""
    if dims is None:
        return None
    if len(dims) == 3 and dims[0] == 1:
        return dims[1], dims[2]
    return (1, dims[0]) if len(dims) == 1 else tuple(dims) if len(dims) == 2 else None


def unstacked(y: ir.Value, like: ir.Value, rw: Rewriter) -> ir.Value:
    """Return the hidden states [steps, 1, rows, columns] with the steps in front of the axes of a state."""
    rank = len(ir.known_dims(like))
    made: ir.Value = y if rank == 3 else rw.op("Squeeze", y, np.arange(1, 4 - rank, dtype=np.int64))
    return made


def stacked(hidden: ir.Value, axis: int, turned: bool, rw: Rewriter) -> ir.Value:
    """Return hidden states, in the order of time along the first axis, along another one, the last first if turned."""
    if turned:
        hidden = rw.op("Slice", hidden, *(np.array([k], np.int64) for k in _BACKWARDS))
    rank = len(ir.known_dims(hidden))
    if axis in (0, -rank):
        return hidden
    axis %= rank
    made: ir.Value = rw.op("Transpose", hidden, perm=[*range(1, axis + 1), 0, *range(axis + 1, rank)])
    return made


def stacking_refusal(one: ir.Value, axis: int) -> str | None:
    """Return why values cannot be stacked along an axis, ``one`` being one of them."""
    return "the rank of what is stacked is not known" if axis and ir.dims_of(one) is None else None


def leaving(state: ir.Value, like: ir.Value, rw: Rewriter) -> ir.Value:
    """Return a final state [1, rows, columns] with the rank of another state."""
    rank = len(ir.known_dims(like))
    made: ir.Value = state if rank == 3 else rw.op("Squeeze", state, np.arange(3 - rank, dtype=np.int64))
    return made


def _entering(state: ir.Value | None, rw: Rewriter) -> ir.Value | None:
    rank = len(ir.known_dims(state))
    if state is None or rank == 3:
        return state
    made: ir.Value = rw.op("Unsqueeze", state, np.arange(3 - rank, dtype=np.int64))
    return made


def _weight(gate: Form, source: Hashable, item: Item) -> Array:
    """Return the matrix from the rows of a sequence to a gate."""
    return np.asarray(item.matrix() @ gate.dense(source, len(item.matrix().T)))


def _offset(gate: Form, source: Hashable, item: Item) -> Array:
    """Return what the constant part of an element gives to a gate."""
    if item.form is None:
        return np.zeros(gate.width)
    return np.asarray(item.form.bias @ gate.dense(source, item.form.width))
