"""unroll-loops: bodies of Loop and Scan written as often as they run."""

from typing import Any

import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.unroll_loops import UnrollLoops
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

LOOP = """g (float[2] x{inputs}) => ({outputs}) <{constants}> {{ {before}
    {results} = Loop({trips}, {start}, {init}) <body = b ({enters}) => ({gives}) {{ {body} }}> {after} }}"""


def loop(
    body: str,
    *,
    trips: str = "n",
    start: str = "go",
    init: str = "x",
    enters: str = "int64 i, bool c, float[2] s",
    gives: str = "bool d, float[2] t",
    results: str = "y",
    outputs: str = "float[2] y",
    constants: str = "int64 n = {3}, bool go = {1}, float[2] w",
    inputs: str = "",
    before: str = "",
    after: str = "",
) -> str:
    return LOOP.format(**locals())


def test_copies_of_the_body_follow_each_other() -> None:
    module = check(
        UnrollLoops(),
        loop("d = Identity(c) u = Mul(s, w) t = Tanh(u)"),
        """g (float[2] x) => (float[2] y) {
        a = Mul(x, w) b = Tanh(a) c = Mul(b, w) d = Tanh(c) e = Mul(d, w) y = Tanh(e) }""",
    )
    assert set(module.graph.initializers) == {"w"}


def test_constants_of_the_body_are_shared_by_the_copies() -> None:
    body = "d = Identity(c) k = Constant<value = float[2] {0.5, 2.0}>() t = Mul(s, k)"
    module = check(
        UnrollLoops(),
        loop(body, constants="int64 n = {2}, bool go = {1}"),
        "g (float[2] x) => (float[2] y) { a = Mul(x, k) y = Mul(a, k) }",
    )
    assert len(module.graph.initializers) == 1


def test_the_counter_is_a_number_and_what_trips_give_is_stacked() -> None:
    check(
        UnrollLoops(),
        loop(
            "d = Identity(c) f = Cast<to = 1>(i) t = Add(s, f) e = Mul(t, w)",
            gives="bool d, float[2] t, float[2] e",
            results="y, z",
            outputs="float[2] y, float[K,2] z",
            constants="int64 n = {2}, bool go = {1}, float[2] w",
        ),
        """g (float[2] x) => (float[2] y, float[K,2] z) {
        f0 = Cast<to = 1>(k0) a = Add(x, f0) e0 = Mul(a, w) f1 = Cast<to = 1>(k1) y = Add(a, f1) e1 = Mul(y, w)
        u0 = Unsqueeze(e0, zero) u1 = Unsqueeze(e1, zero) z = Concat<axis = 0>(u0, u1) }""",
        tolerance=0,
    )


def test_a_counter_of_rank_one() -> None:
    check(
        UnrollLoops(),
        loop(
            "d = Identity(c) e = Squeeze(i) f = Cast<to = 1>(e) t = Add(s, f)",
            enters="int64[1] i, bool c, float[2] s",
            constants="int64 n = {2}, bool go = {1}",
        ),
        """g (float[2] x) => (float[2] y) {
        e0 = Squeeze(k0) f0 = Cast<to = 1>(e0) a = Add(x, f0) e1 = Squeeze(k1) f1 = Cast<to = 1>(e1) y = Add(a, f1) }""",
    )


def test_a_trip_that_reads_its_condition() -> None:
    check(
        UnrollLoops(),
        loop(
            "d = Identity(c) f = Cast<to = 1>(c) t = Add(s, f)",
            constants="int64 n = {1}, bool go = {1}",
        ),
        "g (float[2] x) => (float[2] y) { f = Cast<to = 1>(true) y = Add(x, f) }",
    )


SWAP = {
    "enters": "int64 i, bool c, float[2] s, float[2] r",
    "gives": "bool d, float[2] t, float[2] u",
    "results": "y, z",
    "outputs": "float[2] y, float[2] z",
    "init": "x, v",
    "inputs": ", float[2] v",
}


def test_carried_values_change_places() -> None:
    check(
        UnrollLoops(),
        loop("d = Identity(c) t = Neg(r) u = Identity(s)", **SWAP),
        """g (float[2] x, float[2] v) => (float[2] y, float[2] z) {
        a = Neg(v) b = Identity(x) c = Neg(b) d = Identity(a) y = Neg(d) z = Identity(c) }""",
        tolerance=0,
    )


def test_what_a_trip_hands_on_unchanged() -> None:
    """An Identity in a body names an output of it; eliminate-identity then takes it away outside."""
    check(
        UnrollLoops(),
        loop(
            "d = Identity(c) t = Identity(s) u = Identity(w)",
            **(SWAP | {"constants": "int64 n = {1}, bool go = {1}, float[2] w"}),
        ),
        "g (float[2] x, float[2] v) => (float[2] y, float[2] z) { y = Identity(x) z = Identity(w) }",
    )


@pytest.mark.parametrize(
    "how",
    [
        {"constants": "int64 n = {0}, bool go = {1}, float[2] w"},
        {"constants": "int64 n = {3}, bool go = {0}, float[2] w"},
        {"constants": "int64 n = {-2}, bool go = {1}, float[2] w"},
    ],
)
def test_no_trip(how: dict[str, str], executed: Any) -> None:
    text = {"gives": "bool d, float[2] t, float[2] e", "results": "r, z", "outputs": "float[2] y, float[0,2] z"}
    module = executed(
        UnrollLoops(),
        loop("d = Identity(c) t = Neg(s) e = Mul(t, w)", **text, after="y = Abs(r)", **how),
        "g (float[2] x) => (float[2] y, float[0,2] z) { z = Identity(k) y = Abs(x) }",
    )
    assert [v.const_value.shape.numpy() for v in module.graph.initializers.values() if v.const_value] == [(0, 2)]


def test_the_condition_ends_after_one_trip() -> None:
    check(
        UnrollLoops(max_trips=0, max_nodes=0),
        loop("d = Identity(stop) t = Neg(s)", trips="", constants="bool go = {1}, bool stop = {0}"),
        "g (float[2] x) => (float[2] y) { y = Neg(x) }",
    )


COUNTED = {
    "trips": "",
    "init": "x, k0",
    "enters": "int64 i, bool c, float[2] s, int64 k",
    "gives": "bool d, float[2] t, int64 m",
    "results": "y, z",
    "outputs": "float[2] y",
    "constants": "int64 k0 = {1}, int64 two = {2}, int64 end = {6}",
    "before": "go = Less(k0, end)",
}


def test_a_counter_that_is_compared_ends_the_loop() -> None:
    check(
        UnrollLoops(),
        loop("t = Neg(s) m = Add(k, two) d = Less(m, end)", **COUNTED),
        "g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Neg(b) }",
    )


def test_scan_elements_and_stacks_along_any_axis_in_both_directions(executed: Any) -> None:
    executed(
        UnrollLoops(),
        """g (float[2] h, float[2,3] x, float[3,2] v) => (float[2] y, float[2,3] z, float[3,2] q) {
            y, z, q = Scan(h, x, v) <num_scan_inputs = 2, scan_input_axes = [1, 0], scan_input_directions = [0, 1],
                scan_output_axes = [1, 0], scan_output_directions = [1, 0],
                body = b (float[2] s, float[2] e, float[2] f) => (float[2] t, float[2] u, float[2] p) {
                    t = Add(s, e) u = Mul(e, f) p = Neg(f) }> }""",
        """g (float[2] h, float[2,3] x, float[3,2] v) => (float[2] y, float[2,3] z, float[3,2] q) {
            e0 = Gather<axis = 1>(x, i0) f0 = Gather<axis = 0>(v, i2) a = Add(h, e0) u0 = Mul(e0, f0) p0 = Neg(f0)
            e1 = Gather<axis = 1>(x, i1) f1 = Gather<axis = 0>(v, i1b) b = Add(a, e1) u1 = Mul(e1, f1) p1 = Neg(f1)
            e2 = Gather<axis = 1>(x, i2b) f2 = Gather<axis = 0>(v, i0b) y = Add(b, e2) u2 = Mul(e2, f2) p2 = Neg(f2)
            s2 = Unsqueeze(u2, one) s1 = Unsqueeze(u1, one) s0 = Unsqueeze(u0, one) z = Concat<axis = 1>(s2, s1, s0)
            t0 = Unsqueeze(p0, zero) t1 = Unsqueeze(p1, zero) t2 = Unsqueeze(p2, zero)
            q = Concat<axis = 0>(t0, t1, t2) }""",
        tolerance=0,
    )


def test_nested_graphs_are_copied_with_what_they_capture() -> None:
    body = """d = Identity(c) k = Constant<value = float[2] {2.0, 4.0}>()
        t = If(flag) <then_branch = p () => (float[2] a) { q = Mul(s, k) a = Add(q, w) },
                      else_branch = e () => (float[2] o) { o = Neg(s) }>"""
    once = """If(flag) <then_branch = p () => (float[2] {1}a) {{ {1}q = Mul({0}, k) {1}a = Add({1}q, w) }},
                         else_branch = e () => (float[2] {1}o) {{ {1}o = Neg({0}) }}>"""
    check(
        UnrollLoops(),
        loop(body, inputs=", bool flag", constants="int64 n = {2}, bool go = {1}, float[2] w"),
        "g (float[2] x, bool flag) => (float[2] y) <float[2] k = {1, 1}, float[2] w = {1, 1}> "
        f"{{ f = {once.format('x', 'm')} y = {once.format('f', 'n')} }}",
        tolerance=0,
    )


def test_loops_in_loops() -> None:
    inner = """t = Loop(n, go, s) <body = i (int64 j, bool f, float[2] o) => (bool h, float[2] p) {
        h = Identity(f) p = Mul(o, w) }>"""
    check(
        UnrollLoops(),
        loop(f"d = Identity(c) {inner}", constants="int64 n = {2}, bool go = {1}, float[2] w"),
        "g (float[2] x) => (float[2] y) { a = Mul(x, w) b = Mul(a, w) c = Mul(b, w) y = Mul(c, w) }",
    )


def test_trips_known_from_a_shape() -> None:
    check(
        UnrollLoops(),
        loop(
            "d = Identity(c) t = Neg(s)",
            before="sh = Shape(v) n = Gather<axis = 0>(sh, zero)",
            inputs=", float[2,5] v",
            constants="bool go = {1}, int64 zero = {0}",
        ),
        "g (float[2] x, float[2,5] v) => (float[2] y) { a = Neg(x) y = Neg(a) }",
    )


def test_two_results_that_are_the_same_value() -> None:
    check(
        UnrollLoops(),
        loop(
            "d = Identity(c) t = Identity(s) u = Identity(r)",
            **(SWAP | {"init": "x, x", "inputs": "", "constants": "int64 n = {0}, bool go = {1}"}),
        ),
        "g (float[2] x) => (float[2] y, float[2] z) { y = Identity(x) z = Identity(x) }",
    )


@pytest.mark.parametrize(
    ("how", "because"),
    [
        ({"inputs": ", int64 n", "constants": "bool go = {1}, float[2] w"}, "how often"),
        ({"inputs": ", bool go", "constants": "int64 n = {3}, float[2] w"}, "how often"),
        ({"constants": "int64 n = {33}, bool go = {1}, float[2] w"}, "33 trips are more than 32"),
        ({"body": "d = Identity(flag) t = Neg(s)", "inputs": ", bool flag"}, "how often"),
        ({"body": "d = Identity(c) r = RandomNormalLike(s) t = Add(r, s)"}, "draws anew"),
        (
            {
                "body": "d = Identity(c) "
                + "".join(f"v{k} = Neg({f'v{k - 1}' if k else 's'}) " for k in range(85))
                + "t = Neg(v84)"
            },
            "261 nodes are more than 256",
        ),
    ],
)
def test_stays(how: dict[str, str], because: str) -> None:
    check(UnrollLoops(), loop(**({"body": "d = Identity(c) t = Mul(s, w)"} | how)), None, because=because)


@pytest.mark.parametrize(("axis", "shape"), [(0, "0,3,2"), (1, "3,0,2"), (-1, "3,2,0")])
def test_a_scan_of_nothing_stacks_nothing(axis: int, shape: str) -> None:
    """By its shape alone: onnxruntime refuses to scan a tensor without elements."""
    text = f"""g (float[3,2] x) => (float[{shape}] y) <int64[1] zero = {{0}}> {{ e = Slice(x, zero, zero, zero)
        z = Scan(e) <num_scan_inputs = 1, scan_output_axes = [{axis}], body = b (float[2] s) => (float[3,2] f) {{
            u = Unsqueeze(s, zero) f = Concat<axis = 0>(u, u, u) }}> y = Abs(z) }}"""
    module = read(testing.model_from(text))
    shapes.infer(module)
    assert run_pass(UnrollLoops(), module, PassContext(get_target("cpu"), Log(strict=True))) == 1
    ir.verify(module)
    (made,) = [n.inputs[0] for n in module.nodes() if n.op_type == "Abs"]
    array = ir.Module.constant(made)
    assert array is not None
    assert ",".join(map(str, array.shape)) == shape


def test_no_trip_stacks_nothing_of_unknown_shape() -> None:
    check(
        UnrollLoops(),
        """g (float[N] x) => (float[N] y, float[K,N] z) <int64 n = {0}, bool go = {1}> {
            y, z = Loop(n, go, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] t, float[N] e) {
                d = Identity(c) t = Neg(s) e = Abs(t) }> }""",
        None,
        because="the shape of 'e' is not known",
    )


def test_what_no_trip_stacks_may_be_unknown_when_nobody_uses_it(executed: Any) -> None:
    executed(
        UnrollLoops(),
        """g (float[N] x) => (float[N] y) <int64 n = {0}, bool go = {1}> {
            k, z = Loop(n, go, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] t, float[N] e) {
                d = Identity(c) t = Neg(s) e = Abs(t) }> y = Abs(k) }""",
        "g (float[N] x) => (float[N] y) { y = Abs(x) }",
    )


def test_sequences_are_left_alone() -> None:
    check(
        UnrollLoops(),
        """g (float[2] x) => (float[2] y) <int64 n = {2}, bool go = {1}, int64 at = {0}> {
            q = SequenceConstruct(x)
            r = Loop(n, go, q) <body = b (int64 i, bool c, seq(float[2]) s) => (bool d, seq(float[2]) t) {
                d = Identity(c) t = SequenceInsert(s, x) }>
            y = SequenceAt(r, at) }""",
        None,
        because="no tensor",
    )


def test_a_scan_over_a_symbol() -> None:
    check(
        UnrollLoops(),
        """g (float[T,2] x) => (float[T,2] y) {
            y = Scan(x) <num_scan_inputs = 1, body = b (float[2] e) => (float[2] f) { f = Neg(e) }> }""",
        None,
        because="how often",
    )


def test_older_opsets_are_left_alone() -> None:
    module = read(testing.model_from(loop("d = Identity(c) t = Neg(s)"), 21, {}, 0))
    shapes.infer(module)
    module.model.opset_imports[""] = 12
    log = Log(strict=True)
    assert run_pass(UnrollLoops(), module, PassContext(get_target("cpu"), log)) == 0
    assert "before opset 13" in log.refused[0].reason


def test_one_trip_is_inlined_whatever_is_in_it() -> None:
    body = "d = Identity(c) r = RandomNormalLike(s) z = Sub(r, r) u = Mul(s, w) t = Add(u, z)"
    check(
        UnrollLoops(max_nodes=0, max_trips=0),
        loop(body, constants="int64 n = {1}, bool go = {1}, float[2] w"),
        "g (float[2] x) => (float[2] y) { r = RandomNormalLike(x) z = Sub(r, r) u = Mul(x, w) y = Add(u, z) }",
    )


def test_the_budgets_are_inclusive_and_opset_13_will_do() -> None:
    module = check(
        UnrollLoops(max_trips=3, max_nodes=6),
        loop("d = Identity(c) t = Neg(s)"),
        "g (float[2] x) => (float[2] y) { a = Neg(x) b = Neg(a) y = Neg(b) }",
        opset=13,
    )
    assert module.opset() == 13
    check(UnrollLoops(max_trips=2), loop("d = Identity(c) t = Neg(s)"), None, because="3 trips are more than 2")
    check(UnrollLoops(max_nodes=5), loop("d = Identity(c) t = Neg(s)"), None, because="6 nodes are more than 5")


def test_what_is_stacked_may_have_any_shape_where_trips_run() -> None:
    text = """g (float[N] x) => (float[N] y, float[K,N] z) <int64 n = {COUNT}, bool go = {1}> {
        y, z = Loop(n, go, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] t, float[N] e) {
            d = Identity(c) t = Neg(s) e = Abs(t) }> }"""
    check(
        UnrollLoops(),
        text.replace("COUNT", "1"),
        "g (float[N] x) => (float[N] y, float[K,N] z) { y = Neg(x) e = Abs(y) z = Unsqueeze(e, zero) }",
    )
    check(
        UnrollLoops(),
        text.replace("COUNT", "2"),
        """g (float[N] x) => (float[N] y, float[K,N] z) { a = Neg(x) e = Abs(a) y = Neg(a) f = Abs(y)
        u = Unsqueeze(e, zero) v = Unsqueeze(f, zero) z = Concat<axis = 0>(u, v) }""",
    )


@pytest.mark.parametrize(
    ("kind", "body", "because"),
    [
        ("string[2]", "e = Identity(words)", "the type of 'e' is not known"),
        ("float[]", "e = Reshape(x, k)", "the type of 'e' is not known"),
    ],
)
def test_no_trip_stacks_nothing_of_unknown_type(kind: str, body: str, because: str) -> None:
    stacked = "string[K,2]" if kind.startswith("string") else "float[]"
    check(
        UnrollLoops(),
        f"""g (float[2] x, string[2] words, int64[M] k) => ({stacked} z) <int64 n = {{0}}, bool go = {{1}}> {{
            z = Loop(n, go) <body = b (int64 i, bool c) => (bool d, {kind} e) {{ d = Identity(c) {body} }}> }}""",
        None,
        because=because,
    )


def test_a_value_of_another_rank_than_the_body_declares() -> None:
    text = """g (float[1,N] x) => (float[] y) <int64 n = {1}, bool go = {1}> {
        y = Loop(n, go, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[] t) { d = Identity(c) t = Neg(s) }> }"""
    check(UnrollLoops(), text, None, because="takes a value of another rank")


def test_a_body_that_declares_another_shape_than_it_is_given() -> None:
    check(
        UnrollLoops(),
        """g (float[2] x, float[5] v) => (float[n] y, float[m] z) <int64 n = {3}, bool go = {1}> {
            y, z = Loop(n, go, x, v) <body = b (int64 i, bool c, float[2] s, float[2] r)
                => (bool d, float[k] t, float[l] u) { d = Identity(c) t = Neg(r) u = Identity(s) }> }""",
        None,
        because="another shape",
    )


def test_rows_of_a_type_that_concat_lacks_stay() -> None:
    text = """g () => (float8e4m3fn[2,3] p) <float8e4m3fn[3] a, int64 two = {2}, bool go = {1}> {
        p = Loop(two, go) <body = b (int64 i, bool c) => (bool d, float8e4m3fn[3] q) { d = Identity(c) q = Identity(a) }> }"""
    module = read(testing.model_from(text, 21, {"a": [1, 1, 1]}, 0))
    shapes.infer(module)
    log = Log(strict=True)
    assert run_pass(UnrollLoops(), module, PassContext(get_target("cpu"), log)) == 0
    assert log.refused[-1].reason == "Concat takes no FLOAT8E4M3FN"
