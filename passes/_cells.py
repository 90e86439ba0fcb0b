"""RNN, GRU and LSTM cells among sums of products: ONNX's equations, whatever order they are written in."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

from ._forms import Array, Form, constant
from ._terms import Atom, Sum

Activation = tuple[str, tuple[float, ...]]
# What 1 - f(u) is for an activation f: f of s u + t.
_COMPLEMENTS: dict[str, tuple[float, float]] = {"Sigmoid": (-1.0, 0.0), "HardSigmoid": (-1.0, 1.0)}


@dataclass(frozen=True, eq=False)
class Cell:
    """One step of a recurrent layer: the gates in ONNX's order, each a linear form of the inputs and the state ``h``.

    ``gated``: for GRU the form that the reset gate multiplies (linear_before_reset = 1), or None and the candidate's
    recurrent part takes the source ``reset`` = r * h. ``peepholes`` are rows for i, o and f, or None without any.
    """

    kind: str
    hidden: int
    gates: tuple[Form, ...]
    h: Hashable
    activations: tuple[Activation, ...]
    gated: Form | None = None
    reset: Hashable = None
    peepholes: tuple[Array, ...] | None = None
    coupled: bool = False

    def recurrent(self) -> list[Array]:
        """Return the recurrent matrix of every gate, [hidden, hidden] from state to gate."""
        forms = [*self.gates[:-1], self.gates[-1] if self.gated is None else self.gated]
        sources = [self.h] * (len(forms) - 1) + [self.h if self.reset is None else self.reset]
        return [f.dense(s, self.hidden) for f, s in zip(forms, sources, strict=True)]

    def inputs(self) -> list[Hashable]:
        """Return the rows that are neither state nor made of it."""
        own = (self.h, self.reset)
        return list(dict.fromkeys(s for f in self.gates for s in f.sources() if s not in own))


def cells(h: Hashable, h_next: Sum, c: Hashable, c_next: Sum | None) -> Iterator[Cell]:
    """Yield every way in which two sums are the next states of a cell with the states ``h`` and ``c``."""
    found = [_rnn(h, h_next), _gru(h, h_next)]
    if c_next is not None:
        found += _lstms(h, h_next, c, c_next)
    yield from (cell for cell in found if cell is not None)


def _kind(atom: Atom) -> Activation:
    return atom.kind, atom.parameters


def _is(form: Form, value: float) -> bool:
    return form.is_constant and bool(np.all(form.bias == value))


def _takes(form: Form, source: Hashable, factor: float) -> bool:
    """Return whether a form is a source of the same width times a factor."""
    if np.any(form.bias) or any(p.source is not source for p in form.pieces) or form.reach(source) > form.width:
        return False
    return bool(np.array_equal(form.dense(source, form.width), factor * np.eye(form.width)))


def _rnn(h: Hashable, s: Sum) -> Cell | None:
    """h' = f(x W + h R + b)"""
    ((product, form), *more) = s.terms.items() if s.terms else [((), constant(np.zeros(1)))]
    inner = product[0].of.linear if len(product) == 1 and not more and _is(form, 1.0) else None
    if inner is None or h not in inner.sources():
        return None
    return Cell("RNN", s.width, (inner,), h, (_kind(product[0]),))


# -- GRU ---------------------------------------------------------------------------------------------------------------
def _gru(h: Hashable, s: Sum) -> Cell | None:
    """h' = (1 - z) * n + z * h, or with 1 - z for z; n = g(x W + r * (h R + b)), or g(x W + (r * h) R)."""
    pair = next((p for p in s.terms if len(p) == 2), None)
    if pair is None:
        return None
    for z, n in (pair, pair[::-1]):
        form = _update(h, s, z, n)
        if form is not None:
            return _candidate(h, z, n, form)
    return None


def _update(h: Hashable, s: Sum, z: Atom, n: Atom) -> Form | None:
    """Return the form of the update gate, by which of its two readings the sum is."""
    inner, product = z.of.linear, next(p for p in s.terms if len(p) == 2)
    if inner is None:
        return None
    if set(s.terms) == {(n,), (z,), product}:
        plain = _is(s.terms[(n,)], 1.0) and _takes(s.terms[(z,)], h, 1.0) and _is(s.terms[product], -1.0)
        return inner if plain else None
    turned = _COMPLEMENTS.get(z.kind)
    if turned is None or set(s.terms) != {(), (z,), product}:
        return None
    plain = _takes(s.terms[()], h, 1.0) and _takes(s.terms[(z,)], h, -1.0) and _is(s.terms[product], 1.0)
    factor, offset = turned
    return inner.scaled(np.full(inner.width, factor)).plus(constant(np.full(inner.width, offset))) if plain else None


def _candidate(h: Hashable, z: Atom, n: Atom, update: Form) -> Cell | None:
    gates = [p for p in n.of.terms if p]
    activations = (_kind(z), _kind(n))
    if not gates:
        return _reset_before(h, n, update, activations)
    if len(gates) != 1 or len(gates[0]) != 1:
        return None
    (r,) = gates[0]
    reset, gated, rest = r.of.linear, n.of.terms[gates[0]], n.of.terms.get((), constant(np.zeros(n.of.width)))
    alone = set(gated.sources()) == {h} and h not in rest.sources()
    if reset is None or _kind(r) != activations[0] or not alone:
        return None
    return Cell("GRU", z.of.width, (update, reset, rest), h, activations, gated=gated)


def _reset_before(h: Hashable, n: Atom, update: Form, activations: tuple[Activation, ...]) -> Cell | None:
    form = n.of.linear
    products = [s for s in form.sources() if isinstance(s, Sum)] if form is not None else []
    if form is None or len(products) != 1 or h in form.sources():
        return None
    ((product, taken), *more) = products[0].terms.items()
    if more or len(product) != 1 or not _takes(taken, h, 1.0) or _kind(product[0]) != activations[0]:
        return None
    reset = product[0].of.linear
    if reset is None:
        return None
    return Cell("GRU", form.width, (update, reset, form), h, activations, reset=products[0])


# -- LSTM --------------------------------------------------------------------------------------------------------------
def _lstms(h: Hashable, s: Sum, c: Hashable, c_next: Sum) -> Iterator[Cell]:
    """c' = f * c + i * g, h' = o * act(c')"""
    ((product, form), *more) = s.terms.items() if s.terms else [((), constant(np.zeros(1)))]
    if more or len(product) != 2 or not _is(form, 1.0):
        return
    for o, out in permutations(product):
        if same(out.of, c_next, {}):
            for i, f, g in _cell_gates(c, c_next):
                cell = _lstm(h, c, c_next, (i, o, f, g), out)
                if cell is not None:
                    yield cell


def _cell_gates(c: Hashable, c_next: Sum) -> Iterator[tuple[Atom, Atom | None, Atom]]:
    """Yield the input gate, the forget gate (None: one minus the input gate) and the candidate."""
    pair = next((p for p in c_next.terms if len(p) == 2 and _is(c_next.terms[p], 1.0)), None)
    rest = {p: f for p, f in c_next.terms.items() if p != pair}
    if pair is None or not rest:
        return
    for i, g in permutations(pair):
        ((product, form), *more) = rest.items()
        if not more and len(product) == 1 and _takes(form, c, 1.0):
            yield i, product[0], g
        elif set(rest) == {(), (i,)} and _takes(rest[()], c, 1.0) and _takes(rest[(i,)], c, -1.0):
            yield i, None, g


def _lstm(h: Hashable, c: Hashable, c_next: Sum, gates: tuple[Atom, Atom, Atom | None, Atom], out: Atom) -> Cell | None:
    i, o, f, g = gates
    parted = [_peephole(i, c, None), _peephole(o, c, c_next), _peephole(i if f is None else f, c, None)]
    candidate = g.of.linear
    kinds = {_kind(a) for a in (i, o, f) if a is not None}
    if candidate is None or None in parted or len(kinds) != 1 or c in candidate.sources():
        return None
    forms, rows = zip(*(p for p in parted if p is not None), strict=True)
    peepholes = rows if any(np.any(r) for r in rows) else None
    if f is None and peepholes is not None:
        return None
    activations = (_kind(i), _kind(g), _kind(out))
    return Cell("LSTM", c_next.width, (*forms, candidate), h, activations, peepholes=peepholes, coupled=f is None)


def _peephole(gate: Atom, c: Hashable, c_next: Sum | None) -> tuple[Form, Array] | None:
    """Return the form of a gate without the cell state, and the row by which it takes that state (the next one: o)."""
    width = gate.of.width
    row = np.zeros(width)
    rest = dict(gate.of.terms)
    if c_next is not None and any(rest):
        pair = next(p for p in c_next.terms if len(p) == 2)
        row = rest[pair].bias if pair in rest else row
        for product, form in c_next.terms.items():
            left = rest.pop(product, None) if product else None
            if product and (left is None or not _equal(left, form.scaled(row), {})):
                return None
    form = rest.pop((), constant(np.zeros(width)))
    if rest or form.reach(c) > width:
        return None
    block = form.dense(c, width)
    if np.any(block) and (c_next is not None or np.any(block - np.diag(np.diag(block)))):
        return None
    return form.without([c]), row + np.diag(block)


# -- equality ------------------------------------------------------------------------------------------------------
def same(a: Sum, b: Sum, names: dict[Hashable, Hashable]) -> bool:
    """Return whether two sums are equal to rounding, ``names`` saying which source of b a source of a stands for."""
    if a is b:
        return True
    if a.width != b.width or len(a.terms) != len(b.terms):
        return False
    left = list(b.terms)
    for product, form in a.terms.items():
        match = next((q for q in left if _same_products(product, q, names) and _equal(form, b.terms[q], names)), None)
        if match is None:
            return False
        left.remove(match)
    return True


def _same_products(a: Sequence[Atom], b: Sequence[Atom], names: dict[Hashable, Hashable]) -> bool:
    def paired(p: Sequence[Atom]) -> bool:
        return all(x is y or (_kind(x) == _kind(y) and same(x.of, y.of, names)) for x, y in zip(a, p, strict=True))

    return len(a) == len(b) and any(paired(p) for p in permutations(b))


def _equal(a: Form, b: Form, names: dict[Hashable, Hashable]) -> bool:
    theirs = list(b.sources())
    pairs = []
    for source in a.sources():
        other = next((t for t in theirs if _same_source(source, t, names)), None)
        if other is None:
            return False
        theirs.remove(other)
        pairs.append((source, other))
    if theirs or a.width != b.width or not np.allclose(a.bias, b.bias, rtol=1e-5, atol=1e-6):
        return False
    return all(_close(a, b, source, other) for source, other in pairs)


def _same_source(a: Hashable, b: Hashable, names: dict[Hashable, Hashable]) -> bool:
    if isinstance(a, Sum) and isinstance(b, Sum):
        return same(a, b, names)
    return names.get(a, a) is b


def _close(a: Form, b: Form, source: Hashable, other: Hashable) -> bool:
    size = max(a.reach(source), b.reach(other))
    left, right = a.dense(source, size), b.dense(other, size)
    return bool(np.allclose(left, right, rtol=1e-5, atol=1e-6 * np.abs(left).max(initial=0.0)))
