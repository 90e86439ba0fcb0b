"""Torch forms of reductions, and of Resize, which is a product with a matrix along every axis."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .call import Call, Function, NoForm, Table, Tensor

_Reduce = Callable[[Tensor, list[int], bool], Tensor]


def _reduced(f: _Reduce) -> Function:
    def compute(c: Call) -> Tensor:
        axes = c.ints(1, "axes")
        if not axes:
            if c.get("noop_with_empty_axes", 0):
                return c[0]
            axes = list(range(c[0].ndim))
        return f(c[0], axes, bool(c.get("keepdims", 1))) if axes else f(c[0].reshape(1), [0], False)

    return compute


def _prod(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted({a % x.ndim for a in axes}, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _arg(f: Callable[..., Tensor]) -> Function:
    def compute(c: Call) -> Tensor:
        c.only(select_last_index=(0,))
        return f(c[0], c.get("axis", 0), keepdim=bool(c.get("keepdims", 1)))

    return compute


def _cumulative(c: Call) -> Tensor:
    axis, x = int(c[1].item()), c[0]
    x = x.flip(axis) if c.get("reverse", 0) else x
    y = x.cumsum(axis, dtype=x.dtype)
    y = y - x if c.get("exclusive", 0) else y
    return y.flip(axis) if c.get("reverse", 0) else y


def _top_k(c: Call) -> tuple[Tensor, Tensor]:
    found = torch.topk(c[0], int(c[1].item()), c.get("axis", -1), bool(c.get("largest", 1)), bool(c.get("sorted", 1)))
    return found.values, found.indices


def _resize(c: Call) -> Tensor:
    c.only(antialias=(0,), exclude_outside=(0,), keep_aspect_ratio_policy=("stretch",))
    x = c[0]
    axes = [a % x.ndim for a in c.get("axes") or range(x.ndim)]
    scales = None if c[2] is None or c[2].numel() == 0 else c[2].tolist()
    sizes = c.ints(3) or []
    for i, axis in enumerate(axes):
        size = x.shape[axis]
        wide = sizes[i] if scales is None else int(np.floor(size * scales[i]))
        scale = wide / size if scales is None else scales[i]
        if scale != 1:
            matrix = torch.from_numpy(_interpolation(c, size, wide, scale)).to(x.dtype)
            x = torch.tensordot(x, matrix, ([axis], [1])).movedim(-1, axis)
    return x


def _interpolation(c: Call, size: int, wide: int, scale: float) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """Return the matrix [wide, size] that resizes one axis."""
    at, mode = np.arange(wide, dtype=np.float64), c.get("mode", "nearest")
    transform = c.get("coordinate_transformation_mode", "half_pixel")
    if transform not in _COORDINATES or mode not in _SPREAD:
        raise NoForm(f"Resize by {mode} with {transform}")
    x = _COORDINATES[transform](at, size, wide, scale)
    matrix = np.zeros((wide, size))
    for index, weight in _SPREAD[mode](x, c):
        np.add.at(matrix, (np.arange(wide), np.clip(index, 0, size - 1).astype(np.int64)), weight)
    return matrix


_Array = np.ndarray[tuple[int, ...], np.dtype[np.float64]]
_Part = tuple[_Array, _Array]


def _nearest(x: _Array, c: Call) -> list[_Part]:
    mode = c.get("nearest_mode", "round_prefer_floor")
    index = {
        "round_prefer_floor": lambda: np.ceil(x - 0.5),
        "round_prefer_ceil": lambda: np.floor(x + 0.5),
        "floor": lambda: np.floor(x),
        "ceil": lambda: np.ceil(x),
    }[mode]()
    return [(index, np.ones_like(x))]


def _linear(x: _Array, c: Call) -> list[_Part]:
    low = np.floor(x)
    return [(low, 1 - (x - low)), (low + 1, x - low)]


def _cubic(x: _Array, c: Call) -> list[_Part]:
    a, low = c.get("cubic_coeff_a", -0.75), np.floor(x)

    def weight(d: _Array) -> _Array:
        near = ((a + 2) * d - (a + 3)) * d * d + 1
        found: _Array = np.where(d <= 1, near, ((a * d - 5 * a) * d + 8 * a) * d - 4 * a)
        return found

    return [(low + k, weight(np.abs(x - low - k))) for k in (-1, 0, 1, 2)]


_SPREAD = {"nearest": _nearest, "linear": _linear, "cubic": _cubic}
_COORDINATES: dict[str, Callable[[_Array, int, int, float], _Array]] = {
    "half_pixel": lambda at, size, wide, scale: (at + 0.5) / scale - 0.5,
    "pytorch_half_pixel": lambda at, size, wide, scale: (at + 0.5) / scale - 0.5 if wide > 1 else 0 * at,
    "asymmetric": lambda at, size, wide, scale: at / scale,
    "align_corners": lambda at, size, wide, scale: at * (size - 1) / (wide - 1) if wide > 1 else 0 * at,
}


TABLE: Table = {
    "ArgMax": _arg(torch.argmax),
    "ArgMin": _arg(torch.argmin),
    "CumSum": _cumulative,
    "ReduceL1": _reduced(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": _reduced(lambda x, axes, keep: (x * x).sum(axes, keep).sqrt()),
    "ReduceLogSum": _reduced(lambda x, axes, keep: x.sum(axes, keep).log()),
    "ReduceLogSumExp": _reduced(lambda x, axes, keep: torch.logsumexp(x, axes, keep)),
    "ReduceMax": _reduced(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": _reduced(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceMin": _reduced(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceProd": _reduced(_prod),
    "ReduceSum": _reduced(lambda x, axes, keep: x.sum(axes, keep, dtype=x.dtype)),
    "ReduceSumSquare": _reduced(lambda x, axes, keep: (x * x).sum(axes, keep, dtype=x.dtype)),
    "Resize": _resize,
    "TopK": _top_k,
}
