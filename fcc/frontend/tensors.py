"""Checks of tensors on the protobuf: element type, sizes and the amount of data fit. Linear in the bytes."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import onnx
from onnx import TensorProto

from fcc import ir
from fcc.errors import LoadError

from .scopes import graphs_of

_HINT = "the file may be damaged: export or download the model again"
MAX_RANK = 64  # of numpy arrays
_NUMBER = re.compile(r"[0-9]{1,19}")
_TWO_PER_ELEMENT = (TensorProto.COMPLEX64, TensorProto.COMPLEX128)


def check_tensors(model: onnx.ModelProto) -> None:
    """Check initializers and tensor attributes of every graph and function.

    Raises:
        LoadError: unknown element type, a negative size, more than 64 axes, or data of another length than the
            shape says.
    """
    for nodes in (model.graph.node, *(f.node for f in model.functions)):
        for tensor in _attribute_tensors(nodes):
            _check(tensor)
    for tensor in model.graph.initializer:
        _check(tensor)


def _attribute_tensors(nodes: object) -> Iterator[TensorProto]:
    for node in nodes:  # type: ignore[attr-defined]
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
        for graph in graphs_of(node):
            yield from graph.initializer
            yield from _attribute_tensors(graph.node)


def _check(tensor: TensorProto) -> None:
    what = f"tensor {tensor.name!r}"
    try:
        dtype = ir.DataType(tensor.data_type)
        if dtype == ir.DataType.UNDEFINED:
            raise ValueError
    except ValueError:
        raise LoadError(f"{what} has unknown element type {tensor.data_type}", _HINT) from None
    if len(tensor.dims) > MAX_RANK:
        raise LoadError(f"{what} has {len(tensor.dims)} axes, more than {MAX_RANK}", _HINT)
    if any(d < 0 for d in tensor.dims):
        raise LoadError(f"{what} has negative size {min(tensor.dims)}", _HINT)
    if tensor.data_location == TensorProto.EXTERNAL:
        _check_place(tensor, what)
        return
    size = math.prod(tensor.dims)
    wanted, found = _amounts(tensor, dtype, size)
    if wanted != found:
        raise LoadError(f"{what} of shape {list(tensor.dims)} holds {found} values or bytes, not {wanted}", _HINT)


def _check_place(tensor: TensorProto, what: str) -> None:
    """Check that the offset and the length of external data are numbers of at most 64 bits."""
    for entry in tensor.external_data:
        if entry.key in ("offset", "length") and not _NUMBER.fullmatch(entry.value):
            raise LoadError(f"{what} has external data of {entry.key} {entry.value[:40]!r}", _HINT)
        if entry.key == "location" and "\0" in entry.value:
            raise LoadError(f"{what} has external data in a file named with a NUL", _HINT)


def _amounts(tensor: TensorProto, dtype: ir.DataType, size: int) -> tuple[int, int]:
    if dtype == ir.DataType.STRING:
        return size, len(tensor.string_data)
    if tensor.HasField("raw_data"):
        return math.ceil(size * dtype.bitwidth / 8), len(tensor.raw_data)
    field = onnx.helper.tensor_dtype_to_field(tensor.data_type)
    found = len(getattr(tensor, field))
    if tensor.data_type in _TWO_PER_ELEMENT:
        return 2 * size, found
    if dtype.bitwidth < 8:
        return math.ceil(size * dtype.bitwidth / 8), found
    return size, found
