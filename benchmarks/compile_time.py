"""Time to compile: the whole process, interleaved with onnxslim, on every model of FCC_ZOO.

    FCC_ZOO=../shared python benchmarks/compile_time.py [--repeats N] [--models NAME ...]

Prints seconds per model (median over the repeats, the order of the tools rotates) for onnxslim, `fcc --verify off` and
`fcc`, and the median over models of the ratios to onnxslim; then the time of `import fcc`, of `fcc --help`, and of
fcc.compile for a model of ten nodes in a warm process. Without onnxslim its column is empty and there are no ratios.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

ZOO = Path(os.environ.get("FCC_ZOO", "../shared")) / "models"
FCC = [sys.executable, "-m", "fcc"]
TOOLS = {
    "onnxslim": ["onnxslim", "{model}", "{out}"],
    "fcc --verify off": [*FCC, "{model}", "-o", "{out}", "--verify", "off"],
    "fcc": [*FCC, "{model}", "-o", "{out}"],
}
WARM = """
import statistics, time, onnx, fcc
nodes = "".join(f"t{i+1} = {op}(t{i})\\n" for i, op in enumerate(["Relu", "Identity", "Neg", "Abs", "Exp"] * 2))
text = '<ir_version: 9, opset_import: ["" : 17]>\\ng (float[N, 8] t0) => (float[N, 8] t10) {' + nodes + "}"
model = onnx.parser.parse_model(text)
fcc.compile(model)
times = []
for _ in range(15):
    start = time.perf_counter()
    fcc.compile(model)
    times.append(time.perf_counter() - start)
print(statistics.median(times))
"""


def seconds(words: Sequence[str]) -> float | None:
    """Return the wall time of a process, None when it fails."""
    start = time.perf_counter()
    done = subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
    return time.perf_counter() - start if done.returncode == 0 else None


def rotated(names: Sequence[str], by: int) -> list[str]:
    by %= len(names)
    return [*names[by:], *names[:by]]


def measure(model: Path, tools: Sequence[str], repeats: int, folder: Path) -> dict[str, float]:
    """Return tool -> median seconds; a tool that failed is missing."""
    times: dict[str, list[float]] = {name: [] for name in tools}
    for k in range(repeats + 1):
        for name in rotated(tools, k):
            words = [w.format(model=model, out=folder / "out.onnx") for w in TOOLS[name]]
            took = seconds(words)
            if took is not None and k > 0:  # the first round warms the disk cache
                times[name].append(took)
    return {name: statistics.median(found) for name, found in times.items() if len(found) == repeats}


def row(label: str, cells: dict[str, float]) -> str:
    return f"{label:<28}" + "".join(f"{cells[n]:>18.2f}" if n in cells else f"{'-':>18}" for n in TOOLS)


def compare(models: Sequence[Path], repeats: int) -> None:
    """Print the table of whole processes and the median ratios."""
    tools = [n for n in TOOLS if n != "onnxslim" or shutil.which("onnxslim")]
    if "onnxslim" not in tools:
        print("onnxslim is not installed (pip install onnxslim): no ratios")
    print(f"{'whole process, seconds':<28}" + "".join(f"{n:>18}" for n in TOOLS))
    ratios: dict[str, list[float]] = {name: [] for name in TOOLS if name != "onnxslim"}
    with tempfile.TemporaryDirectory() as folder:
        for model in models:
            found = measure(model, tools, repeats, Path(folder))
            print(row(model.stem, found), flush=True)
            for name, values in ratios.items():
                if name in found and "onnxslim" in found:
                    values.append(found[name] / found["onnxslim"])
    medians = {name: statistics.median(values) for name, values in ratios.items() if values}
    if medians:
        print(row("median ratio to onnxslim", medians))


def startup(repeats: int = 15) -> None:
    """Print what importing fcc and asking for help cost beyond an idle interpreter."""
    codes = {"idle": ["-c", "pass"], "import fcc": ["-c", "import fcc"], "fcc --help": ["-m", "fcc", "--help"]}
    times: dict[str, list[float]] = {name: [] for name in codes}
    for _ in range(repeats):
        for name, words in codes.items():
            times[name].append(seconds([sys.executable, *words]) or float("nan"))
    idle = statistics.median(times["idle"])
    for name in ("import fcc", "fcc --help"):
        whole = statistics.median(times[name])
        print(f"{name:<28}{whole - idle:>18.3f}  (process {whole:.3f}, idle interpreter {idle:.3f})")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--models", nargs="*", default=[], help="names without .onnx (all)")
    given = parser.parse_args()
    models = [p for p in sorted(ZOO.glob("*.onnx")) if not given.models or p.stem in given.models]
    if models:
        compare(models, given.repeats)
    else:
        print(f"no models in {ZOO}: set FCC_ZOO to the folder that holds models/")
    startup()
    warm = subprocess.run([sys.executable, "-c", WARM], capture_output=True, text=True, check=True).stdout
    print(f"{'warm compile, 10 nodes':<28}{float(warm):>18.3f}")


if __name__ == "__main__":
    main()
