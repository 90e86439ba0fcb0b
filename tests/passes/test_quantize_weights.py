"""quantize-weights: the packing, the forms of the targets, what refuses, and (with onnxruntime) what runs."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.compress.blocks import quantize_blocks
from fcc.compress.calibrate import CalibrationStats
from fcc.compress.patches import Moments
from fcc.frontend import read
from fcc.ir.text import canonical
from fcc.passes._weight_forms import packed, packed_zero_points
from fcc.passes.quantize_weights import QuantizeWeights
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing.texts import expected_module

ALL: dict[str, Any] = {"rows": 0, "least": 0}
MATMUL = "g (float[N,40] x) => (float[N,6] y) <float[40,6] w> { y = MatMul(x, w) }"


def prepared(text: str, target: str = "cpu", opset: int = 21, sizes: Any = None) -> tuple[ir.Module, PassContext]:
    module = read(testing.model_from(text, opset, {}, 0))
    shapes.infer(module)
    log = Log(strict=True, explain=frozenset({"quantize-weights"}))
    return module, PassContext(get_target(target), log, sizes or {})


def applied(p: QuantizeWeights, text: str, target: str = "cpu", opset: int = 21, stats: Any = None) -> ir.Module:
    module, ctx = prepared(text, target, opset)
    ctx = PassContext(ctx.target, ctx.log, ctx.shapes, stats)
    assert run_pass(p, module, ctx) > 0, ctx.log.refused
    ir.verify(module)
    assert run_pass(p, module, ctx) == 0
    return module


def initializers(module: ir.Module) -> dict[str, np.ndarray[Any, Any]]:
    arrays = {k: ir.Module.constant(v) for k, v in module.graph.initializers.items()}
    return {k: a for k, a in arrays.items() if a is not None}


def reasons(p: QuantizeWeights, text: str, target: str = "cpu", opset: int = 21, sizes: Any = None) -> list[str]:
    module, ctx = prepared(text, target, 21, sizes)
    module.model.opset_imports[""] = opset
    before = canonical(module)
    assert run_pass(p, module, ctx) == 0
    assert canonical(module) == before
    assert p.layers(module, ctx) == []
    return [r.reason for r in ctx.log.refused]


def test_packing() -> None:
    codes = np.arange(40, dtype=np.uint8).reshape(40, 1) % 16
    found = packed(codes, 32, 4)
    assert found.shape == (1, 2, 16)
    assert found[0, 0, :2].tolist() == [0 | 1 << 4, 2 | 3 << 4]
    assert found[0, 1, 3:].tolist() == [6 | 7 << 4, *[0] * 12]
    assert packed(codes, 32, 8)[0, 1, :9].tolist() == [0, 1, 2, 3, 4, 5, 6, 7, 0]
    zeros = np.array([[1, 2], [3, 4], [5, 6]], np.uint8)
    assert packed_zero_points(zeros, 4).tolist() == [[1 | 3 << 4, 5], [2 | 4 << 4, 6]]
    assert packed_zero_points(zeros, 8).tolist() == [[1, 3, 5], [2, 4, 6]]


FORMS = [
    (MATMUL, "y = com.microsoft.MatMulNBits<K=40, N=6, accuracy_level=4, bits=4, block_size=32>(x, a, s, z)"),
    (
        "g (float[N,40] x) => (float[N,6] y) <float[6,40] w, float[6] b>"
        " { y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b) }",
        "t = com.microsoft.MatMulNBits<K=40, N=6, accuracy_level=4, bits=4, block_size=32>(x, a, s, z) y = Add(t, b)",
    ),
    (
        "g (float[N,S,40] x) => (float[N,S,6] y) <float[40,6] w, float[6] b> { t = MatMul(x, w) y = Add(b, t) }",
        "t = com.microsoft.MatMulNBits<K=40, N=6, accuracy_level=4, bits=4, block_size=32>(x, a, s, z) y = Add(t, b)",
    ),
]


@pytest.mark.parametrize(("text", "nodes"), FORMS)
def test_cpu_form(text: str, nodes: str) -> None:
    module = applied(QuantizeWeights(**ALL), text)
    head, _, tail = text.partition("<float[")
    bias = ", float[6] b" if "Add" in nodes else ""
    after = f"{head} <uint8[6,2,16] a, float[6,2] s, uint8[6,1] z{bias}> {{ {nodes} }}"
    assert tail
    assert canonical(module) == canonical(expected_module(after, 21))
    arrays = initializers(module)
    source = initializers(prepared(text)[0])
    weight = source["w"] if "transB" not in text else source["w"].T * 0.5
    blocked, _ = quantize_blocks(weight, 4, 32)
    assert np.array_equal(arrays["w/int"], packed(blocked.codes, 32, 4))
    assert np.array_equal(arrays["w/scale"], blocked.scales.T)
    assert np.array_equal(arrays["w/zero_point"], packed_zero_points(blocked.zero_points, 4))
    if "beta" in text:
        assert any(np.array_equal(a, 2 * source["b"]) for a in arrays.values())


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("target", ["cpu", "cuda"])
@pytest.mark.parametrize("text", [t for t, _ in FORMS])
def test_what_runs_is_what_the_codes_stand_for(bits: int, target: str, text: str) -> None:
    pytest.importorskip("onnxruntime")
    from onnx_ir import serde

    from fcc.runtime import open_session

    module = applied(QuantizeWeights(bits=bits, **ALL), text, target)
    source, start = read(testing.model_from(text, 21, {}, 0)), testing.model_from(text, 21, {}, 0)
    w = initializers(source)["w"]
    blocked, _ = quantize_blocks(w.T if "transB" in text else w, bits, 32, symmetric=target == "cuda")
    near = blocked.array().astype(np.float32)
    reference = testing.model_from(text, 21, {**initializers(source), "w": near.T if "transB" in text else near}, 0)
    shape = (3, 40) if "[N,40]" in text else (2, 3, 40)
    x = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    exact, old, new = (
        open_session(m.SerializeToString(), optimize=False).run({"x": x})["y"]
        for m in (start, reference, serde.serialize_model(module.model))
    )
    size = np.linalg.norm(exact)
    assert np.linalg.norm(new - old) / size < 0.012  # activations in 8 bits inside
    assert np.linalg.norm(new - exact) / size < (0.2 if bits == 4 else 0.02)


def test_cuda_is_symmetric_in_the_type_of_the_activations() -> None:
    text = MATMUL.replace("float[", "float16[")
    arrays = initializers(applied(QuantizeWeights(), text, "cuda"))
    assert sorted(arrays) == ["w/int", "w/scale"]
    assert arrays["w/scale"].dtype == np.float16


@pytest.mark.parametrize("bits", [4, 8])
def test_tensorrt_dequantizes_by_blocks(bits: int) -> None:
    text = "g (float[N,64] x) => (float[N,6] y) <float[64,6] w, float[6] b> { y = Gemm(x, w, b) }"
    module = applied(QuantizeWeights(bits=bits), text, "tensorrt")
    size, how = ("2,6", "axis=0, block_size=32") if bits == 4 else ("6", "axis=1")
    after = (
        f"g (float[N,64] x) => (float[N,6] y) <int{bits}[64,6] a, float[{size}] s, int{bits}[{size}] z, float[6] b>"
        f" {{ v = DequantizeLinear<{how}>(a, s, z) t = MatMul(x, v) y = Add(t, b) }}"
    )
    assert canonical(module) == canonical(expected_module(after, 21))
    arrays, source = initializers(module), initializers(prepared(text)[0])
    blocked, _ = quantize_blocks(source["w"], bits, 32 if bits == 4 else 64, symmetric=True)
    scales = np.repeat(arrays["w/scale"].reshape(-1, 6).astype(np.float64), 32 if bits == 4 else 64, axis=0)
    values = arrays["w/int"].astype(np.float64) * scales
    assert np.allclose(values, blocked.array())
    assert not arrays["w/zero_point"].astype(int).any()


def test_gptq_where_the_inputs_were_watched() -> None:
    rng = np.random.default_rng(0)
    mix = rng.standard_normal((4, 40))
    module, ctx = prepared(MATMUL)
    p = QuantizeWeights(**ALL)
    ((key, watch),) = p.watch(module, ctx).items()
    assert watch.tensor == "x"
    moments = watch.empty
    assert isinstance(moments, Moments)
    for _ in range(20):
        moments.update(rng.standard_normal((9, 4)) @ mix + 0.1 * rng.standard_normal((9, 40)))
    module = applied(p, MATMUL, stats=CalibrationStats(watched={key: moments}))
    w = initializers(prepared(MATMUL)[0])["w"]
    blocked, how = quantize_blocks(w, 4, 32, folds=[f[0] for f in moments.folds()])
    assert how.startswith("gptq")
    assert np.array_equal(initializers(module)["w/int"], packed(blocked.codes, 32, 4))
    assert np.array_equal(
        initializers(applied(p, MATMUL, stats=CalibrationStats()))["w/int"],
        packed(quantize_blocks(w, 4, 32)[0].codes, 32, 4),
    )


def test_rows_and_size_decide_on_cpu() -> None:
    p = QuantizeWeights(least=240, rows=4)
    small = QuantizeWeights(least=241, rows=4)
    assert "with 240 weights the float kernel is faster" in reasons(small, MATMUL, sizes={"N": 1})[0]
    assert "rows is not known" in reasons(p, MATMUL)[0]
    assert "at 5 rows the float kernel is faster" in reasons(p, MATMUL, sizes={"N": 5})[0]
    for sizes in ({"N": 4}, {"N": 1}):
        module, ctx = prepared(MATMUL, sizes=sizes)
        assert p.layers(module, ctx) == ["y"]
    module, ctx = prepared(MATMUL.replace("[N", "[4"))
    assert run_pass(p, module, ctx) == 1
    module, ctx = prepared(MATMUL, sizes={"N": 1000})
    assert run_pass(QuantizeWeights(least=240, rows=0), module, ctx) == 1
    module, ctx = prepared(MATMUL, "cuda")
    assert run_pass(QuantizeWeights(), module, ctx) == 1


REFUSED = [
    ("g (float[N,40] x) => (float[N,6] y) <float16[40,6] w> { v = Cast<to=1>(w) y = MatMul(x, v) }", {}, ""),
    (MATMUL.replace("float[", "float16["), {}, "the weight is FLOAT16"),
    (MATMUL.replace("float[", "double["), {}, "the weight is DOUBLE"),
    ("g (float[40,N] x) => (float[N,6] y) <float[40,6] w> { y = Gemm<transA=1>(x, w) }", {}, "transA"),
    ("g (float[40] x) => (float[6] y) <float[40,6] w> { y = MatMul(x, w) }", {}, "a vector"),
    ("g (float[N,2,40] x) => (float[N,2,6] y) <float[2,40,6] w> { y = MatMul(x, w) }", {}, "not a matrix"),
    (
        "g (float[N,40] x, float[M,40] z) => (float[N,6] y, float[M,6] u) <float[40,6] w>"
        " { y = MatMul(x, w) u = MatMul(z, w) }",
        {},
        "other users",
    ),
    (
        "g (float[N,40] x, float[6] b) => (float[N,6] y) <float[40,6] w> { y = Gemm(x, w, b) }",
        {},
        "bias is not constant",
    ),
    ("g (float[N,0] x) => (float[N,6] y) <float[0,6] w> { y = MatMul(x, w) }", {}, "empty"),
    (MATMUL, {"exclude": "y"}, "excluded by option"),
    (MATMUL, {"only": "z"}, "excluded by option"),
    (MATMUL, {"block": 8}, "no kernel takes blocks of 8"),
    (MATMUL, {"block": 48}, "no kernel takes blocks of 48"),
    (MATMUL, {"bits": 3}, "3 bits"),
]


@pytest.mark.parametrize(("text", "options", "because"), REFUSED)
def test_refused(text: str, options: dict[str, Any], because: str) -> None:
    found = reasons(QuantizeWeights(**ALL, **options), text)
    assert not because or any(because in r for r in found), found


@pytest.mark.parametrize(
    ("text", "opset", "because"),
    [
        (MATMUL.replace("40", "64"), 20, "opset 20"),
        (MATMUL, 21, "no whole blocks"),
        (MATMUL.replace("40", "64").replace("6]", "7]"), 21, "even number"),
    ],
)
def test_refused_for_tensorrt(text: str, opset: int, because: str) -> None:
    assert because in reasons(QuantizeWeights(), text, "tensorrt", opset)[0]
    assert "opset 12" in reasons(QuantizeWeights(bits=8), text, "tensorrt", 12)[0]


def test_weights_of_infinite_value_stay() -> None:
    model = testing.model_from(MATMUL, 21, {"w": np.full((40, 6), np.inf, np.float32)}, 0)
    module = read(model)
    shapes.infer(module)
    log = Log(strict=True, explain=frozenset({"quantize-weights"}))
    assert run_pass(QuantizeWeights(**ALL), module, PassContext(get_target("cpu"), log)) == 0
    assert "NaN or infinity" in log.refused[0].reason
