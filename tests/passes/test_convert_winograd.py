"""convert-winograd: the nodes it writes, by the evaluator and by the runtime, and where it stays away."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.analysis.toom_cook import POINTS, UNIT, toom_cook
from fcc.frontend import read
from fcc.passes._conv_layer import ConvLayer
from fcc.passes._winograd import TAPS, Tiling, tilings
from fcc.passes.convert_winograd import ConvertWinograd
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

TILES = [(n - r + 1, r) for n in POINTS for r in TAPS if n - r + 1 >= 2]


@dataclass(frozen=True)
class Forced(ConvertWinograd):
    """The pass with one tiling, wherever it can be written."""

    min_gain: float = -1.0
    axis: int = 0
    outputs: int = 2

    def candidates(self, layer: ConvLayer) -> list[Tiling]:
        return [t for t in tilings(layer) if (t.axis, t.outputs) == (self.axis, self.outputs)]


def converted(source: onnx.ModelProto, p: ConvertWinograd, **context: Any) -> ir.Module:
    module = read(source)
    shapes.infer(module)
    run_pass(p, module, PassContext(target=get_target("cpu"), log=Log(strict=True), **context))
    ir.verify(module)
    return module


def operators(module: ir.Module) -> list[str]:
    return [n.op_type for n in module.graph]


MATMUL = """g (float[N,8,20] x) => (float[N,6,18] y) {{ r = Unsqueeze(x, a)
    d = Conv<strides = [1,4], pads = [0,1,{row},3]>(r, B{beta}) w = Conv(c, G) p = MatMul(w, d)
    {t} = ConvTranspose<strides = [1,4], pads = [0,0,0,2]>(p, A) {add} y = Squeeze(t, a2) }}"""


@pytest.mark.parametrize(
    ("bias", "column", "row"), [(True, True, 1), (True, False, 0), (False, True, 0)], ids=["column", "add", "none"]
)
def test_along_the_only_axis(bias: bool, column: bool, row: int) -> None:
    add = bias and not row
    module = check(
        Forced(outputs=4, column=column),
        "g (float[N,8,20] x) => (float[N,6,18] y) <float[6,8,5] w, float[6] b> "
        f"{{ y = Conv<pads = [1,1]>(x, w{', b' if bias else ''}) }}",
        MATMUL.format(row=row, beta=", beta" * row, t="u" if add else "t", add="t = Add(u, k)" if add else ""),
    )
    shapes_ = [ir.dims_of(v) for v in module.graph.initializers.values()]
    assert (1, 5, 6, 8 + row) in shapes_
    assert ((6, 1) in shapes_) == add


def test_other_axes_of_size_1_are_no_axes() -> None:
    check(
        Forced(axis=1, outputs=3),
        "g (float[2,4,1,9,1] x) => (float[2,3,1,6,1] y) <float[3,4,1,4,1] w> { y = Conv(x, w) }",
        "g (float[2,4,1,9,1] x) => (float[2,3,1,6,1] y) { r = Reshape(x, s0) d = Conv<strides = [1,3]>(r, B)"
        " w = Conv(c, G) p = MatMul(w, d) t = ConvTranspose<strides = [1,3]>(p, A) y = Reshape(t, s1) }",
    )


def test_along_the_first_axis_of_two() -> None:
    check(
        Forced(axis=0, outputs=5),
        "g (float[2,8,20,9] x) => (float[2,6,18,4] y) <float[6,8,4,3] w, float[6] b> "
        "{ y = Conv<pads = [1,0,0,2], strides = [1,2], dilations = [1,2]>(x, w, b) }",
        """g (float[2,8,20,9] x) => (float[2,6,18,4] y) <float[6] b> { r = Unsqueeze(x, a)
            d = Conv<strides = [1,5,1], pads = [0,1,0,0,2,0]>(r, B) v = Conv(c, G) q = Reshape(d, s1) w = Reshape(v, s2)
            z = Pad(b, s3)
            p = Conv<group = 8, pads = [0,0,0,2], strides = [1,2], dilations = [1,2]>(q, w, z)
            u = Reshape(p, s4) t = ConvTranspose<strides = [1,5,1], pads = [0,0,0,0,2,0]>(u, A) y = Squeeze(t, a2) }""",
    )


def test_along_the_last_axis_with_a_symbol_in_front() -> None:
    check(
        Forced(axis=1, outputs=2),
        "g (float[2,8,H,9] x) => (float[2,6,H,9] y) <float[6,8,3,3] w> { y = Conv<pads = [1,1,1,1]>(x, w) }",
        """g (float[2,8,H,9] x) => (float[2,6,H,9] y) { r = Reshape(x, s0)
            d = Conv<strides = [1,2], pads = [0,1,0,2]>(r, B) v = Conv(c, G) q = Reshape(d, s1) w = Reshape(v, s2)
            p = Conv<group = 4, pads = [1,0,1,0]>(q, w)
            u = Reshape(p, s4) t = ConvTranspose<strides = [1,2], pads = [0,0,0,1]>(u, A) y = Reshape(t, s5) }""",
        sizes={"H": 5},
    )


def test_along_the_middle_of_three_axes() -> None:
    check(
        Forced(axis=1, outputs=4),
        "g (float[N,4,3,11,5] x) => (float[N,2,3,11,5] y) <float[2,4,3,3,3] w, float[2] b> "
        "{ y = Conv<pads = [1,1,1,1,1,1]>(x, w, b) }",
        """g (float[N,4,3,11,5] x) => (float[N,2,3,11,5] y) <float[2] b> { r = Reshape(x, s0)
            d = Conv<strides = [1,4,1], pads = [0,1,0,0,2,0]>(r, B) v = Conv(c, G) q = Reshape(d, s1) w = Reshape(v, s2)
            z = Pad(b, s3)
            p = Conv<group = 6, pads = [1,0,1,1,0,1]>(q, w, z)
            u = Reshape(p, s4) t = ConvTranspose<strides = [1,4,1], pads = [0,0,0,0,1,0]>(u, A) y = Reshape(t, s5) }""",
    )


AUTO = {  # rule -> pads of the transform, the products and the result
    "SAME_UPPER": ("pads = [0,1,0,0,3,0],", "pads = [0,0,0,1],", ", pads = [0,0,0,0,1,0]"),
    "SAME_LOWER": ("pads = [0,2,0,0,2,0],", "pads = [0,1,0,0],", ", pads = [0,0,0,0,1,0]"),
    "VALID": ("", "", ""),
}


@pytest.mark.parametrize(("rule", "pads"), AUTO.items())
def test_computed_padding(rule: str, pads: tuple[str, str, str]) -> None:
    out = "4,3" if rule == "VALID" else "7,4"
    check(
        Forced(axis=0, outputs=4),
        f"""g (float[1,2,7,8] x) => (float[1,3,{out}] y) <float[3,2,4,3] w>
            {{ y = Conv<auto_pad = "{rule}", strides = [1,2]>(x, w) }}""",
        f"""g (float[1,2,7,8] x) => (float[1,3,{out}] y) {{ r = Unsqueeze(x, a)
            d = Conv<{pads[0]} strides = [1,4,1]>(r, B) v = Conv(c, G) q = Reshape(d, s1) w = Reshape(v, s2)
            p = Conv<{pads[1]} group = 7, strides = [1,2]>(q, w) u = Reshape(p, s4)
            t = ConvTranspose<strides = [1,4,1]{pads[2]}>(u, A) y = Squeeze(t, a2) }}""",
    )


PLAIN = "g (float[N,4,9] x) => (float[N,4,7] y) <float[4,4,3] w> { y = Conv(x, w) }"


@pytest.mark.parametrize("rule", ["SAME_UPPER", "SAME_LOWER"])
def test_computed_padding_of_nothing_and_in_halves(rule: str) -> None:
    check(
        Forced(axis=0, outputs=4),
        f"""g (float[1,2,7,8] x) => (float[1,3,7,3] y) <float[3,2,5,1] w>
            {{ y = Conv<auto_pad = "{rule}", strides = [1,3]>(x, w) }}""",
        """g (float[1,2,7,8] x) => (float[1,3,7,3] y) { r = Unsqueeze(x, a)
            d = Conv<pads = [0,2,0,0,3,0], strides = [1,4,1]>(r, B) v = Conv(c, G) q = Reshape(d, s1) w = Reshape(v, s2)
            p = Conv<group = 8, strides = [1,3]>(q, w) u = Reshape(p, s4)
            t = ConvTranspose<strides = [1,4,1], pads = [0,0,0,0,1,0]>(u, A) y = Squeeze(t, a2) }""",
    )


REFUSED = {
    "float32": "g (double[N,4,9] x) => (double[N,4,7] y) <double[4,4,3] w> { y = Conv(x, w) }",
    "groups": "g (float[N,4,9] x) => (float[N,4,7] y) <float[4,2,3] w> { y = Conv<group = 2>(x, w) }",
    "weight or the bias is not constant": "g (float[N,4,9] x, float[4,4,3] w) => (float[N,4,7] y) { y = Conv(x, w) }",
    "the bias is not constant": "g (float[N,4,9] x, float[4] b) => (float[N,4,7] y) <float[4,4,3] w> { y = Conv(x, w, b) }",
    "the weight has other users": "g (float[N,4,9] x) => (float[N,4,7] y, float[N,4,7] z) <float[4,4,3] w> "
    "{ y = Conv(x, w) a = Relu(x) z = Conv(a, w) }",
    "shape of the input is not known": "g (float[N,4,9] z, int64[K] s) => (float[N,4,7] y) <float[4,4,3] w> "
    "{ x = Reshape(z, s) y = Conv(x, w) }",
    "a size is 0": "g (float[N,4,9] x) => (float[N,0,7] y) <float[0,4,3] w> { y = Conv(x, w) }",
    "padding is negative": "g (float[N,4,9] x) => (float[N,4,6] y) <float[4,4,3] w> { y = Conv<pads = [-1,0]>(x, w) }",
    "padding depends on a size": "g (float[1,4,9,W] x) => (float[1,4,9,W] y) <float[4,4,3,3] w> "
    '{ y = Conv<auto_pad = "SAME_UPPER">(x, w) }',
    "not 3 to 7 elements": "g (float[N,4,9] x) => (float[N,4,8] y) <float[4,4,2] w> { y = Conv(x, w) }",
    "strides or dilates": "g (float[N,4,9] x) => (float[N,4,4] y) <float[4,4,3] w> { y = Conv<strides = [2]>(x, w) }",
    "it strides or dilates along": "g (float[N,4,9] x) => (float[N,4,5] y) <float[4,4,3] w> "
    "{ y = Conv<dilations = [2]>(x, w) }",
    "the size along": "g (float[1,4,L] x) => (float[1,4,7] y) <float[4,4,3] w> { y = Conv(x, w) }",
    "size along the axis": "g (float[1,4,L] x) => (float[1,4,M] y) <float[4,4,3] w> { y = Conv(x, w) }",
    "fits every size": "g (float[N,4,9,W] x) => (float[N,4,7,M] y) <float[4,4,3,1] w> { y = Conv(x, w) }",
}


@pytest.mark.parametrize(("because", "before"), REFUSED.items(), ids=REFUSED)
def test_stays(because: str, before: str) -> None:
    check(ConvertWinograd(min_gain=-1), before, None, because=because)


@pytest.mark.parametrize("opset", [12, 13])
def test_opsets_where_axes_are_attributes(opset: int) -> None:
    module = read(testing._model(PLAIN, 13, {}, 0))
    shapes.infer(module)
    module.model.opset_imports[""] = opset
    log = Log(strict=True)
    run_pass(Forced(), module, PassContext(target=get_target("cpu"), log=log))
    assert [r.reason for r in log.refused] == (
        ["Unsqueeze takes its axes as attributes (opset below 13)"] * (opset < 13)
    )


def test_an_overridable_weight_stays() -> None:
    text = "g (float[N,4,9] x, float[4,4,3] w) => (float[N,4,7] y) { y = Conv(x, w) }"
    source = testing._model(text, 21, {}, 0)
    source.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((4, 4, 3), np.float32), "w"))
    assert operators(converted(source, Forced())) == ["Conv"]


def test_a_graph_output_and_a_nested_graph() -> None:
    check(
        Forced(outputs=2),
        """g (float[N,4,9] x, bool k) => (float[N,4,7] y) <float[4,4,3] w, float[4,4,3] v> { y = If (k) <
            then_branch = a () => (float[N,4,7] p) { p = Conv(x, w) },
            else_branch = b () => (float[N,4,7] q) { q = Conv(x, v) }> }""",
        """g (float[N,4,9] x, bool k) => (float[N,4,7] y) { y = If (k) <
            then_branch = a () => (float[N,4,7] p) { r = Unsqueeze(x, s) d = Conv<strides = [1,2], pads = [0,0,0,1]>(r, B)
                w = Conv(c, G) m = MatMul(w, d) t = ConvTranspose<strides = [1,2], pads = [0,0,0,1]>(m, A)
                p = Squeeze(t, s2) },
            else_branch = b () => (float[N,4,7] q) { r2 = Unsqueeze(x, s3)
                d2 = Conv<strides = [1,2], pads = [0,0,0,1]>(r2, B2)
                w2 = Conv(c2, G2) m2 = MatMul(w2, d2) t2 = ConvTranspose<strides = [1,2], pads = [0,0,0,1]>(m2, A2)
                q = Squeeze(t2, s4) }> }""",
    )


@st.composite
def layers(draw: st.DrawFn) -> tuple[str, Forced, int]:
    """Draw a convolution over one to three axes, one of them in tiles, with everything else free."""
    rank = draw(st.integers(1, 3))
    axis = draw(st.integers(0, rank - 1))
    outputs, taps = draw(st.sampled_from(TILES))
    batch, channels, filters = (draw(st.integers(1, 3)) for _ in range(3))
    dims, kernel, strides, dilations, begin, end, out = found = tuple[list[int], ...]([] for _ in range(7))
    for i in range(rank):
        k, step, gap = (taps, 1, 1) if i == axis else (draw(st.integers(1, 3)) for _ in range(3))
        before, after = draw(st.integers(0, 2)), draw(st.integers(0, 2))
        least = max((k - 1) * gap + 1 - before - after, 1)
        size = least + draw(st.integers(0, 9 if i == axis else 3))
        dims.append(size)
        out.append((size + before + after - (k - 1) * gap - 1) // step + 1)
        for values, x in zip(found[1:6], (k, step, gap, before, after), strict=True):
            values.append(x)
    symbol = draw(st.sampled_from([None, 0, *(2 + i for i in range(rank) if i != axis)]))
    shapes_ = [[batch, channels, *dims], [batch, filters, *out]]
    texts = [",".join(f"S{j}" if i == symbol else str(d) for i, d in enumerate(s)) for j, s in enumerate(shapes_)]
    if symbol == 0:
        texts = [t.replace("S1", "S0") for t in texts]
    bias = draw(st.booleans())
    text = (
        f"g (float[{texts[0]}] x) => (float[{texts[1]}] y) "
        f"<float[{filters},{channels},{','.join(map(str, kernel))}] w, float[{filters}] b> "
        f"{{ y = Conv<strides = {strides}, dilations = {dilations}, pads = {[*begin, *end]}>(x, w{', b' if bias else ''}) }}"
    )
    return text, Forced(axis=axis, outputs=outputs), shapes_[0][symbol or 0]


@settings(max_examples=60, deadline=None)
@given(layers())
def test_random_layers(drawn: tuple[str, Forced, int]) -> None:
    text, p, size = drawn
    source = testing._model(text, 21, {}, 0)
    module = converted(source, p)
    assert "ConvTranspose" in operators(module)
    emitted = serde.serialize_model(module.model)
    onnx.checker.check_model(emitted)
    testing.same_outputs(source, emitted, sizes={"S0": size}, tolerance=5e-6)


@settings(max_examples=40, deadline=None)
@given(layers())
def test_random_layers_in_the_runtime(drawn: tuple[str, Forced, int]) -> None:
    pytest.importorskip("onnxruntime")
    from fcc.runtime import open_session

    source = testing._model(drawn[0].replace("S0", str(drawn[2])).replace("S1", "M"), 21, {}, 0)
    emitted = serde.serialize_model(converted(source, drawn[1]).model)
    assert "ConvTranspose" in [n.op_type for n in emitted.graph.node]
    dims = [d.dim_value for d in source.graph.input[0].type.tensor_type.shape.dim]
    feed = {"x": np.random.default_rng(0).standard_normal(dims).astype(np.float32)}
    old = onnx.reference.ReferenceEvaluator(source).run(None, feed)[0]
    new = open_session(emitted.SerializeToString()).run(feed)["y"]
    assert new.shape == old.shape
    assert np.abs(new - old).max() <= 5e-6 * max(np.abs(old).max(), 1)


@pytest.mark.parametrize("size", [1e-30, 1e-12, 1.0, 1e12])
@pytest.mark.parametrize("large", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("weight", [1.0, 1e-6])
def test_the_bias_costs_no_precision(size: float, large: float, weight: float) -> None:
    """Input, weight and bias of any scale: what the bias is added with follows them."""
    rng = np.random.default_rng(0)
    b = rng.standard_normal(6) * size * large * weight
    constants = {"w": rng.standard_normal((6, 16, 1, 5)) * weight, "b": b}
    text = "g (float[1,16,1,20] x) => (float[1,6,1,16] y) <float[6,16,1,5] w, float[6] b> { y = Conv(x, w, b) }"
    source = testing._model(text, 21, constants, 0)
    module = converted(source, Forced(axis=1, outputs=4))
    (scale,) = [v.const_value.numpy()[0] for v in module.graph.initializers.values() if ir.dims_of(v) == (8,)]  # type: ignore[union-attr]
    unit = np.einsum("r,ocir->oc", np.asarray(toom_cook(4, 5).g[UNIT], np.float64), constants["w"])
    largest, added = np.abs(b).max(), scale * np.abs(unit).sum(1).max()
    assert largest / 4 < added <= largest * 1.000001
    emitted = serde.serialize_model(module.model)
    x = (rng.standard_normal((1, 16, 1, 20)) * size).astype(np.float32)
    old, new = (onnx.reference.ReferenceEvaluator(m).run(None, {"x": x})[0] for m in (source, emitted))
    assert np.abs(new - old).max() <= 3e-6 * np.abs(old).max()


@pytest.mark.parametrize("zeros", ["w", "b"])
def test_a_bias_or_a_weight_of_zeros(zeros: str) -> None:
    text = "g (float[1,4,9] x) => (float[1,3,7] y) <float[3,4,3] w, float[3] b> { y = Conv(x, w, b) }"
    source = testing._model(text, 21, {zeros: 0.0}, 0)
    testing.same_outputs(source, serde.serialize_model(converted(source, Forced()).model))


@pytest.mark.parametrize("bias", [False, True])
def test_large_weights_are_written_when_they_are_saved(bias: bool) -> None:
    text = f"""g (float[1,256,40] x) => (float[1,400,38] y) <float[400,256,3] w, float[400] b>
        {{ y = Conv(x, w{", b" if bias else ""}) }}"""
    source = testing._model(text, 21, {}, 0)
    module = converted(source, Forced())
    lazy = [v for v in module.graph.initializers.values() if isinstance(v.const_value, ir.LazyTensor)]
    assert [ir.dims_of(v) for v in lazy] == [(1, 3, 400, 256 + bias)]
    testing.same_outputs(source, serde.serialize_model(module.model))


@pytest.mark.parametrize(("m", "r"), TILES)
@pytest.mark.parametrize("mean", [0.0, 10.0])
def test_error_in_the_runtime(m: int, r: int, mean: float) -> None:
    pytest.importorskip("onnxruntime")
    from fcc.runtime import open_session

    text = f"g (float[1,32,30] x) => (float[1,8,{31 - r}] y) <float[8,32,{r}] w, float[8] b> {{ y = Conv(x, w, b) }}"
    source = testing._model(text, 21, {}, 0)
    emitted = serde.serialize_model(converted(source, Forced(outputs=m)).model)
    x = (np.random.default_rng(1).standard_normal((1, 32, 30)) + mean).astype(np.float32)
    w, b = (onnx.numpy_helper.to_array(t).astype(np.float64) for t in source.graph.initializer)
    windows = np.lib.stride_tricks.sliding_window_view(x[0].astype(np.float64), r, axis=1)
    exact = np.einsum("ctk,ock->ot", windows, w) + b[:, None]
    found = open_session(emitted.SerializeToString()).run({"x": x})["y"][0]
    assert np.abs(found - exact).max() <= 4e-6 * np.abs(exact).max()


@pytest.mark.parametrize("text", [
    "g (float[1,64,60] x) => (float[1,64,58] y) <float[64,64,3] w, float[64] b> { y = Conv(x, w, b) }",
    "g (float[1,64,9,9] x) => (float[1,64,7,7] y) <float[64,64,3,3] w, float[64] b> { y = Conv(x, w, b) }",
])  # fmt: skip
def test_the_runtime_transforms_the_weights_when_it_loads(text: str, tmp_path: Any) -> None:
    ort = pytest.importorskip("onnxruntime")
    emitted = converted(testing._model(text, 21, {}, 0), Forced(outputs=4)).model
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    ort.InferenceSession(
        serde.serialize_model(emitted).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    left = [n.op_type for n in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert left.count("Conv") == (1 if "9,9" not in text else 2)
    assert "Pad" not in left
    assert left.count("Reshape") == (0 if "9,9" not in text else 2)
