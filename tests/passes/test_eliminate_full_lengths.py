"""eliminate-full-lengths: lengths that say what an absent operand means."""

import pytest

from fcc.passes.eliminate_full_lengths import EliminateFullLengths
from fcc.testing import check

TEXT = """g (float[{t},B,3] x) => (float[{t},1,B,4] y) <float[1,16,3] w, float[1,16,4] r, float[1,32] b,
    int64 zero = {{0}}, int64 one = {{1}}, int64[1] none = {{0}}{more}> {{ {body} }}"""
PLAIN = "y = LSTM<hidden_size = 4>(x, w, r, b)"


def text(body: str, t: object = 5, more: str = "") -> str:
    return TEXT.format(body=body, t=t, more=more)


def test_constant_lengths() -> None:
    check(
        EliminateFullLengths(),
        text("y = LSTM<hidden_size = 4>(x, w, r, b, n)", more=", int32[2] n = {5, 5}"),
        text(PLAIN),
        sizes={"B": 2},
        tolerance=0,
    )


FILLED = "s = Shape(x) t = Gather(s, zero) u = Gather(s, one) v = Unsqueeze(u, none)"


@pytest.mark.parametrize(
    "fill",
    [
        "c = Cast<to = 6>(t) n = Expand(c, v)",
        "f = Expand(t, v) n = Cast<to = 6>(f)",
        "f = Cast<to = 6>(t) q = Expand(f, v) p = Cast<to = 7>(q) n = Cast<to = 6>(p)",
        "q = Unsqueeze(t, none) p = Tile(q, v) n = Cast<to = 6>(p)",
        "q = Expand(t, v) p = Reshape(q, v) n = Cast<to = 6>(p)",
        "q = Expand(t, v) p = Unsqueeze(q, none) o = Squeeze(p, none) i = Identity(o) n = Cast<to = 6>(i)",
    ],
)
def test_a_symbol_repeated_for_every_row(fill: str) -> None:
    check(
        EliminateFullLengths(),
        text(f"{FILLED} {fill} y = LSTM<hidden_size = 4>(x, w, r, b, n)", t="T"),
        text(f"s = Shape(x) u = Gather(s, one) v = Unsqueeze(u, none) {PLAIN}", t="T"),
        sizes={"B": 2, "T": 4},
        tolerance=0,
    )


def test_a_filled_tensor() -> None:
    fill = "s = Shape(x) u = Gather(s, one) v = Unsqueeze(u, none) n = ConstantOfShape<value = int32[1] {5}>(v)"
    check(
        EliminateFullLengths(),
        text(f"{fill} y = LSTM<hidden_size = 4>(x, w, r, b, n)"),
        text(PLAIN),
        sizes={"B": 2},
        tolerance=0,
    )


@pytest.mark.parametrize(
    ("body", "more"),
    [
        ("y = LSTM<hidden_size = 4>(x, w, r, b, n)", ", int32[2] n = {5, 4}"),
        ("y = LSTM<hidden_size = 4>(x, w, r, b, n)", ", int32[2] n = {4, 4}"),
        (f"{FILLED} c = Cast<to = 6>(u) n = Expand(c, v) y = LSTM<hidden_size = 4>(x, w, r, b, n)", ""),
        (f"{FILLED} c = Cast<to = 6>(t) m = Expand(c, v) n = Neg(m) y = LSTM<hidden_size = 4>(x, w, r, b, n)", ""),
        (f"{FILLED} n = ConstantOfShape<value = int32[1] {{4}}>(v) y = LSTM<hidden_size = 4>(x, w, r, b, n)", ""),
        ("f = ReduceMax<keepdims = 0>(x) c = Cast<to = 6>(f) s = Shape(x) u = Gather(s, one) v = Unsqueeze(u, none)"
         " n = Expand(c, v) y = LSTM<hidden_size = 4>(x, w, r, b, n)", ""),
        (f"{FILLED} f = ConstantOfShape<value = float[1] {{5.5}}>(v) n = Cast<to = 6>(f) y = LSTM<hidden_size = 4>(x, w, r, b, n)", ""),
        (f"{FILLED} c = Cast<to = 1>(t) f = Expand(c, v) n = Cast<to = 6>(f) y = LSTM<hidden_size = 4>(x, w, r, b, n)", ""),
    ],
)  # fmt: skip
def test_stays(body: str, more: str) -> None:
    check(EliminateFullLengths(), text(body, more=more), None, because="not known to be that of the sequence")


def test_lengths_that_a_caller_gives() -> None:
    before = text("y = LSTM<hidden_size = 4>(x, w, r, b, n)").replace("x) =>", "x, int32[B] n) =>")
    check(EliminateFullLengths(), before, None, because="not known")


def test_a_sequence_of_unknown_shape() -> None:
    before = text("u = Reshape(x, q) y = LSTM<hidden_size = 4>(u, w, r, b, n)").replace(
        "x) =>", "x, int64[K] q, int32[B] n) =>"
    )
    check(EliminateFullLengths(), before.replace("float[5,1,B,4] y", "float[D,E,F,G] y"), None, because="not known")


def by_rows(operands: str, more: str = "") -> str:
    before = text(f"y = LSTM<hidden_size = 4, layout = 1>({operands})", more=more)
    return before.replace("float[5,B,3] x", "float[3,5,3] x").replace("float[5,1,B,4] y", "float[3,5,1,4] y")


def test_layers_by_rows_have_their_steps_behind() -> None:
    before = by_rows("x, w, r, b, n", ", int32[3] n = {5, 5, 5}")
    check(EliminateFullLengths(), before, by_rows("x, w, r, b"), tolerance=0)
    check(EliminateFullLengths(), before.replace("{5, 5, 5}", "{3, 3, 3}"), None, because="not known")


def test_other_operators_have_other_operands() -> None:
    check(
        EliminateFullLengths(),
        text("y = Max(x, x, x, x, five)", more=", float five = {5.0}").replace("float[5,1,B,4] y", "float[5,B,3] y"),
        None,
    )
