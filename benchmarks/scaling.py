"""How compile time and memory grow with the graph: synthetic models of 1k, 10k and 100k nodes.

    python benchmarks/scaling.py [--sizes 1000 10000 100000] [--kinds chain wide nested] [--profile FILE] [--limit 900]

Each compile (level 2, not verified) runs in a process of its own. Per row: nodes before and after, CPU seconds without
imports, microseconds a node, the exponent of growth from the row before (1: linear; n log n is 1.06 to 1.1 here), and
peak resident memory. `--profile` writes cProfile statistics of the largest size and shows what takes most.

chain   residual blocks of Gemm, activation and layout operators in a row, a third of them removable
wide    one value with many users: branches of elementwise operators that a tree of additions joins
nested  If nodes in a row whose branches capture values of the graph around them
"""

from __future__ import annotations

import argparse
import cProfile
import json
import math
import pstats
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

WIDTH = 8


def chain(size: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    weights = [numpy_helper.from_array(np.eye(WIDTH, dtype=np.float32) * 0.9, "w")]
    weights.append(numpy_helper.from_array(np.array([1, 0, WIDTH], np.int64)[:1], "one"))
    nodes, value = [], "x"
    for k in range(max(1, size // 9)):
        names = [f"{value}/{k}/{i}" for i in range(9)]
        nodes += [
            helper.make_node("MatMul", [value, "w"], [names[0]]),
            helper.make_node("Relu", [names[0]], [names[1]]),
            helper.make_node("Relu", [names[1]], [names[2]]),
            helper.make_node("Transpose", [names[2]], [names[3]], perm=[1, 0]),
            helper.make_node("Tanh", [names[3]], [names[4]]),
            helper.make_node("Transpose", [names[4]], [names[5]], perm=[1, 0]),
            helper.make_node("Unsqueeze", [names[5], "one"], [names[6]]),
            helper.make_node("Squeeze", [names[6], "one"], [names[7]]),
            helper.make_node("Add", [value, names[7]], [f"v{k}"]),
        ]
        value = f"v{k}"
    return nodes, weights, value


def wide(size: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    nodes: list[onnx.NodeProto] = []
    constants, level = [], []
    for k in range(max(2, size // 3)):
        constants.append(numpy_helper.from_array(np.full((WIDTH,), k, np.float32), f"c{k}"))
        nodes.append(helper.make_node("Mul", ["x", f"c{k}"], [f"m{k}"]))
        nodes.append(helper.make_node("Tanh", [f"m{k}"], [f"t{k}"]))
        level.append(f"t{k}")
    while len(level) > 1:
        joined = []
        for a, b in zip(level[::2], level[1::2], strict=False):
            nodes.append(helper.make_node("Add", [a, b], [f"a{len(nodes)}"]))
            joined.append(nodes[-1].output[0])
        level = joined + (level[-1:] if len(level) % 2 else [])
    return nodes, constants, level[0]


def nested(size: int) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]:
    constants = [numpy_helper.from_array(np.array(1, np.float32), "limit")]
    nodes, value = [], "x"
    nodes.append(helper.make_node("ReduceMax", ["x"], ["peak"], keepdims=0))
    nodes.append(helper.make_node("Less", ["peak", "limit"], ["cond"]))
    for k in range(max(1, size // 5)):
        branches = {}
        for name, op in (("then_branch", "Relu"), ("else_branch", "Tanh")):
            inner = [
                helper.make_node("Neg", [value], [f"{name}{k}n"]),
                helper.make_node(op, [f"{name}{k}n"], [f"{name}{k}"]),
            ]
            out = helper.make_tensor_value_info(f"{name}{k}", TensorProto.FLOAT, ["N", WIDTH])
            branches[name] = helper.make_graph(inner, f"{name}{k}", [], [out])
        nodes.append(helper.make_node("If", ["cond"], [f"v{k}"], **branches))
        value = f"v{k}"
    return nodes, constants, value


KINDS: dict[str, Callable[[int], tuple[list[onnx.NodeProto], list[onnx.TensorProto], str]]] = {
    "chain": chain,
    "wide": wide,
    "nested": nested,
}


def model(kind: str, size: int) -> onnx.ModelProto:
    nodes, constants, result = KINDS[kind](size)
    info = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", WIDTH]) for n in ("x", result)]
    graph = helper.make_graph(nodes, kind, info[:1], info[1:], constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def work(kind: str, size: int, profile: str | None) -> dict[str, Any]:
    """Compile one model in this process."""
    import fcc

    fcc.compile(model(kind, 20), verify="off")
    proto = model(kind, size)
    profiler = cProfile.Profile()
    if profile:
        profiler.enable()
    start = time.process_time()  # one thread: another process that takes the core does not count
    compiled = fcc.compile(proto, verify="off")
    compiled.to_bytes()
    seconds = time.process_time() - start
    if profile:
        profiler.disable()
        profiler.dump_stats(profile)
        pstats.Stats(profiler, stream=sys.stderr).sort_stats("tottime").print_stats(25)
    report = compiled.report
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"before": report.before.nodes, "after": report.after.nodes, "seconds": seconds, "peak_mib": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="*", type=int, default=[1000, 10_000, 100_000])
    parser.add_argument("--kinds", nargs="*", default=list(KINDS), choices=list(KINDS))
    parser.add_argument("--profile")
    parser.add_argument("--limit", type=float, default=900.0, help="seconds for one process")
    parser.add_argument("--work", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        print(json.dumps(work(given.work[0], int(given.work[1]), given.profile)))
        return
    print(f"{'kind':<8}{'nodes':>9}{'after':>9}{'seconds':>10}{'us/node':>9}{'exponent':>10}{'peak MiB':>10}")
    for kind in given.kinds:
        last: dict[str, Any] | None = None
        for size in given.sizes:
            row = measure(kind, size, given, profiled=size == max(given.sizes))
            if row is None:
                print(f"{kind:<8}{size:>9}  failed, or no result after {given.limit:.0f} s", flush=True)
                continue
            growth = "-"
            if last is not None:
                growth = f"{math.log(row['seconds'] / last['seconds']) / math.log(row['before'] / last['before']):.2f}"
            per_node = row["seconds"] / row["before"] * 1e6
            print(
                f"{kind:<8}{row['before']:>9}{row['after']:>9}{row['seconds']:>10.2f}{per_node:>9.0f}{growth:>10}"
                f"{row['peak_mib']:>10.0f}",
                flush=True,
            )
            last = row


def measure(kind: str, size: int, given: argparse.Namespace, profiled: bool) -> dict[str, Any] | None:
    words = [sys.executable, __file__, "--work", kind, str(size)]
    if given.profile and profiled:
        words += ["--profile", f"{given.profile}.{kind}"]
    try:
        done = subprocess.run(words, stdout=subprocess.PIPE, text=True, timeout=given.limit, check=False)
    except subprocess.TimeoutExpired:
        return None
    return dict(json.loads(done.stdout.strip().splitlines()[-1])) if done.returncode == 0 else None


if __name__ == "__main__":
    main()
