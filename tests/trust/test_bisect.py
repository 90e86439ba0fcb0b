"""fcc.bisect: planted faults in real passes, crashes, scripts, and reproducers that reproduce."""

from __future__ import annotations

import importlib.util
import json
import math
import random
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest

import fcc
from fcc import ir
from fcc.__main__ import main
from fcc.errors import OptionError, ParityError, SaveError
from fcc.passes.eliminate_identity import EliminateIdentity
from fcc.passes.fold_affine import FoldAffine
from fcc.rewrite import Match, PatternPass, Rewriter, op, var

ROOT = Path(__file__).parents[2]
HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'


def model(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


@pytest.fixture(scope="module")
def faults() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fcc_blame", ROOT / "benchmarks" / "blame.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fcc_blame"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def net() -> onnx.ModelProto:
    from fcc.models import BUILDERS

    return BUILDERS["mlp"](sizes=(6, 8, 8, 8, 4), batchnorm=True)


@pytest.mark.parametrize("how", ["scaled", "shifted", "negated"])
def test_a_planted_fault_is_named(faults: ModuleType, net: onnx.ModelProto, how: str) -> None:
    for rewrite in faults.sites(net, "cpu"):
        fault = faults.Fault(rewrite.pass_name, rewrite.site, how)
        found = faults.search(net, fault)
        assert {r.key for b in found.blames for r in b.guilty} == fault.guilty
        assert found.named <= math.log2(found.applied) + 3
        assert found.cleared
        assert found.skip == fault.guilty
        assert found.reason.startswith("output ")
        assert not found.bare


def test_a_planted_pair_is_named(faults: ModuleType, net: onnx.ModelProto) -> None:
    first, *_, last = faults.sites(net, "cpu")
    fault = faults.Fault(last.pass_name, last.site, "scaled", first.key)
    found = faults.search(net, fault)
    (blame,) = found.blames
    assert [r.key for r in blame.guilty] == [first.key, last.key]
    assert blame.needed == ()
    assert found.cleared


def test_the_benchmark_counts_what_it_finds(faults: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    faults.SMALL.clear()
    faults.SMALL["mlp"] = {"sizes": (6, 8, 8, 4), "batchnorm": True}
    assert faults.run(2, 1, 0, None) == 0
    assert capsys.readouterr().out.count(" right") == 3
    assert faults.run(50, 0, 0, None) > 0
    assert next(faults.draw(faults.BUILDERS["mlp"](), random.Random(0), True), None) is None


# -- faults that only the sum of shows ---------------------------------------------------------------------------------
@dataclass(frozen=True)
class Inexact(PatternPass):
    """Relu(x) -> 1.00006 Relu(x): within the limit once, beyond it twice."""

    name: ClassVar[str] = "wrong-inexact"
    pattern: ClassVar = op.Relu(op.Exp(var("x"), name="exp"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Mul", rw.op("Exp", m["x"]), np.array(1.00006, np.float32))
        return value


TWICE = "g (float[2,3] x) => (float[2,3] y) { a = Exp(x) b = Relu(a) c = Neg(b) d = Exp(c) e = Relu(d) f = Identity(e) y = Mul(f, b) }"


def test_two_that_are_within_the_limit_alone() -> None:
    source = model(
        "g (float[2,3] x, float[2,3] z) => (float[2,3] y) { a = Exp(x) b = Relu(a) c = Exp(z) d = Relu(c) y = Mul(b, d) }"
    )
    found = fcc.bisect(source, plugins=[Inexact], passes="wrong-inexact")
    (blame,) = found.blames
    assert {r.site for r in blame.guilty} == {"b", "d"}
    assert found.cleared


def test_a_tolerance_of_ones_own() -> None:
    source = model("g (float[2,3] x) => (float[2,3] y) { a = Exp(x) b = Relu(a) y = Identity(b) }")
    assert fcc.bisect(source, plugins=[Inexact]).reason == ""
    found = fcc.bisect(source, plugins=[Inexact], tolerance=1e-5)
    assert [r.pass_name for b in found.blames for r in b.guilty] == ["wrong-inexact"]
    assert "beyond its limit 1e-05" in found.reason
    assert fcc.bisect(source, plugins=[Inexact], tolerance=1e-3).blames == ()


# -- crashes -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Raises(PatternPass):
    """Raises at a Neg of what another pass made."""

    name: ClassVar[str] = "wrong-raise"
    pattern: ClassVar = op.Neg(op.Exp(var("x"), name="exp"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        raise ZeroDivisionError("by design")


@dataclass(frozen=True)
class Breaks(PatternPass):
    """Lets a node read what is computed from it."""

    name: ClassVar[str] = "wrong-order"
    pattern: ClassVar = op.Neg(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        later = next(n for n in m.module.graph if n.op_type == "Tanh")
        value: ir.Value = rw.op("Add", m["x"], later.outputs[0])
        return value


CRASHING = """g (float[N,3] x) => (float[N,3] y) { p = Sin(x) a = Exp(p) i = Identity(a) n = Neg(i) j = Identity(n) t = Tanh(j)
  y = Cos(t) }"""


@pytest.mark.parametrize("asked", [{}, {"crash": True}])
def test_a_rewrite_that_raises_is_named_with_what_made_its_site(asked: dict[str, Any], tmp_path: Path) -> None:
    found = fcc.bisect(
        model(CRASHING), plugins=[Raises], passes="eliminate-identity,wrong-raise", folder=tmp_path, **asked
    )
    assert found.complaint == "crash"
    assert found.reason == "pass wrong-raise failed at n: ZeroDivisionError: by design"
    (blame,) = found.blames
    assert [r.key for r in blame.guilty] == [("wrong-raise", "n")]
    assert [r.key for r in blame.needed] == [("eliminate-identity", "i")]
    assert found.cleared
    assert found.named == 1
    reduced = onnx.load(tmp_path / "model.onnx")
    assert [n.op_type for n in reduced.graph.node] == ["Exp", "Identity", "Neg"]


def test_a_pass_that_breaks_the_graph_is_named(tmp_path: Path) -> None:
    found = fcc.bisect(model(CRASHING), plugins=[Breaks], passes="eliminate-identity,wrong-order", folder=tmp_path)
    assert found.complaint == "crash"
    assert [r.pass_name for b in found.blames for r in b.guilty] == ["wrong-order"]
    assert found.cleared
    assert found.nodes < 7


def test_no_crash_is_no_complaint() -> None:
    found = fcc.bisect(model(CRASHING), crash=True)
    assert (found.reason, found.blames, found.compiles) == ("", (), 1)


# -- scripts and functions ---------------------------------------------------------------------------------------------
def has_no_identity(path: str) -> str:
    return "" if any(n.op_type == "Identity" for n in onnx.load(path).graph.node) else "none left"


def test_a_function_complains() -> None:
    found = fcc.bisect(model(CRASHING), test=has_no_identity, passes="eliminate-identity")
    assert found.complaint == "test"
    assert found.reason == "none left"
    (blame,) = found.blames
    assert [r.site for r in blame.guilty] == ["i", "j"]  # one of them could stay


def test_a_script_complains(tmp_path: Path) -> None:
    onnx.save(model(CRASHING), tmp_path / "net.onnx")
    script = tmp_path / "check.py"
    script.write_text("import sys\nif b'Identity' not in open(sys.argv[1], 'rb').read(): sys.exit('none left')\n")
    found = fcc.bisect(tmp_path / "net.onnx", test=script, passes="eliminate-identity", folder=tmp_path / "out")
    assert found.reason == "check.py exits 1: none left"
    assert found.blames
    assert found.nodes <= 2
    script.write_text("import sys\nsys.exit(125)\n")
    assert fcc.bisect(tmp_path / "net.onnx", test=script).reason == ""
    with pytest.raises(OptionError, match="is no file"):
        fcc.bisect(tmp_path / "net.onnx", test=tmp_path / "none.py")
    (tmp_path / "text").write_text("")
    with pytest.raises(OptionError, match="give an executable"):
        fcc.bisect(tmp_path / "net.onnx", test=tmp_path / "text")


def test_bad_without_any_rewrite() -> None:
    found = fcc.bisect(model(CRASHING), test=lambda path: "always")
    assert found.bare
    assert found.blames == ()


class Clock:
    """Sessions whose time is the number of their nodes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        from fcc.trial import Trial

        monkeypatch.setattr(Trial, "sessions", lambda self, emitted: len(emitted.proto().graph.node))
        monkeypatch.setattr(Trial, "race", lambda self, nodes: [[5.0], [5.0], [float(nodes)]])


@dataclass(frozen=True)
class Slow(PatternPass):
    """Tanh(Neg(x)) -> Tanh(x) times -1, in three nodes too many."""

    name: ClassVar[str] = "slow-tanh"
    pattern: ClassVar = op.Tanh(op.Neg(var("x"), name="neg"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Neg", rw.op("Neg", rw.op("Neg", rw.op("Tanh", m["x"]))))
        return value


def test_a_slowdown(monkeypatch: pytest.MonkeyPatch) -> None:
    Clock(monkeypatch)
    source = model("g (float[N,3] x) => (float[N,3] y) { a = Exp(x) b = Neg(a) c = Tanh(b) d = Cos(c) y = Sin(d) }")
    found = fcc.bisect(source, slower=True, plugins=[Slow], passes="slow-tanh")
    assert found.reason == "it takes 1.40 of the time of its source"
    assert [r.key for b in found.blames for r in b.guilty] == [("slow-tanh", "c")]
    assert fcc.bisect(source, slower=1.5, plugins=[Slow], passes="slow-tanh").blames == ()


def test_a_slowdown_is_measured() -> None:
    assert fcc.bisect(model(CRASHING), slower=50.0).reason == ""


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"crash": True, "slower": True}, "crash and slower are two complaints"),
        ({"tolerance": -1.0}, "at least 0"),
        ({"slower": 0.5}, "at least 1"),
        ({"low_rank": {"ratio": 0.5}}, "lossy"),
    ],
)
def test_what_cannot_be_asked(given: dict[str, Any], says: str) -> None:
    with pytest.raises(OptionError, match=says):
        fcc.bisect(model(CRASHING), **given)


def test_a_source_that_cannot_be_compared() -> None:
    source = model("g (float[2] x) => (float[2] y) { r = RandomUniformLike(x) y = Add(x, r) }")
    with pytest.raises(ParityError, match="nothing can be compared"):
        fcc.bisect(source)
    with pytest.raises(ParityError, match="nothing can be compared"):
        fcc.bisect(source, tolerance=1e-3)
    assert fcc.bisect(source, crash=True).reason == ""


# -- reproducers -------------------------------------------------------------------------------------------------------
PLUGIN = '''
from dataclasses import dataclass
from typing import ClassVar
from fcc.passes.fold_affine import FoldAffine

@dataclass(frozen=True)
class NegatesScale(FoldAffine):
    """Folds y * c as if it were y * -c."""
    name: ClassVar[str] = "wrong-fold-affine"
    pattern = FoldAffine.pattern[:1]

    def rewrite(self, m, rw):
        return rw.op("Neg", super().rewrite(m, rw))
'''


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    """A model with one product and scale among others, and a plugin that folds it wrongly."""
    text = """g (float[N,6] x, bool k) => (float[N,8] y) { p = Exp(x) i = Identity(p) h = Tanh(i) v = MatMul(h, w) u = Mul(v, b)
      q = If (k) <then_branch = t () => (float[N,8] r) { r = Exp(u) }, else_branch = e () => (float[N,8] s) { s = Sin(u) }>
      z = Sin(q) y = Identity(z) }"""
    net = model(text)
    rng = np.random.default_rng(0)
    for name, shape in (("w", (6, 8)), ("b", (8,))):
        net.graph.initializer.append(onnx.numpy_helper.from_array(rng.normal(size=shape).astype(np.float32), name))
    onnx.save(net, tmp_path / "net.onnx")
    (tmp_path / "wrong.py").write_text(PLUGIN)
    return tmp_path


def test_a_reproducer_reproduces(
    chain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(chain)
    assert main(["bisect", "net.onnx", "--plugin", "wrong.py", "-o", "out"]) == 0
    said = capsys.readouterr().out
    assert "pass wrong-fold-affine at u" in said
    assert "(2 nodes)" in said
    assert {p.name for p in Path("out").iterdir()} == {
        "model.onnx",
        "inputs.npz",
        "plan.json",
        "bisect.json",
        "README.md",
    }
    reduced = onnx.load("out/model.onnx")
    onnx.checker.check_model(reduced, full_check=True)
    assert [n.op_type for n in reduced.graph.node] == ["MatMul", "Mul"]
    assert [i.name for i in reduced.graph.input] == ["h"]
    with np.load("out/inputs.npz") as inputs:
        assert set(inputs) == {"h"}
        assert float(np.abs(inputs["h"]).max()) <= 1  # what Tanh wrote
    facts = json.loads(Path("out/bisect.json").read_text())
    assert facts["blames"][0]["guilty"][0]["pass_name"] == "wrong-fold-affine"
    assert facts["reduced"]["nodes"] == 2
    command = next(line for line in Path("out/README.md").read_text().splitlines() if line.startswith("fcc bisect"))
    monkeypatch.chdir(chain / "out")
    assert main(shlex.split(command)[1:]) == 0
    assert "pass wrong-fold-affine at u" in capsys.readouterr().out
    monkeypatch.chdir(chain)
    assert main(["net.onnx", "--plugin", "wrong.py", "--from-plan", "out/plan.json", "-q", "--strict"]) == 0


def test_a_reproducer_is_the_same_twice(chain: Path) -> None:
    for name in ("a", "b"):
        fcc.bisect(chain / "net.onnx", plugins=[chain / "wrong.py"], folder=chain / name)
    for path in (chain / "a").iterdir():
        assert path.read_bytes() == (chain / "b" / path.name).read_bytes()


def test_weights_outside_are_taken_along(chain: Path) -> None:
    net = onnx.load(chain / "net.onnx")
    weight = onnx.numpy_helper.to_array(net.graph.initializer[0])
    onnx.save(net, chain / "big.onnx", save_as_external_data=True, location="big.data", size_threshold=0)
    found = fcc.bisect(chain / "big.onnx", plugins=[chain / "wrong.py"], folder=chain / "out")
    assert found.nodes == 2
    reduced = onnx.load(chain / "out" / "model.onnx", load_external_data=False)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in reduced.graph.initializer}
    np.testing.assert_array_equal(values["w"], weight)


def test_a_folder_that_cannot_be_made(chain: Path) -> None:
    (chain / "file").write_text("")
    with pytest.raises(SaveError):
        fcc.bisect(chain / "net.onnx", plugins=[chain / "wrong.py"], folder=chain / "file")


def test_data_shapes_and_state_are_bound_in_the_part(chain: Path) -> None:
    data = {"x": np.ones((2, 3, 6), np.float32), "k": np.array([True, False])}
    found = fcc.bisect(
        chain / "net.onnx", plugins=[chain / "wrong.py"], data=data, shapes={"N": 3}, folder=chain / "out"
    )
    assert found.nodes == 2
    (given,) = onnx.load(chain / "out" / "model.onnx").graph.input
    assert given.name == "h"
    readme = (chain / "out" / "README.md").read_text()
    assert "--shape=N=3" in readme


def test_nothing_to_blame_is_exit_1(
    chain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(chain)
    assert main(["bisect", "net.onnx", "-o", "out"]) == 1
    assert "nothing to complain about" in capsys.readouterr().out
    assert not Path("out").exists()


def test_bad_without_any_rewrite_is_exit_6(
    chain: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(chain)
    Path("no.py").write_text("raise SystemExit(3)")
    assert main(["bisect", "net.onnx", "--test", "no.py"]) == 6
    assert "bad without any rewrite: no.py exits 3" in capsys.readouterr().err


def test_real_passes_have_nothing_to_blame() -> None:
    assert issubclass(EliminateIdentity, PatternPass)
    assert issubclass(FoldAffine, PatternPass)
    assert fcc.bisect(model(TWICE)).blames == ()
