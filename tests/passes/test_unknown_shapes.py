"""What passes say where a rank, a size or an operand is not known."""

from __future__ import annotations

from typing import Any

import pytest

from fcc.backends.lower_contrib import LowerContrib
from fcc.backends.lower_normalization import LowerNormalization
from fcc.backends.lower_windows import LowerWindows
from fcc.passes.convert_sequences import ConvertSequences
from fcc.passes.convert_transpose import ConvertTranspose
from fcc.passes.eliminate_affine_gather import EliminateAffineGather
from fcc.passes.eliminate_expand import EliminateExpand
from fcc.passes.fold_pad import FoldPad
from fcc.passes.fold_shapes import FoldShapes
from fcc.passes.merge_chains import MergeChains
from fcc.passes.merge_concats import MergeConcats
from fcc.passes.merge_reductions import MergeReductions
from fcc.passes.merge_slices import MergeSlices
from fcc.rewrite import Pass
from fcc.testing import check

NUMBERS: dict[str, Any] = {"one": 1, "two": [2, 3], "zero": 0, "pads": [0, 0, 1, 0, 0, 1]}
HELD = "<int64[1] one, int64[2] two, int64[1] zero, int64[6] pads, float[3,2,2] w>"
UNKNOWN: list[tuple[Pass, str, str, str]] = [
    # pass; inputs and result; body; reason
    (MergeChains(), "float[] x) => (float[] y", "a = Transpose(x) y = Transpose(a)", "the rank is not known"),
    (ConvertTranspose(), "float[] x) => (float[] y", "y = Transpose(x)", "the rank is not known"),
    (EliminateAffineGather(), "float[] x) => (float[] y", "y = Gather(x, two)", "a rank is not known"),
    (EliminateExpand(), "float[] x, float[1,3] z) => (float[] y", "a = Expand(z, two) y = Add(x, a)", "a shape is not known"),
    (EliminateExpand(), "float[2,3] x, float[] z) => (float[] y", "a = Expand(z, two) y = Add(x, a)", "a shape is not known"),
    (FoldPad(), "float[] x, float[] k) => (float[] y", "a = Pad(x, pads) y = Conv(a, k)", "the rank of the input is not known"),
    (ConvertSequences(), "float[] x) => (float[] y", "s = SplitToSequence(x) y = SequenceAt(s, n)", "the rank of the input is not known"),
    (MergeSlices(), "float[N,9] x, int64[1] k) => (float[N,M] y", "a = Slice(x, zero, one, k) y = Slice(a, zero, one, one)", "the axes or steps are not known"),
    (MergeSlices(), "float[N,9] x, int64[1] k) => (float[N,M] y", "a = Slice(x, zero, one, one, k) y = Slice(a, zero, one, one)", "the axes or steps are not known"),
    (MergeSlices(), "float[] x) => (float[] y", "a = Slice(x, zero, one) y = Slice(a, zero, one)", "the bounds or the rank are not known"),
    (FoldShapes(), "float[N,3] x, int64[1] k) => (float[N,3] y", "s = Shape<start=0,end=1>(x) y = Slice(x, zero, s, k)", "the axes or steps are not known"),
    (FoldShapes(), "float[] x) => (float[] y", "s = Shape(x) y = Reshape(x, s)", ""),
    (MergeReductions(), "float[N,4] x, int64[1] k) => (float[] y", "a = ReduceSum(x, k) y = ReduceSum(a, zero)", ""),
    (MergeConcats(), "float[] x, float[] z) => (float[] y", "a = Concat<axis=0>(x, z) y = Concat<axis=0>(a, x)", ""),
]  # fmt: skip


@pytest.mark.parametrize(("p", "io", "body", "because"), UNKNOWN, ids=[f"{p.name}: {b}" for p, _, b, _ in UNKNOWN])
def test_passes(p: Pass, io: str, body: str, because: str) -> None:
    held = HELD[:-1] + ", int64 n>"
    check(p, f"g ({io}) {held} {{ {body} }}", None, because=because, constants={**NUMBERS, "n": 0})


LOWERED: list[tuple[Pass, str, str, int, str, str]] = [
    (LowerWindows(), "float[] x) => (float[] y", "y = MaxPool<kernel_shape=[2,2]>(x)", 22, "cuda", "the rank of the input is not known"),
    (LowerWindows(), "int8[1,1,4,4] x) => (int8[1,1,3,3] y", "y = MaxPool<kernel_shape=[2,2]>(x)", 22, "cuda", "only floats"),
    (LowerWindows(), "float[1,1,4,4] x) => (float[1,1,3,3] y, int64[1,1,3,3] i", "y, i = MaxPool<kernel_shape=[2,2]>(x)", 22, "cuda", "an output is used"),
    (LowerContrib(), "float[1,3,4] x) => (float[1,3,3] y", 'y = com.microsoft.FusedConv<activation="Cube">(x, w)', 21, "tensorrt", "activation Cube is not known"),
    (LowerContrib(), "float[1,2,4] x) => (float[1,3,3] y", 'y = com.microsoft.FusedConv<activation="Clip",activation_params=[1.0]>(x, w)', 21, "tensorrt", "lacks parameters"),
    (LowerContrib(), "float[] x, float[4] s) => (float[] y", "y = com.microsoft.SkipLayerNormalization(x, x, s)", 21, "tensorrt", "ranks"),
    (LowerContrib(), "float[5,3,4] x, float[2,3,4] z, float[4] s) => (float[5,3,4] y", "y = com.microsoft.SkipLayerNormalization(x, z, s)", 21, "tensorrt", "does not broadcast"),
    (LowerNormalization(), "float[] x, float[2] s) => (float[] y", "y = InstanceNormalization(x, s, s)", 22, "cuda", "the rank of the input is not known"),
]  # fmt: skip


@pytest.mark.parametrize(("p", "io", "body", "opset", "target", "because"), LOWERED, ids=[r[5] for r in LOWERED])
def test_lowerings(p: Pass, io: str, body: str, opset: int, target: str, because: str) -> None:
    check(p, f"g ({io}) <float[3,2,2] w> {{ {body} }}", None, because=because, opset=opset, target=target)
