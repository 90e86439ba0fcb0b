import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.ir.text import parse
from fcc.passes.eliminate_dead_code import EliminateDeadCode
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from

P = EliminateDeadCode()


def run(module: ir.Module) -> int:
    applied = run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    ir.verify(module)
    return applied


def test_unused_chain_and_its_constant() -> None:
    module = check(
        P,
        before="g (float[N,4] x) => (float[N,4] y) <float[4] w> { a = Relu(x) b = Add(a, w) c = Neg(b) y = Abs(a) }",
        after="g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Abs(a) }",
    )
    assert not module.graph.initializers


def test_all_used() -> None:
    check(P, before="g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }", after=None, because="is used")


@pytest.mark.parametrize(
    ("call", "after"),
    [
        ("y, mask = Dropout(x)", "y = Dropout(x)"),
        ("y, i = MaxPool<kernel_shape=[2,2]>(x)", "y = MaxPool<kernel_shape=[2,2]>(x)"),
        ("y, mean, inv = LayerNormalization(x, s)", "y = LayerNormalization(x, s)"),
    ],
)
def test_trailing_optional_output(call: str, after: str) -> None:
    head = "g (float[1,2,4,4] x, float[4] s) => (float[1,2,P,Q] y)"
    check(P, before=f"{head} {{ {call} }}", after=f"{head} {{ {after} }}")


def test_used_mask_stays() -> None:
    check(
        P,
        before="g (float[N,4] x) => (float[N,4] y, bool[N,4] m) { y, m = Dropout(x) }",
        after=None,
        because="is used",
    )


LSTM = "LSTM<hidden_size=2>(x, w, r)"
LSTM_HEAD = "(float[3,1,4] x, float[1,8,4] w, float[1,8,2] r)"


def test_outputs_of_lstm_become_absent() -> None:
    module = parse(f"g {LSTM_HEAD} => (float[1,1,2] h) {{ y, h, c = {LSTM} }}")
    assert run(module) == 2
    (node,) = module.graph
    assert [v.name for v in node.outputs] == ["", "h"]
    assert run(module) == 0


def test_required_output_stays_though_nobody_uses_it() -> None:
    head = "g (float[1,2,4,4] x) => (int64[1,2,3,3] i)"
    check(P, before=f"{head} {{ y, i = MaxPool<kernel_shape=[2,2]>(x) }}", after=None, because="is used")


@pytest.mark.parametrize("attribute", ["", "<training_mode=0>"])
def test_batchnorm_that_does_not_train_keeps_one_output(attribute: str) -> None:
    module = parse(
        f"g (float[2,3,4] x, float[3] s) => (float[2,3,4] y) {{ y, m, v = BatchNormalization{attribute}(x, s, s, s, s) }}"
    )
    assert run(module) == 2
    assert [v.name for v in module.graph[0].outputs] == ["y"]


def test_training_batchnorm_keeps_its_outputs() -> None:
    module = parse(
        "g (float[2,3,4] x, float[3] s) => (float[2,3,4] y)"
        "{ y, m, v = BatchNormalization<training_mode=1>(x, s, s, s, s) }"
    )
    assert run(module) == 0


def test_outputs_of_split_stay() -> None:
    head = "g (float[N,4] x) => (float[N,2] a)"
    check(P, before=f"{head} {{ a, b = Split<axis=1, num_outputs=2>(x) }}", after=None, because="is used")


IF = """g (bool c, float[4] x) => (float[4] y) {
    a = Neg(x)
    z = If (c) <then_branch = t () => (float[4] p) { p = Abs(a) },
                else_branch = e () => (float[4] q) { q = Relu(a) }>
    y = Exp(x) }"""


def test_whole_if_and_what_it_captured() -> None:
    module = parse(IF)
    assert run(module) == 2
    assert [n.op_type for n in module.nodes()] == ["Exp"]


def test_inside_a_branch_and_captured_only_there() -> None:
    module = parse(
        """g (bool c, float[4] x) => (float[4] y) {
        a = Neg(x)
        y = If (c) <then_branch = t () => (float[4] p) { d = Abs(a) p = Exp(x) },
                    else_branch = e () => (float[4] q) { q = Relu(x) }> }"""
    )
    assert run(module) == 2
    assert sorted(n.op_type for n in module.nodes()) == ["Exp", "If", "Relu"]


def test_captured_value_stays() -> None:
    module = parse(IF.replace("y = Exp(x)", "y = Exp(z)"))
    assert run(module) == 0


def test_overridable_initializer_and_inputs_stay() -> None:
    module = parse("g (float[4] x, float[4] w, float[4] u) => (float[4] y) <float[4] w = {1, 2, 3, 4}> { y = Relu(x) }")
    assert run(module) == 0
    assert list(module.graph.initializers) == ["w"]


def test_functions_and_opset_imports() -> None:
    text = """<ir_version: 10, opset_import: ["" : 21, "my" : 1, "stray" : 3, "far" : 1]>
    g (float[4] x) => (float[4] y) { a = my.unused(x) b = my.outer(x) y = far.op(b) }
    <domain: "my", opset_import: ["" : 21, "my" : 1]> outer (x) => (y) { t = Neg(x) y = my.inner(x) }
    <domain: "my", opset_import: ["" : 21]> inner (x) => (y) { y = Relu(x) }
    <domain: "my", opset_import: ["" : 21]> unused (x) => (y) { y = Abs(x) }"""
    module = parse(text)
    assert run(module) == 4
    assert {key[1] for key in module.model.functions} == {"outer", "inner"}
    assert dict(module.model.opset_imports) == {"": 21, "my": 1, "far": 1}
    assert [n.op_type for n in module.model.functions[("my", "outer", "")]] == ["inner"]
    assert run(module) == 0


def test_node_without_outputs_stays() -> None:
    module = parse('<ir_version: 10, opset_import: ["" : 21, "my" : 1]> g (float[4] x) => (float[4] y) { y = Relu(x) }')
    a = ir.Node("", "Neg", [module.graph.inputs[0]], num_outputs=1, name="a")
    a.outputs[0].name = "a"
    module.graph.append(a)
    module.graph.append(ir.Node("my", "Print", [a.outputs[0]], num_outputs=0, name="print"))
    module.reindex()
    assert run(module) == 0


def test_long_chain_is_linear() -> None:
    nodes = " ".join(f"v{i} = Neg(v{i - 1})" for i in range(1, 10_000))
    module = parse(f"g (float[4] x) => (float[4] y) {{ v0 = Abs(x) {nodes} y = Relu(x) }}")
    shapes.infer(module)
    assert run(module) == 10_000


def test_a_value_with_many_ways_to_it_is_seen_once() -> None:
    nodes = " ".join(f"v{i} = Add(v{i - 1}, v{i - 1})" for i in range(1, 64))
    module = parse(f"g (float[4] x) => (float[4] y) {{ v0 = Abs(x) {nodes} y = Relu(v63) z = Neg(v63) }}")
    assert run(module) == 1


def test_outputs_of_unknown_operators_keep_their_names() -> None:
    text = "g (float[N] x) => (float[N] y) { y, m = com.microsoft.Unknown(x) }"
    module = read(model_from(text))
    assert run_pass(EliminateDeadCode(), module, PassContext(get_target("cpu"), Log(strict=True))) == 0
    assert [v.name for v in module.graph[0].outputs] == ["y", "m"]
