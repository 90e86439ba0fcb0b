from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.merge_clamps import MergeClamps
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

P = MergeClamps()
IO = "g (float[N,3] x) => (float[N,3] y)"
DECLARED = "<float a, float b, float c, float nan, float[1,1] one, float[3] row, float[3] row2>"
CONSTANTS: dict[str, Any] = {
    **{"a": -0.5, "b": 0.25, "c": 1.0, "nan": np.nan, "one": 0.75, "row": [-0.2, 0.0, 0.3], "row2": [0.5, 0.6, 0.2]}
}


def rewritten(body: str, after: str | None, because: str = "", **constants: Any) -> dict[str, Any]:
    module = check(
        P,
        before=f"{IO} {DECLARED} {{ {body} }}",
        after=None if after is None else f"{IO} {{ {after} }}",
        because=because,
        constants={**CONSTANTS, **constants},
    )
    ends = [n for n in module.nodes() if n.op_type == "Clip"]
    arrays = [] if len(ends) != 1 else [v.const_value for v in ends[0].inputs[1:] if v is not None]
    return {"bounds": [float(a.numpy()) for a in arrays if a is not None]}


@pytest.mark.parametrize(
    ("body", "after", "bounds"),
    [
        ("s = Max(x, a) y = Min(s, b)", "y = Clip(x, l, h)", [-0.5, 0.25]),
        ("s = Min(b, x) y = Max(a, s)", "y = Clip(x, l, h)", [-0.5, 0.25]),
        ("s = Max(x, a) y = Max(s, b)", "y = Clip(x, l)", [0.25]),
        ("s = Min(x, a) y = Min(s, b)", "y = Clip(x, , h)", [-0.5]),
        ("s = Max(x, b) y = Min(s, a)", "y = Clip(x, l, h)", [-0.5, -0.5]),
        ("s = Clip(x, a, c) y = Max(s, b)", "y = Clip(x, l, h)", [0.25, 1.0]),
        ("s = Clip(x, a, b) y = Max(s, c)", "y = Clip(x, l, h)", [1.0, 1.0]),
        ("s = Clip(x, a) y = Min(s, b)", "y = Clip(x, l, h)", [-0.5, 0.25]),
        ("s = Clip(x, , b) y = Max(s, a)", "y = Clip(x, l, h)", [-0.5, 0.25]),
        ("s = Relu(x) y = Min(s, c)", "y = Clip(x, l, h)", [0.0, 1.0]),
        ("s = Max(x, a) t = Relu(s) y = Min(t, c)", "y = Clip(x, l, h)", [0.0, 1.0]),
        ("s = Min(x, one) y = Max(s, a)", "y = Clip(x, l, h)", [-0.5, 0.75]),
    ],
)
def test_numbers(body: str, after: str, bounds: list[float]) -> None:
    assert rewritten(body, after)["bounds"] == bounds


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("s = Max(x, row) t = Min(s, row2) u = Max(t, a) y = Min(u, c)", "s = Max(x, l) y = Min(s, h)"),
        ("s = Max(x, row) t = Relu(s) y = Max(t, b)", "y = Max(x, l)"),
        ("s = Min(x, row) y = Min(s, row2)", "y = Min(x, h)"),
    ],
)
def test_bounds_that_vary(body: str, after: str) -> None:
    rewritten(body, after)


@pytest.mark.parametrize(
    ("body", "because"),
    [
        ("s = Max(x, row) y = Min(s, b)", "2 clamps take as many nodes"),
        ("s = Max(x, nan) y = Min(s, b)", "a bound is NaN"),
    ],
)
def test_what_stays(body: str, because: str) -> None:
    rewritten(body, None, because)


@pytest.mark.parametrize(
    "body",
    [
        "y = Max(x, a)",
        "s = Relu(x) y = Clip(s, a, c)",
        "s = Max(x, a) t = Min(s, b) y = Add(t, s)",
        "s = Max(x, a) y = Max(s, x)",
        "s = Max(x, a, b) y = Min(s, c)",
        "s = Max(x, x) y = Min(s, c)",
    ],
)
def test_no_chain(body: str) -> None:
    rewritten(body, None)


def test_a_clip_by_a_vector_is_none() -> None:
    text = "g (float[3] x) => (float[3] y) <float a, float[3] v> { s = Max(x, a) y = Clip(s, v) }"
    module = read(model_from(text, 21, {}, 0))
    shapes.infer(module)
    assert run_pass(P, module, PassContext(get_target("cpu"), Log(strict=True))) == 0


def test_bounds_that_widen_stay() -> None:
    text = "g (float[3] x) => (float[2,3] y) <float[2,1] a, float b> { s = Max(x, a) t = Max(s, b) y = Max(t, b) }"
    check(P, before=text, after=None, because="a bound widens the result")


def test_bounds_do_not_grow() -> None:
    text = "g (float[5,7] x) => (float[5,7] y) <float[5,1] a, float[7] b> { s = Max(x, a) y = Max(s, b) }"
    check(P, before=text, after=None, because="the bounds grow from 12 elements to 35")


def test_integers_and_overridable_bounds_stay() -> None:
    check(P, before="g (int64[3] x) => (int64[3] y) <int64 a> { s = Max(x, a) y = Max(s, a) }", after=None)
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[3] x, float a = {1.0}) => (float[3] y) '
        "<float b = {2.0}> { s = Max(x, a) y = Min(s, b) }"
    )
    check(P, before=text, after=None)


def test_half_precision() -> None:
    io = "g (float16[3] x) => (float16[3] y)"
    check(
        P,
        before=f"{io} <float16 a, float16 b> {{ s = Max(x, a) y = Min(s, b) }}",
        after=f"{io} {{ y = Clip(x, l, h) }}",
        constants={"a": -0.1, "b": 0.3},
    )


STEPS = [
    "Max({}, k{})",
    "Min({}, k{})",
    "Max(k{1}, {0})",
    "Relu({})",
    "Clip({}, n{})",
    "Clip({}, , n{})",
    "Clip({0}, n{1}, m{1})",
]


@settings(max_examples=80, deadline=None)
@given(
    steps=st.lists(st.sampled_from(STEPS), min_size=2, max_size=5),
    numbers=st.lists(st.floats(-1, 1, width=32), min_size=10, max_size=10),
    vectors=st.lists(st.booleans(), min_size=5, max_size=5),
)
def test_any_chain(steps: list[str], numbers: list[float], vectors: list[bool]) -> None:
    body, at, constants = [], "x", {}
    for i, step in enumerate(steps):
        body.append(f"v{i} = {step.format(at, i)}")
        at = f"v{i}"
        constants[f"n{i}"], constants[f"m{i}"] = np.asarray(numbers[i]), np.asarray(numbers[i + 5])
        constants[f"k{i}"] = np.asarray(numbers[i : i + 3] if vectors[i] else numbers[i])
    declared = ", ".join(f"float{'[3]' if c.ndim else ''} {n}" for n, c in constants.items())
    text = f"g (float[8,3] x) => (float[8,3] y) <{declared}> {{ {' '.join(body)} y = Sin({at}) }}"
    module = read(model_from(text, 21, constants, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    same_outputs(before, serde.serialize_model(module.model), tolerance=0.0)
    assert len(list(module.nodes())) <= len(steps) + 1


def test_a_clamp_that_a_branch_goes_on_with_ends_the_row() -> None:
    io = "g (float[N,3] x, bool d) => (float[N,3] y)"
    branch = """<then_branch = p () => (float[N,3] m) { m = Max(t, a) }, else_branch = q () => (float[N,3] n) { n = Exp(x) }>"""
    check(
        P,
        before=f"{io} <float a, float b, float c> {{ s = Max(x, b) t = Min(s, c) y = If (d) {branch} }}",
        after=f"{io} <float a> {{ t = Clip(x, l, h) y = If (d) {branch} }}",
        constants=CONSTANTS,
    )
