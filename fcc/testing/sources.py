"""The source of an instance: whether it is valid, what it is fed with, and whether its answers fit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import onnx

from fcc.runtime.protos import dims, inferred

from .oracle import Array, Feeds

SPECIAL = (0.0, -0.0, 1.0, -1.0, 6.0, -6.0, 30.0, 1e-3, 1e-6)
NONFINITE = (*SPECIAL, float("nan"), float("inf"), float("-inf"))
RANKS = {"Conv": {2: 1}, "ConvTranspose": {2: 1}}
OWN = ("SimplifiedLayerNormalization",)  # onnxruntime's operators in the domain of ONNX


def draws(
    model: onnx.ModelProto, sizes: Mapping[str, int], bitwise: bool, ranks: Mapping[str, Sequence[int]]
) -> Iterator[dict[str, Array]]:
    """Yield feeds: the usual sizes, all 1, all 0, others; normal numbers, special ones, and defaults overridden."""
    symbols = sorted({d for v in model.graph.input for d in dims(v) if isinstance(d, str)})
    usual = {s: sizes.get(s, 2 + k % 2) for k, s in enumerate(symbols)}
    bindings = [usual]
    if symbols:
        bindings += [dict.fromkeys(symbols, 1), {s: n + 1 for s, n in usual.items()}, dict.fromkeys(symbols, 0)]
    defaults = {t.name for t in model.graph.initializer}
    for k, binding in enumerate(bindings):
        for kind in ("normal", "special") if k == 0 else ("normal",):
            rng = np.random.default_rng(k)
            feeds = {v.name: _feed(v, binding, rng, kind, bitwise, ranks.get(v.name)) for v in model.graph.input}
            plain = {n: a for n, a in feeds.items() if n not in defaults}
            yield plain
            if len(plain) != len(feeds):
                yield feeds


def _feed(
    v: onnx.ValueInfoProto,
    sizes: Mapping[str, int],
    rng: np.random.Generator,
    kind: str,
    bitwise: bool,
    usual: Sequence[int] | None,
) -> Array:
    dtype = onnx.helper.tensor_dtype_to_np_dtype(v.type.tensor_type.elem_type)
    known = dims(v) if v.type.tensor_type.HasField("shape") else [None] * len(usual or ())
    before = [*(usual or ()), *[2] * len(known)]
    shape = [d if isinstance(d, int) else sizes.get(d, 2) if d else before[i] for i, d in enumerate(known)]
    if dtype.kind == "b":
        return np.asarray(rng.integers(0, 2, shape)).astype(bool)
    if dtype.kind in "iu":
        low, high = (0, 4) if kind == "normal" else (0, 2) if dtype.kind == "u" else (-3, 8)
        return np.asarray(rng.integers(low, high, shape)).astype(dtype)
    if kind == "normal":
        return np.asarray(rng.standard_normal(shape)).astype(dtype)
    return np.asarray(rng.choice(NONFINITE if bitwise else SPECIAL, shape)).astype(dtype)


def fits(model: onnx.ModelProto, feeds: Feeds, answers: Sequence[Array]) -> bool:
    """Return whether answers have the shapes that the model declares, every symbol having one size."""
    sizes: dict[str, int] = {}
    values = {**feeds, **{o.name: a for o, a in zip(model.graph.output, answers, strict=True)}}
    for v in (*model.graph.input, *model.graph.output):
        if v.name not in values or not v.type.tensor_type.HasField("shape"):
            continue
        found, wanted = np.shape(values[v.name]), dims(v)
        if len(found) != len(wanted):
            return False
        for n, d in zip(found, wanted, strict=True):
            if (isinstance(d, int) and d != n) or (isinstance(d, str) and sizes.setdefault(d, n) != n):
                return False
    return True


def refusal(model: onnx.ModelProto) -> str:
    """Return why onnx.checker refuses a model, '' when it does not.

    Inference alone is asked where an input or output has no rank, which the checker wants and runtimes do not, and an
    operator that onnx does not know may be one of onnxruntime's own.
    """
    values = (*model.graph.input, *model.graph.output)
    try:
        if all(v.type.tensor_type.HasField("shape") for v in values):
            onnx.checker.check_model(model, full_check=True)
        else:
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True)
    except Exception as error:
        return "" if any(f"No Op registered for {name}" in str(error) for name in OWN) else words(error)
    return ""


def misshapen(node: onnx.NodeProto, model: onnx.ModelProto) -> bool:
    """Return whether an operand has a rank that the specification excludes and that neither checker nor runtime see."""
    ranks = {t.name: len(t.dims) for t in model.graph.initializer}
    wanted = RANKS.get(node.op_type, {})
    return any(ranks.get(node.input[i], r) != r for i, r in wanted.items() if i < len(node.input))


def infers(model: onnx.ModelProto, feeds: Feeds) -> bool:
    """Return whether inference accepts a model with the sizes of some feeds: what shapes say of constants included."""
    bound = onnx.ModelProto.FromString(model.SerializeToString())
    for v in bound.graph.input:
        if v.name in feeds:
            shape = v.type.tensor_type.shape
            for d, size in zip(shape.dim, np.shape(feeds[v.name]), strict=True):
                d.dim_value = size
    try:
        inferred(bound)
    except Exception:
        return False
    return True


def judges(feeds: Feeds, model: onnx.ModelProto) -> bool:
    """Return whether a run says something: on empty tensors alone, what is wrong elsewhere may go unnoticed."""
    symbolic = any(isinstance(d, str) for v in model.graph.input for d in dims(v))
    return not symbolic or not any(0 in np.shape(v) for v in feeds.values())


def is_empty(model: onnx.ModelProto) -> bool:
    shapes_ = [dims(v) for v in (*model.graph.input, *model.graph.output)]
    return any(0 in s for s in shapes_) or any(0 in t.dims for t in model.graph.initializer)


def words(error: Exception) -> str:
    """Return an error in one line or two."""
    return f"{type(error).__name__}: {str(error)[:400]}"
