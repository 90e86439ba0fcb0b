"""shrink(): the smallest model found that still fails, by removing whatever can go; the same for the same model."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator

import numpy as np
import onnx
from onnx import AttributeProto, helper, numpy_helper

Fails = Callable[[onnx.ModelProto], bool]
ROUNDS = 6


def copy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a model of its own."""
    made = onnx.ModelProto()
    made.CopyFrom(model)
    return made


def shrink(model: onnx.ModelProto, fails: Fails, seconds: float = 120.0) -> onnx.ModelProto:
    """Return a model that fails, from which no single step can take more away (or the processor time is over).

    ``fails`` must be true of the model; what it raises counts as false. Every candidate is valid to onnx.checker.
    """
    end = time.process_time() + seconds

    def still(candidate: onnx.ModelProto) -> bool:
        if time.process_time() > end:
            return False
        try:
            onnx.checker.check_model(candidate, full_check=True)
            return fails(candidate)
        except Exception:
            return False

    for _ in range(ROUNDS):
        before = size(model)
        for step in STEPS:
            model = _through(model, step, still)
        if size(model) >= before or time.process_time() > end:
            break
    return model


def _through(
    model: onnx.ModelProto, step: Callable[[onnx.ModelProto], Iterator[onnx.ModelProto]], still: Fails
) -> onnx.ModelProto:
    """Return a model to which no candidate of a step is left; after a success the rest of the step goes on from it."""
    skip = 0
    while True:
        for k, candidate in enumerate(step(model)):
            if k < skip:
                continue
            if size(candidate) < size(model) and still(candidate):
                model, skip = candidate, k
                break
        else:
            return model


def size(model: onnx.ModelProto) -> tuple[int, int, int]:
    """Return what shrinking lowers: nodes of all graphs, then bytes."""
    return (sum(1 for _ in _nodes(model.graph)) + sum(len(f.node) for f in model.functions), model.ByteSize(), 0)


def _nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for n in graph.node:
        yield n
        for a in n.attribute:
            if a.type == AttributeProto.GRAPH:
                yield from _nodes(a.g)


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    yield graph
    for n in graph.node:
        for a in n.attribute:
            if a.type == AttributeProto.GRAPH:
                yield from _graphs(a.g)


def tidy(model: onnx.ModelProto) -> onnx.ModelProto:
    """Remove nodes, initializers, inputs and functions that nothing needs (in place)."""
    graph = model.graph
    wanted = {v.name for v in graph.output}
    kept = []
    for n in reversed(graph.node):
        if wanted & set(n.output):
            kept.append(n)
            wanted |= _reads(n)
    kept.reverse()
    nodes = [_copied(n) for n in kept]
    del graph.node[:]
    graph.node.extend(nodes)
    for field in (graph.initializer, graph.input):
        rest = [v for v in field if v.name in wanted]
        if len(rest) < len(field):
            rest = [type(v).FromString(v.SerializeToString()) for v in rest]
            del field[:]
            field.extend(rest)
    called = {n.op_type for n in _nodes(graph) if n.domain}
    functions = [onnx.FunctionProto.FromString(f.SerializeToString()) for f in model.functions if f.name in called]
    del model.functions[:]
    model.functions.extend(functions)
    del graph.value_info[:]
    return model


def _copied(node: onnx.NodeProto) -> onnx.NodeProto:
    made = onnx.NodeProto()
    made.CopyFrom(node)
    return made


def _reads(node: onnx.NodeProto) -> set[str]:
    """Return the values that a node and the graphs in it read."""
    found = {v for v in node.input if v}
    for a in node.attribute:
        if a.type == AttributeProto.GRAPH:
            found |= {v for n in a.g.node for v in _reads(n)} | {v.name for v in a.g.output}
    return found


# -- steps: each yields smaller models -------------------------------------------------------------------------------
def fewer_outputs(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """One output alone, or one less."""
    outputs = [v.name for v in model.graph.output]
    for keep in [[n] for n in outputs] + [[m for m in outputs if m != n] for n in outputs]:
        if 0 < len(keep) < len(outputs):
            made = copy(model)
            rest = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in made.graph.output if v.name in keep]
            del made.graph.output[:]
            made.graph.output.extend(rest)
            yield tidy(made)


def _typed(model: onnx.ModelProto) -> dict[str, onnx.ValueInfoProto]:
    try:
        found = onnx.shape_inference.infer_shapes(model, data_prop=False).graph
    except Exception:
        found = model.graph
    return {v.name: v for v in (*found.value_info, *found.input, *found.output)}


def cut(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Whole ranges of nodes become inputs: halves first, then smaller ranges."""
    known = _typed(model)
    count = len(model.graph.node)
    width = count // 2
    while width >= 1:
        for start in range(0, count, width):
            made = copy(model)
            removed = list(made.graph.node)[start : start + width]
            written = [o for n in removed for o in n.output if o]
            rest = [n for n in made.graph.node if n not in removed]
            needed = {v for n in rest for v in _reads(n)} | {v.name for v in made.graph.output}
            missing = [o for o in written if o in needed]
            if not rest or any(o not in known or not known[o].type.HasField("tensor_type") for o in missing):
                continue
            nodes = [_copied(n) for n in rest]
            del made.graph.node[:]
            made.graph.node.extend(nodes)
            made.graph.input.extend(known[o] for o in missing)
            yield tidy(made)
        width //= 2


def early_outputs(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """What a node makes is the only output, for each node from the first on."""
    known = _typed(model)
    for n in list(model.graph.node)[:-1]:
        for o in n.output:
            if o in known and [o] != [v.name for v in model.graph.output]:
                made = copy(model)
                del made.graph.output[:]
                made.graph.output.append(known[o])
                yield tidy(made)


def bypassed(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """A node goes; its users read one of its operands instead."""
    for k, n in enumerate(model.graph.node):
        for i in range(len([v for v in n.input if v][:3])):
            made = copy(model)
            node = made.graph.node[k]
            if not node.output or not node.output[0] or not node.input[i]:
                continue
            old, new = node.output[0], node.input[i]
            outputs = {v.name for v in made.graph.output}
            del made.graph.node[k]
            if old in outputs:
                made.graph.node.append(helper.make_node("Identity", [new], [old]))
            for g in _graphs(made.graph):
                for user in g.node:
                    user.input[:] = [new if v == old and user.output[0] != old else v for v in user.input]
            yield tidy(made)


def unnested(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """A branch in place of its If; what functions hold in place of their calls."""
    if model.functions:
        with contextlib.suppress(Exception):
            yield tidy(onnx.inliner.inline_local_functions(model))
    for k, n in enumerate(model.graph.node):
        if n.op_type != "If":
            continue
        for name in ("then_branch", "else_branch"):
            made = copy(model)
            node = made.graph.node[k]
            body = next(a.g for a in node.attribute if a.name == name)
            inner = [_copied(m) for m in body.node]
            ends = [helper.make_node("Identity", [v.name], [o]) for v, o in zip(body.output, node.output, strict=False)]
            made.graph.initializer.extend(body.initializer)
            nodes = [*map(_copied, made.graph.node[:k]), *inner, *ends, *map(_copied, made.graph.node[k + 1 :])]
            del made.graph.node[:]
            made.graph.node.extend(nodes)
            yield tidy(made)


def inner_nodes(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """A node in a body goes; its users there read an operand instead."""
    graphs = list(_graphs(model.graph))
    for g in range(1, len(graphs)):
        for k in range(len(graphs[g].node)):
            for i in range(len(graphs[g].node[k].input)):
                made = copy(model)
                graph = list(_graphs(made.graph))[g]
                node = graph.node[k]
                old, new = node.output[0], node.input[i]
                if not new or old in {v.name for v in graph.output}:
                    continue
                del graph.node[k]
                for inside in _graphs(graph):
                    for user in inside.node:
                        user.input[:] = [new if v == old else v for v in user.input]
                yield tidy(made)


def constants(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """An initializer becomes zeros, ones or round numbers; an overridable one a plain one; a computed one goes."""
    inputs = {v.name for v in model.graph.input}
    for k, t in enumerate(model.graph.initializer):
        if t.name in inputs:
            made = copy(model)
            rest = [onnx.ValueInfoProto.FromString(v.SerializeToString()) for v in made.graph.input if v.name != t.name]
            del made.graph.input[:]
            made.graph.input.extend(rest)
            yield made
        array = numpy_helper.to_array(t)
        if array.dtype.kind == "f" and array.size > 1:
            for other in (np.zeros_like(array), np.ones_like(array), np.round(array)):
                if not np.array_equal(other, array):
                    made = copy(model)
                    values = np.unique(other)
                    found = numpy_helper.from_array(other, t.name)
                    if values.size == 1 or other.size < 16:
                        found.doc_string = ""
                    made.graph.initializer[k].CopyFrom(found)
                    yield made


def attributes(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """An attribute goes: its default holds."""
    for k, n in enumerate(model.graph.node):
        for i, a in enumerate(n.attribute):
            if a.type != AttributeProto.GRAPH:
                made = copy(model)
                del made.graph.node[k].attribute[i]
                yield made
        if len(n.input) > 1 and n.input[-1]:
            made = copy(model)
            made.graph.node[k].input[-1] = ""
            while made.graph.node[k].input and not made.graph.node[k].input[-1]:
                del made.graph.node[k].input[-1]
            yield tidy(made)


def sizes(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """A size becomes 1 or 2 wherever it stands; a symbol becomes a size."""
    values = [*model.graph.input, *model.graph.output]
    found = {d.dim_value for v in values for d in v.type.tensor_type.shape.dim if d.HasField("dim_value")}
    found |= {s for t in model.graph.initializer for s in t.dims}
    for old in sorted(found, reverse=True):
        for new in (1, 2):
            if old > new:
                yield _resized(model, old, new)
    for name in sorted({d.dim_param for v in values for d in v.type.tensor_type.shape.dim if d.dim_param}):
        made = copy(model)
        for v in (*made.graph.input, *made.graph.output):
            for d in v.type.tensor_type.shape.dim:
                if d.dim_param == name:
                    d.dim_value = 2
        yield made


def _resized(model: onnx.ModelProto, old: int, new: int) -> onnx.ModelProto:
    made = copy(model)
    for v in (*made.graph.input, *made.graph.output):
        for d in v.type.tensor_type.shape.dim:
            if d.dim_value == old:
                d.dim_value = new
    for t in made.graph.initializer:
        array = numpy_helper.to_array(t)
        index = tuple(slice(0, new) if s == old else slice(None) for s in array.shape)
        array = np.ascontiguousarray(array[index]).reshape([new if s == old else s for s in array.shape])
        if array.dtype == np.int64 and array.ndim == 1 and array.size <= 8:
            array = np.where(array == old, new, array)
        t.CopyFrom(numpy_helper.from_array(array, t.name))
    return made


def plain(model: onnx.ModelProto) -> Iterator[onnx.ModelProto]:
    """Names of nodes and of what nothing needs to have one go."""
    made = copy(model)
    for n in _nodes(made.graph):
        n.name = n.doc_string = ""
    made.producer_name = made.doc_string = made.graph.doc_string = ""
    yield tidy(made)


STEPS = (
    *(plain, fewer_outputs, early_outputs, cut, unnested, bypassed, inner_nodes, fewer_outputs, cut),
    *(constants, attributes, sizes),
)
