"""The driver: replays are deterministic, failures are named and left out, and what fails under strict is an error."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnx
import onnx.parser
import pytest

pytest.importorskip("onnxruntime")

import fcc
from fcc import ir
from fcc.driver import Broken, Driver, Product
from fcc.errors import LoadError, OptionError, PassError
from fcc.ir.text import to_text
from fcc.options import Options, parse_budget, parse_low_rank, parse_shapes, several
from fcc.rewrite import Match, ModulePass, PassContext, PatternPass, Rewriter, Site, SitePass, op, var
from fcc.rewrite.manager import Instrument, PassRecord
from fcc.testing import model_from

TEXT = """<ir_version: 10, opset_import: ["" : 21]>
g (float[N,4] x) => (float[N,4] y) { a = Identity(x) b = Neg(a) c = Neg(b) d = Relu(c) y = Exp(d) }"""


def source() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


@dataclass(frozen=True)
class Raises(PatternPass):
    """Fails while it describes the rewrite."""

    name: ClassVar[str] = "test-raises"
    pattern: ClassVar = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        rw.op("Sin", m["x"])
        raise KeyError("gone")


@dataclass(frozen=True)
class ChecksBadly(PatternPass):
    """Fails while it looks."""

    name: ClassVar[str] = "test-checks-badly"
    pattern: ClassVar = op.Relu(var("x"))

    def check(self, m: Match) -> str | None:
        raise IndexError("no such axis")

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        return m["x"]


@dataclass(frozen=True)
class BreaksTheGraph(ModulePass):
    """Leaves a node in front of what it reads."""

    name: ClassVar[str] = "test-breaks"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None if any(n.op_type == "Relu" for n in module.graph) else "no Relu"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        last = list(module.graph)[-1]
        module.graph.remove(last)
        module.graph.insert_before(next(iter(module.graph)), [last])
        return 1


@dataclass(frozen=True)
class NeverEnds(PatternPass):
    """Replaces a Relu by a Relu."""

    name: ClassVar[str] = "test-never-ends"
    pattern: ClassVar = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Relu", m["x"])
        return value


@dataclass(frozen=True)
class WritesLazily(SitePass):
    """Adds a constant that cannot be computed when it is written."""

    name: ClassVar[str] = "test-lazy"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in module.nodes():
            if node.op_type == "Relu":
                yield Site(node, module, ctx)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        like = ir.Value(name="like", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape((4,)))
        zero = rw.lazy(lambda: np.zeros((3,), np.float32), like)
        rw.replace(site.anchor.outputs[0], rw.op("Max", site.anchor.inputs[0], zero))
        rw.erase(site.anchor)


WRONG = (Raises, ChecksBadly, BreaksTheGraph, NeverEnds, WritesLazily)


@pytest.mark.parametrize("wrong", WRONG)
@pytest.mark.parametrize("verify", ["end", "each"])
def test_a_pass_that_fails_is_left_out_and_named(wrong: type[Any], verify: str) -> None:
    compiled = fcc.compile(source(), plugins=wrong, verify=verify, allow_growth=True)
    ops = [n.op_type for n in compiled.proto().graph.node]
    assert "Relu" in ops
    assert "Identity" not in ops, "the other passes still run"
    assert any(wrong.name in note for note in compiled.report.notes)
    assert compiled.report.worst is not None
    assert compiled.report.worst.ok
    assert wrong.name not in {r["pass_name"] for r in compiled.report.rewrites}
    json.loads(compiled.report.to_json())


@pytest.mark.parametrize("wrong", WRONG)
def test_a_pass_that_fails_is_an_error_under_strict(wrong: type[Any]) -> None:
    with pytest.raises(PassError) as raised:
        fcc.compile(source(), plugins=wrong, strict=True, allow_growth=True)
    assert wrong.name in raised.value.message
    assert "--disable" in raised.value.hint


def test_replays_give_the_same_and_obey_limit_and_skip() -> None:
    driver = Driver(Options(), source())
    first, second = driver.replay(), driver.replay()
    assert first.applied == second.applied
    assert first.product.emitted.digest == second.product.emitted.digest
    for limit in range(len(first.applied)):
        assert driver.replay(limit).applied == first.applied[:limit]
    skipped = driver.replay(skip=frozenset({first.applied[0].key})).applied
    assert first.applied[0].key not in {r.key for r in skipped}
    assert driver.replay(skip=frozenset({(first.applied[0].pass_name, "")})).applied == tuple(
        r for r in skipped if r.pass_name != first.applied[0].pass_name
    )


def test_rewrite_limit_binds_replays_too() -> None:
    driver = Driver(Options(rewrite_limit=1), source())
    assert len(driver.replay().applied) == 1
    assert len(driver.replay(5).applied) == 1


def test_an_attempt_says_how_far_it_came() -> None:
    driver = Driver(Options(plugins=(BreaksTheGraph(),)), source())
    build = driver.attempt()
    assert isinstance(build.product, Broken)
    assert build.applied[-1].pass_name == "test-breaks"
    outcome = driver.settle(build, lambda emitted: True)
    assert outcome is not None
    assert isinstance(outcome.build.product, Product)
    assert driver.skip == {("test-breaks", "")}


def test_passes_of_a_backend_can_be_disabled() -> None:
    driver = Driver(Options(target="cuda"), source())
    names = [p.name for p in driver.backend.lowerings.passes()]
    assert names
    again = Driver(Options(target="cuda", disable=(names[0], "fold-batchnorm")), source())
    assert (names[0], "") in again.skip
    assert "fold-batchnorm" not in [p.name for p in again.pipeline.passes()]
    with pytest.raises(OptionError, match="no pass is named"):
        Driver(Options(disable=("lower-nothing",)), source())


def test_instruments_see_every_pass_of_the_pipeline_and_of_the_backend() -> None:
    seen: list[str] = []

    class Watch(Instrument):
        def after(self, p: Any, module: ir.Module, record: PassRecord) -> None:
            seen.append(p.name)
            to_text(module)

    compiled = fcc.compile(source(), instruments=(Watch(),), target="tensorrt")
    assert {p.name for p in compiled.report.passes} <= set(seen)


def test_broken_sources_are_load_errors(tmp_path: Path) -> None:
    for content in (b"", b"\x08", b"PK\x03\x04"):
        (tmp_path / "m.onnx").write_bytes(content)
        with pytest.raises(LoadError):
            fcc.compile(tmp_path / "m.onnx")


def test_options_read_text_as_the_command_line_does() -> None:
    assert (parse_budget("1%"), parse_budget("0.01"), parse_budget(None)) == (0.01, 0.01, None)
    assert parse_shapes(["x=1x3", "n=4"]) == {"x": (1, 3), "n": 4}
    assert parse_low_rank("rank=8") == {"rank": 8}
    assert parse_low_rank("energy=0.99") == {"energy": 0.99}
    assert parse_low_rank({"ratio": 0.5}) == {"ratio": 0.5}
    assert (several(None), several("a"), several(["a", "b"]), several(Raises)) == ((), ("a",), ("a", "b"), (Raises,))
    for text in ("x", "x=", "=3", "x=1xa"):
        with pytest.raises(OptionError):
            parse_shapes([text])


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_a_transpose_in_front_of_composed_layers_goes_in_the_same_run(target: str) -> None:
    text = (
        "g (float[2,3] x) => (float[3,8] y) <float[2,3] a, float[3,8] b, float[8] c> "
        "{ t = Transpose<perm = [1, 0]>(x) m = MatMul(t, a) n = MatMul(m, b) y = Add(n, c) }"
    )
    proto = fcc.compile(model_from(text, 17), target=target, verify="off").proto()
    assert [n.op_type for n in proto.graph.node] == ["Gemm"]
