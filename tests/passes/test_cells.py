"""Which sums are the next states of a cell, and which are near misses."""

from collections.abc import Callable

import numpy as np
import pytest

from fcc.passes._cells import Cell, cells
from fcc.passes._terms import Algebra, Sum

N = 4


class Writer:
    """Sums of a cell with states h and c and input x, each gate with a matrix of its own."""

    def __init__(self) -> None:
        self.algebra = Algebra()
        self.rng = np.random.default_rng(0)
        self.h, self.c, self.x = (self.algebra.rows(k, n) for k, n in (("h", N), ("c", N), ("x", 3)))
        self.one = self.number(1.0)

    def number(self, value: float) -> Sum:
        return self.algebra.linear_row(np.full(N, value))

    def row(self) -> Sum:
        return self.algebra.linear_row(self.rng.standard_normal(N))

    def times(self, *factors: Sum) -> Sum:
        total = factors[0]
        for factor in factors[1:]:
            product = self.algebra.times(total, factor)
            assert product is not None
            total = product
        return total

    def plus(self, *terms: Sum) -> Sum:
        total = terms[0]
        for term in terms[1:]:
            more = self.algebra.plus(total, term)
            assert more is not None
            total = more
        return total

    def product(self, value: Sum) -> Sum:
        return self.algebra.multiplied(value, self.rng.standard_normal((value.width, N)))

    def sums(self, *more: Sum) -> Sum:
        return self.plus(self.product(self.x), self.product(self.h), self.row(), *more)

    def gate(self, *more: Sum, kind: str = "Sigmoid", parameters: tuple[float, ...] = ()) -> Sum:
        return self.algebra.activation(kind, self.sums(*more), parameters)

    def minus(self, value: Sum) -> Sum:
        return self.times(value, self.number(-1.0))


def gru(w: Writer, z: Sum, n: Sum) -> Sum:
    return w.plus(w.times(w.plus(w.one, w.minus(z)), n), w.times(z, w.h))


def candidate(w: Writer, r: Sum, kind: str = "Tanh") -> Sum:
    inner = w.plus(w.product(w.x), w.times(r, w.plus(w.product(w.h), w.row())), w.row())
    return w.algebra.activation(kind, inner)


def found(h: Sum, c: Sum | None = None) -> list[Cell]:
    return list(cells("h", h, "c", c))


def test_a_gru_in_either_reading() -> None:
    w = Writer()
    (cell,) = found(gru(w, w.gate(), candidate(w, w.gate())))
    assert cell.kind == "GRU"
    assert cell.gated is not None
    assert cell.reset is None
    assert [m.shape for m in cell.recurrent()] == [(N, N)] * 3
    assert cell.inputs() == ["x"]
    z, n = w.gate(), candidate(w, w.gate())
    turned = w.plus(w.times(z, n), w.times(w.plus(w.one, w.minus(z)), w.h))
    (cell,) = found(turned)
    (inner,) = z.terms
    linear = inner[0].of.linear
    assert linear is not None
    assert np.allclose(cell.gates[0].dense("h", N), -linear.dense("h", N))
    assert np.allclose(cell.gates[0].bias, -linear.bias)


def test_a_turned_hard_sigmoid_is_shifted() -> None:
    w = Writer()
    z, n = (
        w.gate(kind="HardSigmoid", parameters=(1.0, 0.0)),
        candidate(w, w.gate(kind="HardSigmoid", parameters=(1.0, 0.0))),
    )
    (cell,) = found(w.plus(w.times(z, n), w.times(w.plus(w.one, w.minus(z)), w.h)))
    (inner,) = z.terms
    linear = inner[0].of.linear
    assert linear is not None
    assert np.allclose(cell.gates[0].bias, 1 - linear.bias)


def test_a_gru_with_the_reset_in_front() -> None:
    w = Writer()
    inner = w.plus(w.product(w.x), w.product(w.times(w.gate(), w.h)), w.row())
    (cell,) = found(gru(w, w.gate(), w.algebra.activation("Tanh", inner)))
    assert cell.gated is None
    assert cell.reset is not None
    assert cell.inputs() == ["x"]
    assert [m.shape for m in cell.recurrent()] == [(N, N)] * 3
    assert np.abs(cell.recurrent()[2]).max() > 0


NO_GRU: dict[str, Callable[[Writer], Sum]] = {
    "two reset gates": lambda w: gru(w, w.gate(), candidate(w, w.times(w.gate(), w.gate()))),
    "two reset terms": lambda w: gru(
        w, w.gate(), w.algebra.activation("Tanh", w.plus(w.times(w.gate(), w.product(w.h)), w.times(w.gate(), w.product(w.h))))
    ),
    "a reset gate of another kind": lambda w: gru(w, w.gate(), candidate(w, w.gate(kind="Relu"))),
    "a reset of inputs too": lambda w: gru(w, w.gate(), w.algebra.activation("Tanh", w.times(w.gate(), w.sums()))),
    "a state beside the reset one": lambda w: gru(
        w, w.gate(), w.algebra.activation("Tanh", w.plus(w.product(w.h), w.times(w.gate(), w.product(w.h))))
    ),
    "a reset gate made of a gate": lambda w: gru(w, w.gate(), candidate(w, w.gate(w.gate()))),
    "an update gate made of a gate": lambda w: gru(w, w.gate(w.gate()), candidate(w, w.gate())),
    "a candidate of the state": lambda w: gru(w, w.gate(), w.gate(kind="Tanh")),
    "a candidate without the state": lambda w: gru(w, w.gate(), w.algebra.activation("Tanh", w.product(w.x))),
    "a reset in front of a sum": lambda w: gru(
        w, w.gate(), w.algebra.activation("Tanh", w.plus(w.product(w.x), w.product(w.plus(w.times(w.gate(), w.h), w.h))))
    ),
    "a reset in front of another kind": lambda w: gru(
        w, w.gate(), w.algebra.activation("Tanh", w.plus(w.product(w.x), w.product(w.times(w.gate(kind="Relu"), w.h))))
    ),
    "a reset in front, twice": lambda w: gru(
        w, w.gate(), w.algebra.activation("Tanh", w.plus(w.product(w.times(w.gate(), w.h)), w.product(w.times(w.gate(), w.h))))
    ),
    "a reset in front beside the state": lambda w: gru(
        w, w.gate(), w.algebra.activation("Tanh", w.plus(w.product(w.h), w.product(w.times(w.gate(), w.h))))
    ),
    "a reset of a scaled state in front": lambda w: gru(
        w, w.gate(), w.algebra.activation("Tanh", w.plus(w.product(w.x), w.product(w.times(w.gate(), w.h, w.number(2.0)))))
    ),
    "weights that do not add up to one": lambda w: w.plus(w.times(z := w.gate(), w.h), candidate(w, w.gate()), w.minus(w.times(z, candidate(w, w.gate())))),
    "a scaled candidate": lambda w: w.plus(
        w.times(z := w.gate(), w.h), w.times(n := candidate(w, w.gate()), w.number(2.0)), w.minus(w.times(z, n))
    ),
    "a scaled state": lambda w: w.plus(
        w.times(z := w.gate(), w.h, w.number(2.0)), n := candidate(w, w.gate()), w.minus(w.times(z, n))
    ),
    "a product with the other sign": lambda w: w.plus(
        w.times(z := w.gate(), w.h), n := candidate(w, w.gate()), w.times(z, n)
    ),
    "another state": lambda w: w.plus(
        w.times(z := w.gate(), w.c), n := candidate(w, w.gate()), w.minus(w.times(z, n))
    ),
    "a shifted state": lambda w: w.plus(gru(w, w.gate(), candidate(w, w.gate())), w.row()),
    "a turned gate without a complement": lambda w: w.plus(
        w.times(z := w.gate(kind="Tanh"), candidate(w, w.gate(kind="Tanh"))), w.h, w.minus(w.times(z, w.h))
    ),
    "a turned state of the other sign": lambda w: w.plus(
        w.times(z := w.gate(), candidate(w, w.gate())), w.h, w.times(z, w.h)
    ),
    "three terms without a product": lambda w: w.plus(w.gate(), candidate(w, w.gate()), w.h),
    "three factors": lambda w: w.times(w.gate(), w.gate(), w.gate()),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_GRU)
def test_no_gru(case: str) -> None:
    assert found(NO_GRU[case](Writer())) == []


def test_an_rnn() -> None:
    w = Writer()
    (cell,) = found(w.gate(kind="Tanh"))
    assert (cell.kind, cell.activations) == ("RNN", (("Tanh", ()),))
    for other in (
        w.algebra.activation("Tanh", w.product(w.x)),
        w.times(w.gate(kind="Tanh"), w.number(2.0)),
        w.plus(w.gate(kind="Tanh"), w.row()),
        w.gate(w.gate()),
        w.times(w.gate(), w.h),
        w.number(0.0),
    ):
        assert found(other) == []


def lstm(w: Writer, i: Sum, f: Sum, g: Sum, o: Sum, kind: str = "Tanh") -> tuple[Sum, Sum]:
    c = w.plus(w.times(f, w.c), w.times(i, g))
    return w.times(o, w.algebra.activation(kind, c)), c


def peep(w: Writer, value: Sum) -> Sum:
    return w.times(value, w.row())


def test_lstms() -> None:
    w = Writer()
    (cell,) = found(*lstm(w, w.gate(), w.gate(), w.gate(kind="Tanh"), w.gate()))
    assert (cell.kind, cell.peepholes, cell.coupled) == ("LSTM", None, False)
    i = w.gate()
    (cell,) = found(*lstm(w, i, w.plus(w.one, w.minus(i)), w.gate(kind="Tanh"), w.gate()))
    assert cell.coupled
    (cell,) = found(*lstm(w, w.gate(peep(w, w.c)), w.gate(), w.gate(kind="Tanh"), w.gate()))
    assert cell.peepholes is not None
    assert [bool(np.any(p)) for p in cell.peepholes] == [True, False, False]
    (cell,) = found(*lstm(w, w.gate(), w.gate(peep(w, w.c)), w.gate(kind="Tanh"), w.gate()))
    assert cell.peepholes is not None
    assert [bool(np.any(p)) for p in cell.peepholes] == [False, False, True]


def test_an_lstm_whose_output_gate_sees_the_new_state() -> None:
    w = Writer()
    i, f, g = w.gate(), w.gate(), w.gate(kind="Tanh")
    c = w.plus(w.times(f, w.c), w.times(i, g))
    row = w.row()
    o = w.gate(w.times(c, row))
    (cell,) = found(w.times(o, w.algebra.activation("Tanh", c)), c)
    assert cell.peepholes is not None
    assert np.allclose(cell.peepholes[1], row.terms[()].bias)
    assert not np.any(cell.peepholes[0])


def test_gates_that_are_all_of_one_kind_may_change_places() -> None:
    w = Writer()
    kinds = {c.kind for c in found(*lstm(w, w.gate(), w.gate(), w.gate(), w.gate(), kind="Sigmoid"))}
    assert kinds == {"LSTM"}


def seeing(w: Writer, seen: Callable[[Sum, Sum, Sum], Sum]) -> tuple[Sum, Sum]:
    """An LSTM whose output gate sees what ``seen`` makes of the cell state, what it keeps, and what it takes in."""
    kept, taken = w.times(w.gate(), w.c), w.times(w.gate(), w.gate(kind="Tanh"))
    c = w.plus(kept, taken)
    return w.times(w.gate(seen(c, kept, taken)), w.algebra.activation("Tanh", c)), c


NO_LSTM: dict[str, Callable[[Writer], tuple[Sum, Sum]]] = {
    "scaled states": lambda w: (w.times((s := lstm(w, w.gate(), w.gate(), w.gate(kind="Tanh"), w.gate()))[0], w.number(0.5)), s[1]),
    "another state's activation": lambda w: (
        w.times(w.gate(), w.algebra.activation("Tanh", w.c)), lstm(w, w.gate(), w.gate(), w.gate(), w.gate())[1]),
    "gates of two kinds": lambda w: lstm(w, w.gate(kind="Relu"), w.gate(), w.gate(kind="Tanh"), w.gate()),
    "an output gate of another kind": lambda w: lstm(w, w.gate(), w.gate(), w.gate(kind="Tanh"), w.gate(kind="Relu")),
    "a candidate that sees the cell state": lambda w: lstm(w, w.gate(), w.gate(), w.gate(peep(w, w.c), kind="Tanh"), w.gate()),
    "a candidate made of a gate": lambda w: lstm(w, w.gate(), w.gate(), w.gate(w.gate(), kind="Tanh"), w.gate()),
    "a gate made of a gate": lambda w: lstm(w, w.gate(w.gate()), w.gate(), w.gate(kind="Tanh"), w.gate()),
    "an output gate made of a gate": lambda w: lstm(w, w.gate(), w.gate(), w.gate(kind="Tanh"), w.gate(w.gate())),
    "a full peephole": lambda w: lstm(w, w.gate(w.product(w.c)), w.gate(), w.gate(kind="Tanh"), w.gate()),
    "an output gate that sees the old state": lambda w: lstm(w, w.gate(), w.gate(), w.gate(kind="Tanh"), w.gate(peep(w, w.c))),
    "a scaled cell state": lambda w: lstm(w, w.gate(), w.times(w.gate(), w.number(2.0)), w.gate(kind="Tanh"), w.gate()),
    "a scaled input": lambda w: lstm(w, w.times(w.gate(), w.number(2.0)), w.gate(), w.gate(kind="Tanh"), w.gate()),
    "two forget gates": lambda w: lstm(w, w.gate(), w.times(w.gate(), w.gate()), w.gate(kind="Tanh"), w.gate()),
    "a cell state that is kept": lambda w: lstm(w, w.gate(), w.one, w.gate(kind="Tanh"), w.gate()),
    "no forget gate": lambda w: lstm(w, w.gate(), w.number(0.0), w.gate(kind="Tanh"), w.gate()),
    "more in the cell state": lambda w: lstm(w, w.gate(), w.plus(w.gate(), w.gate()), w.gate(kind="Tanh"), w.gate()),
    "a coupled gate with a peephole": lambda w: lstm(
        w, i := w.gate(peep(w, w.c)), w.plus(w.one, w.minus(i)), w.gate(kind="Tanh"), w.gate()),
    "another gate that is left": lambda w: lstm(
        w, w.gate(), w.plus(w.one, w.minus(w.gate())), w.gate(kind="Tanh"), w.gate()),
    "no input gate": lambda w: lstm(w, w.one, w.gate(), w.gate(kind="Tanh"), w.gate()),
    "an output gate that sees what is kept": lambda w: seeing(w, lambda c, kept, taken: peep(w, kept)),
    "an output gate that sees what is taken in": lambda w: seeing(w, lambda c, kept, taken: peep(w, taken)),
    "an output gate that sees more of what is kept": lambda w: seeing(w, lambda c, kept, taken: w.plus(peep(w, c), peep(w, kept))),
    "an output gate that sees another product": lambda w: seeing(
        w, lambda c, kept, taken: w.plus(peep(w, c), w.times(w.gate(), w.gate()))),
    "more beside the states": lambda w: (
        w.plus((s := lstm(w, w.gate(), w.gate(), w.gate(kind="Tanh"), w.gate()))[0], w.row()), s[1]),
}  # fmt: skip


@pytest.mark.parametrize("case", NO_LSTM)
def test_no_lstm(case: str) -> None:
    assert found(*NO_LSTM[case](Writer())) == []


def test_states_of_another_width_are_not_taken() -> None:
    w = Writer()
    wide = w.algebra.rows("h", 2 * N)
    z, n = w.gate(), candidate(w, w.gate())
    for part in (w.algebra.columns(wide, 0, N), w.algebra.columns(wide, N, 2 * N)):
        found_cells = found(w.plus(w.times(w.plus(w.one, w.minus(z)), n), w.times(z, part)))
        assert all(c.hidden == N for c in found_cells)
    assert found(w.plus(w.times(w.plus(w.one, w.minus(z)), n), w.times(z, w.algebra.columns(wide, N, 2 * N)))) == []
