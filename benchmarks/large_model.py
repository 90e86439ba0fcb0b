"""Compile a model larger than protobuf's 2 GiB limit: memory is bounded by the largest tensor, not by the model.

    python benchmarks/large_model.py [--layers 36] [--width 4096] [--folder TMP]

Builds Gemm + BatchNormalization + Relu + Identity layers with external weights (64 MiB each at width 4096, drawn from a
short random sequence), compiles with -O2 --target cpu --verify off, saves, and runs source and output on one sample.
Memory is what the process holds beyond mapped files (RssAnon), so that pages of the weight files do not count. The exit
code is 1 when the peak exceeds --factor tensors, the outputs differ, or the file is larger.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

PERIOD = 1_000_003  # prime: no two rows of a weight are equal


def build(folder: Path, layers: int, width: int) -> Path:
    """Write the model and its weights."""
    size, nodes, tensors, x = width * width * 4, [], [], "x"
    rng = np.random.default_rng(0)
    with open(folder / "weights.data", "wb") as file:
        for i in range(layers):
            short = (rng.standard_normal(PERIOD) / np.sqrt(width)).astype(np.float32)
            file.write(np.resize(short, width * width).tobytes())
            weight = TensorProto(name=f"w{i}", data_type=TensorProto.FLOAT, dims=[width, width])
            weight.data_location = TensorProto.EXTERNAL
            for key, value in (("location", "weights.data"), ("offset", i * size), ("length", size)):
                weight.external_data.add(key=key, value=str(value))
            vectors = [rng.uniform(0.5, 1.5, width).astype(np.float32) for _ in range(5)]
            tensors += [weight, *(numpy_helper.from_array(v, f"v{i}_{j}") for j, v in enumerate(vectors))]
            norm = [f"g{i}", *(f"v{i}_{j}" for j in range(1, 5))]
            nodes += [
                helper.make_node("Gemm", [x, f"w{i}", f"v{i}_0"], [f"g{i}"], transB=1),
                helper.make_node("BatchNormalization", norm, [f"n{i}"]),
                helper.make_node("Relu", [f"n{i}"], [f"r{i}"]),
                helper.make_node("Identity", [f"r{i}"], [f"i{i}"]),
            ]
            x = f"i{i}"
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["N", width]) for n in ("x", x)]
    graph = helper.make_graph(nodes, "large", ends[:1], ends[1:], tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, folder / "large.onnx")
    return folder / "large.onnx"


class Peak:
    """The largest RssAnon of this process, in bytes, sampled every 10 ms while it is open."""

    def __enter__(self) -> Peak:
        self.bytes, self._open = 0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._open = False
        self._thread.join()

    def _watch(self) -> None:
        while self._open:
            lines = Path("/proc/self/status").read_text().splitlines()
            self.bytes = max(self.bytes, next(int(k.split()[1]) * 1024 for k in lines if k.startswith("RssAnon")))
            time.sleep(0.01)


RUN = """
import sys, numpy as np, onnxruntime as ort
x = np.random.default_rng(1).standard_normal((1, int(sys.argv[2]))).astype(np.float32)
np.save(sys.argv[3], ort.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"]).run(None, {"x": x})[0])
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--layers", type=int, default=36)
    parser.add_argument("--width", type=int, default=4096)
    parser.add_argument("--factor", type=float, default=6.0, help="peak memory allowed, in tensors, beyond the imports")
    parser.add_argument("--folder", type=Path)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=given.folder) as name:
        folder = Path(name)
        source, target = build(folder, given.layers, given.width), folder / "large.fcc.onnx"
        import fcc

        tensor = given.width * given.width * 4
        with Peak() as peak:
            start = time.perf_counter()
            compiled = fcc.compile(source, verify="off")
            middle = time.perf_counter()
            compiled.save(target)
            end = time.perf_counter()
        results = []
        for i, path in enumerate((source, target)):
            subprocess.run([sys.executable, "-c", RUN, path, str(given.width), folder / f"{i}.npy"], check=True)
            results.append(np.load(folder / f"{i}.npy"))
        error = float(np.abs(results[0] - results[1]).max() / np.abs(results[0]).max())
    print(f"{given.layers * tensor / 2**30:.2f} GiB of weights, {tensor / 2**20:.0f} MiB per tensor")
    print(f"compile {middle - start:.1f} s, save {end - middle:.1f} s, error {error:.1e}")
    print(f"peak memory {peak.bytes / 2**20:.0f} MiB = {peak.bytes / tensor:.1f} tensors")
    sizes = [s.bytes for s in (compiled.report.before, compiled.report.after) if s is not None]
    print(f"bytes {sizes[0]} -> {sizes[1]}")
    fits = peak.bytes <= given.factor * tensor + 150 * 2**20
    return int(not (fits and error < 1e-4 and sizes[1] <= sizes[0]))


if __name__ == "__main__":
    sys.exit(main())
