"""Latency of recurrent layers as one operator over the same layers written out (cpu, 1 thread).

python benchmarks/recurrent.py [--form unrolled|Loop|Scan] [--kinds LSTM,GRU] [--units 8,64] [--steps 2,8] [--batch 1,8]

Prints one line per case: microseconds before and after, and the median of the ratios of interleaved runs.
"""

from __future__ import annotations

import argparse
from itertools import product

import numpy as np
import onnx
from onnx_ir import serde

from fcc.analysis import shapes
from fcc.frontend import read
from fcc.models.recurrent_cells import Cell, layer
from fcc.passes.fuse_recurrent import FuseRecurrent
from fcc.passes.fuse_unrolled_recurrent import FuseUnrolledRecurrent
from fcc.rewrite import Log, PassContext, run_pass
from fcc.runtime import open_session, time_ratio
from fcc.target import get_target


class _Always(FuseUnrolledRecurrent):
    """Whether it pays is the question."""

    def pays(self, site):  # type: ignore[no-untyped-def]
        return None


def fused(model: onnx.ModelProto, form: str) -> bytes:
    """Return the model with its layer as one operator."""
    module = read(model)
    shapes.infer(module)
    p = _Always() if form == "unrolled" else FuseRecurrent()
    assert run_pass(p, module, PassContext(get_target("cpu"), Log(strict=True))) == 1
    return serde.serialize_model(module.model).SerializeToString()


def main() -> None:
    """Time the grid."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--form", default="unrolled", choices=["unrolled", "Loop", "Scan"])
    parser.add_argument("--kinds", default="LSTM,GRU,RNN")
    for name, default in (("units", "8,32,64,128,256,512"), ("steps", "2,4,8,32"), ("batch", "1,8")):
        parser.add_argument(f"--{name}", default=default)
    args = parser.parse_args()
    grid = [[int(k) for k in getattr(args, name).split(",")] for name in ("batch", "units", "steps")]
    for kind, (batch, units, steps) in product(args.kinds.split(","), product(*grid)):
        cell = Cell(kind, inputs=units, units=units, gemm=True)
        model = layer(cell, form=args.form, steps=steps, batch=batch, outputs="y")
        before = open_session(model.SerializeToString(), threads=1)
        after = open_session(fused(model, args.form), threads=1)
        rng = np.random.default_rng(0)
        feed = {
            v.name: rng.standard_normal([d.dim_value for d in v.type.tensor_type.shape.dim]).astype(np.float32)
            for v in model.graph.input
        }
        found = time_ratio(before, after, feed, budget_s=0.4)
        print(f"{kind:4} batch {batch} units {units:3} steps {steps:3}: {found}", flush=True)


if __name__ == "__main__":
    main()
