"""Moments of two models side by side: the tensors that were asked for, whatever runs them."""

from __future__ import annotations

import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import onnx
import pytest

from fcc import testing
from fcc.compress.rows import Mixed, Rows
from fcc.data.dataset import open_data
from fcc.data.spec import TensorSpec
from fcc.errors import CalibrationError
from fcc.runtime.inspect import only, tensor_names

pytest.importorskip("onnxruntime")
from fcc.runtime.jobs import Model
from fcc.runtime.paired import ENOUGH, FEWEST, MOST, Request, _Pairs, accumulate, rows_per_sample
from fcc.runtime.workers import work

TEXT = (
    "g (float[N,3] x) => (float[N,2] y) <float[3,4] a, float[4,2] b> { h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }"
)


def model(seed: int) -> bytes:
    return bytes(testing.model_from(TEXT, 21, {}, seed).SerializeToString())


def weights(data: bytes) -> dict[str, np.ndarray[Any, Any]]:
    return {
        t.name: onnx.numpy_helper.to_array(t).astype(np.float64) for t in onnx.load_from_string(data).graph.initializer
    }


def feeds(count: int) -> list[dict[str, np.ndarray[Any, Any]]]:
    rng = np.random.default_rng(0)
    return [{"x": rng.standard_normal((1 + i % 3, 3)).astype(np.float32)} for i in range(count)]


REQUESTS = [
    Request("second", "r", Rows(), "y", Rows(), folds=4),
    Request("first", "x", Rows(), "h", Rows()),
    Request("self", "r", Rows(), "y", Rows(), own=True),
    Request("fed", "r", Rows(), "x", Rows()),
]


def test_x_is_of_the_model_and_y_of_the_reference() -> None:
    old, new, samples = model(0), model(1), feeds(70)
    found = accumulate(old, new, REQUESTS, samples)
    x = np.concatenate([s["x"] for s in samples]).astype(np.float64)
    a0, b0, a1, b1 = (weights(m)[n] for m in (old, new) for n in "ab")
    r1 = np.maximum(x @ a1, 0)
    y0 = np.maximum(x @ a0, 0) @ b0
    expected = {"second": (r1, y0), "first": (x, x @ a0), "self": (r1, r1 @ b1), "fed": (r1, x)}
    for key, (left, right) in expected.items():
        np.testing.assert_allclose(found[key].xy.moment(False)[0], left.T @ right / len(x), rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(found[key].xx.moment(False)[0], left.T @ left / len(x), rtol=1e-4, atol=1e-6)
        assert found[key].xx.count == len(x)
    number = np.concatenate([np.full(len(s["x"]), i) + np.arange(len(s["x"])) for i, s in enumerate(samples)])
    for i, fold in enumerate(found["second"].folds):
        assert fold is not None
        own = y0[number % 4 == i]
        assert fold.count == len(own)
        np.testing.assert_allclose(fold.moment(False)[0], own.T @ own / len(own), rtol=1e-4, atol=1e-6)


def test_an_executor_gives_the_same_bytes() -> None:
    old, new, samples, told = model(0), model(1), feeds(100), list[int]()
    here = accumulate(old, new, REQUESTS, samples, progress=told.append)
    with ThreadPoolExecutor(2) as pool:
        there = accumulate(old, new, REQUESTS, samples, executor=pool)
    assert told == list(range(1, 101))
    for key, moments in here.items():
        for part in ("xx", "xy", "power"):
            assert getattr(moments, part).total.tobytes() == getattr(there[key], part).total.tobytes()
        assert [f.total.tobytes() for f in moments.folds if f] == [f.total.tobytes() for f in there[key].folds if f]


def test_parts_are_moments_of_every_so_many_samples() -> None:
    samples = feeds(40)
    (whole,) = accumulate(model(0), model(1), REQUESTS[3:], samples).values()
    halves = accumulate(model(0), model(1), [Request("k", "r", Rows(), "x", Rows(), parts=2)], samples)["k"]
    assert [m.xx.count for m in halves] == [40, 39]
    np.testing.assert_allclose(halves[0].merged(halves[1]).xy.total, whole.xy.total, rtol=1e-9)
    (alone,) = accumulate(model(0), model(1), [Request("k", "r", Rows(), "x", Rows(), parts=2)], samples[:1])["k"]
    assert alone.xx.count == 1


def test_what_a_process_is_given_can_be_sent() -> None:
    mixed = Request("k", "r", Mixed(Rows(), np.array([[0, 1], [2, 3]]), np.ones((4, 2))), "y", Rows())
    job = _Pairs(Model(model(0)), Model(only(model(1), ["r"]) or b""), (mixed,), 8)
    here, size = work(job, 3, feeds(4))
    there, _ = work(pickle.loads(pickle.dumps(job)), 3, feeds(4))
    assert size == 4
    assert here.found["k", 0].xx.total.tobytes() == there.found["k", 0].xx.total.tobytes()
    assert pickle.loads(pickle.dumps(here)).found["k", 0].sizes == (1, 4, 2)


def test_state_is_a_closed_loop_of_each_model() -> None:
    text = "g (float[1,2] x, float[1,2] s) => (float[1,2] y, float[1,2] t) <float[2,2] a>"
    text += " { h = MatMul(s, a) t = Add(h, x) y = Tanh(t) }"
    old, new = (bytes(testing.model_from(text, 21, {"a": a}, 0).SerializeToString()) for a in (0.5, 0.25))
    x = np.random.default_rng(0).standard_normal((6, 1, 2)).astype(np.float32)
    specs = [TensorSpec(n, np.dtype(np.float32), (1, 2)) for n in "xs"]
    data = open_data([{"x": row} for row in x], specs, state={"t": "s"})
    found = accumulate(old, new, [Request("k", "t", Rows(), "t", Rows())], data)["k"]
    states = []
    for a in (0.5, 0.25):
        s, seen = np.zeros(2), []
        for row in x[:, 0]:
            s = np.full((2, 2), a).T @ s + row
            seen.append(s)
        states.append(np.array(seen))
    np.testing.assert_allclose(found.xy.moment(False)[0], states[1].T @ states[0] / 6, rtol=1e-5)


def test_long_samples_are_thinned() -> None:
    assert rows_per_sample([{}] * 10) == MOST
    assert rows_per_sample([{}] * (ENOUGH // 100)) == 101
    assert rows_per_sample([{}] * ENOUGH) == FEWEST
    assert rows_per_sample(iter([{}])) == 256
    x = np.random.default_rng(0).standard_normal((2 * MOST, 3)).astype(np.float32)
    found = accumulate(model(0), model(1), REQUESTS[:1], [{"x": x}, {"x": x[:5]}])
    assert found["second"].xx.count == MOST + 5


def test_many_rows_do_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = feeds(9)
    whole = accumulate(model(0), model(1), REQUESTS[:1], samples)["second"]
    monkeypatch.setattr("fcc.runtime.paired._ELEMENTS", 10)
    pieces = accumulate(model(0), model(1), REQUESTS[:1], samples)["second"]
    np.testing.assert_allclose(pieces.xx.total, whole.xx.total, rtol=1e-9)
    assert pieces.xx.count == whole.xx.count


def test_empty_tensors_have_no_moments_and_no_samples_are_an_error() -> None:
    assert accumulate(model(0), model(1), REQUESTS[:1], [{"x": np.zeros((0, 3), np.float32)}]) == {}
    with pytest.raises(CalibrationError, match="no sample"):
        accumulate(model(0), model(1), REQUESTS, [])


def test_only_what_tensors_need_is_left() -> None:
    part = only(model(0), ["h", "x", "missing"])
    assert part is not None
    graph = onnx.load_from_string(part).graph
    assert tensor_names(part) == ["h"]
    assert [t.name for t in graph.initializer] == ["a"]
    assert [o.name for o in graph.output] == ["h"]
    assert only(model(0), ["x"]) is None


def test_nested_graphs_keep_what_they_read() -> None:
    text = """g (bool c, float[2] x) => (float[2] y) <float[2] w> { v = Neg(x) u = Abs(x)
        t = If(c) <then_branch = p () => (float[2] a) { a = Add(v, w) }, else_branch = q () => (float[2] v) { }>
        y = Neg(t) }"""
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text.replace(" <float[2] w>", "")}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(2, np.float32), "w"))
    part = only(proto, ["t"])
    assert part is not None
    assert tensor_names(part) == ["v", "t"]
    assert [t.name for t in onnx.load_from_string(part).graph.initializer] == ["w"]
