import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.eliminate_gemm_reshapes import EliminateGemmReshapes
from fcc.testing import check

P = EliminateGemmReshapes()


@given(data=st.data())
@settings(max_examples=50, deadline=None)
def test_generated(data: st.DataObject) -> None:
    d = data.draw
    kind = d(st.sampled_from(["float", "double"]))
    lead = d(st.sampled_from([["N", "3"], ["2", "3"], ["1", "1"], ["N", "1"], ["2", "N", "3"]]))
    k, n = d(st.integers(1, 4)), d(st.integers(1, 4))
    transposed, alpha = d(st.booleans()), d(st.sampled_from([1.0, -0.5]))
    bias, beta = d(st.sampled_from([None, str(n), f"1,{n}", "1", ""])), d(st.sampled_from([1.0, 2.0]))
    io = f"g ({kind}[{','.join(lead)},{k}] x) => ({kind}[{','.join(lead)},{n}] y)"
    shape = f"{n},{k}" if transposed else f"{k},{n}"
    more = "" if bias is None else f", {kind}[{bias}] b"
    text = (
        f"{io} <int64[2] f, int64[{len(lead) + 1}] s, {kind}[{shape}] w{more}> {{ a = Reshape(x, f) "
        f"c = Gemm<transB={int(transposed)}, alpha={alpha}, beta={beta}>(a, w{'' if bias is None else ', b'}) "
        "y = Reshape(c, s) }"
    )
    constants = {"f": np.array([-1, k]), "s": np.array([-1 if x == "N" else int(x) for x in lead] + [n])}
    body = "y = MatMul(x, w)" if bias is None else "p = MatMul(x, w) y = Add(p, b)"
    check(P, before=text, after=f"{io} {{ {body} }}", constants=constants, seed=d(st.integers(0, 99)))


def test_bias_of_zeros_goes() -> None:
    check(
        P,
        before="g (float[2,3,4] x) => (float[2,3,5] y) <int64[2] f, int64[3] s, float[4,5] w, float[5] b> "
        "{ a = Reshape(x, f) c = Gemm(a, w, b) y = Reshape(c, s) }",
        after="g (float[2,3,4] x) => (float[2,3,5] y) { y = MatMul(x, w) }",
        constants={"f": np.array([-1, 4]), "s": np.array([2, 3, 5]), "b": 0},
    )


def test_shared_reshape_in_front_stays() -> None:
    check(
        P,
        before="g (float[2,3,4] x) => (float[2,3,5] y, float[6,4] z) <int64[2] f, int64[3] s, float[4,5] w> "
        "{ a = Reshape(x, f) c = Gemm(a, w) y = Reshape(c, s) z = Neg(a) }",
        after="g (float[2,3,4] x) => (float[2,3,5] y, float[6,4] z) { a = Reshape(x, f) y = MatMul(x, w) z = Neg(a) }",
        constants={"f": np.array([-1, 4]), "s": np.array([2, 3, 5])},
    )


def test_shared_weight_is_kept_as_it_is() -> None:
    module = check(
        P,
        before="g (float[2,3,4] x) => (float[2,3,5] y, float[4,5] z) <int64[2] f, int64[3] s, float[4,5] w> "
        "{ a = Reshape(x, f) c = Gemm(a, w) y = Reshape(c, s) z = Neg(w) }",
        after="g (float[2,3,4] x) => (float[2,3,5] y, float[4,5] z) { y = MatMul(x, w) z = Neg(w) }",
        constants={"f": np.array([-1, 4]), "s": np.array([2, 3, 5])},
    )
    assert "w" in module.graph.initializers


GEMM = "a = Reshape(x, f) c = Gemm(a, w) y = Reshape(c, s)"


@pytest.mark.parametrize(
    ("io", "constants", "values", "body", "because"),
    [
        ("float[2,3,4] x) => (float[3,2,5] y", "float[4,5] w", ([-1, 4], [3, 2, 5]), GEMM, "leading dims"),
        ("float[2,3,4] x) => (float[6,5,1] y", "float[4,5] w", ([-1, 4], [6, 5, 1]), GEMM, "leading dims"),
        ("float[2,3,4] x) => (float[2,3,6] y", "float[2,3] w", ([-1, 2], [2, 3, 6]), GEMM, "leading dims"),
        ("float[2,3,4] x) => (float[2,3,4,2] y", "float[2,4] w", ([-1, 2], [2, 3, 4, 2]), GEMM, "the rank of the input"),
        ("float[6,4] x) => (float[6,5] y", "float[4,5] w", ([-1, 4], [6, 5]), GEMM, "the rank of the input"),
        ("float[2,3,4] x, float[4,5] w) => (float[2,3,5] y", "", ([-1, 4], [2, 3, 5]), GEMM, ""),
        ("float[2,3,4] x, float[5] b) => (float[2,3,5] y", "float[4,5] w", ([-1, 4], [2, 3, 5]),
         "a = Reshape(x, f) c = Gemm(a, w, b) y = Reshape(c, s)", "the bias is not constant"),
        ("float[2,3,4] x) => (float[2,3,5] y", "float[4,5] w, float[6,5] b", ([-1, 4], [2, 3, 5]),
         "a = Reshape(x, f) c = Gemm(a, w, b) y = Reshape(c, s)", "the bias is no row"),
        ("float[2,3,4] x) => (float[2,3,5] y, float[5,4] z", "float[5,4] w", ([-1, 4], [2, 3, 5]),
         "a = Reshape(x, f) c = Gemm<transB=1>(a, w) y = Reshape(c, s) z = Neg(w)", "other users"),
        ("float[2,3,4] x) => (float[2,3,5] y, float[6,5] c", "float[4,5] w", ([-1, 4], [2, 3, 5]), GEMM, "graph output"),
        ("float[2,5,3] x) => (float[2,5,5] y", "float[10,5] w", ([10, -1], [2, 5, 5]),
         "a = Reshape(x, f) c = Gemm<transA=1>(a, w) y = Reshape(c, s)", ""),
    ],
)  # fmt: skip
def test_refusals(io: str, constants: str, values: tuple[list[int], list[int]], body: str, because: str) -> None:
    f, s = (np.array(v) for v in values)
    declared = f"int64[2] f, int64[{s.size}] s" + (f", {constants}" if constants else "")
    if "transA" in body:
        io, s = "float[2,5,3] x) => (float[1,3,5] y", np.array([1, 3, 5])
    check(P, before=f"g ({io}) <{declared}> {{ {body} }}", after=None, because=because, constants={"f": f, "s": s})
