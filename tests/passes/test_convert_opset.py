"""convert-opset: raised as far as a fusion asks, the target has kernels and every node has a form."""

from __future__ import annotations

import re

import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.convert_opset import ConvertOpset
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

LAYER = (
    "m = ReduceMean<axes=[-1]>(x) d = Sub(x, m) q = Mul(d, d) v = ReduceMean<axes=[-1]>(q) ve = Add(v, e)"
    " s = Sqrt(ve) y = Div(d, s)"
)
RMS = "q = Mul(x, x) m = ReduceMean<axes=[-1]>(q) v = Add(m, e) s = Sqrt(v) n = Div(x, s) y = Mul(n, x)"


def raised(
    nodes: str, opset: int, p: ConvertOpset | None = None, target: str = "cpu", x: str = "float[2,4] x"
) -> tuple[int, list[str]]:
    text = f"g ({x}) => (float[2,4] y) <float e = {{0.01}}> {{ {nodes} }}"
    module = read(testing.model_from(text, opset, {}, 0))
    shapes.infer(module)
    p, ctx = p or ConvertOpset(), PassContext(get_target(target), Log(strict=True))
    before = module.opset()
    applied = run_pass(p, module, ctx)
    ir.verify(module)
    assert (module.opset() != before) == (applied == 1)
    assert run_pass(p, module, PassContext(get_target(target), Log(strict=True))) == 0
    return module.opset(), [r.reason for r in ctx.log.refused]


@pytest.mark.parametrize("opset", [9, 13, 16])
def test_layer_norm_asks_for_17(opset: int) -> None:
    assert raised(LAYER, opset)[0] == 17


@pytest.mark.parametrize("opset", [17, 18, 21])
def test_nothing_is_asked_above(opset: int) -> None:
    nodes = LAYER if opset < 18 else "y = Neg(x)"
    assert raised(nodes, opset) == (opset, [f"nothing in it needs an opset above {opset}"])


def test_nothing_to_fuse() -> None:
    assert raised("s = Sqrt(x) y = Add(s, e)", 13) == (13, ["nothing in it needs an opset above 13"])


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
def test_rms_norm_asks_for_23(target: str) -> None:
    assert raised(RMS, 17, target=target)[0] == 23


def test_a_version_by_hand() -> None:
    assert raised("y = Neg(x)", 13, ConvertOpset(version=18))[0] == 18
    assert raised("y = Neg(x)", 20, ConvertOpset(version=18))[0] == 20
    assert raised("y = Neg(x)", 13, ConvertOpset(version=24)) == (
        13,
        ["opset 13 is not raised to 24: opset 24 is above 23"],
    )


def test_a_missing_kernel_falls_back_to_a_lower_opset() -> None:
    """RoiAlign-22 has no CPU kernel: RMSNormalization is not worth it, LayerNormalization asks for less."""
    inputs = "float[2,4] x, float[1,1,4,4] f, float[1,4] r, int64[1] i"
    pool = "p = RoiAlign<output_height=1, output_width=1>(f, r, i) t = ReduceMax(p)"
    rms = f"{pool} {RMS.replace('y = Mul(n, x)', 'u = Mul(n, x) y = Add(u, t)')}"
    found, reasons = raised(rms, 16, x=inputs)
    assert found == 16
    assert "RoiAlign" in reasons[0]
    layer = re.sub(r"\b([mdqvs]|ve)\b", r"\1_2", LAYER).replace("(x", "(z")
    assert raised(f"{rms.replace('y = ', 'z = ')} {layer}", 16, x=inputs)[0] == 17


def test_a_node_without_a_newer_form_keeps_the_opset() -> None:
    norm = "c, mean, var, saved, spread = BatchNormalization(x, k, k, k, k)"
    layer = LAYER.replace("(x)", "(c)").replace("Sub(x, m)", "Sub(c, m)").replace("y = ", "z = ")
    found, reasons = raised(f"{norm} {layer} y = Add(z, mean)", 13, x="float[2,4] x, float[4] k")
    assert found == 13
    assert "its training outputs are used" in reasons[0]
