"""Rows as linear forms of other rows: y = x A + h B + b, column by column, in float64."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, eq=False)
class Piece:
    """Columns from ``at`` on: columns start to stop of the rows ``source``, times ``matrix``.

    A matrix [stop - start, width], or a vector: the diagonal of one, so that a selection of columns costs nothing.
    """

    source: Hashable
    start: int
    stop: int
    at: int
    matrix: Array

    @property
    def width(self) -> int:
        return int(self.matrix.shape[-1])

    def columns(self, start: int, stop: int) -> Piece | None:
        """Return what a range of columns has of this piece."""
        low, high = max(start, self.at), min(stop, self.at + self.width)
        if low >= high:
            return None
        first, last, at = low - self.at, high - self.at, low - start
        matrix = self.matrix[..., first:last]
        if matrix.ndim == 2:
            return replace(self, at=at, matrix=matrix)
        return replace(self, start=self.start + first, stop=self.start + last, at=at, matrix=matrix)

    def times(self, matrix: Array) -> Piece:
        """Return the piece of the product by a matrix [columns of the form, *]."""
        rows = matrix[self.at : self.at + self.width]
        product = self.matrix @ rows if self.matrix.ndim == 2 else self.matrix[:, None] * rows
        return replace(self, at=0, matrix=product)

    def dense(self, size: int, width: int) -> Array:
        """Return the matrix [size, width] of all columns of the source and of the form."""
        full = np.zeros((size, width))
        block = self.matrix if self.matrix.ndim == 2 else np.diag(self.matrix)
        full[self.start : self.stop, self.at : self.at + self.width] = block
        return full


@dataclass(frozen=True, eq=False)
class Form:
    """A sum of pieces and a constant row ``bias`` of as many columns as the form has."""

    pieces: tuple[Piece, ...]
    bias: Array

    @property
    def width(self) -> int:
        return int(self.bias.size)

    @property
    def is_constant(self) -> bool:
        return not self.pieces

    @property
    def is_zero(self) -> bool:
        return not self.pieces and not np.any(self.bias)

    def sources(self) -> Iterator[Hashable]:
        yield from dict.fromkeys(p.source for p in self.pieces)

    def columns(self, start: int, stop: int) -> Form:
        taken = tuple(c for p in self.pieces if (c := p.columns(start, stop)) is not None)
        return Form(taken, self.bias[start:stop])

    def times(self, matrix: Array) -> Form:
        return Form(tuple(p.times(matrix) for p in self.pieces), self.bias @ matrix)

    def scaled(self, row: Array) -> Form:
        """Multiply every column by an entry of ``row``; one that is 0 throughout leaves nothing."""
        if not np.any(row):
            return Form((), np.zeros(self.width))
        pieces = tuple(replace(p, matrix=p.matrix * row[p.at : p.at + p.width]) for p in self.pieces)
        return Form(pieces, self.bias * row)

    def plus(self, other: Form) -> Form:
        return Form(self.pieces + other.pieces, self.bias + other.bias)

    def widened(self, width: int) -> Form | None:
        """Return the form of ``width`` columns that a constant of one column stands for; None for another width."""
        if self.width == width:
            return self
        return Form((), np.broadcast_to(self.bias, (width,))) if self.width == 1 and self.is_constant else None

    def without(self, sources: Sequence[Hashable]) -> Form:
        return Form(tuple(p for p in self.pieces if p.source not in sources), self.bias)

    def reach(self, source: Hashable) -> int:
        """Return how many columns a source must have."""
        return max((p.stop for p in self.pieces if p.source is source), default=0)

    def dense(self, source: Hashable, size: int) -> Array:
        """Return the matrix [size, width] by which the form takes a source of ``size`` columns."""
        parts = [p.dense(size, self.width) for p in self.pieces if p.source is source]
        return sum(parts, np.zeros((size, self.width)))


def rows(source: Hashable, width: int) -> Form:
    """Return a source itself."""
    return Form((Piece(source, 0, width, 0, np.ones(width)),), np.zeros(width))


def constant(row: Array) -> Form:
    """Return the same row everywhere."""
    return Form((), np.asarray(row, np.float64).reshape(-1))


def joined(forms: Sequence[Form]) -> Form:
    """Return forms side by side."""
    pieces: list[Piece] = []
    at = 0
    for form in forms:
        pieces += [replace(p, at=p.at + at) for p in form.pieces]
        at += form.width
    return Form(tuple(pieces), np.concatenate([f.bias for f in forms]))
