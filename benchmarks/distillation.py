"""Distillation after lossy steps: error on unseen data before and after, and its time.

    FCC_ZOO=../shared python benchmarks/distillation.py [MODEL ...]

Fitted on the calibration split of FCC_ZOO/tools/feeds.py, judged on its development split. One thread.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import fcc
from fcc.plan import Plan

ZOO = Path(os.environ.get("FCC_ZOO", "../shared"))
MODELS = ("digits28_mlp", "digits28_cnn")
STEPS: dict[str, dict[str, Any]] = {
    "low rank .1": {"low_rank": {"ratio": 0.1}},
    "low rank .25": {"low_rank": {"ratio": 0.25}},
    "prune .5": {"prune": {"ratio": 0.5}},
    "int8": {"precision": "int8", "recipe": {"gptq": True}},
}


def error(model: str, folder: Path, lossy: dict[str, Any]) -> tuple[float, dict[str, Any]]:
    """Return the error on the development split, and the figures of the distillation."""
    found = fcc.compile(
        str(ZOO / "models" / f"{model}.onnx"),
        plan=Plan("cpu", lossy=lossy),
        calibration=str(folder / "calibration"),
        data=str(folder / "development"),
        force=True,
        allow_growth=True,
    )
    rows = [r.error for r in found.report.parity if r.phase == "lossy"]
    return max(rows), found.report.distilled


def main() -> None:
    print("| model | step | closed form | distilled | seconds |\n|---|---|---|---|---|")
    for model in sys.argv[1:] or MODELS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            for split in ("calibration", "development"):
                feeds = [sys.executable, str(ZOO / "tools/feeds.py"), model, str(folder / split), "--split", split]
                subprocess.run(feeds, check=True, stdout=subprocess.DEVNULL)
            for step, lossy in STEPS.items():
                before, _ = error(model, folder, lossy)
                after, row = error(model, folder, {**lossy, "distill": {"epochs": 24, "rate": 0.01}})
                said = f"{after:.4f}" if row["kept"] else f"{after:.4f} (not kept)"
                print(f"| {model} | {step} | {before:.4f} | {said} | {row['seconds']:.1f} |", flush=True)


if __name__ == "__main__":
    main()
