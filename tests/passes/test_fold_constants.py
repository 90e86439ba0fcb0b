from typing import Any

import numpy as np
import onnx.parser
import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.ir.text import parse
from fcc.passes._constant_nodes import Plan, Step
from fcc.passes.fold_constants import FoldConstants
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check


def test_a_chain_becomes_one_constant() -> None:
    check(
        FoldConstants(),
        before="""g (float[N,4] x) => (float[N,4] y) <float[4] a, float[4] b, float[4] c> {
            s = Add(a, b) p = Mul(s, c) y = Add(x, p) }""",
        after="g (float[N,4] x) => (float[N,4] y) { y = Add(x, c0) }",
        tolerance=0,
    )


def test_every_used_output_of_a_split() -> None:
    check(
        FoldConstants(),
        before="""g (float[N,2] x) => (float[N,2] y) <float[6] w> {
            a, b, c = Split<axis=0, num_outputs=3>(w) s = Add(x, a) y = Mul(s, c) }""",
        after="g (float[N,2] x) => (float[N,2] y) { s = Add(x, c0) y = Mul(s, c1) }",
        tolerance=0,
    )


def test_an_output_of_the_graph_keeps_its_name() -> None:
    check(
        FoldConstants(),
        before="g (float[2] x) => (float[2] y, float[2] z) <float[2] a> { y = Neg(a) z = Add(x, y) }",
        after="g (float[2] x) => (float[2] y, float[2] z) { y = Identity(c0) z = Add(x, y) }",
        tolerance=0,
    )


def test_bodies_fold_with_constants_of_the_outer_graph() -> None:
    check(
        FoldConstants(),
        before="""g (float[2] x, bool b) => (float[2] y) <float[2] w> {
            y = If(b) <then_branch = t () => (float[2] p) { n = Neg(w) p = Add(x, n) },
                       else_branch = e () => (float[2] q) { q = Sub(x, w) }> }""",
        after="""g (float[2] x, bool b) => (float[2] y) <float[2] w = {0, 0}> {
            y = If(b) <then_branch = t () => (float[2] p) { p = Add(x, n) },
                       else_branch = e () => (float[2] q) { q = Sub(x, w) }> }""",
        tolerance=0,
    )


def test_a_weight_used_twice_is_not_doubled() -> None:
    check(
        FoldConstants(),
        before="""g (float[N,64] x) => (float[N,64] y) <float[64,64] w> {
            t = Transpose(w) a = MatMul(x, t) y = MatMul(a, w) }""",
        after=None,
        because="the result has 16384 bytes, 1088 would be freed",
    )


def test_a_weight_that_dies_pays_for_its_copy() -> None:
    check(
        FoldConstants(),
        before="g (float[N,64] x) => (float[N,32] y) <float[32,64] w> { t = Transpose(w) y = MatMul(x, t) }",
        after="g (float[N,64] x) => (float[N,32] y) { y = MatMul(x, c0) }",
    )


def test_an_overridable_initializer_is_no_constant() -> None:
    module = _module("g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {1, 2}> { n = Neg(w) y = Add(x, n) }")
    assert _run(module) == (0, [])


def test_a_result_of_another_shape_than_declared_stays() -> None:
    text = "g () => (int64[1,5] y) <float[4] w> { y = NonZero(w) }"
    because = "the evaluator gives int64[1, 3] for 'y', inference INT64[1,5]"
    check(FoldConstants(), text, None, because=because, constants={"w": [1, 0, 2, 3]})


@pytest.mark.parametrize(
    ("text", "because"),
    [
        ("r = RandomNormalLike(w) y = Add(x, r)", "draws anew"),
        ("r = Bernoulli(w) y = Add(x, r)", "draws anew"),
        ("r = RandomUniformLike(w) y = Add(x, r)", "draws anew"),
        ("u = Unsqueeze(w, k) r = Multinomial(u) f = Cast<to=1>(r) y = Add(x, f)", "draws anew"),
        ("q, u, v = DynamicQuantizeLinear(w) f = Cast<to=1>(q) y = Add(x, f)", "keeps its Q and DQ"),
        ("r = Dropout(w) y = Add(x, r)", "draws anew"),
        ("q = QuantizeLinear(w, s, z) d = DequantizeLinear(q, s, z) y = Add(x, d)", "keeps its Q and DQ"),
        ("q = com.microsoft.Gelu(w) y = Add(x, q)", "no evaluator"),
        ("c = Sub(k, k) r = Div(k, c) f = Cast<to=1>(r) y = Add(x, f)", "evaluation failed"),
        ("l = SplitToSequence(w) i = SequenceAt(l, n) y = Add(x, i)", "is no tensor"),
    ],
)
def test_left_alone(text: str, because: str) -> None:
    constants = "<float[2] w = {1, 2}, float s = {0.5}, int8 z = {0}, int64[2] k = {1, 2}, int64 n = {0}>"
    module = _module(f"g (float[2] x) => (float[2] y) {constants} {{ {text} }}")
    count, reasons = _run(module)
    assert any(because in r for r in reasons), reasons
    assert count <= 1


def test_a_branch_taken_by_a_constant_is_not_evaluated() -> None:
    check(
        FoldConstants(),
        before="""g (float[2] x) => (float[2] y) <float[2] w, bool b = {1}> {
            c = If(b) <then_branch = t () => (float[2] p) { p = Add(x, w) },
                       else_branch = e () => (float[2] q) { q = Sub(x, w) }>
            y = Add(x, c) }""",
        after=None,
        because="control flow",
    )


def test_huge_results_are_refused_before_they_are_computed() -> None:
    module = _module(
        """g (float[2] x) => (float[2] y) <int64[1] n = {70368744177664}, int64 z = {0}> {
            c = ConstantOfShape(n) e = Gather(c, z) y = Add(x, e) }"""
    )
    count, reasons = _run(module)
    assert count == 0
    assert any("70368744177664 elements, more than" in r for r in reasons)


def test_huge_values_in_between_are_refused_too() -> None:
    module = _module(
        """g (float[2] x) => (float[2] y) <float[1] v = {1.0}, int64[2] tall = {67108864, 1}, int64[2] wide = {1, 67108864},
            int64[2] o = {0, 0}, int64[2] e = {1, 2}, int64[1] two = {2}> {
            a = Expand(v, tall) b = Expand(v, wide) c = Add(a, b) d = Slice(c, o, e) f = Reshape(d, two) y = Add(x, f) }"""
    )
    assert _run(module)[0] == 0


def test_a_limit_does_not_hold_back_weights_that_only_move() -> None:
    check(
        FoldConstants(elements=4),
        before="g (float[N,8] x) => (float[N,8] y) <float[8,8] w> { t = Transpose(w) y = MatMul(x, t) }",
        after="g (float[N,8] x) => (float[N,8] y) { y = MatMul(x, c0) }",
    )
    check(
        FoldConstants(elements=4),
        before="g (float[N,8] x) => (float[N,8] y) <float[8,8] w> { t = Ceil(w) y = MatMul(x, t) }",
        after=None,
        because="64 elements, more than 4",
    )


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        ("t = Add(w, w)", "float[8,8]"),
        ("t = Cast<to=1>(w)", "double[8,8]"),
        ("t = Concat<axis=0>(w, u)", "float[4,8]"),
        ("o = Identity(w) t = Neg(o)", "float[8,8]"),
        ("t = Mul(w, w)", "float[8,8]"),
        ("t = Neg(w)", "float[8,8]"),
        ("t = Reshape(w, s)", "float[4,16]"),
        ("t = Slice(w, i0, i8, i0)", "float[9,8]"),
        ("t = Squeeze(w, i0)", "float[1,8,8]"),
        ("t = Sub(w, h)", "float[8,8]"),
        ("t = Transpose(w)", "float[8,8]"),
        ("t = Unsqueeze(w, i0)", "float[8,8]"),
    ],
)
def test_what_may_wait_is_computed_where_it_is_no_larger_than_its_operands(body: str, weight: str) -> None:
    check(
        FoldConstants(elements=4),
        before=f"g (float[N,8,8] x) => (float[N,8,8] y) <{weight} w, {weight} u, float h, int64[2] s, int64[1] i0, int64[1] i8>"
        f" {{ {body} y = Add(x, t) }}",
        after="g (float[N,8,8] x) => (float[N,8,8] y) { y = Add(x, c0) }",
        constants={"s": [8, 8], "i0": [0], "i8": [8]},
    )


def test_integers_known_from_a_shape_are_constant() -> None:
    check(
        FoldConstants(),
        before="""g (float[N,16] x) => (float[N,16] y) {
            s = Shape<start=1>(x) f = Cast<to=1>(s) r = Sqrt(f) y = Div(x, r) }""",
        after="g (float[N,16] x) => (float[N,16] y) { y = Div(x, c0) }",
        tolerance=0,
    )


def test_large_weights_wait_until_they_are_read() -> None:
    module = read(_weighted((600, 512)).model)
    weight = module.graph.initializers["w"].const_value
    assert weight is not None
    expected = -weight.numpy().T
    shapes.infer(module)
    assert _run(module)[0] == 1
    (node,) = module.graph
    folded = node.inputs[1]
    assert folded is not None
    assert isinstance(folded.const_value, ir.LazyTensor)
    assert np.array_equal(folded.const_value.numpy(), expected)
    assert np.array_equal(folded.const_value.numpy(), expected)
    assert "w" not in module.graph.initializers


def _weighted(shape: tuple[int, int]) -> ir.Module:
    module = parse(
        """g (float[N,512] x) => (float[N,600] y) <float[1] w = {0}> {
            t = Transpose(w) u = Neg(t) y = MatMul(x, u) }"""
    )
    weight = module.graph.initializers["w"]
    array = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    weight.const_value = ir.tensor(array, name="w")
    weight.shape = ir.Shape(shape)
    return module


def _module(text: str) -> ir.Module:
    header = '<ir_version: 10, opset_import: ["" : 21, "com.microsoft" : 1]>\n'
    module = read(parse(header + text).model)
    shapes.infer(module)
    return module


def _run(module: ir.Module) -> tuple[int, list[str]]:
    ctx = PassContext(target=get_target("cpu"), log=Log(strict=True, explain=frozenset({"fold-constants"})))
    count = run_pass(FoldConstants(), module, ctx)
    ir.verify(module)
    return count, [r.reason for r in ctx.log.refused]


def test_what_moves_weights_makes_no_more_of_them_than_there_are() -> None:
    chain = " ".join(f"t{i + 1} = Concat<axis=0>(t{i}, t{i})" for i in range(3))
    check(
        FoldConstants(elements=8, slow_elements=8),
        before=f"g (float x) => (float y) <float[8] t0> {{ {chain} r = ReduceMax<keepdims=0>(t3) y = Add(x, r) }}",
        after=None,
        because="'t1' has 16 elements, more than 8",
    )


def test_arrays_are_forgotten_when_no_later_node_needs_them() -> None:
    text = (
        "g (float[2] x) => (float[2] y) <float[2] a = {1, 2}> { s = Neg(a) t = Add(s, s) u = Mul(t, a) y = Add(x, u) }"
    )
    module = read(onnx.parser.parse_model(f'<ir_version: 9, opset_import: ["": 17]> {text}'))
    plan = Plan.of(list(module.graph)[:3], 17)
    (found,) = plan.run()
    np.testing.assert_array_equal(found, [-2, -8])
    alive: list[int] = []

    class Watched(Plan):
        def _run(self, step: Step, arrays: dict[int | None, Any]) -> None:
            alive.append(len(arrays))
            super()._run(step, arrays)

    Watched(plan.steps, plan.sources, 17).run()
    assert alive == [0, 1, 1]
