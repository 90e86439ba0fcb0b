import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcc.passes._score_bound import score_bound
from fcc.passes.convert_masks import FILL, ConvertMasks
from fcc.testing import check

P = ConvertMasks()
LOWEST = -1e30
CAUSAL = np.where(np.tri(4), 0, LOWEST)
WEIGHTS = {"s": 1.0, "a": 0.0, "wq": np.eye(6), "wk": np.eye(6), "bq": 0.1, "bk": 0.1}
ATTEND = "y = Attention<q_num_heads=2, kv_num_heads=2, scale=0.5>(q, k, v{mask})"
LAYERS = "n = LayerNormalization<axis=-1>(x, s, a) i = MatMul(n, wq) q = Add(i, bq) j = MatMul(n, wk) k = Add(bk, j) "
DECLARED = "float[6] s, float[6] a, float[6,6] wq, float[6,6] wk, float[6] bq, float[6] bk"
IO = "g (float[N,4,6] x, float[N,4,6] v{inputs}) => (float[N,4,6] y)"


def text(
    mask: str = ", m", constants: str = "float[4,4] m", body: str = LAYERS, inputs: str = "", attend: str = ATTEND
) -> str:
    declared = ", ".join(c for c in (DECLARED, constants) if c)
    return f"{IO.format(inputs=inputs)} <{declared}> {{ {body} {attend.format(mask=mask)} }}"


def after(before: str = "", mask: str = ", m", inputs: str = "") -> str:
    return f"{IO.format(inputs=inputs)} {{ {LAYERS} {before} {ATTEND.format(mask=mask)} }}"


@pytest.mark.parametrize("shape", ["4,4", "1,4,4", "1,1,4,4", "1,2,4,4"])
@pytest.mark.parametrize("low", [-1e4, LOWEST, -np.inf])
def test_constant_mask(shape: str, low: float) -> None:
    mask = np.where(np.tri(4), 0, low)
    module = check(
        P, before=text(constants=f"float[{shape}] m"), after=after(), constants={**WEIGHTS, "m": mask}, opset=23
    )
    attention = next(n for n in module.nodes() if n.op_type == "Attention")
    assert attention.inputs[3] is not None
    assert attention.inputs[3].const_value is not None
    found = attention.inputs[3].const_value.numpy()
    assert np.array_equal(found, np.broadcast_to(np.where(np.tri(4), 0, np.float32(FILL)), found.shape))


def test_chosen_mask() -> None:
    module = check(
        P,
        before=text(constants="bool[1,1,4,4] c, float z, float l", body=LAYERS + "m = Where(c, z, l)"),
        after=after("m = Where(c, z, l)"),
        constants={**WEIGHTS, "c": np.tri(4) > 0, "z": 0, "l": LOWEST},
        opset=23,
    )
    where = next(n for n in module.nodes() if n.op_type == "Where")
    values = [v.const_value.numpy().item() for v in where.inputs[1:] if v is not None and v.const_value is not None]
    assert values == [0, FILL]


CAUSES = ATTEND.replace("scale=0.5", "scale=0.5, is_causal=1")


def test_causal_by_attribute() -> None:
    module = check(P, before=text(mask="", constants="", attend=CAUSES), after=after(), constants=WEIGHTS, opset=23)
    attention = next(n for n in module.nodes() if n.op_type == "Attention")
    assert attention.inputs[3] is not None
    assert attention.inputs[3].const_value is not None
    assert np.array_equal(attention.inputs[3].const_value.numpy(), np.where(np.tri(4), 0, np.float32(FILL)))


@pytest.mark.parametrize(
    ("io", "because"),
    [
        (("float[N,4,6]", "float[N,S,6]"), "the mask is not known"),
        (("float[N,4,6]", "float[N,129,6]"), "the mask is not known"),
        (("float[N,4,6]", "float[N,1,6]"), "the mask is not known"),
    ],
)
def test_causal_sequences_that_stay(io: tuple[str, str], because: str) -> None:
    before = text(mask="", constants="", attend=CAUSES).replace(*io)
    check(P, before=before, after=None, because=because, constants=WEIGHTS, opset=23)


SPLIT = "n = LayerNormalization(x, s, a) i = MatMul(n, w) j = Add(i, b) q, k = Split<axis=2>(j, l)"


def test_projections_of_one_layer_and_its_split() -> None:
    w, b = np.concatenate([np.eye(6), 2 * np.eye(6)], 1), np.full(12, 0.1)
    check(
        P,
        before=text(constants="float[4,4] m, float[6,12] w, float[12] b, int64[2] l", body=SPLIT).replace(
            ", float[6,6] wq, float[6,6] wk, float[6] bq, float[6] bk", ""
        ),
        after=f"{IO.format(inputs='')} {{ {SPLIT} {ATTEND.format(mask=', m')} }}",
        constants={**WEIGHTS, "m": CAUSAL, "w": w, "b": b, "l": np.array([6, 6])},
        opset=23,
    )


# -- refusals --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("change", "because"),
    [
        ({"m": np.where(np.tri(4), 0, -100)}, "other numbers than 0"),
        ({"m": np.where(np.tri(4), 1, LOWEST)}, "other numbers than 0"),
        ({"m": np.where(np.tri(4, k=-1), 0, LOWEST)}, "masks everything"),
        ({"m": 0}, "masks nothing"),
        ({"wq": 10 * np.eye(6)}, "the scores are only known to lie within"),
        ({"s": 5.0}, "the scores are only known to lie within"),
        ({"a": 10.0}, "the scores are only known to lie within"),
        ({"bk": 30.0}, "the scores are only known to lie within"),
    ],
)
def test_numbers_that_stay(change: dict[str, object], because: str) -> None:
    check(P, before=text(), after=None, because=because, constants={**WEIGHTS, "m": CAUSAL, **change}, opset=23)


@pytest.mark.parametrize(
    ("before", "because"),
    [
        (text(constants="", inputs=", float[4,4] m"), "the mask is not known"),
        (text(constants="float z, float l", inputs=", bool[4,4] c", body=LAYERS + "m = Where(c, z, l)"), "not known"),
        (text(constants="float[4,4] p", body=LAYERS + "m = Neg(p)"), "the mask is not known"),
        (text(constants="bool[4,4] m"), "not in float32"),
        (text(body=LAYERS.replace("LayerNormalization<axis=-1>(x, s, a)", "Mul(x, s)")), "no bound"),
        (text(body=LAYERS.replace("axis=-1", "axis=1").replace("x, s, a", "x, t, t"), constants="float[4,4] m, float[4,6] t"),
         "no bound"),
        (text(body=LAYERS.replace("MatMul(n, wq)", "MatMul(n, u)"), inputs=", float[6,6] u"), "no bound"),
        (text(body=LAYERS.replace("q = Add(i, bq)", "q = Add(i, x)")), "no bound"),
        (text(body=LAYERS.replace("x, s, a", "x, s, t"), inputs=", float[6] t"), "no bound"),
        (text(body=LAYERS.replace("x, s, a", "x, t, a"), inputs=", float[6] t"), "no bound"),
        (text(attend=ATTEND.replace("scale=0.5", "scale=0.5, is_causal=1")), "a causal mask beside the other"),
        (text(attend=ATTEND.replace("scale=0.5", "scale=0.5, softcap=3.0")), "a softcap"),
    ],
)  # fmt: skip
def test_refusals(before: str, because: str) -> None:
    constants = {**WEIGHTS, "m": CAUSAL, "z": 0, "l": LOWEST}
    if "bool[4,4] m" in before:
        constants["m"] = np.tri(4) > 0
    check(P, before=before, after=None, because=because, constants=constants, opset=23)


def test_grouped_queries_stay() -> None:
    before = text(attend=ATTEND.replace("kv_num_heads=2", "kv_num_heads=1"))
    before = before.replace("float[6,6] wk", "float[6,3] wk").replace("float[6] bk", "float[3] bk")
    before = before.replace("float[N,4,6] v", "float[N,4,3] v")
    values = {**WEIGHTS, "wk": np.eye(6)[:, :3], "m": CAUSAL}
    check(P, before=before, after=None, because="the same number of heads", constants=values, opset=23)


@pytest.mark.parametrize("target", ["cuda", "tensorrt"])
def test_other_targets_stay(target: str) -> None:
    check(P, before=text(), after=None, because="nothing says", constants={**WEIGHTS, "m": CAUSAL}, opset=23,
          target=target)  # fmt: skip


# -- the bound -------------------------------------------------------------------------------------------------------
@given(data=st.data())
@settings(max_examples=30, deadline=None)
def test_bound_holds_and_masked_keys_weigh_nothing(data: st.DataObject) -> None:
    d = data.draw
    rng = np.random.default_rng(d(st.integers(0, 999)))
    size = d(st.sampled_from([0.05, 0.3, 1.0]))
    constants = {k: rng.standard_normal(n) * size for k, n in (("wq", (6, 6)), ("wk", (6, 6)), ("bq", 6), ("bk", 6))}
    constants |= {"s": 1 + 0.5 * rng.standard_normal(6), "a": 0.3 * rng.standard_normal(6), "m": CAUSAL}
    module = check(P, before=text(attend="z = Add(q, k) y = Add(z, v)", constants="float[4,4] p"), after=None,
                   constants=constants, opset=23)  # fmt: skip
    values = {v.name: v for n in module.nodes() for v in n.outputs}
    bound = score_bound(values["q"], values["k"], 2, 0.5)
    x = rng.standard_normal((50, 6)) * np.exp(rng.standard_normal((50, 1)) * 3)
    z = (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + 1e-5)
    n = z * constants["s"] + constants["a"]
    q, k = n @ constants["wq"] + constants["bq"], n @ constants["wk"] + constants["bk"]
    scores = 0.5 * np.stack([q[:, :3] @ k[:, :3].T, q[:, 3:] @ k[:, 3:].T])
    assert bound is not None
    assert np.abs(scores).max() <= bound * (1 + 1e-6)
    limit = 52 - 26 * np.log(2) - np.log(4)
    applies = 2 * bound <= limit
    check(P, before=text(), after=after() if applies else None, constants=constants, opset=23, tolerance=1e-6)
