"""Compile the models of ONNX's own backend tests, and check every answer against the source and the expected outputs.

    python benchmarks/onnx_suite.py [--target cpu] [--level 2] [--verify end] [--kinds node light ...] [--only TEXT]

Node tests are generated (onnx.backend.test.case), the others lie in the onnx package. Per model the states are
ok: the emitted model gives what the source gives in onnxruntime with optimizations off (within the test's own
    tolerance), and the expected outputs wherever the source does;
unjudged: compiled, but onnxruntime cannot run the source (or draws random numbers), so only onnx.checker judged;
refused: an FccError, because onnxruntime does not run the source either or its opset is outside 7..26;
grown: as ok, but the file has more bytes, listed;
wrong, crash, guilty (a rewrite had to be skipped), refused although the source runs: listed, exit code 1.
"""

from __future__ import annotations

import argparse
import sys
import traceback
import warnings
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.version_converter
import onnxruntime as ort
from onnx import numpy_helper

import fcc
from fcc.backends import size_of
from fcc.errors import FccError

ort.set_default_logger_severity(4)
DATA = Path(onnx.__file__).parent / "backend" / "test" / "data"
KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator", "light")
OPSETS = (7, 26)  # what fcc reads
BAD = ("wrong", "crash", "guilty", "refused although the source runs")
# Range with operands of shape [1]: invalid, and onnxruntime refuses it as soon as it can infer those shapes.
INVALID = frozenset(f"node/test_affine_grid_2d_{kind}expanded" for kind in ("", "align_corners_"))


@dataclass
class Case:
    """A model with sets of (inputs, expected outputs), in the order of the graph's declarations."""

    name: str
    model: onnx.ModelProto
    sets: list[tuple[list[Any], list[Any]]] = field(default_factory=list)
    rtol: float = 1e-3
    atol: float = 1e-5


def cases(kinds: list[str]) -> Iterator[Case]:
    """Yield the cases of some kinds."""
    if "node" in kinds:
        from onnx.backend.test.case.node import collect_testcases

        for case in collect_testcases(None):
            if case.model is not None:
                sets = [(_plain(x), _plain(y)) for x, y in case.data_sets]
                yield Case(f"node/{case.name}", within(case.model), sets, case.rtol, max(case.atol, 1e-6))
    for kind in (k for k in kinds if k not in ("node", "light")):
        for folder in sorted((DATA / kind).iterdir()):
            if (folder / "model.onnx").is_file():
                yield _stored(kind, folder)
    if "light" in kinds:
        for path in sorted((DATA / "light").glob("*.onnx")):
            yield Case(f"light/{path.stem}", onnx.load(path), [(_filled(onnx.load(path)), [])])


def within(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the model in an opset that fcc and onnxruntime read, where its operators did not change in between."""
    opset = max((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), default=OPSETS[1])
    if opset < OPSETS[0]:
        try:
            return onnx.version_converter.convert_version(model, 13)
        except Exception:
            return model
    ops = {n.op_type for n in model.graph.node if n.domain == ""}
    known = {s.name: s.since_version for s in onnx.defs.get_all_schemas() if s.domain == ""}
    if opset > OPSETS[1] and all(known.get(o, opset) <= OPSETS[1] for o in ops):
        found = onnx.ModelProto()
        found.CopyFrom(model)
        for o in found.opset_import:
            o.version = OPSETS[1] if o.domain in ("", "ai.onnx") else o.version
        return found
    return model


def _plain(values: Any) -> list[Any]:
    """Return the data of a generated case as arrays, lists and None."""
    tensors = [numpy_helper.to_array(v) if isinstance(v, onnx.TensorProto) else v for v in values]
    return [np.asarray(v) if isinstance(v, np.generic) else v for v in tensors]


def _filled(model: onnx.ModelProto) -> list[Any]:
    """Return the inputs that ONNX's runner feeds to the light models: a ramp over [0, 1)."""
    constant = {t.name for t in model.graph.initializer}
    shapes = [[d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input if v.name not in constant]
    return [(np.arange(np.prod(s), dtype=np.float32) / np.prod(s)).reshape(s) for s in shapes]


def _stored(kind: str, folder: Path) -> Case:
    model = onnx.load(folder / "model.onnx")
    sets = []
    for data in sorted(folder.glob("test_data_set_*")):
        found = tuple(
            [
                _value(data / f"{which}_{i}.pb", v.type)
                for i, v in enumerate(declared)
                if (data / f"{which}_{i}.pb").is_file()
            ]
            for which, declared in (("input", model.graph.input), ("output", model.graph.output))
        )
        sets.append((found[0], found[1]))
    return Case(f"{kind}/{folder.name}", model, sets)


def _value(path: Path, kind: onnx.TypeProto) -> Any:
    data = path.read_bytes()
    if kind.WhichOneof("value") == "sequence_type":
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))


def run(model: bytes, inputs: list[Any], optimize: bool) -> list[Any]:
    """Return the outputs of a model in onnxruntime on the CPU."""
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    feeds = {i.name: x for i, x in zip(session.get_inputs(), inputs, strict=False) if x is not None}
    return list(session.run(None, feeds))


def same(a: Any, b: Any, case: Case) -> bool:
    """Return whether two outputs agree within the tolerance of the case; integers and strings must be equal."""
    if a is None or b is None or isinstance(a, str):
        return bool(a is b or a == b)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y, case) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict):
        return bool(a == b)
    x, y = np.asarray(a), np.asarray(b)
    if x.shape != y.shape:
        return False
    if x.dtype.kind not in "fc" or y.dtype.kind not in "fc":
        return bool(np.array_equal(x, y)) if x.dtype.kind != "V" else x.tobytes() == y.tobytes()
    return bool(np.allclose(x.astype(np.float64), y.astype(np.float64), case.rtol, case.atol, equal_nan=True))


def judge(case: Case, options: dict[str, Any]) -> tuple[str, str]:
    """Return (state, detail) of one case."""
    source = case.model.SerializeToString()
    try:
        reference = [run(source, inputs, False) for inputs, _ in case.sets]
        again = [run(source, inputs, True) for inputs, _ in case.sets]
    except Exception as error:
        reference, again = None, str(error).splitlines()[0][:120]
    try:
        compiled = fcc.compile(case.model, **options)
    except FccError as error:
        expected = reference is None or "fcc reads" in str(error)
        return ("refused" if expected else BAD[-1]), f"{type(error).__name__}: {error}"
    except Exception:
        return "crash", traceback.format_exc(limit=-4)
    if compiled.report.guilty and case.name not in INVALID:
        return "guilty", str([(g["pass_name"], g["site"]) for g in compiled.report.guilty])
    found = answers(case, compiled.to_bytes(), reference, again)
    if found[0] == "ok" and compiled.emitted.size > size_of(case.model):
        return "grown", f"{size_of(case.model)} -> {compiled.emitted.size}"
    return found


def answers(case: Case, emitted: bytes, reference: list[list[Any]] | None, again: Any) -> tuple[str, str]:
    """Return (state, detail) of an emitted model."""
    if reference is None:
        try:
            onnx.checker.check_model(case.model, full_check=True)
        except Exception:
            return "unjudged", "the source is invalid"
        try:
            onnx.checker.check_model(emitted, full_check=True)
        except Exception as error:
            return "wrong", f"checker: {error}"
        return "unjudged", str(again)
    if not case.sets:
        return "unjudged", "no data"
    for (inputs, expected), before, twice in zip(case.sets, reference, again, strict=True):
        for optimize in (False, True):
            try:
                after = run(emitted, inputs, optimize)
            except Exception as error:
                return "wrong", f"does not run: {str(error)[:300]}"
            for i, (a, b) in enumerate(zip(before, after, strict=True)):
                right = same(a, b, case) or (i < len(expected) and same(expected[i], b, case))
                if not right and not same(a, twice[i], case):
                    return "unjudged", "the source differs from itself"
                if not right:
                    return "wrong", f"output {i}: {str(a)[:100]} became {str(b)[:100]}"
    return "ok", ""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--target", default="cpu")
    parser.add_argument("--level", type=int, default=2)
    parser.add_argument("--verify", default="end")
    parser.add_argument("--kinds", nargs="+", default=list(KINDS), choices=KINDS)
    parser.add_argument("--only", default="", help="run the cases whose name contains this")
    given = parser.parse_args()
    options = {"target": given.target, "opt_level": given.level, "verify": given.verify}
    tally: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    warnings.simplefilter("ignore")
    for case in cases(given.kinds):
        if given.only not in case.name:
            continue
        state, detail = judge(case, options)
        tally[state] += 1
        if state in ("refused", "unjudged"):
            reasons[f"{state}: {detail[:100]}"] += 1
        if state in (*BAD, "grown"):
            print(f"{state.upper():8} {case.name}: {detail}", flush=True)
    for reason, count in reasons.most_common(25):
        print(f"  {count:4} {reason}")
    print(f"{sum(tally.values())} models, target {given.target}, -O{given.level}: {dict(sorted(tally.items()))}")
    return int(any(tally[state] for state in BAD))


if __name__ == "__main__":
    sys.exit(main())
