"""The certificate of an int8 model: what the kernels add in 16 bits, from the weights alone."""

from __future__ import annotations

import numpy as np

from fcc import ir

from .quantize import MAX_PAIR, largest_pair

# Integer weight -> (input, axis of the output channels) by the op that multiplies it.
_DIRECT = {"MatMulIntegerToFloat": ((1, -1),), "MatMulInteger": ((1, -1),), "DynamicQuantizeMatMul": ((1, -1),)}
_RECURRENT = {"DynamicQuantizeLSTM": (1, 2)}
_FLOAT = frozenset({"Conv", "Gemm", "MatMul"})
KEY = "fcc.int8"


def certificate(module: ir.Module) -> dict[str, str]:
    """Return the metadata row that says how large sums of two neighbouring weights become; none without int8.

    A kernel that adds two products u8 x s8 in int16 is exact where no sum of two weights is above 128:
    255 * 128 < 2^15.
    """
    largest = [float(largest_pair(array, axis).max(initial=0.0)) for array, axis in _weights(module)]
    if not largest:
        return {}
    held = max(largest) <= MAX_PAIR
    says = f"exact in 16-bit pair sums: at most {MAX_PAIR}" if held else "needs VNNI or ARM: beyond 16-bit pair sums"
    return {KEY: f"{len(largest)} weights, largest sum of two {max(largest):.0f}, {says}"}


def _weights(module: ir.Module) -> list[tuple[np.ndarray[tuple[int, ...], np.dtype[np.int8]], int]]:
    """Return the int8 weights that integer kernels multiply, with the axis of their output channels."""
    found = []
    for node in module.nodes():
        for index, axis in operands(node):
            value = node.inputs[index]
            array = ir.Module.constant(value) if value is not None else None
            if array is not None and array.dtype == np.int8 and array.ndim > 1:
                found += [(matrix, axis) for matrix in (array if node.op_type in _RECURRENT else [array])]
    return found


def operands(node: ir.Node) -> tuple[tuple[int, int], ...]:
    """Return the inputs of a node that integer kernels take as int8 weights, with the axis of their output channels."""
    if node.op_type in _RECURRENT:
        return tuple((i, -1) for i in _RECURRENT[node.op_type])
    if node.op_type != "DequantizeLinear" or node.domain != "":
        return _DIRECT.get(node.op_type, ())
    users = [u.node for u in node.outputs[0].uses() if u.node.op_type in _FLOAT and u.idx == 1]
    if not users or bool(node.attributes.get_int("block_size", 0)) or not ir.Module.is_constant(node.inputs[0]):
        return ()
    rank = len(ir.dims_of(node.inputs[0]) or ()) if node.inputs[0] is not None else 0
    user = users[0]
    axis = 0 if user.op_type == "Conv" or bool(user.attributes.get_int("transB", 0)) else rank - 1
    return ((0, axis),)
