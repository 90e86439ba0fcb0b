"""convert-winograd beside the direct convolution: ratios of latency, and the estimate of the pass.

    python benchmarks/winograd.py [CASE ...] [--context alone between chain] [--every] [--seconds 2] [--json FILE]

A case is batch x channels x outputs @ sizes : kernel, as in 1x64x64@56x56:3x3 (stride 1, padded to the same size).
Contexts, a Relu behind every convolution: `alone` is one layer; `between` stands behind and in front of 1x1
convolutions, as in a bottleneck, whose own time (measured without the layer) is taken off; `chain` is three layers in
a row. The last two need as many outputs as channels. `--every` times every tiling, else the one that the pass chooses.

direct   microseconds of the direct convolution;  ratio: of the time in tiles to it, one thread, the median over rounds
         that run every form in turn, in one process;  model: what the pass estimates
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from onnx_ir import serde

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.passes import _winograd_cost as cost
from fcc.passes._conv_layer import ConvLayer, conv_layer_of
from fcc.passes._winograd import Tiling, tilings
from fcc.passes.convert_winograd import ConvertWinograd
from fcc.rewrite import Log, PassContext, run_pass
from fcc.runtime import open_session
from fcc.target import get_target

_MAPS = "16@112 32@56 32@112 48@56 64@28 64@56 64@112 128@14 128@28 128@56 256@14 256@28 512@7 512@14"
_ROWS = "64@1000:3 64@1000:5 64@1000:7 128@400:3 128@400:5 256@200:3 256@512:5 512@100:3 512@250:5"
VISION = [f"{n}x{c}x{c}@{s}x{s}:3x3" for n in (1, 8) for c, s in (m.split("@") for m in _MAPS.split())]
AUDIO = [f"{n}x{c}x{c}@{rest}" for n in (1, 8) for c, rest in (m.split("@") for m in _ROWS.split())]
OTHERS = ["1x256x512@512:5", "1x64x64@56x56:5x5", "1x64x64@56x56:1x7", "1x64x64@56x56:7x1", "1x32x128@56x56:3x3"]
OTHERS += ["1x128x32@56x56:3x3", "1x20x20@56x56:3x3", "1x40x40@100:5", "1x32x32@16x32x32:3x3x3"]


@dataclass(frozen=True)
class Case:
    """One convolution: batch, channels, outputs, sizes, kernel."""

    batch: int
    channels: int
    outputs: int
    sizes: tuple[int, ...]
    kernel: tuple[int, ...]

    @staticmethod
    def parse(text: str) -> Case:
        counts, sizes, kernel = re.split("[@:]", text)
        batch, channels, outputs = map(int, counts.split("x"))
        return Case(batch, channels, outputs, *(tuple(map(int, s.split("x"))) for s in (sizes, kernel)))


@dataclass(frozen=True)
class Forced(ConvertWinograd):
    """The pass with one tiling wherever it can be written."""

    axis: int = 0
    outputs: int = 2

    def candidates(self, layer: ConvLayer) -> list[Tiling]:
        found = [t for t in tilings(layer) if layer.kernel[t.axis] == t.taps]
        return [t for t in found if (t.axis, t.outputs) == (self.axis, self.outputs)]


def model(case: Case, layers: Sequence[bool]) -> onnx.ModelProto:
    """Return a chain of convolutions and Relus: the case where True, 1x1 where False."""
    rng, nodes, constants, value = np.random.default_rng(0), [], [], "x"
    channels = case.channels
    for i, full in enumerate(layers):
        out = case.outputs if full else channels
        kernel = case.kernel if full else (1,) * len(case.kernel)
        fan = channels * prod(kernel)
        w = (rng.standard_normal((out, channels, *kernel)) / np.sqrt(fan / 2)).astype(np.float32)
        b = rng.standard_normal(out).astype(np.float32)
        constants += [numpy_helper.from_array(w, f"w{i}"), numpy_helper.from_array(b, f"b{i}")]
        pads = [(k - 1) // 2 for k in kernel]
        nodes.append(helper.make_node("Conv", [value, f"w{i}", f"b{i}"], [f"c{i}"], pads=[*pads, *pads]))
        nodes.append(helper.make_node("Relu", [f"c{i}"], [f"r{i}"]))
        channels, value = out, f"r{i}"
    spec = helper.make_tensor_value_info
    y = [case.batch, channels, *(s + 2 * ((k - 1) // 2) - k + 1 for s, k in zip(case.sizes, case.kernel, strict=True))]
    graph = helper.make_graph(
        nodes,
        "g",
        [spec("x", TensorProto.FLOAT, [case.batch, case.channels, *case.sizes])],
        [spec(value, TensorProto.FLOAT, y)],
        constants,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def converted(source: onnx.ModelProto, p: ConvertWinograd) -> tuple[onnx.ModelProto, int]:
    """Return a model after the pass, and how many layers it changed."""
    module = read(source)
    shapes.infer(module)
    count = run_pass(p, module, PassContext(target=get_target("cpu"), log=Log(strict=True)))
    return serde.serialize_model(module.model), count


def estimates(source: onnx.ModelProto) -> dict[tuple[int, int], float]:
    """Return (axis, outputs) -> the ratio that the pass expects of the one large convolution."""
    module = read(source)
    shapes.infer(module)
    layers = [x for n in module.nodes() if n.op_type == "Conv" and not isinstance(x := conv_layer_of(n), str)]
    layer = next(x for x in layers if prod(x.kernel) > 1)
    target = cost.RATES["cpu"]
    return {(t.axis, t.outputs): cost.tiled(t, target, {}) / cost.direct(layer, {}) for t in tilings(layer)}


def race(models: dict[Any, onnx.ModelProto], feed: dict[str, Any], seconds: float) -> dict[Any, list[float]]:
    """Return the seconds of every model, run in turns."""
    sessions = {k: open_session(m.SerializeToString(), threads=1) for k, m in models.items()}
    times: dict[Any, list[float]] = {k: [] for k in sessions}
    for s in sessions.values():
        s.run(feed)
    end = time.perf_counter() + seconds * len(models)
    while time.perf_counter() < end or len(times[next(iter(times))]) < 7:
        for k, s in sessions.items():
            start = time.perf_counter()
            s.run(feed)
            times[k].append(time.perf_counter() - start)
    return times


LAYERS = {"alone": [True], "between": [False, True, False], "chain": [True] * 3}


def rows(case: Case, context: str, every: bool, seconds: float) -> list[dict[str, Any]]:
    """Time one case in one context."""
    layers = LAYERS[context]
    source = model(case, layers)
    expected = estimates(source)
    chosen = sorted(expected, key=expected.__getitem__)
    models: dict[Any, onnx.ModelProto] = {"direct": source}
    if context == "between":
        models["without"] = model(case, [False, False])
    for axis, outputs in chosen if every else chosen[:1]:
        models[axis, outputs] = converted(source, Forced(min_gain=-1.0, axis=axis, outputs=outputs))[0]
    feed = {"x": np.random.default_rng(1).standard_normal((case.batch, case.channels, *case.sizes)).astype(np.float32)}
    times = race(models, feed, seconds)
    rest = times.pop("without", [0.0] * len(times["direct"]))
    direct = times.pop("direct")
    found = []
    for (axis, outputs), tiled in times.items():
        ratio = statistics.median((t - r) / (d - r) for t, d, r in zip(tiled, direct, rest, strict=True))
        us = statistics.median(d - r for d, r in zip(direct, rest, strict=True)) / sum(layers) * 1e6
        found.append(
            {"case": case, "context": context, "axis": axis, "outputs": outputs, "direct_us": us, "ratio": ratio}
            | {"model": expected[axis, outputs]}
        )
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", default=[*VISION, *AUDIO, *OTHERS])
    parser.add_argument("--context", nargs="+", choices=LAYERS, default=list(LAYERS))
    parser.add_argument("--every", action="store_true")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--json")
    args = parser.parse_args()
    every: list[dict[str, Any]] = []
    for text in args.cases:
        case = Case.parse(text)
        for context in args.context:
            if context != "alone" and case.channels != case.outputs:
                continue
            for row in rows(case, context, args.every, args.seconds):
                every.append({**row, "case": text})
                print(
                    f"{text:24} {context:8} axis {row['axis']} F({row['outputs']},{case.kernel[row['axis']]}) "
                    f"{row['direct_us']:9.0f} us  ratio {row['ratio']:.3f}  model {row['model']:.3f}",
                    flush=True,
                )
    if args.json:
        with open(args.json, "w") as file:
            json.dump(every, file, indent=1)


if __name__ == "__main__":
    main()
