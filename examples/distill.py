"""Compress strongly, recover by distillation, say what it brought: python examples/distill.py MODEL.onnx SAMPLES.npz

Needs pip install "fcc[cpu,torch]". SAMPLES.npz has one array per input, one sample per row; no labels.
"""

import sys

import fcc


def main(model: str, samples: str) -> None:
    """Write MODEL.small.onnx beside the model, and the plan that makes it again."""
    compiled = fcc.compile(model, calibration=samples, low_rank=0.25, distill={"epochs": 24}, budget="10%")
    row = compiled.report.distilled
    print(f"error on samples held back: {row['before']:.3g} -> {row['after']:.3g} in {row['seconds']:.0f} s")
    out = model.removesuffix(".onnx") + ".small.onnx"
    compiled.save(out)
    with open(out + ".plan.json", "w", encoding="utf-8") as file:
        file.write(compiled.plan.to_json())


if __name__ == "__main__":
    main(*sys.argv[1:])
