"""Compile five models many times under varying hash seeds, folders and workers, and count the different outputs.

    python benchmarks/determinism.py [--runs 50] [--models A.onnx ...] [--jobs 2]

Every compile is a process of its own: PYTHONHASHSEED is 0 to 2^32-1 or random, the working directory is a new one (so
are the relative paths), and the runs take turns among three ways to calibrate: no executor, threads, processes, with
1 to 3 workers. Without --models: the trained digits classifiers (int8 by calibration, level 3 under a budget) and
three generated models at -O2 for each target. One row per model; exit code 1 where a model has more than one hash.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from fcc.models import BUILDERS

ROOT = Path(__file__).resolve().parent.parent
DIGITS = ROOT / "models"
SAMPLES = str(DIGITS / "digits_calibration.npz")
CHILD = """
import json, sys
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
import fcc
given = json.loads(sys.argv[1])
kind, workers = given.pop("executor")
if __name__ == "__main__":
    pools = {"threads": ThreadPoolExecutor, "processes": ProcessPoolExecutor}
    if kind != "none" and "calibration" in given:
        given["executor"] = pools[kind](workers)
    made = fcc.compile(given.pop("model"), **given)
    made.save("out.onnx")
    if given.get("executor"):
        given["executor"].shutdown()
"""


@dataclass(frozen=True)
class Subject:
    """What is compiled, and how."""

    name: str
    model: str
    options: Mapping[str, Any] = field(default_factory=dict)


def subjects(folder: Path, given: list[str]) -> list[Subject]:
    """Return the models to compile: those given, else two trained ones and three that are generated."""
    if given:
        return [Subject(Path(p).stem, str(Path(p).resolve())) for p in given]
    int8 = {"precision": "int8", "calibration": SAMPLES}
    level3 = {"opt_level": 3, "budget": "2%", "calibration": SAMPLES, "objective": "size"}
    found = [
        Subject("digits-cnn, int8", str(DIGITS / "digits_cnn.onnx"), int8),
        Subject("digits-mlp, -O3", str(DIGITS / "digits_mlp.onnx"), level3),
    ]
    for name, target in (("bert", "cpu"), ("gpt", "cuda"), ("resnet", "tensorrt")):
        path = folder / f"{name}.onnx"
        path.write_bytes(BUILDERS[name]().SerializeToString())
        found.append(Subject(f"{name}, {target}", str(path), {"target": target}))
    return found


def compiled(subject: Subject, run: int, folder: Path) -> str:
    """Compile in a process of its own and return the hash of the file."""
    draw = Random(f"{subject.name} {run}")
    home = folder / f"{draw.randrange(1 << 40):x}"
    home.mkdir()
    kind = ("none", "threads", "processes")[run % 3]
    options = {**subject.options, "model": os.path.relpath(subject.model, home), "executor": (kind, draw.randint(1, 3))}
    if "calibration" in options:
        options["calibration"] = os.path.relpath(options["calibration"], home)
    seed = "random" if run % 5 == 4 else str(draw.randrange(1 << 32))
    environment = {**os.environ, "PYTHONHASHSEED": seed, "OMP_NUM_THREADS": str(1 + run % 2)}
    script = home / "child.py"
    script.write_text(CHILD)
    command = [sys.executable, str(script), json.dumps(options)]
    done = subprocess.run(command, cwd=home, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        return f"failed: {done.stderr.strip().splitlines()[-1][:200]}"
    return hashlib.sha256((home / "out.onnx").read_bytes()).hexdigest()[:16]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=50)
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--jobs", type=int, default=2, help="compiles at a time")
    given = parser.parse_args()
    differ = False
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(given.jobs) as pool:
        folder = Path(name)
        for subject in subjects(folder, given.models):
            hashes = Counter(pool.map(lambda run, s=subject: compiled(s, run, folder), range(given.runs)))
            differ |= len(hashes) > 1 or any("failed" in h for h in hashes)
            listed = ", ".join(f"{h} x {n}" for h, n in hashes.most_common())
            print(f"{subject.name:20} {given.runs} compiles, {len(hashes)} distinct: {listed}", flush=True)
    return int(differ)


if __name__ == "__main__":
    sys.exit(main())
