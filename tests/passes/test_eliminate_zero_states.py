import numpy as np
import pytest

from fcc.passes.eliminate_zero_states import EliminateZeroStates
from fcc.testing import check

LSTM = (
    "g (float[5,B,3] x{more}) => (float[5,1,B,4] y) <float[1,16,3] w, float[1,16,4] r, float[1,32] b, "
    "int64[3] k = {{1,2,4}}, float[1,2,4] z> {{ {body} }}"
)


def test_constant_zero_states_go() -> None:
    check(
        EliminateZeroStates(),
        LSTM.format(more="", body="y = LSTM<hidden_size=4>(x, w, r, b, , z, z)"),
        LSTM.format(more="", body="y = LSTM<hidden_size=4>(x, w, r, b)"),
        constants={"z": 0.0},
        sizes={"B": 2},
    )


def test_zeros_of_a_computed_shape_go_with_what_made_them() -> None:
    check(
        EliminateZeroStates(),
        LSTM.format(more="", body="c = ConstantOfShape(k) q = Identity(c) y = LSTM<hidden_size=4>(x, w, r, b, , q)"),
        LSTM.format(more="", body="y = LSTM<hidden_size=4>(x, w, r, b)"),
        sizes={"B": 2},
    )


def test_one_zero_state_of_two() -> None:
    check(
        EliminateZeroStates(),
        LSTM.format(more=", float[1,B,4] h", body="y = LSTM<hidden_size=4>(x, w, r, b, , h, z)"),
        LSTM.format(more=", float[1,B,4] h", body="y = LSTM<hidden_size=4>(x, w, r, b, , h)"),
        constants={"z": 0.0},
        sizes={"B": 2},
    )


@pytest.mark.parametrize("op", ["GRU", "RNN"])
def test_other_recurrent_layers(op: str) -> None:
    n = {"GRU": 12, "RNN": 4}[op]
    text = f"""g (float[5,2,3] x) => (float[5,1,2,4] y) <float[1,{n},3] w, float[1,{n},4] r, float[1,2,4] z>
    {{ y = {op}<hidden_size=4>(x, w, r, , {{tail}}) }}"""
    check(
        EliminateZeroStates(),
        text.replace("{tail}", ", z"),
        text.replace(", , {tail}", ""),
        constants={"z": np.zeros(1)},
    )


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ("y = LSTM<hidden_size=4>(x, w, r, b, , h, h)", ", float[1,B,4] h"),
        ("y = LSTM<hidden_size=4>(x, w, r, b, , z, z)", ""),
        ("y = LSTM<hidden_size=4>(x, w, r, b, , z, z)", ", float[1,2,4] z = {0,0,0,0,0,0,0,0}"),
        ("c = ConstantOfShape<value = float[1] {1.0}>(k) y = LSTM<hidden_size=4>(x, w, r, b, , c)", ""),
        ("c = ConstantOfShape(k) q = Exp(c) y = LSTM<hidden_size=4>(x, w, r, b, , q)", ""),
    ],
    ids=["given", "constant", "overridable", "ones", "computed"],
)
def test_other_states_stay(body: str, more: str) -> None:
    text = LSTM.format(more=more, body=body)
    if " z = " in more:
        text = text.replace(", float[1,2,4] z>", ">")
    check(EliminateZeroStates(), text, None, because="known to be zero")


def test_layers_without_states_are_no_sites() -> None:
    check(EliminateZeroStates(), LSTM.format(more="", body="y = LSTM<hidden_size=4>(x, w, r, b)"), None)


@pytest.mark.parametrize(
    "body",
    [
        "q = Identity(z) y = LSTM<hidden_size=4>(x, w, r, b, , q)",
        "s = Identity(h) q = Reshape(s, k2) y = LSTM<hidden_size=4>(x, w, r, b, , q)",
        "q = Neg(h) y = LSTM<hidden_size=4>(x, w, r, b, , q)",
    ],
)
def test_what_is_moved_and_not_zero_stays(body: str) -> None:
    text = LSTM.format(more=", float[1,2,4] h", body=body).replace("float[1,2,4] z", "float[1,2,4] z, int64[3] k2")
    check(EliminateZeroStates(), text, None, constants={"z": [[[0, 0, 0, 0], [0, 0, 1, 0]]], "k2": [1, 2, 4]})


@pytest.mark.parametrize(
    "moves",
    [
        "t = Transpose<perm=[0,2,1]>(c)",
        "u = Unsqueeze(c, i0) s = Squeeze(u, i0) v = Reshape(s, k) t = Identity(v)",
        "a = Slice(c, i0, i1, i0) t = Expand(a, k)",
        "a = Gather<axis=0>(c, i0) f = Flatten<axis=2>(a) u = Unsqueeze(f, i0) d = Cast<to=11>(u) t = Cast<to=1>(d)",
        "t = Tile(c, ones)",
    ],
)
def test_zeros_that_are_moved_go_with_what_moves_them(moves: str) -> None:
    shape = "{1,4,2}" if "Transpose" in moves else "{1,2,4}"
    more = "int64[1] i0 = {0}, int64[1] i1 = {1}, int64[3] ones = {1,1,1}, int64[3] m = " + shape
    text = LSTM.format(more="", body=f"c = ConstantOfShape(m) {moves} y = LSTM<hidden_size=4>(x, w, r, b, , t)")
    check(
        EliminateZeroStates(),
        text.replace("float[1,2,4] z>", f"{more}>"),
        LSTM.format(more="", body="y = LSTM<hidden_size=4>(x, w, r, b)"),
        sizes={"B": 2},
    )
