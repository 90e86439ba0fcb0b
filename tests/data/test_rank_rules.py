"""How arrays become feeds: by rank, by dtype, by name."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fcc.data.cast import cast
from fcc.data.dataset import open_data
from fcc.data.spec import TensorSpec
from fcc.errors import DataError

F32, I64 = np.dtype(np.float32), np.dtype(np.int64)


def shapes(dims: Any, array: np.ndarray[Any, Any], opt: Any = None) -> list[tuple[int, ...]]:
    opt_shapes = {"x": opt} if opt else None
    return [f["x"].shape for f in open_data({"x": array}, [TensorSpec("x", F32, dims)], opt_shapes=opt_shapes)]


def test_extra_axis_gives_one_feed_per_row() -> None:
    assert shapes(("N", 3), np.zeros((4, 2, 3), np.float32)) == [(2, 3)] * 4


def test_equal_rank_with_dynamic_axis_gives_batches() -> None:
    assert shapes(("N", 3), np.zeros((5, 3), np.float32), opt=(2, 3)) == [(2, 3), (2, 3), (1, 3)]
    assert shapes((None, 3), np.zeros((2, 3), np.float32)) == [(1, 3), (1, 3)]


def test_equal_rank_with_axis_one_gives_batches_of_one() -> None:
    assert shapes((1, 3), np.zeros((4, 3), np.float32)) == [(1, 3)] * 4


def test_scalars_are_fed_from_a_vector() -> None:
    data = open_data({"k": np.array([5, 6])}, [TensorSpec("k", I64, ())])
    assert [f["k"].tolist() for f in data] == [5, 6]
    assert all(isinstance(f["k"], np.ndarray) for f in data)


@pytest.mark.parametrize(
    ("dims", "shape"),
    [((2, 3), (4, 3)), ((1, 3), (4, 4)), (("N", 3), (4, 2, 4)), (("N", 3), (3,)), (("N", 3), (2, 2, 2, 3)), ((), ())],
)
def test_other_shapes_name_expected_and_found(dims: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError) as caught:
        shapes(dims, np.zeros(shape, np.float32))
    assert "input x expects [samples" in caught.value.message
    assert (" or [samples" in caught.value.message) == (bool(dims) and dims[0] in (1, "N"))
    assert f"found [{', '.join(map(str, shape))}]" in caught.value.message


def test_names() -> None:
    specs = [TensorSpec("input", F32, ("N",)), TensorSpec("w", F32, (2,), optional=True)]
    with pytest.raises(DataError, match="did you mean 'input'"):
        open_data({"inputs": np.zeros((2, 1), np.float32)}, specs)
    with pytest.raises(DataError, match="nothing for input 'input'"):
        open_data({"w": np.zeros((2, 2), np.float32)}, specs)
    assert len(open_data({"input": np.zeros((2, 1), np.float32)}, specs)) == 2


def test_members_must_agree_in_length() -> None:
    specs = [TensorSpec("a", F32, (1,)), TensorSpec("b", F32, (1,))]
    with pytest.raises(DataError, match=r"data:a gives 2 feeds, data:b gives 3"):
        open_data({"a": np.zeros((2, 1), np.float32), "b": np.zeros((3, 1), np.float32)}, specs)


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1.1, -2.0]), np.float32),
        (np.array([1, -2]), np.int32),
        (np.array([1, 2], np.int32), np.int64),
        (np.array([0, 255]), np.uint8),
        (np.array([0, 1]), np.bool_),
        (np.array([True, False]), np.int64),
        (np.array([3, 4]), np.float32),
        (np.array([1.0, np.nan, np.inf]), np.float16),
        (np.array(["a", "b"]), object),
    ],
)
def test_safe_casts(array: np.ndarray[Any, Any], dtype: Any) -> None:
    out = cast(array, TensorSpec("x", np.dtype(dtype), ("N",)), "data")
    assert out.dtype == np.dtype(dtype)
    assert np.array_equal(out, array.astype(dtype), equal_nan=array.dtype.kind == "f")


@pytest.mark.parametrize(
    ("array", "dtype"),
    [
        (np.array([1.0]), np.int64),
        (np.array([2**40]), np.int32),
        (np.array([-1]), np.uint8),
        (np.array([-1]), np.uint64),
        (np.array([2]), np.bool_),
        (np.array([2**24 + 1]), np.float32),
        (np.array([1e300]), np.float32),
        (np.array(["1"]), np.float32),
        (np.array([1j]), np.float32),
    ],
)
def test_lossy_casts_are_refused(array: np.ndarray[Any, Any], dtype: Any) -> None:
    with pytest.raises(DataError, match=f"expects {np.dtype(dtype)}"):
        cast(array, TensorSpec("x", np.dtype(dtype), ("N",)), "data")
