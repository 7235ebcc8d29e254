"""Which values are zero everywhere, whatever is fed, because of how the last few operators make them."""

from __future__ import annotations

import onnx_ir as ir

from fuseonnx.core.constants import constant_tensor, data_of, is_const

_DEPTH = 8
_MAX_ELEMENTS = 1 << 16
"""Larger constants are weights, and not read from disk."""
_OF_FIRST = frozenset(
    {
        *("Abs", "Cast", "Expand", "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Neg"),
        *("Relu", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"),
    }
)
"""Operators whose results are zero where their first input is."""
_OF_ALL = frozenset({"Add", "Concat", "Max", "Min", "Mul", "Sub", "Sum"})
"""Operators whose result is zero where all of their inputs are."""


def is_zero(value: ir.Value | None, depth: int = _DEPTH) -> bool:
    """Whether all elements of `value` are 0 (or -0.0), of whatever type, as `depth` operators tell."""
    if value is None or depth == 0:
        return False
    if is_const(value):
        return value.dtype is not ir.DataType.STRING and _holds_zeros(constant_tensor(value))
    node = value.producer()
    if node is None or node.domain:
        return False
    if node.op_type == "ConstantOfShape":
        filler = node.attributes.get("value")
        return filler is None or (not filler.is_ref() and _holds_zeros(filler.as_tensor()))
    if node.op_type in _OF_FIRST:
        return is_zero(node.inputs[0], depth - 1)
    return node.op_type in _OF_ALL and all(is_zero(each, depth - 1) for each in node.inputs)


def _holds_zeros(tensor: ir.TensorProtocol) -> bool:
    return tensor.size <= _MAX_ELEMENTS and not data_of(tensor).any()
