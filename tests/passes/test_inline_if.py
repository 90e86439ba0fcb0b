import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.ir.text import parse
from fcc.passes.inline_if import InlineConstantIfs
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

IF = """g (float[N,2] x) => (float[N,2] y) <bool b = {VALUE}> {
    r = Relu(x)
    k = If(b) <then_branch = t () => (float[N,2] p) {
                   w = Constant<value = float[2] {1.0, 2.0}>() s = Add(r, w) p = Neg(s) },
               else_branch = e () => (float[N,2] q) { q = Exp(r) }>
    y = Abs(k) }"""


def test_the_taken_branch_moves_with_its_constants() -> None:
    module = check(
        InlineConstantIfs(),
        IF.replace("VALUE", "1"),
        "g (float[N,2] x) => (float[N,2] y) { r = Relu(x) s = Add(r, w) k = Neg(s) y = Abs(k) }",
        tolerance=0,
    )
    assert {v.name for n in module.graph for v in n.outputs} == {"r", "s", "k", "y"}
    assert set(module.graph.initializers) == {"w"}


def test_the_other_branch_takes_its_captures_along() -> None:
    module = check(
        InlineConstantIfs(),
        IF.replace("VALUE", "0"),
        "g (float[N,2] x) => (float[N,2] y) { r = Relu(x) k = Exp(r) y = Abs(k) }",
        tolerance=0,
    )
    assert len(list(next(iter(module.graph)).outputs[0].uses())) == 1


def test_constants_that_only_the_other_branch_used_leave() -> None:
    module = check(
        InlineConstantIfs(),
        """g (float[2] x) => (float[2] y) <bool b = {1}, float[2] w> {
            y = If(b) <then_branch = t () => (float[2] p) { p = Neg(x) },
                       else_branch = e () => (float[2] q) { q = Add(x, w) }> }""",
        "g (float[2] x) => (float[2] y) { y = Neg(x) }",
    )
    assert not module.graph.initializers


def test_an_output_of_the_graph_keeps_its_name() -> None:
    check(
        InlineConstantIfs(),
        """g (float[2] x) => (float[2] y, float[2] z) <bool b = {1}> {
            y, z = If(b) <then_branch = t () => (float[2] p, float[2] p2) { p = Neg(x) p2 = Exp(p) },
                          else_branch = e () => (float[2] q, float[2] q2) { q = Exp(x) q2 = Neg(x) }> }""",
        "g (float[2] x) => (float[2] y, float[2] z) { y = Neg(x) z = Exp(y) }",
    )


def test_a_branch_that_returns_what_it_captured() -> None:
    check(
        InlineConstantIfs(),
        """g (float[2] x) => (float[2] y) <bool b = {1}> {
            y = If(b) <then_branch = t () => (float[2] p) { p = Identity(x) },
                       else_branch = e () => (float[2] q) { q = Neg(x) }> }""",
        "g (float[2] x) => (float[2] y) { y = Identity(x) }",
    )


def test_a_branch_that_returns_a_constant() -> None:
    check(
        InlineConstantIfs(),
        """g (float[2] x) => (float[2] y) <bool b = {1}> {
            k = If(b) <then_branch = t () => (float[2] p) { p = Constant<value = float[2] {1.0, 2.0}>() },
                       else_branch = e () => (float[2] q) { q = Neg(x) }>
            y = Add(x, k) }""",
        "g (float[2] x) => (float[2] y) { k = Identity(c0) y = Add(x, k) }",
    )


def test_a_value_returned_twice() -> None:
    module = read(
        parse(
            """g (float[2] x) => (float[2] y, float[2] z) <bool b = {1}> {
            y, z = If(b) <then_branch = t () => (float[2] p, float[2] p2) { p = Neg(x) p2 = Exp(x) },
                          else_branch = e () => (float[2] q, float[2] q2) { q = Exp(x) q2 = Neg(x) }> }"""
        ).model
    )
    shapes.infer(module)
    body = next(iter(module.graph)).attributes["then_branch"].as_graph()
    body.outputs[1] = body.outputs[0]
    run_pass(InlineConstantIfs(), module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    ir.verify(module)
    assert [v.name for v in module.graph.outputs] == ["y", "z"]
    assert {n.op_type: n.outputs[0].name for n in module.graph} == {"Neg": "y", "Identity": "z"}


def test_nested_ifs_and_ifs_in_bodies() -> None:
    check(
        InlineConstantIfs(),
        """g (float[2] x, bool c) => (float[2] y) <bool b = {1}> {
            y = If(b) <then_branch = t () => (float[2] p) {
                    p = If(c) <then_branch = u () => (float[2] v) {
                            v = If(b) <then_branch = m () => (float[2] n) { n = Neg(x) },
                                       else_branch = o () => (float[2] r) { r = Abs(x) }> },
                               else_branch = f () => (float[2] w) { w = Exp(x) }> },
                       else_branch = e () => (float[2] q) { q = Sin(x) }> }""",
        """g (float[2] x, bool c) => (float[2] y) {
            y = If(c) <then_branch = u () => (float[2] v) { v = Neg(x) },
                       else_branch = f () => (float[2] w) { w = Exp(x) }> }""",
    )


def test_a_condition_known_from_shapes() -> None:
    check(
        InlineConstantIfs(),
        """g (float[N,3] x) => (float[A] y) <int64 two = {2}> {
            s = Shape(x) n = Size(s) c = Equal(n, two)
            y = If(c) <then_branch = t () => (float[N,3] p) { p = Neg(x) },
                       else_branch = e () => (float[M] q) <int64[1] m = {-1}> { q = Reshape(x, m) }> }""",
        "g (float[N,3] x) => (float[N,3] y) { y = Neg(x) }",
    )


@pytest.mark.parametrize("inputs", ["bool b", "bool b, int64 n"])
def test_a_condition_of_the_run_stays(inputs: str) -> None:
    check(
        InlineConstantIfs(),
        f"""g (float[2] x, {inputs}) => (float[2] y) {{
            y = If(b) <then_branch = t () => (float[2] p) {{ p = Neg(x) }},
                       else_branch = e () => (float[2] q) {{ q = Exp(x) }}> }}""",
        None,
        because="depends on the inputs",
    )


def test_an_overridable_condition_stays() -> None:
    check(
        InlineConstantIfs(),
        """g (float[2] x, bool b) => (float[2] y) <bool b = {1}> {
            y = If(b) <then_branch = t () => (float[2] p) { p = Neg(x) },
                       else_branch = e () => (float[2] q) { q = Exp(x) }> }""",
        None,
        because="depends on the inputs",
    )


def test_an_if_that_nothing_reads_stays() -> None:
    """Dead code elimination takes it away whole."""
    check(InlineConstantIfs(), IF.replace("VALUE", "1").replace("y = Abs(k)", "y = Abs(r)"), None)
