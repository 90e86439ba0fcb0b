"""convert-sequence-states: what a Loop appends to a sequence becomes a scan output."""

from typing import Any

import pytest

from fcc.passes.convert_sequence_states import ConvertSequenceStates
from fcc.testing import check

TEXT = """g (float[2,3] x{more}) => ({outputs}) <int64 n = {{4}}, bool go = {{1}}, float[2,3] w> {{ {before}
    {results} = Loop(n, go, {init}) <body = b (int64 i, bool c, {enters}) => (bool d, {gives}) {{
        d = Identity(c) {body} }}> {after} }}"""
APPEND = "t = Mul(s, w) v = Neg(t) u = SequenceInsert(q, v)"


def appending(
    body: str = APPEND,
    after: str = "y = ConcatFromSequence<axis = 0, new_axis = 1>(r)",
    outputs: str = "float[2,3] z, float[A,B,C] y",
    before: str = "e = SequenceEmpty<dtype = 1>()",
    results: str = "z, r",
    init: str = "x, e",
    enters: str = "float[2,3] s, seq(float[2,3]) q",
    gives: str = "float[2,3] t, seq(float[2,3]) u",
    more: str = "",
) -> str:
    return TEXT.format(**locals())


def stacking(
    body: str = "t = Mul(s, w) v = Neg(t)",
    after: str = "",
    results: str = "z, y",
    outputs: str = "float[2,3] z, float[A,B,C] y",
    init: str = "x",
    enters: str = "float[2,3] s",
    gives: str = "float[2,3] t, float[2,3] v",
) -> str:
    return TEXT.format(**locals(), before="", more="")


def test_a_stack_along_a_new_first_axis_is_the_scan_output(executed: Any) -> None:
    executed(ConvertSequenceStates(), appending(), stacking(), tolerance=0)


@pytest.mark.parametrize(
    ("join", "form", "outputs"),
    [
        ("axis = 1, new_axis = 1", "y = Transpose<perm = [1, 0, 2]>(r)", "float[A,B,C] y"),
        ("axis = -1, new_axis = 1", "y = Transpose<perm = [1, 2, 0]>(r)", "float[A,B,C] y"),
        ("axis = -3, new_axis = 1", "", "float[A,B,C] y"),
        ("axis = 0", "y = Reshape(r, k)", "float[A,C] y"),
        ("axis = 1", "t2 = Transpose<perm = [1, 0, 2]>(r) y = Reshape(t2, k)", "float[A,C] y"),
        ("axis = -1", "t2 = Transpose<perm = [1, 0, 2]>(r) y = Reshape(t2, k)", "float[A,C] y"),
    ],
)
def test_other_joins_move_and_merge_the_axes(join: str, form: str, outputs: str, executed: Any) -> None:
    executed(
        ConvertSequenceStates(),
        appending(after=f"y = ConcatFromSequence<{join}>(r)", outputs=f"float[2,3] z, {outputs}"),
        stacking(after=form, outputs=f"float[2,3] z, {outputs}", results="z, r" if form else "z, y"),
        tolerance=0,
    )


def test_what_else_is_carried_and_stacked_keeps_its_place(executed: Any) -> None:
    module = executed(
        ConvertSequenceStates(),
        appending(
            body="v = Mul(s, p) t = Add(s, w) u = SequenceInsert(q, v) a = Add(p, v) o = Exp(v)",
            before="e = SequenceEmpty<dtype = 1>()",
            init="x, e, x",
            results="z, r, k, m",
            enters="float[2,3] s, seq(float[2,3]) q, float[2,3] p",
            gives="float[2,3] t, seq(float[2,3]) u, float[2,3] a, float[2,3] o",
            outputs="float[2,3] z, float[2,3] k, float[4,2,3] m, float[A,B,C] y",
        ),
        stacking(
            body="v = Mul(s, p) t = Add(s, w) a = Add(p, v) o = Exp(v)",
            init="x, x",
            results="z, k, m, y",
            enters="float[2,3] s, float[2,3] p",
            gives="float[2,3] t, float[2,3] a, float[2,3] o, float[2,3] v",
            outputs="float[2,3] z, float[2,3] k, float[4,2,3] m, float[A,B,C] y",
        ),
        tolerance=0,
    )
    assert not {"SequenceEmpty", "SequenceInsert", "ConcatFromSequence"} & {n.op_type for n in module.nodes()}


def test_a_value_that_the_body_gives_already_is_given_twice(executed: Any) -> None:
    executed(
        ConvertSequenceStates(),
        appending(body="t = Mul(s, w) u = SequenceInsert(q, t)"),
        stacking(body="t = Mul(s, w) v = Identity(t)"),
        tolerance=0,
    )


def test_two_sequences_and_two_joins(executed: Any) -> None:
    executed(
        ConvertSequenceStates(),
        appending(
            body="t = Mul(s, w) u = SequenceInsert(q, t) v = SequenceInsert(p, s)",
            before="e = SequenceEmpty<dtype = 1>() f = SequenceEmpty<dtype = 1>()",
            init="x, e, f",
            results="z, r, m",
            enters="float[2,3] s, seq(float[2,3]) q, seq(float[2,3]) p",
            gives="float[2,3] t, seq(float[2,3]) u, seq(float[2,3]) v",
            after="""y = ConcatFromSequence<axis = 0, new_axis = 1>(r) k = ConcatFromSequence<axis = 0>(r)
                j = ConcatFromSequence<axis = 0, new_axis = 1>(m)""",
            outputs="float[2,3] z, float[A,B,C] y, float[D,C] k, float[A,B,C] j",
        ),
        stacking(
            body="t = Mul(s, w) a = Identity(t) b2 = Identity(s)",
            results="z, y, j",
            gives="float[2,3] t, float[2,3] a, float[2,3] b2",
            after="k = Reshape(y, sh)",
            outputs="float[2,3] z, float[A,B,C] y, float[D,C] k, float[A,B,C] j",
        ),
        tolerance=0,
    )


@pytest.mark.parametrize(
    ("how", "because"),
    [
        ({"body": "t = Mul(s, w) u = SequenceInsert(q, t, zero)", "before": "e = SequenceEmpty<dtype = 1>() zero = Constant<value_int = 0>()"}, "more with the sequence"),
        ({"body": "t = Mul(s, w) k = SequenceInsert(q, t) u = SequenceInsert(k, s)"}, "more with the sequence"),
        ({"body": "k = SequenceLength(q) f = Cast<to = 1>(k) t = Mul(s, f) u = SequenceInsert(q, t)"}, "more with the sequence"),
        ({"after": "k = Constant<value_int = 1>() y = SequenceAt(r, k)", "outputs": "float[2,3] z, float[A,B] y"}, "other than by joining"),
        ({"after": "y = ConcatFromSequence<axis = 0, new_axis = 1>(r)", "outputs": "float[2,3] z, float[A,B,C] y, seq(float[2,3]) r"}, "other than by joining"),
        (
            {
                "after": """y = If(go) <then_branch = f () => (float[A,B,C] a) { a = ConcatFromSequence<axis = 0, new_axis = 1>(r) },
                    else_branch = o () => (float[A,B,C] h) { h = Unsqueeze(x, k1) }>""",
                "before": "e = SequenceEmpty<dtype = 1>() k1 = Constant<value_ints = [0]>()",
            },
            "another graph",
        ),
        (
            {
                "body": "t = Mul(s, w) v = Gather(m, i) u = SequenceInsert(q, v)",
                "more": ", float[4,N,3] m",
                "after": "y = ConcatFromSequence<axis = 0>(r)",
                "outputs": "float[2,3] z, float[A,C] y",
            },
            "not known, or empty",
        ),
        (
            {
                "body": "t = Mul(s, w) v = Gather(m, i) u = SequenceInsert(q, v)",
                "more": ", float[4,0,3] m",
                "after": "y = ConcatFromSequence<axis = 0>(r)",
                "outputs": "float[2,3] z, float[A,C] y",
            },
            "not known, or empty",
        ),
    ],
)  # fmt: skip
def test_stays(how: dict[str, str], because: str) -> None:
    check(ConvertSequenceStates(), appending(**how), None, because=because)


MORE = {
    "an erased element": ({"body": "t = Mul(s, w) u = SequenceErase(q, i)"}, "more with the sequence"),
    "an append in a branch": (
        {
            "body": """t = Mul(s, w) u = If(c) <then_branch = f () => (seq(float[2,3]) a) { a = SequenceInsert(q, t) },
                else_branch = e2 () => (seq(float[2,3]) o) { o = SequenceConstruct(t) }>"""
        },
        "more with the sequence",
    ),
    "a sequence that is read after the append": (
        {
            "body": """u = SequenceInsert(q, s) k = SequenceLength(u) f = Cast<to = 1>(k) t = Mul(s, f)""",
        },
        "more with the sequence",
    ),
    "another sequence handed on": (
        {"body": "t = Mul(s, w) k = SequenceInsert(q, t) u = SequenceConstruct(t)"},
        "more with the sequence",
    ),
    "rows of unknown rank": (
        {
            "body": "t = Mul(s, w) v = Reshape(t, k) u = SequenceInsert(q, v)",
            "more": ", int64[M] k",
            "gives": "float[2,3] t, seq(float) u",
            "enters": "float[2,3] s, seq(float) q",
            "after": "y = ConcatFromSequence<axis = 0>(r)",
            "outputs": "float[2,3] z, float[] y",
        },
        "not known, or empty",
    ),
}


@pytest.mark.parametrize("case", MORE)
def test_stays_too(case: str) -> None:
    how, because = MORE[case]
    check(ConvertSequenceStates(), appending(**how), None, because=because)


def test_what_is_stacked_may_have_symbols(executed: Any) -> None:
    executed(
        ConvertSequenceStates(),
        appending(
            body="t = Mul(s, w) v = Gather(m, i) u = SequenceInsert(q, v)",
            more=", float[4,N] m",
            outputs="float[2,3] z, float[4,N] y",
        ),
        sizes={"N": 3},
    )


def test_a_sequence_of_unknown_rank() -> None:
    check(
        ConvertSequenceStates(),
        appending(
            body="t = Mul(s, w) v = Reshape(t, k) u = SequenceInsert(q, v)",
            more=", int64[M] k",
            gives="float[2,3] t, seq(float) u",
            enters="float[2,3] s, seq(float) q",
        ),
        None,
        because="the rank of what is stacked",
    )
