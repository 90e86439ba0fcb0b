"""quantize-embeddings and convert-weights: structure, rounding, refusals, and that the runtime folds what was stored."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from onnx_ir import serde

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.errors import PipelineError
from fcc.frontend import read
from fcc.passes.convert_weights import ConvertWeights
from fcc.passes.quantize_embeddings import QuantizeEmbeddings
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

TABLE = "g (int64[N,2] i) => (float[N,2,6] y) <float[9,6] t> { y = Gather(t, i) }"
ROWS = "<int8[9,6] q, float[9,1] s> { a = Gather(q, i) c = Cast<to=1>(a) b = Gather(s, i) y = Mul(c, b) }"


def start(text: str, constants: Any = None) -> ir.Module:
    module = read(testing.model_from(text, 21, constants or {}, 0))
    shapes.infer(module)
    return module


def initializers(module: ir.Module) -> dict[str, np.ndarray[Any, Any]]:
    return {k: np.asarray(ir.Module.constant(v)) for k, v in module.graph.initializers.items()}


def check(p: Any, before: str, after: str | None, **more: Any) -> ir.Module:
    return testing.check(p, before, after, tolerance=more.pop("tolerance", 0.02), **more)


EMBED = QuantizeEmbeddings(least=0)


def test_rows_have_their_own_scale() -> None:
    t = np.random.default_rng(0).standard_normal((9, 6)) * np.logspace(-3, 3, 9)[:, None]
    t[4] = 0
    module = check(EMBED, TABLE, TABLE.partition("<")[0] + ROWS, constants={"t": t}, tolerance=0.01)
    found = initializers(module)
    scale = np.where(np.abs(t).max(axis=1) > 0, np.abs(t).max(axis=1) / 127, 1)
    assert np.allclose(found["t/scale"][:, 0], scale, rtol=1e-6)
    assert np.all(np.abs(found["t/int"] * found["t/scale"] - t).max(axis=1) <= scale * 0.501)
    assert np.abs(found["t/int"]).max() == 127


def test_every_reader_of_a_table_shares_its_integers() -> None:
    text = (
        "g (int64[N] i, int64[N] j) => (float[N,6] y, float[N,6] z) <float[9,6] t>"
        " { y = Gather<axis=0>(t, i) z = Gather<axis=-2>(t, j) }"
    )
    after = (
        "g (int64[N] i, int64[N] j) => (float[N,6] y, float[N,6] z) <int8[9,6] q, float[9,1] s>"
        " { a = Gather<axis=0>(q, i) c = Cast<to=1>(a) b = Gather<axis=0>(s, i) y = Mul(c, b)"
        " d = Gather<axis=-2>(q, j) e = Cast<to=1>(d) f = Gather<axis=-2>(s, j) z = Mul(e, f) }"
    )
    check(EMBED, text, after)
    module, ctx = start(text), PassContext(get_target("cpu"), Log(strict=True))
    assert EMBED.layers(module, ctx) == ["y"]


def test_a_float16_table_stays_float16() -> None:
    check(EMBED, TABLE.replace("float[", "float16["), TABLE.partition("<")[0].replace("float[", "float16[") + ROWS.replace("float[", "float16[").replace("to=1>", "to=10>"))  # fmt: skip


TABLES_REFUSED = [
    (TABLE, {"least": 55}, "not worth it"),
    (TABLE, {}, "a table of 54 elements"),
    (TABLE.replace("9,6", "0,6"), {"least": 0}, "a table of 0 elements"),
    (TABLE, {"least": 0, "exclude": "y"}, "excluded"),
    (TABLE, {"least": 0, "only": "z"}, "excluded"),
    (TABLE.replace("Gather(t", "Gather<axis=1>(t").replace("N,2,6] y", "9,N,2] y"), {"least": 0}, "no rows"),
    ("g (int64[N] i) => (float[N] y) <float[9] t> { y = Gather(t, i) }", {"least": 0}, "no rows"),
    (
        "g (int64[N] i, float[2,6] x) => (float[N,6] y, float[2,9] z) <float[9,6] t>"
        " { y = Gather(t, i) z = Gemm<transB=1>(x, t) }",
        {"least": 0},
        "something else reads",
    ),
]


@pytest.mark.parametrize(("text", "options", "because"), TABLES_REFUSED)
def test_tables_that_stay(text: str, options: dict[str, Any], because: str) -> None:
    check(QuantizeEmbeddings(**options), text, None, because=because)


def test_a_table_of_just_enough_elements_becomes_int8() -> None:
    check(QuantizeEmbeddings(least=54), TABLE, TABLE.partition("<")[0] + ROWS)


def test_tables_that_stay_elsewhere() -> None:
    check(EMBED, TABLE, None, because="tensorrt takes int8", target="tensorrt")
    check(EMBED, TABLE, None, because="NaN or infinity", constants={"t": np.full((9, 6), np.inf)})
    check(EMBED, TABLE.replace("float[9,6] t", "int64[9,6] t").replace("float[N,2", "int64[N,2"), None)
    overridable = TABLE.replace("i) =>", "i, float[9,6] t) =>")
    check(EMBED, overridable, None)


CONV = "g (float[N,4,9] x) => (float[N,6,7] y) <float[6,4,3] w, float[6] b> { y = Conv(x, w, b) }"


@pytest.mark.parametrize(("axis", "to"), [(0, "int8"), (1, "int8"), (2, "int8"), (0, "fp16"), (0, "codebook")])
def test_weights_are_stored_along_the_axis_that_loses_least(axis: int, to: str) -> None:
    shape = [1, 1, 1]
    shape[axis] = -1
    sizes = np.logspace(-2, 2, (6, 4, 3)[axis]).reshape(shape)
    w = (np.random.default_rng(0).uniform(-1, 1, (6, 4, 3)) * sizes).astype(np.float32)
    dims = ["1", "1", "1"]
    dims[axis] = str((6, 4, 3)[axis])
    stored = {
        "int8": f"<int8[6,4,3] q, float[{','.join(dims)}] s, float[6] b> {{ c = Cast<to=1>(q) v = Mul(c, s)",
        "fp16": "<float16[6,4,3] q, float[6] b> { v = Cast<to=1>(q)",
        "codebook": "<uint8[6,4,3] q, float[72] k, float[6] b> { i = Cast<to=6>(q) v = Gather<axis=0>(k, i)",
    }[to]
    after = CONV.partition("<")[0] + stored + " y = Conv(x, v, b) }"
    module = check(ConvertWeights(to=to, least=0), CONV, after, constants={"w": w}, tolerance=0.03)
    found = initializers(module)
    if to == "fp16":
        assert np.array_equal(found["w/half"], w.astype(np.float16))
        return
    if to == "codebook":
        assert np.array_equal(found["w/codebook"][found["w/index"]], w)
        return
    largest = np.abs(w).max(axis=tuple(i for i in range(3) if i != axis))
    assert np.allclose(found["w/scale"].reshape(-1), largest / 127, rtol=1e-6)
    assert np.array_equal(found["w/int"], np.clip(np.rint(w / found["w/scale"]), -127, 127))


def test_every_reader_uses_what_is_stored_once() -> None:
    text = "g (float[N,4] x) => (float[N,6] y, float[N,6] z) <float[4,6] w> { y = MatMul(x, w) z = Gemm(x, w) }"
    after = (
        "g (float[N,4] x) => (float[N,6] y, float[N,6] z) <float16[4,6] q>"
        " { v = Cast<to=1>(q) y = MatMul(x, v) z = Gemm(x, v) }"
    )
    check(ConvertWeights(to="fp16", least=0), text, after)
    module, ctx = start(text), PassContext(get_target("cpu"), Log(strict=True))
    assert ConvertWeights(least=0).layers(module, ctx) == ["w"]
    assert ConvertWeights(least=0).readers(module, ctx) == {"w": "y"}
    for name, count in (("w", 1), ("y", 1), ("z", 0), ("x+y", 1)):
        assert run_pass(ConvertWeights(least=0, only=name), start(text), ctx) == count


NESTED = (
    "g (float[2,4] x, bool c) => (float[2,6] y) <float[4,6] w>"
    " { y = If<then_branch = t () => (float[2,6] a) { a = MatMul(x, w) },"
    " else_branch = e () => (float[2,6] d) { d = Gemm(x, w) }>(c) }"
)
WEIGHTS_REFUSED = [
    (CONV, {"least": 73}, "fewer than 73 elements", "cpu", None),
    (CONV.replace("Conv(x, w, b)", "Conv(x, w)"), {}, "fewer than 1024", "cpu", None),
    ("g (float[N,4] x) => (float[N,4] y) <float[4] w> { y = Add(x, w) }", {"least": 0}, "one axis", "cpu", None),
    (CONV, {"least": 20, "only": "b+x"}, "excluded", "cpu", None),
    (CONV, {"least": 20}, "tensorrt takes", "tensorrt", None),
    (NESTED, {"least": 0}, "a nested graph reads", "cpu", None),
    (CONV, {"least": 20}, "NaN or infinity", "cpu", {"w": np.full((6, 4, 3), np.nan)}),
    (CONV, {"least": 20, "to": "fp16"}, "beyond float16", "cpu", {"w": np.full((6, 4, 3), 7e4)}),
    (
        "g (int8[64,2] x) => (float[64,2] y) <float[2,2] s> { y = DequantizeLinear<axis=0, block_size=32>(x, s) }",
        {"least": 0},
        "prepares constants",
        "cpu",
        None,
    ),
]


@pytest.mark.parametrize(("text", "options", "because", "target", "constants"), WEIGHTS_REFUSED)
def test_weights_that_stay(text: str, options: Any, because: str, target: str, constants: Any) -> None:
    module = start(text, constants)
    ctx = PassContext(get_target(target), Log(strict=True, explain=frozenset({"convert-weights"})))
    assert run_pass(ConvertWeights(**options), module, ctx) == 0
    assert any(because in r.reason for r in ctx.log.refused)


def test_weights_at_the_limits_are_stored() -> None:
    largest = {"w": np.full((6, 4, 3), np.float32(65504))}
    for to in ("fp16", "int8"):
        module = start(CONV, largest)
        assert run_pass(ConvertWeights(to=to, least=72), module, PassContext(get_target("cpu"), Log(strict=True))) == 1


def test_operands_that_are_absent_are_passed_over() -> None:
    text = (
        "g (float[N,4] x) => (float[N,6] y) <float[4,6] w, float h>"
        " { c = Clip(x, , h) d = Clip(c, , h) y = MatMul(d, w) }"
    )
    module, ctx = start(text, {"h": 1.0}), PassContext(get_target("cpu"), Log(strict=True))
    assert ConvertWeights(least=0).layers(module, ctx) == ["w"]


def test_the_form_has_to_exist() -> None:
    with pytest.raises(PipelineError, match="no value 'int7'"):
        ConvertWeights(to="int7")


@pytest.mark.parametrize("to", ["int8", "fp16", "codebook"])
def test_the_runtime_folds_what_is_stored(to: str) -> None:
    pytest.importorskip("onnxruntime")
    from fcc.runtime import kernels

    module, ctx = start(CONV), PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(ConvertWeights(to=to, least=20), module, ctx) == 1
    assert kernels(serde.serialize_model(module.model).SerializeToString()) == {"Conv": 1}


def test_look_ups_stay_where_their_indices_are_known() -> None:
    text = (
        "g (int64[N] i) => (float[N,6] y, float[N,6] z) <float[9,6] t> { y = Gather(t, i) j = Neg(i) z = Gather(t, j) }"
    )
    after = (
        "g (int64[N] i) => (float[N,6] y, float[N,6] z) <int8[9,6] q, float[9,1] s>"
        " { a = Gather(q, i) c = Cast<to=1>(a) b = Gather(s, i) y = Mul(c, b) j = Neg(i)"
        " d = Gather(q, j) e = Cast<to=1>(d) f = Gather(s, j) z = Mul(e, f) }"
    )
    check(EMBED, text, after)


@pytest.mark.parametrize(
    ("p", "text", "what"),
    [
        (EMBED, TABLE, "int8 table of 9 x 6"),
        (ConvertWeights(least=20), CONV, "stored as int8: 72 elements in 96 bytes, error 0."),
        (ConvertWeights(to="fp16", least=20), CONV, "stored as fp16: 72 elements in 144 bytes, error 0.000"),
        (
            ConvertWeights(to="codebook", least=20),
            CONV,
            "stored as codebook: 72 elements in 360 bytes, error 0 (int8: 0.",
        ),
    ],
)
def test_the_report_says_what_was_stored(p: Any, text: str, what: str) -> None:
    module, ctx = start(text), PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(p, module, ctx) == 1
    (row,) = ctx.log.layers
    assert row["name"] == ("y" if text == TABLE else "w")
    assert row["what"].startswith(what)


@pytest.mark.parametrize(("to", "size"), [("int8", 5000 + 400), ("fp16", 10000), ("codebook", 5000 + 1024)])
def test_the_report_has_the_measured_error_and_bytes(to: str, size: int) -> None:
    text = "g (float[N,100] x) => (float[N,50] y) <float[100,50] w> { y = MatMul(x, w) }"
    module, ctx = start(text), PassContext(get_target("cpu"), Log(strict=True))
    w = initializers(module)["w"].astype(np.float64)
    assert run_pass(ConvertWeights(to=to), module, ctx) == 1
    (row,) = ctx.log.layers
    found = initializers(module)
    scale = found.get("w/scale", np.float32(1))
    (stored,) = (found[n] for n in ("w/int", "w/half", "w/index") if n in found)
    again = found["w/codebook"][stored] if to == "codebook" else stored * scale
    assert row["weight_error"] == pytest.approx(np.linalg.norm(w - again) / np.linalg.norm(w), rel=1e-4)
    assert row["bytes"] == size == sum(a.nbytes for a in found.values())


def test_zeros_are_stored_without_error() -> None:
    text = "g (float[N,100] x) => (float[N,50] y) <float[100,50] w> { y = MatMul(x, w) }"
    module, ctx = start(text, {"w": 0.0}), PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(ConvertWeights(to="codebook"), module, ctx) == 1
    assert ctx.log.layers[0]["weight_error"] == 0


def test_equal_losses_take_the_first_axis() -> None:
    module, ctx = start(CONV, {"w": np.ones((6, 4, 3))}), PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(ConvertWeights(least=20), module, ctx) == 1
    assert initializers(module)["w/scale"].shape == (6, 1, 1)


def test_what_a_quantize_linear_reads_stays() -> None:
    text = "g () => (int8[4,6] y) <float[4,6] w, float s, int8 z> { y = QuantizeLinear(w, s, z) }"
    check(ConvertWeights(least=0), text, None, because="prepares constants", constants={"s": 1, "z": 0})
