import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.convert_residual_adds import ConvertResidualAdds
from fcc.testing import check

P = ConvertResidualAdds()
NORM = "y = LayerNormalization<axis=-1>(t, s, b)"
WEIGHTS = "<float[4] s, float[4] b>"


@given(a=st.sampled_from(["N,T,4", "2,3,4", "0,T,4", "1,1,4"]), other=st.sampled_from(["", "4", "1,1,4", "same"]))
@settings(max_examples=20, deadline=None)
def test_add_becomes_sum(a: str, other: str) -> None:
    b = a if other == "same" else other
    io = f"g (float[{a}] x, float{b and f'[{b}]'} z) => (float[{a}] y)"
    check(P, before=f"{io} {WEIGHTS} {{ t = Add(x, z) {NORM} }}", after=f"{io} {{ t = Sum(x, z) {NORM} }}")


IO = "g (float[N,T,4] x, float[N,T,4] z) => (float[N,T,4] y"


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        (", float[N,T,4] u)", f"t = Add(x, z) {NORM} u = Neg(t)"),
        (", float[N,T,4] t)", f"t = Add(x, z) {NORM}"),
    ],
)
def test_sum_with_other_users_stays(outputs: str, body: str) -> None:
    check(P, before=f"{IO}{outputs} {WEIGHTS} {{ {body} }}", after=None, because="other users")


@pytest.mark.parametrize("body", [f"t = Sub(x, z) {NORM}", "t = Add(x, z) y = Neg(t)"])
def test_other_operators_stay(body: str) -> None:
    check(P, before=f"{IO}) {WEIGHTS} {{ {body} }}", after=None)


def test_other_types_stay() -> None:
    before = f"{IO}) {WEIGHTS} {{ t = Add(x, z) {NORM} }}".replace("float", "double")
    check(P, before=before, after=None, because="not measured for")


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_other_targets_stay(target: str) -> None:
    before = f"{IO}) {WEIGHTS} {{ t = Add(x, z) {NORM} }}"
    check(P, before=before, after=None, because="nothing says", target=target)


def test_normalized_graph_input_stays() -> None:
    check(P, before=f"g (float[N,4] t) => (float[N,4] y) {WEIGHTS} {{ {NORM} }}", after=None)
