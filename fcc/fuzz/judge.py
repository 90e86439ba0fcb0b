"""problems(): everything that is wrong with what one compile made of a model."""

from __future__ import annotations

import hashlib
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx

import fcc
from fcc import ir
from fcc.backends import size_of
from fcc.compiled import CompiledModel
from fcc.errors import FccError
from fcc.frontend import read
from fcc.ir.text import canonical
from fcc.runtime import open_session
from fcc.runtime.protos import nodes
from fcc.testing.differential import NEVER_EMPTY
from fcc.testing.oracle import difference, excused
from fcc.testing.sources import refusal

from .source import TOLERANCE, Run, coarsest

LEVELS = (0, 1, 2)
TARGETS = ("cpu", "cuda", "tensorrt")
LOSSY = ("O3", "int8", "int8-dynamic", "int8-weights", "int4", "fp16", "bf16")
# what a target asks for, or runs instead of loops, may take nodes and bytes
SPLITS = frozenset({"factorize-linear"})  # two smaller layers for one
NEEDED = ("lower-", "convert-", "unroll-", "fuse-unrolled-")


@dataclass(frozen=True)
class How:
    """How a model is compiled: a level and a target, or a lossy way; ``whole`` asks for fcc's own parity too."""

    level: int = 2
    target: str = "cpu"
    lossy: str = ""
    whole: bool = False

    def __str__(self) -> str:
        return f"-O{self.level} --target {self.target}" + (f" {self.lossy}" if self.lossy else "")

    def compile(self, model: Any, runs: Sequence[Run] = ()) -> CompiledModel:
        """Return the compiled model."""
        more: dict[str, Any] = {}
        if self.lossy:
            samples = [r.feeds for r in runs if all(np.size(v) for v in r.feeds.values())]
            more = {"calibration": samples, "force": True, "budget": 0.5}
            if self.lossy != "O3":
                more["precision"] = self.lossy
        level = 3 if self.lossy == "O3" else self.level
        return fcc.compile(
            model, target=self.target, opt_level=level, verify="end" if self.whole or self.lossy else "off", **more
        )


@dataclass
class Found:
    """What a draw showed: problems ("kind: words"), and the passes that fired."""

    problems: list[str] = field(default_factory=list)
    passes: frozenset[str] = frozenset()


def judge(model: onnx.ModelProto, how: How, runs: Sequence[Run], again: bool = True) -> Found:
    """Compile a model and judge the result; ``again``: that a second run gives the same, and one of the output too."""
    try:
        compiled = how.compile(model, runs)
        emitted = compiled.to_bytes()
    except FccError as error:
        if how.lossy and error.exit_code not in (5, 70):
            return Found()
        return Found([f"error: {type(error).__name__}: {error}"])
    except Exception:
        return Found(["crash: " + traceback.format_exc(limit=-6)])
    report = compiled.report
    found = Found(passes=frozenset(r["pass_name"] for r in report.rewrites))
    if report.guilty or any("failed at" in note for note in report.notes):
        found.problems.append(f"pass: {[n for n in report.notes if 'failed' in n]} {report.guilty}")
    found.problems += contract(model, emitted)
    if not how.lossy:
        found.problems += differences(model, emitted, runs, how)
        found.problems += growth(model, compiled, emitted)
    if again:
        try:
            found.problems += repeated(model, how, emitted, runs)
        except Exception:
            found.problems.append("again: " + traceback.format_exc(limit=-6))
    return found


def contract(model: onnx.ModelProto, emitted: bytes) -> Iterator[str]:
    """Yield what is wrong with a result as a file: checker, verifier, declarations."""
    proto = onnx.ModelProto.FromString(emitted)
    if (reason := refusal(proto)) and not refusal(model):
        yield f"checker: {reason}"
    yield from _raised("verifier", lambda: ir.verify(read(emitted)))
    if declared(proto) != declared(model):
        yield "declarations: of inputs or outputs changed"


def _raised(kind: str, ask: Callable[[], object]) -> Iterator[str]:
    try:
        ask()
    except Exception as error:
        yield f"{kind}: {str(error)[:500]}"


def declared(model: onnx.ModelProto) -> list[bytes]:
    """Return the declarations of the inputs and outputs: names, order, types, sizes."""
    return [v.SerializeToString(deterministic=True) for v in (*model.graph.input, *model.graph.output)]


def differences(model: onnx.ModelProto, emitted: bytes, runs: Sequence[Run], how: How = How()) -> Iterator[str]:
    """Yield where the answers of a result, with optimizations off and on, leave those of the source."""
    limit = TOLERANCE[coarsest(model)]
    names = [o.name for o in model.graph.output]
    made = onnx.ModelProto.FromString(emitted)
    fussy = any(n.op_type in NEVER_EMPTY for n in nodes(made))
    for optimize in (False, True):
        if optimize and approximated(made):
            return
        try:
            session = open_session(emitted, optimize=optimize)
        except Exception as error:
            if how.target == "cpu" or "output_dtype" not in str(error):  # onnxruntime's int8 to uint8, at opset 21
                yield f"load: (optimizations {optimize}) {str(error)[:400]}"
            continue
        for run in runs:
            if fussy and any(0 in np.shape(v) for v in run.feeds.values()):
                continue
            try:
                answers = session.run(dict(run.feeds))
            except Exception as error:
                if optimize and "Fusion/'" in str(error):  # a node of its own, of sizes that it does not take
                    continue
                yield f"run: (optimizations {optimize}) {str(error)[:400]}"
                break
            new = [np.asarray(answers[n]) for n in names]
            said = [w for a, b in zip(run.outputs, new, strict=True) if (w := difference(a, b, limit))]
            if said and not excused(model, run.feeds, run.outputs, new, limit):
                yield f"answer: (optimizations {optimize}) {said[0]}"
                break


def approximated(model: onnx.ModelProto) -> bool:
    """Return whether onnxruntime's optimizations approximate a part that has no other user than the next one.

    It makes one pair of Q -> DQ -> Q, with a scale of its own, and of a product with a dequantized weight MatMulNBits,
    which quantizes activations. What else read that may have been dead code, or a repeated computation.
    """
    made = {n.output[0]: n for n in nodes(model) if n.op_type in ("DequantizeLinear", "QuantizeLinear")}
    known = {t.name for t in model.graph.initializer}
    for n in nodes(model):
        place = {"QuantizeLinear": 0, "MatMul": 1}.get(n.op_type)
        read = None if place is None else made.get(n.input[place])
        if read is None or read.op_type != "DequantizeLinear":
            continue
        source = made.get(read.input[0])
        if n.op_type == "QuantizeLinear" or read.input[0] in known or (source is not None and source.input[0] in known):
            return True
    return False


def node_count(graph: onnx.GraphProto) -> int:
    """Return the number of nodes, nested ones included."""
    nested = (a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH)
    return len(graph.node) + sum(map(node_count, nested))


def borrowed(graph: onnx.GraphProto) -> int:
    """Return how many outputs of all graphs no node of their graph makes: each takes an Identity."""
    made = {o for n in graph.node for o in n.output}
    names = [v.name for v in graph.output]
    nested = (a.g for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH)
    return len([n for n in names if n not in made]) + len(names) - len(set(names)) + sum(map(borrowed, nested))


def _lowered(passes: frozenset[str]) -> bool:
    return any(p.startswith(NEEDED) for p in passes)


def growth(model: onnx.ModelProto, compiled: CompiledModel, emitted: bytes) -> Iterator[str]:
    """Yield by how much a result is larger than its source, where nothing had to be lowered."""
    fired = frozenset(r["pass_name"] for r in compiled.report.rewrites)
    if _lowered(fired) or model.functions:
        return
    if size_of(emitted) > size_of(model):
        yield f"bytes: grew from {size_of(model)} to {size_of(emitted)}"
    after = node_count(onnx.ModelProto.FromString(emitted).graph)
    if after > node_count(model.graph) + borrowed(model.graph) and not fired & SPLITS:
        yield f"nodes: grew from {node_count(model.graph)} to {after}"


def repeated(model: onnx.ModelProto, how: How, emitted: bytes, runs: Sequence[Run]) -> Iterator[str]:
    """Yield that a second run gives other bytes, or that compiling the result changes more than metadata."""
    if how.compile(model, runs).to_bytes() != emitted:
        yield "deterministic: a second run gives other bytes"
    if how.lossy:
        return
    again = how.compile(emitted)
    old, new = (bare(m) for m in (emitted, again.to_bytes()))
    if old != new and structure(old) != structure(new):
        before, after = ([n.op_type for n in m.graph.node] for m in (old, new))
        fired = ", ".join(sorted({r["pass_name"] for r in again.report.rewrites})) or "no pass"
        yield f"idempotent: {fired} on the result" + (f": {before} then {after}" if before != after else "")


def structure(model: onnx.ModelProto) -> object:
    """Return a model but for the names of values inside it: lowering an operator that was raised takes new ones."""
    module = read(model)
    tensors = sorted(
        (str(v.type), str(v.shape), hashlib.sha1(v.const_value.tobytes()).hexdigest())
        for g in module.graphs()
        for v in g.initializers.values()
        if v.const_value is not None
    )
    return canonical(module), tensors, declared(model)


def bare(emitted: bytes) -> onnx.ModelProto:
    """Return a model without what says where it came from."""
    model = onnx.ModelProto.FromString(emitted)
    for thing in (model, *_all_nodes(model.graph)):
        kept = [p for p in thing.metadata_props if not p.key.startswith("fcc.")]
        del thing.metadata_props[:]
        thing.metadata_props.extend(kept)
    del model.graph.value_info[:]
    return model


def _all_nodes(graph: onnx.GraphProto) -> Iterator[Any]:
    yield graph
    yield from (*graph.initializer, *graph.input, *graph.output)
    for n in graph.node:
        yield n
        for a in n.attribute:
            if a.type == onnx.AttributeProto.GRAPH:
                yield from _all_nodes(a.g)


def kind(problem: str) -> str:
    """Return the word before the colon: what a smaller model must show as well."""
    return problem.partition(":")[0]
