"""eliminate-loop-values: carried values that stay the same or decide over nothing, and what is stacked for nobody."""

from typing import Any

from fcc.passes.eliminate_loop_values import EliminateLoopValues
from fcc.testing import check

HEAD = "g (float[2] x, float[2] v{more}) => ({outputs}) <int64 n = {{3}}, bool go = {{1}}, float[2] w> {{ "
LOOP = """{results} = Loop(n, go, x, v) <body = b (int64 i, bool c, float[2] s, float[2] r) => (bool d, {gives}) {{
    d = Identity(c) {body} }}> {after} }}"""


def loop(
    body: str,
    gives: str = "float[2] t, float[2] u",
    results: str = "y, z",
    outputs: str = "float[2] y",
    after: str = "",
    more: str = "",
) -> str:
    return (HEAD + LOOP).format(**locals())


SMALL = (
    HEAD + "y = Loop(n, go, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t) {{ {body} }}> {after} }}"
)


def small(body: str, outputs: str = "float[2] y", after: str = "", more: str = "") -> str:
    return SMALL.format(**locals())


def test_what_every_trip_hands_on_is_captured() -> None:
    check(
        EliminateLoopValues(),
        loop("t = Mul(s, r) u = Identity(r)"),
        small("d = Identity(c) t = Mul(s, v)"),
        tolerance=0,
    )


def test_the_result_of_what_stays_the_same_is_what_it_started_as() -> None:
    check(
        EliminateLoopValues(),
        loop("t = Mul(s, r) u = Identity(r)", results="y, k", outputs="float[2] y, float[2] z", after="z = Neg(k)"),
        small("d = Identity(c) t = Mul(s, v)", outputs="float[2] y, float[2] z", after="z = Neg(v)"),
        tolerance=0,
    )


def test_a_trip_may_hand_on_what_it_starts_as() -> None:
    check(
        EliminateLoopValues(),
        loop("t = Mul(s, r) u = Identity(v)"),
        small("d = Identity(c) t = Mul(s, v)"),
        tolerance=0,
    )


def test_a_value_that_decides_over_itself_alone_goes_with_its_nodes() -> None:
    check(
        EliminateLoopValues(),
        loop("t = Mul(s, w) k = Add(r, w) u = Mul(k, r)"),
        small("d = Identity(c) t = Mul(s, w)"),
        tolerance=0,
    )


def test_values_that_decide_over_each_other_alone_go_together(executed: Any) -> None:
    executed(
        EliminateLoopValues(),
        loop("t = Mul(r, w) u = Add(s, w) e = Neg(w)", "float[2] t, float[2] u, float[2] e", "p, q, y", "float[K,2] y"),
        HEAD.format(more="", outputs="float[K,2] y")
        + "y = Loop(n, go) <body = b (int64 i, bool c) => (bool d, float[2] e) { d = Identity(c) e = Neg(w) }> }",
    )


def test_a_value_that_decides_over_a_result_stays() -> None:
    check(EliminateLoopValues(), loop("t = Add(s, r) u = Mul(r, w)"), None, because="changes and is used")


def test_a_value_that_decides_over_the_end_stays() -> None:
    text = """g (float[2] x) => (float[2] y) <int64 n = {9}, bool go = {1}, float[2] w, int64 k0 = {0}, int64 two = {2}> {
        y, z = Loop(n, go, x, k0) <body = b (int64 i, bool c, float[2] s, int64 k) => (bool d, float[2] t, int64 m) {
            m = Add(k, two) d = Less(m, n) t = Mul(s, w) }> }"""
    check(EliminateLoopValues(), text, None, because="changes and is used")


def test_a_value_that_a_nested_graph_captures_stays() -> None:
    body = """u = Mul(r, w) t = If(p) <then_branch = f () => (float[2] a) { a = Add(s, r) },
                                       else_branch = e () => (float[2] o) { o = Neg(s) }>"""
    check(EliminateLoopValues(), loop(body, more=", bool p"), None, because="changes and is used")


def test_what_is_stacked_for_nobody_goes() -> None:
    check(
        EliminateLoopValues(),
        loop(
            "t = Mul(s, w) u = Identity(r) e = Exp(s) o = Neg(t)",
            "float[2] t, float[2] u, float[2] e, float[2] o",
            "y, q, p, z",
            "float[2] y, float[K,2] z",
        ),
        HEAD.format(more="", outputs="float[2] y, float[K,2] z")
        + """y, z = Loop(n, go, x) <body = b (int64 i, bool c, float[2] s) => (bool d, float[2] t, float[2] o) {
            d = Identity(c) t = Mul(s, w) o = Neg(t) }> }""",
        tolerance=0,
    )


def test_a_loop_that_changes_nothing_goes() -> None:
    check(
        EliminateLoopValues(),
        loop("t = Identity(s) u = Mul(r, w)", after="y = Abs(k)", results="k, z"),
        HEAD.format(more="", outputs="float[2] y") + "y = Abs(x) }",
    )


def test_it_may_end_without_any_trip() -> None:
    text = loop(
        "t = Mul(s, r) u = Identity(r)", "float[2] t, float[2] u", "y, k", "float[2] y, float[2] z", "z = Neg(k)"
    )
    check(
        EliminateLoopValues(),
        text.replace("int64 n = {3}", "int64 n = {0}"),
        small("d = Identity(c) t = Mul(s, v)", outputs="float[2] y, float[2] z", after="z = Neg(v)").replace(
            "{3}", "{0}"
        ),
        tolerance=0,
    )


def test_shapes_that_contradict_each_other() -> None:
    check(
        EliminateLoopValues(),
        loop("t = Mul(s, w) q = Add(s, r) u = Identity(r)").replace("float[2] s, float[2] r", "float[2] s, float[1] r"),
        None,
        because="another shape",
    )


SCAN = """g (float[2] h, float[2] v, float[3,2] x, float[2,3] p) => ({outputs}) <float[2] w> {{
    {results} = Scan({enters}) <num_scan_inputs = {count}, {attributes}
        body = b ({inner}) => ({gives}) {{ {body} }}> }}"""


def test_a_scan_keeps_the_attributes_of_what_stays(executed: Any) -> None:
    executed(
        EliminateLoopValues(),
        SCAN.format(
            outputs="float[2] y, float[2,3] z",
            results="y, k, q, z",
            enters="h, v, x, p",
            count=2,
            attributes="""scan_input_axes = [0, 1], scan_input_directions = [0, 1],
                scan_output_axes = [0, 1], scan_output_directions = [0, 1],""",
            inner="float[2] s, float[2] r, float[2] e, float[2] f",
            gives="float[2] t, float[2] u, float[2] a, float[2] o",
            body="u = Identity(r) a = Neg(e) m = Mul(s, r) t = Add(m, f) o = Mul(t, f)",
        ),
        SCAN.format(
            outputs="float[2] y, float[2,3] z",
            results="y, z",
            enters="h, p",
            count=1,
            attributes="""scan_input_axes = [1], scan_input_directions = [1],
                scan_output_axes = [1], scan_output_directions = [1],""",
            inner="float[2] s, float[2] f",
            gives="float[2] t, float[2] o",
            body="m = Mul(s, v) t = Add(m, f) o = Mul(t, f)",
        ),
    )


def test_a_scan_keeps_one_sequence_and_no_empty_attribute(executed: Any) -> None:
    executed(
        EliminateLoopValues(),
        SCAN.format(
            outputs="float[2] y",
            results="y, z",
            enters="h, x",
            count=1,
            attributes="scan_output_axes = [0], scan_output_directions = [1],",
            inner="float[2] s, float[2] e",
            gives="float[2] t, float[2] o",
            body="t = Mul(s, w) o = Mul(e, w)",
        ),
        SCAN.format(
            outputs="float[2] y",
            results="y",
            enters="h, x",
            count=1,
            attributes="",
            inner="float[2] s, float[2] e",
            gives="float[2] t",
            body="t = Mul(s, w)",
        ),
    )


def test_what_has_no_view_is_left_alone() -> None:
    text = loop("t = Mul(s, r) u = Identity(r)").replace("y, z = Loop", "y = Loop")
    check(EliminateLoopValues(), text, None, because="another number")


def test_shapes_that_may_be_equal_fit() -> None:
    before = loop("t = Mul(s, r) u = Identity(r)").replace("float[2] x, float[2] v", "float[2] x, float[N] v")
    after = small("d = Identity(c) t = Mul(s, v)").replace("float[2] x, float[2] v", "float[2] x, float[N] v")
    check(EliminateLoopValues(), before, after, sizes={"N": 2}, tolerance=0)
    check(
        EliminateLoopValues(),
        loop("t = Mul(s, r) u = Identity(r)").replace("float[2] s, float[2] r", "float[2] s, float[] r"),
        small("d = Identity(c) t = Mul(s, v)"),
        tolerance=0,
    )


def test_another_rank_does_not_fit() -> None:
    before = loop("t = Mul(s, r) u = Identity(r)").replace("float[2] s, float[2] r", "float[2] s, float[1,2] r")
    check(EliminateLoopValues(), before, None, because="another rank")


def test_a_scan_whose_results_are_all_used_drops_a_sequence() -> None:
    scan = "y = Scan({}) <num_scan_inputs = {}, body = b (float[2] s{}) => (float[2] t) {{ t = Mul(s, w) }}> }}"
    head = "g (float[2] h, float[3,2] x, float[3,2] v) => (float[2] y) <float[2] w> { "
    check(
        EliminateLoopValues(),
        head + scan.format("h, x, v", 2, ", float[2] e, float[2] f"),
        head + scan.format("h, x", 1, ", float[2] e"),
        tolerance=0,
    )


def test_a_loop_that_nobody_uses_is_left_to_dead_code() -> None:
    check(EliminateLoopValues(), loop("t = Mul(s, r) u = Identity(r)", results="p, q", after="y = Neg(x)"), None)
