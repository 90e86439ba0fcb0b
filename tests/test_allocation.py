"""-O3 layer by layer: what is tried, what is chosen, and that the report says so."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fcc
from fcc.models.mlp import mlp
from fcc.runtime.timing import Timing
from fcc.trial import Trial

pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

WIDTH = 96


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Inputs in a subspace, so that a low rank loses little."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((240, 12)) @ rng.standard_normal((12, WIDTH)) / 3
    path: Path = tmp_path_factory.mktemp("data") / "x.npz"
    np.savez(path, x=x.astype(np.float32)[:, None])
    return path


@pytest.fixture(scope="module")
def model() -> Any:
    return mlp(batch=1, sizes=(WIDTH, 96, 96, 8), seed=1)


def compiled(model: Any, samples: Path, **more: Any) -> Any:
    given = {"opt_level": 3, "objective": "size", "budget": 0.02, "calibration": str(samples)}
    return fcc.compile(model, **{**given, **more})


def test_layers_are_changed_on_their_own_account(model: Any, samples: Path) -> None:
    found = compiled(model, samples)
    report = found.report
    assert report.notes[0].startswith("layer by layer: ")
    rows = {row["name"]: row for row in report.tried}
    assert list(rows) == ["Gemm_0_output_0", "Gemm_2_output_0", "logits"]
    tried = {o["name"]: o for o in rows["Gemm_0_output_0"]["options"]}
    assert {
        "prune 0.25",
        "low rank 0.25",
        "low rank 0.6",
        "stored as int8",
        "low rank 0.4 + stored as int8",
        "int4",
    } <= set(tried)
    assert tried["low rank 0.4"]["error"] < 1e-4 < tried["low rank 0.25"]["error"]
    assert tried["low rank 0.4"]["cost"] < tried["low rank 0.6"]["cost"]
    assert any(row["what"] != "kept" for row in rows.values())
    assert all(point["error"] == pytest.approx(point["predicted"], rel=0.3) for point in report.curve)
    assert 0 < min(point["error"] for point in report.curve) <= 0.02
    assert len(found.to_bytes()) < 0.5 * len(fcc.compile(model).to_bytes())
    assert all(row.ok and row.error <= 0.02 for row in report.parity if row.phase == "lossy")


def test_the_same_choice_again(model: Any, samples: Path) -> None:
    assert compiled(model, samples).to_bytes() == compiled(model, samples).to_bytes()


def test_numbers_stay_fp32_when_told(model: Any, samples: Path) -> None:
    report = compiled(model, samples, precision="fp32").report
    assert {o["name"].split()[0] for row in report.tried for o in row["options"]} == {"low", "prune"}
    assert report.layers


def test_another_metric(model: Any, samples: Path) -> None:
    report = compiled(model, samples, metric="agreement", budget=0.2).report
    assert any(row.metric == "agreement" and row.ok for row in report.parity)
    assert any(row["what"] != "kept" for row in report.tried)


def test_nothing_that_keeps_the_budget(model: Any, samples: Path) -> None:
    report = compiled(model, samples, budget=1e-9).report
    assert report.notes[0] == "layer by layer: no change keeps the budget and gains anything"
    assert any("this is the -O2 model" in note for note in report.notes)


def test_it_backs_off_where_unseen_samples_lose_more(
    model: Any, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[int] = []
    lossy = Trial.lossy

    def strict_at_first(self: Trial, emitted: Any, report: Any = None) -> bool:
        judged.append(emitted.size)
        return bool(lossy(self, emitted, report)) and len(judged) > 1

    monkeypatch.setattr(Trial, "lossy", strict_at_first)
    report = compiled(model, samples, budget=0.05).report
    assert judged[0] < judged[1]
    assert report.notes[0].endswith(" bytes")
    assert report.certified["tries"] == len(judged)


def test_a_smaller_model_that_is_slower_is_no_better(
    model: Any, samples: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Trial, "speed", lambda *_: Timing(10.0, 11.0, 1.1, 0.01, 9))
    report = compiled(model, samples).report
    assert report.notes[0].endswith("bytes, 1.10 of the latency of -O2, not better")
    assert any("this is the -O2 model" in note for note in report.notes)


def test_unseen_samples_certify_the_result(model: Any, samples: Path) -> None:
    report = compiled(model, samples).report
    found = report.certified
    assert found["units"] == 80
    assert found["figure"] <= found["bound"]
    assert found["figure"] == pytest.approx(next(r.error for r in report.parity if r.phase == "lossy"))
    assert found["tries"] >= 1
    assert "rel at most" in report.certainty


def test_samples_that_were_fitted_certify_nothing(model: Any, samples: Path) -> None:
    path = str(samples)
    report = compiled(model, samples, opt_level=2, budget=0.5, low_rank="ratio=0.5", data=path, calibration=path).report
    assert not report.certified
    assert any("nothing is certified" in note for note in report.notes)
