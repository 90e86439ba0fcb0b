"""lower-opset: down to where the target has kernels, when every node means the same there."""

from __future__ import annotations

import pytest

from fcc import ir, testing
from fcc.analysis import shapes
from fcc.backends.lower_opset import LowerOpset
from fcc.frontend import read
from fcc.ir.text import canonical
from fcc.rewrite import Log, PassContext, run_pass
from fcc.target import get_target

POOL = "y = MaxPool<kernel_shape=[2,2]>(x)"


def lowered(nodes: str, opset: int, target: str = "cuda", kind: str = "float") -> tuple[int, str]:
    """Return the opset afterwards, and the last reason why not."""
    text = f"g ({kind}[N,3,H,W] x) => ({kind}[a,b,c,d] y) <float e = {{0.5}}> {{ {nodes} }}"
    module = read(testing.model_from(text, opset, {}, 0))
    shapes.infer(module)
    before, ctx = canonical(module), PassContext(get_target(target), Log(strict=True))
    opset = module.opset()
    applied = run_pass(LowerOpset(), module, ctx)
    ir.verify(module)
    assert applied == (module.opset() < opset)
    assert canonical(module) == before
    assert run_pass(LowerOpset(), module, PassContext(get_target(target), Log(strict=True))) == 0
    return module.opset(), ctx.log.refused[-1].reason if ctx.log.refused else ""


@pytest.mark.parametrize("opset", [22, 24, 26])
def test_max_pool_has_a_kernel_up_to_21(opset: int) -> None:
    assert lowered(POOL, opset) == (21, "")
    assert lowered(f"p = Relu(x) q = Mul(p, e) {POOL.replace('(x)', '(q)')}", opset) == (21, "")


@pytest.mark.parametrize(
    ("nodes", "opset", "target", "because"),
    [
        (POOL, 21, "cuda", "no kernel is lacking for opset 21"),
        (POOL, 22, "cpu", "no kernel is lacking for opset 22"),
        ("y = Relu(x)", 26, "cuda", "no kernel is lacking for opset 26"),
        ("z = Det(x) s = Shape(x) y = Expand(z, s)", 22, "cuda", "no kernel is lacking"),
        (f"p = Swish(x) {POOL.replace('(x)', '(p)')}", 24, "cuda", "Swish"),
        (
            f"i = Constant<value_ints=[0]>() g = Unsqueeze(e, i) p = RMSNormalization(x, g) {POOL.replace('(x)', '(p)')}",
            23,
            "cuda",
            "RMSNormalization",
        ),
    ],
)
def test_what_stays(nodes: str, opset: int, target: str, because: str) -> None:
    found, reason = lowered(nodes, opset, target)
    assert found == opset
    assert because in reason


def test_an_opset_above_the_window_of_the_target() -> None:
    assert lowered("y = Relu(x)", 26, "tensorrt") == (24, "")
    assert lowered("y = Relu(x)", 24, "tensorrt")[0] == 24
