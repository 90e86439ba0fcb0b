"""Second moments of what the weights of a layer multiply: rows of a matrix product, patches of a convolution."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Rows taken of one sample, evenly spaced: the positions of a sequence or an image are much alike.
ROWS_PER_SAMPLE = 256
FOLDS = 2


@dataclass(frozen=True)
class Window:
    """How a convolution takes its patches: sizes by spatial axis, ``pads`` as (begin, end)."""

    kernel: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    pads: tuple[tuple[int, int], ...]
    group: int = 1


@dataclass
class Moments:
    """X'X of the rows a layer's weights multiply, per group [group, K, K] and by fold: samples go to folds in turn.

    Without ``window``: features along the last axis. With one: x [N, C, *spatial], patches ordered (channel, *kernel).
    ``derived`` keeps, by key, what was computed from them, for whoever asks again.
    """

    window: Window | None = None
    totals: tuple[Floats | None, ...] = (None,) * FOLDS
    rows: tuple[int, ...] = (0,) * FOLDS
    seen: int = 0
    derived: dict[Any, Any] = field(default_factory=dict, init=False, compare=False, repr=False)

    def update(self, array: NDArray[Any]) -> None:
        """Add the rows of one sample; at most 256 of them, finite ones only."""
        rows = _flat(array) if self.window is None else _patches(array, self.window)
        rows = rows[:, np.isfinite(rows).all(axis=(0, 2))].astype(np.float64)
        fold, self.seen = self.seen % FOLDS, self.seen + 1
        self._add(fold, rows.transpose(0, 2, 1) @ rows, rows.shape[1])

    def merged(self, other: Moments) -> Moments:
        """Return the moments of the samples of both."""
        both = Moments(self.window, self.totals, self.rows, self.seen + other.seen)
        for fold, (total, rows) in enumerate(zip(other.totals, other.rows, strict=True)):
            if total is not None:
                both._add(fold, total, rows)
        return both

    def folds(self) -> list[Floats]:
        """Return X'X / N of every fold that has rows, [group, K, K]."""
        return [t / n for t, n in zip(self.totals, self.rows, strict=True) if t is not None and n]

    def _add(self, fold: int, total: Floats, rows: int) -> None:
        before = self.totals[fold]
        totals, counts = list(self.totals), list(self.rows)
        totals[fold] = total if before is None else before + total
        counts[fold] += rows
        self.totals, self.rows = tuple(totals), tuple(counts)


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    rows = array.reshape(1, -1, array.shape[-1])
    return rows[:, :: max(1, -(-rows.shape[1] // ROWS_PER_SAMPLE))]


def _every(steps: tuple[int, ...]) -> tuple[Any, ...]:
    return tuple(slice(None, None, s) for s in steps)


def _patches(x: NDArray[Any], window: Window) -> NDArray[Any]:
    """Return evenly spaced patches [group, rows, C / group * prod(kernel)] of x [N, C, *spatial]."""
    padded = np.pad(x, [(0, 0), (0, 0), *window.pads])
    spans = tuple((k - 1) * d + 1 for k, d in zip(window.kernel, window.dilations, strict=True))
    axes = tuple(range(2, x.ndim))
    if any(size < span for size, span in zip(padded.shape[2:], spans, strict=True)):
        return np.zeros((window.group, 0, x.shape[1] // window.group * int(np.prod(window.kernel))))
    views = np.lib.stride_tricks.sliding_window_view(padded, spans, axis=axes)
    views = views[_every((1, 1, *window.strides, *window.dilations))]
    spatial = views.shape[2 : x.ndim]
    count = x.shape[0] * int(np.prod(spatial))
    chosen = np.arange(0, count, max(1, -(-count // ROWS_PER_SAMPLE)))
    n, *at = np.unravel_index(chosen, (x.shape[0], *spatial))
    rows: NDArray[Any] = np.moveaxis(views, 1, x.ndim - 1)[(n, *at)]
    return rows.reshape(len(chosen), window.group, -1).transpose(1, 0, 2)
