"""Shared by the operator fusions: constants that are one number, as exporters spell them."""

from __future__ import annotations

import math

import ml_dtypes
import onnx_ir as ir

from fuseonnx.core.constants import array_of, constant_tensor
from fuseonnx.core.rule import Match
from fuseonnx.passes._affine import is_float
from fuseonnx.passes._dims import keeps_shape

FLOATS = frozenset({ir.DataType.FLOAT, ir.DataType.FLOAT16})
"""What onnxruntime computes with every fused operator: float16 by way of float32 where it has no kernel."""

_ROUNDINGS = 8
"""A constant such as √2 may be off by this many units in the last place of its dtype."""


def scalar(m: Match, name: str, x: ir.Value) -> float | None:
    """Return a captured float constant of one element that leaves the shape of `x` as it is, else None."""
    value = m[name]
    dims = constant_tensor(value).shape.numpy()
    if math.prod(dims) != 1 or not keeps_shape(x, dims):
        return None
    array = array_of(value)
    return float(array.item()) if is_float(array.dtype) else None


def is_number(m: Match, name: str, number: float, x: ir.Value) -> bool:
    """Whether a captured constant is `number`, rounded as its dtype has it, and leaves the shape of `x`."""
    value = scalar(m, name, x)
    if value is None:
        return False
    eps = float(ml_dtypes.finfo(array_of(m[name]).dtype).eps)  # type: ignore[no-untyped-call]
    return abs(value - number) <= _ROUNDINGS * eps * abs(number)


def factor(m: Match, node: str, name: str, x: ir.Value) -> float | None:
    """Return what a captured Mul or Div by the constant `name` multiplies by; None if that is no number."""
    value = scalar(m, name, x)
    if m.node(node).op_type == "Mul" or not value:
        return value
    return 1.0 / value


def is_factor(m: Match, node: str, name: str, number: float, x: ir.Value) -> bool:
    """Whether a captured Mul or Div multiplies by `number`, rounded as the constant's dtype has it."""
    divides = m.node(node).op_type == "Div"
    return is_number(m, name, 1.0 / number if divides else number, x)
