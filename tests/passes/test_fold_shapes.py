import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from fcc import ir
from fcc.passes._targets import LAST, expand_entries, reshape_entries, slice_ends
from fcc.passes.fold_shapes import FoldShapes
from fcc.testing import check

N, M = ir.Dim.symbol("N"), ir.Dim.symbol("M")


def test_dynamic_batch_becomes_one_reshape() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,3,4] x) => (float[N,12] y) <int64 zero = {0}, int64[1] axes = {0}, int64[1] rest = {12}> {
            s = Shape(x) n = Gather<axis=0>(s, zero) u = Unsqueeze(n, axes) t = Concat<axis=0>(u, rest)
            r = Relu(x) y = Reshape(r, t) }""",
        after="g (float[N,3,4] x) => (float[N,12] y) { r = Relu(x) y = Reshape(r, c0) }",
    )


def test_the_constant_infers_the_one_symbol() -> None:
    module = check(
        FoldShapes(),
        before="""g (float[N,3,4] x) => (float[N,12] y) <int64[1] rest = {12}> {
            s = Shape<start=0, end=1>(x) t = Concat<axis=0>(s, rest) y = Reshape(x, t) }""",
        after="g (float[N,3,4] x) => (float[N,12] y) { y = Reshape(x, c0) }",
        sizes={"N": 0},
    )
    assert _target(module) == [-1, 12]


def test_two_symbols_are_copied() -> None:
    module = check(
        FoldShapes(),
        before="""g (float[N,S,4] x) => (float[N,S,2,2] y) <int64[2] rest = {2, 2}> {
            s = Shape<start=0, end=2>(x) t = Concat<axis=0>(s, rest) y = Reshape(x, t) }""",
        after="g (float[N,S,4] x) => (float[N,S,2,2] y) { y = Reshape(x, c0) }",
        sizes={"N": 0, "S": 3},
    )
    assert _target(module) == [0, 0, 2, 2]


def test_two_symbols_that_moved_stay() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,S] x) => (float[A,B] y) <int64[2] back = {1, 0}> {
            t = Shape(x) a = Gather<axis=0>(t, back) y = Reshape(x, a) }""",
        after=None,
        because="2 dimensions depend on symbols",
    )


def test_an_inferred_dimension_beside_one_that_may_be_zero_stays() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,S,4] x) => (float[N,A] y) <int64[1] four = {4}> {
            n = Shape<start=0, end=1>(x) s = Shape<start=1, end=2>(x) m = Mul(s, four)
            t = Concat<axis=0>(n, m) y = Reshape(x, t) }""",
        after=None,
        because="may be 0",
    )


def test_allowzero_leaves_with_the_symbols() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,S,4] x) => (float[N,S,4,1] y) <int64[1] one = {1}> {
            s = Shape(x) t = Concat<axis=0>(s, one) y = Reshape<allowzero=1>(x, t) }""",
        after="g (float[N,S,4] x) => (float[N,S,4,1] y) { y = Reshape(x, c0) }",
        sizes={"N": 0},
    )


def test_allowzero_with_a_literal_zero_stays() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,0] x) => (float[N,0,5] y) <int64[2] rest = {0, 5}> {
            s = Shape<start=0, end=1>(x) t = Concat<axis=0>(s, rest) y = Reshape<allowzero=1>(x, t) }""",
        after=None,
        because="allowzero",
    )


def test_a_known_number_becomes_a_constant() -> None:
    check(
        FoldShapes(),
        before="g (float[N,3,4] x) => (int64[2] y) { s = Shape<start=1>(x) y = Neg(s) }",
        after="g (float[N,3,4] x) => (int64[2] y) { y = Identity(c0) }",
    )


def test_a_branch_folds_what_an_outer_input_determines() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,3] x, bool b) => (int64[1] y) {
            y = If(b) <then_branch = t () => (int64[1] p) { s = Shape<start=1>(x) p = Neg(s) },
                       else_branch = e () => (int64[1] q) { q = Shape<start=0, end=1>(x) }> }""",
        after="""g (float[N,3] x, bool b) => (int64[1] y) {
            y = If(b) <then_branch = t () => (int64[1] p) { p = Identity(c0) },
                       else_branch = e () => (int64[1] q) { q = Shape<start=0, end=1>(x) }> }""",
    )


def test_a_shape_used_elsewhere_stays_for_its_user() -> None:
    check(
        FoldShapes(),
        before="g (float[N,4] x) => (float[N,4] y, int64[2] z) { z = Shape(x) y = Reshape(x, z) }",
        after="g (float[N,4] x) => (float[N,4] y, int64[2] z) { z = Shape(x) y = Reshape(x, c0) }",
    )


def test_large_constants_are_not_made() -> None:
    check(
        FoldShapes(growth=0),
        before="""g (float[N,512] x) => (int64[512] y) <int64 n = {512}, int64 o = {0}, int64 p = {1}> {
            y = Range(o, n, p) }""",
        after=None,
        because="the result has 4096 bytes",
    )


def test_expand_keeps_what_the_input_has() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,1] x) => (float[N,3] y) <int64[1] three = {3}> {
            s = Shape<start=0, end=1>(x) t = Concat<axis=0>(s, three) y = Expand(x, t) }""",
        after="g (float[N,1] x) => (float[N,3] y) { y = Expand(x, c0) }",
        sizes={"N": 0},
    )


def test_expand_to_a_symbol_stays() -> None:
    check(
        FoldShapes(),
        before="g (float[N,3] x, float[1,3] r) => (float[N,3] y) { s = Shape(x) y = Expand(r, s) }",
        after=None,
        because="expanded to a symbol",
    )


def test_slice_up_to_the_size() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,3] x) => (float[A,3] y) <int64[1] one = {1}> {
            s = Shape<start=0, end=1>(x) y = Slice(x, one, s) }""",
        after="g (float[N,3] x) => (float[A,3] y) { y = Slice(x, c0, c1) }",
    )


def test_slice_up_to_another_symbol_stays() -> None:
    check(
        FoldShapes(),
        before="""g (float[N,3] x, float[M] z) => (float[A,3] y) <int64[1] o = {0}> {
            s = Shape(z) y = Slice(x, o, s) }""",
        after=None,
        because="depends on a symbol",
    )


def test_an_overridable_initializer_may_take_another_size() -> None:
    check(
        FoldShapes(),
        before="g (float[1] x, float[M] w) => (float[M] y) <float[2] w = {1, 2}> { s = Shape(w) y = Expand(x, s) }",
        after=None,
        because="expanded to a symbol",
        sizes={"M": 2},
    )


def _target(module: ir.Module) -> list[int]:
    array = ir.Module.constant(next(iter(module.graph)).inputs[1])
    assert array is not None
    return [int(x) for x in array]


# -- the rules, over all small sizes --------------------------------------------------------------------------------
ENTRY = st.sampled_from([0, 1, 2, 3, 6, N, M, N * 2, N * M, N + 1])


def value(d: ir.Dim | int, sizes: dict[str, int]) -> int:
    if isinstance(d, int):
        return d
    return sum(c * int(np.prod([sizes[s] for s in m])) for m, c in d.terms.items())


def reshaped(shape: list[int], target: list[int], allowzero: bool) -> tuple[int, ...] | None:
    """The shape that Reshape gives, None when the operator fails (as onnxruntime does for -1 beside 0)."""
    out = [shape[i] if t == 0 and not allowzero and i < len(shape) else t for i, t in enumerate(target)]
    if -1 in out:
        rest = int(np.prod([d for d in out if d != -1]))
        if rest == 0 or int(np.prod(shape)) % rest:
            return None
        out[out.index(-1)] = int(np.prod(shape)) // rest
    return tuple(out) if np.prod(out) == np.prod(shape) else None


@given(
    st.lists(ENTRY, min_size=1, max_size=3),
    st.lists(st.one_of(ENTRY, st.just(-1)), min_size=1, max_size=3).filter(lambda t: t.count(-1) < 2),
    st.booleans(),
)
def test_reshape_entries_give_the_same_shape_for_every_size(
    source: list[ir.Dim | int], target: list[ir.Dim | int], zero: bool
) -> None:
    found = reshape_entries(source, target, zero)
    if isinstance(found, str):
        return
    for n in range(4):
        for m in range(4):
            sizes = {"N": n, "M": m}
            shape = [value(d, sizes) for d in source]
            before = reshaped(shape, [value(d, sizes) for d in target], zero)
            if before is not None:
                assert reshaped(shape, found, False) == before


@given(st.lists(ENTRY, max_size=3), st.lists(ENTRY, max_size=4))
def test_expand_entries_give_the_same_shape_for_every_size(
    source: list[ir.Dim | int], target: list[ir.Dim | int]
) -> None:
    found = expand_entries(source, target)
    if isinstance(found, str):
        return
    for n in range(4):
        for m in range(4):
            sizes = {"N": n, "M": m}
            shape = tuple(value(d, sizes) for d in source)
            try:
                before = np.broadcast_shapes(shape, tuple(value(d, sizes) for d in target))
            except ValueError:
                continue
            assert np.broadcast_shapes(shape, tuple(found)) == before


def test_slice_ends_need_a_forward_step() -> None:
    assert slice_ends([N], [N], [0], [1]) == [LAST]
    assert slice_ends([N], [N + 2], [0], [2]) == [LAST]
    assert isinstance(slice_ends([N], [N - 1], [0], [1]), str)
    assert isinstance(slice_ends([N], [N], [0], [-1]), str)
    assert isinstance(slice_ends(None, [N], [0], [1]), str)
