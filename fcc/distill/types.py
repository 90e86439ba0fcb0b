"""Element types and constants of a graph in torch."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from fcc import ir

from .call import NoForm, Tensor

_T = ir.DataType
DTYPES: dict[ir.DataType, Any] = {
    _T.FLOAT: torch.float32,
    _T.DOUBLE: torch.float64,
    _T.FLOAT16: torch.float16,
    _T.BFLOAT16: torch.bfloat16,
    _T.INT8: torch.int8,
    _T.INT16: torch.int16,
    _T.INT32: torch.int32,
    _T.INT64: torch.int64,
    _T.UINT8: torch.uint8,
    _T.BOOL: torch.bool,
}
LIMITS: dict[ir.DataType, tuple[int, int]] = {
    _T.INT4: (-8, 7),
    _T.UINT4: (0, 15),
    _T.INT8: (-128, 127),
    _T.UINT8: (0, 255),
    _T.INT16: (-(1 << 15), (1 << 15) - 1),
    _T.UINT16: (0, (1 << 16) - 1),
    _T.INT32: (-(1 << 31), (1 << 31) - 1),
}


def dtype_of(given: int, what: str) -> Any:
    """Return the torch type of an ONNX element type.

    Raises:
        NoForm: torch has none.
    """
    found = DTYPES.get(_T(int(given)))
    if found is None:
        raise NoForm(f"{what} of {_T(int(given)).name.lower()}")
    return found


def constant(value: ir.Value) -> Tensor:
    """Return a constant as a tensor; integers that torch has no type for become int32.

    Raises:
        NoForm: its type is neither.
    """
    assert value.const_value is not None
    kind = value.const_value.dtype
    array = value.const_value.numpy()
    if kind not in DTYPES and kind in LIMITS:
        return torch.from_numpy(array.astype(np.int32))
    wanted = dtype_of(int(kind), f"constant {value.name}")
    if kind is _T.BFLOAT16:
        return torch.from_numpy(array.astype(np.float32)).to(wanted)
    return torch.from_numpy(np.array(array))  # a copy: torch may write where numpy may not
