"""Kill compiles at random moments and look at what they left.

    python benchmarks/kills.py [--count 200] [--seed 0] [--signal KILL|INT|TERM]

Every compile writes over an existing output: half of them one file, half a model and its data file. Some moments are
drawn from the whole run, some from the last part of it, where files appear. An output is damaged when it is neither the
old nor the new one, byte by byte, its data file included. What else lies in the folder is counted: temporary files,
and data files that no model refers to. Then pairs of compiles of two models write to one output at once.
Exit code 1 when an output is damaged.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

COMMAND = [sys.executable, "-P", "-m", "fcc"]
WIDTH = 256


def model(seed: int, layers: int = 12) -> onnx.ModelProto:
    """Return a chain of MatMul and Relu, 3 MB."""
    rng = np.random.default_rng(seed)
    array = numpy_helper.from_array
    weights = [array(rng.standard_normal((WIDTH, WIDTH)).astype(np.float32) / 16, f"w{i}") for i in range(layers)]
    nodes = []
    for i in range(layers):
        nodes += [
            helper.make_node("MatMul", [f"h{i}", f"w{i}"], [f"m{i}"]),
            helper.make_node("Relu", [f"m{i}"], [f"h{i + 1}"]),
        ]
    nodes[0].input[0], nodes[-1].output[0] = "x", "y"
    io = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", WIDTH]) for n in ("x", "y")]
    graph = helper.make_graph(nodes, "g", io[:1], io[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


@dataclass(frozen=True)
class Output:
    """A complete output: the model and the data files that it refers to, as bytes."""

    files: tuple[tuple[str, bytes], ...]

    @staticmethod
    def read(path: Path) -> Output:
        """Return the output at a path; a data file that is missing has no bytes."""
        data = path.read_bytes()
        proto = onnx.ModelProto.FromString(data)
        names = {e.value for t in proto.graph.initializer for e in t.external_data if e.key == "location"}
        held = [(n, (path.parent / n).read_bytes() if (path.parent / n).is_file() else b"") for n in sorted(names)]
        return Output((("", data), *held))


def write_sources(folder: Path, seed: int) -> dict[str, Path]:
    """Write one model as one file and with external data."""
    whole, split = folder / f"whole{seed}.onnx", folder / f"split{seed}.onnx"
    onnx.save(model(seed), whole)
    onnx.save(model(seed), split, save_as_external_data=True, location=f"split{seed}.bin", size_threshold=100)
    return {"one file": whole, "model and data": split}


def command(source: Path, out: Path) -> list[str]:
    return [*COMMAND, str(source), "-o", str(out), "-q", "--verify", "off"]


def run(source: Path, out: Path) -> float:
    """Compile and return the seconds it took."""
    start = time.perf_counter()
    subprocess.run(command(source, out), check=True)
    return time.perf_counter() - start


def state(out: Path, old: Output, new: Output) -> str:
    """Return what an output is: old, new, or DAMAGED."""
    try:
        found = Output.read(out)
    except Exception:
        return "DAMAGED"
    return "old" if found == old else "new" if found == new else "DAMAGED"


def leavings(folder: Path, out: Path) -> Counter[str]:
    """Return what lies beside an output that is no part of it."""
    mine = {n for n, _ in Output.read(out).files} | {out.name}
    rest = [p.name for p in folder.iterdir() if p.name not in mine]
    return Counter("temporary file" if n.endswith(".tmp") else "data file" if n.endswith(".data") else n for n in rest)


def kill(given: argparse.Namespace, root: Path) -> Counter[tuple[str, str]]:
    """Kill compiles; return how often each kind of output was found in each state."""
    number, rng = getattr(signal, f"SIG{given.signal}"), random.Random(given.seed)
    olds, news = write_sources(root, 0), write_sources(root, 1)
    seen: Counter[tuple[str, str]] = Counter()
    for kind in olds:
        clean = {}
        for name, source in (("old", olds[kind]), ("new", news[kind])):
            (root / name).mkdir(exist_ok=True)
            run(source, root / name / "out.onnx")
            clean[name] = Output.read(root / name / "out.onnx")
        seconds = run(news[kind], root / "new" / "out.onnx")
        for i in range(given.count // 2):
            work = root / "work"
            shutil.copytree(root / "old", work)
            share = rng.random() if i % 2 else rng.uniform(0.75, 1.1)
            process = subprocess.Popen(command(news[kind], work / "out.onnx"), stderr=subprocess.DEVNULL)
            time.sleep(share * seconds)
            process.send_signal(number)
            process.wait()
            found = state(work / "out.onnx", clean["old"], clean["new"])
            seen[kind, found] += 1
            if found != "DAMAGED":
                seen.update({(kind, what): n for what, n in leavings(work, work / "out.onnx").items()})
            shutil.rmtree(work)
        for name in clean:
            shutil.rmtree(root / name)
    return seen


def together(count: int, root: Path) -> Counter[tuple[str, str]]:
    """Let two compiles write to one output at once; one of the two must be left, whole."""
    first, second = write_sources(root, 0), write_sources(root, 1)
    seen: Counter[tuple[str, str]] = Counter()
    for kind in first:
        clean = []
        for source in (first[kind], second[kind]):
            (root / "one").mkdir()
            run(source, root / "one" / "out.onnx")
            clean.append(Output.read(root / "one" / "out.onnx"))
            shutil.rmtree(root / "one")
        for _ in range(count):
            (root / "one").mkdir()
            both = [subprocess.Popen(command(s[kind], root / "one" / "out.onnx")) for s in (first, second)]
            codes = [p.wait() for p in both]
            found = state(root / "one" / "out.onnx", *clean)
            good = found != "DAMAGED" and codes == [0, 0]
            seen[f"two at once, {kind}", "one of the two" if good else "DAMAGED"] += 1
            if good:
                left = leavings(root / "one", root / "one" / "out.onnx")
                seen.update({(f"two at once, {kind}", what): n for what, n in left.items()})
            shutil.rmtree(root / "one")
    return seen


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--pairs", type=int, default=10, help="pairs of compiles to one output, of each kind")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--signal", default="KILL", choices=("KILL", "INT", "TERM"))
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kills-") as folder:
        seen = kill(given, Path(folder)) + together(given.pairs, Path(folder))
    print("| output | found | times |\n|---|---|---|")
    for (kind, what), times in sorted(seen.items()):
        print(f"| {kind} | {what} | {times} |")
    return 1 if any(what == "DAMAGED" for _, what in seen) else 0


if __name__ == "__main__":
    sys.exit(main())
