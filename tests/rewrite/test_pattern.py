from fcc import ir
from fcc.ir.text import parse
from fcc.rewrite import any_of, const, op, ops, var
from fcc.rewrite.pattern import Bindings, Op, Trace, match_root


def matches(pattern: Op, text: str, output: str = "y") -> list[Bindings]:
    module = parse(text)
    root = next(n for n in module.nodes() if any(v.name == output for v in n.outputs))
    return list(match_root(pattern, root, Trace()))


def reason(pattern: Op, text: str) -> str:
    module, trace = parse(text), Trace()
    root = module.graph.outputs[0].producer()
    assert root is not None
    assert not list(match_root(pattern, root, trace))
    return trace.reason


def name(b: Bindings, key: str) -> str | None:
    value = b.values[key]
    return None if value is None else value.name


def test_variables_and_constants() -> None:
    found = matches(
        op.Add(var("x"), const("c")), "g (float[2] x) => (float[2] y) <float[2] w = {1,2}> { y = Add(x, w) }"
    )
    assert [(name(b, "x"), name(b, "c")) for b in found] == [("x", "w")]


def test_commutative_operands_in_any_order() -> None:
    found = matches(
        op.Add(var("x"), const("c")), "g (float[2] x) => (float[2] y) <float[2] w = {1,2}> { y = Add(w, x) }"
    )
    assert name(found[0], "x") == "x"


def test_sub_is_not_commutative() -> None:
    text = "g (float[2] x) => (float[2] y) <float[2] w = {1,2}> { y = Sub(w, x) }"
    assert reason(op.Sub(var("x"), const("c")), text) == "operand 'c' is not constant"


def test_same_variable_is_the_same_value() -> None:
    square = op.Mul(var("x"), var("x"))
    assert matches(square, "g (float[2] x) => (float[2] y) { y = Mul(x, x) }")
    assert "another value" in reason(square, "g (float[2] x, float[2] z) => (float[2] y) { y = Mul(x, z) }")


def test_optional_operand_binds_none() -> None:
    pattern = op.Conv(var("x"), const("w"), const("b").optional())
    text = "g (float[1,1,4] x) => (float[1,1,3] y) <float[1,1,2] w = {1,2}> { y = Conv(x, w) }"
    assert matches(pattern, text)[0].values["b"] is None


def test_constant_of_a_value() -> None:
    pattern = op.Mul(var("x"), const("half", 0.5))
    good = "g (float[2] x) => (float[2] y) <float[1] c = {0.5}> { y = Mul(x, c) }"
    assert matches(pattern, good)
    assert reason(pattern, good.replace("0.5", "0.25")) == "operand 'half' is not 0.5"


def test_alternatives_and_several_types() -> None:
    pattern = op.Neg(any_of(op.Relu(var("x")), ops("Abs", "Sqrt")(var("x"))))
    for inner in ("Relu", "Abs", "Sqrt"):
        assert matches(pattern, f"g (float[2] x) => (float[2] y) {{ a = {inner}(x) y = Neg(a) }}")
    assert "expected Relu, found Exp" in reason(pattern, "g (float[2] x) => (float[2] y) { a = Exp(x) y = Neg(a) }")


def test_backtracks_over_operand_orders() -> None:
    pattern = op.Add(op.Mul(var("a"), const("c")), op.Relu(var("b")))
    text = "g (float[2] x) => (float[2] y) <float[2] w = {1,2}> { r = Relu(x) m = Mul(w, x) y = Add(r, m) }"
    assert len(matches(pattern, text)) == 1


def test_attributes_must_be_equal() -> None:
    pattern = op.Softmax(var("x"), axis=-1)
    assert matches(pattern, "g (float[2] x) => (float[2] y) { y = Softmax<axis=-1>(x) }")
    assert "attribute axis" in reason(pattern, "g (float[2,2] x) => (float[2,2] y) { y = Softmax<axis=0>(x) }")


def test_second_output() -> None:
    pattern = op.Neg(op.Split(var("x"), num_outputs=2).out(1))
    text = "g (float[4] x) => (float[2] y) { a, b = Split<axis=0, num_outputs=2>(x) y = Neg(b) }"
    assert matches(pattern, text)
    assert "expected the result of Split" in reason(pattern, text.replace("Neg(b)", "Neg(a)"))


def test_extra_inputs_are_refused() -> None:
    assert "has 2 inputs" in reason(op.Clip(var("x")), "g (float[2] x, float lo) => (float[2] y) { y = Clip(x, lo) }")


def test_a_border_of_a_nested_graph_is_not_crossed() -> None:
    module = parse(
        "g (bool c, float[2] x) => (float[2] y) { a = Relu(x) y = If (c) "
        "<then_branch = t () => (float[2] u) { u = Neg(a) }, else_branch = e () => (float[2] v) { v = Abs(x) }> }"
    )
    neg = next(n for n in module.nodes() if n.op_type == "Neg")
    trace = Trace()
    assert not list(match_root(op.Neg(op.Relu(var("x"))), neg, trace))
    assert "across a subgraph border" in trace.reason


def test_overridable_initializer_is_not_constant() -> None:
    text = "g (float[2] x, float[2] w = {1,2}) => (float[2] y) { y = Add(x, w) }"
    assert reason(op.Add(var("x"), const("c")), text) == "operand 'c' is not constant"
    assert ir.Module.is_constant(None) is False


def test_a_node_that_stands_at_two_places_must_fit_both() -> None:
    pattern = op.Mul(op.Relu(var("x")), op.Sigmoid(var("y")))
    module = parse("g (float[2] a) => (float[2] y) { r = Relu(a) y = Mul(r, r) }")
    root = list(module.graph)[-1]
    assert list(match_root(pattern, root, Trace())) == []
    (same,) = match_root(op.Mul(op.Relu(var("x")), op.Relu(var("x"))), root, Trace())
    assert len(same.matched) == 2
