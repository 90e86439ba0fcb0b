"""More steps of random_graph(): several outputs, sequences, recurrent layers, loops, strides, chains of movement."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from onnx import TensorProto, helper

from .draft import Dim, Draft, Tensor
from .ops import has_rank, static

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


def several(
    d: Draft, op: str, inputs: Sequence[Tensor | None], outputs: Sequence[tuple[Sequence[Dim], str]], **attributes: Any
) -> list[Tensor]:
    """Append a node with several outputs."""
    made = [Tensor(d.fresh(), dtype, tuple(shape)) for shape, dtype in outputs]
    names = [t.name if t is not None else "" for t in inputs]
    d.nodes.append(helper.make_node(op, names, [t.name for t in made], **attributes))
    d.values.extend(made)
    return made


def split(d: Draft) -> None:
    x = d.value(lambda t: t.rank > 0 and static(t, -1) and isinstance(t.shape[-1], int) and t.shape[-1] >= 2)
    if x is None:
        return
    size = x.shape[-1]
    assert isinstance(size, int)
    first = d.rng.randint(1, size - 1)
    parts = [(*x.shape[:-1], first), (*x.shape[:-1], size - first)]
    made = several(d, "Split", [x, d.constant([first, size - first], "int64")], [(p, x.dtype) for p in parts], axis=-1)
    if d.chance(0.3):
        d.node("Concat", made, x.shape, axis=-1)


def sequence(d: Draft) -> None:
    """Split into a sequence, take elements, or join them again."""
    x = d.value(lambda t: t.is_float and t.rank > 1 and static(t, -1) and t.dtype != "float16")
    if x is None:
        return
    keep = d.chance(0.5)
    name = d.fresh("s")
    d.nodes.append(helper.make_node("SplitToSequence", [x.name], [name], axis=-1, keepdims=int(keep)))
    part = (*x.shape[:-1], 1) if keep else x.shape[:-1]
    at = Tensor(name, x.dtype, ())
    if keep and d.chance(0.4):
        d.node("ConcatFromSequence", [at], x.shape, axis=-1)
    else:
        d.node("SequenceAt", [at, d.constant(d.pick([0, -1]), "int64")], part)


def recurrent(d: Draft) -> None:
    """LSTM, GRU or RNN with zero, random or absent initial states."""
    x = d.value(lambda t: has_rank(3)(t) and t.dtype == "float32" and static(t, 0, 1, 2))
    if x is None:
        return
    op = d.pick(["LSTM", "GRU", "RNN"])
    gates, hidden, dirs = {"LSTM": 4, "GRU": 3, "RNN": 1}[op], 3, d.pick([1, 2])
    steps, batch, features = x.shape
    assert isinstance(features, int)
    assert isinstance(batch, int)
    weights: list[Tensor | None] = [
        d.weight(dirs, gates * hidden, features, dtype=x.dtype),
        d.weight(dirs, gates * hidden, hidden, dtype=x.dtype),
    ]
    weights.append(d.weight(dirs, 2 * gates * hidden, dtype=x.dtype) if d.chance(0.6) else None)
    zeros = np.zeros((dirs, batch, hidden)) if d.chance(0.6) else np.ones((dirs, batch, hidden))
    states: list[Tensor | None] = (
        [d.constant(zeros, x.dtype) for _ in range(2 if op == "LSTM" else 1)] if d.chance(0.7) else []
    )
    out = [((steps, dirs, batch, hidden), x.dtype), ((dirs, batch, hidden), x.dtype)]
    direction = "bidirectional" if dirs == 2 else d.pick(["forward", "reverse"])
    several(
        d, op, [x, *weights, None, *states] if states else [x, *weights], out, hidden_size=hidden, direction=direction
    )


def strided(d: Draft) -> None:
    x = d.value(lambda t: has_rank(4)(t) and t.dtype == "float32" and static(t, 1, 2, 3))
    if x is None:
        return
    _, c, h, w = x.shape
    assert isinstance(c, int)
    assert isinstance(h, int)
    assert isinstance(w, int)
    m = d.pick([1, 2, 4])
    if d.chance(0.5):
        shape = (x.shape[0], m, -(-h // 2), -(-w // 2))
        auto = d.pick(["SAME_UPPER", "SAME_LOWER"])
        d.node(
            "Conv",
            [x, d.weight(m, c, 3, 3, dtype=x.dtype), d.weight(m, dtype=x.dtype)],
            shape,
            strides=[2, 2],
            auto_pad=auto,
        )
    else:
        shape = (x.shape[0], m, 2 * h, 2 * w)
        d.node(
            "ConvTranspose", [x, d.weight(c, m, 2, 2, dtype=x.dtype), d.weight(m, dtype=x.dtype)], shape, strides=[2, 2]
        )


def resize(d: Draft) -> None:
    x = d.value(lambda t: has_rank(4)(t) and t.dtype == "float32" and static(t, 1, 2, 3))
    if x is None:
        return
    k = d.pick([1, 2])
    scales = d.constant([1, 1, k, k], "float32")
    mode = d.pick(["nearest", "linear"])
    d.node("Resize", [x, None, scales], (*x.shape[:2], x.shape[2] * k, x.shape[3] * k), mode=mode)


def einsum(d: Draft) -> None:
    x = d.value(lambda t: has_rank(2)(t) and t.dtype == "float32" and static(t, 1))
    if x is not None:
        d.node("Einsum", [x, d.weight(3, x.shape[1], dtype=x.dtype)], (x.shape[0], 3), equation="bi,oi->bo")  # type: ignore[arg-type]


def topk(d: Draft) -> None:
    x = d.value(lambda t: t.is_float and t.raw and t.dtype == "float32" and t.rank > 0 and static(t, -1))
    if x is not None:
        several(
            d, "TopK", [x, d.constant([1], "int64")], [((*x.shape[:-1], 1), x.dtype), ((*x.shape[:-1], 1), "int64")]
        )


def twice(d: Draft) -> None:
    """The same data movement or limit again: chains that merge."""
    x = d.value(lambda t: t.is_float and t.rank > 1)
    if x is None:
        return
    kind = d.pick(["transpose", "clip", "slice", "relu", "cast", "unsqueeze"])
    for _ in range(d.pick([2, 2, 3])):
        if kind == "transpose":
            perm = list(range(x.rank))
            d.rng.shuffle(perm)
            x = d.node("Transpose", [x], [x.shape[p] for p in perm], raw=x.raw, perm=perm)
        elif kind == "clip":
            low = d.constant(d.pick([-2, 0, 5]), x.dtype) if d.chance(0.7) else None
            x = d.node("Clip", [x, low, d.constant(d.pick([6, 3, -1]), x.dtype)], x.shape)
        elif kind == "slice" and isinstance(x.shape[-1], int):
            ends = [d.constant([v], "int64") for v in (d.pick([0, 1, -2]), 2**31 - 1, -1)]
            start = {0: 0, 1: min(1, x.shape[-1])}.get(_number(d, ends[0]), max(x.shape[-1] - 2, 0))
            x = d.node("Slice", [x, *ends], (*x.shape[:-1], x.shape[-1] - start), raw=x.raw)
        elif kind == "relu":
            x = d.node(d.pick(["Relu", "Abs", "Relu"]), [x], x.shape, raw=x.raw)
        elif kind == "cast" and x.dtype == "float32":
            y = d.node("Cast", [x], x.shape, dtype="float64", to=TensorProto.DOUBLE)
            x = d.node("Cast", [y], x.shape, dtype="float32", to=TensorProto.FLOAT)
        elif kind == "unsqueeze" and x.rank < 4:
            x = d.node("Unsqueeze", [x, d.constant([d.pick([0, -1])], "int64")], (), raw=x.raw)
            d.values.pop()  # its shape depends on the axis: only the end of the graph may use it


def _number(d: Draft, t: Tensor) -> int:
    for owner in (d, d.outer):
        if owner is not None and t.name in owner.initializers:
            return int(owner.initializers[t.name][0])
    node = next(n for n in d.nodes if t.name in n.output)
    return int(np.frombuffer(node.attribute[0].t.raw_data, np.int64)[0])


def loop(d: Draft) -> None:
    """A Loop with a known number of rounds that changes one state and captures a value."""
    x = d.value(lambda t: t.is_float and t.dtype != "float16")
    if x is None or d.outer is not None:
        return
    body = Draft(d.rng, d.opset, d.dtype, outer=d)
    i, go, state = (
        Tensor(d.fresh("i"), "int64", ()),
        Tensor(d.fresh("c"), "bool", ()),
        Tensor(d.fresh("b"), x.dtype, x.shape),
    )
    body.inputs.extend([i, go, state])
    half = body.node("Mul", [state, body.constant(0.5, x.dtype)], x.shape)
    if d.chance(0.5):
        half = body.node(d.pick(["Identity", "Tanh"]), [half], x.shape)
    new = body.node("Add", [half, x], x.shape)
    same = body.node("Identity", [go], (), dtype="bool")
    graph = body.graph(d.fresh("body"), [same, new])
    rounds, start = d.constant(d.pick([1, 3]), "int64"), d.constant(True, "bool")
    d.node("Loop", [rounds, start, x], x.shape, dtype=x.dtype, body=graph)


def shape_of_part(d: Draft) -> None:
    """Sizes computed by Shape with start and end, Slice, Add and Sub, used by Reshape or Expand."""
    x = d.value(lambda t: t.is_float and t.rank > 1 and static(t, *range(1, t.rank)))
    if x is None:
        return
    n = d.node("Shape", [x], (1,), dtype="int64", raw=True, end=1)
    rest = d.node("Shape", [x], (x.rank - 1,), dtype="int64", raw=True, start=1)
    if d.chance(0.4):
        two = d.constant([2], "int64")
        n = d.node("Div", [d.node("Mul", [n, two], (1,), raw=True), two], (1,), raw=True)
    size = d.node("Concat", [n, rest], (x.rank,), raw=True, axis=0)
    if d.chance(0.5):
        d.node("Reshape", [x, size], x.shape, raw=x.raw)
    else:
        y = d.constant(np.ones([1] * x.rank), x.dtype)
        grown = d.node("Expand", [y, size], x.shape)
        d.node(d.pick(["Add", "Mul"]), [x, grown], x.shape)


LAYERS: tuple[Callable[[Draft], None], ...] = (
    *(split, sequence, recurrent, recurrent, strided, resize, einsum, topk, twice, twice, twice, loop, shape_of_part),
)
