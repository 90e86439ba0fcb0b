"""Sizes of --opt-shape by input, and what the first sample adds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import fcc
from fcc.data.spec import TensorSpec
from fcc.data.usual import at_sizes, by_input, filled, first_shapes
from fcc.errors import DataError, OptionError

F = np.dtype("f4")
SPECS = [
    TensorSpec("x", F, ("N", 3, "T")),
    TensorSpec("y", F, (2,)),
    TensorSpec("u", F, (None, 4)),
    TensorSpec("o", F, ("N",), optional=True),
    TensorSpec("any", F, None),
]


def test_nothing_given_is_nothing() -> None:
    assert by_input(SPECS, None) is None
    assert by_input(SPECS, {}) is None


def test_symbols_leave_the_others_open() -> None:
    found = by_input(SPECS, {"N": 4})
    assert found == {"x": (4, 3, None), "u": (None, 4)}
    assert filled(found) == {"x": (4, 3, 1), "u": (1, 4)}
    assert by_input(SPECS, found) == found


def test_shapes_of_inputs() -> None:
    assert by_input(SPECS, {"x": (5, 3, 7)}) == {"x": (5, 3, 7), "u": (None, 4)}
    assert by_input([TensorSpec("v", F, ("N",))], {"v": 5}) == {"v": (5,)}
    assert (by_input(SPECS, {"any": (1, 2)}) or {})["any"] == (1, 2)
    assert (by_input(SPECS, {"y": (2,)}) or {})["y"] == (2,)


def test_the_first_sample_fills_what_is_open() -> None:
    base = {"x": (8, 3, 9), "y": (2,), "u": (6, 4)}
    assert by_input(SPECS, None, base=base) == {"x": (8, 3, 9), "u": (6, 4)}
    assert by_input(SPECS, {"N": 4}, base=base) == {"x": (4, 3, 9), "u": (6, 4)}


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"M": 4}, "no dimension or input 'M'"),
        ({"z": (4, 3)}, "no dimension or input 'z'"),
        ({"x": (5, 4, 7)}, "--opt-shape x=5x4x7 does not fit"),
        ({"x": (5, 3)}, "--opt-shape x=5x3 does not fit"),
        ({"y": 3}, "--opt-shape y=3 does not fit"),
        ({"N": (4, 4)}, "no input 'N'"),
    ],
)
def test_sizes_that_do_not_fit(sizes: dict[str, object], message: str) -> None:
    with pytest.raises(OptionError, match=message) as error:
        by_input(SPECS, sizes)
    assert error.value.hint


def test_shapes_of_the_first_sample() -> None:
    specs = [TensorSpec("x", F, ("N", 4))]
    assert first_shapes({"x": np.zeros((5, 7, 4), F)}, specs) == {"x": (7, 4)}
    assert first_shapes({"x": np.zeros((5, 4), F)}, specs, sizes={"x": (3, None)}) == {"x": (3, 4)}


NET = """<ir_version: 9, opset_import: ["" : 17]>
net (float[N, 4] x) => (float[N, 3] y) <float[4, 3] w = {1,2,3,4,5,6,7,8,9,1,2,3}> { y = MatMul(x, w) }"""


def flops(**options: object) -> int:
    report = fcc.compile(onnx.parser.parse_model(NET), **options).report  # type: ignore[arg-type]
    assert report.after is not None
    return report.after.flops


def test_cost_is_at_the_opt_shape_else_at_the_first_sample(tmp_path: Path) -> None:
    one = flops()
    rows, batches = {"x": np.ones((6, 4), F)}, {"x": np.ones((6, 5, 4), F)}
    assert flops(opt_shapes={"N": 7}) == flops(opt_shapes={"x": (7, 4)}) == 7 * one
    assert flops(data=rows) == one
    assert flops(data=batches) == flops(calibration=batches) == flops(data=batches, verify="off") == 5 * one
    assert flops(data=rows, opt_shapes={"N": 3}) == 3 * one


@pytest.mark.parametrize("option", ["opt_shapes", "min_shapes", "max_shapes"])
def test_unknown_sizes_and_bad_data_are_refused(option: str) -> None:
    with pytest.raises(OptionError, match="no dimension or input 'M'"):
        flops(**{option: {"M": 3}})
    with pytest.raises(DataError):
        flops(data="none.npz", verify="off")


def test_a_feed_is_repeated_or_cut_to_the_sizes_that_are_timed() -> None:
    x, s = np.arange(6.0).reshape(2, 3), np.ones(2)
    feeds = {"x": x, "s": s}
    ran = list[Any]()

    def ran_on(f: Any) -> Any:
        ran.append(f)
        return {}

    found = at_sizes(feeds, {"x": (5, 2), "s": (None,), "gone": (1,)}, ran_on)
    np.testing.assert_array_equal(found["x"], [[0, 1], [3, 4], [0, 1], [3, 4], [0, 1]])
    assert found["s"] is s
    assert ran == [found]
    for sizes in (None, {"x": (2, 3)}, {"x": (2, 3, 4)}):
        assert at_sizes(feeds, sizes, lambda f: {}) is feeds
    empty = {"x": x[:0]}
    assert at_sizes(empty, {"x": (2, 3)}, lambda f: {}) is empty


def test_sizes_that_do_not_run_are_not_timed() -> None:
    def fails(feeds: Any) -> Any:
        raise DataError("no")

    feeds = {"x": np.ones(2)}
    assert at_sizes(feeds, {"x": (4,)}, fails) is feeds
