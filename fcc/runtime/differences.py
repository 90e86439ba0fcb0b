"""What two serialized models differ in, in words."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx

from .inspect import read_proto

_MOST = 8


def metadata_of(model: Any) -> dict[str, str]:
    """Return the metadata of a model: bytes, a path or a proto."""
    return {p.key: p.value for p in read_proto(model).metadata_props}


def differences(a: Any, b: Any) -> list[str]:
    """Return what ``b`` has that ``a`` has not, and the other way round: at most a few of each kind; [] when equal.

    External data is compared by its place only.
    """
    x, y = read_proto(a), read_proto(b)
    found: list[str] = []
    for part in (_metadata, _heads, _nodes, _tensors, _declarations):
        found += itertools.islice(part(x, y), _MOST)
    if not found and x.SerializeToString(deterministic=True) != y.SerializeToString(deterministic=True):
        found.append("another field of the graph")
    return found


def _metadata(x: Any, y: Any) -> Iterator[str]:
    yield from _keys("metadata", metadata_of(x), metadata_of(y))


def _heads(x: Any, y: Any) -> Iterator[str]:
    for name in ("ir_version", "producer_name", "producer_version", "domain", "model_version", "doc_string"):
        if getattr(x, name) != getattr(y, name):
            yield f"{name} {getattr(y, name)!r} instead of {getattr(x, name)!r}"
    opsets = [{o.domain or "ai.onnx": str(o.version) for o in m.opset_import} for m in (x, y)]
    yield from _keys("opset", *opsets)


def _nodes(x: Any, y: Any) -> Iterator[str]:
    left, right = x.graph.node, y.graph.node
    if len(left) != len(right):
        yield f"{len(right)} nodes instead of {len(left)}"
    for k, (m, n) in enumerate(zip(left, right, strict=False)):
        if m.SerializeToString(deterministic=True) != n.SerializeToString(deterministic=True):
            yield f"node {k}: {_node(n)} instead of {_node(m)}"


def _node(n: Any) -> str:
    return f"{n.op_type}({', '.join(n.input)}) -> {', '.join(n.output)}" + (f" with {len(n.attribute)} attributes")


def _tensors(x: Any, y: Any) -> Iterator[str]:
    left, right = ({t.name: t for t in m.graph.initializer} for m in (x, y))
    for name in sorted(left.keys() | right.keys()):
        if name not in left or name not in right:
            yield f"initializer {name} is {'new' if name in right else 'gone'}"
    for name in left:
        if name in right and left[name] != right[name]:
            yield f"initializer {name}: {_values(left[name], right[name])}"


def _values(m: Any, n: Any) -> str:
    if m.data_type != n.data_type or list(m.dims) != list(n.dims):
        kinds = [onnx.TensorProto.DataType.Name(t.data_type).lower() + str(list(t.dims)) for t in (m, n)]
        return f"{kinds[1]} instead of {kinds[0]}"
    try:
        a, b = onnx.numpy_helper.to_array(m), onnx.numpy_helper.to_array(n)
    except Exception:  # external data that is not read
        return "other data"
    same = (a == b) | ((a != a) & (b != b))
    wrong = int(a.size - np.count_nonzero(same))
    return f"{wrong} of {a.size} elements differ" if wrong else "the same values in other bytes"


def _declarations(x: Any, y: Any) -> Iterator[str]:
    for kind in ("input", "output", "value_info"):
        sides = [getattr(m.graph, kind) for m in (x, y)]
        left, right = ({v.name: v.SerializeToString(deterministic=True) for v in side} for side in sides)
        if left != right:
            yield f"{kind.replace('_', ' ')}s are declared otherwise"


def _keys(what: str, left: dict[str, str], right: dict[str, str]) -> Iterator[str]:
    for key in sorted(left.keys() | right.keys()):
        if left.get(key) != right.get(key):
            yield f"{what} {key}: {right.get(key, 'absent')!r} instead of {left.get(key, 'absent')!r}"
