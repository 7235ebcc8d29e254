"""Shared by the rewrites of Cast: which type holds every value of another one."""

from __future__ import annotations

import onnx_ir as ir

_SIGNIFICANT_BITS = {
    ir.DataType.BFLOAT16: 8,
    ir.DataType.FLOAT16: 11,
    ir.DataType.FLOAT: 24,
    ir.DataType.DOUBLE: 53,
}
_EXPONENT_BITS = {
    ir.DataType.BFLOAT16: 8,
    ir.DataType.FLOAT16: 5,
    ir.DataType.FLOAT: 8,
    ir.DataType.DOUBLE: 11,
}
_INTEGER_BITS = {
    **{ir.DataType.INT8: 7, ir.DataType.INT16: 15, ir.DataType.INT32: 31, ir.DataType.INT64: 63},
    **{ir.DataType.UINT8: 8, ir.DataType.UINT16: 16, ir.DataType.UINT32: 32, ir.DataType.UINT64: 64},
}
_UNSIGNED = (ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64)


def holds(wide: ir.DataType, narrow: ir.DataType) -> bool:
    """Whether each value of `narrow` is one of `wide`, so that a Cast there and back changes nothing."""
    if narrow == ir.DataType.BOOL:
        return wide in _INTEGER_BITS or wide in _SIGNIFICANT_BITS
    if narrow in _SIGNIFICANT_BITS:
        return (
            wide in _SIGNIFICANT_BITS
            and _SIGNIFICANT_BITS[wide] >= _SIGNIFICANT_BITS[narrow]
            and _EXPONENT_BITS[wide] >= _EXPONENT_BITS[narrow]
        )
    if narrow not in _INTEGER_BITS:
        return False
    if wide in _SIGNIFICANT_BITS:
        return _SIGNIFICANT_BITS[wide] >= _INTEGER_BITS[narrow]
    signs_fit = narrow in _UNSIGNED or wide not in _UNSIGNED
    return signs_fit and _INTEGER_BITS.get(wide, 0) >= _INTEGER_BITS[narrow]
