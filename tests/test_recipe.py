"""The recipe of static int8: what is tried, what is kept, and what the report and the metadata say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

pytest.importorskip("onnxruntime")

import fcc
from fcc import recipe
from fcc.analysis import shapes
from fcc.models import path
from fcc.recipe import STEPS, Chooser, Recipe

# Two channels of the hidden tensor are far larger than the others: one scale for all of them leaves these no digits.
TEXT = "g (float[N,16] x) => (float[N,4] y) <float[16,8] w, float[8,4] v> { t = Gemm(x, w) u = Relu(t) y = Gemm(u, v) }"


@pytest.fixture(scope="module")
def uneven() -> tuple[bytes, dict[str, Any]]:
    from fcc.testing import model_from

    rng = np.random.default_rng(0)
    w, v = rng.standard_normal((16, 8)), rng.standard_normal((8, 4))
    w[:, :2] *= 200
    v[:2] /= 200
    model = model_from(TEXT, 21, {"w": w.astype(np.float32), "v": v.astype(np.float32)}, 0)
    return model.SerializeToString(), {"x": rng.standard_normal((60, 1, 16)).astype(np.float32)}


def compiled(model: bytes, samples: Any, **more: Any) -> fcc.CompiledModel:
    return fcc.compile(model, precision="int8", calibration=samples, allow_growth=True, **more)


def test_smoothing_is_kept_where_it_helps(uneven: Any) -> None:
    model, data = uneven
    result = compiled(model, data)
    (note,) = (n for n in result.report.notes if n.startswith("int8 by"))
    assert note.startswith("int8 by smoothed")
    tried = tried_in(note)
    assert len(tried) == 1 + len(STEPS)
    assert min(tried.values()) < 0.5 * tried["ranges minmax"]
    assert [n.op_type for n in result.module.graph].count("Gemm") == 2


def tried_in(note: str) -> dict[str, float]:
    """Return recipe -> error of a note."""
    text = note.partition("held back: ")[2].removesuffix(")")
    return {name: float(error) for name, _, error in (t.rpartition(" ") for t in text.split("; "))}


def _metadata(result: fcc.CompiledModel) -> dict[str, str]:
    return {p.key: p.value for p in result.proto().metadata_props}


def test_only_vnni_leaves_the_pairs_alone(uneven: Any) -> None:
    model, data = uneven
    assert "exact in 16-bit" in _metadata(compiled(model, data))["fcc.int8"]
    assert "needs VNNI or ARM" in _metadata(compiled(model, data, cpu_isa="vnni"))["fcc.int8"]
    assert "fcc.int8" not in _metadata(fcc.compile(model))


def test_a_step_that_does_not_help_is_not_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    losses = iter([1.0, 0.98, 0.5, 0.36, 0.49, 2.0, 0.4, 0.395, 0.41])
    asked: list[Recipe] = []

    def loss(self: Chooser, recipe: Recipe, *rest: Any) -> float:
        asked.append(recipe)
        return next(losses)

    monkeypatch.setattr(Chooser, "_loss", loss)
    monkeypatch.setattr(recipe, "outputs_of", lambda *_: iter(()))
    from fcc.data.dataset import Data

    found = Chooser(None, None, None, Data((), (), {}), recipe.apply, spares=False).choose()  # type: ignore[arg-type]
    assert found == Recipe(smooth=0.75, gptq=True, per_tensor="Gemm+MatMul")
    assert asked == [
        Recipe(),
        Recipe(smooth=0.5),
        Recipe(smooth=0.75),
        Recipe(smooth=0.75, insert=True),
        Recipe(smooth=0.75, ranges="percentile"),
        Recipe(smooth=0.75, ranges="mse"),
        Recipe(smooth=0.75, gptq=True),
        Recipe(smooth=0.75, gptq=True, correct=True),
        Recipe(smooth=0.75, gptq=True, per_tensor="Gemm+MatMul"),
    ]


def test_fitted_int8_of_a_trained_model_loses_less() -> None:
    calibration, test = (dict(np.load(path(f"digits_{k}.npz"))) for k in ("calibration", "test"))
    judged = {"x": test["x"][:100]}
    fit = {"x": calibration["x"][:150]}
    result = fcc.compile(path("digits_mlp").read_bytes(), precision="int8", calibration=fit, data=judged)
    (note,) = (n for n in result.report.notes if n.startswith("int8 by"))
    tried = tried_in(note)
    assert min(tried.values()) < 0.8 * tried["ranges minmax"]
    (row,) = (r for r in result.report.parity if r.phase == "lossy")
    assert row.error < 0.9 * tried["ranges minmax"]


def judged(
    monkeypatch: pytest.MonkeyPatch,
    alone: dict[str, float],
    all_of_them: float,
    spared: float,
    work: dict[str, int] | None = None,
) -> list[Recipe]:
    """Choose with these errors: of each layer alone, of all, and of what leaves some float; return what was asked."""
    asked: list[Recipe] = []

    def loss(self: Chooser, recipe: Recipe, *rest: Any) -> float:
        asked.append(recipe)
        return alone[recipe.only] if recipe.only else spared if recipe.exclude else all_of_them

    monkeypatch.setattr(Chooser, "_loss", loss)
    monkeypatch.setattr(recipe, "outputs_of", lambda *_: iter(()))
    monkeypatch.setattr(recipe, "layers", lambda *_: list(alone))
    monkeypatch.setattr(recipe, "work_of", lambda *_: dict.fromkeys(alone, 10) | (work or {}))
    from fcc.data.dataset import Data

    asked.append(Chooser(None, None, None, Data((), (), {}), recipe.apply, ()).choose())  # type: ignore[arg-type]
    return asked


def test_layers_without_which_the_error_halves_stay_float(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {"a": 0.001, "b": 0.02, "c": 0.015, "d": 0.002}
    assert judged(monkeypatch, alone, 0.025, 0.01)[-2:] == [Recipe(exclude="b+c"), Recipe(exclude="b+c")]
    assert judged(monkeypatch, alone, 0.025, 0.0126)[-2:] == [Recipe(exclude="b+c"), Recipe()]  # it did not halve
    alone = {"a": 0.02, "b": 0.001, "c": 0.001}
    assert judged(monkeypatch, alone, 0.025, 0.01)[-1] == Recipe(exclude="a")


def test_layers_that_hold_most_of_the_work_are_quantized_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """int8 is asked for speed: without them nothing would get faster."""
    alone = {"a": 0.001, "b": 0.02, "c": 0.015, "d": 0.002}
    assert judged(monkeypatch, alone, 0.05, 0.01, {"b": 31})[-1] == Recipe(exclude="c")  # a, c, d: 30
    assert judged(monkeypatch, alone, 0.05, 0.01, {"b": 30})[-1] == Recipe(exclude="b")
    assert judged(monkeypatch, alone, 0.025, 0.01, {"b": 31})[-1] == Recipe()  # c alone does not help enough
    assert judged(monkeypatch, alone, 0.025, 0.01, {"b": 11, "c": 9})[-1] == Recipe(exclude="b+c")
    assert judged(monkeypatch, alone, 0.025, 0.01, {"b": 11, "c": 10})[-1] == Recipe()  # both are more than half


def test_an_error_that_is_useless_is_not_worth_any_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    alone = {"a": 0.001, "b": 0.09, "c": 0.002}
    assert judged(monkeypatch, alone, 0.1, 0.01, {"b": 99})[-1] == Recipe()
    assert judged(monkeypatch, alone, 0.11, 0.01, {"b": 99})[-1] == Recipe(exclude="b")


def test_where_the_error_is_useless_all_steps_are_tried_again_without_the_worst(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Smoothing helps only once the layer that loses most is float."""
    found = {"": 0.3, "a": 0.25, "a+b": 0.2}

    def loss(self: Chooser, recipe: Recipe, *rest: Any) -> float:
        if recipe.only:
            return {"a": 0.2, "b": 0.18, "c": 0.01}[recipe.only]
        return found[recipe.exclude] * (0.5 if recipe.smooth and recipe.exclude else 1)

    monkeypatch.setattr(Chooser, "_loss", loss)
    monkeypatch.setattr(recipe, "outputs_of", lambda *_: iter(()))
    monkeypatch.setattr(recipe, "layers", lambda *_: list("abc"))
    monkeypatch.setattr(recipe, "work_of", lambda *_: {"a": 90, "b": 5, "c": 5})
    from fcc.data.dataset import Data

    steps = (({"smooth": 0.5}, 0.97),)
    made = Chooser(None, None, None, Data((), (), {}), recipe.apply, steps)  # type: ignore[arg-type]
    assert made.choose() == Recipe(smooth=0.5, exclude="a")
    found["a"] = 0.31
    assert made.choose() == Recipe(smooth=0.5, exclude="a+b")
    found["a+b"] = 0.31
    assert made.choose() == Recipe()


def test_work_is_counted_per_layer() -> None:
    from fcc.frontend import read
    from fcc.testing import model_from

    module = read(model_from(TEXT, 21, {}, 0).SerializeToString())
    shapes.infer(module)
    names = [n.outputs[0].name or "" for n in module.graph]
    found = recipe.work_of(module, [names[2], names[0]])
    assert list(found) == [names[2], names[0]]
    assert found[names[0]] == 4 * found[names[2]] > 0


def test_no_layer_is_spared_where_none_stands_out(monkeypatch: pytest.MonkeyPatch) -> None:
    even = dict.fromkeys("abcdefgh", 0.1)
    assert judged(monkeypatch, even, 0.28, 0.0)[-1] == Recipe()
    assert len(judged(monkeypatch, {"a": 0.2, "b": 0.2}, 0.019, 0.0)) == 2  # sound: nothing more is asked
    assert len(judged(monkeypatch, {"a": 0.2}, 0.2, 0.0)) == 2  # a model of one layer would be float


def test_a_layer_of_wide_range_stays_float() -> None:
    """The squares of inputs from 1e-3 to 1e3 need more than 8 bits; the layers behind do not."""
    from fcc.testing import model_from

    rng = np.random.default_rng(0)
    text = (
        "g (float[N,8] x) => (float[N,4] y) <float[8,8] w, float[8,8] v, float[8,4] u>"
        " { a = Gemm(x, w) b = Sigmoid(a) c = Gemm(b, v) d = Relu(c) y = Gemm(d, u) }"
    )
    weights = {k: rng.standard_normal(s).astype(np.float32) for k, s in (("w", (8, 8)), ("v", (8, 8)), ("u", (8, 4)))}
    data = {"x": (10 ** rng.uniform(-2, 2, (80, 1, 1)) * rng.standard_normal((80, 1, 8))).astype(np.float32)}
    result = compiled(model_from(text, 21, weights, 0).SerializeToString(), data, force=True)
    (note,) = (n for n in result.report.notes if n.startswith("int8 by"))
    assert "float: a" in note.partition(" (error")[0]
    assert {x["name"] for x in result.report.layers} == {"d", "y"}


def test_dynamic_int8_is_smoothed_where_that_helps(uneven: Any) -> None:
    model, data = uneven
    plain = fcc.compile(model, precision="int8-dynamic", data=data, allow_growth=True, force=True)
    fitted = fcc.compile(model, precision="int8-dynamic", calibration=data, data=data, allow_growth=True)
    (note,) = (n for n in fitted.report.notes if n.startswith("dynamic int8 by"))
    assert "smoothed" in note.partition(" (error")[0]
    assert len(tried_in(note)) == 3
    errors = [next(r.error for r in m.report.parity if r.phase == "lossy") for m in (plain, fitted)]
    assert errors[1] < 0.5 * errors[0]
