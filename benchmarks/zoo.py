"""Compile every model of FCC_ZOO for every target and level, and check what was emitted independently of fcc.

    python benchmarks/zoo.py [--models NAME...] [--targets cpu...] [--levels 0 1 2] [--seeds 3] [--keep FOLDER]

Per row: onnx.checker passes, inputs and outputs are declared as in the source, a default onnxruntime CPU session runs,
error max|y-y0|/max|y0| against the source with optimizations off (probes of each seed) over its limit
max(1e-4, 2 x the source's own difference with optimizations on). Exit code 1 when a row fails.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

import fcc
from fcc.analysis import shapes
from fcc.parity import Judge

ort.set_default_logger_severity(4)


def session(model: bytes | str, level: ort.GraphOptimizationLevel | None = None) -> ort.InferenceSession:
    so = ort.SessionOptions()
    so.log_severity_level = 4
    if level is not None:
        so.graph_optimization_level = level
        so.intra_op_num_threads = 1
    return ort.InferenceSession(model, so, providers=["CPUExecutionProvider"])


def error(a: np.ndarray, b: np.ndarray) -> float:
    if a.shape != b.shape or a.dtype != b.dtype:
        return float("inf")
    if a.size == 0 or a.dtype.kind in "biuOSU":
        return 0.0 if np.array_equal(a, b) else float("inf")
    x, y = a.astype(np.float64), b.astype(np.float64)
    if not np.array_equal(np.isnan(x), np.isnan(y)):
        return float("inf")
    return float(np.nanmax(np.abs(x - y)) / max(np.nanmax(np.abs(x)), 1e-30))


def declared(proto: onnx.ModelProto) -> tuple[list[bytes], list[bytes]]:
    """Serialized declarations of the inputs a caller gives, and of the outputs."""
    constant = {t.name for t in proto.graph.initializer} if proto.ir_version < 4 else set()
    pick = [
        [(i.name, i.type.SerializeToString(deterministic=True)) for i in v]
        for v in (proto.graph.input, proto.graph.output)
    ]
    return [x for x in pick[0] if x[0] not in constant], pick[1]


def check(path: Path, target: str, level: int, seeds: int, keep: Path | None) -> dict[str, object]:
    start = time.perf_counter()
    compiled = fcc.compile(path, target=target, opt_level=level)
    seconds = time.perf_counter() - start
    data = compiled.to_bytes()
    if keep is not None:
        (keep / f"{path.stem}.{target}.O{level}.onnx").write_bytes(data)
    proto = onnx.load_from_string(data)
    onnx.checker.check_model(proto)
    source = onnx.load(str(path))
    same = declared(source) == declared(proto)
    module = fcc.read(path)
    shapes.infer(module)
    off = session(str(path), ort.GraphOptimizationLevel.ORT_DISABLE_ALL)
    on, out = session(str(path)), session(data)
    worst, strain = 0.0, 0.0
    for seed in range(seeds):
        for feeds in Judge.of(module, seed=seed).feeds() or ():
            reference, noise, found = (s.run(None, feeds) for s in (off, on, out))
            for r, n, f in zip(reference, noise, found, strict=True):
                e, limit = error(np.asarray(r), np.asarray(f)), max(1e-4, 2 * error(np.asarray(r), np.asarray(n)))
                worst, strain = max(worst, e), max(strain, e / limit)
    r = compiled.report
    return {
        "ok": same and strain <= 1 and not r.guilty,
        "io": same,
        "error": worst,
        "strain": strain,
        "nodes": f"{r.before.nodes}->{r.after.nodes}",
        "bytes": r.after.bytes / r.before.bytes,
        "guilty": len(r.guilty),
        "lint": len(r.lint),
        "seconds": seconds,
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    zoo = Path(os.environ.get("FCC_ZOO", "../shared")) / "models"
    parser.add_argument("--models", nargs="*")
    parser.add_argument("--targets", nargs="*", default=["cpu", "cuda", "tensorrt"])
    parser.add_argument("--levels", nargs="*", type=int, default=[0, 1, 2])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--keep", type=Path)
    a = parser.parse_args()
    if not zoo.is_dir():
        print(f"no models: {zoo} does not exist (set FCC_ZOO)")
        return 0
    if a.keep:
        a.keep.mkdir(parents=True, exist_ok=True)
    failed = 0
    for path in sorted(zoo.glob("*.onnx")):
        if a.models and path.stem not in a.models:
            continue
        for target in a.targets:
            for level in a.levels:
                try:
                    row = check(path, target, level, a.seeds, a.keep)
                except Exception as e:
                    row = {"ok": False, "exception": f"{type(e).__name__}: {e}"[:300]}
                failed += not row["ok"]
                cells = " ".join(f"{k}={v:.3g}" if isinstance(v, float) else f"{k}={v}" for k, v in row.items())
                print(f"{'ok  ' if row['ok'] else 'FAIL'} {path.stem:24} {target:8} O{level} {cells}", flush=True)
    print(f"{failed} rows failed")
    return int(failed > 0)


if __name__ == "__main__":
    sys.exit(main())
