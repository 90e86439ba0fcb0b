"""Random graphs, compiled for every target: right answers, same declarations and bytes, nothing grows.

Long runs: python benchmarks/fuzz.py --count 5000.
"""

import importlib.util
import random
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from fcc.models.random_graph import random_graph


def load_fuzz() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fcc_fuzz", Path(__file__).parent.parent / "benchmarks" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


fuzz = load_fuzz()


@pytest.mark.parametrize("target", ["cpu", "cuda", "tensorrt"])
@settings(
    max_examples=50,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=[HealthCheck.filter_too_much, HealthCheck.too_slow, HealthCheck.data_too_large],
)
@given(rng=st.randoms(use_true_random=False))
def test_random_graph(target: str, rng: random.Random) -> None:
    model = random_graph(rng, steps=12)
    expected = fuzz.references(model)
    assume(expected)
    assert fuzz.problems(model, target, expected) == []


@pytest.mark.parametrize("seed", range(40))
def test_seeded_graph(seed: int) -> None:
    model = random_graph(random.Random(seed), steps=20)
    expected = fuzz.references(model)
    if not expected:
        pytest.skip("onnxruntime does not run the source")
    assert fuzz.problems(model, ("cpu", "cuda", "tensorrt")[seed % 3], expected) == []


def test_the_generator_is_deterministic_and_valid() -> None:
    for seed in range(20):
        first, second = (random_graph(random.Random(seed)).SerializeToString() for _ in "ab")
        assert first == second
        onnx.checker.check_model(first)


def test_the_check_sees_a_wrong_answer() -> None:
    models = (random_graph(random.Random(seed)) for seed in range(50))
    model = next(m for m in models if (found := fuzz.references(m)) and found[0][1][0].size)
    expected = fuzz.references(model)
    feeds, outputs = expected[0]
    wrong = [(feeds, [np.logical_not(y) if y.dtype == bool else y + y.dtype.type(1) for y in outputs])]
    assert list(fuzz.differences(model.SerializeToString(), expected, "float16")) == []
    assert len(list(fuzz.differences(model.SerializeToString(), wrong, "float16"))) >= 2
