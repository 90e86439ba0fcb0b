"""lower-shape-chains: tensors made from one runtime size, without arithmetic on shapes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from fcc import ir
from fcc.analysis.shapes import elements
from fcc.rewrite import PassContext, Rewriter, Site, SitePass


class LowerShapeChains(SitePass):
    """Make what depends on one runtime size from that size alone, where a chain of shape arithmetic would compute it.

    onnxruntime runs such chains (Shape, Gather, Concat, Where ...) on the CPU; Shape, ConstantOfShape, Gather and
    CumSum stay on the GPU.

    Expand(x, [n, 1, c]) -> Gather(x, zeros[n], axis)       x has size 1 there and the other sizes already
    Range(0, n, 1)       -> CumSum(ones[n], exclusive)      integers

    Shapes: n is a dimension of a tensor that the chain reads, or of a model input; read by Shape<start, end>, opset 15.
    Source: onnxruntime GetCpuPreferredNodes; ONNX Expand-13, Range-11.
    """

    name: ClassVar[str] = "lower-shape-chains"

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        for node in [n for n in module.nodes() if n.op_type in ("Expand", "Range") and n.domain == ""]:
            yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        node = site.anchor
        if site.module.opset() < 15:
            return "Shape has no start and end before opset 15"
        controls = node.inputs[1:2]
        if all(v is None or v.producer() is None for v in controls):
            return "the size is not computed"
        if all(v is not None and _is_shape_alone(v) for v in controls):
            return "the size comes from Shape alone"
        found = _range_size(node) if node.op_type == "Range" else _expanded(node)
        if found is None:
            return "more than one size is computed, or none"
        size = found if not isinstance(found, tuple) else found[1]
        known = _read_from(site.module, node, size) is not None
        return None if known else "the size is no dimension of a tensor at hand"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        node = site.anchor
        chain = _ancestors(node)
        if node.op_type == "Range":
            size = _range_size(node)
            assert size is not None
            kind = node.outputs[0].dtype or ir.DataType.INT64
            result = rw.op("CumSum", _filled(site, rw, size, 1, kind), np.asarray(0, np.int64), exclusive=1)
        else:
            found = _expanded(node)
            assert found is not None
            axis, size = found
            zeros = _filled(site, rw, size, 0, ir.DataType.INT64)
            result = rw.op("Gather", node.inputs[0], zeros, axis=axis)
        rw.replace(node.outputs[0], result)
        rw.erase(node, *chain)


def _filled(site: Site, rw: Rewriter, size: ir.Dim, number: int, kind: ir.DataType) -> ir.Value:
    """Return a vector [n] filled with a number."""
    place = _read_from(site.module, site.anchor, size)
    assert place is not None
    source, axis = place
    shape = rw.op("Shape", source, start=axis, end=axis + 1)
    made: ir.Value = rw.op("ConstantOfShape", shape, value=np.asarray([number], kind.numpy()))
    return made


def _read_from(module: ir.Module, node: ir.Node, size: ir.Dim) -> tuple[ir.Value, int] | None:
    """Return (tensor, axis) with that size: one whose shape the chain reads, else a model input."""
    read = [n.inputs[0] for n in _ancestors(node) if n.op_type == "Shape" and n.domain == ""]
    for value in (*read, *module.graph.inputs):
        for axis, dim in enumerate(ir.known_dims(value)):
            if value is not None and dim == size:
                return value, axis
    return None


def _is_shape_alone(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Shape" and producer.domain == ""


def _range_size(node: ir.Node) -> ir.Dim | None:
    start, limit, delta = (elements(v) for v in node.inputs[:3])
    if start is None or limit is None or delta is None or limit.size != 1:
        return None
    if node.outputs[0].dtype not in (ir.DataType.INT64, ir.DataType.INT32):
        return None
    size = limit.flat[0]
    plain = start.flat[0] == 0 and delta.flat[0] == 1
    return size if plain and isinstance(size, ir.Dim) else None


def _expanded(node: ir.Node) -> tuple[int, ir.Dim] | None:
    """Return (axis, size) when Expand changes exactly one axis, to a size only known at run time."""
    before, after = ir.dims_of(node.inputs[0]), ir.dims_of(node.outputs[0])
    if before is None or after is None or len(before) != len(after):
        return None
    changed = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if len(changed) != 1 or before[changed[0]] != 1:
        return None
    size = after[changed[0]]
    return (changed[0], size) if isinstance(size, ir.Dim) else None


def _ancestors(node: ir.Node) -> list[ir.Node]:
    """Return the nodes that compute the control inputs of a node, users first."""
    found: dict[ir.Node, None] = {}
    stack = list(node.inputs)
    while stack:
        value = stack.pop(0)
        producer = None if value is None else value.producer()
        if producer is None or not all(v.dtype in _CONTROL_TYPES for v in producer.outputs):
            continue
        found.pop(producer, None)
        found[producer] = None
        if len(found) > 200:
            break
        stack.extend(producer.inputs)
    return list(found)


_CONTROL_TYPES = (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL)
