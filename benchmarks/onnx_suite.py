"""Run ONNX's own backend tests on plain onnxruntime and on what fcc emits, and show the difference.

    python benchmarks/onnx_suite.py [--workers 2] [--levels 0 1 2] [--targets cpu cuda tensorrt] [--verify off end]
                                    [--sample N --seed S] [--only TEXT] [--exclude FILE.json]

Every test of onnx.backend.test (node, simple, pytorch-converted, pytorch-operator, light) is run by plain onnxruntime
on the CPU, then at each level for each target: compiled, and what was emitted is run by onnxruntime on the CPU.
``--verify off``: nothing judges the compile, so that nothing can hide a fault; ``end``: as users run it, at the highest
level only, where rewrites that had to be skipped (guilty) and files that grew are counted as well.

One row per way: tests passed; missed: passed by plain onnxruntime, not by fcc (acceptance: 0); gained: the other way
round; elsewhere: missed because the CPU has no kernel for an operator that the target has; crashed: an error that is
no FccError, whoever passes. Missed, crashed and guilty ones are listed, and the exit code is 1.
--exclude writes what plain onnxruntime fails, with the reasons and the versions: tests/onnx_suite_excluded.json.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from importlib.metadata import version
from typing import Any

import fcc
from fcc import FccError
from fcc.backends import size_of
from fcc.backends.node_facts import support_of
from fcc.onnx_backend import Compiled, FccBackend
from fcc.target import get_target
from fcc.testing.conformance import Case, conformance_cases, failure, sample

TARGETS = ("cpu", "cuda", "tensorrt")


@dataclass(frozen=True)
class Way:
    """How models are run; ``level`` None is plain onnxruntime."""

    level: int | None = None
    target: str = "cpu"
    verify: str = "off"

    def __str__(self) -> str:
        return "onnxruntime" if self.level is None else f"-O{self.level} {self.target}, verify {self.verify}"


@dataclass(frozen=True)
class Outcome:
    """What became of one test: the failure if any, and what the report says."""

    name: str
    kind: str = ""
    reason: str = ""
    crashed: bool = False
    guilty: str = ""
    grown: str = ""
    elsewhere: str = ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--levels", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--verify", nargs="+", default=["off", "end"], choices=["off", "end"])
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--sample", type=int, default=0, help="so many tests only, drawn by --seed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default="", help="the tests whose name contains this")
    parser.add_argument("--exclude", help="write what plain onnxruntime fails to this file")
    given = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as folder,
        ProcessPoolExecutor(given.workers, initializer=_start, initargs=(folder,)) as pool,
    ):
        names = [n for n in pool.submit(_names).result() if given.only in n]
        names = sample(names, given.sample, given.seed) if given.sample else names
        parts = [names[i :: 4 * given.workers] for i in range(4 * given.workers)]

        def run(way: Way) -> list[Outcome]:
            return [o for found in pool.map(partial(_run, way), parts) for o in found]

        plain = run(Way())
        if given.exclude:
            _exclude(given.exclude, plain)
        print(f"{len(names)} tests, {_versions()}\n\n{_HEAD}\n{_row(Way(), plain, plain)}", flush=True)
        bad = 0
        for way in _ways(given):
            found = run(way)
            print(_row(way, found, plain), flush=True)
            bad += _show(found, plain)
    return int(bad > 0)


def _ways(given: argparse.Namespace) -> Iterator[Way]:
    for verify in given.verify:
        for level in given.levels if verify == "off" else [max(given.levels)]:
            yield from (Way(level, target, verify) for target in given.targets)


def _start(folder: str) -> None:
    os.environ["ONNX_MODELS"] = os.path.join(folder, str(os.getpid()))


@cache
def _cases(way: Way) -> tuple[dict[str, Case], list[tuple[Any, Any]]]:
    """Return the tests of a way, and the list that takes (model, CompiledModel or error) of every compile."""
    made: list[tuple[Any, Any]] = []
    options = {"level": way.level} if way.level is None else vars(way)

    class Watched(FccBackend):
        defaults = options

        @classmethod
        def prepare(cls, model: Any, device: str = "CPU", **more: Any) -> Compiled:
            try:
                rep = super().prepare(model, device, **more)
            except Exception as error:
                made.append((model, error))
                raise
            made.append((model, rep.compiled))
            return rep

    return conformance_cases(Watched), made


def _names() -> list[str]:
    return list(_cases(Way())[0])


def _run(way: Way, names: list[str]) -> list[Outcome]:
    cases, made = _cases(way)
    found = []
    for name in names:
        made.clear()
        kind, reason = failure(cases[name]) or ("", "")
        found.append(Outcome(name, kind, reason, **_said(way, made)))
    return found


def _said(way: Way, made: list[tuple[Any, Any]]) -> dict[str, Any]:
    """Return what only the compile can tell of a test."""
    if way.level is None or not made:
        return {}
    model, result = made[-1]
    if isinstance(result, Exception):
        return {"crashed": not isinstance(result, FccError), "elsewhere": _foreign(model, way)}
    guilty = ", ".join(f"{g['pass_name']} at {g['site']}" for g in result.report.guilty)
    before, after = size_of(model), result.emitted.size
    return {"guilty": guilty, "grown": f"{before} -> {after}" if after > before else ""}


def _foreign(model: Any, way: Way) -> str:
    """Return an operator of the emitted model that the CPU has no kernel for and the target has."""
    if way.target == "cpu":
        return ""
    try:
        module = fcc.compile(model, opt_level=way.level or 0, target=way.target, verify="off").module
    except Exception:
        return ""
    here, there = get_target("cpu"), get_target(way.target)
    nodes = [
        n for n in module.nodes() if support_of(n, module, here).refusal and not support_of(n, module, there).refusal
    ]
    return nodes[0].op_type if nodes else ""


_HEAD = f"{'':34}{'passed':>8}{'missed':>8}{'gained':>8}{'elsewhere':>11}{'crashed':>9}{'guilty':>8}{'grown':>7}"


def _row(way: Way, found: list[Outcome], plain: list[Outcome]) -> str:
    passing = {o.name for o in plain if not o.kind}
    own = {o.name for o in found if not o.kind}
    counts = (
        len(own),
        len(_missed(found, plain)),
        len(own - passing),
        sum(bool(o.elsewhere) and o.name in passing for o in found),
    )
    last = (sum(o.crashed for o in found), sum(bool(o.guilty) for o in found), sum(bool(o.grown) for o in found))
    widths = (8, 8, 8, 11, 9, 8, 7)
    return f"{way!s:34}" + "".join(f"{n:>{w}}" for n, w in zip((*counts, *last), widths, strict=True))


def _missed(found: list[Outcome], plain: list[Outcome]) -> list[Outcome]:
    passing = {o.name for o in plain if not o.kind}
    return [o for o in found if o.kind and o.name in passing and not o.elsewhere]


def _show(found: list[Outcome], plain: list[Outcome]) -> int:
    """List what must not be, and return how much of it there is."""
    rows = [("missed", o, f"{o.kind}: {o.reason}") for o in _missed(found, plain)]
    rows += [("crashed", o, f"{o.kind}: {o.reason}") for o in found if o.crashed]
    rows += [("guilty", o, o.guilty) for o in found if o.guilty]
    for what, outcome, detail in rows:
        print(f"    {what} {outcome.name}: {detail}", flush=True)
    return len(rows)


def _versions() -> dict[str, str]:
    return {name: version(name) for name in ("onnx", "onnxruntime")}


def _exclude(path: str, plain: list[Outcome]) -> None:
    failed = {o.name: f"{o.kind}: {o.reason}"[:120] for o in plain if o.kind}
    made = {"made by": "benchmarks/onnx_suite.py --exclude", **_versions()}
    with open(path, "w", encoding="utf-8") as file:
        json.dump({**made, "fails in onnxruntime": failed}, file, indent=1, sort_keys=True)
        file.write("\n")


if __name__ == "__main__":
    sys.exit(main())
