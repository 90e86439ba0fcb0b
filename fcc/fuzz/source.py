"""What a source answers, on feeds where the answer means something: the runtime's own optimizations agree with it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx

from fcc.runtime.protos import dims, nodes
from fcc.testing.differential import DEADLY
from fcc.testing.oracle import Array, Evaluator, Feeds, difference
from fcc.testing.sources import SPECIAL, fits, infers, is_empty

TOLERANCE = {"float64": 1e-7, "float32": 2e-4, "float16": 3e-2, "bfloat16": 1e-1}
RANGE = {"float64": 1e6, "float32": 1e6, "float16": 1e3, "bfloat16": 1e3}
NUDGE = {"float64": 1e-11, "float32": 1e-6, "float16": 2e-3, "bfloat16": 1e-2}  # relative: a few roundings
TYPES = {onnx.TensorProto.DOUBLE: "float64", onnx.TensorProto.FLOAT: "float32", onnx.TensorProto.FLOAT16: "float16"}
TYPES[onnx.TensorProto.BFLOAT16] = "bfloat16"
WORDS = ("", "a", "B", "fcc", "α")


@dataclass(frozen=True)
class Run:
    """Inputs, and what the source makes of them with optimizations off."""

    feeds: Feeds
    outputs: list[Array]


def coarsest(model: onnx.ModelProto) -> str:
    """Return the coarsest float type that stands anywhere in a model."""
    text = model.SerializeToString()
    kinds = {k for k in _kinds(onnx.ModelProto.FromString(text))}
    return max((TYPES[k] for k in kinds if k in TYPES), key=lambda name: TOLERANCE[name], default="float64")


def _kinds(model: onnx.ModelProto) -> Iterator[int]:
    def tensors(graph: Any) -> Iterator[int]:
        yield from (t.data_type for t in graph.initializer)
        yield from (v.type.tensor_type.elem_type for v in (*graph.input, *graph.output))
        yield from attributes(graph.node)

    def attributes(made: Any) -> Iterator[int]:
        for n in made:
            for a in n.attribute:
                if a.name in ("to", "dtype"):
                    yield a.i
                if a.HasField("t"):
                    yield a.t.data_type
                if a.HasField("g"):
                    yield from tensors(a.g)

    yield from tensors(model.graph)
    for function in model.functions:
        yield from attributes(function.node)


def runs(model: onnx.ModelProto) -> list[Run]:
    """Return the runs of a source on feeds of several sizes and distributions; none where it does not load.

    Left out are feeds where it fails, leaves the range of its types, or stands at a jump: where the runtime's own
    optimizations, or a change of the inputs by a few roundings, move the outputs beyond the tolerance. A source that
    runs with other defaults or on nothing only, as with an axis that it does not have, means nothing either.
    """
    coarse = coarsest(model)
    try:
        plain = Evaluator(model)
        fast = _optimized(model)
    except Exception:
        return []
    deadly = any(n.op_type in DEADLY for n in nodes(model))
    if deadly and is_empty(model):
        return []
    found = []
    for feeds in all_feeds(model):
        empty = any(0 in np.shape(v) for v in feeds.values())
        if empty and (deadly or not infers(model, feeds)):
            continue  # a Concat passes over what is empty, of whatever size, and leaves its part of the result open
        try:
            outputs = plain.run(feeds)
            if not all(map(_tame, outputs)) or not fits(model, feeds, outputs):
                continue
            again = [fast(feeds), *(plain.run(nudged(feeds, coarse, way)) for way in (1, -1))]
        except Exception:
            continue
        if all(same(outputs, other, coarse, 0.5) for other in again):
            found.append(Run(feeds, outputs))
    return found if any(_plain(run, model) for run in found) else []


def _plain(run: Run, model: onnx.ModelProto) -> bool:
    """Return whether inputs override no default, and are empty only where all are."""
    full = not any(0 in v.shape for v in run.feeds.values()) or is_empty(model)
    return full and not {t.name for t in model.graph.initializer} & run.feeds.keys()


def _optimized(model: onnx.ModelProto) -> Any:
    from fcc.runtime import open_session

    session, names = open_session(model.SerializeToString()), [o.name for o in model.graph.output]

    def run(feeds: Feeds) -> list[Array]:
        answers = session.run(dict(feeds))
        return [np.asarray(answers[n]) for n in names]

    return run


def same(old: list[Array], new: list[Array], coarse: str, share: float = 1.0) -> bool:
    """Return whether answers agree within a share of the tolerance of a type."""
    return not any(difference(a, b, share * TOLERANCE[coarse]) for a, b in zip(old, new, strict=True))


def _tame(y: Array) -> bool:
    limit = RANGE.get(y.dtype.name)
    if limit is None or y.size == 0:
        return True
    wide = y.astype(np.float64)
    return bool(np.isfinite(wide).all() and np.abs(wide).max() < limit)


def nudged(feeds: Feeds, coarse: str, way: int) -> dict[str, Array]:
    """Return feeds whose floats moved by a few roundings."""
    found = {}
    for name, value in feeds.items():
        size = NUDGE.get(value.dtype.name)
        if size is not None:
            step = way * max(size, NUDGE[coarse])
            value = (value.astype(np.float64) * (1 + step * _signs(value.shape))).astype(value.dtype)
        found[name] = value
    return found


def _signs(shape: tuple[int, ...]) -> Array:
    return np.asarray(np.random.default_rng(7).choice((-1.0, 1.0), shape))


def all_feeds(model: onnx.ModelProto) -> Iterator[dict[str, Array]]:
    """Yield feeds: usual sizes with usual and with special numbers, all 1, others, all 0; defaults overridden too."""
    defaults = {t.name for t in model.graph.initializer}
    symbols = sorted({d for v in model.graph.input for d in dims(v) if isinstance(d, str)})
    usual = {s: 2 + k % 2 for k, s in enumerate(symbols)}
    draws: list[tuple[Mapping[str, int], str]] = [(usual, "usual"), (usual, "special")]
    if symbols:
        draws += [(dict.fromkeys(symbols, 1), "usual"), ({s: n + 1 for s, n in usual.items()}, "usual")]
        # a size that is not known stood for one that the rest of the graph counts on
        draws += [({s: n if s.startswith("unk__") else 0 for s, n in usual.items()}, "usual")]
    for k, (sizes, kind) in enumerate(draws):
        rng = np.random.default_rng(k)
        feeds = {v.name: _feed(v, sizes, rng, kind) for v in model.graph.input}
        plain = {n: a for n, a in feeds.items() if n not in defaults}
        yield plain
        if k == 0 and len(plain) != len(feeds):
            yield feeds


def _feed(v: onnx.ValueInfoProto, sizes: Mapping[str, int], rng: np.random.Generator, kind: str) -> Array:
    shape = [d if isinstance(d, int) else sizes.get(d, 2) if d else 2 for d in dims(v)]
    if v.type.tensor_type.elem_type == onnx.TensorProto.STRING:
        return np.asarray(rng.choice(np.array(WORDS, object), shape), object)
    dtype = onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if dtype.kind in "iu":
        return np.asarray(rng.integers(0, 2, shape)).astype(dtype)
    if kind == "special":
        return np.asarray(rng.choice(SPECIAL, shape)).astype(dtype)
    return np.asarray(np.where(rng.random(shape) < 0.1, 0.0, rng.standard_normal(shape))).astype(dtype)
