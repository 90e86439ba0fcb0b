from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.merge_constants import MergeConstants
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

P = MergeConstants()
IO = "g (float[N,3] x) => (float[N,3] y)"
DECLARED = "<float a, float b, float c, float zero, float huge, float tiny, float[3] row, float[1,3] row2, float nan, float six>"
CONSTANTS: dict[str, Any] = {
    **{"a": 2.5, "b": -0.5, "c": 4.0, "zero": 0.0, "huge": 1e30, "tiny": 1e-30, "nan": np.nan, "six": 6.0},
    **{"row": [1.0, 2.0, 3.0], "row2": [[0.5, 0.25, 2.0]]},
}


def rewritten(body: str, after: str | None, because: str = "", io: str = IO) -> None:
    check(
        P,
        before=f"{io} {DECLARED} {{ {body} }}",
        after=None if after is None else f"{io} {{ {after} }}",
        because=because,
        constants=CONSTANTS,
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("s = Add(x, a) y = Add(c, s)", "y = Add(x, k)"),
        ("s = Add(x, a) y = Sub(s, b)", "y = Add(x, k)"),
        ("s = Sub(x, a) y = Sub(b, s)", "y = Sub(k, x)"),
        ("s = Sub(a, x) y = Sub(b, s)", "y = Add(x, k)"),
        ("s = Sub(a, x) y = Add(s, c)", "y = Sub(k, x)"),
        ("s = Mul(x, a) y = Mul(b, s)", "y = Mul(x, k)"),
        ("s = Mul(x, a) y = Div(s, c)", "y = Mul(x, k)"),
        ("s = Div(x, a) y = Div(s, c)", "y = Mul(x, k)"),
        ("s = Mul(x, a) y = Neg(s)", "y = Mul(x, k)"),
        ("s = Neg(x) y = Mul(s, a)", "y = Mul(x, k)"),
        ("s = Neg(x) y = Add(s, a)", "y = Sub(k, x)"),
        ("s = Sub(a, x) y = Neg(s)", "y = Add(x, k)"),
        ("s = Mul(x, a) t = Add(s, b) y = Mul(t, c)", "s = Mul(x, k) y = Add(s, l)"),
        ("s = Add(x, a) t = Mul(s, b) u = Sub(t, c) y = Div(u, a)", "s = Mul(x, k) y = Add(s, l)"),
        ("s = Mul(x, row) y = Mul(s, a)", "y = Mul(x, k)"),
        ("s = Add(x, row) t = Add(s, row2) y = Add(t, a)", "y = Add(x, k)"),
        (
            "s = Mul(x, a) t = Mul(s, c) r = Relu(t) u = Add(r, a) y = Add(u, c)",
            "t = Mul(x, k) r = Relu(t) y = Add(r, l)",
        ),
    ],
)
def test_chains(body: str, after: str) -> None:
    rewritten(body, after)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("s = Mul(x, a) y = Add(s, b)", "2 nodes take no fewer"),
        ("s = Add(x, a) y = Mul(s, b)", "2 nodes take no fewer"),
        ("s = Mul(x, huge) y = Mul(s, huge)", "leaves the normal range"),
        ("s = Mul(x, tiny) y = Mul(s, tiny)", "leaves the normal range"),
        ("s = Mul(x, zero) y = Mul(s, a)", "the factor is 0"),
        ("s = Mul(x, nan) t = Mul(s, a) y = Mul(t, a)", "the factor is 0, or leaves"),
        ("s = Add(x, huge) t = Mul(s, huge) y = Neg(t)", "the shift leaves the range"),
        ("s = Add(x, a) y = Sub(s, a)", "cancel"),
        ("s = Sub(x, huge) y = Add(s, huge)", "cancel"),
        ("s = Add(x, c) t = Add(s, a) y = Sub(t, six)", "cancel"),
        ("m = ReduceMean<keepdims=1>(x) d = Sub(x, m) s = Mul(d, a) y = Mul(s, b)", "runtimes fuse"),
    ],
)
def test_chains_that_stay(body: str, because: str) -> None:
    rewritten(body, None, because)


FUSED = ["Sqrt(h)", "Reciprocal(h)", "Pow(h, six)", "Pow(six, h)", "Add(h, x)", "Sub(x, h)", "Mul(h, h)", "Div(x, h)"]


@pytest.mark.parametrize("function", FUSED)
@pytest.mark.parametrize("heart", ["ReduceMean", "Erf", "Tanh"])
def test_functions_that_runtimes_fuse_stay(function: str, heart: str) -> None:
    body = f"h = {heart}(x) f = {function} s = Mul(f, a) y = Mul(s, b)"
    rewritten(body, None, "runtimes fuse", "g (float[N,3] x) => (float[A,B] y)")


def test_what_follows_another_operator_belongs_to_no_such_function() -> None:
    rewritten("h = Tanh(x) f = Max(h, x) s = Mul(f, a) y = Mul(s, b)", "h = Tanh(x) f = Max(h, x) y = Mul(f, k)")


@pytest.mark.parametrize(("steps", "stays"), [(5, True), (6, False)])
def test_only_what_is_near_such_a_function_belongs_to_it(steps: int, stays: bool) -> None:
    roots = "".join(f"r{i + 1} = Sqrt(r{i}) " for i in range(steps))
    head = f"r0 = Tanh(x) {roots}"
    rewritten(
        f"{head} s = Mul(r{steps}, a) y = Mul(s, b)", None if stays else f"{head} y = Mul(r{steps}, k)", "runtimes fuse"
    )


def test_no_chain() -> None:
    rewritten("s = Add(x, x) y = Add(s, a)", None)
    rewritten("s = Div(a, x) y = Div(s, b)", None)
    rewritten("s = Add(x, a) t = Add(s, b) y = Add(t, s)", None)
    check(
        P,
        before="g (float[N,3] x) => (float[N,3] s, float[N,3] y) <float a, float b> { s = Add(x, a) y = Add(s, b) }",
        after=None,
    )


def test_the_whole_chain_may_do_nothing() -> None:
    rewritten("n = Neg(x) m = Neg(n) y = Relu(m)", "y = Relu(x)")
    rewritten("n = Sin(x) m = Mul(n, c) o = Neg(m) p = Div(o, c) y = Neg(p)", "y = Sin(x)")
    check(
        P, before="g (float[3] x) => (float[3] y) { n = Neg(x) y = Neg(n) }", after=None, because="may not be an input"
    )


def test_constants_that_give_the_shape_stay() -> None:
    io = "g (float[1,3] x) => (float[2,3] y)"
    text = f"{io} <float[2,3] m> {{ a = Mul(x, m) d = Div(a, m) y = Sin(d) }}"
    check(
        P,
        before=text,
        after=None,
        because="gives the result its shape".replace("gives", "give"),
        constants={"m": 2.0, "c": 3.0},
    )


def test_constants_do_not_grow() -> None:
    io = "g (float[5,7] x) => (float[5,7] y)"
    text = f"{io} <float[5,1] r, float[1,7] c> {{ a = Add(x, r) y = Add(a, c) }}"
    check(
        P, before=text, after=None, because="the constants grow from 12 elements to 35", constants={"r": 1.0, "c": 2.0}
    )


def test_a_chain_ends_at_a_branch() -> None:
    text = (
        "g (float[3] x, bool p) => (float[3] y) <float a> { s = Add(x, a) "
        "y = If (p) <then_branch = t () => (float[3] u) { u = Add(s, a) }, else_branch = e () => (float[3] v) { v = Sin(x) }> }"
    )
    check(P, before=text, after=None)


def test_integers_wrap() -> None:
    io = "g (int32[4] x) => (int32[4] y)"
    text = f"{io} <int32 a, int32 b> {{ s = Add(x, a) t = Mul(s, b) u = Sub(t, a) y = Neg(u) }}"
    check(P, before=text, after=f"{io} {{ s = Mul(x, k) y = Add(s, l) }}", constants={"a": 2**31 - 5, "b": 7})
    check(P, before=f"{io} <int32 a> {{ s = Add(x, a) t = Sub(s, a) y = Abs(t) }}", after=f"{io} {{ y = Abs(x) }}")
    check(P, before=f"{io} <int32 a> {{ s = Div(x, a) y = Div(s, a) }}", after=None, constants={"a": 3})


def test_overridable_constants_stay() -> None:
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, float a = {1.0}) => (float[3] y) '
        "<float b = {2.0}> { s = Add(x, a) y = Add(s, b) }"
    )
    check(P, before=text, after=None)


@pytest.mark.parametrize(("kind", "dtype"), [("float16", np.float16), ("double", np.float64)])
def test_other_floats(kind: str, dtype: Any) -> None:
    io = f"g ({kind}[4] x) => ({kind}[4] y)"
    text = f"{io} <{kind} a, {kind} b> {{ s = Mul(x, a) y = Mul(s, b) }}"
    module = check(P, before=text, after=f"{io} {{ y = Mul(x, k) }}", constants={"a": 3.0, "b": 1 / 7})
    (value,) = module.graph.initializers.values()
    assert value.const_value is not None
    assert value.const_value.numpy() == (dtype(3) * np.float64(dtype(1 / 7))).astype(dtype)


STEPS = ["Add({}, k{})", "Add(k{1}, {0})", "Sub({}, k{})", "Sub(k{1}, {0})", "Mul({}, k{})", "Mul(k{1}, {0})"]
STEPS += ["Div({}, k{})", "Neg({})"]


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=2, max_size=6),
    numbers=st.lists(st.integers(1, 8), min_size=6, max_size=6),
    vectors=st.lists(st.booleans(), min_size=6, max_size=6),
)
def test_any_chain(steps: list[str], numbers: list[int], vectors: list[bool]) -> None:
    body, at, constants = [], "x", {}
    for i, step in enumerate(steps):
        body.append(f"v{i} = {step.format(at, i)}")
        at = f"v{i}"
        constants[f"k{i}"] = np.full(3, numbers[i]) + np.arange(3) if vectors[i] else np.asarray(numbers[i])
    declared = ", ".join(f"float{'[3]' if c.ndim else ''} {n}" for n, c in constants.items())
    text = f"g (float[2,3] x) => (float[2,3] y) <{declared}> {{ {' '.join(body)} y = Sin({at}) }}"
    module = read(model_from(text, 21, constants, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    same_outputs(before, serde.serialize_model(module.model), tolerance=2e-3)
    assert len(list(module.nodes())) <= len(steps) + 1


def test_constants_that_would_fill_the_memory_are_not_multiplied() -> None:
    io = "g (float[1,1] x) => (float[1024,1025] y)"
    text = f"{io} <float[1024,1] a, float[1,1025] b> {{ p = Add(x, a) y = Add(p, b) }}"
    check(P, before=text, after=None, because="the constants grow to 1049600 elements", constants={"a": 1.0, "b": 2.0})
