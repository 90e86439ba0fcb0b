"""convert-last-states: the last hidden state is an output of its own."""

from collections.abc import Callable

import pytest

from fcc import ir
from fcc.passes.convert_last_states import ConvertLastStates
from fcc.testing import check

Executed = Callable[..., ir.Module]
TEXT = """g (float[{t},2,3] x{inputs}) => ({outputs}) <float[{d},{g},3] w, float[{d},{g},4] r, int64[1] one = {{1}},
    int64[1] zero = {{0}}, int64 last = {{-1}}, int64[1] end = {{-1}}, int64 four = {{4}}, int64 first = {{0}},
    int64[1] beyond = {{9223372036854775807}}> {{ {body} }}"""


def text(
    body: str, kind: str = "GRU", outputs: str = "float[2,4] z", inputs: str = "", t: object = 5, d: int = 1
) -> str:
    gates = {"LSTM": 16, "GRU": 12, "RNN": 4}[kind]
    return TEXT.format(body=body.replace("KIND", kind), g=gates, outputs=outputs, inputs=inputs, t=t, d=d)


@pytest.mark.parametrize("kind", ["LSTM", "GRU", "RNN"])
@pytest.mark.parametrize("t", [5, "T"])
def test_a_gather_from_the_end(kind: str, t: object, executed: Executed) -> None:
    executed(
        ConvertLastStates(),
        text("y = KIND<hidden_size = 4>(x, w, r) s = Squeeze(y, one) z = Gather<axis = 0>(s, last)", kind, t=t),
        text("y, h = KIND<hidden_size = 4>(x, w, r) z = Squeeze(h, zero)", kind, t=t),
        tolerance=0,
    )


@pytest.mark.parametrize(
    ("take", "outputs", "form"),
    [
        ("s = Squeeze(y, one) z = Gather<axis = 0>(s, four)", "float[2,4] z", "z = Squeeze(h, zero)"),
        ("z = Gather<axis = 0>(y, last)", "float[1,2,4] z", "z = Identity(h)"),
        ("z = Slice(y, end, beyond, zero)", "float[1,1,2,4] z", "z = Unsqueeze(h, zero)"),
        ("s = Squeeze(y, one) q = Slice(s, end, beyond, zero) z = Neg(q)", "float[1,2,4] z", "z = Neg(h)"),
    ],
)
def test_ways_to_take_the_last_one(take: str, outputs: str, form: str, executed: Executed) -> None:
    before = text(f"y = GRU<hidden_size = 4>(x, w, r) {take}", outputs=outputs)
    after = text(f"y, h = GRU<hidden_size = 4>(x, w, r) {form}", outputs=outputs)
    if form.endswith("Identity(h)"):
        after = text("y, z = GRU<hidden_size = 4>(x, w, r)", outputs=outputs)
    executed(ConvertLastStates(), before, after, tolerance=0)


def test_a_layer_that_gives_it_already_keeps_its_other_states(executed: Executed) -> None:
    body = "y, h, c = LSTM<hidden_size = 4>(x, w, r) {} n = Neg(h) m = Neg(y) k = Neg(c)"
    outputs = "float[2,4] z, float[1,2,4] n, float[5,1,2,4] m, float[1,2,4] k"
    executed(
        ConvertLastStates(),
        text(body.format("s = Squeeze(y, one) z = Gather<axis = 0>(s, last)"), "LSTM", outputs=outputs),
        text(body.format("z = Squeeze(h, zero)"), "LSTM", outputs=outputs),
        tolerance=0,
    )


@pytest.mark.parametrize(
    ("layer", "made", "values", "rest"),
    [
        ("y, h = GRU", "y, h = GRU", "float[2,4] z, float[1,2,4] n", "n = Neg(h)"),
        ("y, , c = LSTM", "y, h, c = LSTM", "float[2,4] z, float[1,2,4] k", "k = Neg(c)"),
        ("y = GRU", "y, h = GRU", "float[2,4] z, float[5,1,2,4] m", "m = Neg(y)"),
    ],
)
@pytest.mark.parametrize("inputs", ["x, w, r", "x, w, r, , , i"])
def test_what_else_the_layer_has(
    layer: str, made: str, values: str, rest: str, inputs: str, executed: Executed
) -> None:
    kind, given = made.split(" = ")[1], ", float[1,2,4] i"
    body = "{}<hidden_size = 4>({}) {} {}"
    executed(
        ConvertLastStates(),
        text(
            body.format(layer, inputs, rest, "s = Squeeze(y, one) z = Gather<axis = 0>(s, last)"), kind, values, given
        ),
        text(body.format(made, inputs, rest, "z = Squeeze(h, zero)"), kind, values, given),
        tolerance=0,
    )


def test_backwards_the_first_element_is_the_last_step(executed: Executed) -> None:
    body = 'y = GRU<hidden_size = 4, direction = "reverse">(x, w, r) s = Squeeze(y, one) z = Gather<axis = 0>(s, first)'
    after = 'y, h = GRU<hidden_size = 4, direction = "reverse">(x, w, r) z = Squeeze(h, zero)'
    executed(ConvertLastStates(), text(body), text(after), tolerance=0)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("y = GRU<hidden_size = 4>(x, w, r) s = Squeeze(y, one) z = Gather<axis = 0>(s, first)", "another step"),
        ('y = GRU<hidden_size = 4, direction = "reverse">(x, w, r) s = Squeeze(y, one) z = Gather<axis = 0>(s, last)',
         "another step"),
        ("y = GRU<hidden_size = 4>(x, w, r, , n) s = Squeeze(y, one) z = Gather<axis = 0>(s, last)", "lengths"),
        ("y = GRU<hidden_size = 4>(x, w, r) s = Squeeze(y, one) z = Gather<axis = 1>(s, last)", "no single step"),
        ("y = GRU<hidden_size = 4>(x, w, r) s = Squeeze(y, one) z = Gather<axis = 0>(s, k)", "no single step"),
        ("y = GRU<hidden_size = 4>(x, w, r) s = Squeeze(y, one) z = ReduceMax<axes = [0], keepdims = 0>(s)", "no single step"),
    ],
)  # fmt: skip
def test_stays(body: str, because: str) -> None:
    outputs = "float[5,4] z" if "axis = 1" in body else "float[2,4] z"
    opset = 17 if "ReduceMax" in body else 21
    check(
        ConvertLastStates(),
        text(body, inputs=", int32[2] n, int64 k", outputs=outputs),
        None,
        because=because,
        opset=opset,
    )


def test_layers_in_two_directions_or_by_rows() -> None:
    both = """y = GRU<hidden_size = 4, direction = "bidirectional">(x, w, r) z = Gather<axis = 0>(y, last)"""
    check(ConvertLastStates(), text(both, d=2, outputs="float[2,2,4] z"), None, because="two directions")
    rows = "y = GRU<hidden_size = 4, layout = 1>(x, w, r) z = Gather<axis = 0>(y, last)"
    check(ConvertLastStates(), text(rows, outputs="float[2,1,4] z"), None, because="rows first")
