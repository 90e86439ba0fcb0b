"""Moments of rows and patches, by fold, against a convolution written as a product."""

from __future__ import annotations

import numpy as np
import pytest

from fcc.compress.channels import Channels
from fcc.compress.patches import ROWS_PER_SAMPLE, Moments, Window


def test_rows_go_to_folds_in_turn() -> None:
    rng = np.random.default_rng(0)
    a, b, c = (rng.standard_normal((n, 2, 3)) for n in (1, 2, 3))
    moments = Moments()
    for array in (a, b, c):
        moments.update(array)
    first, second = moments.folds()
    even = np.concatenate([a.reshape(-1, 3), c.reshape(-1, 3)])
    odd = b.reshape(-1, 3)
    assert np.allclose(first, (even.T @ even / len(even))[None])
    assert np.allclose(second, (odd.T @ odd / len(odd))[None])


def test_merged_and_thinned_and_finite() -> None:
    rng = np.random.default_rng(1)
    parts = [Moments() for _ in range(2)]
    arrays = [rng.standard_normal((4, 3)) for _ in range(4)]
    arrays[0][1, 2] = np.nan
    for i, array in enumerate(arrays):
        parts[i // 2].update(array)
    both = parts[0].merged(parts[1])
    whole = Moments()
    for array in arrays:
        whole.update(array)
    assert [f.tolist() for f in both.folds()] == [f.tolist() for f in whole.folds()]
    assert both.rows == (7, 8)
    long = Moments()
    long.update(np.ones((3 * ROWS_PER_SAMPLE, 2)))
    assert long.rows == (ROWS_PER_SAMPLE, 0)
    assert len(long.folds()) == 1


@pytest.mark.parametrize(
    ("shape", "window"),
    [
        ((2, 4, 7), Window((3,), (1,), (1,), ((0, 0),))),
        ((2, 4, 7), Window((3,), (2,), (2,), ((2, 1),), group=2)),
        ((1, 3, 6, 5), Window((3, 2), (2, 1), (1, 2), ((1, 0), (0, 2)))),
        ((1, 3, 6, 5), Window((2, 2), (1, 1), (1, 1), ((0, 0), (0, 0)), group=3)),
    ],
)
def test_patches_times_weights_are_the_convolution(shape: tuple[int, ...], window: Window) -> None:
    """sum over patches of (w . patch)^2 = w' (X'X) w, with the convolution computed by onnx's reference."""
    import onnx
    from onnx.reference import ReferenceEvaluator

    rng = np.random.default_rng(2)
    x = rng.standard_normal(shape)
    weight = rng.standard_normal((2 * window.group, shape[1] // window.group, *window.kernel))
    text = "g (double[{}] x, double[{}] w) => (double[{}] y) {{ y = Conv<{}>(x, w) }}"
    pads = [p[0] for p in window.pads] + [p[1] for p in window.pads]
    attributes = (
        f"group={window.group}, strides={list(window.strides)}, dilations={list(window.dilations)}, pads={pads}"
    )
    dims = [",".join(map(str, s)) for s in (x.shape, weight.shape)]
    out = ",".join("abcd"[: x.ndim])
    body = f'<ir_version: 8, opset_import: ["" : 17]> {text.format(*dims, out, attributes)}'
    (y,) = ReferenceEvaluator(onnx.parser.parse_model(body)).run(None, {"x": x, "w": weight})
    moments = Moments(window)
    moments.update(x)
    total = moments.totals[0]
    assert total is not None
    flat = weight.reshape(window.group, 2, -1)
    found = np.einsum("gok,gkl,gol->go", flat, total, flat).reshape(-1)
    assert np.allclose(found, np.moveaxis(y, 1, 0).reshape(2 * window.group, -1).__pow__(2).sum(axis=1))
    assert moments.rows[0] == y.size // y.shape[1]


def test_an_input_smaller_than_the_kernel_has_no_patches() -> None:
    moments = Moments(Window((3,), (1,), (1,), ((0, 0),)))
    moments.update(np.ones((1, 2, 2)))
    assert moments.rows == (0, 0)
    assert moments.folds() == []


def test_channels() -> None:
    seen = Channels(1)
    seen.update(np.array([[[1.0, -5.0], [2.0, 0.0]]]))
    seen.update(np.array([[[np.nan, 3.0], [9.0, 4.0]]]))
    seen.update(np.array(1.0))
    seen.update(np.zeros((0, 2, 3)))
    assert seen.count == 3
    assert seen.largest is not None
    assert seen.largest.tolist() == [5, 4]
    mean = seen.mean()
    assert mean is not None
    assert np.allclose(mean, [-1 / 3, 2])
    both = seen.merged(seen)
    assert both.count == 6
    assert np.allclose(np.asarray(both.mean()), mean)
    assert seen.count == 3
    assert Channels(1).mean() is None
    assert Channels(1).merged(seen).count == 3
    with pytest.raises(ValueError, match="3 channels after 2"):
        seen.update(np.zeros((1, 3, 1)))
