import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.analysis import shapes
from fcc.ir.text import parse
from fcc.passes.merge_common_subexpressions import MergeCommonSubexpressions
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

P = MergeCommonSubexpressions()
HEAD = "g (float[N,4] x, float[N,4] u) => (float[N,4] y)"


def run(module: ir.Module) -> int:
    shapes.infer(module)
    applied = run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    ir.verify(module)
    return applied


def count(body: str, head: str = HEAD) -> int:
    """Return how many nodes the pass merges."""
    return run(parse(f"{head} {{ {body} }}"))


def test_equal_nodes() -> None:
    check(
        P,
        before=HEAD + "{ a = Relu(x) b = Relu(x) y = Sub(a, b) }",
        after=HEAD + "{ a = Relu(x) y = Sub(a, a) }",
    )


def test_chain_in_one_pass() -> None:
    check(
        P,
        before=HEAD + "{ a = Relu(x) b = Relu(x) c = Neg(a) d = Neg(b) e = Neg(b) f = Add(c, d) y = Add(f, e) }",
        after=HEAD + "{ a = Relu(x) c = Neg(a) f = Add(c, c) y = Add(f, c) }",
    )


def test_operands_in_another_order() -> None:
    check(
        P,
        before=HEAD + "{ a = Add(x, u) b = Add(u, x) y = Mul(a, b) }",
        after=HEAD + "{ a = Add(x, u) y = Mul(a, a) }",
    )


@pytest.mark.parametrize(
    "body",
    [
        "a = Sub(x, u) b = Sub(u, x) y = Mul(a, b)",
        "a = Max(x, u) b = Max(u, x) y = Mul(a, b)",
        "a = Sum(x, u, u) b = Sum(u, x, u) y = Mul(a, b)",
        "a = Relu(x) b = Neg(x) y = Mul(a, b)",
        "a = LeakyRelu<alpha=0.1>(x) b = LeakyRelu<alpha=0.2>(x) y = Mul(a, b)",
        "a = LeakyRelu<alpha=0.0>(x) b = LeakyRelu<alpha=-0.0>(x) y = Mul(a, b)",
        "a = RandomNormalLike(x) b = RandomNormalLike(x) y = Mul(a, b)",
        "a = RandomNormalLike<seed=1.0>(x) b = RandomNormalLike<seed=1.0>(x) y = Mul(a, b)",
        "a = Bernoulli(x) b = Bernoulli(x) y = Mul(a, b)",
        "a = my.op(x) b = my.op(x) y = Mul(a, b)",
    ],
)
def test_different(body: str) -> None:
    head = '<ir_version: 10, opset_import: ["" : 21, "my" : 1]> ' + HEAD
    assert count(body, head) == 0


@pytest.mark.parametrize(
    "body",
    [
        "a = Softmax(x) b = Softmax<axis=-1>(x) y = Mul(a, b)",
        "a = Clip(x) b = Clip(x, , ) y = Mul(a, b)",
        "a = LeakyRelu<alpha=0.1>(x) b = LeakyRelu<alpha=0.1>(x) y = Mul(a, b)",
        "a = Elu(x) b = Elu<alpha=1.0>(x) y = Mul(a, b)",
        "a = Sum(x, u) b = Sum(u, x) y = Mul(a, b)",
    ],
)
def test_same(body: str) -> None:
    assert count(body) == 1


def test_commuting_integers() -> None:
    head = "g (int64[4] x, int64[4] u) => (int64[4] y)"
    assert count("a = Max(x, u) b = Max(u, x) y = Mul(a, b)", head) == 1


def fills(a: object, b: object, dtype: type = np.float32) -> ir.Module:
    """Return a module with two ConstantOfShape that fill with a and b."""
    module = parse("g (int64[1] s) => (float[N] y) { a = ConstantOfShape(s) b = ConstantOfShape(s) y = Add(a, b) }")
    for node, fill in zip(module.graph, (a, b), strict=False):
        ir.set_attributes(node, {"value": np.array([fill], dtype)})
    return module


def test_tensor_attributes_by_their_bits() -> None:
    assert run(fills(2.0, 2.0)) == 1
    assert run(fills(math.nan, math.nan)) == 1
    assert run(fills(2.0, 3.0)) == 0
    assert run(fills(0.0, -0.0)) == 0


def test_missing_tensor_attribute_is_not_a_given_one() -> None:
    module = fills(0.0, 0.0)
    ir.set_attributes(next(iter(module.graph)), {"value": None})
    assert run(module) == 0


# -- outputs ---------------------------------------------------------------------------------------------------------
TWO = "g (float[N,4] x) => (float[N,4] y, float[N,4] z)"


def test_graph_output_hands_its_name_to_the_first() -> None:
    head = "g (float[N,4] x) => (float[N,4] y, float[N,4] z)"
    check(
        P,
        before=head + "{ a = Relu(x) z = Neg(a) y = Relu(x) }",
        after=head + "{ y = Relu(x) z = Neg(y) }",
    )


def test_two_cheap_outputs_stay() -> None:
    check(P, before=TWO + "{ y = Relu(x) z = Relu(x) }", after=None, because="costs no more than a copy")


def test_two_costly_outputs_share() -> None:
    check(
        P,
        before=TWO + "<float[4,4] w> { y = MatMul(x, w) z = MatMul(x, w) }",
        after=TWO + "{ y = MatMul(x, w) z = Identity(y) }",
    )


def test_more_outputs_of_the_first_serve() -> None:
    head = "g (float[1,2,4,4] x) => (float[1,2,3,3] y, int64[1,2,3,3] i)"
    pool = "MaxPool<kernel_shape=[2,2]>(x)"
    check(
        P,
        before=f"{head} {{ a, i = {pool} b = {pool} y = Add(a, b) }}",
        after=f"{head} {{ a, i = {pool} y = Add(a, a) }}",
    )


def test_outputs_are_united() -> None:
    head = "g (float[1,2,4,4] x) => (float[1,2,3,3] y, int64[1,2,3,3] i)"
    pool = "MaxPool<kernel_shape=[2,2]>(x)"
    check(
        P,
        before=f"{head} {{ a = {pool} b, i = {pool} c = {pool} d = Add(a, b) y = Add(d, c) }}",
        after=f"{head} {{ a, i = {pool} d = Add(a, a) y = Add(d, a) }}",
    )


# -- subgraphs -------------------------------------------------------------------------------------------------------
def branches(before: str, then: str, after: str = "") -> str:
    return f"""g (bool c, float[4] x) => (float[4] y) {{
        {before}
        z = If (c) <then_branch = t () => (float[4] p) {{ {then} }},
                    else_branch = e () => (float[4] q) {{ r = Relu(x) q = Neg(r) }}>
        {after} }}"""


def test_inner_node_reuses_an_outer_value() -> None:
    module = parse(branches("a = Relu(x)", "b = Relu(x) p = Abs(b)", "y = Add(z, a)"))
    assert run(module) == 2
    assert [n.op_type for n in module.nodes()].count("Relu") == 1


def test_outer_node_does_not_reuse_an_inner_value() -> None:
    module = parse(branches("", "b = Abs(x) p = Exp(b)", "a = Relu(x) y = Add(z, a)"))
    assert run(module) == 0


def test_branches_do_not_share() -> None:
    assert run(parse(branches("", "r2 = Relu(x) p = Neg(r2)", "y = Exp(z)"))) == 0


def test_cheap_output_of_a_branch_stays() -> None:
    assert run(parse(branches("a = Abs(x)", "p = Abs(x)", "y = Add(z, a)"))) == 0


def test_costly_output_of_a_branch_captures() -> None:
    module = parse(branches("a = Softmax(x)", "p = Softmax(x)", "y = Add(z, a)"))
    assert run(module) == 1
    assert [n.op_type for n in module.nodes()].count("Softmax") == 1


def test_nodes_with_subgraphs_stay() -> None:
    again = """w = If (c) <then_branch = t2 () => (float[4] p2) { p2 = Abs(x) },
                            else_branch = e2 () => (float[4] q2) { q2 = Neg(x) }> y = Add(z, w)"""
    text = branches("", "p = Abs(x)", again).replace("r = Relu(x) q = Neg(r)", "q = Neg(x)")
    assert run(parse(text)) == 0


def test_functions_stay() -> None:
    module = parse(
        """<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>
        g (float[4] x) => (float[4] y) { a = com.microsoft.f(x) b = com.microsoft.f(x) y = Add(a, b) }
        <domain: "com.microsoft", opset_import: ["" : 21]> f (x) => (y) { y = RandomNormalLike(x) }"""
    )
    assert run(module) == 0


def test_quantizers_stay() -> None:
    head = "g (float[N,4] x) => (float[N,4] y) <float s = {0.5}>"
    body = "a = QuantizeLinear(x, s) b = QuantizeLinear(x, s) c = DequantizeLinear(a, s) d = DequantizeLinear(b, s)"
    assert count(f"{body} y = Add(c, d)", head) == 0


UNARY = ("Relu", "Neg", "Abs", "Sigmoid")
BINARY = ("Add", "Mul", "Sub")


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 99), st.integers(0, 99)), min_size=1, max_size=14))
def test_random_graphs(steps: list[tuple[int, int, int]]) -> None:
    names, body = ["x", "u"], []
    forms: dict[tuple[object, ...], int] = {}
    numbers = {"x": 0, "u": 1}
    for i, (kind, p, q) in enumerate(steps):
        a, b = names[p % len(names)], names[q % len(names)]
        op = (*UNARY, *BINARY)[kind]
        inputs = [a] if kind < len(UNARY) else [a, b]
        body.append(f"v{i} = {op}({', '.join(inputs)})")
        form = [numbers[n] for n in inputs]
        key = (op, *(sorted(form) if op in ("Add", "Mul") else form))
        numbers[f"v{i}"] = forms.setdefault(key, len(forms) + 2)
        names.append(f"v{i}")
    text = f"{HEAD} {{ {' '.join(body)} y = Sum({', '.join(names)}) }}"
    module = parse(text)
    assert run(module) == len(steps) - len(forms)
    assert run(module) == 0


def test_twins_that_nothing_uses_do_not_take_the_first_one_along() -> None:
    check(
        MergeCommonSubexpressions(),
        f"{HEAD} {{ a = Relu(x) b = Relu(x) c = Relu(x) d = Neg(c) y = Abs(d) }}",
        f"{HEAD} {{ a = Relu(x) d = Neg(a) y = Abs(d) }}",
    )
