"""merge-bidirectional: the two directions of a recurrent layer in one node."""

from collections.abc import Callable
from typing import Any

import pytest

from fcc import ir
from fcc.passes.merge_bidirectional import MergeBidirectional
from fcc.testing import check

Executed = Callable[..., ir.Module]
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
TEXT = """g (float[5,B,3] x{inputs}) => ({outputs})
    <float[1,{g},3] w, float[1,{g},4] r, float[1,{b}] b, float[1,{g},3] v, float[1,{g},4] s, float[1,{b}] c,
     float[1,12] p, float[1,12] q, int64[1] one = {{1}}, int64[1] zero = {{0}}, int64[3] flat = {{0, 0, -1}}{more}> {{ {body} }}"""


def text(body: str, kind: str = "LSTM", outputs: str = "float[5,B,8] y", inputs: str = "", more: str = "") -> str:
    size = 4 * GATES[kind]
    return TEXT.format(body=body.replace("KIND", kind), g=size, b=2 * size, outputs=outputs, inputs=inputs, more=more)


TWO = """f = KIND<hidden_size = 4>(x, w, r, b) k = KIND<hidden_size = 4, direction = "reverse">(x, v, s, c)
    f1 = Squeeze(f, one) k1 = Squeeze(k, one) y = Concat<axis = 2>(f1, k1)"""
ONE = """f = KIND<hidden_size = 4, direction = "bidirectional">(x, w, r, b) t = Transpose<perm = [0, 2, 1, 3]>(f)
    y = Reshape(t, flat)"""


@pytest.mark.parametrize("kind", GATES)
@pytest.mark.parametrize("axis", [2, -1])
def test_joined_hidden_states(kind: str, axis: int, executed: Executed) -> None:
    executed(MergeBidirectional(), text(TWO.replace("axis = 2", f"axis = {axis}"), kind), text(ONE, kind), tolerance=0)


def test_the_backward_layer_may_come_first(executed: Executed) -> None:
    body = """k = LSTM<hidden_size = 4, direction = "reverse">(x, v, s, c) k1 = Squeeze(k, one)
        f = LSTM<hidden_size = 4>(x, w, r, b) f1 = Squeeze(f, one) y = Concat<axis = 2>(f1, k1)"""
    executed(MergeBidirectional(), text(body), text(ONE), tolerance=0)


def test_hidden_states_joined_with_their_axis(executed: Executed) -> None:
    body = TWO.replace(
        "f1 = Squeeze(f, one) k1 = Squeeze(k, one) y = Concat<axis = 2>(f1, k1)", "y = Concat<axis = 3>(f, k)"
    )
    outputs = "float[5,1,B,8] y"
    after = ONE.replace("Reshape(t, flat)", "Reshape(t, other)")
    executed(MergeBidirectional(), text(body, outputs=outputs), text(after, outputs=outputs), tolerance=0)
    check(
        MergeBidirectional(),
        text(body.replace("axis = 3", "axis = 1"), outputs="float[5,2,B,4] y"),
        None,
        because="other than joined",
    )


def test_joined_final_states(executed: Executed) -> None:
    body = """, fh, fc = LSTM<hidden_size = 4>(x, w, r, b) , kh, kc = LSTM<hidden_size = 4, direction = "reverse">(x, v, s, c)
        y = Concat<axis = 0>(fh, kh) z = Concat<axis = -3>(fc, kc)"""
    outputs = "float[2,B,4] y, float[2,B,4] z"
    after = 'u, y, z = LSTM<hidden_size = 4, direction = "bidirectional">(x, w, r, b)'
    executed(MergeBidirectional(), text(body, outputs=outputs), text(after, outputs=outputs), tolerance=0)


def test_final_states_that_are_used_apart(executed: Executed) -> None:
    """The join puts them in the other order."""
    body = """f, fh = GRU<hidden_size = 4>(x, w, r, b) k, kh = GRU<hidden_size = 4, direction = "reverse">(x, v, s, c)
        f1 = Squeeze(f, one) k1 = Squeeze(k, one) y = Concat<axis = 2>(f1, k1) z = Concat<axis = 0>(kh, fh)"""
    outputs = "float[5,B,8] y, float[2,B,4] z"
    after = """f, h = GRU<hidden_size = 4, direction = "bidirectional">(x, w, r, b) t = Transpose<perm = [0, 2, 1, 3]>(f)
        y = Reshape(t, flat) fh, kh = Split<axis = 0>(h, half) z = Concat<axis = 0>(kh, fh)"""
    executed(MergeBidirectional(), text(body, "GRU", outputs=outputs), text(after, "GRU", outputs=outputs), tolerance=0)


def test_final_states_that_are_joined_and_used_apart(executed: Executed) -> None:
    body = """, fh = GRU<hidden_size = 4>(x, w, r, b) , kh = GRU<hidden_size = 4, direction = "reverse">(x, v, s, c)
        y = Concat<axis = 0>(fh, kh) z = Neg(kh)"""
    outputs = "float[2,B,4] y, float[1,B,4] z"
    after = """u, h = GRU<hidden_size = 4, direction = "bidirectional">(x, w, r, b)
        fh, kh = Split<axis = 0>(h, half) y = Concat<axis = 0>(fh, kh) z = Neg(kh)"""
    executed(MergeBidirectional(), text(body, "GRU", outputs=outputs), text(after, "GRU", outputs=outputs), tolerance=0)


def test_one_final_state(executed: Executed) -> None:
    body = """f, fh = GRU<hidden_size = 4>(x, w, r, b) k = GRU<hidden_size = 4, direction = "reverse">(x, v, s, c)
        f1 = Squeeze(f, one) k1 = Squeeze(k, one) y = Concat<axis = 2>(f1, k1) z = Neg(fh)"""
    outputs = "float[5,B,8] y, float[1,B,4] z"
    module = executed(MergeBidirectional(), text(body, "GRU", outputs=outputs), tolerance=0)
    assert [n.op_type for n in module.graph] == ["GRU", "Transpose", "Reshape", "Split", "Neg"]


def test_initial_states_lengths_and_peepholes_are_joined(executed: Executed) -> None:
    body = """f = LSTM<hidden_size = 4>(x, w, r, b, n, h, m, p)
        k = LSTM<hidden_size = 4, direction = "reverse">(x, v, s, c, n, i, j, q)
        f1 = Squeeze(f, one) k1 = Squeeze(k, one) y = Concat<axis = 2>(f1, k1)"""
    inputs = ", int32[B] n, float[1,B,4] h, float[1,B,4] m, float[1,B,4] i, float[1,B,4] j"
    after = """hi = Concat<axis = 0>(h, i) mj = Concat<axis = 0>(m, j)
        f = LSTM<hidden_size = 4, direction = "bidirectional">(x, w, r, b, n, hi, mj, p)
        t = Transpose<perm = [0, 2, 1, 3]>(f) y = Reshape(t, flat)"""
    executed(MergeBidirectional(), text(body, inputs=inputs), text(after, inputs=inputs), tolerance=0)


def test_attributes_are_given_for_both_directions(executed: Executed) -> None:
    given = 'hidden_size = 4, activations = ["LeakyRelu"], activation_alpha = [0.25]'
    module = executed(MergeBidirectional(), text(TWO.replace("hidden_size = 4", given), "RNN"), tolerance=0)
    node = next(iter(module.graph))
    assert node.attributes["activations"].value == ("LeakyRelu", "LeakyRelu")
    assert node.attributes["activation_alpha"].value == (0.25, 0.25)


CASES: dict[str, tuple[dict[str, Any], str]] = {
    "other attributes": ({"body": TWO.replace('4, direction', '4, clip = 3.0, direction')}, "other attributes"),
    "other lengths": ({"body": TWO.replace("v, s, c", "v, s, c, n"), "inputs": ", int32[B] n"}, "other attributes"),
    "a state on one side": (
        {"body": TWO.replace("v, s, c", "v, s, c, , h"), "inputs": ", float[1,B,4] h"}, "only one of the layers"),
    "no bias on one side": ({"body": TWO.replace("v, s, c", "v, s")}, "only one of the layers"),
    "shared weights": ({"body": TWO.replace("v, s, c", "w, r, b")}, "have other users"),
    "weights that are computed": (
        {"body": "u = Neg(v) " + TWO.replace("v, s, c", "u, s, c")}, "not constant"),
    "weights that a caller may override": ({"body": TWO, "inputs": ", float[1,16,3] v"}, "not constant"),
    "weights of another number of inputs": (
        {"body": TWO.replace("v, s, c", "i, s, c"), "more": ", float[1,16,2] i"}, "other shapes"),
    "weights of another rank": ({"body": TWO.replace("v, s, c", "i, s, c"), "more": ", float[16,3] i"}, "other shapes"),
    "hidden states in the other order": ({"body": TWO.replace("(f1, k1)", "(k1, f1)")}, "other than joined"),
    "hidden states that are added": (
        {"body": TWO.replace("Concat<axis = 2>", "Add"), "outputs": "float[5,B,4] y"}, "other than joined"),
    "hidden states along another axis": (
        {"body": TWO.replace("axis = 2", "axis = 1"), "outputs": "float[5,C,4] y"}, "other than joined"),
    "hidden states joined with more": (
        {"body": TWO.replace("(f1, k1)", "(f1, k1, f1)"), "outputs": "float[5,B,12] y"}, "other than joined"),
    "hidden states that are used too": (
        {"body": TWO + " z = Neg(f)", "outputs": "float[5,B,8] y, float[5,1,B,4] z"}, "other than joined"),
    "hidden states of one": (
        {"body": TWO.replace("y = Concat<axis = 2>(f1, k1)", "y = Neg(f1)"), "outputs": "float[5,B,4] y"}, "other than joined"),
    "hidden states joined in a branch": (
        {"body": TWO.replace("y = Concat", "y = If<then_branch = g1 () => (float[5,B,8] p1) {p1 = Concat").replace(
            "(f1, k1)", "(f1, k1)}, else_branch = g2 () => (float[5,B,8] p2) {p2 = Concat<axis = 2>(x, x, i)}>(a)"),
         "inputs": ", bool a, float[5,B,2] i"}, "other than joined"),
    "a state that needs the other layer": (
        {"body": """f, fh = KIND<hidden_size = 4>(x, w, r, b, , h) k = KIND<hidden_size = 4, direction = "reverse">(x, v, s, c, , fh)
            f1 = Squeeze(f, one) k1 = Squeeze(k, one) y = Concat<axis = 2>(f1, k1)""", "inputs": ", float[1,B,4] h"},
        "computed behind the other"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_stays(case: str) -> None:
    how, because = CASES[case]
    before = text(**how)
    if "override" in case:
        before = before.replace("float[1,16,3] v, float[1,16,4] s", "float[1,16,4] s").replace(
            "float[1,16,3] w", "float[1,16,3] v, float[1,16,3] w"
        )
    check(MergeBidirectional(), before, None, because=because)


def test_other_sequences_and_directions() -> None:
    for body in (TWO.replace("(x, v", "(u, v"), TWO.replace('"reverse"', '"forward"')):
        check(MergeBidirectional(), text(body, inputs=", float[5,B,3] u"), None)


def test_layers_by_rows() -> None:
    body = TWO.replace("hidden_size = 4", "hidden_size = 4, layout = 1")
    check(MergeBidirectional(), text(body), None, because="laid out by rows")


def test_large_weights_are_not_copied(monkeypatch: pytest.MonkeyPatch) -> None:
    size = 4 * (16 * 3 + 16 * 4 + 32)
    monkeypatch.setattr("fcc.passes.merge_bidirectional._MOST", size - 1)
    check(MergeBidirectional(), text(TWO), None, because="too large to be copied")
    monkeypatch.setattr("fcc.passes.merge_bidirectional._MOST", size)
    check(MergeBidirectional(), text(TWO), text(ONE))
