"""Rows: the feature vectors that a layer reads, or writes, out of a tensor; only the chosen ones are made."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fcc.analysis.projection import Projection, Window

Array = NDArray[Any]
Floats = NDArray[np.float64]

# The widest rows of which second moments are kept.
MAX_INPUTS, MAX_OUTPUTS = 4096, 2048


@dataclass(frozen=True)
class Rows:
    """Rows along ``axis`` of a tensor, in ``groups`` equal parts; with a window, the patches that a Conv reads.

    ``batch`` is the axis that counts samples. Rows are numbered in row-major order of the other axes of the tensor (of
    the result of the Conv), so that input and output of a layer have the same numbers.
    """

    axis: int = -1
    groups: int = 1
    batch: int = 0
    window: Window | None = None

    def grid(self, x: Array) -> tuple[int, ...]:
        """Return the sizes of the axes that number the rows of a tensor."""
        if self.window is not None:
            return (x.shape[0], *self.window.places(x.shape[2:])[1])
        axis = self.axis % x.ndim
        return (*x.shape[:axis], *x.shape[axis + 1 :])

    def take(self, x: Array, at: NDArray[np.int64]) -> Floats:
        """Return the rows of these numbers in float64, [rows, groups, features]."""
        if self.window is not None:
            return self._patches(x, at).reshape(len(at), self.groups, -1)
        axis = self.axis % x.ndim
        behind = prod(x.shape[axis + 1 :])
        flat = x.reshape(prod(x.shape[:axis]), x.shape[axis], behind)
        return np.asarray(flat[at // behind, :, at % behind], np.float64).reshape(len(at), self.groups, -1)

    def sample_of(self, x: Array, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which sample of the batch each row belongs to."""
        grid = self.grid(x)
        return np.asarray(np.unravel_index(at, grid)[min(self.batch, len(grid) - 1)]) if grid else at * 0

    def _patches(self, x: Array, at: NDArray[np.int64]) -> Floats:
        assert self.window is not None
        window = self.window
        begins, counts = window.places(x.shape[2:])
        sample, *places = np.unravel_index(at, (x.shape[0], *counts))
        patches = np.empty((len(at), x.shape[1], prod(window.kernel)))
        for tap, offset in enumerate(itertools.product(*map(range, window.kernel))):
            inside, index = np.ones(len(at), bool), []
            for i, place in enumerate(places):
                to = place * window.strides[i] + offset[i] * window.dilations[i] - begins[i]
                inside &= (to >= 0) & (to < x.shape[2 + i])
                index.append(np.clip(to, 0, x.shape[2 + i] - 1))
            at_tap: tuple[Any, ...] = (sample, slice(None), *index)
            patches[:, :, tap] = np.where(inside[:, None], x[at_tap], 0)
        return patches


@dataclass(frozen=True)
class Mixed:
    """Rows of which blocks of features are multiplied by their part of a weight: what each block adds to the output.

    ``blocks`` number the features, [blocks, size]; a row has len(blocks) * out features.
    """

    rows: Rows
    blocks: NDArray[np.int64]
    weight: Floats

    def grid(self, x: Array) -> tuple[int, ...]:
        """As Rows."""
        return self.rows.grid(x)

    def take(self, x: Array, at: NDArray[np.int64]) -> Floats:
        """As Rows."""
        found = self.rows.take(x, at)[:, 0]
        parts: Floats = np.matmul(found[:, self.blocks].transpose(1, 0, 2), self.weight[self.blocks])
        return parts.transpose(1, 0, 2).reshape(len(at), 1, -1)

    def sample_of(self, x: Array, at: NDArray[np.int64]) -> NDArray[np.int64]:
        """As Rows."""
        return self.rows.sample_of(x, at)


def read(layer: Projection) -> Rows:
    """Return what a layer reads out of its input."""
    window = layer.window
    if window is not None and prod(window.kernel) == 1 and not any(window.pads) and set(window.strides) == {1}:
        window = None
    return Rows(layer.axis, layer.groups, layer.batch, window)


def written(layer: Projection) -> Rows:
    """Return what a layer writes into its output."""
    return Rows(layer.axis, layer.groups, layer.batch)


def sides(layer: Projection) -> tuple[str, str] | None:
    """Return what the moments of a layer are of: x and y, each its "input" or its "output".

    x is the output of the layer where the input is too wide for a matrix; y is the input where the outputs are many, or
    no tensor. None where both are too wide, or the bias is no constant row.
    """
    m, n = layer.sizes
    if isinstance(layer.bias_row(), str):
        return None
    x = "input" if m <= MAX_INPUTS else "output"
    y = "input" if layer.hidden or n > MAX_OUTPUTS else "output"
    return (x, y) if y == "output" or (x == "input" and layer.groups == 1) else None


def chosen(count: int, limit: int, seed: int) -> NDArray[np.int64]:
    """Return the numbers of at most ``limit`` of ``count`` rows, drawn by the seed, in order."""
    if count <= limit:
        return np.arange(count)
    return np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))
