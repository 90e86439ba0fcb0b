import numpy as np
import pytest

from fcc import ir
from fcc.errors import VerifyError
from fcc.ir.text import canonical, diff, parse, to_text

GRAPH = """g (float[N,4] x) => (float[N,4] y) <float[4] w = {1,2,3,4}> { a = Add(x, w)  b = Relu(a)  y = Neg(b) }"""
NESTED = """g (bool c, float[2] x) => (float[2] y) {
  a = Relu(x)
  y = If (c) <then_branch = t () => (float[2] u) { u = Neg(a) }, else_branch = e () => (float[2] v) { v = Abs(a) }>
}"""


def node(module: ir.Module, op_type: str) -> ir.Node:
    return next(n for n in module.nodes() if n.op_type == op_type)


def test_fresh_names_never_repeat() -> None:
    module = parse(GRAPH)
    names = [module.fresh("a") for _ in range(3)] + [module.fresh("x"), module.fresh("new")]
    assert len(set(names)) == 5
    assert not {"a", "x"} & set(names)


def test_constants_are_not_overridable() -> None:
    module = parse(
        "g (float[2] x, float[2] w = {1,2}) => (float[2] y) <float[2] b = {3,4}> { t = Add(x, w) y = Add(t, b) }"
    )
    add = list(module.graph)
    assert not module.is_constant(add[0].inputs[1])
    assert module.constant(add[0].inputs[1]) is None
    np.testing.assert_array_equal(module.constant(add[1].inputs[1]), [3, 4])


def test_erase_detaches_captured_uses() -> None:
    module = parse(NESTED)
    branch, relu = node(module, "If"), node(module, "Relu")
    assert len(relu.outputs[0].uses()) == 2
    assert ir.sole_user(relu.outputs[0]) is None
    with pytest.raises(ValueError, match="still used"):
        ir.erase(branch)
    module.graph.outputs.clear()
    ir.erase(branch)
    assert ir.is_dead(relu)


def test_graph_output_is_a_use() -> None:
    module = parse("g (float[2] x) => (float[2] a, float[2] y) { a = Relu(x) y = Neg(a) }")
    assert ir.sole_user(node(module, "Relu").outputs[0]) is None
    assert ir.is_used(node(module, "Neg").outputs[0])


def test_graphs_and_nodes_reach_nested_bodies() -> None:
    module = parse(NESTED)
    assert [g.name for g in module.graphs()] == ["g", "t", "e"]
    assert [n.op_type for n in module.nodes()] == ["Relu", "If", "Neg", "Abs"]


def test_fact_is_cached_until_the_graph_changes() -> None:
    module = parse(GRAPH)
    calls: list[int] = []

    def count(m: ir.Module) -> int:
        calls.append(1)
        return len(m.graph)

    for _ in range(2):
        module.fact("count", count)
    module.touch()
    assert module.fact("count", count) == 3
    assert len(calls) == 2


def test_clone_is_independent() -> None:
    module = parse(GRAPH)
    copy = module.clone()
    ir.set_attributes(node(copy, "Relu"), {"extra": 1})
    node(copy, "Neg").replace_input_with(0, copy.graph.inputs[0])
    assert canonical(module) == canonical(parse(GRAPH))
    assert canonical(copy) != canonical(module)


def test_verify_accepts_good_graphs() -> None:
    ir.verify(parse(GRAPH))
    ir.verify(parse(NESTED))


def test_verify_names_use_before_production() -> None:
    module = parse(GRAPH)
    relu, neg = node(module, "Relu"), node(module, "Neg")
    module.graph.remove(relu)
    module.graph.insert_after(neg, relu)
    with pytest.raises(VerifyError, match=r"'b' is used before .* node .*Neg"):
        ir.verify(module)


def test_verify_refuses_two_values_of_one_name() -> None:
    module = parse(GRAPH)
    node(module, "Relu").outputs[0].name = "a"
    with pytest.raises(VerifyError, match="given to two values"):
        ir.verify(module)


def test_verify_refuses_a_value_of_another_branch() -> None:
    module = parse(NESTED)
    node(module, "Abs").replace_input_with(0, node(module, "Neg").outputs[0])
    with pytest.raises(VerifyError, match="out of scope"):
        ir.verify(module)


def test_verify_nodes_sees_an_erased_producer() -> None:
    module = parse(GRAPH)
    neg = node(module, "Neg")
    module.graph.remove(node(module, "Relu"))
    with pytest.raises(VerifyError, match="erased"):
        ir.verify_nodes([neg])


def test_text_is_stable_and_shows_constants() -> None:
    assert to_text(parse(GRAPH)) == to_text(parse(GRAPH))
    assert "const w = float[4] [1.0, 2.0, 3.0, 4.0]" in to_text(parse(GRAPH))


def test_canonical_ignores_internal_names_only() -> None:
    renamed = GRAPH.replace("a =", "q =").replace("(a)", "(q)")
    assert canonical(parse(GRAPH)) == canonical(parse(renamed))
    assert canonical(parse(GRAPH)) != canonical(parse(GRAPH.replace("Relu", "Abs")))
    assert canonical(parse(GRAPH)) != canonical(parse(GRAPH.replace("x", "z")))


def test_diff_shows_the_change() -> None:
    assert diff(parse(GRAPH), parse(GRAPH)) == ""
    assert "Abs" in diff(parse(GRAPH), parse(GRAPH.replace("Relu", "Abs")))


def test_verify_refuses_an_absent_operand_that_is_required() -> None:
    module = parse("g (float[2] x, float[2] lo) => (float[2] y) { y = Clip(x, , lo) }")
    ir.verify(module)
    next(iter(module.graph)).replace_input_with(0, None)
    with pytest.raises(VerifyError, match="Clip lacks its operand input"):
        ir.verify(module)
