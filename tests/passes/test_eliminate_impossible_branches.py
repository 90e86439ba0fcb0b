from __future__ import annotations

import numpy as np
import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.eliminate_impossible_branches import EliminateImpossibleBranches
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

IF = (
    "h = If (c) <then_branch = t () => (float[B,4] p) {{ p = {then} }}, "
    "else_branch = e () => (float[B,4,L] q) {{ q = {other} }}>"
)
HEAD = (
    "g (float[B,4,L] x, bool c) => (float[M,1,P,3] y) <float[1,12,4] w, float[1,12,3] r, int64[1] last, int64[1] zero>"
)
CONSTANTS = {"last": -1, "zero": 0}


def graph(then: str, other: str, behind: str, head: str = HEAD) -> str:
    return f"{head} {{ {IF.format(then=then, other=other)} {behind} }}"


LSTM = "s = Unsqueeze(h, zero) y = LSTM<hidden_size = 3>(s, w, r)"


def test_the_branch_of_the_wrong_rank_goes() -> None:
    _applies(graph("Squeeze(x, last)", "Identity(x)", LSTM), ["Squeeze", "Unsqueeze", "LSTM"])


def test_the_first_branch_may_be_the_wrong_one() -> None:
    _applies(
        graph("Identity(x)", "Squeeze(x, last)", LSTM)
        .replace("float[B,4] p", "float[B,4,L] p")
        .replace("float[B,4,L] q", "float[B,4] q"),
        ["Squeeze", "Unsqueeze", "LSTM"],
    )


@pytest.mark.parametrize("kind", ["GRU", "RNN"])
def test_other_recurrent_operators(kind: str) -> None:
    size = {"GRU": "9", "RNN": "3"}[kind]
    text = graph("Squeeze(x, last)", "Identity(x)", LSTM.replace("LSTM", kind)).replace("1,12,", f"1,{size},")
    _applies(text, ["Squeeze", "Unsqueeze", kind])


def test_what_follows_is_decided_by_the_rank() -> None:
    """A later If asks for the rank of the first one's result, as torch.onnx writes it."""
    behind = (
        "d = Shape(h) k = Size(d) b = Equal(k, two) "
        "z = If (b) <then_branch = t2 () => (float[1,N,O] p2) { p2 = Unsqueeze(h, zero) }, "
        "else_branch = e2 () => (float[A,N,O,Q] q2) { q2 = Unsqueeze(h, zero) }> y = LSTM<hidden_size = 3>(z, w, r)"
    )
    _applies(
        graph("Squeeze(x, last)", "Identity(x)", behind, HEAD.replace("int64[1] zero", "int64[1] zero, int64 two")),
        ["Squeeze", "If", "LSTM"],
        {"two": 2},
    )


def _applies(text: str, ops: list[str], more: dict[str, int] | None = None, expected: int = 1) -> ir.Module:
    module = read(testing.model_from(text, 21, {**CONSTANTS, **(more or {})}, 0))
    shapes.infer(module)
    before = [n.name for n in module.nodes()]
    log = Log(strict=True, explain=frozenset({"eliminate-impossible-branches"}))
    ctx = PassContext(target=get_target("cpu"), log=log)
    assert run_pass(EliminateImpossibleBranches(), module, ctx) == expected, log.refused
    ir.verify(module)
    if expected:
        live = [n.op_type for n in module.graph if n.op_type not in ("Shape", "Size", "Equal")]
        assert live == ops
        assert run_pass(EliminateImpossibleBranches(), module, ctx) == 0
    else:
        assert [n.name for n in module.nodes()] == before
    return module


def test_the_answer_is_the_same() -> None:
    pytest.importorskip("onnxruntime")
    from onnx_ir import serde

    from fcc.runtime import open_session

    text = graph("Squeeze(x, last)", "Identity(x)", LSTM)
    source = testing.model_from(text, 21, CONSTANTS, 0)
    module = _applies(text, ["Squeeze", "Unsqueeze", "LSTM"])
    fed = {"x": np.random.default_rng(0).standard_normal((2, 4, 1)).astype(np.float32), "c": np.asarray(True)}
    old = open_session(source.SerializeToString(), optimize=False).run(fed)["y"]
    new = open_session(serde.serialize_model(module.model).SerializeToString(), optimize=False).run(fed)["y"]
    assert np.array_equal(old, new)


@pytest.mark.parametrize(
    ("then", "other", "behind", "reason"),
    [
        ("Squeeze(x, last)", "Identity(x)", "s = Unsqueeze(h, last) y = Relu(s)", ""),
        ("Squeeze(x, last)", "Identity(x)", "u = Flatten(h) s = Unsqueeze(u, zero) " + LSTM[23:], "either"),
        ("Identity(x)", "Identity(x)", LSTM, ""),
        ("Squeeze(x, last)", "Unsqueeze(x, zero)", "y = LSTM<hidden_size = 3>(h, w, r)", "cannot run"),
    ],
)
def test_other_models_stay(then: str, other: str, behind: str, reason: str) -> None:
    text = graph(then, other, behind)
    if then == "Identity(x)":
        text = text.replace("float[B,4] p", "float[B,4,L] p")
    if other.startswith("Unsqueeze"):
        text = text.replace("float[B,4,L] q", "float[1,B,4,L] q")
    check(EliminateImpossibleBranches(), before=text, after=None, because=reason, constants=CONSTANTS)


def test_a_recurrent_operator_in_a_branch_proves_nothing() -> None:
    behind = (
        "s = Unsqueeze(h, zero) y = If (d) <then_branch = t2 () => (float[M,1,P,3] p2) "
        "{ p2 = LSTM<hidden_size = 3>(s, w, r) }, else_branch = e2 () => (float[M,1,P,3] q2) { q2 = Identity(z) }>"
    )
    head = HEAD.replace("bool c)", "bool c, bool d, float[M,1,P,3] z)")
    check(
        EliminateImpossibleBranches(),
        before=graph("Squeeze(x, last)", "Identity(x)", behind, head),
        after=None,
        constants=CONSTANTS,
    )


def test_inside_a_branch_with_its_own_recurrent_operator() -> None:
    inner = IF.format(then="Squeeze(x, last)", other="Identity(x)") + " " + LSTM.replace("y =", "p2 =")
    text = (
        HEAD.replace("bool c)", "bool c, bool d, float[M,1,P,3] z)")
        + f" {{ y = If (d) <then_branch = t2 () => (float[M,1,P,3] p2) {{ {inner} }}, "
        "else_branch = e2 () => (float[M,1,P,3] q2) { q2 = Identity(z) }> }"
    )
    module = _applies(text, ["If"])
    body = module.graph[0].attributes["then_branch"].as_graph()
    assert [n.op_type for n in body] == ["Squeeze", "Unsqueeze", "LSTM"]
