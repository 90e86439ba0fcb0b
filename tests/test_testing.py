"""vary() finds planted faults, draws the same instances every time, and every variation gives valid ones."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest

from fcc import ir
from fcc.rewrite import Match, PassContext, PatternPass, Rewriter, Site, SitePass, op, var
from fcc.runtime.protos import widened
from fcc.testing import model_from, vary
from fcc.testing.corpus import Seed, load, save
from fcc.testing.draft import Draft
from fcc.testing.oracle import difference, distance
from fcc.testing.sources import fits, refusal
from fcc.testing.variations import VARIATIONS, instances

pytest.importorskip("onnxruntime")
GRAPH = """g (float[N,4] x, float[4] z) => (float[N,4] y) <float[4] c, float[1,4] d, int64[1] a = {1}> {
    h = Add(x, c) k = Mul(h, d) m = ReduceMax(k, a) n = Sub(k, m) e = Softmax<axis=-1>(n) p = Add(e, z)
    q = Clip(p, l, u) y = Neg(q) }""".replace("int64[1] a", "float l = {-1}, float u = {2}, int64[1] a")


@dataclass(frozen=True)
class DropAbs(PatternPass):
    """Abs(x) -> x, which is wrong for what is negative."""

    name: ClassVar[str] = "drop-abs"
    pattern: ClassVar = op.Abs(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        return m["x"]


@dataclass(frozen=True)
class DropDoubleNeg(PatternPass):
    """Neg(Neg(x)) -> x."""

    name: ClassVar[str] = "drop-double-neg"
    pattern: ClassVar = op.Neg(op.Neg(var("x")))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        return m["x"]


@dataclass(frozen=True)
class Restless(SitePass):
    """Neg(x) -> Neg(x), again and again."""

    name: ClassVar[str] = "restless"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in list(module.nodes()):
            if node.op_type == "Neg":
                yield Site(node, module, ctx)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        rw.replace(site.anchor.outputs[0], rw.like(site.anchor, *site.anchor.inputs))
        rw.erase(site.anchor)


@dataclass(frozen=True)
class Fragile(PatternPass):
    """Raises where the rank of x is not known."""

    name: ClassVar[str] = "fragile"
    pattern: ClassVar = op.Neg(var("x"))

    def check(self, m: Match) -> str | None:
        dims = ir.dims_of(m["x"])
        assert dims is not None
        return "never"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        raise NotImplementedError


NEGATED = "g (float[N,3] x) => (float[N,3] y) { a = Neg(x) b = Neg(a) y = Relu(b) }"


@pytest.mark.parametrize(
    ("p", "text", "found"),
    [
        (DropAbs(), "g (float[N,3] x) => (float[N,3] y) { a = Abs(x) y = Relu(a) }", "error"),
        (Restless(), NEGATED, "does not come to an end"),
        (Fragile(), NEGATED, "the pass raised PassError"),
    ],
)
def test_faults_are_found(p: DropAbs, text: str, found: str) -> None:
    tally = vary(p, model_from(text), count=150)
    assert any(found in failure for failure in tally.failures)
    assert tally.counts["wrong"] == len(tally.failures)


def test_a_right_pass_has_no_failures_and_the_same_outcomes_every_time() -> None:
    first, second = (vary(DropDoubleNeg(), model_from(NEGATED), count=80) for _ in range(2))
    assert not first.failures
    assert first.counts["right"] > 20
    assert first.counts["refused"] > 5
    assert (first.counts, first.outcomes) == (second.counts, second.outcomes)
    assert vary(DropDoubleNeg(), model_from(NEGATED), count=80, seed="1").outcomes != first.outcomes


@pytest.mark.parametrize("name", VARIATIONS)
def test_every_variation_gives_valid_models(name: str) -> None:
    source, valid = model_from(GRAPH), 0
    if name == "attribute_tensor":
        source = model_from(
            "g (float[N] x) => (float[N] y) { s = Shape(x) c = ConstantOfShape<value = float[1] {2}>(s) y = Add(x, c) }"
        )
    for k in range(40):
        draft = Draft(source, random.Random(k))
        if not VARIATIONS[name](draft):
            continue
        try:
            model = draft.finish()
        except Exception:
            continue
        valid += not refusal(model) and model != source
    assert valid >= 3


def test_instances_leave_their_source_alone() -> None:
    source = model_from(GRAPH)
    before = source.SerializeToString()
    assert sum(i is not None for i in instances(source, 50, "s")) > 25
    assert source.SerializeToString() == before


def test_a_corpus_is_read_as_it_was_written(tmp_path: Path) -> None:
    seeds = [
        Seed("fold-pad", GRAPH, constants={"c": [float("nan"), 1, 2, 3]}, sizes={"N": 3}),
        Seed("fold-norm", NEGATED, 17),
    ]
    save(tmp_path / "a", seeds)
    save(tmp_path / "b", seeds)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    found = load(tmp_path / "a")
    assert [s.model().SerializeToString() for s in found] == [s.model().SerializeToString() for s in seeds]
    assert [s.sizes for s in found] == [{"N": 3}, {}]


def test_differences() -> None:
    one = np.array([1.0, np.inf, np.nan], np.float32)
    assert difference(one, one, 0.0, strict=True) == ""
    assert difference(one, one.astype(np.float64), 1.0)
    assert difference(one, one[:2], 1.0)
    assert difference(one, np.array([1, 5, 5], np.float32), 1e-6) == ""
    assert difference(one, np.array([1, 5, 5], np.float32), 1e-6, strict=True)
    assert difference(one, np.array([np.nan, np.inf, np.nan], np.float32), 1e-6)
    assert difference(np.array([1.0, 100.0]), np.array([1.5, 100.0]), 1e-3)
    assert difference(np.array([1, 2]), np.array([1, 3]), 9.0)
    assert distance(np.array([0.0, 10.0]), np.array([1.0, 10.0])) == pytest.approx(0.1)


def test_what_does_not_fit_its_declaration_is_no_answer() -> None:
    model = model_from("g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }")
    x = np.zeros((2, 3), np.float32)
    assert fits(model, {"x": x}, [x])
    assert not fits(model, {"x": x}, [x[:1]])
    assert not fits(model, {"x": x}, [x[None]])


def test_widening_reaches_every_float() -> None:
    model = widened(model_from("g (float[3] x) => (float16[3] y) <float c = {1}> { a = Add(x, c) y = Cast<to=10>(a) }"))
    assert "float16" not in onnx.printer.to_text(model)
    assert onnx.checker.check_model(model, full_check=True) is None
