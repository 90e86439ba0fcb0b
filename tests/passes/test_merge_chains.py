from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.ir import DataType
from fcc.passes._lossless import FLOAT_DIGITS, INTEGER_BITS, bypasses, is_lossless
from fcc.passes.merge_chains import MergeChains
from fcc.testing import check


def chain(
    body: str, after: str, *, kind: str = "float", out: str = "", constants: str = "", dims: str = "N,2,3"
) -> None:
    head = f"g ({kind}[{dims}] x) => ({out or kind}[{dims}] y)"
    before = f"{head} <{constants}> {{ {body} }}" if constants else f"{head} {{ {body} }}"
    check(MergeChains(), before, f"{head} {{ {after} }}", tolerance=0)


def kept(body: str, because: str, *, kind: str = "float", constants: str = "", dims: str = "N,2,3") -> None:
    head = f"g ({kind}[{dims}] x) => ({kind}[A,B,C] y)"
    check(
        MergeChains(),
        f"{head} <{constants}> {{ {body} }}" if constants else f"{head} {{ {body} }}",
        None,
        because=because,
    )


def test_negation_twice() -> None:
    chain("r = Abs(x) a = Neg(r) b = Neg(a) y = Exp(b)", "r = Abs(x) y = Exp(r)")


def test_double_negation() -> None:
    chain("r = And(x, x) a = Not(r) b = Not(a) y = Xor(b, x)", "r = And(x, x) y = Xor(r, x)", kind="bool")


@pytest.mark.parametrize("f", ["Abs", "Ceil", "Floor", "Relu", "Round", "Sign"])
def test_idempotent(f: str) -> None:
    chain(f"a = {f}(x) b = {f}(a) y = Exp(b)", f"a = {f}(x) y = Exp(a)")


def test_different_operators_stay() -> None:
    kept("a = Ceil(x) y = Floor(a)", "expected")


@pytest.mark.parametrize(
    "perms",
    ["<perm=[1]>(r) b = Transpose(a)", "<perm=[1]>(r) b = Transpose<perm=[0]>(a)", "(r) b = Transpose<perm=[1,0]>(a)"],
)
def test_permutations_of_another_rank_stay(perms: str) -> None:
    kept(f"r = Relu(x) a = Transpose{perms} y = Neg(b)", "of another rank")


# -- Transpose -------------------------------------------------------------------------------------------------------
@given(st.permutations(range(3)), st.permutations(range(3)))
@settings(max_examples=20, deadline=None)
def test_transposes_compose(p: list[int], q: list[int]) -> None:
    both = [p[i] for i in q]
    shape = ",".join("ABC"[i] for i in both)
    pair = f"a = Transpose<perm={p}>(r) b = Transpose<perm={q}>(a)"
    before = f"g (float[A,B,C] x) => (float[{shape}] y) {{ r = Relu(x) {pair} y = Neg(b) }}"
    one = f"b = Transpose<perm={both}>(r) y = Neg(b)" if both != [0, 1, 2] else "y = Neg(r)"
    check(MergeChains(), before, f"g (float[A,B,C] x) => (float[{shape}] y) {{ r = Relu(x) {one} }}", tolerance=0)


def test_transposes_without_permutation_reverse() -> None:
    chain("r = Relu(x) a = Transpose(r) b = Transpose(a) y = Neg(b)", "r = Relu(x) y = Neg(r)")


def test_a_transpose_with_other_users_stays_unless_both_cancel() -> None:
    check(
        MergeChains(),
        """g (float[A,B,C] x) => (float[B,C,A] y, float[C,A,B] z) {
            a = Transpose<perm=[1,2,0]>(x) y = Neg(a) b = Transpose<perm=[1,2,0]>(a) z = Neg(b) }""",
        None,
        because="other users",
    )
    check(
        MergeChains(),
        """g (float[A,B] x) => (float[B,A] y, float[A,B] z) {
            a = Transpose<perm=[1,0]>(x) y = Neg(a) b = Transpose<perm=[1,0]>(a) z = Neg(b) }""",
        """g (float[A,B] x) => (float[B,A] y, float[A,B] z) {
            a = Transpose<perm=[1,0]>(x) y = Neg(a) z = Neg(x) }""",
    )


def test_a_graph_output_in_between_stays() -> None:
    check(
        MergeChains(),
        "g (float[A,B] x) => (float[B,A] y, float[A,B] z) { y = Transpose(x) b = Transpose(y) z = Neg(b) }",
        "g (float[A,B] x) => (float[B,A] y, float[A,B] z) { y = Transpose(x) z = Neg(x) }",
    )


def test_an_output_that_would_be_an_input_stays() -> None:
    kept("a = Neg(x) y = Neg(a)", "may not be an input")


# -- Reshape ---------------------------------------------------------------------------------------------------------
FLAT = """int64[2] s = {-1, 6}, int64[3] back = {-1, 2, 3}, int64[3] copy = {0, 2, -1}, int64[1] one = {1},
    int64[1] all = {-1}"""


@pytest.mark.parametrize(
    "pair",
    [
        "a = Reshape(r, s) b = Reshape(a, back)",
        "a = Reshape(r, s) b = Reshape(a, copy)",
        "a = Unsqueeze(r, one) b = Squeeze(a, one)",
        "a = Flatten(r) b = Reshape(a, back)",
        "a = Unsqueeze(r, one) b = Reshape(a, back)",
    ],
)
def test_reshapes_that_cancel(pair: str) -> None:
    chain(f"r = Relu(x) {pair} y = Neg(b)", "r = Relu(x) y = Neg(r)", constants=FLAT)


@pytest.mark.parametrize(
    ("pair", "shape"),
    [
        ("a = Reshape(r, s) b = Reshape(a, all)", "M"),
        ("a = Unsqueeze(r, one) b = Reshape(a, s)", "N,6"),
        ("a = Flatten(r) b = Unsqueeze(a, one)", "N,1,6"),
        ("a = Reshape(r, all) b = Reshape(a, s)", "N,6"),
        ("a = Unsqueeze(r, one) b = Unsqueeze(a, one)", "N,1,1,2,3"),
    ],
)
@pytest.mark.parametrize("batch", [0, 3])
def test_reshapes_that_merge(pair: str, shape: str, batch: int) -> None:
    if "Flatten" in pair and batch == 0:
        return  # the reference evaluator cannot flatten an empty tensor
    head = f"g (float[N,2,3] x) => (float[{shape}] y)"
    check(
        MergeChains(),
        f"{head} <{FLAT}> {{ r = Relu(x) {pair} y = Neg(b) }}",
        f"{head} {{ r = Relu(x) b = Reshape(r, c) y = Neg(b) }}",
        sizes={"N": batch},
        tolerance=0,
    )


def test_copied_dimensions_mean_those_in_between() -> None:
    check(
        MergeChains(),
        """g (float[2,N] x) => (float[N,2] y) <int64[2] turn = {-1, 2}, int64[2] copy = {0, 2}> {
            a = Reshape(x, turn) b = Reshape(a, copy) y = Neg(b) }""",
        "g (float[2,N] x) => (float[N,2] y) { b = Reshape(x, c) y = Neg(b) }",
    )


def test_a_zero_that_copies_nothing_is_a_size() -> None:
    text = """g (float[2,N,3] x) => (float[A,B] y) <int64[2] flat = {6, 0}, int64[2] shape = {0, 4}> {
        a = Reshape<allowzero=1>(x, flat) b = Reshape<allowzero=1>(a, shape) y = Neg(b) }"""
    after = "g (float[2,N,3] x) => (float[A,B] y) { b = Reshape<allowzero=1>(x, c) y = Neg(b) }"
    check(MergeChains(), text, after, sizes={"N": 0})
    copied = text.replace("{0, 4}", "{6, 0}").replace("Reshape<allowzero=1>(a", "Reshape(a")
    check(MergeChains(), copied, None, because="a dimension is 0")


def test_reshapes_that_a_constant_cannot_write_stay() -> None:
    check(
        MergeChains(),
        """g (float[A,B,C] x) => (float[A,D] y) <int64[1] at = {0}> {
            u = Unsqueeze(x, at) y = Flatten<axis=2>(u) }""",
        None,
        because="may be 0",
    )


def test_a_shape_that_is_only_declared_proves_nothing() -> None:
    check(
        MergeChains(),
        """g (float[4,6] x, int64[2] s) => (float[4,6] y) <int64[1] all = {-1}> {
            a = Reshape(x, all) y = Reshape(a, s) }""",
        None,
        because="not known",
    )


# -- Cast ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("kind", "to", "back"), [("int32", 7, 6), ("float16", 1, 10), ("bool", 6, 9), ("int8", 1, 3)])
def test_casts_there_and_back(kind: str, to: int, back: int) -> None:
    chain(
        f"r = Identity(x) a = Cast<to={to}>(r) b = Cast<to={back}>(a) y = Identity(b)",
        "r = Identity(x) y = Identity(r)",
        kind=kind,
    )


def test_a_lossless_cast_in_between_leaves() -> None:
    chain("a = Cast<to=7>(x) y = Cast<to=1>(a)", "y = Cast<to=1>(x)", kind="int32", out="float")


@pytest.mark.parametrize(
    ("kind", "to", "back"), [("float", 10, 1), ("int64", 6, 7), ("int32", 1, 6), ("float16", 1, 6), ("float", 9, 1)]
)
def test_lossy_casts_stay(kind: str, to: int, back: int) -> None:
    kept(f"a = Cast<to={to}>(x) b = Cast<to={back}>(a) y = CastLike(b, x)", "does not keep every value", kind=kind)


SAMPLES = [
    0,
    1,
    -1,
    2,
    127,
    128,
    -128,
    255,
    256,
    257,
    2047,
    2049,
    32767,
    65535,
    2**24 + 1,
    2**31 - 1,
    2**53 + 1,
    2**63 - 1,
]
FLOATS: list[float] = [-0.0, 0.1, 1e-8, 6e-8, 1e-40, 65504.0, 3e38, 1e300, float("inf"), float("-inf")]


@pytest.mark.parametrize(("source", "target"), list(product([*INTEGER_BITS, *FLOAT_DIGITS], repeat=2)))
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_lossless_is_what_it_says(source: DataType, target: DataType) -> None:
    if not is_lossless(source, target):
        return
    kind = source.numpy()
    values = [*FLOATS, *SAMPLES] if source in FLOAT_DIGITS else _in_range(kind)
    array = np.array(values).astype(kind) if source in FLOAT_DIGITS else np.array(values, kind)
    there = array.astype(target.numpy())
    assert np.array_equal(there.astype(kind), array)
    if source in FLOAT_DIGITS:
        assert np.array_equal(np.signbit(there.astype(np.float64)), np.signbit(array.astype(np.float64)))


def _in_range(kind: np.dtype[Any]) -> list[int]:
    if kind == np.bool_:
        return [0, 1]
    info = np.iinfo(kind)
    return [v for v in [*SAMPLES, int(info.min), int(info.max)] if info.min <= v <= info.max]


def test_every_type_round_trips_at_most_where_it_fits() -> None:
    assert not is_lossless(DataType.INT64, DataType.DOUBLE)
    assert not is_lossless(DataType.FLOAT16, DataType.BFLOAT16)
    assert not is_lossless(DataType.INT8, DataType.UINT16)
    assert not is_lossless(DataType.FLOAT8E4M3FN, DataType.FLOAT)
    assert bypasses(DataType.INT8, DataType.INT32, DataType.FLOAT)


# -- Clip ------------------------------------------------------------------------------------------------------------
def clips(first: str, second: str, constants: str, after: str) -> None:
    chain(f"a = {first} b = {second} y = Neg(b)", f"{after} y = Neg(b)", constants=constants)


def test_disjoint_bounds_give_the_nearer_end_of_the_second() -> None:
    module = check(
        MergeChains(),
        """g (float[N] x) => (float[N] y) <float p = {0}, float q = {3}, float s = {5}, float t = {10}> {
            a = Clip(x, p, q) b = Clip(a, s, t) y = Neg(b) }""",
        "g (float[N] x) => (float[N] y) { b = Clip(x, c, d) y = Neg(b) }",
        tolerance=0,
    )
    bounds = next(iter(module.graph)).inputs[1:]
    assert [float(module.constant(v)) for v in bounds] == [5.0, 5.0]  # type: ignore[arg-type]


def test_relu_of_negative_bounds_is_zero() -> None:
    clips("Clip(x, p, q)", "Relu(a)", "float p = {-5}, float q = {-2}", "b = Clip(x, c, d)")


def test_relu_of_a_clip_at_zero_is_the_clip() -> None:
    chain(
        "a = Clip(x, p, q) b = Relu(a) y = Neg(b)",
        "a = Clip(x, p, q) y = Neg(a)",
        constants="float p = {0}, float q = {6}",
    )


def test_clip_of_a_relu_is_one_clip() -> None:
    clips("Relu(x)", "Clip(a, , q)", "float q = {6}", "b = Clip(x, c, d)")
    clips("Relu(x)", "Clip(a, p)", "float p = {-1}", "b = Clip(x, c)")


def test_integer_clips() -> None:
    chain(
        "a = Clip(x, p) b = Clip(a, , q) y = Neg(b)",
        "b = Clip(x, c, d) y = Neg(b)",
        kind="int32",
        constants="int32 p = {-1}, int32 q = {2}",
    )


@pytest.mark.parametrize(
    ("nodes", "because"),
    [
        ("a = Clip(x, q, p) y = Clip(a, p, q)", "not ordered"),
        ("a = Clip(x, p, q) y = Clip(a, q, p)", "not ordered"),
        ("m = ReduceMin<keepdims=0>(x) a = Clip(x, p, q) y = Clip(a, m)", "not constant"),
    ],
)
def test_clips_that_stay(nodes: str, because: str) -> None:
    kept(nodes, because, constants="float p = {0}, float q = {6}")


BOUND = st.one_of(st.none(), st.floats(-4, 4, width=32))


@given(
    st.tuples(BOUND, BOUND),
    st.tuples(BOUND, BOUND),
    st.lists(st.floats(width=32, allow_nan=False), min_size=1, max_size=8),
)
@settings(max_examples=200, deadline=None)
def test_the_composition_of_clamps(
    inner: tuple[float | None, float | None], outer: tuple[float | None, float | None], xs: list[float]
) -> None:
    limits = (float(np.finfo(np.float32).min), float(np.finfo(np.float32).max))
    (a, b), (c, d) = ([limits[i] if v is None else v for i, v in enumerate(pair)] for pair in (inner, outer))
    if a > b or c > d:
        return
    low, high = (min(max(v, c), d) for v in (a, b))
    x = np.array(xs)
    assert np.array_equal(np.clip(np.clip(x, a, b), c, d), np.clip(x, low, high))


@pytest.mark.parametrize("inner", ["a = Reshape(x, s)", "a = Squeeze(x, s)", "a = Unsqueeze(x, s)"])
def test_a_view_by_a_computed_operand_proves_no_shape(inner: str) -> None:
    kind = "int64[2] s" if "Reshape" in inner else "int64[1] s"
    text = f"g (float[6,1] x, {kind}) => (float[2,3] y) <int64[2] t = {{2, 3}}> {{ {inner} y = Reshape(a, t) }}"
    check(MergeChains(), text, None, because="the shape is not known")


@pytest.mark.parametrize("middle", ["17", "19", "22"])  # float8e4m3fn, float8e5m2, int4
def test_types_of_few_bits_lose(middle: str) -> None:
    kept(f"a = Cast<to={middle}>(x) y = Cast<to=3>(a)", "does not keep", kind="int8")


@pytest.mark.parametrize(
    ("constants", "bounds"),
    [("float[2] l = {0, 0}, float h = {1}", "l, h"), ("float l = {0}, float[2] h = {1, 1}", "l, h")],
)
def test_bounds_of_several_numbers_stay(constants: str, bounds: str) -> None:
    kept(f"a = Relu(x) y = Clip(a, {bounds})", "not constant", constants=constants)
