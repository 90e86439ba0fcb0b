"""Symbolic dimensions: integer polynomials over the symbols of a model, kept in one normal form.

A dimension is an ``int``, or a ``Dim`` when it depends on a symbol, or ``None`` when nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

from onnx_ir import Shape, SymbolicDim, Value

_INTEGER = re.compile(r"-?\d+")
_NAME = re.compile(r"(?!.*//)[^\s+*()%\d-][^\s+*()%-]*")
_CALL = re.compile(r"[^\W\d]\w*(\([^\s+*]*\))")
Monomial = tuple[str, ...]


class Dim:
    """A polynomial with integer coefficients; symbols are non-negative integers.

    ``2*batch + 1`` is {("batch",): 2, (): 1}.  Arithmetic that leaves no symbol returns a plain int.
    A division that is not exact becomes a new opaque symbol, so equal text means equal value.
    """

    __slots__ = ("terms",)

    def __init__(self, terms: dict[Monomial, int]) -> None:
        self.terms = terms

    @staticmethod
    def symbol(name: str) -> Dim:
        return Dim({(name,): 1})

    @staticmethod
    def make(terms: dict[Monomial, int]) -> Dim | int:
        kept = {m: c for m, c in sorted(terms.items()) if c}
        if not kept:
            return 0
        return kept[()] if set(kept) == {()} else Dim(kept)

    def __add__(self, other: Dim | int) -> Dim | int:
        terms = dict(self.terms)
        for monomial, c in _terms(other).items():
            terms[monomial] = terms.get(monomial, 0) + c
        return Dim.make(terms)

    def __mul__(self, other: Dim | int) -> Dim | int:
        terms: dict[Monomial, int] = {}
        for a, ca in self.terms.items():
            for b, cb in _terms(other).items():
                key = tuple(sorted(a + b))
                terms[key] = terms.get(key, 0) + ca * cb
        return Dim.make(terms)

    __radd__ = __add__
    __rmul__ = __mul__

    def __neg__(self) -> Dim | int:
        return self * -1

    def __sub__(self, other: Dim | int) -> Dim | int:
        return self + (-other)

    def __rsub__(self, other: Dim | int) -> Dim | int:
        return (-self) + other

    def __floordiv__(self, other: Any) -> Dim | int:
        quotient = exact_div(self, other)
        if quotient is not None:
            return quotient
        return Dim.symbol(f"floor(({self})/({other}))".replace(" ", "").replace("+", "_p_").replace("*", "_x_"))

    def __rfloordiv__(self, other: Any) -> Dim | int:
        return Dim.symbol(f"floor(({other})/({self}))".replace(" ", "").replace("+", "_p_").replace("*", "_x_"))

    def __mod__(self, other: Dim | int) -> Dim | int:
        return self + (-((self // other) * other))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self.terms == other.terms

    def __hash__(self) -> int:
        return hash(tuple(self.terms.items()))

    def __repr__(self) -> str:
        return str(self)

    def __str__(self) -> str:
        parts = []
        for monomial, c in reversed(self.terms.items()):
            if not monomial:
                parts.append(str(c))
            else:
                parts.append("*".join(([] if c == 1 else [str(c)]) + list(monomial)))
        return " + ".join(parts)

    def symbols(self) -> set[str]:
        """Return the symbols this dimension depends on."""
        return {s for monomial in self.terms for s in monomial}


def _terms(x: Any) -> dict[Monomial, int]:
    return x.terms if isinstance(x, Dim) else {(): int(x)}


def exact_div(a: Dim | int, b: Dim | int) -> Dim | int | None:
    """Return a / b when it is exact for every value of the symbols, else None. Long division of polynomials."""
    divisor, rest = _terms(b), a
    if b == 0:
        return None
    leading = max(divisor, key=_order)
    out: dict[Monomial, int] = {}
    while rest != 0:
        terms = _terms(rest)
        top = max(terms, key=_order)
        quotient = _quotient(top, leading)
        if quotient is None or terms[top] % divisor[leading]:
            return None
        step = {quotient: terms[top] // divisor[leading]}
        out[quotient] = step[quotient]
        rest = rest - Dim.make(step) * b
    return Dim.make(out)


def _order(monomial: Monomial) -> tuple[int, Monomial]:
    """Graded lexicographic order, which products keep."""
    return len(monomial), monomial


def _quotient(a: Monomial, b: Monomial) -> Monomial | None:
    rest = list(a)
    for s in b:
        if s not in rest:
            return None
        rest.remove(s)
    return tuple(rest)


def at_least(d: Dim | int | None, bound: int) -> bool:
    """Return whether a dimension is >= ``bound`` for every value of its (non-negative) symbols."""
    if d is None:
        return False
    terms = _terms(d)
    return terms.get((), 0) >= bound and all(c >= 0 for monomial, c in terms.items() if monomial)


@lru_cache(maxsize=1 << 16)
def parse(text: str) -> Dim | int:
    """Return the polynomial that ``text`` writes, or one opaque symbol when it is not one."""
    terms = [term.strip().split("*") for term in text.split(" + ")]
    if not all(_is_factor(factor) for term in terms for factor in term):
        return Dim.symbol(text)
    total: Dim | int = 0
    for term in terms:
        product: Dim | int = 1
        for factor in term:
            product = product * (int(factor) if _INTEGER.fullmatch(factor) else Dim.symbol(factor))
        total = product + total
    return total


def _is_factor(text: str) -> bool:
    """Return whether text binds tighter than a product: an integer, a name, or a call; ``a-b`` and ``a//2`` do not."""
    if _INTEGER.fullmatch(text) or _NAME.fullmatch(text):
        return True
    call = _CALL.fullmatch(text)
    if call is None:
        return False
    depth = 0
    for c in call[1][:-1]:
        depth += (c == "(") - (c == ")")
        if depth == 0:
            return False
    return depth == 1


def as_dim(d: int | SymbolicDim | Dim | str | None) -> Dim | int | None:
    """Return one axis of an onnx_ir shape as int, Dim, or None when unknown."""
    if d is None or isinstance(d, int | Dim):
        return d
    text = d if isinstance(d, str) else d.value
    return parse(text) if text else None


def dims_of(value: Value | None) -> tuple[Dim | int | None, ...] | None:
    """Return the shape of a value as dims, or None when even the rank is unknown."""
    if value is None or value.shape is None:
        return None
    return tuple([as_dim(d) for d in value.shape.dims])


def known_dims(value: Value | None) -> tuple[Dim | int | None, ...]:
    """Return the shape of a value as dims, none when even the rank is unknown."""
    return dims_of(value) or ()


def numbers(dims: Iterable[object]) -> list[int]:
    """Return the sizes among some dims that are known as numbers."""
    return [d for d in dims if isinstance(d, int)]


def to_shape(dims: Iterable[Dim | int | None]) -> Shape:
    """Return an onnx_ir shape; symbols are written in normal form."""
    return Shape([str(d) if isinstance(d, Dim) else d for d in dims])
