"""Probes fit what the graph does with each input."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx.parser
import onnx_ir
import pytest

from fcc.analysis import shapes
from fcc.data.probes import Probe, probes, require_small
from fcc.data.randomness import random_outputs
from fcc.errors import DataError
from fcc.ir import Module
from fcc.runtime import Session, open_session

HEAD = '<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]> f '


def load(text: str) -> tuple[Module, Session]:
    proto = onnx.parser.parse_model(HEAD + text)
    return Module(onnx_ir.from_proto(proto)), open_session(proto.SerializeToString(), optimize=False)


def made(text: str, **how: Any) -> list[Probe]:
    module, session = load(text)
    found = probes(module, run=session.run, **how)
    for feeds in found:
        session.run(feeds)
    return found


def values(text: str, name: str = "i", **how: Any) -> np.ndarray[Any, Any]:
    return np.concatenate([p[name].reshape(-1) for p in made(text, **how)])


TABLE = "<float[5, 2] t = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9}>"


@pytest.mark.parametrize(
    "body",
    [
        "{ y = Gather(t, i) }",
        "{ j = Cast<to=6>(i) k = Unsqueeze(j, a) y = Gather(t, k) }",
        "{ u = Identity(t) y = Gather<axis=0>(u, i) }",
        "{ j = Add(i, a) k = Sub(j, a) y = Gather(t, k) }",
        "{ d = Constant<value_int=5>() v = Constant<value_floats=[0.0, 1.0]>() y = OneHot(i, d, v) }",
    ],
)
def test_indices_stay_within_the_axis(body: str) -> None:
    found = values(f"(int64[64] i) => (y) {TABLE[:-1]}, int64[1] a = {{0}}> {body}")
    assert set(found.tolist()) == {0, 1, 2, 3, 4}


def test_indices_of_inner_axes_and_elements() -> None:
    assert set(values(f"(int64[64] i) => (y) {TABLE} {{ y = Gather<axis=1>(t, i) }}").tolist()) == {0, 1}
    assert set(values(f"(int64[4, 2] i) => (y) {TABLE} {{ y = GatherElements<axis=1>(t, i) }}").tolist()) == {0, 1}
    assert set(values(f"(int64[32, 2] i) => (y) {TABLE} {{ y = GatherND(t, i) }}").tolist()) == {0, 1}


def test_offset_before_the_gather_shifts_the_range() -> None:
    text = f"(int64[64] i) => (y) {TABLE[:-1]}, int64 two = {{2}}> {{ j = Add(i, two) y = Gather(t, j) }}"
    assert set(values(text).tolist()) == {0, 1, 2}


def test_float_input_cast_to_an_index() -> None:
    found = values(f"(float[64] i) => (y) {TABLE} {{ j = Cast<to=7>(i) y = Gather(t, j) }}")
    assert set(found.tolist()) == {0, 1, 2, 3, 4}


def test_index_used_inside_a_branch_and_a_function() -> None:
    branch = f"""(bool c, int64[64] i) => (float[64, 2] y) {TABLE} {{ y = If(c) <
        then_branch = g () => (float[64, 2] a) {{ a = Gather(t, i) }},
        else_branch = h () => (float[64, 2] b) {{ b = Gather(t, i) }}> }}"""
    found = made(branch)
    assert {bool(p["c"]) for p in found} == {True, False}
    assert max(int(p["i"].max()) for p in found) == 4


def test_masks_have_a_one_in_every_row() -> None:
    text = """(float[3, 8] x, int64[3, 8] m) => (y) <float one = {1}> {
        c = Cast<to=1>(m) d = Sub(one, c) y = Add(x, d) }"""
    for feeds in made(text):
        assert set(np.unique(feeds["m"]).tolist()) <= {0, 1}
        assert feeds["m"].max(axis=1).tolist() == [1, 1, 1]


@pytest.mark.parametrize("name", ["attention_mask", "i"])
def test_masks_by_name_and_by_cast_to_bool(name: str) -> None:
    use = "Cast<to=9>" if name == "i" else "Cast<to=1>"
    found = values(f"(int64[64] {name}) => (y) {{ y = {use}({name}) }}", name)
    assert set(found.tolist()) == {0, 1}


def test_a_float_that_is_multiplied_is_no_mask() -> None:
    found = values("(float[64] x) => (y) { s = Sigmoid(x) y = Mul(x, s) }", "x")
    assert len(np.unique(found)) > 10


def test_inputs_compared_with_constants_take_one_of_them() -> None:
    text = "(int64[64] i) => (y) <int64[3] k = {7, 9, 300}> { a = Unsqueeze(i, b) y = Equal(a, k) }"
    assert set(values(text.replace("<int64[3]", "<int64[1] b = {1}, int64[3]")).tolist()) == {7, 9, 300}


def test_the_other_branch_of_a_comparison_has_its_probe() -> None:
    text = """(int64 i, float[2] x) => (float[2] y) <int64 k = {16000}> { c = Equal(i, k) y = If(c) <
        then_branch = g () => (float[2] a) { a = Sin(x) }, else_branch = h () => (float[2] b) { b = Cos(x) }> }"""
    assert values(text).tolist() == [16000, 16000, 16000, 8000]


def test_lengths_k_and_shapes_are_valid() -> None:
    rnn = """(float[4, 2, 3] x, int32[2] i) => (y) <float[1, 5, 3] w, float[1, 5, 5] r> {
        y = RNN<hidden_size=5>(x, w, r, e, i) }"""
    rnn = rnn.replace("float[1, 5, 3] w", f"float[1, 5, 3] w = {{{', '.join(['0.1'] * 15)}}}")
    rnn = rnn.replace("float[1, 5, 5] r", f"float[1, 5, 5] r = {{{', '.join(['0.1'] * 25)}}}").replace("r, e,", "r, ,")
    found = values(rnn)
    assert found.min() >= 1
    assert found.max() <= 4
    assert set(values("(float[9, 6] x, int64[1] i) => (y, z) { y, z = TopK(x, i) }").tolist()) <= set(range(1, 7))
    for op in ("Reshape(x, i)", "Expand(x, i)", "Tile(x, i)"):
        made(f"(float[2, 3] x, int64[2] i) => (y) {{ y = {op} }}")
    made("(float[2, 3] x, int64[2] a, int64[2] b) => (y) { y = Slice(x, a, b) }")
    made("(int64 a, int64 b, int64 c) => (y) { y = Range(a, b, c) }")


def test_operands_of_partial_functions() -> None:
    for op, low in (("Sqrt", 0.0), ("Log", 0.0), ("Acosh", 1.0)):
        assert values(f"(float[32] x) => (y) {{ y = {op}(x) }}", "x").min() > low
    assert np.abs(values("(float[32] x) => (y) { y = Asin(x) }", "x")).max() < 1
    assert values("(int64[32] x, int64[32] i) => (y) { y = Div(x, i) }").min() >= 1


def test_floats_come_in_three_magnitudes() -> None:
    spread = [float(np.std(p["x"])) for p in made("(float[1000] x) => (y) { y = Sin(x) }")]
    assert spread == pytest.approx([1, 0.1, 4], rel=0.1)


def test_small_integers_use_their_whole_range() -> None:
    found = values("(uint8[4000] i) => (y) { y = Cast<to=1>(i) }")
    assert (found.min(), found.max()) == (0, 255)


def test_symbols_have_one_size_everywhere() -> None:
    found = made("(float[n, 4] a, float[n, 4] b, float[4, s] c) => (y, z) { y = Add(a, b) z = Sin(c) }")
    sizes = [(p["a"].shape, p["b"].shape, p["c"].shape) for p in found]
    assert sizes[0] == ((1, 4), (1, 4), (4, 1))
    assert sizes[1] == ((2, 4), (2, 4), (4, 3))
    assert sizes[2] == ((1, 4), (1, 4), (4, 8))


def test_opt_shapes_win() -> None:
    found = made("(float[n, s] x) => (y) { y = Sin(x) }", opt_shapes={"x": (4, 6)})
    assert [p["x"].shape for p in found] == [(4, 6)] * 3


def test_a_baked_batch_keeps_the_probes_at_one() -> None:
    found = made("(float[n, 4] x) => (y) <int64[2] s = {1, 4}> { y = Reshape(x, s) }")
    assert [p["x"].shape for p in found] == [(1, 4)] * 3


def test_sizes_are_found_by_trial() -> None:
    weight = ", ".join(["0.5"] * 6)
    assert made(f"(float[n, s] x) => (y) <float[6, 1] w = {{{weight}}}> {{ y = MatMul(x, w) }}")[0]["x"].shape == (1, 6)
    text = "(float[n, s] x) => (y) <int64[3] r = {-1, 7, 3}> { z = Reshape(x, r) y = Sin(z) }"
    assert made(text)[0]["x"].size % 21 == 0
    assert made("(float[n] x) => (y) <int64[2] r = {10007, 3}> { y = Reshape(x, r) }")[0]["x"].shape == (30021,)


def test_no_size_works() -> None:
    module, session = load(
        "(float[n] x) => (y, z) <int64[1] a = {5}, int64[1] b = {7}> { y = Reshape(x, a) z = Reshape(x, b) }"
    )
    with pytest.raises(DataError, match="no sizes found for n"):
        probes(module, run=session.run)


def test_overridable_initializers_have_their_default_and_another_value() -> None:
    text = "(float[3] x, float[3] w = {1, -2, 0}, float h = {1}) => (y) { m = Mul(x, w) y = Min(m, h) }"
    found = made(text)
    assert ["w" in p for p in found] == [False, True, True]
    for probe in found[1:]:
        assert np.all(probe["w"] != np.array([1, -2, 0]))
        assert np.all(np.abs(probe["w"] - [1, -2, 0]) < 5)
    assert np.array_equal(np.sign(found[2]["w"][:2]), [1, -1]), "signs stay"
    assert 0 < found[2]["h"] < 1


def test_same_seed_same_probes() -> None:
    text = "(float[n, 4] x, int64[n] i) => (y, z) { y = Sin(x) z = Cast<to=1>(i) }"
    for a, b in zip(made(text, seed=3), made(text, seed=3), strict=True):
        assert all(np.array_equal(a[k], b[k]) for k in a)
    assert not np.array_equal(made(text, seed=3)[0]["x"], made(text, seed=4)[0]["x"])


def test_sequence_inputs_are_refused() -> None:
    module = Module(
        onnx_ir.from_proto(onnx.parser.parse_model(HEAD + "(seq(float[2]) s) => (y) { y = SequenceLength(s) }"))
    )
    with pytest.raises(DataError, match="sequence"):
        probes(module)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{ y = RandomNormalLike(x) z = Sin(x) }", "RandomNormalLike"),
        ("{ r = RandomUniformLike<seed=1.0>(x) y = Add(r, x) z = Sin(x) }", "RandomUniformLike"),
        ("{ y = Dropout(x, p, t) z = Sin(x) }", "Dropout"),
        ("{ y = If(t) < then_branch = g () => (float[2] a) { a = Bernoulli(x) }, "
         "else_branch = h () => (float[2] b) { b = Sin(x) }> z = Sin(x) }", "Bernoulli"),
    ],
)  # fmt: skip
def test_random_outputs_are_found(body: str, reason: str) -> None:
    module, _ = load(f"(float[2] x) => (float[2] y, float[2] z) <float p = {{0.5}}, bool t = {{1}}> {body}")
    found = random_outputs(module)
    assert list(found) == ["y"]
    assert reason in found["y"]


def test_inference_dropout_is_deterministic() -> None:
    module, _ = load("(float[2] x) => (y) <float p = {0.5}, bool t = {0}> { y = Dropout(x, p, t) }")
    assert random_outputs(module) == {}


def test_a_run_that_would_fill_the_memory_is_not_tried() -> None:
    text = "(float[n, 1024] x) => (float[n, 1024, 524288] y) <int64[3] s = {1, 1, 524288}, int64[1] a = {2}>"
    module, _ = load(f"{text} {{ t = Unsqueeze(x, a) y = Expand(t, s) }}")

    def run(feeds: Any) -> Any:
        raise AssertionError("it runs")

    shapes.infer(module)
    with pytest.raises(DataError, match=r"a run would take 8 GiB, generated probes are given 4"):
        probes(module, run=run, opt_shapes={"x": (4, 1024)})
    with pytest.raises(DataError, match="8 GiB"):
        require_small(module, {"x": (4, 1024)})
    require_small(module)


@pytest.mark.parametrize(("copies", "refused"), [(1 << 20, False), (1 << 28, True)])
def test_strings_take_memory_too(copies: int, refused: bool) -> None:
    module, _ = load(f"(string[1] x) => (string[{copies}] y) <int64[1] n = {{{copies}}}> {{ y = Tile(x, n) }}")
    shapes.infer(module)
    if refused:
        with pytest.raises(DataError, match="8 GiB"):
            require_small(module)
    else:
        require_small(module)


def test_an_absurd_size_is_a_number() -> None:
    module, _ = load("(float[n] x) => (float[n] y) { y = Relu(x) }")
    with pytest.raises(DataError, match=r"2\^70 and more"):
        require_small(module, {"x": (1 << 99,)})
