"""Calibration with ten times the data, and with two workers: peak memory, time, and the bytes of the output.

    FCC_ZOO=../shared python benchmarks/calibration.py [MODEL ...] [--samples N] [--times N] [--way NAME ...]

Samples are those of FCC_ZOO/tools/feeds.py in a folder of .npz files of eight; ten times the data is every file ten
times. Every row is a process of its own: its peak memory is the largest resident set of that process (without the
workers), "calibrate" the seconds it spent running samples, "compile" all seconds. Rows of one way on the same data must
write the same file, whoever computed it.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

ZOO = Path(os.environ.get("FCC_ZOO", "../shared"))
MODELS = ("digits28_mlp", "ultraface_rfb320")
PER_FILE = 8
WAYS = {
    "int8": ["--precision", "int8"],
    "low rank": ["--low-rank", "ratio=0.5"],
    "prune": ["--prune", "ratio=0.75"],
    "-O3 size": ["-O3", "--objective", "size", "--budget", "3%"],
}
ROW = "{:18} {:9} {:16} {:>7} {:>10} {:>10} {:>9}  {}"


@dataclass(frozen=True)
class Run:
    """One compile."""

    peak_mib: float
    calibrate_s: float
    compile_s: float
    digest: str


def folders(model: str, samples: int, times: int, place: Path) -> tuple[Path, Path]:
    """Return a folder of that many samples, and one in which every file is there so many times."""
    feeds = [sys.executable, str(ZOO / "tools" / "feeds.py"), model, str(place / "raw"), "--limit", str(samples)]
    subprocess.run(feeds, check=True)
    once, many = place / "once", place / "many"
    once.mkdir()
    many.mkdir()
    for path in sorted((place / "raw").glob("*.npz")):
        with np.load(path) as arrays:
            held = {name: arrays[name] for name in arrays.files}
        count = len(next(iter(held.values())))
        for start in range(0, count, PER_FILE):
            np.savez(once / f"{path.stem}{start:05}.npz", **{n: a[start : start + PER_FILE] for n, a in held.items()})
    for path in sorted(once.iterdir()):
        for k in range(times):
            shutil.copy(path, many / f"{k:02}{path.name}")
    return once, many


def run(model: Path, way: list[str], data: Path, more: list[str], place: Path) -> Run:
    """Compile in a process of its own."""
    out, report = place / "out.onnx", place / "report.json"
    words = [str(model), *way, "--calibration", str(data), "--force", "--allow-growth", "-q", *more]
    start = time.perf_counter()
    child = subprocess.Popen([sys.executable, "-P", "-m", "fcc", *words, "-o", str(out), "--report", str(report)])
    _, status, used = os.wait4(child.pid, 0)
    child.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if child.returncode:
        raise SystemExit(f"fcc {' '.join(words)}: exit code {child.returncode}")
    spent = json.loads(report.read_text())["seconds"].get("calibrate", 0.0)
    return Run(used.ru_maxrss / 1024, spent, seconds, hashlib.sha256(out.read_bytes()).hexdigest())


@contextmanager
def cluster() -> Iterator[str]:
    """Yield the address of a Dask cluster of two processes, "" where distributed is not installed."""
    try:
        import distributed
    except ImportError:
        yield ""
        return
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as found:
        yield found.scheduler_address


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", default=MODELS)
    parser.add_argument("--samples", type=int, default=64)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--way", action="append", choices=list(WAYS))
    args = parser.parse_args()
    print(ROW.format("model", "way", "data, workers", "MiB", "calibrate", "compile", "ratios", "sha256"))
    wrong = []
    with cluster() as address:
        for model in args.models:
            for way in args.way or WAYS:
                with tempfile.TemporaryDirectory(prefix="fcc-") as name:
                    wrong += measure(model, way, args.samples, args.times, Path(name), address)
    if wrong:
        raise SystemExit("different bytes: " + ", ".join(wrong))


def measure(model: str, way: str, samples: int, times: int, place: Path, address: str) -> list[str]:
    """Print the rows of one way for one model; return those whose file differs from that of the serial run."""
    once, many = folders(model, samples, times, place)
    workers = {"1x, serial": [], "1x, 2 processes": ["--cluster", "2"]}
    workers |= {"1x, dask": ["--cluster", address]} if address else {}
    path = ZOO / "models" / f"{model}.onnx"
    rows = {name: run(path, WAYS[way], once, more, place) for name, more in workers.items()}
    rows[f"{times}x, serial"] = run(path, WAYS[way], many, [], place)
    first = rows["1x, serial"]
    for name, row in rows.items():
        ratios = f"{row.peak_mib / first.peak_mib:.2f} {row.calibrate_s / max(first.calibrate_s, 1e-9):.1f}"
        figures = f"{row.peak_mib:.0f}", f"{row.calibrate_s:.1f} s", f"{row.compile_s:.1f} s", ratios
        print(ROW.format(model, way, name, *figures, row.digest[:16]), flush=True)
    return [f"{model} {way} {name}" for name in workers if rows[name].digest != first.digest]


if __name__ == "__main__":
    main()
