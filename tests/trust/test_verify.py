"""fcc.verify: equal byte for byte, or what differs and why; what is needed and not given."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fcc
from fcc.__main__ import main
from fcc.errors import DataError, LoadError, OptionError
from fcc.options import Options
from fcc.provenance import Recalled, recall, record
from fcc.runtime.differences import differences, metadata_of

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N, 6] x) => (float[N, 4] y) { v = MatMul(x, w) i = Identity(v) u = Mul(i, b) r = Relu(u) y = MatMul(r, q) }"""
WEIGHTS = {"w": (6, 8), "b": (8,), "q": (8, 4)}


def model(seed: int = 0) -> onnx.ModelProto:
    proto = onnx.parser.parse_model(TEXT)
    rng = np.random.default_rng(seed)
    for name, shape in WEIGHTS.items():
        array = rng.normal(size=shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    return proto


@pytest.fixture
def net(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    onnx.save(model(), tmp_path / "net.onnx")
    return tmp_path / "net.onnx"


OPTIONS: dict[str, dict[str, Any]] = {
    "default": {},
    "level": {"opt_level": 1},
    "bare": {"opt_level": 0},
    "target": {"target": "tensorrt", "opt_shapes": {"N": 4}, "max_shapes": {"N": 8}},
    "pipeline": {"passes": "eliminate-identity"},
    "without": {"disable": ["fold-affine", "lower-activations"]},
    "sizes": {"shapes": {"N": 2}},
    "sizes by input": {"shapes": {"x": (3, 6)}},
    "limit": {"rewrite_limit": 1},
    "lossy": {"precision": "int8-dynamic", "allow_growth": True},
    "fp16": {"precision": "fp16", "target": "cuda"},
    "low rank": {"low_rank": {"rank": 1}, "force": True},
    "budget": {"low_rank": 0.5, "budget": 2.0, "metric": "rel"},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_what_was_compiled_is_verified(net: Path, options: dict[str, Any]) -> None:
    fcc.compile(net, **options).save("out.onnx")
    found = fcc.verify("out.onnx", net)
    assert found.differs == ()
    assert found.ok
    assert found.verdict.ran
    assert found.notes == ()


def test_data_outside_is_compared(net: Path) -> None:
    big = onnx.parser.parse_model(TEXT.replace("MatMul(r, q)", "MatMul(r, wide)"))
    rng = np.random.default_rng(0)
    for name, shape in {"w": (6, 8), "b": (8,), "wide": (8, 4096)}.items():
        array = rng.normal(size=shape).astype(np.float32)
        big.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    big.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 4096
    onnx.save(big, "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    files = fcc.compile("big.onnx").save("out.onnx")
    data = next(Path(f) for f in files if f.endswith(".data"))
    assert fcc.verify("out.onnx", "big.onnx").same
    raw = bytearray(data.read_bytes())
    raw[-1] ^= 64
    data.write_bytes(raw)
    found = fcc.verify("out.onnx", "big.onnx")
    assert found.differs == (f"its data {data.name} differs",)
    assert not found.verdict.ok


def test_a_plan_is_given_again(net: Path) -> None:
    plan = {"schema": 1, "target": "cpu", "choices": [], "skip": [{"pass_name": "eliminate-identity", "site": "i"}]}
    Path("p.json").write_text(json.dumps(plan))
    fcc.compile(net, plan="p.json").save("out.onnx")
    found = fcc.verify("out.onnx", net)
    assert found.causes == (
        "the file was changed after the compile, or made by a plan that is not given (--from-plan)",
    )
    assert fcc.verify("out.onnx", net, plan="p.json").same
    changed = onnx.load("out.onnx")
    changed.metadata_props.add(key="fcc.table", value="1234")
    onnx.save(changed, "out.onnx")
    assert "choices were measured" in fcc.verify("out.onnx", net).causes[0]


def test_another_source_is_the_cause(net: Path) -> None:
    fcc.compile(net).save("out.onnx")
    onnx.save(model(1), "other.onnx")
    found = fcc.verify("out.onnx", "other.onnx")
    assert found.causes[0].startswith("the source is another file: sha256 ")
    assert any(d.startswith("initializer ") and d.endswith("elements differ") for d in found.differs)
    assert not found.verdict.ok


def test_a_changed_file_is_said(net: Path) -> None:
    fcc.compile(net).save("out.onnx")
    changed = onnx.load("out.onnx")
    array = onnx.numpy_helper.to_array(changed.graph.initializer[0]).copy()
    array.flat[0] += 1
    changed.graph.initializer[0].CopyFrom(onnx.numpy_helper.from_array(array, changed.graph.initializer[0].name))
    onnx.save(changed, "out.onnx")
    found = fcc.verify("out.onnx", net)
    assert "the file was changed after the compile" in found.causes[0]
    (differs,) = found.differs
    assert differs == f"initializer {changed.graph.initializer[0].name}: 1 of {array.size} elements differ"


@pytest.mark.parametrize(
    ("key", "value", "says"),
    [("fcc.version", "0.0.9", "fcc 0.0.9 wrote it"), ("fcc.libraries", "numpy 1.0", "it was written with numpy 1.0")],
)
def test_another_version_is_the_cause(net: Path, key: str, value: str, says: str) -> None:
    out = fcc.compile(net)
    changed = out.proto()
    next(p for p in changed.metadata_props if p.key == key).value = value
    Path("out.onnx").write_bytes(changed.SerializeToString())
    found = fcc.verify("out.onnx", net)
    assert found.causes[0].startswith(says)
    assert any(d.startswith(f"metadata {key}: {value!r} instead of ") for d in found.differs)
    assert found.verdict.ok


def test_a_compile_that_fails_now_is_a_difference_where_there_is_a_cause(net: Path) -> None:
    fcc.compile(net, shapes={"N": 2}).save("out.onnx")
    other = onnx.parser.parse_model(TEXT.replace("N", "M"))
    other.graph.initializer.extend(model().graph.initializer)
    onnx.save(other, "other.onnx")
    with pytest.raises(OptionError, match="N"):
        fcc.verify("out.onnx", "other.onnx")


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"calibration": {"x": np.ones((8, 1, 6), np.float32)}, "precision": "int8"}, "calibration data"),
        ({"data": {"x": np.ones((8, 1, 6), np.float32)}}, "the data it was judged on"),
    ],
)
def test_what_the_file_cannot_hold_is_needed(net: Path, given: dict[str, Any], says: str) -> None:
    fcc.compile(net, **given, allow_growth=True).save("out.onnx")
    with pytest.raises(DataError, match=says):
        fcc.verify("out.onnx", net)
    own = {k: v for k, v in given.items() if k != "precision"}
    assert fcc.verify("out.onnx", net, **own).same


def test_what_the_compile_had_not_is_refused(net: Path) -> None:
    fcc.compile(net).save("out.onnx")
    with pytest.raises(OptionError, match="had no passes of the user"):
        fcc.verify("out.onnx", net, plugins=("mine.py",))
    assert fcc.verify("out.onnx", net, data={"x": np.ones((2, 1, 6), np.float32)}).verdict.ok


def test_files_that_fcc_did_not_write(net: Path) -> None:
    with pytest.raises(DataError, match="was not written by fcc"):
        fcc.verify(net, net)
    changed = fcc.compile(net).proto()
    kept = [p for p in changed.metadata_props if p.key != "fcc.options"]
    del changed.metadata_props[:]
    changed.metadata_props.extend(kept)
    onnx.save(changed, "old.onnx")
    with pytest.raises(DataError, match="does not say how it was compiled"):
        fcc.verify("old.onnx", net)
    with pytest.raises(LoadError, match="none"):
        fcc.verify("none.onnx", net)
    with pytest.raises(LoadError, match="none"):
        fcc.verify(net, "none.onnx")


def test_a_fallback_is_verified_by_what_was_asked(net: Path) -> None:
    """int8 would grow this model: another level is used, and the file tells what was asked for."""
    compiled = fcc.compile(net, precision="int8-dynamic")
    compiled.save("out.onnx")
    assert '"precision":"int8-dynamic"' in metadata_of("out.onnx")["fcc.options"]
    assert fcc.verify("out.onnx", net).same


def test_exit_codes(net: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["net.onnx", "-q"]) == 0
    assert main(["verify", "net.fcc.onnx", "--against", "net.onnx"]) == 0
    assert "the same" in capsys.readouterr().out
    onnx.save(model(1), "other.onnx")
    assert main(["verify", "net.fcc.onnx", "--against", "other.onnx"]) == 1
    said = capsys.readouterr().out
    assert "the source is another file" in said
    assert "BEYOND" in said
    assert main(["verify", "net.onnx", "--against", "net.onnx"]) == 4
    assert main(["verify", "net.fcc.onnx"]) == 2
    assert main(["verify", "none.onnx", "--against", "net.onnx"]) == 3
    capsys.readouterr()


def test_the_same_bytes_with_other_answers_are_exit_6(
    net: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from fcc.parity import Judge, Verdict

    assert main(["net.onnx", "-q"]) == 0
    monkeypatch.setattr(Judge, "judge", lambda *a, **k: Verdict(False, failure="it does not run"))
    monkeypatch.setattr("fcc.trial.Trial.exact", lambda *a, **k: True)
    assert main(["verify", "net.fcc.onnx", "--against", "net.onnx"]) == 6
    assert "does not give the answers of net.onnx: it does not run" in capsys.readouterr().err


def test_options_are_recorded_and_recalled() -> None:
    assert record(Options()) == "{}"
    assert record(Options(passes="a,b", seed=1), "a,b") == '{"seed":1}'
    assert record(Options(passes="a,b"), "a") == '{"passes":"a,b"}'
    given = Options(
        target="cuda", disable=("fold-pad",), shapes={"x": (1, None), "N": 2}, budget=0.1, low_rank={"rank": 2}
    )
    found = recall(record(given))
    assert Options(**found.options) == given
    assert found.needs == ()
    needs = recall(record(Options(calibration="c.npz", data="d.npz", plugins=("p.py",), tune_seconds=2.0)))
    assert needs == Recalled({}, ("calibration", "data", "plugins"))
    assert record(Options(rewrite_limit=np.int64(3))) == '{"rewrite_limit":3}'  # type: ignore[arg-type]
    assert recall(record(Options(state={"h": "h0"}))).options == {"state": {"h": "h0"}}


@pytest.mark.parametrize("text", ["{", "[1]", '{"what":1}', '{"needs":["what"]}', '{"shapes":3}', "3"])
def test_text_that_no_compile_wrote(text: str) -> None:
    with pytest.raises(OptionError, match="cannot be read"):
        recall(text)


def test_differences_in_words() -> None:
    a = model()
    assert differences(a, model()) == []

    def changed(change: Any) -> list[str]:
        b = model()
        change(b)
        return differences(a, b)

    assert changed(lambda b: b.graph.node.pop()) == ["4 nodes instead of 5"]
    assert changed(lambda b: b.graph.initializer.pop()) == ["initializer q is gone"]
    assert changed(lambda b: b.opset_import.add(domain="my", version=1)) == ["opset my: '1' instead of 'absent'"]
    assert changed(lambda b: setattr(b, "producer_name", "me")) == ["producer_name 'me' instead of ''"]
    assert changed(lambda b: b.graph.output.pop()) == ["outputs are declared otherwise"]
    assert changed(lambda b: setattr(b.graph, "name", "h")) == ["another field of the graph"]
    assert changed(lambda b: b.metadata_props.add(key="k", value="v")) == ["metadata k: 'v' instead of 'absent'"]
    assert changed(lambda b: b.graph.node.extend([b.graph.node[0]])) == ["6 nodes instead of 5"]
    swapped = changed(lambda b: b.graph.node[0].input.reverse())
    assert swapped == ["node 0: MatMul(w, x) -> v with 0 attributes instead of MatMul(x, w) -> v with 0 attributes"]

    def retype(b: onnx.ModelProto) -> None:
        b.graph.initializer[1].CopyFrom(onnx.numpy_helper.from_array(np.zeros(8), "b"))

    assert changed(retype) == ["initializer b: double[8] instead of float[8]"]

    def rewrite(b: onnx.ModelProto) -> None:
        array = onnx.numpy_helper.to_array(b.graph.initializer[1])
        b.graph.initializer[1].CopyFrom(onnx.helper.make_tensor("b", 1, [8], array.tolist()))

    assert changed(rewrite) == ["initializer b: the same values in other bytes"]
