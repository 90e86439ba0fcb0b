"""Quantization beside onnxruntime's own tools: error on unseen data, agreement, latency and bytes against fp32.

    FCC_ZOO=../shared python benchmarks/quantization.py [MODEL ...] [--limit N] [--isa avx2|vnni] [--seconds S]

For each model of FCC_ZOO/models: everything is fitted on the calibration split of FCC_ZOO/tools/feeds.py and judged on
its development split, models with state in a closed loop of their own. ``rel`` is ||y - y0|| / ||y0|| of the first
output over all samples, ``off`` the same with the runtime's optimizations off; ``agree`` compares the largest element,
or y > 0.5 where there is one only. ``latency`` is the median ratio of interleaved runs of one sample to fp32 at -O2,
``bytes`` the ratio of file sizes to the source. Exits 1 when optimizations change the error of fcc's int8 by more than
5 %, or a peer has a lower error at equal or lower latency.
"""

from __future__ import annotations

import argparse
import logging
import os
import subprocess
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import fcc
from fcc.data.dataset import Data, open_data
from fcc.data.spec import inputs_of
from fcc.frontend import read
from fcc.runtime import open_session, time_ratio

ZOO = Path(os.environ.get("FCC_ZOO", "../shared"))
MODELS = (
    "digits28_mlp",
    "digits28_cnn",
    "burn_mnist",
    "mlir_mnist",
    "mnist_cntk",
    "ultraface_rfb320",
    "superres",
    "silero_vad_16k_op15",
    "magika_standard_v3_3",
)
STATE = {"silero": {"stateN": "state"}}
FEW = ("ultraface", "superres")
WEIGHT_OPS = ["Conv", "Gemm", "MatMul"]
OURS: dict[str, dict[str, Any]] = {
    "fcc int8": {"precision": "int8"},
    "fcc int8-dynamic": {"precision": "int8-dynamic", "objective": "size"},
    "fcc int8-weights": {"precision": "int8-weights", "objective": "size"},
    "fcc int4": {"precision": "int4", "objective": "size"},
    "fcc --size int8": {"size": "int8"},
}
STATIC: dict[str, dict[str, Any]] = {
    "static": {},
    "static pc+rr": {"per_channel": True, "reduce_range": True},
    "static weight ops": {"per_channel": True, "op_types_to_quantize": WEIGHT_OPS},
    "static weight ops+rr": {"per_channel": True, "reduce_range": True, "op_types_to_quantize": WEIGHT_OPS},
}
COLUMNS = "{:21} {:21} {:>8} {:>8} {:>7} {:>8} {:>6}  {}"


@dataclass(frozen=True)
class Case:
    """A model with its two splits, and what the source says on the second."""

    name: str
    source: bytes
    fit: Data
    judge: Data
    state: dict[str, str]
    reference: np.ndarray[Any, Any] = field(repr=False)


@dataclass(frozen=True)
class Figures:
    """What came of one way to quantize a model."""

    way: str
    rel: float
    off: float
    agree: float
    latency: float
    size: float
    note: str = ""


def case_of(name: str, limit: int, folder: str) -> Case:
    """Return a case; the samples lie under ``folder``."""
    source = (ZOO / "models" / f"{name}.onnx").read_bytes()
    module = read(source)
    state = next((s for k, s in STATE.items() if name.startswith(k)), {})
    splits = [_samples(name, split, limit, module, state, folder) for split in ("calibration", "development")]
    return Case(name, source, *splits, state, outputs(source, splits[1], optimize=False))


def _samples(name: str, split: str, limit: int, module: Any, state: dict[str, str], folder: str) -> Data:
    where = Path(folder) / split
    tool = [sys.executable, str(ZOO / "tools" / "feeds.py"), name, str(where), "--split", split, "--limit", str(limit)]
    subprocess.run(tool, check=True, stdout=subprocess.DEVNULL)
    names = [v.name or "" for v in module.graph.outputs]
    return open_data(where, inputs_of(module), state=state or None, outputs=names)


def outputs(model: bytes, data: Data, *, optimize: bool = True) -> np.ndarray[Any, Any]:
    """Return the first output of every sample, flattened; state goes round in the model itself."""
    session = open_session(model, optimize=optimize)
    first = session.outputs[0].name
    return np.stack([np.ravel(found[first]) for _, found in data.run(session.run)])


def figures(case: Case, way: str, model: bytes, fp32: bytes, seconds: float, note: str = "") -> Figures:
    """Return the figures of a model."""
    on, off = (outputs(model, case.judge, optimize=o) for o in (True, False))
    exact = case.reference
    size = np.linalg.norm(exact)
    same = (on > 0.5) == (exact > 0.5) if exact.shape[1] == 1 else on.argmax(1) == exact.argmax(1)
    feed = case.judge.first()
    sessions = [open_session(m) for m in (fp32, model)]
    ratios = [time_ratio(*sessions, feed, budget_s=seconds).ratio for _ in range(3)]
    return Figures(
        way,
        float(np.linalg.norm(on - exact) / size),
        float(np.linalg.norm(off - exact) / size),
        float(np.mean(same)) if exact.shape[1] <= 1000 else float("nan"),
        float(np.median(ratios)),
        len(model) / len(case.source),
        note,
    )


def ours(case: Case, isa: str) -> Iterator[tuple[str, Callable[[], tuple[bytes, str]]]]:
    """Yield fcc's ways by name."""
    for way, options in OURS.items():

        def build(options: dict[str, Any] = options) -> tuple[bytes, str]:
            result = fcc.compile(
                case.source,
                calibration=case.fit,
                force=True,
                allow_growth=True,
                cpu_isa=isa,
                state=case.state,
                **options,
            )
            said = (n.partition(" (")[0] for n in result.report.notes if n.startswith("int8 by"))
            return result.to_bytes(), next(said, "")

        yield way, build


def peers(case: Case, folder: str) -> Iterator[tuple[str, Callable[[], tuple[bytes, str]]]]:
    """Yield onnxruntime's ways by name, on the source as it is."""
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_dynamic, quantize_static

    source, out = Path(folder) / "source.onnx", Path(folder) / "peer.onnx"
    source.write_bytes(case.source)
    session = open_session(case.source)

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # no stubs
        def __init__(self) -> None:
            self.feeds = (feeds for feeds, _ in case.fit.run(session.run))

        def get_next(self) -> Any:
            return next(self.feeds, None)

    for way, options in STATIC.items():

        def static(options: dict[str, Any] = options) -> tuple[bytes, str]:
            types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
            quantize_static(source, out, Reader(), **types, **options)
            return out.read_bytes(), ""

        yield way, static

    def dynamic() -> tuple[bytes, str]:
        quantize_dynamic(source, out, weight_type=QuantType.QInt8)
        return out.read_bytes(), ""

    yield "dynamic", dynamic


def report(case: Case, isa: str, seconds: float, folder: str) -> list[Figures]:
    """Print and return the figures of a case."""
    fp32 = fcc.compile(case.source, allow_growth=True).to_bytes()
    rows: list[Figures] = []
    for way, build in (*ours(case, isa), *peers(case, folder)):
        try:
            model, note = build()
            found = figures(case, way, model, fp32, seconds, note)
        except Exception as error:
            print(COLUMNS.format(case.name, way, "", "", "", "", "", f"{type(error).__name__}: {str(error)[:80]}"))
            continue
        rows.append(found)
        agree = f"{found.agree:.4f}".replace("nan", "")
        numbers = (f"{found.rel:.5f}", f"{found.off:.5f}", agree, f"{found.latency:.2f}", f"{found.size:.3f}")
        print(COLUMNS.format(case.name, way, *numbers, found.note), flush=True)
    return rows


def beaten(rows: list[Figures]) -> list[str]:
    """Return what speaks against fcc's int8: peers that are better at no more latency, or a gap by optimizations."""
    (mine,) = (r for r in rows if r.way == "fcc int8")
    found = [
        f"{r.way} has rel {r.rel:.5f} at latency {r.latency:.2f}"
        for r in rows
        if r.way.startswith("static") and r.rel < mine.rel and r.latency <= 1.02 * mine.latency
    ]
    if abs(mine.rel - mine.off) > 0.05 * mine.off:
        found.append(f"optimizations change the error from {mine.off:.5f} to {mine.rel:.5f}")
    return found


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--limit", type=int, default=400, help="samples of each split (images: 16 at most)")
    parser.add_argument("--isa", default="avx2")
    parser.add_argument("--seconds", type=float, default=0.3, help="of each of three timings")
    args = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    print(COLUMNS.format("model", "way", "rel", "off", "agree", "latency", "bytes", ""))
    bad = 0
    for name in args.models:
        with tempfile.TemporaryDirectory(prefix="fcc-quantization-") as folder:
            limit = min(args.limit, 16) if name.startswith(FEW) else args.limit
            rows = report(case_of(name, limit, folder), args.isa, args.seconds, folder)
        for line in beaten(rows):
            bad += 1
            print(f"{name}: {line}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
