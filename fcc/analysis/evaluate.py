"""Evaluate one node on arrays: a numpy table for the operators of shape arithmetic, onnx.reference for the rest.

The table also works on object arrays that hold symbolic dimensions (ir.Dim), so that the same rules give constants
and known integers. Semantics follow the ONNX operator of the same name at opset >= 13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ir
from .symbol_rules import Array, Rule, compare, divide, extreme, is_at_least, is_zero, modulo, need, negated


def evaluate(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> list[Array] | None:
    """Return the outputs of a node, or None when no evaluator knows it.

    Arrays are numeric; results have the dtype the operator specifies.

    Raises:
        Exception: the operator does not accept the inputs, or leaves the result to the implementation.
    """
    rule = RULES.get(node.op_type) if node.domain == "" and len(node.outputs) == 1 else None
    with np.errstate(all="ignore"):
        try:
            if rule is not None:
                return [np.asarray(rule(node, inputs), dtype=_dtype(node))]
        except NotImplementedError:
            pass
        return _reference(node, inputs, opset)


def symbolic(node: ir.Node, inputs: Sequence[Array | None]) -> Array | None:
    """Return the single output of a node on integer arrays that may hold symbols, or None when it is not known."""
    rule = RULES.get(node.op_type) if node.domain == "" else None
    if rule is None or len(node.outputs) != 1 or node.op_type not in SYMBOLIC:
        return None
    try:
        with np.errstate(all="ignore"):
            return np.asarray(rule(node, inputs))
    except (NotImplementedError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError, OverflowError):
        return None


def _dtype(node: ir.Node) -> Any:
    dtype = node.outputs[0].dtype
    return dtype.numpy() if dtype is not None else None


def _reference(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> list[Array] | None:
    from ..ir.reference import run_node

    return run_node(node, inputs, opset)


def _ints(a: Array | None) -> list[int]:
    if a is None:
        return []
    flat = [x for x in np.asarray(a).reshape(-1).tolist()]
    if any(isinstance(x, ir.Dim) for x in flat):
        raise NotImplementedError("symbolic axes")
    return [int(x) for x in flat]


def _binary(f: Callable[[Array, Array], Array]) -> Rule:
    return lambda node, x: f(need(x[0]), need(x[1]))


def _unary(f: Callable[[Array], Array]) -> Rule:
    return lambda node, x: f(need(x[0]))


def _axes(node: ir.Node, x: Sequence[Array | None]) -> tuple[int, ...] | None:
    """Return the axes operand, which was an attribute before opset 13."""
    if len(x) > 1 and x[1] is not None:
        return tuple(_ints(x[1]))
    found = node.attributes.get_ints("axes", None)
    return None if found is None else tuple(found)


def _unsqueeze(node: ir.Node, x: Sequence[Array | None]) -> Array:
    axes = _axes(node, x)
    if axes is None:
        raise NotImplementedError("axes")
    return np.expand_dims(need(x[0]), axes)


def _squeeze(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return np.squeeze(need(x[0]), _axes(node, x))


def _gather(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, axis = need(x[0]), node.attributes.get_int("axis", 0)
    index = np.asarray(need(x[1]))
    if index.dtype == object:
        index = np.asarray(_ints(index)).reshape(index.shape)
    size = data.shape[axis]
    if ((index < -size) | (index >= size)).any():
        raise ValueError("index out of range")
    return np.take(data, np.where(index < 0, index + size, index).astype(np.int64), axis=axis)


def _gather_elements(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, axis = need(x[0]), node.attributes.get_int("axis", 0)
    index = np.asarray(_ints(x[1]), dtype=np.int64).reshape(need(x[1]).shape)
    axis = axis + data.ndim if axis < 0 else axis
    if ((index < -data.shape[axis]) | (index >= data.shape[axis])).any():
        raise ValueError("index out of range")
    window = tuple(slice(None) if i == axis else slice(0, n) for i, n in enumerate(index.shape))
    return np.take_along_axis(data[window], np.where(index < 0, index + data.shape[axis], index), axis)


def _gather_nd(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, index = need(x[0]), need(x[1])
    if node.attributes.get_int("batch_dims", 0) or index.dtype == object or index.ndim == 0:
        raise NotImplementedError("batch dimensions")
    sizes = np.asarray(data.shape[: index.shape[-1]])
    if ((index < -sizes) | (index >= sizes)).any():
        raise ValueError("index out of range")
    return np.asarray(data[tuple(np.moveaxis(index, -1, 0))])


def _cumsum(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, (axis,) = need(x[0]), _ints(need(x[1]))
    if data.dtype.kind == "f" or node.attributes.get_int("exclusive", 0):
        raise NotImplementedError("exclusive sums, and sums of floats that round by implementation")
    reverse: int = node.attributes.get_int("reverse", 0)
    turned = np.flip(data, axis) if reverse != 0 else data
    total = np.cumsum(turned, axis=axis)
    return np.flip(total, axis) if reverse != 0 else total


def _floats(f: Callable[[Array], Array]) -> Rule:
    def rule(node: ir.Node, x: Sequence[Array | None]) -> Array:
        data = need(x[0])
        if data.dtype.kind != "f":
            raise NotImplementedError("integers")
        return f(data)

    return rule


def _slice(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data = need(x[0])
    if len(x) < 3:
        raise NotImplementedError("Slice-1")
    starts, ends = _ints(need(x[1])), _ints(need(x[2]))
    axes = _ints(x[3]) if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = _ints(x[4]) if len(x) > 4 and x[4] is not None else [1] * len(starts)
    index: list[Any] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = _bounds(start, end, step, data.shape[axis])
    return np.asarray(data[tuple(index)])


def _bounds(start: int, end: int, step: int, size: int) -> slice:
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    if end >= np.iinfo(np.int32).max:
        raise ValueError("backwards to the largest integer: onnxruntime reads it as all, the specification as nothing")
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, None if end < 0 else end, step)


def _reshape(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, shape = need(x[0]), _ints(need(x[1]))
    if not node.attributes.get_int("allowzero", 0):
        shape = [data.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return data.reshape(shape)


def _cast(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, to = need(x[0]), _cast_type(node)
    if data.dtype == object:
        if to in (ir.DataType.INT64, ir.DataType.INT32):
            return data
        if to == ir.DataType.BOOL:
            return np.asarray([_truth(v) for v in data.reshape(-1)], dtype=bool).reshape(data.shape)
        raise NotImplementedError("symbolic cast")
    if to == ir.DataType.STRING or data.dtype.kind not in "iufb" or str(to).startswith(("FLOAT8", "FLOAT4", "FLOAT6")):
        raise NotImplementedError("cast")
    target = to.numpy()
    if data.dtype.kind == "f" and target.kind in "iu" and not _fits(data, target):
        raise ValueError("out of range: the result is implementation-defined")
    return data.astype(target)


def _cast_type(node: ir.Node) -> ir.DataType:
    if node.op_type == "Cast":
        return ir.DataType(node.attributes.get_int("to", 0))
    dtype = node.inputs[1].dtype if len(node.inputs) > 1 and node.inputs[1] is not None else node.outputs[0].dtype
    if dtype is None:
        raise NotImplementedError("unknown type")
    return dtype


def _truth(v: Any) -> bool:
    if isinstance(v, ir.Dim) and not ir.at_least(v, 1):
        raise NotImplementedError("a symbol may be zero")
    return isinstance(v, ir.Dim) or bool(v)


def _fits(data: Array, target: Any) -> bool:
    info = np.iinfo(target)
    return bool(np.isfinite(data).all() and (data >= info.min).all() and (data <= info.max).all())


def _concat(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return np.concatenate([need(a) for a in x], axis=node.attributes.get_int("axis", 0))


def _constant_of_shape(node: ir.Node, x: Sequence[Array | None]) -> Array:
    shape = _ints(need(x[0]))
    fill = node.attributes.get_tensor("value", None)
    value = np.zeros(1, np.float32) if fill is None else fill.numpy()
    return np.full(shape, value.reshape(-1)[0], dtype=value.dtype)


def _range(node: ir.Node, x: Sequence[Array | None]) -> Array:
    start, limit, delta = (need(a).reshape(-1)[0] for a in x)
    if any(isinstance(v, ir.Dim) for v in (start, limit, delta)):
        raise NotImplementedError("symbolic range")
    if np.asarray(start).dtype.kind == "f":
        raise NotImplementedError("float range rounds by implementation")
    return np.arange(start, limit, delta, dtype=need(x[0]).dtype)


def _transpose(node: ir.Node, x: Sequence[Array | None]) -> Array:
    perm = node.attributes.get_ints("perm", None)
    return np.transpose(need(x[0]), perm)


def _expand(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, shape = need(x[0]), _ints(need(x[1]))
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape)))


def _tile(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return np.tile(need(x[0]), _ints(need(x[1])))


def _where(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return np.where(need(x[0]), need(x[1]), need(x[2]))


def _shape(node: ir.Node, x: Sequence[Array | None]) -> Array:
    dims = need(x[0]).shape
    return np.asarray(dims[node.attributes.get_int("start", 0) : node.attributes.get_int("end", len(dims))], np.int64)


def _reduce(f: Callable[..., Array]) -> Rule:
    def rule(node: ir.Node, x: Sequence[Array | None]) -> Array:
        data = need(x[0])
        if data.dtype.kind == "f":
            raise NotImplementedError("float reductions round by implementation")
        axes = _ints(x[1]) if len(x) > 1 and x[1] is not None else list(node.attributes.get_ints("axes", ()))
        if not axes and node.attributes.get_int("noop_with_empty_axes", 0) != 0:
            return data
        keepdims: int = node.attributes.get_int("keepdims", 1)
        return f(data, axis=tuple(axes) if axes else None, keepdims=keepdims != 0)

    return rule


RULES: dict[str, Rule] = {
    "Identity": _unary(lambda a: a),
    "Ceil": _floats(np.ceil),
    "CumSum": _cumsum,
    "Floor": _floats(np.floor),
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "Reciprocal": _floats(np.reciprocal),
    "Sqrt": _floats(np.sqrt),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(divide),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Xor": _binary(np.logical_xor),
    "Mod": modulo,
    "Equal": compare(np.equal, is_zero),
    "Greater": compare(np.greater, is_at_least(1)),
    "GreaterOrEqual": compare(np.greater_equal, is_at_least(0)),
    "Less": compare(np.less, negated(is_at_least(0))),
    "LessOrEqual": compare(np.less_equal, negated(is_at_least(1))),
    "Max": extreme(np.maximum, 1),
    "Min": extreme(np.minimum, -1),
    "Cast": _cast,
    "CastLike": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Gather": _gather,
    "Range": _range,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Reshape": _reshape,
    "Shape": _shape,
    "Size": _unary(lambda a: np.asarray(a.size, np.int64)),
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Tile": _tile,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
SYMBOLIC = frozenset(RULES) - {"Shape", "Size"}
