import pytest

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes.eliminate_no_ops import NO_OPS, EliminateNoOps
from fcc.rewrite import PassContext, run_pass
from fcc.target import get_target
from fcc.testing import check, model_from

CONSTANTS = """int64[4] pad0 = {0, 0, 0, 0}, int64[4] pad1 = {0, 1, 0, 0}, int64[2] one2 = {1, 1}, int64[0] none = {},
    int64[1] a0 = {0}, int64[1] a1 = {1}, int64[1] m1 = {-1}, int64[1] m4 = {-4}, int64[1] three = {3}, int64[1] four = {4},
    int64[1] max = {9223372036854775807}, int64[1] min = {-9223372036854775808}, int64[2] keep = {0, -1},
    int64[2] same = {-1, 4}, int64[2] ex = {1, 4}, int64[3] ex3 = {1, 1, 4}, int64[2] tall = {3, 1}, int64 e1 = {1}, float ratio = {0.5},
    bool no = {0}, bool yes = {1}, bool[4] yes4 = {1, 1, 1, 1}, float f0 = {0.0}, float n0 = {-0.0}, float f1 = {1.0},
    float[4] ones = {1, 1, 1, 1}, float[2, 1] ones2 = {1, 1}, float[3, 1, 1] ones3 = {1, 1, 1},
    float[2] up1 = {1, 1}, float[2] up2 = {1, 2}"""
INPUTS = "float[N,4] x, float[N,4] z, bool[N,4] b, bool t, int64[2] tiles"
BEFORE = "g ({inputs}) => (float[N,4] y{more}) <{constants}> {{ r = Relu(x) {body} }}"
AFTER = "g (float[N,4] x, float[N,4] z, bool[N,4] b, bool t, int64[2] tiles) => (float[N,4] y) {{ r = Relu(x) {body} }}"


def before(body: str, more: str = "") -> str:
    return BEFORE.format(inputs=INPUTS, constants=CONSTANTS, body=body, more=more)


@pytest.mark.parametrize(
    "node",
    [
        "Dropout(r)",
        "Dropout(r, ratio)",
        "Dropout(r, ratio, no)",
        "Cast<to=1>(r)",
        "CastLike(r, z)",
        "Pad(r, pad0)",
        'Pad<mode="reflect">(r, pad0)',
        "Slice(r, a0, max, a0)",
        "Slice(r, a0, four, a1)",
        "Slice(r, m4, max, a1, a1)",
        "Slice(r, min, max, m1)",
        "Transpose<perm=[0, 1]>(r)",
        "Reshape(r, same)",
        "Reshape(r, keep)",
        "Flatten(r)",
        "Squeeze(r, none)",
        "Unsqueeze(r, none)",
        "Expand(r, ex)",
        "Expand(r, a1)",
        "Expand(r, four)",
        "Expand(r, one2)",
        "Tile(r, one2)",
        "Concat<axis=0>(r)",
        "Split<axis=0, num_outputs=1>(r)",
        "Sum(r)",
        "Max(r)",
        "Min(r)",
        "Mean(r)",
        "Where(yes, r, z)",
        "Where(no, z, r)",
        "Where(yes4, r, z)",
        "Add(r, f0)",
        "Add(n0, r)",
        "Sub(r, f0)",
        "Mul(r, f1)",
        "Mul(ones, r)",
        "Div(r, ones)",
        "Pow(r, f1)",
        "Pow(r, e1)",
        "ReduceSum<noop_with_empty_axes=1>(r)",
        "ReduceSum<noop_with_empty_axes=1>(r, none)",
        "Resize(r, , up1)",
    ],
)
def test_removed(node: str) -> None:
    check(EliminateNoOps(), before(f"k = {node} y = Neg(k)"), AFTER.format(body="y = Neg(r)"), tolerance=0)


@pytest.mark.parametrize(
    ("node", "because"),
    [
        ("Dropout(r, ratio, t)", "training_mode"),
        ("Slice(r, a1, max, a0)", "takes a part"),
        ("Slice(r, a0, three, a1)", "takes a part"),
        ("Slice(r, a0, four, a0)", "takes a part"),
        ("Slice(r, m1, min, a1, m1)", "takes a part"),
        ("Transpose<perm=[1, 0]>(r)", "permutes"),
        ("Transpose(r)", "permutes"),
        ("Flatten<axis=0>(r)", "rank may change"),
        ("Flatten<axis=2>(r)", "rank may change"),
        ("Unsqueeze(r, a0)", "adds dimensions"),
        ("Squeeze(r)", "is 1, or may be"),
        ("Expand(r, ex3)", "repeats"),
        ("Expand(r, tall)", "repeats"),
        ("Tile(r, tiles)", "not known"),
        ("Concat<axis=1>(r, z)", "joins"),
        ("Where(b, r, z)", "not constant"),
        ("Where(yes, f1, r)", "broadcasts"),
        ("Add(r, f1)", "no operand is 0"),
        ("Sub(f0, r)", "no operand is 0"),
        ("Div(f1, r)", "no operand is 1"),
        ("Pow(f1, r)", "no operand is 1"),
        ("Mul(r, ones2)", "broadcasts"),
        ("Mul(r, ones3)", "broadcasts"),
        ("Cast<to=11>(r)", "changes the type"),
        ("ReduceSum(r)", "reduces"),
        ("Pad(r, pad1)", "it pads"),
        ('Resize<mode="linear">(r, , up1)', "interpolation"),
        ("Resize(r, , up2)", "scales"),
        ('Resize<coordinate_transformation_mode="tf_half_pixel_for_nn">(r, , up1)', "shifts"),
    ],
)
def test_kept(node: str, because: str) -> None:
    kind = "double" if "Cast" in node else "float"
    text = f"g ({INPUTS}) => ({kind} y) <{CONSTANTS}> {{ r = Relu(x) y = {node} }}"
    check(EliminateNoOps(), text, None, because=because)


def test_a_used_mask_keeps_the_dropout() -> None:
    check(
        EliminateNoOps(),
        before("k, y2 = Dropout(r) y = Neg(k)", ", bool[N,4] y2"),
        None,
        because="output 1 of Dropout",
    )


def test_squeeze_and_expand_decide_by_fixed_dimensions() -> None:
    check(
        EliminateNoOps(),
        "g (float[3,4] x) => (float[3,4] y) { r = Relu(x) k = Squeeze(r) y = Neg(k) }",
        "g (float[3,4] x) => (float[3,4] y) { r = Relu(x) y = Neg(r) }",
    )


def test_transposing_dimensions_of_one() -> None:
    check(
        EliminateNoOps(),
        "g (float[1,1,N] x) => (float[1,1,N] y) { r = Relu(x) k = Transpose<perm=[1,0,2]>(r) y = Neg(k) }",
        "g (float[1,1,N] x) => (float[1,1,N] y) { r = Relu(x) y = Neg(r) }",
    )
    check(
        EliminateNoOps(),
        "g (float[N,N] x) => (float[N,N] y) { r = Relu(x) y = Transpose(r) }",
        None,
        because="permutes",
    )


def test_reshape_to_another_shape_of_the_same_rank_stays() -> None:
    check(
        EliminateNoOps(),
        "g (float[N,4] x) => (float[M,2] y) <int64[2] s = {-1, 2}> { y = Reshape(x, s) }",
        None,
        because="changes the shape",
    )


def test_reshape_by_a_target_of_the_run_stays_whatever_is_declared() -> None:
    check(
        EliminateNoOps(),
        "g (float[4,6] x, int64[2] s) => (float[4,6] y) { y = Reshape(x, s) }",
        None,
        because="not known",
    )


def test_empty_operands_leave_a_concat() -> None:
    check(
        EliminateNoOps(),
        """g (float[N,4] x, float[N,2] z) => (float[N,6] y) <float[0,4] e> {
            k = Concat<axis=0>(e, x) y = Concat<axis=1>(k, z) }""",
        "g (float[N,4] x, float[N,2] z) => (float[N,6] y) { y = Concat<axis=1>(x, z) }",
        constants={"e": 0},
    )
    check(
        EliminateNoOps(),
        "g (float[N,4] x, float[N,4] z) => (float[M,4] y) <float[0,4] e> { y = Concat<axis=0>(x, e, z) }",
        "g (float[N,4] x, float[N,4] z) => (float[M,4] y) { y = Concat<axis=0>(x, z) }",
        constants={"e": 0},
    )


@pytest.mark.parametrize(
    ("body", "after"),
    [
        ("y = And(c, yes)", "y = Not(x)"),
        ("y = Or(no, c)", "y = Not(x)"),
        ("y = Xor(c, no)", "y = Not(x)"),
        ("y = And(c, no)", "y = Identity(k)"),
        ("y = Or(yes, c)", "y = Identity(k)"),
    ],
)
def test_logic(body: str, after: str) -> None:
    check(
        EliminateNoOps(),
        f"g (bool[3] x) => (bool[3] y) <bool yes = {{1}}, bool no = {{0}}> {{ c = Not(x) {body} }}",
        f"g (bool[3] x) => (bool[3] y) {{ {'c = Not(x) ' if 'Identity' in after else ''}{after} }}",
    )


@pytest.mark.parametrize(("node", "because"), [("Add(r, f0)", "sign of zero"), ("Sub(r, n0)", "sign of zero")])
def test_signed_zeros_are_kept_when_asked(node: str, because: str) -> None:
    check(EliminateNoOps(signed_zeros=True), before(f"k = {node} y = Neg(k)"), None, because=because)


@pytest.mark.parametrize("node", ["Add(r, n0)", "Sub(r, f0)", "Mul(r, f1)"])
def test_exact_arithmetic_leaves_even_then(node: str) -> None:
    check(EliminateNoOps(signed_zeros=True), before(f"k = {node} y = Neg(k)"), AFTER.format(body="y = Neg(r)"))


def test_a_graph_output_that_is_an_input_stays() -> None:
    check(
        EliminateNoOps(),
        "g (float[N,4] x) => (float[N,4] y) { y = Cast<to=1>(x) }",
        None,
        because="may not be an input",
    )


def test_integers_too() -> None:
    check(
        EliminateNoOps(),
        "g (int64[N] x) => (int64[N] y) <int64 o = {1}, int64 z = {0}> { a = Mul(x, o) b = Add(a, z) y = Neg(b) }",
        "g (int64[N] x) => (int64[N] y) { y = Neg(x) }",
    )


def test_other_domains_are_not_meant() -> None:
    check(
        EliminateNoOps(),
        "g (float[N,4] x) => (float[N,4] y) { k = com.microsoft.Cast<to=1>(x) y = Neg(k) }",
        None,
        because="expected",
    )


def test_every_rule_is_reachable_by_the_pattern() -> None:
    assert set(EliminateNoOps.pattern.types) == set(NO_OPS)


BLOCKS = "g (float[1,4,2,2] x) => (float[{}] y) {{ r = Relu(x) k = {} y = Neg(k) }}"


@pytest.mark.parametrize("op", ["DepthToSpace", "SpaceToDepth"])
def test_blocks_of_one(op: str) -> None:
    before = BLOCKS.format("1,4,2,2", f"{op}<blocksize=1>(r)")
    check(EliminateNoOps(), before, "g (float[1,4,2,2] x) => (float[1,4,2,2] y) { r = Relu(x) y = Neg(r) }")
    size = "1,1,4,4" if op == "DepthToSpace" else "1,16,1,1"
    check(EliminateNoOps(), BLOCKS.format(size, f"{op}<blocksize=2>(r)"), None, because="larger than 1")


@pytest.mark.parametrize(
    ("node", "because"),
    [
        ("Transpose(r)", "the rank is not known"),
        ("Transpose<perm=[1, 0]>(r)", "the rank is not known"),
        ("Slice(r, a0, max, a0)", "the bounds are not known"),
        ("Flatten(r)", ""),
        ("Squeeze(r)", ""),
        ("Expand(r, ex)", ""),
        ("Reshape(r, same)", ""),
    ],
)
def test_unknown_ranks_stay(node: str, because: str) -> None:
    text = f"g (float[] x) => (float[] y) <{CONSTANTS}> {{ r = Relu(x) k = {node} y = Neg(k) }}"
    check(EliminateNoOps(), text, None, because=because)


def test_a_sorted_permutation_needs_no_rank() -> None:
    text = "g (float[] x) => (float[] y) { r = Relu(x) k = Transpose<perm=[0, 1]>(r) y = Neg(k) }"
    module = read(model_from(text))
    shapes.infer(module)
    assert run_pass(EliminateNoOps(), module, PassContext(get_target("cpu"))) == 1
    assert [n.op_type for n in module.graph] == ["Relu", "Neg"]


@pytest.mark.parametrize(
    ("node", "more", "because"),
    [
        ("Slice(r, a0, max, i)", "int64[1] i", "the axes or steps are not known"),
        ("Slice(r, a0, max, a0, i)", "int64[1] i", "the axes or steps are not known"),
        ("Slice(r, i, max, a0)", "int64[1] i", "the bounds are not known"),
        ("Slice(r, a0, i, a0)", "int64[1] i", "the bounds are not known"),
        ("Slice(r, a0, max, a0, three)", "", "takes a part"),
        ("Tile(r, twice)", "", "repeats"),
        ("Pad(r, i4)", "int64[4] i4", "not known"),
        ("Unsqueeze(r, i)", "int64[1] i", ""),
        ("Dropout(r, ratio, u)", "bool u", "training_mode"),
    ],
)
def test_computed_operands_stay(node: str, more: str, because: str) -> None:
    inputs = ", ".join(x for x in (INPUTS, more) if x)
    text = f"g ({inputs}) => (float y) <{CONSTANTS}, int64[2] twice = {{1, 2}}> {{ r = Relu(x) k = {node} y = Neg(k) }}"
    check(EliminateNoOps(), text, None, because=because)


@pytest.mark.parametrize("name", ["a0", "max", "axes", "steps"])
def test_bounds_that_are_not_as_many_as_the_axes_stay(name: str) -> None:
    operands = {"a0": "a0", "max": "max", "axes": "a1", "steps": "one"} | {name: "two"}
    text = (
        "g (float[N,4] x) => (float y) <int64[1] a0 = {0}, int64[1] max = {99}, int64[1] a1 = {1}, int64[1] one = {1}, "
        f"int64[2] two = {{1, 1}}> {{ r = Relu(x) k = Slice(r, {', '.join(operands.values())}) y = Neg(k) }}"
    )
    check(EliminateNoOps(), text, None, because="not as many bounds")


@pytest.mark.parametrize("kind", ["ReduceMax", "ReduceMin", "ReduceMean", "ReduceSum", "ReduceProd", "ReduceLogSumExp"])
def test_reductions_over_axes_of_size_1(kind: str) -> None:
    io = "g (float[N,1,3,1] x) => (float[{}] y)"
    body = f"<int64[2] axes> {{{{ r = {kind}<keepdims={{}}>(x, axes) y = Sin(r) }}}}"
    given = {"axes": [-1, 1]}
    kept = io.format("N,1,3,1")
    check(EliminateNoOps(), before=f"{kept} {body.format(1)}", after=f"{kept} {{ y = Sin(x) }}", constants=given)
    gone = io.format("N,3")
    module = check(
        EliminateNoOps(),
        before=f"{gone} {body.format(0)}",
        after=f"{gone} {{ r = Squeeze(x, a) y = Sin(r) }}",
        constants=given,
    )
    (axes,) = module.graph.initializers.values()
    assert axes.const_value is not None
    assert axes.const_value.numpy().tolist() == [1, 3]
    text = f"g (float[N,1,3,1] x) => (float[N,1] y) {body.format(0)}"
    check(EliminateNoOps(), before=text, after=None, because="it reduces", constants={"axes": [2, 1]})


def test_a_reduction_whose_axes_are_an_attribute_stays_where_it_drops_them() -> None:
    text = "g (float[N,1,3] x) => (float[{}] y) {{ r = ReduceMax<axes=[1], keepdims={}>(x) y = Sin(r) }}"
    check(EliminateNoOps(), text.format("N,3", 0), None, because="takes its axes as the node does", opset=11)
    kept = text.format("N,1,3", 1)
    check(EliminateNoOps(), kept, kept.split("{")[0] + "{ y = Sin(x) }", opset=11)


def test_a_reduction_of_everything_that_is_one_element() -> None:
    check(
        EliminateNoOps(),
        before="g (float[1,1] x) => (float[1,1] y) { r = ReduceMax(x) y = Sin(r) }",
        after="g (float[1,1] x) => (float[1,1] y) { y = Sin(x) }",
    )


UNKNOWN = "g (float[N,4,2] x, bool[N] c) => (float[M,4,2] y) <int64[{}] s> {{{{ u = Compress<axis=0>(x, c) {{}} }}}}"


@pytest.mark.parametrize("shape", [[0, -1, 2], [-1, 0, 0], [-1, 4, 2], [0, 0, 0]])
def test_a_size_that_nothing_is_known_of_is_copied_or_what_is_left(shape: list[int]) -> None:
    text = UNKNOWN.format(3)
    before, after = text.format("r = Reshape(u, s) y = Neg(r)"), text.format("y = Neg(u)")
    check(EliminateNoOps(), before, after, constants={"s": shape})


@pytest.mark.parametrize("shape", [[-1, 2, 4], [3, 4, 2], [0, 4, -1, 1], [4, -1, 2], [-1, 2]])
def test_a_size_that_nothing_is_known_of_is_not_another_one(shape: list[int]) -> None:
    text = UNKNOWN.format(len(shape)).replace("float[M,4,2] y", "float y").format("r = Reshape(u, s) y = Neg(r)")
    check(EliminateNoOps(), text, None, because="changes the shape, or may", constants={"s": shape})


@pytest.mark.parametrize("keepdims", ["", "<keepdims=0>"])
def test_a_reduction_over_axes_that_are_sizes_of_the_input_stays(keepdims: str) -> None:
    text = f"""g (float[N,1,3] x) => (float[A,B,C] y) <int64[1] z0 = {{0}}, int64[1] z1 = {{1}}>
    {{ s = Shape<start=0, end=1>(x) r = ReduceMax{keepdims}(x, s) y = Sin(r) }}"""
    text = text if not keepdims else text.replace("A,B,C", "A,B")
    check(EliminateNoOps(), text, None, because="it reduces", sizes={"N": 1})
