"""fuse-im2col: patches and overlapping windows of an image, times a matrix."""

from __future__ import annotations

from itertools import permutations
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc import ir
from fcc.passes.fuse_im2col import FuseIm2col
from fcc.testing import check

P = FuseIm2col()
IO = "g (float[N,3,8,6] x) => (float[N,12,5] y)"
SHAPES: dict[str, Any] = {"six": [0, 3, 4, 2, 3, 2], "rows": [0, 12, 12]}
NAMES = "int64[6] six, int64[3] rows"
PATCHES = "r = Reshape(x, six) p = Transpose<perm=[0,2,4,{0}]>(r) v = Reshape(p, rows)"
PRODUCT = "m = MatMul(v, w) y = Add(m, b)"
CONV = "c = Conv<kernel_shape=[2,2], strides=[2,2]>(x, w1, b)"


def holds(
    body: str, after: str | None, more: str = "float[12,5] w, float[5] b", io: str = IO, **options: Any
) -> ir.Module:
    new = None if after is None else f"{io} {{ {after} }}"
    constants = {**SHAPES, **options.pop("constants", {})}
    return check(P, before=f"{io} <{NAMES}, {more}> {{ {body} }}", after=new, constants=constants, **options)


# -- patches ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", [",".join(p) for p in permutations("135")])
def test_patches_in_any_order(order: str) -> None:
    holds(f"{PATCHES.format(order)} {PRODUCT}", f"{CONV} t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)")


@pytest.mark.parametrize(("bias", "added"), [("5", "m, b"), ("1,5", "b, m"), ("1,1,5", "m, b")])
def test_biases(bias: str, added: str) -> None:
    module = holds(f"{PATCHES.format('3,5,1')} m = MatMul(v, w) y = Add({added})",
                   f"{CONV} t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)", f"float[12,5] w, float[{bias}] b")  # fmt: skip
    assert any(
        v.const_value is not None and tuple(v.const_value.shape) == (5,) for v in module.graph.initializers.values()
    )


def test_without_a_bias() -> None:
    holds(f"{PATCHES.format('1,3,5')} y = MatMul(v, w)",
          "c = Conv<kernel_shape=[2,2], strides=[2,2]>(x, w1) t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)")  # fmt: skip


def test_an_addend_that_is_no_row_is_added_behind() -> None:
    holds(f"{PATCHES.format('1,3,5')} m = MatMul(v, w) y = Add(m, full)",
          """c = Conv<kernel_shape=[2,2], strides=[2,2]>(x, w1) t = Transpose<perm=[0,2,3,1]>(c) m = Reshape(t, s)
          y = Add(m, full)""", "float[12,5] w, float[1,12,5] full")  # fmt: skip


def test_positions_that_stay_apart() -> None:
    io = "g (float[N,3,8,6] x) => (float[N,4,3,5] y)"
    body = f"{PATCHES.format('1,3,5').replace('rows', 'grid')} {PRODUCT}"
    holds(
        body,
        f"{CONV} y = Transpose<perm=[0,2,3,1]>(c)",
        "float[12,5] w, float[5] b, int64[4] grid",
        io,
        constants={"grid": [0, 4, 3, 12]},
    )


def test_patches_of_all_images_as_one_matrix() -> None:
    io = "g (float[N,3,8,6] x) => (float[R,5] y)"
    body = f"{PATCHES.format('1,3,5').replace('rows', 'flat')} {PRODUCT}"
    holds(body, f"{CONV} t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)", "float[12,5] w, float[5] b, int64[2] flat", io,
          constants={"flat": [-1, 12]}, sizes={"N": 2, "R": 24})  # fmt: skip


def test_one_channel() -> None:
    io = "g (float[N,1,8,6] x) => (float[N,12,5] y)"
    holds(f"{PATCHES.format('1,3,5')} {PRODUCT}", f"{CONV} t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)",
          "float[4,5] w, float[5] b", io, constants={"six": [0, 1, 4, 2, 3, 2], "rows": [0, 12, 4]})  # fmt: skip


def test_patches_of_one_row() -> None:
    io = "g (float[N,3,8,6] x) => (float[N,24,5] y)"
    holds(f"r = Reshape(x, five) p = Transpose<perm=[0,2,3,1,4]>(r) v = Reshape(p, rows) {PRODUCT}",
          "c = Conv<kernel_shape=[1,2], strides=[1,2]>(x, w1, b) t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)",
          "float[6,5] w, float[5] b, int64[5] five", io, constants={"five": [0, 3, 8, 3, 2], "rows": [0, 24, 6]})  # fmt: skip


# -- overlapping windows ---------------------------------------------------------------------------------------------
UNFOLD = "r = Gather<axis=2>(x, i) q = Gather<axis=4>(r, j) p = Transpose<perm=[0,1,2,4,3,5]>(q) v = Reshape(p, flat)"


def unfold(kernel: int, stride: int, dilation: int, size: int) -> Any:
    count = (size - dilation * (kernel - 1) - 1) // stride + 1
    return np.arange(kernel)[:, None] * dilation + np.arange(count) * stride


@pytest.mark.parametrize(("stride", "dilation"), [(1, 1), (2, 1), (1, 2), (2, 3)])
def test_unfold(stride: int, dilation: int) -> None:
    """torch.nn.functional.unfold: a matrix on the left of [N, C * k * k, positions]."""
    rows, columns = unfold(3, stride, dilation, 10), unfold(2, 2, 1, 8)
    n = rows.shape[1] * columns.shape[1]
    io = f"g (float[N,3,10,8] x) => (float[N,5,{n}] y)"
    kinds = f"int64[3,{rows.shape[1]}] i, int64[2,{columns.shape[1]}] j, int64[3] flat, float[5,18] w"
    turned = f", dilations=[{dilation},1]" if dilation > 1 else ""
    holds(f"{UNFOLD} y = MatMul(w, v)", f"c = Conv<kernel_shape=[3,2], strides=[{stride},2]{turned}>(x, w1) y = Reshape(c, s)",
          kinds, io, constants={"i": rows, "j": columns, "flat": [0, 18, n]})  # fmt: skip


def test_unfold_on_the_left() -> None:
    rows, columns = unfold(3, 1, 1, 10), unfold(2, 2, 1, 8)
    io = "g (float[N,3,10,8] x) => (float[N,32,5] y)"
    body = UNFOLD.replace("[0,1,2,4,3,5]", "[0,3,5,1,2,4]").replace("flat", "back")
    holds(f"{body} y = MatMul(v, w)", """c = Conv<kernel_shape=[3,2], strides=[1,2]>(x, w1) t = Transpose<perm=[0,2,3,1]>(c)
          y = Reshape(t, s)""", "int64[3,8] i, int64[2,4] j, int64[3] back, float[18,5] w", io,
          constants={"i": rows, "j": columns, "back": [0, 32, 18]})  # fmt: skip


@pytest.mark.parametrize(
    ("rows", "because"),
    [
        (unfold(3, 1, 1, 9), "other windows"),
        (unfold(3, 1, 1, 10)[:, ::-1], "no windows"),
        (unfold(3, 1, 1, 10) + 1 - 1 + (np.arange(3)[:, None] == 2), "no windows"),
    ],
)
def test_other_gathers_stay(rows: Any, because: str) -> None:
    rows = np.clip(rows, 0, 9)
    n = rows.shape[1] * 4
    holds(f"{UNFOLD} y = MatMul(w, v)", None, f"int64[3,{rows.shape[1]}] i, int64[2,4] j, int64[3] flat, float[5,18] w",
          f"g (float[N,3,10,8] x) => (float[N,5,{n}] y)", because=because,
          constants={"i": rows, "j": unfold(2, 2, 1, 8), "flat": [0, 18, n]})  # fmt: skip


# -- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("body", "io", "because"),
    [
        (f"{PATCHES.format('1,3,5')} {PRODUCT} z = Neg(v)", IO.replace("y)", "y, float[N,12,12] z)"), "the windows have other users"),
        (f"{PATCHES.format('1,3,5')} {PRODUCT} z = Neg(w)", IO.replace("y)", "y, float[12,5] z)"), "the matrix has other users"),
        ("r = Reshape(x, six) p = Transpose<perm=[0,3,5,1,2,4]>(r) v = Reshape(p, k) m = MatMul(v, u) y = Add(m, b)",
         "g (float[N,3,8,6] x) => (float[N,4,5] y)", "its input holds no windows"),
        ("r = Reshape(x, six) p = Transpose<perm=[0,1,2,4,3,5]>(r) v = Reshape(p, k4) m = MatMul(v, w4) y = Add(m, b)",
         "g (float[N,3,8,6] x) => (float[N,36,5] y)", "do not hold all channels"),
        ("v = Reshape(x, k6) m = MatMul(v, w6) y = Add(m, b)", "g (float[N,3,8,6] x) => (float[N,24,5] y)",
         "one window along an axis"),
        ("t = Transpose<perm=[0,2,1,3]>(x) v = Reshape(t, k8) y = MatMul(v, w8)",  # merged heads, projected
         "g (float[N,3,8,6] x) => (float[N,8,5] y)", "one window along an axis"),
        (f"{PATCHES.format('1,3,5')} y = MatMul(v, w3)", "g (float[N,3,8,6] x) => (float[N,12,5] y)", "no matrix"),
    ],
)  # fmt: skip
def test_refusals(body: str, io: str, because: str) -> None:
    more = """float[12,5] w, float[5] b, float[1,12,5] full, int64[3] k, float[36,5] u, int64[3] k4, float[4,5] w4, int64[3] k6,
        float[6,5] w6, float[1,12,5] w3, int64[3] k8, float[18,5] w8"""
    holds(body, None, more, io, because=because,
          constants={"k": [0, 4, 36], "k4": [0, 36, 4], "k6": [0, 24, 6], "k8": [0, 8, 18]})  # fmt: skip


def test_a_computed_matrix_stays() -> None:
    io = IO.replace("x)", "x, float[12,5] w)")
    holds(f"{PATCHES.format('1,3,5')} {PRODUCT}", None, "float[5] b", io, because="'w' is not constant")


@given(data=st.data())
@settings(max_examples=25)
def test_generated(data: st.DataObject) -> None:
    d = data.draw
    n, c, m = (d(st.integers(1, 3)) for _ in range(3))
    h, w = d(st.integers(2, 3)), d(st.integers(2, 3))
    k, q = d(st.integers(1, 3)), d(st.integers(2, 3))
    order = d(st.permutations([1, 3, 5]))
    left = d(st.booleans())
    inside, count = c * k * q, h * w
    perm = [0, *order, 2, 4] if left else [0, 2, 4, *order]
    shape = f"{n},{inside},{count}" if left else f"{n},{count},{inside}"
    out = f"{n},{m},{count}" if left else f"{n},{count},{m}"
    product = "MatMul(w, v)" if left else "MatMul(v, w)"
    matrix = f"{m},{inside}" if left else f"{inside},{m}"
    text = f"""g (float[{n},{c},{h * k},{w * q}] x) => (float[{out}] y) <int64[6] six, int64[3] rows, float[{matrix}] w> {{
        r = Reshape(x, six) p = Transpose<perm=[{",".join(map(str, perm))}]>(r) v = Reshape(p, rows) y = {product} }}"""
    from onnx_ir import serde

    from fcc import testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import Log, PassContext, run_pass
    from fcc.target import get_target

    module = read(
        testing.model_from(text, 21, {"six": [n, c, h, k, w, q], "rows": list(map(int, shape.split(",")))}, 0)
    )
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    ctx = PassContext(get_target("cpu"), Log(strict=True))
    assert run_pass(P, module, ctx) == 1, ctx.log.refused
    ir.verify(module)
    assert next(x.op_type for x in module.nodes()) == "Conv"
    testing.same_outputs(before, serde.serialize_model(module.model))


@pytest.mark.parametrize(("opset", "fuses"), [(21, False), (22, True)])
def test_bfloat16_needs_a_conv_of_it(opset: int, fuses: bool) -> None:
    io = IO.replace("float", "bfloat16")
    body = f"{PATCHES.format('1,3,5')} y = MatMul(v, w)"
    after = "c = Conv<kernel_shape=[2,2], strides=[2,2]>(x, w1) t = Transpose<perm=[0,2,3,1]>(c) y = Reshape(t, s)"
    why = "" if fuses else "needs opset 22"
    holds(body, after if fuses else None, "bfloat16[12,5] w", io, opset=opset, because=why)


def test_double_has_no_conv() -> None:
    body = f"{PATCHES.format('1,3,5')} y = MatMul(v, w)"
    holds(body, None, "double[12,5] w", IO.replace("float", "double"), opset=22, because="no Conv of double")
