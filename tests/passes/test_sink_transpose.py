"""sink-transpose: the border of a region gets cheaper, and what the region computes stays (sink-reshape generated too)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from onnx_ir import serde

from fcc import ir
from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.sink_reshape import SinkReshape
from fcc.passes.sink_transpose import SinkTranspose
from fcc.rewrite import Log, Pass, PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from, same_outputs

T = "Transpose<perm=[0,2,1]>"


def test_a_pair_cancels_around_an_elementwise_operator() -> None:
    check(
        SinkTranspose(),
        f"g (float[N,3,4] x) => (float[N,3,4] y) {{ a = {T}(x) b = Relu(a) y = {T}(b) }}",
        "g (float[N,3,4] x) => (float[N,3,4] y) { y = Relu(x) }",
    )


@pytest.mark.parametrize("kind", ["int32", "int64"])
def test_axes_take_the_type_of_the_bounds_of_a_slice(kind: str) -> None:
    """The operator has one type for all of them; without axes, those that the bounds count are written."""
    text = f"g (float[N,3,4] x) => (float[n,3,4] y) <{kind}[2] s, {kind}[2] e> {{ a = {T}(x) b = Slice(a, s, e) y = {T}(b) }}"
    module = check(
        SinkTranspose(),
        text,
        "g (float[N,3,4] x) => (float[n,3,4] y) { y = Slice(x, s, e, w) }",
        constants={"s": [0, 0], "e": [9, 9]},
    )
    axes = ir.Module.constant(next(iter(module.nodes())).inputs[3])
    assert axes is not None
    assert (axes.dtype.name, axes.tolist()) == (kind, [0, 2])


def test_two_transposed_operands_become_one_transposed_result() -> None:
    check(
        SinkTranspose(),
        f"g (float[N,3,4] x, float[N,3,4] z) => (float[N,4,3] y) {{ a = {T}(x) b = {T}(z) y = Add(a, b) }}",
        f"g (float[N,3,4] x, float[N,3,4] z) => (float[N,4,3] y) {{ a = Add(x, z) y = {T}(a) }}",
    )


def test_a_residual_stream_is_crossed_with_all_its_branches() -> None:
    check(
        SinkTranspose(),
        f"""g (float[N,3,4] x) => (float[N,3,4] y) <float[4,1] c> {{
            a = {T}(x) b = Relu(a) d = Mul(b, c) e = Add(a, d) f = Concat<axis=1>(e, a) h = {T}(f)
            y = Slice(h, s, t, u) }}""".replace("<float[4,1] c>", "<float[4,1] c, int64[1] s, int64[1] t, int64[1] u>"),
        """g (float[N,3,4] x) => (float[N,3,4] y) {
            b = Relu(x) d = Mul(b, c0) e = Add(x, d) f = Concat<axis=2>(e, x) y = Slice(f, c1, c2, c3) }""",
        constants={"s": 0, "t": 4, "u": 2},
    )


def test_nothing_is_moved_past_a_gather_that_ends_it() -> None:
    check(
        SinkTranspose(),
        "g (float[N,3,4] x) => (float[N,4] y) <int64 i> { a = Transpose<perm=[1,0,2]>(x) y = Gather<axis=0>(a, i) }",
        "g (float[N,3,4] x) => (float[N,4] y) { y = Gather<axis=1>(x, i) }",
        constants={"i": 2},
    )


def test_a_value_needed_in_both_forms_stays_where_that_costs_as_much() -> None:
    check(
        SinkTranspose(),
        f"g (float[N,3,4] x) => (float[N,4,3] y, float[N,3,4] z) {{ a = {T}(x) y = Relu(a) z = {T}(y) }}",
        f"g (float[N,3,4] x) => (float[N,4,3] y, float[N,3,4] z) {{ z = Relu(x) y = {T}(z) }}",
    )


def test_a_transpose_between_two_operands_counts_once() -> None:
    check(
        SinkTranspose(),
        f"g (float[2,3,3] x) => (float[2,3,3] z) {{ a = {T}(x) b = Add(x, a) z = {T}(b) }}",
        f"g (float[2,3,3] x) => (float[2,3,3] z) {{ a = {T}(x) z = Add(a, x) }}",
    )
    check(
        SinkTranspose(),
        f"g (float[2,3,3] x) => (float[2,3,3] b, float[2,3,3] a) {{ a = {T}(x) b = Add(x, a) }}",
        None,
    )


REFUSED = {
    "an operator with axes of fixed meaning": (
        "g (float[2,3,4,4] x) => (float[2,3,4,4] y) { a = Transpose<perm=[0,1,3,2]>(x)"
        " b = MaxPool<kernel_shape=[1,1]>(a) y = Transpose<perm=[0,1,3,2]>(b) }",
        "",
    ),
    "a Softmax that would leave the innermost axis": (
        f"g (float[2,3,4] x) => (float[2,3,4] y) {{ a = {T}(x) b = Softmax<axis=-1>(a) y = {T}(b) }}",
        "",
    ),
    "a normalization over the axis that moves": (
        f"g (float[2,3,4] x) => (float[2,3,4] y) <float[3] w> {{ a = {T}(x) b = LayerNormalization(a, w) y = {T}(b) }}",
        "",
    ),
    "reductions over axes that would be torn apart": (
        "g (float[2,3,4,5] x) => (float[2,1,1,4] y) <int64[2] i> { a = Transpose<perm=[0,1,3,2]>(x)"
        " y = ReduceSum(a, i) }",
        "",
    ),
    "one Transpose in front of an operator that gains nothing": (
        f"g (float[2,3,4] x) => (float[2,4,3] y) {{ a = {T}(x) y = Relu(a) }}",
        "no region",
    ),
    "a subgraph that reads the Transpose": (
        f"""g (bool c, float[2,3,4] x) => (float[2,4,3] y) {{ a = {T}(x)
            y = If (c) <then_branch = t () => (float[2,4,3] p) {{ p = Relu(a) }},
                        else_branch = e () => (float[2,4,3] q) {{ q = Neg(a) }}> }}""",
        "",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_stays(name: str) -> None:
    text, because = REFUSED[name]
    check(SinkTranspose(), text, None, because=because, constants={"i": [1, 2]})


# -- generated regions --------------------------------------------------------------------------------------------
class Builder:
    """A random graph: values with their sizes, every operator from the table of those that carry permutations."""

    def __init__(self, draw: Callable[[Any], Any]) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.values: list[tuple[str, tuple[int, ...]]] = []
        self.rng = np.random.default_rng(draw(st.integers(0, 99)))

    def const(self, array: Any) -> str:
        self.constants.append(numpy_helper.from_array(np.asarray(array), f"c{len(self.constants)}"))
        return str(self.constants[-1].name)

    def add(self, op: str, inputs: list[str], dims: tuple[int, ...], **attributes: Any) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [name], **attributes))
        self.values.append((name, dims))

    def pick(self, options: Any) -> Any:
        return self.draw(st.sampled_from(list(options)))

    def value(self) -> tuple[str, tuple[int, ...]]:
        usable = [v for v in self.values if len(v[1]) > 1]
        return self.pick(usable[-2:] if self.draw(st.integers(0, 3)) else usable)  # type: ignore[no-any-return]

    def transpose(self, perms: list[tuple[int, ...]]) -> None:
        name, dims = self.value()
        perm = self.pick([p for p in perms if len(p) == len(dims)] or [tuple(range(len(dims)))[::-1]])
        self.add("Transpose", [name], tuple(dims[i] for i in perm), perm=perm)


def unary(b: Builder) -> None:
    name, dims = b.value()
    b.add(b.pick(["Relu", "Neg", "Tanh", "Abs"]), [name], dims)


def binary(b: Builder) -> None:
    name, dims = b.value()
    other = b.pick([v for v, d in b.values if d == dims])
    b.add(b.pick(["Add", "Sub", "Max"]), [name, other], dims)


def with_constant(b: Builder) -> None:
    name, dims = b.value()
    kept = dims[b.pick(range(len(dims) + 1)) :]
    array = b.rng.standard_normal([d if b.draw(st.booleans()) else 1 for d in kept]).astype(np.float32)
    operands = [name, b.const(array)]
    b.add(b.pick(["Add", "Sub", "Mul"]), operands[:: b.pick([1, -1])], dims)


def reduction(b: Builder) -> None:
    name, dims = b.value()
    axes = sorted(b.draw(st.sets(st.integers(0, len(dims) - 1), min_size=1, max_size=2)))
    keep = b.pick([0, 1])
    given = [a - len(dims) * b.pick([0, 1]) for a in axes]
    out = [1 if i in axes else d for i, d in enumerate(dims) if keep or i not in axes]
    if b.draw(st.booleans()):
        b.add("ReduceMax", [name, b.const(given)], tuple(out), keepdims=keep)
    else:
        b.add("ReduceSum", [name, b.const(given)], tuple(out), keepdims=keep)


def one_axis(b: Builder) -> None:
    name, dims = b.value()
    axis = b.pick(range(-len(dims), len(dims)))
    twice = tuple(2 * d if i == axis % len(dims) else d for i, d in enumerate(dims))
    if b.draw(st.booleans()):
        b.add("Softmax", [name], dims, axis=axis)
    else:
        b.add("Concat", [name, name], twice, axis=axis)


def sliced(b: Builder) -> None:
    name, dims = b.value()
    axis = b.pick(range(len(dims)))
    out = tuple(max(d - 1, 0) if i == axis else d for i, d in enumerate(dims))
    operands = [[1], [99]] + ([[axis - len(dims) * b.pick([0, 1])]] if axis or b.draw(st.booleans()) else [])
    b.add("Slice", [name, *(b.const(np.array(o)) for o in operands)], out)


def padded(b: Builder) -> None:
    name, dims = b.value()
    pads = b.draw(st.lists(st.integers(0, 2), min_size=2 * len(dims), max_size=2 * len(dims)))
    out = tuple(d + pads[i] + pads[i + len(dims)] for i, d in enumerate(dims))
    b.add("Pad", [name, b.const(np.array(pads))], out)


def tiled(b: Builder) -> None:
    name, dims = b.value()
    repeats = b.draw(st.lists(st.integers(1, 2), min_size=len(dims), max_size=len(dims)))
    b.add("Tile", [name, b.const(np.array(repeats))], tuple(d * r for d, r in zip(dims, repeats, strict=True)))


def split(b: Builder) -> None:
    name, dims = b.value()
    axis = b.pick(range(len(dims)))
    if dims[axis] < 2:
        return
    sizes = [1, dims[axis] - 1]
    names = [f"v{len(b.nodes)}", f"w{len(b.nodes)}"]
    b.nodes.append(helper.make_node("Split", [name, b.const(np.array(sizes))], names, axis=axis))
    b.values += [(n, (*dims[:axis], s, *dims[axis + 1 :])) for n, s in zip(names, sizes, strict=True)]


def gathered(b: Builder) -> None:
    name, dims = b.value()
    axis = b.pick(range(len(dims)))
    if dims[axis] == 0:
        return
    if b.draw(st.booleans()):
        b.add("Gather", [name, b.const(np.array(-1))], (*dims[:axis], *dims[axis + 1 :]), axis=axis)
    else:
        b.add("Gather", [name, b.const(np.array([0, -1]))], (*dims[:axis], 2, *dims[axis + 1 :]), axis=axis)


def unsqueezed(b: Builder) -> None:
    name, dims = b.value()
    if len(dims) < 4:
        axis = b.pick(range(len(dims) + 1))
        b.add("Unsqueeze", [name, b.const(np.array([axis]))], (*dims[:axis], 1, *dims[axis:]))


def squeezed(b: Builder) -> None:
    name, dims = b.value()
    ones = [i for i, d in enumerate(dims) if d == 1]
    if ones:
        axis = b.pick(ones)
        b.add("Squeeze", [name, b.const(np.array([axis]))], (*dims[:axis], *dims[axis + 1 :]))


def multiplied(b: Builder) -> None:
    name, dims = b.value()
    weight = b.rng.standard_normal((dims[-1], 2)).astype(np.float32)
    b.add("MatMul", [name, b.const(weight)], (*dims[:-1], 2))


def normalized(b: Builder) -> None:
    name, dims = b.value()
    if 0 in dims:
        return
    scale = b.rng.standard_normal(dims[-1:]).astype(np.float32)
    b.add("LayerNormalization", [name, b.const(scale)], dims)


STEPS = (
    *(unary, binary, binary, with_constant, reduction, one_axis, sliced, padded, tiled),
    *(split, gathered, unsqueezed, squeezed, multiplied, normalized),
)


def transposed(draw: Callable[[Any], Any], rank: int) -> Callable[[Builder], None]:
    perms = [tuple(draw(st.permutations(range(rank)).filter(lambda p: list(p) != sorted(p))))]
    perms += [tuple(int(i) for i in np.argsort(p)) for p in perms]
    return lambda b: b.transpose(perms)


def reshaped(draw: Callable[[Any], Any], rank: int) -> Callable[[Builder], None]:
    """Join the two first axes, split the first one, add or drop a leading one."""

    def step(b: Builder) -> None:
        name, dims = b.value()
        if 0 in dims:
            return
        kinds = [(1, *dims), (dims[0], 1, *dims[1:]), (dims[0] * dims[1], *dims[2:])]
        kinds += [dims[1:]] if dims[0] == 1 else []
        kinds += [(2, dims[0] // 2, *dims[1:])] if dims[0] > 0 and dims[0] % 2 == 0 else []
        out = b.pick([k for k in kinds if len(k) < 5])
        b.add("Reshape", [name, b.const(np.array(out, np.int64))], out)

    return step


@st.composite
def models(draw: Callable[[Any], Any], mover: Callable[..., Callable[[Builder], None]]) -> onnx.ModelProto:
    b = Builder(draw)
    rank = draw(st.integers(2, 4))
    dims = tuple(draw(st.lists(st.sampled_from([1, 2, 3, 4]), min_size=rank, max_size=rank)))
    move = mover(draw, rank)
    b.values = [("x", dims), ("z", dims)]
    move(b)
    for _ in range(draw(st.integers(1, 8))):
        step = move if draw(st.integers(0, 3)) == 0 else draw(st.sampled_from(STEPS))
        step(b)
    move(b)
    used = {i for n in b.nodes for i in n.input}
    kept = [v for v in b.values[2:] if v[0] not in used or draw(st.integers(0, 4)) == 0]
    declared = [d if d > 1 and draw(st.booleans()) else f"d{i}" for i, d in enumerate(dims)]
    graph = helper.make_graph(
        b.nodes,
        "g",
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, declared if n == "x" else dims) for n in "xz"],
        [helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * len(d)) for n, d in kept],
        b.constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    model.metadata_props.add(key="sizes", value=",".join(map(str, dims)))
    return model


MOVERS = {"sink-transpose": ("Transpose",), "sink-reshape": ("Flatten", "Reshape", "Squeeze", "Unsqueeze")}


def movers(module: ir.Module, p: Pass) -> int:
    return sum(n.op_type in MOVERS[p.name] for n in module.nodes())


@settings(max_examples=150, deadline=None)
@given(models(transposed))
def test_generated_regions_keep_their_outputs(model: onnx.ModelProto) -> None:
    judge(SinkTranspose(), model)


@settings(max_examples=150, deadline=None)
@given(models(reshaped))
def test_generated_regions_of_reshapes_keep_their_outputs(model: onnx.ModelProto) -> None:
    judge(SinkReshape(), model)


def judge(p: Pass, model: onnx.ModelProto) -> None:
    onnx.checker.check_model(model)
    sizes = {f"d{i}": int(d) for i, d in enumerate(model.metadata_props[0].value.split(","))}
    module = read(model)
    shapes.infer(module)
    reference = ir_bytes(module.clone())
    count = movers(module, p)
    log = Log(strict=True)
    applied = run_pass(p, module, PassContext(get_target("cpu"), log))
    event(f"applied: {applied > 0}")
    ir.verify(module)
    assert movers(module, p) <= count
    emitted = ir_bytes(module)
    onnx.checker.check_model(emitted)
    same_outputs(reference, emitted, sizes=sizes)


def ir_bytes(module: ir.Module) -> onnx.ModelProto:
    return serde.serialize_model(module.model)


def test_a_region_with_several_transposes_is_refused_once() -> None:
    text = """g (float[2,3,4] x, float[2,3,4] z) => (float[4,3,2] a, float[4,3,2] b, float[4,3,2] y) {
        a = Transpose(x) b = Transpose(z) s = Add(a, b) y = Exp(s) }"""
    module = read(model_from(text))
    shapes.infer(module)
    log = Log(strict=True)
    run_pass(SinkTranspose(), module, PassContext(get_target("cpu"), log))
    assert len(log.refused) == 1


def test_a_permutation_of_another_rank_is_no_border() -> None:
    text = "g (float[1,5,3,4,5] x) => (float[A,B,C,D] y) { a = Transpose<perm=[0,2,3,1]>(x) b = Relu(a) y = Transpose<perm=[0,3,1,2]>(b) }"
    check(SinkTranspose(), text, None)
