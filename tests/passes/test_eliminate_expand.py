import pytest

from fcc.passes.eliminate_expand import EliminateExpand
from fcc.testing import check

HEAD = "g (float[N,4] x, float[1,4] z, int64[2] s) => (float[N,4] y)"


def test_operand_that_the_other_one_broadcasts() -> None:
    check(
        EliminateExpand(),
        "g (float[N,4] x, float[4] z) => (float[N,4] y) { s = Shape(x) e = Expand(z, s) y = Add(e, x) }",
        "g (float[N,4] x, float[4] z) => (float[N,4] y) { s = Shape(x) y = Add(z, x) }",
    )


def test_elementwise_operators_in_between() -> None:
    check(
        EliminateExpand(),
        "g (float[N,4] x, float[1,4] z) => (float[N,4] y) { s = Shape(x) e = Expand(z, s) a = Exp(e) b = Neg(a) y = Mul(x, b) }",
        "g (float[N,4] x, float[1,4] z) => (float[N,4] y) { s = Shape(x) a = Exp(z) b = Neg(a) y = Mul(x, b) }",
    )


def test_index_of_a_table() -> None:
    head = "g (float[N,4,8] x) => (float[N,4,8] y) <int64[1,4] i, float[5,8] t, int64[2] k = {0,1}>"
    check(
        EliminateExpand(),
        head + " { s = Shape<start=0, end=2>(x) e = Expand(i, s) g = Gather(t, e) y = Add(x, g) }",
        head + " { s = Shape<start=0, end=2>(x) g = Gather(t, i) y = Add(x, g) }",
    )


def test_index_of_lower_rank_and_elementwise_in_front_of_the_table() -> None:
    head = "g (float[N,4,8] x) => (float[N,4,8] y) <int64[4] i, float[5,8] t>"
    check(
        EliminateExpand(),
        head
        + " { s = Shape<start=0, end=2>(x) e = Expand(i, s) q = Abs(e) g = Gather(t, q) n = Neg(g) y = Add(x, n) }",
        head + " { s = Shape<start=0, end=2>(x) q = Abs(i) g = Gather(t, q) n = Neg(g) y = Add(x, n) }",
    )


def test_index_that_the_table_makes_too_small_stays() -> None:
    check(
        EliminateExpand(),
        """g (float[1,4,8] x) => (float[N,4,8] y) <int64[1,4] i, float[5,8] t, int64[2] k = {3,4}>
        { e = Expand(i, k) g = Gather(t, e) y = Add(x, g) }""".replace("float[N,4,8] y", "float[3,4,8] y"),
        None,
        because="not known to",
    )


def test_where_takes_all_three_operands_into_account() -> None:
    head = "g (bool[1,4] c, float[N,4] x, float[1] z) => (float[N,4] y)"
    check(
        EliminateExpand(),
        head + " { s = Shape(x) e = Expand(c, s) y = Where(e, x, z) }",
        head + " { s = Shape(x) y = Where(c, x, z) }",
    )


@pytest.mark.parametrize(
    ("repeat", "left"),
    [
        ("t = Tile(z, rows)", "y = Add(x, z)"),
        ("t = Tile(z, rows) u = Neg(t) v = Exp(u)", "u = Neg(z) v = Exp(u) y = Add(x, v)"),
        ("t = Concat<axis=0>(z, z, z)", "y = Add(x, z)"),
        ("s = Shape(x) t = ConstantOfShape<value=float[1]{2.5}>(s)", "s = Shape(x) y = Add(x, k)"),
        ("s = Shape(x) t = ConstantOfShape(s) u = Exp(t)", "s = Shape(x) u = Exp(k) y = Add(x, u)"),
    ],
)
def test_other_repetitions(repeat: str, left: str) -> None:
    head = "g (float[3,4] x, float[1,4] z) => (float[3,4] y)"
    end = repeat.split(" = ")[-2].split()[-1]
    check(
        EliminateExpand(),
        f"{head} <int64[2] rows> {{ {repeat} y = Add(x, {end}) }}",
        f"{head} {{ {left} }}",
        constants={"rows": [3, 1]},
    )


def test_integers_of_one_number() -> None:
    head = "g (int64[N] x) => (int64[N] y)"
    check(
        EliminateExpand(),
        f"{head} {{ s = Shape(x) t = ConstantOfShape<value=int64[1]{{7}}>(s) y = Mul(t, x) }}",
        f"{head} {{ s = Shape(x) y = Mul(k, x) }}",
    )


@pytest.mark.parametrize(
    "repeat",
    [
        "t = Tile(z, columns)",
        "t = Tile(z, open)",
        "t = Concat<axis=1>(h, h)",
        "t = Concat<axis=0>(z, z, w)",
        "t = Concat<axis=0>(x)",
    ],
)
def test_repetitions_of_more_than_one_are_no_site(repeat: str) -> None:
    head = "g (float[3,4] x, float[1,4] z, float[1,4] w, float[3,2] h, int64[2] open) => (float[3,4] y)"
    text = f"{head} <int64[2] columns> {{ {repeat} y = Add(x, t) }}"
    check(EliminateExpand(), text.replace("(z, columns)", "(h, columns)"), None, constants={"columns": [1, 2]})


def test_a_number_that_gives_the_shape_stays() -> None:
    head = "g (float[3,4] x) => (float[2,3,4] y)"
    text = f"{head} <int64[3] s> {{ t = ConstantOfShape(s) y = Add(x, t) }}"
    check(EliminateExpand(), text, None, because="not known to", constants={"s": [2, 3, 4]})


@pytest.mark.parametrize(
    ("text", "because"),
    [
        (
            "g (float[1,4] x, float[1,4] z, int64[2] s) => (float[N,4] y) { e = Expand(z, s) y = Add(x, e) }",
            "not known to",
        ),
        (
            "g (float[N,4] x, float[4] z, int64[2] s) => (float[M,4] y) { e = Expand(z, s) y = Add(x, e) }",
            "not known to",
        ),
        (
            "g (float[2,4] x, float[1,4] z) => (float[3,2,4] y) <int64[3] s = {3,2,4}> { e = Expand(z, s) y = Add(x, e) }",
            "not known to",
        ),
        (
            """g (bool c, float[N,4] x, float[4] z) => (float[N,4] y) { s = Shape(x) e = Expand(z, s) y = If (c)
            <then_branch = t () => (float[N,4] u) { u = Add(x, e) }, else_branch = f () => (float[N,4] v) { v = Exp(e) }> }""",
            "another graph",
        ),
    ],
    ids=["needed", "unrelated", "higher rank", "subgraph"],
)
def test_stays(text: str, because: str) -> None:
    check(EliminateExpand(), text, None, because=because)


def test_value_in_between_with_another_user_is_no_site() -> None:
    check(
        EliminateExpand(),
        """g (float[N,4] x, float[4] z) => (float[N,4] y, float[N,4] w)
        { s = Shape(x) e = Expand(z, s) a = Exp(e) y = Add(x, a) w = Neg(a) }""",
        None,
    )


def test_table_along_another_axis_is_no_site() -> None:
    check(
        EliminateExpand(),
        """g (float[8,N,4] x) => (float[8,N,4] y) <int64[1,4] i, float[8,5] t>
        { s = Shape<start=1>(x) e = Expand(i, s) g = Gather<axis=1>(t, e) y = Add(x, g) }""",
        None,
    )
