"""Placement, as onnxruntime's CUDA provider does it (compared with its partitioner by tools/cuda_placement.py)."""

from __future__ import annotations

from typing import Any

import pytest

from fcc import ir
from fcc.analysis import shapes
from fcc.backends.placement import Placement, placement_of
from fcc.frontend import read
from fcc.target import get_target
from fcc.testing import model_from


def placed(text: str, target: str = "cuda", opset: int = 17, **constants: Any) -> Placement:
    module = read(model_from(text, opset, constants, 0))
    shapes.infer(module)
    return placement_of(module, module.graph, get_target(target))


def on_cpu(found: Placement) -> list[str]:
    return sorted(n.op_type for n, where in found.where.items() if where == "CPU")


# What tools/cuda_placement.py says of these graphs: op types on the CPU, number of Memcpy nodes.
CASES = {
    "all": ("g (float[N,8] x) => (float[N,8] y) <float[8,8] w> { a = MatMul(x, w) y = Sin(a) }", [], 0),
    "between": (
        "g (float[N,8] x) => (float[N,8] y) <float[8,8] w> { a = MatMul(x, w) b = Tan(a) y = MatMul(b, w) }",
        ["Tan"],
        2,
    ),
    "first": ("g (float[N,8] x) => (float[N,8] y) <float[8,8] w> { b = Tan(x) y = MatMul(b, w) }", ["Tan"], 1),
    "last": ("g (float[N,8] x) => (float[N,8] y) <float[8,8] w> { b = MatMul(x, w) y = Tan(b) }", ["Tan"], 1),
    "twice": (
        "g (float[N,8] x) => (float[N,8] y) { a = Sin(x) b = Tan(a) c = Sin(b) d = Cos(b) y = Add(c, d) }",
        ["Tan"],
        2,
    ),
    "input": ("g (float[N,8] x) => (float[N,8] y) { a = Sin(x) b = Tan(x) y = Add(a, b) }", ["Tan"], 2),
    "shape input": ("g (float[N,8] x, int64[2] s) => (float[A,B] y) { y = Reshape(x, s) }", [], 0),
    "shape": (
        "g (float[1,8] x, float[N,8] z) => (float[N,8] y) { s = Shape(z) e = Expand(x, s) y = Add(e, z) }",
        [],
        0,
    ),
    "sizes": (
        "g (float[N,8] z) => (int64[A] y) <int64 zero, int64 one> { s = Shape<start=0, end=1>(z) n = Squeeze(s) y = Range(zero, n, one) }",
        ["Squeeze"],
        0,
    ),
    "numbers of sizes": (
        "g (float[N,8] z) => (float[N,8] y) { s = Shape<start=0, end=1>(z) n = Cast<to=1>(s) q = Sqrt(n) y = Mul(z, q) }",
        ["Cast", "Mul", "Sqrt"],
        1,
    ),
    "sizes in numbers": (
        "g (float[N,8] x) => (float[N,8] y) { z = Sin(x) s = Shape<start=0, end=1>(z) n = Cast<to=1>(s) y = Mul(z, n) }",
        ["Cast"],
        1,
    ),
    "half": (
        "g (float16[N,8] x) => (float16[N,8] y) { z = Sin(x) s = Shape<start=0, end=1>(z) n = Cast<to=10>(s) m = Sqrt(n) y = Mul(z, m) }",
        ["Cast"],
        1,
    ),
    "bounds": ("g (float[N,8] z, float lo) => (float[N,8] y) { a = Sin(z) y = Clip(a, lo) }", [], 0),
}


@pytest.mark.parametrize("name", CASES)
def test_placement(name: str) -> None:
    text, cpu, copies = CASES[name]
    found = placed(text, zero=0, one=1)
    assert on_cpu(found) == cpu
    assert len(found.copies) == copies


def test_what_is_copied_where() -> None:
    found = placed(CASES["between"][0])
    assert [(c.value.name, c.to_host, c.bytes({"N": 3})) for c in found.copies] == [("a", True, 96), ("b", False, 96)]
    ((node, copies),) = found.culprits().items()
    assert node.op_type == "Tan"
    assert copies == found.copies
    assert "no CUDA kernel for Tan" in found.reasons[node]


def test_sizes_are_no_culprits() -> None:
    found = placed(CASES["sizes in numbers"][0])
    assert found.culprits() == {}
    assert [n.op_type for n in found.on_purpose] == ["Cast"]
    assert set(found.labels().values()) == {"CUDA"}


def test_what_depends_on_constants_is_folded() -> None:
    found = placed("g (float[N,8] x) => (float[N,8] y) <float[8] c> { t = Tan(c) y = Mul(x, t) }", c=1.0)
    assert found.copies == []
    assert set(found.labels().values()) == {"CUDA"}


def test_tensorrt_leaves_to_cuda_and_the_cpu() -> None:
    text = (
        "g (float[N,8] x) => (float[N,8] y, int64[N,8] i, int64[1,K] n) "
        "{ a = Sin(x) s = Cast<to=7>(a) zero = Abs(s) i = BitwiseNot(zero) n = NonZero(x) y = Tan(a) q = com.microsoft.Gelu(a) }"
    )
    where = {n.op_type: p for n, p in placed(text, "tensorrt", opset=18).where.items()}
    assert where["Sin"] == "TensorRT"
    assert where["Gelu"] == "CUDA"
    assert where["BitwiseNot"] == "CPU"


def test_the_cpu_copies_nothing() -> None:
    found = placed("g (float16[N,8] x) => (float16[N,8] y) { a = Sin(x) y = Relu(a) }", "cpu")
    assert found.copies == []
    assert set(found.where.values()) == {"CPU"}


def test_nested_graphs_are_placed_on_their_own_and_capture_is_reading() -> None:
    text = (
        "g (float[4] x, bool c) => (float[4] y) { a = Tan(x) y = If (c) <then_branch = t () => (float[4] u) "
        "{ u = Sin(a) }, else_branch = e () => (float[4] v) { v = Tan(a) }> }"
    )
    module = read(model_from(text, 17, {}, 0))
    shapes.infer(module)
    spec = get_target("cuda")
    main, *nested = (placement_of(module, g, spec) for g in module.graphs())
    assert [c.value.name for c in main.copies] == ["a"]
    assert sorted(on_cpu(p)[:1] for p in nested) == [[], ["Tan"]]


def test_placement_is_remembered_until_the_module_changes() -> None:
    module = read(model_from(CASES["all"][0], 17, {}, 0))
    spec = get_target("cuda")
    first = placement_of(module, module.graph, spec)
    assert placement_of(module, module.graph, spec) is first
    module.touch()
    assert placement_of(module, module.graph, spec) is not first
    assert isinstance(next(iter(first.where)), ir.Node)
