"""fold-shapes: shape arithmetic whose result is known -> constants."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from fcc import ir
from fcc.analysis import shapes
from fcc.rewrite import PassContext, Rewriter, Site, SitePass

from ._cone import cone, dying, freed_bytes, has_elements, nbytes
from ._targets import expand_entries, reshape_entries, slice_ends


@dataclass(frozen=True)
class FoldShapes(SitePass):
    """Replace integers computed from shapes by constants.

    f(Shape(x), ...) -> constant,                      where every element is a known number
    Reshape(x, [N, 4 * M]) -> Reshape(x, [0, -1]),     where N is the size of x at the same place
    Expand(x, [N, 3]) -> Expand(x, [1, 3]),            where x has the size N there already
    Slice(x, starts, [N]) -> Slice(x, starts, [max]),  where N is the size of the axis

    Shapes: any; symbols may be 0 at run time. At most one entry becomes -1, and only beside entries that cannot be 0.
    ``growth``: bytes by which a constant may exceed what dies with the nodes it replaces.
    Source: ONNX Shape-15, Reshape-14, Expand-13, Slice-13.
    """

    name: ClassVar[str] = "fold-shapes"
    growth: int = 1024

    def sites(self, module: ir.Module, ctx: PassContext) -> Iterator[Site]:
        version = -1
        while version != module.version:
            version = module.version
            for graph in module.graphs():
                for node in reversed(list(graph)):
                    if node.graph is not None and _is_candidate(node):
                        yield Site(node, module, ctx)

    def check(self, site: Site) -> str | None:
        node = site.anchor
        if node.op_type in _OPERANDS and not _is_known(node):
            found = _entries(node)
            return found if isinstance(found, str) else None
        room = freed_bytes(dying(_feeding(node), node)) + self.growth
        size = sum(nbytes(v) or 0 for v in node.outputs)
        return None if size <= room else f"the result has {size} bytes, {room} would be freed"

    def rewrite(self, site: Site, rw: Rewriter) -> None:
        node = site.anchor
        if _is_known(node):
            out = node.outputs[0]
            assert out.dtype is not None
            rw.replace(out, rw.const(np.asarray(shapes.elements(out)).astype(out.dtype.numpy())))
            rw.erase(node, *reversed(_feeding(node)))
            return
        index, _ = _OPERANDS[node.op_type]
        operand = node.inputs[index]
        entries = _entries(node)
        assert operand is not None
        assert not isinstance(entries, str)
        dtype = ir.DataType.INT64 if operand.dtype is None else operand.dtype
        values = np.minimum(np.asarray(entries, dtype=np.int64), np.iinfo(dtype.numpy()).max).astype(dtype.numpy())
        rw.set_input(node, index, values)
        if node.attributes.get_int("allowzero", 0):
            rw.set_attributes(node, allowzero=None)
        rw.erase(*reversed(cone([operand], rw.graph, has_elements)))


def _is_candidate(node: ir.Node) -> bool:
    if not any(ir.is_used(v) for v in node.outputs):
        return False
    if _is_known(node):
        return not (node.op_type == "Identity" and ir.Module.is_constant(node.inputs[0]))
    if node.domain or node.op_type not in _OPERANDS:
        return False
    index, _ = _OPERANDS[node.op_type]
    operand = node.inputs[index] if index < len(node.inputs) else None
    return operand is not None and operand.producer() is not None and shapes.elements(operand) is not None


def _is_known(node: ir.Node) -> bool:
    """Return whether the single output of a node consists of known numbers."""
    found = shapes.elements(node.outputs[0]) if len(node.outputs) == 1 and not node.domain else None
    return found is not None and not any(isinstance(x, ir.Dim) for x in found.reshape(-1).tolist())


def _feeding(node: ir.Node) -> list[ir.Node]:
    assert node.graph is not None
    return cone(node.inputs, node.graph, has_elements)


def _list(value: ir.Value | None) -> list[Any] | None:
    found = shapes.elements(value)
    return None if found is None else [x if isinstance(x, ir.Dim) else int(x) for x in found.reshape(-1).tolist()]


def _entries(node: ir.Node) -> list[int] | str:
    index, rule = _OPERANDS[node.op_type]
    operand = _list(node.inputs[index])
    return "the operand is not known" if operand is None else rule(node, operand)


def _reshape(node: ir.Node, target: list[Any]) -> list[int] | str:
    return reshape_entries(ir.dims_of(node.inputs[0]), target, node.attributes.get_int("allowzero", 0) != 0)


def _expand(node: ir.Node, target: list[Any]) -> list[int] | str:
    return expand_entries(ir.dims_of(node.inputs[0]), target)


def _slice(node: ir.Node, ends: list[Any]) -> list[int] | str:
    operands = (*node.inputs, None, None)
    axes = list(range(len(ends))) if operands[3] is None else _list(operands[3])
    steps = [1] * len(ends) if operands[4] is None else _list(operands[4])
    if axes is None or steps is None or any(isinstance(x, ir.Dim) for x in (*axes, *steps)):
        return "the axes or steps are not known"
    starts = ir.dims_of(operands[1])
    if not len(ends) == len(axes) == len(steps) or starts != (len(ends),):
        return "there are not as many bounds as axes"
    return slice_ends(ir.dims_of(node.inputs[0]), ends, axes, steps)


_OPERANDS: dict[str, tuple[int, Callable[[ir.Node, list[Any]], list[int] | str]]] = {
    "Expand": (1, _expand),
    "Reshape": (1, _reshape),
    "Slice": (2, _slice),
}
