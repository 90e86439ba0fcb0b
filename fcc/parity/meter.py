"""Measure one output over many feeds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from fcc.data.cast import family
from fcc.data.spec import Array, is_float

from .tolerance import SILENT

_SIDE = 0.5  # of a probability: on which side of it the decision changes


@dataclass(frozen=True)
class Row:
    """What one output did: the worst error over feeds and its limit, and figures pooled over all feeds.

    error = max|y - y0| / max|y0| of a feed; rel = ||y - y0||2 / ||y0||2; sqnr = -20 log10(rel) in dB; agreement = part
    of the rows with the same largest element, of probabilities alone (no rows, all in [0, 1]) those on the same side of
    1/2, else None; scale = max|y0|.
    """

    name: str
    error: float
    limit: float
    rel: float
    sqnr: float
    agreement: float | None
    max_abs: float
    scale: float
    feed: int
    note: str = ""
    judged: bool = True

    @property
    def ok(self) -> bool:
        """Whether the output is within its limit, or cannot be judged."""
        return not self.judged or self.error <= self.limit

    @property
    def strain(self) -> float:
        """error / limit, infinite when a limit of 0 is broken."""
        if not self.judged or self.error == 0:
            return 0.0
        return self.error / self.limit if self.limit else math.inf


@dataclass
class Meter:
    """Collects the figures of one output, feed by feed, in constant memory."""

    name: str
    error: float = 0.0
    feed: int = 0
    note: str = ""
    scale: float = 0.0
    max_abs: float = 0.0
    dtype: np.dtype[Any] | None = None
    _square: float = 0.0
    _reference: float = 0.0
    _same: int = 0
    _rows: int = 0
    _same_sides: int = 0
    _sides: int = 0
    _unit: bool = True
    _seen: int = field(default=0)

    def add(self, reference: Any, value: Any) -> None:
        """Compare one pair: arrays, or sequences and maps of arrays."""
        feed, self._seen = self._seen, self._seen + 1
        left, right = dict(leaves(reference)), dict(leaves(value))
        if left.keys() != right.keys():
            self._worst(math.inf, feed, f"structure {sorted(right)} instead of {sorted(left)}")
            return
        for key, y0 in left.items():
            self._pair(y0, right[key], feed)

    @property
    def square(self) -> float:
        """||y - y0||^2 so far."""
        return self._square

    @property
    def reference(self) -> float:
        """||y0||^2 so far."""
        return self._reference

    def decisions(self) -> tuple[int, int]:
        """Return how many decisions were made (rows, or probabilities), and how many alike."""
        return (self._rows, self._same) if self._rows or not self._unit else (self._sides, self._same_sides)

    def missing(self) -> None:
        """Note that the candidate has no such output."""
        self._worst(math.inf, 0, "missing")

    def row(self, limit: float) -> Row:
        """Return the figures so far against a limit."""
        rel = math.sqrt(self._square / self._reference) if self._reference else (math.inf if self._square else 0.0)
        sqnr = math.inf if rel == 0 else (-20 * math.log10(rel) if math.isfinite(rel) else -math.inf)
        count, same = self.decisions()
        agreement = same / count if count else None
        numbers = (self.error, limit, rel, sqnr, agreement, self.max_abs, self.scale, self.feed)
        return Row(self.name, *numbers, note=self.note)

    def _pair(self, y0: Array, y: Array, feed: int) -> None:
        self.dtype = self.dtype or y0.dtype
        if y0.dtype != y.dtype and not (family(y0.dtype) == family(y.dtype) == "string"):
            return self._worst(math.inf, feed, f"type {y.dtype} instead of {y0.dtype}")
        if y0.shape != y.shape:
            return self._worst(math.inf, feed, f"shape {list(y.shape)} instead of {list(y0.shape)}")
        if y0.size == 0:
            return None
        if family(y0.dtype) in ("float", "int", "complex"):
            return self._numbers(y0, y, feed)
        differ = float(np.mean(y0 != y))
        self.scale = max(self.scale, 1.0)
        return self._worst(differ, feed, "")

    def _numbers(self, y0: Array, y: Array, feed: int) -> None:
        if np.array_equal(y0, y):  # exact, also for integers beyond 2**53
            self._tally(_wide(y0), None)
            return
        a, b = _wide(y0), _wide(y)
        finite = np.isfinite(a)
        odd = ~finite | ~np.isfinite(b)
        if odd.any():
            if not np.array_equal(a[odd], b[odd], equal_nan=True):
                self._worst(math.inf, feed, _oddity(a, b))
                return
            a, b = np.where(finite, a, 0), np.where(finite, b, 0)
        self._tally(a, b)
        diff, scale = float(np.max(np.abs(b - a))), float(np.max(np.abs(a)))
        diff = diff or (1.0 if family(y0.dtype) == "int" else 0.0)  # integers that differ only beyond 2**53
        self.max_abs = max(self.max_abs, diff)
        self._worst(diff / scale if scale >= SILENT else diff, feed, "")

    def _tally(self, a: Array, b: Array | None) -> None:
        finite = np.isfinite(a)
        size = np.abs(a) if finite.all() else np.abs(a[finite])
        self.scale = max(self.scale, float(size.max()) if size.size else 0.0)
        self._reference += float(np.sum(size * size))
        rows = a.size // a.shape[-1] if a.ndim and a.shape[-1] > 1 and not np.iscomplexobj(a) else 0
        sides = 0 if rows or np.iscomplexobj(a) or self.dtype is None or not is_float(self.dtype) else a.size
        self._rows += rows
        self._sides += sides
        self._unit = self._unit and (not sides or bool(np.all((a >= 0) & (a <= 1))))
        if b is None:
            self._same += rows
            self._same_sides += sides
            return
        self._square += float(np.sum(np.abs(b - a) ** 2))
        if sides:
            self._same_sides += int(np.sum((a >= _SIDE) == (b >= _SIDE)))
        if rows:
            self._same += int(np.sum(np.argmax(a, -1) == np.argmax(b, -1)))

    def _worst(self, error: float, feed: int, note: str) -> None:
        if error > self.error:
            self.error, self.feed = error, feed
            self.note = note or self.note


def _wide(y: Array) -> Array:
    return y if np.iscomplexobj(y) else y.astype(np.float64)


def _oddity(a: Array, b: Array) -> str:
    for name, test in (("NaN", np.isnan), ("infinity", np.isinf)):
        left, right = int(np.sum(test(a))), int(np.sum(test(b)))
        if left != right or not np.array_equal(test(a), test(b)):
            return f"{right} {name} instead of {left}" if left != right else f"{name} elsewhere"
    return "infinity of the other sign"


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Array]]:
    """Yield (path, array) of an output: itself, or the elements of sequences and maps; None yields nothing."""
    if value is None:
        return
    if isinstance(value, Mapping):
        for key in value:
            yield from leaves(value[key], f"{path}[{key!r}]")
    elif isinstance(value, list | tuple):
        for k, item in enumerate(value):
            yield from leaves(item, f"{path}[{k}]")
    else:
        yield path, np.asarray(value)


def worst_of(rows: list[Row], others: list[Row]) -> list[Row]:
    """Return, output by output, the row under more strain."""
    by_name = {r.name: r for r in others}
    return [max(r, by_name.get(r.name, r), key=lambda x: x.strain) for r in rows]


def unjudged(row: Row, why: str) -> Row:
    """Return the row marked as not judged."""
    return replace(row, judged=False, note=why)
