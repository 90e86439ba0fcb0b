from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes.convert_conv1d import ConvertConv1d
from fcc.testing import check

CONV = "Conv<kernel_shape = [3], pads = [1, 1]>"
CONV2 = "Conv<kernel_shape = [1, 3], pads = [0, 1, 0, 1]>"


def test_one_convolution() -> None:
    check(
        ConvertConv1d(),
        before=f"g (float[N,64,L] x) => (float[N,64,L] y) <float[64,64,3] w, float[64] b> {{ y = {CONV}(x, w, b) }}",
        after=None,
        because="too small",
    )
    check(
        ConvertConv1d(),
        before=f"g (float[2,64,40] x) => (float[2,64,40] y) <float[64,64,3] w, float[64] b> {{ y = {CONV}(x, w, b) }}",
        after="g (float[2,64,40] x) => (float[2,64,40] y) <float[64] b> "
        f"{{ u = Unsqueeze(x, a) c = {CONV2}(u, w, b) y = Squeeze(c, a) }}",
    )


def test_every_attribute() -> None:
    check(
        ConvertConv1d(),
        before="g (float[8,32,50] x) => (float[8,32,24] y) <float[32,16,3] w> "
        "{ y = Conv<group = 2, strides = [2], dilations = [2], pads = [1, 0], kernel_shape = [3]>(x, w) }",
        after="g (float[8,32,50] x) => (float[8,32,24] y) { u = Unsqueeze(x, a) c = Conv<group = 2, strides = [1, 2], "
        "dilations = [1, 2], pads = [0, 1, 0, 0], kernel_shape = [1, 3]>(u, w) y = Squeeze(c, a) }",
    )


@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER", "VALID"])
def test_computed_padding(auto: str) -> None:
    out = 38 if auto == "VALID" else 40
    check(
        ConvertConv1d(),
        before=f'g (float[2,64,40] x) => (float[2,64,{out}] y) <float[64,64,3] w> {{ y = Conv<auto_pad = "{auto}">(x, w) }}',
        after=f'g (float[2,64,40] x) => (float[2,64,{out}] y) {{ u = Unsqueeze(x, a) c = Conv<auto_pad = "{auto}">(u, w) '
        "y = Squeeze(c, a) }",
    )


def test_one_pair_around_a_graph_of_them() -> None:
    check(
        ConvertConv1d(),
        before="g (float[4,32,N] x) => (float[4,32,1] y) <float[32,32,3] w, float[32,32,3] v, float[1,32,1] s, float t> "
        f"{{ a = {CONV}(x, w) b = Relu(a) c = {CONV}(b, v) d = Mul(c, s) e = Add(d, b) f = Add(e, t) "
        "h = MaxPool<kernel_shape = [2], strides = [2]>(f) "
        "k = AveragePool<kernel_shape = [3], pads = [1, 1]>(h) y = GlobalAveragePool(k) }",
        after="g (float[4,32,N] x) => (float[4,32,1] y) <float t> "
        f"{{ u = Unsqueeze(x, q) a = {CONV2}(u, w) b = Relu(a) c = {CONV2}(b, v) d = Mul(c, s) e = Add(d, b) "
        "f = Add(e, t) h = MaxPool<kernel_shape = [1, 2], strides = [1, 2]>(f) "
        "k = AveragePool<kernel_shape = [1, 3], pads = [0, 1, 0, 1]>(h) z = GlobalAveragePool(k) y = Squeeze(z, q) }",
        sizes={"N": 20},
    )


def test_a_result_used_outside_is_squeezed_once() -> None:
    check(
        ConvertConv1d(),
        before="g (float[4,32,40] x) => (float[4,32,40] y, float[4,32,40] b, float[4,40,32] z) "
        f"<float[32,32,3] w, float[32,32,3] v> {{ a = {CONV}(x, w) b = Relu(a) y = {CONV}(b, v) "
        "z = Transpose<perm = [0, 2, 1]>(b) }",
        after="g (float[4,32,40] x) => (float[4,32,40] y, float[4,32,40] b, float[4,40,32] z) "
        f"{{ u = Unsqueeze(x, q) a = {CONV2}(u, w) r = Relu(a) b = Squeeze(r, q) c = {CONV2}(r, v) y = Squeeze(c, q) "
        "z = Transpose<perm = [0, 2, 1]>(b) }",
    )


def test_an_operand_from_outside_ends_the_region() -> None:
    check(
        ConvertConv1d(),
        before="g (float[4,32,40] x, float[4,32,40] z) => (float[4,32,40] y) <float[32,32,3] w> "
        f"{{ a = {CONV}(x, w) b = Add(a, z) y = Relu(b) }}",
        after="g (float[4,32,40] x, float[4,32,40] z) => (float[4,32,40] y) "
        f"{{ u = Unsqueeze(x, q) c = {CONV2}(u, w) a = Squeeze(c, q) b = Add(a, z) y = Relu(b) }}",
    )


def test_what_comes_back_from_outside() -> None:
    """conv -> Transpose -> Transpose -> conv, and a residual around: new nodes stand where the old ones did."""
    turn = "Transpose<perm = [0, 2, 1]>"
    check(
        ConvertConv1d(),
        before="g (float[4,32,40] x) => (float[4,32,40] y) <float[32,32,3] w, float[32,32,3] v> "
        f"{{ a = {CONV}(x, w) s = {turn}(a) t = Exp(s) r = {turn}(t) c = {CONV}(r, v) y = Add(a, c) }}",
        after="g (float[4,32,40] x) => (float[4,32,40] y) "
        f"{{ u = Unsqueeze(x, q) b = {CONV2}(u, w) a = Squeeze(b, q) s = {turn}(a) t = Exp(s) r = {turn}(t) "
        f"m = Unsqueeze(r, q) c = {CONV2}(m, v) d = Add(b, c) y = Squeeze(d, q) }}",
    )


@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ("4,32,40", "32,32,3", "kernel_shape = [3]"),
        ("4,16,40", "32,16,3", "kernel_shape = [3]"),
        ("4,20,400", "60,20,3", ""),
        ("4,48,40", "32,48,1", ""),
        ("4,60,40", "60,60,3", ""),
        ("4,56,40", "56,56,3", ""),
        ("4,64,400", "64,1,3", "group = 64"),
        ("4,64,40", "64,32,3", "group = 2"),
    ],
)
def test_layers_that_fill_the_blocks(x: str, w: str, attributes: str) -> None:
    fills = "20" not in x.split(",")
    shape, out = [int(d) for d in x.split(",")], [int(d) for d in w.split(",")]
    length = shape[2] - out[2] + 1
    kernel = attributes.replace("[3]", "[1, 3]")
    check(
        ConvertConv1d(),
        before=f"g (float[{x}] x) => (float[4,{out[0]},{length}] y) <float[{w}] w> {{ y = Conv<{attributes}>(x, w) }}".replace(
            "<>", ""
        ),
        after=f"g (float[{x}] x) => (float[4,{out[0]},{length}] y) "
        f"{{ u = Unsqueeze(x, a) c = Conv<{kernel}>(u, w) y = Squeeze(c, a) }}".replace("<>", "")
        if fills
        else None,
    )


@pytest.mark.parametrize(
    ("x", "w", "group"),
    [
        ("4,8,4000", "64,8,3", 1),
        ("4,1,4000", "64,1,64", 1),
        ("4,20,4000", "20,20,3", 1),
        ("4,36,400", "36,36,3", 1),
        ("4,130,400", "128,130,3", 1),
        ("4,40,4000", "40,1,3", 40),
        ("4,16,4000", "32,1,3", 16),
        ("4,64,400", "64,8,3", 8),
        ("4,64,400", "96,32,3", 2),
        ("4,32,400", "24,16,3", 2),
    ],
)
def test_layers_that_do_not_fill_the_blocks(x: str, w: str, group: int) -> None:
    out, length = w.split(",")[0], int(x.split(",")[2]) - int(w.split(",")[2]) + 1
    fills = (x, w, group) == ("4,64,400", "96,32,3", 2)
    check(
        ConvertConv1d(),
        before=f"g (float[{x}] x) => (float[4,{out},{length}] y) <float[{w}] w> {{ y = Conv<group = {group}>(x, w) }}",
        after=f"g (float[{x}] x) => (float[4,{out},{length}] y) "
        f"{{ u = Unsqueeze(x, a) c = Conv<group = {group}>(u, w) y = Squeeze(c, a) }}"
        if fills
        else None,
    )


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_other_targets_stay(target: str) -> None:
    check(
        ConvertConv1d(),
        before=f"g (float[4,64,40] x) => (float[4,64,40] y) <float[64,64,3] w> {{ y = {CONV}(x, w) }}",
        after=None,
        target=target,
    )


@pytest.mark.parametrize(
    "before",
    [
        f"g (float[4,64,40] x, float[64,64,3] w) => (float[4,64,40] y) {{ y = {CONV}(x, w) }}",
        f"g (double[4,64,40] x) => (double[4,64,40] y) <double[64,64,3] w> {{ y = {CONV}(x, w) }}",
        f"g (float[4,64,40] x) => (float[4,64,40] y) <float[64,64,3] w> {{ a = {CONV}(x, w) y = {CONV}(a, w) }}",
        "g (float[4,64,8,8] x) => (float[4,64,6,6] y) <float[64,64,3,3] w> { y = Conv(x, w) }",
    ],
)
def test_other_convolutions_stay(before: str) -> None:
    check(ConvertConv1d(), before=before, after=None)


def test_a_constant_with_other_users_is_not_copied() -> None:
    check(
        ConvertConv1d(),
        before="g (float[4,64,40] x, float[1,64,1] z) => (float[4,64,40] y, float[1,64,1] q) "
        f"<float[64,64,3] w, float[1,64,1] s> {{ a = {CONV}(x, w) y = Mul(a, s) q = Add(z, s) }}",
        after="g (float[4,64,40] x, float[1,64,1] z) => (float[4,64,40] y, float[1,64,1] q) <float[1,64,1] s> "
        f"{{ u = Unsqueeze(x, p) c = {CONV2}(u, w) a = Squeeze(c, p) y = Mul(a, s) q = Add(z, s) }}",
    )


def test_a_pooling_with_indices_stays_outside() -> None:
    check(
        ConvertConv1d(),
        before="g (float[4,64,40] x) => (float[4,64,20] y, int64[4,64,20] i) <float[64,64,3] w> "
        f"{{ a = {CONV}(x, w) y, i = MaxPool<kernel_shape = [2], strides = [2]>(a) }}",
        after="g (float[4,64,40] x) => (float[4,64,20] y, int64[4,64,20] i) "
        f"{{ u = Unsqueeze(x, p) c = {CONV2}(u, w) a = Squeeze(c, p) "
        "y, i = MaxPool<kernel_shape = [2], strides = [2]>(a) }",
    )


def test_inside_a_subgraph_and_across_its_border() -> None:
    body = (
        "y = If (b) <then_branch = p () => (float[4,64,40] m) {{ {0} }}, "
        "else_branch = q () => (float[4,64,40] n) {{ n = Relu(a) }}>"
    )
    check(
        ConvertConv1d(),
        before="g (float[4,64,40] x, bool b) => (float[4,64,40] y) <float[64,64,3] w, float[64,64,3] v> "
        f"{{ a = {CONV}(x, w) " + body.format(f"m = {CONV}(a, v)") + " }",
        after="g (float[4,64,40] x, bool b) => (float[4,64,40] y) "
        f"{{ u = Unsqueeze(x, k) c = {CONV2}(u, w) a = Squeeze(c, k) "
        + body.format(f"e = Unsqueeze(a, k2) f = {CONV2}(e, v) m = Squeeze(f, k2)")
        + " }",
    )


def test_work_is_counted_at_the_sizes_given() -> None:
    from fcc import ir, testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import PassContext, run_pass
    from fcc.target import get_target

    text = f"g (float[N,64,L] x) => (float[N,64,L] y) <float[64,64,3] w> {{ y = {CONV}(x, w) }}"
    for bound, expected in ({}, 0), ({"L": 10}, 0), ({"L": 11}, 1), ({"N": 2}, 1), ({"N": 0}, 0):
        module = read(testing.model_from(text, 21, {}, 0))
        shapes.infer(module)
        applied = run_pass(ConvertConv1d(), module, PassContext(target=get_target("cpu"), shapes=bound))
        ir.verify(module)
        assert applied == expected


@pytest.mark.parametrize("pool", ["GlobalMaxPool", "GlobalAveragePool"])
def test_in_the_runtime(pool: str) -> None:
    pytest.importorskip("onnxruntime")
    from onnx_ir import serde

    from fcc import testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import PassContext, run_pass
    from fcc.runtime import open_session
    from fcc.target import get_target

    text = (
        f"g (float[4,64,40] x) => (float[4,64,1] y) <float[64,64,3] w> {{ a = {CONV}(x, w) b = Relu(a) y = {pool}(b) }}"
    )
    source = testing.model_from(text, 21, {}, 0)
    module = read(source)
    shapes.infer(module)
    assert run_pass(ConvertConv1d(), module, PassContext(target=get_target("cpu"))) == 1
    assert [n.op_type for n in module.graph] == ["Unsqueeze", "Conv", "Relu", pool, "Squeeze"]
    fed = {"x": np.random.default_rng(0).standard_normal((4, 64, 40)).astype(np.float32)}
    old = open_session(source.SerializeToString(), optimize=False).run(fed)["y"]
    new = open_session(serde.serialize_model(module.model).SerializeToString()).run(fed)["y"]
    assert new.shape == (4, 64, 1)
    assert np.abs(new - old).max() <= 1e-5 * np.abs(old).max()


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([16, 32, 48]), st.integers(1, 3), st.integers(1, 2), st.booleans()), min_size=1,
             max_size=3),
    st.integers(1, 3),
    st.integers(8, 20),
    st.sampled_from([None, "Relu", "Tanh", "Mul", "GlobalAveragePool"]),
)  # fmt: skip
def test_random_chains(layers: list[tuple[int, int, int, bool]], batch: int, length: int, last: str | None) -> None:
    """Chains of random layers: whatever is converted gives the same outputs (``same_outputs``, by the runtime's peer)."""
    from onnx_ir import serde

    from fcc import ir, testing
    from fcc.analysis import shapes
    from fcc.frontend import read
    from fcc.rewrite import Log, PassContext, run_pass
    from fcc.target import get_target

    channels, lines, declared, value = 32, [], ["float[1,1,1] s"], "x"
    for k, (out, kernel, stride, bias) in enumerate(layers):
        declared += [f"float[{out},{channels},{kernel}] w{k}"] + ([f"float[{out}] b{k}"] if bias else [])
        lines.append(
            f"c{k} = Conv<strides = [{stride}], pads = [{kernel - 1}, 0]>({value}, w{k}{f', b{k}' if bias else ''}) "
            f"r{k} = LeakyRelu<alpha = 0.2>(c{k})"
        )
        channels, value = out, f"r{k}"
    lines.append({None: f"y = Identity({value})", "Mul": f"y = Mul(s, {value})"}.get(last, f"y = {last}({value})"))
    source = testing.model_from(
        f"g (float[{batch},32,{length}] x) => (float[{batch},{channels},L] y) <{', '.join(declared)}> {{ {' '.join(lines)} }}",
        21, {}, 0,
    )  # fmt: skip
    module = read(source)
    shapes.infer(module)
    ctx = PassContext(target=get_target("cpu"), log=Log(strict=True))
    applied = run_pass(ConvertConv1d(), module, ctx)
    ir.verify(module)
    work = 0
    for node in read(source).graph:
        if node.op_type == "Conv":
            work += 1
    kernels = {len(n.attributes.get_ints("strides", ())) for n in module.graph if n.op_type == "Conv"}
    assert kernels == ({2} if applied else {1})
    assert work == len(layers)
    assert np.all([n.op_type != "Squeeze" for n in module.graph]) == (applied == 0)
    testing.same_outputs(source, serde.serialize_model(module.model))


@pytest.mark.parametrize(("channels", "converted"), [(76, False), (84, True)])
def test_a_short_row_counts_as_one_of_eight(channels: int, converted: bool) -> None:
    """2 * 64 * 76 * 3 * 8 < 250000 <= 2 * 64 * 84 * 3 * 8."""
    before = f"g (float[1,{channels},3] x) => (float[1,64,1] y) <float[64,{channels},3] w> {{ y = Conv(x, w) }}"
    after = (
        f"g (float[1,{channels},3] x) => (float[1,64,1] y) {{ u = Unsqueeze(x, a) c = Conv(u, w) y = Squeeze(c, a) }}"
    )
    check(ConvertConv1d(), before=before, after=after if converted else None, because="" if converted else "too small")
