"""insert-dynamic-quantization and quantize-recurrent: structure, integers, refusals, and what onnxruntime makes of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.compress.quantize import is_pair_safe, quantize_weight
from fcc.frontend import read
from fcc.ir.text import canonical
from fcc.passes.insert_dynamic_quantization import InsertDynamicQuantization
from fcc.passes.quantize_recurrent import QuantizeRecurrent
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.target import get_target
from fcc.testing.texts import expected_module

MATMUL = "g (float[N,8] x) => (float[N,6] y) <float[8,6] w> { y = MatMul(x, w) }"
QUANTIZED = (
    "q, s, z = DynamicQuantizeLinear(x) i = MatMulInteger(q, a, z, o) f = Cast<to=1>(i) m = Mul(s, c) {} = Mul(f, m)"
)


def initializers(module: ir.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {k: np.asarray(ir.Module.constant(v)) for k, v in module.graph.initializers.items()}


def start(text: str, opset: int = 21, constants: Any = None) -> ir.Module:
    module = read(testing.model_from(text, opset, constants or {}, 0))
    shapes.infer(module)
    return module


def applied(p: Pass, text: str, isa: str = "avx2", constants: Any = None) -> ir.Module:
    module = start(text, constants=constants)
    ctx = PassContext(get_target("cpu", isa=isa), Log(strict=True))
    assert run_pass(p, module, ctx) > 0
    ir.verify(module)
    assert run_pass(p, module, ctx) == 0
    assert ctx.log.layers
    return module


def reasons(p: Any, text: str, target: str = "cpu", opset: int = 21, constants: Any = None) -> list[str]:
    module = start(text, 21, constants)
    module.model.opset_imports[""] = opset
    before = canonical(module)
    ctx = PassContext(get_target(target), Log(strict=True, explain=frozenset({p.name})))
    assert run_pass(p, module, ctx) == 0
    assert canonical(module) == before
    assert p.layers(module, ctx) == []
    return [r.reason for r in ctx.log.refused]


FORMS = [
    (MATMUL, "", QUANTIZED.format("y")),
    (
        "g (float[N,8] x) => (float[N,6] y) <float[6,8] w, float[6] b> { y = Gemm<transB=1, alpha=0.5, beta=2.0>(x, w, b) }",
        ", float[6] b",
        QUANTIZED.format("t") + " y = Add(t, b)",
    ),
    (
        "g (float[N,S,8] x) => (float[N,S,6] y) <float[8,6] w, float[6] b> { t = MatMul(x, w) y = Add(b, t) }",
        ", float[6] b",
        QUANTIZED.format("t") + " y = Add(t, b)",
    ),
]


@pytest.mark.parametrize(("text", "bias", "nodes"), FORMS)
@pytest.mark.parametrize("isa", ["avx2", "vnni"])
def test_matrix_products(text: str, bias: str, nodes: str, isa: str) -> None:
    module = applied(InsertDynamicQuantization(), text, isa)
    head = text[: text.index("<float")]
    after = f"{head} <int8[8,6] a, int8 o, float[6] c{bias}> {{ {nodes} }}"
    assert canonical(module) == canonical(expected_module(after, 21))
    found, source = initializers(module), initializers(start(text))
    weight = source["w"].T * 0.5 if "transB" in text else source["w"]
    q = quantize_weight(weight, 1, pair_safe=isa == "avx2")
    assert np.array_equal(found["w/int"], q.values)
    assert np.array_equal(found["w/scale"], q.scale)
    assert found["w/zero_point"] == 0
    if "beta" in text:
        assert any(np.array_equal(a, 2 * source["b"]) for a in found.values())
    assert error(text, module) < 0.02


def error(text: str, module: ir.Module) -> float:
    """Relative error by the reference evaluator."""
    from onnx.reference import ReferenceEvaluator

    shape = (5, 8) if "[N,8]" in text else (2, 3, 8)
    fed = {"x": np.random.default_rng(0).standard_normal(shape).astype(np.float32)}
    old = ReferenceEvaluator(testing.model_from(text, 21, {}, 0)).run(None, fed)
    new = ReferenceEvaluator(serde.serialize_model(module.model)).run(None, fed)
    return float(np.linalg.norm(old[0] - new[0]) / np.linalg.norm(old[0]))


def test_layers_that_read_one_tensor_share_its_integers() -> None:
    pytest.importorskip("onnxruntime")
    from fcc.runtime import kernels

    text = (
        "g (float[N,8] x) => (float[N,6] y, float[N,4] u) <float[8,6] w, float[8,4] v>"
        " { y = MatMul(x, w) u = MatMul(x, v) }"
    )
    module = applied(InsertDynamicQuantization(), text)
    assert [n.op_type for n in module.graph].count("DynamicQuantizeLinear") == 1
    found = kernels(serde.serialize_model(module.model).SerializeToString())
    assert found == {"DynamicQuantizeLinear": 1, "MatMulIntegerToFloat": 2}
    alone = applied(InsertDynamicQuantization(), FORMS[1][0])
    assert kernels(serde.serialize_model(alone.model).SerializeToString()) == {"DynamicQuantizeMatMul": 1}
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert InsertDynamicQuantization(only="y").layers(start(text), ctx) == ["y"]


REFUSED = [
    (MATMUL, "cuda", 21, "cuda has no kernels"),
    (MATMUL, "tensorrt", 21, "tensorrt has no kernels"),
    (MATMUL, "cpu", 10, "opset 10"),
    (MATMUL.replace("float[", "float16["), "cpu", 21, "the weight is FLOAT16"),
    ("g (float[N,33001] x) => (float[N,1] y) <float[33001,1] w> { y = MatMul(x, w) }", "cpu", 21, "overflow"),
    ("g (float[8] x) => (float[6] y) <float[8,6] w> { y = MatMul(x, w) }", "cpu", 21, "vector"),
]


@pytest.mark.parametrize(("text", "target", "opset", "because"), REFUSED)
def test_refused(text: str, target: str, opset: int, because: str) -> None:
    assert because in reasons(InsertDynamicQuantization(), text, target, opset)[0]
    assert "excluded" in reasons(InsertDynamicQuantization(exclude="y"), MATMUL)[0]


def lstm(directions: int = 1, more: str = "", inputs: str = "", declared: str = "", outputs: str = "y, h, c") -> str:
    shapes_of = {
        "y": f"float[S,{directions},B,5] y",
        "h": f"float[{directions},B,5] h",
        "c": f"float[{directions},B,5] c",
    }
    out = ", ".join(shapes_of[o] for o in outputs.replace(" ", "").split(",") if o)
    way = {1: "", 2: ', direction="bidirectional"'}[directions]
    return (
        f"g (float[S,B,4] x) => ({out}) <float[{directions},20,4] w, float[{directions},20,5] r{declared}>"
        f" {{ {outputs} = LSTM<hidden_size=5{way}{more}>(x, w, r{inputs}) }}"
    )


VARIANTS = [
    lstm(),
    lstm(2),
    lstm(inputs=", b", declared=", float[1,40] b"),
    lstm(inputs=", b, , h0, c0", declared=", float[1,40] b, float[1,2,5] h0, float[1,2,5] c0").replace("B,", "2,"),
    lstm(inputs=", , , , , p", declared=", float[1,15] p"),
    lstm(more=", clip=0.5, input_forget=0"),
    lstm(outputs=", h"),
    lstm(more=", layout=0", outputs="y"),
]


@pytest.mark.parametrize("text", VARIANTS)
def test_lstm(text: str) -> None:
    pytest.importorskip("onnxruntime")
    from fcc.runtime import open_session

    module = applied(QuantizeRecurrent(), text)
    (node,) = module.graph
    assert (node.op_type, node.domain) == ("DynamicQuantizeLSTM", "com.microsoft")
    found, source = initializers(module), initializers(start(text))
    for name in ("w", "r"):
        assert found[f"{name}/int"].dtype == np.int8
        for d, matrix in enumerate(source[name]):
            q = quantize_weight(matrix, 0, pair_safe=True)
            assert np.array_equal(found[f"{name}/int"][d], q.values.T)
            assert np.array_equal(found[f"{name}/scale"][d], q.scale)
            assert is_pair_safe(found[f"{name}/int"][d], 1).all()
        assert not found[f"{name}/zero_point"].any()
    fed = {"x": np.random.default_rng(0).standard_normal((3, 2, 4)).astype(np.float32)}
    proto = serde.serialize_model(module.model)
    onnx.checker.check_model(proto)
    old, new = (
        open_session(m.SerializeToString(), optimize=False).run(fed)
        for m in (testing.model_from(text, 21, {}, 0), proto)
    )
    for key in old:
        assert np.linalg.norm(old[key] - new[key]) < 0.05 * np.linalg.norm(old[key])


LSTM_REFUSED = [
    (lstm(), "cuda", "no kernel"),
    (lstm(more=", layout=1").replace("S,B,4", "B,S,4"), "cpu", "layout"),
    (
        lstm(declared="").replace("float[1,20,4] w, ", "").replace("4] x)", "4] x, float[1,20,4] w)"),
        "cpu",
        "not constant",
    ),
    (lstm().replace("float[", "float16["), "cpu", "not finite float32"),
    (lstm().replace(" }", " z = Identity(w) }").replace("c) <", "c, float[1,20,4] z) <"), "cpu", "other users"),
    (lstm().replace("20,4] w", "20,33001] w").replace("B,4]", "B,33001]"), "cpu", "overflow"),
]


@pytest.mark.parametrize(("text", "target", "because"), LSTM_REFUSED)
def test_lstm_refused(text: str, target: str, because: str) -> None:
    assert because in reasons(QuantizeRecurrent(), text, target)[0]
    assert "excluded" in reasons(QuantizeRecurrent(only="nothing"), lstm())[0]


def test_lstm_of_infinite_weights() -> None:
    assert "not finite" in reasons(QuantizeRecurrent(), lstm(), constants={"r": np.full((1, 20, 5), np.inf)})[0]
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert QuantizeRecurrent().layers(start(lstm(outputs=", h")), ctx) == ["h"]
