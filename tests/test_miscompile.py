"""Deliberately wrong passes among right ones: parity catches each, bisection names it, the emitted model is right."""

import importlib.util
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

import fcc
from fcc import ir
from fcc.errors import PassError
from fcc.passes.convert_batchnorm import ConvertBatchNorm
from fcc.passes.eliminate_dead_code import EliminateDeadCode
from fcc.passes.eliminate_identity import EliminateIdentity
from fcc.passes.factorize_linear import FactorizeLinear
from fcc.passes.fold_affine import FoldAffine
from fcc.passes.fold_batchnorm import FoldBatchNorm
from fcc.passes.fold_constants import FoldConstants
from fcc.passes.fold_shapes import FoldShapes
from fcc.passes.fuse_matmul_add import FuseMatMulAdd
from fcc.passes.merge_common_subexpressions import MergeCommonSubexpressions
from fcc.rewrite import Match, ModulePass, Pass, PassContext, PatternPass, Rewriter, Site, SitePass, const, op, var
from fcc.testing import random_array

HEADER = '<ir_version: 10, opset_import: ["" : 21]>\n'
RIGHT = "eliminate-identity,fold-constants,merge-common-subexpressions,eliminate-dead-code"


def model(text: str, **constants: Any) -> onnx.ModelProto:
    """Return a model of ONNX's textual syntax; a tensor declared in ``<...>`` gets seeded random contents."""
    proto = onnx.parser.parse_model(HEADER + text)
    rng = np.random.default_rng(3)
    inner = {o for n in proto.graph.node for o in n.output}
    for info in list(proto.graph.value_info):
        if info.name in inner:
            continue
        kind = info.type.tensor_type
        shape = [d.dim_value for d in kind.shape.dim]
        array = random_array(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape, rng)
        array = np.abs(array) + 1 if "var" in info.name else constants.get(info.name, array)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.array(array, array.dtype), info.name))
        proto.graph.value_info.remove(info)
    onnx.checker.check_model(proto, full_check=True)
    return proto


def assert_same(source: onnx.ModelProto, compiled: fcc.CompiledModel, sizes: tuple[int, ...] = (1, 3)) -> None:
    """Compare with the source by onnx.reference, which shares no code with fcc's own parity."""
    rng = np.random.default_rng(11)
    emitted = compiled.proto()
    onnx.checker.check_model(emitted, full_check=True)
    for size in sizes:
        feeds = {}
        for v in source.graph.input:
            kind = v.type.tensor_type
            shape = [d.dim_value or size for d in kind.shape.dim]
            feeds[v.name] = random_array(onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type), shape, rng)
        for a, b in zip(*(ReferenceEvaluator(m).run(None, dict(feeds)) for m in (source, emitted)), strict=True):
            np.testing.assert_allclose(np.asarray(b), np.asarray(a), rtol=2e-4, atol=2e-4)


# -- ten wrong passes ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class DropsRelu(EliminateIdentity):
    """Relu(x) -> x."""

    name: ClassVar[str] = "wrong-eliminate-identity"
    pattern = op.Relu(var("x"))


@dataclass(frozen=True)
class WrongBias(FoldBatchNorm):
    """Forgets the shift of the BatchNormalization."""

    name: ClassVar[str] = "wrong-fold-batchnorm"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        super().rewrite(m, rw)
        folded = rw.made[-1]
        value: ir.Value = rw.like(folded, *folded.inputs[:2])
        return value


@dataclass(frozen=True)
class OffByOne(FoldConstants):
    """Folds to constants that are one too large."""

    name: ClassVar[str] = "wrong-fold-constants"

    def check(self, site: Site) -> str | None:
        reason = super().check(site)
        if reason is None:
            site.data.arrays = [a + a.dtype.type(1) for a in site.data.arrays]
        return reason


@dataclass(frozen=True)
class IgnoresAttributes(SitePass):
    """Merges nodes with equal operator and inputs, whatever their attributes are."""

    name: ClassVar[str] = "wrong-merge-common-subexpressions"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        seen: dict[Any, ir.Node] = {}
        for node in list(module.graph):
            first = seen.setdefault((node.op_type, tuple(map(id, node.inputs))), node)
            if first is not node:
                yield Site(node, module, ctx, first)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        MergeCommonSubexpressions.rewrite(self, _twins(site), rw)  # type: ignore[arg-type]


def _twins(site: Site) -> Site:
    from fcc.passes.merge_common_subexpressions import _Twins

    return Site(site.anchor, site.module, site.ctx, _Twins(site.data, site.anchor, {}, None))  # type: ignore[arg-type]


@dataclass(frozen=True)
class ComparesShapes(ModulePass):
    """Merges constants of equal shape, whatever they hold."""

    name: ClassVar[str] = "wrong-merge-duplicate-initializers"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        kept: dict[Any, ir.Value] = {}
        count = 0
        for value in list(module.graph.initializers.values()):
            first = kept.setdefault((value.dtype, ir.dims_of(value)), value)
            if first is not value:
                value.replace_all_uses_with(first)
                del module.graph.initializers[value.name or ""]
                count += 1
        return count


@dataclass(frozen=True)
class DropsOptionalInputs(EliminateDeadCode):
    """Takes an operand that a Clip may leave out for dead."""

    name: ClassVar[str] = "wrong-eliminate-dead-code"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None if any(n.op_type == "Clip" for n in module.nodes()) else "no Clip"

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        for node in module.nodes():
            if node.op_type == "Clip":
                node.replace_input_with(2, None)
        return 1


@dataclass(frozen=True)
class NegatesScale(FoldAffine):
    """Folds y * c as if it were y * -c."""

    name: ClassVar[str] = "wrong-fold-affine"
    pattern = FoldAffine.pattern[:1]  # type: ignore[assignment]

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Neg", super().rewrite(m, rw))
        return value


@dataclass(frozen=True)
class AddsTwice(FuseMatMulAdd):
    """Adds the addend twice."""

    name: ClassVar[str] = "wrong-fuse-matmul-add"

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Gemm", m["a"], m["b"], m["c"], beta=2.0)
        return value


@dataclass(frozen=True)
class SwapsFactors(ConvertBatchNorm):
    """Adds before it multiplies."""

    name: ClassVar[str] = "wrong-convert-batchnorm"
    always: bool = True

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        super().rewrite(m, rw)
        (_, scale), (_, shift) = (n.inputs for n in rw.made)
        value: ir.Value = rw.op("Mul", rw.op("Add", m["x"], shift), scale)
        return value


@dataclass(frozen=True)
class FreezesBatch(FoldShapes):
    """Writes the batch size of the first probe into every Reshape."""

    name: ClassVar[str] = "wrong-fold-shapes"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        super().rewrite(site, rw)
        if site.anchor.op_type == "Reshape":
            rw.set_input(site.anchor, 1, np.array([1, -1], np.int64))


@dataclass(frozen=True)
class TooFewRanks(FactorizeLinear):
    """Calls every weight rank deficient."""

    name: ClassVar[str] = "wrong-factorize-linear"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        yield from FactorizeLinear(rank=1).sites(module, ctx)


TAIL = "j = Identity(h) p = Exp(j) q = Exp(j) s = Add(p, q) k = Add(c1, c2) y = Mul(s, k)"
FLOATS = "float c1, float c2"
DENSE = f"g (float[N,6] x) => (float[N,8] y) <float[6,8] w, float[8] b, {FLOATS}>"
IMAGE = f"g (float[N,2,5,5] x) => (float[N,4,3,3] y) <float[4,2,3,3] w, float[4] a, float[4] b, float[4] m, float[4] var, {FLOATS}>"
NORM = "BatchNormalization(v, a, b, m, var)"

WRONG: dict[type[Pass], str] = {
    DropsRelu: f"{DENSE} {{ v = MatMul(x, w) u = Relu(v) h = Tanh(u) {TAIL} }}",
    WrongBias: f"{IMAGE} {{ v = Conv(x, w) u = {NORM} h = Tanh(u) {TAIL} }}",
    OffByOne: f"{DENSE} {{ v = MatMul(x, w) d = Mul(b, b) u = Add(v, d) h = Tanh(u) {TAIL} }}",
    IgnoresAttributes: f"""{DENSE} {{ v = MatMul(x, w) d = Softmax<axis=0>(v) e = Softmax<axis=1>(v) h = Sub(d, e)
        {TAIL} }}""",
    ComparesShapes: f"{DENSE[:-1]}, float[8] d> {{ v = MatMul(x, w) u = Add(v, b) t = Tanh(u) h = Mul(t, d) {TAIL} }}",
    DropsOptionalInputs: f"{DENSE} {{ v = MatMul(x, w) z = Sub(c1, c1) o = Exp(z) h = Clip(v, z, o) {TAIL} }}",
    NegatesScale: f"{DENSE} {{ v = MatMul(x, w) u = Mul(v, b) h = Tanh(u) {TAIL} }}",
    AddsTwice: f"{DENSE} {{ v = MatMul(x, w) u = Add(v, b) h = Tanh(u) {TAIL} }}",
    SwapsFactors: f"{IMAGE} {{ r = Conv(x, w) v = Relu(r) u = {NORM} h = Tanh(u) {TAIL} }}",
    TooFewRanks: f"{DENSE} {{ v = MatMul(x, w) h = Tanh(v) {TAIL} }}",
    FreezesBatch: f"""{DENSE[:-1]}, int64[1] i> {{ v = MatMul(x, w) n = Shape<end=1>(v) r = Concat<axis=0>(n, i)
        u = Reshape(v, r) h = Tanh(u) {TAIL} }}""",
}


@pytest.mark.parametrize("wrong", WRONG, ids=lambda p: p.name)
@pytest.mark.parametrize("verify", ["end", "each"])
def test_a_wrong_pass_is_named_and_left_out(wrong: type[Pass], verify: str) -> None:
    constants = {"i": np.array([-1]), "c1": np.array(0.25, np.float32)}
    source = model(WRONG[wrong], **constants)
    right = fcc.compile(source, passes=f"fixpoint({RIGHT})", verify="off")
    pipeline = f"eliminate-identity,{wrong.name},fixpoint({RIGHT})"
    compiled = fcc.compile(source, plugins=[wrong], passes=pipeline, verify=verify)
    assert {g["pass_name"] for g in compiled.report.guilty} == {wrong.name}
    assert all(g["site"] or issubclass(wrong, ModulePass) for g in compiled.report.guilty)
    assert all(g["reason"] == "it moved the outputs" for g in compiled.report.guilty)
    assert any(f"pass {wrong.name}" in note and "skipped" in note for note in compiled.report.notes)
    assert all(r.ok for r in compiled.report.parity)
    skipped = {(g["pass_name"], g["site"]) for g in compiled.report.guilty}
    assert not skipped & {(r["pass_name"], r["site"]) for r in compiled.report.rewrites}
    assert_same(source, compiled)
    nodes = [n.op_type for n in compiled.proto().graph.node]
    assert "Identity" not in nodes
    assert nodes.count("Exp") == 1
    if wrong is not OffByOne:
        assert nodes == [n.op_type for n in right.proto().graph.node]


@pytest.mark.parametrize("wrong", [DropsRelu, OffByOne, ComparesShapes], ids=lambda p: p.name)
def test_strict_raises(wrong: type[Pass]) -> None:
    source = model(WRONG[wrong])
    with pytest.raises(PassError, match=f"{wrong.name}.*moved the outputs") as caught:
        fcc.compile(source, plugins=[wrong], passes=wrong.name, strict=True)
    assert caught.value.exit_code == 5
    assert caught.value.pass_name == wrong.name


# -- errors that hide ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class NegExp(PatternPass):
    """Exp(x) -> Exp(-x): wrong."""

    name: ClassVar[str] = "wrong-negate-exp"
    pattern = op.Exp(op.Tanh(var("x"), name="tanh"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Exp", rw.op("Neg", rw.op("Tanh", m["x"])))
        return value


@dataclass(frozen=True)
class DropNegs(PatternPass):
    """Exp(Neg(x)) -> Exp(x): wrong too, and hides the error of the pass before."""

    name: ClassVar[str] = "wrong-drop-negations"
    pattern = op.Exp(op.Neg(var("x")))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Exp", m["x"])
        return value


HIDDEN = "g (float[N,3] x) => (float[N,3] y) { t = Tanh(x) y = Exp(t) }"


def test_each_names_a_pass_whose_error_a_later_one_hides() -> None:
    source = model(HIDDEN)
    pipeline = "wrong-negate-exp,wrong-drop-negations"
    end = fcc.compile(source, plugins=[NegExp, DropNegs], passes=pipeline)
    assert end.report.guilty == []
    each = fcc.compile(source, plugins=[NegExp, DropNegs], passes=pipeline, verify="each")
    assert [(g["pass_name"], g["site"]) for g in each.report.guilty] == [("wrong-negate-exp", "y")]
    for compiled in (end, each):
        assert_same(source, compiled)


def test_a_wrong_rewrite_inside_a_branch() -> None:
    source = model("""g (bool k, float[3,4] x) => (float[3,4] y) <float c1, float c2> { s = Add(c1, c2) h = Mul(x, s)
      y = If (k) <then_branch = t () => (float[3,4] u) { r = Tanh(h) u = Relu(r) },
                  else_branch = e () => (float[3,4] v) { v = Abs(h) }> }""")
    compiled = fcc.compile(source, plugins=[DropsRelu], passes=f"{DropsRelu.name},{RIGHT}")
    assert [(g["pass_name"], g["site"]) for g in compiled.report.guilty] == [(DropsRelu.name, "u")]
    assert [n.op_type for n in compiled.proto().graph.node] == ["Mul", "If"]
    assert_same(source, compiled)


def test_only_the_guilty_site_of_a_pass_that_is_right_elsewhere() -> None:
    source = model(
        "g (float[N,6] x) => (float[N,6] y) { a = Exp(x) b = Relu(a) c = Tanh(x) d = Relu(c) y = Add(b, d) }"
    )
    compiled = fcc.compile(source, plugins=[DropsRelu], passes=DropsRelu.name)
    assert [g["site"] for g in compiled.report.guilty] == ["d"]
    assert [r["site"] for r in compiled.report.rewrites] == ["b"]
    assert_same(source, compiled)


def test_a_pass_wrong_everywhere_is_left_out_after_a_few_sites() -> None:
    chain = " ".join(f"i{i} = Identity(x) t{i} = Tanh(i{i}) r{i} = Relu(t{i})" for i in range(20))
    total = " ".join(f"s{i + 1} = Add(r{i + 1}, s{i})" for i in range(1, 19))
    source = model(f"g (float[N,3] x) => (float[N,3] y) {{ {chain} s1 = Add(r1, r0) {total} y = Exp(s19) }}")
    compiled = fcc.compile(source, plugins=[DropsRelu], passes=f"{DropsRelu.name},eliminate-identity")
    assert len(compiled.report.guilty) == 3
    assert any("was left out after 3" in note for note in compiled.report.notes)
    assert "Identity" not in [n.op_type for n in compiled.proto().graph.node]
    assert_same(source, compiled)


# -- passes that fail ------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class Raises(PatternPass):
    """Raises in the middle of its rewrite."""

    name: ClassVar[str] = "wrong-raise"
    pattern = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        rw.op("Abs", m["x"])
        raise ZeroDivisionError("by design")


@dataclass(frozen=True)
class RaisesInCheck(Raises):
    """Raises before it changes anything."""

    name: ClassVar[str] = "wrong-raise-in-check"

    def check(self, m: Match) -> str | None:
        raise KeyError("by design")


@dataclass(frozen=True)
class ChangesType(PatternPass):
    """Replaces floats by integers: the Rewriter refuses."""

    name: ClassVar[str] = "wrong-type"
    pattern = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Cast", m["x"], to=7)
        return value


SIMPLE = "g (float[N,3] x) => (float[N,3] y) { i = Identity(x) t = Tanh(i) r = Relu(t) y = Exp(r) }"


@pytest.mark.parametrize("wrong", [Raises, RaisesInCheck, ChangesType], ids=lambda p: p.name)
def test_a_rewrite_that_raises_is_undone(wrong: type[Pass], caplog: pytest.LogCaptureFixture) -> None:
    source = model(SIMPLE)
    with caplog.at_level(logging.WARNING):
        compiled = fcc.compile(source, plugins=[wrong])
    assert any(f"pass {wrong.name} failed at r" in note for note in compiled.report.notes)
    assert "failed at r" in caplog.text
    assert [n.op_type for n in compiled.proto().graph.node] == ["Tanh", "Relu", "Exp"]
    assert_same(source, compiled)
    with pytest.raises(PassError, match=f"pass {wrong.name} failed at node"):
        fcc.compile(source, plugins=[wrong], strict=True)


@dataclass(frozen=True)
class RaisesInSites(SitePass):
    """Raises while it looks for sites."""

    name: ClassVar[str] = "wrong-sites"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        raise IndexError("by design")

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        raise AssertionError


@dataclass(frozen=True)
class BreaksHalfway(ModulePass):
    """Raises with the graph half changed."""

    name: ClassVar[str] = "wrong-module"

    def check_module(self, module: ir.Module, ctx: PassContext) -> str | None:
        return None

    def run(self, module: ir.Module, ctx: PassContext) -> int:
        next(n for n in module.graph if n.op_type == "Relu").replace_input_with(0, None)
        raise IndexError("by design")


@dataclass(frozen=True)
class BreaksOrder(SitePass):
    """Lets a node use a value that is computed later."""

    name: ClassVar[str] = "wrong-order"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        yield from [Site(n, module, ctx) for n in module.graph if n.op_type == "Tanh"]

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        later = next(n for n in site.module.graph if n.op_type == "Relu")
        rw.set_input(site.anchor, 0, later.outputs[0])


@dataclass(frozen=True)
class NeverEnds(PatternPass):
    """Relu(x) -> Relu(x), for ever."""

    name: ClassVar[str] = "wrong-endless"
    pattern = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Relu", m["x"])
        return value


@dataclass(frozen=True)
class UnknownOperator(PatternPass):
    """Writes an operator that does not exist."""

    name: ClassVar[str] = "wrong-operator"
    pattern = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Rellu", m["x"])
        value.type, value.shape = m["x"].type, m["x"].shape
        return value


@dataclass(frozen=True)
class BadConstant(PatternPass):
    """A constant whose contents cannot be computed when the model is emitted."""

    name: ClassVar[str] = "wrong-lazy"
    pattern = op.MatMul(var("x"), const("w"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        def compute() -> Any:
            raise ValueError("by design")

        value: ir.Value = rw.op("MatMul", m["x"], rw.lazy(compute, m["w"]))
        return value


@pytest.mark.parametrize("verify", ["end", "off"])
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (RaisesInSites, "IndexError: by design"),
        (BreaksHalfway, "IndexError: by design"),
        (BreaksOrder, "used before it is produced"),
        (NeverEnds, "does not come to an end"),
    ],
    ids=lambda p: getattr(p, "name", ""),
)
def test_a_pass_that_breaks_the_graph_is_left_out(wrong: type[Pass], message: str, verify: str) -> None:
    source = model(SIMPLE)
    compiled = fcc.compile(source, plugins=[wrong], verify=verify)
    assert [g["pass_name"] for g in compiled.report.guilty] == [wrong.name]
    with pytest.raises(AssertionError, match=message):
        raise AssertionError(compiled.report.guilty[0]["reason"])
    assert [n.op_type for n in compiled.proto().graph.node] == ["Tanh", "Relu", "Exp"]
    assert_same(source, compiled)
    with pytest.raises(fcc.FccError, match=message) as caught:
        fcc.compile(source, plugins=[wrong], verify=verify, strict=True)
    assert caught.value.exit_code in (5, 70)
    assert wrong.name in str(caught.value)


def test_an_operator_that_does_not_exist_is_caught() -> None:
    source = model(SIMPLE)
    compiled = fcc.compile(source, plugins=[UnknownOperator])
    assert [(g["pass_name"], g["site"]) for g in compiled.report.guilty] == [("wrong-operator", "r")]
    assert_same(source, compiled)


def test_a_weight_that_cannot_be_computed_is_caught() -> None:
    source = model(WRONG[TooFewRanks])
    compiled = fcc.compile(source, plugins=[BadConstant])
    assert [g["pass_name"] for g in compiled.report.guilty] == ["wrong-lazy"]
    assert_same(source, compiled)


def test_each_guilty_rewrite_has_its_own_reason() -> None:
    source = model(SIMPLE)
    compiled = fcc.compile(source, plugins=[DropsRelu, RaisesInSites])
    assert [(g["pass_name"], g["site"], g["reason"]) for g in compiled.report.guilty] == [
        (DropsRelu.name, "r", "it moved the outputs"),
        (RaisesInSites.name, "", "pass wrong-sites failed: IndexError: by design"),
    ]
    assert_same(source, compiled)


# -- functions -------------------------------------------------------------------------------------------------------
def test_a_wrong_graphsurgeon_function_is_left_out_and_a_right_one_stays() -> None:
    if importlib.util.find_spec("onnx_graphsurgeon") is None:
        pytest.skip("onnx-graphsurgeon is not installed")

    def wrong(graph: Any) -> Any:
        for node in graph.nodes:
            node.op = "Tanh" if node.op == "Relu" else node.op
        return graph

    def right(graph: Any) -> None:
        for node in [n for n in graph.nodes if n.op == "Identity"]:
            node.o().inputs[0] = node.inputs[0]
            node.outputs.clear()
        graph.cleanup()

    source = model(SIMPLE)
    for plugins in ([wrong, right], [right, wrong]):
        compiled = fcc.compile(source, opt_level=0, plugins=plugins)
        assert len(compiled.report.guilty) == 1
        assert compiled.report.guilty[0]["pass_name"] == "wrong"
        assert compiled.report.pipeline == ",".join(f.__name__ for f in plugins)
        assert [n.op_type for n in compiled.proto().graph.node] == ["Tanh", "Relu", "Exp"]
        assert_same(source, compiled)
