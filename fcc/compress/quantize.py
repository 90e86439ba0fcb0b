"""Integer quantization: scales, zero points and rounding (real = scale * (q - zero_point))."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]
Floats = NDArray[np.float64]

# Keeps a scale, and its product with the scale of an activation, a normal float32.
MIN_SCALE = 2.0**-100
# Leaves the int32 accumulator room for 33,000 products u8 x s8 beside the bias.
MAX_BIAS = 2**30
# Two products u8 x s8 add up to 255 * 128 < 2^15 at most: the pair sum that int16 holds.
MAX_PAIR = 128


class Quantized(NamedTuple):
    """An integer tensor with its scale (float32) and zero point, both [channels] or of rank 0."""

    values: Array
    scale: NDArray[np.float32]
    zero_point: Array


class ActivationParams(NamedTuple):
    """Scale (float32) and zero point of an activation, both of rank 0."""

    scale: NDArray[np.float32]
    zero_point: Array


def k_orders(weight: Array, axis: int) -> tuple[Array, ...]:
    """Return the weight as [channels, K], once per order in which a kernel may walk K.

    [K, N] with axis 1 or [N, K] with axis 0 has its natural order; a convolution [M, C, *kernel], axis 0, is walked as
    (C, *kernel) and as (*kernel, C). Raises ValueError for any other axis: the runtime would take it silently and
    compute wrong values.
    """
    if weight.ndim == 2 and axis in (0, 1, -1, -2):
        return (np.moveaxis(weight, axis, 0),)
    if weight.ndim < 3 or axis % weight.ndim:
        raise ValueError(f"no integer kernel has channels on axis {axis} of a weight of rank {weight.ndim}")
    channels, size = weight.shape[0], int(np.prod(weight.shape[1:]))
    return weight.reshape(channels, size), np.moveaxis(weight, 1, -1).reshape(channels, size)


def largest_pair(weight: Array, axis: int) -> Floats:
    """Return max_i |w[2i] + w[2i+1]| per channel over every K order; the odd last element has no partner."""
    return np.max([_max_abs(_pair_sums(rows)) for rows in k_orders(weight, axis)], axis=0)  # type: ignore[no-any-return]


def pair_safe_scales(weight: Array, axis: int) -> Floats:
    """Return per-channel scales under which u8 x s8 kernels that add product pairs in int16 cannot saturate.

    s_j = max(max_i |w_ij|, max_i |w_2i,j + w_2i+1,j|) / 127: the rounded pair is at most 127 + 1/2 + 1/2 = 128.

    Source: MLAS AVX2 kernels (vpmaddubsw); saturation as in onnxruntime issue #6004.
    """
    return np.maximum(full_range_scales(weight, axis), largest_pair(weight, axis) / 127)


def full_range_scales(weight: Array, axis: int) -> Floats:
    """Return s_j = max_i |w_ij| / 127 per channel, for kernels that cannot saturate."""
    return _max_abs(k_orders(weight, axis)[0].astype(np.float64)) / 127


def is_pair_safe(values: Array, axis: int) -> NDArray[np.bool_]:
    """Return, per channel of an int8 weight, whether |q[2i] + q[2i+1]| <= 128 in every K order."""
    return largest_pair(values, axis) <= MAX_PAIR


def bias_floor(bias: Array, x_scale: float) -> Floats:
    """Return the least weight scale per channel at which the bias fits: |b / (x_scale * w_scale)| <= 2^30.

    Channels with small weights and a large bias need it (onnxruntime pull request #22020).
    """
    rounding = 1 + 2.0**-20  # the product of the scales is rounded to float32
    fits = np.abs(bias.astype(np.float64)) / (x_scale * MAX_BIAS) * rounding
    normal = float(np.finfo(np.float32).tiny) / x_scale
    return np.maximum(fits, normal)


def quantize_weight(
    weight: Array,
    axis: int,
    *,
    pair_safe: bool,
    per_channel: bool = True,
    floor: Array | float = 0.0,
    folds: Sequence[Floats] | None = None,
    pow2: bool = False,
    known: dict[Any, Any] | None = None,
) -> Quantized:
    """Quantize a weight per channel, or with one scale of rank 0, to symmetric int8, |q| <= 127, zero point 0.

    weight: as in ``k_orders``; floor: least scale, [channels] or a number (see ``bias_floor``). A channel of zeros gets
    that least scale, so its bias keeps its precision. Under ``pair_safe`` the integers are certified, not the formula:
    a channel that fails is scaled up until it passes. ``folds`` are X'X / N [group, K, K] of what the weight
    multiplies, K in the order of ``k_orders``: where that lowers the error of the outputs (cross-validated) the weight
    is rounded by GPTQ, at the same scale, and a channel that GPTQ leaves unsafe is rounded to the nearest. ``known``
    goes with ``folds`` and keeps what came of that. ``pow2`` rounds scales up to powers of two.
    Raises ValueError when the weight holds NaN or infinity, or its scale does not fit float32.
    """
    if not np.all(np.isfinite(weight)):
        raise ValueError("the weight holds NaN or infinity")
    scale = pair_safe_scales(weight, axis) if pair_safe else full_range_scales(weight, axis)
    scale = np.maximum(scale, np.maximum(floor, MIN_SCALE))
    scale = scale if per_channel else np.full_like(scale, scale.max(initial=MIN_SCALE))
    scale = power_of_two(scale) if pow2 else scale
    values, rounded = _round_weight(weight, scale, axis)
    while pair_safe and not is_pair_safe(values, axis).all():
        excess = largest_pair(values, axis) / (MAX_PAIR - 2)
        scale = np.where(excess > MAX_PAIR / (MAX_PAIR - 2), scale * excess, scale)
        scale = scale if per_channel else np.full_like(scale, scale.max())
        scale = power_of_two(scale) if pow2 else scale
        values, rounded = _round_weight(weight, scale, axis)
    if folds:
        kept, key = {} if known is None else known, ("rounded", axis, _digest(weight), _digest(rounded))
        if key not in kept:
            kept[key] = _compensated(weight, rounded, axis, folds)
        better = kept[key]
        safe = is_pair_safe(better, axis) if pair_safe else np.ones(len(rounded), bool)
        shape = [1] * weight.ndim
        shape[axis] = -1
        values = np.where(safe.reshape(shape), better, values)
    if not per_channel:
        return Quantized(values, np.array(rounded.max(initial=0), np.float32), np.zeros((), np.int8))
    return Quantized(values, rounded, np.zeros(len(rounded), np.int8))


def power_of_two(scale: Array | float) -> Floats:
    """Return the least powers of two that are not below positive scales."""
    fraction, exponent = np.frexp(np.asarray(scale, np.float64))
    return np.ldexp(1.0, np.where(fraction == 0.5, exponent - 1, exponent))


def quantize_symmetric(weight: Array, axis: int | None, dtype: str = "int8", *, pow2: bool = False) -> Quantized:
    """Quantize a weight of any shape, one scale per channel along any axis or one for all, to the nearest.

    Symmetric, zero point 0, |q| <= the largest number of the type (int8, int16).
    Raises ValueError when the weight holds NaN or infinity.
    """
    if not np.all(np.isfinite(weight)):
        raise ValueError("the weight holds NaN or infinity")
    rows = weight.reshape(1, -1) if axis is None else np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1)
    limit = np.iinfo(np.dtype(dtype)).max
    scale = np.maximum(_max_abs(rows.astype(np.float64)) / limit, MIN_SCALE)
    values, stored = _round_weight(rows, power_of_two(scale) if pow2 else scale, 0, dtype)
    zero = np.zeros(stored.shape, dtype)
    if axis is None:
        return Quantized(values.reshape(weight.shape), stored.reshape(()), zero.reshape(()))
    moved = np.moveaxis(weight, axis, 0).shape
    return Quantized(np.ascontiguousarray(np.moveaxis(values.reshape(moved), 0, axis)), stored, zero)


def _digest(array: Array) -> bytes:
    return sha256(array.tobytes()).digest()


def _compensated(weight: Array, scale: NDArray[np.float32], axis: int, folds: Sequence[Floats]) -> NDArray[np.int8]:
    """Return the integers of a weight rounded by GPTQ where cross-validation says so, group by group."""
    from .rounding import ChannelGrid, best

    rows = k_orders(weight, axis)[0].astype(np.float64)
    groups, inputs = folds[0].shape[:2]
    columns = rows.reshape(groups, -1, inputs).swapaxes(1, 2)
    scales = scale.astype(np.float64).reshape(groups, -1)
    rounded = best(columns, folds, partial(ChannelGrid, scales))
    found = np.rint(rounded / scales[:, None]).swapaxes(1, 2).reshape(rows.shape).astype(np.int8)
    return np.moveaxis(found, 0, axis) if weight.ndim == 2 else found.reshape(weight.shape)


def bias_shift(weight: Array, quantized: Quantized, axis: int, mean: Floats) -> Floats:
    """Return what the outputs lose on average, per channel: (W - Wq)' mu.

    mean: mu of the inputs [C]; of a convolution [C / group], of one group or of all, the same at every tap (padding is
    left out).
    """
    shape = [1] * weight.ndim
    shape[axis] = -1
    steps = quantized.scale.astype(np.float64).reshape(shape)
    lost = k_orders(weight.astype(np.float64) - quantized.values * steps, axis)[0]
    taps = lost.shape[1] // (weight.shape[1] if weight.ndim > 2 else lost.shape[1])
    sums = lost.reshape(len(lost), -1, taps).sum(axis=2)
    means = mean.reshape(-1, sums.shape[1])  # [group, C / group]
    shift: Floats = np.einsum("goc,gc->go", sums.reshape(len(means), -1, sums.shape[1]), means).reshape(-1)
    return shift


def activation_params(
    low: float, high: float, dtype: str = "uint8", *, relu: bool = False, symmetric: bool = False, pow2: bool = False
) -> ActivationParams:
    """Return the parameters that cover [low, high] and zero, zero being exact.

    scale = (high - low) / 255, zero_point = qmin - low / scale rounded. After a Relu (``relu``) the range starts at 0
    and the zero point is qmin, which lets the runtime absorb the Relu. ``symmetric``: scale = max(|low|, |high|) / qmax
    of a signed type, zero point 0. ``pow2`` rounds the scale up to a power of two. An empty range (zeros only) gets
    scale 1. Raises ValueError unless low <= high, both finite.
    """
    if not (np.isfinite(low) and np.isfinite(high) and low <= high):
        raise ValueError(f"[{low}, {high}] is no range to quantize")
    limits = np.iinfo(np.dtype(dtype))
    bottom, top = 0.0 if relu else min(float(low), 0.0), max(float(high), 0.0)
    if symmetric:
        top, bottom = max(top, -bottom), 0.0
    width = top - bottom
    if not np.isfinite(width):
        raise ValueError(f"[{low}, {high}] is too wide to quantize")
    steps = limits.max if symmetric else limits.max - limits.min
    scale = np.float32(max(width / steps, MIN_SCALE) if width else 1.0)
    scale = np.float32(power_of_two(float(scale))) if pow2 else scale
    if symmetric:
        return ActivationParams(np.array(scale, np.float32), np.zeros((), dtype))
    zero_point = np.clip(np.rint(limits.min - bottom / float(scale)), limits.min, limits.max)
    return ActivationParams(np.array(scale, np.float32), np.array(zero_point, dtype))


def quantize_bias(bias: Array, x_scale: float, w_scale: Array) -> Quantized:
    """Quantize a bias [channels] to int32 with scale x_scale * w_scale, zero point 0.

    Raises ValueError when it does not fit: quantize the weight with ``bias_floor`` first.
    """
    scale = (np.float64(x_scale) * w_scale.astype(np.float64)).astype(np.float32)
    if not (np.all(np.isfinite(bias)) and np.all(scale > 0) and np.all(np.isfinite(scale))):
        raise ValueError("the bias or its scale is not finite and positive")
    values = np.rint(bias.astype(np.float64) / scale.astype(np.float64))
    if np.any(np.abs(values) > MAX_BIAS):
        raise ValueError("the bias does not fit int32 at this scale")
    return Quantized(values.astype(np.int32), scale, np.zeros(scale.shape, np.int32))


def _round_weight(
    weight: Array, scale: Floats, axis: int, dtype: str = "int8"
) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Round with the scale as float32 will store it."""
    with np.errstate(over="ignore"):
        stored = scale.astype(np.float32)
    if not np.all(np.isfinite(stored)):
        raise ValueError("the scale of the weight does not fit float32")
    shape = [1] * weight.ndim
    shape[axis] = -1
    quotient = weight.astype(np.float64) / stored.astype(np.float64).reshape(shape)
    limit = np.iinfo(np.dtype(dtype)).max
    return np.clip(np.rint(quotient), -limit, limit).astype(dtype), stored


def _pair_sums(rows: Array) -> Floats:
    """Return w[2i] + w[2i+1] along the last axis of [channels, K]."""
    even = rows.shape[1] // 2 * 2
    return rows[:, 0:even:2].astype(np.float64) + rows[:, 1:even:2].astype(np.float64)


def _max_abs(rows: Array) -> Floats:
    return np.max(np.abs(rows), axis=1, initial=0.0)  # type: ignore[no-any-return]
