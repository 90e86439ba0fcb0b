"""compare, inspect, bench, passes, targets."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from fcc import passes
from fcc.target import targets

Fcc = Callable[..., Any]


def scaled(source: str, output: Path, factor: float) -> None:
    """Write the model with its last weight scaled."""
    model = onnx.load(source)
    weight = next(t for t in model.graph.initializer if t.name == "u")
    weight.CopyFrom(onnx.numpy_helper.from_array(factor * onnx.numpy_helper.to_array(weight), "u"))
    onnx.save(model, output)


def test_compare_equal(fcc: Fcc, model: str) -> None:
    assert fcc(model, "-q").code == 0
    result = fcc("compare", model, "net.fcc.onnx")
    assert (result.code, result.err) == (0, "")
    assert re.search(r"^  y +\S+ +0\.0001 .*ok$", result.out, re.M)


def test_compare_different_is_exit_6(fcc: Fcc, model: str, folder: Path) -> None:
    scaled(model, folder / "other.onnx", 1.01)
    result = fcc("compare", model, "other.onnx")
    assert result.code == 6
    assert "BEYOND" in result.out
    assert "other.onnx does not give the answers of net.onnx" in result.err
    assert len(result.errors) == 1


def test_compare_under_a_budget(fcc: Fcc, model: str, folder: Path) -> None:
    scaled(model, folder / "other.onnx", 1.01)
    within = fcc("compare", model, "other.onnx", "--budget", "2%")
    assert within.code == 0
    assert "BEYOND" not in within.out
    assert "budget 0.02" in within.out
    assert fcc("compare", model, "other.onnx", "--budget", "0.5%").code == 6
    assert fcc("compare", model, "other.onnx", "--budget", "0.001", "--metric", "agreement").code == 0
    assert "agreement 0" in fcc("compare", model, model, "--metric", "agreement").out


def test_compare_with_an_own_metric(fcc: Fcc, model: str, folder: Path) -> None:
    scaled(model, folder / "other.onnx", 1.5)
    (folder / "mine.py").write_text("def gap(a, b):\n    return abs(float((b['y'] / a['y']).mean()) - 1)\n")
    assert fcc("compare", model, "other.onnx", "--metric", "mine.py:gap", "--budget", "0.6").code == 0
    assert fcc("compare", model, "other.onnx", "--metric", "mine.py:gap", "--budget", "0.4").code == 6


def test_compare_intermediates(fcc: Fcc, model: str) -> None:
    fcc(model, "-q")
    out = fcc("compare", model, "net.fcc.onnx", "--intermediates").out
    inside = out.partition("inside")[2]
    assert re.search(r"^  r .*ok$", inside, re.M)


def test_compare_on_data(fcc: Fcc, model: str) -> None:
    np.savez("data.npz", x=np.ones((5, 1, 4), np.float32))
    assert ", 5 feeds" in fcc("compare", model, model, "--data", "data.npz").out


def test_compare_other_interface_is_exit_6(fcc: Fcc, model: str, folder: Path, build: Any) -> None:
    text = '<ir_version: 9, opset_import: ["" : 17]>\nnet (float[N, 4] x) => (float[N, 4] z) { z = Relu(x) }'
    onnx.save(build(text), folder / "other.onnx")
    result = fcc("compare", model, "other.onnx")
    assert result.code == 6
    assert "outputs z instead of y" in result.err


def test_inspect(fcc: Fcc, model: str) -> None:
    out = fcc("inspect", model, "--target", "cpu").out
    for pattern in (
        r"opset +ai\.onnx 17",
        r"input +x float\[N, 4\]",
        r"output +y float\[N, 3\]",
        r"nodes +5",
        r"parameters +55",
        r"MatMul +2 +70 ",
        r"lint for cpu: nothing to say",
    ):
        assert re.search(pattern, out), pattern
    assert max(map(len, out.splitlines())) <= 80


def test_inspect_at_an_opt_shape(fcc: Fcc, model: str) -> None:
    assert re.search(r"MatMul +2 +700 ", fcc("inspect", model, "--opt-shape", "N=10").out)
    assert re.search(r"MatMul +2 +700 ", fcc("inspect", model, "--opt-shape", "x=10x4").out)


CUT = """<ir_version: 8, opset_import: ["" : 17]> g (float[N,4,4] x) => (float[N,4,4] y) <int64[2] k = {1,2}> {
    a = Sin(x) d = Det(a) e = Unsqueeze(d, k) y = Mul(a, e) }"""


@pytest.mark.parametrize(("target", "device"), [("cuda", "CUDA"), ("tensorrt", "TensorRT")])
def test_inspect_shows_partitions_and_what_cuts(fcc: Fcc, folder: Path, target: str, device: str) -> None:
    onnx.save(onnx.parser.parse_model(CUT), folder / "cut.onnx")
    out = fcc("inspect", "cut.onnx", "--target", target, "--opt-shape", "N=5").out
    for pattern in (
        rf"partitions for {target}: 3",
        rf"0 +{device} +1 +0 +1 +Sin",
        r"1 +CPU +1 +1 +1 +Det",
        rf"2 +{device} +2 +2 +0 +Mul, Unsqueeze",
        r"copy +a to the host, 320 B",
        r"copy +d to the device, 20 B",
        r"cut by +Det_d: .*Det \(2 copied\)",
    ):
        assert re.search(pattern, out), (pattern, out)
    assert "partitions" not in fcc("inspect", "cut.onnx", "--target", "cpu").out
    assert max(map(len, out.splitlines())) <= 80


def test_inspect_text(fcc: Fcc, model: str) -> None:
    out = fcc("inspect", model, "--text").out
    assert "BatchNormalization" in out
    assert "FLOPs" not in out


def test_bench_one_and_two(fcc: Fcc, model: str) -> None:
    one = fcc("bench", model, "--seconds", "0.05", "--opt-shape", "N=8")
    assert (one.code, one.err) == (0, "")
    assert "feed x [8, 4]" in one.out
    two = fcc("bench", model, model, "--seconds", "0.05")
    assert re.search(r"ratio \d\.\d{3} \+- \d\.\d{3}", two.out)


def test_bench_without_time_is_exit_2(fcc: Fcc, model: str) -> None:
    assert fcc("bench", model, "--seconds", "0").code == 2


def test_passes_lists_every_pass_and_level(fcc: Fcc) -> None:
    out = fcc("passes").out
    for known in passes.ALL_PASSES:
        assert f"\n  {known.name}\n" in out
    for level in (0, 1, 2, 3):
        assert f"\n  -O{level} " in out
    assert max(map(len, out.splitlines())) <= 80


@pytest.mark.parametrize("known", passes.ALL_PASSES, ids=lambda p: p.name)
def test_passes_shows_one(fcc: Fcc, known: Any) -> None:
    out = fcc("passes", known.name).out
    assert out.startswith(f"{known.name}\n")
    assert len(out.splitlines()) > 2


def test_targets(fcc: Fcc) -> None:
    out = fcc("targets").out
    assert re.search(r"cpu +CPUExecutionProvider +7-26 .* yes", out)
    assert all(f"\n  {name} " in out for name in targets())


def test_version_and_help(fcc: Fcc) -> None:
    assert fcc("--version").out.startswith("fcc 0.")
    text = fcc("--help").out
    assert max(map(len, text.splitlines())) <= 80
    for name in ("compare", "inspect", "bench", "tune", "bisect", "verify", "passes", "targets"):
        assert f"\n  {name} " in text
        assert f"Usage: fcc {name}" in fcc(name, "--help").out


CONTRACT = """-o --output -O --target --precision --scheme --size --budget --metric --objective --disable --passes --plugin --low-rank
--prune --calibration --data --state --shape --opt-shape --min-shape --max-shape --verify --require-parity --strict --force
--allow-growth --allow-cuda-only --custom-ops --cpu-isa --threads --seed --report --explain --print-after --time-passes
--distill --epochs --rate --curve --skip-bad-data --cluster --cache --timeout --max-memory --max-nodes
--rewrite-limit --tune-seconds --table --plan --from-plan --dry-run -v -q --debug --version --help"""


def test_options_are_those_of_the_contract() -> None:
    import click

    from fcc.cli.compile import command

    names = {name for p in command.get_params(click.Context(command)) for name in p.opts if name.startswith("-")}
    assert names == set(CONTRACT.split())
