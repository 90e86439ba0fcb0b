"""Sizes of --opt-shape by input, and what the first sample adds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

import fcc
from fcc.data.spec import TensorSpec
from fcc.data.usual import by_input, filled, first_shapes
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
