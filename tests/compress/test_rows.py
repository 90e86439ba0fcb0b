"""Rows times the matrix of a layer, plus its bias, are what the layer writes: every kind, every attribute."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.analysis.projection import Projection, projection_of
from fcc.compress.rows import Mixed, Rows, chosen, read, sides, written
from fcc.frontend import read as load

LAYERS = {
    "gemm": "g (float[5,4] x) => (float[5,3] y) <float[4,3] w, float[3] b> { y = Gemm<alpha=0.5, beta=2.0>(x, w, b) }",
    "gemm transposed": "g (float[5,4] x) => (float[5,3] y) <float[3,4] w, float[1,1] b> { y = Gemm<transB=1>(x, w, b) }",
    "matmul": "g (float[2,5,4] x) => (float[2,5,3] y) <float[4,3] w, float[3] b> { t = MatMul(x, w) y = Add(b, t) }",
    "matmul alone": "g (float[2,5,4] x) => (float[2,5,3] y) <float[4,3] w> { y = MatMul(x, w) }",
    "pointwise": "g (float[2,4,3,3] x) => (float[2,3,3,3] y) <float[3,4,1,1] w> { y = Conv(x, w) }",
    "strided": "g (float[2,4,7,6] x) => (float[2,6,4,3] y) <float[6,2,3,2] w, float[6] b>"
    " { y = Conv<group=2, strides=[2,2], pads=[1,0,1,0], dilations=[1,1]>(x, w, b) }",
    "dilated": "g (float[1,2,9] x) => (float[1,3,7] y) <float[3,2,3] w> { y = Conv<dilations=[2], pads=[0,2]>(x, w) }",
    "same upper": "g (float[1,2,6,6] x) => (float[1,3,3,3] y) <float[3,2,3,3] w>"
    ' { y = Conv<auto_pad="SAME_UPPER", strides=[2,2]>(x, w) }',
    "same lower": "g (float[1,2,5,6] x) => (float[1,3,3,3] y) <float[3,2,2,4] w>"
    ' { y = Conv<auto_pad="SAME_LOWER", strides=[2,2]>(x, w) }',
    "valid": 'g (float[1,2,6,6] x) => (float[1,3,4,4] y) <float[3,2,3,3] w> { y = Conv<auto_pad="VALID">(x, w) }',
    "pointwise strided": "g (float[2,4,4,4] x) => (float[2,3,2,2] y) <float[3,4,1,1] w>"
    " { y = Conv<strides=[2,2]>(x, w) }",
}


def layer(text: str, opset: int = 21) -> tuple[Projection, onnx.ModelProto]:
    model = testing.model_from(text, opset, {}, 0)
    module = load(model)
    shapes.infer(module)
    found = [projection_of(n) for n in module.graph]
    view = next(v for v in found if not isinstance(v, str))
    return view, model


@pytest.mark.parametrize("name", LAYERS)
def test_rows_times_the_matrix_are_the_output(name: str) -> None:
    view, model = layer(LAYERS[name])
    dims = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(1).standard_normal(dims).astype(np.float32)
    (y,) = ReferenceEvaluator(model).run(None, {"x": x})
    rows, target = read(view), written(view)
    assert rows.grid(x) == target.grid(y)
    count = int(np.prod(rows.grid(x)))
    at = np.arange(count)[::-1].copy()
    bias = view.bias_row()
    assert not isinstance(bias, str)
    made = np.einsum("rgm,gmn->rgn", rows.take(x, at), view.matrices()) + bias
    np.testing.assert_allclose(made, target.take(y, at), rtol=1e-4, atol=1e-5)
    assert rows.take(x, at).dtype == np.float64
    samples = rows.sample_of(x, at)
    assert np.array_equal(samples, target.sample_of(y, at))
    assert samples[0] == x.shape[0] - 1
    assert sides(view) == ("input", "output")


RNN = (
    "g (float[5,2,4] x) => (float[5,2,2,3] y) <float[2,12,4] w, float[2,12,3] r, float[2,24] b>"
    ' { y = LSTM<hidden_size=3, direction="bidirectional">(x, w, r, b) }'
)


def test_recurrent_layers_read_their_input_through_one_matrix() -> None:
    view, model = layer(RNN)
    w, b = (onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in "wb")
    assert view.sizes == (4, 24)
    assert np.array_equal(view.matrices()[0], w.reshape(24, 4).T.astype(np.float64))
    assert np.array_equal(np.ravel(view.bias_row()), np.concatenate([b[0, :12], b[1, :12]]).astype(np.float64))
    assert view.hidden
    assert sides(view) == ("input", "input")
    assert read(view).sample_of(np.zeros((5, 2, 4)), np.arange(10)).tolist() == [0, 1] * 5
    batched = layer(RNN.replace("hidden_size=3", "hidden_size=3, layout=1").replace("[5,2,4]", "[2,5,4]"))[0]
    assert read(batched).sample_of(np.zeros((2, 5, 4)), np.arange(10)).tolist() == [0] * 5 + [1] * 5


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("g (float[5,4] x, float[4,3] w) => (float[5,3] y) { y = MatMul(x, w) }", "not constant"),
        ("g (float[1,2,4] x, float[3,2,2] w) => (float[1,3,3] y) { y = Conv(x, w) }", "not constant"),
        (
            "g (float[5,2,4] x, float[1,12,4] w) => (float[5,1,2,3] y) <float[1,12,3] r>"
            " { y = LSTM<hidden_size=3>(x, w, r) }",
            "not constant",
        ),
        ("g (float[5,4] x) => (float[5,4] y) { y = Relu(x) }", "Relu is no linear op"),
    ],
)
def test_what_is_no_projection(text: str, reason: str) -> None:
    module = load(testing.model_from(text, 21, {}, 0))
    shapes.infer(module)
    found = projection_of(next(iter(module.graph)))
    assert isinstance(found, str)
    assert reason in found


def test_biases_that_are_no_constant_rows() -> None:
    for declared, given in (("", ", float[3] b"), (", float[5,3] b", "")):
        text = f"g (float[5,4] x{given}) => (float[5,3] y) <float[4,3] w{declared}> {{ y = Gemm(x, w, b) }}"
        view = layer(text)[0]
        assert isinstance(view.bias_row(), str)
        assert sides(view) is None


def test_wide_layers_keep_what_fits() -> None:
    wide = "g (float[1,{m}] x) => (float[1,{n}] y) <float[{m},{n}] w> {{ y = MatMul(x, w) }}"
    assert sides(layer(wide.format(m=4097, n=2))[0]) == ("output", "output")
    assert sides(layer(wide.format(m=2, n=2049))[0]) == ("input", "input")
    assert sides(layer(wide.format(m=4097, n=2049))[0]) is None


def test_blocks_of_features_are_weighed() -> None:
    rng = np.random.default_rng(0)
    x, w = rng.standard_normal((5, 6)), rng.standard_normal((6, 2))
    blocks = np.array([[0, 3, 5], [1, 2, 4]])
    mixed = Mixed(Rows(), blocks, w)
    at = np.array([4, 1])
    found = mixed.take(x, at)
    assert found.shape == (2, 1, 4)
    for i in range(2):
        np.testing.assert_allclose(found[:, 0, 2 * i : 2 * i + 2], x[at][:, blocks[i]] @ w[blocks[i]])
    assert mixed.grid(x) == (5,)
    assert mixed.sample_of(x, at).tolist() == [4, 1]


def test_rows_are_drawn_by_the_seed() -> None:
    assert chosen(4, 5, 0).tolist() == [0, 1, 2, 3]
    drawn = chosen(1000, 10, 3)
    assert len(set(drawn.tolist())) == 10
    assert np.array_equal(drawn, np.sort(drawn))
    assert np.array_equal(drawn, chosen(1000, 10, 3))
    assert not np.array_equal(drawn, chosen(1000, 10, 4))


def test_no_place_for_a_kernel_larger_than_the_input() -> None:
    view = layer(LAYERS["valid"])[0]
    assert read(view).grid(np.zeros((1, 2, 2, 6))) == (1, 0, 4)
    assert ir.dims_of(view.weight) == (3, 2, 3, 3)
