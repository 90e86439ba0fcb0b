from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.eliminate_zero_taps import EliminateZeroTaps
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

P = EliminateZeroTaps()
IO = "g (float[N,3,9,9] x) => (float[N,4,H,W] y)"


def kernel(zeros: Any, shape: tuple[int, ...] = (4, 3, 3, 3)) -> np.ndarray[Any, Any]:
    w = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
    w[(slice(None), slice(None), *zeros)] = 0
    return w


@pytest.mark.parametrize(
    ("zeros", "attributes", "after"),
    [
        ([[0, 2]], "pads=[1,1,1,1]", "kernel_shape=[1,3], pads=[0,1,0,1]"),
        ([slice(None), [0, 2]], "pads=[1,1,1,1]", "kernel_shape=[3,1], pads=[1,0,1,0]"),
        ([0], "pads=[1,1,1,1]", "kernel_shape=[2,3], pads=[0,1,1,1]"),
        ([2], "pads=[1,1,1,1]", "kernel_shape=[2,3], pads=[1,1,0,1]"),
        ([slice(None), 2], "pads=[0,1,1,2], strides=[2,1]", "strides=[2,1], kernel_shape=[3,2], pads=[0,1,1,1]"),
        ([0], "pads=[3,0,0,0], dilations=[2,1]", "dilations=[2,1], kernel_shape=[2,3], pads=[1,0,0,0]"),
        ([[0, 1]], "pads=[1,1,1,1]", "kernel_shape=[2,3], pads=[0,1,1,1]"),
        ([slice(None)], "pads=[2,2,2,2]", "kernel_shape=[1,1], pads=[0,0,2,2]"),
    ],
)
def test_borders(zeros: Any, attributes: str, after: str) -> None:
    text = f"{IO} <float[4,3,3,3] w, float[4] b> {{ y = Conv<{attributes}>(x, w, b) }}"
    check(P, before=text, after=f"{IO} {{ y = Conv<{after}>(x, w, b) }}", constants={"w": kernel(zeros)})


def test_one_dimension_and_groups() -> None:
    io = "g (float[N,4,9] x) => (float[N,4,L] y)"
    w = kernel([[0, 1]], (4, 1, 5))
    text = f"{io} <float[4,1,5] w> {{ y = Conv<group=4, pads=[2,2]>(x, w) }}"
    module = check(
        P, before=text, after=f"{io} {{ y = Conv<group=4, kernel_shape=[3], pads=[0,2]>(x, w) }}", constants={"w": w}
    )
    (node,) = module.nodes()
    kept = ir.Module.constant(node.inputs[1])
    assert kept is not None
    np.testing.assert_array_equal(kept, w[:, :, 2:])


@pytest.mark.parametrize(
    ("zeros", "attributes", "because"),
    [
        ([1], "pads=[1,1,1,1]", "no border of the kernel is zero"),
        ([0], "", "or the padding cannot shrink"),
        ([0], "pads=[0,1,1,1]", "or the padding cannot shrink"),
        ([2], "pads=[1,1,0,1]", "or the padding cannot shrink"),
        ([0], "pads=[1,0,0,0], dilations=[2,1]", "or the padding cannot shrink"),
        ([0], 'auto_pad="SAME_UPPER"', "computes its own padding"),
        ([0], 'auto_pad="VALID", pads=[1,1,1,1]', "computes its own padding"),
    ],
)
def test_what_stays(zeros: Any, attributes: str, because: str) -> None:
    text = f"{IO} <float[4,3,3,3] w> {{ y = Conv<{attributes}>(x, w) }}".replace("<>", "")
    check(P, before=text, after=None, because=because, constants={"w": kernel(zeros)})


def test_one_filter_that_is_not_zero_there_keeps_all() -> None:
    w = kernel([0])
    w[2, 1, 0, 1] = 1
    text = f"{IO} <float[4,3,3,3] w> {{ y = Conv<pads=[1,1,1,1]>(x, w) }}"
    check(P, before=text, after=None, because="no border", constants={"w": w})


def test_shared_single_and_variable_kernels_stay() -> None:
    text = f"{IO} <float[4,3,3,3] w> {{ a = Conv<pads=[1,1,1,1]>(x, w) b = Conv<pads=[1,1,1,1]>(x, w) y = Add(a, b) }}"
    check(P, before=text, after=None, because="the weight has other users", constants={"w": kernel([0])})
    text = f"{IO} <float[4,3,1,1] w> {{ y = Conv(x, w) }}"
    check(P, before=text, after=None, because="one tap", constants={"w": 0.0})
    text = "g (float[N,3,9,9] x, float[4,3,3,3] w) => (float[N,4,9,9] y) { y = Conv<pads=[1,1,1,1]>(x, w) }"
    check(P, before=text, after=None, because="not constant")


@settings(max_examples=40, deadline=None)
@given(
    taps=st.lists(st.booleans(), min_size=5, max_size=5),
    pads=st.tuples(st.integers(0, 4), st.integers(0, 4)),
    stride=st.integers(1, 3),
    dilation=st.integers(1, 2),
)
def test_any_row(taps: list[bool], pads: tuple[int, int], stride: int, dilation: int) -> None:
    w = np.random.default_rng(0).standard_normal((2, 1, 5)).astype(np.float32) * np.asarray(taps)
    text = (
        f"g (float[1,1,12] x) => (float[1,2,L] y) <float[2,1,5] w> "
        f"{{ y = Conv<pads=[{pads[0]},{pads[1]}], strides=[{stride}], dilations=[{dilation}]>(x, w) }}"
    )
    module = read(model_from(text, 21, {"w": w}, 0))
    shapes.infer(module)
    before = serde.serialize_model(module.clone().model)
    applied = run_pass(P, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    same_outputs(before, serde.serialize_model(module.model), tolerance=1e-6)
    front = taps.index(True) if any(taps) else 4
    back = taps[::-1].index(True) if any(taps) else 4
    assert applied == ((front > 0 and pads[0] >= dilation) or (back > 0 and pads[1] >= dilation))
