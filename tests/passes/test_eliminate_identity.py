from fcc.passes.eliminate_identity import EliminateIdentity
from fcc.testing import check


def test_identity_between_nodes() -> None:
    check(
        EliminateIdentity(),
        before="g (float[N,4] x) => (float[N,4] y) { a = Relu(x) b = Identity(a) y = Neg(b) }",
        after="g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Neg(a) }",
    )


def test_name_of_graph_output_moves_to_the_producer() -> None:
    check(
        EliminateIdentity(),
        before="g (float[N,4] x) => (float[N,4] y) { a = Relu(x) y = Identity(a) }",
        after="g (float[N,4] x) => (float[N,4] y) { y = Relu(x) }",
    )


def test_stays_between_input_and_output() -> None:
    check(
        EliminateIdentity(),
        before="g (float[N,4] x) => (float[N,4] y) { y = Identity(x) }",
        after=None,
        because="may not be an input",
    )


def test_stays_when_the_input_is_an_output_too() -> None:
    check(
        EliminateIdentity(),
        before="g (float[N,4] x) => (float[N,4] y, float[N,4] z) { y = Relu(x) z = Identity(y) }",
        after=None,
        because="graph output itself",
    )
