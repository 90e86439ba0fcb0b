"""Every builder gives a valid, reproducible model that runs at any batch."""

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest

from fcc.models import BUILDERS

SETTINGS: list[tuple[str, dict[str, Any]]] = [
    ("mlp", {}),
    ("mlp", {"sizes": (12, 16, 8, 3), "batchnorm": True, "dropout": True, "activation": "Tanh", "opset": 13}),
    ("mlp", {"sizes": (5, 2)}),
    ("cnn", {}),
    ("cnn", {"batchnorm": True, "depthwise": True, "image": (1, 20, 12), "opset": 21}),
    ("vgg", {}),
    ("vgg", {"batchnorm": True, "dropout": False, "size": 16, "opset": 13}),
    ("resnet", {}),
    ("resnet", {"stages": ((16, 2), (24, 1)), "size": 17, "opset": 21}),
    ("rnn", {}),
    ("rnn", {"bidirectional": True, "depth": 2, "opset": 13}),
    ("lstm", {}),
    ("lstm", {"bidirectional": True, "depth": 2, "steps": "T", "opset": 21}),
    ("gru", {}),
    ("gru", {"bidirectional": True, "depth": 2, "opset": 13}),
    ("self_attention", {}),
    ("self_attention", {"causal": True, "tokens": "T", "heads": 2, "opset": 13}),
    ("self_attention", {"causal": True, "tokens": 6}),
    ("transformer_block", {}),
    ("transformer_block", {"pre_norm": False, "gelu": "tanh", "tokens": "T", "opset": 16}),
    ("bert", {}),
    ("bert", {"tokens": 9, "depth": 1, "opset": 13}),
    ("gpt", {}),
    ("gpt", {"tokens": 9, "depth": 1, "opset": 21}),
]
IDS = [f"{name}-{i}" for i, (name, _) in enumerate(SETTINGS)]
each_setting = pytest.mark.parametrize(("name", "options"), SETTINGS, ids=IDS)

Session = Callable[[dict[str, np.ndarray]], list[np.ndarray]]


def session(model: onnx.ModelProto) -> Session:
    ort = pytest.importorskip("onnxruntime")
    live = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return lambda feeds: list(live.run(None, feeds))


def feeds_of(model: onnx.ModelProto, batch: int, tokens: int = 7, seed: int = 0) -> dict[str, np.ndarray]:
    """Inputs of a batch: ids within every vocabulary used here, masks and segments of 0 and 1."""
    rng = np.random.default_rng(seed)
    feeds = {}
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        shape = [{"N": batch, "T": tokens}[d.dim_param] if d.dim_param else d.dim_value for d in dims]
        if value.type.tensor_type.elem_type == onnx.TensorProto.INT64:
            feeds[value.name] = rng.integers(0, 100 if value.name == "input_ids" else 2, shape)
        else:
            feeds[value.name] = rng.normal(size=shape).astype(np.float32)
    return feeds


def ops_of(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def test_every_family_is_tested_twice() -> None:
    names = [name for name, _ in SETTINGS]
    assert set(names) == set(BUILDERS)
    assert min(names.count(name) for name in BUILDERS) >= 2


@each_setting
def test_model_is_valid_onnx(name: str, options: dict[str, Any]) -> None:
    model = BUILDERS[name](**options)
    onnx.checker.check_model(model, full_check=True)
    assert model.opset_import[0].version == options.get("opset", 17)
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "N"


@each_setting
@pytest.mark.parametrize("batch", [1, 3])
def test_model_runs_at_any_batch(name: str, options: dict[str, Any], batch: int) -> None:
    model = BUILDERS[name](**options)
    feeds = feeds_of(model, batch)
    for value, result in zip(model.graph.output, session(model)(feeds), strict=True):
        assert np.isfinite(result).all()
        assert 1e-3 < result.std() < 1e2
        declared = [{"N": batch, "T": 7}.get(d.dim_param, d.dim_value) for d in value.type.tensor_type.shape.dim]
        assert list(result.shape) == declared


@each_setting
def test_rows_of_a_batch_are_independent(name: str, options: dict[str, Any]) -> None:
    model = BUILDERS[name](**options)
    run, feeds = session(model), feeds_of(model, 3)
    together = run(feeds)
    alone = run({key: array[1:2] for key, array in feeds.items()})
    for whole, row in zip(together, alone, strict=True):
        np.testing.assert_allclose(whole[1:2], row, rtol=1e-4, atol=1e-5)


@each_setting
def test_seed_decides_every_byte(name: str, options: dict[str, Any]) -> None:
    build = BUILDERS[name]
    assert build(**options).SerializeToString() == build(**options).SerializeToString()
    assert build(**options).SerializeToString() != build(**options, seed=1).SerializeToString()


@pytest.mark.parametrize("name", sorted(BUILDERS))
def test_batch_can_be_fixed(name: str) -> None:
    model = BUILDERS[name](batch=2)
    onnx.checker.check_model(model, full_check=True)
    assert all(value.type.tensor_type.shape.dim[0].dim_value == 2 for value in model.graph.input)
    session(model)(feeds_of(model, 2))


@pytest.mark.parametrize("name", ["mlp", "vgg", "bert"])
def test_opset_before_13_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="opset 12 is not supported"):
        BUILDERS[name](opset=12)


def test_mlp_needs_two_sizes() -> None:
    with pytest.raises(ValueError, match="sizes needs"):
        BUILDERS["mlp"](sizes=(4,))


def test_width_must_divide_into_heads() -> None:
    with pytest.raises(ValueError, match="width 64 is not a multiple of 5 heads"):
        BUILDERS["self_attention"](heads=5)


@pytest.mark.parametrize(("name", "options"), [("bert", {}), ("gpt", {}), ("self_attention", {"causal": True})])
def test_more_tokens_than_positions_are_refused(name: str, options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="tokens 9 is more than max_tokens 8"):
        BUILDERS[name](tokens=9, max_tokens=8, **options)


def test_bert_needs_a_layer() -> None:
    with pytest.raises(ValueError, match="depth must be at least 1"):
        BUILDERS["bert"](depth=0)


def test_options_decide_the_nodes() -> None:
    plain, full = BUILDERS["mlp"](), BUILDERS["mlp"](batchnorm=True, dropout=True)
    assert ops_of(plain) == ["Gemm", "Relu"] * 2 + ["Gemm"]
    assert ops_of(full).count("BatchNormalization") == ops_of(full).count("Dropout") == 2
    groups = [a.i for n in BUILDERS["cnn"](depthwise=True).graph.node for a in n.attribute if a.name == "group"]
    assert groups == [1, 16, 1, 32, 1]
    assert ops_of(BUILDERS["resnet"]()).count("Add") == 3


@pytest.mark.parametrize("name", ["bert", "gpt", "self_attention", "cnn", "lstm"])
def test_shape_arithmetic_is_left_to_the_compiler(name: str) -> None:
    assert {"Shape", "Gather", "Unsqueeze", "Concat", "Constant"} <= set(ops_of(BUILDERS[name]()))


def test_norm_is_decomposed_before_opset_17() -> None:
    assert "LayerNormalization" in ops_of(BUILDERS["bert"](opset=17))
    old = BUILDERS["bert"](opset=16)
    assert "LayerNormalization" not in ops_of(old)
    feeds = feeds_of(old, 2)
    for new, before in zip(session(BUILDERS["bert"](opset=17))(feeds), session(old)(feeds), strict=True):
        np.testing.assert_allclose(new, before, atol=1e-4)


def test_gpt_sees_no_later_token() -> None:
    model = BUILDERS["gpt"]()
    run, feeds = session(model), feeds_of(model, 1)
    before = run(feeds)[0]
    feeds["input_ids"][0, 4] = (feeds["input_ids"][0, 4] + 1) % 100
    after = run(feeds)[0]
    np.testing.assert_array_equal(before[:, :4], after[:, :4])
    assert np.abs(before[:, 4:] - after[:, 4:]).max() > 1e-2


def test_gpt_ties_embedding_and_head() -> None:
    readers = [node.op_type for node in BUILDERS["gpt"]().graph.node if "wte.weight" in node.input]
    assert sorted(readers) == ["Gather", "Transpose"]


def test_bert_ignores_hidden_tokens() -> None:
    model = BUILDERS["bert"]()
    run, feeds = session(model), feeds_of(model, 1)
    feeds["attention_mask"] = np.array([[1, 1, 1, 1, 1, 0, 0]])
    before = run(feeds)
    feeds["input_ids"][0, 5:] = 3
    after = run(feeds)
    np.testing.assert_array_equal(before[0][:, :5], after[0][:, :5])
    np.testing.assert_array_equal(before[1], after[1])


def test_import_loads_neither_onnx_nor_numpy() -> None:
    code = "import sys, fcc.models; assert not {'onnx', 'numpy'} & set(sys.modules), sorted(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
