"""Compile random graphs and compare every answer with the source in onnxruntime, optimizations off.

    python benchmarks/fuzz.py [--count 2000] [--start 0] [--steps 14] [--targets cpu cuda tensorrt] [--keep FOLDER]

Beside the answers: the same declarations of inputs and outputs, a valid model, the same bytes in a second run; where
nothing had to be lowered, no more bytes, no more nodes, and no change when the output is compiled again. Exit code 1
when anything is found.
"""

from __future__ import annotations

import argparse
import random
import sys
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

import fcc
from fcc.backends import size_of
from fcc.models.random_graph import random_feeds, random_graph

ort.set_default_logger_severity(4)
Array = np.ndarray
SIZES = ({"N": 2, "M": 3}, {"N": 1, "M": 1}, {"N": 3, "M": 2}, {"N": 0, "M": 1})
TOLERANCE = {"float16": 3e-2, "float32": 2e-4, "float64": 1e-7}
LIMIT = {"float16": 1e3, "float32": 1e6, "float64": 1e6}


def session(model: bytes, optimize: bool) -> ort.InferenceSession:
    """Return a session on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def references(model: onnx.ModelProto) -> list[tuple[dict[str, Array], list[Array]]]:
    """Return (feeds, outputs) for the sizes at which the source runs, optimized too, and stays finite."""
    try:
        plain, optimized = (session(model.SerializeToString(), o) for o in (False, True))
    except Exception:
        return []
    found = []
    reduces = any(n.op_type.startswith("Reduce") for n in model.graph.node)  # onnxruntime keeps an empty axis there
    for seed, sizes in enumerate(SIZES[:-1] if reduces else SIZES):
        feeds = random_feeds(model, sizes, seed)
        try:
            outputs = plain.run(None, feeds)
            optimized.run(None, feeds)
        except Exception:
            continue
        if all(_tame(y) for y in outputs):
            found.append((feeds, outputs))
    return found


def _tame(y: Array) -> bool:
    if y.dtype.kind != "f" or y.size == 0:
        return True
    return bool(np.isfinite(y).all() and np.abs(y.astype(np.float64)).max() < LIMIT[str(y.dtype)])


def differences(model: bytes, expected: list[tuple[dict[str, Array], list[Array]]], coarse: str) -> Iterator[str]:
    """Yield what differs; floats within the tolerance of the coarsest type in the model, relative to the largest."""
    for optimize in (False, True):
        try:
            compiled = session(model, optimize)
        except Exception as error:
            yield f"does not load (optimizations {optimize}): {str(error)[:300]}"
            continue
        for feeds, outputs in expected:
            try:
                results = compiled.run(None, feeds)
            except Exception as error:
                yield f"does not run (optimizations {optimize}): {str(error)[:300]}"
                break
            for i, (a, b) in enumerate(zip(outputs, results, strict=True)):
                if reason := _different(a, b, coarse):
                    yield f"output {i} (optimizations {optimize}): {reason}"


def _different(a: Array, b: Array, coarse: str) -> str:
    if a.dtype != b.dtype or a.shape != b.shape:
        return f"{a.dtype}{a.shape} became {b.dtype}{b.shape}"
    if a.size == 0 or a.dtype.kind != "f":
        return "" if np.array_equal(a, b) else "differs"
    error = np.abs(a.astype(np.float64) - b.astype(np.float64)).max() / max(1.0, np.abs(a.astype(np.float64)).max())
    return "" if error <= TOLERANCE[coarse] else f"error {error:.3g}"


def _coarsest(model: onnx.ModelProto) -> str:
    text = onnx.printer.to_text(model)
    return next(
        t for t in ("float16", "float32", "float64") if {"float32": "float["}.get(t, t) in text or t == "float64"
    )


def declared(model: onnx.ModelProto) -> list[bytes]:
    """Return the declarations of the inputs and outputs."""
    return [v.SerializeToString(deterministic=True) for v in (*model.graph.input, *model.graph.output)]


def node_count(graph: onnx.GraphProto) -> int:
    """Return the number of nodes, nested ones included."""
    nested = (a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH)
    return len(graph.node) + sum(map(node_count, nested))


def problems(model: onnx.ModelProto, target: str, expected: list[tuple[dict[str, Array], list[Array]]]) -> list[str]:
    """Compile a model and return everything that is wrong with the result."""
    try:
        compiled = fcc.compile(model, target=target, verify="off")
        emitted = compiled.to_bytes()
        proto = onnx.ModelProto.FromString(emitted)
    except Exception:
        return ["crash: " + traceback.format_exc(limit=-6)]
    found = list(differences(emitted, expected, _coarsest(model)))
    try:
        onnx.checker.check_model(emitted, full_check=True)
    except Exception as error:
        found.append(f"checker: {error}")
    if declared(proto) != declared(model):
        found.append("the declarations of inputs or outputs changed")
    if compiled.report.guilty or any("failed at" in note for note in compiled.report.notes):
        found.append(f"a pass failed: {[n for n in compiled.report.notes if 'failed' in n]} {compiled.report.guilty}")
    if fcc.compile(model, target=target, verify="off").to_bytes() != emitted:
        found.append("a second run gives other bytes")
    needed = ("lower-", "convert-", "unroll-")  # what the target asks for, or runs instead of loops, may take nodes
    lowered = any(r["pass_name"].startswith(needed) for r in compiled.report.rewrites)
    again = fcc.compile(emitted, target=target, verify="off").proto()
    if not lowered and [n.op_type for n in again.graph.node] != [n.op_type for n in proto.graph.node]:
        before, after = ([n.op_type for n in m.graph.node] for m in (proto, again))
        found.append(f"not idempotent: {before} then {after}")
    if not lowered and size_of(emitted) > size_of(model):
        found.append(f"grew from {size_of(model)} to {size_of(emitted)} bytes")
    if not lowered and node_count(proto.graph) > node_count(model.graph):
        found.append(f"grew from {node_count(model.graph)} to {node_count(proto.graph)} nodes")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--steps", type=int, default=14)
    parser.add_argument("--targets", nargs="+", default=["cpu", "cuda", "tensorrt"])
    parser.add_argument("--keep", type=Path, help="write the sources with problems into this folder")
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    tally: Counter[str] = Counter()
    begin = time.perf_counter()
    for seed in range(given.start, given.start + given.count):
        model = random_graph(random.Random(seed), given.steps)
        expected = references(model)
        tally["run" if expected else "source does not run"] += 1
        if not expected:
            continue
        for target in given.targets:
            for problem in problems(model, target, expected):
                tally[problem.split(":")[0].split("(")[0][:40].rstrip("0123456789 ")] += 1
                print(f"seed {seed} {target}: {problem}", flush=True)
                if given.keep is not None:
                    onnx.save(model, given.keep / f"{seed}.onnx")
    print(f"{given.count} graphs in {time.perf_counter() - begin:.0f} s: {dict(tally)}")
    return int(set(tally) > {"run", "source does not run"})


if __name__ == "__main__":
    sys.exit(main())
