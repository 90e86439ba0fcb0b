"""Recurrent layers written out in primitives, as exporters write them: RNN, GRU and LSTM cells in many spellings.

>>> model = layer(Cell("GRU", product="concat", cut="Slice"), form="Loop", steps=5)
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Dim = int | str
FORMS = ("Loop", "while", "Scan", "unrolled")
GATES = {"RNN": ("h",), "GRU": ("z", "r", "n"), "LSTM": ("i", "f", "g", "o")}


@dataclass(frozen=True)
class Cell:
    """A cell and its spelling.

    ``product``: "joined" (one product for all gates), "gates" (one each), "concat" (one, of x and h side by side).
    ``biases``: on which sides, "x", "h", "xh" or "". ``cut_behind``: gates are cut behind their common activation.
    ``swapped``: operands of Add and Mul change places. ``written``: sigmoid as 1 / (1 + exp(-u)). ``order``: of the
    gates in joined weights. ``turned``: z of a GRU weighs the candidate. ``reset_after``: r multiplies h R + b.
    ``hard``: "op" or "clip" for hard sigmoids. ``inner`` is the activation of candidates and outputs.
    """

    kind: str = "LSTM"
    inputs: int = 3
    units: int = 4
    product: str = "joined"
    gemm: bool = False
    biases: str = "xh"
    cut: str = "Split"
    cut_behind: bool = False
    swapped: bool = False
    written: bool = False
    order: tuple[int, ...] = ()
    turned: bool = False
    reset_after: bool = True
    peepholes: bool = False
    coupled: bool = False
    hard: str = ""
    inner: str = "Tanh"
    dtype: type[np.floating] = np.float32
    seed: int = 0

    @property
    def gates(self) -> tuple[str, ...]:
        names = GATES[self.kind]
        kept = tuple(names[i] for i in self.order) if self.order else names
        return tuple(g for g in kept if not (self.coupled and g == "f"))

    @property
    def states(self) -> int:
        return 2 if self.kind == "LSTM" else 1


@dataclass
class Writer:
    """Nodes of one graph; weights belong to the model, and nested graphs capture them."""

    weights: dict[str, NDArray[np.generic]] = field(default_factory=dict)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    prefix: str = ""

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attributes: Any) -> list[str]:
        names = [f"{self.prefix}{kind}_{len(self.nodes)}_{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, inputs, names, **attributes))
        return names

    def __call__(self, kind: str, *inputs: str, **attributes: Any) -> str:
        return self.op(kind, *inputs, **attributes)[0]

    def name(self, value: str, name: str) -> str:
        self.nodes.append(helper.make_node("Identity", [value], [name]))
        return name

    def weight(self, name: str, array: NDArray[np.generic]) -> str:
        self.weights.setdefault(name, array)
        return name

    def number(self, value: int) -> str:
        return self.weight(f"number_{value}", np.array(value, np.int64))

    def ints(self, *numbers: int) -> str:
        return self.weight("_".join(["ints", *map(str, numbers)]), np.array(numbers, np.int64))


def step(cell: Cell, w: Writer, x: str, states: Sequence[str]) -> list[str]:
    """Write one step; return the next states, h first."""
    return {"RNN": _rnn, "GRU": _gru, "LSTM": _lstm}[cell.kind](cell, w, x, states)


def _rnn(cell: Cell, w: Writer, x: str, states: Sequence[str]) -> list[str]:
    gates = _sums(cell, w, x, states[0], cell.gates)
    return [w(cell.inner, gates["h"])]


def _gru(cell: Cell, w: Writer, x: str, states: Sequence[str]) -> list[str]:
    (h,) = states
    after = cell.reset_after and cell.product != "concat"
    if cell.cut_behind:
        joined = _parts(cell, w, x, h, ("z", "r"))
        names = ("z", "r") if not cell.order or cell.order.index(0) < cell.order.index(1) else ("r", "z")
        z, r = _cut(cell, w, _sigmoid(cell, w, _join(cell, w, joined)), 2)
        z, r = (z, r) if names == ("z", "r") else (r, z)
    else:
        gates = _sums(cell, w, x, h, tuple(g for g in cell.gates if g != "n"))
        z, r = _sigmoid(cell, w, gates["z"]), _sigmoid(cell, w, gates["r"])
    if after:
        from_x, from_h = _parts(cell, w, x, h, ("n",))
        inner = _add(cell, w, from_x, _mul(cell, w, r, from_h))
    else:
        inner = _sums(cell, w, x, _mul(cell, w, r, h), ("n",))["n"]
    n = w(cell.inner, inner)
    old, new = (n, h) if cell.turned else (h, n)
    kept = _mul(cell, w, z, old)
    one = w.weight("one", np.ones((), cell.dtype))
    return [_add(cell, w, _mul(cell, w, w("Sub", one, z), new), kept)]


def _lstm(cell: Cell, w: Writer, x: str, states: Sequence[str]) -> list[str]:
    h, c = states
    gates = _sums(cell, w, x, h, cell.gates)
    if cell.peepholes:
        for g in ("i", "f"):
            gates[g] = _add(cell, w, gates[g], _mul(cell, w, c, _row(cell, w, f"peep_{g}")))
    i, g = _sigmoid(cell, w, gates["i"]), w(cell.inner, gates["g"])
    one = w.weight("one", np.ones((), cell.dtype))
    f = w("Sub", one, i) if cell.coupled else _sigmoid(cell, w, gates["f"])
    c_next = _add(cell, w, _mul(cell, w, f, c), _mul(cell, w, i, g))
    if cell.peepholes:
        gates["o"] = _add(cell, w, gates["o"], _mul(cell, w, c_next, _row(cell, w, "peep_o")))
    return [_mul(cell, w, _sigmoid(cell, w, gates["o"]), w(cell.inner, c_next)), c_next]


# -- sums of gates -----------------------------------------------------------------------------------------------------
def _sums(cell: Cell, w: Writer, x: str, h: str, gates: tuple[str, ...]) -> dict[str, str]:
    """Return the sums of some gates, one value each."""
    if cell.product == "gates" or len(gates) == 1:
        return {g: _join(cell, w, _parts(cell, w, x, h, (g,))) for g in gates}
    return dict(zip(gates, _cut(cell, w, _join(cell, w, _parts(cell, w, x, h, gates)), len(gates)), strict=True))


def _parts(cell: Cell, w: Writer, x: str, h: str, gates: tuple[str, ...]) -> list[str]:
    """Return what x and h give to some gates side by side, or both in one."""
    ordered = tuple(g for g in cell.gates if g in gates)
    if cell.product == "concat":
        both = w("Concat", x, h, axis=-1)
        return [_linear(cell, w, both, "xh", ordered)]
    return [_linear(cell, w, x, "x", ordered), _linear(cell, w, h, "h", ordered)]


def _join(cell: Cell, w: Writer, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else _add(cell, w, *parts)


def _linear(cell: Cell, w: Writer, value: str, side: str, gates: tuple[str, ...]) -> str:
    sizes = {"x": cell.inputs, "h": cell.units}
    matrix = np.concatenate([np.concatenate([_matrix(cell, s, g, sizes[s]) for s in side]) for g in gates], axis=1)
    bias = sum(
        (np.concatenate([_array(cell, f"b_{s}{g}", (cell.units,)) for g in gates]) for s in side if s in cell.biases),
        np.zeros(1),
    )
    name = f"{side}_{''.join(gates)}_{cell.seed}"
    biased = any(s in cell.biases for s in side)
    if cell.gemm:
        inputs = [value, w.weight(f"wt_{name}", matrix.T.astype(cell.dtype))]
        inputs += [w.weight(f"b_{name}", bias.astype(cell.dtype))] if biased else []
        return w("Gemm", *inputs, transB=1)
    product = w("MatMul", value, w.weight(f"w_{name}", matrix.astype(cell.dtype)))
    return _add(cell, w, product, w.weight(f"b_{name}", bias.astype(cell.dtype))) if biased else product


def _matrix(cell: Cell, side: str, gate: str, size: int) -> NDArray[np.float64]:
    return np.asarray(_array(cell, f"{side}{gate}", (size, cell.units)) / np.sqrt(size))


def _row(cell: Cell, w: Writer, name: str) -> str:
    return w.weight(f"{name}_{cell.seed}", _array(cell, name, (cell.units,)).astype(cell.dtype))


def _array(cell: Cell, name: str, shape: tuple[int, ...]) -> NDArray[np.float64]:
    return np.random.default_rng([cell.seed, *name.encode()]).standard_normal(shape)


def _cut(cell: Cell, w: Writer, value: str, count: int) -> list[str]:
    n = cell.units
    if cell.cut == "Split":
        return w.op("Split", value, w.ints(*[n] * count), outputs=count, axis=-1)
    return [w("Slice", value, w.ints(k * n), w.ints((k + 1) * n), w.ints(1)) for k in range(count)]


def _add(cell: Cell, w: Writer, a: str, b: str) -> str:
    return w("Add", b, a) if cell.swapped else w("Add", a, b)


def _mul(cell: Cell, w: Writer, a: str, b: str) -> str:
    return w("Mul", b, a) if cell.swapped else w("Mul", a, b)


def _sigmoid(cell: Cell, w: Writer, value: str) -> str:
    number = {
        k: w.weight(k, np.array(v, cell.dtype)) for k, v in {"one": 1, "zero": 0, "fifth": 0.2, "half": 0.5}.items()
    }
    if cell.hard == "op":
        return w("HardSigmoid", value)
    if cell.hard == "clip":
        return w("Clip", _add(cell, w, w("Mul", value, number["fifth"]), number["half"]), number["zero"], number["one"])
    if cell.written:
        return w("Reciprocal", _add(cell, w, number["one"], w("Exp", w("Neg", value))))
    return w("Sigmoid", value)


# -- layers ------------------------------------------------------------------------------------------------------------
def layer(
    cell: Cell,
    *,
    form: str = "Loop",
    steps: Dim = 5,
    batch: Dim = 2,
    axis: int = 0,
    backwards: bool = False,
    given: bool = True,
    outputs: str = "yhc",
    opset: int = 18,
) -> onnx.ModelProto:
    """Return x (the sequence along ``axis``), and the initial states if ``given``, -> y, h, c as asked for.

    ``form``: one of FORMS; "while" is a Loop without a bound whose condition compares a counter, as tf2onnx writes it;
    "unrolled" needs a number of steps. Without given states they are zeros, of a number of rows that is a number.
    """
    w = Writer()
    names = ["h", "c"][: cell.states]
    shape: list[Dim] = [batch, cell.inputs]
    shape.insert(axis, steps)
    states = [f"{n}0" if given else w.weight("zeros", np.zeros((int(batch), cell.units), cell.dtype)) for n in names]
    run = {"unrolled": _unrolled, "Scan": _scan}.get(form, _loop)
    finals, y = run(cell, w, states, _Run(steps, axis, backwards, form == "while", "y" in outputs))
    found: list[tuple[str, list[Dim]]] = [
        (v, [batch, cell.units]) for v, n in zip(finals, names, strict=True) if n in outputs
    ]
    found += [(y, [steps, batch, cell.units])] if "y" in outputs else []
    inputs = {"x": shape, **{s: [batch, cell.units] for s in states if given}}
    results = {w.name(v, f"out_{i}"): s for i, (v, s) in enumerate(found)}
    return finished(w, inputs, results, opset=opset, dtype=cell.dtype)


def finished(
    w: Writer,
    inputs: Mapping[str, Sequence[Dim]],
    outputs: Mapping[str, Sequence[Dim]],
    *,
    opset: int = 18,
    dtype: type[np.floating] = np.float32,
) -> onnx.ModelProto:
    """Return the model of what was written, with the weights that it uses."""
    kind, used = helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), _used(w.nodes)
    ins, outs = ([helper.make_tensor_value_info(n, kind, s) for n, s in d.items()] for d in (inputs, outputs))
    weights = [numpy_helper.from_array(a, n) for n, a in w.weights.items() if n in used]
    graph = helper.make_graph(w.nodes, "layer", ins, outs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def _used(nodes: Iterable[onnx.NodeProto]) -> set[str]:
    found = {name for node in nodes for name in node.input}
    bodies = [a.g for node in nodes for a in node.attribute if a.type == onnx.AttributeProto.GRAPH]
    return found.union(*(_used(g.node) for g in bodies))


@dataclass(frozen=True)
class _Run:
    steps: Dim
    axis: int
    backwards: bool
    counted: bool
    stacked: bool


def _unrolled(cell: Cell, w: Writer, states: list[str], run: _Run) -> tuple[list[str], str]:
    assert isinstance(run.steps, int)
    order = range(run.steps)[:: -1 if run.backwards else 1]
    hidden: dict[int, str] = {}
    for t in order:
        states = step(cell, w, w("Gather", "x", w.number(t), axis=run.axis), states)
        hidden[t] = w("Unsqueeze", states[0], w.ints(0)) if run.stacked else ""
    return states, w("Concat", *(hidden[t] for t in range(run.steps)), axis=0) if run.stacked else ""


def _scan(cell: Cell, w: Writer, states: list[str], run: _Run) -> tuple[list[str], str]:
    inner = _nested(w)
    names = [f"in_{s}" for s in ("h", "c")[: cell.states]]
    after = step(cell, inner, "in_x", names)
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(cell.dtype))
    given = [inner.name(v, f"next_{n}") for v, n in zip(after, names, strict=True)]
    given += [inner.name(after[0], "row")] if run.stacked else []
    body = helper.make_graph(
        inner.nodes,
        "step",
        [helper.make_tensor_value_info(n, kind, None) for n in (*names, "in_x")],
        [helper.make_tensor_value_info(n, kind, None) for n in given],
    )
    direction = 1 if run.backwards else 0
    made = w.op(
        "Scan",
        *states,
        "x",
        outputs=len(given),
        body=body,
        num_scan_inputs=1,
        scan_input_axes=[run.axis],
        scan_input_directions=[direction],
        **({"scan_output_directions": [direction]} if run.stacked else {}),
    )
    return made[: cell.states], made[-1]


def _loop(cell: Cell, w: Writer, states: list[str], run: _Run) -> tuple[list[str], str]:
    """A Loop stacks in the order of trips: going backwards, the stack is turned over behind it."""
    zero, one = w.number(0), w.number(1)
    length = w("Gather", w("Shape", "x"), w.number(run.axis), axis=0)
    inner = _nested(w)
    names = [f"in_{s}" for s in ("h", "c")[: cell.states]]
    kind = helper.np_dtype_to_tensor_dtype(np.dtype(cell.dtype))
    counter = "in_t" if run.counted else "trip"
    at = inner("Sub", inner("Sub", length, one), counter) if run.backwards else counter
    after = step(cell, inner, inner("Gather", "x", at, axis=run.axis), names)
    moved = inner("Add", counter, one)
    on = inner("Less", moved, length) if run.counted else inner("Identity", "cond")
    carried = [*after, *([moved] if run.counted else [])]
    given = [inner.name(v, f"next_{i}") for i, v in enumerate([on, *carried, *(after[:1] if run.stacked else [])])]
    integer, boolean = onnx.TensorProto.INT64, onnx.TensorProto.BOOL
    kinds = [kind] * cell.states + ([integer] if run.counted else [])
    inputs: list[tuple[str, int, list[Dim] | None]] = [("trip", integer, []), ("cond", boolean, [])]
    inputs += [(n, k, [] if k == integer else None) for n, k in zip([*names, "in_t"], kinds, strict=False)]
    types = [boolean, *kinds, kind][: len(given)]
    body = helper.make_graph(
        inner.nodes,
        "step",
        [helper.make_tensor_value_info(*i) for i in inputs],
        [
            helper.make_tensor_value_info(n, k, [] if k in (integer, boolean) else None)
            for n, k in zip(given, types, strict=True)
        ],
    )
    start = w("Less", zero, length) if run.counted else w.weight("yes", np.array(True))
    fed = [*states, *([zero] if run.counted else [])]
    made = w.op("Loop", "" if run.counted else length, start, *fed, outputs=len(given) - 1, body=body)
    y = made[-1]
    if run.backwards and run.stacked:
        y = w("Slice", y, w.ints(-1), w.ints(-(2**62)), w.ints(0), w.ints(-1))
    return made[: cell.states], y


def _nested(w: Writer) -> Writer:
    """Return a writer of a nested graph that captures the weights."""
    return replace(w, nodes=[], prefix="in_")
