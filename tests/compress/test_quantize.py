"""Quantization: rounding bounds, the pair certificate, scales that are never zero, ranges that hold zero."""

from __future__ import annotations

from typing import Any

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.typing import NDArray

from fcc.compress import quantize
from fcc.compress.quantize import (
    MAX_BIAS,
    activation_params,
    bias_floor,
    is_pair_safe,
    k_orders,
    pair_safe_scales,
    power_of_two,
    quantize_bias,
    quantize_symmetric,
    quantize_weight,
)

FLOATS = st.floats(-1e4, 1e4, width=32)
MATRICES = hnp.arrays(np.float32, hnp.array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9), elements=FLOATS)
FILTERS = hnp.arrays(np.float32, hnp.array_shapes(min_dims=3, max_dims=5, max_side=4), elements=FLOATS)
WEIGHTS = st.one_of(st.tuples(MATRICES, st.sampled_from([0, 1])), st.tuples(FILTERS, st.just(0)))


def per_channel(values: NDArray[Any], weight: NDArray[Any], axis: int) -> NDArray[Any]:
    shape = [1] * weight.ndim
    shape[axis] = -1
    return values.astype(np.float64).reshape(shape)


def brute_pairs_hold(q: NDArray[np.int8]) -> bool:
    """Every adjacent pair of a flattened channel, in plain integers."""
    flat = [int(v) for v in q.ravel()]
    return all(abs(a + b) <= 128 for a, b in zip(flat[0::2], flat[1::2], strict=False))


@given(WEIGHTS, st.booleans())
def test_round_trip_is_within_half_a_step(case: tuple[NDArray[np.float32], int], pair_safe: bool) -> None:
    weight, axis = case
    q, scale, zero = quantize_weight(weight, axis, pair_safe=pair_safe)
    step = per_channel(scale, weight, axis)
    assert q.dtype == zero.dtype == np.int8
    assert scale.dtype == np.float32
    assert scale.shape == zero.shape == (weight.shape[axis],)
    assert (scale > 0).all()
    assert not zero.any()
    assert (np.abs(q.astype(int)) <= 127).all()
    assert (np.abs(q * step - weight) <= step * (0.5 + 1e-4)).all()


@given(WEIGHTS)
def test_no_pair_saturates_in_any_order(case: tuple[NDArray[np.float32], int]) -> None:
    weight, axis = case
    q = quantize_weight(weight, axis, pair_safe=True).values
    assert is_pair_safe(q, axis).all()
    for channel in np.moveaxis(q, axis, 0):
        assert brute_pairs_hold(channel)
        if channel.ndim > 1:
            assert brute_pairs_hold(np.moveaxis(channel, 0, -1))


@pytest.mark.parametrize(
    ("pair", "safe"),
    [
        ((64, 64), True),
        ((127, 1), True),
        ((127, 2), False),
        ((127, 127), False),
        ((-64, -64), True),
        ((-127, -2), False),
    ],
)
def test_certificate_matches_the_probe(pair: tuple[int, int], safe: bool) -> None:
    """The kernels were probed with x = 255: (127, 2) saturates, (127, 1) does not."""
    assert bool(is_pair_safe(np.array([pair], np.int8), 0)[0]) is safe


def test_certificate_of_int8_does_not_wrap() -> None:
    assert not is_pair_safe(np.array([[-128, -128]], np.int8), 0)[0]


def test_pairs_start_at_even_positions() -> None:
    assert is_pair_safe(np.array([[0, 127, 127, 0, 127]], np.int8), 0)[0]


def test_full_range_when_nothing_saturates() -> None:
    weight = np.full((4, 2), 0.5, np.float32)
    assert (quantize_weight(weight, 1, pair_safe=False).values == 127).all()
    assert (quantize_weight(weight, 1, pair_safe=True).values == 64).all()


def test_convolution_is_safe_in_both_orders() -> None:
    weight = np.zeros((1, 2, 1, 2), np.float32)
    weight[0, :, 0, 0] = 1.0  # neighbours only when channels vary fastest
    by_kernel, by_channel = k_orders(weight, 0)
    np.testing.assert_array_equal(by_kernel, [[1, 0, 1, 0]])
    np.testing.assert_array_equal(by_channel, [[1, 1, 0, 0]])
    np.testing.assert_allclose(pair_safe_scales(weight, 0), [2 / 127])


def test_channels_do_not_mix() -> None:
    weight = np.array([[1.0, 0.1], [1.0, -0.1]], np.float32)
    np.testing.assert_allclose(pair_safe_scales(weight, 1), [2 / 127, 0.1 / 127], rtol=1e-6)
    np.testing.assert_allclose(pair_safe_scales(weight, 0), [1.1 / 127, 1 / 127], rtol=1e-6)


@pytest.mark.parametrize(("shape", "axis"), [((2, 3, 1, 1), 1), ((2, 3, 4), 2), ((4,), 0), ((2, 2), 2)])
def test_axis_without_a_kernel_is_refused(shape: tuple[int, ...], axis: int) -> None:
    with pytest.raises(ValueError, match="no integer kernel"):
        quantize_weight(np.ones(shape, np.float32), axis, pair_safe=True)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_weight_must_be_finite(bad: float) -> None:
    with pytest.raises(ValueError, match="NaN or infinity"):
        quantize_weight(np.array([[1.0, bad]], np.float32), 0, pair_safe=True)


def test_scale_must_fit_float32() -> None:
    with pytest.raises(ValueError, match="float32"):
        quantize_weight(np.array([[1e60]]), 0, pair_safe=True)


def test_zero_and_denormal_channels_have_normal_scales() -> None:
    weight = np.array([[0.0, -0.0], [1e-42, 0.0], [1.0, 0.0]], np.float32)
    q, scale, _ = quantize_weight(weight, 0, pair_safe=True)
    assert (scale >= np.finfo(np.float32).tiny).all()
    np.testing.assert_array_equal(q, [[0, 0], [0, 0], [127, 0]])


def test_failing_certificate_is_repaired(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = np.array([[1.0, 1.0], [1.0, -1.0], [1.0, 0.5]], np.float32)
    monkeypatch.setattr(quantize, "pair_safe_scales", quantize.full_range_scales)
    q, scale, _ = quantize_weight(weight, 0, pair_safe=True)
    assert is_pair_safe(q, 0).all()
    np.testing.assert_array_equal(q[1], [127, -127])
    assert scale[0] > scale[2] > scale[1]


@given(
    hnp.arrays(np.float32, (3, 4), elements=st.floats(-1, 1, width=32)),
    hnp.arrays(np.float32, 3, elements=st.floats(-1e8, 1e8, width=32)),
    st.floats(1e-8, 1e4),
)
def test_bias_fits_after_the_floor(weight: NDArray[np.float32], bias: NDArray[np.float32], x_scale: float) -> None:
    quantized = quantize_weight(weight, 0, pair_safe=True, floor=bias_floor(bias, x_scale))
    values, scale, zero = quantize_bias(bias, x_scale, quantized.scale)
    assert values.dtype == zero.dtype == np.int32
    assert (np.abs(values.astype(np.int64)) <= MAX_BIAS).all()
    assert (np.abs(values * scale.astype(np.float64) - bias) <= scale * 0.5 * (1 + 1e-6)).all()


def test_bias_of_a_zero_channel_keeps_its_precision() -> None:
    weight, bias = np.zeros((1, 4), np.float32), np.array([0.3], np.float32)
    quantized = quantize_weight(weight, 0, pair_safe=True, floor=bias_floor(bias, 0.02))
    values, scale, _ = quantize_bias(bias, 0.02, quantized.scale)
    np.testing.assert_allclose(values * scale.astype(np.float64), bias, rtol=1e-6)


def test_bias_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="int32"):
        quantize_bias(np.array([1.0]), 1e-6, np.array([1e-6], np.float32))
    with pytest.raises(ValueError, match="finite"):
        quantize_bias(np.array([np.nan]), 1.0, np.array([1.0], np.float32))


@given(
    st.floats(-1e30, 1e30), st.floats(-1e30, 1e30), st.sampled_from(["uint8", "int8"]), st.booleans(), st.floats(0, 1)
)
def test_activation_round_trip(a: float, b: float, dtype: str, relu: bool, part: float) -> None:
    low, high = min(a, b), max(a, b)
    scale, zero = activation_params(low, high, dtype, relu=relu)
    limits = np.iinfo(dtype)
    assert scale.shape == zero.shape == ()
    assert scale.dtype == np.float32
    assert zero.dtype == dtype
    assert scale > 0
    bottom, top = (0.0 if relu else min(low, 0.0)), max(high, 0.0)
    assume(top - bottom > 1e-25)
    for x in (bottom, top, 0.0, bottom + part * (top - bottom)):
        q = np.clip(np.rint(x / np.float64(scale)) + int(zero), limits.min, limits.max)
        assert abs((q - int(zero)) * np.float64(scale) - x) <= np.float64(scale) * 0.5001


def test_zero_point_after_relu_is_the_minimum() -> None:
    assert activation_params(0.0, 6.0, "uint8", relu=True).zero_point == 0
    assert activation_params(-0.5, 6.0, "uint8", relu=True).zero_point == 0
    assert activation_params(0.0, 6.0, "int8", relu=True).zero_point == -128
    assert activation_params(-1.0, 1.0, "uint8").zero_point in (127, 128)


@pytest.mark.parametrize(("low", "high"), [(2.0, 3.0), (-3.0, -2.0), (5.0, 5.0)])
def test_range_is_stretched_to_zero(low: float, high: float) -> None:
    scale, zero = activation_params(low, high)
    assert int(zero) == (0 if high > 0 else 255)
    np.testing.assert_allclose(scale, max(high, -low) / 255, rtol=1e-6)


def test_empty_range() -> None:
    scale, zero = activation_params(0.0, 0.0)
    assert (float(scale), int(zero)) == (1.0, 0)
    assert activation_params(0.0, 1e-44).scale >= np.finfo(np.float32).tiny


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 0.0), (np.nan, 1.0), (0.0, np.inf), (-np.inf, 0.0), (0.0, np.nan), (-1.7e308, 1.7e308)]
)
def test_no_range(low: float, high: float) -> None:
    with pytest.raises(ValueError, match="to quantize"):
        activation_params(low, high)


@pytest.mark.parametrize(("low", "high", "largest"), [(-3.0, 1.0, 3.0), (0.5, 2.0, 2.0), (-2.0, -1.0, 2.0)])
def test_symmetric_activations_reach_the_largest_magnitude(low: float, high: float, largest: float) -> None:
    scale, zero = activation_params(low, high, "int8", symmetric=True)
    assert zero == 0
    assert zero.dtype == np.int8
    assert scale == np.float32(largest / 127)
    assert activation_params(0.0, 1e-44, "int8", symmetric=True).zero_point == 0


@pytest.mark.parametrize(("scale", "power"), [(0.3, 0.5), (0.5, 0.5), (0.51, 1.0), (1e-3, 2.0**-9), (3.0, 4.0)])
def test_powers_of_two_are_the_next_above(scale: float, power: float) -> None:
    assert power_of_two(scale) == power


def test_scales_of_powers_of_two() -> None:
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((6, 16)).astype(np.float32)
    for found in (
        quantize_weight(weight, 0, pair_safe=True, pow2=True),
        quantize_weight(weight, 0, pair_safe=False, per_channel=False, pow2=True),
        quantize_symmetric(weight, None, pow2=True),
        quantize_symmetric(weight, 0, pow2=True),
    ):
        assert np.all(np.frexp(found.scale)[0] == 0.5)
        assert np.abs(found.values * found.scale.reshape(-1, 1) - weight).max() <= found.scale.max() / 2
    scale, zero = activation_params(-1.0, 2.0, pow2=True)
    assert scale == 2.0**-6
    assert zero == 64
    assert is_pair_safe(quantize_weight(weight, 0, pair_safe=True, pow2=True).values, 0).all()


@pytest.mark.parametrize("axis", [None, 0, 1, 3])
@pytest.mark.parametrize("dtype", ["int8", "int16"])
def test_weights_of_any_shape_along_any_axis(axis: int | None, dtype: str) -> None:
    sizes = np.logspace(-2, 1, 3).reshape(1, 3, 1, 1)
    weight = (np.random.default_rng(0).standard_normal((2, 3, 4, 5)) * sizes).astype(np.float32)
    found = quantize_symmetric(weight, axis, dtype)
    limit = np.iinfo(np.dtype(dtype)).max
    assert found.scale.shape == found.zero_point.shape == (() if axis is None else (weight.shape[axis],))
    assert found.values.dtype == found.zero_point.dtype == np.dtype(dtype)
    assert found.values.shape == weight.shape
    scale = found.scale if axis is None else found.scale.reshape([-1 if i == axis else 1 for i in range(4)])
    assert np.all(np.abs(found.values * scale.astype(np.float64) - weight) <= scale / 2 * 1.001)
    largest = np.abs(found.values.astype(np.int64)).max(axis=None if axis is None else tuple({0, 1, 2, 3} - {axis}))
    assert np.all(largest == limit)
    assert np.all(quantize_symmetric(np.zeros((2, 2), np.float32), None).scale > 0)
    with pytest.raises(ValueError, match="NaN"):
        quantize_symmetric(np.array([np.nan]), None)
