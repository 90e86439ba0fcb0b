"""Weights of 4 or 8 bits whose scale and zero point change every ``block`` inputs: rounded, by HQQ, or by GPTQ."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .rounding import DAMPINGS, Fit, cross_validated, gptq, nearest

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Parts of the range of a block that are tried for its scale.
SHRINK = np.linspace(0.7, 1.0, 13)
# HQQ: the norm, the weight of the quadratic term, its growth, and the number of steps.
NORM, BETA, KAPPA, STEPS = 0.7, 10.0, 1.01, 20
_TINY = 2.0**-100


class Blocked(NamedTuple):
    """Codes [K, out] in 0 .. 2^bits - 1, scales and zero points [blocks, out]; weight = scale * (code - zero point)."""

    codes: NDArray[np.uint8]
    scales: NDArray[np.float32]
    zero_points: NDArray[np.uint8]
    block: int

    def array(self) -> Floats:
        """Return the weight [K, out] that the codes stand for."""
        scale, zero = (np.repeat(a.astype(np.float64), self.block, axis=0)[: len(self.codes)] for a in self[1:3])
        values: Floats = scale * (self.codes - zero)
        return values


@dataclass
class BlockGrid:
    """The grid of one pass over a weight: chooses scale and zero point of a block when it begins, keeps the codes."""

    bits: int
    span: int
    symmetric: bool = False
    half_quadratic: bool = False
    codes: list[Floats] = field(default_factory=list)
    scales: list[Floats] = field(default_factory=list)
    zeros: list[Floats] = field(default_factory=list)

    @property
    def top(self) -> int:
        """The largest code."""
        return (1 << self.bits) - 1

    def begin(self, rows: Floats, start: int) -> None:
        """Choose the scale and the zero point of every output for a block of inputs: least squared error, or by HQQ."""
        found = list(self._candidates(rows))
        power = NORM if self.half_quadratic else 2.0
        losses = np.array([np.sum(np.abs(rows - self._round(rows, s, z)) ** power, axis=0) for s, z in found])
        best, columns = losses.argmin(axis=0), np.arange(rows.shape[1])
        scale, zero = (np.stack(parts)[best, columns] for parts in zip(*found, strict=True))
        self.scales.append(scale)
        self.zeros.append(zero)

    def round(self, row: Floats, i: int) -> Floats:
        """Return the nearest weights of input ``i`` and keep their codes."""
        scale, zero = self.scales[-1], self.zeros[-1]
        self.codes.append(np.clip(np.rint(row / scale) + zero, 0, self.top))
        values: Floats = scale * (self.codes[-1] - zero)
        return values

    def result(self) -> Blocked:
        """Return what was rounded."""
        codes, zeros = (np.array(a).astype(np.uint8) for a in (self.codes, self.zeros))
        return Blocked(codes, np.array(self.scales).astype(np.float32), zeros, self.span)

    def _round(self, rows: Floats, scale: Floats, zero: Floats) -> Floats:
        values: Floats = scale * (np.clip(np.rint(rows / scale) + zero, 0, self.top) - zero)
        return values

    def _candidates(self, rows: Floats) -> Iterator[tuple[Floats, Floats]]:
        """Yield scales and zero points [out]: the range of the block shrunk, and zero points moved by HQQ."""
        low, high = np.minimum(rows.min(axis=0), 0.0), np.maximum(rows.max(axis=0), 0.0)
        middle = float(1 << (self.bits - 1))
        width = np.maximum(high, -low) / (middle - 1) if self.symmetric else (high - low) / self.top
        for shrink in SHRINK[::-1]:
            scale = np.maximum(shrink * width, _TINY).astype(np.float32).astype(np.float64)
            zero = np.full(low.shape, middle)
            if not self.symmetric:
                zero = np.clip(np.rint(-shrink * low / scale), 0, self.top)
            yield scale, zero
            if self.half_quadratic and shrink in SHRINK[::4]:
                yield scale, self._half_quadratic(rows, scale, zero)

    def _half_quadratic(self, rows: Floats, scale: Floats, zero: Floats) -> Floats:
        """Return zero points for the least sum |error|^0.7, rounded at the end.

        Source: Badri & Shaji 2023, Half-Quadratic Quantization (mobiusml.github.io/hqq_blog).
        """
        beta = BETA
        for _ in range(STEPS):
            codes = np.clip(np.rint(rows / scale + zero), 0, self.top)
            lost = rows - scale * (codes - zero)
            size = np.maximum(np.abs(lost), _TINY)
            kept = np.sign(lost) * np.maximum(size - size ** (NORM - 1) / beta, 0.0)
            zero = np.mean(codes - (rows - kept) / scale, axis=0)
            beta *= KAPPA
        rounded: Floats = np.clip(np.rint(zero), 0, self.top)
        return rounded


def quantize_blocks(
    weight: Array, bits: int, block: int, *, symmetric: bool = False, folds: Sequence[Floats] | None = None
) -> tuple[Blocked, str]:
    """Return a weight [K, out] in blocks along K, and how it was rounded.

    ``folds`` are X'X / N [K, K] of its inputs: GPTQ at one of three dampings, HQQ or plain rounding, whichever loses
    least on the other folds. Without them HQQ, or plain rounding where the zero point is fixed (``symmetric``).
    Raises ValueError when the weight holds NaN or infinity, or does not fit float32.
    """
    rows = np.asarray(weight, np.float64)
    if not np.all(np.isfinite(rows)) or float(np.abs(rows).max(initial=0.0)) > float(np.finfo(np.float32).max) / 2:
        raise ValueError("the weight holds NaN or infinity, or does not fit float32")
    grids: dict[str, BlockGrid] = {}

    def fresh(name: str) -> BlockGrid:
        grids[name] = BlockGrid(bits, block, symmetric, half_quadratic=name == "hqq")
        return grids[name]

    def _nearest(name: str, gram: Floats) -> Floats:
        return nearest(rows, fresh(name))

    def _gptq(damping: float, gram: Floats) -> Floats:
        return gptq(rows, gram, fresh(f"gptq {damping:g}"), damping)

    data_free = ("nearest",) if symmetric else ("nearest", "hqq")
    ways: dict[str, Fit] = {n: partial(_nearest, n) for n in data_free}
    usable = folds is not None and len(folds) > 1
    if usable:
        ways |= {f"gptq {d:g}": partial(_gptq, d) for d in DAMPINGS}
    name = cross_validated(rows, folds or (), ways) if usable else list(ways)[-1]
    ways[name](np.mean(folds, axis=0) if usable and folds is not None else np.zeros(0))
    return grids[name].result(), name
