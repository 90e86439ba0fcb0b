"""A step of generate: a graph on which some pass applies, wired into the draft."""

from __future__ import annotations

import functools
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import onnx
from onnx import AttributeProto, helper

from fcc.runtime.protos import dims
from fcc.testing.corpus import Seed, load
from fcc.testing.variations import instances

from .draft import Draft, Tensor

CORPUS = Path(__file__).resolve().parent.parent.parent / "tests" / "passes" / "seeds.jsonl.gz"
LARGEST = 60_000
NAMES = {1: "float32", 11: "float64", 10: "float16", 7: "int64", 6: "int32", 3: "int8", 2: "uint8", 9: "bool"}


@functools.cache
def corpus(path: Path = CORPUS) -> Mapping[int, Mapping[str, Sequence[Seed]]]:
    """Return the seeds by opset and pass; none where the file is missing (a wheel has no tests)."""
    found: dict[int, dict[str, list[Seed]]] = defaultdict(lambda: defaultdict(list))
    for seed in load(path) if path.exists() else []:
        if len(seed.text) < LARGEST:
            found[seed.opset][seed.pass_name].append(seed)
    return found


@functools.lru_cache(512)
def model_of(seed: int, opset: int, name: str) -> onnx.ModelProto:
    """Return the model of a seed of the corpus."""
    return corpus()[opset][name][seed].model()


@functools.cache
def places() -> Mapping[str, Sequence[int]]:
    """Return the passes of the corpus, each with the opsets of its graphs."""
    found: dict[str, list[int]] = defaultdict(list)
    for opset, passes in sorted(corpus().items()):
        for name in passes:
            found[name].append(opset)
    return found


def opset_of_a_pass(rng: random.Random) -> int | None:
    """Return an opset at which some pass has graphs, passes equally likely; None without a corpus."""
    return rng.choice(places()[rng.choice(sorted(places()))]) if places() else None


def fragment(rng: random.Random, opset: int) -> onnx.ModelProto | None:
    """Return a seeded instance of a graph of the corpus, half of them varied; passes are equally likely."""
    found = corpus().get(opset)
    if not found:
        return None
    name = rng.choice(sorted(found))
    k = rng.randrange(len(found[name]))
    model = model_of(k, opset, name)
    if rng.random() < 0.5:
        made = next(instances(model, 1, str(rng.random())))
        model = model if made is None else made.model
    versions = {o.domain: o.version for o in model.opset_import}
    return model if versions.get("") == opset and not set(versions) - {"", "com.microsoft"} else None


def _tensor(info: onnx.ValueInfoProto, prefix: str) -> Tensor | None:
    kind = info.type.tensor_type
    if kind.elem_type not in NAMES or not kind.HasField("shape"):
        return None
    shape = [prefix + d if isinstance(d, str) else d for d in dims(info)]
    if any(d is None for d in shape):
        return None
    return Tensor(prefix + info.name, NAMES[kind.elem_type], tuple(shape))  # type: ignore[arg-type]


def splice(d: Draft) -> None:
    """Append a fragment; where an input fits a value in scope, that value is what it reads."""
    model = fragment(d.rng, d.opset)
    if model is None or d.outer is not None or model.functions or model.graph.sparse_initializer:
        return
    prefix = d.fresh("f") + "_"
    defaults = {t.name for t in model.graph.initializer}
    inputs = [_tensor(v, prefix) for v in model.graph.input if v.name not in defaults]
    outputs = [_tensor(v, prefix) for v in model.graph.output]
    if any(t is None for t in inputs):
        return
    names: dict[str, str] = {}
    for t in inputs:
        assert t is not None
        same = d.value(lambda v, t=t: v.dtype == t.dtype and v.shape == t.shape)  # type: ignore[misc]
        if same is not None and d.chance(0.6):
            names[t.name.removeprefix(prefix)] = same.name
        else:
            made = Tensor(t.name, t.dtype, t.shape, True)
            d.inputs.append(made)
            d.values.append(made)
    graph = onnx.GraphProto()
    graph.CopyFrom(model.graph)
    rename(graph, prefix, names)
    d.nodes.extend(graph.node)
    for tensor in graph.initializer:
        d.tensors.append(tensor)
    for v in graph.input:
        if v.name.removeprefix(prefix) in defaults:
            d.declared.append(v)
    d.values.extend(t for t in outputs if t is not None)
    d.wanted.extend(v for v, t in zip(graph.output, outputs, strict=True) if t is None)


def rename(graph: onnx.GraphProto, prefix: str, names: Mapping[str, str]) -> None:
    """Put a prefix before every name and symbol of a graph and of those nested in it; some names are given."""

    def name(old: str) -> str:
        return names.get(old, prefix + old) if old else old

    for tensor in graph.initializer:
        tensor.name = name(tensor.name)
    for v in (*graph.input, *graph.output, *graph.value_info):
        v.name = name(v.name)
        for dim in v.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = prefix + dim.dim_param
    for n in graph.node:
        n.name = name(n.name)
        n.input[:] = [name(v) for v in n.input]
        n.output[:] = [name(v) for v in n.output]
        for a in n.attribute:
            if a.type == AttributeProto.GRAPH:
                rename(a.g, prefix, names)


def operator_sets(opset: int) -> list[onnx.OperatorSetIdProto]:
    """Return what a model with fragments imports."""
    return [helper.make_opsetid("", opset), helper.make_opsetid("com.microsoft", 1)]
