"""int8 on cpu, figure by figure: which kernels run, what moved, whether the pair certificate holds.

    FCC_ZOO=../shared python benchmarks/int8.py [MODEL ...] [--limit N] [--isa avx2|vnni|arm]

For each model of FCC_ZOO/models: fitted on the calibration split of FCC_ZOO/tools/feeds.py, judged on its development
split against the source model. Exits 1 when a quantized layer is no integer kernel, a pair is unsafe (avx2), or the
error with the runtime's optimizations on is more than 5 % above the error with them off.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from fcc import ir, passes
from fcc.analysis import shapes
from fcc.backends import get_backend
from fcc.compress.quantize import is_pair_safe
from fcc.data.dataset import Data, open_data
from fcc.data.spec import inputs_of
from fcc.frontend import read
from fcc.passes.insert_qdq import InsertQdq
from fcc.rewrite import Log, PassContext, run_pass
from fcc.rewrite.manager import Manager
from fcc.runtime import kernels, open_session
from fcc.runtime.calibrate import calibrate
from fcc.target import get_target

ZOO = Path(os.environ.get("FCC_ZOO", "../shared"))
MODELS = (
    "digits28_mlp",
    "digits28_cnn",
    "magika_standard_v3_3",
    "mnist_cntk",
    "mlir_mnist",
    "ultraface_rfb320",
    "superres",
)
INTEGER = ("QLinearConv", "QGemm", "QLinearMatMul", "MatMulIntegerToFloat")
FLOAT = ("Conv", "FusedConv", "Gemm", "FusedGemm", "MatMul", "FusedMatMul")
MOST_CLASSES = 1000
COLUMNS = "{:21} {:>9} {:>6} {:>6} {:>8} {:>8} {:>7} {:>7} {:>7}  {}"


@dataclass(frozen=True)
class Row:
    """Figures of one model; ``agree`` compares classes, NaN without any; ``labels`` is (fp32, int8) accuracy."""

    name: str
    bytes: float
    layers: int
    integer: int
    on: float
    off: float
    agree: float
    labels: tuple[float, float] | None
    unsafe: int
    kernels: Counter[str]

    @property
    def good(self) -> bool:
        return self.integer >= self.layers and not self.unsafe and self.on <= 1.05 * self.off + 1e-6

    def __str__(self) -> str:
        accuracy = ("", "") if self.labels is None else (f"{self.labels[0]:.4f}", f"{self.labels[1]:.4f}")
        kinds = ", ".join(f"{k} {self.kernels[k]}" for k in (*INTEGER, *FLOAT) if self.kernels[k])
        figures = (
            f"{self.bytes:.3f}",
            f"{self.integer}/{self.layers}",
            self.unsafe,
            f"{self.on:.5f}",
            f"{self.off:.5f}",
        )
        return COLUMNS.format(self.name, *figures, f"{self.agree:.4f}".replace("nan", ""), *accuracy, kinds)


def samples(name: str, split: str, limit: int, module: ir.Module, parent: str) -> Data:
    """Return the samples of a split, written by the tool of the zoo and streamed from there."""
    folder = Path(parent) / split
    tool = [sys.executable, str(ZOO / "tools" / "feeds.py"), name, str(folder), "--split", split, "--limit", str(limit)]
    subprocess.run(tool, check=True, stdout=subprocess.DEVNULL)
    return open_data(folder, inputs_of(module))


def quantized(module: ir.Module, isa: str, data: Data) -> tuple[bytes, int]:
    """Optimize and quantize a module in place; return the emitted model and how many layers are int8.

    What only other forms of the layers gain by comes after, as in ``fcc.compile``.
    """
    target = get_target("cpu", isa=isa)
    ctx, insert = PassContext(target=target, log=Log(strict=True)), InsertQdq()

    def emit() -> bytes:
        return get_backend(target).emit(module, meta={}, opt_shapes=None, min_shapes=None, max_shapes=None).to_bytes()

    before, finish = passes.pipeline(2).split()
    Manager().run(before, module, ctx)
    stats = calibrate(emit(), insert.tensors(module, ctx), data)
    run_pass(insert, module, replace(ctx, stats=stats))
    Manager().run(finish, module, ctx)
    ir.verify(module)
    return emit(), len(ctx.log.layers)


def unsafe_channels(module: ir.Module) -> int:
    """Count the output channels of int8 weights in which two neighbours could overflow int16."""
    count = 0
    for node in module.nodes():
        weight, axis = (None, 0)
        if node.op_type == "DequantizeLinear":
            weight, axis = node.inputs[0], node.attributes.get_int("axis", 1)
        elif node.op_type == "MatMulIntegerToFloat":
            weight, axis = node.inputs[1], 1
        array = ir.Module.constant(weight)
        if array is not None and array.dtype == np.int8 and array.ndim > 1:
            count += int((~is_pair_safe(array, axis)).sum())
    return count


def first_outputs(model: bytes, data: Data, optimize: bool = True) -> np.ndarray[Any, Any]:
    """Return the first output of every sample, flattened."""
    session = open_session(model, optimize=optimize)
    return np.stack([session.run(f)[session.outputs[0].name].reshape(-1) for f in data])


def row(name: str, limit: int, isa: str, folder: str) -> Row:
    """Return the figures of one model; ``folder`` takes the samples."""
    source = (ZOO / "models" / f"{name}.onnx").read_bytes()
    module = read(source)
    shapes.infer(module)
    development = samples(name, "development", limit, module, folder)
    model, layers = quantized(module, isa, samples(name, "calibration", limit, module, folder))
    exact, on, off = (
        first_outputs(*x) for x in ((source, development), (model, development), (model, development, False))
    )
    found = kernels(model)
    unsafe = unsafe_channels(module) if isa == "avx2" else 0
    size = np.linalg.norm(exact)
    return Row(
        name,
        len(model) / len(source),
        layers,
        sum(found[k] for k in INTEGER),
        float(np.linalg.norm(on - exact) / size),
        float(np.linalg.norm(off - exact) / size),
        float(np.mean(on.argmax(1) == exact.argmax(1))) if exact.shape[1] <= MOST_CLASSES else float("nan"),
        accuracy(name, exact, on),
        unsafe,
        found,
    )


def accuracy(name: str, exact: np.ndarray[Any, Any], on: np.ndarray[Any, Any]) -> tuple[float, float] | None:
    """Return the accuracy of both models where labels exist."""
    if not name.startswith("digits28"):
        return None
    labels = np.load(ZOO / "data" / "digits28.npz")["development_labels"][: len(exact)]
    return float(np.mean(exact.argmax(1) == labels)), float(np.mean(on.argmax(1) == labels))


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--limit", type=int, default=1000, help="samples of each split (images: 16 at most)")
    parser.add_argument("--isa", default="avx2")
    args = parser.parse_args()
    print(COLUMNS.format("model", "bytes", "int8", "unsafe", "rel on", "rel off", "agree", "fp32", "int8", "kernels"))
    rows = []
    for name in args.models:
        images = name.startswith(("ultraface", "superres", "mobilenet", "vit"))
        with tempfile.TemporaryDirectory(prefix="fcc-int8-") as folder:
            rows.append(row(name, min(args.limit, 16) if images else args.limit, args.isa, folder))
        print(rows[-1], flush=True)
    return 0 if all(r.good for r in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
