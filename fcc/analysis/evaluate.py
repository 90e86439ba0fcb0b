"""Evaluate one node on arrays: a numpy table for the operators of shape arithmetic, onnx.reference for the rest.

The table also works on object arrays that hold symbolic dimensions (ir.Dim), so that the same rules give constants
and known integers. Semantics follow the ONNX operator of the same name at opset >= 13.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from .. import ir

Array = np.ndarray[Any, Any]
Rule = Callable[[ir.Node, Sequence[Array | None]], Array]


def evaluate(node: ir.Node, inputs: Sequence[Array | None], opset: int) -> list[Array] | None:
    """Return the outputs of a node, or None when no evaluator knows it.

    Arrays are numeric; results have the dtype the operator specifies. Raises whatever the evaluator raises on inputs
    that the operator does not accept.
    """
    rule = RULES.get(node.op_type) if node.domain == "" else None
    if rule is not None:
        try:
            result = rule(node, inputs)
        except NotImplementedError:
            result = None
        if result is not None:
            return [np.asarray(result, dtype=_dtype(node))] if node.outputs[0].dtype else [np.asarray(result)]
    return _reference(node, inputs, opset)


def symbolic(node: ir.Node, inputs: Sequence[Array | None]) -> Array | None:
    """Return the single output of a node on integer arrays that may hold symbols, or None when it is not known."""
    rule = RULES.get(node.op_type) if node.domain == "" else None
    if rule is None or len(node.outputs) != 1 or node.op_type not in SYMBOLIC:
        return None
    try:
        return np.asarray(rule(node, inputs))
    except (NotImplementedError, TypeError, ValueError, IndexError, AttributeError, ZeroDivisionError):
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


def _need(a: Array | None) -> Array:
    if a is None:
        raise NotImplementedError("absent operand")
    return a


def _binary(f: Callable[[Array, Array], Array]) -> Rule:
    return lambda node, x: f(_need(x[0]), _need(x[1]))


def _unary(f: Callable[[Array], Array]) -> Rule:
    return lambda node, x: f(_need(x[0]))


def _div(a: Array, b: Array) -> Array:
    if a.dtype == object or b.dtype == object:
        return np.floor_divide(a, b)
    if a.dtype.kind in "iu":
        if (b == 0).any():
            raise NotImplementedError("division by zero")
        quotient = np.abs(a) // np.abs(b)
        return np.where((a < 0) == (b < 0), quotient, -quotient).astype(a.dtype)
    raise NotImplementedError("float")


def _unsqueeze(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, axes = _need(x[0]), _ints(_need(x[1]))
    return np.expand_dims(data, tuple(axes))


def _squeeze(node: ir.Node, x: Sequence[Array | None]) -> Array:
    axes = _ints(x[1]) if len(x) > 1 and x[1] is not None else None
    return np.squeeze(_need(x[0]), None if axes is None else tuple(axes))


def _gather(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, axis = _need(x[0]), node.attributes.get_int("axis", 0)
    index = np.asarray(_need(x[1]))
    if index.dtype == object:
        index = np.asarray(_ints(index)).reshape(index.shape)
    size = data.shape[axis]
    if ((index < -size) | (index >= size)).any():
        raise ValueError("index out of range")
    return np.take(data, np.where(index < 0, index + size, index).astype(np.int64), axis=axis)


def _slice(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data = _need(x[0])
    starts, ends = _ints(_need(x[1])), _ints(_need(x[2]))
    axes = _ints(x[3]) if len(x) > 3 and x[3] is not None else list(range(len(starts)))
    steps = _ints(x[4]) if len(x) > 4 and x[4] is not None else [1] * len(starts)
    index: list[Any] = [slice(None)] * data.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        index[axis] = _bounds(start, end, step, data.shape[axis])
    return data[tuple(index)]


def _bounds(start: int, end: int, step: int, size: int) -> slice:
    start = start + size if start < 0 else start
    end = end + size if end < 0 else end
    if step > 0:
        return slice(min(max(start, 0), size), min(max(end, 0), size), step)
    start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
    return slice(start, None if end < 0 else end, step)


def _reshape(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, shape = _need(x[0]), _ints(_need(x[1]))
    if not node.attributes.get_int("allowzero", 0):
        shape = [data.shape[i] if d == 0 else d for i, d in enumerate(shape)]
    return data.reshape(shape)


def _cast(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, to = _need(x[0]), ir.DataType(node.attributes.get_int("to", 0))
    if data.dtype == object:
        if to in (ir.DataType.INT64, ir.DataType.INT32):
            return data
        raise NotImplementedError("symbolic cast")
    if to == ir.DataType.STRING or data.dtype.kind not in "iufb" or str(to).startswith(("FLOAT8", "FLOAT4", "FLOAT6")):
        raise NotImplementedError("cast")
    target = to.numpy()
    if data.dtype.kind == "f" and target.kind in "iu" and not _fits(data, target):
        raise NotImplementedError("out of range: implementation-defined")
    return data.astype(target)


def _fits(data: Array, target: Any) -> bool:
    info = np.iinfo(target)
    return bool(np.isfinite(data).all() and (data >= info.min).all() and (data <= info.max).all())


def _concat(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return np.concatenate([_need(a) for a in x], axis=node.attributes.get_int("axis", 0))


def _equal(a: Array, b: Array) -> Array:
    if a.dtype == object or b.dtype == object:
        return _compare_symbols(a, b)
    return np.equal(a, b)


def _compare_symbols(a: Array, b: Array) -> Array:
    left, right = np.broadcast_arrays(a, b)
    out = np.empty(left.shape, dtype=bool)
    for i in np.ndindex(left.shape):
        p, q = left[i], right[i]
        if isinstance(p, ir.Dim) != isinstance(q, ir.Dim) and (q if isinstance(p, ir.Dim) else p) < 0:
            out[i] = False
        elif isinstance(p, ir.Dim) or isinstance(q, ir.Dim):
            if p != q:
                raise NotImplementedError("symbols may be equal")
            out[i] = True
        else:
            out[i] = p == q
    return out


def _constant_of_shape(node: ir.Node, x: Sequence[Array | None]) -> Array:
    shape = _ints(_need(x[0]))
    fill = node.attributes.get_tensor("value", None)
    value = np.zeros(1, np.float32) if fill is None else fill.numpy()
    return np.full(shape, value.reshape(-1)[0], dtype=value.dtype)


def _range(node: ir.Node, x: Sequence[Array | None]) -> Array:
    start, limit, delta = (_need(a).reshape(-1)[0] for a in x)
    if any(isinstance(v, ir.Dim) for v in (start, limit, delta)):
        raise NotImplementedError("symbolic range")
    if np.asarray(start).dtype.kind == "f":
        raise NotImplementedError("float range rounds by implementation")
    return np.arange(start, limit, delta, dtype=_need(x[0]).dtype)


def _transpose(node: ir.Node, x: Sequence[Array | None]) -> Array:
    perm = node.attributes.get_ints("perm", None)
    return np.transpose(_need(x[0]), perm)


def _expand(node: ir.Node, x: Sequence[Array | None]) -> Array:
    data, shape = _need(x[0]), _ints(_need(x[1]))
    return np.broadcast_to(data, np.broadcast_shapes(data.shape, tuple(shape)))


def _where(node: ir.Node, x: Sequence[Array | None]) -> Array:
    return np.where(_need(x[0]), _need(x[1]), _need(x[2]))


def _reduce(f: Callable[..., Array]) -> Rule:
    def rule(node: ir.Node, x: Sequence[Array | None]) -> Array:
        data = _need(x[0])
        if data.dtype.kind == "f":
            raise NotImplementedError("float reductions round by implementation")
        axes = _ints(x[1]) if len(x) > 1 and x[1] is not None else list(node.attributes.get_ints("axes", []) or [])
        if not axes and node.attributes.get_int("noop_with_empty_axes", 0):
            return data
        keep = bool(node.attributes.get_int("keepdims", 1))
        return f(data, axis=tuple(axes) if axes else None, keepdims=keep)

    return rule


def _elementwise_extreme(f: Callable[[Array, Array], Array]) -> Rule:
    def rule(node: ir.Node, x: Sequence[Array | None]) -> Array:
        out = _need(x[0])
        for other in x[1:]:
            out = f(out, _need(other))
        if out.dtype == object and any(isinstance(v, ir.Dim) for v in out.reshape(-1)):
            raise NotImplementedError("order of symbols")
        return out

    return rule


RULES: dict[str, Rule] = {
    "Identity": _unary(lambda a: a),
    "Add": _binary(np.add),
    "Sub": _binary(np.subtract),
    "Mul": _binary(np.multiply),
    "Div": _binary(_div),
    "Neg": _unary(np.negative),
    "Not": _unary(np.logical_not),
    "And": _binary(np.logical_and),
    "Or": _binary(np.logical_or),
    "Equal": _binary(_equal),
    "Max": _elementwise_extreme(np.maximum),
    "Min": _elementwise_extreme(np.minimum),
    "Cast": _cast,
    "Concat": _concat,
    "ConstantOfShape": _constant_of_shape,
    "Expand": _expand,
    "Gather": _gather,
    "Range": _range,
    "ReduceProd": _reduce(np.prod),
    "ReduceSum": _reduce(np.sum),
    "Reshape": _reshape,
    "Slice": _slice,
    "Squeeze": _squeeze,
    "Transpose": _transpose,
    "Unsqueeze": _unsqueeze,
    "Where": _where,
}
SYMBOLIC = frozenset(RULES)
