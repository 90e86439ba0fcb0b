"""convert-transpose: what moves only ones is a Reshape, what a Gemm can turn over is its attribute."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.passes.convert_transpose import ConvertTranspose
from fcc.testing import check


@pytest.mark.parametrize(
    ("dims", "perm", "out", "entries"),
    [
        ("2,1,3", [1, 0, 2], "1,2,3", [1, 2, 3]),
        ("N,1,3", [1, 0, 2], "1,N,3", [1, -1, 3]),
        ("N,1,3", [0, 2, 1], "N,3,1", [-1, 3, 1]),
        ("N,4,1,M", [0, 2, 1, 3], "N,1,4,M", [0, 1, 4, 0]),
        ("1,1", [1, 0], "1,1", [1, 1]),
    ],
)
def test_moving_ones_is_a_reshape(dims: str, perm: list[int], out: str, entries: list[int]) -> None:
    module = check(
        ConvertTranspose(),
        f"g (float[{dims}] x) => (float[{out}] y) {{ y = Transpose<perm={perm}>(x) }}",
        f"g (float[{dims}] x) => (float[{out}] y) {{ y = Reshape(x, c) }}",
    )
    (reshape,) = module.graph
    assert reshape.inputs[1] is not None
    found = ir.Module.constant(reshape.inputs[1])
    assert found is not None
    assert found.tolist() == entries


def test_the_default_permutation_counts() -> None:
    check(
        ConvertTranspose(),
        "g (float[1,4] x) => (float[4,1] y) { y = Transpose(x) }",
        "g (float[1,4] x) => (float[4,1] y) { y = Reshape(x, c) }",
    )


@pytest.mark.parametrize(
    "flags", [{"alpha": 2.0}, {"alpha": 1.0, "transA": 1}, {"beta": 2.0, "transB": 1}, {"transA": 1, "transB": 1}]
)
@pytest.mark.parametrize("index", [0, 1])
def test_a_gemm_turns_over_its_operand(flags: dict[str, float], index: int) -> None:
    sizes = {0: "3,4" if flags.get("transA") else "4,3", 1: "5,3" if flags.get("transB") else "3,5"}
    inputs = dict(sizes)
    inputs[index] = ",".join(reversed(inputs[index].split(",")))
    key = ("transA", "transB")[index]
    after = {**flags, key: 1 - flags.get(key, 0)}
    head = f"g (float[{inputs[0]}] a, float[{inputs[1]}] b, float[5] c) => (float[4,5] y) "
    operands = ["a", "b"]
    operands[index] = "t"
    check(
        ConvertTranspose(),
        head + f"{{ t = Transpose<perm=[1,0]>({'ab'[index]}) y = Gemm<{_text(flags)}>({', '.join(operands)}, c) }}",
        head + f"{{ y = Gemm<{_text(after)}>(a, b, c) }}",
    )


def test_a_transpose_that_others_use_stays_and_the_gemm_reads_its_input() -> None:
    check(
        ConvertTranspose(),
        "g (float[3,4] a, float[3,5] b) => (float[4,5] y, float[4,3] z) { z = Transpose<perm=[1,0]>(a) y = Gemm(z, b) }",
        "g (float[3,4] a, float[3,5] b) => (float[4,5] y, float[4,3] z) { z = Transpose<perm=[1,0]>(a)"
        " y = Gemm<transA=1>(a, b) }",
    )


REFUSED = {
    "it moves dimensions": ("g (float[2,3] x) => (float[3,2] y) { y = Transpose<perm=[1,0]>(x) }", ""),
    "two symbols change places": ("g (float[N,1,M] x) => (float[M,1,N] y) { y = Transpose<perm=[2,1,0]>(x) }", "moves"),
    "two symbols move together": (
        "g (float[1,N,M] x) => (float[N,M,1] y) { y = Transpose<perm=[1,2,0]>(x) }",
        "depend on symbols",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_stays(name: str) -> None:
    text, because = REFUSED[name]
    check(ConvertTranspose(), text, None, because=because)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=4).flatmap(
        lambda d: st.tuples(st.just(d), st.permutations(range(len(d))))
    )
)
def test_any_permutation_of_ones(case: tuple[list[int], list[int]]) -> None:
    dims, perm = case
    moved = [i for i in perm if dims[i] != 1]
    text = f"g (float{dims} x) => (float{[dims[i] for i in perm]} y) {{ "
    after = text + "y = Reshape(x, c) }" if moved == sorted(moved) else None
    check(ConvertTranspose(), text + f"y = Transpose<perm={perm}>(x) }}", after)


def _text(flags: dict[str, float]) -> str:
    return ", ".join(f"{k}={v}" for k, v in flags.items())
