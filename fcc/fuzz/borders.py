"""What generate does to a finished model: functions, another opset, outputs that are inputs or initializers."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

OLDEST, NEWEST = 7, 26
# operator -> first opset at which these operands are no attributes
OPERANDS: Mapping[str, tuple[int, Mapping[int, str]]] = {
    "Squeeze": (13, {1: "axes"}),
    "Unsqueeze": (13, {1: "axes"}),
    "Split": (13, {1: "split"}),
    "ReduceSum": (13, {1: "axes"}),
    "ReduceMean": (18, {1: "axes"}),
    "ReduceMax": (18, {1: "axes"}),
    "Clip": (11, {1: "min", 2: "max"}),
    "Pad": (11, {1: "pads", 2: "value"}),
    "Slice": (10, {1: "starts", 2: "ends", 3: "axes", 4: ""}),
    "TopK": (10, {1: "k"}),
    "Dropout": (12, {1: "ratio", 2: ""}),
}
SCALARS = frozenset({"min", "max", "value", "k", "ratio"})
CHANGED = {"Resize": 13, "Softmax": 13, "LogSoftmax": 13, "Hardmax": 13, "BatchNormalization": 9, "Loop": 11, "Scan": 9}


def lowered(model: onnx.ModelProto, opset: int) -> onnx.ModelProto | None:
    """Return a model written for an older opset: operands as attributes; None where it has no such form."""
    made = onnx.ModelProto.FromString(model.SerializeToString())
    known = {t.name: t for t in made.graph.initializer}
    known |= {n.output[0]: n.attribute[0].t for n in made.graph.node if n.op_type == "Constant" and n.attribute}
    inputs = {v.name for v in made.graph.input}
    for n in made.graph.node:
        if n.domain or any(a.type == AttributeProto.GRAPH for a in n.attribute):
            return None
        since, operands = OPERANDS.get(n.op_type, (0, {}))
        if opset < since:
            values = [known.get(v) if v not in inputs else None for v in n.input[1:]]
            if any(v is None and name for v, name in zip(values, n.input[1:], strict=True)):
                return None
            for i, v in enumerate(values, 1):
                array = None if v is None else numpy_helper.to_array(v)
                if array is None:
                    continue
                if i not in operands:
                    return None
                if not operands[i]:
                    if array.dtype.kind == "i" and (array != 1).any():
                        return None
                    continue
                scalar = operands[i] in SCALARS
                plain = array.reshape(-1).tolist()
                n.attribute.append(helper.make_attribute(operands[i], plain[0] if scalar else plain))
            del n.input[1:]
        if opset < CHANGED.get(n.op_type, 0):
            return None
        if not onnx.defs.has(n.op_type, max_inclusive_version=opset, domain=""):
            return None
    next(o for o in made.opset_import if o.domain == "").version = opset
    try:
        onnx.checker.check_model(made, full_check=True)
    except Exception:
        return None
    return made


def other_opset(model: onnx.ModelProto, rng: random.Random) -> onnx.ModelProto:
    """Return a model at some opset from 7 to 26 at which it means something, else the model."""
    now = next(o.version for o in model.opset_import if o.domain == "")
    for opset in (rng.randint(OLDEST, NEWEST), rng.randint(11, now)):
        if opset < now:
            made = lowered(model, opset)
            if made is not None:
                return made
        elif not model.functions:
            made = onnx.ModelProto.FromString(model.SerializeToString())
            next(o for o in made.opset_import if o.domain == "").version = opset
            if _accepted(made):
                return made
    return model


def _accepted(model: onnx.ModelProto) -> bool:
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception:
        return False
    return True


def plain_outputs(model: onnx.ModelProto, rng: random.Random) -> None:
    """Make an input, an initializer, or both, an output of the model too."""
    graph = model.graph
    taken = {v.name for v in graph.output}
    inputs = [v for v in graph.input if v.name not in taken]
    constants = [t for t in graph.initializer if t.name not in taken]
    if inputs and rng.random() < 0.6:
        graph.output.append(rng.choice(inputs))
    if constants and rng.random() < 0.6:
        t = rng.choice(constants)
        graph.output.append(helper.make_tensor_value_info(t.name, t.data_type, list(t.dims)))


def outline(model: onnx.ModelProto, rng: random.Random) -> None:
    """Move some nodes in a row into a model-local function, and call it."""
    graph = model.graph
    if len(graph.node) < 2:
        return
    start = rng.randrange(len(graph.node))
    run = list(graph.node[start : start + rng.randint(1, 4)])
    if any(a.type == AttributeProto.GRAPH for n in run for a in n.attribute):
        return
    made = {o for n in run for o in n.output if o}
    reads = list(dict.fromkeys(v for n in run for v in n.input if v and v not in made))
    rest = [n for n in graph.node if n not in run]
    used = set(_reads(rest)) | {v.name for v in graph.output}
    writes = [o for n in run for o in n.output if o in used]
    if not writes or not reads:
        return
    opsets = [o for o in model.opset_import if o.domain in ("", "com.microsoft")]
    name = f"Block{len(model.functions)}"
    model.functions.append(helper.make_function("local", name, reads, writes, run, opsets))
    call = helper.make_node(name, reads, writes, domain="local")
    nodes = [*graph.node[:start], call, *graph.node[start + len(run) :]]
    del graph.node[:]
    graph.node.extend(nodes)
    if all(o.domain != "local" for o in model.opset_import):
        model.opset_import.append(helper.make_opsetid("local", 1))


def _reads(nodes: Sequence[onnx.NodeProto]) -> list[str]:
    found: list[str] = []
    for n in nodes:
        found += n.input
        for a in n.attribute:
            if a.type == AttributeProto.GRAPH:
                found += [*_reads(a.g.node), *(v.name for v in a.g.output)]
    return found


def sizes_unknown(model: onnx.ModelProto, rng: random.Random) -> None:
    """Forget the declared sizes of outputs, or name those that are fixed."""
    for v in model.graph.output:
        if rng.random() < 0.4:
            for d in v.type.tensor_type.shape.dim:
                if rng.random() < 0.5:
                    d.Clear()


def zero_weight(model: onnx.ModelProto, rng: random.Random) -> None:
    """Make a float initializer all zeros, all ones, or one of its rows like another."""
    floats = [t for t in model.graph.initializer if t.data_type == onnx.TensorProto.FLOAT and t.dims]
    if floats:
        t = rng.choice(floats)
        array = np.array(numpy_helper.to_array(t))
        if array.size:
            kind = rng.randrange(3)
            array[...] = (0.0, 1.0, array.ravel()[0])[kind]
            t.CopyFrom(numpy_helper.from_array(array, t.name))
