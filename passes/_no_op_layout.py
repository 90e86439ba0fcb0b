"""Operators that move data, and when they leave it alone. A rule returns the value its node equals, or why not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fcc import ir
from fcc.analysis.shape_rules import reaches_end, reshape_dims
from fcc.analysis.shapes import elements
from fcc.rewrite import Rewriter

from ._operands import integers, present, uniform

Build = Callable[[Rewriter], ir.Value]
Found = ir.Value | Build | str
UNBOUNDED = 2**31 - 1  # exporters write "from the first", going back, as the smallest int32 or int64


def first(node: ir.Node) -> ir.Value:
    """Return the first input of a node, which every operator here requires."""
    value = node.inputs[0]
    assert value is not None
    return value


def _all(number: int, index: int, attribute: str, otherwise: str) -> Callable[[ir.Node], Found]:
    """Return the rule: a no-op when every entry of an integer operand is ``number``."""

    def rule(node: ir.Node) -> Found:
        entries = integers(node, index, attribute)
        if entries is None or not present(node, index, attribute):
            return f"the {attribute} are not known"
        return first(node) if all(isinstance(e, int) and e == number for e in entries) else otherwise

    return rule


def _slice(node: ir.Node) -> Found:
    dims = ir.dims_of(first(node))
    starts, ends = integers(node, 1, "starts"), integers(node, 2, "ends")
    if dims is None or starts is None or ends is None:
        return "the bounds are not known"
    axes = integers(node, 3, "axes") if present(node, 3, "axes") else list(range(len(starts)))
    steps = integers(node, 4, "steps") if present(node, 4) else [1] * len(starts)
    if axes is None or steps is None or any(isinstance(a, ir.Dim) for a in axes):
        return "the axes or steps are not known"
    if not len(axes) == len(starts) == len(ends) == len(steps):
        return "there are not as many bounds as axes"
    whole = all(_takes_all(dims, *bounds) for bounds in zip(axes, starts, ends, steps, strict=True))
    return first(node) if whole else "it takes a part, or may"


def _takes_all(dims: Sequence[Any], axis: int, start: Any, end: Any, step: Any) -> bool:
    size = dims[axis]
    if size is None or step != 1:
        return False
    from_first = start == 0 or ir.at_least((start + size) * -1, 0) or (isinstance(start, int) and start < -UNBOUNDED)
    return from_first and reaches_end(end, tuple(dims), axis % len(dims))


def _transpose(node: ir.Node) -> Found:
    dims = ir.dims_of(first(node))
    perm = list(node.attributes.get_ints("perm", ()))
    if dims is None:
        return first(node) if perm and perm == sorted(perm) else "the rank is not known"
    perm = perm or list(range(len(dims)))[::-1]
    if perm == sorted(perm):
        return first(node)
    moved = [p for p in perm if dims[p] != 1]
    same = None not in dims and [dims[p] for p in perm] == list(dims)
    return first(node) if same and moved == sorted(moved) else "it permutes dimensions"


def _reshape(node: ir.Node) -> Found:
    source, target = ir.dims_of(first(node)), elements(node.inputs[1])
    if source is None or target is None:
        return "the shapes are not known"
    same = reshape_dims(node, [source, None], [None, target]) == source
    return first(node) if same else "it changes the shape, or may"


def _flatten(node: ir.Node) -> Found:
    dims = ir.dims_of(first(node))
    axis = node.attributes.get_int("axis", 1)
    return first(node) if dims is not None and len(dims) == 2 and axis in (1, -1) else "the rank may change"


def _squeeze(node: ir.Node) -> Found:
    dims, axes = ir.dims_of(first(node)), integers(node, 1, "axes")
    if present(node, 1, "axes"):
        return first(node) if axes == [] else "it removes dimensions, or may"
    fixed = dims is not None and all(isinstance(d, int) and d != 1 for d in dims)
    return first(node) if fixed else "a dimension is 1, or may be"


def _unsqueeze(node: ir.Node) -> Found:
    return first(node) if integers(node, 1, "axes") == [] else "it adds dimensions, or may"


def _expand(node: ir.Node) -> Found:
    dims, target = ir.dims_of(first(node)), integers(node, 1, "shape")
    if dims is None or target is None or None in dims:
        return "the shapes are not known"
    aligned = dims[len(dims) - len(target) :] if len(target) <= len(dims) else ()
    same = len(aligned) == len(target) and all(t in (1, d) for t, d in zip(target, aligned, strict=True))
    return first(node) if same else "it repeats data, or may"


def _concat(node: ir.Node) -> Found:
    operands = ir.operands(node)
    axis: int = node.attributes.get_int("axis", 0)
    kept = [v for v in operands if (ir.dims_of(v) or (None,) * (abs(axis) + 1))[axis] != 0] or operands[:1]
    if len(kept) == 1:
        return kept[0]
    return (lambda rw: rw.like(node, *kept)) if len(kept) < len(operands) else "it joins several tensors"


def _split(node: ir.Node) -> Found:
    return first(node) if len(node.outputs) == 1 else "it has several outputs"


def _blocks(node: ir.Node) -> Found:
    return first(node) if node.attributes.get_int("blocksize", 0) == 1 else "the block is larger than 1"


def _resize(node: ir.Node) -> Found:
    if node.attributes.get_string("mode", "nearest") != "nearest":
        return "interpolation"
    if node.attributes.get_string("coordinate_transformation_mode", "half_pixel") not in _INTEGER_COORDINATES:
        return "the coordinate transformation shifts"
    return first(node) if len(node.inputs) > 2 and uniform(node.inputs[2], 1.0) else "the scales are not 1"


_INTEGER_COORDINATES = ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel")

LAYOUT: dict[str, Callable[[ir.Node], Found]] = {
    "Concat": _concat,
    "DepthToSpace": _blocks,
    "Expand": _expand,
    "Flatten": _flatten,
    "Pad": _all(0, 1, "pads", "it pads"),
    "Reshape": _reshape,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _blocks,
    "Split": _split,
    "Squeeze": _squeeze,
    "Tile": _all(1, 1, "repeats", "it repeats data"),
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
}
