"""convert-winograd: where it is estimated to pay."""

from __future__ import annotations

from typing import Any

import onnx
import pytest

from fcc import testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.ir.text import model_of
from fcc.passes._conv_layer import ConvLayer, conv_layer_of
from fcc.passes._winograd import Tiling, tilings
from fcc.passes._winograd_cost import RATES, Rates, Target, direct, tiled, work
from fcc.passes.convert_winograd import ConvertWinograd
from fcc.rewrite import Log, PassContext, run_pass
from fcc.rewrite.fragment import Question
from fcc.target import get_target
from fcc.testing import check

LAYER = "g (float[{n},64,{h},{h}] x) => (float[{n},64,{h},{h}] y) <float[64,64,3,3] w> {{ y = Conv<pads = [1,1,1,1]>(x, w) }}"


def refusals(text: str, p: ConvertWinograd, **context: Any) -> list[str]:
    module = read(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    log = Log(strict=True)
    run_pass(p, module, PassContext(**{"target": get_target("cpu"), "log": log, **context}))
    return [r.reason for r in log.refused]


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_targets_with_algorithms_of_their_own(target: str) -> None:
    text = LAYER.format(n=1, h=56)
    check(ConvertWinograd(min_gain=0), text, None, because="algorithms of its own", target=target)
    assert refusals(text, ConvertWinograd(min_gain=-1), target=get_target(target)) == []


@pytest.mark.parametrize(("size", "taken"), [(56, True), (12, False)])
def test_small_layers_stay(size: int, taken: bool) -> None:
    found = refusals(LAYER.format(n=1, h=size), ConvertWinograd(min_gain=0))
    assert found == [] if taken else "tiles are estimated to take 1." in found[0]


def test_layers_that_save_too_little_of_the_model() -> None:
    text = """g (float[1,64,56,56] x, float[{m},1024] z) => (float[1,64,56,56] y, float[{m},1024] u)
        <float[64,64,3,3] w, float[1024,1024] v> {{ y = Conv<pads = [1,1,1,1]>(x, w) u = MatMul(z, v) }}"""
    share = "tiles are estimated to take 0.71 of the time here, and to save {}% of that of the model"
    assert refusals(text.format(m=1), ConvertWinograd(min_gain=0.1)) == []
    assert refusals(text.format(m=1), ConvertWinograd(min_gain=0.9)) == [share.format(27)]
    assert refusals(text.format(m=1024), ConvertWinograd(min_gain=0.1)) == [share.format(3)]
    assert refusals(text.format(m=1024), ConvertWinograd(min_gain=0.02)) == []
    assert refusals(text.format(m=1024), ConvertWinograd(min_gain=0)) == []


def test_a_layer_that_cannot_stays_beside_one_that_pays() -> None:
    text = """g (float[1,64,56,56] x) => (float[1,64,56,56] y, float[1,64,56,56] z) <float[64,64,3,3] w, float[64,32,3,3] v> {
        y = Conv<pads = [1,1,1,1]>(x, w) z = Conv<pads = [1,1,1,1], group = 2>(x, v) }"""
    (reason,) = refusals(text, ConvertWinograd(min_gain=0.1))
    assert "group" in reason


def test_symbols_are_estimated_at_the_sizes_given() -> None:
    text = LAYER.format(n="N", h=28).replace("float[N,64,28,28]", "float[N,64,28,W]")
    text = text.replace("N,", "1,")
    assert "tiles are estimated" in refusals(text, ConvertWinograd())[0]
    assert refusals(text, ConvertWinograd(), shapes={"W": 56}) == []


def test_the_estimate_is_that_of_its_docstring() -> None:
    """A layer of each form by hand: products, transformed elements (near a cache), weights, nodes."""
    one = Rates(product=3, gathered=5, made=7, weight=11, nodes=13)
    target = Target(Rates(3, 5, 7, 11, 13, lanes=8), Rates(4, 5, 7, 11, 13), one, cache=64e9, byte=1, node=1)

    def estimated(text: str, axis: int, outputs: int) -> tuple[Any, Any]:
        module = read(testing.model_from(text, 21, {}, 0))
        shapes.infer(module)
        layer = conv_layer_of(next(iter(module.graph)))
        assert isinstance(layer, ConvLayer)
        return direct(layer, {}), tiled(Tiling(layer, axis, outputs), target, {})

    rows = "g (float[2,4,12] x) => (float[2,6,10] y) <float[6,4,3] w> { y = Conv(x, w) }"
    far = 1 + 4 * (2 * 4 * 4 * 5 + 2 * 6 * 4 * 5) / 64e9
    whole = 2 * 6 * 10 * 4 * 3
    expected = 3 * whole * 4 * 8 / 30 + (5 * 2 * 4 * 20 + 7 * 2 * 6 * 20) * far + 11 * 2 * 24 * 4 + 13
    assert estimated(rows, 0, 2) == (whole, pytest.approx(expected, rel=1e-12))
    maps = "g (float[1,4,8,9] x) => (float[1,6,6,7] y) <float[6,4,3,3] w> { y = Conv(x, w) }"
    whole, elements = 6 * 42 * 36, (4 * 9 * 5 * 2, 6 * 7 * 5 * 2)
    far = 1 + 4 * sum(elements) / 64e9
    expected = 3 * whole * 5 * 2 / 18 + (5 * elements[0] + 7 * elements[1]) * far + 11 * 24 * 3 * 5 + 13
    assert estimated(maps, 0, 3) == (whole, pytest.approx(expected, rel=1e-12))
    elements = (4 * 8 * 5 * 3, 6 * 6 * 5 * 3)
    far = 1 + 4 * sum(elements) / 64e9
    expected = 4 * whole * 5 * 3 / 21 + (5 * elements[0] + 7 * elements[1]) * far + 11 * 24 * 3 * 5 + 13
    assert estimated(maps, 1, 3) == (whole, pytest.approx(expected, rel=1e-12))
    near = Target(one, one, one, cache=1, byte=1, node=1)
    module = read(testing.model_from(maps, 21, {}, 0))
    shapes.infer(module)
    layer = conv_layer_of(next(iter(module.graph)))
    assert isinstance(layer, ConvLayer)
    elements = (4 * 9 * 5 * 2, 6 * 7 * 5 * 2)
    expected = 3 * whole * 5 * 2 / 18 + (5 * elements[0] + 7 * elements[1]) * 2 + 11 * 24 * 3 * 5 + 13
    assert tiled(Tiling(layer, 0, 3), near, {}) == pytest.approx(expected, rel=1e-12)


MEASURED = {  # input, weight -> what the docstring of the rates and benchmarks/winograd.py say of the chosen tiling
    ("1,64,28,28", "64,64,3,3"): (0.765, 0, 6),
    ("1,64,112,112", "64,64,3,3"): (0.711, 0, 6),
    ("1,128,14,14", "128,128,3,3"): (0.784, 0, 5),
    ("1,256,28,28", "256,256,3,3"): (0.594, 0, 6),
    ("8,64,112,112", "64,64,3,3"): (0.768, 0, 6),
    ("1,512,7,7", "512,512,3,3"): (0.947, 1, 4),
    ("1,64,56,56", "64,64,1,7"): (1.608, 1, 2),
    ("1,128,400", "128,128,3"): (0.716, 0, 5),
    ("1,64,1000", "64,64,5"): (0.802, 0, 4),
    ("1,512,250", "512,512,5"): (0.492, 0, 4),
}


@pytest.mark.parametrize(("sizes", "expected"), MEASURED.items())
def test_estimates(sizes: tuple[str, str], expected: tuple[float, int, int]) -> None:
    kernel = [int(k) for k in sizes[1].split(",")[2:]]
    pads = [(k - 1) // 2 for k in kernel] * 2
    x, w = sizes
    text = f"g (float[{x}] x) => (float[{x}] y) <float[{w}] w> {{ y = Conv<pads = {pads}>(x, w) }}"
    module = read(testing.model_from(text, 21, {"w": 0.0}, 0))
    shapes.infer(module)
    layer = conv_layer_of(next(iter(module.graph)))
    assert isinstance(layer, ConvLayer)
    ratio, best = min(((tiled(t, RATES["cpu"], {}) / direct(layer, {}), t) for t in tilings(layer)), key=lambda x: x[0])
    assert (best.axis, best.outputs) == expected[1:]
    assert ratio == pytest.approx(expected[0], abs=6e-4)


def test_the_work_of_a_model_counts_what_runs() -> None:
    """Multiply-adds or bytes of each node, and its start; nothing for what is computed when the model is loaded."""
    text = """g (float[2,8] x) => (float[2,4] y) <float[8,4] w, float[8,4] v>
        { u = Add(w, v) m = MatMul(x, u) y = Relu(m) }"""
    module = read(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    one: Any = None
    moved = 4 * (16 + 32 + 8)
    assert work(module, Target(one, one, one, 1, byte=0, node=3), {}) == 64 + 4 + 2 * 3
    assert work(module, Target(one, one, one, 1, byte=2, node=0), {}) == 2 * moved + 2 * 4 * 16


class Recorded:
    """Costs that answer everything alike and remember what was asked."""

    def __init__(self, answer: str) -> None:
        self.answer, self.asked = answer, list[Question]()

    def asks(self, pass_name: str, site: str) -> bool:
        return True

    def refusal(self, pass_name: str, site: str, question: Question | None) -> str:
        assert question is not None
        self.asked.append(question)
        return self.answer


@pytest.mark.parametrize("user", ["Relu", "Tanh", "Exp"])
def test_what_was_measured_goes_before_the_estimate_with_the_activation_behind(user: str) -> None:
    text = LAYER.format(n=1, h=12).replace("y = Conv", "c = Conv").replace("(x, w)", f"(x, w) y = {user}(c)")
    costs = Recorded("")
    assert refusals(text, ConvertWinograd(min_gain=0), costs=costs) == []
    (asked,) = costs.asked
    assert asked.before.count(user) == asked.after.count(user) == (user != "Exp")
    for written in (asked.before, asked.after):
        onnx.checker.check_model(model_of(written, 21))
    assert refusals(LAYER.format(n=1, h=56), ConvertWinograd(min_gain=0), costs=Recorded("slow")) == ["slow"]


def test_what_was_measured_saves_as_much_as_is_asked_for() -> None:
    found = refusals(LAYER.format(n=1, h=12), ConvertWinograd(), costs=Recorded(""))
    assert "save 0% of that of the model" in found[0]
