"""Sums of products: what a step of a recurrent layer computes, in one form whatever the spelling.

A Sum maps products of activations to linear forms of rows: z * h + n - z * n is {(z,): h, (n,): 1, (n, z): -1}.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np

from ._forms import Array, Form, Piece, constant, joined, rows

Product = tuple["Atom", ...]


@dataclass(frozen=True, eq=False)
class Atom:
    """An activation of a sum; ``serial`` orders the factors of a product."""

    serial: int
    kind: str
    parameters: tuple[float, ...]
    of: Sum


@dataclass(frozen=True, eq=False)
class Sum:
    """Products of activations -> linear forms; the empty product is the linear part. All have ``width`` columns."""

    width: int
    terms: Mapping[Product, Form]

    @property
    def linear(self) -> Form | None:
        """The form that the sum is, None where it is more than one."""
        if any(self.terms.keys()):
            return None
        return self.terms.get((), constant(np.zeros(self.width)))

    @property
    def row(self) -> Array | None:
        """The constant that the sum is, None where it is more than one."""
        form = self.linear
        return form.bias if form is not None and form.is_constant else None

    def sources(self) -> Iterator[Hashable]:
        """Yield the rows that the sum depends on, those inside of activations and of other sums too, each once."""
        seen: dict[Hashable, None] = {}
        stack: list[Sum] = [self]
        while stack:
            for product, form in stack.pop().terms.items():
                stack += [a.of for a in product if a not in seen]
                seen |= dict.fromkeys(product)
                new = [s for s in form.sources() if s not in seen]
                seen |= dict.fromkeys(new)
                stack += [s for s in new if isinstance(s, Sum)]
        yield from (s for s in seen if not isinstance(s, Sum | Atom))


def _ordered(factors: Iterable[Atom]) -> Product:
    return tuple(sorted(factors, key=lambda f: f.serial))


@dataclass
class Algebra:
    """Arithmetic of sums; the same activation of the same sum, or the same columns of one, are one object."""

    _atoms: dict[Hashable, Atom] = field(default_factory=dict)
    _columns: dict[Hashable, Sum] = field(default_factory=dict)
    _serial: Iterator[int] = field(default_factory=count)

    def linear(self, form: Form) -> Sum:
        return Sum(form.width, {} if form.is_zero else {(): form})

    def linear_row(self, row: Array) -> Sum:
        return self.linear(constant(row))

    def rows(self, source: Hashable, width: int) -> Sum:
        return self.linear(rows(source, width))

    def activation(self, kind: str, of: Sum, parameters: tuple[float, ...] = ()) -> Sum:
        """Return an activation of a sum."""
        one = constant(np.ones(of.width))
        return Sum(of.width, {(self._atom(kind, parameters, of),): one})

    def _atom(self, kind: str, parameters: tuple[float, ...], of: Sum) -> Atom:
        key = (kind, parameters, of)
        if key not in self._atoms:
            self._atoms[key] = Atom(next(self._serial), kind, parameters, of)
        return self._atoms[key]

    def plus(self, a: Sum, b: Sum) -> Sum | None:
        width = max(a.width, b.width)
        terms: dict[Product, Form] = {}
        for part in (a, b):
            for product, form in part.terms.items():
                wide = form.widened(width) if part.width == width or part.row is not None else None
                if wide is None:
                    return None
                terms[product] = terms[product].plus(wide) if product in terms else wide
        return Sum(width, {p: f for p, f in terms.items() if not f.is_zero})

    def scaled(self, a: Sum, row: Array) -> Sum | None:
        """Return a sum times a constant row, or a constant of one column times a row."""
        return self.times(a, self.linear_row(row))

    def times(self, a: Sum, b: Sum) -> Sum | None:
        """Return the product, None where both factors hold rows: no recurrent layer multiplies those."""
        width = max(a.width, b.width)
        total = Sum(width, {})
        if any(part.width != width and part.row is None for part in (a, b)):
            return None
        for p, f in a.terms.items():
            for q, g in b.terms.items():
                left, right = f.widened(width), g.widened(width)
                if left is None or right is None or not (left.is_constant or right.is_constant):
                    return None
                form = right.scaled(left.bias) if left.is_constant else left.scaled(right.bias)
                more = self.plus(total, Sum(width, {_ordered((*p, *q)): form}))
                if more is None:
                    return None
                total = more
        return total

    def as_form(self, a: Sum) -> Form:
        """Return a sum as a form: one of several products is rows of its own."""
        form = a.linear
        return rows(a, a.width) if form is None else form

    def multiplied(self, a: Sum, matrix: Array) -> Sum:
        """Return the product by a matrix [width, *]."""
        return self.linear(self.as_form(a).times(matrix))

    def joined(self, parts: Sequence[Sum]) -> Sum:
        """Return sums side by side."""
        return self.linear(joined([self.as_form(p) for p in parts]))

    def columns(self, a: Sum, start: int, stop: int) -> Sum:
        """Return a range of columns; an activation of columns is the columns of the activation."""
        if (start, stop) == (0, a.width):
            return a
        key = (a, start, stop)
        if key not in self._columns:
            terms = {
                _ordered(self._atom(f.kind, f.parameters, self.columns(f.of, start, stop)) for f in product): form
                for product, form in a.terms.items()
            }
            cut = {p: f.columns(start, stop) for p, f in terms.items()}
            self._columns[key] = self._opened(Sum(stop - start, {p: f for p, f in cut.items() if not f.is_zero}))
        return self._columns[key]

    def without(self, a: Sum, sources: Collection[Hashable]) -> Sum:
        """Return a sum with some rows of zeros."""
        terms: dict[Product, Form] = {}
        for product, form in a.terms.items():
            pieces = [q for p in form.pieces if (q := self._piece_without(p, sources)) is not None]
            left = Form(tuple(pieces), form.bias)
            if not left.is_zero:
                factors = (self._atom(f.kind, f.parameters, self.without(f.of, sources)) for f in product)
                terms[_ordered(factors)] = left
        return Sum(a.width, terms)

    def _piece_without(self, piece: Piece, sources: Collection[Hashable]) -> Piece | None:
        if not isinstance(piece.source, Sum):
            return None if piece.source in sources else piece
        left = self.without(piece.source, sources)
        return replace(piece, source=left) if left.terms else None

    def _opened(self, a: Sum) -> Sum:
        """Return the sum that is the only source of a form which takes all its columns as they are."""
        form = a.linear
        if form is None or len(form.pieces) != 1 or np.any(form.bias):
            return a
        (piece,) = form.pieces
        whole = isinstance(piece.source, Sum) and piece.matrix.ndim == 1 and np.all(piece.matrix == 1)
        if not whole or piece.width != a.width:
            return a
        assert isinstance(piece.source, Sum)
        return self.columns(piece.source, piece.start, piece.stop)
