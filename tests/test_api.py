"""fcc.compile end to end: every option does what it says, and the report says what was done."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("onnxruntime")

import fcc
import fcc.models
from fcc.errors import CalibrationError, OptionError, ParityError, TargetError
from fcc.testing import random_array

MODELS = Path(fcc.models.__file__).parent
MLP, CNN = MODELS / "digits_mlp.onnx", MODELS / "digits_cnn.onnx"
DIGITS = MODELS / "digits_calibration.npz"


def model(text: str, **constants: Any) -> onnx.ModelProto:
    """Return a model of ONNX's textual syntax; a tensor declared in ``<...>`` gets seeded random contents."""
    proto = onnx.parser.parse_model('<ir_version: 10, opset_import: ["" : 21]>\n' + text)
    rng = np.random.default_rng(3)
    for info in list(proto.graph.value_info):
        kind = info.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        array = random_array(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape, rng)
        array = np.asarray(constants.get(info.name, array), array.dtype).reshape(shape)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, info.name))
        proto.graph.value_info.remove(info)
    return proto


MUL_ADD = """g (float[N,8] x) => (float[N,4] y) <float[8,4] w, float[4] b> {
  i = Identity(x) m = MatMul(i, w) a = Add(m, b) y = Relu(a) }"""


def run(compiled: fcc.CompiledModel, **feeds: Any) -> dict[str, Any]:
    found: dict[str, Any] = compiled.session().run({k: np.asarray(v, np.float32) for k, v in feeds.items()})
    return found


# -- the result ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
@pytest.mark.parametrize("level", [0, 1, 2])
def test_every_level_and_target_keeps_inputs_outputs_and_answers(target: str, level: int) -> None:
    source = model(MUL_ADD)
    compiled = fcc.compile(source, target=target, opt_level=level, allow_growth=True)
    found = compiled.proto()
    onnx.checker.check_model(found, full_check=True)
    assert [v.SerializeToString() for v in found.graph.input] == [v.SerializeToString() for v in source.graph.input]
    assert [v.name for v in found.graph.output] == ["y"]
    assert compiled.report.worst is not None
    assert compiled.report.worst.ok
    assert compiled.report.target == target
    ops = [n.op_type for n in found.graph.node]
    assert ops == (["Identity", "MatMul", "Add", "Relu"], ["MatMul", "Add", "Relu"], ["Gemm", "Relu"])[level]


def test_the_source_object_is_left_alone_and_the_same_call_gives_the_same_bytes() -> None:
    source = model(MUL_ADD)
    before = source.SerializeToString()
    first, second = (fcc.compile(source).to_bytes() for _ in range(2))
    assert source.SerializeToString() == before
    assert first == second


def test_threads_compile_at_the_same_time() -> None:
    source, seen = model(MUL_ADD), set[int]()

    def one(k: int) -> bytes:
        seen.add(threading.get_ident())
        return fcc.compile(source if k % 2 else MLP, seed=0).to_bytes()

    with ThreadPoolExecutor(4) as executor:
        found = list(executor.map(one, range(8)))
    assert len({*found[1::2]}) == len({*found[::2]}) == 1


def test_save_writes_what_to_bytes_gives(tmp_path: Path) -> None:
    compiled = fcc.compile(MLP)
    compiled.save(tmp_path / "m.onnx")
    assert (tmp_path / "m.onnx").read_bytes() == compiled.to_bytes()
    x = np.load(DIGITS)["x"][0]
    session = fcc.compile(tmp_path / "m.onnx").session(threads=1, recommended=False)
    assert np.allclose(session.run({"x": x})["logits"], run(compiled, x=x)["logits"], atol=1e-5)


def test_optimize_gives_the_module_without_legalization() -> None:
    module = fcc.optimize(model(MUL_ADD), disable="fuse-matmul-add")
    assert [n.op_type for n in module.graph] == ["MatMul", "Add", "Relu"]
    module = fcc.optimize(model(MUL_ADD), passes="eliminate-identity", shapes={"N": 3})
    assert module.graph.inputs[0].shape == (3, 8)


# -- the pipeline ----------------------------------------------------------------------------------------------------
def test_passes_disable_and_rewrite_limit() -> None:
    source = model(MUL_ADD)
    assert fcc.compile(source, passes="eliminate-identity").report.pipeline == "eliminate-identity"
    assert fcc.compile(source, passes="").report.applied == 0
    assert fcc.compile(source, rewrite_limit=0).report.applied == 0
    assert fcc.compile(source, rewrite_limit=1).report.applied == 1
    for disable in ("fuse-matmul-add", ["fuse-matmul-add"]):
        names = {r["pass_name"] for r in fcc.compile(source, disable=disable).report.rewrites}
        assert names == {"eliminate-identity"}


def test_the_pipeline_of_a_report_can_be_run_again() -> None:
    first = fcc.compile(MLP)
    again = fcc.compile(MLP, passes=first.report.pipeline)
    assert again.to_bytes() == first.to_bytes()


@pytest.mark.parametrize("verify", ["off", "end", "each"])
def test_verify(verify: str) -> None:
    report = fcc.compile(model(MUL_ADD), verify=verify).report
    assert (report.parity_skipped != "") == (verify == "off")
    assert [r.phase for r in report.parity] == ([] if verify == "off" else ["exact"])
    with pytest.raises(ParityError):
        fcc.compile(model(MUL_ADD), verify="off", require_parity=True)


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ({"target": "gpu"}, "target has no value 'gpu'"),
        ({"opt_level": 4}, "opt_level is 0, 1, 2 or 3"),
        ({"verify": "no"}, "verify has no value"),
        ({"budget": "-1%"}, "budget is a positive share"),
        ({"budget": "much"}, "budget is a share"),
        ({"metric": "mse"}, "metric has no value"),
        ({"low_rank": "ratio=2"}, "low_rank takes"),
        ({"low_rank": "energy=1"}, "low_rank takes"),
        ({"low_rank": "energy=nan"}, "low_rank takes"),
        ({"low_rank": "rank=1.5"}, "low_rank takes"),
        ({"low_rank": "size=3"}, "low_rank takes"),
        ({"low_rank": {"rank": 4, "energy": 0.5}}, "low_rank takes"),
        ({"low_rank": "x"}, "low_rank is written"),
        ({"prune": 1.5}, "prune takes ratio= or energy= between 0 and 1"),
        ({"prune": "rank=4"}, "prune takes"),
        ({"prune": "half"}, "prune is written ratio=0.5 or energy=0.99"),
        ({"disable": "fold-batchnrm"}, "no pass is named"),
        ({"passes": "no-such"}, "no pass is named"),
        ({"passes": "factorize-linear{ratio=0.5}"}, "moves the outputs"),
        ({"passes": "insert-qdq"}, "moves the outputs"),
        ({"plugins": "none.py"}, "is no file"),
        ({"custom_ops": "none.so"}, "is no file"),
        ({"opt_shapes": {"q": 3}}, "no dimension or input 'q'"),
        ({"shapes": {"q": 3}}, "no dimension or input 'q'"),
    ],
)
def test_wrong_options_are_named(more: dict[str, Any], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        fcc.compile(model(MUL_ADD), **more)


# -- data ------------------------------------------------------------------------------------------------------------
def feeds(count: int = 4) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    return [{"x": rng.standard_normal((2, 8)).astype(np.float32)} for _ in range(count)]


@pytest.mark.parametrize("data", [feeds(), lambda: iter(feeds()), {"x": np.zeros((4, 2, 8), np.float32)}])
def test_data_judges(data: Any) -> None:
    report = fcc.compile(model(MUL_ADD), data=data).report
    assert report.parity_on == "4 samples"
    assert report.worst is not None


@pytest.mark.parametrize("sizes", [{"N": 64}, {"x": (64, 8)}])
def test_opt_shapes_size_what_is_modelled_and_leave_the_model(sizes: dict[str, Any]) -> None:
    one, many = fcc.compile(model(MUL_ADD)), fcc.compile(model(MUL_ADD), opt_shapes=sizes)
    assert many.report.before is not None
    assert one.report.before is not None
    assert many.report.before.flops == 64 * one.report.before.flops
    assert many.module.graph.inputs[0].shape == one.module.graph.inputs[0].shape


def test_progress_is_told_phases_and_samples() -> None:
    seen: list[tuple[str, int, int]] = []
    fcc.compile(MLP, precision="int8", calibration=DIGITS, progress=lambda *a: seen.append(a))
    phases = list(dict.fromkeys(s[0] for s in seen))
    exact = ["prepare", "load", "probe", "optimize", "legalize", "emit", "verify"]
    assert phases == [*exact, "compress", "calibrate", "certify"]
    counted = [(done, total) for phase, done, total in seen if phase == "calibrate" and done]
    assert {total for _, total in counted} == {150, 200}  # samples are held back to choose, then all are used
    assert counted[-200:] == [(n, 200) for n in range(1, 201)]


def test_calibration_on_an_executor_gives_the_same_model() -> None:
    here = fcc.compile(CNN, precision="int8", calibration=DIGITS)
    with ThreadPoolExecutor(2) as executor:
        there = fcc.compile(CNN, precision="int8", calibration=DIGITS, executor=executor)
    assert there.to_bytes() == here.to_bytes()


# -- growth ----------------------------------------------------------------------------------------------------------
GROWS = """g (float[N,64] x) => (float[N,64] y, float[N,64] z, float[N,64] u) <float[64,64] w, float[64] a, float[64] b> {
  m = MatMul(x, w) y = Mul(m, a) z = Mul(m, b) i = Identity(m) u = Relu(i) }"""


def grow(graph: Any) -> Any:
    """Add weights that nothing needs."""
    import onnx_graphsurgeon as gs

    node = next(n for n in graph.nodes if n.op == "MatMul")
    constant = gs.Constant("extra", np.eye(64, dtype=np.float32))
    out = gs.Variable("turned", np.float32)
    first = node.inputs[0]
    graph.nodes.insert(0, gs.Node("MatMul", inputs=[first, constant], outputs=[out]))
    node.inputs[0] = out
    return graph


def test_a_pass_that_grows_the_file_is_left_out_unless_allowed() -> None:
    pytest.importorskip("onnx_graphsurgeon")
    source = model(GROWS)
    report = fcc.compile(source, plugins=grow).report
    assert report.before is not None
    assert report.after is not None
    assert report.after.bytes <= report.before.bytes
    assert any("-O0 was used" in n for n in report.notes)
    assert report.pipeline == ""
    assert report.worst is not None
    allowed = fcc.compile(source, plugins=grow, allow_growth=True).report
    assert allowed.after is not None
    assert allowed.after.bytes > report.before.bytes
    assert not any("was used" in n for n in allowed.notes)


def test_metadata_is_repeated_only_where_there_is_room() -> None:
    source = model(
        "g (float[1,3,4] x, float[1,2,1] g) => (float[1,6,4] y) <float[6,5,1] w, int64[3] shape = {1, 2, 4}> "
        "{ e = Expand(g, shape) r = Relu(x) j = Concat<axis=1>(r, e) y = Conv(j, w) }"
    )
    source.graph.node[-1].metadata_props.add(key="trace", value="a line of a program " * 40)
    allowed = fcc.compile(source, allow_growth=True)
    assert allowed.report.after is not None
    assert allowed.report.before is not None
    assert allowed.report.after.bytes > allowed.report.before.bytes
    compiled = fcc.compile(source)
    assert compiled.report.after is not None
    assert compiled.report.after.bytes <= allowed.report.before.bytes
    assert compiled.report.notes == ["metadata that nodes would repeat is on one of them, for the file not to grow"]
    traces = [n for n in compiled.proto().graph.node for p in n.metadata_props if p.key == "trace"]
    assert [n.op_type for n in traces] == ["Add"]


def test_int8_that_grows_a_tiny_model_gives_the_exact_one_back() -> None:
    source = model("g (float[N,4] x) => (float[N,4] y) <float[4,4] w> { y = MatMul(x, w) }")
    data = {"x": np.random.default_rng(0).standard_normal((9, 4)).astype(np.float32)}
    report = fcc.compile(source, precision="int8", calibration=data).report
    assert any("--precision int8 would write" in n and "the exact model was used" in n for n in report.notes)
    assert report.layers == []
    assert {r.phase for r in report.parity} == {"exact"}


# -- lossy -----------------------------------------------------------------------------------------------------------
def test_int8_keeps_its_budget_or_is_refused() -> None:
    compiled = fcc.compile(MLP, precision="int8", calibration=DIGITS, budget="2%")
    row = next(r for r in compiled.report.parity if r.phase == "lossy")
    assert (row.metric, row.limit, row.ok) == ("rel", 0.02, True)
    assert 0 < row.error < 0.02
    assert len(compiled.report.layers) == 3
    with pytest.raises(ParityError, match="int8 moves the outputs beyond the budget"):
        fcc.compile(MLP, precision="int8", calibration=DIGITS, budget=1e-6)


@pytest.mark.parametrize(
    ("metric", "budget", "bad"), [("sqnr", 20, 99), ("agreement", 0.05, None), ("max_abs", 5, 1e-9)]
)
def test_rows_say_the_metric_that_decides(metric: str, budget: float, bad: float | None) -> None:
    report = fcc.compile(MLP, precision="int8", calibration=DIGITS, metric=metric, budget=budget).report
    row = next(r for r in report.parity if r.phase == "lossy")
    assert (row.metric, row.limit, row.ok) == (metric, budget, True)
    if bad is not None:
        with pytest.raises(ParityError, match=metric):
            fcc.compile(MLP, precision="int8", calibration=DIGITS, metric=metric, budget=bad)


def test_a_metric_of_the_user_decides(tmp_path: Path) -> None:
    file = tmp_path / "mine.py"
    file.write_text("def worst(a, b):\n    return max(float(abs(a[k] - b[k]).max()) for k in a)\n")
    how: dict[str, Any] = {"precision": "int8", "calibration": DIGITS, "metric": f"{file}:worst"}
    report = fcc.compile(MLP, **how, budget=5).report
    row = report.parity[-1]
    assert (row.output, row.metric, row.limit, row.ok) == ("(all)", how["metric"], 5, True)
    with pytest.raises(ParityError, match=r"mine\.py:worst"):
        fcc.compile(MLP, **how, budget=1e-9)


def test_without_a_budget_ten_decibels_are_asked_for_unless_forced() -> None:
    with pytest.raises(ParityError, match="below 10 dB SQNR"):
        fcc.compile(MLP, low_rank="rank=1", calibration=DIGITS)
    forced = fcc.compile(MLP, low_rank="rank=1", calibration=DIGITS, force=True).report
    assert next(r for r in forced.parity if r.phase == "lossy").limit is None
    assert forced.layers


def test_low_rank_by_energy() -> None:
    compiled = fcc.compile(MLP, low_rank="energy=0.9", calibration=DIGITS, force=True)
    layers = [layer for layer in compiled.report.layers if "rank" in layer]
    assert layers
    assert all(layer["output_error"] ** 2 <= 0.1 for layer in layers)
    bolder = fcc.compile(MLP, low_rank={"energy": 0.5}, calibration=DIGITS, force=True).report.layers
    assert sum(layer["rank"] for layer in bolder) < sum(layer["rank"] for layer in layers)


def test_low_rank_that_reaches_no_layer_says_so() -> None:
    assert any("no layer was factorized" in n for n in fcc.compile(MLP, low_rank="rank=99").report.notes)


def test_channels_are_pruned_and_their_readers_refitted() -> None:
    compiled = fcc.compile(CNN, prune=0.5, calibration=DIGITS, force=True)
    rows = [layer for layer in compiled.report.layers if "channels" in layer]
    assert rows
    assert all(2 * row["channels"] == row["of"] for row in rows)
    before, after = compiled.report.before, compiled.report.after
    assert before is not None
    assert after is not None
    assert after.parameters < 0.6 * before.parameters
    assert next(r.error for r in compiled.report.parity if r.phase == "lossy") < 0.2
    assert compiled.to_bytes() == fcc.compile(CNN, prune=0.5, calibration=DIGITS, force=True).to_bytes()


def test_pruning_needs_calibration_data_and_says_when_nothing_goes() -> None:
    with pytest.raises(CalibrationError, match="prune needs calibration data"):
        fcc.compile("missing.onnx", prune=0.5)
    notes = fcc.compile(MLP, prune="ratio=0.999", calibration=DIGITS).report.notes
    assert any("no channel was removed" in n for n in notes)


def test_channels_then_low_rank_then_int8() -> None:
    how: dict[str, Any] = {"prune": 0.75, "low_rank": "rank=8", "precision": "int8"}
    compiled = fcc.compile(MLP, calibration=DIGITS, force=True, **how)
    kinds = ["channels" if "channels" in x else "rank" if "rank" in x else "int8" for x in compiled.report.layers]
    assert list(dict.fromkeys(kinds)) == ["channels", "rank", "int8"]
    with pytest.raises(ParityError, match=r"^prune ratio=0\.75 \+ low rank rank=8 \+ int8 moves the outputs"):
        fcc.compile(MLP, calibration=DIGITS, budget=1e-6, **how)


def test_what_cannot_be_done_is_refused_before_any_work() -> None:
    for more in ({"precision": "int8"}, {"opt_level": 3}):
        with pytest.raises(CalibrationError, match="needs calibration data"):
            fcc.compile("missing.onnx", **more)
    with pytest.raises(TargetError, match="fp16"):
        fcc.compile("missing.onnx", precision="fp16")
    with pytest.raises(TargetError, match="int8"):
        fcc.compile("missing.onnx", precision="int8", target="cuda", calibration=DIGITS)


def test_level_3_chooses_layer_by_layer() -> None:
    how: dict[str, Any] = {"opt_level": 3, "calibration": DIGITS, "objective": "size"}
    whole = {b: fcc.compile(MLP, precision="int8", calibration=DIGITS, budget=b) for b in ("5%", "20%")}
    for budget in whole:
        compiled = fcc.compile(MLP, budget=budget, **how)
        ops = {n.op_type for n in compiled.proto().graph.node}
        assert "Cast" in ops  # weights in int8, unpacked when the file is loaded
        assert [n for n in compiled.report.notes if n.startswith("layer by layer: ")]
        assert len(compiled.to_bytes()) <= len(whole[budget].to_bytes())
        assert all(row.ok for row in compiled.report.parity)


def test_level_3_keeps_fp32_when_told() -> None:
    compiled = fcc.compile(MLP, opt_level=3, precision="fp32", calibration=DIGITS, budget="50%", objective="size")
    assert compiled.report.layers
    assert not {n.op_type for n in compiled.proto().graph.node} & {"QuantizeLinear", "DequantizeLinear"}


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ({"verify": "off"}, "verification is off"),
        ({"budget": 1e-9}, "nothing lossy was better within the budget"),
    ],
)
def test_level_3_gives_the_exact_model_where_nothing_is_known_to_be_better(more: dict[str, Any], why: str) -> None:
    exact = fcc.compile(MLP)
    compiled = fcc.compile(MLP, opt_level=3, calibration=DIGITS, objective="size", **more)
    assert any(why in n for n in compiled.report.notes)
    assert [n.op_type for n in compiled.proto().graph.node] == [n.op_type for n in exact.proto().graph.node]


# -- the report ------------------------------------------------------------------------------------------------------
def test_the_report_is_json_without_nan() -> None:
    compiled = fcc.compile(MLP, low_rank=0.5, force=True, calibration=DIGITS)
    compiled.report.layers.append({"name": "odd", "error": float("nan"), "size": np.float32(2), "count": np.int64(3)})

    def refuse(text: str) -> None:
        raise AssertionError(text)

    found = json.loads(compiled.report.to_json(), parse_constant=refuse)
    assert found["schema"] == 1
    assert found["layers"][-1] == {"name": "odd", "error": None, "size": 2.0, "count": 3}
    assert "| pass |" in compiled.report.to_markdown()


def test_the_worst_row_is_the_one_nearest_to_its_limit() -> None:
    from fcc.report import ParityRow, Report

    rel = ParityRow("lossy", "a", "rel", 0.005, 0.01, True)
    loud, quiet = (ParityRow("lossy", n, "sqnr", db, 20, True) for n, db in (("b", 21.0), ("c", 90.0)))
    assert Report(parity=[rel, quiet]).worst is rel
    assert Report(parity=[rel, quiet, loud]).worst is loud
    assert Report(parity=[ParityRow("lossy", "a", "rel", 9, None, True)]).worst is None
