"""fcc sensitivity."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fcc.models.mlp import mlp

pytest.importorskip("scipy")

Fcc = Callable[..., Any]


@pytest.fixture
def net(folder: Path) -> str:
    onnx.save(mlp(batch=1, sizes=(48, 48, 4)), folder / "net.onnx")
    x = np.random.default_rng(0).standard_normal((60, 1, 48)).astype(np.float32)
    np.savez(folder / "x.npz", x=x)
    return "net.onnx"


def test_every_change_of_every_layer(fcc: Fcc, net: str, folder: Path) -> None:
    done = fcc("sensitivity", net, "--calibration", "x.npz")
    assert done.code == 0, done.err
    assert "net.onnx: 2 layers can be changed" in done.out
    assert "prune 0.5" in done.out
    assert "int8" in done.out
    assert sorted(p.name for p in folder.iterdir()) == ["net.onnx", "x.npz"]


def test_as_json_by_latency_in_floats(fcc: Fcc, net: str) -> None:
    words = ("sensitivity", net, "--calibration", "x.npz", "--json", "--objective", "latency", "--precision", "fp32")
    done = fcc(*words)
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert {o["name"].split()[0] for row in rows for o in row["options"]} == {"prune", "low"}
    assert all(o["cost"] > 0 for row in rows for o in row["options"])


def test_bad_input(fcc: Fcc, net: str) -> None:
    assert fcc("sensitivity", net).code == 2
    assert fcc("sensitivity", net, "--calibration", "y.npz").code == 4
    done = fcc("sensitivity", net, "--calibration", "x.npz", "--objective", "beauty")
    assert done.code == 2
    assert "objective" in done.err
