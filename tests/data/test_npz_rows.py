"""Members of .npz files are read row by row, whatever their layout."""

from __future__ import annotations

import zipfile
from pathlib import Path

import hypothesis.extra.numpy as hnp
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fcc.data.rows import NpzRows, open_npz
from fcc.errors import DataError


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    array=hnp.arrays(st.sampled_from([np.float32, np.int64, np.uint8, np.bool_]), hnp.array_shapes(max_dims=3)),
    size=st.integers(1, 4),
    packed=st.booleans(),
    fortran=st.booleans(),
)
def test_blocks_join_to_the_array(tmp_path: Path, array: np.ndarray, size: int, packed: bool, fortran: bool) -> None:
    path = tmp_path / "d.npz"
    (np.savez_compressed if packed else np.savez)(path, x=np.asfortranarray(array) if fortran else array)
    rows = open_npz(path)["x"]
    assert (rows.shape, rows.dtype) == (array.shape, array.dtype)
    for _ in range(2):
        blocks = list(rows.blocks(size))
        assert all(b.shape[0] == size for b in blocks[:-1])
        assert np.array_equal(np.concatenate(blocks), array, equal_nan=array.dtype.kind == "f")


def test_rows_are_not_loaded_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "d.npz", x=np.zeros((1000, 100), np.float32))
    rows = open_npz(tmp_path / "d.npz")["x"]
    largest = 0
    read = NpzRows._read

    def watched(self: NpzRows, stream: object, count: int) -> bytes:
        nonlocal largest
        largest = max(largest, count)
        return read(self, stream, count)  # type: ignore[arg-type]

    monkeypatch.setattr(NpzRows, "_read", watched)
    assert sum(len(b) for b in rows.blocks(2)) == 1000
    assert largest == 2 * 100 * 4


def test_strings_survive(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", s=np.array(["a", "bcd"]))
    assert [b.tolist() for b in open_npz(tmp_path / "d.npz")["s"].blocks(1)] == [["a"], ["bcd"]]


def test_python_objects_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", s=np.array([{}, None], dtype=object))
    with pytest.raises(DataError, match="Python objects"):
        open_npz(tmp_path / "d.npz")


def test_missing_and_foreign_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        open_npz(tmp_path / "no.npz")
    (tmp_path / "text.npz").write_text("hello")
    with pytest.raises(DataError, match=r"not an \.npz"):
        open_npz(tmp_path / "text.npz")
    with zipfile.ZipFile(tmp_path / "zip.npz", "w") as archive:
        archive.writestr("x.npy", b"not an array")
    with pytest.raises(DataError, match=r"not a plain \.npy"):
        open_npz(tmp_path / "zip.npz")


def test_short_member_is_named(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros((4, 8), np.float32))
    with zipfile.ZipFile(tmp_path / "d.npz", "w") as archive:
        archive.writestr("x.npy", (tmp_path / "x.npy").read_bytes()[:-8])
    with pytest.raises(DataError, match="ends 8 bytes early"):
        list(open_npz(tmp_path / "d.npz")["x"].blocks(1))
