"""same_outputs(): two models on the same random inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from .texts import random_array

TOLERANCE = {"float64": 1e-9, "float32": 2e-5, "float16": 2e-2, "bfloat16": 1e-1}


def same_outputs(
    before: onnx.ModelProto,
    after: onnx.ModelProto,
    *,
    tolerance: float | None = None,
    sizes: Mapping[str, int] | None = None,
    seed: int = 0,
) -> None:
    """Assert that two models give the same outputs on seeded random inputs, by onnx.reference.

    The error of an output is max|y - y0| / max(1, max|y0|); integers must be equal; NaN must stand at the same places.
    """
    rng = np.random.default_rng(seed)
    overridable = {t.name for t in before.graph.initializer}
    dims: dict[str, int] = dict(sizes or {})
    feeds = {v.name: random_input(v.type.tensor_type, rng, dims) for v in before.graph.input}
    plain = {k: v for k, v in feeds.items() if k not in overridable}
    for fed in (plain, feeds) if len(plain) != len(feeds) else (feeds,):
        old, new = (ReferenceEvaluator(m).run(None, dict(fed)) for m in (before, after))
        for value, a, b in zip(before.graph.output, old, new, strict=True):
            assert_close(value.name, np.asarray(a), np.asarray(b), tolerance)


def assert_close(name: str, a: np.ndarray[Any, Any], b: np.ndarray[Any, Any], tolerance: float | None) -> None:
    assert a.dtype == b.dtype, f"output {name}: dtype {b.dtype} instead of {a.dtype}"
    assert a.shape == b.shape, f"output {name}: shape {b.shape} instead of {a.shape}"
    limit = TOLERANCE.get(str(a.dtype)) if tolerance is None else tolerance
    if limit is None or a.size == 0:
        assert np.array_equal(a, b), f"output {name} differs"
        return
    x, y = a.astype(np.float64), b.astype(np.float64)
    assert np.array_equal(np.isnan(x), np.isnan(y)), f"output {name}: NaN at other places"
    finite = np.isfinite(x) & np.isfinite(y)
    assert np.array_equal(x[~finite & ~np.isnan(x)], y[~finite & ~np.isnan(y)]), f"output {name}: infinities differ"
    if finite.any():
        error = np.abs(x - y)[finite].max() / max(1.0, np.abs(x[finite]).max())
        assert error <= limit, f"output {name}: error {error:.3g} above {limit:.3g}"


def random_input(kind: Any, rng: np.random.Generator, dims: dict[str, int]) -> np.ndarray[Any, Any]:
    """Return a seeded random array for a tensor type of an input; symbols take ``dims``, new ones 2 and 3 in turn."""
    shape = []
    for d in kind.shape.dim:
        if d.dim_param:
            shape.append(dims.setdefault(d.dim_param, 2 + len(dims) % 2))
        else:
            shape.append(d.dim_value)
    return random_array(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape, rng)
