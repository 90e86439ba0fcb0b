"""fcc beside the simplifiers: compile time, nodes, bytes, error and latency on the same models.

    python benchmarks/peers.py [MODEL.onnx ...] [--tools fcc onnxslim ...] [--seconds 2] [--seeds 3] [--json FILE]

Models default to all of FCC_ZOO/models and the light models inside the onnx package. Every tool runs in a process of
its own with a time limit: one that is missing (`pip install fcc[bench]`), crashes or runs too long is a row saying so.

process, compile  seconds of the whole process (start, imports, read, compile, write), and of the work after imports
nodes    in all graphs, without Constant;  bytes: the file;  size: without fcc's metadata and value_info
error    max|y - y0| / max|y0| to the source with optimizations off, worst of the seeds;  strain: error over its limit
         max(1e-4, twice the source's own difference between optimizations off and on)
latency  ratio to the source, both under ORT_ENABLE_ALL, one thread, run in turns in one process: median of the ratios
         of each round. `source again` is the same file in a second session: what a ratio of 1 looks like here.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib
import importlib.metadata
import json
import math
import os
import pkgutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

CONTROL = "source again"
GROWTH = 1.1  # outputs larger than this times the source do not count as the fewest nodes
Row = dict[str, Any]


# -- tools: each imports what it needs and returns the function that is timed ---------------------------------------
def _fcc(verify: str) -> Callable[[str, str], None]:
    import fcc

    def convert(source: str, out: str) -> None:
        fcc.compile(source, verify=verify).save(out)

    return convert


def _onnxsim() -> Callable[[str, str], None]:
    import onnx
    import onnxsim

    def convert(source: str, out: str) -> None:
        model, _ = onnxsim.simplify(onnx.load(source))
        onnx.save(model, out)

    return convert


def _onnxslim() -> Callable[[str, str], None]:
    import onnxslim

    return lambda source, out: onnxslim.slim(source, out)


def _onnxscript() -> Callable[[str, str], None]:
    import onnx
    import onnxscript.optimizer

    return lambda source, out: onnx.save(onnxscript.optimizer.optimize(onnx.load(source)), out)


def _onnxoptimizer() -> Callable[[str, str], None]:
    import onnx
    import onnxoptimizer

    return lambda source, out: onnx.save(onnxoptimizer.optimize(onnx.load(source)), out)


def _ort_extended() -> Callable[[str, str], None]:
    import onnxruntime as ort

    def convert(source: str, out: str) -> None:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        options.optimized_model_filepath = out
        options.log_severity_level = 4
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return convert


TOOLS: dict[str, Callable[[], Callable[[str, str], None]]] = {
    "fcc": lambda: _fcc("end"),
    "fcc-unverified": lambda: _fcc("off"),
    "onnxsim": _onnxsim,
    "onnxslim": _onnxslim,
    "onnxscript": _onnxscript,
    "onnxoptimizer": _onnxoptimizer,
    "ort-extended": _ort_extended,
}
PEERS = ("onnxsim", "onnxslim", "onnxscript", "onnxoptimizer")
SAME_OUTPUT = {"fcc-unverified": "fcc"}  # timed only: what it writes is what the other writes


# packages that defer imports until they convert: module prefixes that a conversion never needs
DEFERRED = {"fcc": ("fcc.__main__", "fcc.cli", "fcc.models"), "onnxslim": ("onnxslim.__main__", "onnxslim.cli")}


def _import_all(package: str, without: tuple[str, ...]) -> None:
    """Import every module of a package that defers its imports, so that they are not timed."""
    for found in pkgutil.walk_packages(importlib.import_module(package).__path__, f"{package}."):
        if not found.name.startswith(without):
            with contextlib.suppress(ImportError):
                importlib.import_module(found.name)


def work(tool: str, source: str, out: str, when: str) -> None:
    """Convert one model in this process and print the seconds it took; ``warm``: with every import done before."""
    convert = TOOLS[tool]()
    package = tool.partition("-")[0]
    if when == "warm" and package in DEFERRED:
        _import_all(package, DEFERRED[package])
    start = time.perf_counter()
    convert(source, out)
    print(json.dumps({"compile": time.perf_counter() - start}))


# -- one process per conversion, and one per model that measures ----------------------------------------------------
def child(words: Sequence[str], limit: float) -> tuple[Row, float]:
    """Return what a child of this script printed last as JSON (or why there is nothing), and its wall time."""
    # an installed package has its bytecode; one in a checkout must be allowed to keep it too
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    start = time.perf_counter()
    try:
        done = subprocess.run(
            [sys.executable, __file__, *words], capture_output=True, text=True, timeout=limit, check=False, env=env
        )
    except subprocess.TimeoutExpired:
        return {"failed": f"no result after {limit:.0f} s"}, limit
    seconds = time.perf_counter() - start
    if done.returncode == 0:
        return dict(json.loads(done.stdout.strip().splitlines()[-1])), seconds
    said = [line.strip() for line in done.stderr.splitlines() if line.strip()]
    why = said[-1] if said else "no message"
    return {"failed": why if done.returncode > 0 else f"killed by signal {-done.returncode}: {why}"}, seconds


def convert(tool: str, model: Path, out: Path, repeats: int, limit: float) -> Row:
    """Run one tool in its own process, once as it is and once with its imports done before; medians of the times."""
    found: list[Row] = []
    for _ in range(repeats):
        cold, seconds = child(["--work", tool, str(model), str(out), "cold"], limit)
        warm = cold if "failed" in cold else child(["--work", tool, str(model), str(out), "warm"], limit)[0]
        if "failed" in warm:
            return warm
        found.append({**warm, "process": seconds})
    return {k: statistics.median(r[k] for r in found) for k in ("process", "compile")}


def node_count(graph: Any) -> int:
    """Return the nodes of a GraphProto and of every graph nested in it, without Constant."""
    total = 0
    for node in graph.node:
        total += node.op_type != "Constant"
        for a in node.attribute:
            total += sum(node_count(g) for g in ([a.g] if a.g.node else []) + list(a.graphs))
    return total


def describe(model: Path) -> Row:
    import onnx

    from fcc.backends import size_of

    proto = onnx.load(str(model))
    nodes = node_count(proto.graph) + sum(node_count(f) for f in proto.functions)
    return {"nodes": nodes, "bytes": model.stat().st_size, "size": size_of(proto)}


def measure(source: Path, outputs: dict[str, Path], seconds: float, seeds: int) -> dict[str, Row]:
    """Return rows by tool: description, error over the seeds, latency ratio; one broken output spoils only its row."""
    import fcc
    from fcc.analysis import shapes
    from fcc.parity import Judge
    from fcc.runtime import open_session

    module = fcc.read(source)
    shapes.infer(module)
    judges = [Judge.of(module, seed=seed) for seed in range(seeds)]
    rows: dict[str, Row] = {"source": describe(source), CONTROL: {}}
    sessions = {"source": open_session(str(source)), CONTROL: open_session(str(source))}
    for name, path in outputs.items():
        rows[name] = describe(path)
        verdicts = [judge.judge(str(path)) for judge in judges]
        skipped = next((v.skipped_reason for v in verdicts if v.skipped_reason), "")
        failed = next((v.failure for v in verdicts if v.failure), "")
        if failed:
            rows[name]["failed"] = failed
            continue
        worst = [v.worst for v in verdicts if v.worst is not None]
        rows[name]["error"] = None if skipped else max((w.error for w in worst), default=0.0)
        rows[name]["strain"] = None if skipped else max((w.strain for w in worst), default=0.0)
        sessions[name] = open_session(str(path))
    feeds = judges[0].feeds()
    if feeds is not None:
        first = next(iter(feeds))
        for name, figures in latency(sessions, getattr(first, "feeds", first), seconds).items():
            rows[name] |= figures
    return rows


def latency(sessions: dict[str, Any], feeds: Any, seconds: float) -> dict[str, Row]:
    """Run all sessions in turns, the order rotating; per session the median time and the median ratio to the source."""
    names = list(sessions)
    for name in names:
        for _ in range(3):
            sessions[name].run(feeds)
    times: dict[str, list[float]] = {name: [] for name in names}
    end, k = time.perf_counter() + seconds * len(names), 0
    while k < 9 or (time.perf_counter() < end and k < 5000):
        for name in (*names[k % len(names) :], *names[: k % len(names)]):
            start = time.perf_counter()
            sessions[name].run(feeds)
            times[name].append(time.perf_counter() - start)
        k += 1
    base = times["source"]
    found: dict[str, Row] = {}
    for name in names:
        ratios = [t / b for t, b in zip(times[name], base, strict=True)]
        middle = statistics.median(ratios)
        spread = 1.4826 * statistics.median(abs(r - middle) for r in ratios)
        found[name] = {
            "us": statistics.median(times[name]) * 1e6,
            "ratio": middle,
            "noise": 1.2533 * spread / math.sqrt(len(ratios)),
            "rounds": k,
        }
    return found


def compare(model: Path, tools: Sequence[str], given: argparse.Namespace) -> dict[str, Row]:
    """Return the rows of one model."""
    with tempfile.TemporaryDirectory() as folder:
        rows, outputs = {}, {}
        for tool in tools:
            out = Path(folder) / f"{tool}.onnx"
            rows[tool] = convert(tool, model, out, given.repeats, given.limit)
            if "failed" not in rows[tool] and tool not in SAME_OUTPUT:
                outputs[tool] = out
        words = [f"{name}={path}" for name, path in outputs.items()]
        found, _ = child(
            ["--measure", str(model), *words, "--seconds", str(given.seconds), "--seeds", str(given.seeds)],
            given.limit + 4 * given.seconds * len(tools),
        )
    if "failed" in found:
        found = {"source": found}
    return {name: {**rows.get(name, {}), **found.get(name, {})} for name in dict.fromkeys(["source", CONTROL, *tools])}


# -- printing -------------------------------------------------------------------------------------------------------
COLUMNS = {
    "process": "8.2f",
    "compile": "8.3f",
    "nodes": "6d",
    "bytes": "12d",
    "size": "12d",
    "error": "9.1e",
    "strain": "7.2f",
    "us": "10.0f",
    "ratio": "7.3f",
    "noise": "7.3f",
}


def width(spec: str) -> int:
    return int(spec.split(".")[0].rstrip("de"))


def show(name: str, row: Row) -> str:
    cells = [f"{row[k]:{spec}}" if row.get(k) is not None else "-".rjust(width(spec)) for k, spec in COLUMNS.items()]
    return f"  {name:<15}" + " ".join(cells) + (f"  {row['failed'][:90]}" if "failed" in row else "")


def geomean(values: Iterable[float]) -> float | None:
    logs = [math.log(v) for v in values]
    return math.exp(sum(logs) / len(logs)) if logs else None


def fewest(rows: dict[str, Row]) -> int | None:
    """Return the fewest nodes of a peer whose output is at most GROWTH times the source."""
    limit = GROWTH * rows["source"].get("size", 0)
    return min((rows[p]["nodes"] for p in PEERS if p in rows and rows[p].get("size", math.inf) <= limit), default=None)


def summary(results: dict[str, dict[str, Row]], tools: Sequence[str]) -> list[str]:
    """Return lines: geometric mean of the latency ratios, median ratios of times to onnxslim, nodes against peers."""
    lines = []
    for tool in (CONTROL, *tools):
        rows = [r[tool] for r in results.values()]
        mean = geomean(r["ratio"] for r in rows if r.get("ratio") is not None)
        line = f"{tool:<15} latency {'-' if mean is None else f'{mean:.3f}'}"
        for kind in ("compile", "process"):
            pairs = [(r[tool].get(kind), r.get("onnxslim", {}).get(kind)) for r in results.values()]
            ratios = [a / b for a, b in pairs if a and b]
            line += f"  {kind} / onnxslim {statistics.median(ratios):.2f}" if ratios else ""
        failed = sum("failed" in r for r in rows)
        lines.append(line + (f"  failed {failed}" if failed else ""))
    if "fcc" in tools:
        for model, rows in results.items():
            best, own = fewest(rows), rows["fcc"].get("nodes")
            if best is not None and own is not None and own > best:
                lines.append(f"more nodes than a peer: {model} {own} > {best}")
    return lines


def default_models() -> list[Path]:
    import onnx

    zoo = Path(os.environ.get("FCC_ZOO", "../shared")) / "models"
    light = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return sorted(zoo.glob("*.onnx")) + sorted(light.glob("*.onnx"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", help="paths, or names of default models")
    parser.add_argument("--tools", nargs="*", default=list(TOOLS), choices=list(TOOLS))
    parser.add_argument("--seconds", type=float, default=2.0, help="per session, for the latency")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=1, help="of each conversion; the median counts")
    parser.add_argument("--limit", type=float, default=300.0, help="seconds for one process")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", nargs=4, help=argparse.SUPPRESS)
    parser.add_argument("--measure", nargs="+", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.work:
        work(*given.work)
        return
    if given.measure:
        source, *pairs = given.measure
        outputs = {name: Path(path) for name, path in (p.split("=", 1) for p in pairs)}
        print(json.dumps(measure(Path(source), outputs, given.seconds, given.seeds)))
        return
    run(given)


def run(given: argparse.Namespace) -> None:
    known = {p.stem: p for p in default_models()} if not all(Path(m).is_file() for m in given.models or [""]) else {}
    models = [known[m] if m in known else Path(m) for m in given.models] or list(known.values())
    print("  " + " " * 15 + " ".join(k.rjust(width(spec)) for k, spec in COLUMNS.items()))
    results: dict[str, dict[str, Row]] = {}
    for model in models:
        print(model.stem, flush=True)
        results[model.stem] = rows = compare(model, given.tools, given)
        for name, row in rows.items():
            print(show(name, row), flush=True)
        if given.json:
            given.json.write_text(json.dumps({"versions": versions(), "models": results}, indent=1) + "\n")
    print("\n".join(summary(results, given.tools)))


def versions() -> dict[str, str]:
    found = {}
    for name in ("fcc", "onnx", "onnxruntime", *PEERS):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


if __name__ == "__main__":
    main()
