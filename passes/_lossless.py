"""Casts that keep every value: from which element types to which."""

from __future__ import annotations

from fcc.ir import DataType

INTEGER_BITS = {
    DataType.BOOL: (1, False),
    DataType.UINT8: (8, False),
    DataType.UINT16: (16, False),
    DataType.UINT32: (32, False),
    DataType.UINT64: (64, False),
    DataType.INT8: (7, True),
    DataType.INT16: (15, True),
    DataType.INT32: (31, True),
    DataType.INT64: (63, True),
}
FLOAT_DIGITS = {  # bits of the significand, of the exponent
    DataType.FLOAT16: (11, 5),
    DataType.BFLOAT16: (8, 8),
    DataType.FLOAT: (24, 8),
    DataType.DOUBLE: (53, 11),
}


def is_lossless(source: DataType, target: DataType) -> bool:
    """Return whether casting from ``source`` to ``target`` keeps every value, infinities and -0.0 included."""
    if source == target:
        return True
    if source in INTEGER_BITS and target in INTEGER_BITS:
        (bits, signed), (room, may_sign) = INTEGER_BITS[source], INTEGER_BITS[target]
        return target != DataType.BOOL and bits <= room and (may_sign or not signed)
    if source in INTEGER_BITS and target in FLOAT_DIGITS:
        return INTEGER_BITS[source][0] <= FLOAT_DIGITS[target][0]
    if source in FLOAT_DIGITS and target in FLOAT_DIGITS:
        return all(a <= b for a, b in zip(FLOAT_DIGITS[source], FLOAT_DIGITS[target], strict=True))
    return False


def bypasses(source: DataType, middle: DataType, target: DataType) -> bool:
    """Return whether Cast(Cast(x: source -> middle) -> target) equals Cast(x: source -> target) for every value.

    Floats to integers are left alone: out of range they give whatever the implementation of that pair gives.
    """
    if not is_lossless(source, middle):
        return False
    to_known = target in FLOAT_DIGITS or target in INTEGER_BITS
    return target == source or (to_known and not (source in FLOAT_DIGITS and target in INTEGER_BITS))
