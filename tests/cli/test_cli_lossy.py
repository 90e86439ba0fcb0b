"""Plans with lossy layers, the curve, and distillation on the command line."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import onnx
import pytest

from fcc.models.mlp import mlp

pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

Fcc = Callable[..., Any]


@pytest.fixture
def net(folder: Path) -> str:
    onnx.save(mlp(sizes=(48, 48, 4)), folder / "net.onnx")
    rng = np.random.default_rng(0)
    x = rng.standard_normal((150, 8)) @ rng.standard_normal((8, 48)) / 3
    np.savez(folder / "x.npz", x=x.astype(np.float32)[:, None])
    return "net.onnx"


O3 = ("-O3", "--objective", "size", "--budget", "5%", "--calibration", "x.npz")


def test_a_plan_of_level_3_its_curve_and_its_page(fcc: Fcc, net: str, folder: Path) -> None:
    done = fcc(net, *O3, "-v", "-o", "a.onnx", "--plan", "p.json", "--curve", "my curve.svg", "--report", "r.md")
    assert done.code == 0, done.err
    assert "tried" in done.out
    assert ": chosen" in done.out
    plan = json.loads((folder / "p.json").read_text())
    assert plan["lossy"]["by"] == "level 3"
    assert len(plan["model"]) == 64
    root = ElementTree.fromstring((folder / "my curve.svg").read_text())
    assert any(e.text == "budget 0.05" for e in root.iter())
    page = (folder / "r.md").read_text()
    assert "![error against size](my%20curve.svg)" in page
    assert "| layer | change alone | error | cost (bytes) |  |" in page
    assert "| predicted error | error | cost (bytes) |" in page
    assert "chosen" in page
    again = fcc(net, "--calibration", "x.npz", "--budget", "5%", "--from-plan", "p.json", "-o", "b.onnx")
    assert again.code == 0, again.err
    assert (folder / "a.onnx").read_bytes() == (folder / "b.onnx").read_bytes()


def test_spectra_are_on_the_page(fcc: Fcc, net: str, folder: Path) -> None:
    done = fcc(net, "--low-rank", "ratio=0.4", "--calibration", "x.npz", "--report", "r.md", "--curve", "c.svg")
    assert done.code == 0, done.err
    assert "| layer | rank | error at rank |" in (folder / "r.md").read_text()
    assert "no choice was measured" in (folder / "c.svg").read_text()


def test_a_plan_that_does_not_fit(fcc: Fcc, net: str, folder: Path) -> None:
    plan = {
        "schema": 1,
        "target": "cpu",
        "choices": [],
        "skip": [],
        "lossy": {"low_rank": {"ratio": 0.4}},
        "model": "0" * 64,
    }
    (folder / "p.json").write_text(json.dumps(plan))
    done = fcc(net, "--from-plan", "p.json")
    assert done.code == 2
    assert done.errors == ["fcc: error: the plan is for another model (no file, sha256 000000000000)"]
    assert '"model": ""' in done.err


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (("--curve", "c.png"), 2, "--curve writes .svg, not 'c.png'"),
        (("--curve", "c.svg", "-o", "c.svg"), 2, "--curve c.svg would overwrite a model"),
        (("--epochs", "3"), 2, "--epochs is an option of --distill"),
        (("--rate", "0.1"), 2, "--rate is an option of --distill"),
    ],
)
def test_what_is_refused(fcc: Fcc, net: str, words: tuple[str, ...], code: int, says: str) -> None:
    done = fcc(net, *words)
    assert done.code == code
    assert says in done.err


def test_distill(fcc: Fcc, net: str, folder: Path) -> None:
    words = (net, "--low-rank", "ratio=0.4", "--calibration", "x.npz", "--force", "--distill", "--report", "r.json")
    done = fcc(*words, "--epochs", "2", "--rate", "0.02")
    if importlib.util.find_spec("torch") is None:
        assert done.code == 2
        assert 'pip install "fcc[torch]"' in done.err
        return
    assert done.code == 0, done.err
    report = json.loads((folder / "r.json").read_text())
    assert report["distilled"]["epochs"] == 2
    assert report["decision"]["distill"] == {"epochs": 2, "rate": 0.02}
    assert "distillation: error" in done.out


def test_bars_of_sensitivity(fcc: Fcc, net: str, folder: Path) -> None:
    words = ("sensitivity", net, "--calibration", "x.npz", "--precision", "fp32")
    done = fcc(*words, "--svg", "s.svg", "--json")
    assert done.code == 0, done.err
    rows = json.loads(done.out)
    assert all(o["why"] for row in rows for o in row["options"])
    root = ElementTree.fromstring((folder / "s.svg").read_text())
    assert sum(1 for e in root.iter() if e.get("class") == "bar") == sum(
        1 for r in rows for o in r["options"] if o["error"]
    )
    assert fcc(*words, "--svg", "s.png").code == 2
