"""Range of vectors of one element: onnxruntime refuses it once it knows their rank."""

import numpy as np
import pytest

import fcc
import fcc.onnx_backend
from fcc.backends import get_backend
from fcc.backends.lower_ranges import LowerRanges
from fcc.target import get_target
from fcc.testing import check, model_from

P = LowerRanges()


def text(start: str, limit: str, delta: str, body: str = "y = Range(a, b, c)") -> str:
    return f"g (int64{start} a, int64{limit} b, int64{delta} c) => (int64[N] y) {{ {body} }}"


@pytest.mark.parametrize(
    ("shapes", "operands"),
    [
        (("[1]", "", ""), "s = Squeeze(a) y = Range(s, b, c)"),
        (("", "[1]", ""), "s = Squeeze(b) y = Range(a, s, c)"),
        (("", "[1]", "[M]"), "s = Squeeze(b) t = Squeeze(c) y = Range(a, s, t)"),
    ],
)
def test_vectors_become_scalars(shapes: tuple[str, str, str], operands: str) -> None:
    check(P, before=text(*shapes), after=text(*shapes, operands), sizes={"M": 1})


@pytest.mark.parametrize(
    ("shapes", "because"),
    [
        (("", "", ""), "no operand is known to be a vector"),
        (("[2]", "", ""), "not one element"),
        (("[1]", "[1,1]", ""), "not one element"),
    ],
)
def test_others_stay(shapes: tuple[str, str, str], because: str) -> None:
    check(P, before=text(*shapes), after=None, because=because)


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_every_target_has_it(target: str) -> None:
    assert "lower-ranges" in str(get_backend(get_target(target)).lowerings)


def test_inlining_an_if_does_not_break_a_range() -> None:
    """The rank is hidden from onnxruntime by the If, and known once that is gone."""
    proto = model_from(
        "g (int64[4] size) => (int64[n] y) <bool c = {1}, int64 zero = {0}, int64 one = {1}> {"
        " h = If (c) <then_branch = t () => (th) { tn, tc, th, tw = Split<num_outputs=4>(size) },"
        "             else_branch = e () => (eh) { eh = Identity(size) }>"
        " y = Range(zero, h, one) }",
        opset=20,
    )
    compiled = fcc.compile(proto, verify="off")
    found = fcc.onnx_backend.prepare(compiled.proto(), level=None).run([np.array([1, 1, 5, 6])])
    assert found[0].tolist() == [0, 1, 2, 3, 4]
    assert "If" not in [n.op_type for n in compiled.module.nodes()]
