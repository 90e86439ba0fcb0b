"""Decisions of lossy compiles: written into a plan, replayed without a search, refused where they do not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("scipy")

import fcc
from fcc.allocation import _Search
from fcc.changes import Change
from fcc.decision import Decision, read_decision
from fcc.errors import OptionError, ParityError
from fcc.models.mlp import mlp
from fcc.plan import Plan, read_plan
from fcc.recipe import Chooser, Recipe
from fcc.runtime.timing import Timing
from fcc.trial import Trial

WIDTH = 96


def data(seed: int) -> dict[str, Any]:
    """Inputs in a subspace, so that a low rank loses little."""
    basis, rng = np.random.default_rng(0).standard_normal((12, WIDTH)) / 3, np.random.default_rng(seed)
    return {"x": (rng.standard_normal((240, 12)) @ basis).astype(np.float32)[:, None]}


SAMPLES = data(1)


@pytest.fixture(scope="module")
def model() -> Any:
    return mlp(batch=1, sizes=(WIDTH, 96, 96, 8), seed=1)


def compiled(model: Any, **more: Any) -> Any:
    return fcc.compile(model, **{"calibration": SAMPLES, "budget": 0.5, **more})


def as_file(found: Any) -> dict[str, Any]:
    """Return the plan as a user would read and edit it."""
    plan: dict[str, Any] = json.loads(found.plan.to_json())
    return plan


BY_HAND: list[dict[str, Any]] = [
    {"low_rank": 0.5},
    {"low_rank": "rank=16"},
    {"prune": 0.9},
    {"precision": "int8"},
    {"precision": "int8-dynamic", "objective": "size"},
    {"precision": "int4", "objective": "size"},
    {"size": "int8"},
    {"low_rank": 0.5, "precision": "int8"},
]


@pytest.mark.parametrize("how", BY_HAND, ids=str)
def test_steps_by_hand_are_replayed(model: Any, how: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    first = compiled(model, **how)
    plan = as_file(first)
    assert plan["lossy"]["by"] == "hand"
    assert ("recipe" in plan["lossy"]) == (how.get("precision") in ("int8", "int8-dynamic"))
    assert [row["name"] for row in plan["layers"]] == [row["name"] for row in first.report.layers]
    monkeypatch.setattr(Chooser, "choose", _no_search)
    again = compiled(model, plan=plan, budget=how.get("budget", 0.5))
    assert again.to_bytes() == first.to_bytes()
    assert as_file(again) == plan


def _no_search(*_: Any) -> Any:
    raise AssertionError("a replay looks for nothing")


@pytest.fixture(scope="module")
def chosen(model: Any) -> Any:
    return compiled(model, opt_level=3, objective="size", budget=0.02)


def test_the_choice_of_level_3_is_replayed(model: Any, chosen: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plan = as_file(chosen)
    assert plan["opt_level"] == 3
    assert plan["lossy"]["by"] == "level 3"
    assert {c["layer"] for c in plan["lossy"]["changes"]} <= {row["name"] for row in chosen.report.tried}
    monkeypatch.setattr(_Search, "decide", _no_search)
    again = compiled(model, plan=plan, budget=0.02)
    assert again.to_bytes() == chosen.to_bytes()
    assert again.report.decision == chosen.report.decision
    assert [r.ok for r in again.report.parity if r.phase == "lossy"] == [True]


def test_a_whole_model_plan_of_level_3_is_replayed(model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fcc.lossy._mixed", lambda *_: None)
    monkeypatch.setattr(Trial, "speed", lambda *_: Timing(10.0, 5.0, 0.5, 0.01, 9))
    first = compiled(model, opt_level=3, objective="size")
    plan = as_file(first)
    assert plan["lossy"]["by"] == "level 3"
    assert "changes" not in plan["lossy"]
    monkeypatch.setattr(Chooser, "choose", _no_search)
    assert compiled(model, plan=plan).to_bytes() == first.to_bytes()


def test_other_data_fits_the_same_decision_anew(model: Any, chosen: Any) -> None:
    again = compiled(model, plan=chosen.plan, calibration=data(2))
    assert again.report.decision == chosen.report.decision
    assert again.to_bytes() != chosen.to_bytes()
    with pytest.raises(ParityError, match=r"layers changed moves the outputs beyond the budget 1e-09"):
        compiled(model, plan=chosen.plan, budget=1e-9)


def test_a_plan_can_be_edited(model: Any, chosen: Any) -> None:
    plan = as_file(chosen)
    plan["lossy"]["changes"] = [{"layer": "logits", "kind": "int8"}]
    again = compiled(model, plan=plan)
    assert [row["name"] for row in again.report.layers] == ["logits"]


def test_a_plan_of_another_model_is_refused(model: Any, chosen: Any) -> None:
    other = mlp(batch=1, sizes=(WIDTH, 96, 96, 8), seed=2)
    with pytest.raises(OptionError, match=r"the plan is for another model \(no file, sha256 [0-9a-f]{12}\)"):
        compiled(other, plan=chosen.plan)
    assert compiled(other, plan={**as_file(chosen), "model": ""}, budget=0.5).report.layers


def test_layers_that_are_not_there_are_refused(model: Any, chosen: Any) -> None:
    plan = as_file(chosen)
    plan["lossy"]["changes"] = [{"layer": "fc9", "kind": "low rank", "strength": 0.25}]
    with pytest.raises(OptionError, match=r"the plan says low rank 0\.25 for fc9, which"):
        compiled(model, plan=plan)


@pytest.mark.parametrize(
    ("lossy", "why"),
    [
        ({"sparse": 1}, "lossy has no key 'sparse'"),
        ({"precision": "int3"}, "precision has no value 'int3'"),
        ({"size": "int3"}, "size has no value 'int3'"),
        ({"by": "luck"}, "by has no value 'luck'"),
        ({"objective": "luck"}, "objective has no value 'luck'"),
        ({"low_rank": {"ratio": 2}}, "low_rank takes"),
        ({"distill": {"epochs": 0}}, "distill takes"),
        ({"recipe": {"rangs": "mse"}}, 'recipe {"rangs": "mse"} is not as a plan has it'),
        ({"recipe": 3}, "recipe 3 is not"),
        ({"changes": [{"kind": "int8"}]}, "change .* is not as a plan has it"),
        ({"changes": [{"layer": "a", "kind": "fp8"}]}, "a has no change fp8"),
        ({"changes": [{"layer": "a", "kind": "prune", "strength": 1.5}]}, "a has no change prune 1.5"),
    ],
)
def test_what_a_decision_cannot_say(lossy: dict[str, Any], why: str) -> None:
    with pytest.raises(OptionError, match=why):
        read_decision(lossy)


def test_a_decision_reads_back() -> None:
    decision = Decision(
        prune={"ratio": 0.5},
        precision="int8",
        recipe=Recipe(smooth=0.5, gptq=True, exclude="a"),
        changes=(Change("b", "low rank", 0.25), Change("c", "int4")),
        distill={"epochs": 3, "rate": 0.1},
        objective="size",
    )
    assert read_decision(json.loads(json.dumps(decision.to_dict()))) == decision
    assert str(decision) == "prune ratio=0.5 + int8 + 2 layers changed"
    assert str(Decision(low_rank={"rank": 8}, size="fp16")) == "low rank rank=8 + weights stored as fp16"


@pytest.mark.parametrize(
    ("how", "why"),
    [
        ({"precision": "int4"}, "--precision is not what the plan says"),
        ({"low_rank": 0.25}, "--low-rank is not what the plan says"),
        ({"target": "cuda"}, "the plan is for --target cpu, not cuda"),
    ],
)
def test_steps_beside_a_plan_that_says_otherwise(model: Any, how: dict[str, Any], why: str) -> None:
    plan = Plan("cpu", lossy=Decision(low_rank={"ratio": 0.5}).to_dict())
    with pytest.raises(OptionError, match=why):
        compiled(model, plan=plan, **how)


def test_the_same_step_beside_a_plan(model: Any) -> None:
    plan = Plan("cpu", lossy=Decision(low_rank={"ratio": 0.5}).to_dict())
    assert compiled(model, plan=plan, low_rank=0.5).report.layers


def test_exact_compiles_and_fallbacks_hold_no_decision(model: Any) -> None:
    found = fcc.compile(model)
    assert found.plan is not None
    assert (found.plan.lossy, found.plan.model, found.plan.layers) == ({}, "", ())


def test_the_shape_of_the_file_is_checked(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    path.write_text('{"schema": 1, "target": "cpu", "choices": [], "skip": [], "lossy": []}')
    with pytest.raises(OptionError, match="lossy is not as a plan has it"):
        read_plan(path)
