"""lower-normalization: GroupNormalization and InstanceNormalization by what the target has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from fcc import ir

from .lowering import Builder, Lowering, Row

_FLOAT = ir.DataType.FLOAT


def _epsilon(b: Builder) -> float:
    return b.node.attributes.get_float("epsilon", 1e-5)


def _per_channel(b: Builder, value: ir.Value, rank: int) -> ir.Value:
    """Return a vector [C] as [C, 1, ...], to be broadcast over [N, C, *spatial]."""
    array = ir.Module.constant(value)
    if array is not None:
        return b.rw.const(array.reshape([-1] + [1] * (rank - 2)))
    return b.op("Reshape", value, b.ints([-1] + [1] * (rank - 2)))


def _standardize(b: Builder, x: ir.Value, axes: list[int]) -> ir.Value:
    """(x - mean) / sqrt(var + epsilon) over ``axes``, the variance of the centred values."""
    centred = b.op("Sub", x, b.reduce("ReduceMean", x, axes))
    variance = b.reduce("ReduceMean", b.op("Mul", centred, centred), axes)
    epsilon = b.rw.const(np.asarray(_epsilon(b), x.dtype.numpy() if x.dtype is not None else np.float32))
    return b.op("Div", centred, b.op("Sqrt", b.op("Add", variance, epsilon)))


def _affine(b: Builder, x: ir.Value, scale: ir.Value, bias: ir.Value, rank: int) -> ir.Value:
    scaled = b.op("Mul", x, _per_channel(b, scale, rank))
    return b.op("Add", scaled, _per_channel(b, bias, rank))


def _group_normalization(b: Builder) -> ir.Value:
    scale, bias = b.input(1), b.input(2)
    assert scale is not None
    assert bias is not None
    dims = ir.known_dims(b.x)
    groups = b.node.attributes.get_int("num_groups", 1)
    per_group = b.rw.module.opset() < 21
    x = b.x
    widened = x.dtype != _FLOAT and b.node.attributes.get_int("stash_type", 1) == _FLOAT.value
    if widened:
        x = b.op("Cast", x, to=_FLOAT.value)
    x = b.op("Reshape", x, b.ints(_grouped(dims, groups)))
    if per_group:
        normal = _normalize(b, x, scale, bias)
        return b.reshape_like(normal if not widened else _back(b, normal), b.x)
    normal = b.reshape_like(_normalize_plain(b, x, groups), b.x)
    return _affine(b, _back(b, normal) if widened else normal, scale, bias, len(dims))


def _back(b: Builder, x: ir.Value) -> ir.Value:
    assert b.x.dtype is not None
    return b.op("Cast", x, to=b.x.dtype.value)


def _normalize(b: Builder, x: ir.Value, scale: ir.Value, bias: ir.Value) -> ir.Value:
    """Normalize every [n, g] of x [N, G, K]; scale and bias [G]."""
    if b.has("InstanceNormalization", x, scale, bias):
        return b.op("InstanceNormalization", x, scale, bias, epsilon=_epsilon(b))
    return _affine(b, _standardize(b, x, [2]), scale, bias, 3)


def _normalize_plain(b: Builder, x: ir.Value, groups: int) -> ir.Value:
    """Normalize every [n, g] of x [N, G, K] to mean 0 and variance 1."""
    kind = x.dtype.numpy() if x.dtype is not None else np.dtype(np.float32)
    one, zero = b.rw.const(np.ones(groups, kind)), b.rw.const(np.zeros(groups, kind))
    if b.has("InstanceNormalization", x, one, zero):
        return b.op("InstanceNormalization", x, one, zero, epsilon=_epsilon(b))
    return _standardize(b, x, [2])


def _grouped(dims: tuple[ir.Dim | int | None, ...], groups: int) -> list[int]:
    """Return the target of Reshape to [N, G, K]; K is written out when it is known, so that N may be 0."""
    batch, rest = dims[0], dims[1:]
    if not all(isinstance(d, int) for d in rest):
        return [0, groups, -1]
    size = int(np.prod(ir.numbers(rest))) // groups
    return [batch if isinstance(batch, int) and batch else 0, groups, size]


def _groupable(node: ir.Node) -> str | None:
    dims = ir.dims_of(node.inputs[0])
    if dims is None or len(dims) < 3:
        return "the rank of the input is not known, or below 3"
    channels, groups = dims[1], node.attributes.get_int("num_groups", 0)
    if groups < 1 or (isinstance(channels, int) and channels % groups):
        return "the channels are no groups"
    if any(ir.dims_of(v) not in ((groups,), (channels,)) for v in node.inputs[1:3]):
        return "scale and bias are not known to be one number a group or channel"
    unknown = sum(not isinstance(d, int) for d in dims[1:])
    same = {v.dtype for v in node.inputs if v is not None}
    if len(same) != 1:
        return "scale and bias have another element type"
    return None if not unknown or dims[0] != 0 else "an empty batch with unknown spatial sizes"


def _instance_normalization(b: Builder) -> ir.Value:
    scale, bias = b.input(1), b.input(2)
    assert scale is not None
    assert bias is not None
    rank = len(ir.known_dims(b.x))
    return _affine(b, _standardize(b, b.x, list(range(2, rank))), scale, bias, rank)


class LowerNormalization(Lowering):
    """Express group and instance normalization by what the target has a kernel for.

    GroupNormalization(x, scale, bias) -> Reshape -> InstanceNormalization(., 1, 0) -> Reshape -> * scale -> + bias
    InstanceNormalization(x, scale, bias) -> (x - mean) / Sqrt(var + epsilon) * scale + bias

    Shapes: x [N, C, *spatial] with at least one spatial axis; groups are G rows of [N, G, C/G * spatial].
    scale, bias [C], below opset 21 [G]. Statistics in float32 when stash_type says so.
    Source: ONNX GroupNormalization-21, InstanceNormalization-22; Wu & He 2018.
    """

    name: ClassVar[str] = "lower-normalization"
    rows: ClassVar[Mapping[str, Row]] = {
        "GroupNormalization": Row(_group_normalization, _groupable),
        "InstanceNormalization": Row(
            _instance_normalization,
            lambda n: "the rank of the input is not known" if len(ir.known_dims(n.inputs[0])) < 3 else None,
        ),
    }
