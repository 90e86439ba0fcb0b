"""Compression under a budget and technique by technique, beside the plain methods and onnxruntime's own tools.

    FCC_ZOO=../shared python benchmarks/compression.py [MODEL ...] [--technique NAME ...] [--limit N] [--seconds S]
    FCC_ZOO=../shared python benchmarks/compression.py --rows [NUMBER ...]

Every technique is fitted on the calibration split of FCC_ZOO/tools/feeds.py and judged on its development split, which
is never fitted, models with state in a closed loop of their own. ``rel`` is ||y - y0|| / ||y0|| of the first output
against the source with optimizations off, ``agree`` compares its largest element, or y > 0.5 where there is one only;
``latency`` is the median ratio of interleaved runs to fcc -O2, one thread; ``params`` and ``bytes`` are ratios to the
source; seconds and peak MiB are those of a process that does nothing else. ``--technique`` takes beginnings of names.
``--rows`` prints the wanted and the measured figures of acceptance instead.
"""

from __future__ import annotations

import argparse
import json
import logging
import resource
import subprocess
import sys
import tempfile
import time
import warnings
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from quantization import FEW, MODELS, case_of, outputs
from techniques import ALL, SHAPES, built

from fcc import ir
from fcc.frontend import read
from fcc.runtime import open_session, time_ratio

COLUMNS = "{:21} {:21} {:>7} {:>8} {:>7} {:>7} {:>7} {:>8} {:>6}  {}"


@dataclass(frozen=True)
class Made:
    """What a technique made of a model, and what that took."""

    model: bytes
    seconds: float
    peak: float


@dataclass
class Bench:
    """One model: builds each technique once, in a process of its own, and takes figures."""

    name: str
    limit: int
    seconds: float
    folder: str
    _made: dict[str, Made] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.case = case_of(self.name, min(self.limit, 16) if self.name.startswith(FEW) else self.limit, self.folder)

    def made(self, technique: str) -> Made:
        """Return what a technique makes.

        Raises:
            RuntimeError: it fails; the last line of what it said.
        """
        if technique not in self._made:
            out = Path(self.folder) / "made.onnx"
            command = [sys.executable, __file__, self.name, "--limit", str(self.limit), "--build", technique]
            done = subprocess.run([*command, "--out", str(out)], capture_output=True, text=True)
            if done.returncode:
                raise RuntimeError((done.stderr.strip().splitlines() or ["no reason given"])[-1][:90])
            took = json.loads(done.stdout.splitlines()[-1])
            self._made[technique] = Made(out.read_bytes(), took["seconds"], took["peak"])
        return self._made[technique]

    def found(self, technique: str, optimize: bool = True) -> Any:
        """Return the first output of every development sample."""
        return outputs(self.made(technique).model, self.case.judge, optimize=optimize)

    def rel(self, technique: str, optimize: bool = True) -> float:
        """Return the relative error on development data."""
        exact = self.case.reference
        return float(np.linalg.norm(self.found(technique, optimize) - exact) / np.linalg.norm(exact))

    def agree(self, technique: str) -> float:
        """Return the share of development samples with the same answer; NaN where the output is no set of classes."""
        exact, found = self.case.reference, self.found(technique)
        if exact.shape[1] > 1000:
            return float("nan")
        same = (found > 0.5) == (exact > 0.5) if exact.shape[1] == 1 else found.argmax(1) == exact.argmax(1)
        return float(np.mean(same))

    def latency(self, technique: str, base: str = "O2") -> float:
        """Return the median ratio to another technique, or to the source, of interleaved runs."""
        before = self.case.source if base == "source" else self.made(base).model
        sessions = [open_session(m) for m in (before, self.made(technique).model)]
        shapes = SHAPES.get(self.name)
        feed = (
            {k: np.resize(v, shapes[k]) for k, v in self.case.judge.first().items()}
            if shapes
            else self.case.judge.first()
        )
        return float(np.median([time_ratio(*sessions, feed, budget_s=self.seconds / 3).ratio for _ in range(3)]))

    def bytes(self, technique: str) -> float:
        """Return the size of the file over that of the source."""
        return len(self.made(technique).model) / len(self.case.source)

    def params(self, technique: str) -> float:
        """Return the number of elements of all initializers over that of -O2."""
        return parameters(self.made(technique).model) / parameters(self.made("O2").model)


@cache
def parameters(model: bytes) -> int:
    """Return the number of elements of all initializers."""
    values = [v for g in read(model).graphs() for v in g.initializers.values()]
    return sum(int(np.prod([d for d in ir.dims_of(v) or () if isinstance(d, int)])) for v in values)


def build(name: str, technique: str, limit: int, out: str) -> None:
    """Build one technique and say what it took: the work of a process of its own."""
    with tempfile.TemporaryDirectory(prefix="fcc-compression-") as folder:
        case = case_of(name, min(limit, 16) if name.startswith(FEW) else limit, folder)
        start = time.perf_counter()
        Path(out).write_bytes(built(case, technique, folder))
        took = {
            "seconds": time.perf_counter() - start,
            "peak": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    print(json.dumps(took))


def table(bench: Bench, techniques: list[str]) -> None:
    """Print the figures of some techniques."""
    for way in techniques:
        try:
            made = bench.made(way)
            figures: list[str] = [
                f"{bench.params(way):.3f}",
                f"{bench.rel(way):.4f}",
                f"{bench.agree(way):.4f}".replace("nan", ""),
                f"{bench.latency(way):.2f}" if bench.seconds else "",
                f"{bench.bytes(way):.3f}",
                f"{made.seconds:.1f} s",
                f"{made.peak:.0f}",
            ]
        except Exception as error:
            figures = [""] * 7 + [str(error)]
        print(COLUMNS.format(bench.name, way, *figures, *[""] * (8 - len(figures))).rstrip(), flush=True)


def main() -> int:
    """Print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*")
    parser.add_argument("--technique", nargs="*", default=[""], help="beginnings of names")
    parser.add_argument("--limit", type=int, default=1000, help="samples of each split (large images: 16 at most)")
    parser.add_argument("--seconds", type=float, default=1.0, help="for the latency of a row; 0: none")
    parser.add_argument("--rows", nargs="*", type=int, help="acceptance figures instead, all or by number")
    parser.add_argument("--build", help=argparse.SUPPRESS)
    parser.add_argument("--out", help=argparse.SUPPRESS)
    given = parser.parse_args()
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    if given.build:
        build(given.models[0], given.build, given.limit, given.out)
        return 0
    if given.rows is not None:
        import acceptance

        return acceptance.main(Bench, given.rows, given.limit, given.seconds)
    print(COLUMNS.format("model", "technique", "params", "rel", "agree", "latency", "bytes", "compile", "MiB", ""))
    for name in given.models or MODELS:
        with tempfile.TemporaryDirectory(prefix="fcc-compression-") as folder:
            chosen = [t for t in ALL if t.startswith(tuple(given.technique))]
            table(Bench(name, given.limit, given.seconds, folder), chosen)
    return 0


if __name__ == "__main__":
    sys.exit(main())
