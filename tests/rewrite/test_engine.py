from collections.abc import Iterator
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from fcc import ir
from fcc.errors import PassError, VerifyError
from fcc.ir.text import canonical, parse
from fcc.rewrite import ORIGIN, Log, Match, Pass, PassContext, PatternPass, Rewriter, Site, SitePass, op, run_pass, var
from fcc.rewrite.manager import Manager, PassRecord, PrintAfter
from fcc.rewrite.pipeline import Fixpoint, Pipeline
from fcc.target import get_target
from fcc.testing import check


@dataclass(frozen=True)
class DropDoubleNeg(PatternPass):
    """Neg(Neg(x)) -> x."""

    name: ClassVar[str] = "drop-double-neg"
    pattern: ClassVar = op.Neg(op.Neg(var("x")))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        return m["x"]


@dataclass(frozen=True)
class ReluToMax(PatternPass):
    """Relu(x) -> Max(x, 0)."""

    name: ClassVar[str] = "relu-to-max"
    pattern: ClassVar = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Max", m["x"], np.zeros((), np.float32))
        return value


def context(**log: object) -> PassContext:
    return PassContext(get_target("cpu"), Log(**log))  # type: ignore[arg-type]


CHAIN = "g (float[N] x) => (float[N] y) { a = Neg(x) b = Neg(a) c = Neg(b) d = Neg(c) y = Abs(d) }"


def test_chain_runs_to_its_fixpoint() -> None:
    check(DropDoubleNeg(), CHAIN, "g (float[N] x) => (float[N] y) { y = Abs(x) }")


def test_interior_value_with_another_user_stays() -> None:
    text = "g (float[N] x) => (float[N] y, float[N] z) { a = Neg(x) b = Neg(a) y = Abs(b) z = Exp(a) }"
    check(DropDoubleNeg(), text, None, because="'a' has other users")


def test_interior_value_that_is_an_output_stays() -> None:
    text = "g (float[N] x) => (float[N] a, float[N] y) { a = Neg(x) b = Neg(a) y = Abs(b) }"
    check(DropDoubleNeg(), text, None, because="'a' is a graph output")


def test_interior_value_captured_by_a_branch_stays() -> None:
    text = """g (bool k, float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = If (k)
      <then_branch = t () => (float[2] u) { u = Exp(a) }, else_branch = e () => (float[2] v) { v = Abs(b) }> }"""
    check(DropDoubleNeg(), text, None, because="'a' has other users")


def test_output_that_would_become_an_input_gets_an_identity() -> None:
    check(
        DropDoubleNeg(),
        "g (float[N] x) => (float[N] y) { a = Neg(x) y = Neg(a) }",
        "g (float[N] x) => (float[N] y) { y = Identity(x) }",
    )


def test_rewrites_inside_branches() -> None:
    text = """g (bool k, float[2] x) => (float[2] y) { y = If (k)
      <then_branch = t () => (float[2] u) { u = Relu(x) }, else_branch = e () => (float[2] v) { v = Abs(x) }> }"""
    module = check(ReluToMax(), text, text.replace("Relu(x)", "Max(x, c0)"))
    assert [r.pass_name for r in module.history] == ["relu-to-max"]


def test_new_nodes_say_where_they_come_from_and_names_stay() -> None:
    module = parse("g (float[N] x) => (float[N] y) { a = Relu(x) y = Neg(a) }")
    node = next(iter(module.graph))
    node.name, node.doc_string = "act", "first"
    node.metadata_props["layer"] = "one"
    node.outputs[0].metadata_props["unit"] = "mV"
    run_pass(ReluToMax(), module, context())
    made = next(iter(module.graph))
    assert made.outputs[0].name == "a"
    assert made.metadata_props[ORIGIN] == "relu-to-max(act)"
    assert (made.metadata_props["layer"], made.doc_string) == ("one", "first")
    assert made.outputs[0].metadata_props["unit"] == "mV"


def test_limit_stops_and_skip_leaves_a_site_alone() -> None:
    text = "g (float[N] x) => (float[N] z) { a = Relu(x) b = Exp(a) y = Relu(b) z = Neg(y) }"
    for log, left in ((context(limit=1), ["y"]), (context(skip=frozenset({("relu-to-max", "a")})), ["a"])):
        module = parse(text)
        assert run_pass(ReluToMax(), module, log) == 1
        assert [n.outputs[0].name for n in module.graph if n.op_type == "Relu"] == left


@dataclass(frozen=True)
class WrongType(PatternPass):
    """Relu(x) -> Cast(x): a wrong rewrite."""

    name: ClassVar[str] = "wrong-type"
    pattern: ClassVar = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Cast", m["x"], to=int(ir.DataType.DOUBLE))
        return value


def test_a_rewrite_that_changes_the_type_is_undone_and_reported() -> None:
    module = parse("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    before, ctx = canonical(module), context()
    assert run_pass(WrongType(), module, ctx) == 0
    assert canonical(module) == before
    assert not [u for u in module.graph.inputs[0].uses() if u.node.op_type == "Cast"]
    assert "would change the type" in ctx.log.failures[0].reason
    with pytest.raises(PassError, match="wrong-type failed at node"):
        run_pass(WrongType(), module, context(strict=True))


@dataclass(frozen=True)
class Misorder(SitePass):
    """Move a node behind its user: breaks the graph."""

    name: ClassVar[str] = "misorder"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        yield Site(next(iter(module.graph)), module, ctx)

    def check(self, site: Site) -> str | None:
        return None

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        first, *_, last = site.module.graph
        rw.set_input(first, 0, last.outputs[0])


def test_the_manager_names_the_pass_that_breaks_the_graph() -> None:
    module = parse("g (float[N] x) => (float[N] y) { a = Relu(x) y = Neg(a) }")
    with pytest.raises(VerifyError, match="used before it is produced"):
        Manager().run(Pipeline((Misorder(),)), module, context())


def test_fixpoint_repeats_until_nothing_changes() -> None:
    seen: list[PassRecord] = []

    class Watch(PrintAfter):
        def after(self, p: Pass, module: ir.Module, record: PassRecord) -> None:
            seen.append(record)

    module = parse("g (float[N] x) => (float[N] y) { a = Neg(x) b = Neg(a) c = Relu(b) y = Exp(c) }")
    pipeline = Pipeline((Fixpoint((ReluToMax(), DropDoubleNeg())),))
    assert Manager([Watch("", print)]).run(pipeline, module, context()) == 2
    assert [n.op_type for n in module.graph] == ["Max", "Exp"]
    assert sum(r.applied for r in seen) == 2


def test_a_step_that_has_nothing_more_to_do_does_not_run_again() -> None:
    pipeline = Pipeline((Fixpoint((ReluToMax(), DropDoubleNeg())), ReluToMax(), Fixpoint((ReluToMax(),))))
    manager, module, ctx = Manager(), parse("g (float[N] x) => (float[N] y) { y = Neg(x) }"), context()
    manager.run(pipeline, module, ctx)
    assert [r.name for r in manager.records] == ["relu-to-max", "drop-double-neg"]
    manager.run(pipeline, module, ctx)
    assert len(manager.records) == 2
    manager.run(pipeline, module, context())
    assert len(manager.records) == 4
    manager.run(pipeline, parse("g (float[N] x) => (float[N] y) { y = Neg(x) }"), context())
    assert len(manager.records) == 6
    module.touch()
    manager.run(Pipeline((DropDoubleNeg(), DropDoubleNeg())), module, ctx)
    assert len(manager.records) == 7


def test_print_after_shows_the_text_form() -> None:
    out: list[str] = []
    module = parse("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    Manager([PrintAfter("relu-to-max", out.append)]).run(Pipeline((ReluToMax(),)), module, context())
    assert "Max(" in out[0]


@dataclass(frozen=True)
class Endless(PatternPass):
    """Relu(x) -> Relu(x), for ever."""

    name: ClassVar[str] = "endless"
    pattern: ClassVar = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op("Relu", m["x"])
        return value


@dataclass(frozen=True)
class FailsLate(PatternPass):
    """Fails where the commit looks at what it made."""

    name: ClassVar[str] = "fails-late"
    pattern: ClassVar = op.Relu(var("x"))

    def rewrite(self, m: Match, rw: Rewriter) -> ir.Value:
        value: ir.Value = rw.op(
            "Max",
            m["x"],
            rw.lazy(
                lambda: np.zeros(3, np.float32), ir.Value(type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape([2]))
            ),
        )
        return value


RELU = "g (float[N,2] x) => (float[N,2] y) { t = Relu(x) y = Abs(t) }"


def test_a_pass_that_never_ends_is_stopped() -> None:
    module = parse(RELU)
    ctx = context()
    with pytest.raises(PassError, match="pass endless failed: RuntimeError: it does not come to an end"):
        Manager().run(Pipeline((Endless(),)), module, ctx)
    assert (ctx.log.applied[-1].pass_name, ctx.log.applied[-1].site) == ("endless", "")


def test_a_commit_that_fails_halfway_is_no_refusal_but_an_error_that_names_its_site() -> None:
    ctx = context()
    with pytest.raises(PassError, match="'t' while the graph was changed: a constant of pass fails-late is float32"):
        Manager().run(Pipeline((FailsLate(),)), parse(RELU), ctx)
    assert [(r.pass_name, r.site) for r in ctx.log.applied] == [("fails-late", "t")]


@pytest.mark.parametrize("gate", [{"skip": frozenset({("endless", "")})}, {"limit": 0}])
def test_a_pass_that_is_skipped_does_not_run(gate: dict[str, object]) -> None:
    assert run_pass(Endless(), parse(RELU), context(**gate)) == 0


@dataclass(frozen=True)
class MergeAbs(SitePass):
    """Abs(x), Abs(x) -> one Abs(x) in place of both, the graph output first."""

    name: ClassVar[str] = "merge-abs"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        yield Site(next(iter(module.graph)), module, ctx)

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        both = [n for n in site.module.graph if n.op_type == "Abs"]
        made = rw.op("Abs", both[0].inputs[0])
        for node in both:
            rw.replace(node.outputs[0], made)
        rw.erase(*both)


@pytest.mark.parametrize("outputs", ["y, float[N] z", "a, float[N] z", "y, float[N] a, float[N] z"])
def test_a_value_that_replaces_several_keeps_the_name_of_the_output(outputs: str) -> None:
    module = parse(f"g (float[N] x) => (float[N] {outputs}) {{ y = Abs(x) a = Abs(x) z = Exp(a) }}")
    names = [v.name for v in module.graph.outputs]
    run_pass(MergeAbs(), module, context())
    ir.verify(module)
    assert [v.name for v in module.graph.outputs] == names
