"""lower-windows: uneven ConvTranspose and MaxPool of opset 22 on cuda."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.backends.lower_windows import LowerWindows
from fcc.frontend import read
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check

ort = pytest.importorskip("onnxruntime")


def same(text: str, opset: int, **feeds: Any) -> list[str]:
    module = read(onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]>\n' + text))
    shapes.infer(module)
    models = [serde.serialize_model(module.clone().model)]
    assert run_pass(LowerWindows(), module, PassContext(target=get_target("cuda"), log=Log(strict=True))) == 1
    ir.verify(module)
    models.append(serde.serialize_model(module.model))
    old, new = (
        ort.InferenceSession(m.SerializeToString(), providers=["CPUExecutionProvider"]).run(None, feeds)[0]
        for m in models
    )
    assert old.shape == new.shape
    assert np.allclose(old, new, rtol=1e-5, atol=1e-5)
    again = PassContext(target=get_target("cuda"), log=Log(strict=True))
    assert run_pass(LowerWindows(), module, again) == 0
    return [n.op_type for n in module.nodes()]


def normal(*shape: int) -> Any:
    return np.random.default_rng(0).standard_normal(shape).astype(np.float32)


@pytest.mark.parametrize("sizes", [(7, 6), (9, 11), (4, 4)])
@pytest.mark.parametrize(
    "attributes",
    [
        "kernel_shape=[2,2],strides=[2,2]",
        "kernel_shape=[3,3],strides=[2,2],pads=[1,1,1,1]",
        "kernel_shape=[3,2],pads=[1,0,0,1]",
        "kernel_shape=[2,2],dilations=[2,3]",
        "kernel_shape=[1,1],strides=[2,2]",
    ],
)
def test_max_pool(attributes: str, sizes: tuple[int, int]) -> None:
    h, w = sizes
    text = f"g (float[N,3,{h},{w}] x) => (float[a,b,c,d] y) {{ y = MaxPool<{attributes}>(x) }}"
    assert "MaxPool" not in same(text, 22, x=normal(2, 3, *sizes))


def test_max_pool_of_one_axis() -> None:
    text = "g (float[N,3,11] x) => (float[a,b,c] y) { y = MaxPool<kernel_shape=[3],strides=[3]>(x) }"
    assert same(text, 22, x=normal(2, 3, 11)) == ["Slice", "Slice", "Slice", "Max", "Max"]


@pytest.mark.parametrize(
    "attributes",
    [
        "pads=[1,0,2,1],strides=[2,2]",
        "pads=[0,0,1,1]",
        "pads=[1,0,2,1],strides=[2,2],output_padding=[1,1]",
        'auto_pad="SAME_UPPER",strides=[2,2]',
        'auto_pad="SAME_LOWER",strides=[2,2],dilations=[2,1]',
        'auto_pad="SAME_LOWER",strides=[1,1]',
    ],
)
@pytest.mark.parametrize("opset", [13, 22])
def test_conv_transpose(attributes: str, opset: int) -> None:
    text = f"g (float[N,3,H,W] x, float[3,4,3,3] w, float[4] b) => (float[p,q,r,s] y) {{ y = ConvTranspose<{attributes}>(x, w, b) }}"
    assert "ConvTranspose" in same(text, opset, x=normal(2, 3, 5, 6), w=normal(3, 4, 3, 3), b=normal(4))


@pytest.mark.parametrize(
    ("node", "opset", "because"),
    [
        ("MaxPool<kernel_shape=[2,2]>(x)", 21, "has a kernel"),
        ("MaxPool<kernel_shape=[2,2],ceil_mode=1>(x)", 22, "ceil_mode"),
        ('MaxPool<kernel_shape=[2,2],auto_pad="SAME_UPPER">(x)', 22, "SAME_"),
        ("MaxPool<kernel_shape=[9,9]>(x)", 22, "above 8"),
        ("MaxPool<kernel_shape=[2,6],dilations=[1,2]>(x)", 22, "larger than the input"),
        ("MaxPool<kernel_shape=[8,2],dilations=[2,1],pads=[2,0,3,0]>(x)", 22, "larger than the input"),
        ('MaxPool<kernel_shape=[7,1],pads=[1,0,1,0],auto_pad="VALID">(x)', 22, "pads beside auto_pad"),
        ("ConvTranspose<pads=[1,1,1,1]>(x, w)", 22, "has a kernel"),
        ("ConvTranspose<pads=[1,0,0,0],output_shape=[9,9]>(x, w)", 22, "depend on the size"),
        ('ConvTranspose<auto_pad="SAME_UPPER",strides=[4,4]>(x, w)', 22, "negative"),
    ],
)
def test_what_stays(node: str, opset: int, because: str) -> None:
    text = f"g (float[1,3,9,9] x) => (float[a,b,c,d] y) <float[3,2,3,3] w> {{ y = {node} }}"
    check(LowerWindows(), before=text, after=None, because=because, opset=opset, target="cuda")


@pytest.mark.parametrize("pads", ['auto_pad="VALID"', "pads=[1,2,1,2]", 'auto_pad="NOTSET"'])
def test_a_type_without_a_kernel_is_no_matter_of_pads(pads: str) -> None:
    text = (
        f"g (bfloat16[1,3,9,9] x) => (bfloat16[a,b,c,d] y) <bfloat16[3,2,2,2] w> {{ y = ConvTranspose<{pads}>(x, w) }}"
    )
    check(LowerWindows(), before=text, after=None, because="symmetric", opset=22, target="cuda")


def test_a_size_that_may_be_smaller_than_the_window() -> None:
    """Of 1 element onnxruntime makes one window of 2."""
    text = "g (float[1,3,9,W] x) => (float[a,b,c,d] y) { y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x) }"
    check(LowerWindows(), before=text, after=None, because="may be larger than the input", opset=22, target="cuda")
    same(text.replace("[2,2],strides", "[2,1],strides"), 22, x=normal(1, 3, 9, 1))
